//! Who may commit to a ledger, and what became of a commit whose answer was lost: the same for every log.
//!
//! Opening a ledger commits a *claim*: the progress as it was, with the next generation. The newest claim is the owner's.
//! A writer that was cut off from its log cannot know whether it still is the owner, nor whether its last commit took
//! place; becoming the log's only writer again would answer neither and would cut off a successor. So it first looks
//! whether a newer claim was committed, and stops if there is one, without having written or fenced anything. Only then it
//! becomes the only writer, and reads once more: its own last commit means that the batch is sent again, the batch
//! itself that it is done, a newer generation that it stops. A successor that a predecessor cut off in this
//! way takes its place again by the same rule, since its claim is the newer one. An opening that was cut off amid its claim
//! and is tried again stops, too, if another claimed meanwhile: that one came later.

use squall_operators::events;
use squall_operators::ports::{Ledger, LedgerError, LogError, Opening, Outgoing};
use squall_operators::progress::{Claim, Progress};

use crate::progress::progress_record;

/// How often a claim is made anew that another writer cut off.
const CLAIMS: usize = 20;
/// How often the answer to a claim is asked for again. Without one, the next opening finds out.
const ANSWERS: usize = 10;

/// Why a transaction was not written, or is not known to be.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Nothing of it is visible, and the same writer may try again.
    NotWritten(LogError),
    /// Everything was handed over, the answer is missing: to be asked for by [`Transactions::finish`].
    Unanswered(LogError),
    /// The writer is of no use any more. Whether the transaction took place is not known.
    CutOff(LogError),
    /// Nothing of it is visible: the log will never take these of its records, given by index.
    Refused(Vec<usize>, LogError),
}

/// What a log must offer to keep a ledger.
pub(crate) trait Transactions: Send {
    /// The newest progress that was committed under the ledger's key. Waits for transactions under way that could have
    /// committed one.
    fn newest(&mut self) -> Result<Option<Progress>, LedgerError>;

    /// Whether a progress of a newer generation was committed. Waits for nothing else than what could be one.
    fn is_newer_than(&mut self, generation: u64) -> Result<bool, LedgerError>;

    /// Becomes the only writer: others are cut off, and what they left open is discarded.
    fn begin(&mut self) -> Result<(), LogError>;

    /// Writes records in one transaction.
    fn write(&mut self, records: &[&Outgoing]) -> Result<(), WriteError>;

    /// Asks again for the answer to a transaction that was handed over.
    fn finish(&mut self) -> Result<(), WriteError>;

    /// Whether another writer would serve better than the present one.
    fn is_worn(&self) -> bool {
        false
    }
}

/// What is known of the own place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The only writer, with nothing open.
    Sure,
    /// A batch was handed over and not answered.
    Unanswered,
    /// Cut off: whether it is the owner must be read.
    Doubtful,
}

/// A ledger on a log with transactions.
pub(crate) struct ClaimedLedger<T> {
    name: String,
    progress_topic: String,
    log: T,
    /// The claim with the newest own commit; none before it is opened.
    claim: Option<Claim>,
    /// The newest claim that was tried.
    tried: Option<Claim>,
    standing: Standing,
    /// Records of the batch under way that the log will never take.
    refused: Vec<usize>,
}

impl<T: Transactions> ClaimedLedger<T> {
    pub(crate) fn new(name: &str, progress_topic: &str, log: T) -> Self {
        let (name, progress_topic) = (name.to_owned(), progress_topic.to_owned());
        let (claim, tried, refused) = (None, None, Vec::new());
        Self { name, progress_topic, log, claim, tried, standing: Standing::Doubtful, refused }
    }

    fn of_log(&self, error: LogError) -> LedgerError {
        LedgerError::log(&self.name, error)
    }

    fn fenced(&self) -> LedgerError {
        LedgerError::Fenced { ledger: self.name.clone() }
    }

    /// Takes the place of the only writer again, if it is still ours; whether `batch` was committed already.
    fn take_place(&mut self, last: &Claim, batch: &Claim) -> Result<bool, LedgerError> {
        if self.log.is_newer_than(last.generation)? {
            return Err(self.fenced());
        }
        self.log.begin().map_err(|error| LedgerError::log(&self.name, error))?;
        // From here on nobody can commit unseen: whoever does cuts this writer off first.
        match self.log.newest()?.map(|progress| progress.claim) {
            Some(newest) if newest == *batch => Ok(true),
            Some(newest) if newest == *last => Ok(false),
            Some(newest) if newest.generation >= last.generation => Err(self.fenced()),
            _ => {
                let lost =
                    format!("the progress of commit {} is gone from topic {}", last.commits, self.progress_topic);
                Err(LedgerError::progress(&self.name, lost))
            }
        }
    }

    /// Writes a batch without what the log refuses.
    fn write(&mut self, records: &[Outgoing], progress: &Outgoing) -> Result<(), WriteError> {
        loop {
            let kept: Vec<usize> = (0..records.len()).filter(|index| !self.refused.contains(index)).collect();
            let taken: Vec<&Outgoing> = kept.iter().map(|index| &records[*index]).chain([progress]).collect();
            match self.log.write(&taken) {
                Err(WriteError::Refused(which, error)) => {
                    let refused: Vec<usize> = which.iter().filter_map(|at| kept.get(*at).copied()).collect();
                    if refused.is_empty() {
                        return Err(WriteError::NotWritten(error)); // the progress itself
                    }
                    for index in refused {
                        let (record, reason) = (&records[index], &error);
                        events::RecordRefused { ledger: &self.name, record, reason }.emit();
                        self.refused.push(index);
                    }
                }
                other => return other,
            }
        }
    }

    /// What opening finds in the log: the progress to go on from.
    fn found(&self, newest: Option<Progress>, opening: &Opening<'_>) -> Result<Progress, LedgerError> {
        let newest = newest.unwrap_or_default(); // nothing was committed yet
        let claim = newest.claim.clone();
        if opening.reset {
            return Ok(Progress { claim, settings: opening.settings.clone(), ..Progress::default() });
        }
        let differences = newest.differences(opening.settings);
        if !differences.is_empty() {
            let (ledger, differences) = (self.name.clone(), differences.join(", "));
            return Err(LedgerError::Settings { ledger, differences });
        }
        Ok(Progress { settings: opening.settings.clone(), ..newest })
    }
}

impl<T: Transactions> ClaimedLedger<T> {
    /// Stops an opening that is tried again if another claimed after it had tried first.
    fn stop_if_late(&self, newest: Option<&Claim>) -> Result<(), LedgerError> {
        let newer = |tried: &Claim| newest.is_some_and(|n| n.generation >= tried.generation && n != tried);
        if self.tried.as_ref().is_some_and(newer) { Err(self.fenced()) } else { Ok(()) }
    }

    /// Commits a claim; whether it is known to be committed. If not, the writer was cut off.
    fn claim(&mut self, progress: &Progress) -> Result<bool, LedgerError> {
        events::Claiming { ledger: &self.name, generation: progress.claim.generation }.emit();
        let record = progress_record(&self.progress_topic, &self.name, progress)?;
        let mut written = self.log.write(&[&record]);
        for _ in 0..ANSWERS {
            let Err(WriteError::Unanswered(_)) = &written else { break };
            written = self.log.finish();
        }
        match written {
            Ok(()) => Ok(true),
            Err(WriteError::CutOff(error)) if error.is_retriable() => Ok(false),
            Err(
                WriteError::NotWritten(error)
                | WriteError::Refused(_, error)
                | WriteError::Unanswered(error)
                | WriteError::CutOff(error),
            ) => Err(self.of_log(error)),
        }
    }
}

impl<T: Transactions> Ledger for ClaimedLedger<T> {
    fn open(&mut self, opening: &Opening<'_>) -> Result<Progress, LedgerError> {
        let owner = self.tried.as_ref().map_or_else(|| uuid::Uuid::new_v4().to_string(), |tried| tried.owner.clone());
        if self.tried.is_some() {
            let newest = self.log.newest()?; // without cutting anybody off
            self.stop_if_late(newest.as_ref().map(|progress| &progress.claim))?;
        }
        for _ in 0..CLAIMS {
            self.log.begin().map_err(|error| self.of_log(error))?;
            // Read after the predecessor was cut off: it can commit no more.
            let newest = self.log.newest()?;
            self.stop_if_late(newest.as_ref().map(|progress| &progress.claim))?;
            let found = self.found(newest, opening)?;
            let before = found.claim.generation;
            let claim = Claim { generation: before + 1, owner: owner.clone(), commits: 0 };
            let progress = Progress { claim: claim.clone(), ..found };
            self.tried = Some(claim.clone());
            let claimed = self.claim(&progress)?;
            self.standing = if claimed { Standing::Sure } else { Standing::Doubtful };
            if !claimed && self.log.is_newer_than(before)? {
                // One of two that claimed at the same time, or a claim whose answer was lost.
                let newest = self.log.newest()?.map(|progress| progress.claim);
                if newest.as_ref() != Some(&claim) {
                    return Err(self.fenced());
                }
            } else if !claimed {
                continue; // cut off by one that had no newer claim: this one has
            }
            self.claim = Some(claim);
            return Ok(progress);
        }
        Err(self.of_log(LogError::away("claiming", format!("{CLAIMS} claims were cut off by others"))))
    }

    fn commit(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), LedgerError> {
        let not_opened = || LedgerError::NotOpened { ledger: self.name.clone() };
        let last = self.claim.clone().ok_or_else(not_opened)?;
        let batch = Claim { commits: last.commits + 1, ..last.clone() };
        let is_done = self.standing == Standing::Doubtful && self.take_place(&last, &batch)?;
        let written = match self.standing {
            _ if is_done => Ok(()),
            Standing::Unanswered => self.log.finish(),
            Standing::Doubtful | Standing::Sure => {
                let stamped = Progress { claim: batch.clone(), ..progress.clone() };
                let record = progress_record(&self.progress_topic, &self.name, &stamped)?;
                self.write(records, &record)
            }
        };
        let (standing, answer) = match written {
            Ok(()) => {
                self.claim = Some(batch);
                self.refused.clear();
                (if self.log.is_worn() { Standing::Doubtful } else { Standing::Sure }, Ok(()))
            }
            Err(WriteError::NotWritten(error) | WriteError::Refused(_, error)) => (Standing::Sure, Err(error)),
            Err(WriteError::Unanswered(error)) => (Standing::Unanswered, Err(error)),
            Err(WriteError::CutOff(error)) => (Standing::Doubtful, Err(error)),
        };
        self.standing = standing;
        answer.map_err(|error| self.of_log(error))
    }
}

#[cfg(test)]
mod tests;
