//! What a weights file says about itself.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use squall_fields::Variable;

use super::version1;
use crate::ModelSpec;

/// Names this kind of file, with its version: the entry of its header that holds [`Metadata`] in JSON.
pub const FORMAT: &str = "squall-model-3";
/// Files of before `missing_guess` and `extra`, which they lack: [`ModelSpec`] reads them as they were meant.
const VERSION_2: &str = "squall-model-2";

/// The model of a weights file, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// What the model is.
    pub spec: ModelSpec,
    /// Unit of each variable, as CF writes it; always that of [`Variable::unit`].
    #[serde(default)]
    pub units: Vec<String>,
    /// Events that it was trained on.
    #[serde(default)]
    pub training_data: Vec<String>,
    /// How it was trained, in words: steps, batch, loss, scores.
    #[serde(default)]
    pub training: String,
    /// Version of Squall that wrote it.
    #[serde(default)]
    pub code_version: String,
}

/// Why the header of a file describes no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// There is no such entry.
    #[error(
        "its header has no entry {}, {VERSION_2} or {FORMAT} (it has: {}); is it a Squall model?",
        version1::FORMAT,
        .found.join(", ")
    )]
    NoEntry {
        /// What there is instead.
        found: Vec<String>,
    },
    /// It holds a model of [`crate::series`].
    #[error("it holds a model of series at places (squall series forecast); expected one of fields")]
    OfSeries,
    /// The entry is not the JSON that it should be.
    #[error("header: {0}")]
    Json(#[from] serde_json::Error),
    /// Units differ from those of the variables.
    #[error("has the units {found:?}, {expected:?} was expected")]
    Units {
        /// What the file says.
        found: Vec<String>,
        /// What its variables have.
        expected: Vec<String>,
    },
    /// The description contradicts itself; every fault is named.
    #[error("{}", .0.join("; "))]
    Spec(Vec<String>),
}

impl Metadata {
    /// Of a model from nowhere yet.
    pub fn of(spec: ModelSpec) -> Self {
        let (training_data, training) = (Vec::new(), String::new());
        Self { spec, units: Vec::new(), training_data, training, code_version: String::new() }
    }

    /// From JSON as [`Metadata`] or as files of version 1 had it.
    ///
    /// # Errors
    /// [`MetadataError::Json`] if it is neither.
    pub fn from_json(text: &str) -> Result<Self, MetadataError> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        // Read again from the text, whose lines an error then names.
        if value.get("spec").is_some() { Ok(serde_json::from_str(text)?) } else { version1::metadata(text) }
    }

    /// As the one entry of a safetensors header: several would be written in random order, and so change the digest.
    pub(super) fn entries(&self) -> Result<HashMap<String, String>, MetadataError> {
        let mut complete = self.clone();
        complete.units = self.spec.variables.iter().map(|v| unit_name(*v)).collect();
        complete.code_version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(HashMap::from([(FORMAT.to_owned(), serde_json::to_string(&complete)?)]))
    }

    /// From the entries of a safetensors header.
    pub(super) fn from_entries(entries: &HashMap<String, String>) -> Result<Self, MetadataError> {
        let newest = entries.get(FORMAT).or_else(|| entries.get(VERSION_2));
        let metadata: Self = match (newest, entries.get(version1::FORMAT)) {
            (Some(entry), _) => serde_json::from_str(entry)?,
            (None, Some(entry)) => version1::metadata(entry)?,
            (None, None) if entries.contains_key(crate::series::file::FORMAT) => return Err(MetadataError::OfSeries),
            (None, None) => return Err(MetadataError::NoEntry { found: entries.keys().cloned().collect() }),
        };
        let expected: Vec<String> = metadata.spec.variables.iter().map(|v| unit_name(*v)).collect();
        if metadata.units != expected {
            return Err(MetadataError::Units { found: metadata.units, expected });
        }
        match metadata.spec.faults() {
            faults if faults.is_empty() => Ok(metadata),
            faults => Err(MetadataError::Spec(faults)),
        }
    }
}

fn unit_name(variable: Variable) -> String {
    match serde_json::to_value(variable.unit()) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a unit is written as text, not as {other:?}"),
    }
}
