//! The timely shell: a capability for each partition, and records as long as there is room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use squall_fields::KnowledgeTime;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source as timely_source;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use super::plausible::{self, Harmless, Verdict, judge};
use super::queues::{Item, Queues};
use super::reader::{self, BEGINNING, Share};
use super::stamp::{Limit, PartitionStamp, Seen, Stamp};
use super::{Arrived, Clock, Origin, SourceConfig, owner};
use crate::local::Local;
use crate::ports::{Connect, PartitionId, Record};
use crate::progress::Progress;
use crate::stream::StreamContext;
use crate::{Tick, events};

/// Items of a partition that are taken in a row, so that one alone does not fill the budget.
const IN_A_ROW: usize = 16;
/// How soon an operator that waits for room looks again: nobody wakes it when the probe moves.
const AGAIN: Duration = Duration::from_millis(2);

struct Owned {
    capability: Capability<Tick>,
    stamp: PartitionStamp,
    topic_id: Option<Arc<str>>,
    /// Records of a replay whose timestamps wait for those after them, each with when it was read.
    doubtful: VecDeque<(Record, i64)>,
}

/// The partitions that one worker owns.
struct Reading {
    config: SourceConfig,
    stream: StreamContext,
    /// Its number among those that hold time.
    holder: usize,
    partitions: BTreeMap<PartitionId, Owned>,
    queues: Queues,
    out: Vec<(Capability<Tick>, Arrived)>,
}

impl Reading {
    /// Takes what is there, as far as there is room before what is `committed`; whether something waits for room.
    fn turn(&mut self, committed: Option<Tick>) -> bool {
        self.stream.budget.land(committed);
        self.take_up();
        let mut waiting = false;
        let mut partitions = std::mem::take(&mut self.partitions);
        partitions.retain(|id, owned| {
            let mut goes_on = true;
            for _ in 0..IN_A_ROW {
                if !goes_on || !self.wants(*owned.capability.time(), committed) {
                    break;
                }
                let Some(item) = self.queues.pop(id) else { break };
                goes_on = self.take(owned, item);
            }
            waiting |= goes_on && self.queues.has_more(id);
            self.stream.frontiers.report_partition(id, *owned.capability.time());
            goes_on
        });
        self.partitions = partitions;
        if self.partitions.is_empty() {
            self.stream.control.hold(self.holder, None);
        }
        waiting
    }

    /// Takes up the partitions that the reader has found since. Nothing of them was known before what is held by now.
    fn take_up(&mut self) {
        let Clock::Wall { .. } = self.config.clock else { return };
        for id in self.queues.beyond(self.partitions.len(), |id| self.partitions.contains_key(id)) {
            let oldest = self.partitions.values().min_by_key(|owned| *owned.capability.time());
            let Some(capability) = oldest.map(|owned| owned.capability.clone()) else { return };
            let held = KnowledgeTime::at(*capability.time());
            let (stamp, topic_id) = (PartitionStamp::new_since(held), self.config.topic_id.clone());
            self.partitions.insert(id, Owned { capability, stamp, topic_id, doubtful: VecDeque::new() });
        }
    }

    /// Whether a partition that has come to a time is read on. The one that holds time back is, as fast as what refills
    /// windows is decoded.
    fn wants(&self, time: Tick, committed: Option<Tick>) -> bool {
        let Some(committed) = committed else { return true };
        let near = time <= committed + self.config.read_ahead.as_millis() as u64;
        let budget = &self.stream.budget;
        if time <= committed { budget.has_room_to_refill() } else { near && budget.has_room() }
    }

    /// Takes one item; whether the partition goes on.
    fn take(&mut self, owned: &mut Owned, item: Item) -> bool {
        match item {
            Item::Record { record, read_at_us, limit } => match self.config.clock {
                Clock::Wall { .. } => self.give(owned, record, read_at_us, limit),
                Clock::Log { .. } => {
                    self.stream.budget.add_doubtful(record.memory_bytes());
                    owned.doubtful.push_back((record, read_at_us));
                    self.judge(owned, false);
                }
            },
            Item::Idle { until } => {
                if until.unix_ms() > *owned.capability.time() {
                    owned.capability.downgrade(&until.unix_ms());
                }
            }
            Item::Anew { topic_id } => {
                self.judge(owned, true);
                owned.topic_id = topic_id;
                owned.stamp.restart();
            }
            Item::End => {
                self.judge(owned, true);
                return false;
            }
        }
        true
    }

    /// Gives out the records of a replay whose timestamps are judged; `over` if no more will follow.
    fn judge(&mut self, owned: &mut Owned, over: bool) {
        let SourceConfig { jump, disorder, .. } = &self.config;
        let harmless = Harmless { jump_ms: jump.as_millis() as i64, disorder_ms: disorder.as_millis() as i64 };
        loop {
            let timestamps = owned.doubtful.iter().map(|(record, _)| record.timestamp_ms);
            let limit = match judge(owned.stamp.newest(), harmless, timestamps.take(plausible::VOTES + 1), over) {
                Verdict::Open => return,
                Verdict::Believed => Limit::None,
                Verdict::Doubted(known_ms) => Limit::Doubted(KnowledgeTime::from_unix_ms(known_ms)),
            };
            let Some((record, read_at_us)) = owned.doubtful.pop_front() else { return };
            self.stream.budget.judged(record.memory_bytes());
            self.give(owned, record, read_at_us, limit);
        }
    }

    /// Stamps a record and gives it out.
    fn give(&mut self, owned: &mut Owned, record: Record, read_at_us: i64, limit: Limit) {
        let (offset, timestamp_ms, bytes) = (record.offset, record.timestamp_ms, record.log_bytes());
        let origin = Origin { topic_id: owned.topic_id.clone(), clock: owned.stamp.clock() };
        let held = *owned.capability.time();
        let stamp = owned.stamp.stamp(Seen { offset, timestamp_ms, bytes, limit }, KnowledgeTime::at(held));
        let time = stamp.at.unix_ms().max(held); // what refills enters at the recovered frontier
        owned.capability.downgrade(&time);
        match stamp.refill {
            true => self.stream.budget.add_refill(record.memory_bytes()),
            false => self.stream.budget.add_record(time, record.memory_bytes()),
        }
        announce(&self.stream.name, &record, stamp, limit);
        let Stamp { at, decided, refill } = stamp;
        let after = owned.stamp.clock();
        let arrived = Arrived { record: record.into(), origin, after, at, decided, refill, read_at_us };
        self.out.push((owned.capability.clone(), arrived));
    }

    /// The oldest time that is held.
    fn held(&self) -> Option<Tick> {
        self.partitions.values().map(|owned| *owned.capability.time()).min()
    }
}

fn announce(stream: &str, record: &Record, stamp: Stamp, limit: Limit) {
    let (partition, known_at) = (&record.partition, stamp.at);
    if stamp.refill {
        return;
    }
    let (offset, timestamp_ms) = (record.offset, record.timestamp_ms);
    events::RecordRead { stream, partition, bytes: record.value_bytes, known_at }.emit();
    if matches!(limit, Limit::Ahead | Limit::Doubted(_)) {
        events::TimestampDoubted { stream, partition, offset, timestamp_ms, known_at }.emit();
    } else if stamp.decided {
        events::RecordLate { stream, partition, offset, known_at }.emit();
    }
}

/// The partitions that a worker owns, with the offsets that they are read from.
fn owned(
    config: &SourceConfig,
    progress: Option<&Progress>,
    (worker, workers): (usize, usize),
) -> Vec<(PartitionId, i64, PartitionStamp)> {
    let mine = |(number, _): &(usize, &PartitionId)| owner(&config.topic, *number as u64, workers) == worker;
    let start = |(_, id): (usize, &PartitionId)| {
        let known = progress.and_then(|p| Some((p.positions.iter().find(|position| position.partition == *id)?, p)));
        match (known, progress) {
            (Some((position, progress)), _) => {
                (id.clone(), position.rewind, PartitionStamp::resumed(position, progress))
            }
            (None, Some(progress)) => (id.clone(), BEGINNING, PartitionStamp::new_since(progress.frontier)),
            (None, None) => (id.clone(), BEGINNING, PartitionStamp::fresh()),
        }
    };
    let repeating = |(id, from, stamp): (PartitionId, i64, PartitionStamp)| match &config.recorded {
        Some(recorded) => {
            let late = recorded.late(&id);
            (id, from, stamp.repeating(late))
        }
        None => (id, from, stamp),
    };
    config.partitions.iter().enumerate().filter(mine).map(start).map(repeating).collect()
}

/// A worker's share of the partitions that are yet to come: those that read share them, since only they hold time. `None` for
/// one that reads nothing.
fn share(config: &SourceConfig, worker: usize, workers: usize) -> Option<Share> {
    let owner = |number| owner(&config.topic, number as u64, workers);
    let readers: BTreeSet<usize> = (0..config.partitions.len()).map(owner).collect();
    let index = readers.iter().position(|reader| *reader == worker)?;
    Some(Share { index, readers: readers.len() })
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
    let holder = config.first_holder + worker;
    timely_source(scope, "Source", move |root, info| {
        let mut partitions = BTreeMap::new();
        let mut starts = Vec::new();
        for (id, start, stamp) in owned(&config, progress, (worker, workers)) {
            starts.push((id.clone(), start));
            let mut capability = root.clone();
            capability.downgrade(&stamp.recovered().unix_ms());
            let topic_id = config.topic_id.clone();
            partitions.insert(id, Owned { capability, stamp, topic_id, doubtful: VecDeque::new() });
        }
        drop(root); // a worker that owns nothing must not hold the frontier
        if partitions.is_empty() {
            stream.control.hold(holder, None); // now: timely never runs a source again that holds no capability
        }
        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let queues = Queues::new(partitions.keys(), config.queue_bytes(&stream.budget));
        if let Some(share) = share(&config, worker, workers) {
            reader::spawn(config.clone(), starts, share, connect, stream.clone(), queues.clone(), waker());
        }
        let activator = scope.activator_for(info.address);
        let mut reading = Reading { config, stream, holder, partitions, queues, out: Vec::new() };
        move |output| {
            if reading.stream.control.is_done() {
                reading.partitions.clear();
                return;
            }
            if reading.stream.control.is_stopping() {
                reading.stream.control.hold(holder, reading.held());
                return;
            }
            if reading.turn(probe.with_frontier(|f| f.first().copied())) {
                activator.activate_after(AGAIN);
            }
            for (capability, arrived) in reading.out.drain(..) {
                output.session(&capability).give(Local(arrived));
            }
        }
    })
}
