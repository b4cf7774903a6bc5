//! The timely workers, and what becomes of the others when one of them panics.
//!
//! Left to itself, a worker that panics takes its capabilities with it, and the others wait for it for ever, those of another
//! process that dies, too. So each worker is stepped under a guard: a panic fails every stream, and every worker lets go of
//! its dataflows, as it does once the run is abandoned for another reason.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use squall_fields::{ErrorKind, Failure};
use squall_operators::stream::StreamContext;
use timely::WorkerConfig;
use timely::communication::WorkerGuards;
use timely::communication::allocator::zero_copy::initialize::{CommsGuard, initialize_networking_from_sockets};
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::worker::Worker;

use crate::cluster::Link;

/// The workers of this process.
pub(super) struct Workers {
    guards: WorkerGuards<()>,
    comms: Option<CommsGuard>,
    abandoned: Arc<AtomicBool>,
}

/// Where this process stands among others, and the connections that frames travel on.
pub(super) struct Place {
    /// Its number.
    pub(super) process: usize,
    /// One connection to each process, `None` for itself.
    pub(super) frames: Vec<Option<Link>>,
}

impl Workers {
    /// Waits for their end; the reasons of those that died.
    pub(super) fn join(self) -> Vec<String> {
        let died = self.guards.join().into_iter().filter_map(Result::err).collect();
        if self.abandoned.load(Ordering::SeqCst) {
            std::mem::forget(self.comms); // its threads wait for processes that are gone
        } else {
            // What was to be sent is sent once these end; they panic where a connection breaks after all is done.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(self.comms)));
        }
        died
    }
}

/// Runs what `build` makes on each of so many workers, until it is over, any worker panics, or it is `abandoned`.
///
/// # Errors
/// The system gives no threads.
pub(super) fn run(
    workers: usize,
    place: Option<Place>,
    abandoned: Arc<AtomicBool>,
    streams: Vec<StreamContext>,
    build: impl Fn(&mut Worker) + Send + Sync + 'static,
) -> Result<Workers, Failure> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::new(ErrorKind::Device, "the workers do not start").because(error)
    };
    let (builders, comms) = builders(workers.max(1), place).map_err(|error| failed(error.into()))?;
    let of_workers = abandoned.clone();
    let step = move |worker: &mut Worker| {
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            build(worker);
            while worker.has_dataflows() && !of_workers.load(Ordering::SeqCst) {
                worker.step_or_park(None);
            }
        }));
        if let Err(payload) = stepped {
            // First the flag, then the failure: it wakes the other workers, which look at the flag.
            of_workers.store(true, Ordering::SeqCst);
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
    };
    let others: Box<dyn Any + Send> = Box::new(());
    let guards = timely::execute::execute_from(builders, others, WorkerConfig::default(), step);
    let guards = guards.map_err(|error| failed(error.into()))?;
    Ok(Workers { guards, comms, abandoned })
}

fn builders(workers: usize, place: Option<Place>) -> std::io::Result<(Vec<AllocatorBuilder>, Option<CommsGuard>)> {
    let hooks = timely::communication::Hooks::default();
    let within = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), None);
    let Some(Place { process, frames }) = place else {
        return Ok((within.into_iter().map(AllocatorBuilder::Process).collect(), None));
    };
    let (builders, comms) = initialize_networking_from_sockets(within, frames, process, workers, hooks)?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Some(comms)))
}
