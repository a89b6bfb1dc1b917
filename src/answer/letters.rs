//! Dead letters: messages that could not be read, and tasks that are dead. Looked at, tried again, dropped.

use serde_json::{Value, json};

use super::tasks::{result, several};
use super::{Answer, Clerk, not_found};
use crate::bus::names;
use crate::command::{Filter, LetterCommand, Rows, Which};
use crate::intake::{self, Incoming};
use crate::store::{StoreError, StoredLetter};
use crate::task::TaskState;
use crate::wire::{self, Refused};

impl Clerk<'_> {
    pub(super) async fn of_letters(&self, asked: LetterCommand) -> Result<Answer, StoreError> {
        match asked {
            LetterCommand::List(listing) => self.list(&listing).await,
            LetterCommand::Show { id } => self.letter(&id).await,
            LetterCommand::Redrive { which } => self.redrive(&which).await,
            LetterCommand::Drop { which } => self.drop_letters(&which).await,
        }
    }

    /// A message that could not be read belongs to nobody: whoever speaks for one organisation does not see it.
    async fn message(&self, id: &str) -> Result<Option<StoredLetter>, StoreError> {
        match self.bound {
            Some(_) => Ok(None),
            None => self.ground.store.dead_letter(id).await,
        }
    }

    async fn letter(&self, id: &str) -> Result<Answer, StoreError> {
        let row = self
            .all_like(Rows::DeadLetter, &Filter::default().with("id", id))
            .await?
            .pop();
        let Some(mut told) = row else {
            return Ok(Err(unknown(id)));
        };
        let Some(stored) = self.message(id).await? else {
            return Ok(Ok(Value::Object(told)));
        };
        let letter = &stored.letter;
        let body = match std::str::from_utf8(&letter.body) {
            Ok(text) => json!({ "text": text }),
            Err(_) => json!({ "hex": hex(&letter.body) }),
        };
        for (name, value) in [
            ("routing_key", json!(letter.routing_key)),
            ("content_type", json!(letter.content_type)),
            ("message_id", json!(letter.message_id)),
            ("headers", json!(letter.headers)),
            ("body", body),
        ] {
            told.insert(name.to_owned(), value);
        }
        Ok(Ok(Value::Object(told)))
    }

    /// Which are meant; several at once only where somebody says yes.
    async fn letters_of(&self, which: &Which) -> Result<Result<Vec<String>, Refused>, StoreError> {
        match which {
            Which::Ids(ids) => {
                for id in ids {
                    let known = self
                        .all_like(Rows::DeadLetter, &Filter::default().with("id", id))
                        .await?;
                    if known.is_empty() {
                        return Ok(Err(unknown(id)));
                    }
                }
                Ok(Ok(ids.clone()))
            }
            Which::Like { filter, yes } => {
                let found = self.all_like(Rows::DeadLetter, filter).await?;
                let ids: Vec<String> = found
                    .iter()
                    .filter_map(|row| Some(row.get("id")?.as_str()?.to_owned()))
                    .collect();
                Ok(several(ids.len(), *yes, "dead letters").map(|()| ids))
            }
        }
    }

    /// Tries them again, one by one: a message as if it came now, a task as one that is made anew.
    async fn redrive(&self, which: &Which) -> Result<Answer, StoreError> {
        let ids = allowed!(self.letters_of(which).await?);
        let mut results = Vec::with_capacity(ids.len());
        self.ground.errand.of(ids.len());
        for id in &ids {
            self.ground.errand.step();
            results.push(match self.message(id).await? {
                Some(stored) => self.read_again(&stored).await?,
                None => {
                    let bound = self.bound.unwrap_or_default();
                    let answer = match self.ground.store.past(id, bound).await? {
                        Some(past) if past.state == TaskState::Dead => {
                            self.make_anew(id, &past, false).await?
                        }
                        _ => Err(unknown(id)),
                    };
                    result(id, &answer)
                }
            });
        }
        let still = results.iter().filter(|one| one["ok"] != json!(true));
        let still = still.count();
        Ok(Ok(json!({
            "redriven": results.len() - still, "still_dead": still, "results": results,
        })))
    }

    async fn read_again(&self, stored: &StoredLetter) -> Result<Value, StoreError> {
        let ground = self.ground;
        let letter = &stored.letter;
        let status = letter.intake == names::STATUS;
        let intake = ground
            .intakes
            .iter()
            .position(|rule| rule.queue == letter.intake);
        let Some(intake) = intake.or(status.then_some(0)) else {
            let message = format!("no intake reads the queue `{}`", letter.intake);
            return Ok(json!({"id": letter.id, "ok": false, "message": message}));
        };
        let incoming = Incoming {
            intake,
            queue: letter.intake.clone(),
            routing_key: letter.routing_key.clone(),
            content_type: letter.content_type.clone(),
            message_id: letter.message_id.clone(),
            headers: letter.headers.clone(),
            body: letter.body.clone(),
            status,
            // A line that sets the clock to no instant stays one.
            line: wire::read_line(&letter.body).is_err(),
        };
        let handled = intake::handle(ground, std::slice::from_ref(&incoming)).await?;
        Ok(match handled.dead.first() {
            Some(dead) => json!({
                "id": letter.id, "ok": false, "reason": dead.reason, "message": dead.message,
            }),
            None => {
                ground.store.drop_dead_letter(&letter.id).await?;
                json!({"id": letter.id, "ok": true, "tasks": handled.tasks})
            }
        })
    }

    async fn drop_letters(&self, which: &Which) -> Result<Answer, StoreError> {
        let ids = allowed!(self.letters_of(which).await?);
        let deed = self.deed("drop", "");
        let mut dropped = 0;
        self.ground.errand.of(ids.len());
        for id in &ids {
            self.ground.errand.step();
            let gone = match self.message(id).await? {
                Some(_) => self.ground.store.drop_dead_letter(id).await?,
                None => {
                    let bound = self.bound.unwrap_or_default();
                    self.ground.store.drop_dead_task(id, bound, &deed).await?
                }
            };
            dropped += i64::from(gone);
        }
        Ok(Ok(json!({ "dropped": dropped })))
    }
}

fn unknown(id: &str) -> Refused {
    let mut refused = not_found("dead letter", id, &[]);
    refused.help = "dead_letter.list shows them".to_owned();
    refused
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
