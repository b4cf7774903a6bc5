//! Which models are compared: streams of a configuration, or a list of names and files.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};
use squall_fields::{Cadence, Variable};
use squall_models::baselines::{Baseline, Kind};
use squall_models::{ModelSpec, weights};

use crate::commands::Usage;
use crate::config::{Config, Layers, ModelConfig, RolesConfig, StreamConfig, calibrated};

/// Models that forecast the same events.
#[derive(Clone, Debug)]
pub struct Contestants {
    /// A stream for each, companions among them; all have the same source.
    pub config: Config,
}

/// Frames that a baseline may look at: as many as its scores are usually quoted with.
const WINDOW: usize = 4;
/// Members of a model that has any number of them, unless a name says how many.
const MEMBERS: usize = 8;

impl Contestants {
    /// The streams of a configuration, each behind its companions, which are called as while it runs: `STREAM/NAME`.
    ///
    /// # Errors
    /// They do not share one source.
    pub fn of_config(config: Config) -> anyhow::Result<Self> {
        let first = config.streams.first().context("the configuration has no stream")?;
        let other = config.streams.iter().find(|stream| stream.source.name != first.source.name);
        if let Some(other) = other {
            let text = format!(
                "streams {} and {} have different sources, {} and {}: a backtest compares streams of one",
                first.name, other.name, first.source.name, other.source.name
            );
            return Err(Usage(text).into());
        }
        let streams = config.streams.iter().flat_map(with_companions).collect();
        Ok(Self { config: Config { streams, ..config } })
    }

    /// Models by name, such as `steps:24` for 24 members, by weights file, or by a file of `squall model calibrate`.
    ///
    /// # Errors
    /// A name is unknown, a file cannot be read, or a model does not fit the archive.
    pub fn of_names(
        names: &[String],
        variables: &[Variable],
        cadence: Cadence,
        leads: usize,
        thresholds: &[f32],
    ) -> anyhow::Result<Self> {
        let quoted = |texts: &[&str]| texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
        let variables: Vec<&str> = variables.iter().map(|variable| variable.name()).collect();
        let mut text = format!(
            "name = \"backtest\"\n[[sources]]\nname = \"archive\"\nvariables = [{}]\ncadence = \"{} s\"\n",
            quoted(&variables),
            cadence.step_seconds()
        );
        for name in names {
            let Asked { model, window, members } = Asked::parse(name)?;
            let _ = write!(
                text,
                "[[streams]]\nname = {:?}\nsource = \"archive\"\nwindow_frames = {window}\nleads = {leads}\n\
                 members = {members}\nmodel = {{ {model} }}\nthresholds = {thresholds:?}\n",
                label(name)
            );
        }
        let config = Layers::from_text("--models", &text).load().context("the models do not make a configuration")?;
        Self::of_config(config)
    }

    /// The streams.
    pub fn streams(&self) -> &[StreamConfig] {
        &self.config.streams
    }

    /// The streams with their models on a device.
    pub fn on(&self, device: &str) -> Vec<StreamConfig> {
        let on = |stream: &StreamConfig| {
            let model = stream.model.on(device);
            StreamConfig { device: device.into(), model, ..stream.clone() }
        };
        self.streams().iter().map(on).collect()
    }

    /// What is said of each in a report: name, what it is, members.
    pub fn described(&self) -> impl Iterator<Item = (&str, String, usize)> {
        self.streams().iter().map(|stream| {
            let what = stream.model.described();
            (&*stream.name, format!("{what}, {} frames of context", stream.window_frames), stream.members)
        })
    }

    /// What tells each model from others that are named alike: its digest, or those of its files.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digests(&self) -> anyhow::Result<Vec<String>> {
        self.streams().iter().map(|stream| contents(&stream.model)).collect()
    }

    /// Frames before the issue time that the longest window needs.
    pub fn longest_window(&self) -> usize {
        self.streams().iter().map(|stream| stream.window_frames).max().unwrap_or(1)
    }

    /// The most leads of any.
    pub fn leads(&self) -> usize {
        self.streams().iter().map(|stream| stream.leads).max().unwrap_or(1)
    }
}

/// A stream behind its companions, as streams of their own. What a companion forecasts is keyed by its name, so that it is
/// what it forecasts beside a running stream; it has the wind of the stream, too.
fn with_companions(stream: &StreamConfig) -> Vec<StreamConfig> {
    let inputs = RolesConfig { steering: stream.inputs.steering.clone(), ..RolesConfig::default() };
    let beside = stream.companions.iter().map(|(name, companion)| StreamConfig {
        device: companion.device.clone(),
        inputs: inputs.clone(),
        ..stream.of_companion(name, companion)
    });
    beside.chain([stream.clone()]).collect()
}

/// A model as a command line names it.
pub(crate) struct Asked {
    /// The settings of a stream's `model`.
    model: String,
    /// Frames that it looks at.
    window: usize,
    /// Members of its ensembles.
    pub(crate) members: usize,
}

impl Asked {
    /// Reads a baseline's name, a weights file or a file of `squall model calibrate`, with members behind a colon.
    ///
    /// # Errors
    /// There is no such model, or its file cannot be read.
    pub(crate) fn parse(name: &str) -> anyhow::Result<Self> {
        let (plain, members) = split(name);
        let path = Path::new(plain);
        if let Some(kind) = Kind::named(plain) {
            let single = matches!(kind, Kind::Persistence | Kind::Extrapolation);
            let members = members.unwrap_or(if single { 1 } else { MEMBERS });
            return Ok(Self { model: format!("name = {plain:?}"), window: WINDOW, members });
        }
        if path.is_file() && plain.ends_with(".toml") {
            let model = calibrated(path, "cpu")?;
            let window = spec(&model)?.map_or(WINDOW, |spec| spec.context);
            let fitted = match &model {
                ModelConfig::Calibrated { calibration: Some(calibration), .. } => calibration.members,
                _ => MEMBERS,
            };
            return Ok(Self { model: format!("calibrated = {plain:?}"), window, members: members.unwrap_or(fitted) });
        }
        if path.is_file() {
            let window = weights::describe(path)?.metadata.spec.context;
            let model = format!("file = {plain:?}, watch = false");
            return Ok(Self { model, window, members: members.unwrap_or(MEMBERS) });
        }
        let known: Vec<&str> = Kind::ALL.map(Kind::name).into();
        let text = format!("{name}: no such file, and the models without one are {}", known.join(", "));
        Err(Usage(text).into())
    }

    /// Whether a model that is named so can forecast from frames with these variables.
    ///
    /// # Errors
    /// As [`Asked::parse`].
    pub(crate) fn takes(name: &str, variables: &[Variable]) -> anyhow::Result<bool> {
        let holds = |set: &[Variable]| set.iter().all(|variable| variables.contains(variable));
        let of = |baseline: Baseline| baseline.build().coordinates().variables.iter().any(|set| holds(set));
        let plain = split(name).0;
        if Kind::named(plain).is_some() {
            return Ok(of(Baseline::new(plain, &serde_json::Value::Null)?));
        }
        match Self::spec(name)? {
            Some(spec) => Ok(holds(&spec.variables)),
            None => match calibrated(Path::new(plain), "cpu")?.base() {
                ModelConfig::Named(baseline) => Ok(of(baseline.clone())),
                _ => Ok(false),
            },
        }
    }

    /// What the weights of a model that is named so were made for; none of a model without weights.
    ///
    /// # Errors
    /// As [`Asked::parse`].
    pub(crate) fn spec(name: &str) -> anyhow::Result<Option<ModelSpec>> {
        let path = Path::new(split(name).0);
        if Kind::named(split(name).0).is_some() {
            return Ok(None);
        }
        Self::parse(name)?;
        match path.extension().is_some_and(|ending| ending == "toml") {
            true => spec(&calibrated(path, "cpu")?),
            false => Ok(Some(weights::describe(path)?.metadata.spec)),
        }
    }
}

/// What decides what a model says besides its settings, as digests.
fn contents(model: &ModelConfig) -> anyhow::Result<String> {
    let of_file = |path: &Path| {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(hex::encode(Sha256::digest(bytes)))
    };
    match model {
        ModelConfig::Named(baseline) => Ok(baseline.clone().build().digest().to_owned()),
        ModelConfig::File { file, .. } => of_file(file),
        ModelConfig::Calibrated { calibrated, base, .. } => {
            Ok(format!("{} of {}", of_file(calibrated)?, contents(base)?))
        }
    }
}

/// What the weights of a model were made for, if it has any.
fn spec(model: &ModelConfig) -> anyhow::Result<Option<ModelSpec>> {
    match model.base() {
        ModelConfig::File { file, .. } => Ok(Some(weights::describe(file)?.metadata.spec)),
        _ => Ok(None),
    }
}

/// The name of a model, and its members if it says how many.
fn split(name: &str) -> (&str, Option<usize>) {
    match name.rsplit_once(':').map(|(model, members)| (model, members.parse())) {
        Some((model, Ok(members))) => (model, Some(members)),
        _ => (name, None),
    }
}

/// A stream name from what was asked for: the file's name without folders and ending.
pub(crate) fn label(name: &str) -> String {
    let stem = name.rsplit('/').next().unwrap_or(name).replace(".safetensors", "").replace(".toml", "-calibrated");
    stem.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> anyhow::Result<Contestants> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let cadence = Cadence::every_seconds(300).unwrap();
        Contestants::of_names(&names, &[Variable::RainRate], cadence, 3, &[1.0])
    }

    #[test]
    fn a_name_says_the_model_and_its_members() {
        let contestants = of(&["persistence", "steps:24"]).unwrap();
        let described: Vec<_> = contestants.described().map(|(name, _, members)| (name.to_owned(), members)).collect();
        assert_eq!(described, [("persistence".to_owned(), 1), ("steps-24".to_owned(), 24)]);
    }

    #[test]
    fn companions_stand_before_their_stream_as_streams_with_its_windows_and_its_wind() {
        let text = r#"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[sources]]
name = "wind"
topic = "obs.wind"
variables = ["eastward_wind", "northward_wind"]
cadence = "1 h"
[[streams]]
name = "rain"
source = "radar"
window_frames = 5
members = 3
thresholds = [1.0]
model = { name = "extrapolation" }
companions.still = { model = { name = "persistence" }, members = 1 }
inputs.steering.source = "wind"
"#;
        let config = Layers::from_text("t.toml", text).load().unwrap();
        let contestants = Contestants::of_config(config).unwrap();
        let [still, rain] = contestants.streams() else { panic!("a stream and its companion") };
        assert_eq!((&*still.name, still.members, still.window_frames), ("rain/still", 1, 5));
        assert_eq!((&*rain.name, rain.members, rain.window_frames), ("rain", 3, 5));
        assert!(still.inputs.steering.is_some() && still.inputs.steering == rain.inputs.steering);
        assert!(still.companions.is_empty() && still.verification.is_none() && rain.verification.is_some());
    }

    #[test]
    fn an_unknown_model_is_refused_with_what_there_is() {
        let error = of(&["luck"]).unwrap_err().to_string();
        assert!(error.contains("luck") && error.contains("persistence"), "{error}");
    }
}
