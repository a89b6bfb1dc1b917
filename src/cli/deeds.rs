//! What a command did, in a sentence: for whoever typed it. Scripts get the answer as it is.

use serde_json::{Map, Value};

use super::output::{counted, items, text};

/// So many runs are told one by one.
const ONE_BY_ONE: usize = 10;

/// The lines that tell of it; nothing where the answer is something to look at.
pub fn told(command: &str, args: &Map<String, Value>, answer: &Value) -> Option<Vec<String>> {
    let (noun, verb) = command.split_once('.')?;
    let noun = noun.replace('_', " ");
    let changed = answer["changed"] == true;
    let named = format!("the {noun} {}", of(answer, &["schedule", "queue", "name"]));
    let note = text(answer, "note");
    Some(match (noun.as_str(), verb) {
        ("run", "start") => started(answer),
        ("run", "cancel") => vec![format!(
            "cancelled the run {}: {}",
            text(answer, "run_name"),
            tally(answer)
        )],
        (_, "pause") => {
            let reason = answer["paused"]["reason"].as_str().unwrap_or_default();
            vec![match changed {
                true => format!("paused {named} ({reason}); {note}"),
                false => format!("{named} was paused already ({reason})"),
            }]
        }
        (_, "resume") if changed => vec![format!("resumed {named}")],
        (_, "resume") => vec![format!("{named} was not paused")],
        ("schedule", "backfill") => backfilled(answer),
        (_, "apply") => applied(&named, answer),
        (_, "delete") => vec![format!("deleted {named}; {note}")],
        (_, "enable" | "disable") => vec![switched(answer, changed)],
        ("task", "cancel") => vec![cancelled(args, answer)],
        ("task", "retry") => again(answer),
        ("task", "mark") => vec![format!(
            "marked the task {} as {}",
            text(answer, "task_id"),
            text(answer, "state")
        )],
        ("dead letter", "redrive") => redriven(answer),
        ("dead letter", "drop") => vec![match answer["dropped"].as_u64().unwrap_or(0) {
            0 => matches_none("dead letter"),
            many => format!("{many} dropped"),
        }],
        _ => return None,
    })
}

/// The first of these that the answer says.
fn of<'a>(answer: &'a Value, names: &[&str]) -> &'a str {
    let mut said = names.iter().map(|name| text(answer, name));
    said.find(|said| !said.is_empty()).unwrap_or_default()
}

fn matches_none(what: &str) -> String {
    format!("{} match", counted(0, what))
}

/// How many an answer names or counts.
fn many(answer: &Value, name: &str) -> u64 {
    match &answer[name] {
        Value::Array(listed) => listed.len() as u64,
        counted => counted.as_u64().unwrap_or(0),
    }
}

/// The counts that are not 0, each with its words.
fn counts(parts: &[(u64, &str)]) -> String {
    let said: Vec<String> = parts
        .iter()
        .filter(|(many, _)| *many > 0)
        .map(|(many, words)| format!("{many} {words}"))
        .collect();
    said.join(", ")
}

/// What became of the tasks of a run so far.
fn tally(run: &Value) -> String {
    let counters = &run["counters"];
    let of = |name: &str| many(counters, name);
    let total = of("total");
    let open = total.saturating_sub(of("done"));
    let said = counts(&[
        (of("succeeded"), "succeeded"),
        (of("failed"), "failed"),
        (of("cancelled"), "cancelled"),
        (open, "still open"),
    ]);
    let refused = refused(&counters["refused"]);
    match (total, said.is_empty()) {
        (0, _) => format!("no tasks{refused}"),
        (_, true) => format!("{}{refused}", counted(total, "task")),
        (_, false) => format!("of {} {said}{refused}", counted(total, "task")),
    }
}

/// How many were refused, and why.
fn refused(reasons: &Value) -> String {
    let reasons: Vec<String> = reasons
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, many)| format!("{many} {}", reason.replace('_', " ")))
        .collect();
    match reasons.is_empty() {
        true => String::new(),
        false => format!(", refused: {}", reasons.join(", ")),
    }
}

/// How a run stands that was started.
fn stands(run: &Value) -> String {
    let state = match text(run, "state") {
        "pending" => "waits for its turn",
        state => state,
    };
    let mut said = state.replace('_', " ");
    if !text(run, "reason").is_empty() {
        said.push_str(&format!(" ({})", text(run, "reason").replace('_', " ")));
    }
    if !text(run, "blocked_by").is_empty() {
        said.push_str(&format!(", behind the run {}", text(run, "blocked_by")));
    }
    let tasks = counted(many(run, "tasks"), "task");
    format!("{said}, {tasks}{}", refused(&run["refused"]))
}

/// Runs that a request has started long since.
pub fn started_before(answer: &Value) -> Vec<String> {
    let runs = items(answer, "runs");
    let one = |run: &Value| {
        format!(
            "was started before: the run {} for {}: {}",
            text(run, "run_id"),
            text(run, "organization"),
            stands(run)
        )
    };
    let mut lines: Vec<String> = runs.map(one).collect();
    if lines.len() > ONE_BY_ONE {
        lines = vec![format!(
            "was started before, as {}",
            counted(lines.len() as u64, "run")
        )];
    }
    lines
}

/// Runs that a request started.
pub fn started(answer: &Value) -> Vec<String> {
    let runs: Vec<&Value> = items(answer, "runs").collect();
    if runs.is_empty() {
        return vec!["no run was started: there is no organisation to run it for".to_owned()];
    }
    if runs.len() > ONE_BY_ONE {
        let mut states: Vec<(String, u64)> = Vec::new();
        for run in &runs {
            let state = text(run, "state").replace('_', " ");
            match states.iter_mut().find(|(known, _)| *known == state) {
                Some((_, many)) => *many += 1,
                None => states.push((state, 1)),
            }
        }
        let states: Vec<String> = states
            .iter()
            .map(|(state, many)| format!("{many} {state}"))
            .collect();
        let tasks: u64 = runs.iter().map(|run| many(run, "tasks")).sum();
        return vec![format!(
            "started {}, one for each organisation: {}; {}",
            counted(runs.len() as u64, "run"),
            states.join(", "),
            counted(tasks, "task")
        )];
    }
    let one = |run: &&Value| {
        format!(
            "started the run {} for {}: {}",
            text(run, "run_id"),
            text(run, "organization"),
            stands(run)
        )
    };
    runs.iter().map(one).collect()
}

/// A run that was waited for.
pub fn ended(run: &Value) -> String {
    let mut said = format!(
        "the run {} for {} ended: {}",
        text(run, "run_id"),
        text(run, "organization"),
        text(run, "state").replace('_', " ")
    );
    if !text(run, "reason").is_empty() {
        said.push_str(&format!(" ({})", text(run, "reason").replace('_', " ")));
    }
    format!("{said}; {}", tally(run))
}

fn backfilled(answer: &Value) -> Vec<String> {
    let runs = many(answer, "runs");
    let schedule = text(answer, "schedule");
    let instants: Vec<&Value> = items(answer, "instants").collect();
    if runs == 0 {
        return vec![format!(
            "nothing is left to run of {schedule} in that range"
        )];
    }
    let verb = match answer["dry_run"] == true {
        true => "would start",
        false => "started",
    };
    let mut lines = vec![format!(
        "{verb} {} of {schedule}, one after another, for {}:",
        counted(runs, "run"),
        counted(instants.len() as u64, "instant")
    )];
    lines.extend(instants.iter().map(|instant| {
        let runs = counted(many(instant, "runs"), "run");
        format!("  {}  {runs}", text(instant, "at"))
    }));
    lines
}

fn applied(named: &str, answer: &Value) -> Vec<String> {
    let revision = &answer["revision"];
    let mut lines = vec![
        match (answer["created"] == true, answer["changed"] == true) {
            (true, _) => format!("made {named}"),
            (false, true) => format!("changed {named}; it is of revision {revision} now"),
            (false, false) => format!("{named} is left as it is, of revision {revision}"),
        },
    ];
    let next: Vec<&str> = items(answer, "next").map(|at| text(at, "local")).collect();
    lines.extend(next.iter().map(|local| format!("  next: {local}")));
    lines.extend(items(answer, "warnings").filter_map(|warning| {
        let warning = warning.as_str()?;
        Some(format!("  warning: {warning}"))
    }));
    lines
}

fn switched(answer: &Value, changed: bool) -> String {
    let state = match answer["enabled"] == true {
        true => "enabled",
        false => "disabled",
    };
    let whom = match text(answer, "organization") {
        "" => String::new(),
        organization => format!(" for {organization}"),
    };
    let plugin = text(answer, "plugin_id");
    match changed {
        true => format!("{state} the plugin {plugin}{whom}"),
        false => format!("the plugin {plugin} is {state}{whom} already"),
    }
}

fn cancelled(args: &Map<String, Value>, answer: &Value) -> String {
    let [cancelled, stopping, ended] =
        ["cancelled", "stopping", "ended"].map(|name| many(answer, name));
    if cancelled + stopping + ended == 0 && !args.contains_key("task_id") {
        return matches_none("task");
    }
    let mut parts = vec![format!("cancelled {}", counted(cancelled, "task"))];
    if stopping > 0 {
        let have = match stopping {
            1 => "its worker is told and has",
            _ => "their workers are told and have",
        };
        parts.push(format!(
            "{} more stopping: {have} until the end of the lease",
            stopping
        ));
    }
    if ended > 0 {
        let were = if ended == 1 { "was" } else { "were" };
        parts.push(format!("{ended} {were} already done"));
    }
    parts.join("; ")
}

fn again(answer: &Value) -> Vec<String> {
    let ids = |value: &Value| -> Vec<String> {
        let ids = value.as_array().into_iter().flatten();
        ids.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if !text(answer, "task_id").is_empty() {
        return vec![format!(
            "made the task {} anew: {} in the run {}",
            text(answer, "task_id"),
            ids(&answer["tasks"]).join(", "),
            text(answer, "run_id")
        )];
    }
    let results: Vec<&Value> = items(answer, "made_anew").collect();
    let hurried = many(answer, "offered_at_once");
    let (well, badly): (Vec<&Value>, Vec<&Value>) =
        results.iter().partition(|result| result["ok"] == true);
    if results.is_empty() && hurried == 0 {
        return vec![matches_none("task")];
    }
    let mut lines: Vec<String> = badly
        .iter()
        .map(|result| {
            format!(
                "{}  not made anew: {}",
                text(result, "id"),
                text(result, "message")
            )
        })
        .collect();
    let mut parts = Vec::new();
    if hurried > 0 {
        let are = if hurried == 1 { "is" } else { "are" };
        parts.push(format!(
            "{} {are} offered at once",
            counted(hurried, "task")
        ));
    }
    if !well.is_empty() {
        parts.push(format!("made {} anew", counted(well.len() as u64, "task")));
    }
    if !badly.is_empty() {
        let not = counted(badly.len() as u64, "task");
        parts.push(format!("{not} not made anew"));
    }
    lines.push(parts.join("; "));
    lines
}

fn redriven(answer: &Value) -> Vec<String> {
    let results: Vec<&Value> = items(answer, "results").collect();
    if results.is_empty() {
        return vec![matches_none("dead letter")];
    }
    let mut lines: Vec<String> = results
        .iter()
        .map(|result| {
            let id = text(result, "id");
            match result["ok"] == true {
                true => {
                    let tasks = counted(many(result, "tasks"), "task");
                    format!("{id}  handled, {tasks} made")
                }
                false => format!("{id}  still dead: {}", text(result, "message")),
            }
        })
        .collect();
    lines.push(format!(
        "{} handled, {} still dead",
        answer["redriven"], answer["still_dead"]
    ));
    lines
}
