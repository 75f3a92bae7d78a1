//! Every answer held against the official schema: which resource it is follows from method and path.

use std::sync::OnceLock;

use serde_json::Value;

use super::Answer;

/// A link of the official schema: method, path by its parts, the answer's resource, and whether it is a list of them.
type Link = (String, Vec<String>, String, bool);

fn links() -> &'static [Link] {
    static LINKS: OnceLock<Vec<Link>> = OnceLock::new();
    LINKS.get_or_init(|| {
        let facts: Value = serde_json::from_str(paas_proto::facts::HEROKU_API).expect("JSON");
        let all = facts.as_object().expect("an object").values();
        let links = all.flat_map(|resource| resource["links"].as_array().cloned().unwrap_or_default());
        let link = |link: Value| {
            let (list, answer) = match &link["answer"] {
                Value::Array(items) => (true, items.first()?.as_str()?.to_owned()),
                other => (false, other.as_str()?.to_owned()),
            };
            let parts = link["href"].as_str()?.split('/').map(str::to_owned).collect();
            Some((link["method"].as_str()?.to_owned(), parts, answer, list))
        };
        links.filter_map(link).collect()
    })
}

/// Holds a resource against the official schema.
pub(super) fn check_facts(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |pattern: &[String]| {
        pattern.len() == parts.len() && pattern.iter().zip(&parts).all(|(p, part)| p.starts_with('{') || p == part)
    };
    // A pattern without placeholders is the better one: /account/features before /account/{…}.
    let found = links().iter().filter(|(m, pattern, ..)| m == method && fits(pattern));
    let Some((_, _, resource, list)) =
        found.min_by_key(|(_, pattern, ..)| pattern.iter().filter(|p| p.starts_with('{')).count())
    else {
        return;
    };
    let body = answer.json();
    let items = match (&body, list) {
        (Value::Array(items), true) => items.clone(),
        (other, false) => vec![other.clone()],
        (other, true) => panic!("{method} {path} answers no list: {other}"),
    };
    for item in items {
        let differences = paas_proto::facts::differences(resource, &item);
        assert!(differences.is_empty(), "{method} {path}: {differences:?} in {item}");
    }
}
