//! What flows through Squall: grids, frames, windows, ensembles, forecasts, units and time.
//!
//! No I/O, no tensors, no dataflow: every other crate speaks in these types, so that a quantity
//! that could be mixed up with another (a valid time with an issue time, dBZ with mm/h) has a
//! type of its own.

pub mod crs;
pub mod ensemble;
pub mod error;
pub mod forecast;
pub mod frame;
pub mod grid;
pub mod random;
pub mod time;
pub mod time_units;
pub mod units;
pub mod window;

pub use ensemble::Ensemble;
pub use error::{Cause, Chain, ErrorKind, Failure};
pub use forecast::{Degradation, Forecast, ForecastId, Provenance};
pub use frame::{Frame, InputRef};
pub use grid::{Axis, Grid};
pub use time::{Cadence, IssueTime, KnowledgeTime, LeadTime, ValidTime};
pub use units::{Conversion, ConversionContext, ScaledUnit, Unit, Variable, ZRelation};
pub use window::Window;
