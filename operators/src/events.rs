//! One struct for each thing that happens inside, whose `emit` gives the log line and the metrics at one place, so
//! that no metric is forgotten.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use squall_fields::{Chain, ForecastId, IssueTime, KnowledgeTime, ValidTime};

use crate::dead_letter::DeadLetter;
use crate::infer::ladder::{StandIn, Step};
use crate::ports::{LogError, Outgoing, PartitionId};
use crate::source::Loss;

/// A record was read.
pub struct RecordRead<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Where it was.
    pub partition: &'a PartitionId,
    /// Bytes of its value.
    pub bytes: u64,
    /// When it became known.
    pub known_at: KnowledgeTime,
}

impl RecordRead<'_> {
    /// Counts it.
    pub fn emit(self) {
        let labels = partition_labels(self.stream, self.partition);
        counter!("squall_records_total", &labels).increment(1);
        counter!("squall_bytes_total", &labels).increment(self.bytes);
        gauge!("squall_knowledge_time_seconds", &labels).set(self.known_at.unix_ms() as f64 / 1000.0);
    }
}

/// How far a reader is behind the end of its partition.
pub struct Lag<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Which partition.
    pub partition: &'a PartitionId,
    /// Offsets between the position and the end.
    pub offsets: i64,
}

impl Lag<'_> {
    /// Sets the gauge.
    pub fn emit(self) {
        gauge!("squall_lag_offsets", &partition_labels(self.stream, self.partition)).set(self.offsets.max(0) as f64);
    }
}

fn partition_labels(stream: &str, partition: &PartitionId) -> [(&'static str, String); 3] {
    let number = partition.partition.to_string();
    [("stream", stream.to_owned()), ("topic", partition.topic.to_string()), ("partition", number)]
}

/// A record became visible after the clock had passed its timestamp.
pub struct RecordLate<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Where it was.
    pub partition: &'a PartitionId,
    /// Its offset.
    pub offset: i64,
    /// When it counts as known.
    pub known_at: KnowledgeTime,
}

impl RecordLate<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, partition, offset, known_at } = self;
        tracing::info!(stream, %partition, offset, %known_at, "record became visible late; it takes the frontier's time");
        counter!("squall_late_records_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// A record's timestamp lies in the future, or far ahead of the records around it.
pub struct TimestampDoubted<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Where it was.
    pub partition: &'a PartitionId,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// When it counts as known.
    pub known_at: KnowledgeTime,
}

impl TimestampDoubted<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, partition, offset, timestamp_ms, known_at } = self;
        tracing::warn!(stream, %partition, offset, timestamp_ms, %known_at, "timestamp not believed; the record is known when the one before it is");
        counter!("squall_doubted_timestamps_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// The log does not have any more what was to be read, and the stream goes on without it.
pub struct PositionLost<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// What is lost.
    pub loss: &'a Loss,
}

impl PositionLost<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, loss } = self;
        tracing::warn!(stream, %loss, "position lost; going on from what is there");
        let [stream, topic, partition] = partition_labels(stream, loss.partition());
        let labels = [stream, topic, partition, ("kind", loss.name().to_owned())];
        counter!("squall_lost_positions_total", &labels).increment(1);
    }
}

/// A partition was added to a topic that is read.
pub struct NewPartition<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Which partition.
    pub partition: &'a PartitionId,
}

impl NewPartition<'_> {
    /// Logs it.
    pub fn emit(self) {
        tracing::info!(stream = self.stream, partition = %self.partition, "the topic has a new partition; it is read from now on");
    }
}

/// How far the broker's clock is ahead of the machine's, newly estimated.
pub struct BrokerClock<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// The broker's clock minus the machine's, in milliseconds; no more than it really is.
    pub offset_ms: i64,
}

impl BrokerClock<'_> {
    /// Sets the gauge.
    pub fn emit(self) {
        gauge!("squall_broker_clock_offset_seconds", "stream" => self.stream.to_owned())
            .set(self.offset_ms as f64 / 1000.0);
    }
}

/// The broker failed in a way that may pass.
pub struct BrokerTrouble<'a> {
    /// Name of the stream that waits.
    pub stream: &'a str,
    /// What was tried.
    pub what: &'static str,
    /// What the broker said.
    pub reason: String,
}

impl BrokerTrouble<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        tracing::warn!(stream = self.stream, reason = self.reason, "{} failed; trying again", self.what);
        counter!("squall_broker_errors_total", "stream" => self.stream.to_owned(), "what" => self.what).increment(1);
    }
}

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

/// A record was not used.
pub struct RecordRejected<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// The record and the reason.
    pub letter: &'a DeadLetter,
}

impl RecordRejected<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let DeadLetter { record, reason, detail, .. } = self.letter;
        let (partition, offset) = (&record.partition, record.offset);
        tracing::warn!(source = self.source, %partition, offset, %reason, detail, "record goes to dead letters");
        let labels = [("source", self.source.to_owned()), ("reason", reason.name().to_owned())];
        counter!("squall_dead_letters_total", &labels).increment(1);
    }
}

/// A frame passed quality control.
pub struct FrameAccepted<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Its slot.
    pub slot: ValidTime,
    /// Whether it replaces another frame of the slot.
    pub correction: bool,
}

impl FrameAccepted<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, slot, correction } = self;
        tracing::debug!(stream, %slot, correction, "frame");
        let kind = if correction { "correction" } else { "new" };
        counter!("squall_frames_total", "stream" => stream.to_owned(), "kind" => kind).increment(1);
        gauge!("squall_newest_slot_seconds", "stream" => stream.to_owned()).set(slot.unix_seconds() as f64);
    }
}

/// A frame came after every window that it could serve was over.
pub struct FrameTooLate<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Its slot.
    pub slot: ValidTime,
    /// When it became known.
    pub known_at: KnowledgeTime,
}

impl FrameTooLate<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, slot, known_at } = self;
        tracing::warn!(stream, %slot, %known_at, "frame came after the horizon: no forecast uses it");
        counter!("squall_frames_total", "stream" => stream.to_owned(), "kind" => "too_late").increment(1);
    }
}

/// A window fired.
pub struct WindowFired<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Its issue time.
    pub issue_time: IssueTime,
    /// How often it has fired before.
    pub revision: u32,
    /// Slots that are missing.
    pub missing: usize,
}

impl WindowFired<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, issue_time, revision, missing } = self;
        tracing::debug!(stream, %issue_time, revision, missing, "window");
        let kind = if missing == 0 { "complete" } else { "incomplete" };
        counter!("squall_windows_total", "stream" => stream.to_owned(), "kind" => kind).increment(1);
    }
}

/// A batch of requests was answered.
pub struct BatchAnswered<'a> {
    /// Name of the device.
    pub device: &'a str,
    /// Name of the stream.
    pub stream: &'a str,
    /// Requests in it.
    pub requests: usize,
    /// How long it took.
    pub took: Duration,
}

impl BatchAnswered<'_> {
    /// Counts it.
    pub fn emit(self) {
        let labels = [("device", self.device.to_owned()), ("stream", self.stream.to_owned())];
        histogram!("squall_inference_seconds", &labels).record(self.took.as_secs_f64());
        histogram!("squall_batch_requests", &labels).record(self.requests as f64);
    }
}

/// A model failed; a fallback answers if it can.
pub struct ModelFailed<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// For which issue time.
    pub issue_time: IssueTime,
    /// What it said.
    pub message: &'a str,
}

impl ModelFailed<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, model, issue_time, message } = self;
        tracing::error!(stream, model, %issue_time, message, "model failed");
        let labels = [("stream", stream.to_owned()), ("model", model.to_owned())];
        counter!("squall_model_failures_total", &labels).increment(1);
    }
}

/// A device has not answered by the deadline: the fallback is asked.
pub struct DeadlineMissed<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the device.
    pub device: &'a str,
    /// For which issue time.
    pub issue_time: IssueTime,
}

impl DeadlineMissed<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, device, issue_time } = self;
        tracing::warn!(stream, device, %issue_time, "no answer by the deadline; the fallback is asked");
        let labels = [("stream", stream.to_owned()), ("device", device.to_owned())];
        counter!("squall_deadlines_missed_total", &labels).increment(1);
    }
}

/// To keep the deadline less than all of a forecast was asked for, by what was measured before.
pub struct DeadlineForeseen<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// For which issue time.
    pub issue_time: IssueTime,
    /// What was asked for.
    pub step: Step,
    /// Until the deadline.
    pub left: Duration,
    /// What the device has to do before.
    pub queue: Duration,
}

impl DeadlineForeseen<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, issue_time, step, left, queue } = self;
        let (left_ms, queue_ms) = (left.as_millis() as u64, queue.as_millis() as u64);
        tracing::warn!(stream, %issue_time, ?step, left_ms, queue_ms, "there is no time for all of it; less is asked for");
        let name = match step {
            Step::Full => "full",
            Step::Less { steps: Some(_), members: _ } => "steps",
            Step::Less { steps: None, members: _ } => "members",
            Step::StandIn(StandIn::Extrapolation) => "extrapolation",
            Step::StandIn(StandIn::Persistence) => "persistence",
        };
        let labels = [("stream", stream.to_owned()), ("step", name.to_owned())];
        counter!("squall_deadlines_foreseen_total", &labels).increment(1);
    }
}

/// A window was not forecast: it is old, and a newer one waits.
pub struct WindowSkipped<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Its issue time.
    pub issue_time: IssueTime,
    /// How often it has fired before.
    pub revision: u32,
}

impl WindowSkipped<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, issue_time, revision } = self;
        tracing::warn!(stream, %issue_time, revision, "skipped: the window is old and a newer one waits");
        counter!("squall_windows_skipped_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// How a device is at this moment.
pub struct DeviceState<'a> {
    /// Name of the device.
    pub device: &'a str,
    /// How long it has been silent while something waited; zero for one that answers, or has nothing to answer.
    pub silent_for: Duration,
    /// Requests that wait for it.
    pub pending: usize,
}

impl DeviceState<'_> {
    /// Sets the gauges.
    pub fn emit(self) {
        let Self { device, silent_for, pending } = self;
        gauge!("squall_device_silent_seconds", "device" => device.to_owned()).set(silent_for.as_secs_f64());
        gauge!("squall_device_requests", "device" => device.to_owned()).set(pending as f64);
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

/// A model is in use from an issue time on.
pub struct ModelTakenUp<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// Its digest.
    pub digest: &'a str,
    /// Digest of the one that it replaces.
    pub before: Option<&'a str>,
    /// First issue time that it serves; `None` for the model at the start.
    pub from: Option<IssueTime>,
}

impl ModelTakenUp<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, model, digest, before, from } = self;
        let from = from.map_or_else(|| "the start".to_owned(), |t| t.to_string());
        tracing::info!(stream, model, digest, from, "model taken up");
        counter!("squall_models_taken_up_total", "stream" => stream.to_owned()).increment(1);
        let in_use =
            |digest: &str| gauge!("squall_model_in_use", "stream" => stream.to_owned(), "digest" => digest.to_owned());
        if let Some(before) = before {
            in_use(before).set(0.0);
        }
        in_use(digest).set(1.0);
    }
}

/// A model was loaded from its file.
pub struct ModelLoaded<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// How long it took.
    pub took: Duration,
}

impl ModelLoaded<'_> {
    /// Logs and measures it.
    pub fn emit(self) {
        let Self { stream, model, took } = self;
        tracing::info!(stream, model, took_ms = took.as_millis() as u64, "model loaded");
        gauge!("squall_model_load_seconds", "stream" => stream.to_owned()).set(took.as_secs_f64());
    }
}

/// A model cannot be loaded, or does not fit its stream.
pub struct ModelNotLoaded<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Why.
    pub reason: &'a str,
    /// What serves the stream instead.
    pub instead: &'a str,
}

impl ModelNotLoaded<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, reason, instead } = self;
        tracing::error!(stream, reason, "model cannot be loaded; {instead} goes on");
        counter!("squall_model_load_failures_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// A model was prepared on its device, so that the first request need not wait.
pub struct ModelWarmedUp<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// How long it took.
    pub took: Duration,
}

impl ModelWarmedUp<'_> {
    /// Logs and measures it.
    pub fn emit(self) {
        let Self { stream, model, took } = self;
        tracing::info!(stream, model, took_ms = took.as_millis() as u64, "model warmed up");
        gauge!("squall_model_warm_up_seconds", "stream" => stream.to_owned()).set(took.as_secs_f64());
    }
}

/// A forecast could not be made or published at all.
pub struct ForecastLost<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// For which issue time.
    pub issue_time: IssueTime,
    /// Why.
    pub reason: &'a str,
}

impl ForecastLost<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, issue_time, reason } = self;
        tracing::error!(stream, %issue_time, reason, "no forecast");
        counter!("squall_forecasts_lost_total", "stream" => stream.to_owned()).increment(1);
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
