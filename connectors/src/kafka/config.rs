//! What a client needs to know.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::config::ClientConfig;

/// How to reach a cluster, and under which name.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Name of the instance: prefix of its transactional ids, and its client id.
    pub instance: String,
    /// Brokers to ask first, `host:port` separated by commas.
    pub bootstrap_servers: String,
    /// Passed on to librdkafka over Squall's own settings: TLS, SASL, time-outs.
    pub properties: BTreeMap<String, String>,
    /// How long the broker lets a transaction stay open before it aborts it. An abandoned transaction holds back all
    /// readers for as long: seconds, below the publication deadline.
    pub transaction_timeout: Duration,
}

impl KafkaConfig {
    /// A cluster without further properties.
    ///
    /// ```
    /// use squall_connectors::kafka::KafkaConfig;
    /// let mut config = KafkaConfig::new("demo", "127.0.0.1:9092");
    /// config.properties.insert("sasl.password".into(), "hunter2".into());
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
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config
    }

    /// A consumer of committed records that assigns its partitions itself.
    pub(super) fn consumer(&self) -> ClientConfig {
        self.client(&[
            ("group.id", &format!("squall-{}", self.instance)),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("allow.auto.create.topics", "false"),
            ("check.crcs", "true"),
            ("fetch.queue.backoff.ms", "50"),
            ("fetch.message.max.bytes", "8388608"),
            // The broker sends the first record of a batch whatever its size; it must arrive to become a dead letter.
            ("receive.message.max.bytes", "1000000000"),
        ])
    }
}

/// Whether a property's value must not be printed.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token", "pem", "credential", "jaas", "oauthbearer.config"].iter().any(|w| key.contains(w))
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): (&String, &String)| {
            let value = if is_secret(key) { "***".to_owned() } else { value.clone() };
            (key.clone(), value)
        };
        f.debug_struct("KafkaConfig")
            .field("instance", &self.instance)
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &self.properties.iter().map(shown).collect::<BTreeMap<_, _>>())
            .field("transaction_timeout", &self.transaction_timeout)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_properties_win() {
        let mut config = KafkaConfig::new("demo", "a:1");
        config.properties.insert("check.crcs".into(), "false".into());
        let consumer = config.consumer();
        assert_eq!(consumer.get("check.crcs"), Some("false"));
        assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
    }
}
