//! What a change came to, in a line.

use serde_json::Value;

use super::screen::Change;
use crate::answer::Answer;

/// The answer to a change, as the foot tells it.
pub fn outcome(change: &Change, answer: &Answer) -> String {
    let done = match answer {
        Ok(done) => done,
        Err(refused) if refused.help.is_empty() => {
            return format!("not done: {}", refused.message);
        }
        Err(refused) => return format!("not done: {}; {}", refused.message, refused.help),
    };
    let many = |name: &str| match &done[name] {
        Value::Array(items) => items.len() as u64,
        counted => counted.as_u64().unwrap_or(0),
    };
    let text = |name: &str| done[name].as_str().unwrap_or_default();
    match change.command {
        "queue.pause" | "schedule.pause" if done["changed"] == true => "it is paused".to_owned(),
        "queue.pause" | "schedule.pause" => "it was paused already, for that reason".to_owned(),
        "queue.resume" | "schedule.resume" if done["changed"] == true => "it goes on".to_owned(),
        "queue.resume" | "schedule.resume" => "it was not paused".to_owned(),
        "run.start" => {
            let runs = done["runs"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            match runs {
                [] => "no run was started: there is no organisation to run it for".to_owned(),
                [one] => {
                    let of = |name: &str| one[name].as_str().unwrap_or_default();
                    let mut said = format!("started {}: {}", of("run_name"), of("state"));
                    if !of("reason").is_empty() {
                        said.push_str(&format!(" ({})", of("reason")));
                    }
                    if !of("blocked_by").is_empty() {
                        said.push_str(&format!(", blocked by {}", of("blocked_by")));
                    }
                    said
                }
                runs => format!("started {} runs", runs.len()),
            }
        }
        "run.cancel" => format!("the run is {}", text("state")),
        "task.cancel" if many("stopping") > 0 => {
            "its worker is told, and has until the end of its lease".to_owned()
        }
        "task.cancel" => "it is cancelled".to_owned(),
        "task.retry" if many("offered_at_once") > 0 => "it is offered at once".to_owned(),
        "task.retry" => format!("made anew in the run {}", text("run_id")),
        "dead_letter.redrive" => {
            let failed = done["results"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|one| one["ok"] != true);
            match failed {
                Some(one) => format!(
                    "still dead: {}",
                    one["message"].as_str().unwrap_or_default()
                ),
                None => "handled: it is no dead letter any more".to_owned(),
            }
        }
        "dead_letter.drop" => format!("{} dropped", many("dropped")),
        _ => "done".to_owned(),
    }
}
