//! What a chart or a row of the table is about: a score, with its threshold and scale.

use super::format::{of_threshold, short};
use super::look::Looks;
use super::meaning::Meaning;
use super::{Interval, Report, Row};

/// A score at more scales than this is a curve over scales, such as a spectrum, and no chart by lead for each.
const SCALES: usize = 8;

/// A score, with its threshold and scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    score: &'a str,
    /// The quantity.
    pub(super) variable: &'a str,
    threshold: Option<f32>,
    scale: Option<f64>,
    /// What the score means.
    pub(super) meaning: Meaning,
}

impl<'a> Subject<'a> {
    /// Everything that rows are about, each once, in the order of the page.
    pub(super) fn all(rows: &[&'a Row]) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for row in rows {
            if !all.iter().any(|subject| subject.is_of(row)) {
                let Row { score, variable, threshold, scale, .. } = *row;
                let meaning = Meaning::of(score);
                all.push(Self { score, variable, threshold: *threshold, scale: *scale, meaning });
            }
        }
        let same = |a: &Self, b: &Self| {
            a.score == b.score && a.variable == b.variable && same_threshold(a.threshold, b.threshold)
        };
        let scales: Vec<_> = all.iter().map(|a| all.iter().filter(|b| same(a, b)).count()).collect();
        let all = all.into_iter().zip(scales).filter(|(_, scales)| *scales <= SCALES);
        let mut all: Vec<_> = all.map(|(subject, _)| subject).collect();
        let number = |v: Option<f64>| v.unwrap_or(f64::NEG_INFINITY);
        all.sort_by(|a, b| {
            let names = a.meaning.place().cmp(&b.meaning.place()).then_with(|| a.score.cmp(b.score));
            let thresholds = |s: &Self| number(s.threshold.map(f64::from));
            names
                .then_with(|| a.variable.cmp(b.variable))
                .then_with(|| thresholds(a).total_cmp(&thresholds(b)))
                .then_with(|| number(a.scale).total_cmp(&number(b.scale)))
        });
        all
    }

    fn is_of(&self, row: &Row) -> bool {
        same_threshold(self.threshold, row.threshold)
            && same_scale(self.scale, row.scale)
            && self.score == row.score
            && self.variable == row.variable
    }

    /// Its rows only.
    pub(super) fn rows(&self, rows: &[&'a Row]) -> Vec<&'a Row> {
        rows.iter().copied().filter(|row| self.is_of(row)).collect()
    }

    /// The interval of a score of it, if there is one.
    pub(super) fn interval(&self, intervals: &[&Interval], row: &Row) -> Option<(f64, f64)> {
        let is_it = |interval: &&&Interval| {
            // The numbers first: they tell most apart, faster than names do.
            same_lead(interval.lead_minutes, row.lead_minutes)
                && same_threshold(interval.threshold, self.threshold)
                && same_scale(interval.scale, self.scale)
                && interval.event == row.event
                && interval.model == row.model
                && interval.score == self.score
                && interval.variable == self.variable
        };
        let interval = intervals.iter().find(is_it)?;
        (interval.low.is_finite() && interval.high.is_finite()).then_some((interval.low, interval.high))
    }

    /// The score alone.
    pub(super) fn name(&self) -> &'a str {
        self.meaning.title(self.score)
    }

    /// For people, without its unit.
    pub(super) fn title(&self, report: &Report) -> String {
        let of = (self.name(), report.of_variable(self.variable), of_threshold(self.threshold, &report.unit));
        let scale = self.scale.filter(|scale| scale.is_finite());
        let scale = scale.map_or_else(String::new, |scale| format!(", {} cells", short(scale)));
        format!("{}{}{}{scale}", of.0, of.1, of.2)
    }

    /// Its unit; nothing if it has none.
    pub(super) fn unit<'u>(&self, unit: &'u str) -> &'u str {
        if self.meaning.has_unit { unit } else { "" }
    }
}

fn same_threshold(a: Option<f32>, b: Option<f32>) -> bool {
    // By bits, so that a threshold that is not a number equals itself and is not listed once a row.
    a.map(f32::to_bits) == b.map(f32::to_bits)
}

fn same_scale(a: Option<f64>, b: Option<f64>) -> bool {
    a.map(f64::to_bits) == b.map(f64::to_bits)
}

/// Whether two leads are the same; they may come from different divisions.
pub(super) fn same_lead(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6
}

/// The rows of an event.
pub(super) fn rows_of<'a>(report: &'a Report, event: &str) -> Vec<&'a Row> {
    report.scores.iter().filter(|row| row.event == event && row.lead_minutes.is_finite()).collect()
}

/// The leads of rows, rising.
pub(super) fn leads(rows: &[&Row]) -> Vec<f64> {
    let mut leads: Vec<f64> = rows.iter().map(|row| row.lead_minutes).collect();
    leads.sort_by(f64::total_cmp);
    leads.dedup_by(|a, b| same_lead(*a, *b));
    leads
}

/// The models of rows, in the order of the report.
pub(super) fn models<'a>(rows: &[&Row], looks: &Looks<'a>) -> Vec<&'a str> {
    looks.names().iter().copied().filter(|name| rows.iter().any(|row| row.model == *name)).collect()
}

/// The row of a model at a lead.
pub(super) fn row<'a>(rows: &[&'a Row], model: &str, lead: f64) -> Option<&'a Row> {
    rows.iter().copied().find(|row| row.model == model && same_lead(row.lead_minutes, lead))
}

/// The score of a row, if it is a number.
pub(super) fn value(row: &Row) -> Option<f64> {
    row.value.filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(score: &str, scales: u32) -> Vec<Row> {
        let row = |scale| Row { score: score.to_owned(), scale: Some(scale), ..Row::default() };
        (0..scales).map(|i| row(f64::from(i))).collect()
    }

    #[test]
    fn a_score_over_many_scales_is_left_to_its_own_chart() {
        let all: Vec<_> = rows("fss", 4).into_iter().chain(rows("spectrum", 30)).collect();
        let subjects = Subject::all(&all.iter().collect::<Vec<_>>());
        assert_eq!(subjects.iter().map(|s| s.score).collect::<Vec<_>>(), ["fss"; 4]);
    }

    #[test]
    fn an_interval_is_of_its_own_scale_quantity_and_event_alone() {
        let interval = Interval { score: "fss".to_owned(), scale: Some(0.0), high: 1.0, ..Interval::default() };
        let rows = rows("fss", 2);
        let subjects = Subject::all(&rows.iter().collect::<Vec<_>>());
        let found = |interval: &Interval| [0, 1].map(|i| subjects[i].interval(&[interval], &rows[i]));
        assert_eq!(found(&interval), [Some((0.0, 1.0)), None]);
        let name = || "other".to_owned();
        assert_eq!(found(&Interval { scale: None, ..interval.clone() }), [None; 2]);
        assert_eq!(found(&Interval { variable: name(), ..interval.clone() }), [None; 2]);
        assert_eq!(found(&Interval { event: name(), ..interval }), [None; 2]);
    }

    #[test]
    fn a_title_says_of_which_quantity_it_is_if_there_are_several() {
        let row = Row { score: "crps".to_owned(), variable: "wind_speed".to_owned(), ..Row::default() };
        let subject = Subject::all(&[&row])[0];
        let title = |variables: &[&str]| {
            let variables = variables.iter().map(|name| (*name).to_owned()).collect();
            subject.title(&Report { variables, ..Report::default() })
        };
        assert_eq!((&*title(&["wind_speed"]), &*title(&["wind_speed", "wind"])), ("CRPS", "CRPS of wind speed"));
    }
}
