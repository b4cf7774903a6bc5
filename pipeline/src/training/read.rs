//! From what was written in a training configuration to what it means.

use std::path::PathBuf;

use squall_fields::{Chain, ValidTime};
use squall_models::ModelSpec;
use squall_models::diffusion::MissingGuess;

use super::DataFile;
use super::config::{Data, RunConfig, Validation};
use crate::config::layers::Kind;
use crate::config::section::{Context, Section, variables};
use crate::event_list::{EventList, Split};

/// Training configurations.
pub(crate) const TRAINING: Kind = Kind { defaults: include_str!("defaults.toml"), prefix: "SQUALL_TRAIN__" };

pub(crate) fn run(context: &Context<'_>) -> Option<RunConfig> {
    let run = root(&context.root())?;
    run.model.faults().into_iter().for_each(|fault| context.fault("model", fault));
    run.task().training_faults().into_iter().for_each(|fault| context.fault("training", fault));
    Some(run)
}

fn root(section: &Section<'_>) -> Option<RunConfig> {
    let output = section.text("output");
    let device = section.device("device");
    let threads = section.count("threads", 0..=4096);
    let checkpoint_every = section.duration("checkpoint_every");
    let model = model(&section.section("model"));
    let data = data(&section.section("data"));
    let validation = validation(&section.section("validation"));
    let training = section.typed("training", "{ steps = ..., ... }");
    section.finish();
    Some(RunConfig {
        output: output?.into(),
        device: device?,
        threads: threads? as usize,
        checkpoint_every: checkpoint_every?,
        model: model?,
        data: data?,
        validation: validation?,
        training: training?,
    })
}

fn model(section: &Section<'_>) -> Option<ModelSpec> {
    if !section.is_given() {
        section.fault("", "expected [model] with name, variables, cadence, context, leads, transforms, network, ...");
    }
    let name = section.text("name");
    let variables = section.choices("variables", &variables());
    let transforms = section.typed("transforms", "[{ rain = { dry_below_mm_h = 0.05 } }]");
    let cadence = section.cadence("cadence");
    let spacing_m: Option<(f64, f64)> = section.typed("spacing_m", "[900.0, 2000.0]");
    let (context, leads) = (section.count("context", 1..=1000), section.count("leads", 1..=1000));
    let network = section.typed("network", "{ in_channels = ..., channels = ..., ... }");
    let (predictor, autoencoder) = (section.optional_typed("predictor"), section.optional_typed("autoencoder"));
    let (process, history) = (section.optional_typed("process"), section.optional_typed("history"));
    let (target, first_guess) = (section.optional_typed("target"), section.optional_typed("first_guess"));
    let (missing_guess, extra) = (section.optional_typed("missing_guess"), section.optional_typed("extra"));
    let residual = section.optional_typed("residual");
    let tiling = section.typed("tiling", "{ tile = [256, 256], overlap = 32 }");
    let sampler = section.optional_typed("sampler");
    section.finish();
    if let Some((least, most)) = spacing_m.filter(|(least, most)| !(0.0 < *least && least <= most)) {
        section.fault("spacing_m", format!("expected [smallest, largest], got [{least}, {most}]"));
    }
    Some(ModelSpec {
        name: name?,
        variables: variables?,
        transforms: transforms?,
        cadence_seconds: cadence?.step_seconds() as u32,
        spacing_m: spacing_m?,
        context: context? as usize,
        leads: leads? as usize,
        network: network?,
        predictor,
        autoencoder,
        history: history.unwrap_or_default(),
        process: process.unwrap_or_default(),
        target: target.unwrap_or_default(),
        first_guess: first_guess.unwrap_or_default(),
        // Not what files without this entry mean: a training that begins today has it right.
        missing_guess: missing_guess.unwrap_or(MissingGuess::Dry),
        extra: extra.unwrap_or_default(),
        residual,
        tiling: tiling?,
        sampler: sampler.unwrap_or_default(),
    })
}

fn data(section: &Section<'_>) -> Option<Data> {
    let events = section.optional_text("events");
    let list = events.as_deref().and_then(|file| list(section, file));
    let of = |split| list.as_ref().map(|(_, list)| (list, split));
    let train = files(section, "train", of(Split::Train));
    let validation = files(section, "validation", of(Split::Tune));
    let clip_every = section.count("clip_every", 1..=10_000);
    section.finish();
    let events = list.map(|(path, _)| path);
    Some(Data { train: train?, validation: validation?, events, clip_every: clip_every? as usize })
}

/// The list of events that a setting names, and where it was found.
fn list(section: &Section<'_>, file: &str) -> Option<(PathBuf, EventList)> {
    let Some(path) = section.context.existing(file) else {
        section.fault("events", format!("there is no file {file} here or beside the configuration"));
        return None;
    };
    match EventList::load(&path) {
        Ok(list) => Some((path, list)),
        Err(error) => {
            section.fault("events", Chain(error.as_ref()).to_string());
            None
        }
    }
}

/// Files, each of which a list of events must not have for another use.
fn files(section: &Section<'_>, key: &str, list: Option<(&EventList, Split)>) -> Option<Vec<DataFile>> {
    let tables = section.sections(key, "[{ file = \"...\" }]")?;
    if tables.is_empty() {
        section.fault(key, "expected at least one file");
    }
    let read = |table: &Section<'_>| {
        let file = file(table)?;
        if let Some(objection) = list.and_then(|(list, split)| list.objection(&file, split)) {
            table.fault("file", objection);
        }
        Some(file)
    };
    let files: Vec<Option<DataFile>> = tables.iter().map(read).collect();
    files.into_iter().collect()
}

fn file(section: &Section<'_>) -> Option<DataFile> {
    let file = section.text("file");
    let (from, until) = (time(section, "from"), time(section, "until"));
    let (cadence, domain) = (section.optional_cadence("cadence"), section.optional_text("domain"));
    // It becomes part of the name of a file.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(domain) = domain.as_deref().filter(|domain| domain.is_empty() || !domain.chars().all(is_name)) {
        section.fault("domain", format!("expected letters, digits, - and _, got \"{domain}\""));
    }
    section.finish();
    Some(DataFile { file: PathBuf::from(file?), from, until, cadence, domain })
}

pub(crate) fn time(section: &Section<'_>, key: &str) -> Option<ValidTime> {
    let text = section.optional_text(key)?;
    let time = ValidTime::parse_rfc3339(&text);
    if time.is_none() {
        section.fault(key, format!("expected a time such as 2018-10-13T09:00:00Z, got \"{text}\""));
    }
    time
}

fn validation(section: &Section<'_>) -> Option<Validation> {
    let (every, batches) = (section.count("every", 0..=u64::MAX >> 1), section.count("batches", 1..=1_000_000));
    let (cases, size) = (section.count("cases", 1..=1_000_000), section.count("size", 1..=100_000));
    let members = section.count("members", 1..=10_000);
    let thresholds = section.numbers("thresholds");
    section.finish();
    Some(Validation {
        every: every?,
        batches: batches?,
        cases: cases? as usize,
        size: size? as usize,
        members: members? as usize,
        thresholds: thresholds?,
    })
}
