//! The timely shell: one batch at a time goes to the ledger's thread, and time follows what is committed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_fields::{Chain, KnowledgeTime};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::scheduling::{Activator, SyncActivator};

use super::{Batch, Sent, SinkCore};
use crate::control::Control;
use crate::local::Local;
use crate::note::Note;
use crate::offload::{Desk, Service};
use crate::order::frontier_of;
use crate::ports::{Ledger, LedgerError};
use crate::retry::{Backoff, retry};
use crate::source::reader::now_us;
use crate::stream::StreamContext;
use crate::verify::Handover;
use crate::{Tick, events};

/// How a stream's outputs are committed.
#[derive(Clone, Debug, Default)]
pub struct SinkConfig {
    /// How long a stream that was asked to stop waits for what is under way. What is not committed by then is made
    /// again by the next start.
    pub stop_within: Duration,
    /// How many hold time besides the source workers, and say so when the stream is asked to stop.
    pub holders: usize,
    /// Who is told what is committed.
    pub handover: Option<Arc<Handover>>,
}

/// How long a commit waits after a failure: a broker that is back is noticed soon.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1) };

/// Commits one batch, however long the broker is away.
fn commit(ledger: &mut dyn Ledger, batch: &Batch, stream: &str, control: &Control) -> Result<(), LedgerError> {
    let started = Instant::now();
    let passes = |error: &LedgerError| {
        let passes = error.is_retriable();
        if passes {
            events::BrokerTrouble { stream, what: "committing", reason: Chain(error).to_string() }.emit();
        }
        passes
    };
    let pause = |wait| control.pause_until_done(wait);
    retry(BACKOFF, pause, passes, || ledger.commit(&batch.records, &batch.progress))?;
    let (records, frontier) = (batch.records.len(), batch.progress.frontier);
    events::Committed { ledger: stream, records, frontier, took: started.elapsed() }.emit();
    let now = now_us();
    for Sent { id, model, degraded, read_at_us, .. } in &batch.forecasts {
        let latency = Duration::from_micros((now - read_at_us).max(0) as u64);
        events::ForecastPublished { id, model, degraded: *degraded, latency }.emit();
    }
    Ok(())
}

/// The thread of a ledger.
fn committer(mut ledger: Box<dyn Ledger>, stream: &StreamContext) -> std::io::Result<Service<Batch, Committed>> {
    let StreamContext { name, control, .. } = stream.clone();
    let service = Service::each(&format!("commit {name}"), 1, move |batch: Batch| {
        commit(&mut *ledger, &batch, &name, &control).map(|()| batch.progress.frontier)
    })?;
    service.health().attach(&stream.control);
    Ok(service)
}

type Committed = Result<KnowledgeTime, LedgerError>;

/// Commits the notes of one stream, on its home worker.
///
/// `ledger` is given on that worker alone, opened. The output carries nothing: its frontier is what is committed.
pub fn sink<'scope>(
    notes: StreamVec<'scope, Tick, Local<Note>>,
    config: SinkConfig,
    core: SinkCore,
    ledger: Option<Box<dyn Ledger>>,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, ()> {
    let worker = notes.scope().worker();
    let workers = notes.scope().peers() + config.holders;
    let home = stream.home as u64;
    let together = Exchange::new(move |_: &Local<Note>| home);
    notes.unary_frontier(together, "Sink", move |root, info| {
        let waker: SyncActivator = worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker.clone());
        let activator = worker.activator_for(info.address.clone());
        let of_thread = stream.clone();
        let mut shell = ledger.map(|ledger| Shell {
            last: core.recovered(),
            core,
            commits: Desk::starting(move || committer(ledger, &of_thread), Some(waker)),
            capability: Some(root),
            stream,
            stop_within: config.stop_within,
            handover: config.handover,
            activator,
            workers,
            ends: false,
        });
        move |(input, frontier), _output: &mut OutputBuilderSession<'_, Tick, CapacityContainerBuilder<Vec<()>>>| {
            input.for_each_time(|time, batches| {
                for Local(note) in batches.flat_map(|batch| batch.drain(..)) {
                    if let Some(shell) = &mut shell {
                        shell.core.push(*time.time(), note);
                    }
                }
            });
            if let Some(shell) = &mut shell {
                let frontier = frontier_of(frontier);
                shell.stream.frontiers.report("sink", frontier);
                shell.turn(frontier);
                shell.stream.frontiers.report("committed", shell.capability.as_ref().map(|c| *c.time()));
            }
        }
    })
}

struct Shell {
    core: SinkCore,
    commits: Desk<Batch, Committed, Vec<Sent>>,
    /// Holds the output's time at what is committed.
    capability: Option<Capability<Tick>>,
    stream: StreamContext,
    stop_within: Duration,
    handover: Option<Arc<Handover>>,
    activator: Activator,
    /// Who says what time it holds.
    workers: usize,
    /// The newest frontier that was cut.
    last: KnowledgeTime,
    /// Whether the commit in flight is the last.
    ends: bool,
}

impl Shell {
    fn turn(&mut self, frontier: Option<Tick>) {
        while let Some((sent, answer)) = self.commits.poll() {
            match answer {
                Ok(Ok(committed)) => self.committed(committed, &sent),
                Ok(Err(_)) if self.stream.control.is_done() => {} // it was given up
                Ok(Err(error)) => self.stream.fail(error.kind(), error),
                Err(lost) => self.stream.control.fail(lost.into()),
            }
        }
        self.look_at_stop();
        if self.stream.control.is_done() {
            self.commits.clear();
            self.capability = None;
            self.handover.iter().for_each(|handover| handover.end(false));
            return;
        }
        if self.commits.is_empty() && !self.ends {
            self.cut(frontier);
        }
    }

    fn committed(&mut self, frontier: KnowledgeTime, sent: &[Sent]) {
        self.handover.iter().for_each(|handover| handover.publish(sent));
        self.release(frontier.unix_ms());
        if self.ends {
            self.capability = None;
            let of_log = !self.stream.control.is_stopping();
            self.handover.iter().for_each(|handover| handover.end(of_log));
            self.stream.control.finish();
        }
    }

    /// A stream that was asked to stop does not wait for ever for a device or a broker.
    fn look_at_stop(&self) {
        let control = &self.stream.control;
        let Some(waited) = control.stopping_for().filter(|_| control.is_stopping()) else { return };
        if waited >= self.stop_within {
            events::StopGivesUp { stream: &self.stream.name, waited }.emit();
            control.finish();
        } else {
            self.activator.activate_after(self.stop_within - waited);
        }
    }

    fn cut(&mut self, frontier: Option<Tick>) {
        let control = &self.stream.control;
        let at = KnowledgeTime::at;
        // The log is over, and nothing of later times can be said.
        let end = || self.stream.end_after(self.core.newest());
        // What a verification makes again lies before what it had committed.
        let to = frontier.map_or_else(end, at).max(self.last);
        self.ends = match frontier {
            None => true,
            // A source that was asked to stop holds its time: all before it is here once the frontier reaches it.
            Some(f) => {
                control.is_stopping() && control.held(self.workers).is_some_and(|held| held.is_some_and(|h| f >= h))
            }
        };
        match self.core.cut(to, self.ends) {
            Some(batch) => {
                // The rest of a large batch follows once this part is committed.
                self.ends &= batch.progress.frontier == to;
                self.last = self.last.max(batch.progress.frontier);
                let sent = batch.forecasts.clone();
                if let Err(lost) = self.commits.submit(batch, sent) {
                    self.stream.control.fail(lost.into());
                }
            }
            None => {
                self.last = self.last.max(to);
                self.release(to.unix_ms());
            }
        }
    }

    fn release(&mut self, time: Tick) {
        self.handover.iter().for_each(|handover| handover.reach(time));
        if let Some(capability) = &mut self.capability
            && time > *capability.time()
        {
            capability.downgrade(&time);
        }
    }
}
