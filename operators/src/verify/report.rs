//! Sums as records and metrics: the raw statistics of each valid time on one topic, the scores of hours, of days and of all
//! time on another, which is compacted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use squall_fields::KnowledgeTime;
use squall_models::scores::{AnyScore, Statistics, numbers};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

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
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Topic of the raw statistics.
    pub statistics: Arc<str>,
    /// Topic of the scores.
    pub scores: Arc<str>,
    /// The scores, empty, in the order of the statistics.
    pub empty: Arc<[Box<dyn AnyScore>]>,
}

impl Report {
    /// The record of a sum as it is from a time on.
    pub fn record(&self, key: &Key, sums: &Sums, known_at: KnowledgeTime) -> Outgoing {
        let Key { series, period } = key;
        let mut json = self.subject(series, known_at);
        let (topic, when) = match period {
            Period::At(_) => {
                let at = period.bounds().map_or_else(String::new, |(from, _)| from.to_string());
                json.insert("valid_time".into(), at.clone().into());
                json.insert("sums".into(), self.sums(&sums.0));
                (&self.statistics, at)
            }
            _ => {
                let bounds = period.bounds();
                let from = bounds.map(|(from, _)| from.to_string());
                let to = bounds.map(|(_, to)| to.to_string());
                let when =
                    from.as_ref().map_or_else(|| period.name().to_owned(), |at| format!("{}|{at}", period.name()));
                json.insert("window".into(), json!({"name": period.name(), "from": from, "to": to}));
                json.insert("scores".into(), json!(numbers(&self.empty, &sums.0)));
                (&self.scores, when)
            }
        };
        self.outgoing(topic, format!("{}|{series}|{when}", self.stream), "scores", &json)
    }

    /// The record of how the stream stands against a baseline.
    pub fn standing(&self, standing: &Standing, known_at: KnowledgeTime) -> Outgoing {
        let Standing { baseline, variable, region, hour, measure, values, skill, hours_behind, is_behind } = standing;
        let json = json!({
            "stream": self.stream,
            "baseline": baseline,
            "variable": variable,
            "region": region,
            "window": {"name": "1h", "from": hour.to_string(), "to": standing.until().to_string()},
            "score": measure,
            "published": values.0,
            "of_baseline": values.1,
            "skill": skill,
            "hours_behind": hours_behind,
            "is_behind": is_behind,
            "known_at": known_at.to_string(),
        });
        let key = format!("{}|skill|{baseline}|{variable}|{region}", self.stream);
        let Value::Object(json) = json else { unreachable!("it is an object") };
        self.outgoing(&self.scores, key, "skill", &json)
    }

    fn subject(&self, series: &Series, known_at: KnowledgeTime) -> Map<String, Value> {
        let Series { contestant, model, digest, variable, region, lead } = series;
        let json = json!({
            "stream": self.stream,
            "contestant": contestant,
            "model": model,
            "model_digest": digest,
            "variable": variable,
            "region": region,
            "lead_minutes": *lead as f64 / 60.0,
            "known_at": known_at.to_string(),
        });
        match json {
            Value::Object(json) => json,
            _ => Map::new(),
        }
    }

    /// Each score with its sums, as texts: multiples of 2^-64, which no number of JSON holds.
    fn sums(&self, statistics: &Statistics) -> Value {
        let mut by_place: BTreeMap<usize, Map<String, Value>> = BTreeMap::new();
        for (place, number, sum) in statistics.parts() {
            by_place.entry(place).or_default().insert(number.to_string(), sum.to_string().into());
        }
        let score = |(place, sums): (usize, Map<String, Value>)| {
            let score = self.empty.get(place)?;
            let (threshold, scale) = (score.threshold(), score.scale());
            let whole = statistics.only(place).scores(std::slice::from_ref(score));
            let count = whole.first().map_or(0.0, |score| score.count());
            Some(json!({"score": score.name(), "threshold": threshold, "scale": scale, "count": count, "sums": sums}))
        };
        by_place.into_iter().filter_map(score).collect()
    }

    fn outgoing(&self, topic: &Arc<str>, key: String, kind: &str, json: &Map<String, Value>) -> Outgoing {
        let text = |text: &str| Some(Bytes::from(text.to_owned()));
        Outgoing {
            topic: topic.clone(),
            partition: None,
            key: Some(Bytes::from(key)),
            headers: vec![
                ("content-type".to_owned(), text("application/json")),
                ("squall-kind".to_owned(), text(kind)),
            ],
            value: Some(Bytes::from(Value::Object(json.clone()).to_string())),
            timestamp_ms: None,
        }
    }
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
        let mut waiting: BTreeMap<Tick, (Capability<Tick>, Vec<(Key, Sums, isize)>)> = BTreeMap::new();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for ((key, sums), at, change) in batches.flat_map(|batch| batch.drain(..)) {
                    let at = at.max(*capability.time());
                    let (_, changes) = waiting.entry(at).or_insert_with(|| (capability.delayed(&at), Vec::new()));
                    changes.push((key, sums, change));
                }
            });
            if stream.control.is_done() {
                waiting.clear();
                return;
            }
            let frontier = frontier_of(frontier);
            stream.frontiers.report("report", frontier);
            while let Some(entry) = waiting.first_entry().filter(|entry| frontier.is_none_or(|f| *entry.key() < f)) {
                let (time, (capability, changes)) = entry.remove_entry();
                let known_at = KnowledgeTime::at(time);
                let mut net: BTreeMap<(Key, Sums), isize> = BTreeMap::new();
                changes.into_iter().for_each(|(key, sums, change)| *net.entry((key, sums)).or_default() += change);
                // What is only taken away has expired: what was said of it last stays true.
                let new = net.into_iter().filter(|(_, change)| *change > 0).map(|(of, _)| of);
                let records: Vec<_> = new
                    .map(|(key, sums)| {
                        events::Scored { stream: &report.stream, key: &key, sums: &sums, empty: &report.empty }.emit();
                        report.record(&key, &sums, known_at)
                    })
                    .collect();
                if !records.is_empty() {
                    output.session(&capability).give(Local(Note::Records(records)));
                }
            }
        }
    })
}
