//! A TOML file as a tree of values that remembers the line of every key.

use std::collections::BTreeMap;
use std::ops::Range;

use figment::value::{Dict, Value};
use toml_edit::{Document, Item, TableLike};

use super::fault::Fault;

/// Lists of tables that are addressed by the name of each: `[[streams]] name = "rain"` is `streams.rain`.
pub(super) const NAMED: [&str; 2] = ["sources", "streams"];

/// The values of one file and where they stand.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) values: Dict,
    /// Line (from 1) of each path.
    pub(super) lines: BTreeMap<String, usize>,
    /// What is wrong already: syntax, tables without a name, names given twice.
    pub(super) faults: Vec<Fault>,
}

impl File {
    /// Reads TOML; faults are kept, not returned, so that the other layers' are reported with them.
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let mut file = Self::default();
        match Document::parse(text) {
            Ok(document) => {
                let mut walk = Walk { name, text, file: &mut file };
                let values = walk.table(document.as_table(), "");
                file.values = values;
            }
            Err(error) => {
                let line = error.span().map_or(1, |span| line_at(text, span.start));
                let message = error.message().trim().replace('\n', "; ");
                file.faults.push(Fault { place: format!("{name}:{line}"), setting: String::new(), message });
            }
        }
        file
    }

    /// The line of a path, or of the nearest table around it.
    pub(super) fn line(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 1,
            }
        }
    }
}

fn line_at(text: &str, byte: usize) -> usize {
    1 + text.as_bytes()[..byte.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of an item of a list.
pub(super) fn index(path: &str, place: usize) -> String {
    format!("{path}[{place}]")
}

struct Walk<'a> {
    name: &'a str,
    text: &'a str,
    file: &'a mut File,
}

impl Walk<'_> {
    fn mark(&mut self, path: &str, span: Option<Range<usize>>) {
        if let Some(span) = span {
            self.file.lines.entry(path.to_owned()).or_insert(line_at(self.text, span.start));
        }
    }

    fn fault(&mut self, path: &str, message: String) {
        let place = format!("{}:{}", self.name, self.file.line(path));
        self.file.faults.push(Fault { place, setting: path.to_owned(), message });
    }

    fn table(&mut self, table: &dyn TableLike, path: &str) -> Dict {
        let mut values = Dict::new();
        for (key, item) in table.iter() {
            let here = join(path, key);
            self.mark(&here, table.get_key_value(key).and_then(|(key, _)| key.span()).or_else(|| item.span()));
            let named = path.is_empty() && NAMED.contains(&key);
            let value = if named { self.named(item, &here) } else { self.item(item, &here) };
            values.extend(value.map(|value| (key.to_owned(), value)));
        }
        values
    }

    fn item(&mut self, item: &Item, path: &str) -> Option<Value> {
        if let Some(table) = item.as_table_like() {
            return Some(self.table(table, path).into());
        }
        if let Some(tables) = item.as_array_of_tables() {
            let mut table = |(place, table): (usize, &toml_edit::Table)| -> Value {
                let here = index(path, place);
                self.mark(&here, table.span());
                self.table(table, &here).into()
            };
            return Some(tables.iter().enumerate().map(&mut table).collect::<Vec<Value>>().into());
        }
        item.as_value().map(|value| self.value(value, path))
    }

    fn value(&mut self, value: &toml_edit::Value, path: &str) -> Value {
        match value {
            toml_edit::Value::Array(array) => {
                let mut item = |(place, item): (usize, &toml_edit::Value)| {
                    let here = index(path, place);
                    self.mark(&here, item.span());
                    self.value(item, &here)
                };
                array.iter().enumerate().map(&mut item).collect::<Vec<Value>>().into()
            }
            toml_edit::Value::InlineTable(table) => self.table(table, path).into(),
            scalar => from_scalar(scalar),
        }
    }

    /// A list of tables with names, as one table by name.
    fn named(&mut self, item: &Item, path: &str) -> Option<Value> {
        let mut values = Dict::new();
        if let Some(tables) = item.as_array_of_tables() {
            for table in tables {
                self.entry(&mut values, path, table, table.span());
            }
        } else if let Some(array) = item.as_array() {
            for value in array {
                match value.as_inline_table() {
                    Some(table) => self.entry(&mut values, path, table, table.span()),
                    None => self.fault(path, format!("expected tables, got {}", value.type_name())),
                }
            }
        } else {
            return self.item(item, path);
        }
        Some(values.into())
    }

    fn entry(&mut self, values: &mut Dict, path: &str, table: &dyn TableLike, span: Option<Range<usize>>) {
        let Some(name) = table.get("name").and_then(Item::as_str).map(str::to_owned) else {
            self.mark(&join(path, "?"), span);
            self.fault(&join(path, "?"), "name is missing: expected name = \"...\"".into());
            self.file.lines.remove(&join(path, "?"));
            return;
        };
        let here = join(path, &name);
        if values.contains_key(&name) {
            let line = self.file.line(&here);
            let place = format!("{}:{}", self.name, span.map_or(1, |span| line_at(self.text, span.start)));
            let message = format!("the name is given twice; the first is in line {line}");
            self.file.faults.push(Fault { place, setting: here, message });
            return;
        }
        self.mark(&here, span);
        let entry = self.table(table, &here);
        values.insert(name, entry.into());
    }
}

/// A TOML scalar as a figment value; dates are kept as text.
pub(super) fn from_scalar(value: &toml_edit::Value) -> Value {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => text.value().as_str().into(),
        Toml::Integer(number) => (*number.value()).into(),
        Toml::Float(number) => (*number.value()).into(),
        Toml::Boolean(flag) => (*flag.value()).into(),
        Toml::Datetime(date) => date.value().to_string().into(),
        Toml::Array(array) => array.iter().map(from_scalar).collect::<Vec<_>>().into(),
        Toml::InlineTable(table) => {
            let entries = table.iter().map(|(key, value)| (key.to_owned(), from_scalar(value)));
            entries.collect::<Dict>().into()
        }
    }
}
