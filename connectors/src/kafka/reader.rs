//! Reads committed records of the partitions that were assigned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use squall_operators::dead_letter::KEPT_BYTES;
use squall_operators::ports::{LogError, LogReader, PartitionId, Record};
use squall_operators::source::ClockOffset;

use super::client::{Context, log_error};
use super::clock::BrokerClock;
use super::config::KafkaConfig;
use super::headers;
use super::topic_id::topic_id;

/// How long the broker may take to answer a question.
const ASK: Duration = Duration::from_secs(10);
/// Longest wait on one partition's queue before the next is looked at.
const SLICE: Duration = Duration::from_millis(5);

struct Partition {
    id: PartitionId,
    queue: PartitionQueue<Context>,
    start: i64,
    paused: bool,
}

/// One consumer, with a queue for each partition: a paused partition is not drained, and librdkafka stops fetching
/// it once its queue is full, without throwing away what it has.
pub(super) struct KafkaReader {
    consumer: Arc<BaseConsumer<Context>>,
    config: KafkaConfig,
    clock: BrokerClock,
    /// Asks where partitions end, once that was asked. The broker answers the requests of a connection one after the other: on
    /// that of the consumer a question would wait until a fetch of nothing has waited in vain.
    asking: Option<BaseConsumer<Context>>,
    partitions: Vec<Partition>,
    next: usize,
    max_record_bytes: u64,
}

impl KafkaReader {
    pub(super) fn new(
        config: &KafkaConfig,
        clock: BrokerClock,
        max_record_bytes: u64,
        queue_bytes: u64,
    ) -> Result<Self, LogError> {
        let consumer = Arc::new(consumer(config, max_record_bytes, queue_bytes)?);
        let (config, partitions) = (config.clone(), Vec::new());
        Ok(Self { consumer, config, clock, asking: None, partitions, next: 0, max_record_bytes })
    }

    /// The consumer that asks.
    fn asking(&mut self) -> Result<&BaseConsumer<Context>, LogError> {
        let asking = match self.asking.take() {
            Some(asking) => asking,
            None => consumer(&self.config, self.max_record_bytes, 0)?,
        };
        // What it has to say of connections, the other one says.
        while asking.poll(Duration::ZERO).is_some() {}
        asking.context().check()?;
        Ok(self.asking.insert(asking))
    }

    /// Looks once at every partition that is not paused; waits on the last of them.
    fn look(&mut self, wait: Duration) -> Result<Option<Record>, LogError> {
        let count = self.partitions.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let partition = &self.partitions[index];
            if partition.paused {
                continue;
            }
            let wait = if turn + 1 == count { wait } else { Duration::ZERO };
            let Some(polled) = partition.queue.poll(wait) else { continue };
            self.next = index + 1;
            match polled {
                Ok(message) => return Ok(Some(record(&partition.id, &message, self.max_record_bytes))),
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => return Err(of_partition(&partition.id, error)),
            }
        }
        Ok(None)
    }

    fn find(&self, partition: &PartitionId) -> Result<&Partition, LogError> {
        let found = self.partitions.iter().find(|p| p.id == *partition);
        found.ok_or_else(|| LogError::NotAssigned { partition: partition.clone() })
    }

    fn set_paused(&mut self, partition: &PartitionId, paused: bool) {
        if let Some(found) = self.partitions.iter_mut().find(|p| p.id == *partition) {
            found.paused = paused;
        }
    }

    /// Where partitions end, on a connection where nothing is fetched.
    fn ask_ends(&mut self, partitions: &[PartitionId]) -> Result<Vec<i64>, LogError> {
        let mut list = TopicPartitionList::new();
        for id in partitions {
            let added = list.add_partition_offset(&id.topic, id.partition, Offset::End);
            added.map_err(|e| log_error(&id.to_string(), e))?;
        }
        let found = self.asking()?.offsets_for_times(list, ASK).map_err(|error| match partitions.first() {
            // A topic that was deleted is known to the client no more.
            Some(first) => of_partition(first, error),
            None => log_error("asking for end offsets", error),
        })?;
        let end = |id: &PartitionId| match found.find_partition(&id.topic, id.partition) {
            Some(found) => match (found.error(), found.offset()) {
                (Err(error), _) => Err(of_partition(id, error)),
                (Ok(()), Offset::Offset(end)) => Ok(end),
                (Ok(()), other) => Err(LogError::away(id.to_string(), format!("no end offset: {other:?}"))),
            },
            None => Err(LogError::away(id.to_string(), "no end offset")),
        };
        partitions.iter().map(end).collect()
    }

    fn watermarks(&self, partition: &PartitionId) -> Result<(i64, i64), LogError> {
        self.consumer.context().check()?;
        let asked = self.consumer.fetch_watermarks(&partition.topic, partition.partition, ASK);
        asked.map_err(|e| log_error(&format!("offsets of {partition}"), e))
    }
}

fn consumer(config: &KafkaConfig, max_record_bytes: u64, queue_bytes: u64) -> Result<BaseConsumer<Context>, LogError> {
    let consumer = config.source(max_record_bytes, queue_bytes).create_with_context(Context::default());
    consumer.map_err(|e| log_error("creating a consumer", e))
}

/// What an error of a partition means: that the position is not there, or that the topic is not, is for the reader to find
/// out about.
fn of_partition(id: &PartitionId, error: KafkaError) -> LogError {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::LogTruncation
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId,
        ) => LogError::OutOfRange { partition: id.clone(), reason: error.to_string() },
        _ => log_error(&id.to_string(), error),
    }
}

/// Copies a message out of librdkafka: of a value beyond the bound only the beginning.
fn record(id: &PartitionId, message: &BorrowedMessage<'_>, max_record_bytes: u64) -> Record {
    let value_bytes = message.payload().map_or(0, |p| p.len() as u64);
    let keep = if value_bytes > max_record_bytes { KEPT_BYTES } else { usize::MAX };
    let headers = message.headers().map_or_else(Vec::new, headers::read);
    Record {
        partition: id.clone(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().map(Bytes::copy_from_slice),
        headers,
        value: message.payload().map(|p| Bytes::copy_from_slice(&p[..p.len().min(keep)])),
        value_bytes,
    }
}

impl LogReader for KafkaReader {
    fn partitions(&mut self, topic: &str) -> Result<Vec<PartitionId>, LogError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK).map_err(|e| log_error(topic, e));
        let metadata = metadata.inspect_err(|_| drop(self.consumer.poll(Duration::ZERO)))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let mut numbers: Vec<i32> = found.into_iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
        if numbers.is_empty() {
            return Err(LogError::NoTopic { topic: topic.to_owned() });
        }
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|number| PartitionId::new(topic, number)).collect())
    }

    fn topic_id(&mut self, topic: &str) -> Result<Option<Arc<str>>, LogError> {
        self.consumer.context().check()?;
        topic_id(self.consumer.client(), topic, ASK)
    }

    fn assign(&mut self, start: &[(PartitionId, i64)]) -> Result<(), LogError> {
        let from = |(id, offset): &(PartitionId, i64)| {
            let offset = if *offset < 0 { self.begin_offset(id)? } else { *offset };
            Ok((id.clone(), offset))
        };
        let start: Vec<_> = start.iter().map(from).collect::<Result<_, LogError>>()?;
        let mut list = TopicPartitionList::new();
        for (id, offset) in &start {
            let added = list.add_partition_offset(&id.topic, id.partition, Offset::Offset(*offset));
            added.map_err(|e| log_error(&id.to_string(), e))?;
        }
        self.partitions.clear();
        self.consumer.assign(&list).map_err(|e| log_error("assigning partitions", e))?;
        // Queues are split after every assign: an assignment makes new ones.
        for (id, start) in start {
            let queue = self.consumer.split_partition_queue(&id.topic, id.partition);
            let queue = queue.ok_or_else(|| LogError::away(id.to_string(), "it has no queue yet"))?;
            self.partitions.push(Partition { id, queue, start, paused: false });
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Option<Record>, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            // Events and errors that belong to no partition; a message here would have escaped its queue. librdkafka
            // reports one for each try to connect and mends what it can by itself: all are taken, none is waited on.
            let mut trouble = None;
            while let Some(event) = self.consumer.poll(Duration::ZERO) {
                match event {
                    Ok(message) => {
                        let id = PartitionId::new(message.topic(), message.partition());
                        return Ok(Some(record(&id, &message, self.max_record_bytes)));
                    }
                    Err(error) => trouble = Some(log_error("reading", error)),
                }
            }
            self.consumer.context().check()?;
            match trouble {
                Some(error) if !error.is_retriable() => return Err(error),
                Some(error) => tracing::debug!(%error, "the client looks for the broker"),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(record) = self.look(left.min(SLICE))? {
                return Ok(Some(record));
            }
            if left.is_zero() {
                return Ok(None);
            }
            if self.partitions.iter().all(|p| p.paused) {
                std::thread::sleep(left.min(SLICE));
            }
        }
    }

    fn begin_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.watermarks(partition).map(|(begin, _)| begin)
    }

    fn end_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.watermarks(partition).map(|(_, end)| end)
    }

    fn end_offsets(&mut self, partitions: &[PartitionId]) -> Result<Vec<i64>, LogError> {
        self.consumer.context().check()?;
        let ends = self.ask_ends(partitions);
        if !matches!(ends, Err(LogError::OutOfRange { .. })) {
            return ends;
        }
        // It looks at a topic once: one that has more partitions since is asked by another.
        self.asking = None;
        self.ask_ends(partitions)
    }

    fn position(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        let start = self.find(partition)?.start;
        let positions = self.consumer.position().map_err(|e| log_error("asking for positions", e))?;
        let found = positions.find_partition(&partition.topic, partition.partition);
        match found.map(|p| p.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset.max(start)),
            _ => Ok(start), // nothing polled yet
        }
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), LogError> {
        self.set_paused(partition, true);
        Ok(())
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), LogError> {
        self.set_paused(partition, false);
        Ok(())
    }

    fn broker_clock(&self) -> ClockOffset {
        self.clock.offset()
    }
}
