//! `squall series forecast`: a model and files of stations in, forecasts or their scores out.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use squall_fields::{Cadence, Quantity, ValidTime};
use squall_models::device::{ComputeDevice, Precision};
use squall_models::series::{Prompt, SeriesModel};

use crate::commands::{Expected, Usage, duration, print, time};
use crate::series::config::cadence;
use crate::series::{Case, Readings, SeriesFile, data, judge};
use crate::training::DataFile;
use crate::training::archive::Learnt;
use crate::verify::stem;

/// Examples that `--help` shows.
pub(super) const EXAMPLES: &str = "Examples:
  squall series forecast model.safetensors --data stations.nc
  squall series forecast model.safetensors --data stations.nc --from 2016-03-01T00:00:00Z --every '12 h' --json
  squall series forecast model.safetensors --data stations.nc --at 2016-03-01T00:00:00Z

Each station is forecast from its own past alone, whether or not the model has seen it. Without --at the forecasts are scored, beside
persistence of the newest value and the known past as an ensemble (climatology); with it they are printed.";

/// Arguments of `squall series forecast`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Weights file (safetensors) of `squall series train`.
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    /// CF-NetCDF file of stations; may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// What is forecast: by default what the model was trained on.
    #[arg(long, value_name = "NAME", value_parser = quantity)]
    variable: Option<Quantity>,
    /// The identifiers of the stations that are forecast; all of them by default.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    stations: Vec<String>,
    /// First valid time that is read.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<ValidTime>,
    /// Last valid time that is read.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<ValidTime>,
    /// From issue time to issue time.
    #[arg(long, default_value = "6 h", value_name = "DURATION", value_parser = duration)]
    every: Duration,
    /// Most forecasts that are scored; which of more is drawn at random, always the same.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cases: u32,
    /// Print the forecasts of one issue time instead of scores.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with_all = ["every", "cases"])]
    at: Option<ValidTime>,
    /// Members of each forecast.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(2..))]
    members: u16,
    /// Diffusion steps, where not those of the file.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    steps: Option<u16>,
    /// How often each diffusion step is gone, where not as the file says; 1 is plain replacement.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: Option<u16>,
    /// Where the network computes: cpu, cuda or cuda:1.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn quantity(text: &str) -> Result<Quantity, Expected> {
    let found = Quantity::ALL.iter().copied().find(|quantity| quantity.name() == text);
    let found = found.filter(|quantity| *quantity != Quantity::WindFromDirection);
    found.ok_or(Expected("wind_speed, eastward_wind, northward_wind or rain_rate"))
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let device = ComputeDevice::select(&self.device, Precision::F32)?.device;
        let mut model = SeriesModel::open(&self.weights, device)?;
        if let Some(steps) = self.steps {
            model.sampler.steps = steps.into();
        }
        if let Some(repeats) = self.repeats {
            model.sampler.repeats = repeats.into();
        }
        let step = cadence(&model.metadata.spec);
        let quantity = self.variable.unwrap_or(model.metadata.spec.quantity);
        let part = |file: &PathBuf| SeriesFile {
            part: DataFile { from: self.from, until: self.until, ..DataFile::from(file.clone()) },
            stations: self.stations.clone(),
        };
        let files: Vec<SeriesFile> = self.data.iter().map(part).collect();
        let readings = Readings::of(&files, quantity, step)?;
        self.warn_of_learnt(&model, &readings, step);
        match self.at {
            Some(at) => self.print_forecasts(&model, &readings, quantity, at),
            None => self.print_scores(&model, &readings, quantity),
        }
    }

    /// What a model was trained on says nothing of what it can do elsewhere.
    fn warn_of_learnt(&self, model: &SeriesModel, readings: &Readings, step: Cadence) {
        let learnt = || model.metadata.training_data.iter().map(|name| Learnt::read(name));
        for (file, name) in self.data.iter().zip(&readings.names) {
            let Some((first, count)) = Learnt::read(name).frames else { continue };
            let last = step.step(first, count.saturating_sub(1) as i64);
            if learnt().any(|learnt| learnt.meets(&stem(file), first, last, step)) {
                tracing::warn!("the model was trained on a part of {}", file.display());
            }
        }
    }

    fn print_scores(&self, model: &SeriesModel, readings: &Readings, quantity: Quantity) -> anyhow::Result<()> {
        let spec = &model.metadata.spec;
        let step = cadence(spec);
        let every = u32::try_from(self.every.as_secs()).ok().and_then(Cadence::every_seconds);
        let every = every.filter(|every| judge::fits(*every, step));
        let every = every.ok_or_else(|| Usage("--every: expected a multiple of the model's cadence".to_owned()))?;
        let all = readings.cases(spec, step, every);
        if all.is_empty() {
            return Err(none(spec.length(), readings).into());
        }
        let (count, cases) = (all.len(), data::thinned(all, self.cases as usize));
        let bar = ProgressBar::new(cases.len() as u64)
            .with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} forecasts, {eta} left")?);
        let members = usize::from(self.members);
        let board = judge::judge(model, &cases, quantity, members, |done| bar.inc(done as u64))?;
        bar.finish_and_clear();
        if self.json {
            let scores = judge::rows(&board);
            let (variable, unit, cases) = (quantity.name(), quantity.unit(), cases.len());
            let (model, evaluations) = (&spec.name, model.sampler.evaluations());
            let report = json!({
                "model": model, "variable": variable, "unit": unit, "cases": cases, "of": count, "members": members,
                "evaluations": evaluations, "scores": scores,
            });
            print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
        } else {
            let (cases, evaluations) = (cases.len(), model.sampler.evaluations());
            let what = format!("{cases} of {count} forecasts of {members} members, {evaluations} evaluations each\n");
            print(&(what + &board.text(quantity.unit(), spec.leads)));
        }
        Ok(())
    }

    fn print_forecasts(
        &self,
        model: &SeriesModel,
        readings: &Readings,
        quantity: Quantity,
        at: ValidTime,
    ) -> anyhow::Result<()> {
        let spec = &model.metadata.spec;
        let step = cadence(spec);
        let cases: Vec<Case> = readings.at(at.into(), spec, step);
        if cases.is_empty() {
            return Err(none(spec.context, readings).into());
        }
        let prompts: Vec<Prompt<'_>> = cases.iter().map(judge::prompt).collect();
        let forecasts = model.forecast(&prompts, quantity, self.members.into());
        let minutes: Vec<f64> = step.leads(spec.leads).iter().map(|lead| lead.seconds() as f64 / 60.0).collect();
        if self.json {
            let of = |(case, forecast): (&Case, &ndarray::Array2<f32>)| {
                let members: Vec<Vec<f32>> = forecast.outer_iter().map(|member| member.to_vec()).collect();
                json!({ "station": &*case.station, "members": members })
            };
            let forecasts: Vec<_> = cases.iter().zip(&forecasts).map(of).collect();
            let (time, variable, unit) = (at.to_rfc3339(), quantity.name(), quantity.unit());
            let report = json!({
                "model": spec.name, "issue_time": time, "variable": variable, "unit": unit, "lead_minutes": minutes,
                "forecasts": forecasts,
            });
            print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
            return Ok(());
        }
        let mut text = String::from("station,lead_minutes,mean,p10,p50,p90\n");
        for (case, forecast) in cases.iter().zip(&forecasts) {
            for (lead, members) in minutes.iter().zip(forecast.columns()) {
                let members = members.to_vec();
                let mean = members.iter().map(|value| f64::from(*value)).sum::<f64>() / members.len() as f64;
                let [low, middle, high] = [0.1, 0.5, 0.9].map(|share| judge::quantile(&members, share));
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{},{lead:.0},{mean:.3},{low:.3},{middle:.3},{high:.3}", case.station);
            }
        }
        print(&text);
        Ok(())
    }
}

/// What is said where no station has so many values where they are needed.
fn none(needed: usize, readings: &Readings) -> Usage {
    let longest = readings.longest();
    Usage(format!(
        "no station has the {needed} values without a gap that a forecast needs; the longest series has {longest}"
    ))
}
