//! Transactions of a log in memory, and the ledger on top of them.

use std::sync::Arc;

use squall_operators::ports::{Ledger, LedgerError, LogError, Outgoing, PartitionId};
use squall_operators::progress::Progress;

use super::{Entry, MemoryLog, Outcome, State, Transaction, Verdict};
use crate::progress::{progress_record, read_progress};

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

/// The ledger of a stream in a log in memory.
pub(super) struct MemoryLedger {
    log: MemoryLog,
    name: String,
    progress_topic: Arc<str>,
    writer: Option<Transactional>,
}

impl MemoryLedger {
    pub(super) fn new(log: MemoryLog, name: &str, progress_topic: &str) -> Self {
        Self { log, name: name.to_owned(), progress_topic: progress_topic.into(), writer: None }
    }

    fn write(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), LedgerError> {
        let last = progress_record(&self.progress_topic, &self.name, progress)?;
        let not_opened = || LedgerError::NotOpened { ledger: self.name.clone() };
        let writer = self.writer.as_mut().ok_or_else(not_opened)?;
        let sent = records.iter().cloned().chain([last]).try_for_each(|record| writer.send(record));
        let verdict = self.log.verdict(&self.name);
        match (sent, verdict) {
            (Ok(()), Verdict::Proceed) => writer.commit(),
            (Ok(()), Verdict::FailAfter(error)) => writer.commit().and(Err(error)),
            (Ok(()), Verdict::FailBefore(error)) | (Err(error), _) => writer.abort().and(Err(error)),
        }
    }
}

impl Ledger for MemoryLedger {
    fn open(&mut self) -> Result<Option<Progress>, LedgerError> {
        self.writer = Some(self.log.transactional(&self.name));
        let state = self.log.state();
        let id = PartitionId::new(self.progress_topic.clone(), 0);
        let Some(topic) = state.topics.get(&id.topic) else {
            let topic = id.topic.to_string();
            return Err(LedgerError::log(&self.name, LogError::NoTopic { topic }));
        };
        let end = state.stable_end(&id.topic, 0);
        let ours = topic.partitions[0][..end].iter().rev().find_map(|entry| match entry {
            Entry::Record { stored, transaction } if stored.key.as_deref() == Some(self.name.as_bytes()) => {
                let committed = transaction.is_none_or(|t| state.transactions[t].outcome == Outcome::Committed);
                committed.then(|| stored.value.clone())
            }
            _ => None,
        });
        ours.flatten().map(|value| read_progress(&self.name, &value)).transpose()
    }

    fn commit(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), LedgerError> {
        self.write(records, progress)
    }
}
