//! Tasks that nobody is to have any more are taken back: a stream keeps what no worker takes.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use futures::future::join_all;
use tokio::time::timeout;

use super::{Connected, MESSAGE_ID, declare};
use crate::bus::Lying;

/// So many are asked for at once.
const AT_ONCE: usize = 50;
/// To a request that the credentials do not allow there is no answer, so it is not waited for long.
const ANSWER: Duration = Duration::from_secs(3);

impl Connected {
    /// Where one fails, what is behind it is left for another time.
    pub(super) async fn take_back(&self, lying: &[Lying]) -> Vec<Result<(), String>> {
        let mut answers: Vec<Result<(), String>> = Vec::with_capacity(lying.len());
        let stream = match self.context.get_stream_no_info(declare::TASKS).await {
            Ok(stream) => stream,
            Err(error) => return vec![Err(error.to_string()); lying.len()],
        };
        for some in lying.chunks(AT_ONCE) {
            let failed = answers.iter().find(|answer| answer.is_err());
            if let Some(failed) = failed.cloned() {
                answers.resize(lying.len(), failed);
                break;
            }
            let taken = some.iter().map(|one| async {
                tokio::select! {
                    biased;
                    () = self.end.reached() => Err("the connection ended".to_owned()),
                    taken = timeout(ANSWER, take_one(&stream, one)) => {
                        taken.unwrap_or_else(|_| Err(unanswered()))
                    }
                }
            });
            answers.extend(join_all(taken).await);
        }
        answers
    }
}

/// A stream that was made anew counts from 1 again: what has the place may be another message.
async fn take_one(stream: &Stream<()>, one: &Lying) -> Result<(), String> {
    let found = match stream.get_raw_message(one.sequence).await {
        Ok(found) => found,
        Err(error) => {
            return match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(()),
                RawMessageErrorKind::JetStream(said)
                    if matches!(
                        said.error_code(),
                        ErrorCode::NO_MESSAGE_FOUND | ErrorCode::STREAM_NOT_FOUND
                    ) =>
                {
                    Ok(())
                }
                _ => Err(error.to_string()),
            };
        }
    };
    let id = found.headers.get(MESSAGE_ID);
    if id.is_none_or(|id| id.as_str() != one.message_id) {
        return Ok(());
    }
    let deleted = stream.delete_message(one.sequence).await;
    deleted.map(drop).map_err(|error| error.to_string())
}

fn unanswered() -> String {
    format!(
        "the server does not answer; these credentials must be allowed to publish to \
         `$JS.API.STREAM.MSG.GET.{stream}` and `$JS.API.STREAM.MSG.DELETE.{stream}`",
        stream = declare::TASKS
    )
}
