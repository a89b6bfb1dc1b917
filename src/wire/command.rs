//! What people ask on the bus, and what they are answered.

use serde_json::{Map, Value, json};

use super::body;
use super::{Flaw, LONGEST_ID, LONGEST_ORGANIZATION, Unreadable};
use crate::document::nearest;

/// A request, as it was sent; what its arguments mean is read elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requested {
    /// The same id gets the same answer.
    pub id: Option<String>,
    pub command: String,
    /// What it may see and touch; nothing: all.
    pub organization: Option<String>,
    pub args: Map<String, Value>,
}

/// Why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: String,
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl Refused {
    pub fn new(code: &str, message: impl Into<String>, help: impl Into<String>) -> Refused {
        Refused {
            code: code.to_owned(),
            message: message.into(),
            help: help.into(),
        }
    }
}

/// Reads a request. What cannot be read is refused with the id that it has, where it has one.
pub fn read_request(text: &[u8]) -> Result<Requested, (Option<String>, Refused)> {
    let unreadable = |id: Option<String>| {
        move |wrong: Unreadable| {
            let help = "a request is {\"id\": …, \"command\": \"run.start\", \"organization\": null, \"args\": {…}}";
            (id, Refused::new(wrong.reason.word(), wrong.message, help))
        }
    };
    let mut said = body::section(text).map_err(unreadable(None))?;
    let id = said
        .optional_key("id", LONGEST_ID)
        .map_err(unreadable(None))?;
    let mut rest = || -> Result<Requested, Unreadable> {
        // Misspelt, it would be asked of everybody.
        if let Some(unknown) = said.beside(&["command", "organization", "args"]) {
            let near = nearest(unknown, ["id", "command", "organization", "args"]);
            let help = near.first().map(|near| format!("; did you mean `{near}`?"));
            let message = format!("unknown field `{unknown}`{}", help.unwrap_or_default());
            return Err(Unreadable::new(Flaw::BadValue, message));
        }
        Ok(Requested {
            id: id.clone(),
            command: said.key("command", LONGEST_ID)?,
            organization: said.optional_key("organization", LONGEST_ORGANIZATION)?,
            args: match said.value("args") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(args)) => args,
                Some(other) => return Err(body::wrong_type("args", &other, "an object")),
            },
        })
    };
    rest().map_err(unreadable(id.clone()))
}

/// The answer to a request.
pub fn reply(id: Option<&str>, answer: &Result<Value, Refused>) -> String {
    match answer {
        Ok(result) => json!({"id": id, "ok": true, "result": result}),
        Err(refused) => json!({
            "id": id,
            "ok": false,
            "error": {"code": refused.code, "message": refused.message, "help": refused.help},
        }),
    }
    .to_string()
}

/// An answer that was kept, as what it says.
pub fn read_reply(text: &str) -> Result<Value, Refused> {
    let mut said: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    if let (Some(Value::Bool(true)), Some(result)) = (said.get("ok"), said.get("result")) {
        return Ok(result.clone());
    }
    let error = said.remove("error").unwrap_or_default();
    let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    Err(Refused::new(part("code"), part("message"), part("help")))
}
