//! `squall model calibrate`: corrects the bias and the spread of a model by what came.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use ndarray::Axis;
use serde::Serialize;
use squall_fields::{Cadence, Variable};
use squall_models::Request;
use squall_models::baselines::damped::{Fit, fit as fit_damped};
use squall_models::baselines::{Baseline, DampedParams, Kind};
use squall_models::calibration::{At, Calibration, Correction, Samples, fit};

use super::asked::{DataArguments, Gathered, Ready};
use super::published::PublishedArguments;
use crate::commands::{Usage, print, write_file};
use crate::config::{ModelConfig, to_toml};
use crate::verify::stem;

/// Examples that `--help` shows.
pub(super) const EXAMPLES: &str = "Examples:
  squall model calibrate --model steps:24 --events configs/events.toml --split tune --output steps.toml
  squall model calibrate --model damped-persistence --data wind.nc --cases 100 --size 1000 --output wind.toml
  squall model calibrate --config configs/radar.toml --stream rain --last 7d --output configs/calibrated/live.toml

The file names the model and what was fitted: a stream takes it as model = { calibrated = \"steps.toml\" }, and
`squall backtest --models` and `squall model score` by its path. Fit to events that the model is not judged by.
With --config it is fitted to what a stream has published with its present model, and goes on from the calibration that this
may have: a running stream whose calibrated file it renews takes it up at the next slot (docs/operations.md).";

/// The amount of rain from which on factors count, in mm/h.
const FLOOR_MM_H: f32 = 0.1;

/// Arguments of `squall model calibrate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Model: a baseline by name or weights by file, with members behind a colon, such as steps:24.
    #[arg(long, required_unless_present = "config", value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    data: DataArguments,
    #[command(flatten)]
    published: PublishedArguments,
    /// Take every so many cells, along rows and columns.
    #[arg(long, default_value_t = 3, value_name = "CELLS")]
    every: usize,
    /// Of damped-persistence: fit the damping of the newest frame alone.
    #[arg(long)]
    damping_alone: bool,
    /// File to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What is written.
#[derive(Serialize)]
pub(super) struct Fitted<'a> {
    pub(super) model: &'a ModelConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calibration: Option<Calibration>,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Some(name) = &self.model else {
            let (text, told) = self.published.fitted(&self.output, self.data.from, self.every)?;
            write_file(&self.output, text.as_bytes())?;
            print(&format!("{told}{}\n", self.output.display()));
            return Ok(());
        };
        self.data.without_test()?;
        let gathered = self.data.gather(std::slice::from_ref(name))?;
        let stream = gathered.contestants.streams().first().context("there is a model")?;
        let is_damped = matches!(&stream.model, ModelConfig::Named(model) if model.kind() == Kind::DampedPersistence);
        anyhow::ensure!(
            is_damped || !self.damping_alone,
            Usage("--damping-alone: only damped-persistence has a damping".to_owned())
        );
        let (text, told) = if is_damped { self.damped(name, &gathered)? } else { self.corrected(name, &gathered)? };
        write_file(&self.output, text.as_bytes())?;
        print(&format!("{told}{}\n", self.output.display()));
        Ok(())
    }

    /// A comment that says what was done, for the head of the file.
    fn head(&self, name: &str, gathered: &Gathered) -> String {
        format!(
            "# Written by `squall model calibrate --model {name}`: {} cases of {}, {} x {} cells at most.\n",
            gathered.cases.len(),
            gathered.events().join(", "),
            self.data.size,
            self.data.size
        )
    }

    fn damped(&self, name: &str, gathered: &Gathered) -> anyhow::Result<(String, String)> {
        let cases: Vec<_> = gathered.cases.iter().map(|case| case.case.clone()).collect();
        let which = if self.damping_alone { Fit::Damping } else { Fit::All };
        let mut params = fit_damped(&cases, which)?;
        let DampedParams { newest, smooth, broad, change_hours, deviation, noise_persistence, .. } = &mut params;
        let lists = [newest, smooth, broad, change_hours, deviation].into_iter().flatten();
        lists.chain([noise_persistence]).for_each(|value| *value = rounded(*value));
        let mut told = String::new();
        for (lead, deviation) in params.leads_seconds.iter().zip(&params.deviation) {
            told += &format!("{:5.0} min  error {deviation:.3}\n", *lead as f64 / 60.0);
        }
        let model = ModelConfig::Named(Baseline::DampedPersistence(params));
        Ok((self.head(name, gathered) + &to_toml(&Fitted { model: &model, calibration: None }), told))
    }

    fn corrected(&self, name: &str, gathered: &Gathered) -> anyhow::Result<(String, String)> {
        let stream = gathered.contestants.streams().first().context("there is a model")?;
        let model = relative(&self.output, &stream.model)?;
        let Ready { model: mut forecaster, members, .. } = gathered.models()?.remove(0);
        if members < 2 || forecaster.repeats_members() {
            return Err(Usage(format!("{name}: one member has no spread to correct")).into());
        }
        let (variables, leads) = (&stream.source.variables, gathered.leads);
        let mut samples = vec![vec![Samples::default(); leads]; variables.len()];
        let bar = ProgressBar::new(gathered.cases.len() as u64);
        for case in gathered.cases.iter().map(|case| &case.case) {
            let request = Request {
                stream: "calibration".into(),
                window: case.window.clone(),
                leads: case.window.cadence.leads(leads),
                members,
                steps: None,
            };
            let answer = forecaster.forecast(std::slice::from_ref(&request)).pop();
            let prediction = answer.context("the model gave no answer")??;
            for (variable, samples) in variables.iter().zip(&mut samples) {
                let Some(ensemble) = prediction.ensembles.iter().find(|e| e.variable == *variable) else { continue };
                for (lead, samples) in samples.iter_mut().enumerate() {
                    let Some(observed) = case.truth[lead].plane(*variable) else { continue };
                    samples.add(ensemble.values.index_axis(Axis(1), lead), observed, self.every);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let cadence = stream.source.cadence;
        let (corrections, told) = corrections(variables, cadence, &samples, None)?;
        let calibration = Calibration {
            digest: forecaster.digest().to_owned(),
            members,
            fitted_to: gathered.events(),
            variables: corrections,
        };
        Ok((self.head(name, gathered) + &to_toml(&Fitted { model: &model, calibration: Some(calibration) }), told))
    }
}

/// The model as the file `output` names it: weights by their path from the file's folder, where both lie below the working
/// folder.
pub(super) fn relative(output: &Path, model: &ModelConfig) -> anyhow::Result<ModelConfig> {
    match model {
        ModelConfig::File { file, watch, options } => {
            let up = output.parent().map_or(0, |folder| folder.components().count());
            let is_below = output.is_relative() && file.is_relative();
            let path = std::iter::repeat_n("..", if is_below { up } else { 0 }).collect::<PathBuf>().join(file);
            Ok(ModelConfig::File { file: path, watch: *watch, options: options.clone() })
        }
        ModelConfig::Named(_) => Ok(model.clone()),
        ModelConfig::Calibrated { calibrated, .. } => {
            Err(Usage(format!("{} is calibrated already", stem(calibrated))).into())
        }
    }
}

/// A correction of each variable, of samples by variable and lead, on top of that which the samples had already; and what is
/// told of them. A lead that has no sample stays as it was, if it was corrected.
///
/// # Errors
/// A lead has no sample, and there was no correction.
pub(super) fn corrections(
    variables: &[Variable],
    cadence: Cadence,
    samples: &[Vec<Samples>],
    before: Option<&Calibration>,
) -> anyhow::Result<(Vec<Correction>, String)> {
    let (mut told, mut corrections) = (String::new(), Vec::new());
    for (variable, samples) in variables.iter().zip(samples) {
        let name = variable.name();
        let floor = floor(*variable, cadence.step_seconds());
        let before = before.and_then(|before| before.variables.iter().find(|correction| correction.name == name));
        let leads = cadence.leads(samples.len());
        let (mut level, mut spread) = (Vec::new(), Vec::new());
        for (samples, lead) in samples.iter().zip(&leads) {
            let plain = At { floor, level: 1.0, spread: 1.0 };
            let had = before.map(|correction| correction.at(*lead));
            let found = fit(samples, floor).or(had.map(|_| plain));
            let found = found.with_context(|| format!("no cell of {name} at {} s", lead.seconds()))?;
            let had = had.unwrap_or(plain);
            let now = At { floor, level: had.level * found.level, spread: had.spread * found.spread };
            let score = |at| samples.score(at).unwrap_or(f64::NAN);
            told += &format!(
                "{name} {:5.0} min  level {:.3}  spread {:.3}  CRPS {:.4} -> {:.4}\n",
                lead.seconds() as f64 / 60.0,
                now.level,
                now.spread,
                score(plain),
                score(found)
            );
            level.push(rounded(now.level));
            spread.push(rounded(now.spread));
        }
        let leads_seconds = leads.iter().map(|lead| lead.seconds()).collect();
        corrections.push(Correction { name: name.to_owned(), floor, leads_seconds, level, spread });
    }
    Ok((corrections, told))
}

/// With as many digits as a fit is good for.
fn rounded(value: f32) -> f32 {
    ((f64::from(value) * 1e4).round() / 1e4) as f32
}

/// The floor of a variable's correction, if factors are what it errs by.
fn floor(variable: Variable, step_seconds: i64) -> Option<f32> {
    match variable {
        Variable::RainRate => Some(FLOOR_MM_H),
        Variable::PrecipitationAmount => Some(FLOOR_MM_H * step_seconds as f32 / 3600.0),
        _ => None,
    }
}
