//! From what was written in a training configuration to what it means.

use std::path::PathBuf;

use squall_fields::ValidTime;

use super::DataFile;
use super::config::{About, Data, RunConfig, Validation};
use crate::config::layers::Kind;
use crate::config::section::{Context, Section, variables};

/// Training configurations.
pub(crate) const TRAINING: Kind = Kind { defaults: include_str!("defaults.toml"), prefix: "SQUALL_TRAIN__" };

pub(crate) fn run(context: &Context<'_>) -> Option<RunConfig> {
    let run = root(&context.root())?;
    let faults = run.training.faults();
    if faults.is_empty() {
        // The same rules and more, of what the run will write.
        let written = run.metadata(&run.training, Vec::new(), String::new());
        written.faults().into_iter().for_each(|fault| context.fault("model", fault));
    }
    faults.into_iter().for_each(|fault| context.fault("training", fault));
    Some(run)
}

fn root(section: &Section<'_>) -> Option<RunConfig> {
    let output = section.text("output");
    let device = section.device("device");
    let threads = section.count("threads", 0..=4096);
    let checkpoint_every = section.duration("checkpoint_every");
    let model = about(&section.section("model"));
    let data = data(&section.section("data"));
    let validation = validation(&section.section("validation"));
    let training = section.typed("training", "{ steps = ..., network = { ... }, ... }");
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

fn about(section: &Section<'_>) -> Option<About> {
    if !section.is_given() {
        section.fault("", "expected [model] with name, variables, cadence, spacing_m and tiling");
    }
    let name = section.text("name");
    let variables = section.choices("variables", &variables());
    let cadence = section.cadence("cadence");
    let spacing_m: Option<(f64, f64)> = section.typed("spacing_m", "[900.0, 2000.0]");
    let tiling = section.typed("tiling", "{ tile = [256, 256], overlap = 32 }");
    let sampler = section.optional_typed("sampler");
    section.finish();
    if let Some((least, most)) = spacing_m.filter(|(least, most)| !(0.0 < *least && least <= most)) {
        section.fault("spacing_m", format!("expected [smallest, largest], got [{least}, {most}]"));
    }
    Some(About {
        name: name?,
        variables: variables?,
        cadence: cadence?,
        spacing_m: spacing_m?,
        tiling: tiling?,
        sampler: sampler.unwrap_or_default(),
    })
}

fn data(section: &Section<'_>) -> Option<Data> {
    let (train, validation) = (files(section, "train"), files(section, "validation"));
    let clip_every = section.count("clip_every", 1..=10_000);
    section.finish();
    Some(Data { train: train?, validation: validation?, clip_every: clip_every? as usize })
}

fn files(section: &Section<'_>, key: &str) -> Option<Vec<DataFile>> {
    let tables = section.sections(key, "[{ file = \"...\" }]")?;
    if tables.is_empty() {
        section.fault(key, "expected at least one file");
    }
    let files: Vec<Option<DataFile>> = tables.iter().map(file).collect();
    files.into_iter().collect()
}

fn file(section: &Section<'_>) -> Option<DataFile> {
    let file = section.text("file");
    let (from, until) = (time(section, "from"), time(section, "until"));
    let cadence = section.optional_cadence("cadence");
    section.finish();
    Some(DataFile { file: PathBuf::from(file?), from, until, cadence })
}

fn time(section: &Section<'_>, key: &str) -> Option<ValidTime> {
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
