//! What a client needs to know.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;

use super::property::Property;

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

    /// The same for a source: it holds back no more than about so many bytes for each partition, and an offset that is not
    /// there is an error.
    pub(super) fn source(&self, queue_bytes: u64) -> ClientConfig {
        let queue_bytes = queue_bytes.clamp(64 << 10, 32 << 20);
        let kilobytes = (queue_bytes >> 10).to_string();
        // In one answer, of one partition and of all. The library wants no less than its `message.max.bytes` of the latter.
        let (one, all) = (queue_bytes.min(8 << 20).to_string(), queue_bytes.clamp(1 << 20, 32 << 20).to_string());
        self.consumer_with(&[
            ("auto.offset.reset", "error"),
            ("queued.max.messages.kbytes", &kilobytes),
            ("queued.min.messages", "1000"), // small records cost more than their bytes
            ("fetch.message.max.bytes", &one),
            ("fetch.max.bytes", &all),
        ])
    }

    fn consumer_with(&self, further: &[(&str, &str)]) -> ClientConfig {
        let group = format!("squall-{}", self.instance);
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
            ("receive.message.max.bytes", "1000000000"),
        ];
        self.client(&[&ours[..], further].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_properties_win() {
        let mut config = KafkaConfig::new("demo", "a:1");
        config.properties.insert("check.crcs".into(), Property::new("check.crcs", "false"));
        let consumer = config.consumer();
        assert_eq!(consumer.get("check.crcs"), Some("false"));
        assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    }
}
