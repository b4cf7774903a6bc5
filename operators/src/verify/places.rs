//! Reports of stations as truth: what the latest readings say of each valid time, at the places where they were made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView3};
use squall_fields::{Cadence, Grid, KnowledgeTime, Quantity, StationReport, ValidTime, Variable};
use squall_models::scores::{AnyScore, Field, Statistics, common, of_places};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;

use super::due::Due;
use super::gather::{Arrival, Hours};
use crate::dead_letter::{DeadLetter, Reason};
use crate::local::Local;
use crate::note::Note;
use crate::order::{LogOrder, Reorder, frontier_of};
use crate::source::Arrived;
use crate::stations::{Control, JudgedReading, ReadingKey, ReportReader, latest};
use crate::stream::StreamContext;
use crate::{Tick, events};

/// What a station said of one valid time.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// What it measured, in the units of the variables.
    pub values: Vec<(Variable, f32)>,
}

/// What all stations said of one valid time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places(pub Vec<Spot>);

/// Spots that stand on a grid, each with its cell. A forecast is judged there as a field of one row.
pub struct OnGrid<'p>(Vec<((usize, usize), &'p Spot)>);

impl Places {
    /// Those that stand on a grid; none where its places are not known.
    pub fn on(&self, grid: &Grid) -> OnGrid<'_> {
        let cell = |spot: &Spot| grid.cell_at(spot.latitude, spot.longitude).ok().flatten();
        OnGrid(self.0.iter().filter_map(|spot| Some((cell(spot)?, spot))).collect())
    }
}

impl OnGrid<'_> {
    /// `[member, 1, spot]` of an ensemble `[member, y, x]`.
    pub fn members(&self, ensemble: ArrayView3<'_, f32>) -> Array3<f32> {
        Array3::from_shape_fn((ensemble.dim().0, 1, self.0.len()), |(member, _, spot)| {
            let (row, column) = self.0[spot].0;
            ensemble[[member, row, column]]
        })
    }

    /// The scores there, from empty ones, of ensembles `[member, y, x]` of variables: of each variable, or of vectors.
    pub fn scores<'e>(
        &self,
        empty: &[Box<dyn AnyScore>],
        ensembles: impl Iterator<Item = (Variable, ArrayView3<'e, f32>)>,
    ) -> Vec<(&'static str, Statistics)> {
        scores_at(empty, &self.at(ensembles))
    }

    /// The same of two contestants, where both have a value.
    pub fn compared<'e>(
        &self,
        empty: &[Box<dyn AnyScore>],
        one: impl Iterator<Item = (Variable, ArrayView3<'e, f32>)>,
        other: impl Iterator<Item = (Variable, ArrayView3<'e, f32>)>,
    ) -> [Vec<(&'static str, Statistics)>; 2] {
        let (mut one, mut other) = (self.at(one), self.at(other));
        for (variable, members, observed) in &mut one {
            let same = other.iter_mut().find(|(of, ..)| of == variable);
            let Some((_, others, observed_too)) = same else { continue };
            *observed = common(observed.view(), [members.view(), others.view()].into_iter());
            observed_too.assign(observed);
        }
        [scores_at(empty, &one), scores_at(empty, &other)]
    }

    fn at<'e>(&self, ensembles: impl Iterator<Item = (Variable, ArrayView3<'e, f32>)>) -> Vec<AtSpots> {
        ensembles.map(|(variable, members)| (variable, self.members(members), self.observed(variable))).collect()
    }

    /// `[1, spot]`: what was measured of a variable, NaN where it was not.
    pub fn observed(&self, variable: Variable) -> Array2<f32> {
        let value = |spot: &Spot| spot.values.iter().find(|(of, _)| *of == variable).map_or(f32::NAN, |(_, v)| *v);
        Array2::from_shape_fn((1, self.0.len()), |(_, spot)| value(self.0[spot].1))
    }
}

/// A variable with members `[member, 1, spot]` and what was measured `[1, spot]`.
type AtSpots = (Variable, Array3<f32>, Array2<f32>);

fn scores_at(empty: &[Box<dyn AnyScore>], all: &[AtSpots]) -> Vec<(&'static str, Statistics)> {
    let mut fields = Vec::with_capacity(all.len());
    for (variable, members, observed) in all {
        fields.push(Field { variable: *variable, members: members.view(), observed: observed.view() });
    }
    of_places(empty, &fields)
}

/// Which readings are truth.
#[derive(Clone, Debug)]
pub struct PlacesConfig {
    /// Variables of the forecasts.
    pub variables: Vec<Variable>,
    /// Slots of the forecasts; a reading over a longer period than a step is not comparable with a field of an instant.
    pub cadence: Cadence,
    /// Which valid times are open.
    pub hours: Hours,
    /// What was valid before this was closed before the start.
    pub open_at_start: i64,
}

impl PlacesConfig {
    /// Of forecasts of these variables, at any time.
    pub fn at_any_time(variables: Vec<Variable>, cadence: Cadence) -> Self {
        Self { variables, cadence, hours: Hours { horizon_ms: 0 }, open_at_start: i64::MIN }
    }

    fn open(&self, time: Tick) -> i64 {
        self.hours.open_from(time).max(self.open_at_start)
    }

    /// Whether a reading can be compared with a forecast.
    fn takes(&self, key: &ReadingKey) -> bool {
        let variable = key.quantity.variable().filter(|variable| self.variables.contains(variable));
        let is_short = key.period_seconds.is_none_or(|period| i64::from(period) <= self.cadence.step_seconds());
        variable.is_some() && is_short && self.cadence.is_slot(key.valid)
    }
}

/// Latitude, longitude and value by period: a reading over a shorter one is nearer to an instant.
type ByPeriod = BTreeMap<u32, (f64, f64, f32)>;

/// The pure core: the latest usable readings of the open valid times.
#[derive(Clone, Debug, Default)]
struct Board {
    readings: BTreeMap<ValidTime, BTreeMap<(Arc<str>, Quantity), ByPeriod>>,
}

impl Board {
    /// Takes a change of the collection of latest readings; whether it changes what is said of its valid time.
    fn change(&mut self, key: &ReadingKey, judged: &JudgedReading, is_there: bool) -> bool {
        let of = (key.station.clone(), key.quantity);
        let period = key.period_seconds.unwrap_or(0);
        let all = self.readings.entry(key.valid).or_default().entry(of).or_default();
        let place =
            judged.station.place.filter(|_| judged.reading.flags.is_usable() && judged.reading.value.is_finite());
        match (is_there, place) {
            (true, Some(place)) => {
                let spot = (place.latitude(), place.longitude(), judged.reading.value);
                all.insert(period, spot) != Some(spot)
            }
            _ => all.remove(&period).is_some(),
        }
    }

    fn at(&self, valid: ValidTime) -> Places {
        let mut spots: BTreeMap<&Arc<str>, Spot> = BTreeMap::new();
        for ((station, quantity), readings) in self.readings.get(&valid).into_iter().flatten() {
            let shortest = readings.values().next();
            let (Some((latitude, longitude, value)), Some(variable)) = (shortest, quantity.variable()) else {
                continue;
            };
            let (latitude, longitude) = (*latitude, *longitude);
            let spot = spots.entry(station).or_insert_with(|| Spot { latitude, longitude, values: Vec::new() });
            spot.values.push((variable, *value));
        }
        Places(spots.into_values().collect())
    }
}

/// What all reports of an archive say in the end: `reports` gives those of one time after the other, each with when they
/// became known.
///
/// What fails a check counts no more than in a stream, and of two reports of one reading the later one counts.
pub fn latest_places(
    reports: impl IntoIterator<Item = (KnowledgeTime, Vec<StationReport>)>,
    mut control: Control,
    config: &PlacesConfig,
) -> BTreeMap<ValidTime, Places> {
    let mut latest: BTreeMap<ReadingKey, JudgedReading> = BTreeMap::new();
    for (known_at, reports) in reports {
        let judged = control.push(known_at, reports).readings;
        latest.extend(judged.into_iter().filter(|(key, _)| config.takes(key)));
    }
    let mut board = Board::default();
    for (key, judged) in &latest {
        board.change(key, judged, true);
    }
    board.readings.keys().map(|valid| (*valid, board.at(*valid))).collect()
}

/// What the operator that reads reports gives.
#[derive(Clone)]
enum Read {
    Reading(ReadingKey, Option<JudgedReading>),
    Arrival(Arrival),
    Dead(Arc<DeadLetter>),
}

struct Reading {
    reader: ReportReader,
    control: Control,
    config: PlacesConfig,
    /// Keys that are in the collection.
    keys: BTreeMap<ValidTime, BTreeSet<ReadingKey>>,
    source: Arc<str>,
    stream: Arc<str>,
}

impl Reading {
    /// Reads all records that became known at one time, in the order of the log.
    fn take(&mut self, time: Tick, records: Vec<Arrived>) -> Vec<Read> {
        let (mut out, mut reports) = (Vec::new(), Vec::<StationReport>::new());
        let mut ignored = 0;
        let mut by_place = BTreeMap::new();
        let known_at = KnowledgeTime::at(time);
        let dead = |arrived: &Arrived, reason: Reason, detail: &str| {
            let letter = DeadLetter::new(arrived.record.clone(), arrived.at, reason, detail);
            events::RecordRejected { source: &self.source, letter: &letter }.emit();
            Read::Dead(letter.into())
        };
        for arrived in records {
            let read = self.reader.read(&arrived.record);
            if let Some((reason, detail)) = &read.fault {
                out.push(dead(&arrived, *reason, detail));
            }
            ignored += read.ignored as u64;
            let of = (arrived.record.partition.clone(), arrived.origin.topic_id.clone());
            if let Some(first) = read.reports.iter().map(|report| report.valid).min() {
                out.push(Read::Arrival(Arrival::Reported(first, of, (arrived.record.offset, arrived.origin.clock))));
            }
            reports.extend(read.reports);
            by_place.insert((arrived.record.partition.clone(), arrived.record.offset), arrived);
        }
        let judgement = self.control.push(known_at, reports);
        for (input, (reason, detail)) in judgement.refused {
            let place = (crate::ports::PartitionId::new(input.topic.clone(), input.partition), input.offset);
            if let Some(arrived) = by_place.get(&place) {
                out.push(dead(arrived, reason, &detail));
            }
        }
        self.announce(&judgement.readings, ignored);
        let open = ValidTime::from_unix_seconds(self.config.open(time));
        for (key, judged) in judgement.readings {
            if key.valid >= open && self.config.takes(&key) {
                self.keys.entry(key.valid).or_default().insert(key.clone());
                out.push(Read::Reading(key, Some(judged)));
            }
        }
        // What is closed is forgotten: its sums stay.
        let later = self.keys.split_off(&open);
        let over = std::mem::replace(&mut self.keys, later);
        out.extend(over.into_values().flatten().map(|key| Read::Reading(key, None)));
        out
    }
}

impl Reading {
    fn announce(&self, readings: &[(ReadingKey, JudgedReading)], ignored: u64) {
        let mut counts = BTreeMap::new();
        for (key, judged) in readings {
            *counts.entry((key.quantity, judged.reading.flags.overall())).or_default() += 1;
        }
        let without_place = readings.iter().filter(|(_, judged)| judged.station.place.is_none()).count() as u64;
        events::ReadingsJudged { stream: &self.stream, readings: &counts, without_place, ignored }.emit();
    }
}

/// Reads reports on the home worker, checks them, keeps the latest of each as a collection, and says what they say of each
/// valid time; dead letters are for the sink.
pub fn places<'scope>(
    records: StreamVec<'scope, Tick, Local<Arrived>>,
    reader: ReportReader,
    control: Control,
    config: PlacesConfig,
    source: Arc<str>,
    stream: StreamContext,
) -> (StreamVec<'scope, Tick, Local<Arrival>>, StreamVec<'scope, Tick, Local<Note>>) {
    let home = stream.home as u64;
    let together = Exchange::new(move |_: &Arrived| home);
    let mut reading =
        Reading { reader, control, config: config.clone(), keys: BTreeMap::new(), source, stream: stream.name.clone() };
    let of_reading = stream.clone();
    let budget = stream.budget.clone();
    let records = records.map(move |Local(arrived)| {
        if arrived.refill {
            budget.refilled(arrived.record.memory_bytes()); // reports are small: they wait here as they are
        }
        arrived
    });
    let read = records.unary_frontier(together, "Reports", move |_capability, _info| {
        let mut waiting: Reorder<(Capability<Tick>, Arrived), LogOrder> = Reorder::default();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for arrived in batches.flat_map(|batch| batch.drain(..)) {
                    let place = (arrived.at, arrived.record.partition.clone(), arrived.record.offset);
                    waiting.push(*capability.time(), place, (capability.clone(), arrived));
                }
            });
            if of_reading.control.is_done() {
                waiting.clear();
                return;
            }
            let frontier = frontier_of(frontier);
            of_reading.frontiers.report("reports", frontier);
            let mut at_once: Option<(Capability<Tick>, Vec<Arrived>)> = None;
            loop {
                let next = waiting.pop_before(frontier).map(|(_, next)| next);
                let is_later = |(capability, _): &(Capability<Tick>, Vec<Arrived>)| {
                    next.as_ref().is_none_or(|(of, _)| of.time() != capability.time())
                };
                if let Some((capability, records)) = at_once.take_if(|held| is_later(held)) {
                    let read = reading.take(*capability.time(), records);
                    output.session(&capability).give_iterator(read.into_iter().map(Local));
                }
                let Some((capability, arrived)) = next else { break };
                at_once.get_or_insert_with(|| (capability, Vec::new())).1.push(arrived);
            }
        }
    });
    let readings = read.clone().flat_map(|Local(read)| match read {
        Read::Reading(key, judged) => Some((key, judged)),
        Read::Arrival(_) | Read::Dead(_) => None,
    });
    let arrivals = read.clone().flat_map(|Local(read)| match read {
        Read::Arrival(arrival) => Some(Local(arrival)),
        Read::Reading(..) | Read::Dead(_) => None,
    });
    let dead = read.flat_map(|Local(read)| match read {
        Read::Dead(letter) => Some(Local(Note::Dead(letter))),
        Read::Reading(..) | Read::Arrival(_) => None,
    });
    use timely::dataflow::operators::Concat;
    (arrivals.concat(boards(latest(readings).inner, config, stream)), dead)
}

type Change = ((ReadingKey, JudgedReading), Tick, isize);

/// What is said of each valid time, whenever a reading of it changes.
fn boards<'scope>(
    changes: StreamVec<'scope, Tick, Change>,
    config: PlacesConfig,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Arrival>> {
    let home = stream.home as u64;
    let together = Exchange::new(move |_: &Change| home);
    changes.unary_frontier(together, "Places", move |_capability, _info| {
        let mut board = Board::default();
        let mut waiting: Due<(ReadingKey, JudgedReading, isize)> = Due::default();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for ((key, judged), at, change) in batches.flat_map(|batch| batch.drain(..)) {
                    waiting.push(&capability, at, (key, judged, change));
                }
            });
            if stream.control.is_done() {
                waiting.clear();
                return;
            }
            let frontier = frontier_of(frontier);
            while let Some((capability, mut changes)) = waiting.pop_before(frontier) {
                let time = *capability.time();
                // What is taken back comes first: what replaces it has its place.
                changes.sort_by_key(|(_, _, change)| *change);
                let mut changed = BTreeSet::new();
                for (key, judged, change) in changes {
                    if board.change(&key, &judged, change > 0) {
                        changed.insert(key.valid);
                    }
                }
                let open = ValidTime::from_unix_seconds(config.open(time));
                board.readings = board.readings.split_off(&open);
                let mut session = output.session(&capability);
                for valid in changed.into_iter().filter(|valid| *valid >= open) {
                    session.give(Local(Arrival::Places(valid.unix_seconds(), board.at(valid).into())));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use squall_fields::{Check, Flags, InputRef, Place, Reading, Station, Verdict};

    use super::*;

    fn of(station: &str, value: f32, flags: Flags, period: Option<u32>) -> (ReadingKey, JudgedReading) {
        let valid = ValidTime::from_unix_seconds(600);
        let key = ReadingKey { station: station.into(), quantity: Quantity::RainRate, period_seconds: period, valid };
        let place = Place::new(57.0, 12.0, None).ok();
        let station = Arc::new(Station { id: station.into(), name: None, place });
        let input = InputRef { topic: "obs".into(), partition: 0, offset: 0, digest: "".into() };
        let reading = Reading { flags, ..Reading::new(Quantity::RainRate, period, value) };
        (key, JudgedReading { input, station, reading })
    }

    #[test]
    fn a_corrected_reading_replaces_one_that_failed_does_not_count_and_the_shortest_period_does() {
        let mut board = Board::default();
        let failed = Flags::default().with(Check::Range, Verdict::Fail);
        let mut change = |(key, judged): (ReadingKey, JudgedReading), there| board.change(&key, &judged, there);
        assert!(change(of("a", 1.0, Flags::default(), Some(300)), true));
        assert!(!change(of("a", 1.0, Flags::default(), Some(300)), true), "nothing new");
        assert!(change(of("a", 2.0, Flags::default(), Some(300)), true));
        assert!(!change(of("b", 9.0, failed, Some(60)), true));
        assert!(change(of("c", 3.0, Flags::default(), Some(300)), true));
        assert!(change(of("c", 4.0, Flags::default(), Some(60)), true));
        let values = |board: &Board| -> Vec<f32> {
            board.at(ValidTime::from_unix_seconds(600)).0.iter().map(|spot| spot.values[0].1).collect()
        };
        assert_eq!(values(&board), [2.0, 4.0]);
        let (key, judged) = of("a", 2.0, Flags::default(), Some(300));
        assert!(board.change(&key, &judged, false) && values(&board) == [4.0]);
    }

    #[test]
    fn of_an_archive_the_latest_usable_readings_on_slots_count() {
        let report = |station: &str, seconds: i64, offset: i64, value: f32| StationReport {
            station: Arc::new(Station { id: station.into(), name: None, place: Place::new(57.0, 12.0, None).ok() }),
            valid: ValidTime::from_unix_seconds(seconds),
            readings: vec![Reading::new(Quantity::RainRate, Some(60), value)],
            input: InputRef { topic: "a.nc".into(), partition: 0, offset, digest: "".into() },
        };
        let known = KnowledgeTime::from_unix_ms;
        let cadence = Cadence::every_seconds(300).unwrap();
        let config = PlacesConfig::at_any_time(vec![Variable::RainRate], cadence);
        let reports = [
            (known(600_000), vec![report("a", 600, 0, 1.0), report("b", 600, 1, -5.0), report("c", 660, 2, 1.0)]),
            (known(660_000), vec![report("a", 600, 3, 2.0)]),
        ];
        let all = latest_places(reports, Control::new(Default::default()), &config);
        assert_eq!(all.keys().map(|valid| valid.unix_seconds()).collect::<Vec<_>>(), [600]);
        let values: Vec<_> = all.values().flat_map(|places| &places.0).map(|spot| spot.values[0].1).collect();
        assert_eq!(values, [2.0], "corrected, and what is impossible is none");
    }
}
