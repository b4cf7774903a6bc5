//! One suite for both logs: what the port of logs promises, on the log in memory and on Apache Kafka.
//!
//! Most tests of the dataflow run on the log in memory. What they show holds on a broker as far as the two do the same,
//! which is what each check here shows. Unlike the other tests of this binary these use Squall's connectors: they are
//! what is compared. Only those who write in transactions of their own are plain clients.

mod ledgers;
mod random;
mod records;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use squall_connectors::kafka::{KafkaConfig, KafkaLog, Property};
use squall_connectors::memory::{MemoryLog, Transactional};
use squall_operators::ports::{
    Connect, Ledger, LogReader, Outgoing, PartitionId, Record, Retention, Timestamps, TopicSpec,
};
use squall_tests::Kafka;
use squall_tests::program::until;

/// How long anything that must come may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it is listened for what must not come: three times as long as Kafka's reader lets the broker wait.
const LATE: Duration = Duration::from_millis(300);
/// One wait for a record.
const WAIT: Duration = Duration::from_millis(20);
/// Largest record that topics and readers take, unless a check says otherwise.
const MOST: u64 = 1 << 20;
/// When the producers of the records say that it is.
const TIME_MS: i64 = 1_475_064_000_000;

/// Makes two tests of each check. One that is in no list is dead code, and found as such.
macro_rules! on_both {
    ($($part:ident: $($check:ident),+;)+) => {
        mod memory {
            $($(
                #[test]
                fn $check() {
                    super::$part::$check(&super::Twin::memory());
                }
            )+)+
        }
        mod kafka {
            $($(
                #[test]
                fn $check() {
                    super::$part::$check(&super::Twin::kafka());
                }
            )+)+
        }
    };
}

on_both! {
    records:
        a_record_comes_back_as_it_was_written,
        a_key_chooses_one_partition,
        an_open_transaction_hides_what_lies_behind_it,
        positions_move_over_control_and_aborted_records,
        the_newest_of_an_id_fences_the_older_one,
        a_paused_partition_waits_without_a_gap_while_others_go_on,
        values_beyond_the_bound_of_a_reader_are_cut,
        a_record_that_its_topic_does_not_take_is_an_error,
        an_offset_beyond_the_end_is_out_of_range,
        a_topic_that_is_not_there_is_told,
        a_topic_is_described_as_it_was_created_first,
        timestamps_are_those_of_the_log_or_of_the_producer,
        what_is_kept_is_the_newest_record_of_each_key;
    ledgers:
        a_ledger_commits_records_and_progress_together,
        whoever_opens_a_ledger_last_is_its_owner,
        an_owner_that_was_cut_off_takes_its_place_again,
        other_settings_are_refused_until_the_progress_is_reset,
        what_the_log_refuses_is_left_out_and_the_rest_is_committed,
        a_batch_with_a_record_for_no_topic_is_not_committed_at_all;
}

/// Opens a transaction of the writer with that id.
type Open = dyn Fn(&str) -> Box<dyn Other>;

/// One of the two logs, under names that no other test has.
struct Twin {
    log: Box<dyn Connect>,
    open: Box<Open>,
    prefix: String,
}

impl Twin {
    fn memory() -> Self {
        let log = MemoryLog::new();
        let shared = log.clone();
        Self::new(log, move |id| Box::new(shared.transactional(id)))
    }

    fn kafka() -> Self {
        let address = Kafka::shared().address();
        let mut config = KafkaConfig::new("twin", address);
        // The client waits half a minute for a topic that is not there, unless it is told otherwise.
        let patience = "topic.metadata.propagation.max.ms";
        config.properties.insert(patience.into(), Property::new(patience, "500"));
        Self::new(KafkaLog::new(config), move |id| Box::new(PlainProducer::open(address, id)))
    }

    fn new(log: impl Connect + 'static, open: impl Fn(&str) -> Box<dyn Other> + 'static) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("twin.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { log: Box::new(log), open: Box::new(open), prefix }
    }

    /// A name of this test's own: of a topic, a ledger, or a transactional id.
    fn name(&self, kind: &str) -> String {
        format!("{}.{kind}", self.prefix)
    }

    /// Opens a transactional writer that belongs to somebody else, and fences whoever had that id: a ledger of that
    /// name, too.
    fn other(&self, id: &str) -> Box<dyn Other> {
        (self.open)(&self.name(id))
    }

    fn ledger(&self, name: &str, progress_topic: &str) -> Box<dyn Ledger> {
        self.log.ledger(&self.name(name), progress_topic).expect("a ledger")
    }

    /// Creates a topic and waits until all clients see it.
    fn create(&self, spec: &TopicSpec) {
        self.log.create(std::slice::from_ref(spec)).expect("a topic");
        let mut reader = self.log.reader(MOST).expect("a reader");
        let mut count = || reader.partitions(&spec.name).map_or(0, |found| found.len());
        assert!(until(LIMIT, || count() == spec.partitions as usize), "{} is not there", spec.name);
    }

    /// Creates a topic with this test's name for a kind, and gives it.
    fn topic(&self, kind: &str, partitions: i32) -> String {
        let spec = spec(&self.name(kind), partitions);
        self.create(&spec);
        spec.name
    }

    /// Writes records in order, outside any transaction, and waits until all are acknowledged.
    fn write(&self, records: &[Outgoing]) {
        let mut writer = self.log.writer().expect("a writer");
        records.iter().for_each(|record| writer.send(record.clone()).expect("room for a record"));
        writer.flush(LIMIT).expect("acknowledgements");
    }

    fn reading(&self, topic: &str) -> Reading {
        self.reading_within(topic, MOST)
    }

    fn reading_within(&self, topic: &str, max_record_bytes: u64) -> Reading {
        let mut reader = self.log.reader(max_record_bytes).expect("a reader");
        let ids = reader.partitions(topic).expect("a topic");
        let start: Vec<_> = ids.iter().map(|id| (id.clone(), -1)).collect();
        reader.assign(&start).expect("an assignment");
        Reading { reader, ids }
    }
}

fn spec(name: &str, partitions: i32) -> TopicSpec {
    let (timestamps, retention) = (Timestamps::Create, Retention::Forever);
    TopicSpec { name: name.to_owned(), partitions, timestamps, retention, max_record_bytes: MOST, unpacked: false }
}

fn record(topic: &str, partition: i32, text: &str) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition: Some(partition),
        key: None,
        headers: Vec::new(),
        value: Some(text.to_owned().into()),
        timestamp_ms: Some(TIME_MS),
    }
}

/// Each record as `partition[offset] text`.
fn places(records: &[Record]) -> Vec<String> {
    let place = |r: &Record| format!("{}[{}] {}", r.partition.partition, r.offset, text(r));
    records.iter().map(place).collect()
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(text).collect()
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_ref().expect("a value")).into_owned()
}

/// A reader of all partitions of a topic, from their beginnings.
struct Reading {
    reader: Box<dyn LogReader>,
    ids: Vec<PartitionId>,
}

impl Reading {
    /// The next records, so many of them, by partition.
    fn take(&mut self, count: usize) -> Vec<Record> {
        self.gather(|_, seen| seen == count)
    }

    /// Every record until the positions have reached these ends, by partition. They must be where the partitions end.
    fn up_to(&mut self, ends: &[i64]) -> Vec<Record> {
        let seen = self.gather(|reading, _| reading.positions() == ends);
        assert_eq!(self.ends(), ends);
        seen
    }

    fn gather(&mut self, is_over: impl Fn(&mut Self, usize) -> bool) -> Vec<Record> {
        let (mut seen, start) = (Vec::new(), Instant::now());
        while !is_over(self, seen.len()) {
            assert!(start.elapsed() < LIMIT, "at {:?} of {:?}: {:?}", self.positions(), self.ends(), places(&seen));
            seen.extend(self.reader.poll(WAIT).expect("a log that answers"));
        }
        seen.sort_by_key(|record| record.partition.partition); // and of each in the order in which they came
        seen
    }

    /// Nothing comes, though it is waited for.
    fn assert_nothing_comes(&mut self) {
        assert_eq!(self.reader.poll(LATE).expect("a log that answers"), None);
    }

    fn positions(&mut self) -> Vec<i64> {
        self.ids.iter().map(|id| self.reader.position(id).expect("a position")).collect()
    }

    fn ends(&mut self) -> Vec<i64> {
        self.reader.end_offsets(&self.ids).expect("end offsets")
    }

    /// Waits until the partitions end there.
    fn await_ends(&mut self, ends: &[i64]) {
        until(LIMIT, || self.ends() == ends);
        assert_eq!(self.ends(), ends);
    }
}

type Answer = Result<(), Box<dyn Error>>;

/// Writes in transactions and belongs to somebody else.
trait Other {
    /// Writes a record, with a partition, in the open transaction, which it opens if there is none.
    fn write(&mut self, record: &Outgoing) -> Answer;

    /// Commits or aborts the open transaction, if there is one; its control records are in the log then.
    fn end(&mut self, is_committed: bool) -> Answer;
}

impl Other for Transactional {
    fn write(&mut self, record: &Outgoing) -> Answer {
        self.send(record.clone()).map_err(Into::into)
    }

    fn end(&mut self, is_committed: bool) -> Answer {
        let ended = if is_committed { self.commit() } else { self.abort() };
        ended.map_err(Into::into)
    }
}

/// A plain client of Kafka.
struct PlainProducer {
    producer: BaseProducer,
    /// Asks where partitions end, committed or not.
    asking: BaseConsumer,
    /// The partitions that the open transaction wrote to; none if there is no transaction.
    touched: BTreeSet<(Arc<str>, i32)>,
}

impl PlainProducer {
    fn open(address: &str, id: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        let asking: BaseConsumer =
            config.clone().set("isolation.level", "read_uncommitted").create().expect("a consumer");
        config.set("transactional.id", id).set("transaction.timeout.ms", "120000").set("linger.ms", "0");
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(LIMIT).expect("a coordinator");
        Self { producer, asking, touched: BTreeSet::new() }
    }
}

impl Other for PlainProducer {
    fn write(&mut self, record: &Outgoing) -> Answer {
        if self.touched.is_empty() {
            self.producer.begin_transaction()?;
        }
        let partition = record.partition.expect("a partition");
        let mut next: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&record.topic).partition(partition);
        (next.key, next.payload, next.timestamp) =
            (record.key.as_deref(), record.value.as_deref(), record.timestamp_ms);
        self.producer.send(next).map_err(|(error, _)| error)?;
        self.touched.insert((record.topic.clone(), partition));
        let is_answered = until(LIMIT, || {
            self.producer.poll(Duration::from_millis(5));
            self.producer.in_flight_count() == 0
        });
        assert!(is_answered, "{partition} of {} does not answer", record.topic);
        match self.producer.client().fatal_error() {
            Some((_, reason)) => Err(reason.into()),
            None => Ok(()),
        }
    }

    fn end(&mut self, is_committed: bool) -> Answer {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return Ok(());
        }
        let ends = || -> Vec<i64> {
            let end = |(topic, partition): &(Arc<str>, i32)| self.asking.fetch_watermarks(topic, *partition, LIMIT);
            touched.iter().map(|at| end(at).expect("an end").1).collect()
        };
        let marked: Vec<i64> = ends().into_iter().map(|end| end + 1).collect();
        match is_committed {
            true => self.producer.commit_transaction(LIMIT)?,
            false => self.producer.abort_transaction(LIMIT)?,
        }
        // Kafka answers before it has written the control records.
        assert!(until(LIMIT, || ends() == marked), "control records must lie before {marked:?}, ends are {:?}", ends());
        Ok(())
    }
}
