//! The topics of a configuration, as they should be.

mod difference;

use std::time::{Duration, Instant};

use squall_operators::dead_letter::DeadLetters;
use squall_operators::ports::{Connect, LogError, Retention, Timestamps, TopicInfo, TopicSpec};

use crate::commands::Usage;
use crate::config::{Clock, Config};

pub use self::difference::{Difference, Role, differences};

/// Most bytes of a record that Squall writes: a tile, an index record, a bounded dead letter.
const MAX_WRITTEN_BYTES: u64 = 1_000_000;

/// Most bytes of a record of reports of stations.
pub const STATION_BYTES: u64 = 1 << 20;

/// Every topic that a configuration reads or writes, as Squall creates it.
///
/// Live inputs are stamped by the broker, since knowledge time is the time of arrival. A replay's are stamped by
/// the producer and kept for ever: records stamped in the past would be deleted at once. The broker unpacks the batches
/// of either: it alone can refuse one that unpacks to more than a record may have.
pub fn required(config: &Config) -> Vec<TopicSpec> {
    let (timestamps, kept) = match config.runtime.clock {
        Clock::Wall => (Timestamps::LogAppend, Retention::Broker),
        Clock::Log => (Timestamps::Create, Retention::Forever),
    };
    let mut topics = Vec::new();
    for source in &config.sources {
        topics.push(TopicSpec {
            name: source.topic.to_string(),
            partitions: source.partitions,
            timestamps,
            retention: kept,
            max_record_bytes: source.max_record_bytes,
            unpacked: true,
        });
    }
    for stations in config.stations() {
        topics.push(TopicSpec {
            name: stations.topic.to_string(),
            partitions: stations.partitions,
            timestamps,
            retention: kept,
            max_record_bytes: STATION_BYTES,
            unpacked: true,
        });
    }
    let written = |name: &str, retention| TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        timestamps: Timestamps::Create,
        retention,
        max_record_bytes: MAX_WRITTEN_BYTES,
        unpacked: false,
    };
    for stream in &config.streams {
        for of in stream.all_topics() {
            topics.push(written(&of.index, Retention::Compact));
            for role in stream.products.to_make().topics() {
                topics.push(written(&of.fields[role.setting], Retention::Broker));
            }
        }
    }
    for verification in config.streams.iter().filter_map(|stream| stream.verification.as_ref()) {
        topics.push(written(&verification.topics.scores, Retention::Compact));
        topics.push(written(&verification.topics.statistics, Retention::Broker));
    }
    topics.push(written(&config.topics.dead_letters, Retention::Broker));
    // Its stamps tell the broker's clock, which bounds those of producers.
    let timestamps = Timestamps::LogAppend;
    topics.push(TopicSpec { timestamps, ..written(&config.topics.progress, Retention::CompactSoon) });
    let mut seen = std::collections::BTreeSet::new();
    topics.retain(|topic| seen.insert(topic.name.clone()));
    topics
}

/// Creates what is missing, or names all of it in one error where that is not allowed.
///
/// # Errors
/// The broker cannot be asked or refuses; topics are missing and `log.create_topics` is false; the progress topic
/// has more than one partition.
pub fn ensure(config: &Config, connect: &dyn Connect) -> anyhow::Result<()> {
    let required = required(config);
    let names: Vec<&str> = required.iter().map(|topic| topic.name.as_str()).collect();
    let found = connect.describe(&names)?;
    let mut missing = Vec::new();
    for (spec, found) in required.iter().zip(found) {
        let Some(found) = found else {
            missing.push(spec.clone());
            continue;
        };
        if spec.name == *config.topics.progress && found.partitions != 1 {
            let (topic, count) = (&spec.name, found.partitions);
            return Err(Usage(format!("the progress topic {topic} needs one partition and has {count}")).into());
        }
        if spec.name == *config.topics.progress {
            for difference in differences(Role::Progress, spec, &found) {
                tracing::warn!(topic = spec.name, "the topic of progress {difference}");
            }
        }
        let is_input = config.reads(&spec.name);
        if is_input && found.timestamps.is_some_and(|timestamps| timestamps != spec.timestamps) {
            let (topic, expected, found) = (&spec.name, spec.timestamps, found.timestamps);
            let advice = match spec.timestamps {
                Timestamps::LogAppend => {
                    "records count as known when their producers say, but no later than they are read, by the \
                     broker's clock: better let the broker stamp them (kafka-configs --alter --add-config \
                     message.timestamp.type=LogAppendTime, or `squall topics create`)"
                }
                Timestamps::Create => "the time of a replay is that of its records: let the producer stamp them",
            };
            tracing::warn!(topic, ?expected, ?found, "the topic's timestamps are not those of the clock: {advice}");
        }
        if let Some(what) = difference::packed(spec, &found) {
            let advice = "kafka-configs --alter --add-config compression.type=uncompressed, for what is written then";
            tracing::warn!(topic = spec.name, "the topic's {what} ({advice})");
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|topic| topic.name.as_str()).collect();
    let names = names.join(", ");
    if !config.log.create_topics {
        return Err(Usage(format!("missing topics, and log.create_topics is false: {names}")).into());
    }
    tracing::info!(topics = names, "creating topics");
    connect.create(&missing)?;
    let names: Vec<&str> = missing.iter().map(|topic| topic.name.as_str()).collect();
    Ok(await_topics(connect, &names)?)
}

/// What [`create`] has found or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was missing, and is there now.
    Created,
    /// It was there, and differs so from what it should be.
    Exists(Vec<Difference>),
}

/// Creates what is missing, whatever `log.create_topics` says, and compares what exists with what it should be.
///
/// # Errors
/// The broker cannot be asked or refuses.
pub fn create(config: &Config, connect: &dyn Connect) -> Result<Vec<(String, State)>, LogError> {
    let required = required(config);
    let names: Vec<&str> = required.iter().map(|topic| topic.name.as_str()).collect();
    let found = connect.describe(&names)?;
    let missing: Vec<_> = required.iter().zip(&found).filter(|(_, found)| found.is_none()).collect();
    if !missing.is_empty() {
        let missing: Vec<TopicSpec> = missing.into_iter().map(|(spec, _)| spec.clone()).collect();
        connect.create(&missing)?;
        await_topics(connect, &missing.iter().map(|topic| topic.name.as_str()).collect::<Vec<_>>())?;
    }
    let state = |(spec, found): (&TopicSpec, Option<TopicInfo>)| {
        let state = match found {
            Some(found) => State::Exists(differences(Role::of(config, &spec.name), spec, &found)),
            None => State::Created,
        };
        (spec.name.clone(), state)
    };
    Ok(required.iter().zip(found).map(state).collect())
}

/// The topic of dead letters, and how large they may be.
///
/// # Errors
/// The broker cannot be asked.
pub fn dead_letters(config: &Config, connect: &dyn Connect) -> Result<DeadLetters, LogError> {
    let topic = &config.topics.dead_letters;
    let found = connect.describe(&[&**topic])?.into_iter().next().flatten();
    Ok(DeadLetters::new(topic.clone(), found.and_then(|found| found.max_record_bytes)))
}

/// Waits until every broker that answers knows the topics: their creation is acknowledged before that.
fn await_topics(connect: &dyn Connect, names: &[&str]) -> Result<(), LogError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = match connect.describe(names) {
            // A broker that has just made topics may be slow to answer.
            Err(error) if !error.is_retriable() || Instant::now() > deadline => return Err(error),
            Err(_) => Vec::new(),
            Ok(found) => found,
        };
        if found.len() == names.len() && found.iter().all(Option::is_some) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(LogError::failed("creating topics", format!("they do not appear: {}", names.join(", "))));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
