//! The broker that the tests share, and a plain client of it.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use squall_pipeline::broker::{BrokerOptions, DevBroker};

use crate::Proxy;
use crate::topics::{REPLAY, Topics};

/// How long any single exchange with the broker may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Largest record that the tests' broker and producer take.
pub(crate) const LARGEST: &str = "268435456";

/// A record as the tests read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Vec<u8>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Value; empty for a tombstone.
    pub value: Vec<u8>,
}

impl Seen {
    /// The last header of that name as text; empty if there is none.
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().rev().find(|(n, _)| n == name);
        found.map_or(String::new(), |(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

impl Seen {
    /// In these records nothing is null that could be empty: both are no bytes.
    fn of(message: &impl Message) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().unwrap_or_default().to_vec(),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                let one = |h: Header<'_, &[u8]>| (h.key.to_owned(), h.value.unwrap_or_default().to_vec());
                headers.iter().map(one).collect()
            }),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}

/// A consumer that follows a topic.
pub struct Following(BaseConsumer);

impl Following {
    /// What has come since, within a time, each with when it came in milliseconds since 1970.
    pub fn take(&self, within: Duration) -> Vec<(Seen, i64)> {
        let mut taken = Vec::new();
        while let Some(message) = self.0.poll(within) {
            match message {
                Ok(message) => taken.push((Seen::of(&message), chrono::Utc::now().timestamp_millis())),
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => panic!("following: {error}"),
            }
        }
        taken
    }
}

/// A record as the tests write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Partition.
    pub partition: i32,
    /// Timestamp in milliseconds.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Vec<u8>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Value.
    pub value: Vec<u8>,
}

impl Sent {
    /// The same record again, to be known at another time and to lie in another partition.
    pub fn again(seen: &Seen, partition: i32, timestamp_ms: i64) -> Self {
        let Seen { key, headers, value, .. } = seen.clone();
        Self { partition, timestamp_ms, key, headers, value }
    }

    /// With one header set to another text.
    #[must_use]
    pub fn with_header(mut self, name: &str, text: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_owned(), text.as_bytes().to_vec()));
        self
    }

    /// What says behind this record that the log is over.
    #[must_use]
    pub fn end_of_log(self) -> Self {
        Self { value: Vec::new(), ..self }.with_header("squall-end-of-log", "true")
    }
}

/// A running broker and how to talk to it.
pub struct Kafka {
    broker: DevBroker,
}

impl Kafka {
    /// The one broker of this test binary, started at first use. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::own(BrokerOptions::default()))
    }

    /// A broker of a test's own, to be stopped, killed or cut off.
    pub fn own(mut options: BrokerOptions) -> Self {
        for key in ["message.max.bytes", "socket.request.max.bytes", "replica.fetch.max.bytes"] {
            options.properties.push((key.to_owned(), LARGEST.to_owned()));
        }
        let broker = DevBroker::start_with(&options).unwrap_or_else(|error| panic!("{error}"));
        Self { broker }
    }

    /// A broker of a test's own with a proxy before it: `127.0.0.1:PORT` of the proxy leads to it too.
    pub fn behind(proxy: &Proxy) -> Self {
        let own = Self::own(BrokerOptions { proxy: Some(proxy.port()), ..Default::default() });
        proxy.lead_to(own.broker.behind_proxy().expect("the listener that was asked for"));
        own
    }

    /// The broker itself.
    pub fn broker(&mut self) -> &mut DevBroker {
        &mut self.broker
    }

    /// Kills the broker and starts it again without what partition 0 of a topic had from an offset on, as a disk would that
    /// lost its newest writes. The topic keeps its id. A batch must begin at that offset.
    pub fn cut_back(&mut self, topic: &str, offset: i64) {
        self.broker.kill().expect("a broker that can be killed");
        let folder = self.broker.folder().join("data").join(format!("{topic}-0"));
        let log = folder.join(format!("{:020}.log", 0));
        let mut bytes = fs::read(&log).expect("the first segment");
        // Each batch begins with its first offset and the number of bytes that follow these two.
        let begins = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let follow = |at: usize| Some(u32::from_be_bytes(bytes.get(at + 8..at + 12)?.try_into().ok()?));
        let mut at = 0;
        while begins(at).expect("a batch at the offset") < offset {
            at += 12 + follow(at).expect("a whole batch") as usize;
        }
        assert_eq!(begins(at), Some(offset), "a batch begins there");
        bytes.truncate(at);
        fs::write(&log, bytes).expect("a segment that can be written");
        // What is known of the rest is found anew.
        for ending in ["index", "timeindex", "snapshot"] {
            for file in crate::files::below(&folder, ending) {
                fs::remove_file(file).expect("a file that can be removed");
            }
        }
        self.broker.restart().expect("a broker that comes back");
    }

    /// `bootstrap.servers`.
    pub fn address(&self) -> &str {
        self.broker.bootstrap_servers()
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    /// Creates a topic for a replay: no retention by time, timestamps as the producer gives them.
    pub fn create(&self, topic: &str, partitions: i32) {
        Topics::of(self.address()).create(topic, partitions, &REPLAY);
    }

    /// Writes one record again and again, in no time worth mentioning after one another, until it is over.
    pub fn write_on(&self, topic: &str, record: &Sent, over: &AtomicBool) {
        let producer: BaseProducer = self.client().set("linger.ms", "0").create().expect("a producer");
        while !over.load(Ordering::SeqCst) {
            let next = BaseRecord::to(topic).partition(record.partition).key(&record.key).payload(&record.value);
            let sent = producer.send(next);
            assert!(sent.is_ok(), "{topic}: {:?}", sent.err().map(|(error, _)| error));
            producer.poll(Duration::from_millis(2));
        }
        producer.flush(LIMIT).unwrap_or_else(|error| panic!("{topic}: {error}"));
    }

    /// Names of the topics that begin with a prefix.
    pub fn topics(&self, prefix: &str) -> Vec<String> {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        let metadata = consumer.fetch_metadata(None, LIMIT).expect("metadata");
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }

    /// Writes records in order and waits until all are acknowledged.
    pub fn write(&self, topic: &str, records: &[Sent]) {
        let mut config = self.client();
        config.set("message.max.bytes", LARGEST).set("enable.idempotence", "true").set("linger.ms", "5");
        config.set("queue.buffering.max.kbytes", "1048576");
        let producer: BaseProducer = config.create().expect("a producer");
        for record in records {
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            let mut next = BaseRecord::to(topic)
                .partition(record.partition)
                .timestamp(record.timestamp_ms)
                .key(&record.key)
                .headers(headers)
                .payload(&record.value);
            while let Err((error, back)) = producer.send(next) {
                let full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                assert!(full, "{topic}: {error}");
                producer.poll(Duration::from_millis(20));
                next = back;
            }
        }
        producer.flush(LIMIT).unwrap_or_else(|error| panic!("{topic}: {error}"));
        assert_eq!(producer.in_flight_count(), 0);
    }

    /// A producer whose transaction is open, with one record in it.
    pub fn open_transaction(&self, id: &str, topic: &str) -> BaseProducer {
        let mut config = self.client();
        config.set("transactional.id", id).set("transaction.timeout.ms", "120000");
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(LIMIT).expect("a coordinator");
        producer.begin_transaction().expect("a transaction");
        producer.send(BaseRecord::to(topic).partition(0).key(id).payload("{}")).expect("room for a record");
        producer.flush(LIMIT).expect("an acknowledgement");
        producer
    }

    /// A consumer of what is committed on a topic, from its beginning, and how many partitions that has.
    fn consumer(&self, topic: &str) -> (BaseConsumer, usize) {
        let mut config = self.client();
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        config
            .set("group.id", "tests")
            .set("enable.auto.commit", "false")
            .set("receive.message.max.bytes", "1000000000");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT).expect("metadata");
        let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition_offset(topic, *partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&list).expect("an assignment");
        (consumer, partitions.len())
    }

    /// A consumer that follows what is committed on a topic.
    pub fn follow(&self, topic: &str) -> Following {
        Following(self.consumer(topic).0)
    }

    /// Every committed record of a topic, by partition and offset; none if there is no such topic.
    pub fn read(&self, topic: &str) -> Vec<Seen> {
        let (consumer, mut open) = self.consumer(topic);
        let (mut seen, start) = (Vec::new(), Instant::now());
        while open > 0 {
            assert!(start.elapsed() < LIMIT, "{topic}: {open} partitions not read to their end");
            match consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => panic!("{topic}: {error}"),
                Some(Ok(message)) => seen.push(Seen::of(&message)),
            }
        }
        seen.sort_by_key(|record| (record.partition, record.offset));
        seen
    }
}
