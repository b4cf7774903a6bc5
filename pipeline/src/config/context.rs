//! The merged layers while they are read: what was asked for, and the faults found so far.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::value::{Dict, Value};

use super::fault::{Fault, Faults, unknown};
use super::file::File;
use super::section::Section;

/// The merged layers, and the faults found so far.
pub(crate) struct Context<'a> {
    figment: &'a Figment,
    root: Dict,
    name: &'a str,
    file: &'a File,
    faults: RefCell<Vec<Fault>>,
    /// The settings that were asked for, by the path of their table: all that there are.
    asked: RefCell<BTreeMap<String, BTreeSet<String>>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(figment: &'a Figment, name: &'a str, file: &'a File, faults: Vec<Fault>) -> Self {
        let (faults, asked) = (RefCell::new(faults), RefCell::default());
        let context = Self { figment, root: Dict::new(), name, file, faults, asked };
        match figment.extract::<Value>() {
            Ok(Value::Dict(_, root)) => Self { root, ..context },
            Ok(_) => context,
            Err(error) => {
                context.fault("", error.to_string());
                context
            }
        }
    }

    /// Notes a fault of a setting at the place that gives it, once.
    pub(crate) fn fault(&self, setting: &str, message: impl Into<String>) {
        let fault = Fault { place: self.place(setting), setting: setting.to_owned(), message: message.into() };
        let mut faults = self.faults.borrow_mut();
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }

    fn place(&self, setting: &str) -> String {
        let given = find_in(&self.root, setting).and_then(|value| self.figment.get_metadata(value.tag()));
        match given {
            Some(metadata) if metadata.name != self.name && !metadata.name.starts_with("built-in") => {
                metadata.name.to_string()
            }
            _ => format!("{}:{}", self.name, self.file.line(setting)),
        }
    }

    /// Notes that a table may have a setting.
    pub(super) fn ask(&self, table: &str, key: &str) {
        self.asked.borrow_mut().entry(table.to_owned()).or_default().insert(key.to_owned());
    }

    /// Whether a table may have a setting.
    pub(super) fn is_asked(&self, table: &str, key: &str) -> bool {
        self.asked.borrow().get(table).is_some_and(|keys| keys.contains(key))
    }

    /// Notes those settings of a table that nobody asked for.
    pub(super) fn refuse_unknown<'k>(&self, table: &str, keys: impl IntoIterator<Item = &'k str>) {
        let none = BTreeSet::new();
        let asked = self.asked.borrow();
        let known = asked.get(table).unwrap_or(&none);
        for key in keys.into_iter().filter(|key| !known.contains(*key)) {
            self.fault(&super::file::join(table, key), unknown(key, known.iter().map(String::as_str)));
        }
    }

    /// A file that a setting names: from the working folder, or else from the folder of the configuration.
    pub(crate) fn existing(&self, file: &str) -> Option<PathBuf> {
        let beside = Path::new(self.name).parent().map(|folder| folder.join(file));
        [Some(PathBuf::from(file)), beside].into_iter().flatten().find(|path| path.is_file())
    }

    /// Line of a setting in the file, for keeping its order.
    pub(super) fn line(&self, setting: &str) -> usize {
        self.file.line(setting)
    }

    pub(crate) fn root(&'a self) -> Section<'a> {
        Section::new(self, String::new(), Some(&self.root))
    }

    /// The settings that were asked for, each with the path of its table.
    #[cfg(test)]
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let asked = self.asked.borrow();
        asked.iter().flat_map(|(table, keys)| keys.iter().map(|key| (table.clone(), key.clone()))).collect()
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

fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let path = path.strip_prefix('.').unwrap_or(path);
    match value {
        _ if path.is_empty() => Some(value),
        Value::Dict(_, dict) => find_in(dict, path),
        Value::Array(_, items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            find(items.get(index.parse::<usize>().ok()?)?, rest)
        }
        _ => None,
    }
}

/// The value at a path such as `data.train[1].file`.
fn find_in<'v>(dict: &'v Dict, path: &str) -> Option<&'v Value> {
    // A name may hold dots: take the longest key that leads on.
    let leads_on =
        |key: &str| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    let (key, value) = dict.iter().filter(|(key, _)| leads_on(key)).max_by_key(|(key, _)| key.len())?;
    find(value, &path[key.len()..])
}
