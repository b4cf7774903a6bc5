//! Sums as records and metrics: the raw statistics of each valid time on one topic, the scores of hours, of days and of all
//! time on another, which is compacted.

mod newest;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use squall_fields::KnowledgeTime;
use squall_models::scores::{AnyScore, Number, Statistics, numbers};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;
use uuid::Uuid;

use self::newest::Newest;
use super::due::Due;
use super::gather::Hours;
use super::series::{Key, Period, Series, Sums};
use super::skill::Standing;
use crate::local::Local;
use crate::note::Note;
use crate::order::frontier_of;
use crate::ports::Outgoing;
use crate::stream::StreamContext;
use crate::{Tick, events};

/// Where scores go, and what they are.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the instance.
    pub instance: Arc<str>,
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Topic of the raw statistics.
    pub statistics: Arc<str>,
    /// Topic of the scores.
    pub scores: Arc<str>,
    /// The scores, empty, in the order of the statistics.
    pub empty: Arc<[Box<dyn AnyScore>]>,
    /// The name by which each of them is asked for.
    pub names: Arc<[&'static str]>,
    /// Which valid times are open.
    pub hours: Hours,
}

impl Report {
    /// The record of a sum as it is from a time on; of one that nothing counts in any more, a tombstone.
    pub fn record(&self, key: &Key, sums: Option<&Sums>, known_at: KnowledgeTime) -> Outgoing {
        let Key { series, period } = key;
        let (from, to) = period.bounds().map(|(from, to)| (from.to_string(), to.to_string())).unzip();
        let subject = Subject::new(&self.stream, series, known_at);
        let at = |from: &Option<String>| from.clone().unwrap_or_default();
        if let Period::At(_) = period {
            let key = format!("{}|{series}|{}", self.stream, at(&from));
            let json =
                sums.map(|Sums(sums)| StatisticsRecord { subject, valid_time: at(&from), sums: self.sums(sums) });
            return self.outgoing((&self.statistics, "statistics"), key, known_at, json.as_ref());
        }
        let name = period.name();
        let key = format!("{}|{series}|{name}|{}", self.stream, at(&from));
        let window = Window { name, from, to };
        let json = sums.map(|Sums(sums)| ScoresRecord { subject, window, scores: numbers(&self.empty, sums) });
        let key = key.trim_end_matches('|').to_owned();
        self.outgoing((&self.scores, "scores"), key, known_at, json.as_ref())
    }

    /// The record of how the stream stands against a baseline.
    pub fn standing(&self, standing: &Standing, known_at: KnowledgeTime) -> Outgoing {
        let Standing { baseline, variable, region, hour, .. } = standing;
        let key = format!("{}|skill|{baseline}|{variable}|{region}", self.stream);
        let window = Window { name: "1h", from: Some(hour.to_string()), to: Some(standing.until().to_string()) };
        let record = SkillRecord {
            stream: &self.stream,
            baseline,
            variable,
            region,
            window,
            score: &standing.score,
            published: standing.published,
            of_baseline: standing.of_baseline,
            skill: standing.skill,
            hours_behind: standing.hours_behind,
            is_behind: standing.is_behind,
            known_at: known_at.to_string(),
        };
        self.outgoing((&self.scores, "skill"), key, known_at, Some(&record))
    }

    /// Each score with its sums, as texts: multiples of 2^-64, which no number of JSON holds.
    fn sums(&self, statistics: &Statistics) -> Vec<ScoreSums> {
        let mut by_place: BTreeMap<usize, BTreeMap<u64, String>> = BTreeMap::new();
        for (place, number, sum) in statistics.parts() {
            by_place.entry(place).or_default().insert(number, sum.to_string());
        }
        let score = |(place, sums): (usize, BTreeMap<u64, String>)| {
            let (score, name) = (self.empty.get(place)?, self.names.get(place)?);
            let whole = statistics.only(place).scores(std::slice::from_ref(score));
            let count = whole.first().map_or(0.0, |score| score.count());
            Some(ScoreSums { score: name, threshold: score.threshold(), scale: score.scale(), count, sums })
        };
        by_place.into_iter().filter_map(score).collect()
    }

    /// A record of a topic, whose kind, key and time are its identity.
    fn outgoing(
        &self,
        (topic, kind): (&Arc<str>, &str),
        key: String,
        known_at: KnowledgeTime,
        json: Option<&impl Serialize>,
    ) -> Outgoing {
        let json = json.map(|json| serde_json::to_vec(json).expect("numbers and texts have a JSON form"));
        let identity = format!("{}|{kind}|{key}|{known_at}", self.instance);
        let headers = [
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes()).to_string()),
            ("ce_source", format!("/squall/{}", self.instance)),
            ("ce_type", format!("squall.{kind}.v1")),
            ("ce_time", known_at.to_string()),
            ("ce_subject", key.clone()),
            ("content-type", "application/json".to_owned()),
        ];
        Outgoing {
            topic: topic.clone(),
            partition: None,
            key: Some(Bytes::from(key)),
            headers: headers.map(|(name, value)| (name.to_owned(), Some(Bytes::from(value)))).into(),
            value: json.map(Bytes::from),
            timestamp_ms: None,
        }
    }

    /// Whether a sum of a time has left the collection because its hour, or its day, was closed before that.
    fn has_expired(&self, period: Period, time: Tick) -> bool {
        period.bounds().is_some_and(|(from, to)| {
            let last = if let Period::At(_) = period { from } else { to };
            last.unix_seconds() <= self.hours.open_from(time) && from.unix_seconds() < self.hours.open_from(time)
        })
    }
}

/// What a record is of.
#[derive(Serialize)]
struct Subject<'a> {
    stream: &'a str,
    contestant: &'a str,
    model: &'a str,
    model_digest: &'a str,
    variable: &'a str,
    region: &'a str,
    lead_minutes: f64,
    known_at: String,
}

impl<'a> Subject<'a> {
    fn new(stream: &'a str, series: &'a Series, known_at: KnowledgeTime) -> Self {
        let Series { contestant, model, digest: model_digest, variable, region, lead } = series;
        let (lead_minutes, known_at) = (*lead as f64 / 60.0, known_at.to_string());
        Self { stream, contestant, model, model_digest, variable, region, lead_minutes, known_at }
    }
}

#[derive(Serialize)]
struct Window {
    name: &'static str,
    from: Option<String>,
    to: Option<String>,
}

/// A record of the topic of scores.
#[derive(Serialize)]
struct ScoresRecord<'a> {
    #[serde(flatten)]
    subject: Subject<'a>,
    window: Window,
    scores: Vec<Number>,
}

/// A record of the topic of statistics.
#[derive(Serialize)]
struct StatisticsRecord<'a> {
    #[serde(flatten)]
    subject: Subject<'a>,
    valid_time: String,
    sums: Vec<ScoreSums>,
}

#[derive(Serialize)]
struct ScoreSums {
    score: &'static str,
    threshold: Option<f32>,
    scale: Option<usize>,
    count: f64,
    sums: BTreeMap<u64, String>,
}

/// A record of skill, among the scores.
#[derive(Serialize)]
struct SkillRecord<'a> {
    stream: &'a str,
    baseline: &'a str,
    variable: &'a str,
    region: &'a str,
    window: Window,
    score: &'a str,
    published: f64,
    of_baseline: f64,
    skill: Option<f64>,
    hours_behind: u32,
    is_behind: bool,
    known_at: String,
}

/// Sums that have changed, as records, on the home worker.
pub fn report<'scope>(
    sums: StreamVec<'scope, Tick, ((Key, Sums), Tick, isize)>,
    report: Report,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Note>> {
    let home = stream.home as u64;
    let together = Exchange::new(move |_: &((Key, Sums), Tick, isize)| home);
    sums.unary_frontier(together, "Report", move |_capability, _info| {
        let mut waiting: Due<(Key, Sums, isize)> = Due::default();
        let mut newest = Newest::default();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for ((key, sums), at, change) in batches.flat_map(|batch| batch.drain(..)) {
                    waiting.push(&capability, at, (key, sums, change));
                }
            });
            if stream.control.is_done() {
                waiting.clear();
                return;
            }
            let frontier = frontier_of(frontier);
            stream.frontiers.report("report", frontier);
            while let Some((capability, changes)) = waiting.pop_before(frontier) {
                let time = *capability.time();
                let known_at = KnowledgeTime::at(time);
                // What each sum is from now on; none for what nothing counts in any more.
                let mut now: BTreeMap<Key, Option<Sums>> = BTreeMap::new();
                for (key, sums, change) in changes {
                    let sum = now.entry(key).or_default();
                    if change > 0 {
                        *sum = Some(sums);
                    }
                }
                // What was said last of what has expired stays true.
                now.retain(|key, sums| sums.is_some() || !report.has_expired(key.period, time));
                let record = |(key, sums): (&Key, &Option<Sums>)| {
                    let (is_newest, empty) = (newest.takes(key, sums.is_some()), &*report.empty);
                    events::Scored { stream: &report.stream, key, sums: sums.as_ref(), is_newest, empty }.emit();
                    report.record(key, sums.as_ref(), known_at)
                };
                let records: Vec<_> = now.iter().map(record).collect();
                if !records.is_empty() {
                    output.session(&capability).give(Local(Note::Records(records)));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use squall_models::scores::list;

    /// Who pools sums otherwise has nothing but that table to tell what they are.
    #[test]
    fn the_sums_of_every_score_are_documented() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats.md")).unwrap();
        let rows = text.lines().skip_while(|line| !line.starts_with("| score | N |")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let names: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        assert_eq!(names, list::measures().collect::<BTreeSet<_>>());
    }
}
