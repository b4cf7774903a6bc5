//! The timely workers, and what becomes of the others when one of them panics.
//!
//! Left to itself, a worker that panics takes its capabilities with it, and the others wait for it for ever. So each
//! worker is stepped under a guard: a panic fails every stream, and every worker lets go of its dataflows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_fields::{ErrorKind, Failure};
use squall_operators::stream::StreamContext;
use timely::communication::WorkerGuards;
use timely::worker::Worker;

/// Runs what `build` makes on each of so many workers, until it is over or any worker panics.
///
/// # Errors
/// The system gives no threads.
pub(super) fn run(
    workers: usize,
    streams: Vec<StreamContext>,
    build: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<WorkerGuards<()>, Failure> {
    let abandoned = Arc::new(AtomicBool::new(false));
    timely::execute(timely::Config::process(workers.max(1)), move |worker| {
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            build(worker);
            while worker.has_dataflows() && !abandoned.load(Ordering::SeqCst) {
                worker.step_or_park(None);
            }
        }));
        if let Err(payload) = stepped {
            // First the flag, then the failure: it wakes the other workers, which look at the flag.
            abandoned.store(true, Ordering::SeqCst);
            let failure = Failure::panicked(format!("timely worker {}", worker.index()), &*payload);
            for stream in &streams {
                stream.control.fail(failure.clone());
            }
        }
        // Of a run that came to its end nothing is left here.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }));
    })
    .map_err(|error| Failure::new(ErrorKind::Device, "the workers do not start").because(error))
}
