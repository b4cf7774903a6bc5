//! A stream's ledger: one transactional producer, one progress record per transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use squall_fields::error::AnyError;
use squall_operators::ports::{Ledger, LedgerError, LogError, Outgoing};
use squall_operators::progress::Progress;

use super::client::{Context, log_error};
use super::config::KafkaConfig;
use super::writer::{MAX_MESSAGE_BYTES, enqueue};
use crate::progress::{progress_record, read_progress};

/// How long one call to the transaction coordinator may take before it is made again.
const CALL: Duration = Duration::from_secs(10);
/// How long opening may take: coordinators load for a while after an unclean stop of the broker.
const OPEN: Duration = Duration::from_secs(90);

/// Where the producer is in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between transactions.
    Idle,
    /// Everything was handed over and acknowledged; the outcome of the commit is not known. Only the same commit may
    /// follow.
    Committing,
}

pub(super) struct KafkaLedger {
    config: Arc<KafkaConfig>,
    name: String,
    progress_topic: String,
    producer: Option<BaseProducer<Context>>,
    phase: Phase,
}

impl KafkaLedger {
    pub(super) fn new(config: Arc<KafkaConfig>, name: &str, progress_topic: &str) -> Self {
        let (name, progress_topic) = (name.to_owned(), progress_topic.to_owned());
        Self { config, name, progress_topic, producer: None, phase: Phase::Idle }
    }

    fn of_log(&self, error: LogError) -> LedgerError {
        LedgerError::log(&self.name, error)
    }

    /// An error that may pass, whatever its code says.
    fn may_pass(&self, what: &str, error: impl Into<AnyError>) -> LedgerError {
        self.of_log(LogError::away(what, error))
    }

    fn not_opened(&self) -> LedgerError {
        LedgerError::NotOpened { ledger: self.name.clone() }
    }

    /// A new producer, which fences every other with this ledger's transactional id.
    fn connect(&mut self) -> Result<(), LedgerError> {
        let id = format!("{}/{}", self.config.instance, self.name);
        let timeout = self.config.transaction_timeout.as_millis().max(1000).to_string();
        let settings = [
            ("transactional.id", id.as_str()),
            ("transaction.timeout.ms", timeout.as_str()),
            ("message.max.bytes", MAX_MESSAGE_BYTES),
            ("queue.buffering.max.kbytes", "1048576"),
            ("queue.buffering.max.messages", "1000000"),
            ("linger.ms", "1"),
        ];
        let created = self.config.client(&settings).create_with_context(Context::default());
        let producer: BaseProducer<Context> = created.map_err(|e| self.of_log(log_error("creating a producer", e)))?;
        let deadline = Instant::now() + OPEN;
        loop {
            let Err(error) = producer.init_transactions(CALL) else { break };
            producer.poll(Duration::ZERO);
            producer.context().check().map_err(|e| self.of_log(e))?;
            match &error {
                KafkaError::Transaction(e) if e.is_fatal() => return Err(self.of_kafka(&producer, error)),
                _ if Instant::now() > deadline => return Err(self.may_pass("opening", error)),
                _ => tracing::info!(ledger = self.name, %error, "waiting for the transaction coordinator"),
            }
        }
        self.producer = Some(producer);
        self.phase = Phase::Idle;
        Ok(())
    }

    /// What an error means: fenced, hopeless, or worth another try.
    fn of_kafka(&self, producer: &BaseProducer<Context>, error: KafkaError) -> LedgerError {
        let fatal = producer.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
        let fenced =
            [RDKafkaErrorCode::Fenced, RDKafkaErrorCode::ProducerFenced, RDKafkaErrorCode::InvalidProducerEpoch];
        match (code, &fatal) {
            (Some(code), _) if fenced.contains(&code) => LedgerError::Fenced { ledger: self.name.clone() },
            (_, Some((_, reason))) => self.of_log(LogError::failed(reason, error)),
            _ => self.of_log(log_error("committing", error)),
        }
    }

    /// Hands every record over and waits until the broker has acknowledged each.
    fn write<'a>(
        &self,
        producer: &BaseProducer<Context>,
        records: impl Iterator<Item = &'a Outgoing>,
    ) -> Result<(), LedgerError> {
        let failed = |error| self.of_kafka(producer, error);
        producer.begin_transaction().map_err(failed)?;
        for record in records {
            enqueue(producer, record).map_err(failed)?;
            producer.poll(Duration::ZERO);
        }
        // Polled here and not in `flush`, which waits in steps of 100 ms.
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::from_millis(1));
            if let Some(error) = producer.context().take_undelivered() {
                return Err(failed(error));
            }
            producer.context().check().map_err(|e| self.of_log(e))?;
        }
        match producer.context().take_undelivered() {
            Some(error) => Err(failed(error)),
            None => Ok(()),
        }
    }

    /// Ends the open transaction without effect; a producer that cannot do so is replaced.
    fn abort(&mut self) {
        let Some(producer) = &self.producer else { return };
        let aborted = producer.abort_transaction(CALL);
        let _ = producer.context().take_undelivered();
        if let Err(error) = aborted {
            tracing::info!(ledger = self.name, %error, "replacing the producer after a failed abort");
            self.producer = None; // the next one's start aborts what this one left
        }
        self.phase = Phase::Idle;
    }

    /// Commits what was written.
    fn finish(&mut self) -> Result<(), LedgerError> {
        let Some(producer) = &self.producer else { return Err(self.not_opened()) };
        self.phase = Phase::Committing;
        let Err(error) = producer.commit_transaction(CALL) else {
            self.phase = Phase::Idle;
            return Ok(());
        };
        match &error {
            KafkaError::Transaction(e) if e.txn_requires_abort() => {
                self.abort();
                Err(self.may_pass("committing", error))
            }
            // The outcome is open: the same call is made again when the batch is tried again.
            KafkaError::Transaction(e) if e.is_retriable() => Err(self.may_pass("committing", error)),
            _ => Err(self.of_kafka(producer, error)),
        }
    }

    /// The newest committed progress of this ledger.
    fn read(&self) -> Result<Option<Progress>, LedgerError> {
        let failed = |what: &str, e: KafkaError| self.of_log(log_error(what, e));
        let consumer: BaseConsumer<Context> = self
            .config
            .consumer()
            .create_with_context(Context::default())
            .map_err(|e| failed("creating a consumer", e))?;
        let topic = self.progress_topic.as_str();
        let (begin, end) = consumer.fetch_watermarks(topic, 0, CALL).map_err(|e| failed(topic, e))?;
        if begin >= end {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).map_err(|e| failed(topic, e))?;
        consumer.assign(&list).map_err(|e| failed(topic, e))?;
        let mut newest = None;
        let deadline = Instant::now() + OPEN;
        loop {
            match consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) if message.key() == Some(self.name.as_bytes()) => {
                    newest = message.payload().map(<[u8]>::to_vec);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => match log_error(topic, error) {
                    error if error.is_retriable() => {}
                    error => return Err(self.of_log(error)),
                },
                None => {}
            }
            let position = consumer.position().map_err(|e| failed(topic, e))?;
            if let Some(Offset::Offset(at)) = position.find_partition(topic, 0).map(|p| p.offset())
                && at >= end
            {
                break;
            }
            if Instant::now() > deadline {
                return Err(self.may_pass(topic, format!("it could not be read up to {end} within {OPEN:?}")));
            }
        }
        newest.map(|value| read_progress(&self.name, &value)).transpose()
    }
}

impl Ledger for KafkaLedger {
    fn open(&mut self) -> Result<Option<Progress>, LedgerError> {
        self.connect()?;
        // Read after fencing: nobody else can commit under this id any more.
        self.read()
    }

    fn commit(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), LedgerError> {
        if self.phase == Phase::Committing {
            return self.finish();
        }
        if self.producer.is_none() {
            self.connect()?;
        }
        let last = progress_record(&self.progress_topic, &self.name, progress)?;
        let Some(producer) = self.producer.take() else { return Err(self.not_opened()) };
        let written = self.write(&producer, records.iter().chain([&last]));
        self.producer = Some(producer);
        match written {
            Ok(()) => self.finish(),
            Err(error @ LedgerError::Fenced { .. }) => Err(error),
            Err(error) => {
                self.abort();
                Err(error)
            }
        }
    }
}
