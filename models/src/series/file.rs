//! Weights files of series: safetensors with a header of their own, so that nobody takes them for models of fields.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, nn};

use super::{Mlp, SeriesSpec};
use crate::ModelError;
use crate::weights::{self, wrong};

/// Names this kind of file, with its version: the entry of its header that holds [`SeriesMetadata`] in JSON.
pub const FORMAT: &str = "squall-series-1";

/// What the entries of models of fields begin with.
const OF_FIELDS: &str = "squall-model-";

/// The model of a weights file, and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesMetadata {
    /// What the model is.
    pub spec: SeriesSpec,
    /// Files that it was trained on, and which part of their time.
    #[serde(default)]
    pub training_data: Vec<String>,
    /// How it was trained, in words.
    #[serde(default)]
    pub training: String,
    /// Version of Squall that wrote it.
    #[serde(default)]
    pub code_version: String,
}

/// Why a file holds no model of series.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesFileError {
    /// It holds a model of fields.
    #[error("it holds a model of fields; expected one of series, as squall series train writes it")]
    OfFields,
    /// Its header has no such entry.
    #[error("its header has no entry {FORMAT} (it has: {}); is it a model of series?", .found.join(", "))]
    NoEntry {
        /// What there is instead.
        found: Vec<String>,
    },
    /// The entry is not the JSON that it should be.
    #[error("header: {0}")]
    Json(#[from] serde_json::Error),
    /// The description contradicts itself; every fault is named.
    #[error("{}", .0.join("; "))]
    Spec(Vec<String>),
}

impl SeriesMetadata {
    fn from_entries(entries: &HashMap<String, String>) -> Result<Self, SeriesFileError> {
        let Some(entry) = entries.get(FORMAT) else {
            if entries.keys().any(|key| key.starts_with(OF_FIELDS)) {
                return Err(SeriesFileError::OfFields);
            }
            return Err(SeriesFileError::NoEntry { found: entries.keys().cloned().collect() });
        };
        let metadata: Self = serde_json::from_str(entry)?;
        match metadata.spec.faults() {
            faults if faults.is_empty() => Ok(metadata),
            faults => Err(SeriesFileError::Spec(faults)),
        }
    }
}

/// Writes a model, in f32. The file appears whole or not at all.
///
/// # Errors
/// [`ModelError::File`] if a parameter is missing or it cannot be written.
pub fn save(path: &Path, metadata: &SeriesMetadata, tensors: &BTreeMap<String, Tensor>) -> Result<(), ModelError> {
    let store = nn::VarStore::new(Device::Cpu);
    Mlp::new(&store.root(), metadata.spec.length(), metadata.spec.network);
    let shapes = store.variables().into_iter().map(|(name, tensor)| (name, tensor.size())).collect();
    let complete = SeriesMetadata { code_version: env!("CARGO_PKG_VERSION").to_owned(), ..metadata.clone() };
    let entry = serde_json::to_string(&complete).map_err(|e| wrong(path, e))?;
    weights::write(path, &shapes, tensors, Kind::Float, HashMap::from([(FORMAT.to_owned(), entry)]))
}

/// Reads a model: what the file says about itself, its digest in hex, and its network on a device.
///
/// # Errors
/// [`ModelError::File`] if it cannot be read, is no model of series, or lacks a parameter.
pub fn load(path: &Path, device: Device) -> Result<(SeriesMetadata, String, Mlp), ModelError> {
    let bytes = std::fs::read(path).map_err(|e| wrong(path, e))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(path, e))?;
    let entries = header.metadata().clone().unwrap_or_default();
    let metadata = SeriesMetadata::from_entries(&entries).map_err(|e| wrong(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(path, e))?;
    let mut store = nn::VarStore::new(Device::Cpu);
    let network = Mlp::new(&store.root(), metadata.spec.length(), metadata.spec.network);
    weights::fill(&store, &file).map_err(|e| wrong(path, e))?;
    store.freeze();
    store.set_device(device);
    Ok((metadata, hex::encode(Sha256::digest(&bytes)), network))
}
