//! Starting is easy; this is how a dataflow ends.
//!
//! A stream ends in one of three ways. Its log ends (a replay): time moves to the newest knowledge time of all
//! partitions, what is due by then fires, everything is committed. Or it is asked to stop: sources stop reading but
//! *hold* their time, so that nothing fires merely because the program ends; what is in flight drains, is committed,
//! and only then everything is dropped. Or it fails: everything is dropped at once and nothing more is committed.

mod frontiers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use squall_fields::{Chain, Failure, KnowledgeTime};
use timely::scheduling::SyncActivator;

pub use self::frontiers::Frontiers;
use crate::Tick;
use crate::ports::PartitionId;

const RUNNING: u8 = 0;
const STOPPING: u8 = 1;
const DONE: u8 = 2;

/// The phase of one stream: running, stopping, done. Shared by its operators on all workers and by its threads.
#[derive(Debug, Default)]
pub struct Control {
    phase: AtomicU8,
    shared: Mutex<Shared>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Shared {
    /// When it was asked to stop.
    stopping: Option<Instant>,
    /// Time that each source worker still holds since it was asked to stop; `None` if it holds none.
    held: BTreeMap<usize, Option<Tick>>,
    /// Newest knowledge time of each partition whose log has ended.
    ended: BTreeMap<PartitionId, KnowledgeTime>,
    failure: Option<Failure>,
    wakers: Vec<SyncActivator>,
    /// Other streams of the program, which stop when this one fails.
    others: Vec<Weak<Control>>,
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
        self.shared().stopping.get_or_insert_with(Instant::now);
        self.wake();
    }

    /// Drops everything; the first failure given is the reason. Linked streams are asked to stop.
    pub fn fail(&self, failure: Failure) {
        let others = {
            let mut shared = self.shared();
            if shared.failure.is_none() {
                tracing::error!(kind = %failure.kind(), failure = %Chain(&failure), "a stream fails");
                shared.failure = Some(failure);
            }
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

    /// How long ago it was asked to stop, if it was.
    pub fn stopping_for(&self) -> Option<Duration> {
        self.shared().stopping.map(|since| since.elapsed())
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
        let shared = self.shared();
        self.changed.notify_all();
        for waker in &shared.wakers {
            let _ = waker.activate(); // a worker that is gone needs no waking
        }
    }

    /// Waits on a thread of the stream for as long as it runs, at most this long; whether it still runs.
    pub fn pause_while_running(&self, limit: Duration) -> bool {
        self.pause(limit, Self::is_running)
    }

    /// Waits on a thread of the stream until it is done, at most this long; whether it goes on.
    pub fn pause_until_done(&self, limit: Duration) -> bool {
        self.pause(limit, |control| !control.is_done())
    }

    fn pause(&self, limit: Duration, goes_on: impl Fn(&Self) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.shared(), limit, |_| goes_on(self));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        goes_on(self)
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
        // A stream of no partitions, or one that was stopped before its first record, ends where time begins.
        self.shared().ended.values().max().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_fields::ErrorKind;

    #[test]
    fn stops_once_every_worker_has_said_what_it_holds() {
        let control = Control::new();
        assert!(control.is_running() && control.stopping_for().is_none());
        control.stop();
        assert!(control.is_stopping() && control.stopping_for().is_some());
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

    #[test]
    fn a_pause_ends_with_the_stream() {
        let control = Control::new();
        let long = Duration::from_secs(600);
        assert!(control.pause_while_running(Duration::from_millis(1)));
        let (ending, begun) = (control.clone(), Instant::now());
        let thread = std::thread::spawn(move || ending.stop());
        assert!(!control.pause_while_running(long));
        assert!(control.pause_until_done(Duration::from_millis(1)), "it is stopping, not done");
        thread.join().unwrap();
        control.finish();
        assert!(!control.pause_until_done(long) && begun.elapsed() < long / 10);
    }
}
