//! What others may know of a running configuration, and how they stop it.

use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::json;
use squall_fields::{Chain, ErrorKind, Failure, KnowledgeTime};
use squall_operators::infer::device::Device;
use squall_operators::stream::StreamContext;

use crate::http::{self, Unready};

/// The failures of all streams and workers as one: of the kind that says most about what to do, and with every text.
pub(super) fn together(mut failures: Vec<Failure>) -> Result<(), Failure> {
    failures.sort_by_key(|failure| match failure.kind() {
        ErrorKind::Internal => 0,
        ErrorKind::Fenced => 1,
        ErrorKind::Peer => 3,
        _ => 2,
    });
    let mut texts: Vec<String> = failures.iter().map(|failure| Chain(failure).to_string()).collect();
    texts.dedup(); // a worker that panics, or a process that is lost, fails every stream
    match (failures.as_slice(), texts.len()) {
        ([], _) => Ok(()),
        ([first, ..], 1) => Err(first.clone()),
        ([first, ..], _) => Err(Failure::new(first.kind(), texts.join("; "))),
    }
}

/// A configuration that runs.
pub struct Handle {
    pub(super) monitor: Arc<Monitor>,
    pub(super) supervisor: JoinHandle<Result<(), Failure>>,
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
    /// Why a stream failed.
    pub fn join(self) -> Result<(), Failure> {
        self.supervisor.join().unwrap_or_else(|panic| Err(Failure::panicked("the supervisor", &*panic)))
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

    /// Why streams failed so far.
    pub(super) fn failures(&self) -> impl Iterator<Item = Failure> {
        self.streams.iter().filter_map(|stream| stream.control.failure())
    }
}

impl http::Status for Monitor {
    fn live(&self) -> Result<(), Failure> {
        self.failures().next().map_or(Ok(()), Err)
    }

    fn ready(&self) -> Result<(), Unready> {
        self.live()?;
        if let Some(stream) = self.streams.iter().find(|stream| !stream.control.is_running()) {
            return Err(Unready::Ends { stream: stream.name.clone() });
        }
        self.devices.iter().find_map(Device::trouble).map_or(Ok(()), |trouble| Err(Unready::Device(trouble)))
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
            device.state().emit();
        }
    }
}
