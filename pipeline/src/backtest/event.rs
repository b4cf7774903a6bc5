//! A file of an archive as an event that is forecast.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use squall_connectors::options::ReadOptions;
use squall_fields::{Cadence, Frame, Grid, IssueTime, ValidTime};

use crate::archive::Archive;
use crate::demo::event::{cut, cut_grid, wettest};

/// Frames of a file, read as they are needed.
pub struct Event {
    /// The file's name without its ending.
    pub name: Arc<str>,
    archive: Archive,
    places: BTreeMap<ValidTime, usize>,
    /// The part of the grid that is forecast, and where it begins.
    part: Option<(Arc<Grid>, (usize, usize))>,
    /// Frames that were read and may be needed again.
    kept: BTreeMap<ValidTime, Arc<Frame>>,
}

impl Event {
    /// Opens a file; of a large field the square of `side` cells is forecast where it rains most in the middle of the event.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path, options: &ReadOptions, side: Option<usize>) -> anyhow::Result<Self> {
        let archive = Archive::open(&[path], options)?.without_duplicates();
        let places: BTreeMap<_, _> = archive.slots().enumerate().map(|(place, slot)| (slot, place)).collect();
        let part = match side {
            Some(side) => {
                let middle = archive.frame(archive.len() / 2)?;
                let corner = wettest(&middle, side);
                Some((Arc::new(cut_grid(&middle.grid, corner, side)), corner))
            }
            None => None,
        };
        Ok(Self { name: crate::verify::stem(path).into(), archive, places, part, kept: BTreeMap::new() })
    }

    /// The cadence of its slots: the least step between two.
    pub fn cadence(&self) -> Option<Cadence> {
        let slots: Vec<i64> = self.places.keys().map(|slot| slot.unix_seconds()).collect();
        let step = slots.windows(2).map(|pair| pair[1] - pair[0]).min()?;
        Cadence::every_seconds(u32::try_from(step).ok()?)
    }

    /// Issue times whose windows do not reach back before the first slot and of which a lead was observed, every so
    /// many slots.
    pub fn issue_times(&self, cadence: Cadence, window: usize, leads: usize, every: usize) -> Vec<IssueTime> {
        let Some(first) = self.places.keys().next() else { return Vec::new() };
        let oldest = cadence.step(*first, window as i64 - 1);
        let observed = |slot: &ValidTime| (1..=leads as i64).any(|lead| self.has(cadence.step(*slot, lead)));
        let slots = self.places.keys().filter(|slot| **slot >= oldest && observed(slot));
        slots.step_by(every.max(1)).map(|slot| IssueTime::from(*slot)).collect()
    }

    /// Whether there is a frame of a slot.
    pub fn has(&self, slot: ValidTime) -> bool {
        self.places.contains_key(&slot)
    }

    /// The first and the last slot.
    pub fn period(&self) -> Option<(ValidTime, ValidTime)> {
        Some((*self.places.keys().next()?, *self.places.keys().next_back()?))
    }

    /// The frame of a slot, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn frame(&mut self, slot: ValidTime) -> anyhow::Result<Option<Arc<Frame>>> {
        if let Some(frame) = self.kept.get(&slot) {
            return Ok(Some(frame.clone()));
        }
        let Some(place) = self.places.get(&slot) else { return Ok(None) };
        let frame = self.archive.frame(*place).with_context(|| format!("cannot read {slot} of {}", self.name))?;
        let frame = Arc::new(match &self.part {
            Some((grid, corner)) => cut(frame, grid, *corner),
            None => frame,
        });
        self.kept.insert(slot, frame.clone());
        Ok(Some(frame))
    }

    /// Forgets the frames before a slot.
    pub fn forget_before(&mut self, slot: ValidTime) {
        self.kept = self.kept.split_off(&slot);
    }
}
