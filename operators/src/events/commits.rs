//! What happens to ledgers and what they commit.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use squall_fields::{Chain, ForecastId, KnowledgeTime};

use crate::ports::{LogError, Outgoing};

/// A ledger is claimed.
pub struct Claiming<'a> {
    /// Name of the ledger.
    pub ledger: &'a str,
    /// Which claim it is.
    pub generation: u64,
}

impl Claiming<'_> {
    /// Logs it.
    pub fn emit(self) {
        tracing::info!(ledger = self.ledger, generation = self.generation, "claiming the ledger");
    }
}

/// The log will never take a record of ours: everything else of its transaction is committed without it.
pub struct RecordRefused<'a> {
    /// Name of the ledger.
    pub ledger: &'a str,
    /// The record.
    pub record: &'a Outgoing,
    /// What the log said.
    pub reason: &'a LogError,
}

impl RecordRefused<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { ledger, record: Outgoing { topic, key, value, .. }, reason } = self;
        let key = key.as_deref().map(String::from_utf8_lossy);
        let bytes = value.as_ref().map_or(0, bytes::Bytes::len);
        let reason = Chain(reason).to_string();
        tracing::error!(ledger, %topic, key = key.as_deref(), bytes, reason, "the log refuses a record; it is left out");
        counter!("squall_refused_records_total", "ledger" => ledger.to_owned(), "topic" => topic.to_string())
            .increment(1);
    }
}

/// A forecast was committed.
pub struct ForecastPublished<'a> {
    /// Which one.
    pub id: &'a ForecastId,
    /// Name of the model.
    pub model: &'a str,
    /// Whether it is less than it should be.
    pub degraded: bool,
    /// From the arrival of the last frame that it needed to the commit.
    pub latency: Duration,
}

impl ForecastPublished<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { id, model, degraded, latency } = self;
        let latency_ms = latency.as_millis() as u64;
        tracing::info!(stream = %id.stream, issue_time = %id.issue_time, revision = id.revision, model, degraded, latency_ms, "forecast");
        let stream = id.stream.to_string();
        let labels = [("stream", stream.clone()), ("model", model.to_owned()), ("degraded", degraded.to_string())];
        counter!("squall_forecasts_total", &labels).increment(1);
        histogram!("squall_latency_seconds", "stream" => stream.clone()).record(latency.as_secs_f64());
        gauge!("squall_newest_issue_time_seconds", "stream" => stream).set(id.issue_time.unix_seconds() as f64);
    }
}

/// A transaction was committed.
pub struct Committed<'a> {
    /// Name of the ledger.
    pub ledger: &'a str,
    /// Records in it.
    pub records: usize,
    /// Everything known before it is committed.
    pub frontier: KnowledgeTime,
    /// How long it took.
    pub took: Duration,
}

impl Committed<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { ledger, records, frontier, took } = self;
        let took_ms = took.as_millis() as u64;
        tracing::debug!(ledger, records, %frontier, took_ms, "committed");
        let name = ledger.to_owned();
        counter!("squall_commits_total", "ledger" => name.clone()).increment(1);
        counter!("squall_records_written_total", "ledger" => name.clone()).increment(records as u64);
        histogram!("squall_commit_seconds", "ledger" => name.clone()).record(took.as_secs_f64());
        gauge!("squall_committed_time_seconds", "ledger" => name).set(frontier.unix_ms() as f64 / 1000.0);
    }
}

/// A stream was asked to stop and ends without what is still under way; the next start makes it again.
pub struct StopGivesUp<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// How long it has waited.
    pub waited: Duration,
}

impl StopGivesUp<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, waited } = self;
        let waited_ms = waited.as_millis() as u64;
        tracing::warn!(
            stream,
            waited_ms,
            "stops without what is under way: the next start goes on from what is committed"
        );
        counter!("squall_stops_given_up_total", "stream" => stream.to_owned()).increment(1);
    }
}
