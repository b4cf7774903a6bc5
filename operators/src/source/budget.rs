//! One budget of memory for all that a stream has under way, from the log's queues to what waits for its commit.
//!
//! Counted is memory as it will be: a record of 400 kB becomes a field of 4 MB, and stays beside it until it is
//! committed. What a record becomes is not known when it is read, so it is taken to be the largest of those that were
//! decoded last. A quarter of the budget belongs to what is read ahead and not yet taken: half of that to the queues of
//! the log's client, half to those between the reader and the operator. The partitions of all sources of the dataflow
//! share it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Tick;
use crate::note::Note;

/// Decoded records that an estimate goes back to.
const LAST_DECODED: usize = 64;

/// Memory of a stream, on all workers. Workers and threads share it.
#[derive(Debug)]
pub struct Budget {
    max_bytes: u64,
    flight: Mutex<Flight>,
}

/// What is under way, by timely time.
#[derive(Debug, Default)]
struct Flight {
    by_time: BTreeMap<Tick, Load>,
    total: Load,
    /// Decoded sizes of the last records.
    decoded: VecDeque<u64>,
    /// Bytes of records that refill windows and wait to be decoded.
    refilling: u64,
    /// Bytes of records that wait for those after them.
    doubtful: u64,
    /// Bytes beside what waits for a commit.
    beside: u64,
    /// Bytes of forecasts from the model to their publication.
    alive: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    /// Records whose frames are, or will be, in memory.
    records: u64,
    /// Bytes as they are.
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(u64::MAX / 8)
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(max_bytes: u64) -> Self {
        Self { max_bytes, flight: Mutex::default() }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that all queues between readers and their operators may hold, and as many those of the log's client.
    fn for_queues(&self) -> u64 {
        self.max_bytes / 8
    }

    /// The share in that of one partition of a source that has so many, in a dataflow with so many sources.
    pub fn for_queue(&self, sources: usize, partitions: usize) -> u64 {
        self.for_queues() / (sources.max(1) as u64 * partitions.max(1) as u64)
    }

    /// A record of so many bytes was taken at a time.
    pub fn add_record(&self, time: Tick, bytes: u64) {
        self.flight().add(time, Load { records: 1, bytes });
    }

    /// A record of so many bytes was taken that only refills windows. It waits for nothing but to be decoded: what it becomes,
    /// the windows hold for as long as their horizon, whether it is read again or not.
    pub fn add_refill(&self, bytes: u64) {
        self.flight().refilling += bytes;
    }

    /// A record that refills windows has become what they hold.
    pub fn refilled(&self, bytes: u64) {
        let mut flight = self.flight();
        flight.refilling = flight.refilling.saturating_sub(bytes);
    }

    /// A record of so many bytes is kept until those after it tell whether its timestamp is believed.
    pub fn add_doubtful(&self, bytes: u64) {
        self.flight().doubtful += bytes;
    }

    /// That is known.
    pub fn judged(&self, bytes: u64) {
        let mut flight = self.flight();
        flight.doubtful = flight.doubtful.saturating_sub(bytes);
    }

    /// Whether another record may be taken that was known before what is committed.
    pub fn has_room_to_refill(&self) -> bool {
        self.flight().refilling < self.for_queues()
    }

    /// Something of so many bytes waits for its commit.
    pub fn add_output(&self, time: Tick, bytes: u64) {
        self.flight().add(time, Load { records: 0, bytes });
    }

    /// What a note for the sink holds waits for its commit. Dead letters are counted with their records.
    pub fn add_note(&self, time: Tick, note: &Note) {
        if let Note::Published(_) | Note::Records(_) = note {
            self.add_output(time, note.bytes() as u64);
        }
    }

    /// So many bytes are in memory now, and no more those of the last call, for what waits for no commit: fields that are
    /// scored.
    pub fn set_beside(&self, bytes: u64) {
        self.flight().beside = bytes;
    }

    /// A forecast of so many bytes is in memory until it is published.
    pub fn add_forecast(&self, bytes: u64) {
        self.flight().alive += bytes;
    }

    /// It is published.
    pub fn drop_forecast(&self, bytes: u64) {
        let mut flight = self.flight();
        flight.alive = flight.alive.saturating_sub(bytes);
    }

    /// A record has become frames of so many bytes.
    pub fn decoded(&self, bytes: u64) {
        let mut flight = self.flight();
        if flight.decoded.len() >= LAST_DECODED {
            flight.decoded.pop_front();
        }
        flight.decoded.push_back(bytes);
    }

    /// Everything before a frontier is committed; all of it where none is left.
    pub fn land(&self, committed: Option<Tick>) {
        let mut flight = self.flight();
        while let Some(first) = flight.by_time.first_entry() {
            if committed.is_some_and(|c| *first.key() >= c) {
                break;
            }
            let load = first.remove();
            flight.total.records -= load.records;
            flight.total.bytes -= load.bytes;
        }
    }

    /// Whether another record may be taken.
    pub fn has_room(&self) -> bool {
        let max = self.max_bytes - 2 * self.for_queues();
        let flight = self.flight();
        // Until the first is decoded a few must do.
        let each = flight.decoded.iter().max().copied().unwrap_or(max / 4);
        let held = flight.total.bytes + flight.beside + flight.alive + flight.doubtful;
        held + flight.total.records.saturating_mul(each) < max
    }
}

impl Flight {
    fn add(&mut self, time: Tick, load: Load) {
        let at = self.by_time.entry(time).or_default();
        at.records += load.records;
        at.bytes += load.bytes;
        self.total.records += load.records;
        self.total.bytes += load.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Outgoing;

    #[test]
    fn counts_what_records_become_until_they_are_committed() {
        let budget = Budget::new(400); // 300 for what is under way
        budget.add_record(100, 10);
        assert!(budget.has_room(), "one, of unknown size");
        (0..3).for_each(|_| budget.add_record(150, 10));
        assert!(!budget.has_room(), "four of unknown size");
        budget.decoded(50);
        assert!(budget.has_room(), "4 x (10 + 50)");
        budget.decoded(70);
        assert!(!budget.has_room(), "4 x (10 + 70)");
        budget.land(Some(100));
        assert!(!budget.has_room());
        budget.land(Some(150));
        assert!(budget.has_room(), "3 x (10 + 70)");
        budget.add_output(200, 60);
        assert!(!budget.has_room(), "and what waits for its commit");
        budget.land(None);
        assert_eq!(budget.flight().total, Load::default());
    }

    #[test]
    fn what_refills_is_taken_no_faster_than_it_is_decoded() {
        let budget = Budget::new(800); // 100 for what waits to be decoded
        budget.add_refill(60);
        assert!(budget.has_room_to_refill());
        budget.add_refill(60);
        assert!(!budget.has_room_to_refill());
        assert!(budget.has_room(), "it waits for no commit");
        budget.refilled(60);
        assert!(budget.has_room_to_refill());
    }

    #[test]
    fn what_waits_to_be_judged_takes_room() {
        let budget = Budget::new(400);
        budget.add_doubtful(300);
        assert!(!budget.has_room());
        assert!(budget.has_room_to_refill(), "the partition that holds time back is read on");
        budget.judged(300);
        assert!(budget.has_room());
    }

    #[test]
    fn the_queues_of_all_sources_take_no_more_than_is_set_aside() {
        let budget = Budget::new(800_000);
        assert_eq!(budget.for_queue(1, 1), 100_000, "of the reader, and as much of the log's client");
        for partitions in [vec![1], vec![3, 1], vec![1, 7, 64, 2]] {
            let of_source = |count: &usize| *count as u64 * budget.for_queue(partitions.len(), *count);
            let all: u64 = partitions.iter().map(of_source).sum();
            assert!(all <= budget.for_queues() && all > 99_000, "{all} bytes of {partitions:?}");
        }
    }

    #[test]
    fn records_for_the_log_and_fields_that_are_scored_count_too() {
        let budget = Budget::new(400); // 300 for what is under way
        budget.set_beside(200);
        budget.set_beside(140);
        assert!(budget.has_room());
        let record = Outgoing {
            topic: "scores".into(),
            partition: None,
            key: None,
            headers: Vec::new(),
            value: Some(vec![0; 160].into()),
            timestamp_ms: None,
        };
        budget.add_note(100, &Note::Records(vec![record]));
        assert!(!budget.has_room());
        budget.land(Some(101));
        assert!(budget.has_room(), "they are committed");
        budget.set_beside(300);
        assert!(!budget.has_room());
    }

    #[test]
    fn forecasts_count_until_they_are_published() {
        let budget = Budget::new(400); // 300 for what is under way
        (0..2).for_each(|_| budget.add_forecast(200));
        assert!(!budget.has_room());
        budget.drop_forecast(200);
        assert!(budget.has_room());
        budget.land(None);
        budget.add_forecast(200);
        assert!(!budget.has_room(), "a commit of others changes nothing");
    }

    #[test]
    fn an_unusual_record_is_forgotten() {
        let budget = Budget::new(400);
        budget.add_record(100, 0);
        budget.decoded(1_000);
        assert!(!budget.has_room());
        (0..LAST_DECODED).for_each(|_| budget.decoded(10));
        assert!(budget.has_room());
    }
}
