//! A strict reader of JSON objects that knows where it is: every key must be taken, and every refusal carries the JSON
//! Pointer (RFC 6901) of the value. It never repeats a value in an error.

use almoner_model::Date;
use serde_json::{Map, Value};

use super::{DefinitionError, Rule};

/// A value and where it stands.
pub(super) struct Node {
    pub pointer: String,
    value: Value,
}

type Result<T> = std::result::Result<T, DefinitionError>;

impl Node {
    /// Parses bytes as one JSON value.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value = serde_json::from_slice(bytes).map_err(|e| {
            let reason = format!("not JSON (line {}, column {})", e.line(), e.column());
            DefinitionError::new("", Rule::NotJson, reason)
        })?;
        Ok(Self { pointer: String::new(), value })
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T> {
        Err(DefinitionError::new(&self.pointer, Rule::WrongType, format!("must be {wanted}")))
    }

    pub fn out_of_range<T>(&self, reason: &str) -> Result<T> {
        Err(DefinitionError::new(&self.pointer, Rule::OutOfRange, reason))
    }

    pub fn object(self) -> Result<Object> {
        match self.value {
            Value::Object(map) => Ok(Object { pointer: self.pointer, map }),
            _ => self.wrong("an object"),
        }
    }

    /// A list of at most `limit` values.
    pub fn list(self, limit: usize) -> Result<Vec<Self>> {
        match self.value {
            Value::Array(items) if items.len() > limit => {
                let reason = format!("at most {limit} entries");
                Err(DefinitionError::new(&self.pointer, Rule::OutOfRange, reason))
            }
            Value::Array(items) => Ok(items
                .into_iter()
                .enumerate()
                .map(|(i, value)| Self { pointer: format!("{}/{i}", self.pointer), value })
                .collect()),
            _ => self.wrong("a list"),
        }
    }

    pub fn text(&self) -> Result<&str> {
        match &self.value {
            Value::String(text) => Ok(text),
            _ => self.wrong("a text"),
        }
    }

    pub fn integer(&self) -> Result<i64> {
        match self.value.as_i64() {
            Some(n) => Ok(n),
            None => self.wrong("a whole number"),
        }
    }

    pub fn integer_in(&self, low: i64, high: i64) -> Result<i64> {
        let n = self.integer()?;
        if (low..=high).contains(&n) {
            return Ok(n);
        }
        self.out_of_range(&format!("must be from {low} to {high}"))
    }

    pub fn number(&self) -> Result<f64> {
        match self.value.as_f64() {
            Some(n) if n.is_finite() => Ok(n),
            _ => self.wrong("a number"),
        }
    }

    pub fn boolean(&self) -> Result<bool> {
        match self.value.as_bool() {
            Some(b) => Ok(b),
            None => self.wrong("true or false"),
        }
    }

    pub fn date(&self) -> Result<Date> {
        match self.text()?.parse() {
            Ok(date) => Ok(date),
            Err(_) => self.out_of_range("must be a date YYYY-MM-DD"),
        }
    }
}

/// An object whose keys are taken one by one; [`Object::end`] refuses what is left.
pub(super) struct Object {
    pub pointer: String,
    map: Map<String, Value>,
}

impl Object {
    pub fn take(&mut self, key: &str) -> Option<Node> {
        let value = self.map.remove(key)?;
        Some(Node { pointer: format!("{}/{key}", self.pointer), value })
    }

    pub fn need(&mut self, key: &'static str) -> Result<Node> {
        self.take(key).ok_or_else(|| {
            DefinitionError::new(&self.pointer, Rule::MissingKey, format!("the key '{key}' is required"))
        })
    }

    /// Refuses any key that was not taken.
    pub fn end(self) -> Result<()> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(key) => {
                let key = key.replace('~', "~0").replace('/', "~1");
                let pointer = format!("{}/{key}", self.pointer);
                Err(DefinitionError::new(pointer, Rule::UnknownKey, "not a key of the cohort language"))
            }
        }
    }
}
