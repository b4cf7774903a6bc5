//! What is kept on a compacted topic, read as it is now.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use squall_operators::ports::{LogError, Newest};

use super::client::{Context, log_error};
use super::config::KafkaConfig;

/// How long the broker may take to answer a question.
const ASK: Duration = Duration::from_secs(10);
/// How long reading may take: transactions that were left open end after their time-out.
const READ: Duration = Duration::from_secs(90);

/// Key and value of the newest committed record of each key with a prefix, in the order of the log.
///
/// A consumer of committed records is told the last stable offset as the end, which lies before whatever any open
/// transaction has begun to write, of whichever ledger. So the end is asked by one that reads everything, and committed
/// records are read up to there.
pub(super) fn kept(config: &KafkaConfig, topic: &str, prefix: &str) -> Result<Vec<(Bytes, Bytes)>, LogError> {
    let failed = |error: KafkaError| log_error(topic, error);
    let mut everything = config.consumer();
    everything.set("isolation.level", "read_uncommitted");
    let everything: BaseConsumer<Context> = everything.create_with_context(Context::default()).map_err(failed)?;
    let (begin, end) = everything.fetch_watermarks(topic, 0, ASK).map_err(failed)?;
    let mut newest = Newest::default();
    if begin >= end {
        return Ok(newest.in_order());
    }
    let consumer: BaseConsumer<Context> = config.consumer().create_with_context(Context::default()).map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let deadline = Instant::now() + READ;
    loop {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                if let Some(key) = message.key().filter(|key| key.starts_with(prefix.as_bytes())) {
                    let value = message.payload().map(Bytes::copy_from_slice);
                    newest.take(message.offset(), Bytes::copy_from_slice(key), value);
                }
            }
            Some(Err(error)) => match failed(error) {
                error if error.is_retriable() => {}
                error => return Err(error),
            },
            None => consumer.context().check()?,
        }
        let position = consumer.position().map_err(failed)?;
        match position.find_partition(topic, 0).map(|partition| partition.offset()) {
            Some(Offset::Offset(at)) if at >= end => return Ok(newest.in_order()),
            _ if Instant::now() > deadline => {
                return Err(LogError::away(topic, format!("it could not be read up to {end} within {READ:?}")));
            }
            _ => {}
        }
    }
}
