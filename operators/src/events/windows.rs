//! What becomes of records and frames.

use metrics::{counter, gauge};
use squall_fields::{IssueTime, KnowledgeTime, ValidTime};

use crate::dead_letter::DeadLetter;

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
