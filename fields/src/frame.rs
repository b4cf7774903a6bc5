//! One gridded observation at one slot.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, Axis as NdAxis};
use serde::{Deserialize, Serialize};

use crate::{Grid, ValidTime, Variable};

/// Where an input came from: the record in the log, and what its bytes were.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InputRef {
    /// Topic of the record, or the path of a file read without a log.
    pub topic: Arc<str>,
    /// Partition of the record; 0 for a file.
    pub partition: i32,
    /// Offset of the record; for a file the index of the field within it.
    pub offset: i64,
    /// SHA-256 of the payload, in hex. For a field of an archive: of the decoded values.
    pub digest: Arc<str>,
}

/// One gridded field at a slot: `values[variable, y, x]` in the units of each [`Variable`].
///
/// Rows run from north to south and columns from west to east, whatever the order in the file was.
/// A missing value is NaN. *No echo* is 0 for a rain rate and is kept apart from missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Where the cells lie.
    pub grid: Arc<Grid>,
    /// When the field is valid.
    pub slot: ValidTime,
    /// What each plane of `values` is.
    pub variables: Arc<[Variable]>,
    /// `[variable, y, x]`, NaN where missing.
    pub values: Array3<f32>,
    /// `[y, x]`, 0 (bad) to 1 (good), if the source has one.
    pub quality: Option<Array2<f32>>,
    /// The record or file that held it.
    pub input: InputRef,
}

impl Frame {
    /// The plane `[y, x]` of a variable, if the frame has it.
    pub fn plane(&self, variable: Variable) -> Option<ArrayView2<'_, f32>> {
        let index = self.variables.iter().position(|v| *v == variable)?;
        Some(self.values.index_axis(NdAxis(0), index))
    }

    /// Share of cells that are finite in every variable, 0 to 1.
    pub fn completeness(&self) -> f32 {
        let finite = self.values.iter().filter(|v| v.is_finite()).count();
        if self.values.is_empty() { 0.0 } else { finite as f32 / self.values.len() as f32 }
    }

    /// Bytes that the dense arrays hold.
    pub fn bytes(&self) -> usize {
        4 * (self.values.len() + self.quality.as_ref().map_or(0, Array2::len))
    }
}
