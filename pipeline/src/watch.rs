//! Takes up a newer model file, of weights or of what was fitted, while the stream runs.
//!
//! A file is looked at now and then; once it has changed and rests, the new model is loaded beside the old one,
//! checked against the stream, and handed to the device thread, which changes over at one issue time. A file that
//! cannot be loaded or does not fit is reported, and the old model goes on. A stream that could not load its model at
//! the start gets it in the same way: it is tried again when the file changes, and every minute.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use squall_fields::{Cadence, Chain, IssueTime, ValidTime};
use squall_operators::control::Control;
use squall_operators::events;
use squall_operators::infer::device::{Device, NewModel, TakeUpError};

use crate::config::{Clock, ModelConfig, StreamConfig, calibrated};
use crate::devices;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(2);

/// How often a stream without a model tries to load the same file again: its device may have come back.
const RETRY: Duration = Duration::from_secs(60);

/// A file's size and time of change: equal twice in a row, it rests.
type Seen = Option<(u64, SystemTime)>;

fn look(path: &Path) -> Seen {
    let metadata = path.metadata().ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// The first issue time of a new model: live, the next slot; in a replay, whatever comes next.
fn from(clock: Clock, cadence: Cadence, now: SystemTime) -> IssueTime {
    match clock {
        Clock::Log => IssueTime::from_unix_seconds(i64::MIN),
        Clock::Wall => {
            let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
            let slot = cadence.slot_at_or_before(ValidTime::from_unix_seconds(seconds));
            cadence.step(slot, 1).into()
        }
    }
}

struct Watch {
    stream: StreamConfig,
    clock: Clock,
    device: Device,
    control: Arc<Control>,
    path: PathBuf,
    /// What the newest attempt to load was made on.
    loaded: Seen,
    /// Of a stream without a model: when it tries again.
    again: Option<Instant>,
}

impl Watch {
    fn turn(&mut self, before: Seen) -> Seen {
        let now = look(&self.path);
        let rests = now.is_some() && now == before;
        if rests && (now != self.loaded || self.again.is_some_and(|at| Instant::now() >= at)) {
            self.loaded = now;
            match self.take_up() {
                Ok(()) => self.again = None,
                Err(error) => {
                    let reason = format!("{}: {}", self.path.display(), Chain(error.as_ref()));
                    let instead = if self.again.is_some() { "the fallback" } else { "the old model" };
                    events::ModelNotLoaded { stream: &self.stream.name, reason: &reason, instead }.emit();
                    self.again = self.again.map(|_| Instant::now() + RETRY);
                }
            }
        }
        now
    }

    /// The stream with what its file says now.
    fn renewed(&self) -> anyhow::Result<StreamConfig> {
        let mut stream = self.stream.clone();
        if let ModelConfig::Calibrated { calibrated: path, .. } = &stream.model {
            stream.model = calibrated(path, &stream.device)?;
        }
        Ok(stream)
    }

    fn take_up(&self) -> anyhow::Result<()> {
        let stream = self.renewed()?;
        let model = devices::model(&stream)?;
        model.check(&stream.context())?;
        let (stream, from) = (stream.name.clone(), from(self.clock, stream.source.cadence, SystemTime::now()));
        let mut new = NewModel { stream, from, model };
        loop {
            match self.device.take_up(new) {
                Ok(()) => return Ok(()),
                Err(TakeUpError::Dead(lost)) => return Err(lost.into()),
                // The device has too much before it: the model waits with us.
                Err(TakeUpError::Full(model)) if self.control.pause_while_running(EVERY) => new = model,
                Err(TakeUpError::Full(_)) => return Ok(()),
            }
        }
    }
}

/// Watches the model file of a stream, if its configuration asks for it or it could not be loaded, until the stream ends.
///
/// # Errors
/// The thread cannot be started.
pub fn start(
    stream: &StreamConfig,
    clock: Clock,
    device: Device,
    control: Arc<Control>,
    has_model: bool,
) -> std::io::Result<()> {
    let (file, watch) = match &stream.model {
        ModelConfig::File { file, watch, .. } => (file, watch),
        // Weights that it corrects fit no other: where they change, it does.
        ModelConfig::Calibrated { calibrated, watch, .. } => (calibrated, watch),
        ModelConfig::Named(_) => return Ok(()),
    };
    let watches = watch.unwrap_or(clock == Clock::Wall);
    if has_model && !watches {
        return Ok(());
    }
    let again = (!has_model).then(|| Instant::now() + RETRY);
    let (path, loaded) = (file.clone(), look(file));
    let stream = stream.clone();
    let name = format!("watch {}", stream.name);
    let mut watch = Watch { stream, clock, device, control, path, loaded, again };
    std::thread::Builder::new().name(name).spawn(move || {
        let mut seen = watch.loaded;
        while (watches || watch.again.is_some()) && watch.control.pause_while_running(EVERY) {
            seen = watch.turn(seen);
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_stream_changes_at_the_next_slot() {
        let cadence = Cadence::every_seconds(300).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(from(Clock::Wall, cadence, now), IssueTime::from_unix_seconds(1_200));
        assert!(from(Clock::Log, cadence, now) < IssueTime::from_unix_seconds(0));
    }
}
