//! Commits what a stream has to say, exactly once.
//!
//! All that a stream produces meets on one worker, which owns the stream's ledger. Whenever the frontier has passed
//! something worth saying, one transaction holds the records *and* a progress record: the frontier, where to rewind
//! each partition to, and the small state that frames alone cannot restore. A restart reads the newest progress,
//! rewinds, refills its windows without firing any, and goes on: nothing is lost and nothing is said twice.
//!
//! Committing takes a round trip to the broker, so it happens on a thread; the operator holds the output's time back
//! until the broker has answered, and the probe behind it is what sources look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_fields::{Chain, ErrorKind, ForecastId, KnowledgeTime, time::TICK_MS};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::control::Control;
use crate::failure::Failure;
use crate::local::Local;
use crate::note::{Note, Published};
use crate::order::frontier_of;
use crate::ports::{Ledger, LedgerError, Outgoing, PartitionId};
use crate::progress::{Decision, Position, Progress};
use crate::source::reader::now_us;
use crate::window::Mark;
use crate::{Tick, events};

/// Records passed without a forecast after which progress is committed for itself.
const PASSED_BEFORE_COMMIT: usize = 1000;
/// How long a stopping stream tries to reach a broker that is away.
const LAST_TRY: Duration = Duration::from_secs(30);

/// What is committed at once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Records, in an order that is a function of what they say.
    pub records: Vec<Outgoing>,
    /// The progress that goes with them.
    pub progress: Progress,
    /// The forecasts in it: identity, model, degraded, when the last record that each needed was read.
    pub forecasts: Vec<(ForecastId, String, bool, i64)>,
}

struct Cursor {
    /// First offset not known before the frontier.
    next: i64,
    /// Where to rewind to when no window holds a record of the partition, and the knowledge time there.
    rewind: (i64, KnowledgeTime),
}

/// The pure core: gathers notes by time and cuts batches at frontiers.
pub struct SinkCore {
    dead_letters: Arc<str>,
    pending: BTreeMap<Tick, Vec<Note>>,
    cursors: BTreeMap<PartitionId, Cursor>,
    mark: Option<Arc<Mark>>,
    recovered: Progress,
    decisions: Vec<Decision>,
    digests: BTreeSet<Arc<str>>,
    /// Notes folded into the state since the last commit.
    passed: usize,
}

impl SinkCore {
    /// Goes on from a progress; `dead_letters` is the topic of dead letters.
    pub fn new(dead_letters: Arc<str>, progress: Option<&Progress>) -> Self {
        let recovered = progress.cloned().unwrap_or_default();
        let cursor = |p: &Position| Cursor { next: p.next, rewind: (p.rewind, p.knowledge) };
        Self {
            dead_letters,
            pending: BTreeMap::new(),
            cursors: recovered.positions.iter().map(|p| (p.partition.clone(), cursor(p))).collect(),
            mark: None,
            decisions: recovered.decisions.clone(),
            digests: BTreeSet::new(),
            recovered,
            passed: 0,
        }
    }

    /// Takes a note of a time.
    pub fn push(&mut self, time: Tick, note: Note) {
        self.pending.entry(time).or_default().push(note);
    }

    /// All that was known before `frontier`, if there is something to say or `force` asks for progress alone.
    pub fn cut(&mut self, frontier: KnowledgeTime, force: bool) -> Option<Batch> {
        let later = self.pending.split_off(&frontier.unix_ms());
        let mut records = Vec::new();
        let mut forecasts = Vec::new();
        for notes in std::mem::replace(&mut self.pending, later).into_values() {
            let first = records.len();
            for note in notes {
                self.fold(note, &mut records, &mut forecasts);
            }
            // Notes of one time come in any order; their records leave in one.
            records[first..].sort_by(|a, b| (&a.topic, &a.key).cmp(&(&b.topic, &b.key)));
        }
        forecasts.sort_by(|a, b| a.0.cmp(&b.0));
        if records.is_empty() && !force && self.passed < PASSED_BEFORE_COMMIT {
            return None;
        }
        self.passed = 0;
        Some(Batch { records, progress: self.progress(frontier), forecasts })
    }

    fn fold(&mut self, note: Note, records: &mut Vec<Outgoing>, forecasts: &mut Vec<(ForecastId, String, bool, i64)>) {
        match note {
            Note::Passed { partition, offset, known_at, decided } => {
                self.passed += 1;
                if decided {
                    let partition = partition.clone();
                    self.decisions.push(Decision::Late { partition, offset, knowledge: known_at });
                }
                let next = offset + 1;
                let cursor = self.cursors.entry(partition).or_insert(Cursor { next, rewind: (next, known_at) });
                if next >= cursor.next {
                    *cursor = Cursor { next, rewind: (next, known_at) };
                }
            }
            Note::Mark(mark) => self.mark = Some(mark),
            Note::Published(published) => {
                let Published { id, model, degraded, read_at_us, records: made } = Arc::unwrap_or_clone(published);
                self.digests.insert(id.model_digest.clone());
                records.extend(made);
                forecasts.push((id, model, degraded, read_at_us));
            }
            Note::Dead(letter) => records.push(letter.outgoing(&self.dead_letters)),
        }
    }

    fn progress(&mut self, frontier: KnowledgeTime) -> Progress {
        // Until the windows speak for the first time they hold what they held when the progress was committed.
        let held = |id: &PartitionId| match &self.mark {
            Some(mark) => mark.oldest_records.get(id).copied(),
            None => self.recovered.positions.iter().find(|p| p.partition == *id).map(|p| (p.rewind, p.knowledge)),
        };
        let position = |(id, cursor): (&PartitionId, &Cursor)| {
            let (rewind, knowledge) = held(id).filter(|h| h.0 < cursor.rewind.0).unwrap_or(cursor.rewind);
            Position { partition: id.clone(), rewind, knowledge, next: cursor.next }
        };
        let positions: Vec<_> = self.cursors.iter().map(position).collect();
        self.decisions.retain(|Decision::Late { partition, offset, .. }| {
            positions.iter().any(|p| p.partition == *partition && *offset >= p.rewind)
        });
        if !self.digests.is_empty() {
            self.recovered.model_digests = std::mem::take(&mut self.digests).iter().map(|d| d.to_string()).collect();
        }
        if let Some(mark) = &self.mark {
            self.recovered.state = mark.state.clone();
        }
        Progress {
            frontier,
            positions,
            decisions: self.decisions.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..self.recovered.clone()
        }
    }
}

/// Commits batches on a thread; dropping it ends the thread.
struct Committer {
    batches: crossbeam_channel::Sender<Batch>,
    done: crossbeam_channel::Receiver<KnowledgeTime>,
    in_flight: bool,
}

impl Committer {
    fn start(
        mut ledger: Box<dyn Ledger>,
        stream: Arc<str>,
        control: Arc<Control>,
        wake: timely::scheduling::SyncActivator,
    ) -> Self {
        let (batches, inbox) = crossbeam_channel::bounded::<Batch>(1);
        let (outbox, done) = crossbeam_channel::unbounded();
        std::thread::spawn(move || {
            for batch in inbox {
                let frontier = batch.progress.frontier;
                match commit(&mut *ledger, &stream, &batch, &control) {
                    Ok(()) if outbox.send(frontier).is_ok() => drop(wake.activate()),
                    Ok(()) => return, // the dataflow is gone
                    Err(error) => return control.fail(Failure::from(error).of_stream(&stream)),
                }
            }
        });
        Self { batches, done, in_flight: false }
    }
}

/// Commits one batch, however long the broker is away.
fn commit(ledger: &mut dyn Ledger, stream: &str, batch: &Batch, control: &Control) -> Result<(), LedgerError> {
    let (started, mut backoff) = (Instant::now(), Duration::from_millis(50));
    let mut stopping_since = None;
    loop {
        match ledger.commit(&batch.records, &batch.progress) {
            Ok(()) => break,
            Err(error) if error.is_retriable() => {
                if control.is_stopping() {
                    let since = *stopping_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > LAST_TRY {
                        return Err(error);
                    }
                }
                if control.is_done() {
                    return Err(error);
                }
                events::BrokerTrouble { stream, what: "committing", reason: Chain(&error).to_string() }.emit();
                std::thread::sleep(backoff);
                backoff = (backoff * 2).min(Duration::from_secs(5));
            }
            Err(error) => return Err(error),
        }
    }
    let frontier = batch.progress.frontier;
    events::Committed { ledger: stream, records: batch.records.len(), frontier, took: started.elapsed() }.emit();
    let now = now_us();
    for (id, model, degraded, read_at_us) in &batch.forecasts {
        let latency = Duration::from_micros((now - read_at_us).max(0) as u64);
        events::ForecastPublished { id, model, degraded: *degraded, latency }.emit();
    }
    Ok(())
}

/// Commits the notes of one stream, on one worker.
///
/// `ledger` is given on that worker alone, opened. The output carries nothing: its frontier is what is committed.
pub fn sink<'scope>(
    notes: StreamVec<'scope, Tick, Local<Note>>,
    stream: Arc<str>,
    core: SinkCore,
    ledger: Option<Box<dyn Ledger>>,
    owner: usize,
    control: Arc<Control>,
) -> StreamVec<'scope, Tick, ()> {
    let worker = notes.scope().worker();
    let workers = notes.scope().peers();
    let together = Exchange::new(move |_: &Local<Note>| owner as u64);
    notes.unary_frontier(together, "Sink", move |root, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        control.register(waker());
        let committer = ledger.map(|ledger| Committer::start(ledger, stream, control.clone(), waker()));
        let mut shell = committer.map(|committer| {
            let last = core.recovered.frontier;
            Shell { core, committer, capability: Some(root), control, workers, last, ends: false }
        });
        move |(input, frontier),
              _output: &mut timely::dataflow::operators::generic::OutputBuilderSession<
            '_,
            Tick,
            timely::container::CapacityContainerBuilder<Vec<()>>,
        >| {
            input.for_each_time(|time, batches| {
                for Local(note) in batches.flat_map(|batch| batch.drain(..)) {
                    if let Some(shell) = &mut shell {
                        shell.core.push(*time.time(), note);
                    }
                }
            });
            if let Some(shell) = &mut shell {
                shell.control.report("sink", frontier_of(frontier));
                shell.turn(frontier_of(frontier));
                shell.control.report("committed", shell.capability.as_ref().map(|c| *c.time()));
            }
        }
    })
}

struct Shell {
    core: SinkCore,
    committer: Committer,
    /// Holds the output's time at what is committed.
    capability: Option<Capability<Tick>>,
    control: Arc<Control>,
    workers: usize,
    /// The newest frontier that was cut.
    last: KnowledgeTime,
    /// Whether the commit in flight is the last.
    ends: bool,
}

impl Shell {
    fn turn(&mut self, frontier: Option<Tick>) {
        while let Ok(committed) = self.committer.done.try_recv() {
            self.committer.in_flight = false;
            self.release(committed.unix_ms());
            if self.ends {
                self.capability = None;
                self.control.finish();
            }
        }
        if self.control.is_done() {
            self.capability = None;
            return;
        }
        if self.committer.in_flight || self.ends {
            return;
        }
        let at = KnowledgeTime::from_unix_ms;
        // The log is over: time ends one tick after the newest record.
        let end = || at((self.control.end().unix_ms() + TICK_MS) as i64);
        let to = frontier.map_or_else(|| end().max(self.last), |f| at(f as i64));
        self.ends = match frontier {
            None => true,
            // A source that was asked to stop holds its time: all before it is here once the frontier reaches it.
            Some(f) => {
                self.control.is_stopping()
                    && self.control.held(self.workers).is_some_and(|held| held.is_some_and(|h| f >= h))
            }
        };
        self.last = self.last.max(to);
        match self.core.cut(to, self.ends) {
            Some(batch) => {
                self.committer.in_flight = true;
                if self.committer.batches.send(batch).is_err() {
                    self.control.fail(Failure::new(ErrorKind::Internal, "the committing thread is gone"));
                }
            }
            None => self.release(to.unix_ms()),
        }
    }

    fn release(&mut self, time: Tick) {
        if let Some(capability) = &mut self.capability
            && time > *capability.time()
        {
            capability.downgrade(&time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(ms)
    }

    fn passed(partition: i32, offset: i64, known: i64, decided: bool) -> (Tick, Note) {
        let partition = PartitionId::new("obs", partition);
        (known as Tick, Note::Passed { partition, offset, known_at: at(known), decided })
    }

    fn mark(oldest: &[(i32, i64, i64)]) -> Note {
        let oldest = oldest.iter().map(|(p, offset, known)| (PartitionId::new("obs", *p), (*offset, at(*known))));
        Note::Mark(Arc::new(Mark { state: Default::default(), oldest_records: oldest.collect() }))
    }

    fn core() -> SinkCore {
        SinkCore::new("dead".into(), None)
    }

    fn position(progress: &Progress, partition: i32) -> (i64, u64, i64) {
        let p = progress.positions.iter().find(|p| p.partition.partition == partition).unwrap();
        (p.rewind, p.knowledge.unix_ms(), p.next)
    }

    #[test]
    fn rewinds_to_the_oldest_record_that_a_window_holds() {
        let mut core = core();
        for (time, note) in
            [passed(0, 4, 100, false), passed(0, 5, 200, false), passed(1, 9, 150, false), passed(0, 6, 300, false)]
        {
            core.push(time, note);
        }
        core.push(200, mark(&[(0, 4, 100)]));
        let batch = core.cut(at(300), true).unwrap();
        assert_eq!(position(&batch.progress, 0), (4, 100, 6), "offset 6 is known at the frontier, not before");
        assert_eq!(position(&batch.progress, 1), (10, 150, 10));
        core.push(300, mark(&[]));
        let batch = core.cut(at(350), true).unwrap();
        assert_eq!(position(&batch.progress, 0), (7, 300, 7));
    }

    #[test]
    fn says_nothing_without_something_to_say() {
        let mut core = core();
        core.push(100, passed(0, 4, 100, false).1);
        assert!(core.cut(at(200), false).is_none());
        assert_eq!(position(&core.cut(at(250), true).unwrap().progress, 0), (5, 100, 5), "but does not forget it");
    }

    #[test]
    fn decisions_are_kept_as_long_as_they_are_read_again() {
        let mut core = core();
        core.push(100, passed(0, 4, 100, true).1);
        core.push(100, mark(&[(0, 4, 100)]));
        assert_eq!(core.cut(at(200), true).unwrap().progress.decisions.len(), 1);
        core.push(200, mark(&[]));
        assert!(core.cut(at(300), true).unwrap().progress.decisions.is_empty());
    }

    #[test]
    fn a_dead_letter_after_a_restart_does_not_forget_what_the_windows_hold() {
        let mut first = core();
        first.push(100, passed(0, 4, 100, false).1);
        first.push(100, mark(&[(0, 4, 100)]));
        let progress = first.cut(at(200), true).unwrap().progress;
        let mut again = SinkCore::new("dead".into(), Some(&progress));
        again.push(200, passed(0, 5, 200, false).1);
        assert_eq!(position(&again.cut(at(250), true).unwrap().progress, 0), (4, 100, 6));
    }

    #[test]
    fn a_restart_without_news_keeps_the_recovered_positions() {
        let mut first = core();
        first.push(100, passed(0, 4, 100, false).1);
        first.push(100, mark(&[(0, 4, 100)]));
        let progress = first.cut(at(200), true).unwrap().progress;
        let mut again = SinkCore::new("dead".into(), Some(&progress));
        assert_eq!(again.cut(at(250), true).unwrap().progress, Progress { frontier: at(250), ..progress });
    }
}
