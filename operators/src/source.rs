//! Reads the partitions of a topic into the dataflow.
//!
//! Each worker owns the partitions whose hash falls on it and holds one capability for each, so that the frontier
//! is the minimum over all partitions of what each has read. A worker that owns none holds nothing. Records are
//! read on a thread of their own ([`reader`]), behind bounded queues; the operator takes from a queue only while
//! the probe behind the *sink* is near enough and the bytes in flight are within a budget. Timely's channels are
//! unbounded, so this is the only place where a flood can be held back.
//!
//! The partition that holds time back is always read: with several partitions of uneven speed, the far ones wait
//! and the slow one never does, so that nothing deadlocks.

pub mod reader;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use squall_fields::KnowledgeTime;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source as timely_source;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use self::reader::{Item, Queues};
use crate::knowledge::PartitionClock;
use crate::local::Local;
use crate::ports::{Connect, PartitionId, Record};
use crate::progress::{Decision, Position, Progress};
use crate::stream::StreamContext;
use crate::{Tick, events};

/// Where a source's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Live: at the end of a partition, time is the machine's clock minus a margin that covers the lag from append
    /// to visible.
    Wall {
        /// The margin.
        margin: Duration,
    },
    /// Replay: time moves by records alone, and ends at the end offsets seen at the start or, where
    /// `until_marker` is set, at a record with the header [`crate::ports::END_OF_LOG_HEADER`].
    Log {
        /// Go on past the end offsets, until the marker.
        until_marker: bool,
    },
}

/// What a source reads, and how far ahead.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Every partition of the topic.
    pub partitions: Vec<PartitionId>,
    /// Where time comes from.
    pub clock: Clock,
    /// How far in knowledge time a partition may be read ahead of what is committed.
    pub read_ahead: Duration,
    /// Bytes of records in flight on one worker.
    pub max_bytes_in_flight: u64,
    /// Larger records are cut, and go to dead letters.
    pub max_record_bytes: u64,
}

/// A record in the dataflow.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The record.
    pub record: Arc<Record>,
    /// When it became known.
    pub at: KnowledgeTime,
    /// Whether its time was decided by the machine's clock, so that a restart must be told.
    pub decided: bool,
    /// Whether its results are committed already: it is read again only to refill windows.
    pub refill: bool,
    /// The machine's clock in microseconds since 1970 when it was read, for latencies alone.
    pub read_at_us: i64,
}

/// The worker that owns something of that name: the same on every run with as many workers.
pub fn owner(name: &str, index: u64, workers: usize) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    ((hash >> 32).wrapping_add(index) % workers as u64) as usize
}

/// Stamps the records of one partition with their knowledge time: the pure core of the source.
#[derive(Clone, Debug)]
pub struct PartitionStamp {
    clock: PartitionClock,
    next: i64,
    recovered: KnowledgeTime,
    decisions: HashMap<i64, KnowledgeTime>,
}

impl PartitionStamp {
    /// For a partition without history.
    pub fn fresh() -> Self {
        Self { clock: Default::default(), next: i64::MIN, recovered: Default::default(), decisions: HashMap::new() }
    }

    /// For a partition that a progress record speaks of.
    pub fn resumed(position: &Position, progress: &Progress) -> Self {
        let decisions = progress.decisions.iter().filter_map(|decision| match decision {
            Decision::Late { partition, offset, knowledge } if *partition == position.partition => {
                Some((*offset, *knowledge))
            }
            _ => None,
        });
        Self {
            clock: PartitionClock::starting_at(position.knowledge),
            next: position.next,
            recovered: progress.frontier,
            decisions: decisions.collect(),
        }
    }

    /// Stamps the next record; `held` is the time that the partition's capability has reached.
    pub fn stamp(&mut self, offset: i64, timestamp_ms: i64, held: KnowledgeTime) -> Stamp {
        let natural = self.clock.stamp(timestamp_ms);
        let refill = offset < self.next;
        let mut at = natural;
        if let Some(decided) = self.decisions.remove(&offset) {
            at = at.max(decided);
        }
        if !refill {
            at = at.max(self.recovered).max(held);
        }
        self.clock.not_before(at);
        Stamp { at, decided: at != natural, refill }
    }

    /// Knowledge time of the newest record.
    pub fn newest(&self) -> KnowledgeTime {
        self.clock.newest()
    }
}

/// What [`PartitionStamp::stamp`] says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it became known.
    pub at: KnowledgeTime,
    /// Whether that is later than its own partition says.
    pub decided: bool,
    /// Whether its results are committed already.
    pub refill: bool,
}

struct Owned {
    capability: Capability<Tick>,
    stamp: PartitionStamp,
}

/// Reads the partitions that this worker owns, from where `progress` left off.
pub fn source<'scope>(
    scope: Scope<'scope, Tick>,
    config: SourceConfig,
    progress: Option<&Progress>,
    connect: Arc<dyn Connect>,
    stream: StreamContext,
    probe: ProbeHandle<Tick>,
) -> StreamVec<'scope, Tick, Local<Arrived>> {
    let (worker, workers) = (scope.index(), scope.peers());
    let control = stream.control.clone();
    timely_source(scope, "Source", move |root, info| {
        let mut partitions = BTreeMap::new();
        let mut starts = Vec::new();
        for (number, id) in config.partitions.iter().enumerate() {
            if owner(&stream.name, number as u64, workers) != worker {
                continue;
            }
            let position = progress.and_then(|p| p.positions.iter().find(|position| position.partition == *id));
            let stamp = match (position, progress) {
                (Some(position), Some(progress)) => PartitionStamp::resumed(position, progress),
                _ => PartitionStamp {
                    recovered: progress.map(|p| p.frontier).unwrap_or_default(),
                    ..PartitionStamp::fresh()
                },
            };
            starts.push((id.clone(), position.map_or(0, |p| p.rewind)));
            let mut capability = root.clone();
            capability.downgrade(&stamp.recovered.unix_ms());
            partitions.insert(id.clone(), Owned { capability, stamp });
        }
        drop(root); // a worker that owns nothing must not hold the frontier
        if partitions.is_empty() {
            control.hold(worker, None); // now: timely never runs a source again that holds no capability
        }

        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        control.register(waker());
        let queues = Queues::new(&starts, config.max_bytes_in_flight / 2);
        if !starts.is_empty() {
            reader::spawn(config.clone(), starts, connect, stream.clone(), queues.clone(), waker());
        }
        let activator = scope.activator_for(info.address);
        let mut flight = Flight::default();

        move |output| {
            if control.is_done() {
                partitions.clear();
                return;
            }
            if control.is_stopping() {
                control.hold(worker, partitions.values().map(|p: &Owned| *p.capability.time()).min());
                return;
            }
            let committed = probe.with_frontier(|f| f.first().copied());
            flight.land(committed);
            let mut waiting = false;
            let mut over = Vec::new();
            for (id, owned) in &mut partitions {
                // Some records of each partition in turn, so that one alone does not fill the budget.
                for _ in 0..16 {
                    let time = *owned.capability.time();
                    let behind = committed.is_none_or(|c| time <= c);
                    let near = committed.is_none_or(|c| time <= c + config.read_ahead.as_millis() as u64);
                    let wanted = behind || (near && flight.bytes < config.max_bytes_in_flight);
                    if !wanted {
                        waiting |= queues.has_more(id);
                        break;
                    }
                    let Some(item) = queues.pop(id) else { break };
                    match item {
                        Item::Record { record, read_at_us } => {
                            let held = KnowledgeTime::from_unix_ms(time as i64);
                            let stamp = owned.stamp.stamp(record.offset, record.timestamp_ms, held);
                            let time = stamp.at.unix_ms().max(time); // what refills enters at the recovered frontier
                            owned.capability.downgrade(&time);
                            flight.add(time, record.value_bytes);
                            announce(&stream.name, &record, stamp);
                            let Stamp { at, decided, refill } = stamp;
                            let arrived = Arrived { record: record.into(), at, decided, refill, read_at_us };
                            output.session(&owned.capability).give(Local(arrived));
                        }
                        Item::Idle { until } => {
                            if until.unix_ms() > time {
                                owned.capability.downgrade(&until.unix_ms());
                            }
                        }
                        Item::End => {
                            control.end_partition(id.clone(), owned.stamp.newest());
                            over.push(id.clone());
                            break;
                        }
                    }
                }
                waiting |= queues.has_more(id);
            }
            for (id, owned) in &partitions {
                stream.frontiers.report_partition(id, *owned.capability.time());
            }
            for id in over {
                partitions.remove(&id);
                if partitions.is_empty() {
                    control.hold(worker, None);
                }
            }
            if waiting {
                activator.activate_after(Duration::from_millis(2)); // for room: nobody wakes us when the probe moves
            }
        }
    })
}

fn announce(stream: &str, record: &Record, stamp: Stamp) {
    let (partition, known_at) = (&record.partition, stamp.at);
    if stamp.refill {
        return;
    }
    events::RecordRead { stream, partition, bytes: record.value_bytes, known_at }.emit();
    if stamp.decided {
        events::RecordLate { stream, partition, offset: record.offset, known_at }.emit();
    }
}

/// Bytes of the records that were read and whose results are not yet committed.
#[derive(Debug, Default)]
struct Flight {
    by_time: BTreeMap<Tick, u64>,
    bytes: u64,
}

impl Flight {
    fn add(&mut self, time: Tick, bytes: u64) {
        *self.by_time.entry(time).or_default() += bytes;
        self.bytes += bytes;
    }

    fn land(&mut self, committed: Option<Tick>) {
        while let Some(first) = self.by_time.first_entry() {
            if committed.is_some_and(|c| *first.key() >= c) {
                break;
            }
            self.bytes -= first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(ms)
    }

    #[test]
    fn owners_are_spread() {
        let owners: std::collections::BTreeSet<_> = (0..4).map(|p| owner("radar", p, 4)).collect();
        assert_eq!(owners.len(), 4);
    }

    #[test]
    fn a_record_below_the_frontier_takes_its_time_and_a_restart_is_told() {
        let mut live = PartitionStamp::fresh();
        assert_eq!(live.stamp(5, 1_000, at(0)), Stamp { at: at(1_000), decided: false, refill: false });
        let late = live.stamp(6, 1_050, at(2_000));
        assert_eq!(late, Stamp { at: at(2_000), decided: true, refill: false });
        let id = PartitionId::new("obs", 0);
        let position = Position { partition: id.clone(), rewind: 5, knowledge: at(1_000), next: 7 };
        let decision = Decision::Late { partition: id, offset: 6, knowledge: late.at };
        let progress = Progress { frontier: at(3_000), decisions: vec![decision], ..Default::default() };
        let mut again = PartitionStamp::resumed(&position, &progress);
        assert_eq!(again.stamp(5, 1_000, at(3_000)), Stamp { at: at(1_000), decided: false, refill: true });
        assert_eq!(again.stamp(6, 1_050, at(3_000)), Stamp { at: at(2_000), decided: true, refill: true });
        let new = again.stamp(7, 2_100, at(3_000));
        assert_eq!(new, Stamp { at: at(3_000), decided: true, refill: false }, "unseen before the frontier");
    }

    proptest! {
        #[test]
        fn a_restart_stamps_as_before(
            stamps in prop::collection::vec(0i64..10_000, 2..30), rewind in 0usize..30, cut in 0usize..30,
        ) {
            let rewind = rewind % stamps.len();
            let next = rewind + cut % (stamps.len() - rewind + 1);
            let mut live = PartitionStamp::fresh();
            let all: Vec<_> = stamps.iter().enumerate().map(|(o, s)| live.stamp(o as i64, *s, at(0)).at).collect();
            let partition = PartitionId::new("obs", 0);
            let knowledge = all[rewind];
            let position = Position { partition, rewind: rewind as i64, knowledge, next: next as i64 };
            let frontier = all.get(next).copied().unwrap_or(at(20_000));
            let mut again = PartitionStamp::resumed(&position, &Progress { frontier, ..Default::default() });
            for offset in rewind..stamps.len() {
                let stamp = again.stamp(offset as i64, stamps[offset], frontier);
                prop_assert_eq!(stamp, Stamp { at: all[offset], decided: false, refill: offset < next });
            }
        }
    }

    #[test]
    fn bytes_land_when_they_are_committed() {
        let mut flight = Flight::default();
        flight.add(100, 7);
        flight.add(150, 5);
        flight.land(Some(100));
        assert_eq!(flight.bytes, 12);
        flight.land(Some(150));
        assert_eq!(flight.bytes, 5);
        flight.land(None);
        assert_eq!(flight.bytes, 0);
    }
}
