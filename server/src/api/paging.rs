//! `Range` and `Next-Range`: lists in pages, in the words of Heroku's API.
//!
//! A header such as `name ]last..; max=200; order=desc` names what to order by, the bounds (`]` leaves the first one
//! out), and how many. Clients write it in many ways, so separators, order and a trailing `;` do not matter. Pages
//! follow a unique attribute, so that no item that was there throughout is skipped or seen twice.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::answer::{Answer, Reply};
use super::error::ApiError;

const DEFAULT_MAX: usize = 200;
/// What a larger `max` is taken for.
const MOST: usize = 1000;
const NEXT_RANGE: HeaderName = HeaderName::from_static("next-range");

/// What items are ordered by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Text(String),
    Number(i64),
}

impl Key {
    pub(crate) fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What kind of bound an attribute has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Id,
    Name,
    Number,
}

/// A unique attribute that a list can be ordered by.
pub(crate) struct Attribute<T> {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) key: fn(&T) -> Key,
}

/// One page of a list, not yet rendered.
pub(crate) struct Page<T> {
    /// Its items, in order.
    pub(crate) items: Vec<T>,
    status: StatusCode,
    headers: HeaderMap,
}

impl<T> Page<T> {
    /// The answer, with the items as they are shown.
    pub(crate) fn answer(self, shown: Vec<Value>) -> Reply {
        Ok(Answer::page(self.status, self.headers, shown))
    }
}

struct Wanted {
    attribute: usize,
    start: Option<(Key, bool)>,
    end: Option<(Key, bool)>,
    end_text: String,
    max: usize,
    descending: bool,
}

/// The page that the request's `Range` asks for. The first attribute is the list's own order.
///
/// # Errors
/// 416 for a header that makes no sense.
pub(crate) fn page<T>(headers: &HeaderMap, items: Vec<T>, attributes: &[Attribute<T>]) -> Result<Page<T>, ApiError> {
    let mut given = headers.get_all(header::RANGE).iter();
    let text = given.next().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default();
    if given.next().is_some() {
        return Err(ApiError::bad_request("There is more than one Range header."));
    }
    let wanted = parse(&text, attributes)?;
    let attribute = &attributes[wanted.attribute];
    let mut keyed: Vec<(Key, T)> = items.into_iter().map(|item| ((attribute.key)(&item), item)).collect();
    keyed.sort_by(|a, b| if wanted.descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
    // Bounds follow the direction: descending, the start is the higher one.
    let before = |a: &Key, b: &Key| if wanted.descending { a > b } else { a < b };
    keyed.retain(|(key, _)| {
        let after_start = wanted.start.as_ref().is_none_or(|(s, open)| before(s, key) || (!open && s == key));
        let before_end = wanted.end.as_ref().is_none_or(|(e, open)| before(key, e) || (!open && e == key));
        after_start && before_end
    });
    let more = keyed.len() > wanted.max;
    keyed.truncate(wanted.max);
    let mut out = HeaderMap::new();
    let names: Vec<&str> = attributes.iter().map(|a| a.name).collect();
    insert(&mut out, header::ACCEPT_RANGES, names.join(", "));
    if let (Some((first, _)), Some((last, _))) = (keyed.first(), keyed.last()) {
        insert(&mut out, header::CONTENT_RANGE, format!("{} {}..{}", attribute.name, first.shown(), last.shown()));
        if more {
            let order = if wanted.descending { "; order=desc" } else { "" };
            let (name, max, end) = (attribute.name, wanted.max, &wanted.end_text);
            insert(&mut out, NEXT_RANGE, format!("{name} ]{}..{end}; max={max}{order}", last.shown()));
        }
    }
    // 206 only with a Next-Range: the CLI's paginator goes on for as long as it sees 206.
    let status = if more { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Ok(Page { items: keyed.into_iter().map(|(_, item)| item).collect(), status, headers: out })
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

fn parse<T>(text: &str, attributes: &[Attribute<T>]) -> Result<Wanted, ApiError> {
    let mut wanted =
        Wanted { attribute: 0, start: None, end: None, end_text: String::new(), max: DEFAULT_MAX, descending: false };
    for (i, segment) in text.split([';', ',']).map(str::trim).enumerate() {
        if let Some((name, value)) = segment.split_once('=') {
            match (name.trim(), value.trim()) {
                ("max", value) => wanted.max = max(value)?,
                ("order", "asc") => wanted.descending = false,
                ("order", "desc") => wanted.descending = true,
                _ => return Err(ApiError::range()),
            }
        } else if i == 0 {
            bounds(segment, attributes, &mut wanted)?;
        } else if !segment.is_empty() {
            return Err(ApiError::range());
        }
    }
    Ok(wanted)
}

fn max(text: &str) -> Result<usize, ApiError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ApiError::range());
    }
    match text.parse::<usize>().unwrap_or(MOST).min(MOST) {
        0 => Err(ApiError::range()),
        max => Ok(max),
    }
}

/// `id`, `id ..`, `id ]x..y[`.
fn bounds<T>(text: &str, attributes: &[Attribute<T>], wanted: &mut Wanted) -> Result<(), ApiError> {
    let mut words = text.split_whitespace();
    let Some(name) = words.next() else { return Ok(()) };
    wanted.attribute = attributes.iter().position(|a| a.name == name).ok_or_else(ApiError::range)?;
    let kind = attributes[wanted.attribute].kind;
    let Some(range) = words.next() else { return Ok(()) };
    let (start, end) = range.split_once("..").filter(|_| words.next().is_none()).ok_or_else(ApiError::range)?;
    let (open, start) = match start.strip_prefix(']') {
        Some(rest) => (true, rest),
        None => (false, start.strip_prefix('[').unwrap_or(start)),
    };
    wanted.start = bound(start, kind)?.map(|key| (key, open));
    end.clone_into(&mut wanted.end_text);
    let (open, end) = match end.strip_suffix('[') {
        Some(rest) => (true, rest),
        None => (false, end.strip_suffix(']').unwrap_or(end)),
    };
    wanted.end = bound(end, kind)?.map(|key| (key, open));
    Ok(())
}

fn bound(text: &str, kind: Kind) -> Result<Option<Key>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let good = match kind {
        Kind::Id => uuid::Uuid::try_parse(text).ok().map(|id| Key::text(id.hyphenated())),
        Kind::Number => text.parse().ok().map(Key::Number),
        Kind::Name => {
            let plain = text.len() <= 255 && !text.chars().any(|c| c.is_control() || "'\"\\".contains(c));
            plain.then(|| Key::text(text))
        }
    };
    good.map(Some).ok_or_else(ApiError::range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTRIBUTES: [Attribute<i64>; 2] = [
        Attribute { name: "version", kind: Kind::Number, key: |n| Key::Number(*n) },
        Attribute { name: "name", kind: Kind::Name, key: |n| Key::Text(format!("n{n:03}")) },
    ];

    fn ask(range: &str) -> Result<Page<i64>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(range).expect("a header"));
        page(&headers, (1..=450).rev().collect(), &ATTRIBUTES)
    }

    #[test]
    fn takes_every_way_to_write_it() {
        for same in ["version ..; max=3; order=desc", "version ..;order=desc,max=3", "version ..; order=desc, max=3;"] {
            assert_eq!(ask(same).expect("good").items, [450, 449, 448], "{same}");
        }
        for whole in ["", ";", "version", "version ..", "version ..; ;", "version ..; max=200;"] {
            let page = ask(whole).expect("good");
            assert_eq!((page.items.len(), page.status), (200, StatusCode::PARTIAL_CONTENT), "{whole}");
        }
        assert_eq!(ask("version 10..12[").expect("good").items, [10, 11]);
        assert_eq!(ask("name ]zzz..;").expect("good").items, [] as [i64; 0]);
        assert_eq!(ask("version ..; max=99999999999999999999").expect("good").items.len(), 450);
        for bad in [
            "seq ..",
            "version x..",
            "version ]' OR 1=1--..",
            "version ..; max=0",
            "version ..; max=-1",
            "version ..; max=x",
            "version ..; order=up",
            "version 1",
            "version .. extra",
            "bytes=0-9",
        ] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_show_each_item_once_and_end_with_200() {
        for (order, range) in [("asc", "name ..; max=7"), ("desc", "version ..; max=7; order=desc")] {
            let (mut seen, mut next) = (Vec::new(), range.to_owned());
            loop {
                let page = ask(&next).expect("good");
                seen.extend(page.items.iter().copied());
                let header = page.headers.get(&NEXT_RANGE).map(|v| v.to_str().expect("text").to_owned());
                assert_eq!(header.is_some(), page.status == StatusCode::PARTIAL_CONTENT);
                match header {
                    Some(header) => next = header,
                    None => break,
                }
            }
            let mut all: Vec<i64> = (1..=450).collect();
            if order == "desc" {
                all.reverse();
            }
            assert_eq!(seen, all);
        }
    }
}
