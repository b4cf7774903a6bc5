//! Reading one table of the merged layers, noting each fault and going on.
//!
//! serde stops at the first fault; a person wants them all. So a table is read key by key: a key that is
//! missing, of the wrong type or out of range is noted with its place and gives `None`, and a key that
//! nobody asked for is noted when the table is finished.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::value::{Dict, Value};

use super::fault::{Fault, Faults, quoted, suggestion};
use super::file::{File, join};
use super::quantity::{parse_bytes, parse_duration};

/// The merged layers, and the faults found so far.
pub(super) struct Context<'a> {
    figment: &'a Figment,
    pub(super) root: Dict,
    name: &'a str,
    file: &'a File,
    faults: RefCell<Vec<Fault>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(figment: &'a Figment, name: &'a str, file: &'a File, faults: Vec<Fault>) -> Self {
        let context = Self { figment, root: Dict::new(), name, file, faults: RefCell::new(faults) };
        match figment.extract::<Value>() {
            Ok(Value::Dict(_, root)) => Self { root, ..context },
            Ok(_) => context,
            Err(error) => {
                context.fault("", error.to_string());
                context
            }
        }
    }

    /// Notes a fault of a setting at the place that gives it.
    pub(super) fn fault(&self, setting: &str, message: impl Into<String>) {
        let place = self.place(setting);
        self.faults.borrow_mut().push(Fault { place, setting: setting.to_owned(), message: message.into() });
    }

    fn place(&self, setting: &str) -> String {
        let given = find(&self.root, setting).and_then(|value| self.figment.get_metadata(value.tag()));
        match given {
            Some(metadata) if metadata.name != self.name && !metadata.name.starts_with("built-in") => {
                metadata.name.to_string()
            }
            _ => format!("{}:{}", self.name, self.file.line(setting)),
        }
    }

    /// A file that a setting names: from the working folder, or else from the folder of the configuration.
    pub(super) fn existing(&self, file: &str) -> Option<PathBuf> {
        let beside = Path::new(self.name).parent().map(|folder| folder.join(file));
        [Some(PathBuf::from(file)), beside].into_iter().flatten().find(|path| path.is_file())
    }

    /// Line of a setting in the file, for keeping its order.
    pub(super) fn line(&self, setting: &str) -> usize {
        self.file.line(setting)
    }

    pub(super) fn root(&'a self) -> Section<'a> {
        Section { context: self, path: String::new(), values: Some(&self.root), known: RefCell::default() }
    }

    /// `Ok` if nothing was noted; faults are sorted by the lines they stand in.
    pub(super) fn finish<T>(self, result: Option<T>) -> Result<T, Faults> {
        let mut faults = self.faults.into_inner();
        if let (Some(result), true) = (result, faults.is_empty()) {
            return Ok(result);
        }
        if faults.is_empty() {
            let message = "the configuration is not complete".to_owned();
            faults.push(Fault { place: self.name.to_owned(), setting: String::new(), message });
        }
        let line = |fault: &Fault| fault.place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok());
        faults.sort_by_key(|fault| line(fault).unwrap_or(usize::MAX));
        Err(Faults(faults))
    }
}

fn find<'v>(root: &'v Dict, path: &str) -> Option<&'v Value> {
    let mut dict = root;
    let mut rest = path;
    loop {
        if let Some(value) = dict.get(rest) {
            return Some(value);
        }
        // A name may hold dots: take the longest key that is a prefix.
        let key = dict.keys().filter(|key| rest.strip_prefix(key.as_str()).is_some_and(|r| r.starts_with('.')));
        let key = key.max_by_key(|key| key.len())?;
        dict = dict.get(key)?.as_dict()?;
        rest = &rest[key.len() + 1..];
    }
}

/// One table.
pub(super) struct Section<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) path: String,
    values: Option<&'a Dict>,
    known: RefCell<Vec<String>>,
}

impl<'a> Section<'a> {
    pub(super) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        let setting = if key.is_empty() { self.path.clone() } else { self.at(key) };
        self.context.fault(&setting, message);
    }

    /// The value of a key if it is given.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.known.borrow_mut().push(key.to_owned());
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

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.as_text(key, self.required(key, "\"...\"")?)
    }

    pub(super) fn optional_text(&self, key: &str) -> Option<String> {
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

    pub(super) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
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

    pub(super) fn numbers(&self, key: &str) -> Option<Vec<f32>> {
        let value = self.get(key)?;
        let numbers = match value {
            Value::Array(_, items) => items.iter().map(|item| number(item).map(|n| n as f32)).collect(),
            _ => None,
        };
        numbers.or_else(|| self.wrong(key, "a list of finite numbers", value))
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let value = self.required(key, "[\"...\"]")?;
        let texts = match value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        texts.or_else(|| self.wrong(key, "a list of texts", value))
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        self.as_duration(key, self.required(key, "\"5 min\"")?)
    }

    pub(super) fn optional_duration(&self, key: &str) -> Option<Duration> {
        self.as_duration(key, self.get(key)?)
    }

    fn as_duration(&self, key: &str, value: &Value) -> Option<Duration> {
        let duration = value.as_str().and_then(parse_duration);
        duration.or_else(|| self.wrong(key, "a duration such as \"5 min\"", value))
    }

    pub(super) fn bytes(&self, key: &str) -> Option<u64> {
        let value = self.required(key, "\"64 MiB\"")?;
        let number = value.to_i128().and_then(|number| u64::try_from(number).ok());
        let bytes = value.as_str().and_then(parse_bytes).or(number);
        bytes.or_else(|| self.wrong(key, "a size such as \"64 MiB\"", value))
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        self.chosen(key, &text, choices)
    }

    /// What a word of a list means.
    pub(super) fn chosen<T: Copy>(&self, key: &str, text: &str, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let words = || choices.iter().map(|(word, _)| *word);
            let near = suggestion(text, words());
            self.fault(key, format!("expected one of {}, got \"{text}\"{near}", quoted(words())));
        }
        found
    }

    /// A table; an empty one if it is not given.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let values = match self.get(key) {
            Some(Value::Dict(_, values)) => Some(values),
            Some(other) => self.wrong(key, "a table", other),
            None => None,
        };
        Section { context: self.context, path: self.at(key), values, known: RefCell::default() }
    }

    pub(super) fn is_given(&self) -> bool {
        self.values.is_some()
    }

    /// The keys of the table in the order of the file.
    pub(super) fn keys(&self) -> Vec<&'a str> {
        let mut keys: Vec<&str> =
            self.values.into_iter().flat_map(|values| values.keys().map(String::as_str)).collect();
        keys.sort_by_key(|key| self.context.line(&self.at(key)));
        keys
    }

    /// The entries that nobody asked for, as JSON: the parameters of a model.
    pub(super) fn rest(&self) -> serde_json::Map<String, serde_json::Value> {
        let known = self.known.borrow();
        let values = self.values.into_iter().flatten().filter(|(key, _)| !known.contains(key));
        values.filter_map(|(key, value)| Some((key.clone(), serde_json::to_value(value).ok()?))).collect()
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for key in self.keys() {
            if !known.iter().any(|k| k == key) {
                let near = suggestion(key, known.iter().map(String::as_str));
                self.fault(key, format!("there is no such setting{near}"));
            }
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    let whole = value.to_i128().map(|number| number as f64);
    whole.or_else(|| value.to_f64()).filter(|number| number.is_finite())
}

/// A value as a person wrote it.
fn describe(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("\"{text}\""),
        Value::Dict(..) => "a table".to_owned(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(describe).collect::<Vec<_>>().join(", ")),
        other => serde_json::to_value(other).map_or_else(|_| "something else".to_owned(), |json| json.to_string()),
    }
}
