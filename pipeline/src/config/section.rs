//! Reading one table of the merged layers, noting each fault and going on.
//!
//! serde stops at the first fault; a person wants them all. So a table is read key by key: a key that is
//! missing, of the wrong type or out of range is noted with its place and gives `None`, and a key that
//! nobody asked for is noted when the table is finished.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;
use squall_fields::{Cadence, Variable};

use super::check;
pub(crate) use super::context::Context;
use super::fault::one_of;
use super::file::{index, join};
use super::quantity::{parse_bytes, parse_duration};
use super::typed::{self, Reader};

/// One table.
pub(crate) struct Section<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) path: String,
    values: Option<&'a Dict>,
}

impl<'a> Section<'a> {
    pub(super) fn new(context: &'a Context<'a>, path: String, values: Option<&'a Dict>) -> Self {
        Self { context, path, values }
    }

    pub(crate) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(crate) fn fault(&self, key: &str, message: impl Into<String>) {
        let setting = if key.is_empty() { self.path.clone() } else { self.at(key) };
        self.context.fault(&setting, message);
    }

    /// The value of a key if it is given.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.context.ask(&self.path, key);
        self.values?.get(key)
    }

    /// The value of a key that must be given; `hint` is what it looks like.
    fn required(&self, key: &str, hint: &str) -> Option<&'a Value> {
        let value = self.get(key);
        if value.is_none() && self.values.is_some() {
            self.fault("", format!("{key} is missing: expected {key} = {hint}"));
        }
        value
    }

    fn wrong<T>(&self, key: &str, expected: impl Display, value: &Value) -> Option<T> {
        self.fault(key, format!("expected {expected}, got {}", describe(value)));
        None
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.as_text(key, self.required(key, "\"...\"")?)
    }

    pub(crate) fn optional_text(&self, key: &str) -> Option<String> {
        self.as_text(key, self.get(key)?)
    }

    fn as_text(&self, key: &str, value: &Value) -> Option<String> {
        match value.as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.wrong(key, "text", value),
        }
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.get(key)?;
        value.to_bool().or_else(|| self.wrong(key, "true or false", value))
    }

    pub(crate) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.required(key, &range.start().to_string())?;
        self.as_count(key, value, range)
    }

    pub(super) fn optional_count(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.as_count(key, self.get(key)?, range)
    }

    fn as_count(&self, key: &str, value: &Value, range: RangeInclusive<u64>) -> Option<u64> {
        let number = value.to_i128().and_then(|number| u64::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .or_else(|| self.wrong(key, format!("a whole number from {} to {}", range.start(), range.end()), value))
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.as_number(key, self.required(key, "1.0")?)
    }

    pub(super) fn optional_number(&self, key: &str) -> Option<f64> {
        self.as_number(key, self.get(key)?)
    }

    fn as_number(&self, key: &str, value: &Value) -> Option<f64> {
        number(value).or_else(|| self.wrong(key, "a finite number", value))
    }

    pub(crate) fn numbers(&self, key: &str) -> Option<Vec<f32>> {
        let value = self.get(key)?;
        let numbers = match value {
            Value::Array(_, items) => items.iter().map(|item| number(item).map(|n| n as f32)).collect(),
            _ => None,
        };
        numbers.or_else(|| self.wrong(key, "a list of finite numbers", value))
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let value = self.required(key, "[\"...\"]")?;
        self.as_texts(key, value)
    }

    /// `Some(None)` where it is not given.
    pub(super) fn optional_texts(&self, key: &str) -> Option<Option<Vec<String>>> {
        match self.get(key) {
            Some(value) => self.as_texts(key, value).map(Some),
            None => Some(None),
        }
    }

    fn as_texts(&self, key: &str, value: &Value) -> Option<Vec<String>> {
        let texts = match value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        texts.or_else(|| self.wrong(key, "a list of texts", value))
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        self.as_duration(key, self.required(key, "\"5 min\"")?)
    }

    pub(super) fn optional_duration(&self, key: &str) -> Option<Duration> {
        self.as_duration(key, self.get(key)?)
    }

    fn as_duration(&self, key: &str, value: &Value) -> Option<Duration> {
        let duration = value.as_str().and_then(parse_duration);
        duration.or_else(|| self.wrong(key, "a duration such as \"5 min\"", value))
    }

    pub(crate) fn cadence(&self, key: &str) -> Option<Cadence> {
        self.as_cadence(key, self.duration(key)?)
    }

    pub(crate) fn optional_cadence(&self, key: &str) -> Option<Cadence> {
        self.as_cadence(key, self.optional_duration(key)?)
    }

    fn as_cadence(&self, key: &str, step: Duration) -> Option<Cadence> {
        let seconds = u32::try_from(step.as_secs()).ok().filter(|_| step.subsec_nanos() == 0);
        let cadence = seconds.and_then(Cadence::every_seconds);
        if cadence.is_none() {
            self.fault(key, "expected whole seconds, at least one");
        }
        cadence
    }

    /// `cpu`, `cuda`, either with an index.
    pub(crate) fn device(&self, key: &str) -> Option<Arc<str>> {
        let text = self.text(key)?;
        if check::is_device(&text) {
            return Some(text.into());
        }
        self.fault(key, format!("expected \"cpu\", \"cpu:N\", \"cuda\" or \"cuda:N\", got \"{text}\""));
        None
    }

    pub(super) fn bytes(&self, key: &str) -> Option<u64> {
        let value = self.required(key, "\"64 MiB\"")?;
        let number = value.to_i128().and_then(|number| u64::try_from(number).ok());
        let bytes = value.as_str().and_then(parse_bytes).or(number);
        bytes.or_else(|| self.wrong(key, "a size such as \"64 MiB\"", value))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.chosen(key, &text, choices)
    }

    /// A list of words, none of them twice.
    pub(crate) fn choices<T: Copy + PartialEq>(&self, key: &str, choices: &[(&str, T)]) -> Option<Vec<T>> {
        let texts = self.texts(key)?;
        if let Some(twice) = (1..texts.len()).find(|i| texts[..*i].contains(&texts[*i])) {
            self.fault(key, format!("\"{}\" is given twice", texts[twice]));
        }
        if texts.is_empty() {
            self.fault(key, "expected at least one");
        }
        let chosen: Vec<_> = texts.iter().map(|text| self.chosen(key, text, choices)).collect();
        chosen.into_iter().collect()
    }

    /// What a word of a list means.
    pub(super) fn chosen<T: Copy>(&self, key: &str, text: &str, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            self.fault(key, one_of(text, choices.iter().map(|(word, _)| *word)));
        }
        found
    }

    /// A setting of a type that says by itself how it is read.
    pub(crate) fn typed<T: DeserializeOwned>(&self, key: &str, hint: &str) -> Option<T> {
        let value = self.required(key, hint)?;
        typed::read(self.context, &self.at(key), value, |reader| T::deserialize(reader))
    }

    pub(crate) fn optional_typed<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let value = self.get(key)?;
        typed::read(self.context, &self.at(key), value, |reader| T::deserialize(reader))
    }

    /// What nobody has asked for so far, as a type that says by itself how it is read.
    pub(super) fn rest<T>(&self, read: impl Fn(Reader<'_>) -> Result<T, typed::Error>) -> Option<T> {
        let is_left = |key: &String| !self.context.is_asked(&self.path, key);
        let left = self.values?.iter().filter(|(key, _)| is_left(key));
        let left: Dict = left.map(|(key, value)| (key.clone(), value.clone())).collect();
        typed::read(self.context, &self.path, &left.into(), read)
    }

    /// A table; an empty one if it is not given.
    pub(crate) fn section(&self, key: &str) -> Section<'a> {
        let values = match self.get(key) {
            Some(Value::Dict(_, values)) => Some(values),
            Some(other) => self.wrong(key, "a table", other),
            None => None,
        };
        Section::new(self.context, self.at(key), values)
    }

    /// A list of tables.
    pub(crate) fn sections(&self, key: &str, hint: &str) -> Option<Vec<Section<'a>>> {
        let items = match self.required(key, hint)? {
            Value::Array(_, items) => items.as_slice(),
            other => return self.wrong(key, "a list of tables", other),
        };
        let table = |(place, item): (usize, &'a Value)| {
            let path = index(&self.at(key), place);
            if item.as_dict().is_none() {
                self.context.fault(&path, format!("expected a table, got {}", describe(item)));
            }
            Section::new(self.context, path, item.as_dict())
        };
        Some(items.iter().enumerate().map(table).collect())
    }

    pub(crate) fn is_given(&self) -> bool {
        self.values.is_some()
    }

    /// The keys of the table in the order of the file.
    pub(super) fn keys(&self) -> Vec<&'a str> {
        let mut keys: Vec<&str> =
            self.values.into_iter().flat_map(|values| values.keys().map(String::as_str)).collect();
        keys.sort_by_key(|key| self.context.line(&self.at(key)));
        keys
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(&self) {
        self.context.refuse_unknown(&self.path, self.keys());
    }
}

/// Every variable by its name.
pub(crate) fn variables() -> Vec<(&'static str, Variable)> {
    Variable::ALL.iter().map(|variable| (variable.name(), *variable)).collect()
}

pub(super) fn number(value: &Value) -> Option<f64> {
    let whole = value.to_i128().map(|number| number as f64);
    whole.or_else(|| value.to_f64()).filter(|number| number.is_finite())
}

/// A value as a person wrote it.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("\"{text}\""),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(describe).collect::<Vec<_>>().join(", ")),
        other => serde_json::to_value(other).map_or_else(|_| "something else".to_owned(), |json| json.to_string()),
    }
}
