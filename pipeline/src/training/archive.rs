//! Archives as events: unbroken series of frames.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use squall_connectors::archive::Archive;
use squall_connectors::options::ReadOptions;
use squall_fields::{Cadence, Frame, ValidTime, Variable};
use squall_models::training::Event;

use crate::commands::Usage;

/// A file, or a part of one in time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// NetCDF or ODIM. What is not found from the working folder is looked for in the folder that the environment
    /// variable `SQUALL_DATA` names.
    pub file: PathBuf,
    /// First valid time, in RFC 3339.
    #[serde(default)]
    pub from: Option<String>,
    /// Last valid time, in RFC 3339.
    #[serde(default)]
    pub until: Option<String>,
    /// Seconds from frame to frame, where it is not the model's: frames in between are left out.
    #[serde(default)]
    pub cadence_seconds: Option<u32>,
}

impl DataFile {
    /// Its unbroken series of at least `least` frames.
    ///
    /// # Errors
    /// It cannot be found or read, or a time is none.
    pub fn events(&self, variables: &[Variable], cadence_seconds: u32, least: usize) -> anyhow::Result<Vec<Event>> {
        let path = self.find()?;
        let seconds = self.cadence_seconds.unwrap_or(cadence_seconds);
        let cadence = Cadence::every_seconds(seconds).ok_or_else(|| Usage("a cadence of 0 s".to_owned()))?;
        let archive = Archive::open(&[&path], &ReadOptions::of(variables))?.without_duplicates();
        let (from, until) = (time(self.from.as_deref())?, time(self.until.as_deref())?);
        let wanted = |slot: &ValidTime| {
            cadence.is_slot(*slot) && from.is_none_or(|t| *slot >= t) && until.is_none_or(|t| *slot <= t)
        };
        let slots: Vec<(usize, ValidTime)> = archive.slots().enumerate().filter(|(_, slot)| wanted(slot)).collect();
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).context("a file has a name")?;
        let unbroken = slots.chunk_by(|(_, a), (_, b)| cadence.step(*a, 1) == *b);
        unbroken
            .filter(|run| run.len() >= least)
            .map(|run| {
                let frames = run.iter().map(|(position, _)| archive.frame(*position).map(Arc::new));
                let frames = frames.collect::<Result<Vec<Arc<Frame>>, _>>()?;
                let name = format!("{stem} from {} ({} frames)", frames[0].slot, frames.len());
                Ok(Event::new(&name, cadence, &frames)?)
            })
            .collect()
    }

    pub(super) fn find(&self) -> anyhow::Result<PathBuf> {
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

fn time(text: Option<&str>) -> anyhow::Result<Option<ValidTime>> {
    let parse = |text: &str| {
        ValidTime::parse_rfc3339(text)
            .ok_or_else(|| Usage(format!("{text}: a time such as 2018-10-13T09:00:00Z was expected")))
    };
    Ok(text.map(parse).transpose()?)
}
