//! The context of a forecast: the last slots, with the mask of what is missing.

use std::sync::Arc;

use crate::{Cadence, Frame, IssueTime, ValidTime};

/// The last T slots that a model takes as its context.
///
/// `frames[i]` belongs to the slot `T - 1 - i` steps before the issue time; `None` is a slot whose
/// frame did not come in time. The newest slot may be missing too.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Slot of the newest frame.
    pub issue_time: IssueTime,
    /// Step from frame to frame.
    pub cadence: Cadence,
    /// Oldest first.
    pub frames: Vec<Option<Arc<Frame>>>,
    /// A wind that steers the rain where its motion cannot be seen; its grid may be another.
    pub steering: Option<Arc<Frame>>,
}

impl Window {
    /// The slot of `frames[index]`.
    pub fn slot(&self, index: usize) -> ValidTime {
        let back = self.frames.len() as i64 - 1 - index as i64;
        self.cadence.step(self.issue_time.slot(), -back)
    }

    /// `true` for each slot that is present, oldest first.
    pub fn mask(&self) -> Vec<bool> {
        self.frames.iter().map(Option::is_some).collect()
    }

    /// Whether no slot is missing.
    pub fn is_complete(&self) -> bool {
        self.frames.iter().all(Option::is_some)
    }

    /// The slots that are missing, oldest first.
    pub fn missing(&self) -> Vec<ValidTime> {
        (0..self.frames.len()).filter(|i| self.frames[*i].is_none()).map(|i| self.slot(i)).collect()
    }

    /// The newest frame that is present.
    pub fn newest(&self) -> Option<&Arc<Frame>> {
        self.frames.iter().rev().flatten().next()
    }
}
