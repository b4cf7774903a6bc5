//! What a station reports: where it stands, when, and its readings with their flags.
//!
//! A report is small and there are many, it is corrected later, and it is joined and counted: so everything in it can be
//! compared and sorted ([`Ord`]), which no float can. A place is whole microdegrees, and a value is ordered by its bits.

mod flags;
mod place;
mod quantity;
mod reading;
mod wind;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::flags::{Check, Flags, Verdict};
pub use self::place::{Place, PlaceError};
pub use self::quantity::Quantity;
pub use self::reading::Reading;
pub use self::wind::derived_winds;
use crate::{InputRef, ValidTime};

/// A station: what it is called and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Station {
    /// Identifier, such as the WIGOS one; the same station has the same one in every report.
    pub id: Arc<str>,
    /// Name for a person.
    pub name: Option<Arc<str>>,
    /// Where it stands. Without a place, readings can be compared neither with neighbours nor with a field.
    pub place: Option<Place>,
}

/// What a station measured until one instant.
///
/// ```
/// use std::sync::Arc;
/// use squall_fields::{InputRef, Place, Quantity, Reading, Station, StationReport, ValidTime};
/// let place = Place::new(57.72, 12.04, Some(20.0)).expect("on the Earth");
/// let report = StationReport {
///     station: Arc::new(Station { id: "torp".into(), name: None, place: Some(place) }),
///     valid: ValidTime::from_unix_seconds(1_440_633_600),
///     readings: vec![
///         Reading::new(Quantity::WindSpeed, None, 10.0),
///         Reading::new(Quantity::WindFromDirection, None, 270.0),
///     ],
///     input: InputRef { topic: "obs".into(), partition: 0, offset: 0, digest: "".into() },
/// };
/// assert_eq!(report.value(Quantity::WindSpeed, None), Some(10.0));
/// assert_eq!(report.value(Quantity::RainRate, Some(3600)), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StationReport {
    /// Who measured.
    pub station: Arc<Station>,
    /// When the readings are valid: for those over a period, its end.
    pub valid: ValidTime,
    /// What was measured, each quantity and period at most once.
    pub readings: Vec<Reading>,
    /// The record or file that held it.
    pub input: InputRef,
}

impl StationReport {
    /// The reading of a quantity over a period.
    pub fn reading(&self, quantity: Quantity, period_seconds: Option<u32>) -> Option<&Reading> {
        self.readings.iter().find(|r| (r.quantity, r.period_seconds) == (quantity, period_seconds))
    }

    /// Its value in the unit of the quantity; `None` if it is missing.
    pub fn value(&self, quantity: Quantity, period_seconds: Option<u32>) -> Option<f32> {
        self.reading(quantity, period_seconds).map(|reading| reading.value).filter(|value| value.is_finite())
    }
}
