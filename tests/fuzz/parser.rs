//! Any bytes as a query: it is refused with findings that can be shown, or it is printed and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_fuzz::{Place, readings};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    readings(&text, &Place::of(*which));
});
