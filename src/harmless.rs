//! What a terminal may be shown of texts from outside: nothing in them moves the cursor, changes the colours, turns the
//! line around or cannot be seen. The one rule, for whoever writes to a terminal; what programs read stays as it is.

use std::borrow::Cow;

/// Whether a terminal only shows it.
pub fn is(c: char) -> bool {
    !c.is_control()
        && !matches!(u32::from(c),
            // Soft hyphen, marks that turn the direction, what has no width, variation selectors and tags.
            0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff
                | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
}

/// A text as one line; what is not harmless is spelt.
pub fn line(text: &str) -> Cow<'_, str> {
    spelt(text, is)
}

/// A text that has lines of its own, and columns in them.
pub fn lines(text: &str) -> Cow<'_, str> {
    spelt(text, |c| is(c) || matches!(c, '\n' | '\t'))
}

/// A text of JSON, which says the same to the letter: what is not harmless in it stands in its strings.
pub fn json(text: &str) -> Cow<'_, str> {
    let keeps = |c| is(c) || matches!(c, '\n' | '\t' | '\r');
    replaced(text, keeps, |shown, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

fn spelt(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, keeps, |shown, c| shown.extend(c.escape_default()))
}

fn replaced(
    text: &str,
    keeps: impl Fn(char) -> bool,
    spell: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if text.chars().all(&keeps) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if keeps(c) {
            shown.push(c);
        } else {
            spell(&mut shown, c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::{json, line, lines};

    #[test]
    fn what_moves_the_cursor_or_turns_the_line_around_is_spelt() {
        let name = "é日\u{1b}[2J\u{7}b\u{202e}c\u{2066}\u{200b}d\u{9b}31m\u{e0041}\r";
        let spelt = "é日\\u{1b}[2J\\u{7}b\\u{202e}c\\u{2066}\\u{200b}d\\u{9b}31m\\u{e0041}\\r";
        assert_eq!(line(name), spelt);
        assert_eq!(lines(name), spelt);
    }

    #[test]
    fn json_says_the_same_and_shows_nothing_else() {
        let name = "a\u{1b}\u{9b}b\u{202e}\u{e0041}\nc";
        let text = serde_json::Value::from(name).to_string();
        let shown = json(&text);
        assert_eq!(shown, r#""a\u001b\u009bb\u202e\udb40\udc41\nc""#);
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
        assert_eq!(read, name);
    }

    #[test]
    fn a_line_has_no_line_in_it() {
        assert_eq!(line("a\n+ b\tc"), "a\\n+ b\\tc");
        assert_eq!(lines("a\n+ b\tc"), "a\n+ b\tc");
    }
}
