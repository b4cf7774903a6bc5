//! What closed hours summed to, as it is kept for restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_models::scores::Statistics;

use super::series::{DAY, HOUR, Key, Period, Series, Sums, start};
use super::skill::Standing;
use crate::kept;
use crate::ports::Outgoing;

/// What the closed hours of a series summed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedSums {
    /// Of which forecasts.
    pub series: Series,
    /// Of all of them.
    pub all: Statistics,
    /// Of those of the days that are not over, by the day's first second.
    pub days: BTreeMap<i64, Statistics>,
}

impl ClosedSums {
    fn new(series: Series) -> Self {
        Self { series, all: Statistics::default(), days: BTreeMap::new() }
    }
}

/// Where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    topic: Arc<str>,
    prefix: String,
    standings: String,
}

impl Archive {
    /// Of a stream of an instance, on the topic of progress.
    pub fn new(topic: impl Into<Arc<str>>, instance: &str, stream: &str) -> Self {
        let [prefix, standings] = ["sums", "skill"].map(|what| format!("{instance}/{stream}/{what}/"));
        Self { topic: topic.into(), prefix, standings }
    }

    /// What the keys of its records begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the keys of the records of standings begin with.
    pub fn standings(&self) -> &str {
        &self.standings
    }

    /// The record of how a stream stands.
    pub(super) fn standing(&self, standing: &Standing) -> Outgoing {
        let Standing { baseline, variable, region, .. } = standing;
        kept::record(&self.topic, format!("{}{baseline}|{variable}|{region}", self.standings), Some(standing))
    }

    fn record(&self, sums: &ClosedSums) -> Outgoing {
        kept::record(&self.topic, format!("{}{}", self.prefix, sums.series), Some(sums))
    }
}

/// The pure core: open sums by valid time, and closed ones.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    open: BTreeMap<i64, BTreeMap<Series, Statistics>>,
    closed: BTreeMap<Series, ClosedSums>,
}

impl Ledger {
    /// Going on from what was kept.
    pub fn new(kept: Vec<ClosedSums>) -> Self {
        let closed = kept.into_iter().map(|sums| (sums.series.clone(), sums)).collect();
        Self { open: BTreeMap::new(), closed }
    }

    /// The sums that the collection starts with.
    pub fn at_start(&self) -> Vec<(Key, Sums)> {
        let of = |sums: &ClosedSums| {
            let all = (Period::All, sums.all.clone());
            let days = sums.days.iter().map(|(day, sum)| (Period::Day(*day), sum.clone()));
            let key = |(period, sum)| (Key { series: sums.series.clone(), period }, Sums(sum));
            std::iter::once(all).chain(days).map(key).collect::<Vec<_>>()
        };
        self.closed.values().flat_map(of).collect()
    }

    /// Adds statistics of a valid time: the changes of the collection.
    pub fn add(&mut self, series: &Series, valid: i64, statistics: &Statistics) -> Vec<(Key, Sums)> {
        let sum = self.open.entry(valid).or_default().entry(series.clone()).or_default();
        *sum = sum.plus(statistics);
        let change = |period| (Key { series: series.clone(), period }, Sums(statistics.clone()));
        Period::of(valid).into_iter().map(change).collect()
    }

    /// Closes what was valid before a time: what leaves the collection, and the records to keep. Hours that are closed
    /// leave it, and days that are over; what they summed to stays in the sum of all.
    pub fn close(&mut self, open: i64, archive: &Archive) -> (Vec<(Key, Sums)>, Vec<Outgoing>) {
        let later = self.open.split_off(&open);
        let over = std::mem::replace(&mut self.open, later);
        let mut leaves = Vec::new();
        let mut changed: BTreeMap<Series, bool> = BTreeMap::new();
        for (valid, sums) in over {
            for (series, sum) in sums {
                for period in Period::of(valid).into_iter().take(2) {
                    leaves.push((Key { series: series.clone(), period }, Sums(sum.negated())));
                }
                let closed = self.closed.entry(series.clone()).or_insert_with(|| ClosedSums::new(series.clone()));
                closed.all = closed.all.plus(&sum);
                let day = closed.days.entry(start(valid, DAY)).or_default();
                *day = day.plus(&sum);
                changed.insert(series, true);
            }
        }
        for (series, closed) in &mut self.closed {
            while let Some(day) = closed.days.first_entry().filter(|day| day.key() + DAY <= open) {
                let key = Key { series: series.clone(), period: Period::Day(*day.key()) };
                leaves.push((key, Sums(day.remove().negated())));
                changed.insert(series.clone(), true);
            }
        }
        let records = changed.keys().filter_map(|series| Some(archive.record(self.closed.get(series)?))).collect();
        (leaves, records)
    }

    /// Lets go of what was valid before a time.
    pub fn forget(&mut self, open: i64) {
        self.open = self.open.split_off(&open);
    }

    /// What an open hour summed to, by series.
    pub fn hour(&self, from: i64) -> BTreeMap<Series, Statistics> {
        let mut hour: BTreeMap<Series, Statistics> = BTreeMap::new();
        for (series, sum) in self.open.range(from..from + HOUR).flat_map(|(_, sums)| sums) {
            let whole = hour.entry(series.clone()).or_default();
            *whole = whole.plus(sum);
        }
        hour
    }

    /// The hours that hold anything before a time, oldest first.
    pub fn hours_before(&self, open: i64) -> Vec<i64> {
        let mut hours: Vec<i64> = self.open.range(..open).map(|(valid, _)| start(*valid, HOUR)).collect();
        hours.dedup();
        hours
    }
}
