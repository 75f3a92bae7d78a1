//! The official schema's facts, and a check of an answer against them. For tests, here and in other crates.
//!
//! Patterns are not checked: Heroku's URLs name Heroku's hosts.

use serde_json::{Map, Value};

/// Links and shapes of all resources, drawn from Heroku's published hyper-schema (MIT).
pub const HEROKU_API: &str = include_str!("../facts/heroku-api.json");

/// Fields that we send though the schema does not name them, because Heroku's CLI reads them unguarded.
pub const ALSO_SENT: [(&str, &str); 2] = [("app", "create_status"), ("release", "oci_image")];

/// Everything about `answer` that is not as the schema has `resource`; empty when all is well.
///
/// `resource` is the schema's word (`oauth-authorization`). Every property must be there, of its type, and no other.
#[must_use]
pub fn differences(resource: &str, answer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    match serde_json::from_str::<Value>(HEROKU_API).ok().and_then(|mut all| all.get_mut(resource).map(Value::take)) {
        Some(facts) => {
            let also: Vec<&str> = ALSO_SENT.iter().filter(|(of, _)| *of == resource).map(|(_, field)| *field).collect();
            compare(&facts["shape"], answer, resource, &also, &mut found);
        }
        None => found.push(format!("{resource}: no such resource")),
    }
    found
}

fn compare(shape: &Value, answer: &Value, at: &str, also: &[&str], found: &mut Vec<String>) {
    let kind = match answer {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed: Vec<&str> = shape["type"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !allowed.is_empty() && !allowed.contains(&kind) {
        found.push(format!("{at}: is {kind}, should be {}", allowed.join(" or ")));
        return;
    }
    match answer {
        Value::Object(fields) => compare_fields(shape, fields, at, also, found),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                compare(&shape["items"], item, &format!("{at}[{i}]"), &[], found);
            }
        }
        Value::String(text) => compare_text(shape, text, at, found),
        _ => {}
    }
}

fn compare_fields(shape: &Value, fields: &Map<String, Value>, at: &str, also: &[&str], found: &mut Vec<String>) {
    let Some(known) = shape["properties"].as_object() else {
        return; // a map such as config vars: any name
    };
    for (name, inner) in known {
        match fields.get(name) {
            Some(value) => compare(inner, value, &format!("{at}.{name}"), &[], found),
            None => found.push(format!("{at}.{name}: missing")),
        }
    }
    for name in fields.keys().filter(|name| !known.contains_key(*name) && !also.contains(&name.as_str())) {
        found.push(format!("{at}.{name}: not in the schema"));
    }
}

fn compare_text(shape: &Value, text: &str, at: &str, found: &mut Vec<String>) {
    if let Some(choices) = shape["enum"].as_array()
        && !choices.iter().any(|c| c == text)
    {
        found.push(format!("{at}: `{text}` is not one of the schema's words"));
    }
    let fits = |pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(b, p)| match p {
                b'0' => b.is_ascii_digit(),
                b'x' => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
                other => b == other,
            })
    };
    match shape["format"].as_str() {
        Some("date-time") if !fits("0000-00-00T00:00:00Z") => found.push(format!("{at}: `{text}` is not a time")),
        Some("uuid") if !fits("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") => {
            found.push(format!("{at}: `{text}` is not a UUID"));
        }
        _ => {}
    }
}
