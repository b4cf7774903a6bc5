//! What flows through Squall: grids, frames, windows, ensembles, forecasts, units and time.
//!
//! No I/O, no tensors, no dataflow: every other crate speaks in these types, so that a quantity
//! that could be mixed up with another (a valid time with an issue time, dBZ with mm/h) has a
//! type of its own.
//!
//! ```
//! use squall_fields::{Cadence, Conversion, ConversionContext, IssueTime, LeadTime, ScaledUnit, Variable};
//!
//! // Issue time, lead time and valid time are three types: what does not add up does not compile.
//! let cadence = Cadence::every_seconds(300).expect("five minutes are not nothing");
//! let issue_time = IssueTime::parse_rfc3339("2016-09-28T16:00:00Z").expect("a time");
//! let leads: Vec<LeadTime> = cadence.leads(12);
//! assert_eq!(issue_time.at(leads[11]).to_rfc3339(), "2016-09-28T17:00:00Z");
//!
//! // A unit is read as a file spells it, and becomes the one of the variable, or an error that says why not.
//! let context = ConversionContext::default();
//! let unit = ScaledUnit::parse("0.1 mm h-1")?;
//! let rain = Conversion::new(unit, Variable::RainRate, &context)?;
//! assert_eq!(rain.apply(25.0), 2.5);
//! let wrong = Conversion::new(ScaledUnit::parse("dBZ")?, Variable::EastwardWind, &context);
//! assert!(wrong.is_err());
//! # Ok::<(), squall_fields::units::UnitError>(())
//! ```

pub mod crs;
pub mod ensemble;
pub mod error;
pub mod forecast;
pub mod frame;
pub mod grid;
pub mod random;
pub mod station;
pub mod time;
pub mod time_units;
pub mod trace;
pub mod units;
pub mod window;

pub use ensemble::Ensemble;
pub use error::{Cause, Chain, ErrorKind, Failure};
pub use forecast::{Degradation, Forecast, ForecastId, Provenance};
pub use frame::{Frame, InputRef};
pub use grid::{Axis, Grid};
pub use station::{Check, Flags, Place, Quantity, Reading, Station, StationReport, Verdict};
pub use time::{Cadence, IssueTime, KnowledgeTime, LeadTime, ValidTime};
pub use trace::TraceParent;
pub use units::{Conversion, ConversionContext, ScaledUnit, Unit, Variable, ZRelation};
pub use window::Window;
