//! Whether a thread lives, and whether it gets on.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use squall_fields::Failure;

use super::Lost;
use crate::control::Control;

/// What is known of a thread from outside.
///
/// A thread *gets on* as long as it takes work and answers it. One that hangs, in a device's library or in a helper
/// process, does neither: how long it has been silent while something waited for it is what operators, `/ready` and
/// metrics go by.
pub struct Health {
    name: Arc<str>,
    born: Instant,
    /// Pieces of work that were handed over and not yet answered or thrown away.
    pending: AtomicUsize,
    /// When it last did something, in milliseconds since `born`.
    moved_ms: AtomicU64,
    /// Whether it takes nothing more.
    closed: AtomicBool,
    /// What it said as it ended.
    ended: OnceLock<Lost>,
    streams: Mutex<Vec<Weak<Control>>>,
    /// Who waits for an answer that a panic swept away, until it is known what the panic said.
    orphans: Mutex<Vec<Orphan>>,
}

/// Tells a desk that its work is lost.
pub(super) type Orphan = Box<dyn FnOnce(Lost) + Send>;

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            born: Instant::now(),
            pending: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ended: OnceLock::new(),
            streams: Mutex::default(),
            orphans: Mutex::default(),
        }
    }

    /// Name of the thread.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Pieces of work that wait for it, those among them that were taken back while it hangs.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::SeqCst)
    }

    /// How long it has neither taken nor answered anything while something waited for it; zero while nothing waits.
    pub fn silent_for(&self) -> Duration {
        if self.pending.load(Ordering::SeqCst) == 0 {
            return Duration::ZERO;
        }
        self.born.elapsed().saturating_sub(Duration::from_millis(self.moved_ms.load(Ordering::SeqCst)))
    }

    /// Why it ended, if it did.
    pub fn lost(&self) -> Option<Lost> {
        self.ended.get().cloned()
    }

    /// The same of a thread that takes nothing more.
    pub(super) fn gone(&self) -> Lost {
        self.lost().unwrap_or_else(|| Lost::over(&self.name))
    }

    /// Fails a stream as soon as the thread panics, also while the stream waits for nothing of it.
    pub fn attach(&self, control: &Arc<Control>) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(control));
        if let Some(lost) = self.lost() {
            control.fail(lost.into());
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn moved(&self) {
        self.moved_ms.store(self.born.elapsed().as_millis() as u64, Ordering::SeqCst);
    }

    pub(super) fn more(&self) {
        if self.pending.fetch_add(1, Ordering::SeqCst) == 0 {
            self.moved(); // its silence begins now
        }
    }

    pub(super) fn less(&self) {
        self.pending.fetch_sub(1, Ordering::SeqCst);
    }

    /// Keeps a desk waiting until [`Health::panicked`].
    pub(super) fn orphan(&self, orphan: Orphan) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).push(orphan);
    }

    /// The thread has panicked: every stream that uses it fails.
    pub(super) fn panicked(&self, payload: &(dyn Any + Send)) {
        let failure = Failure::panicked(format!("the thread {}", self.name), payload);
        let lost = self.ended.get_or_init(|| Lost(failure.clone())).clone();
        let streams = std::mem::take(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner));
        for control in streams.iter().filter_map(Weak::upgrade) {
            control.fail(failure.clone());
        }
        for orphan in std::mem::take(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner)) {
            orphan(lost.clone());
        }
    }
}
