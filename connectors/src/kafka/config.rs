//! What a client needs to know.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;

use super::property::Property;

/// Most bytes of one partition in one answer. librdkafka unpacks all of an answer before it counts any of it. Deflate unpacks
/// to as much as 1032 times: 9 MB. zstd packs even better, and a batch of it that does not tell its size is unpacked into a
/// buffer of up to three times its bytes. Where the first batch is larger, it comes whole and alone.
const ANSWER_BYTES: u64 = 8 << 10;
/// The same of all partitions together.
const ANSWERS_BYTES: u64 = 256 << 10;
/// A record of this size still arrives, to become a dead letter, however small the bound of records is. It is also what a
/// batch may unpack to by zstd, the one codec that librdkafka bounds.
const LARGEST_BYTES: u64 = 512 << 20;
/// The same where the bound of records is large, or there is none.
const MOST_BYTES: u64 = 1_000_000_000;

/// How to reach a cluster, and under which name.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// Name of the instance: prefix of its transactional ids, and its client id.
    pub instance: String,
    /// Brokers to ask first, `host:port` separated by commas.
    pub bootstrap_servers: String,
    /// Passed on to librdkafka over Squall's own settings: TLS, SASL, time-outs.
    pub properties: BTreeMap<String, Property>,
    /// How long the broker lets a transaction stay open before it aborts it. An abandoned transaction holds back all
    /// readers for as long: seconds, below the publication deadline. Transactions that need longer are given more.
    pub transaction_timeout: Duration,
}

impl KafkaConfig {
    /// A cluster without further properties.
    ///
    /// ```
    /// use squall_connectors::kafka::{KafkaConfig, Property};
    /// let mut config = KafkaConfig::new("demo", "127.0.0.1:9092");
    /// config.properties.insert("sasl.password".into(), Property::new("sasl.password", "hunter2"));
    /// assert!(!format!("{config:?}").contains("hunter2"));
    /// ```
    pub fn new(instance: &str, bootstrap_servers: &str) -> Self {
        Self {
            instance: instance.to_owned(),
            bootstrap_servers: bootstrap_servers.to_owned(),
            properties: BTreeMap::new(),
            transaction_timeout: Duration::from_secs(10),
        }
    }

    /// A client's settings: Squall's own, then what is given here, then the user's.
    pub(super) fn client(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", format!("squall-{}", self.instance))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        for (key, property) in &self.properties {
            config.set(key, property.expose());
        }
        config
    }

    /// A consumer of committed records that assigns its partitions itself.
    pub(super) fn consumer(&self) -> ClientConfig {
        self.consumer_with(&[])
    }

    /// The same for a source: it holds back records of half of `queue_bytes` for each partition, since their buffers may be
    /// larger, and what one answer unpacks to beside them. An offset that is not there is an error.
    pub(super) fn source(&self, max_record_bytes: u64, queue_bytes: u64) -> ClientConfig {
        let kilobytes = ((queue_bytes / 2).clamp(64 << 10, 32 << 20) >> 10).to_string();
        let (one, all) = (ANSWER_BYTES.to_string(), ANSWERS_BYTES.to_string());
        let largest = max_record_bytes.saturating_mul(2).clamp(LARGEST_BYTES, MOST_BYTES).to_string();
        let mut config = self.consumer_with(&[
            ("auto.offset.reset", "error"),
            ("queued.max.messages.kbytes", &kilobytes),
            ("queued.min.messages", "1000"), // small records cost more than their bytes
            // Answers are small: a queue that was full is soon looked at again, or it would run dry.
            ("fetch.queue.backoff.ms", "20"),
            ("fetch.message.max.bytes", &one),
            ("fetch.max.bytes", &all),
            ("receive.message.max.bytes", &largest),
        ]);
        // What a producer may send; of a consumer librdkafka wants answers that are no smaller.
        config.set("message.max.bytes", &all);
        config
    }

    fn consumer_with(&self, further: &[(&str, &str)]) -> ClientConfig {
        let (group, most) = (format!("squall-{}", self.instance), MOST_BYTES.to_string());
        let ours = [
            ("group.id", group.as_str()),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("allow.auto.create.topics", "false"),
            ("check.crcs", "true"),
            ("fetch.queue.backoff.ms", "50"),
            // A question about offsets waits behind the fetch on the same connection.
            ("fetch.wait.max.ms", "100"),
            ("fetch.message.max.bytes", "8388608"),
            // The broker sends the first record of a batch whatever its size; it must arrive to become a dead letter.
            ("receive.message.max.bytes", most.as_str()),
        ];
        self.client(&[&ours[..], further].concat())
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;

    use super::*;

    #[test]
    fn the_users_properties_win() {
        let mut config = KafkaConfig::new("demo", "a:1");
        config.properties.insert("check.crcs".into(), Property::new("check.crcs", "false"));
        let consumer = config.consumer();
        assert_eq!(consumer.get("check.crcs"), Some("false"));
        assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn a_source_asks_for_little_and_takes_records_beyond_its_bound() {
        let mut config = KafkaConfig::new("demo", "127.0.0.1:1");
        config.properties.insert("message.max.bytes".into(), Property::new("message.max.bytes", "50000000"));
        for (max_record_bytes, queue_bytes) in [(0, 0), (400 << 20, 1 << 30), (u64::MAX, u64::MAX)] {
            let source = config.source(max_record_bytes, queue_bytes);
            let bytes = |key: &str| source.get(key).unwrap().parse::<u64>().unwrap();
            assert!(bytes("fetch.message.max.bytes") * 1032 < 9 << 20);
            let arrives = bytes("receive.message.max.bytes");
            assert!(arrives >= 512 << 20 && (arrives > max_record_bytes || arrives == 1_000_000_000));
            let made = source.create::<BaseConsumer>();
            assert!(made.is_ok(), "{:?}", made.err());
        }
    }
}
