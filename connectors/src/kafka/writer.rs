//! Writes records without transactions, idempotently.

use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use squall_operators::ports::{LogError, LogWriter, Outgoing};

use super::client::{Context, log_error};
use super::config::KafkaConfig;
use super::headers;

/// Largest record that a producer hands to the broker; the topic has the last word.
pub(super) const MAX_MESSAGE_BYTES: &str = "500000000";

/// A producer that is polled by whoever writes.
pub(super) struct KafkaWriter {
    producer: BaseProducer<Context>,
}

impl KafkaWriter {
    pub(super) fn new(config: &KafkaConfig) -> Result<Self, LogError> {
        let settings = [
            ("enable.idempotence", "true"),
            ("message.max.bytes", MAX_MESSAGE_BYTES),
            ("queue.buffering.max.kbytes", "131072"),
            ("linger.ms", "5"),
            ("message.timeout.ms", "120000"),
        ];
        let producer = config.client(&settings).create_with_context(Context::default());
        Ok(Self { producer: producer.map_err(|e| log_error("creating a producer", e))? })
    }

    fn check(&self) -> Result<(), LogError> {
        self.producer.context().check()?;
        match self.producer.context().take_undelivered().into_iter().next() {
            // It is gone: a second call would not write it.
            Some((_, error)) => Err(match log_error("writing a record", error) {
                LogError::Away { what, cause } => LogError::Failed { what, cause },
                other => other,
            }),
            None => Ok(()),
        }
    }
}

/// Queues a record under a number; waits while the queue is full.
pub(super) fn enqueue(producer: &BaseProducer<Context>, record: &Outgoing, number: usize) -> Result<(), KafkaError> {
    loop {
        let mut message: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(&record.topic, number);
        message = message.headers(headers::owned(&record.headers));
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(partition) = record.partition {
            message = message.partition(partition);
        }
        if let Some(timestamp) = record.timestamp_ms {
            message = message.timestamp(timestamp);
        }
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

impl LogWriter for KafkaWriter {
    fn send(&mut self, record: Outgoing) -> Result<(), LogError> {
        enqueue(&self.producer, &record, 0).map_err(|e| log_error(&record.topic, e))?;
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    fn flush(&mut self, timeout: Duration) -> Result<(), LogError> {
        let deadline = Instant::now() + timeout;
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(10));
            self.check()?;
            if Instant::now() > deadline {
                let left = self.producer.in_flight_count();
                let left = format!("{left} records are not written after {timeout:?}");
                return Err(LogError::away("writing", left));
            }
        }
        self.check()
    }
}
