//! Conversion of PyTorch checkpoints.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Kind, Tensor};

use super::{Metadata, parameters, pickle, save, wrong};
use crate::ModelError;

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Parameters written.
    pub parameters: usize,
    /// Tensors of the checkpoint that the model has no use for, such as schedules or optimizer state.
    pub unused: Vec<String>,
}

/// Converts a PyTorch checkpoint (`.ckpt` or `.pt`: a state dictionary, or one under `state_dict`) to a weights file.
///
/// Parameters are found by the names of [`crate::network`]. Nothing in the file is ever executed: only tensors,
/// numbers, texts and containers are read.
///
/// # Errors
/// [`ModelError::File`] if it is no such file, or lacks a parameter, or one has another shape; every one is named.
pub fn import(source: &Path, metadata: &Metadata, target: &Path, kind: Kind) -> Result<Imported, ModelError> {
    let bytes = std::fs::read(source).map_err(|e| wrong(source, e))?;
    let tensors: BTreeMap<String, Tensor> = pickle::state_dict(&bytes).map_err(|reason| wrong(source, reason))?;
    let wanted = parameters(&metadata.spec);
    let faults: Vec<String> = wanted
        .iter()
        .filter_map(|(name, shape)| match tensors.get(name).map(Tensor::size) {
            None => Some(format!("{name} is missing")),
            Some(found) if found != *shape => Some(format!("{name} has the shape {found:?}, expected {shape:?}")),
            Some(_) => None,
        })
        .collect();
    if !faults.is_empty() {
        let shown = faults.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
        return Err(wrong(source, format!("{} parameters do not fit: {shown}", faults.len())));
    }
    save(target, metadata, &tensors, kind)?;
    let unused = tensors.into_keys().filter(|name| !wanted.contains_key(name)).collect();
    Ok(Imported { parameters: wanted.len(), unused })
}
