//! Looks at topics and creates them.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use squall_operators::ports::{LogError, Retention, Timestamps, TopicInfo, TopicSpec};

use super::advice::with_advice;
use super::client::{Context, log_error};
use super::config::KafkaConfig;

const ASK: Duration = Duration::from_secs(15);
/// How long is listened for what was told beside a call.
const HEAR: Duration = Duration::from_millis(200);
/// How long one of several calls may take.
const CALL: Duration = Duration::from_secs(3);
/// A topic whose segments are closed within this time is compacted soon.
const SOON: Duration = Duration::from_secs(3600);

fn client(config: &KafkaConfig) -> Result<AdminClient<Context>, LogError> {
    let created = config.client(&[]).create_with_context(Context::default());
    created.map_err(|e| log_error("creating an admin client", e))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}

/// What the cluster says of all topics. Wrong credentials, for example, are told beside a call, which then has no answer:
/// they are listened for between short ones.
fn metadata(config: &KafkaConfig) -> Result<Metadata, LogError> {
    let consumer = config.consumer().create_with_context(Context::default());
    let consumer: BaseConsumer<Context> = consumer.map_err(|e| log_error("creating a consumer", e))?;
    let deadline = Instant::now() + ASK;
    loop {
        let error = match consumer.fetch_metadata(None, CALL) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        // One event a call, log lines among them.
        let heard = Instant::now() + HEAR;
        while Instant::now() < heard {
            consumer.poll(Duration::from_millis(5));
            consumer.context().check()?;
        }
        if Instant::now() > deadline {
            return Err(log_error("asking for topics", error));
        }
    }
}

/// Each topic as it is, in order.
pub(super) fn describe(config: &KafkaConfig, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError> {
    let admin = client(config)?;
    let metadata = metadata(config)?;
    let partitions = |name: &str| {
        let found = metadata.topics().iter().find(|t| t.name() == name && t.error().is_none())?;
        Some(found.partitions().len() as i32).filter(|count| *count > 0)
    };
    let existing: Vec<&str> = topics.iter().copied().filter(|t| partitions(t).is_some()).collect();
    let resources: Vec<_> = existing.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
    let described = if resources.is_empty() {
        Vec::new()
    } else {
        // Someone may be allowed to read topics and not to read their settings: then those are unknown.
        block_on(admin.describe_configs(&resources, &options())).unwrap_or_default()
    };
    let settings: Vec<Option<ConfigResource>> = described.into_iter().map(Result::ok).collect();
    let info = |name: &&str| {
        let partitions = partitions(name)?;
        let index = existing.iter().position(|t| t == name)?;
        let setting = |key: &str| {
            let found = settings.get(index)?.as_ref()?.get(key)?;
            found.value.clone()
        };
        let timestamps = match setting("message.timestamp.type").as_deref() {
            Some("LogAppendTime") => Some(Timestamps::LogAppend),
            Some("CreateTime") => Some(Timestamps::Create),
            _ => None,
        };
        let max_record_bytes = setting("max.message.bytes").and_then(|v| v.parse().ok());
        let compression = setting("compression.type");
        let retention = retention(setting);
        let name = (*name).to_owned();
        Some(TopicInfo { name, partitions, timestamps, max_record_bytes, retention, compression })
    };
    Ok(topics.iter().map(info).collect())
}

/// How long a topic with these settings keeps its records, if they say.
fn retention(setting: impl Fn(&str) -> Option<String>) -> Option<Retention> {
    match (setting("cleanup.policy")?.as_str(), setting("retention.ms").as_deref()) {
        ("compact", _) => {
            // Only closed segments are compacted. One is closed after the shorter of the two times.
            let times = ["segment.ms", "max.compaction.lag.ms"].map(|key| setting(key).and_then(|ms| ms.parse().ok()));
            let closed = times.into_iter().flatten().min().map(Duration::from_millis);
            // What the broker does not say is taken to be right.
            let is_soon = closed.is_none_or(|closed| closed <= SOON);
            Some(if is_soon { Retention::CompactSoon } else { Retention::Compact })
        }
        (_, Some("-1")) => Some(Retention::Forever),
        _ => Some(Retention::Broker),
    }
}

/// The cluster as it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `host:port` of each broker.
    pub brokers: Vec<String>,
    /// Number of topics, those of the brokers' own use among them.
    pub topics: usize,
    /// What a broker says of its version, if it does.
    pub version: Option<String>,
    /// The client library and its version.
    pub client: String,
}

/// Settings in which brokers tell their version, the newer one first.
const VERSIONS: [&str; 2] = ["metadata.version", "inter.broker.protocol.version"];

/// Asks who is there.
pub(super) fn cluster(config: &KafkaConfig) -> Result<Cluster, LogError> {
    let metadata = metadata(config)?;
    let first = metadata.brokers().first().map(|broker| ResourceSpecifier::Broker(broker.id()));
    let settings = first.and_then(|broker| {
        // Someone may not be allowed to read a broker's settings: then its version is unknown.
        let described = block_on(client(config).ok()?.describe_configs([&broker], &options())).ok()?;
        described.into_iter().next()?.ok()
    });
    let setting = |name: &&str| settings.as_ref()?.get(name)?.value.clone();
    let (_, library) = rdkafka::util::get_rdkafka_version();
    Ok(Cluster {
        brokers: metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect(),
        topics: metadata.topics().len(),
        version: VERSIONS.iter().find_map(setting),
        client: format!("librdkafka {library}"),
    })
}

/// Creates topics with the broker's default replication; one that exists is left as it is.
pub(super) fn create(config: &KafkaConfig, topics: &[TopicSpec]) -> Result<(), LogError> {
    if topics.is_empty() {
        return Ok(());
    }
    let admin = client(config)?;
    let sizes: Vec<String> = topics.iter().map(|t| (t.max_record_bytes + 64 * 1024).to_string()).collect();
    let new: Vec<NewTopic<'_>> = topics.iter().zip(&sizes).map(|(spec, size)| new_topic(spec, size)).collect();
    let results = block_on(admin.create_topics(&new, &options())).map_err(|e| log_error("creating topics", e))?;
    let mut faults = Vec::new();
    let mut retriable = false;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                retriable |= matches!(code, RDKafkaErrorCode::RequestTimedOut | RDKafkaErrorCode::NotController);
                faults.push(format!("{name}: {}", with_advice(Some(code), &code.to_string())));
            }
        }
    }
    match (faults.is_empty(), retriable) {
        (true, _) => Ok(()),
        (false, true) => Err(LogError::away("creating topics", faults.join("; "))),
        (false, false) => Err(LogError::refused("creating topics", faults.join("; "))),
    }
}

fn new_topic<'a>(spec: &'a TopicSpec, max_message_bytes: &'a str) -> NewTopic<'a> {
    let timestamps = match spec.timestamps {
        Timestamps::LogAppend => "LogAppendTime",
        Timestamps::Create => "CreateTime",
    };
    // A replication factor of -1 is the broker's default.
    let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(-1))
        .set("message.timestamp.type", timestamps)
        .set("max.message.bytes", max_message_bytes);
    // The broker then checks the size of a batch once more when it has unpacked it.
    let topic = if spec.unpacked { topic.set("compression.type", TopicInfo::UNPACKED) } else { topic };
    match spec.retention {
        Retention::Broker => topic,
        Retention::Forever => topic.set("retention.ms", "-1"),
        Retention::Compact => topic.set("cleanup.policy", "compact"),
        // Only segments that are closed are compacted: by default after a week, or a gigabyte.
        Retention::CompactSoon => topic
            .set("cleanup.policy", "compact")
            .set("segment.ms", "600000")
            .set("segment.bytes", "16777216")
            .set("min.cleanable.dirty.ratio", "0.1")
            .set("max.compaction.lag.ms", "600000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(settings: &[(&str, &str)]) -> Option<Retention> {
        retention(|key| settings.iter().find(|(of, _)| *of == key).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_topic_is_compacted_soon_if_its_segments_are_closed_soon() {
        let compacted = |segment: &str, lag: &str| {
            of(&[("cleanup.policy", "compact"), ("segment.ms", segment), ("max.compaction.lag.ms", lag)])
        };
        let (week, never) = ("604800000", "9223372036854775807");
        assert_eq!(compacted(week, never), Some(Retention::Compact));
        assert_eq!(compacted("600000", never), Some(Retention::CompactSoon));
        assert_eq!(compacted(week, "600000"), Some(Retention::CompactSoon));
        assert_eq!(of(&[("cleanup.policy", "compact")]), Some(Retention::CompactSoon));
        assert_eq!(of(&[("cleanup.policy", "delete"), ("retention.ms", "-1")]), Some(Retention::Forever));
        assert_eq!(of(&[("cleanup.policy", "delete"), ("retention.ms", week)]), Some(Retention::Broker));
        assert_eq!(of(&[]), None);
    }
}
