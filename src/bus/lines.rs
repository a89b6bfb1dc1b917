//! JSON Lines: one message a line, in on one side and out on the other.
//!
//! Reading is on demand, so whoever writes our input is held up by what we have not read. A line says itself
//! what it is, by the keys of its outermost object; whether it is JSON at all is not looked at here.

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, duplex,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::bus::link::Gate;
use crate::bus::{
    Answer, Bus, Condition, Delivery, LARGEST, Letter, Role, Source, Undelivered, Verdict,
};

/// How much is read at once.
const GULP: usize = 64 * 1024;

/// A pair of streams of lines.
pub struct Lines {
    role: Role,
    taking: Gate,
    input: tokio::sync::Mutex<Input>,
    output: tokio::sync::Mutex<Output>,
    condition: Mutex<Condition>,
    stopping: CancellationToken,
}

/// Nothing is left to settle: a line that was read cannot come again.
#[derive(Debug)]
pub struct Receipt;

struct Input {
    reader: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// The line so far. Kept here, not on the stack, so that a cancelled `next` loses nothing.
    line: Vec<u8>,
    ended: bool,
}

struct Output {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Bytes that are still to be written. A cancelled `publish` leaves them here, so the next one completes
    /// the line that was begun.
    pending: Vec<u8>,
    written: usize,
}

impl Lines {
    pub fn open(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Lines {
        Lines {
            role: Role::Service,
            taking: Gate::open(),
            input: tokio::sync::Mutex::new(Input {
                reader: BufReader::with_capacity(GULP, Box::new(reader)),
                line: Vec::new(),
                ended: false,
            }),
            output: tokio::sync::Mutex::new(Output {
                writer: Box::new(writer),
                pending: Vec::new(),
                written: 0,
            }),
            condition: Mutex::new(Condition {
                connected: true,
                ..Condition::default()
            }),
            stopping: CancellationToken::new(),
        }
    }

    /// The same pair for a worker: tasks come in, and statuses go out.
    pub fn for_worker(self) -> Lines {
        Lines {
            role: Role::Worker,
            ..self
        }
    }

    /// Standard input and output. To be called inside a Tokio runtime.
    pub fn stdio() -> Lines {
        Lines::open(standard_input(), tokio::io::stdout())
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard input, read by a thread of our own: Tokio's would keep the process from ending until somebody
/// presses a key.
fn standard_input() -> DuplexStream {
    let (reader, mut writer) = duplex(GULP);
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut gulp = vec![0; GULP];
        loop {
            match input.read(&mut gulp) {
                Ok(0) => return,
                Ok(read) => {
                    if runtime.block_on(writer.write_all(&gulp[..read])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    warn!(%error, "standard input cannot be read; taken as its end");
                    return;
                }
            }
        }
    });
    reader
}

impl Bus for Lines {
    type Receipt = Receipt;

    async fn next(&self) -> Option<Delivery<Receipt>> {
        let reading = async {
            self.taking.is(true).await;
            let mut input = self.input.lock().await;
            input.line().await
        };
        let line = tokio::select! {
            biased;
            () = self.stopping.cancelled() => return None,
            line = reading => line,
        };
        match line {
            Ok(body) => body.map(|body| Delivery {
                source: match self.role {
                    Role::Service => source_of(&body),
                    Role::Worker => source_for_worker(&body),
                },
                routing_key: String::new(),
                content_type: None,
                message_id: None,
                correlation_id: None,
                reply_to: None,
                headers: Vec::new(),
                body,
                redelivered: false,
                receipt: Receipt,
            }),
            Err(error) => {
                warn!(%error, "the input cannot be read; taken as its end");
                self.condition().trouble = Some(format!("the input cannot be read: {error}"));
                None
            }
        }
    }

    async fn settle(&self, _settled: Vec<(Receipt, Verdict)>) {}

    async fn publish(&self, letters: Vec<Letter>) -> Vec<Answer> {
        let mut output = self.output.lock().await;
        for letter in letters.iter().filter(|letter| letter.body.len() <= LARGEST) {
            // JSON has line breaks only where a space may stand, so this changes no value.
            let line = letter.body.iter().map(|byte| match byte {
                b'\n' | b'\r' => b' ',
                other => *other,
            });
            output.pending.extend(line);
            output.pending.push(b'\n');
        }
        let written = output.write().await.map_err(|error| {
            output.forget();
            let text = format!("the output cannot be written: {error}");
            self.condition().trouble = Some(text.clone());
            text
        });
        let answer = |letter: &Letter| match (letter.body.len(), &written) {
            (size, _) if size > LARGEST => Err(Undelivered::TooLarge(format!(
                "{size} bytes are more than the {LARGEST} of a message"
            ))),
            (_, Ok(())) => Ok(None),
            (_, Err(text)) => Err(Undelivered::Unconfirmed(text.clone())),
        };
        letters.iter().map(answer).collect()
    }

    fn condition(&self) -> Condition {
        Lines::condition(self).clone()
    }

    fn keeps(&self) -> bool {
        false
    }

    fn take_tasks(&self, take: bool) {
        self.taking.set(take);
    }

    async fn stop(&self) {
        self.stopping.cancel();
    }

    async fn close(&self) {
        self.stopping.cancel();
        let mut output = self.output.lock().await;
        let closed = match output.write().await {
            Ok(()) => output.writer.shutdown().await,
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            warn!(%error, "the output cannot be closed");
        }
    }
}

impl Input {
    /// The next line that is not blank, `None` at the end. Of a line that is too long one byte more than a
    /// message may have is kept, so that whoever reads it sees that it is, and its rest is skipped.
    async fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        while !self.ended {
            let gulp = match self.reader.fill_buf().await {
                Ok(gulp) => gulp,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            };
            let end = gulp.iter().position(|byte| *byte == b'\n');
            let part = &gulp[..end.unwrap_or(gulp.len())];
            let room = (LARGEST + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.ended = gulp.is_empty();
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() || self.ended {
                let line = std::mem::take(&mut self.line);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
            }
        }
        Ok(None)
    }
}

impl Output {
    /// Drops what could not be written, but for the rest of a line that was begun.
    fn forget(&mut self) {
        let begun = self.written > 0 && self.pending[self.written - 1] != b'\n';
        let rest = self.pending[self.written..]
            .iter()
            .position(|byte| *byte == b'\n');
        let end = if begun {
            self.written + rest.map_or(0, |rest| rest + 1)
        } else {
            self.written
        };
        self.pending.truncate(end);
        self.pending.drain(..self.written);
        self.written = 0;
    }

    async fn write(&mut self) -> std::io::Result<()> {
        while self.written < self.pending.len() {
            let written = self.writer.write(&self.pending[self.written..]).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.written += written;
        }
        self.pending.clear();
        self.written = 0;
        self.writer.flush().await
    }
}

/// What a line is, by the keys of its outermost object: a status has `task_id` and `status`, a command has
/// `command`; an event has `specversion` whatever else it has, and all the rest, garbage included, is for
/// the readers of events too. The line need not be valid JSON, and nothing in it makes this fail.
fn source_of(line: &[u8]) -> Source {
    let (mut task_id, mut status, mut command) = (false, false, false);
    for key in Keys::of(line) {
        match key {
            b"specversion" => return Source::Events(0),
            b"task_id" => task_id = true,
            b"status" => status = true,
            b"command" => command = true,
            _ => {}
        }
    }
    if command {
        Source::Commands
    } else if task_id && status {
        Source::Status
    } else {
        Source::Events(0)
    }
}

/// The same for a worker: who is told something about a task finds its id under `task_id`; a task has an `id`.
fn source_for_worker(line: &[u8]) -> Source {
    if Keys::of(line).any(|key| key == b"task_id") {
        Source::Control
    } else {
        Source::Tasks
    }
}

/// The keys of the outermost object of a text, as they are written.
struct Keys<'a> {
    text: &'a [u8],
    depth: usize,
}

impl<'a> Keys<'a> {
    fn of(line: &'a [u8]) -> Keys<'a> {
        let text = line.trim_ascii_start();
        // Whatever is not an object has no keys.
        let text = if text.first() == Some(&b'{') {
            text
        } else {
            b""
        };
        Keys { text, depth: 0 }
    }

    /// The string that begins the text, without its quotes, and moves behind it.
    fn string(&mut self) -> &'a [u8] {
        let inside = &self.text[1..];
        let mut at = 0;
        while let Some(byte) = inside.get(at) {
            match byte {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        let end = at.min(inside.len());
        self.text = inside.get(end + 1..).unwrap_or_default();
        &inside[..end]
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match self.text.first()? {
                b'"' => {
                    let string = self.string();
                    let is_key = self.text.trim_ascii_start().first() == Some(&b':');
                    if self.depth == 1 && is_key {
                        return Some(string);
                    }
                    continue;
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.text = &self.text[1..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_keys_tell_what_a_line_is() {
        let status = r#"{"task_id":"t","status":"accepted"}"#;
        assert_eq!(source_of(status.as_bytes()), Source::Status);
        let command = r#" { "id" : "1", "command" : "stats" } "#;
        assert_eq!(source_of(command.as_bytes()), Source::Commands);
        for event in [
            r#"{"specversion":"1.0","task_id":"t","status":"x","command":"y"}"#,
            r#"{"data":{"command":"x"},"type":"object.created"}"#,
            r#"{"list":[{"command":"x"}],"raw":{"task_id":"t","status":"s"}}"#,
            r#"{"task_id":"t"}"#,
            r#"{"a":"\"command\":","b":"command"}"#,
            r#"{"a":"\\","x":"{\"command\":1}"}"#,
            r#"[{"command":"x"}]"#,
            r#""command": 1"#,
            r#"{"now":"2026-11-21T09:30:00Z"}"#,
            "command",
            "",
            "{",
            "{\"",
            "{\"command",
            "{\"command\\",
            "}}}}{\"command\"",
        ] {
            assert_eq!(source_of(event.as_bytes()), Source::Events(0), "{event}");
        }
    }

    #[test]
    fn a_worker_tells_what_it_is_told_from_what_it_is_offered() {
        let cancel = r#"{"type":"cancel","task_id":"t","attempt":2}"#;
        assert_eq!(source_for_worker(cancel.as_bytes()), Source::Control);
        for task in [
            r#"{"id":"t","attempt":1,"settings":{"task_id":"x"}}"#,
            "garbage",
            "",
        ] {
            assert_eq!(source_for_worker(task.as_bytes()), Source::Tasks, "{task}");
        }
    }

    #[test]
    fn broken_text_is_scanned_without_harm() {
        assert_eq!(
            source_of(b"{\"\xff\xfe\":1,\"command\":\xff"),
            Source::Commands
        );
        let mut deep = vec![b'['; 1_000_000];
        deep.extend(b"\"command\":1");
        assert_eq!(source_of(&deep), Source::Events(0));
        // Every prefix of a line that has everything in it.
        let line = br#"{"a\"":[{"b":"\\"}],"task_id":null,"status":"\u0041","c":{"command":1}}"#;
        for end in 0..line.len() {
            source_of(&line[..end]);
        }
        assert_eq!(source_of(line), Source::Status);
    }
}
