//! Reads a tool's input field by field, so that a wrong one is named.
//!
//! Lenient where a model's slip is harmless (a number in quotes, `null` for "not given", an unknown extra field),
//! strict where guessing would change the meaning.

use serde_json::{Map, Value};

use super::ToolError;

/// The fields of one call.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    tool: &'static str,
    fields: &'a Map<String, Value>,
}

impl<'a> Input<'a> {
    /// The fields of that call; the input must be a JSON object.
    pub fn of(tool: &'static str, input: &'a Value) -> Result<Self, ToolError> {
        match input {
            Value::Object(fields) => Ok(Self { tool, fields }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(
                ToolError::new(format!("{tool}: the input must be a JSON object, it was {}.", kind(input))),
            ),
        }
    }

    /// A text that must be there (it may be empty).
    pub fn text(&self, field: &str) -> Result<&'a str, ToolError> {
        self.text_or_none(field)?.ok_or_else(|| self.missing(field))
    }

    /// A text that may be absent.
    pub fn text_or_none(&self, field: &str) -> Result<Option<&'a str>, ToolError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(field, "a string", other)),
        }
    }

    /// A whole number from 0 that may be absent.
    pub fn number(&self, field: &str) -> Result<Option<u64>, ToolError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = match value {
            Value::Number(n) => {
                n.as_u64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0).map(|f| f as u64))
            }
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(field, "a whole number, 0 or more", value))
    }

    /// Yes or no; absent means no.
    pub fn flag(&self, field: &str) -> Result<bool, ToolError> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(yes)) => Ok(*yes),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(other) => Err(self.wrong(field, "true or false", other)),
        }
    }

    /// A list of objects that must be there, each read as the fields of its own.
    pub fn objects(&self, field: &str) -> Result<Vec<Input<'a>>, ToolError> {
        let list = match self.get(field) {
            None => return Err(self.missing(field)),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong(field, "a list", other)),
        };
        let read = |(at, item): (usize, &'a Value)| match item {
            Value::Object(fields) => Ok(Input { tool: self.tool, fields }),
            other => Err(self.wrong(&format!("{field}[{at}]"), "an object", other)),
        };
        list.iter().enumerate().map(read).collect()
    }

    /// An error about that field.
    pub fn refuse(&self, field: &str, why: &str) -> ToolError {
        ToolError::new(format!("{}: `{field}` {why}.", self.tool))
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn missing(&self, field: &str) -> ToolError {
        let mut given: Vec<&str> = self.fields.keys().map(String::as_str).take(10).collect();
        given.sort_unstable();
        let given = if given.is_empty() { "nothing".to_owned() } else { given.join(", ") };
        ToolError::new(format!("{}: the field `{field}` is missing (given: {given}).", self.tool))
    }

    fn wrong(&self, field: &str, expected: &str, value: &Value) -> ToolError {
        self.refuse(field, &format!("must be {expected}, it was {}", kind(value)))
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("the string {:?}", domain::event::preview(text, 40)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
