//! What several test programs need.

use std::time::Duration;

use squall_connectors::memory::MemoryLog;
use squall_operators::ports::{Connect, Record};

/// Every committed record of a topic.
pub(crate) fn read(log: &MemoryLog, topic: &str) -> Vec<Record> {
    let mut reader = log.reader(1 << 30).unwrap();
    let mut records = Vec::new();
    for partition in reader.partitions(topic).unwrap() {
        let end = reader.end_offset(&partition).unwrap();
        reader.assign(&[(partition.clone(), 0)]).unwrap();
        while reader.position(&partition).unwrap() < end {
            records.extend(reader.poll(Duration::from_millis(100)).unwrap());
        }
    }
    records
}
