//! Lets through the frames that a stream may use, and says of every other why not.
//!
//! All partitions of a source meet here, in the order of the log: whether a frame is a duplicate, and which grid the
//! first valid one sets, does not depend on interleaving or on the number of workers.

mod clean;
mod spikes;

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::time::TICK_MS;
use squall_fields::{Cadence, Frame, Grid, KnowledgeTime, ValidTime, Variable};

pub use self::clean::{CleanFrame, Cleaner};
use crate::dead_letter::{DeadLetter, Reason};
use crate::decode::{Decoded, Fault};
use crate::source::Arrived;

/// What a source accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityConfig {
    /// Name of the source, for logs and metrics.
    pub source: Arc<str>,
    /// Variables that every frame must have.
    pub variables: Vec<Variable>,
    /// The rhythm of its slots.
    pub cadence: Cadence,
    /// How much later than known a frame may be valid, in seconds.
    pub future_tolerance_seconds: i64,
    /// Values outside become missing, in the unit of the variables.
    pub range: (f32, f32),
    /// A cell that differs from the median of its neighbours by more than this becomes missing; `None` looks for none.
    pub spikes: Option<f32>,
    /// Largest share of missing cells, 0 to 1.
    pub max_missing: f32,
    /// A frame that repeats this many slots before it, value for value, is stale; `None` looks for none.
    pub stale: Option<u32>,
    /// How long after its slot a frame is remembered for telling duplicates, in milliseconds: as long as the
    /// windows hold it ([`crate::window::WindowConfig::memory_ms`]), so that a restart remembers the same.
    pub memory_ms: i64,
    /// The grid that every frame must have; `None` takes that of the first valid frame.
    pub grid: Option<Arc<Grid>>,
}

/// A frame that passed.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The frame.
    pub frame: Arc<Frame>,
    /// The record that held it.
    pub arrived: Arrived,
    /// Whether it replaces another frame of its slot.
    pub correction: bool,
}

/// What becomes of a frame.
#[derive(Clone, Debug)]
pub enum Checked {
    /// It is used.
    Frame(Accepted),
    /// Its record goes to dead letters.
    Dead(Arc<DeadLetter>),
}

/// The pure core: judges frames in the order of the log.
///
/// ```
/// use squall_fields::{Cadence, Variable};
/// use squall_operators::quality::{Quality, QualityConfig};
/// let config = QualityConfig::new("radar", vec![Variable::RainRate], Cadence::every_seconds(300).unwrap());
/// let quality = Quality::new(config);
/// assert!(quality.grid().is_none()); // until the first valid frame
/// ```
#[derive(Clone, Debug)]
pub struct Quality {
    config: QualityConfig,
    grid: Option<(Arc<Grid>, String)>,
    /// Content of the newest frame of each slot.
    seen: BTreeMap<ValidTime, u64>,
}

impl QualityConfig {
    /// A source that accepts everything that is a frame of its variables on its slots.
    pub fn new(source: &str, variables: Vec<Variable>, cadence: Cadence) -> Self {
        Self {
            source: source.into(),
            variables,
            cadence,
            future_tolerance_seconds: 600,
            range: (f32::NEG_INFINITY, f32::INFINITY),
            spikes: None,
            max_missing: 1.0,
            stale: None,
            memory_ms: 3 * 3_600_000,
            grid: None,
        }
    }
}

impl Quality {
    /// Judges by a configuration.
    pub fn new(config: QualityConfig) -> Self {
        let grid = config.grid.clone().map(|grid| (grid.clone(), grid.id()));
        Self { config, grid, seen: BTreeMap::new() }
    }

    /// Name of the source.
    pub fn source(&self) -> &str {
        &self.config.source
    }

    /// The grid of the source, once it is known.
    pub fn grid(&self) -> Option<&Arc<Grid>> {
        self.grid.as_ref().map(|(grid, _)| grid)
    }

    /// Judges a frame known at a time: the frame as it may be used, and whether it replaces another of its slot.
    ///
    /// # Errors
    /// Why the frame is not used.
    pub fn check(&mut self, frame: CleanFrame, known_at: KnowledgeTime) -> Result<(Arc<Frame>, bool), Fault> {
        let CleanFrame { frame, content, missing } = frame;
        self.check_time(&frame, known_at)?;
        self.check_shape(&frame)?;
        self.check_missing(missing)?;
        let memory_ms = self.config.memory_ms;
        let over = |slot: ValidTime| slot.unix_seconds() * 1000 + memory_ms + TICK_MS as i64 - 1;
        self.seen.retain(|slot, _| KnowledgeTime::from_unix_ms(over(*slot)) >= known_at);
        let before = self.seen.get(&frame.slot).copied();
        if before == Some(content) {
            return Err((Reason::Duplicate, format!("the frame of {} again", frame.slot)));
        }
        if let Some(repeats) = self.config.stale {
            let cadence = self.config.cadence;
            let mut earlier = (1..=i64::from(repeats)).map(|back| cadence.step(frame.slot, -back));
            if repeats > 0 && earlier.all(|slot| self.seen.get(&slot) == Some(&content)) {
                return Err((
                    Reason::Stale,
                    format!("the same values as in the {repeats} slots before {}", frame.slot),
                ));
            }
        }
        if self.grid.is_none() {
            self.grid = Some((frame.grid.clone(), frame.grid.id()));
        }
        self.seen.insert(frame.slot, content);
        Ok((frame, before.is_some()))
    }

    fn check_time(&self, frame: &Frame, known_at: KnowledgeTime) -> Result<(), Fault> {
        let QualityConfig { cadence, future_tolerance_seconds, .. } = &self.config;
        let slot = frame.slot;
        if !cadence.is_slot(slot) {
            return Err((Reason::WrongSlot, format!("{slot} is no slot of every {} s", cadence.step_seconds())));
        }
        let ahead = slot.unix_seconds() - (known_at.unix_ms() / 1000) as i64;
        if ahead > *future_tolerance_seconds {
            let detail = format!("valid at {slot}, {ahead} s after it was known, at most {future_tolerance_seconds}");
            return Err((Reason::Future, detail));
        }
        Ok(())
    }

    fn check_shape(&self, frame: &Frame) -> Result<(), Fault> {
        if let Some(lacks) = self.config.variables.iter().find(|v| frame.plane(**v).is_none()) {
            return Err((Reason::WrongVariables, format!("no {}", lacks.name())));
        }
        let (planes, rows, columns) = frame.values.dim();
        if planes != frame.variables.len() || (rows, columns) != frame.grid.shape() {
            let detail = format!("values are {planes} x {rows} x {columns}, the grid {:?}", frame.grid.shape());
            return Err((Reason::WrongVariables, detail));
        }
        if let Some((grid, id)) = &self.grid
            && !Arc::ptr_eq(grid, &frame.grid)
            && *id != frame.grid.id()
        {
            let (theirs, ours) = (&frame.grid, grid);
            let detail = format!(
                "{:?} cells of {} from ({}, {}); the source has {:?} cells of {} from ({}, {})",
                theirs.shape(),
                theirs.proj,
                theirs.x.first,
                theirs.y.first,
                ours.shape(),
                ours.proj,
                ours.x.first,
                ours.y.first,
            );
            return Err((Reason::WrongGrid, detail));
        }
        Ok(())
    }

    fn check_missing(&self, missing: f32) -> Result<(), Fault> {
        let max_missing = self.config.max_missing;
        if missing >= 1.0 {
            return Err((Reason::AllMissing, "every value is missing or out of range".into()));
        }
        if missing > max_missing {
            return Err((Reason::TooMuchMissing, format!("{missing:.3} missing, at most {max_missing}")));
        }
        Ok(())
    }
}

/// Judges the frames of one record. A record that only refills windows makes no dead letters: they are committed.
pub fn judge(core: &mut Quality, decoded: Decoded) -> Vec<Checked> {
    let Decoded { arrived, outcome } = decoded;
    let mut checked = Vec::new();
    let mut dead = |fault| {
        if !arrived.refill {
            checked.push(Checked::Dead(Decoded::dead(&arrived, fault).into()));
        }
    };
    let frames = match outcome {
        Ok(frames) => frames,
        Err(fault) => {
            dead(fault);
            return checked;
        }
    };
    for frame in frames {
        match core.check(frame, arrived.at) {
            Ok((frame, correction)) => {
                checked.push(Checked::Frame(Accepted { frame, arrived: arrived.clone(), correction }))
            }
            Err(fault) if !arrived.refill => checked.push(Checked::Dead(Decoded::dead(&arrived, fault).into())),
            Err(_) => {}
        }
    }
    checked
}

#[cfg(test)]
mod tests;
