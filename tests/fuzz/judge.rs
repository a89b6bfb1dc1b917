//! Any query before any object: the laws of the judge.
//!
//! The first byte says what a query may name, the second how the rest is meant: as sections of text with a NUL between
//! them (the query, then the object, the trigger, the parameters, other objects and versions as JSON), or as choices
//! from which a query and an object are made that fit each other better than chance would have it.
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use muster_fuzz::{Place, Scene, answers, made};

fuzz_target!(|bytes: &[u8]| {
    let [which, how, rest @ ..] = bytes else {
        return;
    };
    let place = Place::of(*which);
    if how % 2 == 0 {
        let text = String::from_utf8_lossy(rest);
        let mut sections = text.split('\0');
        let query = sections.next().unwrap_or_default();
        answers(query, &place, &Scene::read(sections));
        return;
    }
    let mut choices = Unstructured::new(rest);
    if let Ok((query, scene)) = made(&mut choices) {
        answers(&query, &place, &scene);
    }
});
