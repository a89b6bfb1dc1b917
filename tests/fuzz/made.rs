//! Queries and objects from choices, with the same few names in both.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

use crate::{Object, Scene};

const NAMES: [&str; 14] = [
    "a", "b", "x", "tags", "any", "count", "things", "name", "day", "flag", "words", "address",
    "not_a_keyword", "scan_level",
];
const TEXTS: [&str; 14] = [
    "", "a", "A", "ab", "É ß", "😀", "2026-11-21", "2026-11", "2026-11-21T09:30:00+02:00", "10.0.0.1",
    "::ffff:10.0.0.1", "thing|1", "thing|2", "1",
];
const DEPTH: u8 = 4;

/// A query, and what it is asked of.
pub fn made(choices: &mut Unstructured<'_>) -> Result<(String, Scene)> {
    let mut text = String::new();
    condition(choices, &mut text, 0)?;
    let mut scene = Scene {
        object: object(choices)?,
        trigger: object(choices)?,
        ..Scene::default()
    };
    scene.parameters.insert("p".to_owned(), value(choices, 0)?);
    for key in ["thing|1", "thing|2"] {
        let mut other = object(choices)?;
        other.insert("primary_key".to_owned(), json!(key));
        scene.stored.push(other);
        scene.versions.push(object(choices)?);
    }
    Ok((text, scene))
}

fn condition(choices: &mut Unstructured<'_>, text: &mut String, depth: u8) -> Result<()> {
    let most = if depth < DEPTH { 17 } else { 10 };
    match choices.int_in_range(0..=most)? {
        0 => text.push_str(choices.choose(&["True", "False"])?),
        1..=3 => {
            left(choices, text)?;
            text.push_str(choices.choose(&[" = ", " != ", " < ", " <= ", " > ", " >= "])?);
            constant(choices, text)?;
        }
        4 => {
            left(choices, text)?;
            text.push_str(choices.choose(&[
                " ~ ", " !~ ", " startswith ", " not startswith ", " endswith ", " not endswith ",
            ])?);
            constant(choices, text)?;
        }
        5 => {
            left(choices, text)?;
            text.push_str(choices.choose(&[" matches ", " not matches "])?);
            text.push_str(choices.choose(&["'^a'", "'[0-9]+'", "'(?i)A.b'", "'^$'", "''"])?);
        }
        6 => {
            left(choices, text)?;
            text.push_str(choices.choose(&[" in (", " not in ("])?);
            constant(choices, text)?;
            // Where no bytes are left, every choice is the first.
            while !choices.is_empty() && choices.ratio(1, 2)? {
                text.push_str(", ");
                constant(choices, text)?;
            }
            text.push(')');
        }
        7 => {
            constant(choices, text)?;
            text.push_str(choices.choose(&[" in ", " not in "])?);
            path(choices, text)?;
        }
        8 => {
            path(choices, text)?;
            text.push_str(choices.choose(&[" in net(", " not in net("])?);
            text.push_str(choices.choose(&["'10.0.0.0/8'", "'::/0'", "'10.0.0.1', '::1'"])?);
            text.push(')');
        }
        9 => {
            text.push_str("changed(");
            path(choices, text)?;
            window(choices, text, &["since"])?;
            text.push(')');
        }
        10 => text.push_str(choices.choose(&["in_set('a')", "in_set('x')"])?),
        11..=12 => {
            text.push('(');
            condition(choices, text, depth + 1)?;
            let joint = *choices.choose(&[" and ", " or "])?;
            loop {
                text.push_str(joint);
                condition(choices, text, depth + 1)?;
                if choices.ratio(1, 2)? {
                    break;
                }
            }
            text.push(')');
        }
        13 => {
            text.push_str("not ");
            condition(choices, text, depth + 1)?;
        }
        14..=15 => {
            text.push_str(choices.choose(&["any(", "all(", "none("])?);
            body(choices, text, depth)?;
        }
        16 => {
            text.push_str("count(");
            body(choices, text, depth)?;
            text.push_str(choices.choose(&[" = ", " != ", " < ", " >= "])?);
            text.push_str(choices.choose(&["-1", "0", "1", "2"])?);
        }
        _ => {
            text.push_str(choices.choose(&["ever(", "always("])?);
            condition(choices, text, depth + 1)?;
            window(choices, text, &["since", "until"])?;
            text.push(')');
        }
    }
    Ok(())
}

fn body(choices: &mut Unstructured<'_>, text: &mut String, depth: u8) -> Result<()> {
    path(choices, text)?;
    text.push_str(": ");
    if choices.ratio(1, 4)? {
        text.push_str("it = ");
        constant(choices, text)?;
    } else {
        condition(choices, text, depth + 1)?;
    }
    text.push(')');
    Ok(())
}

fn window(choices: &mut Unstructured<'_>, text: &mut String, names: &[&str]) -> Result<()> {
    for name in names {
        if choices.ratio(1, 3)? {
            text.push_str(&format!(", {name}: now() - {}d", choices.int_in_range(0..=20)?));
        }
    }
    Ok(())
}

fn path(choices: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    text.push_str(choices.choose(&NAMES)?);
    if choices.ratio(1, 4)? {
        text.push('.');
        text.push_str(choices.choose(&NAMES)?);
    }
    Ok(())
}

fn left(choices: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    if choices.ratio(1, 6)? {
        text.push_str("lower(");
        path(choices, text)?;
        text.push(')');
        return Ok(());
    }
    path(choices, text)
}

fn constant(choices: &mut Unstructured<'_>, text: &mut String) -> Result<()> {
    match choices.int_in_range(0..=9)? {
        0 => text.push_str("None"),
        1 => text.push_str(choices.choose(&["True", "False"])?),
        2 => text.push_str(&i64::from(choices.arbitrary::<i8>()?).to_string()),
        3 => text.push_str(&choices.arbitrary::<i64>()?.to_string()),
        4 => text.push_str(choices.choose(&[
            "0.5", "1.0", "-0.0", "1e300", "5e-324", "9007199254740993.0", "9007199254740992",
        ])?),
        5 => text.push_str(choices.choose(&["now()", "today()", "now() - 3d", "today() + 2w"])?),
        6 => {
            text.push_str(choices.choose(&["trigger.", "previous."])?);
            path(choices, text)?;
        }
        7 => text.push_str("$p"),
        _ => text.push_str(&Value::from(*choices.choose(&TEXTS)?).to_string()),
    }
    Ok(())
}

fn object(choices: &mut Unstructured<'_>) -> Result<Object> {
    let mut object = Map::new();
    for _ in 0..choices.int_in_range(0..=6)? {
        let name = *choices.choose(&NAMES)?;
        object.insert(name.to_owned(), value(choices, 0)?);
    }
    Ok(object)
}

fn value(choices: &mut Unstructured<'_>, depth: u8) -> Result<Value> {
    let most = if depth < 3 { 9 } else { 6 };
    Ok(match choices.int_in_range(0..=most)? {
        0 => Value::Null,
        1 => json!(choices.arbitrary::<bool>()?),
        2 => json!(choices.arbitrary::<i8>()?),
        3 => json!(choices.arbitrary::<i64>()?),
        4 => json!(choices.arbitrary::<f64>()?),
        5 | 6 => json!(*choices.choose(&TEXTS)?),
        7 | 8 => {
            let mut items = Vec::new();
            for _ in 0..choices.int_in_range(0..=3)? {
                items.push(value(choices, depth + 1)?);
            }
            Value::Array(items)
        }
        _ => {
            let mut map = Map::new();
            for _ in 0..choices.int_in_range(0..=3)? {
                let name = *choices.choose(&NAMES)?;
                map.insert(name.to_owned(), value(choices, depth + 1)?);
            }
            Value::Object(map)
        }
    })
}
