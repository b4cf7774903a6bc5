//! What is done to each frame by itself, whatever came before it: beside the worker, where the frame was decoded.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_fields::Frame;

use super::QualityConfig;
use super::spikes::spikes;

/// Takes out of a frame the cells that cannot be true.
#[derive(Clone, Debug, PartialEq)]
pub struct Cleaner {
    range: (f32, f32),
    spikes: Option<f32>,
}

/// A frame without the cells that cannot be true, and what the judge wants to know of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CleanFrame {
    /// The frame.
    pub frame: Arc<Frame>,
    /// Digest of what it said before it was cleaned: for telling a duplicate from a correction.
    pub content: u64,
    /// Share of its cells that are missing, 0 to 1.
    pub missing: f32,
}

impl Cleaner {
    /// As a source wants it.
    pub fn new(config: &QualityConfig) -> Self {
        Self { range: config.range, spikes: config.spikes }
    }

    /// Cells outside the range and spikes become missing; a frame without such cells is passed on without a copy.
    pub fn clean(&self, frame: Arc<Frame>) -> CleanFrame {
        let content = fingerprint(&frame);
        let frame = self.without_bad_cells(frame);
        let missing = 1.0 - frame.completeness();
        CleanFrame { frame, content, missing }
    }

    fn without_bad_cells(&self, frame: Arc<Frame>) -> Arc<Frame> {
        let (rows, columns) = frame.grid.shape();
        let (_, frame_rows, frame_columns) = frame.values.dim();
        if (rows, columns) != (frame_rows, frame_columns) {
            return frame; // the judge refuses it
        }
        let (low, high) = self.range;
        let outside = |v: f32| v < low || v > high;
        let mut bad: Vec<usize> = Vec::new();
        if (low, high) != (f32::NEG_INFINITY, f32::INFINITY) {
            bad.extend(frame.values.iter().enumerate().filter(|(_, v)| outside(**v)).map(|(i, _)| i));
        }
        if let Some(excess) = self.spikes {
            let cells = frame.grid.cells();
            for (plane, values) in frame.values.outer_iter().enumerate() {
                bad.extend(spikes(values, excess).into_iter().map(|cell| plane * cells + cell));
            }
        }
        if bad.is_empty() {
            return frame;
        }
        let mut frame = Arc::unwrap_or_clone(frame);
        let cells = rows * columns;
        for index in bad {
            let cell = index % cells;
            frame.values[[index / cells, cell / columns, cell % columns]] = f32::NAN;
        }
        frame.into()
    }
}

/// Digest of what a frame says, whatever file said it.
fn fingerprint(frame: &Frame) -> u64 {
    let mut hash = DefaultHasher::new();
    hash.write(bytes_of(frame.values.as_slice(), || frame.values.iter().copied().collect()).as_ref());
    if let Some(quality) = &frame.quality {
        hash.write(bytes_of(quality.as_slice(), || quality.iter().copied().collect()).as_ref());
    }
    hash.finish()
}

fn bytes_of<'a>(slice: Option<&'a [f32]>, copy: impl FnOnce() -> Vec<f32>) -> Cow<'a, [u8]> {
    match slice {
        Some(values) => bytemuck::cast_slice(values).into(),
        None => bytemuck::cast_slice(&copy()).to_vec().into(),
    }
}
