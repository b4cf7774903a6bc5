//! What is asked of `squall model score` and `squall model calibrate`: models, and cases of observations.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, ValueEnum};
use squall_fields::{Cadence, ValidTime};
use squall_models::device::Precision;
use squall_models::training::validate::{self, Case};
use squall_models::{Forecaster, weights};

use crate::backtest::Contestants;
use crate::backtest::contestants::Asked;
use crate::commands::{Usage, time};
use crate::config::ModelConfig;
use crate::devices;
use crate::event_list::{EventArguments, Split};
use crate::training::DataFile;
use crate::training::archive::Learnt;
use crate::verify::stem;

/// What a network computes in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Numbers {
    Auto,
    F32,
    Bf16,
}

/// Observations to forecast, and how.
#[derive(Debug, Args)]
pub(super) struct DataArguments {
    /// File with observations (may be repeated). What is not found from here is looked for in the folder SQUALL_DATA.
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    listed: EventArguments,
    /// First valid time to use of --data.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) from: Option<ValidTime>,
    /// Issue times of each event.
    #[arg(long, default_value_t = 4)]
    cases: usize,
    /// Rows and columns of the part that is forecast, where the newest frame holds most.
    #[arg(long, default_value_t = 256)]
    pub(super) size: usize,
    /// Leads; default: those of the weights, or 12.
    #[arg(long)]
    leads: Option<usize>,
    /// Where a network computes: cpu, cuda, cuda:1.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// What it computes in. `auto` is bf16 where the device has it, else f32.
    #[arg(long, value_enum, default_value_t = Numbers::Auto)]
    precision: Numbers,
}

/// A case of an event.
pub(super) struct EventCase {
    /// Name of the event.
    pub(super) event: Arc<str>,
    /// What models see, and what came.
    pub(super) case: Case,
}

/// Models with the cases that they forecast.
pub(super) struct Gathered {
    /// A stream for each model.
    pub(super) contestants: Contestants,
    /// In the order of the events, and of time.
    pub(super) cases: Vec<EventCase>,
    /// Leads of each forecast.
    pub(super) leads: usize,
}

/// A model that is ready, its name and its members.
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) model: Box<dyn Forecaster>,
    pub(super) members: usize,
}

impl DataArguments {
    /// Reads the events that models of these names can forecast. Events that are too short are left out, and said so.
    ///
    /// # Errors
    /// A model or an event cannot be read, or nothing is left.
    pub(super) fn gather(&self, names: &[String]) -> anyhow::Result<Gathered> {
        if self.data.is_empty() && self.listed.events.is_none() {
            return Err(Usage("expected --data FILE or --events LIST".to_owned()).into());
        }
        let given: Vec<DataFile> =
            self.data.iter().map(|file| DataFile { from: self.from, ..file.clone().into() }).collect();
        let specs = names.iter().map(|name| Asked::spec(name)).collect::<anyhow::Result<Vec<_>>>()?;
        let specs: Vec<_> = specs.into_iter().flatten().collect();
        let (variables, cadence) = match specs.first() {
            Some(spec) => {
                let cadence = Cadence::every_seconds(spec.cadence_seconds).context("the model has no cadence")?;
                (spec.inputs(), cadence)
            }
            None => self.listed.first(&given, names)?,
        };
        let most = specs.iter().map(|spec| spec.leads).min();
        let leads = self.leads.or(most).unwrap_or(12);
        let mut contestants = Contestants::of_names(names, &variables, cadence, leads, &[1.0])?;
        contestants.config.streams.iter_mut().for_each(|stream| self.on_device(&mut stream.model));
        let context = contestants.longest_window();
        let mut cases = Vec::new();
        for file in given.iter().chain(&self.listed.files(&variables, cadence)?) {
            let events = file.events(&variables, cadence, context + leads)?;
            if events.is_empty() {
                eprintln!("{} is left out: no {} frames without a gap", file.file.display(), context + leads);
                continue;
            }
            let event: Arc<str> = stem(&file.file).into();
            let of_file = validate::cases(&events, context, leads, self.size, self.cases)?;
            cases.extend(of_file.into_iter().map(|case| EventCase { event: event.clone(), case }));
        }
        if cases.is_empty() {
            let text = format!("no event holds {} frames without a gap; --leads asks for fewer", context + leads);
            return Err(Usage(text).into());
        }
        Ok(Gathered { contestants, cases, leads })
    }

    /// Refuses test events, for what is fitted to events.
    ///
    /// # Errors
    /// They are asked for, or the list cannot be read.
    pub(super) fn without_test(&self) -> anyhow::Result<()> {
        match self.listed.load()? {
            Some((_, Split::Test)) => {
                Err(Usage("--split test: nothing is fitted to test events; use train or tune".to_owned()).into())
            }
            _ => Ok(()),
        }
    }

    fn on_device(&self, model: &mut ModelConfig) {
        match model {
            ModelConfig::File { options, .. } => {
                options.device.clone_from(&self.device);
                options.precision = match self.precision {
                    Numbers::Auto => Precision::Auto,
                    Numbers::F32 => Precision::F32,
                    Numbers::Bf16 => Precision::Bf16,
                };
            }
            ModelConfig::Calibrated { base, .. } => self.on_device(base),
            ModelConfig::Named(_) => {}
        }
    }
}

impl Gathered {
    /// The models, loaded and warm.
    ///
    /// # Errors
    /// One cannot be loaded, or does not fit the observations.
    pub(super) fn models(&self) -> anyhow::Result<Vec<Ready>> {
        let ready = |stream: &crate::config::StreamConfig| {
            let mut model = devices::model(stream)?;
            model.check(&stream.context())?;
            model.warm_up();
            Ok(Ready { name: stream.name.to_string(), model, members: stream.members })
        };
        self.contestants.streams().iter().map(ready).collect()
    }

    /// What weights among the models have learnt from, of the events that they are asked to forecast: one sentence for each
    /// model and event.
    ///
    /// # Errors
    /// A weights file cannot be read.
    pub(super) fn leaks(&self) -> anyhow::Result<Vec<String>> {
        let mut leaks = Vec::new();
        for stream in self.contestants.streams() {
            let ModelConfig::File { file, .. } = stream.model.base() else { continue };
            let learnt: Vec<Learnt> =
                weights::describe(file)?.metadata.training_data.iter().map(|name| Learnt::read(name)).collect();
            for EventCase { event, case } in &self.cases {
                let window = &case.window;
                let until = window.cadence.step(window.issue_time.slot(), self.leads as i64);
                if learnt.iter().any(|learnt| learnt.meets(event, window.slot(0), until, window.cadence)) {
                    leaks.push(format!("{} was trained on {event}: its scores there are no evidence", stream.name));
                }
            }
        }
        leaks.dedup();
        Ok(leaks)
    }

    /// The names of the events, each once.
    pub(super) fn events(&self) -> Vec<String> {
        let mut names: Vec<String> = self.cases.iter().map(|case| case.event.to_string()).collect();
        names.dedup();
        names
    }
}
