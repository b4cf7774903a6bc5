//! What happens to requests, devices and models.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use squall_fields::IssueTime;

use crate::infer::ladder::{StandIn, Step};

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
