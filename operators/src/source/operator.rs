//! The timely shell: a capability for each partition, and records as long as there is room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_fields::KnowledgeTime;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::operator::source as timely_source;
use timely::dataflow::{ProbeHandle, Scope, StreamVec};

use super::flight::Flight;
use super::reader::{self, Item, Queues};
use super::stamp::{PartitionStamp, Stamp};
use super::{Arrived, SourceConfig, owner};
use crate::local::Local;
use crate::ports::{Connect, PartitionId, Record};
use crate::progress::Progress;
use crate::stream::StreamContext;
use crate::{Tick, events};

/// Records of a partition that are taken in a row, so that one alone does not fill the budget.
const IN_A_ROW: usize = 16;
/// How soon an operator that waits for room looks again: nobody wakes it when the probe moves.
const AGAIN: Duration = Duration::from_millis(2);

struct Owned {
    capability: Capability<Tick>,
    stamp: PartitionStamp,
}

/// The partitions that one worker owns.
struct Reading {
    config: SourceConfig,
    stream: StreamContext,
    worker: usize,
    partitions: BTreeMap<PartitionId, Owned>,
    queues: Queues,
    flight: Flight,
    out: Vec<(Capability<Tick>, Arrived)>,
}

impl Reading {
    /// Takes what is there, as far as there is room before what is `committed`; whether something waits for room.
    fn turn(&mut self, committed: Option<Tick>) -> bool {
        self.flight.land(committed);
        let mut waiting = false;
        let mut partitions = std::mem::take(&mut self.partitions);
        partitions.retain(|id, owned| {
            let mut goes_on = true;
            for _ in 0..IN_A_ROW {
                if !goes_on || !self.wants(*owned.capability.time(), committed) {
                    break;
                }
                let Some(item) = self.queues.pop(id) else { break };
                goes_on = self.take(id, owned, item);
            }
            waiting |= goes_on && self.queues.has_more(id);
            self.stream.frontiers.report_partition(id, *owned.capability.time());
            goes_on
        });
        self.partitions = partitions;
        if self.partitions.is_empty() {
            self.stream.control.hold(self.worker, None);
        }
        waiting
    }

    /// Whether a partition that has come to a time is read on. The one that holds time back always is.
    fn wants(&self, time: Tick, committed: Option<Tick>) -> bool {
        let Some(committed) = committed else { return true };
        let near = time <= committed + self.config.read_ahead.as_millis() as u64;
        time <= committed || (near && self.flight.bytes() < self.config.max_bytes_in_flight)
    }

    /// Takes one item; whether the partition goes on.
    fn take(&mut self, id: &PartitionId, owned: &mut Owned, item: Item) -> bool {
        let time = *owned.capability.time();
        match item {
            Item::Record { record, read_at_us } => {
                let stamp =
                    owned.stamp.stamp(record.offset, record.timestamp_ms, KnowledgeTime::from_unix_ms(time as i64));
                let time = stamp.at.unix_ms().max(time); // what refills enters at the recovered frontier
                owned.capability.downgrade(&time);
                self.flight.add(time, record.value_bytes);
                announce(&self.stream.name, &record, stamp);
                let Stamp { at, decided, refill } = stamp;
                let arrived = Arrived { record: record.into(), at, decided, refill, read_at_us };
                self.out.push((owned.capability.clone(), arrived));
            }
            Item::Idle { until } => {
                if until.unix_ms() > time {
                    owned.capability.downgrade(&until.unix_ms());
                }
            }
            Item::End => {
                self.stream.control.end_partition(id.clone(), owned.stamp.newest());
                return false;
            }
        }
        true
    }

    /// The oldest time that is held.
    fn held(&self) -> Option<Tick> {
        self.partitions.values().map(|owned| *owned.capability.time()).min()
    }
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

/// The partitions that a worker owns, with the offsets that they are read from.
fn owned(
    config: &SourceConfig,
    stream: &StreamContext,
    progress: Option<&Progress>,
    (worker, workers): (usize, usize),
) -> Vec<(PartitionId, i64, PartitionStamp)> {
    let mine = |(number, _): &(usize, &PartitionId)| owner(&stream.name, *number as u64, workers) == worker;
    let start = |(_, id): (usize, &PartitionId)| {
        let known = progress.and_then(|p| Some((p.positions.iter().find(|position| position.partition == *id)?, p)));
        match (known, progress) {
            (Some((position, progress)), _) => {
                (id.clone(), position.rewind, PartitionStamp::resumed(position, progress))
            }
            (None, Some(progress)) => (id.clone(), 0, PartitionStamp::new_since(progress.frontier)),
            (None, None) => (id.clone(), 0, PartitionStamp::fresh()),
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
    timely_source(scope, "Source", move |root, info| {
        let mut partitions = BTreeMap::new();
        let mut starts = Vec::new();
        for (id, start, stamp) in owned(&config, &stream, progress, (worker, workers)) {
            starts.push((id.clone(), start));
            let mut capability = root.clone();
            capability.downgrade(&stamp.recovered().unix_ms());
            partitions.insert(id, Owned { capability, stamp });
        }
        drop(root); // a worker that owns nothing must not hold the frontier
        if partitions.is_empty() {
            stream.control.hold(worker, None); // now: timely never runs a source again that holds no capability
        }
        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let queues = Queues::new(&starts, config.max_bytes_in_flight / 2);
        if !starts.is_empty() {
            reader::spawn(config.clone(), starts, connect, stream.clone(), queues.clone(), waker());
        }
        let activator = scope.activator_for(info.address);
        let flight = Flight::default();
        let mut reading = Reading { config, stream, worker, partitions, queues, flight, out: Vec::new() };
        move |output| {
            if reading.stream.control.is_done() {
                reading.partitions.clear();
                return;
            }
            if reading.stream.control.is_stopping() {
                reading.stream.control.hold(worker, reading.held());
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
