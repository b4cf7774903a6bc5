//! Archives as events: unbroken series of frames.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::{Serialize, Serializer};
use squall_connectors::archive::Archive;
use squall_connectors::options::ReadOptions;
use squall_fields::{Cadence, Frame, ValidTime, Variable};
use squall_models::training::Event;

use crate::commands::Usage;
use crate::config::quantity::as_optional_cadence;

/// An event that weights were trained on, as their file names it: `STEM from TIME (COUNT frames)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// Name of the file, without its ending.
    pub stem: String,
    /// First frame and number of frames, where the name says them.
    pub frames: Option<(ValidTime, usize)>,
}

impl Learnt {
    /// The name of so many frames of a file.
    pub fn name(stem: &str, first: ValidTime, count: usize) -> String {
        format!("{stem} from {first} ({count} frames)")
    }

    /// Reads a name. One that was written otherwise stands for a whole file.
    pub fn read(name: &str) -> Self {
        let parts = || {
            let (stem, rest) = name.rsplit_once(" from ")?;
            let (first, count) = rest.strip_suffix(" frames)")?.split_once(" (")?;
            Some((stem, ValidTime::parse_rfc3339(first)?, count.parse().ok()?))
        };
        match parts() {
            Some((stem, first, count)) => Self { stem: stem.to_owned(), frames: Some((first, count)) },
            None => Self { stem: name.to_owned(), frames: None },
        }
    }

    /// Whether it has some time in common with a part of a file; frames of both lie this cadence apart.
    pub fn meets(&self, stem: &str, from: ValidTime, until: ValidTime, cadence: Cadence) -> bool {
        let meets = |(first, count): (ValidTime, usize)| {
            let last = cadence.step(first, count.saturating_sub(1) as i64);
            first <= until && from <= last
        };
        self.stem == stem && self.frames.is_none_or(meets)
    }
}

/// A file, or a part of one in time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataFile {
    /// NetCDF or ODIM. What is not found from the working folder is looked for in the folder that the environment
    /// variable `SQUALL_DATA` names.
    pub file: PathBuf,
    /// First valid time; `None` begins with the file.
    #[serde(serialize_with = "as_time", skip_serializing_if = "Option::is_none")]
    pub from: Option<ValidTime>,
    /// Last valid time; `None` ends with the file.
    #[serde(serialize_with = "as_time", skip_serializing_if = "Option::is_none")]
    pub until: Option<ValidTime>,
    /// From frame to frame, where it is not the model's: frames in between are left out.
    #[serde(serialize_with = "as_optional_cadence", skip_serializing_if = "Option::is_none")]
    pub cadence: Option<Cadence>,
    /// Whose data it is, for `training.domains`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

fn as_time<S: Serializer>(time: &Option<ValidTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(ValidTime::to_rfc3339).serialize(serializer)
}

/// All of a file.
impl From<PathBuf> for DataFile {
    fn from(file: PathBuf) -> Self {
        Self { file, from: None, until: None, cadence: None, domain: None }
    }
}

impl DataFile {
    /// Whether a time lies in the part.
    pub fn holds(&self, slot: ValidTime) -> bool {
        self.from.is_none_or(|from| slot >= from) && self.until.is_none_or(|until| slot <= until)
    }

    /// Its unbroken series of at least `least` frames; `cadence` is the model's.
    ///
    /// # Errors
    /// It cannot be found or read.
    pub fn events(&self, variables: &[Variable], cadence: Cadence, least: usize) -> anyhow::Result<Vec<Event>> {
        let path = self.find()?;
        let cadence = self.cadence.unwrap_or(cadence);
        let archive = Archive::open(&[&path], &ReadOptions::of(variables))?.without_duplicates();
        let wanted = |slot: &ValidTime| cadence.is_slot(*slot) && self.holds(*slot);
        let slots: Vec<(usize, ValidTime)> = archive.slots().enumerate().filter(|(_, slot)| wanted(slot)).collect();
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).context("a file has a name")?;
        let unbroken = slots.chunk_by(|(_, a), (_, b)| cadence.step(*a, 1) == *b);
        unbroken
            .filter(|run| run.len() >= least)
            .map(|run| {
                let frames = run.iter().map(|(position, _)| archive.frame(*position).map(Arc::new));
                let frames = frames.collect::<Result<Vec<Arc<Frame>>, _>>()?;
                let name = Learnt::name(&stem, frames[0].slot, frames.len());
                Ok(Event::new(&name, cadence, &frames)?.of_domain(self.domain.as_deref().unwrap_or_default()))
            })
            .collect()
    }

    /// Where it lies.
    ///
    /// # Errors
    /// It is neither where its path says nor in the folder that `SQUALL_DATA` names.
    pub fn find(&self) -> anyhow::Result<PathBuf> {
        if self.file.exists() {
            return Ok(self.file.clone());
        }
        let name = self.file.display();
        let folder = std::env::var_os("SQUALL_DATA")
            .ok_or_else(|| Usage(format!("{name} does not exist, and SQUALL_DATA names no folder to look in")))?;
        let path = PathBuf::from(folder).join(&self.file);
        if path.exists() { Ok(path) } else { Err(Usage(format!("{name} is neither here nor in SQUALL_DATA")).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weights_have_learnt_from_is_known_by_its_file_and_its_time() {
        let at = |hour: i64| ValidTime::from_unix_seconds(3600 * hour);
        let cadence = Cadence::every_seconds(3600).unwrap();
        let learnt = Learnt::read(&Learnt::name("a from b", at(10), 5));
        assert_eq!(learnt, Learnt { stem: "a from b".to_owned(), frames: Some((at(10), 5)) });
        let meets = |stem: &str, from, until| learnt.meets(stem, at(from), at(until), cadence);
        assert!(meets("a from b", 14, 20) && meets("a from b", 0, 10) && meets("a from b", 11, 12));
        assert!(!meets("a from b", 15, 20) && !meets("a from b", 0, 9) && !meets("a", 11, 12));
        // As the weights that come with the program have it.
        let shipped = Learnt::read("radar_fmi_20160928 from 2016-09-28T14:45:00Z (40 frames)");
        assert_eq!((shipped.stem.as_str(), shipped.frames.map(|(_, count)| count)), ("radar_fmi_20160928", Some(40)));
        let whole = Learnt::read("a storm");
        assert!(whole.meets("a storm", at(0), at(1), cadence) && !whole.meets("a", at(0), at(1), cadence));
    }
}
