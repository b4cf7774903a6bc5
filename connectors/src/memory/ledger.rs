//! Transactions of a log in memory, and what a ledger needs of them.

use std::sync::Arc;

use squall_fields::error::AnyError;
use squall_operators::ports::{LedgerError, LogError, Outgoing, PartitionId};
use squall_operators::progress::Progress;

use super::{Entry, MemoryLog, Outcome, State, Transaction, Verdict};
use crate::claims::{Transactions, WriteError};
use crate::progress::read_progress;

/// Writes in transactions. Only the newest of an id may write.
pub struct Transactional {
    log: MemoryLog,
    id: String,
    epoch: u64,
    open: Option<usize>,
}

impl Transactional {
    pub(super) fn open(log: MemoryLog, id: &str) -> Self {
        let mut state = log.state();
        let epoch = state.epochs.entry(id.to_owned()).and_modify(|e| *e += 1).or_insert(0);
        let epoch = *epoch;
        let left: Vec<usize> = (0..state.transactions.len())
            .filter(|t| state.transactions[*t].id == id && state.transactions[*t].outcome == Outcome::Open)
            .collect();
        for transaction in left {
            state.finish(transaction, Outcome::Aborted);
        }
        drop(state);
        log.shared.news.notify_all();
        Self { log, id: id.to_owned(), epoch, open: None }
    }

    fn checked<T>(
        &mut self,
        act: impl FnOnce(&mut State, &mut Option<usize>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let log = self.log.clone();
        let mut state = log.state();
        if state.epochs.get(&self.id) != Some(&self.epoch) {
            return Err(LedgerError::Fenced { ledger: self.id.clone() });
        }
        let result = act(&mut state, &mut self.open);
        drop(state);
        log.shared.news.notify_all();
        result
    }

    /// Writes a record in the open transaction, which it opens if there is none.
    pub fn send(&mut self, record: Outgoing) -> Result<(), LedgerError> {
        let (now, id) = (self.log.now_ms(), self.id.clone());
        self.checked(|state, open| {
            let transaction = *open.get_or_insert_with(|| {
                state.transactions.push(Transaction {
                    id: id.clone(),
                    outcome: Outcome::Open,
                    touched: Default::default(),
                });
                state.transactions.len() - 1
            });
            let sent = state.append(record, Some(transaction), now);
            sent.map(drop).map_err(|error| LedgerError::log(&id, error))
        })
    }

    /// Makes the open transaction visible.
    pub fn commit(&mut self) -> Result<(), LedgerError> {
        self.finish(Outcome::Committed)
    }

    /// Discards the open transaction.
    pub fn abort(&mut self) -> Result<(), LedgerError> {
        self.finish(Outcome::Aborted)
    }

    fn finish(&mut self, outcome: Outcome) -> Result<(), LedgerError> {
        self.checked(|state, open| {
            if let Some(transaction) = open.take() {
                state.finish(transaction, outcome);
            }
            Ok(())
        })
    }
}

/// The transactions of a ledger in a log in memory.
pub(super) struct MemoryTransactions {
    log: MemoryLog,
    name: String,
    progress_topic: Arc<str>,
    writer: Option<Transactional>,
}

impl MemoryTransactions {
    pub(super) fn new(log: MemoryLog, name: &str, progress_topic: &str) -> Self {
        Self { log, name: name.to_owned(), progress_topic: progress_topic.into(), writer: None }
    }
}

impl Transactions for MemoryTransactions {
    fn newest(&mut self) -> Result<Option<Progress>, LedgerError> {
        let state = self.log.state();
        let id = PartitionId::new(self.progress_topic.clone(), 0);
        let Some(topic) = state.topics.get(&id.topic) else {
            let topic = id.topic.to_string();
            return Err(LedgerError::log(&self.name, LogError::NoTopic { topic }));
        };
        // Up to the very end: an open transaction of another ledger hides nothing here.
        let ours = topic.partitions[0].iter().rev().find_map(|entry| match entry {
            Entry::Record { stored, transaction } if stored.key.as_deref() == Some(self.name.as_bytes()) => {
                let committed = transaction.is_none_or(|t| state.transactions[t].outcome == Outcome::Committed);
                committed.then(|| stored.value.clone())
            }
            _ => None,
        });
        ours.flatten().map(|value| read_progress(&self.name, &value)).transpose()
    }

    fn is_newer_than(&mut self, generation: u64) -> Result<bool, LedgerError> {
        Ok(self.newest()?.is_some_and(|progress| progress.claim.generation > generation))
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.writer = Some(self.log.transactional(&self.name));
        Ok(())
    }

    fn write(&mut self, records: &[&Outgoing]) -> Result<(), WriteError> {
        let cut_off = |error: AnyError| WriteError::CutOff(LogError::away("writing", error));
        let Some(writer) = &mut self.writer else { return Err(cut_off("there is no writer".into())) };
        for (index, record) in records.iter().enumerate() {
            match writer.send((*record).clone()) {
                Ok(()) => {}
                Err(error @ LedgerError::Fenced { .. }) => return Err(cut_off(error.into())),
                Err(LedgerError::Log { source, .. }) => {
                    writer.abort().map_err(|error| cut_off(error.into()))?;
                    return Err(match source {
                        error @ LogError::TooLarge { .. } => WriteError::Refused(vec![index], error),
                        error => WriteError::NotWritten(error),
                    });
                }
                Err(other) => return Err(WriteError::NotWritten(LogError::failed("writing", other))),
            }
        }
        let ended = match self.log.verdict(&self.name) {
            Verdict::Proceed => return writer.commit().map_err(|error| cut_off(error.into())),
            Verdict::FailAfter(error) => writer.commit().map(|()| WriteError::CutOff(error)),
            Verdict::FailBefore(error) => writer.abort().map(|()| WriteError::NotWritten(error)),
        };
        Err(ended.unwrap_or_else(|error| cut_off(error.into())))
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        // A commit here is answered or cut off.
        Err(WriteError::CutOff(LogError::away("committing", "nothing was handed over")))
    }
}
