//! What a backtest found: sums of every event, and the report that follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use squall_fields::{Grid, IssueTime, LeadTime, ValidTime};
use squall_models::scores::{AnyScore, Probability, RankHistogram, Score, SpectrumRatio, Statistics};
use squall_operators::verify::DOMAIN;

use super::contestants::Contestants;
use super::report::{self, Report};
use super::state::{Done, Sum};
use super::verdict::{FEWEST_BLOCKS, draws, interval, number};
use crate::config::format_duration;
use crate::verify::tally::{ALL_EVENTS, Subject};
use crate::verify::{Row, Tally};

/// An event that is done.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub name: Arc<str>,
    /// First and last slot.
    pub period: (ValidTime, ValidTime),
    /// What was forecast.
    pub grid: Arc<Grid>,
    /// How long after each issue time its windows were known, in milliseconds.
    pub delays_ms: Vec<i64>,
    /// Every issue time, ascending.
    pub done: Vec<Done>,
}

/// All events.
pub struct Outcome {
    models: Vec<report::Model>,
    /// The quantity that verdicts are about.
    variable: Arc<str>,
    unit: String,
    areas: Vec<String>,
    cadence_seconds: f64,
    tally: Tally,
    events: Vec<Event>,
}

/// What `report.json` holds: nothing that depends on when, or how fast, the backtest ran.
#[derive(Serialize)]
struct Json<'a> {
    title: &'a str,
    made_by: &'a str,
    period: &'a str,
    unit: &'a str,
    models: &'a [report::Model],
    events: &'a [report::Event],
    /// Of every variable, wavelengths included.
    scores: &'a [Row],
    intervals: &'a [report::Interval],
    /// At each lead, too.
    verdicts: &'a [report::Verdict],
    reliability: &'a [report::Curve],
    ranks: &'a [report::Ranks],
    spectra: &'a [report::Curve],
    roc: &'a [report::Curve],
    economic_value: &'a [report::Curve],
    notes: &'a [String],
}

/// Scores that verdicts are given in.
const JUDGED: [&str; 3] = ["crps", "mae", "csi"];
/// Seconds of issue times that make a block.
const BLOCK_SECONDS: i64 = 3600;

impl Outcome {
    /// Of the models, in their order, and events by name.
    pub(super) fn new(
        contestants: &Contestants,
        areas: Vec<String>,
        empty: Vec<Box<dyn AnyScore>>,
        events: Vec<Event>,
    ) -> Self {
        let mut tally = Tally::new(empty);
        let mut models: Vec<report::Model> = contestants
            .described()
            .map(|(name, description, members)| report::Model {
                name: name.to_owned(),
                description,
                digest: String::new(),
                members,
            })
            .collect();
        for event in &events {
            for done in &event.done {
                for (model, of) in models.iter_mut().zip(&done.models) {
                    model.digest.clone_from(&of.digest);
                    for Sum { variable, region, lead, statistics } in &of.statistics {
                        let subject = Subject {
                            event: event.name.clone(),
                            model: model.name.as_str().into(),
                            variable: variable.as_str().into(),
                            region: region.as_str().into(),
                            lead: LeadTime::from_seconds(*lead),
                        };
                        tally.add(subject, statistics);
                    }
                }
            }
        }
        let source = &contestants.streams()[0].source;
        let variable = source.variables[0];
        Self {
            models,
            variable: variable.name().into(),
            unit: variable.unit().label().to_owned(),
            areas,
            cadence_seconds: source.cadence.step_seconds() as f64,
            tally: tally.with_all_events(),
            events,
        }
    }

    /// The report, and the same as JSON, which does not say how long things took.
    pub fn report(&self) -> (Report, serde_json::Result<String>) {
        let rows = self.tally.rows();
        let (intervals, verdicts) = self.judged();
        let own = rows.iter().filter(|row| row.variable == self.variable || &*row.variable == "wind");
        let own = own.filter(|row| &*row.region == DOMAIN);
        // A window of one cell says again what the score without windows says.
        let is_new = |row: &&Row| {
            let windowed = row.score.starts_with("crps_pooled") || row.score == "csi_neighbourhood";
            !(windowed && row.scale == Some(1.0)) && row.score != "rapsd_ratio"
        };
        let periods: Vec<String> = self.events.iter().map(|e| format!("{} to {}", e.period.0, e.period.1)).collect();
        let report = Report {
            title: format!("Backtest of {} models", self.models.len()),
            made_by: format!("squall {}", env!("CARGO_PKG_VERSION")),
            period: periods.join(", "),
            unit: self.unit.clone(),
            models: self.models.clone(),
            events: self.events.iter().map(event).collect(),
            scores: own.filter(is_new).map(row).collect(),
            intervals,
            verdicts: verdicts.iter().filter(|verdict| verdict.lead_minutes.is_none()).cloned().collect(),
            reliability: self.curves(|p| {
                p.table()
                    .bins()
                    .into_iter()
                    .map(|bin| {
                        let n = (bin.events + bin.others) as f64;
                        point(bin.probability, bin.events as f64 / n, n)
                    })
                    .collect()
            }),
            roc: self.curves(|p| {
                p.table().roc().into_iter().flatten().map(|(f, h)| point(f, h, p.table().count() as f64)).collect()
            }),
            economic_value: self.curves(|p| {
                let at = |i: i32| f64::from(i) / 40.0;
                let value = |i| Some(point(at(i), p.table().economic_value(at(i))?, p.table().count() as f64));
                (1..40).filter_map(value).collect()
            }),
            ranks: self.ranks(),
            spectra: self.spectra(),
            maps: Vec::new(),
            timeliness: self.timeliness(),
            notes: self.notes(),
        };
        let json = serde_json::to_string_pretty(&Json {
            title: &report.title,
            made_by: &report.made_by,
            period: &report.period,
            unit: &report.unit,
            models: &report.models,
            events: &report.events,
            scores: &rows,
            intervals: &report.intervals,
            verdicts: &verdicts,
            reliability: &report.reliability,
            ranks: &report.ranks,
            spectra: &report.spectra,
            roc: &report.roc,
            economic_value: &report.economic_value,
            notes: &report.notes,
        });
        (report, json)
    }

    /// Issue times with the pooled CRPS of the last model, best first: event, time, score.
    pub fn ranked(&self) -> Vec<(Arc<str>, IssueTime, f64)> {
        let Some(place) = self.places().find(|(_, name)| *name == "crps").map(|(place, _)| place) else {
            return Vec::new();
        };
        let empty = vec![self.tally.empty()[place].clone()];
        let mut all: Vec<_> = self
            .events
            .iter()
            .flat_map(|event| event.done.iter().map(move |done| (event, done)))
            .filter_map(|(event, done)| {
                let of = done.models.last()?.statistics.iter().filter(|sum| self.is_judged(sum));
                let sums = of.fold(Statistics::default(), |all, sum| all.plus(&sum.statistics.only(place)));
                let time = IssueTime::from_unix_seconds(done.issue_time);
                Some((event.name.clone(), time, number(&sums, &empty, "crps")?))
            })
            .collect();
        all.sort_by(|a, b| a.2.total_cmp(&b.2));
        all
    }

    /// Whether verdicts are about it.
    fn is_judged(&self, sum: &Sum) -> bool {
        *sum.variable == *self.variable && sum.region == DOMAIN
    }

    /// Each score that is judged: its place, and its name.
    fn places(&self) -> impl Iterator<Item = (usize, &'static str)> + '_ {
        let name = |score: &dyn AnyScore| score.values().first().map(|value| value.score);
        let all = self.tally.empty().iter().enumerate();
        // The errors of the mean have several numbers, of which the first is the MAE.
        all.filter_map(move |(place, score)| Some((place, name(&**score)?))).filter(|(_, name)| JUDGED.contains(name))
    }

    /// Sums by block of one score of every model, at a lead or at all; a block counts if every model has it.
    fn blocks(&self, place: usize, lead: Option<i64>) -> Vec<Vec<Statistics>> {
        let mut blocks: BTreeMap<(&str, i64), Vec<Statistics>> = BTreeMap::new();
        for event in &self.events {
            for done in event.done.iter().filter(|done| !done.models.is_empty()) {
                let block = (&*event.name, done.issue_time.div_euclid(BLOCK_SECONDS));
                let sums = blocks.entry(block).or_insert_with(|| vec![Statistics::default(); self.models.len()]);
                for (sum, of) in sums.iter_mut().zip(&done.models) {
                    let wanted = |own: i64| lead.is_none_or(|lead| lead == own);
                    for more in of.statistics.iter().filter(|more| self.is_judged(more) && wanted(more.lead)) {
                        *sum = sum.plus(&more.statistics.only(place));
                    }
                }
            }
        }
        blocks.into_values().filter(|sums| sums.iter().all(|sum| !sum.is_zero())).collect()
    }

    /// Intervals of each lead, and who is better at each lead and over all.
    fn judged(&self) -> (Vec<report::Interval>, Vec<report::Verdict>) {
        let (mut intervals, mut verdicts) = (Vec::new(), Vec::new());
        let mut leads: Vec<i64> = self.tally.subjects().map(|subject| subject.lead.seconds()).collect();
        leads.sort_unstable();
        leads.dedup();
        for (place, score) in self.places() {
            let empty = vec![self.tally.empty()[place].clone()];
            let threshold = empty[0].threshold();
            for lead in std::iter::once(None).chain(leads.iter().copied().map(Some)) {
                let blocks = self.blocks(place, lead);
                let draws = draws(blocks.len());
                let lead_minutes = lead.map(|lead| lead as f64 / 60.0);
                for (m, model) in self.models.iter().enumerate() {
                    let own: Vec<[Statistics; 1]> = blocks.iter().map(|sums| [sums[m].clone()]).collect();
                    let found = interval(&own, &draws, |[sums]| number(sums, &empty, score));
                    if let (Some(lead_minutes), Some(found)) = (lead_minutes, found) {
                        let (model, score) = (model.name.clone(), score.to_owned());
                        let (low, high) = (found.low, found.high);
                        intervals.push(report::Interval { model, lead_minutes, score, threshold, low, high });
                    }
                    for (o, other) in self.models.iter().enumerate().take(m) {
                        let both: Vec<[Statistics; 2]> =
                            blocks.iter().map(|sums| [sums[m].clone(), sums[o].clone()]).collect();
                        let of = |sums: &Statistics| number(sums, &empty, score);
                        let Some(found) = interval(&both, &draws, |[a, b]| Some(of(a)? - of(b)?)) else { continue };
                        let lower_is_better = score != "csi";
                        let verdict = match found.is_decided() && blocks.len() >= FEWEST_BLOCKS {
                            false => report::Decision::Undecided,
                            true if (found.value < 0.0) == lower_is_better => report::Decision::Better,
                            true => report::Decision::Worse,
                        };
                        verdicts.push(report::Verdict {
                            model: model.name.clone(),
                            against: other.name.clone(),
                            score: score.to_owned(),
                            threshold,
                            lead_minutes,
                            difference: found.value,
                            low: found.low,
                            high: found.high,
                            blocks: blocks.len(),
                            verdict,
                        });
                    }
                }
            }
        }
        (intervals, verdicts)
    }

    /// The sums of a model over all events and leads.
    fn pooled(&self, model: &str) -> Vec<Box<dyn AnyScore>> {
        let own = |subject: &&Subject| {
            let is_whole = &*subject.event == ALL_EVENTS && &*subject.region == DOMAIN;
            is_whole && &*subject.model == model && subject.variable == self.variable
        };
        let mut all = self.tally.empty().to_vec();
        for subject in self.tally.subjects().filter(own) {
            let scores = self.tally.scores(subject).unwrap_or_default();
            all.iter_mut().zip(&scores).for_each(|(all, score)| all.merge(&**score));
        }
        all
    }

    /// A curve for each ensemble and threshold. A single member has no probabilities but 0 and 1.
    fn curves(&self, points: impl Fn(&Probability) -> Vec<report::Point>) -> Vec<report::Curve> {
        let mut curves = Vec::new();
        for model in self.models.iter().filter(|model| model.members > 1) {
            for score in self.pooled(&model.name) {
                let Some(probability) = score.as_any().downcast_ref::<Probability>() else { continue };
                let points = points(probability);
                if !points.is_empty() {
                    let (model, threshold) = (model.name.clone(), Score::threshold(probability));
                    curves.push(report::Curve { model, label: String::new(), threshold, points });
                }
            }
        }
        curves
    }

    fn ranks(&self) -> Vec<report::Ranks> {
        let of = |model: &report::Model| {
            let scores = self.pooled(&model.name);
            let ranks = scores.iter().find_map(|score| score.as_any().downcast_ref::<RankHistogram>())?;
            let ranks = ranks.ranks(model.members as u32);
            (ranks.iter().sum::<f64>() > 0.0).then(|| report::Ranks { model: model.name.clone(), ranks })
        };
        self.models.iter().filter(|model| model.members > 1).filter_map(of).collect()
    }

    fn spectra(&self) -> Vec<report::Curve> {
        let kilometres =
            self.events.first().and_then(|event| event.grid.spacing_m().ok()).map_or(1.0, |m| m.0 / 1000.0);
        let of = |model: &report::Model| {
            let scores = self.pooled(&model.name);
            let spectrum = scores.iter().find_map(|score| score.as_any().downcast_ref::<SpectrumRatio>())?;
            let count = spectrum.counts().0 as f64;
            let ratios = spectrum.ratios().into_iter();
            let points: Vec<_> = ratios.filter_map(|(cells, y)| Some(point(cells * kilometres, y?, count))).collect();
            let model = model.name.clone();
            (!points.is_empty()).then_some(report::Curve { model, label: String::new(), threshold: None, points })
        };
        self.models.iter().filter_map(of).collect()
    }

    fn timeliness(&self) -> Vec<report::Timeliness> {
        let of = |(m, model): (usize, &report::Model)| {
            let done = self.events.iter().flat_map(|event| &event.done);
            let mut seconds: Vec<f64> = done.filter_map(|done| Some(done.models.get(m)?.seconds)).collect();
            seconds.sort_by(f64::total_cmp);
            let at = |share: f64| seconds.get(((seconds.len().max(1) - 1) as f64 * share).round() as usize).copied();
            Some(report::Timeliness {
                model: model.name.clone(),
                median_s: at(0.5)?,
                p95_s: at(0.95)?,
                worst_s: at(1.0)?,
                late: seconds.iter().filter(|s| **s > self.cadence_seconds).count(),
                forecasts: seconds.len(),
            })
        };
        self.models.iter().enumerate().filter_map(of).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut delays: Vec<i64> = self.events.iter().flat_map(|event| event.delays_ms.iter().copied()).collect();
        delays.sort_unstable();
        let duration = |ms: i64| format_duration(Duration::from_millis(ms.max(0) as u64));
        let mut notes = vec![match (delays.first(), delays.last()) {
            (Some(0), Some(0)) | (None, _) | (_, None) => {
                "Idealised: every frame counts as known at its valid time.".to_owned()
            }
            (Some(least), Some(most)) if least == most => format!(
                "A frame counts as known {} after its valid time; leads that had passed by then do not count.",
                duration(*least)
            ),
            (_, Some(most)) => format!(
                "By the timestamps of the records, forecasts could be made {} after their issue time in the middle, and {} at \
                 most; leads that had passed by then do not count.",
                duration(delays[delays.len() / 2]),
                duration(*most)
            ),
        }];
        notes.push(
            "All models are judged on the cells and issue times that all of them have. Intervals and verdicts are by a \
             bootstrap of blocks of an hour of an event, the same blocks for both models, 1,000 draws; fewer than five \
             blocks decide nothing. A forecast is late if it takes longer than the cadence."
                .to_owned(),
        );
        if !self.areas.is_empty() {
            notes.push(format!(
                "Scores of {} are in report.json; all others are of the whole grid, as are intervals and verdicts.",
                self.areas.join(", ")
            ));
        }
        for event in &self.events {
            let left_out: Vec<_> = event.done.iter().filter_map(|done| done.left_out.as_ref()).collect();
            if let Some(reason) = left_out.first() {
                notes.push(format!(
                    "{}: {} issue times were left out, the first because {reason}",
                    event.name,
                    left_out.len()
                ));
            }
        }
        notes
    }
}

fn point(x: f64, y: f64, count: f64) -> report::Point {
    report::Point { x, y, count }
}

fn event(event: &Event) -> report::Event {
    let time = |done: Option<&Done>| {
        done.map_or_else(String::new, |done| IssueTime::from_unix_seconds(done.issue_time).to_string())
    };
    let (rows, columns) = event.grid.shape();
    let spacing = event.grid.spacing_m().map_or_else(|_| String::new(), |(x, _)| format!(" of {:.2} km", x / 1000.0));
    report::Event {
        name: event.name.to_string(),
        from: time(event.done.first()),
        to: time(event.done.last()),
        forecasts: event.done.iter().filter(|done| done.left_out.is_none()).count(),
        grid: format!("{rows} x {columns} cells{spacing}"),
    }
}

fn row(row: &Row) -> report::Row {
    report::Row {
        event: row.event.to_string(),
        model: row.model.to_string(),
        lead_minutes: row.lead_minutes,
        score: row.score.to_owned(),
        threshold: row.threshold,
        scale: row.scale,
        value: row.value,
        count: row.count,
    }
}
