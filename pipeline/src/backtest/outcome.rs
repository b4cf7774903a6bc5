//! What a backtest found: sums of every event, and the report that follows from them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use squall_fields::{Grid, IssueTime, LeadTime, ValidTime, Variable};
use squall_models::scores::fields::WIND;
use squall_models::scores::{AnyScore, Probability, RankHistogram, Score, SpectrumRatio, Statistics};
use squall_operators::verify::DOMAIN;

use super::contestants::Contestants;
use super::judged::{Cases, Quantity, headline, is_wind, quantities};
use super::report::{self, Point, Report};
use super::state::{Done, Sum};
use super::verdict::number;
use crate::config::format_duration;
use crate::verify::curves;
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
    /// The quantities of the page, first the one whose thresholds people ask for; of wind its speed, its components, and
    /// the vector.
    variables: Vec<&'static str>,
    /// What verdicts are about.
    quantities: Vec<Quantity>,
    unit: String,
    areas: Vec<String>,
    cadence_seconds: f64,
    /// From when the windows were known to the publication.
    publish_after: Duration,
    /// What forecasts were compared with, if not what they are made of.
    truth: Option<Arc<str>>,
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

/// Shares of the forecasts, in percent, of which the page says how soon they were there: every so many.
const QUANTILES: usize = 5;

/// The sums of a model over all events, of one quantity.
struct Pooled<'a> {
    model: &'a report::Model,
    variable: &'static str,
    /// In seconds; `None` is all leads together.
    lead: Option<i64>,
    scores: Vec<Box<dyn AnyScore>>,
}

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
                members,
                ..report::Model::default()
            })
            .collect();
        for event in &events {
            for done in &event.done {
                for place in &done.failed {
                    if let Some(model) = models.get_mut(*place) {
                        model.failures += 1;
                    }
                }
                for (model, of) in models.iter_mut().zip(&done.models) {
                    match &of.fallback {
                        None => model.digest.clone_from(&of.digest),
                        Some(_) => model.fallbacks += 1,
                    }
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
        let variables: Vec<&'static str> = match &source.variables[..] {
            wind if is_wind(wind) => {
                [Variable::WindSpeed.name(), wind[0].name(), wind[1].name(), WIND].into_iter().collect()
            }
            other => other.iter().take(1).map(|variable| variable.name()).collect(),
        };
        Self {
            models,
            variables,
            quantities: quantities(&source.variables),
            unit: source.variables[0].unit().label().to_owned(),
            areas,
            cadence_seconds: source.cadence.step_seconds() as f64,
            publish_after: Duration::ZERO,
            truth: None,
            tally: tally.with_all_events(),
            events,
        }
    }

    /// Of forecasts that count as published so long after their windows were known.
    #[must_use]
    pub(super) fn published_after(self, publish_after: Duration) -> Self {
        Self { publish_after, ..self }
    }

    /// Of forecasts that were compared with other frames than those that they are made of, if there are such.
    #[must_use]
    pub(super) fn compared_with(self, truth: Option<Arc<str>>) -> Self {
        Self { truth, ..self }
    }

    /// The report, and the same as JSON, which does not say how long things took.
    pub fn report(&self) -> (Report, serde_json::Result<String>) {
        let rows = self.tally.rows();
        let cases = Cases { models: &self.models, events: &self.events, empty: self.tally.empty() };
        let (intervals, verdicts) = cases.judge(&self.quantities);
        let own = rows.iter().filter(|row| &*row.region == DOMAIN && self.is_shown(row));
        // A window of one cell says again what the score without windows says.
        let is_new = |row: &&Row| {
            let windowed = row.score.starts_with("crps_pooled") || row.score == "csi_neighbourhood";
            !(windowed && row.scale == Some(1.0)) && row.score != "rapsd_ratio"
        };
        let mut periods: Vec<String> =
            self.events.iter().map(|e| format!("{} to {}", e.period.0, e.period.1)).collect();
        periods.dedup();
        let variable =
            if self.variables.len() > 1 { WIND } else { self.variables.first().copied().unwrap_or_default() };
        let pooled = self.pooled();
        let report = Report {
            title: format!("Backtest of {} models: {}", self.models.len(), variable.replace('_', " ")),
            variables: self.variables.iter().map(|variable| (*variable).to_owned()).collect(),
            made_by: format!("squall {}", env!("CARGO_PKG_VERSION")),
            period: periods.join(", "),
            unit: self.unit.clone(),
            models: self.models.clone(),
            events: self.events.iter().map(event).collect(),
            scores: own.filter(is_new).map(row).collect(),
            intervals,
            verdicts: verdicts.iter().filter(|verdict| verdict.lead_minutes.is_none()).cloned().collect(),
            reliability: self.curves(&pooled, curves::reliability),
            roc: self.curves(&pooled, curves::roc),
            economic_value: self.curves(&pooled, curves::economic_value),
            ranks: ranks(&pooled),
            spectra: self.spectra(&pooled),
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

    /// Issue times with the score of the last model over all leads ([`Outcome::ranked_by`]), best first: event, time, score.
    pub fn ranked(&self) -> Vec<(Arc<str>, IssueTime, f64)> {
        let Some((variable, place, name)) = headline(&self.quantities, self.tally.empty()) else {
            return Vec::new();
        };
        let empty = vec![self.tally.empty()[place].clone()];
        let is_wanted = |sum: &&Sum| sum.variable == variable && sum.region == DOMAIN;
        let mut all: Vec<_> = self
            .events
            .iter()
            .flat_map(|event| event.done.iter().map(move |done| (event, done)))
            .filter_map(|(event, done)| {
                let of = done.models.last()?.statistics.iter().filter(is_wanted);
                let sums = of.fold(Statistics::default(), |all, sum| all.plus(&sum.statistics.only(place)));
                let time = IssueTime::from_unix_seconds(done.issue_time);
                Some((event.name.clone(), time, number(&sums, &empty, name)?))
            })
            .collect();
        all.sort_by(|a, b| a.2.total_cmp(&b.2));
        all
    }

    /// The score by which issue times are ranked, as people call it.
    pub fn ranked_by(&self) -> String {
        let headline = headline(&self.quantities, self.tally.empty());
        headline.map_or_else(String::new, |(variable, _, name)| match self.variables.len() {
            1 => report::title_of(name).to_owned(),
            _ => format!("{} of {}", report::title_of(name), variable.replace('_', " ")),
        })
    }

    /// Whether a row is on the page. Thresholds and windows of one component of the wind are left to the file.
    fn is_shown(&self, row: &Row) -> bool {
        match self.variables.iter().position(|variable| *variable == &*row.variable) {
            Some(1 | 2) => row.threshold.is_none() && row.scale.is_none(),
            place => place.is_some(),
        }
    }

    /// The sums of each quantity that has curves, at all leads together, then at the first, the middle and the last.
    fn pooled(&self) -> Vec<Pooled<'_>> {
        let is_whole = |subject: &&Subject| &*subject.event == ALL_EVENTS && &*subject.region == DOMAIN;
        let mut leads: Vec<i64> =
            self.tally.subjects().filter(is_whole).map(|subject| subject.lead.seconds()).collect();
        leads.sort_unstable();
        leads.dedup();
        let mut some = match leads.as_slice() {
            // One lead is all of them.
            [] | [_] => Vec::new(),
            [first, .., last] => vec![*first, leads[(leads.len() - 1) / 2], *last],
        };
        some.dedup();
        let mut all = Vec::new();
        for variable in self.variables.iter().copied().filter(|variable| *variable != WIND) {
            for lead in std::iter::once(None).chain(some.iter().copied().map(Some)) {
                all.extend(self.models.iter().map(|model| {
                    let own = |subject: &&Subject| {
                        let is_of_lead = lead.is_none_or(|lead| lead == subject.lead.seconds());
                        is_of_lead && *subject.model == *model.name && &*subject.variable == variable
                    };
                    let mut scores = self.tally.empty().to_vec();
                    for subject in self.tally.subjects().filter(is_whole).filter(own) {
                        let more = self.tally.scores(subject).unwrap_or_default();
                        scores.iter_mut().zip(&more).for_each(|(all, more)| all.merge(&**more));
                    }
                    Pooled { model, variable, lead, scores }
                }));
            }
        }
        all
    }

    /// A curve for each ensemble and threshold. A single member has no probabilities but 0 and 1.
    fn curves(&self, pooled: &[Pooled<'_>], points: fn(&Probability) -> Vec<Point>) -> Vec<report::Curve> {
        let mut curves = Vec::new();
        let own = |of: &&Pooled<'_>| of.model.members > 1 && self.variables.first() == Some(&of.variable);
        for of in pooled.iter().filter(own) {
            for score in &of.scores {
                let Some(probability) = score.as_any().downcast_ref::<Probability>() else { continue };
                curves.push(of.curve(Score::threshold(probability), points(probability)));
            }
        }
        curves.retain(|curve: &report::Curve| !curve.points.is_empty());
        curves
    }

    fn spectra(&self, pooled: &[Pooled<'_>]) -> Vec<report::Curve> {
        let kilometres =
            self.events.first().and_then(|event| event.grid.spacing_m().ok()).map_or(1.0, |m| m.0 / 1000.0);
        let of = |of: &Pooled<'_>| {
            let spectrum = of.scores.iter().find_map(|score| score.as_any().downcast_ref::<SpectrumRatio>())?;
            let count = spectrum.counts().0 as f64;
            let point = |(cells, y): (f64, Option<f64>)| Some(Point { x: cells * kilometres, y: y?, count });
            let points: Vec<Point> = spectrum.ratios().into_iter().filter_map(point).collect();
            (!points.is_empty()).then(|| of.curve(None, points))
        };
        pooled.iter().filter_map(of).collect()
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
                quantiles: (0..=100)
                    .step_by(QUANTILES)
                    .filter_map(|percent| {
                        let share = f64::from(percent) / 100.0;
                        Some(Point { x: f64::from(percent), y: at(share)?, count: seconds.len() as f64 })
                    })
                    .collect(),
                cadence_s: Some(self.cadence_seconds),
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
                "By when the frames came, forecasts could be made {} after their issue time in the middle, and {} at \
                 most; leads that had passed by then do not count.",
                duration(delays[delays.len() / 2]),
                duration(*most)
            ),
        }];
        if !self.publish_after.is_zero() {
            notes.push(format!(
                "A forecast counts as published {} later; leads that had passed by then do not count, either.",
                format_duration(self.publish_after)
            ));
        }
        if let Some(truth) = &self.truth {
            notes.push(format!("Forecasts are compared with {truth}, not with the frames that they are made of."));
        }
        notes.push(
            "All models are judged on the cells and issue times that all of them have. Intervals and verdicts are by a \
             bootstrap of blocks of an hour of an event, the same blocks for both models, 1,000 draws; fewer than five \
             blocks decide nothing. Intervals of an event of fewer are of blocks of half an hour (block_minutes in \
             report.json): these resemble each other more, and the intervals are narrower than they should be; with fewer \
             than five of them there are none. A forecast is late if it takes longer than the cadence."
                .to_owned(),
        );
        if !self.areas.is_empty() {
            notes.push(format!(
                "Scores of {} are in report.json; all others are of the whole grid, as are intervals and verdicts.",
                self.areas.join(", ")
            ));
        }
        for (place, model) in self.models.iter().enumerate().filter(|(_, model)| model.fallbacks > 0) {
            let done = self.events.iter().flat_map(|event| &event.done);
            let first = done.filter_map(|done| done.models.get(place)).find_map(|of| of.fallback.as_deref());
            notes.push(format!(
                "{}: at {} issue times its fallback answered, as while a stream runs, and is scored in its place; the first \
                 time because {}",
                model.name,
                model.fallbacks,
                first.unwrap_or_default()
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

impl Pooled<'_> {
    fn lead_minutes(&self) -> Option<f64> {
        self.lead.map(|seconds| seconds as f64 / 60.0)
    }

    fn curve(&self, threshold: Option<f32>, points: Vec<Point>) -> report::Curve {
        report::Curve {
            model: self.model.name.clone(),
            variable: self.variable.to_owned(),
            label: self.lead_minutes().map_or_else(String::new, |minutes| format!("{minutes} min")),
            lead_minutes: self.lead_minutes(),
            threshold,
            points,
        }
    }
}

fn ranks(pooled: &[Pooled<'_>]) -> Vec<report::Ranks> {
    let of = |of: &Pooled<'_>| {
        let ranks = of.scores.iter().find_map(|score| score.as_any().downcast_ref::<RankHistogram>())?;
        let ranks = ranks.ranks(of.model.members as u32);
        let (model, variable) = (of.model.name.clone(), of.variable.to_owned());
        let is_any = ranks.iter().sum::<f64>() > 0.0;
        is_any.then(|| report::Ranks { model, variable, lead_minutes: of.lead_minutes(), ranks })
    };
    pooled.iter().filter(|of| of.model.members > 1).filter_map(of).collect()
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
        variable: row.variable.to_string(),
        lead_minutes: row.lead_minutes,
        score: row.score.to_owned(),
        threshold: row.threshold,
        scale: row.scale,
        value: row.value,
        count: row.count,
    }
}
