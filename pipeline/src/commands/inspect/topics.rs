//! `squall inspect topics`.

use std::fmt::Write;
use std::time::{Duration, Instant};

use clap::Args;
use squall_fields::KnowledgeTime;
use squall_operators::ports::{LogReader, PartitionId, Timestamps, TopicInfo};

use crate::commands::{ConfigFile, Usage, print};
use crate::config::LogKind;
use crate::{connect, topics};

/// How long the newest record of a partition is waited for.
const LIMIT: Duration = Duration::from_secs(10);

/// Arguments of `squall inspect topics`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        if config.log.kind == LogKind::Memory {
            return Err(Usage("log.kind is \"memory\": there are no topics outside a running instance".into()).into());
        }
        let connect = connect::log(&config);
        let wanted = topics::required(&config);
        let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
        let mut text = String::new();
        for (name, info) in names.iter().zip(connect.describe(&names)?) {
            match info {
                Some(info) => describe(&mut text, &info, &mut *connect.reader(1 << 20)?)?,
                None => writeln!(text, "{name}: missing")?,
            }
        }
        print(&text);
        Ok(())
    }
}

fn describe(text: &mut String, info: &TopicInfo, reader: &mut dyn LogReader) -> anyhow::Result<()> {
    let timestamps = match info.timestamps {
        Some(Timestamps::LogAppend) => "stamped by the broker",
        Some(Timestamps::Create) => "stamped by the producer",
        None => "timestamps unknown",
    };
    let largest = info
        .max_record_bytes
        .map_or_else(String::new, |bytes| format!(", records up to {}", crate::config::format_bytes(bytes)));
    writeln!(text, "{}: {timestamps}{largest}", info.name)?;
    for partition in reader.partitions(&info.name)? {
        let (begin, end) = (reader.begin_offset(&partition)?, reader.end_offset(&partition)?);
        let newest = match newest(reader, &partition, begin, end)? {
            Some(ms) => format!("newest known {}", KnowledgeTime::from_unix_ms(ms)),
            None => "empty".to_owned(),
        };
        writeln!(text, "  partition {:<4} offsets {begin} to {end}, {newest}", partition.partition)?;
    }
    Ok(())
}

/// Timestamp of the newest record; looks back past control records and aborted ones, further each time.
fn newest(reader: &mut dyn LogReader, partition: &PartitionId, begin: i64, end: i64) -> anyhow::Result<Option<i64>> {
    let deadline = Instant::now() + LIMIT;
    let mut back = 4;
    while end > begin && Instant::now() < deadline {
        let start = (end - back).max(begin);
        reader.assign(&[(partition.clone(), start)])?;
        let mut newest = None;
        while reader.position(partition)? < end && Instant::now() < deadline {
            if let Some(record) = reader.poll(Duration::from_millis(100))? {
                newest = newest.max(Some(record.timestamp_ms));
            }
        }
        if newest.is_some() || start == begin {
            return Ok(newest);
        }
        back *= 8;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_connectors::memory::MemoryLog;
    use squall_operators::ports::{Connect, Outgoing, Retention, TopicSpec};

    #[test]
    fn what_a_topic_holds() {
        let log = MemoryLog::new();
        let spec = TopicSpec {
            name: "obs".into(),
            partitions: 2,
            timestamps: Timestamps::Create,
            retention: Retention::Forever,
            max_record_bytes: 1 << 20,
            unpacked: true,
        };
        log.create(&[spec]).unwrap();
        for timestamp_ms in [5_000, 3_000] {
            let timestamp_ms = Some(timestamp_ms);
            let (topic, partition) = ("obs".into(), Some(1));
            log.append(Outgoing { topic, partition, key: None, headers: vec![], value: None, timestamp_ms }).unwrap();
        }
        let info = log.describe(&["obs"]).unwrap().remove(0).unwrap();
        let mut text = String::new();
        describe(&mut text, &info, &mut *log.reader(1000).unwrap()).unwrap();
        insta::assert_snapshot!(text, @r##"
obs: stamped by the producer, records up to 1 MiB
  partition 0    offsets 0 to 0, empty
  partition 1    offsets 0 to 2, newest known 1970-01-01T00:00:05.000Z
"##);
    }
}
