//! The log: whether it answers, what topics there are, and whose clock is ahead.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use squall_fields::{Chain, ErrorKind};
use squall_operators::ports::{Connect, LogError, LogReader, PartitionId, Timestamps, TopicInfo};

use super::Finding;
use crate::config::{Config, LogKind};
use crate::{connect, topics};

/// Records after which the clocks are compared, from the end of a partition back.
const BACK: i64 = 8;
/// How long they are waited for.
const LIMIT: Duration = Duration::from_secs(5);
/// A record that is stamped so far in the machine's future was not stamped by a clock that agrees with it.
const AHEAD: i64 = 1000;

/// Of the broker, the topics and the clock.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    if config.log.kind == LogKind::Memory {
        let inside = |part: &str| Finding::skipped(part, "log.kind is \"memory\": it is inside a running instance");
        return ["broker", "topics", "clock"].map(inside).into();
    }
    let servers = &config.log.bootstrap_servers;
    let cluster = match connect::kafka(config).cluster() {
        Ok(cluster) => cluster,
        Err(error) => {
            let away = |part: &str| Finding::skipped(part, "the broker does not answer");
            let failed = Finding::failed("broker", error.kind(), format!("{servers}: {}", Chain(&error)));
            return [failed, away("topics"), away("clock")].into();
        }
    };
    let version = cluster.version.map_or_else(|| "tells no version".to_owned(), |version| format!("version {version}"));
    let found = format!(
        "{servers}: {} brokers ({}), {} topics, {version}; client {}",
        cluster.brokers.len(),
        cluster.brokers.join(", "),
        cluster.topics,
        cluster.client
    );
    let mut findings = vec![Finding::ok("broker", found)];
    let log = connect::log(config);
    match described(config, &*log) {
        Ok(found) => {
            findings.push(of_topics(config, &found));
            findings.push(clock(&found, &*log).unwrap_or_else(|error| failed("clock", &error)));
        }
        Err(error) => {
            findings.push(failed("topics", &error));
            findings.push(Finding::skipped("clock", "the topics cannot be described"));
        }
    }
    findings
}

fn failed(part: &str, error: &LogError) -> Finding {
    Finding::failed(part, error.kind(), Chain(error).to_string())
}

/// The topics that a configuration needs, each as it is.
fn described(config: &Config, log: &dyn Connect) -> Result<Vec<(String, Option<TopicInfo>)>, LogError> {
    let names: Vec<String> = topics::required(config).into_iter().map(|topic| topic.name).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = log.describe(&wanted)?;
    Ok(names.into_iter().zip(found).collect())
}

fn of_topics(config: &Config, found: &[(String, Option<TopicInfo>)]) -> Finding {
    let missing: Vec<&str> = found.iter().filter(|(_, info)| info.is_none()).map(|(name, _)| name.as_str()).collect();
    let there = found.len() - missing.len();
    match (missing.is_empty(), config.log.create_topics) {
        (true, _) => Finding::ok("topics", format!("all {there} are there")),
        (false, true) => {
            Finding::note("topics", format!("{there} are there; squall run will create {}", missing.join(", ")))
        }
        (false, false) => {
            let text = format!("missing, and log.create_topics is false: {}", missing.join(", "));
            Finding::failed("topics", ErrorKind::User, text)
        }
    }
}

/// No request asks a broker for its time. What is told is how old the newest records are that it has stamped itself: one
/// from the future means that its clock is ahead of the machine's by so much at least.
fn clock(found: &[(String, Option<TopicInfo>)], log: &dyn Connect) -> Result<Finding, LogError> {
    let stamped = found.iter().filter_map(|(_, info)| info.as_ref());
    let stamped = stamped.filter(|info| info.timestamps == Some(Timestamps::LogAppend));
    let mut newest = None;
    for info in stamped {
        let mut reader = log.reader(1 << 20)?;
        for partition in reader.partitions(&info.name)? {
            newest = newest.max(last_stamp(&mut *reader, &partition)?);
        }
    }
    let Some(newest) = newest else {
        return Ok(Finding::skipped("clock", "no record that the broker has stamped tells of its clock"));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    Ok(told(newest - now))
}

/// Of the newest stamp less the machine's time, in milliseconds.
fn told(ahead_ms: i64) -> Finding {
    let seconds = |ms: i64| format!("{:.1} s", ms as f64 / 1000.0);
    if ahead_ms > AHEAD {
        let text = format!("the broker's is ahead of this machine's by {} at least: set this one", seconds(ahead_ms));
        return Finding::failed("clock", ErrorKind::Device, text);
    }
    let age = seconds(-ahead_ms.min(0));
    Finding::ok("clock", format!("the broker's newest stamp is {age} old, none lies in the future"))
}

fn last_stamp(reader: &mut dyn LogReader, partition: &PartitionId) -> Result<Option<i64>, LogError> {
    let (begin, end) = (reader.begin_offset(partition)?, reader.end_offset(partition)?);
    if end <= begin {
        return Ok(None);
    }
    reader.assign(&[(partition.clone(), (end - BACK).max(begin))])?;
    let (deadline, mut newest) = (Instant::now() + LIMIT, None);
    while reader.position(partition)? < end && Instant::now() < deadline {
        if let Some(record) = reader.poll(Duration::from_millis(100))? {
            newest = newest.max(Some(record.timestamp_ms));
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use squall_connectors::memory::MemoryLog;
    use squall_operators::ports::{Outgoing, Retention, TopicSpec};

    use super::super::Status;
    use super::*;

    /// A topic that the broker stamps, with a record of so many milliseconds from now.
    fn log(ahead_ms: i64) -> MemoryLog {
        let (log, name) = (MemoryLog::new(), "obs".to_owned());
        let (timestamps, retention) = (Timestamps::LogAppend, Retention::Forever);
        let (partitions, max_record_bytes, unpacked) = (1, 1 << 20, true);
        log.create(&[TopicSpec { name, partitions, timestamps, retention, max_record_bytes, unpacked }]).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let timestamp_ms = Some(now + ahead_ms);
        let (topic, partition) = ("obs".into(), Some(0));
        log.append(Outgoing { topic, partition, key: None, headers: vec![], value: None, timestamp_ms }).unwrap();
        log
    }

    #[test]
    fn a_stamp_from_the_future_is_found_and_an_old_one_is_none() {
        assert_eq!(told(5_000).status, Status::Failed);
        assert!(told(5_000).found.contains("by 5.0 s at least"));
        assert_eq!((told(-60_000).status, told(900).status), (Status::Ok, Status::Ok));
    }

    #[test]
    fn the_newest_record_of_a_partition_is_read() {
        let log = log(-90_000);
        let mut reader = log.reader(1 << 20).unwrap();
        let partition = reader.partitions("obs").unwrap().remove(0);
        assert!(last_stamp(&mut *reader, &partition).unwrap().is_some());
        let found = [("obs".to_owned(), log.describe(&["obs"]).unwrap().remove(0)), ("gone".to_owned(), None)];
        assert_ne!(clock(&found, &log).unwrap().status, Status::Failed);
        assert_eq!(clock(&found[1..], &log).unwrap().status, Status::Skipped);
    }
}
