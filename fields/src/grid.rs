//! Where the cells of a field lie.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Evenly spaced cell centres along one direction, in the CRS's unit (m, or degrees).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Centre of the first cell.
    pub first: f64,
    /// From one centre to the next; negative for an axis that descends.
    pub step: f64,
    /// Number of cells.
    pub len: usize,
}

impl Axis {
    /// Centre of a cell.
    pub fn centre(&self, index: usize) -> f64 {
        self.first + index as f64 * self.step
    }

    /// Fractional index of a coordinate; outside the axis it is negative or beyond `len - 1`.
    pub fn index_of(&self, coordinate: f64) -> f64 {
        (coordinate - self.first) / self.step
    }
}

/// A regular grid in a coordinate reference system.
///
/// Row 0 is the northernmost and column 0 the westernmost: `y.step < 0 < x.step`. Readers flip what
/// comes otherwise, so two files of one grid are equal whatever order their rows had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// PROJ string of the reference system, such as `+proj=stere +lat_0=90 +lat_ts=60 ...`.
    pub proj: String,
    /// The same as well-known text, if the source gave it; written out again, never interpreted.
    pub wkt: Option<String>,
    /// West to east.
    pub x: Axis,
    /// North to south.
    pub y: Axis,
}

impl Grid {
    /// Cells as `(rows, columns)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.y.len, self.x.len)
    }

    /// Number of cells.
    pub fn cells(&self) -> usize {
        self.y.len * self.x.len
    }

    /// First 16 hex digits of a digest over CRS and axes, with coordinates rounded to a thousandth
    /// of a step: equal for grids that are the same but for rounding.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.proj.split_whitespace().collect::<Vec<_>>().join(" "));
        for axis in [self.x, self.y] {
            let scale = 1000.0 / axis.step.abs();
            hash.update(((axis.first * scale).round() as i64).to_le_bytes());
            hash.update(((axis.step * 1e6).round() as i64).to_le_bytes());
            hash.update((axis.len as u64).to_le_bytes());
        }
        hex::encode(&hash.finalize()[..8])
    }
}
