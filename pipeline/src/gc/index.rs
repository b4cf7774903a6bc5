//! Which files the committed index records point at.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use squall_fields::{ErrorKind, ValidTime};
use squall_operators::encode::folder_name;
use squall_operators::ports::{Connect, LogError, LogReader, PartitionId, Record};

/// Larger records are no index records.
pub const MAX_RECORD_BYTES: u64 = 64 << 20;
/// How long a partition may give nothing before its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record that points at a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Where the record lies.
    pub partition: PartitionId,
    /// Its key.
    pub key: Bytes,
    /// The file: the last three parts of the link, which is what a file of a store is called, wherever the store lies.
    pub file: String,
}

/// What the index says.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Every record that points at a file and was not taken back by a tombstone behind it.
    pub pointers: Vec<Pointer>,
    /// By the folder of a stream, the newest time at which something that it has committed was known, in milliseconds since 1970.
    pub newest_known_ms: BTreeMap<String, i64>,
}

/// Why it is not known what the index says.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record that is none of Squall's: what it points at is not known.
    #[error("the record at {partition}/{offset} is no index record ({reason})")]
    Foreign {
        /// Where it lies.
        partition: PartitionId,
        /// Its offset.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// The end of a partition was not reached.
    #[error("{partition} gave nothing for {} s before its end", PATIENCE.as_secs())]
    Silent {
        /// Which one.
        partition: PartitionId,
    },
}

impl IndexError {
    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Log(error) => error.kind(),
            Self::Foreign { .. } => ErrorKind::Data,
            Self::Silent { .. } => ErrorKind::Broker,
        }
    }
}

#[derive(Deserialize)]
struct Value {
    properties: Properties,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Properties {
    squall: Squall,
}

#[derive(Deserialize)]
struct Squall {
    stream: String,
    known_at: String,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

/// Reads index topics from their beginning to what is committed now.
///
/// # Errors
/// A topic cannot be read to its end, or holds what is no index record.
pub fn read(connect: &dyn Connect, topics: &[&str]) -> Result<Index, IndexError> {
    let mut index = Index::default();
    for topic in topics {
        let mut reader = connect.reader(MAX_RECORD_BYTES)?;
        for partition in reader.partitions(topic)? {
            read_partition(&mut *reader, &partition, &mut index)?;
        }
    }
    Ok(index)
}

/// Gives every record of a partition, from its beginning to what is committed now.
///
/// # Errors
/// It cannot be read to its end, or the first error of `take`.
pub fn for_each_record(
    reader: &mut dyn LogReader,
    partition: &PartitionId,
    mut take: impl FnMut(&Record) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let (begin, end) = (reader.begin_offset(partition)?, reader.end_offset(partition)?);
    reader.assign(&[(partition.clone(), begin)])?;
    let mut moved = Instant::now();
    let mut position = begin;
    while position < end {
        if let Some(record) = reader.poll(Duration::from_millis(100))? {
            take(&record)?;
        }
        let at = reader.position(partition)?;
        if at > position {
            (position, moved) = (at, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Err(IndexError::Silent { partition: partition.clone() });
        }
    }
    Ok(())
}

fn read_partition(reader: &mut dyn LogReader, partition: &PartitionId, index: &mut Index) -> Result<(), IndexError> {
    let mut pointers: BTreeMap<Bytes, Vec<String>> = BTreeMap::new();
    for_each_record(reader, partition, |record| index.take(record, &mut pointers))?;
    let pointer = |key: &Bytes, file| Pointer { partition: partition.clone(), key: key.clone(), file };
    index.pointers.extend(
        pointers.into_iter().flat_map(|(key, files)| files.into_iter().map(|f| pointer(&key, f)).collect::<Vec<_>>()),
    );
    Ok(())
}

impl Index {
    fn take(&mut self, record: &Record, pointers: &mut BTreeMap<Bytes, Vec<String>>) -> Result<(), IndexError> {
        let foreign =
            |reason: String| IndexError::Foreign { partition: record.partition.clone(), offset: record.offset, reason };
        let key = record.key.clone().unwrap_or_default();
        let Some(value) = &record.value else {
            pointers.remove(&key);
            return Ok(());
        };
        let value: Value = serde_json::from_slice(value).map_err(|error| foreign(error.to_string()))?;
        let Squall { stream, known_at } = value.properties.squall;
        let known = known_ms(&known_at).ok_or_else(|| foreign(format!("known_at is {known_at}")))?;
        let newest = self.newest_known_ms.entry(folder_name(&stream)).or_insert(known);
        *newest = known.max(*newest);
        let files = value.links.iter().filter_map(|link| last_three(&link.href));
        pointers.entry(key).or_default().extend(files);
        Ok(())
    }
}

/// Milliseconds of a time such as `2016-09-28T16:00:20.000Z`; a fraction is cut.
fn known_ms(text: &str) -> Option<i64> {
    let whole = text.split_once('.').map_or_else(|| text.to_owned(), |(whole, _)| format!("{whole}Z"));
    Some(ValidTime::parse_rfc3339(&whole)?.unix_seconds() * 1000)
}

fn last_three(href: &str) -> Option<String> {
    let parts: Vec<&str> = href.rsplitn(4, '/').take(3).collect();
    (parts.len() == 3).then(|| parts.into_iter().rev().collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use squall_fields::KnowledgeTime;

    use super::*;

    #[test]
    fn links_and_times_are_read() {
        assert_eq!(
            last_three("file:///a/b/s/20160928T160000Z/r0-ab.nc").as_deref(),
            Some("s/20160928T160000Z/r0-ab.nc")
        );
        assert_eq!(last_three("x.nc"), None);
        let time = KnowledgeTime::from_unix_ms(1_475_078_420_950).to_string();
        assert_eq!(known_ms(&time), Some(1_475_078_420_000), "{time}");
    }
}
