//! What an operator does to topics: makes them, deletes them, cuts them, adds partitions.

use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::kafka::LARGEST;

const LIMIT: Duration = Duration::from_secs(60);
/// Settings of a topic for a replay: no retention by time, timestamps as the producer gives them.
pub const REPLAY: [(&str, &str); 2] = [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")];

/// An administrator of a cluster.
pub struct Topics(AdminClient<DefaultClientContext>);

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(LIMIT)).request_timeout(Some(LIMIT))
}

impl Topics {
    /// Of the cluster at an address.
    pub fn of(address: &str) -> Self {
        Self(ClientConfig::new().set("bootstrap.servers", address).create().expect("an admin client"))
    }

    /// Creates a topic with these settings.
    pub fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let is_bounded = settings.iter().any(|(key, _)| *key == "max.message.bytes");
        let new = if is_bounded { new } else { new.set("max.message.bytes", LARGEST) };
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let create = || block_on(self.0.create_topics([&new], &options())).expect("an answer");
        // One of that name may be on its way out.
        let made = crate::program::until(LIMIT, || create().into_iter().all(|result| result.is_ok()));
        assert!(made, "{topic} cannot be made");
    }

    /// Deletes a topic and waits until it is gone.
    pub fn delete(&self, topic: &str) {
        for result in block_on(self.0.delete_topics(&[topic], &options())).expect("an answer") {
            result.unwrap_or_else(|(name, code)| panic!("{name}: {code}"));
        }
        let is_there = || {
            let metadata = self.0.inner().fetch_metadata(None, LIMIT).expect("metadata");
            metadata.topics().iter().any(|found| found.name() == topic)
        };
        assert!(crate::program::until(LIMIT, || !is_there()), "{topic} is still there");
    }

    /// Deletes the records of partition 0 before an offset, as retention would.
    pub fn delete_before(&self, topic: &str, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset)).expect("a valid offset");
        block_on(self.0.delete_records(&list, &options())).expect("an answer");
    }

    /// Gives a topic so many partitions.
    pub fn grow(&self, topic: &str, partitions: usize) {
        let new = NewPartitions::new(topic, partitions);
        for result in block_on(self.0.create_partitions([&new], &options())).expect("an answer") {
            result.unwrap_or_else(|(name, code)| panic!("{name}: {code}"));
        }
    }

    /// A setting of a topic.
    pub fn setting(&self, topic: &str, key: &str) -> String {
        let topic = ResourceSpecifier::Topic(topic);
        let mut described = block_on(self.0.describe_configs([&topic], &options())).expect("an answer");
        let described = described.pop().expect("one answer").expect("its settings");
        described.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default()
    }
}
