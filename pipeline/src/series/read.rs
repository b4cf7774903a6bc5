//! From what was written in a configuration of a training on series to what it means.

use squall_fields::Quantity;
use squall_models::series::SeriesSpec;

use super::config::{SeriesData, SeriesFile, SeriesRun, SeriesValidation};
use crate::config::layers::Kind;
use crate::config::section::{Context, Section};
use crate::training::DataFile;
use crate::training::read::time;

/// Configurations of trainings on series.
pub(crate) const SERIES: Kind = Kind { defaults: include_str!("defaults.toml"), prefix: "SQUALL_SERIES__" };

pub(crate) fn run(context: &Context<'_>) -> Option<SeriesRun> {
    let run = root(&context.root())?;
    run.series.faults().into_iter().for_each(|fault| context.fault("series", fault));
    run.training.faults().into_iter().for_each(|fault| context.fault("training", fault));
    Some(run)
}

fn root(section: &Section<'_>) -> Option<SeriesRun> {
    let output = section.text("output");
    let device = section.device("device");
    let threads = section.count("threads", 0..=4096);
    let series = series(&section.section("series"));
    let data = data(&section.section("data"));
    let validation = validation(&section.section("validation"));
    let training = section.typed("training", "{ steps = ..., ... }");
    section.finish();
    Some(SeriesRun {
        output: output?.into(),
        device: device?,
        threads: threads? as usize,
        series: series?,
        data: data?,
        validation: validation?,
        training: training?,
    })
}

/// What stations measure, by name.
pub(crate) fn quantities() -> Vec<(&'static str, Quantity)> {
    Quantity::ALL.iter().map(|quantity| (quantity.name(), *quantity)).collect()
}

fn series(section: &Section<'_>) -> Option<SeriesSpec> {
    if !section.is_given() {
        section.fault("", "expected [series] with name, variable, cadence, context, leads, least_scale, network, ...");
    }
    let name = section.text("name");
    let quantity = section.choice("variable", &quantities());
    let cadence = section.cadence("cadence");
    let (context, leads) = (section.count("context", 2..=10_000), section.count("leads", 1..=10_000));
    let least_scale = section.typed("least_scale", "0.5");
    let network = section.typed("network", "{ width = 256, layers = 4 }");
    let (target, sampler) = (section.optional_typed("target"), section.optional_typed("sampler"));
    section.finish();
    Some(SeriesSpec {
        name: name?,
        quantity: quantity?,
        cadence_seconds: cadence?.step_seconds() as u32,
        context: context? as usize,
        leads: leads? as usize,
        least_scale: least_scale?,
        network: network?,
        target: target.unwrap_or_default(),
        sampler: sampler.unwrap_or_default(),
    })
}

fn data(section: &Section<'_>) -> Option<SeriesData> {
    if !section.is_given() {
        section.fault("", "expected [data] with train = [{ file = \"...\" }] and validation = [{ file = \"...\" }]");
    }
    let (train, validation) = (files(section, "train"), files(section, "validation"));
    section.finish();
    Some(SeriesData { train: train?, validation: validation? })
}

fn files(section: &Section<'_>, key: &str) -> Option<Vec<SeriesFile>> {
    let tables = section.sections(key, "[{ file = \"...\" }]")?;
    if tables.is_empty() {
        section.fault(key, "expected at least one file");
    }
    let files: Vec<Option<SeriesFile>> = tables.iter().map(file).collect();
    files.into_iter().collect()
}

fn file(section: &Section<'_>) -> Option<SeriesFile> {
    let file = section.text("file");
    let (from, until) = (time(section, "from"), time(section, "until"));
    let stations = section.optional_typed("stations").unwrap_or_default();
    section.finish();
    Some(SeriesFile { part: DataFile { from, until, ..DataFile::from(std::path::PathBuf::from(file?)) }, stations })
}

fn validation(section: &Section<'_>) -> Option<SeriesValidation> {
    let (every, batches) = (section.count("every", 0..=u64::MAX >> 1), section.count("batches", 1..=1_000_000));
    let issue_every = section.cadence("issue_every");
    let (cases, members) = (section.count("cases", 1..=10_000_000), section.count("members", 2..=10_000));
    section.finish();
    Some(SeriesValidation {
        every: every?,
        batches: batches?,
        issue_every: issue_every?,
        cases: cases? as usize,
        members: members? as usize,
    })
}
