//! What forecasts are compared with where that is not what they are made of: the frames of `inputs.truth`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use sha2::{Digest, Sha256};
use squall_fields::{Frame, Grid, ValidTime};
use squall_operators::quality::Cleaner;
use squall_operators::window::Windowed;

use super::arrived::Cleaned;
use super::event::Input;
use crate::archive::{Archive, read_options};
use crate::commands::Usage;
use crate::config::{Config, SourceConfig, StreamConfig};
use crate::frames::{FrameFile, Frames};
use crate::graph;
use crate::runtime::{Parts, read_to_end};
use crate::training::DataFile;
use crate::verify::stem;

/// Frames that forecasts are compared with, of each slot one. Clones share them.
#[derive(Clone)]
pub struct Truth {
    /// Name of their source, or of their files.
    pub name: Arc<str>,
    /// Tells them from others.
    pub identity: String,
    frames: Arc<dyn Frames>,
    places: BTreeMap<ValidTime, usize>,
}

impl Truth {
    /// Files of a source, without the cells that its quality control takes for wrong; a slot that several have is taken from the
    /// first. What is not found from here is looked for in the folder of the data.
    ///
    /// # Errors
    /// A file cannot be read, or there is no frame.
    pub fn of_files(files: &[PathBuf], stream: &StreamConfig, source: &Arc<SourceConfig>) -> anyhow::Result<Self> {
        let find = |path: &PathBuf| DataFile::from(path.clone()).find();
        let found = files.iter().map(find).collect::<anyhow::Result<Vec<PathBuf>>>()?;
        let identity = |path: &PathBuf| Input::File(path.clone().into()).identity();
        let identity = files.iter().map(identity).collect::<anyhow::Result<Vec<String>>>()?.join(" ");
        let archive = Archive::open(&found, &read_options(source)).context("--truth")?.without_duplicates();
        let places = archive.slots().enumerate().map(|(place, slot)| (slot, place)).collect();
        let of_truth = StreamConfig { source: source.clone(), ..stream.clone() };
        let cleaner = Cleaner::new(&graph::quality_config(&of_truth));
        let names: Vec<String> = found.iter().map(|path| stem(path)).collect();
        Self::of(names.join(", ").into(), identity, Arc::new(Cleaned { archive, cleaner }), places)
    }

    /// The newest frame of each slot on the topic of a source, by when it became known, of those that pass its quality control.
    ///
    /// # Errors
    /// The topic cannot be read, or has no frame that can be used.
    pub fn of_topic(
        config: &Config,
        parts: &Parts,
        stream: &StreamConfig,
        source: &Arc<SourceConfig>,
    ) -> anyhow::Result<Self> {
        let mut compared = StreamConfig { source: source.clone(), window_frames: 1, ..stream.clone() };
        compared.inputs.steering = None;
        let file = FrameFile::new(&config.store.scratch_folder())?;
        let kept = Arc::new(Mutex::new((file, BTreeMap::new(), Sha256::new())));
        let of_each = kept.clone();
        read_to_end(config, parts, &[compared], move |_, known_at, windowed| {
            if let Windowed::Observed(observed) = windowed {
                let frame = &observed.frame;
                let mut kept = of_each.lock().unwrap_or_else(PoisonError::into_inner);
                let place = kept.0.keep(frame)?;
                // In the order in which they become known: what comes later corrects what came before.
                kept.1.insert(frame.slot, place);
                let what = format!("{} {} {}\n", frame.slot, known_at.unix_ms(), frame.input.digest);
                kept.2.update(what);
            }
            Ok(())
        })?;
        let kept = Arc::into_inner(kept).context("the reading of a topic that has ended")?;
        let (frames, places, identity) = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        Self::of(source.name.clone(), hex::encode(identity.finalize()), Arc::new(frames), places)
    }

    fn of(
        name: Arc<str>,
        identity: String,
        frames: Arc<dyn Frames>,
        places: BTreeMap<ValidTime, usize>,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(!places.is_empty(), "the truth, {name}, has no frame that can be used");
        Ok(Self { name, identity, frames, places })
    }

    /// Whether there is a frame of a slot.
    pub fn has(&self, slot: ValidTime) -> bool {
        self.places.contains_key(&slot)
    }

    /// The frame of a slot, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn frame(&self, slot: ValidTime) -> anyhow::Result<Option<Frame>> {
        let Some(place) = self.places.get(&slot) else { return Ok(None) };
        let read = self.frames.frame(*place);
        read.map(Some).with_context(|| format!("cannot read {slot} of {}", self.name))
    }

    /// Refuses another grid than this.
    ///
    /// # Errors
    /// Its first frame lies on another grid, or cannot be read.
    pub fn check(&self, grid: &Grid) -> anyhow::Result<()> {
        let first = self.places.values().next().context("a truth has frames")?;
        let own = self.frames.frame(*first)?.grid;
        if own.is_same(grid) {
            return Ok(());
        }
        let of = |grid: &Grid| format!("{:?} cells, id {}", grid.shape(), grid.id());
        let (own, other) = (of(&own), of(grid));
        let text = format!("the truth, {}, has {own}, the forecasts have {other}: expected one grid", self.name);
        Err(Usage(text).into())
    }
}
