//! Starting is easy; this is how a dataflow ends.
//!
//! A stream ends in one of three ways. Its log ends (a replay): time moves to the newest knowledge time of all
//! partitions, what is due by then fires, everything is committed. Or it is asked to stop: sources stop reading but
//! *hold* their time, so that nothing fires merely because the program ends; what is in flight drains, is committed,
//! and only then everything is dropped. Or it fails: everything is dropped at once and nothing more is committed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use squall_fields::{Chain, KnowledgeTime};
use timely::scheduling::SyncActivator;

use crate::Tick;
use crate::failure::Failure;
use crate::ports::PartitionId;

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const DONE: u8 = 2;

/// Shared by every operator of one stream, on all workers.
#[derive(Default)]
pub struct Control {
    phase: AtomicU8,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Time that each source worker still holds since it was asked to stop; `None` if it holds none.
    held: BTreeMap<usize, Option<Tick>>,
    /// Newest knowledge time of each partition whose log has ended.
    ended: BTreeMap<PartitionId, KnowledgeTime>,
    failure: Option<Failure>,
    wakers: Vec<SyncActivator>,
    /// Other streams of the program, which stop when this one fails.
    others: Vec<Weak<Control>>,
    /// The input frontier that each operator saw last.
    frontiers: BTreeMap<&'static str, Option<Tick>>,
    /// Knowledge time that each partition has reached.
    partitions: BTreeMap<PartitionId, Tick>,
}

impl Control {
    /// A stream that runs.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to stop after committing what is in flight. Returns at once.
    pub fn stop(&self) {
        let _ = self.phase.compare_exchange(RUNNING, STOPPING, Ordering::SeqCst, Ordering::SeqCst);
        self.wake();
    }

    /// Drops everything; the first failure given is the reason. Linked streams are asked to stop.
    pub fn fail(&self, failure: Failure) {
        tracing::error!(kind = %failure.kind(), failure = %Chain(&failure), "a stream fails");
        let others = {
            let mut shared = self.shared();
            shared.failure.get_or_insert(failure);
            shared.others.clone()
        };
        self.finish();
        for other in others.iter().filter_map(Weak::upgrade) {
            other.stop();
        }
    }

    /// Streams that are asked to stop when this one fails.
    pub fn link(&self, others: Vec<Weak<Control>>) {
        self.shared().others = others;
    }

    /// An operator says which input frontier it sees.
    pub fn report(&self, operator: &'static str, frontier: Option<Tick>) {
        self.shared().frontiers.insert(operator, frontier);
    }

    /// A source says which knowledge time a partition has reached.
    pub fn report_partition(&self, partition: &PartitionId, time: Tick) {
        let mut shared = self.shared();
        match shared.partitions.get_mut(partition) {
            Some(reached) => *reached = time,
            None => drop(shared.partitions.insert(partition.clone(), time)),
        }
    }

    /// The input frontier that each operator saw last, by name; `None` for one that nothing can reach any more.
    pub fn frontiers(&self) -> BTreeMap<&'static str, Option<Tick>> {
        self.shared().frontiers.clone()
    }

    /// Knowledge time that each partition has reached.
    pub fn partitions(&self) -> BTreeMap<PartitionId, Tick> {
        self.shared().partitions.clone()
    }

    /// Everything that will be committed is committed: operators drop what they hold.
    pub fn finish(&self) {
        self.phase.store(DONE, Ordering::SeqCst);
        self.wake();
    }

    /// Whether sources may read.
    pub fn is_running(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == RUNNING
    }

    /// Whether sources hold their time while the rest drains.
    pub fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == STOPPING
    }

    /// Whether operators must drop what they hold.
    pub fn is_done(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == DONE
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.shared().failure.clone()
    }

    /// Activates an operator whenever the phase changes.
    pub fn register(&self, waker: SyncActivator) {
        self.shared().wakers.push(waker);
    }

    fn wake(&self) {
        for waker in &self.shared().wakers {
            let _ = waker.activate(); // a worker that is gone needs no waking
        }
    }

    /// A source worker says what it holds since it was asked to stop.
    pub fn hold(&self, worker: usize, oldest: Option<Tick>) {
        let fresh = self.shared().held.insert(worker, oldest) != Some(oldest);
        if fresh {
            self.wake();
        }
    }

    /// The oldest time held by any source once all `workers` have said so: `Some(None)` if none is held.
    pub fn held(&self, workers: usize) -> Option<Option<Tick>> {
        let shared = self.shared();
        (shared.held.len() == workers).then(|| shared.held.values().flatten().min().copied())
    }

    /// The log of a partition has ended at this knowledge time.
    pub fn end_partition(&self, partition: PartitionId, newest: KnowledgeTime) {
        self.shared().ended.insert(partition, newest);
    }

    /// Where time ends: the newest knowledge time of all ended partitions. To be asked once the frontier is empty.
    pub fn end(&self) -> KnowledgeTime {
        self.shared().ended.values().max().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use squall_fields::ErrorKind;

    use super::*;

    #[test]
    fn stops_once_every_worker_has_said_what_it_holds() {
        let control = Control::new();
        assert!(control.is_running());
        control.stop();
        assert!(control.is_stopping());
        control.hold(0, Some(200));
        assert_eq!(control.held(2), None);
        control.hold(1, None);
        assert_eq!(control.held(2), Some(Some(200)));
        control.finish();
        control.stop();
        assert!(control.is_done(), "a late stop does not revive it");
    }

    #[test]
    fn keeps_the_first_failure() {
        let control = Control::new();
        control.fail(Failure::new(ErrorKind::Fenced, "fenced"));
        control.fail(Failure::new(ErrorKind::Internal, "later"));
        assert_eq!(control.failure().map(|failure| failure.kind()), Some(ErrorKind::Fenced));
        assert!(control.is_done());
    }
}
