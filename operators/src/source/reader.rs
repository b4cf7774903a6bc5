//! The thread that reads the log for one worker.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use squall_fields::{Chain, KnowledgeTime};
use timely::scheduling::SyncActivator;

use super::clock_offset::ClockOffset;
use super::positions::{Loss, OnLost, There, lost};
use super::queues::{Item, Queues};
use super::stamp::Limit;
use super::{Clock, SourceConfig};
use crate::events;
use crate::knowledge::Taken;
use crate::ports::{Connect, END_OF_LOG_HEADER, LogError, LogReader, PartitionId, Record};
use crate::progress::Position;
use crate::retry::{Backoff, retry};
use crate::stream::StreamContext;

/// How long a poll waits.
const POLL: Duration = Duration::from_millis(20);
/// How often the broker is asked for the end of a partition that gives nothing.
const IDLE: Duration = Duration::from_millis(100);
/// How often a partition is asked that gave something a moment ago: a window may wait for time to pass that.
const SOON: Duration = Duration::from_millis(20);
/// For how long after that.
const MOMENT: Duration = Duration::from_millis(500);
/// How often the topic is looked at: for new partitions, and for whether it is still the same.
const AROUND: Duration = Duration::from_secs(5);
/// How far ahead of the broker's clock a producer's may be before its timestamps are not believed at all.
const AHEAD_MS: i64 = 1_000;
/// Where a partition is read from of which nothing is known.
pub(super) const BEGINNING: i64 = -1;
/// Before a reader that lost its place takes it up again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long it waits after a failure: a broker that is back is noticed soon.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1) };

struct Partition {
    id: PartitionId,
    paused: bool,
    over: bool,
    /// Whether a record came.
    seen: bool,
    /// Where a replay ends.
    end: Option<i64>,
    asked: Instant,
    /// When the newest record came.
    came: Option<Instant>,
    /// The machine's clock in milliseconds since 1970 when the partition was last asked for its end and was there.
    at_end_ms: Option<i64>,
}

impl Partition {
    fn new(id: PartitionId, end: Option<i64>) -> Self {
        let asked = Instant::now();
        Self { id, paused: false, over: false, seen: false, end, asked, came: None, at_end_ms: None }
    }
}

/// Which of the partitions that are added to a topic while it is read belong to a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Number of this worker among those that read.
    pub(super) index: usize,
    /// Workers that read.
    pub(super) readers: usize,
}

/// Starts the reader of one worker.
pub(super) fn spawn(
    config: SourceConfig,
    starts: Vec<(PartitionId, i64)>,
    share: Share,
    connect: Arc<dyn Connect>,
    stream: StreamContext,
    queues: Queues,
    waker: SyncActivator,
) {
    let known = config.partitions.len();
    let topic_id = config.topic_id.clone();
    let of_thread = stream.clone();
    let (offset, written) = (ClockOffset::default(), ClockOffset::default());
    stream.spawn("read", move || {
        let (stream, around) = (of_thread, Instant::now());
        let mut reader = Reader { config, share, known, topic_id, offset, written, around, stream, queues, waker };
        if let Err(error) = reader.run(&starts, &*connect) {
            reader.stream.fail(error.kind(), error);
        }
    });
}

struct Reader {
    config: SourceConfig,
    share: Share,
    /// Partitions of the topic that are known, on all workers.
    known: usize,
    topic_id: Option<Arc<str>>,
    /// What the records that are read tell of the broker's clock.
    offset: ClockOffset,
    /// What the program's own writes tell of it.
    written: ClockOffset,
    /// When the topic was last looked at.
    around: Instant,
    stream: StreamContext,
    queues: Queues,
    waker: SyncActivator,
}

impl Reader {
    fn run(&mut self, starts: &[(PartitionId, i64)], connect: &dyn Connect) -> Result<(), LogError> {
        let queue_bytes = self.config.queue_bytes(&self.stream.budget);
        let open = || connect.reader_within(self.config.max_record_bytes, queue_bytes);
        let Some(mut log) = self.retry("opening a reader", open)? else { return Ok(()) };
        let log = &mut *log;
        let mut partitions = Vec::new();
        for (id, _) in starts {
            let end = match self.config.clock {
                Clock::Log { until_marker: false } => self.retry("asking for end offsets", || log.end_offset(id))?,
                _ => None,
            };
            partitions.push(Partition::new(id.clone(), end));
        }
        self.retry("assigning partitions", || log.assign(starts))?;
        while self.stream.control.is_running() && partitions.iter().any(|p| !p.over) {
            match self.turns(log, &mut partitions) {
                Err(LogError::OutOfRange { partition, reason }) => {
                    tracing::info!(%partition, reason, "the reader has lost its place");
                    self.find_place(log, &mut partitions)?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Reads until the stream ends, the log is over, or the reader has lost its place.
    fn turns(&mut self, log: &mut dyn LogReader, partitions: &mut Vec<Partition>) -> Result<(), LogError> {
        let mut wait = BACKOFF.first;
        while self.stream.control.is_running() && partitions.iter().any(|p| !p.over) {
            match self.turn(log, partitions) {
                Ok(()) => wait = BACKOFF.first,
                Err(error) if error.is_retriable() => {
                    let (stream, reason) = (&*self.stream.name, Chain(&error).to_string());
                    events::BrokerTrouble { stream, what: "reading", reason }.emit();
                    self.stream.control.pause_while_running(wait);
                    wait = (wait * 2).min(BACKOFF.most);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Polls once and looks after pauses, idle partitions and ends.
    fn turn(&mut self, log: &mut dyn LogReader, partitions: &mut Vec<Partition>) -> Result<(), LogError> {
        self.hear_of_clock(log);
        if let Some(record) = log.poll(POLL)? {
            self.take(log, partitions, record)?;
        }
        // Whatever another partition gives: one that is busy does not hold up time in one that is idle.
        self.look_idle(log, partitions)?;
        for partition in partitions.iter_mut() {
            if partition.paused && !partition.over && self.queues.has_room(&partition.id) {
                log.resume(&partition.id)?;
                partition.paused = false;
            }
            if !partition.over {
                self.look_for_end(log, partition)?;
            }
        }
        if self.around.elapsed() >= AROUND {
            self.around = Instant::now();
            self.look_around(log, partitions)?;
        }
        Ok(())
    }

    fn take(&mut self, log: &mut dyn LogReader, partitions: &mut [Partition], record: Record) -> Result<(), LogError> {
        let Some(partition) = partitions.iter_mut().find(|p| p.id == record.partition) else { return Ok(()) };
        if partition.over || partition.end.is_some_and(|end| record.offset >= end) {
            return self.finish(log, partition);
        }
        if matches!(self.config.clock, Clock::Log { .. }) && record.header(END_OF_LOG_HEADER).is_some() {
            return self.finish(log, partition);
        }
        partition.seen = true;
        partition.came = Some(Instant::now());
        let read_at_us = now_us();
        let limit = self.limit(partition, record.timestamp_ms, read_at_us / 1000);
        if self.queues.push(&partition.id, Item::Record { record, read_at_us, limit }) {
            log.pause(&partition.id)?;
            partition.paused = true;
        }
        let _ = self.waker.activate();
        Ok(())
    }

    /// Takes over what the program's own writes tell of the broker's clock by now.
    fn hear_of_clock(&mut self, log: &dyn LogReader) {
        let written = log.broker_clock();
        if written == self.written || matches!(self.config.clock, Clock::Log { .. }) {
            return;
        }
        self.written = written;
        events::BrokerClock { stream: &self.stream.name, offset_ms: self.clock().least_ms() }.emit();
    }

    /// How far the broker's clock is from the machine's: the source's own records know best.
    fn clock(&self) -> ClockOffset {
        self.offset.or(self.written)
    }

    /// How far a timestamp is believed. What the broker stamps tells how its clock goes. What a producer stamps does not,
    /// and is held against that clock.
    fn limit(&mut self, partition: &mut Partition, timestamp_ms: i64, read_ms: i64) -> Limit {
        if matches!(self.config.clock, Clock::Log { .. }) {
            return Limit::None;
        }
        let asked_ms = partition.at_end_ms.take();
        if !self.config.stamped_by_broker {
            let latest_ms = read_ms + self.clock().most_ms();
            return match timestamp_ms > latest_ms + AHEAD_MS {
                true => Limit::Ahead,
                false => Limit::Now(KnowledgeTime::from_unix_ms(latest_ms)),
            };
        }
        if let Some(asked_ms) = asked_ms
            && self.offset.see(timestamp_ms, asked_ms, read_ms, Instant::now())
        {
            events::BrokerClock { stream: &self.stream.name, offset_ms: self.offset.least_ms() }.emit();
        }
        Limit::None
    }

    fn finish(&self, log: &mut dyn LogReader, partition: &mut Partition) -> Result<(), LogError> {
        if !partition.over {
            partition.over = true;
            self.queues.push(&partition.id, Item::End);
            log.pause(&partition.id)?;
            let _ = self.waker.activate();
        }
        Ok(())
    }

    fn look_for_end(&self, log: &mut dyn LogReader, partition: &mut Partition) -> Result<(), LogError> {
        let Some(end) = partition.end else { return Ok(()) };
        if log.position(&partition.id)? >= end || self.is_empty_before(log, partition, end)? {
            self.finish(log, partition)?;
        }
        Ok(())
    }

    /// Whether the broker has nothing before an offset: a partition that gives no record gives no position either.
    fn is_empty_before(&self, log: &mut dyn LogReader, partition: &mut Partition, end: i64) -> Result<bool, LogError> {
        if partition.seen || partition.asked.elapsed() < IDLE {
            return Ok(false);
        }
        partition.asked = Instant::now();
        Ok(log.begin_offset(&partition.id)? >= end)
    }

    /// With the wall clock, time moves for the partitions that give nothing and whose position is their end.
    fn look_idle(&self, log: &mut dyn LogReader, partitions: &mut [Partition]) -> Result<(), LogError> {
        let Clock::Wall { margin } = self.config.clock else { return Ok(()) };
        let gave = |p: &Partition, within| p.came.is_some_and(|came| came.elapsed() < within);
        let every = |p: &Partition| if gave(p, MOMENT) { SOON } else { IDLE };
        let asks = |p: &&mut Partition| !p.paused && !gave(p, IDLE) && p.asked.elapsed() >= every(p);
        let mut asked: Vec<_> = partitions.iter_mut().filter(asks).collect();
        if asked.is_empty() {
            return Ok(());
        }
        asked.iter_mut().for_each(|partition| partition.asked = Instant::now());
        let now_ms = now_us() / 1000; // before the broker is asked: what it does not have by then came later
        let ids: Vec<_> = asked.iter().map(|partition| partition.id.clone()).collect();
        let ends = log.end_offsets(&ids)?;
        for (partition, end) in asked.into_iter().zip(ends) {
            let offsets = end - log.position(&partition.id)?;
            events::Lag { stream: &self.stream.name, partition: &partition.id, offsets }.emit();
            let empty = offsets > 0 && !partition.seen && log.begin_offset(&partition.id)? >= end;
            if offsets <= 0 || empty {
                partition.at_end_ms = Some(now_ms);
                let until = now_ms + self.clock().least_ms() - margin.as_millis() as i64;
                self.queues.push(&partition.id, Item::Idle { until: KnowledgeTime::from_unix_ms(until) });
                let _ = self.waker.activate();
            }
        }
        Ok(())
    }

    /// Looks whether the topic is still the one that is read, and whether it has more partitions.
    fn look_around(&mut self, log: &mut dyn LogReader, partitions: &mut Vec<Partition>) -> Result<(), LogError> {
        let topic_id = match log.topic_id(&self.config.topic) {
            Err(LogError::NoTopic { .. }) => return self.find_place(log, partitions),
            other => other?,
        };
        if topic_id != self.topic_id && topic_id.is_some() && self.topic_id.is_some() {
            return self.find_place(log, partitions);
        }
        if matches!(self.config.clock, Clock::Log { .. }) {
            return Ok(());
        }
        let there = log.partitions(&self.config.topic)?;
        if there.len() <= self.known {
            return Ok(());
        }
        let first = self.known;
        self.known = there.len();
        let Share { index, readers } = self.share;
        let mine: Vec<_> = (first..).zip(there.into_iter().skip(first)).filter(|(n, _)| n % readers == index).collect();
        let mut new = Vec::new();
        for (_, id) in mine {
            events::NewPartition { stream: &self.stream.name, partition: &id }.emit();
            self.queues.add(&id);
            self.queues.push(&id, Item::Anew { topic_id: self.topic_id.clone() });
            partitions.push(Partition::new(id.clone(), None));
            new.push((id, BEGINNING));
        }
        if new.is_empty() { Ok(()) } else { self.assign(log, partitions, &new) }
    }

    /// Assigns all partitions, each from where it is, or from where `moved` says.
    fn assign(
        &self,
        log: &mut dyn LogReader,
        partitions: &[Partition],
        moved: &[(PartitionId, i64)],
    ) -> Result<(), LogError> {
        let mut starts = Vec::new();
        for Partition { id, .. } in partitions {
            let offset = match moved.iter().find(|(of, _)| of == id) {
                Some((_, offset)) => *offset,
                None => log.position(id)?,
            };
            starts.push((id.clone(), offset));
        }
        self.retry("assigning partitions", || log.assign(&starts))?;
        partitions.iter().filter(|p| p.paused || p.over).try_for_each(|p| log.pause(&p.id))
    }

    /// Something is not where it was: says what is lost, and stops or goes on from what is there, as was asked for.
    fn find_place(&mut self, log: &mut dyn LogReader, partitions: &mut [Partition]) -> Result<(), LogError> {
        let mut starts = Vec::new();
        let mut topic_id = self.topic_id.clone();
        for partition in partitions.iter_mut().filter(|p| !p.over) {
            let (id, next) = (partition.id.clone(), log.position(&partition.id)?);
            let Some((there, loss)) = self.look_at(log, &id, next)? else { return Ok(()) };
            topic_id = there.topic_id;
            let Some(loss) = loss else { continue };
            if self.config.on_lost == OnLost::Stop {
                return Err(LogError::Lost { loss });
            }
            events::PositionLost { stream: &self.stream.name, loss: &loss }.emit();
            let start = if let Loss::CutBack { end, .. } = loss { end } else { there.begin };
            partition.at_end_ms = None;
            self.queues.push(&id, Item::Anew { topic_id: topic_id.clone() });
            starts.push((id, start));
        }
        self.topic_id = topic_id;
        self.stream.control.pause_while_running(AGAIN); // the client may learn of a new topic after we did
        self.assign(log, partitions, &starts)
    }

    /// A partition as it is, and what is lost of it; waits for a topic that is gone, if the stream may go on without.
    fn look_at(
        &self,
        log: &mut dyn LogReader,
        id: &PartitionId,
        next: i64,
    ) -> Result<Option<(There, Option<Loss>)>, LogError> {
        let position = Position {
            partition: id.clone(),
            rewind: next,
            knowledge: KnowledgeTime::default(),
            taken: Taken::default(),
            next,
            topic_id: self.topic_id.clone(),
        };
        let mut said = false;
        let there = self.retry("looking for the topic", || match There::ask(log, id) {
            Err(LogError::NoTopic { .. } | LogError::NoPartition { .. }) => {
                let loss = Loss::Deleted { partition: id.clone(), next };
                match self.config.on_lost {
                    OnLost::Stop => Err(LogError::Lost { loss }),
                    OnLost::Continue => {
                        if !std::mem::replace(&mut said, true) {
                            events::PositionLost { stream: &self.stream.name, loss: &loss }.emit();
                        }
                        Err(LogError::away(id.to_string(), "its topic is gone"))
                    }
                }
            }
            other => other,
        })?;
        Ok(there.map(|there| {
            let loss = lost(&position, &there);
            (there, loss)
        }))
    }

    /// Tries a call until it succeeds or can never succeed; `None` if the stream ends meanwhile.
    fn retry<T>(&self, what: &'static str, call: impl FnMut() -> Result<T, LogError>) -> Result<Option<T>, LogError> {
        let StreamContext { name: stream, control, .. } = &self.stream;
        let passes = |error: &LogError| {
            if error.is_retriable() {
                events::BrokerTrouble { stream, what, reason: Chain(error).to_string() }.emit();
            }
            error.is_retriable()
        };
        match retry(BACKOFF, |wait| control.pause_while_running(wait), passes, call) {
            Ok(value) => Ok(Some(value)),
            Err(_) if !control.is_running() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The machine's clock in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
