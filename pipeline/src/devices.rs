//! The models of a configuration, each on the thread of its device.
//!
//! A model that does not fit its stream is refused at the start. One that cannot be loaded, because its file is damaged
//! or its device is gone, must not keep a stream from running: the fallback answers until it can be.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use squall_fields::{Cause, Chain};
use squall_models::baselines::Baseline;
use squall_models::calibration::Calibrated;
use squall_models::diffusion::DiffusionForecaster;
use squall_models::{Coordinates, Forecaster, ModelError, Prediction, Request};
use squall_operators::events;
use squall_operators::infer::device::{BatchPolicy, Device, ModelSlot};
use squall_operators::infer::ladder::StandIn;
use squall_operators::offload::Aside;

use crate::commands::Usage;
use crate::config::{ModelConfig, StreamConfig};

/// How long a device may be silent before it counts as stuck, where no stream of it has a deadline.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes the model of a stream.
pub type ModelFactory = dyn Fn(&StreamConfig) -> anyhow::Result<Box<dyn Forecaster>> + Send + Sync;

/// The model that a stream's configuration names.
///
/// # Errors
/// Its file cannot be used, or its device is not there.
pub fn model(stream: &StreamConfig) -> anyhow::Result<Box<dyn Forecaster>> {
    build(&stream.model, &stream.name)
}

fn build(model: &ModelConfig, stream: &str) -> anyhow::Result<Box<dyn Forecaster>> {
    match model {
        ModelConfig::Named(baseline) => Ok(baseline.clone().build()),
        ModelConfig::File { file, options, .. } => {
            let started = Instant::now();
            let model = DiffusionForecaster::open(file, options)?;
            events::ModelLoaded { stream, model: model.name(), took: started.elapsed() }.emit();
            Ok(Box::new(model))
        }
        ModelConfig::Calibrated { base, calibration: None, .. } => build(base, stream),
        ModelConfig::Calibrated { calibrated, base, calibration: Some(calibration), .. } => {
            let path = calibrated.display().to_string();
            Ok(Box::new(Calibrated::new(build(base, stream)?, calibration.clone(), &path)?))
        }
    }
}

/// What answers when the model of a stream fails: extrapolation where it fits, otherwise persistence.
fn fallback(stream: &StreamConfig) -> Option<Box<dyn Forecaster>> {
    stream.stand_ins().into_values().next().map(Baseline::build)
}

/// A model with its fallback, checked against what its stream will ask.
///
/// # Errors
/// The model cannot be made, or does not fit the stream.
pub fn slot(stream: &StreamConfig, factory: &ModelFactory) -> anyhow::Result<ModelSlot> {
    let context = stream.context();
    let mut model = factory(stream).with_context(|| format!("the model of stream {}", stream.name))?;
    model.check(&context)?;
    model.prepare_for(&context);
    Ok(ModelSlot::new(model, fallback(stream)))
}

/// Stands in for a model that cannot be loaded: fails every request with the reason.
struct Unavailable {
    name: String,
    reason: Cause,
}

impl Forecaster for Unavailable {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> &str {
        "unavailable"
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            variables: Vec::new(),
            cadence: None,
            spacing_m: None,
            context_frames: 0,
            max_leads: None,
            min_shape: (1, 1),
            max_members: None,
        }
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(|_| Err(ModelError::Unavailable(self.reason.clone()))).collect()
    }
}

/// A model that cannot be loaded, replaced by one that has its fallback answer; the error itself if nothing could.
fn without_model(stream: &StreamConfig, error: anyhow::Error) -> anyhow::Result<ModelSlot> {
    let unloadable = matches!(error.downcast_ref(), Some(ModelError::File { .. } | ModelError::Device { .. }));
    let ModelConfig::File { file, .. } = stream.model.base() else { return Err(error) };
    let Some(fallback) = fallback(stream).filter(|_| unloadable) else { return Err(error) };
    let reason = Chain(error.as_ref()).to_string();
    events::ModelNotLoaded { stream: &stream.name, reason: &reason, instead: fallback.name() }.emit();
    let model = Unavailable { name: file.display().to_string(), reason: Cause::new(error) };
    Ok(ModelSlot::new(Box::new(model), Some(fallback)))
}

/// The devices of a configuration.
pub struct Devices {
    /// By name.
    pub threads: BTreeMap<Arc<str>, Device>,
    /// Streams whose model could not be loaded.
    pub without_model: BTreeSet<Arc<str>>,
}

/// Starts a thread for each device of streams; those with the same device share it, and those with the same model the
/// model. What is spread over several threads is computed on those of `aside`.
///
/// # Errors
/// Models do not fit their streams, or cannot be loaded and have no fallback; all of them are named.
pub fn start(streams: &[&StreamConfig], factory: &ModelFactory, aside: &Aside) -> anyhow::Result<Devices> {
    let mut slots: BTreeMap<Arc<str>, HashMap<Arc<str>, ModelSlot>> = BTreeMap::new();
    let (mut missing, mut refused) = (BTreeSet::new(), Vec::new());
    for stream in streams {
        let slot = slot(stream, factory).or_else(|error| {
            missing.insert(stream.name.clone());
            without_model(stream, error)
        });
        match slot {
            Ok(slot) => drop(slots.entry(stream.device.clone()).or_default().insert(stream.name.clone(), slot)),
            Err(error) => refused.push(Chain(error.as_ref()).to_string()),
        }
    }
    if !refused.is_empty() {
        // A line each, as faults of a configuration have.
        return Err(Usage(refused.join("\nerror: ")).into());
    }
    let start = |(name, models): (Arc<str>, HashMap<Arc<str>, ModelSlot>)| {
        let deadlines = streams.iter().filter(|s| models.contains_key(&s.name)).filter_map(|s| s.deadline);
        let patience = deadlines.min().unwrap_or(PATIENCE);
        let device = Device::start_aside(&name, models, BatchPolicy::default(), patience, aside.clone());
        Ok((name.clone(), device.with_context(|| format!("the thread of device {name}"))?))
    };
    let threads = slots.into_iter().map(start).collect::<anyhow::Result<_>>()?;
    Ok(Devices { threads, without_model: missing })
}

/// The threads of the models that answer for a stream where there is no time for its own, each with the next one for
/// when it fails.
///
/// # Errors
/// A thread cannot be started.
pub fn start_stand_ins(stream: &StreamConfig) -> anyhow::Result<BTreeMap<StandIn, Device>> {
    let models = stream.stand_ins();
    let start = |(stand_in, model): (&StandIn, &Baseline)| {
        let next = models.range((Bound::Excluded(stand_in), Bound::Unbounded)).next();
        let slot = ModelSlot::new(model.clone().build(), next.map(|(_, next)| next.clone().build()));
        let name = format!("{} for {}", model.name(), stream.name);
        let slots = HashMap::from([(stream.name.clone(), slot)]);
        let device = Device::start(&name, slots, BatchPolicy::default(), PATIENCE).with_context(|| name)?;
        Ok((*stand_in, device))
    };
    models.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};

    fn config(model: &str) -> Config {
        let text = format!(
            "name = \"t\"\n[log]\nkind = \"memory\"\n[store]\nurl = \"out\"\n\
             [[sources]]\nname = \"radar\"\ntopic = \"obs\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n\
             [[streams]]\nname = \"rain\"\nsource = \"radar\"\nproducts = [\"ensemble\"]\nmodel = {model}\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("squall.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("damaged.safetensors"), b"cut short").unwrap();
        Layers::from_file(&path).unwrap().load().unwrap()
    }

    #[test]
    fn a_damaged_file_leaves_the_stream_to_its_fallback() {
        let config = config("{ file = \"damaged.safetensors\" }");
        let devices = start(
            &[&config.streams[0]],
            &|_: &StreamConfig| Err(ModelError::file("damaged.safetensors", "is cut short").into()),
            &Aside::default(),
        );
        assert_eq!(devices.unwrap().without_model.len(), 1);
    }

    #[test]
    fn what_is_wrong_in_the_configuration_is_refused() {
        let config = config("{ name = \"extrapolation\" }");
        let wrong = |_: &StreamConfig| anyhow::bail!("no such parameter");
        assert!(
            start(&[&config.streams[0]], &wrong, &Aside::default())
                .err()
                .unwrap()
                .to_string()
                .contains("the model of stream rain")
        );
    }
}
