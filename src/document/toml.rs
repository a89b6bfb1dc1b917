//! TOML by the `toml` crate, which bounds its own nesting.

use ::toml::Spanned;
use ::toml::de::{DeInteger, DeTable, DeValue};

use super::places::Places;
use super::{Fault, Key, NUL, Node, Value};

pub(super) fn read(text: &str) -> Result<Node, Fault> {
    let places = Places::of(text.as_bytes());
    let root = DeTable::parse(text).map_err(|error| Fault {
        place: error.span().map(|span| places.at(span.start)),
        message: error.message().trim().replace('\n', ", "),
    })?;
    let value = table(root.get_ref(), &places)?;
    Ok(Node::placed(value, places.at(0)))
}

fn table(entries: &DeTable<'_>, places: &Places<'_>) -> Result<Value, Fault> {
    let mut read = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let place = places.at(key.span().start);
        if key.get_ref().contains('\0') {
            return Err(Fault::at(place, NUL));
        }
        let key = Key {
            name: key.get_ref().to_string(),
            place: Some(place),
        };
        read.push((key, node(value, places)?));
    }
    // The crate hands them out by name; people expect their own order.
    read.sort_by_key(|(key, _)| key.place);
    Ok(Value::Table(read))
}

fn node(spanned: &Spanned<DeValue<'_>>, places: &Places<'_>) -> Result<Node, Fault> {
    let place = places.at(spanned.span().start);
    let value = match spanned.get_ref() {
        DeValue::String(text) if text.contains('\0') => return Err(Fault::at(place, NUL)),
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => {
            let number = int(digits);
            Value::Int(number.ok_or_else(|| Fault::at(place, "this number is too large"))?)
        }
        DeValue::Float(digits) => match digits.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => return Err(Fault::at(place, "this is not a finite number")),
        },
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Datetime(stamp) => Value::Text(stamp.to_string()),
        DeValue::Array(items) => {
            let read: Result<_, _> = items.iter().map(|item| node(item, places)).collect();
            Value::List(read?)
        }
        DeValue::Table(entries) => table(entries, places)?,
    };
    Ok(Node::placed(value, place))
}

fn int(digits: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(digits.as_str(), digits.radix()).ok()
}
