//! A judgement with its reasons: the tree of clauses, what each found, and how it came out.

use std::fmt;

use serde_json::{Value, json};

use super::Facts;
use super::evaluate::{Judge, Place};
use super::tree::{Condition, Node, Path};

/// One clause and its outcome. `Display` renders the whole tree, one clause a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The clause as written.
    pub clause: String,
    /// None where it cost too much.
    pub outcome: Option<bool>,
    /// "scan_level is 2"; absent for groups.
    pub found: Option<String>,
    pub parts: Vec<Explanation>,
}

pub(crate) fn explain(text: &str, tree: &Node, facts: &Facts<'_>) -> Explanation {
    // Each clause is judged by the judge itself and with its own count of steps, so that an explanation cannot differ
    // from the answer, and a costly clause does not hide the others.
    let outcome = Judge::new(facts)
        .holds(tree, Place::Object(facts.subject))
        .ok();
    let parts = match &tree.condition {
        Condition::And(parts) | Condition::Or(parts) => parts
            .iter()
            .map(|part| explain(text, part, facts))
            .collect(),
        Condition::Not(inner) => vec![explain(text, inner, facts)],
        _ => Vec::new(),
    };
    Explanation {
        clause: one_line(tree.span.of(text)),
        outcome,
        found: found(tree, facts),
        parts,
    }
}

fn found(tree: &Node, facts: &Facts<'_>) -> Option<String> {
    let judge = Judge::new(facts);
    let subject = judge.subject();
    let path = match &tree.condition {
        Condition::Test { path, .. } | Condition::Changed { path, .. } => path,
        Condition::Holds { list, .. } => list,
        Condition::Quantified { path, .. } => {
            let mut count = 0_u64;
            judge
                .elements(path, subject, &mut |_| {
                    count += 1;
                    Ok(false)
                })
                .ok()?;
            let elements = if count == 1 { "element" } else { "elements" };
            return Some(format!("{} has {count} {elements}", name(path)));
        }
        _ => return None,
    };
    let values = judge.found(path, subject).ok()?;
    Some(format!("{} is {}", name(path), values.join(", ")))
}

fn name(path: &Path) -> String {
    let names: Vec<&str> = path.steps.iter().map(|step| step.name.as_str()).collect();
    names.join(".")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Explanation {
    pub fn to_json(&self) -> Value {
        let parts: Vec<Value> = self.parts.iter().map(Explanation::to_json).collect();
        json!({
            "clause": self.clause,
            "outcome": self.outcome,
            "found": self.found,
            "parts": parts,
        })
    }

    fn rows(&self, depth: usize, rows: &mut Vec<(String, Option<bool>, Option<String>)>) {
        let clause = format!("{}{}", "  ".repeat(depth), self.clause);
        rows.push((clause, self.outcome, self.found.clone()));
        for part in &self.parts {
            part.rows(depth + 1, rows);
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WIDEST: usize = 60;
        let mut rows = Vec::new();
        self.rows(0, &mut rows);
        let widest = rows
            .iter()
            .filter(|(_, _, found)| found.is_some())
            .map(|(clause, _, _)| clause.chars().count())
            .max()
            .unwrap_or(0)
            .min(WIDEST);
        for (clause, outcome, found) in rows {
            let word = match outcome {
                Some(true) => "yes",
                Some(false) => "no",
                None => "costly",
            };
            match found {
                Some(found) => writeln!(f, "{word:<6}  {clause:<widest$}  {found}")?,
                None => writeln!(f, "{word:<6}  {clause}")?,
            }
        }
        Ok(())
    }
}
