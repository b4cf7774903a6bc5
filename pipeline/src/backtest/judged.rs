//! How sure scores are: intervals by lead and event, and for each pair of models which is better.

use std::collections::{BTreeMap, BTreeSet};

use squall_fields::{Unit, Variable};
use squall_models::scores::fields::WIND;
use squall_models::scores::{AnyScore, Statistics};
use squall_operators::verify::DOMAIN;

use super::outcome::Event;
use super::report::{ALL_EVENTS, Decision, Interval, Model, Verdict};
use super::verdict::{Drawn, FEWEST_BLOCKS, draws};

/// Numbers of a quantity that have intervals, and whether models are judged by them.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// The variable.
    pub variable: &'static str,
    /// Names in files; what counts most comes first.
    judged: &'static [(&'static str, bool)],
}

/// Of an amount. The biased CRPS charges a small ensemble for being small, the fair one does not.
const OF_AMOUNT: &[(&str, bool)] = &[
    ("crps", true),
    ("crps_fair", true),
    ("mae", true),
    ("csi", true),
    ("fss", false),
    ("brier", false),
    ("brier_fair", false),
];
/// Of the wind as a vector.
const OF_VECTOR: &[(&str, bool)] = &[("energy", true), ("energy_fair", true), ("vector_rmse", true)];
/// Of its speed.
const OF_SPEED: &[(&str, bool)] = &[
    ("crps", true),
    ("crps_fair", true),
    ("mae", false),
    ("csi", false),
    ("fss", false),
    ("brier", false),
    ("brier_fair", false),
];

/// Whether they are the two components of the wind, which have a speed and are judged as a vector, too.
pub fn is_wind(variables: &[Variable]) -> bool {
    variables.len() == 2 && variables.iter().all(|variable| variable.unit() == Unit::MetresPerSecond)
}

/// What models are judged by: of wind the vector, then its speed, and of anything else its first variable.
pub fn quantities(variables: &[Variable]) -> Vec<Quantity> {
    if is_wind(variables) {
        let speed = Quantity { variable: Variable::WindSpeed.name(), judged: OF_SPEED };
        return vec![Quantity { variable: WIND, judged: OF_VECTOR }, speed];
    }
    let first = variables.first().map(|variable| Quantity { variable: variable.name(), judged: OF_AMOUNT });
    first.into_iter().collect()
}

/// The number that sums up a forecast: the first of the first quantity whose score is kept. Its variable, the place of
/// its score, and its name.
pub fn headline(quantities: &[Quantity], empty: &[Box<dyn AnyScore>]) -> Option<(&'static str, usize, &'static str)> {
    let first = |quantity: &Quantity| {
        let (name, _) = *quantity.judged.first()?;
        let place = empty.iter().position(|score| score.values().iter().any(|value| value.score == name))?;
        Some((quantity.variable, place, name))
    };
    quantities.iter().find_map(first)
}

/// Seconds of issue times that make a block.
const BLOCK_SECONDS: i64 = 3600;
/// The same where an event is too short for these. Rain of half an hour ago resembles that of now more: intervals come out
/// narrower than they should. What is shorter still says nothing.
const SHORT_BLOCK_SECONDS: i64 = 1800;

/// Events, and the models that forecast them.
pub struct Cases<'a> {
    /// In the order of the sums.
    pub models: &'a [Model],
    /// By name.
    pub events: &'a [Event],
    /// The scores, empty.
    pub empty: &'a [Box<dyn AnyScore>],
}

/// Sums of one score in each block: by the place of its event and its number, of each model, by lead.
type Blocks = BTreeMap<(usize, i64), Vec<BTreeMap<i64, Statistics>>>;

/// A number of a score of one quantity.
#[derive(Clone, Copy)]
struct Number {
    variable: &'static str,
    score: &'static str,
    is_judged: bool,
    threshold: Option<f32>,
    scale: Option<f64>,
}

impl Cases<'_> {
    /// Intervals of each lead, of all events and of each, and who is better at each lead and over all.
    ///
    /// Blocks are of an hour; for the intervals of an event with fewer than [`FEWEST_BLOCKS`] of these at any of its leads they
    /// are of half an hour. With fewer of those it has none of its own.
    pub fn judge(&self, quantities: &[Quantity]) -> (Vec<Interval>, Vec<Verdict>) {
        let (mut intervals, mut verdicts) = (Vec::new(), Vec::new());
        let mut drawn_before: BTreeMap<usize, Vec<Vec<i64>>> = BTreeMap::new();
        let each = (0..self.events.len()).filter(|_| self.events.len() > 1).map(Some);
        let events: Vec<Option<usize>> = std::iter::once(None).chain(each).collect();
        let is_short: Vec<bool> = self.events.iter().map(is_short).collect();
        for (place, numbers) in self.numbers(quantities) {
            let sums = self.blocks(numbers[0].variable, place, BLOCK_SECONDS, |_| true);
            let of_short = self.blocks(numbers[0].variable, place, SHORT_BLOCK_SECONDS, |event| is_short[event]);
            let leads: BTreeSet<i64> = sums.values().flatten().flat_map(|of| of.keys().copied()).collect();
            for lead in std::iter::once(None).chain(leads.into_iter().map(Some)) {
                for event in &events {
                    let (seconds, sums) = match event {
                        Some(event) if is_short[*event] => (SHORT_BLOCK_SECONDS, &of_short),
                        _ => (BLOCK_SECONDS, &sums),
                    };
                    let blocks = of_lead(sums, lead, *event);
                    let count = blocks.first().map_or(0, Vec::len);
                    if count == 0 || event.is_some() && (lead.is_none() || count < FEWEST_BLOCKS) {
                        continue;
                    }
                    let draws: &[Vec<i64>] = drawn_before.entry(count).or_insert_with(|| draws(count));
                    let names: Vec<&str> = numbers.iter().map(|number| number.score).collect();
                    let of_model = |blocks: &Vec<Statistics>| Drawn::of(blocks, draws, &*self.empty[place], &names);
                    let drawn: Vec<Vec<Drawn>> = blocks.iter().map(of_model).collect();
                    for (i, number) in numbers.iter().enumerate() {
                        let drawn: Vec<&Drawn> = drawn.iter().map(|of_model| &of_model[i]).collect();
                        if let Some(lead) = lead {
                            let event = event.map_or(ALL_EVENTS, |event| &*self.events[event].name);
                            intervals.extend(self.intervals(*number, (event, lead), &drawn, seconds));
                        }
                        if event.is_none() && number.is_judged {
                            verdicts.extend(self.verdicts(*number, lead, &drawn, count));
                        }
                    }
                }
            }
        }
        (intervals, verdicts)
    }

    /// The numbers of each score that has any, with its place; each number once.
    fn numbers(&self, quantities: &[Quantity]) -> Vec<(usize, Vec<Number>)> {
        let mut all: Vec<(usize, Vec<Number>)> = Vec::new();
        for quantity in quantities {
            for (place, score) in self.empty.iter().enumerate() {
                let (threshold, scale) = (score.threshold(), score.scale().map(|cells| cells as f64));
                let of = |name: &str| quantity.judged.iter().copied().find(|(judged, _)| *judged == name);
                let variable = quantity.variable;
                let numbers: Vec<Number> = score
                    .values()
                    .into_iter()
                    .filter_map(|value| of(value.score))
                    .map(|(score, is_judged)| Number { variable, score, is_judged, threshold, scale })
                    .filter(|number| !all.iter().any(|(_, others)| others.iter().any(|other| other.is(number))))
                    .collect();
                if !numbers.is_empty() {
                    all.push((place, numbers));
                }
            }
        }
        all
    }

    /// Sums of one score of a quantity in blocks of so many seconds of some events.
    fn blocks(&self, variable: &str, place: usize, seconds: i64, is_wanted: impl Fn(usize) -> bool) -> Blocks {
        let mut blocks = Blocks::new();
        for (event, of) in self.events.iter().enumerate().filter(|(event, _)| is_wanted(*event)) {
            for done in of.done.iter().filter(|done| !done.models.is_empty()) {
                let block = (event, done.issue_time.div_euclid(seconds));
                let sums = blocks.entry(block).or_insert_with(|| vec![BTreeMap::new(); self.models.len()]);
                for (sums, model) in sums.iter_mut().zip(&done.models) {
                    let own = model.statistics.iter().filter(|sum| sum.variable == variable && sum.region == DOMAIN);
                    for more in own {
                        let sum: &mut Statistics = sums.entry(more.lead).or_default();
                        *sum = sum.plus(&more.statistics.only(place));
                    }
                }
            }
        }
        blocks
    }

    fn intervals(
        &self,
        number: Number,
        (event, lead): (&str, i64),
        drawn: &[&Drawn],
        block_seconds: i64,
    ) -> Vec<Interval> {
        let Number { variable, score, threshold, scale, .. } = number;
        let of_model = |(model, drawn): (&Model, &&Drawn)| {
            let found = drawn.interval()?;
            Some(Interval {
                event: event.to_owned(),
                model: model.name.clone(),
                variable: variable.to_owned(),
                lead_minutes: lead as f64 / 60.0,
                score: score.to_owned(),
                threshold,
                scale,
                low: found.low,
                high: found.high,
                block_minutes: block_seconds / 60,
            })
        };
        self.models.iter().zip(drawn).filter_map(of_model).collect()
    }

    /// Of each model against each one before it.
    fn verdicts(&self, number: Number, lead: Option<i64>, drawn: &[&Drawn], blocks: usize) -> Vec<Verdict> {
        let Number { variable, score, threshold, .. } = number;
        let mut all = Vec::new();
        for (m, model) in self.models.iter().enumerate() {
            for (o, other) in self.models.iter().enumerate().take(m) {
                let Some(found) = drawn[m].minus(drawn[o]).interval() else { continue };
                let lower_is_better = score != "csi";
                let verdict = match found.is_decided() && blocks >= FEWEST_BLOCKS {
                    false => Decision::Undecided,
                    true if (found.value < 0.0) == lower_is_better => Decision::Better,
                    true => Decision::Worse,
                };
                all.push(Verdict {
                    model: model.name.clone(),
                    against: other.name.clone(),
                    variable: variable.to_owned(),
                    score: score.to_owned(),
                    threshold,
                    lead_minutes: lead.map(|lead| lead as f64 / 60.0),
                    difference: found.value,
                    low: found.low,
                    high: found.high,
                    blocks,
                    verdict,
                });
            }
        }
        all
    }
}

impl Number {
    /// Whether another is the same number, that another score says again.
    fn is(&self, other: &Self) -> bool {
        let of = |number: &Self| {
            (number.variable, number.score, number.threshold.map(f32::to_bits), number.scale.map(f64::to_bits))
        };
        of(self) == of(other)
    }
}

/// Whether an event has too few hours at one of its leads.
fn is_short(event: &Event) -> bool {
    let mut hours: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for done in &event.done {
        let hour = done.issue_time.div_euclid(BLOCK_SECONDS);
        for sum in done.models.iter().flat_map(|model| &model.statistics).filter(|sum| sum.region == DOMAIN) {
            hours.entry(sum.lead).or_default().insert(hour);
        }
    }
    hours.values().any(|hours| hours.len() < FEWEST_BLOCKS)
}

/// The sums of each model at a lead or at all, of one event or all, in each block that every model has.
fn of_lead(blocks: &Blocks, lead: Option<i64>, event: Option<usize>) -> Vec<Vec<Statistics>> {
    let mut all: Vec<Vec<Statistics>> = Vec::new();
    for (_, sums) in blocks.iter().filter(|((own, _), _)| event.is_none_or(|event| event == *own)) {
        let pooled = |sums: &BTreeMap<i64, Statistics>| match lead {
            Some(lead) => sums.get(&lead).cloned().unwrap_or_default(),
            None => sums.values().fold(Statistics::default(), |all, sum| all.plus(sum)),
        };
        let sums: Vec<Statistics> = sums.iter().map(pooled).collect();
        if sums.iter().any(Statistics::is_zero) {
            continue;
        }
        all.resize(sums.len(), Vec::new());
        all.iter_mut().zip(sums).for_each(|(all, sum)| all.push(sum));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array2, Array3};
    use squall_fields::{Axis, Grid, ValidTime};
    use squall_models::scores::Pair;
    use squall_models::scores::list::{self, Settings};

    use super::*;
    use crate::backtest::state::{Done, DoneModel, Sum};

    /// Noon of a day.
    const NOON: i64 = 1_494_331_200;

    /// An event with a forecast every so many minutes after noon, of two models and one lead.
    fn event(name: &str, empty: &[Box<dyn AnyScore>], minutes: impl Iterator<Item = i64>) -> Event {
        let of_model = |error: f32| {
            let mut scores = empty.to_vec();
            let (members, observed) = (Array3::from_elem((1, 2, 2), error), Array2::zeros((2, 2)));
            scores.iter_mut().for_each(|score| score.add(&Pair::new(members.view(), observed.view())));
            let (variable, region) = (Variable::RainRate.name().to_owned(), DOMAIN.to_owned());
            let statistics = vec![Sum { variable, region, lead: 3600, statistics: Statistics::of(&scores) }];
            DoneModel { digest: String::new(), seconds: 0.0, fallback: None, statistics }
        };
        let done = minutes.map(|minute| {
            let error = 1.0 + (minute % 35) as f32;
            let models = vec![of_model(error), of_model(0.5 * error)];
            Done { issue_time: NOON + 60 * minute, models, failed: Vec::new(), left_out: None }
        });
        let axis = Axis { first: 0.0, step: 1000.0, len: 2 };
        let grid = Grid { proj: "+proj=laea +lat_0=60 +lon_0=25 +units=m".into(), wkt: None, x: axis, y: axis };
        Event {
            name: name.into(),
            period: (ValidTime::from_unix_seconds(NOON), ValidTime::from_unix_seconds(NOON)),
            grid: Arc::new(grid),
            delays_ms: Vec::new(),
            done: done.collect(),
        }
    }

    #[test]
    fn an_event_of_few_hours_has_intervals_by_half_hours_and_verdicts_stay_with_hours() {
        let empty = list::start(&["crps"], &Settings::default()).unwrap();
        // Forty frames of 5 minutes leave 25 forecasts an hour ahead, in 3 hours or 5 half-hours.
        let events = [
            event("long", &empty, (0..36).map(|n| 10 * n)),
            event("short", &empty, (0..25).map(|n| 15 + 5 * n)),
            event("tiny", &empty, (0..12).map(|n| 5 * n)),
        ];
        let models = ["a", "b"].map(|name| Model { name: name.to_owned(), ..Model::default() });
        let cases = Cases { models: &models, events: &events, empty: &empty };
        let (intervals, verdicts) = cases.judge(&quantities(&[Variable::RainRate]));
        let blocks = |event: &str| -> Vec<i64> {
            let own = intervals.iter().filter(|interval| interval.event == event && interval.score == "crps");
            own.map(|interval| interval.block_minutes).collect()
        };
        assert_eq!((blocks("long"), blocks("short")), (vec![60, 60], vec![30, 30]));
        assert_eq!((blocks("tiny"), blocks(ALL_EVENTS)), (vec![], vec![60, 60]));
        let wide = intervals.iter().filter(|interval| interval.event == "short");
        assert!(wide.clone().count() > 0 && wide.clone().all(|of| of.low < of.high), "{intervals:?}");
        // Six hours, three, and one.
        assert!(!verdicts.is_empty() && verdicts.iter().all(|verdict| verdict.blocks == 10), "{verdicts:?}");
    }
}
