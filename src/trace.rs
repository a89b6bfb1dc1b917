//! Trace contexts, as W3C has them: one id that follows an event to its tasks, to the workers and back.

/// A `traceparent` as it may be passed on: version, trace id, parent id and flags, in small hexadecimal digits, none of
/// the ids zero. Later versions may say more after that. What is none is dropped, and the trace begins anew.
pub fn carried(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let id = hex(parts.next()?, 32)?;
    let parent = hex(parts.next()?, 16)?;
    hex(parts.next()?, 2)?;
    let more = parts.next().is_some();
    let zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
    let fits = version != "ff" && !(version == "00" && more) && text.len() <= LONGEST;
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    (fits && printable && !zero(id) && !zero(parent)).then_some(text)
}

/// A longer one is of no version that anybody knows.
const LONGEST: usize = 256;

fn hex(part: &str, long: usize) -> Option<&str> {
    let small = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (part.len() == long && part.bytes().all(small)).then_some(part)
}

/// The id of the trace, by which all that belongs to it is found.
pub fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

/// The trace that begins with something of ours, made from its id: the same each time.
pub fn begun(id: &str) -> String {
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    let digits = format!("{digits:0>32}").to_ascii_lowercase();
    let from = |at: usize| digits.get(at..).unwrap_or_default();
    // Nobody has recorded it: the flags are zero.
    format!(
        "00-{}-{}-00",
        &from(digits.len() - 32),
        &from(digits.len() - 16)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_a_trace_context_is_carried_and_nothing_else() {
        assert_eq!(carried(TRACE), Some(TRACE));
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-else";
        assert_eq!(carried(later), Some(later));
        for wrong in [
            "",
            "00",
            "two words",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-\n",
        ] {
            assert_eq!(carried(wrong), None, "{wrong}");
        }
        assert_eq!(carried(&format!("{TRACE}{}", "0".repeat(300))), None);
    }

    #[test]
    fn a_trace_begins_with_an_id_of_ours() {
        let begun_with = begun("01936000-0000-7000-8000-00005f2c91ab");
        assert_eq!(
            begun_with,
            "00-01936000000070008000 00005f2c91ab-800000005f2c91ab-00".replace(' ', "")
        );
        assert_eq!(carried(&begun_with), Some(begun_with.as_str()));
        assert_eq!(
            trace_id(&begun_with),
            "01936000000070008000".to_owned() + "00005f2c91ab"
        );
        assert_eq!(trace_id(TRACE), "0af7651916cd43dd8448eb211c80319c");
        assert!(carried(&begun("r-1a")).is_some());
    }
}
