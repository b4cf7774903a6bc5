//! What is wrong with a configuration, and where it says so.

use std::fmt;

use squall_fields::ErrorKind;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `file:line`, the name of an environment variable, or a flag.
    pub place: String,
    /// Path of the setting, such as `streams.rain.patience`; empty for the file as a whole.
    pub setting: String,
    /// What was expected and what came.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.setting.is_empty() {
            write!(f, "{}: {}", self.place, self.message)
        } else {
            write!(f, "{}: {}: {}", self.place, self.setting, self.message)
        }
    }
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// Who can help: whoever configured it.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::User
    }
}

/// `; did you mean "..."?` for the candidate that is nearest to a name, or nothing.
pub(super) fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let near = |candidate: &&str| strsim::damerau_levenshtein(name, candidate);
    match candidates.into_iter().min_by_key(near) {
        Some(best) if near(&best) <= 1 + name.len() / 4 => format!("; did you mean \"{best}\"?"),
        _ => String::new(),
    }
}

/// Longest list of names that a message gives.
const MOST: usize = 16;

/// Settings as they were written in earlier versions, and as they are written now.
const RENAMED: [(&str, &str); 2] =
    [("cadence_seconds", "cadence = \"5 min\""), ("checkpoint_seconds", "checkpoint_every = \"3 min\"")];

/// What is said of a setting that a table does not have; `known` are those that it has.
pub(super) fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some((_, now)) = RENAMED.iter().find(|(before, _)| *before == key) {
        return format!("there is no such setting; it is written like {now} now");
    }
    let near = suggestion(key, known.clone());
    match known.clone().count() {
        1..=MOST if near.is_empty() => format!("there is no such setting; there are {}", quoted(known)),
        _ => format!("there is no such setting{near}"),
    }
}

/// What is said of a word that is none of those that are possible.
pub(super) fn one_of<'a>(word: &str, possible: impl Iterator<Item = &'a str> + Clone) -> String {
    format!("expected one of {}, got \"{word}\"{}", quoted(possible.clone()), suggestion(word, possible))
}

/// Names in quotation marks, separated by commas.
pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
