//! The request's JSON object: read strictly as JSON, leniently as parameters.
//!
//! Malformed JSON is a `bad_request`; a parameter that cannot be is an `invalid_params` that names it. Parameters
//! that nobody asks for are ignored, and `null` is as if the parameter were not there.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::ApiError;

/// The longest text that is kept as it was sent (descriptions, versions), in characters.
pub(crate) const MAX_TEXT: usize = 1000;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(crate) struct Params {
    map: Map<String, Value>,
    /// How errors name the place of this object: empty, or `updates[3].`.
    at: String,
}

impl Params {
    /// Reads a body. An empty one and `null` have no parameters.
    ///
    /// # Errors
    /// `bad_request` for what is no JSON object, or has a key twice: two readers could take different ones.
    pub(crate) fn read(body: &[u8]) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice::<Strict>(body) {
            Ok(Strict(Value::Object(map))) => Ok(Self { map, at: String::new() }),
            Ok(Strict(Value::Null)) => Ok(Self::default()),
            Ok(_) => Err(ApiError::bad_request("The request body must be a JSON object.")),
            Err(error) if error.is_data() && error.to_string().starts_with(TWICE) => {
                Err(ApiError::bad_request("The request body has a key twice in one JSON object."))
            }
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let message = format!("The request body is not valid JSON (line {line}, column {column}).");
                Err(ApiError::bad_request(message))
            }
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// Whether the parameter was sent and says something.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All of them, for bodies whose keys are data.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.map
    }

    fn wrong(&self, name: &str, what: &str) -> ApiError {
        ApiError::invalid_params(format!("Invalid params: {}{name} {what}.", self.at))
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "must be a string")),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)?.ok_or_else(|| self.wrong(name, "is required"))
    }

    /// A text for people: one line, at most [`MAX_TEXT`] characters.
    pub(crate) fn line(&self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        if text.chars().count() > MAX_TEXT {
            return Err(self.wrong(name, &format!("is longer than {MAX_TEXT} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(self.wrong(name, "must be one line without control characters"));
        }
        Ok(Some(text.to_owned()))
    }

    /// A text that is one of the domain's names. The message is the type's own.
    pub(crate) fn parsed<T>(&self, name: &str) -> Result<Option<T>, ApiError>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| self.wrong(name, &format!("is invalid: {error}")))
    }

    /// A truth value.
    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(name, "must be true or false")),
        }
    }

    /// A whole number within a range.
    pub(crate) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().filter(|n| (least..=most).contains(n));
        number.map(Some).ok_or_else(|| self.wrong(name, &format!("must be a whole number from {least} to {most}")))
    }

    /// A number or a text, as its text: clients send `2`, `"2"` and `"+1"`.
    pub(crate) fn number_or_text(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(self.wrong(name, "must be a number or a string")),
        }
    }

    /// Whether it is a number below zero.
    pub(crate) fn is_negative(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_f64).is_some_and(|number| number < 0.0)
    }

    /// An object within.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { map: map.clone(), at: format!("{}{name}.", self.at) })),
            Some(_) => Err(self.wrong(name, "must be an object")),
        }
    }

    /// A list within.
    pub(crate) fn list(&self, name: &str) -> Result<Option<&[Value]>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.wrong(name, "must be a list")),
        }
    }

    /// A list of objects that must be there, of at most `most`.
    pub(crate) fn required_objects(&self, name: &str, most: usize) -> Result<Vec<Self>, ApiError> {
        let items = self.list(name)?.ok_or_else(|| self.wrong(name, "is required"))?;
        if items.len() > most {
            return Err(self.wrong(name, &format!("has more than {most} entries")));
        }
        let object = |(i, item): (usize, &Value)| match item {
            Value::Object(map) => Ok(Self { map: map.clone(), at: format!("{}{name}[{i}].", self.at) }),
            _ => Err(self.wrong(&format!("{name}[{i}]"), "must be an object")),
        };
        items.iter().enumerate().map(object).collect()
    }

    /// An error about one parameter.
    pub(crate) fn invalid(&self, name: &str, what: &str) -> ApiError {
        self.wrong(name, what)
    }
}

const TWICE: &str = "a key twice";

/// JSON in which every object has each key once. Depth is limited by `serde_json` (128).
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_objects_and_nothing_else() {
        assert!(Params::read(b"").expect("none").map.is_empty());
        assert!(Params::read(b" null ").expect("none").map.is_empty());
        assert_eq!(Params::read(b"{\"a\":{\"b\":[1,2.5,\"x\"]}}").expect("object").map.len(), 1);
        let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
        let bad: [&[u8]; 12] = [
            b"[]",
            b"1",
            b"\"x\"",
            b"{\"a\":1,\"a\":1}",
            b"{\"x\":{\"a\":1,\"a\":2}}",
            b"{\"a\":\"\\ud800\"}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{} {}",
            b"{\"a\":NaN}",
            b"{// x\n}",
            &deep,
        ];
        for body in bad {
            assert!(Params::read(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn names_the_field() {
        let params = Params::read(br#"{"a":1,"updates":[{"type":[]}],"n":null}"#).expect("object");
        let message = |error: ApiError| format!("{error:?}");
        assert!(message(params.text("a").expect_err("a number")).contains("a must be a string"));
        assert!(params.text("n").expect("null is absent").is_none());
        let inner = params.required_objects("updates", 3).expect("a list");
        assert!(message(inner[0].text("type").expect_err("a list")).contains("updates[0].type must be a string"));
        assert!(params.required_objects("updates", 0).is_err());
    }
}
