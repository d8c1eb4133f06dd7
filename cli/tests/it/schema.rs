//! As much of JSON Schema (2020-12) as our schemas use; a word it does not know is an error, not a pass.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

pub struct Schema(Value);

/// What a schema says of a value: what is wrong, and which of its fields it knows.
#[derive(Default)]
struct Said {
    wrong: Vec<String>,
    known: BTreeSet<String>,
}

impl Schema {
    pub fn new(schema: Value) -> Schema {
        Schema(schema)
    }

    /// What is wrong with a value; empty when it is as the schema says.
    pub fn wrong(&self, value: &Value) -> Vec<String> {
        self.check(&self.0, value, "").wrong
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Said {
        let mut said = Said::default();
        let rules = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema} is no schema"));
        for (word, rule) in rules {
            let number = || value.as_f64().zip(rule.as_f64());
            let good = match word.as_str() {
                "$schema" | "$id" | "$defs" | "title" | "unevaluatedProperties" | "additionalProperties" => {
                    true
                }
                "$ref" => {
                    let place = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    let target = self.0.pointer(place).unwrap_or_else(|| panic!("{place} is not there"));
                    said.join(self.check(target, value, at));
                    true
                }
                "type" => match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    other => panic!("the type {other} is not known here"),
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "pattern" => {
                    value.as_str().is_none_or(|v| Regex::new(rule.as_str().unwrap()).unwrap().is_match(v))
                }
                "minimum" => number().is_none_or(|(v, least)| v >= least),
                "maximum" => number().is_none_or(|(v, most)| v <= most),
                "required" => {
                    let names = rule.as_array().unwrap().iter();
                    names.map(|n| n.as_str().unwrap()).all(|n| value.get(n).is_some())
                }
                "properties" => {
                    for (name, rule) in rule.as_object().unwrap() {
                        if let Some(field) = value.get(name) {
                            said.known.insert(name.clone());
                            said.wrong.extend(self.check(rule, field, &format!("{at}/{name}")).wrong);
                        }
                    }
                    true
                }
                "items" => {
                    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                        said.wrong.extend(self.check(rule, item, &format!("{at}/{n}")).wrong);
                    }
                    true
                }
                "anyOf" | "oneOf" => {
                    let all: Vec<Said> =
                        rule.as_array().unwrap().iter().map(|r| self.check(r, value, at)).collect();
                    let good = all.iter().filter(|s| s.wrong.is_empty()).count();
                    let closest = all.iter().min_by_key(|s| s.wrong.len()).map(|s| s.wrong.join("; "));
                    all.into_iter().filter(|s| s.wrong.is_empty()).for_each(|s| said.join(s));
                    let enough = if word == "oneOf" { good == 1 } else { good >= 1 };
                    if !enough {
                        said.wrong
                            .push(format!("{at}: {good} of {word} fit; {}", closest.unwrap_or_default()));
                    }
                    true
                }
                other => panic!("{at}: the word {other} is not known here"),
            };
            if !good {
                said.wrong.push(format!("{at}: {word} {rule} does not hold for {value}"));
            }
        }
        let closed = |word: &str| schema.get(word) == Some(&Value::Bool(false));
        if closed("unevaluatedProperties") || closed("additionalProperties") {
            let fields = value.as_object().into_iter().flat_map(|fields| fields.keys());
            let unknown: Vec<String> = fields.filter(|name| !said.known.contains(*name)).cloned().collect();
            said.wrong.extend(unknown.into_iter().map(|name| format!("{at}: {name} is not in the schema")));
        }
        said
    }
}

impl Said {
    fn join(&mut self, other: Said) {
        self.wrong.extend(other.wrong);
        self.known.extend(other.known);
    }
}
