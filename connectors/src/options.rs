//! What a stream wants from a file, and how much of it is allowed.

use serde::{Deserialize, Serialize};
use squall_fields::units::{ConversionContext, DEFAULT_NO_ECHO_DBZ};
use squall_fields::{Variable, ZRelation};

use crate::gridded::Interval;

/// Bounds that are checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Cells of one field. The contiguous United States at 0.01 degrees have 24.5 million.
    pub max_cells: usize,
    /// Fields in one file.
    pub max_fields: usize,
    /// Bytes of one file that is held in memory.
    pub max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_cells: 64 << 20, max_fields: 100_000, max_bytes: 256 << 20 }
    }
}

/// How a file is read into frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// The variables of each frame, in this order. Empty: what the file has, a rain rate before a
    /// wind before a reflectivity before an amount.
    pub variables: Vec<Variable>,
    /// Between reflectivity and rain rate.
    pub z_relation: ZRelation,
    /// Reflectivities below it (dBZ) are no echo.
    pub no_echo_dbz: f32,
    /// How long an amount was gathered, in seconds, where the file does not say; and how long an amount is
    /// gathered that is wanted, which is one step of the cadence.
    pub amount_interval_seconds: Option<f64>,
    /// The reference system as PROJ string or EPSG code, where the file does not say.
    pub crs: Option<String>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            variables: Vec::new(),
            z_relation: ZRelation::default(),
            no_echo_dbz: DEFAULT_NO_ECHO_DBZ,
            amount_interval_seconds: None,
            crs: None,
            limits: Limits::default(),
        }
    }
}

impl ReadOptions {
    /// The defaults, for frames of these variables.
    pub fn of(variables: &[Variable]) -> Self {
        Self { variables: variables.to_vec(), ..Self::default() }
    }

    /// What a conversion of units needs to know.
    pub fn conversion(&self, interval: &Interval) -> ConversionContext {
        let (stated, spacing) = (interval.stated(), interval.spacing());
        ConversionContext {
            z_relation: self.z_relation,
            no_echo_dbz: self.no_echo_dbz,
            interval_seconds: stated.or(self.amount_interval_seconds).or(spacing),
            step_seconds: self.amount_interval_seconds.or(stated).or(spacing),
        }
    }
}
