//! The critical success index of a forecast, reduced to one field.

use super::score::{Pair, Score, Value};
use super::statistics::sums_of_field;
use super::{Contingency, Event};

/// Which field of an ensemble is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Mean,
    Control,
}

/// The CSI of values at or above a threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Csi {
    field: Field,
    threshold: f32,
    table: Contingency,
}

impl Csi {
    /// Of the ensemble mean.
    pub fn of_mean(threshold: f32) -> Self {
        Self { field: Field::Mean, threshold, table: Contingency::default() }
    }

    /// Of the first member, which keeps the intensity of the rain that a mean smooths away.
    pub fn of_control(threshold: f32) -> Self {
        Self { field: Field::Control, ..Self::of_mean(threshold) }
    }
}

sums_of_field!(Csi, table);

impl Score for Csi {
    fn name(&self) -> &'static str {
        "CSI"
    }

    fn threshold(&self) -> Option<f32> {
        Some(self.threshold)
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let field = match self.field {
            Field::Mean => pair.mean().view(),
            Field::Control => pair.control(),
        };
        self.table.add(field, pair.observed, Event::AtLeast(self.threshold));
    }

    fn merge(&mut self, other: &Self) {
        self.table = self.table.merge(&other.table);
    }

    fn count(&self) -> f64 {
        self.table.total()
    }

    fn finish(&self) -> Option<f64> {
        self.table.csi()
    }

    fn values(&self) -> Vec<Value> {
        let table = &self.table;
        match self.field {
            Field::Mean => vec![
                Value::new("csi", table.csi()),
                Value::new("pod", table.pod()),
                Value::new("far", table.far()),
                Value::new("ets", table.ets()),
                Value::new("hss", table.hss()),
                Value::new("frequency_bias", table.bias()),
            ],
            Field::Control => {
                vec![Value::new("csi_control", table.csi()), Value::new("frequency_bias_control", table.bias())]
            }
        }
    }
}
