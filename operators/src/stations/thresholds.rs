//! What the checks allow.

use serde::{Deserialize, Serialize};
use squall_fields::Quantity;

/// What is allowed of one quantity, in its unit. A check without a limit is not made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Least and greatest value that can be; another fails, and is no evidence for or against others.
    pub possible: (f32, f32),
    /// Least and greatest value that is usual; another is suspect.
    #[serde(default)]
    pub usual: Option<(f32, f32)>,
    /// How much a reading may differ from the one before.
    #[serde(default)]
    pub step: Option<StepLimit>,
    /// For how long it may stay the same.
    #[serde(default)]
    pub persistence: Option<PersistenceLimit>,
    /// How much it may differ from its neighbours.
    #[serde(default)]
    pub buddy: Option<BuddyLimit>,
}

/// A reading that differs by more than `most` from the one before is suspect.
///
/// Not the way back from a single one that stood out: that one is suspect, and what follows it is not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLimit {
    /// Greatest change.
    pub most: f32,
    /// Readings that lie further apart in time are not compared.
    pub within_seconds: u32,
}

/// A reading that has stayed the same for too long is suspect, and for far too long wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistenceLimit {
    /// Values that differ by no more than this are the same.
    pub tolerance: f32,
    /// From then on it is suspect.
    pub suspect_after_seconds: u32,
    /// From then on it is wrong.
    #[serde(default)]
    pub fail_after_seconds: Option<u32>,
    /// Fewer readings than this are no evidence, however long they took.
    pub least_readings: usize,
    /// Values that may stay for ever: no rain, a calm.
    #[serde(default)]
    pub except: Option<(f32, f32)>,
}

/// A reading that differs from the weighted median of its neighbours, at the same time, by more than `most` and `spreads`
/// times their weighted median deviation from it, is suspect. Of directions, the weighted mean of unit vectors is the
/// middle, and there is none where they do not agree.
///
/// A neighbour at a distance d weighs exp(-2 (d / radius)²): 0.6 at half the radius, 0.14 at all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuddyLimit {
    /// Neighbours lie within so many metres.
    pub radius_m: f64,
    /// Neighbours whose elevation differs by more metres are none, where both are known.
    #[serde(default)]
    pub elevation_m: Option<f64>,
    /// With fewer neighbours the check is not made.
    pub least_neighbours: usize,
    /// Greatest difference from neighbours that all say the same.
    pub most: f32,
    /// What is allowed on top of that, in spreads of the neighbours.
    pub spreads: f32,
}

impl Thresholds {
    /// Limits that suit hourly and more frequent reports of the middle latitudes, after Zahumenský (WMO, 2004,
    /// *Guidelines on quality control procedures for data from automatic weather stations*) for what can be, with wide
    /// margins for the others: what is flagged deserves a look.
    pub fn of(quantity: Quantity) -> Self {
        const HOUR: u32 = 3600;
        let neighbours = |most, spreads| BuddyLimit {
            radius_m: 100_000.0,
            elevation_m: Some(300.0),
            least_neighbours: 4,
            most,
            spreads,
        };
        let stays = |tolerance, except| PersistenceLimit {
            tolerance,
            suspect_after_seconds: 6 * HOUR,
            fail_after_seconds: Some(24 * HOUR),
            least_readings: 6,
            except: Some(except),
        };
        let component = Self {
            possible: (-75.0, 75.0),
            usual: Some((-50.0, 50.0)),
            step: Some(StepLimit { most: 20.0, within_seconds: HOUR }),
            persistence: Some(stays(0.0, (0.0, 0.0))),
            buddy: Some(neighbours(10.0, 4.0)),
        };
        match quantity {
            Quantity::RainRate => Self {
                possible: (0.0, 1000.0),
                usual: Some((0.0, 200.0)),
                step: None,
                persistence: Some(stays(0.0, (0.0, 0.0))),
                buddy: Some(neighbours(10.0, 10.0)),
            },
            Quantity::WindSpeed => Self {
                possible: (0.0, 75.0),
                usual: Some((0.0, 50.0)),
                persistence: Some(stays(0.0, (0.0, 1.0))),
                ..component
            },
            Quantity::WindFromDirection => Self {
                possible: (0.0, 360.0),
                usual: None,
                step: None,
                persistence: Some(stays(0.0, (0.0, 0.0))),
                // A light wind comes from anywhere.
                buddy: None,
            },
            Quantity::EastwardWind | Quantity::NorthwardWind => component,
        }
    }

    /// What is wrong with these limits, in words that name the setting; nothing if they can be used.
    ///
    /// ```
    /// use squall_fields::Quantity;
    /// use squall_operators::stations::Thresholds;
    /// let usual = Thresholds::of(Quantity::WindSpeed);
    /// assert!(usual.faults().is_empty());
    /// let wrong = Thresholds { possible: (75.0, 0.0), ..usual };
    /// assert_eq!(wrong.faults(), ["possible: expected a least and a greatest value, got 75 to 0"]);
    /// ```
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut range = |name: &str, range: Option<(f32, f32)>| match range {
            // A NaN is neither.
            Some((least, greatest)) if least <= greatest => {}
            Some((least, greatest)) => {
                faults.push(format!("{name}: expected a least and a greatest value, got {least} to {greatest}"));
            }
            None => {}
        };
        range("possible", Some(self.possible));
        range("usual", self.usual);
        range("persistence.except", self.persistence.and_then(|limit| limit.except));
        let (step, persistence, buddy) = (self.step, self.persistence, self.buddy);
        let numbers = [
            ("step.most", step.map(|limit| f64::from(limit.most))),
            ("persistence.tolerance", persistence.map(|limit| limit.tolerance.into())),
            ("buddy.elevation_m", buddy.and_then(|limit| limit.elevation_m)),
            ("buddy.most", buddy.map(|limit| limit.most.into())),
            ("buddy.spreads", buddy.map(|limit| limit.spreads.into())),
        ];
        for (name, number) in numbers {
            if let Some(number) = number.filter(|number| number.is_nan() || *number < 0.0) {
                faults.push(format!("{name}: expected a number of at least 0, got {number}"));
            }
        }
        if let Some(radius) = buddy.map(|limit| limit.radius_m).filter(|radius| radius.is_nan() || *radius <= 0.0) {
            faults.push(format!("buddy.radius_m: expected a number above 0, got {radius}"));
        }
        faults
    }

    /// How long before a reading others lie that its checks look at, in seconds.
    pub fn looks_back_seconds(&self) -> i64 {
        // A step looks at the reading before, and at the one before that.
        let step = self.step.map_or(0, |step| 2 * i64::from(step.within_seconds));
        let persistence = self
            .persistence
            .map_or(0, |limit| i64::from(limit.fail_after_seconds.unwrap_or(0).max(limit.suspect_after_seconds)));
        step.max(persistence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_default_can_be_used_and_is_written_and_read() {
        for quantity in Quantity::ALL {
            let limits = Thresholds::of(*quantity);
            assert_eq!(limits.faults(), Vec::<String>::new(), "{}", quantity.name());
            let text = serde_json::to_string(&limits).unwrap();
            assert_eq!(serde_json::from_str::<Thresholds>(&text).unwrap(), limits);
        }
        let least: Thresholds = serde_json::from_str(r#"{"possible": [0, 1]}"#).unwrap();
        assert_eq!((least.looks_back_seconds(), least.buddy), (0, None));
        assert!(serde_json::from_str::<Thresholds>(r#"{"possible": [0, 1], "usuall": [0, 1]}"#).is_err());
    }

    #[test]
    fn every_limit_that_cannot_be_is_named() {
        let mut limits = Thresholds::of(Quantity::WindSpeed);
        limits.usual = Some((f32::NAN, 1.0));
        limits.step = limits.step.map(|limit| StepLimit { most: -1.0, ..limit });
        limits.persistence = limits.persistence.map(|limit| PersistenceLimit { tolerance: f32::NAN, ..limit });
        limits.buddy = limits.buddy.map(|limit| BuddyLimit { radius_m: 0.0, spreads: -0.5, ..limit });
        let named: Vec<String> =
            limits.faults().iter().map(|fault| fault.split(':').next().unwrap_or_default().to_owned()).collect();
        assert_eq!(named, ["usual", "step.most", "persistence.tolerance", "buddy.spreads", "buddy.radius_m"]);
    }
}
