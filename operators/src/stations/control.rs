//! Quality control: what is thought of each reading, by what is known.

use std::collections::{BTreeMap, BTreeSet};

use squall_fields::station::derived_winds;
use squall_fields::{
    Check, Flags, InputRef, KnowledgeTime, Place, Quantity, Reading, StationReport, ValidTime, Verdict,
};

use super::memory::{Held, Memory};
use super::thresholds::Thresholds;
use super::{JudgedReading, ReadingKey, checks};
use crate::dead_letter::Reason;
use crate::decode::Fault;

/// What a source of reports accepts, and how its readings are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlConfig {
    /// What is allowed of each quantity; of one that is not here nothing is checked.
    pub thresholds: BTreeMap<Quantity, Thresholds>,
    /// For so long after its valid time a reading is judged again when what it is compared with changes.
    pub horizon_seconds: u32,
    /// How much later than known a report may be valid.
    pub future_tolerance_seconds: u32,
}

impl Default for ControlConfig {
    /// [`Thresholds::of`] each quantity, a horizon of six hours, a tolerance of ten minutes.
    fn default() -> Self {
        Self {
            thresholds: Quantity::ALL.iter().map(|quantity| (*quantity, Thresholds::of(*quantity))).collect(),
            horizon_seconds: 6 * 3600,
            future_tolerance_seconds: 600,
        }
    }
}

impl ControlConfig {
    /// How long after its valid time a reading is held, in seconds: those that are judged look back to it. After a restart
    /// at a knowledge time, the reports of so long before it give the state that was.
    pub fn memory_seconds(&self) -> i64 {
        let looks_back = self.thresholds.values().map(Thresholds::looks_back_seconds).max();
        i64::from(self.horizon_seconds) + looks_back.unwrap_or(0)
    }
}

/// What follows of reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Readings that are new, corrected, or judged otherwise than before; each once, sorted by key.
    pub readings: Vec<(ReadingKey, JudgedReading)>,
    /// Reports that are not used, by the record that held them.
    pub refused: Vec<(InputRef, Fault)>,
}

/// The pure core: reports in the order in which they become known go in, flagged readings come out.
///
/// Checks compare a reading with others of its station and with its neighbours. What has to come for that may come later,
/// and in any order: so a reading is judged by what is known, and again when a reading becomes known that it is compared
/// with. In the end its flags are a function of the reports that are known, whatever the order in which they came, as long
/// as they came within the horizon.
///
/// A value that is impossible, or that its producer calls wrong, is no evidence: nothing is compared with it.
///
/// ```
/// use std::sync::Arc;
/// use squall_fields::{Check, InputRef, KnowledgeTime, Quantity, Reading, Station, StationReport, ValidTime, Verdict};
/// use squall_operators::stations::{Control, ControlConfig};
/// let mut control = Control::new(ControlConfig::default());
/// let report = |hour: i64, speed| StationReport {
///     station: Arc::new(Station { id: "torp".into(), name: None, place: None }),
///     valid: ValidTime::from_unix_seconds(3600 * hour),
///     readings: vec![Reading::new(Quantity::WindSpeed, None, speed)],
///     input: InputRef { topic: "obs".into(), partition: 0, offset: hour, digest: "".into() },
/// };
/// let known = |hour: i64| KnowledgeTime::from_unix_ms(3_600_000 * hour);
/// // The report of 11 h comes first: there is nothing that it could be compared with.
/// let first = control.push(known(11), vec![report(11, 40.0)]).readings;
/// assert_eq!(first[0].1.reading.flags.get(Check::Step), Verdict::NotEvaluated);
/// // Then that of 10 h, and both are judged.
/// let both = control.push(known(12), vec![report(10, 4.0)]).readings;
/// assert_eq!(both.len(), 2);
/// assert_eq!(both[1].1.reading.flags.to_string(), "suspect by step");
/// ```
#[derive(Clone, Debug)]
pub struct Control {
    config: ControlConfig,
    memory: Memory,
}

/// What one push has touched: keys with another value than before (true), and of what is compared with these (false).
type Touched = BTreeMap<ReadingKey, bool>;

impl Control {
    /// Without history.
    pub fn new(config: ControlConfig) -> Self {
        Self { config, memory: Memory::default() }
    }

    /// How many readings are held.
    pub fn held(&self) -> usize {
        self.memory.len()
    }

    /// Moves time on: what is older than the memory is forgotten.
    pub fn advance(&mut self, known_at: KnowledgeTime) {
        self.memory.forget_before(self.oldest(known_at));
    }

    fn oldest(&self, known_at: KnowledgeTime) -> ValidTime {
        seconds(known_at).plus_seconds(-self.config.memory_seconds())
    }

    /// Takes all reports that become known at one time, not before the time of the last call.
    ///
    /// Of two readings of one key that are known at one time, the later in the log counts; a reading that says what is
    /// known already changes nothing. One that is valid before what is held is judged by its value alone.
    pub fn push(&mut self, known_at: KnowledgeTime, mut reports: Vec<StationReport>) -> Judgement {
        self.advance(known_at);
        // Reports of one record stay in its order.
        reports.sort_by(|a, b| a.input.cmp(&b.input));
        let (mut refused, mut out, mut touched) = (Vec::new(), BTreeMap::new(), Touched::default());
        for report in reports {
            if let Err(fault) = self.check_time(&report, known_at) {
                refused.push((report.input, fault));
            } else if report.valid < self.oldest(known_at) {
                out.extend(self.judge_alone(&report));
            } else {
                self.take(report, known_at, &mut touched);
            }
        }
        let horizon = seconds(known_at).plus_seconds(-i64::from(self.config.horizon_seconds));
        touched.retain(|key, is_fresh| *is_fresh || key.valid >= horizon);
        let mut winds = BTreeSet::new();
        for (key, is_fresh) in touched {
            let flags = self.flags(&key);
            let Some(reading) = self.memory.reading_mut(&key) else { continue };
            if !is_fresh && reading.flags == flags {
                continue;
            }
            reading.flags = flags;
            if key.quantity != Quantity::RainRate {
                winds.insert(ReadingKey { quantity: Quantity::WindSpeed, ..key.clone() });
            }
            out.extend(self.memory.get(&key).map(|held| (key, judged(held, held.reading))));
        }
        out.extend(winds.iter().flat_map(|wind| self.derived(wind)));
        Judgement { readings: out.into_iter().collect(), refused }
    }

    fn check_time(&self, report: &StationReport, known_at: KnowledgeTime) -> Result<(), Fault> {
        let (valid, tolerance) = (report.valid, self.config.future_tolerance_seconds);
        let ahead = valid.unix_seconds().saturating_sub(seconds(known_at).unix_seconds());
        if ahead > i64::from(tolerance) {
            let station = &report.station.id;
            let detail = format!("{station} is valid at {valid}, {ahead} s after it was known, at most {tolerance}");
            return Err((Reason::Future, detail));
        }
        Ok(())
    }

    /// Holds the readings of a report, and notes what has to be judged because of them.
    fn take(&mut self, report: StationReport, known_at: KnowledgeTime, touched: &mut Touched) {
        for reading in &report.readings {
            let key = key_of(&report, reading);
            let reading = unjudged(*reading);
            let before = self.memory.get(&key);
            if let Some(before) = before
                && unjudged(before.reading) == reading
                && before.station == report.station
            {
                continue;
            }
            let moved_from = before.and_then(|before| before.station.place);
            let is_evidence = self.is_evidence(&reading);
            let held =
                Held { station: report.station.clone(), reading, input: report.input.clone(), known_at, is_evidence };
            self.memory.put(&key, held);
            for other in self.who_looks_back_to(&key) {
                touched.entry(other).or_insert(false);
            }
            for place in moved_from.into_iter().chain(report.station.place).collect::<BTreeSet<_>>() {
                for other in self.who_compares_with(&key, place) {
                    touched.entry(other).or_insert(false);
                }
            }
            touched.insert(key, true);
        }
    }

    fn who_looks_back_to(&self, key: &ReadingKey) -> impl Iterator<Item = ReadingKey> {
        let limits = self.config.thresholds.get(&key.quantity);
        limits.into_iter().flat_map(|limits| self.memory.after(key, limits.looks_back_seconds()))
    }

    fn who_compares_with<'c>(&'c self, key: &'c ReadingKey, place: Place) -> impl Iterator<Item = ReadingKey> {
        let limit = self.config.thresholds.get(&key.quantity).and_then(|limits| limits.buddy.as_ref());
        let near = limit.into_iter().flat_map(move |limit| self.memory.neighbours(key, place, limit));
        near.map(|(station, ..)| ReadingKey { station: station.clone(), ..key.clone() })
    }

    fn is_evidence(&self, reading: &Reading) -> bool {
        let limits = self.config.thresholds.get(&reading.quantity);
        let is_possible = limits.is_none_or(|limits| checks::range(reading.value, limits) != Verdict::Fail);
        !reading.is_missing() && is_possible && reading.flags.get(Check::Producer) < Verdict::Fail
    }

    /// What is thought of a reading that is held.
    fn flags(&self, key: &ReadingKey) -> Flags {
        let Some(held) = self.memory.get(key) else { return Flags::default() };
        let reading = &held.reading;
        let flags = self.flags_alone(reading);
        let Some(limits) = self.config.thresholds.get(&key.quantity).filter(|_| held.is_evidence) else { return flags };
        let (quantity, value) = (key.quantity, reading.value);
        let before = || self.memory.before(key, limits.looks_back_seconds());
        let step = limits.step.map(|limit| checks::step(quantity, value, before(), &limit));
        let persistence = limits.persistence.map(|limit| checks::persistence(quantity, value, before(), &limit));
        let buddy = held.station.place.zip(limits.buddy.as_ref()).map(|(place, limit)| {
            let neighbours = self.memory.neighbours(key, place, limit).map(|(_, metres, value)| (metres, value));
            checks::buddy(quantity, value, neighbours, limit)
        });
        let made = [(Check::Step, step), (Check::Persistence, persistence), (Check::Buddy, buddy)];
        made.into_iter().fold(flags, |flags, (check, verdict)| flags.with(check, verdict.unwrap_or(flags.get(check))))
    }

    /// What is thought of a reading by its value, and by its producer.
    fn flags_alone(&self, reading: &Reading) -> Flags {
        let flags = unjudged(*reading).flags;
        match self.config.thresholds.get(&reading.quantity) {
            Some(limits) if !reading.is_missing() => flags.with(Check::Range, checks::range(reading.value, limits)),
            _ => flags,
        }
    }

    /// The readings of a report that comes after everything that it could be compared with was forgotten.
    fn judge_alone(&self, report: &StationReport) -> Vec<(ReadingKey, JudgedReading)> {
        let flagged = report.readings.iter().map(|reading| Reading { flags: self.flags_alone(reading), ..*reading });
        let mut readings: Vec<Reading> = flagged.collect();
        readings.extend(derived_winds(&readings));
        let judged = |reading: Reading| {
            let judged = JudgedReading { input: report.input.clone(), station: report.station.clone(), reading };
            (key_of(report, &reading), judged)
        };
        readings.into_iter().map(judged).collect()
    }

    /// What follows of the readings of the wind at one station and time.
    fn derived(&self, wind: &ReadingKey) -> Vec<(ReadingKey, JudgedReading)> {
        let keys = Quantity::ALL.iter().filter(|quantity| **quantity != Quantity::RainRate);
        let of = |quantity: &Quantity| self.memory.get(&ReadingKey { quantity: *quantity, ..wind.clone() });
        let held: Vec<&Held> = keys.filter_map(of).collect();
        let readings: Vec<Reading> = held.iter().map(|held| held.reading).collect();
        let Some(newest) = held.iter().max_by_key(|held| (held.known_at, &held.input)) else { return Vec::new() };
        let key = |reading: &Reading| ReadingKey { quantity: reading.quantity, ..wind.clone() };
        derived_winds(&readings).into_iter().map(|reading| (key(&reading), judged(newest, reading))).collect()
    }
}

fn seconds(known_at: KnowledgeTime) -> ValidTime {
    ValidTime::from_unix_seconds((known_at.unix_ms() / 1000) as i64)
}

fn key_of(report: &StationReport, reading: &Reading) -> ReadingKey {
    let Reading { quantity, period_seconds, .. } = *reading;
    ReadingKey { station: report.station.id.clone(), quantity, period_seconds, valid: report.valid }
}

/// A reading with nothing but what its producer says of it.
fn unjudged(reading: Reading) -> Reading {
    let fresh = Reading::new(reading.quantity, reading.period_seconds, reading.value);
    Reading { flags: fresh.flags.with(Check::Producer, reading.flags.get(Check::Producer)), ..fresh }
}

fn judged(held: &Held, reading: Reading) -> JudgedReading {
    JudgedReading { input: held.input.clone(), station: held.station.clone(), reading }
}

#[cfg(test)]
mod tests;
