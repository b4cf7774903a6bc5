//! Weights files: safetensors whose header says everything that is needed to run them.
//!
//! Tensors have the names of published checkpoints ([`UNET_PREFIX`], [`AUTOENCODER_PREFIX`]), so a PyTorch checkpoint
//! converts by name alone ([`mod@import`]). They may be stored in half the bits; they are computed with in the type that
//! the device wants.

pub mod import;
pub mod metadata;
mod pickle;
mod version1;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use squall_fields::error::AnyError;
use tch::{Kind, Tensor, nn};

use crate::device::ComputeDevice;
use crate::network::config::{AUTOENCODER_PREFIX, PREDICTOR_PREFIX, UNET_PREFIX};
use crate::network::layers::lay_out_for_inference;
use crate::network::{Autoencoder, VideoUNet};
use crate::{ModelError, ModelSpec};

pub use import::import;
pub use metadata::{Metadata, MetadataError};

/// A weights file opened: its networks on a device.
#[derive(Debug)]
pub struct Model {
    /// What the file says about itself.
    pub metadata: Metadata,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// The denoising network.
    pub network: VideoUNet,
    /// The predictive stream, of a model that has one.
    pub predictor: Option<VideoUNet>,
    /// Of a latent model. Always in f32.
    pub autoencoder: Option<Autoencoder>,
}

/// A summary of a weights file, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// What the file says about itself.
    pub metadata: Metadata,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Types that they are stored in.
    pub storage: Vec<String>,
    /// Size of the file.
    pub bytes: usize,
}

/// Why a parameter cannot be taken from where it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error("parameter {name} is missing")]
    Missing { name: String },
    #[error("parameter {name} has the shape {found:?}, {expected:?} was expected")]
    Shape { name: String, found: Vec<i64>, expected: Vec<i64> },
    #[error("parameter {name} is stored as {found:?}; F32, F16 or BF16 was expected")]
    Type { name: String, found: Dtype },
}

pub(crate) fn wrong(path: &Path, reason: impl Into<AnyError>) -> ModelError {
    ModelError::file(path.display().to_string(), reason)
}

/// Writes a model; `kind` (`Float`, `Half` or `BFloat16`) is the type of its tensors in the file.
///
/// The file appears whole or not at all.
///
/// # Errors
/// [`ModelError::File`] if the metadata does not fit together, a parameter is missing, or it cannot be written.
pub fn save(
    path: &Path,
    metadata: &Metadata,
    tensors: &BTreeMap<String, Tensor>,
    kind: Kind,
) -> Result<(), ModelError> {
    let faults = metadata.spec.faults();
    if !faults.is_empty() {
        return Err(wrong(path, faults.join("; ")));
    }
    let entries = metadata.entries().map_err(|e| wrong(path, e))?;
    write(path, &parameters(&metadata.spec), tensors, kind, entries)
}

/// Writes parameters of these names and shapes, and the entries of the header.
pub(crate) fn write(
    path: &Path,
    shapes: &BTreeMap<String, Vec<i64>>,
    tensors: &BTreeMap<String, Tensor>,
    kind: Kind,
    entries: HashMap<String, String>,
) -> Result<(), ModelError> {
    let mut stored = Vec::new();
    for (name, shape) in shapes {
        let name = name.clone();
        let Some(tensor) = tensors.get(&name) else { return Err(wrong(path, ParameterError::Missing { name })) };
        if tensor.size() != *shape {
            return Err(wrong(path, ParameterError::Shape { name, found: tensor.size(), expected: shape.clone() }));
        }
        let shape: Vec<usize> = shape.iter().map(|n| *n as usize).collect();
        stored.push((name, shape, bytes_of(tensor, kind)));
    }
    let dtype = match kind {
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        _ => Dtype::F32,
    };
    let mut views = Vec::with_capacity(stored.len());
    for (name, shape, bytes) in &stored {
        let view = TensorView::new(dtype, shape.clone(), bytes).map_err(|e| wrong(path, e))?;
        views.push((name.as_str(), view));
    }
    let temporary = path.with_extension("partial");
    // Not by the library's own call, which makes files that nobody else can read.
    let bytes = safetensors::serialize(views, Some(entries)).map_err(|e| wrong(path, e))?;
    std::fs::write(&temporary, bytes).map_err(|e| wrong(path, e))?;
    std::fs::rename(&temporary, path).map_err(|e| wrong(path, e))
}

fn bytes_of(tensor: &Tensor, kind: Kind) -> Vec<u8> {
    let kind = if matches!(kind, Kind::Half | Kind::BFloat16) { kind } else { Kind::Float };
    let tensor = tensor.detach().to_device(tch::Device::Cpu).to_kind(kind).contiguous();
    let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Names and shapes of all parameters of a model.
fn parameters(spec: &ModelSpec) -> BTreeMap<String, Vec<i64>> {
    let store = nn::VarStore::new(tch::Device::Cpu);
    networks(&store, spec);
    if let Some(config) = &spec.autoencoder {
        Autoencoder::new(&at(&store, AUTOENCODER_PREFIX), config);
    }
    store.variables().into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
}

/// The denoising network and the predictive stream, if there is one, all zero.
pub(crate) fn networks(store: &nn::VarStore, spec: &ModelSpec) -> (VideoUNet, Option<VideoUNet>) {
    let predictor = spec.predictor.as_ref().map(|config| VideoUNet::new(&at(store, PREDICTOR_PREFIX), config));
    (VideoUNet::new(&at(store, UNET_PREFIX), &spec.network), predictor)
}

/// The place in a store that a dotted prefix names.
pub fn at<'a>(store: &'a nn::VarStore, prefix: &str) -> nn::Path<'a> {
    prefix.split('.').fold(store.root(), |path, part| path / part)
}

/// Reads the header alone.
///
/// # Errors
/// [`ModelError::File`] if it cannot be read or is no model.
pub fn describe(path: &Path) -> Result<Description, ModelError> {
    let bytes = std::fs::read(path).map_err(|e| wrong(path, e))?;
    let metadata = header(path, &bytes)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(path, e))?;
    let mut storage: Vec<String> = file.iter().map(|(_, view)| format!("{:?}", view.dtype())).collect();
    storage.sort();
    storage.dedup();
    Ok(Description {
        metadata,
        digest: hex::encode(Sha256::digest(&bytes)),
        parameters: file.iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum(),
        storage,
        bytes: bytes.len(),
    })
}

fn header(path: &Path, bytes: &[u8]) -> Result<Metadata, ModelError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| wrong(path, e))?;
    // A file without entries is refused like one with others.
    let entries: HashMap<String, String> = header.metadata().clone().unwrap_or_default();
    Metadata::from_entries(&entries).map_err(|reason| wrong(path, reason))
}

/// Reads every parameter but those of an autoencoder, f32, by name, and what the file says about itself.
///
/// # Errors
/// As [`Model::load`].
pub fn read(path: &Path) -> Result<(Metadata, BTreeMap<String, Tensor>), ModelError> {
    let bytes = std::fs::read(path).map_err(|e| wrong(path, e))?;
    let metadata = header(path, &bytes)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(path, e))?;
    let store = nn::VarStore::new(tch::Device::Cpu);
    networks(&store, &metadata.spec);
    fill(&store, &file).map_err(|reason| wrong(path, reason))?;
    let parameters = store.variables().into_iter().map(|(name, tensor)| (name, tensor.detach())).collect();
    Ok((metadata, parameters))
}

impl Model {
    /// Opens a file on a device.
    ///
    /// # Errors
    /// [`ModelError::File`] if it cannot be read, is no model, or lacks a parameter.
    pub fn load(path: &Path, device: ComputeDevice) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|e| wrong(path, e))?;
        let metadata = header(path, &bytes)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(path, e))?;
        let mut store = nn::VarStore::new(tch::Device::Cpu);
        let (network, predictor) = networks(&store, &metadata.spec);
        fill(&store, &file).map_err(|reason| wrong(path, reason))?;
        store.freeze();
        store.set_kind(device.kind);
        store.set_device(device.device);
        lay_out_for_inference(&store);
        let mut store = nn::VarStore::new(tch::Device::Cpu);
        let autoencoder = metadata.spec.autoencoder.as_ref();
        let autoencoder = autoencoder.map(|config| Autoencoder::new(&at(&store, AUTOENCODER_PREFIX), config));
        fill(&store, &file).map_err(|reason| wrong(path, reason))?;
        store.freeze();
        store.set_device(device.device);
        Ok(Self { metadata, digest: hex::encode(Sha256::digest(&bytes)), network, predictor, autoencoder })
    }
}

/// Fills every parameter of a store from a file.
pub(crate) fn fill(store: &nn::VarStore, file: &SafeTensors) -> Result<(), ParameterError> {
    for (name, mut parameter) in store.variables() {
        let Ok(view) = file.tensor(&name) else { return Err(ParameterError::Missing { name }) };
        let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
        if shape != parameter.size() {
            return Err(ParameterError::Shape { name, found: shape, expected: parameter.size() });
        }
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            found => return Err(ParameterError::Type { name, found }),
        };
        let value = Tensor::from_data_size(view.data(), &shape, kind);
        tch::no_grad(|| parameter.copy_(&value));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
