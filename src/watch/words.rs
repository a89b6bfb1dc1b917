//! Words, numbers and times as they fit in a column. What comes from outside is made harmless first: a name must neither
//! move the cursor nor turn the line around.

use ratatui::text::Span as Piece;
use serde_json::{Map, Value};

use crate::harmless;
use crate::moment::{Moment, Span};

/// Longer texts are not looked at to their end where they are cut anyway.
const LONGEST: usize = 4000;

/// A text in one line, as a terminal may see it.
pub fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    for c in text.chars().take(LONGEST) {
        // A text of several lines is shown as one, and cells tell where that ends.
        shown.push(if matches!(c, '\n' | '\t') { ' ' } else { c });
    }
    harmless::line(&shown).into_owned()
}

/// The cells that a text takes.
pub fn width(text: &str) -> usize {
    Piece::raw(text).width()
}

fn width_of(c: char) -> usize {
    let mut bytes = [0; 4];
    width(c.encode_utf8(&mut bytes))
}

/// The text in so many cells: cut with a mark where it is longer, filled up where it is shorter.
pub fn fit(text: &str, cells: usize, right: bool) -> String {
    let mut shown = String::new();
    let mut taken = 0;
    let whole = width(text) <= cells;
    let room = if whole {
        cells
    } else {
        cells.saturating_sub(1)
    };
    for c in text.chars() {
        let wide = width_of(c);
        if taken + wide > room {
            break;
        }
        taken += wide;
        shown.push(c);
    }
    if !whole && cells > 0 {
        shown.push('…');
        taken += 1;
    }
    let blank = " ".repeat(cells.saturating_sub(taken));
    if right {
        blank + &shown
    } else {
        shown + &blank
    }
}

/// The same, but cut at its beginning.
pub fn fit_end(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return fit(text, cells, false);
    }
    let mut taken = 1;
    let mut from = text.len();
    for (at, c) in text.char_indices().rev() {
        taken += width_of(c);
        if taken > cells {
            break;
        }
        from = at;
    }
    fit(
        &format!("…{}", text.get(from..).unwrap_or_default()),
        cells,
        false,
    )
}

/// The text in lines of so many cells, broken at blanks where there are some.
pub fn wrap(text: &str, cells: usize) -> Vec<String> {
    let cells = cells.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut taken = 0;
    for c in text.chars() {
        let wide = width_of(c);
        if taken + wide > cells {
            let rest = match line.rfind(' ').filter(|at| *at > 0 && c != ' ') {
                Some(at) => line.split_off(at).trim_start().to_owned(),
                None => String::new(),
            };
            lines.push(std::mem::replace(&mut line, rest));
            taken = width(&line);
            if c == ' ' {
                continue;
            }
        }
        taken += wide;
        line.push(c);
    }
    lines.push(line);
    lines
}

/// A number in at most six cells.
pub fn count(number: i64) -> String {
    match number {
        ..100_000 => number.to_string(),
        100_000..1_000_000 => format!("{}k", number / 1000),
        1_000_000..100_000_000 => {
            let tenths = number / 100_000;
            format!("{}.{}M", tenths / 10, tenths % 10)
        }
        _ => format!("{}M", number / 1_000_000),
    }
}

/// How long, in at most six cells.
pub fn long(span: Span) -> String {
    let seconds = span.whole_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..600 => format!("{minutes}m{:02}s", seconds % 60),
        600..3600 => format!("{minutes}m"),
        3600..36_000 => format!("{hours}h{:02}m", minutes % 60),
        36_000..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// How long ago an instant of an answer was; nothing where there is none.
pub fn age(row: &Map<String, Value>, column: &str, now: Moment) -> String {
    instant(row, column).map_or_else(String::new, |at| long(now.since(at)))
}

pub fn instant(row: &Map<String, Value>, column: &str) -> Option<Moment> {
    Moment::parse(row.get(column)?.as_str()?).ok()
}

pub fn text<'a>(row: &'a Map<String, Value>, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

pub fn number(row: &Map<String, Value>, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or_default()
}

/// An instant as far as seconds, without its date where it is today's.
pub fn clock(at: Moment, now: Moment) -> String {
    let (at, now) = (at.to_string(), now.to_string());
    let date = |text: &str| text.get(..10).map(str::to_owned);
    let time = at.get(11..19).unwrap_or(&at);
    if date(&at) == date(&now) {
        format!("{time}Z")
    } else {
        format!("{} {time}Z", at.get(..10).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::{count, fit, fit_end, long, plain, width, wrap};
    use crate::moment::Span;

    #[test]
    fn names_are_made_harmless() {
        let name = "a\u{1b}[2J\u{7}b\u{202e}c\u{200b}d\ne\u{9b}31m";
        assert_eq!(
            plain(name),
            "a\\u{1b}[2J\\u{7}b\\u{202e}c\\u{200b}d e\\u{9b}31m"
        );
    }

    #[test]
    fn a_text_takes_the_cells_that_it_is_given() {
        for (text, cells) in [
            ("abc", 5),
            ("abcdef", 5),
            ("日本語", 4),
            ("日本語", 5),
            ("e\u{301}", 3),
            ("", 2),
            ("ab", 1),
        ] {
            assert_eq!(width(&fit(text, cells, false)), cells, "{text}");
            assert_eq!(width(&fit(text, cells, true)), cells, "{text}");
            assert_eq!(width(&fit_end(text, cells)), cells, "{text}");
        }
        assert_eq!(fit("abcdef", 4, false), "abc…");
        assert_eq!(fit_end("abcdef", 4), "…def");
        assert_eq!(fit("", 0, false), "");
    }

    #[test]
    fn lines_are_broken_at_blanks_where_there_are_some() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 1).len(), 4);
    }

    #[test]
    fn numbers_and_times_fit_in_six_cells() {
        for number in [
            0,
            99_999,
            100_000,
            999_999,
            1_000_000,
            99_999_999,
            999_999_999,
        ] {
            assert!(width(&count(number)) <= 6, "{}", count(number));
        }
        for seconds in [
            0, 59, 60, 599, 600, 3599, 3600, 35_999, 36_000, 172_800, 99_999_999,
        ] {
            assert!(width(&long(Span::seconds(seconds))) <= 6);
        }
        assert_eq!(long(Span::seconds(192)), "3m12s");
        assert_eq!(count(12_345_678), "12.3M");
    }
}
