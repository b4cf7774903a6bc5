//! Scores that forgive a small displacement: FSS, neighbourhood CSI and pooled CRPS of a window, as a board keeps them.

use super::pooled::{Pool, neighbourhood_table, pooled_crps};
use super::score::{Pair, Score, Value};
use super::statistics::sums_of_field;
use super::{Border, Contingency, Crps, Event, Fss, FssOptions, Operator};

/// The FSS of a threshold and a window; of an ensemble the probabilistic one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FssScore {
    threshold: f32,
    scale: usize,
    options: FssOptions,
    sums: Fss,
}

impl FssScore {
    /// Of windows of `scale` cells.
    pub fn new(threshold: f32, scale: usize, options: FssOptions) -> Self {
        Self { threshold, scale, options, sums: Fss::default() }
    }
}

sums_of_field!(FssScore, sums);

impl Score for FssScore {
    /// Says what is not as usual.
    fn name(&self) -> &'static str {
        match (self.options.border, self.options.operator) {
            (Border::NoEvent, Operator::AtLeast) => "FSS",
            (Border::NoEvent, Operator::Above) => "FSS above",
            (Border::Interior, Operator::AtLeast) => "FSS inside",
            (Border::Interior, Operator::Above) => "FSS inside, above",
        }
    }

    fn threshold(&self) -> Option<f32> {
        Some(self.threshold)
    }

    fn scale(&self) -> Option<usize> {
        Some(self.scale)
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let FssOptions { border, operator } = self.options;
        let event = operator.event(self.threshold);
        self.sums.add_ensemble(pair.members, pair.observed, event, self.scale, border);
    }

    fn merge(&mut self, other: &Self) {
        self.sums = self.sums.merge(&other.sums);
    }

    fn count(&self) -> f64 {
        self.sums.count()
    }

    fn finish(&self) -> Option<f64> {
        self.sums.score()
    }

    fn values(&self) -> Vec<Value> {
        vec![Value::new("fss", self.finish())]
    }
}

/// The CSI of the ensemble mean in windows, which lie every half of their side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NeighbourhoodCsi {
    threshold: f32,
    scale: usize,
    table: Contingency,
}

impl NeighbourhoodCsi {
    /// Of windows of `scale` cells.
    pub fn new(threshold: f32, scale: usize) -> Self {
        Self { threshold, scale, table: Contingency::default() }
    }
}

sums_of_field!(NeighbourhoodCsi, table);

impl Score for NeighbourhoodCsi {
    fn name(&self) -> &'static str {
        "CSI nearby"
    }

    fn threshold(&self) -> Option<f32> {
        Some(self.threshold)
    }

    fn scale(&self) -> Option<usize> {
        Some(self.scale)
    }

    fn add(&mut self, pair: &Pair<'_>) {
        let event = Event::AtLeast(self.threshold);
        let table = neighbourhood_table(pair.mean().view(), pair.observed, event, self.scale);
        self.table = self.table.merge(&table);
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
        vec![Value::new("csi_neighbourhood", self.finish())]
    }
}

/// The CRPS of what is made of windows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PooledCrps {
    scale: usize,
    pool: Pool,
    crps: Crps,
}

impl PooledCrps {
    /// Of windows of `scale` cells.
    pub fn new(scale: usize, pool: Pool) -> Self {
        Self { scale, pool, crps: Crps::default() }
    }
}

sums_of_field!(PooledCrps, crps);

impl Score for PooledCrps {
    fn name(&self) -> &'static str {
        match self.pool {
            Pool::Mean => "CRPS of means",
            Pool::Max => "CRPS of maxima",
        }
    }

    fn scale(&self) -> Option<usize> {
        Some(self.scale)
    }

    fn has_unit(&self) -> bool {
        true
    }

    fn add(&mut self, pair: &Pair<'_>) {
        self.crps = self.crps.merge(&pooled_crps(pair.members, pair.observed, self.scale, self.pool));
    }

    fn merge(&mut self, other: &Self) {
        self.crps = self.crps.merge(&other.crps);
    }

    fn count(&self) -> f64 {
        self.crps.weight()
    }

    /// The biased one.
    fn finish(&self) -> Option<f64> {
        self.crps.biased()
    }

    fn values(&self) -> Vec<Value> {
        let names = match self.pool {
            Pool::Mean => ["crps_pooled_mean", "crps_pooled_mean_fair"],
            Pool::Max => ["crps_pooled_max", "crps_pooled_max_fair"],
        };
        vec![Value::new(names[0], self.crps.biased()), Value::new(names[1], self.crps.fair())]
    }
}
