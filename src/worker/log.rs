//! What a task says while it runs: kept within a bound, and listened to for progress.

use std::collections::VecDeque;

/// How much of a log rides in the status.
const TAIL: usize = 4096;
/// A line that is longer is no report of progress.
const LONGEST_LINE: usize = 1024;
/// How a line begins that reports progress.
const PROGRESS: &[u8] = b"::progress ";

/// The beginning and the end of all that was said. What is left out between them is counted.
pub struct Log {
    bound: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Log {
    /// At most so many bytes, half of them from the beginning.
    pub fn of(bound: usize) -> Log {
        Log {
            bound,
            head: Vec::new(),
            tail: VecDeque::new(),
            left_out: 0,
        }
    }

    pub fn push(&mut self, said: &[u8]) {
        let room = (self.bound / 2).saturating_sub(self.head.len());
        let (begin, rest) = said.split_at(room.min(said.len()));
        self.head.extend_from_slice(begin);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.bound - self.bound / 2);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// The log as it is kept.
    pub fn text(&self) -> Vec<u8> {
        let mut text = self.head.clone();
        if self.left_out > 0 {
            text.extend_from_slice(
                format!("\n[muster: {} bytes are left out here]\n", self.left_out).as_bytes(),
            );
        }
        text.extend(self.tail.iter());
        text
    }

    /// The last of it, as text that a status can hold: at most [`TAIL`] bytes, and no NUL.
    pub fn last(&self) -> String {
        let text = self.text();
        let end = &text[text.len().saturating_sub(TAIL)..];
        // A letter that is cut in two at the beginning is no letter.
        let torn = end
            .iter()
            .take(3)
            .take_while(|b| **b & 0xC0 == 0x80)
            .count();
        let torn = if end.len() < text.len() { torn } else { 0 };
        let shown = String::from_utf8_lossy(&end[torn..]).replace('\0', "\u{FFFD}");
        // What stands for a byte that is no text takes three.
        let mut from = shown.len().saturating_sub(TAIL);
        while !shown.is_char_boundary(from) {
            from += 1;
        }
        shown[from..].to_owned()
    }
}

/// How far a task is, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: Option<i64>,
    pub total: Option<i64>,
    pub note: Option<String>,
}

/// Finds the lines `::progress 3/10 a note` in what comes in pieces.
#[derive(Default)]
pub struct Listener {
    line: Vec<u8>,
    too_long: bool,
}

impl Listener {
    /// The newest report in this piece.
    pub fn hear(&mut self, said: &[u8]) -> Option<Progress> {
        let mut newest = None;
        let mut lines = said.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            self.too_long |= self.line.len() + part.len() > LONGEST_LINE;
            if !self.too_long {
                self.line.extend_from_slice(part);
            }
            if lines.peek().is_some() {
                if !self.too_long {
                    newest = progress(&self.line).or(newest);
                }
                self.line.clear();
                self.too_long = false;
            }
        }
        newest
    }
}

/// `::progress`, then `done/total` or `done`, then a note; either may be left out.
fn progress(line: &[u8]) -> Option<Progress> {
    let rest = String::from_utf8_lossy(line.strip_prefix(PROGRESS)?).replace('\0', "\u{FFFD}");
    let rest = rest.trim();
    let (first, note) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
    let (done, total) = match first.split_once('/') {
        Some((done, total)) => (number(done), number(total)),
        None => (number(first), None),
    };
    let (total, note) = match done {
        Some(_) => (total, note.trim()),
        None => (None, rest),
    };
    Some(Progress {
        done,
        total,
        note: (!note.is_empty()).then(|| note.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_beginning_and_its_end() {
        let mut log = Log::of(10);
        for piece in ["abc", "defgh", "ijklmnop", "", "qrstuvwxyz"] {
            log.push(piece.as_bytes());
        }
        assert_eq!(
            String::from_utf8(log.text()).as_deref(),
            Ok("abcde\n[muster: 16 bytes are left out here]\nvwxyz")
        );
        let mut short = Log::of(10);
        short.push(b"abcdefghij");
        assert_eq!(short.text(), b"abcdefghij");
    }

    #[test]
    fn the_end_of_a_log_is_text_of_at_most_four_kibibytes() {
        let mut log = Log::of(100_000);
        log.push("ö".repeat(5000).as_bytes());
        log.push(b"\0.");
        let last = log.last();
        assert!(
            last.len() <= TAIL && last.len() > TAIL - 8,
            "{}",
            last.len()
        );
        assert!(
            last.starts_with('ö') && last.ends_with("ö\u{FFFD}."),
            "{last}"
        );
        let mut bytes = Log::of(100_000);
        bytes.push(&[0xFF; 5000]);
        assert!(bytes.last().len() <= TAIL);
    }

    #[test]
    fn progress_is_heard_also_where_it_comes_in_pieces() {
        let mut listener = Listener::default();
        let said = |done, total, note: Option<&str>| {
            Some(Progress {
                done,
                total,
                note: note.map(str::to_owned),
            })
        };
        assert_eq!(listener.hear(b"hello\n::prog"), None);
        assert_eq!(listener.hear(b"ress 1/10 first"), None);
        assert_eq!(
            listener.hear(b" part\nx\n"),
            said(Some(1), Some(10), Some("first part"))
        );
        assert_eq!(
            listener.hear(b"::progress 2/10\n::progress 3\n::progress"),
            said(Some(3), None, None)
        );
        assert_eq!(
            listener.hear(b" only words\n"),
            said(None, None, Some("only words"))
        );
        assert_eq!(listener.hear(b"a ::progress 4/10\n"), None);
        let long = format!("::progress 5/10 {}\n", "x".repeat(LONGEST_LINE));
        assert_eq!(listener.hear(long.as_bytes()), None);
        assert_eq!(
            listener.hear(b"::progress 6/10\n"),
            said(Some(6), Some(10), None)
        );
    }
}
