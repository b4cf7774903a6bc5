//! Which models are compared: streams of a configuration, or a list of names and files.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use squall_fields::{Cadence, Variable};
use squall_models::baselines::Kind;
use squall_models::diffusion::Options;
use squall_models::weights;

use crate::commands::Usage;
use crate::config::{Config, Layers, ModelConfig, StreamConfig};

/// Models that forecast the same events.
#[derive(Clone, Debug)]
pub struct Contestants {
    /// A stream for each; all have the same source.
    pub config: Config,
}

/// Frames that a baseline may look at: as many as its scores are usually quoted with.
const WINDOW: usize = 4;
/// Members of a model that has any number of them, unless a name says how many.
const MEMBERS: usize = 8;

impl Contestants {
    /// The streams of a configuration.
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
        Ok(Self { config })
    }

    /// Models by name, such as `steps:24` for 24 members, or by weights file.
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
            let (model, members) = match name.rsplit_once(':').map(|(model, members)| (model, members.parse())) {
                Some((model, Ok(members))) => (model, Some(members)),
                _ => (name.as_str(), None),
            };
            let (window, model, members) = match Kind::named(model) {
                Some(kind) => {
                    let single = matches!(kind, Kind::Persistence | Kind::Extrapolation);
                    (WINDOW, format!("name = {model:?}"), members.unwrap_or(if single { 1 } else { MEMBERS }))
                }
                None if Path::new(model).is_file() => {
                    let spec = weights::describe(Path::new(model))?.metadata.spec;
                    (spec.context, format!("file = {model:?}, watch = false"), members.unwrap_or(MEMBERS))
                }
                None => {
                    let known: Vec<&str> = Kind::ALL.map(Kind::name).into();
                    let text =
                        format!("--models {name}: no such file, and the models without one are {}", known.join(", "));
                    return Err(Usage(text).into());
                }
            };
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
            let model = match &stream.model {
                ModelConfig::Named(baseline) => ModelConfig::Named(baseline.clone()),
                ModelConfig::File { file, watch, options } => ModelConfig::File {
                    file: file.clone(),
                    watch: *watch,
                    options: Options { device: device.to_owned(), ..options.clone() },
                },
            };
            StreamConfig { device: device.into(), model, ..stream.clone() }
        };
        self.streams().iter().map(on).collect()
    }

    /// What is said of each in a report: name, what it is, members.
    pub fn described(&self) -> impl Iterator<Item = (&str, String, usize)> {
        self.streams().iter().map(|stream| {
            let what = match &stream.model {
                ModelConfig::Named(baseline) => baseline.kind().name().to_owned(),
                ModelConfig::File { file, .. } => file.display().to_string(),
            };
            (&*stream.name, format!("{what}, {} frames of context", stream.window_frames), stream.members)
        })
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

/// A stream name from what was asked for: the file's name without folders and ending.
fn label(name: &str) -> String {
    let stem = name.strip_suffix(".safetensors").unwrap_or(name);
    let stem = stem.rsplit('/').next().unwrap_or(stem).replace(".safetensors", "");
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
    fn an_unknown_model_is_refused_with_what_there_is() {
        let error = of(&["luck"]).unwrap_err().to_string();
        assert!(error.contains("luck") && error.contains("persistence"), "{error}");
    }
}
