//! What others may know of a running configuration, and how they stop it.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::anyhow;
use serde_json::json;
use squall_fields::KnowledgeTime;
use squall_operators::events;
use squall_operators::failure::{Cause, Failure};
use squall_operators::infer::device::Device;
use squall_operators::stream::StreamContext;

use crate::http;

/// A configuration ended before its time: why each stream failed, the first first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed(pub Vec<Failure>);

impl Failed {
    /// What decides what is done about it: a panic before all, then the first failure.
    pub fn cause(&self) -> Option<Cause> {
        let panic = self.0.iter().find(|failure| failure.is_panic());
        panic.or(self.0.first()).map(Failure::cause)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<_> = self.0.iter().map(Failure::to_string).collect();
        f.write_str(&reasons.join("; "))
    }
}

impl std::error::Error for Failed {}

/// A configuration that runs.
pub struct Handle {
    pub(super) monitor: Arc<Monitor>,
    pub(super) supervisor: JoinHandle<Result<(), Failed>>,
}

impl Handle {
    /// Asks to end cleanly: stop reading, finish what is in flight, commit. Returns at once.
    pub fn stop(&self) {
        self.monitor.stop();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// What others may look at and stop it by.
    pub fn monitor(&self) -> Arc<Monitor> {
        self.monitor.clone()
    }

    /// Waits for its end: of the log, after a stop, or by a failure.
    ///
    /// # Errors
    /// [`Failed`], if a stream failed.
    pub fn join(self) -> anyhow::Result<()> {
        Ok(self.supervisor.join().map_err(|_| anyhow!("the supervisor died"))??)
    }
}

/// Looks at a running configuration, from any thread.
pub struct Monitor {
    pub(super) streams: Vec<StreamContext>,
    pub(super) devices: Vec<Device>,
}

impl Monitor {
    /// Asks to end cleanly; see [`Handle::stop`].
    pub fn stop(&self) {
        for stream in &self.streams {
            stream.control.stop();
        }
    }

    /// Why streams failed so far: each reason once, since a panic of a worker fails all of them.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let mut failures: Vec<Failure> = self.streams.iter().filter_map(|stream| stream.control.failure()).collect();
        failures.dedup();
        failures
    }
}

impl http::Status for Monitor {
    fn live(&self) -> Result<(), String> {
        match self.failures().first() {
            Some(failure) => Err(failure.to_string()),
            None => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.live()?;
        if let Some(stream) = self.streams.iter().find(|stream| !stream.control.is_running()) {
            return Err(format!("stream {} ends", stream.name));
        }
        self.devices.iter().find_map(Device::trouble).map_or(Ok(()), Err)
    }

    fn frontiers(&self) -> serde_json::Value {
        let time = |tick: u64| KnowledgeTime::from_unix_ms(tick as i64).to_string();
        let stream = |stream: &StreamContext| {
            let operators = stream.frontiers.operators().into_iter();
            let operators: serde_json::Map<_, _> =
                operators.map(|(operator, frontier)| (operator.to_owned(), json!(frontier.map(time)))).collect();
            let partitions = stream.frontiers.partitions().into_iter();
            let partitions: serde_json::Map<_, _> =
                partitions.map(|(id, tick)| (id.to_string(), json!(time(tick)))).collect();
            (stream.name.to_string(), json!({"partitions": partitions, "operators": operators}))
        };
        serde_json::Value::Object(self.streams.iter().map(stream).collect())
    }

    fn observe(&self) {
        for device in &self.devices {
            events::DeviceSilence { device: device.name(), silent_for: device.silent_for() }.emit();
        }
    }
}
