//! The split of events into those that are learnt from, those that are looked at on the way, and those that judge.
//!
//! It stands in one file, `configs/events.toml`, which scoring, backtests and training share: a score on events that
//! something was chosen by is no evidence, and whoever reads a table must be able to look up which ones were.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use squall_connectors::options::ReadOptions;
use squall_fields::{Cadence, ValidTime, Variable};

use crate::backtest::Event;
use crate::backtest::contestants::Asked;
use crate::commands::Usage;
use crate::config::layers::Kind;
use crate::config::section::{Context, Section, variables};
use crate::config::{Faults, Layers};
use crate::training::DataFile;
use crate::training::read::time;

/// Lists of events. Their variables of the environment begin with `SQUALL_EVENTS__`.
const EVENTS: Kind = Kind { defaults: "", prefix: "SQUALL_EVENTS__" };

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Weights are fitted to it.
    Train,
    /// Choices are made by its scores.
    Tune,
    /// Nothing is chosen by it.
    Test,
}

impl Split {
    const ALL: [(&'static str, Self); 3] = [("train", Self::Train), ("tune", Self::Tune), ("test", Self::Test)];

    /// As in a list of events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Test => "test",
        }
    }
}

/// An event of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedEvent {
    /// The file, or the part of it.
    pub data: DataFile,
    /// What it holds.
    pub variables: Vec<Variable>,
    /// From one of its frames to the next.
    pub cadence: Cadence,
    /// What it is for.
    pub split: Split,
    /// What it is, in a few words.
    pub about: String,
}

/// A list of events.
///
/// ```
/// use squall_pipeline::event_list::{EventList, Split};
///
/// let list = EventList::parse("events.toml", r#"
///     [[events]]
///     file = "may.nc"
///     variables = ["rain_rate"]
///     cadence = "5 min"
///     split = "test"
/// "#)?;
/// assert_eq!(list.events.iter().map(|event| event.split).collect::<Vec<_>>(), [Split::Test]);
/// # Ok::<(), squall_pipeline::config::Faults>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EventList {
    /// In the order of the file.
    pub events: Vec<ListedEvent>,
}

impl EventList {
    /// Reads a list; `name` is what faults call it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Faults> {
        Layers::from_text(name, text).read(&EVENTS, root)
    }

    /// Reads a list from a file.
    ///
    /// # Errors
    /// It cannot be read, or anything is wrong with it.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Usage(format!("cannot read the list of events {}: {error}", path.display())))?;
        Ok(Self::parse(&path.display().to_string(), &text)?)
    }

    /// The events of a split that have these variables and this cadence.
    pub fn select(&self, split: Split, variables: &[Variable], cadence: Cadence) -> Vec<&ListedEvent> {
        let fits = |event: &&ListedEvent| {
            event.split == split && event.cadence == cadence && variables.iter().all(|v| event.variables.contains(v))
        };
        self.events.iter().filter(fits).collect()
    }

    /// Why a file must not be used as this split is, if the list has some of it under another one.
    pub fn objection(&self, file: &DataFile, split: Split) -> Option<String> {
        let other = self.events.iter().find(|event| event.split != split && overlaps(&event.data, file))?;
        Some(format!(
            "{} is listed as a {} event: it must not be used to {}",
            file.file.display(),
            other.split.name(),
            split.name()
        ))
    }
}

/// Whether two parts of a file have some time in common. Files go by their names, wherever they lie.
fn overlaps(a: &DataFile, b: &DataFile) -> bool {
    let before = |until: Option<ValidTime>, from: Option<ValidTime>| until.zip(from).is_some_and(|(u, f)| u < f);
    a.file.file_name() == b.file.file_name() && !before(a.until, b.from) && !before(b.until, a.from)
}

fn root(context: &Context<'_>) -> Option<EventList> {
    let root = context.root();
    let events: Vec<Option<ListedEvent>> = root.sections("events", "[{ file = \"...\" }]")?.iter().map(event).collect();
    root.finish();
    if events.is_empty() {
        root.fault("events", "expected at least one event");
    }
    Some(EventList { events: events.into_iter().collect::<Option<_>>()? })
}

fn event(section: &Section<'_>) -> Option<ListedEvent> {
    let file = section.text("file");
    let (from, until) = (time(section, "from"), time(section, "until"));
    let (variables, cadence) = (section.choices("variables", &variables()), section.cadence("cadence"));
    let split = section.choice("split", &Split::ALL);
    let about = section.optional_text("about").unwrap_or_default();
    section.finish();
    let data = DataFile { file: file?.into(), from, until, cadence: None, domain: None };
    Some(ListedEvent { data, variables: variables?, cadence: cadence?, split: split?, about })
}

/// Events of a list, as a command line names them.
#[derive(Clone, Debug, Args)]
pub struct EventArguments {
    /// List of events, such as configs/events.toml; those of --split that have the variables and the cadence count.
    #[arg(long, value_name = "FILE", requires = "split")]
    pub(crate) events: Option<PathBuf>,
    /// Which events of the list.
    #[arg(long, value_enum, requires = "events")]
    split: Option<Split>,
}

impl EventArguments {
    /// The list and the split, if they are asked for.
    ///
    /// # Errors
    /// As [`EventList::load`].
    pub(crate) fn load(&self) -> anyhow::Result<Option<(EventList, Split)>> {
        let (Some(path), Some(split)) = (&self.events, self.split) else { return Ok(None) };
        Ok(Some((EventList::load(path)?, split)))
    }

    /// The files of the events that have these variables and this cadence; none where no list was asked for.
    ///
    /// # Errors
    /// As [`EventList::load`], or no event fits.
    pub(crate) fn files(&self, variables: &[Variable], cadence: Cadence) -> anyhow::Result<Vec<DataFile>> {
        let Some((list, split)) = self.load()? else { return Ok(Vec::new()) };
        let files: Vec<DataFile> =
            list.select(split, variables, cadence).into_iter().map(|event| event.data.clone()).collect();
        if files.is_empty() {
            let names: Vec<&str> = variables.iter().map(|variable| variable.name()).collect();
            let step = crate::config::quantity::format_cadence(cadence.step_seconds() as u32);
            let text = format!("--events: no {} event has {} every {step}", split.name(), names.join(", "));
            return Err(Usage(text).into());
        }
        Ok(files)
    }

    /// Variables and cadence of the first event: of the files that are given, or else of the list, where models of these
    /// names must be able to take them.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(crate) fn first(&self, given: &[DataFile], models: &[String]) -> anyhow::Result<(Vec<Variable>, Cadence)> {
        let Some(first) = given.first() else {
            let (list, split) = self.load()?.context("there is an input or a list of events")?;
            for event in list.events.into_iter().filter(|event| event.split == split) {
                let takes = models.iter().map(|name| Asked::takes(name, &event.variables));
                if takes.collect::<anyhow::Result<Vec<bool>>>()?.into_iter().all(|takes| takes) {
                    return Ok((event.variables, event.cadence));
                }
            }
            let text = format!("--events: there is no {} event that {} can forecast", split.name(), models.join(", "));
            return Err(Usage(text).into());
        };
        let mut event = Event::open(first, &ReadOptions::default(), None)?;
        let cadence = event.cadence().with_context(|| format!("{}: expected two slots", first.file.display()))?;
        let (slot, _) = event.period().context("an event has slots")?;
        let frame = event.frame(slot)?.context("the first slot has a frame")?;
        Ok((frame.variables.to_vec(), cadence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> EventList {
        EventList::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/events.toml")).unwrap()
    }

    fn names(events: &[&ListedEvent]) -> Vec<String> {
        events.iter().map(|event| event.data.file.display().to_string()).collect()
    }

    #[test]
    fn the_list_of_the_folder_has_events_for_each_use() {
        let (list, five) = (shipped(), Cadence::every_seconds(300).unwrap());
        let rain = |split| names(&list.select(split, &[Variable::RainRate], five));
        assert_eq!(rain(Split::Tune), ["radar_fmi_20170509.nc", "radar_mch_20150515.nc"]);
        assert_eq!(rain(Split::Test), ["radar_openmrg_20150827.nc", "radar_dwd_ry_20210823.nc"]);
        assert!(list.select(Split::Test, &[Variable::RainRate], Cadence::every_seconds(120).unwrap()).is_empty());
    }

    #[test]
    fn a_part_of_a_file_is_an_event_of_its_own() {
        let list = shipped();
        let at = |text: &str| ValidTime::parse_rfc3339(text);
        let file = |from: Option<ValidTime>, until| DataFile {
            file: PathBuf::from("/data/wind_gfs_201809_201810_global.nc"),
            from,
            until,
            cadence: None,
            domain: None,
        };
        let (last, next) = (at("2018-10-13T21:00:00Z"), at("2018-10-14T00:00:00Z"));
        assert_eq!(list.objection(&file(None, last), Split::Train), None);
        let whole = list.objection(&file(None, None), Split::Train).unwrap();
        assert!(whole.ends_with("is listed as a tune event: it must not be used to train"), "{whole}");
        assert_eq!(list.objection(&file(next, None), Split::Tune), None);
        assert!(list.objection(&file(next, None), Split::Train).is_some());
    }

    #[test]
    fn every_fault_of_a_list_is_said() {
        let text = "[[events]]\nfile = \"a.nc\"\nvariables = [\"rain\"]\ncadence = \"5 min\"\nsplit = \"testing\"\n\
                    [[events]]\nfil = \"b.nc\"\n";
        let faults = EventList::parse("e.toml", text).unwrap_err().to_string();
        for part in ["e.toml:3: events[0].variables", "e.toml:5: events[0].split", "e.toml:7: events[1].fil"] {
            assert!(faults.contains(part), "{part} is not in\n{faults}");
        }
    }
}
