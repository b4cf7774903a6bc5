//! `squall model calibrate`: corrects the bias and the spread of a model by what came.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use ndarray::Axis;
use serde::Serialize;
use squall_fields::Variable;
use squall_models::Request;
use squall_models::baselines::damped::{Fit, fit as fit_damped};
use squall_models::baselines::{Baseline, DampedParams, Kind};
use squall_models::calibration::{At, Calibration, Correction, Samples, fit};

use super::asked::{DataArguments, Gathered, Ready};
use crate::commands::{Usage, print, write_file};
use crate::config::{ModelConfig, to_toml};
use crate::verify::stem;

/// Examples that `--help` shows.
pub(super) const EXAMPLES: &str = "Examples:
  squall model calibrate --model steps:24 --events configs/events.toml --split tune --output steps.toml
  squall model calibrate --model damped-persistence --data wind.nc --cases 100 --size 1000 --output wind.toml

The file names the model and what was fitted: a stream takes it as model = { calibrated = \"steps.toml\" }, and
`squall backtest --models` and `squall model score` by its path. Fit to events that the model is not judged by.";

/// The amount of rain from which on factors count, in mm/h.
const FLOOR_MM_H: f32 = 0.1;

/// Arguments of `squall model calibrate`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Model: a baseline by name or weights by file, with members behind a colon, such as steps:24.
    #[arg(long, value_name = "MODEL")]
    model: String,
    #[command(flatten)]
    data: DataArguments,
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
struct Fitted<'a> {
    model: &'a ModelConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let gathered = self.data.gather(std::slice::from_ref(&self.model))?;
        let stream = gathered.contestants.streams().first().context("there is a model")?;
        let is_damped = matches!(&stream.model, ModelConfig::Named(model) if model.kind() == Kind::DampedPersistence);
        anyhow::ensure!(
            is_damped || !self.damping_alone,
            Usage("--damping-alone: only damped-persistence has a damping".to_owned())
        );
        let (text, told) = if is_damped { self.damped(&gathered)? } else { self.corrected(&gathered)? };
        write_file(&self.output, text.as_bytes())?;
        print(&format!("{told}{}\n", self.output.display()));
        Ok(())
    }

    /// A comment that says what was done, for the head of the file.
    fn head(&self, gathered: &Gathered) -> String {
        format!(
            "# Written by `squall model calibrate --model {}`: {} cases of {}, {} x {} cells at most.\n",
            self.model,
            gathered.cases.len(),
            gathered.events().join(", "),
            self.data.size,
            self.data.size
        )
    }

    fn damped(&self, gathered: &Gathered) -> anyhow::Result<(String, String)> {
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
        Ok((self.head(gathered) + &to_toml(&Fitted { model: &model, calibration: None }), told))
    }

    fn corrected(&self, gathered: &Gathered) -> anyhow::Result<(String, String)> {
        let stream = gathered.contestants.streams().first().context("there is a model")?;
        let model = self.relative(&stream.model)?;
        let Ready { model: mut forecaster, members, .. } = gathered.models()?.remove(0);
        if members < 2 || forecaster.repeats_members() {
            return Err(Usage(format!("{}: one member has no spread to correct", self.model)).into());
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
        let leads_seconds: Vec<i64> = cadence.leads(leads).iter().map(|lead| lead.seconds()).collect();
        let (mut told, mut corrections) = (String::new(), Vec::new());
        for (variable, samples) in variables.iter().zip(&samples) {
            let floor = floor(*variable, cadence.step_seconds());
            let (mut level, mut spread) = (Vec::new(), Vec::new());
            for (samples, lead) in samples.iter().zip(&leads_seconds) {
                let plain = At { floor, level: 1.0, spread: 1.0 };
                let found =
                    fit(samples, floor).with_context(|| format!("no cell of {} at {lead} s", variable.name()))?;
                let score = |at| samples.score(at).unwrap_or(f64::NAN);
                told += &format!(
                    "{} {:5.0} min  level {:.3}  spread {:.3}  CRPS {:.4} -> {:.4}\n",
                    variable.name(),
                    *lead as f64 / 60.0,
                    found.level,
                    found.spread,
                    score(plain),
                    score(found)
                );
                level.push(rounded(found.level));
                spread.push(rounded(found.spread));
            }
            let name = variable.name().to_owned();
            corrections.push(Correction { name, floor, leads_seconds: leads_seconds.clone(), level, spread });
        }
        let calibration = Calibration {
            digest: forecaster.digest().to_owned(),
            members,
            fitted_to: gathered.events(),
            variables: corrections,
        };
        Ok((self.head(gathered) + &to_toml(&Fitted { model: &model, calibration: Some(calibration) }), told))
    }

    /// The model as the file names it: weights by their path from the file's folder, where both lie below the working folder.
    fn relative(&self, model: &ModelConfig) -> anyhow::Result<ModelConfig> {
        match model {
            ModelConfig::File { file, watch, options } => {
                let up = self.output.parent().map_or(0, |folder| folder.components().count());
                let is_below = self.output.is_relative() && file.is_relative();
                let path = std::iter::repeat_n("..", if is_below { up } else { 0 }).collect::<PathBuf>().join(file);
                Ok(ModelConfig::File { file: path, watch: *watch, options: options.clone() })
            }
            ModelConfig::Named(_) => Ok(model.clone()),
            ModelConfig::Calibrated { calibrated, .. } => {
                Err(Usage(format!("{} is calibrated already", stem(calibrated))).into())
            }
        }
    }
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
