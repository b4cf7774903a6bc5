//! Takes in observations and forecasts: each goes to the thread that holds it, and becomes a change of a collection.
//!
//! An hour of valid times is *open* until its end and the horizon have passed, in knowledge time; then it is closed: what
//! comes for it later changes no score, its observations and the forecasts that reach no further are let go, and what it
//! summed to is kept. So what a restart must read again is bounded, and is a function of time alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_fields::{Cadence, Grid, IssueTime, KnowledgeTime, ValidTime, time::TICK_MS};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::handover::{PublishedFile, Whereabouts};
use super::matching::{Change, Handle, Truth};
use super::places::Places;
use super::scorer::{Done, Source, Task};
use super::series::{HOUR, start};
use crate::Tick;
use crate::infer::Inferred;
use crate::knowledge::PartitionClock;
use crate::local::Local;
use crate::offload::{Desk, Service};
use crate::order::frontier_of;
use crate::ports::{Outgoing, PartitionId};
use crate::progress::{Progress, StreamState};
use crate::stream::StreamContext;
use crate::window::{Mark, Observed, OldestRecords, note_oldest};

/// Which valid times are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// How long after its end an hour is open, in milliseconds.
    pub horizon_ms: i64,
}

impl Hours {
    /// The first valid time, in seconds, that is open at a time.
    ///
    /// ```
    /// use squall_operators::verify::Hours;
    /// let hours = Hours { horizon_ms: 1_800_000 };
    /// // The hour from 3600 to 7200 is closed half an hour after its end.
    /// assert_eq!(hours.closing(3700), 9_000_000);
    /// assert_eq!((hours.open_from(9_000_000 - 1), hours.open_from(9_000_000)), (3600, 7200));
    /// ```
    pub fn open_from(self, time: Tick) -> i64 {
        start((time as i64 - self.horizon_ms).div_euclid(1000), HOUR)
    }

    /// When the hour of a valid time is closed.
    pub fn closing(self, valid: i64) -> Tick {
        let end = (start(valid, HOUR) + HOUR) * 1000 + self.horizon_ms;
        KnowledgeTime::from_unix_ms(end + TICK_MS as i64 - 1).unix_ms()
    }
}

/// The times of a stream, as its verification needs them.
#[derive(Clone, Debug)]
pub struct Times {
    /// From slot to slot.
    pub cadence: Cadence,
    /// Slots of a window.
    pub window_frames: usize,
    /// Leads in seconds, ascending.
    pub leads: Vec<i64>,
    /// Which valid times are open.
    pub hours: Hours,
    /// How long before a reading of a station others lie that it is checked against, in seconds.
    pub reports_back: i64,
}

impl Times {
    fn longest(&self) -> i64 {
        self.leads.last().copied().unwrap_or(0)
    }

    /// The first valid time that was open before a committed frontier: what lies before is kept as sums.
    pub fn open_before(&self, frontier: KnowledgeTime) -> i64 {
        match frontier.unix_ms() {
            0 => i64::MIN,
            frontier => self.hours.open_from(frontier - 1),
        }
    }

    /// Whether forecasts of an issue time reach valid times from `open` on.
    pub fn reaches(&self, issue_time: IssueTime, open: i64) -> bool {
        issue_time.unix_seconds().saturating_add(self.longest()) >= open
    }

    /// The oldest slot that forecasts which reach `open` are made of.
    fn oldest_slot(&self, open: i64) -> i64 {
        let window = (self.window_frames as i64 - 1) * self.cadence.step_seconds();
        open.saturating_sub(self.longest()).saturating_sub(window)
    }
}

/// An hour, or several, are closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    /// What is valid before this time, in seconds, is over.
    pub open: i64,
    /// Fields that are needed no more.
    pub forget: Vec<Handle>,
}

/// What comes in.
#[derive(Clone)]
pub enum Arrival {
    /// An observation.
    Observed(Observed),
    /// A frame that forecasts are made of, and not compared with.
    Used(Observed),
    /// A wind that steers the forecasts of windows up to a time.
    Wind(Observed, ValidTime),
    /// What stations say of a valid time from now on.
    Places(i64, Arc<Places>),
    /// A record of reports of stations, which are valid from a time on.
    Reported(ValidTime, (PartitionId, Option<Arc<str>>), (i64, PartitionClock)),
    /// A forecast of a companion, which has this number.
    Made(u32, Inferred),
    /// A forecast of the stream, whose number is 0.
    Published(PublishedFile),
}

/// What goes out.
#[derive(Clone, Debug)]
pub enum Gathered {
    /// A change of what is compared.
    Change(Change),
    /// Hours are closed.
    Closing(Closing),
    /// Where a restart must read from.
    Mark(Arc<Mark>),
    /// Records of the topic of progress.
    Kept(Vec<Outgoing>),
}

/// The pure core: which fields are open, and what to read again for them.
#[derive(Clone, Debug)]
pub struct Gather {
    times: Times,
    /// What was valid before this was closed before the start.
    open_at_start: i64,
    observations: BTreeMap<(i64, Truth), Handle>,
    forecasts: BTreeMap<(u32, i64), Handle>,
    /// Fields that were replaced, by when.
    replaced: BTreeMap<Tick, Vec<Handle>>,
    /// Forecasts of the stream whose whereabouts are kept.
    published: BTreeSet<(IssueTime, u32)>,
    /// For each slot, and each partition, the first record.
    records: BTreeMap<ValidTime, OldestRecords>,
    /// For each valid time, and each partition, the first record of reports.
    reports: BTreeMap<ValidTime, OldestRecords>,
    grid: Option<Arc<Grid>>,
    first_slot: Option<ValidTime>,
    next: Handle,
}

impl Gather {
    /// Going on from what was committed.
    pub fn new(times: Times, progress: Option<&Progress>) -> Self {
        let open_at_start = progress.map_or(i64::MIN, |progress| times.open_before(progress.frontier));
        let state = progress.map(|progress| progress.state.clone()).unwrap_or_default();
        Self {
            times,
            open_at_start,
            observations: BTreeMap::new(),
            forecasts: BTreeMap::new(),
            replaced: BTreeMap::new(),
            published: BTreeSet::new(),
            records: BTreeMap::new(),
            reports: BTreeMap::new(),
            grid: state.grid.map(Arc::new),
            first_slot: state.first_slot,
            next: 0,
        }
    }

    fn open(&self, time: Tick) -> i64 {
        self.times.hours.open_from(time).max(self.open_at_start)
    }

    fn handle(&mut self) -> Handle {
        self.next += 1;
        self.next
    }

    /// Takes an observation that became known at a time: its handle, if it is still compared with anything.
    pub fn observe(&mut self, time: Tick, observed: &Observed) -> Option<Handle> {
        self.note_record(observed);
        self.observe_at(time, Truth::Field, observed.frame.slot.unix_seconds())
    }

    /// Takes what stations said of a valid time: its handle, if it is still compared with anything.
    pub fn observe_at(&mut self, time: Tick, truth: Truth, valid: i64) -> Option<Handle> {
        if valid < self.open(time) {
            return None;
        }
        let handle = self.handle();
        if let Some(before) = self.observations.insert((valid, truth), handle) {
            self.replaced.entry(time).or_default().push(before);
        }
        Some(handle)
    }

    /// Notes the record of a frame: a restart reads from it again.
    pub fn note_record(&mut self, observed: &Observed) {
        let Observed { frame, origin } = observed;
        let slot = frame.slot;
        self.grid.get_or_insert_with(|| frame.grid.clone());
        self.first_slot = Some(self.first_slot.map_or(slot, |first| first.min(slot)));
        let id = PartitionId { topic: frame.input.topic.clone(), partition: frame.input.partition };
        let record = (frame.input.offset, origin.clock);
        note_oldest(self.records.entry(slot).or_default(), (id, origin.topic_id.clone()), record);
    }

    /// Notes the record of a wind that windows may take up to a time.
    pub fn note_wind(&mut self, observed: &Observed, until: ValidTime) {
        let Observed { frame, origin } = observed;
        let id = PartitionId { topic: frame.input.topic.clone(), partition: frame.input.partition };
        let record = (frame.input.offset, origin.clock);
        note_oldest(self.records.entry(until).or_default(), (id, origin.topic_id.clone()), record);
    }

    /// Notes a record of reports.
    pub fn note_reports(
        &mut self,
        valid: ValidTime,
        of: (PartitionId, Option<Arc<str>>),
        record: (i64, PartitionClock),
    ) {
        note_oldest(self.reports.entry(valid).or_default(), of, record);
    }

    /// Takes a forecast that became known at a time: its handle, if it reaches what is open.
    pub fn forecast(&mut self, time: Tick, contestant: u32, issue_time: IssueTime) -> Option<Handle> {
        if !self.times.reaches(issue_time, self.open(time)) {
            return None;
        }
        let handle = self.handle();
        if let Some(before) = self.forecasts.insert((contestant, issue_time.unix_seconds()), handle) {
            self.replaced.entry(time).or_default().push(before);
        }
        Some(handle)
    }

    /// Notes that the whereabouts of a published forecast are kept.
    pub fn note_published(&mut self, file: &PublishedFile) {
        self.published.insert((file.issue_time, file.revision));
    }

    /// The next time at which something is closed.
    pub fn next_closing(&self) -> Option<Tick> {
        let oldest_forecast = self.forecasts.keys().map(|(_, issue_time)| *issue_time).min();
        let oldest_published = self.published.first().map(|(issue_time, _)| issue_time.unix_seconds());
        let last = |issue_time: Option<i64>| issue_time.map(|issue_time| issue_time + self.times.longest());
        let observed = self.observations.keys().next().map(|(valid, _)| *valid);
        let oldest = [observed, last(oldest_forecast), last(oldest_published)].into_iter().flatten().min()?;
        Some(self.times.hours.closing(oldest))
    }

    /// Closes what is over at a time: the changes, what is closed, and the published forecasts to forget.
    pub fn close(&mut self, time: Tick) -> (Vec<Change>, Closing, Vec<(IssueTime, u32)>) {
        let open = self.open(time);
        let mut changes = Vec::new();
        // What was replaced later is still compared with what came before that.
        let later = self.replaced.split_off(&(time + 1));
        let mut forget: Vec<Handle> = std::mem::replace(&mut self.replaced, later).into_values().flatten().collect();
        let later = self.observations.split_off(&(open, Truth::Field));
        for ((valid, truth), handle) in std::mem::replace(&mut self.observations, later) {
            changes.push(Change::Observation((truth, valid), None));
            forget.push(handle);
        }
        let times = &self.times;
        self.forecasts.retain(|of, handle| {
            let stays = times.reaches(IssueTime::from_unix_seconds(of.1), open);
            if !stays {
                changes.push(Change::Forecast(*of, None));
                forget.push(*handle);
            }
            stays
        });
        let mut forgotten = Vec::new();
        self.published.retain(|of| {
            let stays = times.reaches(of.0, open);
            if !stays {
                forgotten.push(*of);
            }
            stays
        });
        let oldest = ValidTime::from_unix_seconds(self.times.oldest_slot(open));
        self.records = self.records.split_off(&oldest);
        let oldest = ValidTime::from_unix_seconds(open.saturating_sub(self.times.reports_back));
        self.reports = self.reports.split_off(&oldest);
        (changes, Closing { open, forget }, forgotten)
    }

    /// What a restart must know.
    pub fn mark(&self) -> Mark {
        let mut oldest_records = OldestRecords::new();
        for (of, record) in self.records.values().chain(self.reports.values()).flatten() {
            note_oldest(&mut oldest_records, of.clone(), *record);
        }
        let grid = self.grid.as_deref().cloned();
        let state = StreamState { grid, first_slot: self.first_slot, windows: Vec::new() };
        Mark { state, oldest_records }
    }
}

/// What belongs to a field that is on its way to the thread.
type Under = (Capability<Tick>, Change);

/// The timely shell, on the home worker: elsewhere nothing comes.
pub fn gather<'scope>(
    arrivals: StreamVec<'scope, Tick, Local<Arrival>>,
    core: Gather,
    whereabouts: Whereabouts,
    thread: Option<Service<Task, Done>>,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Gathered>> {
    let worker = arrivals.scope().worker();
    arrivals.unary_frontier(Pipeline, "Gather", move |_capability, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let desk = thread.map(|thread| Desk::new(thread, Some(waker())));
        let mut shell = desk.map(|desk| Shell {
            core,
            whereabouts,
            desk,
            closing: None,
            marks: BTreeMap::new(),
            newest: 0,
            out: Vec::new(),
        });
        move |(input, frontier), output| {
            let Some(shell) = &mut shell else { return };
            let frontier = frontier_of(frontier);
            stream.frontiers.report("gather", frontier);
            let mut lost = None;
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(arrival) in batches.flat_map(|batch| batch.drain(..)) {
                    lost = shell.take(&capability, arrival).err().or(lost.take());
                }
            });
            if stream.control.is_done() {
                shell.clear();
                return;
            }
            while let Some(((capability, change), answer)) = shell.desk.poll() {
                match answer {
                    Ok(Done::Held(true)) => shell.out.push((capability, Gathered::Change(change))),
                    Ok(Done::Held(false) | Done::Scored(_) | Done::Compared { .. }) => {}
                    Err(error) => lost = Some(error),
                }
            }
            shell.close_before(frontier, &stream);
            if let Some(lost) = lost {
                stream.control.fail(lost.into());
            }
            for (capability, gathered) in shell.out.drain(..) {
                output.session(&capability).give(Local(gathered));
            }
        }
    })
}

struct Shell {
    core: Gather,
    whereabouts: Whereabouts,
    desk: Desk<Task, Done, Under>,
    /// When the next closing is, and permission to speak from a time on that has come. Were it of the time of the closing
    /// itself, time would seem to have come to that as soon as nothing more can arrive.
    closing: Option<(Tick, Capability<Tick>)>,
    /// Times after which a restart must know more. Sources are read at speeds of their own: what is to be read again is
    /// known only once nothing can come any more.
    marks: BTreeMap<Tick, Capability<Tick>>,
    newest: Tick,
    out: Vec<(Capability<Tick>, Gathered)>,
}

impl Shell {
    fn take(&mut self, capability: &Capability<Tick>, arrival: Arrival) -> Result<(), crate::offload::Lost> {
        let time = *capability.time();
        self.newest = self.newest.max(time);
        match arrival {
            Arrival::Observed(observed) => {
                let handle = self.core.observe(time, &observed);
                self.mark(capability);
                if let Some(handle) = handle {
                    let of = (Truth::Field, observed.frame.slot.unix_seconds());
                    let change = Change::Observation(of, Some(handle));
                    self.desk.submit(Task::Observation(handle, observed.frame), (capability.clone(), change))?;
                }
            }
            Arrival::Used(observed) => {
                self.core.note_record(&observed);
                self.mark(capability);
            }
            Arrival::Wind(observed, until) => {
                self.core.note_wind(&observed, until);
                self.mark(capability);
            }
            Arrival::Places(valid, places) => {
                if let Some(handle) = self.core.observe_at(time, Truth::Places, valid) {
                    let change = Change::Observation((Truth::Places, valid), Some(handle));
                    self.desk.submit(Task::Places(handle, places), (capability.clone(), change))?;
                }
            }
            Arrival::Reported(valid, of, record) => {
                self.core.note_reports(valid, of, record);
                self.mark(capability);
            }
            Arrival::Made(_, Inferred::Skipped(_)) => {}
            Arrival::Made(contestant, Inferred::Made(made)) => {
                let source = Source::Made(made.forecast.clone(), made.permit);
                self.forecast(capability, contestant, made.forecast.id.issue_time, source)?;
            }
            Arrival::Published(file) => {
                self.core.note_published(&file);
                self.forecast(capability, 0, file.issue_time, Source::Stored(file))?;
            }
        }
        self.hold(capability);
        Ok(())
    }

    fn forecast(
        &mut self,
        capability: &Capability<Tick>,
        contestant: u32,
        issue_time: IssueTime,
        source: Source,
    ) -> Result<(), crate::offload::Lost> {
        let Some(handle) = self.core.forecast(*capability.time(), contestant, issue_time) else { return Ok(()) };
        let change = Change::Forecast((contestant, issue_time.unix_seconds()), Some(handle));
        self.desk.submit(Task::Forecast(handle, source), (capability.clone(), change))
    }

    fn mark(&mut self, capability: &Capability<Tick>) {
        self.marks.entry(*capability.time()).or_insert_with(|| capability.clone());
    }

    /// Says what a restart must know after each time before `to`, of which nothing can come any more.
    fn say_marks(&mut self, to: Tick) {
        let later = self.marks.split_off(&to);
        for capability in std::mem::replace(&mut self.marks, later).into_values() {
            self.out.push((capability, Gathered::Mark(self.core.mark().into())));
        }
    }

    /// Keeps permission to speak at the next closing, and no other.
    fn hold(&mut self, capability: &Capability<Tick>) {
        let held = self.closing.take().map(|(_, held)| held).filter(|held| held.time() <= capability.time());
        let Some(next) = self.core.next_closing() else { return };
        let held = held.unwrap_or_else(|| capability.clone());
        self.closing = Some((next.max(*held.time()), held));
    }

    /// Closes what is over before the frontier, or, with nothing left to come, before the end of the log.
    fn close_before(&mut self, frontier: Option<Tick>, stream: &StreamContext) {
        let to = frontier.unwrap_or_else(|| stream.end_after(KnowledgeTime::at(self.newest)).unix_ms());
        while let Some((due, held)) = self.closing.take_if(|(due, _)| *due < to) {
            let capability = held.delayed(&due);
            // What is closed then was held before.
            self.say_marks(*capability.time() + 1);
            let (changes, closing, forgotten) = self.core.close(*capability.time());
            self.out.extend(changes.into_iter().map(|change| (capability.clone(), Gathered::Change(change))));
            self.out.push((capability.clone(), Gathered::Closing(closing)));
            let records: Vec<_> =
                forgotten.into_iter().map(|(issue, revision)| self.whereabouts.forget(issue, revision)).collect();
            if !records.is_empty() {
                self.out.push((capability.clone(), Gathered::Kept(records)));
            }
            self.mark(&capability);
            self.hold(&capability);
        }
        self.say_marks(to);
        let Some(frontier) = frontier else {
            self.closing = None;
            return;
        };
        if let Some((due, held)) = &mut self.closing {
            held.downgrade(&frontier.min(*due).max(*held.time()));
        }
    }

    fn clear(&mut self) {
        self.desk.clear();
        self.closing = None;
        self.marks.clear();
        self.out.clear();
    }
}
