//! A run on disk: weights, average, optimizer state, step and configuration in one safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::TrainingError;
use super::config::Task;
use super::version1;
use crate::ModelSpec;

const FORMAT: &str = "squall-checkpoint-3";
/// Those of before a model said what stands in for a missing first guess, which [`ModelSpec`] reads as they were meant.
const VERSION_2: &str = "squall-checkpoint-2";
/// The entry of a run that started from the weights of another model.
const PARENT: &str = "parent";

/// The model whose weights a run started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Events that it was trained on, itself or a parent of its own.
    pub training_data: Vec<String>,
}

/// A saved run.
#[derive(Debug)]
pub struct Checkpoint {
    /// What is trained and how, with what was fitted.
    pub task: Task,
    /// Steps done.
    pub step: u64,
    /// Whose weights it started from, if from any.
    pub parent: Option<Parent>,
    /// By `group/name`, all f32.
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Checkpoint {
    /// Without tensors.
    pub(super) fn new(task: Task, step: u64) -> Self {
        Self { task, step, parent: None, tensors: BTreeMap::new() }
    }

    /// Adds a group of tensors.
    pub(super) fn add(&mut self, group: &str, tensors: &BTreeMap<String, Tensor>) {
        for (name, tensor) in tensors {
            let shape = tensor.size().iter().map(|n| *n as usize).collect();
            let flat = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).flatten(0, -1).contiguous();
            let mut values = vec![0f32; flat.numel()];
            let count = values.len();
            flat.copy_data(&mut values, count);
            self.tensors.insert(format!("{group}/{name}"), (shape, values));
        }
    }

    /// Fills a group of tensors.
    pub(super) fn restore(&self, group: &str, into: &mut BTreeMap<String, Tensor>) -> Result<(), TrainingError> {
        let wrong = |reason: String| TrainingError::Checkpoint { path: format!("group {group}"), reason };
        for (name, tensor) in into.iter_mut() {
            let found = self.tensors.get(&format!("{group}/{name}"));
            let (shape, values) = found.ok_or_else(|| wrong(format!("{name} is missing")))?;
            let expected: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
            if *shape != expected {
                return Err(wrong(format!("{name} has the shape {shape:?}, {expected:?} was expected")));
            }
            let value = Tensor::from_slice(values).reshape(tensor.size());
            tch::no_grad(|| tensor.copy_(&value));
        }
        Ok(())
    }

    /// The averaged weights, f32, by name.
    pub fn averaged(&self) -> BTreeMap<String, Tensor> {
        self.group("ema")
    }

    /// The tensors of a group, f32, by name.
    pub(super) fn group(&self, group: &str) -> BTreeMap<String, Tensor> {
        let of_group = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
            let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
            let name = name.strip_prefix(group)?.strip_prefix('/')?;
            Some((name.to_owned(), Tensor::from_slice(values).reshape(shape)))
        };
        self.tensors.iter().filter_map(of_group).collect()
    }

    /// Writes it beside its place and moves it there, so that a crash leaves the old one whole.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainingError> {
        let wrong = |reason: String| TrainingError::Checkpoint { path: path.display().to_string(), reason };
        let task = serde_json::to_string(&self.task).map_err(|e| wrong(e.to_string()))?;
        let mut metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("task".to_owned(), task),
            ("step".to_owned(), self.step.to_string()),
        ]);
        if let Some(parent) = &self.parent {
            let parent = serde_json::to_string(parent).map_err(|e| wrong(e.to_string()))?;
            metadata.insert(PARENT.to_owned(), parent);
        }
        let mut views = Vec::with_capacity(self.tensors.len());
        for (name, (shape, values)) in &self.tensors {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
            views.push((name.clone(), view.map_err(|e| wrong(e.to_string()))?));
        }
        let temporary = path.with_extension("partial");
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| wrong(e.to_string()))?;
        std::fs::write(&temporary, bytes).map_err(|e| wrong(e.to_string()))?;
        std::fs::rename(&temporary, path).map_err(|e| wrong(e.to_string()))
    }

    /// Reads one. Checkpoints of version 1 did not say all that a [`ModelSpec`] says: what one lacks is taken from
    /// `asked`, the model that the run is to go on with.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] if it is none.
    pub fn load(path: &Path, asked: &ModelSpec) -> Result<Self, TrainingError> {
        let wrong = |reason: String| TrainingError::Checkpoint { path: path.display().to_string(), reason };
        let bytes = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(e.to_string()))?;
        // A file without entries is refused like one with others.
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |key: &str| metadata.get(key).ok_or_else(|| wrong(format!("has no {key}; is it a checkpoint?")));
        let task = match entry("format")?.as_str() {
            FORMAT | VERSION_2 => serde_json::from_str(entry("task")?),
            version1::FORMAT => version1::task(entry("config")?, asked),
            other => return Err(wrong(format!("has the format {other}, {FORMAT} was expected"))),
        };
        let task = task.map_err(|e| wrong(e.to_string()))?;
        let step = entry("step")?.parse().map_err(|_| wrong("its step is no number".to_owned()))?;
        let parent = metadata.get(PARENT).map(|text| serde_json::from_str(text)).transpose();
        let parent = parent.map_err(|e| wrong(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| wrong(e.to_string()))?;
        let values = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let tensors =
            file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(view.data())))).collect();
        Ok(Self { task, step, parent, tensors })
    }
}
