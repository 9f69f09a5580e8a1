//! Does the steps of the input with the agent's memory, one after the other, and answers with what each came to.

use aral_test_guests::imports::aral::capability::types::{Classification, Error};
use aral_test_guests::imports::aral::capability::{memory_read, memory_write};
use aral_test_guests::{marker, run};
use memory_write::{Operation, Precondition, PutOptions, Write};
use serde_json::{Value, json};

fn text<'a>(step: &'a Value, key: &str) -> &'a str {
    step[key].as_str().unwrap_or_default()
}

fn write(step: &Value) -> Write {
    Write {
        name: text(step, "name").to_owned(),
        value: vec![b'v'; step["bytes"].as_u64().unwrap_or(1) as usize],
        options: PutOptions {
            ttl_seconds: step["ttl"].as_u64(),
            classification: Classification::Confidential,
            precondition: precondition(step),
        },
    }
}

fn precondition(step: &Value) -> Precondition {
    match (&step["version"], &step["absent"]) {
        (Value::Number(version), _) => Precondition::Version(version.as_u64().expect("a version")),
        (_, Value::Bool(true)) => Precondition::Absent,
        _ => Precondition::Any,
    }
}

fn operation(step: &Value) -> Operation {
    match text(step, "do") {
        "delete" => Operation::Delete(text(step, "name").to_owned()),
        _ => Operation::Put(write(step)),
    }
}

fn act(step: &Value, cursor: &mut Option<String>) -> Result<Value, Error> {
    let namespace = text(step, "namespace");
    Ok(match text(step, "do") {
        "put" => json!(memory_write::put(namespace, &write(step))?),
        "delete" => json!(memory_write::delete(namespace, text(step, "name"), precondition(step))?),
        "batch" => {
            let operations: Vec<Operation> = step["steps"].as_array().expect("steps").iter().map(operation).collect();
            memory_write::batch(namespace, &operations)?;
            json!(null)
        }
        "list" => {
            let begin = if step["continue"] == true { cursor.take() } else { None };
            let limit = step["limit"].as_u64().unwrap_or(1) as u32;
            let page = memory_read::list(namespace, text(step, "prefix"), begin.as_deref(), limit)?;
            *cursor = page.cursor;
            json!({ "names": page.names, "more": cursor.is_some() })
        }
        _ => match memory_read::get(namespace, text(step, "name"))? {
            None => json!(null),
            Some(entry) => {
                json!({ "bytes": entry.value.len(), "version": entry.version, "expires": entry.expires_at.is_some() })
            }
        },
    })
}

fn main() {
    run(|input| {
        let mut cursor = None;
        let answers: Vec<Value> = input["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .map(|step| {
                marker(text(step, "do"));
                match act(step, &mut cursor) {
                    Ok(value) => json!({ "ok": value }),
                    Err(error) => json!({ "error": format!("{error:?}") }),
                }
            })
            .collect();
        json!(answers)
    });
}
