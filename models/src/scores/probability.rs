//! Scores of the probability of an event, all from one table of counts, as a board keeps them.

use super::score::{Pair, Score, Value};
use super::statistics::sums_of_field;
use super::{Event, ProbabilityTable};

/// The probability of values at or above a threshold: the share of the members.
#[derive(Clone, Debug, PartialEq)]
pub struct Probability {
    threshold: f32,
    table: ProbabilityTable,
}

impl Probability {
    /// Empty counts.
    pub fn at_least(threshold: f32) -> Self {
        Self { threshold, table: ProbabilityTable::default() }
    }

    /// The counts: reliability, ROC curve and economic value follow from them.
    pub fn table(&self) -> &ProbabilityTable {
        &self.table
    }
}

sums_of_field!(Probability, table);

impl Score for Probability {
    fn name(&self) -> &'static str {
        "Brier"
    }

    fn threshold(&self) -> Option<f32> {
        Some(self.threshold)
    }

    fn add(&mut self, pair: &Pair<'_>) {
        self.table.add(pair.members, pair.observed, Event::AtLeast(self.threshold));
    }

    fn merge(&mut self, other: &Self) {
        self.table = self.table.merge(&other.table);
    }

    fn count(&self) -> f64 {
        self.table.count() as f64
    }

    /// The biased Brier score.
    fn finish(&self) -> Option<f64> {
        self.table.brier()
    }

    fn values(&self) -> Vec<Value> {
        let parts = self.table.murphy();
        let part = |i: usize| parts.map(|parts| parts[i]);
        vec![
            Value::new("brier", self.table.brier()),
            Value::new("brier_fair", self.table.fair_brier()),
            Value::new("brier_reliability", part(0)),
            Value::new("brier_resolution", part(1)),
            Value::new("brier_uncertainty", part(2)),
            Value::new("roc_area", self.table.roc_area()),
            // Where cost to loss is the base rate, which is where it is largest.
            Value::new("economic_value_max", self.table.base_rate().and_then(|rate| self.table.economic_value(rate))),
        ]
    }
}
