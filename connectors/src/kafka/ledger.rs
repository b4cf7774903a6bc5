//! A stream's ledger on Kafka: one transactional producer, one progress record per transaction.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};
use squall_operators::ports::{LedgerError, LogError, Outgoing};
use squall_operators::progress::Progress;

use super::client::{Context, log_error};
use super::clock::{BrokerClock, now_ms};
use super::config::KafkaConfig;
use super::history::History;
use super::writer::{MAX_MESSAGE_BYTES, enqueue};
use crate::claims::{Transactions, WriteError};

/// How long one call to the transaction coordinator may take before it is made again.
const CALL: Duration = Duration::from_secs(3);
/// How long becoming the only writer may take: coordinators load for a while after an unclean stop of the broker.
const BEGIN: Duration = Duration::from_secs(60);
/// How often a transaction is aborted before its producer is given up.
const ABORTS: usize = 3;
/// The shortest time-out of transactions, whatever is configured.
const SHORTEST: Duration = Duration::from_secs(1);
/// The client's own limit for one request. It shortens it by itself, and does not lengthen it.
const REQUEST: Duration = Duration::from_secs(60);
/// How far the time-out of transactions grows when they are too slow; Kafka's own limit is 15 minutes.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) struct KafkaTransactions {
    config: Arc<KafkaConfig>,
    /// What the stamps of the records of progress tell.
    clock: BrokerClock,
    name: String,
    history: History,
    producer: Option<BaseProducer<Context>>,
    /// Time-out of the transactions. Grows when one takes longer, so that a large batch over a slow link comes through.
    timeout: Duration,
    /// How long the newest transaction took.
    took: Duration,
    /// Topics that take records one by one, but no batch of them: their limit is below that of the client's batches.
    apart: BTreeSet<Arc<str>>,
}

impl KafkaTransactions {
    pub(super) fn new(config: Arc<KafkaConfig>, clock: BrokerClock, name: &str, progress_topic: &str) -> Self {
        let history = History::new(config.clone(), name, progress_topic);
        let (name, timeout) = (name.to_owned(), config.transaction_timeout.max(SHORTEST));
        Self { config, clock, name, history, producer: None, timeout, took: LONGEST, apart: BTreeSet::new() }
    }

    /// The time-out that was configured.
    fn shortest(&self) -> Duration {
        self.config.transaction_timeout.max(SHORTEST)
    }

    fn connect(&self) -> Result<BaseProducer<Context>, LogError> {
        let timeout = self.timeout.as_millis().to_string();
        let mut settings = vec![
            ("transactional.id", self.name.as_str()),
            ("transaction.timeout.ms", timeout.as_str()),
            ("message.max.bytes", MAX_MESSAGE_BYTES),
            ("queue.buffering.max.kbytes", "1048576"),
            ("queue.buffering.max.messages", "1000000"),
            ("linger.ms", "1"),
        ];
        if self.timeout > REQUEST {
            settings.push(("socket.timeout.ms", timeout.as_str())); // one request may be all that the link manages
        }
        let created = self.config.client(&settings).create_with_context(Context::default());
        let producer: BaseProducer<Context> = created.map_err(|e| log_error("creating a producer", e))?;
        let deadline = Instant::now() + BEGIN;
        loop {
            let Err(error) = producer.init_transactions(CALL) else { return Ok(producer) };
            producer.poll(Duration::ZERO);
            producer.context().check()?;
            match &error {
                KafkaError::Transaction(e) if e.is_fatal() => return Err(fatal(&producer, error)),
                _ if Instant::now() > deadline => return Err(LogError::away("becoming the only writer", error)),
                _ => tracing::info!(ledger = self.name, %error, "waiting for the transaction coordinator"),
            }
        }
    }

    /// Hands every record over and waits until the broker has answered for each.
    fn hand_over(&self, producer: &BaseProducer<Context>, records: &[&Outgoing]) -> Result<(), Fault> {
        producer.context().take_undelivered();
        producer.context().take_stamped();
        tracing::debug!(ledger = self.name, records = records.len(), "a transaction begins");
        producer.begin_transaction().map_err(Fault::Call)?;
        let mut handed_over_ms = 0;
        for (index, record) in records.iter().enumerate() {
            handed_over_ms = now_ms();
            match enqueue(producer, record, index) {
                Err(error) if is_refusal(&error) => return Err(Fault::Undelivered(vec![(index, error)])),
                queued => queued.map_err(Fault::Call)?,
            }
            producer.poll(Duration::ZERO);
            if self.apart.contains(&record.topic) {
                answered(producer)?;
            }
        }
        answered(producer)?;
        // The last one's, which is the progress in all but trials of what is refused.
        if let Some(stamped) = producer.context().take_stamped().filter(|stamped| stamped.number + 1 == records.len()) {
            self.clock.see(handed_over_ms, stamped);
        }
        match producer.context().take_undelivered() {
            undelivered if undelivered.is_empty() => Ok(()),
            undelivered => Err(Fault::Undelivered(undelivered)),
        }
    }

    /// Ends the open transaction without effect; a producer that cannot do so is given up.
    fn abort(&mut self) -> Abort {
        let Some(producer) = &self.producer else { return Abort::GivenUp };
        // What is still queued would be sent while the abort waits for it.
        producer.purge(PurgeConfig::default().queue().inflight());
        let purged = Instant::now() + CALL;
        while producer.in_flight_count() > 0 && Instant::now() < purged {
            producer.poll(Duration::from_millis(1));
        }
        let mut aborted = Abort::GivenUp;
        for _ in 0..ABORTS {
            let Err(error) = producer.abort_transaction(CALL) else {
                producer.context().take_undelivered();
                return Abort::Done;
            };
            tracing::info!(ledger = self.name, %error, "the transaction was not aborted");
            producer.poll(Duration::ZERO);
            match &error {
                KafkaError::Transaction(e) if e.is_fatal() => {
                    aborted = Abort::Fatal(log_error("aborting", error));
                    break;
                }
                KafkaError::Transaction(e) if e.is_retriable() => {}
                _ => break,
            }
        }
        self.producer = None; // the next one's start aborts what this one left
        aborted
    }

    /// After a failure: aborts, and says what a further try may expect.
    fn failed(&mut self, error: LogError) -> WriteError {
        let aborted = self.abort();
        let is_slow = self.took >= self.timeout.mul_f64(0.8);
        if is_slow {
            self.timeout = (self.timeout * 2).min(LONGEST);
            self.producer = None; // a producer's time-outs are fixed
            tracing::warn!(ledger = self.name, timeout = ?self.timeout, "a transaction was too slow: longer time-outs");
        }
        aborted.instead_of(error, is_slow)
    }

    /// Which of the records the broker refuses also when it is alone.
    fn refused(&mut self, records: &[&Outgoing], suspects: &[usize]) -> Result<Vec<usize>, WriteError> {
        if let [only] = suspects {
            return Ok(vec![*only]);
        }
        let mut refused = Vec::new();
        for suspect in suspects.iter().copied() {
            let Some(producer) = &self.producer else { return Err(WriteError::CutOff(lost())) };
            let alone = self.hand_over(producer, &[records[suspect]]);
            let aborted = self.abort();
            match alone {
                Err(Fault::Undelivered(faults)) if faults.iter().any(|(_, error)| is_refusal(error)) => {
                    refused.push(suspect);
                }
                _ => {}
            }
            if let Some(error) = aborted.cut_off(lost) {
                return Err(error);
            }
        }
        Ok(refused)
    }

    /// Commits what was handed over.
    fn commit(&mut self) -> Result<(), WriteError> {
        let Some(producer) = &self.producer else { return Err(WriteError::CutOff(lost())) };
        let Err(error) = producer.commit_transaction(CALL) else { return Ok(()) };
        producer.poll(Duration::ZERO);
        match &error {
            KafkaError::Transaction(e) if e.txn_requires_abort() => {
                Err(self.failed(LogError::away("committing", error)))
            }
            KafkaError::Transaction(e) if e.is_retriable() => {
                Err(WriteError::Unanswered(LogError::away("committing", error)))
            }
            _ => {
                self.producer = None;
                Err(WriteError::CutOff(LogError::away("committing", error)))
            }
        }
    }
}

impl Transactions for KafkaTransactions {
    fn newest(&mut self) -> Result<Option<Progress>, LedgerError> {
        self.history.newest()
    }

    fn is_newer_than(&mut self, generation: u64) -> Result<bool, LedgerError> {
        self.history.is_newer_than(generation)
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.producer = None;
        if self.is_worn() {
            self.timeout = self.shortest();
        }
        self.producer = Some(self.connect()?);
        Ok(())
    }

    fn write(&mut self, records: &[&Outgoing]) -> Result<(), WriteError> {
        let Some(producer) = &self.producer else { return Err(WriteError::CutOff(lost())) };
        let started = Instant::now();
        let handed = self.hand_over(producer, records);
        let is_fatal = producer.client().fatal_error().is_some();
        self.took = started.elapsed();
        let fault = match handed {
            Ok(()) => return self.commit(),
            Err(fault) => fault,
        };
        match fault {
            Fault::Undelivered(faults) if faults.iter().any(|(_, error)| is_refusal(error)) => {
                let suspects: Vec<usize> = faults.iter().filter(|(_, e)| is_refusal(e)).map(|(i, _)| *i).collect();
                let reason = faults.into_iter().find(|(_, error)| is_refusal(error));
                let reason = reason.map_or_else(lost, |(_, error)| log_error("writing a record", error));
                // Without a producer: what was refused will be refused again, by one that can go on.
                if let Some(error) = self.abort().cut_off(|| may_pass(reason.clone())) {
                    return Err(error);
                }
                match self.refused(records, &suspects)? {
                    // Refused only together: as one batch they were too large.
                    none if none.is_empty() => {
                        self.apart.extend(suspects.iter().map(|suspect| records[*suspect].topic.clone()));
                        Err(WriteError::NotWritten(may_pass(reason)))
                    }
                    refused => Err(WriteError::Refused(refused, reason)),
                }
            }
            Fault::Undelivered(mut faults) => {
                let (_, error) = faults.swap_remove(0);
                Err(self.failed(log_error("writing a record", error)))
            }
            Fault::Call(error) if is_fatal || is_fenced(&error) => {
                self.producer = None;
                Err(WriteError::CutOff(LogError::away("writing", error)))
            }
            Fault::Call(error) => Err(self.failed(log_error("writing", error))),
            Fault::Log(error) => {
                self.abort(); // this one says more than what follows from it
                Err(WriteError::NotWritten(error))
            }
        }
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        self.commit()
    }

    /// A long time-out lets an abandoned transaction hold back all readers for as long: it goes when it is not needed.
    fn is_worn(&self) -> bool {
        self.timeout > self.shortest() && self.took < self.shortest() / 4
    }
}

/// What became of a transaction that was to end without effect.
enum Abort {
    /// It did, and the producer can go on.
    Done,
    /// The producer is given up.
    GivenUp,
    /// So it is, for an error that no further try with it mends.
    Fatal(LogError),
}

impl Abort {
    /// What a write that failed comes to if its producer is gone: the abort's own error, where it says why, goes before.
    fn cut_off(self, error: impl FnOnce() -> LogError) -> Option<WriteError> {
        match self {
            Self::Done => None,
            Self::GivenUp => Some(WriteError::CutOff(error())),
            Self::Fatal(fatal) => Some(WriteError::CutOff(fatal)),
        }
    }

    /// What a write comes to that failed with an error; `is_over` if its producer is done with, whatever the abort says.
    fn instead_of(self, error: LogError, is_over: bool) -> WriteError {
        match self.cut_off(|| may_pass(error.clone())) {
            Some(cut_off) => cut_off,
            None if is_over => WriteError::CutOff(may_pass(error)),
            None => WriteError::NotWritten(error),
        }
    }
}

/// What went wrong while records were handed over.
enum Fault {
    /// Records that the broker did not take, by index.
    Undelivered(Vec<(usize, KafkaError)>),
    /// A call of the client failed.
    Call(KafkaError),
    /// The client reported something that no retry mends.
    Log(LogError),
}

/// Waits until the broker has answered for all that was handed over. Polls here and not in `flush`, which waits in
/// steps of 100 ms.
fn answered(producer: &BaseProducer<Context>) -> Result<(), Fault> {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
        producer.context().check().map_err(Fault::Log)?;
    }
    Ok(())
}

fn lost() -> LogError {
    LogError::away("writing", "the producer was given up")
}

/// An error after which the same batch is worth another try, with another producer.
fn may_pass(error: LogError) -> LogError {
    if error.is_retriable() { error } else { LogError::away("writing", error) }
}

fn fatal(producer: &BaseProducer<Context>, error: KafkaError) -> LogError {
    let reason = producer.client().fatal_error().map(|(_, reason)| reason);
    // Others that become the only writer at the same moment are worth another try.
    match is_fenced(&error) {
        true => LogError::away("becoming the only writer", error),
        false => LogError::failed(reason.as_deref().unwrap_or("becoming the only writer"), error),
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    let fenced = [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch];
    error.rdkafka_error_code().is_some_and(|code| fenced.contains(&code))
}

/// Whether the broker will never take the record, whoever sends it and when.
fn is_refusal(error: &KafkaError) -> bool {
    let refusals = [Code::MessageSizeTooLarge, Code::InvalidMessageSize, Code::InvalidTimestamp, Code::InvalidRecord];
    error.rdkafka_error_code().is_some_and(|code| refusals.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_fields::Chain;

    #[test]
    fn a_fatal_error_of_an_abort_is_told_in_place_of_what_it_came_after() {
        let told = |aborted: Abort, is_over: bool| {
            let (what, error) = match aborted.instead_of(LogError::away("writing", "the first error"), is_over) {
                WriteError::NotWritten(error) => ("not written", error),
                WriteError::CutOff(error) => ("cut off", error),
                other => panic!("{other:?}"),
            };
            assert_eq!(error.is_retriable(), !Chain(&error).to_string().contains("no right"));
            (what, Chain(&error).to_string().contains("the first error"))
        };
        assert_eq!(told(Abort::Done, false), ("not written", true));
        assert_eq!(told(Abort::Done, true), ("cut off", true));
        assert_eq!(told(Abort::GivenUp, false), ("cut off", true));
        let fatal = || Abort::Fatal(LogError::refused("aborting", "no right to the transactional id"));
        assert_eq!([false, true].map(|is_over| told(fatal(), is_over)), [("cut off", false); 2]);
    }
}
