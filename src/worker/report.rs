//! Telling the service how a task goes, again and again until the broker has it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bus::{Address, Bus, Letter, Undelivered};
use crate::moment::Moment;
use crate::signature::Keys;
use crate::task::{Ending, Status, StatusWord};
use crate::wire;

/// Between two attempts to say the same; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Why something could not be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold(pub String);

/// Speaks for one worker.
pub struct Reporter<B> {
    pub bus: std::sync::Arc<B>,
    pub worker: String,
    /// What cannot be said now can never be said: nobody mends a closed pipe.
    pub once: bool,
    /// What signs, and with which key.
    pub signs: Option<(Keys, String)>,
    beats: AtomicU64,
}

impl<B: Bus> Reporter<B> {
    pub fn of(
        bus: std::sync::Arc<B>,
        worker: String,
        once: bool,
        signs: Option<(Keys, String)>,
    ) -> Reporter<B> {
        Reporter {
            bus,
            worker,
            once,
            signs,
            beats: AtomicU64::new(0),
        }
    }

    /// Returns when the broker has it, however long that takes. The same words have the same message id, so a broker
    /// that had them already knows it.
    pub async fn tell(
        &self,
        (id, attempt): (&str, i64),
        trace: Option<&str>,
        word: StatusWord,
    ) -> Result<(), Untold> {
        let mut status = self.status(id, attempt, word);
        let message_id = format!("{}/{id}:{attempt}/{}", self.worker, status.word.name());
        let mut pause = FIRST_PAUSE;
        loop {
            match self.publish(&status, trace, message_id.clone()).await {
                Ok(()) => return Ok(()),
                Err(why) if self.once => return Err(Untold(why.to_string())),
                Err(Undelivered::TooLarge(why)) => {
                    if !lighten(&mut status.word, &why) {
                        return Err(Untold(why));
                    }
                    continue;
                }
                Err(why) if pause == FIRST_PAUSE => {
                    tracing::warn!(task = id, attempt, status = status.word.name(), %why, "not told yet; trying again");
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Says once that a task goes on. One that is lost is followed by the next.
    pub async fn beat(&self, (id, attempt): (&str, i64), trace: Option<&str>, word: StatusWord) {
        let status = self.status(id, attempt, word);
        let beat = self.beats.fetch_add(1, Ordering::Relaxed);
        let message_id = format!("{}/{id}:{attempt}/heartbeat-{beat}", self.worker);
        if let Err(why) = self.publish(&status, trace, message_id).await {
            tracing::debug!(task = id, attempt, %why, "a heartbeat was not sent");
        }
    }

    fn status(&self, id: &str, attempt: i64, word: StatusWord) -> Status {
        Status {
            task_id: id.to_owned(),
            attempt: Some(attempt),
            worker: self.worker.clone(),
            at: Some(Moment::now()),
            word,
        }
    }

    async fn publish(
        &self,
        status: &Status,
        trace: Option<&str>,
        message_id: String,
    ) -> Result<(), Undelivered> {
        let body = wire::status_message(status, trace);
        let signed = self.signs.as_ref();
        let headers = signed.and_then(|(keys, key)| keys.sign(key, &body));
        let letter = Letter {
            address: Address::Status,
            message_id,
            correlation_id: Some(status.task_id.clone()),
            content_type: "application/json",
            headers: headers.map(Vec::from).unwrap_or_default(),
            priority: 0,
            expires_in_ms: None,
            body,
        };
        let mut answers = self.bus.publish(vec![letter]).await;
        answers.pop().map_or(Ok(()), |answer| answer.map(drop))
    }
}

/// Takes out what can be large. `false`: there is nothing to take out.
fn lighten(word: &mut StatusWord, why: &str) -> bool {
    let (StatusWord::Succeeded(ending) | StatusWord::Failed { ending, .. }) = word else {
        return false;
    };
    if ending.outputs.is_none() && ending.log_tail.is_none() {
        return false;
    }
    *ending = Ending {
        message: Some(format!(
            "outputs and the end of the log are left out: {why}"
        )),
        outputs: None,
        log_tail: None,
        ..std::mem::take(ending)
    };
    true
}
