//! The models of a configuration, each on the thread of its device.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use squall_models::diffusion::{DiffusionForecaster, Options};
use squall_models::{Context, Forecaster, baselines};
use squall_operators::infer::device::{BatchPolicy, Device, ModelSlot};

use crate::config::{Config, ModelConfig, SourceConfig, StreamConfig};

/// Makes the model of a stream.
pub type ModelFactory = dyn Fn(&StreamConfig, &SourceConfig) -> anyhow::Result<Box<dyn Forecaster>> + Send + Sync;

/// The model that a stream's configuration names.
///
/// # Errors
/// There is none of that name, or its parameters or file are wrong.
pub fn model(stream: &StreamConfig, _source: &SourceConfig) -> anyhow::Result<Box<dyn Forecaster>> {
    match &stream.model {
        ModelConfig::Named { name, parameters } => {
            let parameters = serde_json::Value::Object(parameters.clone());
            Ok(baselines::build(name, &parameters)?)
        }
        ModelConfig::File { file, parameters, .. } => {
            let mut options = parameters.clone();
            options.insert("device".to_owned(), (*stream.device).into());
            let options: Options = serde_json::from_value(serde_json::Value::Object(options))
                .with_context(|| format!("the settings beside the file {}", file.display()))?;
            let mut model = DiffusionForecaster::open(file, &options)?;
            model.warm_up();
            Ok(Box::new(model))
        }
    }
}

/// What answers when the model of a stream fails: extrapolation where it fits, otherwise persistence.
fn fallback(stream: &StreamConfig, context: &Context) -> Option<Box<dyn Forecaster>> {
    let is_named = |wanted: &str| matches!(&stream.model, ModelConfig::Named { name, .. } if **name == *wanted);
    let wanted = ["extrapolation", "persistence"].into_iter().filter(|name| !is_named(name));
    let built = wanted.filter_map(|name| baselines::build(name, &serde_json::Value::Null).ok());
    built.into_iter().find(|model| model.check(context).is_ok())
}

/// What a stream will ask of its model.
pub fn context(stream: &StreamConfig, source: &SourceConfig) -> Context {
    Context {
        stream: stream.name.clone(),
        variables: source.variables.clone(),
        cadence: source.cadence,
        grid: source.grid.clone(),
        window_frames: stream.window_frames,
        leads: stream.leads,
        members: stream.members,
    }
}

/// A model with its fallback, checked against what its stream will ask.
///
/// # Errors
/// The model cannot be made, or does not fit the stream.
pub fn slot(stream: &StreamConfig, source: &SourceConfig, factory: &ModelFactory) -> anyhow::Result<ModelSlot> {
    let context = context(stream, source);
    let model = factory(stream, source).with_context(|| format!("the model of stream {}", stream.name))?;
    model.check(&context)?;
    Ok(ModelSlot::new(model, fallback(stream, &context)))
}

/// Starts a thread for each device of a configuration; streams with the same device share it.
///
/// # Errors
/// A model cannot be made or does not fit its stream.
pub fn start(config: &Config, factory: &ModelFactory) -> anyhow::Result<BTreeMap<Arc<str>, Device>> {
    let mut slots: BTreeMap<Arc<str>, HashMap<Arc<str>, ModelSlot>> = BTreeMap::new();
    for stream in &config.streams {
        let slot = slot(stream, config.source_of(stream), factory)?;
        slots.entry(stream.device.clone()).or_default().insert(stream.name.clone(), slot);
    }
    let start = |(name, models): (Arc<str>, _)| {
        let device = Device::start(&name, models, BatchPolicy::default());
        Ok((name.clone(), device.with_context(|| format!("the thread of device {name}"))?))
    };
    slots.into_iter().map(start).collect()
}

/// The thread that answers for a stream whose model misses its deadline; `None` without a deadline or a fallback.
///
/// # Errors
/// The thread cannot be started.
pub fn start_fallback(stream: &StreamConfig, source: &SourceConfig) -> anyhow::Result<Option<Device>> {
    let model = stream.deadline.and_then(|_| fallback(stream, &context(stream, source)));
    let Some(model) = model else { return Ok(None) };
    let models = HashMap::from([(stream.name.clone(), ModelSlot::new(model, None))]);
    let name = format!("fallback of {}", stream.name);
    Ok(Some(Device::start(&name, models, BatchPolicy::default()).with_context(|| name)?))
}
