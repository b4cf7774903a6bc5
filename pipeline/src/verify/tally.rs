//! Sums of scores by what they are of, and the rows that follow from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use squall_fields::LeadTime;
use squall_models::scores::{AnyScore, Number, Statistics, numbers};

/// What sums are of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    /// The event, or file, that was forecast.
    pub event: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The quantity.
    pub variable: Arc<str>,
    /// Where: `domain` is the whole grid, `stations` the places of stations.
    pub region: Arc<str>,
    /// How far ahead.
    #[serde(skip)]
    pub lead: LeadTime,
}

/// A score of a subject, as it stands in files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The event, or `all`.
    pub event: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The quantity.
    pub variable: Arc<str>,
    /// Where.
    pub region: Arc<str>,
    /// Lead time in minutes.
    pub lead_minutes: f64,
    /// Name of the score.
    pub score: &'static str,
    /// Threshold of its event, in the unit of the quantity.
    pub threshold: Option<f32>,
    /// Side of its windows, or a wavelength, in cells.
    pub scale: Option<f64>,
    /// The score; none where it cannot be computed.
    pub value: Option<f64>,
    /// Cases that counted.
    pub count: f64,
}

/// The event that all events together are.
pub const ALL_EVENTS: &str = "all";

/// Sums of scores.
#[derive(Clone, Debug)]
pub struct Tally {
    empty: Vec<Box<dyn AnyScore>>,
    sums: BTreeMap<Subject, Statistics>,
}

impl Tally {
    /// Of scores that are all empty.
    pub fn new(empty: Vec<Box<dyn AnyScore>>) -> Self {
        Self { empty, sums: BTreeMap::new() }
    }

    /// Adds statistics of a subject.
    pub fn add(&mut self, subject: Subject, statistics: &Statistics) {
        let sum = self.sums.entry(subject).or_default();
        *sum = sum.plus(statistics);
    }

    /// The subjects, in their order.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.sums.keys()
    }

    /// The scores of a subject.
    pub fn scores(&self, subject: &Subject) -> Option<Vec<Box<dyn AnyScore>>> {
        Some(self.sums.get(subject)?.scores(&self.empty))
    }

    /// The scores that it keeps, empty.
    pub fn empty(&self) -> &[Box<dyn AnyScore>] {
        &self.empty
    }

    /// The same with the sums of all events under [`ALL_EVENTS`], and of each event if there are several.
    #[must_use]
    pub fn with_all_events(&self) -> Self {
        let mut all = Self { empty: self.empty.clone(), sums: BTreeMap::new() };
        let mut events: Vec<_> = self.sums.keys().map(|subject| &subject.event).collect();
        events.dedup();
        for (subject, statistics) in &self.sums {
            all.add(Subject { event: ALL_EVENTS.into(), ..subject.clone() }, statistics);
            if events.len() > 1 {
                all.add(subject.clone(), statistics);
            }
        }
        all
    }

    /// A row for each number of each score that counted anything.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (subject, statistics) in &self.sums {
            for Number { score, threshold, scale, value, count } in numbers(&self.empty, statistics) {
                rows.push(Row {
                    event: subject.event.clone(),
                    model: subject.model.clone(),
                    variable: subject.variable.clone(),
                    region: subject.region.clone(),
                    lead_minutes: subject.lead.seconds() as f64 / 60.0,
                    score,
                    threshold,
                    scale,
                    value,
                    count,
                });
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use squall_fields::Variable;
    use squall_models::scores::list::{self, Settings};
    use squall_models::scores::{Field, of_fields};

    use super::*;

    #[test]
    fn events_are_pooled_by_their_sums_and_what_counted_nothing_has_no_row() {
        let settings = Settings { thresholds: vec![1.0], ..Settings::default() };
        let mut tally = Tally::new(list::start(&["crps", "csi", "energy"], &settings).unwrap());
        let subject = |event: &str| Subject {
            event: event.into(),
            model: "dry".into(),
            variable: "rain_rate".into(),
            region: "domain".into(),
            lead: LeadTime::from_seconds(300),
        };
        for (event, side, rain) in [("a", 2, 3.0), ("b", 4, 1.0)] {
            let (dry, wet) = (Array3::zeros((2, side, side)), Array2::from_elem((side, side), rain));
            let field = Field { variable: Variable::RainRate, members: dry.view(), observed: wet.view() };
            for (_, statistics) in of_fields(tally.empty(), &[field]) {
                tally.add(subject(event), &statistics);
            }
        }
        let rows = tally.with_all_events().rows();
        let of = |event: &str, score: &str| {
            rows.iter().find(|row| &*row.event == event && row.score == score).map(|row| (row.value, row.count))
        };
        assert_eq!(of("a", "crps"), Some((Some(3.0), 4.0)));
        assert_eq!(of(ALL_EVENTS, "crps"), Some((Some((4.0 * 3.0 + 16.0) / 20.0), 20.0)), "not the mean of 3 and 1");
        assert_eq!(of(ALL_EVENTS, "csi"), Some((Some(0.0), 20.0)));
        assert_eq!(of(ALL_EVENTS, "far"), Some((None, 20.0)), "no alarm, no ratio of false ones");
        assert_eq!(of(ALL_EVENTS, "energy"), None);
    }
}
