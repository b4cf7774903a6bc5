//! What every operator of a stream knows of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use squall_fields::error::AnyError;
use squall_fields::{ErrorKind, Failure, KnowledgeTime, time::TICK_MS};

use crate::control::{Control, Frontiers};
use crate::source::budget::Budget;

/// A stream, as its operators on all workers see it.
#[derive(Clone, Debug)]
pub struct StreamContext {
    /// Its name.
    pub name: Arc<str>,
    /// The worker that has its windows, its model and its ledger.
    pub home: usize,
    /// How it ends.
    pub control: Arc<Control>,
    /// How far it has come.
    pub frontiers: Arc<Frontiers>,
    /// What it may have in memory.
    pub budget: Arc<Budget>,
    /// How far the run had come that is repeated: after the end of the log time goes on to there. 1970 for a stream
    /// that repeats none.
    pub until: KnowledgeTime,
}

impl StreamContext {
    /// A stream that runs, at home on a worker.
    pub fn new(name: impl Into<Arc<str>>, home: usize) -> Self {
        let (name, control, until) = (name.into(), Control::new(), KnowledgeTime::default());
        Self { name, home, control, frontiers: Arc::default(), budget: Arc::default(), until }
    }

    /// When time ends with a log whose newest record became known at a time: with that record. A live run goes on after
    /// it, and windows whose patience ends in the meantime fire: who repeats the run goes as far.
    ///
    /// ```
    /// use squall_fields::KnowledgeTime;
    /// use squall_operators::stream::StreamContext;
    /// let at = KnowledgeTime::from_unix_ms;
    /// let stream = StreamContext::new("rain", 0);
    /// assert_eq!(stream.end_after(at(1_000)), at(1_050));
    /// let repeating = StreamContext { until: at(9_000), ..stream };
    /// assert_eq!((repeating.end_after(at(1_000)), repeating.end_after(at(9_000))), (at(9_000), at(9_050)));
    /// ```
    pub fn end_after(&self, newest: KnowledgeTime) -> KnowledgeTime {
        KnowledgeTime::at(newest.unix_ms().saturating_add(TICK_MS)).max(self.until)
    }

    /// Fails the stream, because of an error of a kind.
    pub fn fail(&self, kind: ErrorKind, error: impl Into<AnyError>) {
        self.control.fail(Failure::new(kind, format!("stream {}", self.name)).because(error));
    }

    /// Runs something on a thread of its own; a panic there fails the stream.
    pub fn spawn(&self, what: &str, run: impl FnOnce() + Send + 'static) {
        let (name, stream) = (format!("{what} {}", self.name), self.clone());
        let thread_name = name.clone();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
                stream.control.fail(Failure::panicked(format!("the thread {thread_name}"), &*payload));
            }
        });
        if let Err(error) = thread {
            self.control.fail(Failure::new(ErrorKind::Device, format!("no thread for {name}")).because(error));
        }
    }
}
