//! One forecast from files: the pure cores of the stream, without the stream.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use squall_fields::{Forecast, Frame, IssueTime, KnowledgeTime, ValidTime};
use squall_operators::dead_letter::Reason;
use squall_operators::infer::device::ModelSlot;
use squall_operators::infer::{InferConfig, assemble, request};
use squall_operators::quality::{Cleaner, Quality};
use squall_operators::source::Origin;
use squall_operators::window::{Fired, Fresh, WindowBuffer};

use crate::archive::{Archive, read_options};
use crate::commands::Usage;
use crate::config::StreamConfig;
use crate::{devices, graph};

/// Makes forecasts of one stream from an archive.
pub struct Once<'a> {
    stream: &'a StreamConfig,
    config: InferConfig,
    cleaner: Cleaner,
    model: ModelSlot,
    winds: Option<Arc<Archive>>,
}

impl<'a> Once<'a> {
    /// Loads the stream's model.
    ///
    /// # Errors
    /// The model cannot be made, or does not fit the stream.
    pub fn new(stream: &'a StreamConfig) -> anyhow::Result<Self> {
        let model = devices::slot(stream, &devices::model)?;
        Ok(Self {
            stream,
            config: graph::infer_config(stream),
            cleaner: Cleaner::new(&graph::quality_config(stream)),
            model,
            winds: None,
        })
    }

    /// The forecast of an issue time, from the frames of its window that the archive holds. A frame that quality
    /// control refuses is missing, as it is in the stream.
    ///
    /// # Errors
    /// The archive holds no usable frame of the window, or neither the model nor its fallback gave a forecast.
    pub fn forecast(&mut self, archive: &Archive, issue_time: IssueTime) -> anyhow::Result<Forecast> {
        let wanted = self.oldest(issue_time)..=issue_time.slot();
        let places = archive.slots().enumerate().filter(|(_, slot)| wanted.contains(slot));
        self.forecast_from(places.map(|(place, _)| Ok(Arc::new(archive.frame(place)?))), issue_time)
    }

    /// The same from frames in the order of their slots; others than those of the window do no harm.
    ///
    /// # Errors
    /// As [`Once::forecast`], and the first error of the frames.
    pub fn forecast_from(
        &mut self,
        frames: impl Iterator<Item = anyhow::Result<Arc<Frame>>>,
        issue_time: IssueTime,
    ) -> anyhow::Result<Forecast> {
        let fired = self.window(frames, issue_time)?;
        self.forecast_fired(&fired)
    }

    /// The forecast of a window that fired.
    ///
    /// # Errors
    /// Neither the model nor its fallback gave a forecast.
    pub fn forecast_fired(&mut self, fired: &Fired) -> anyhow::Result<Forecast> {
        let asked = request(&self.config, fired);
        let answer = self.model.answer(&self.stream.device, &[asked]).pop().context("the model gave no answer")?;
        let issue_time = fired.window.issue_time;
        assemble(&self.config, fired, answer).with_context(|| format!("no forecast for {issue_time}"))
    }

    /// Takes the wind that steers the stream's rain from an archive; without one there is none.
    #[must_use]
    pub fn steered_by(self, winds: Option<Arc<Archive>>) -> Self {
        Self { winds, ..self }
    }

    /// Asks for another number of members from now on.
    pub fn set_members(&mut self, members: usize) {
        self.config.members = members;
    }

    /// The oldest slot that a forecast looks at: telling stale frames takes some before the window.
    fn oldest(&self, issue_time: IssueTime) -> ValidTime {
        let before = self.stream.window_frames as i64 - 1 + i64::from(self.stream.source.quality.stale.unwrap_or(0));
        self.stream.source.cadence.step(issue_time.slot(), -before)
    }

    fn window(
        &self,
        frames: impl Iterator<Item = anyhow::Result<Arc<Frame>>>,
        issue_time: IssueTime,
    ) -> anyhow::Result<Fired> {
        let wanted = self.oldest(issue_time)..=issue_time.slot();
        let mut quality = Quality::new(graph::quality_config(self.stream));
        let mut windows = WindowBuffer::new(graph::window_config(self.stream));
        let mut refused = Vec::new();
        for frame in frames {
            let frame = frame?;
            let slot = frame.slot;
            if !wanted.contains(&slot) {
                continue;
            }
            match accept(&self.cleaner, &mut quality, frame) {
                Ok(frame) => {
                    windows.push(known_at(slot), vec![Fresh { frame, origin: Origin::default(), read_at_us: 0 }]);
                }
                Err((reason, detail)) => refused.push(format!("{slot}: {reason}, {detail}")),
            }
        }
        let mut window = windows.window(issue_time);
        window.steering = self.wind(issue_time)?;
        let window = Arc::new(window);
        for reason in &refused {
            tracing::warn!("frame refused: {reason}");
        }
        anyhow::ensure!(
            window.newest().is_some(),
            "no frame from {} to {issue_time} can be used{}",
            window.slot(0),
            refused.first().map_or_else(String::new, |reason| format!(": {reason}"))
        );
        Ok(Fired { window, revision: 0, known_at: known_at(issue_time.slot()), read_at_us: 0, trace: None })
    }

    /// The newest usable wind of its archive for a window.
    ///
    /// # Errors
    /// A wind cannot be read.
    pub(crate) fn wind(&self, issue_time: IssueTime) -> anyhow::Result<Option<Arc<Frame>>> {
        let Some((winds, steering)) = self.winds.as_ref().zip(self.stream.inputs.steering.as_ref()) else {
            return Ok(None);
        };
        let of_wind = StreamConfig { source: steering.source.clone(), ..self.stream.clone() };
        let config = graph::quality_config(&of_wind);
        let (cleaner, mut quality) = (Cleaner::new(&config), Quality::new(config));
        let oldest = ValidTime::from_unix_seconds(issue_time.unix_seconds() - steering.max_age.as_secs() as i64);
        let wanted = oldest..=issue_time.slot();
        let mut newest = None;
        for (place, _) in winds.slots().enumerate().filter(|(_, slot)| wanted.contains(slot)) {
            match accept(&cleaner, &mut quality, winds.frame(place)?.into()) {
                Ok(frame) => newest = Some(frame),
                Err((reason, detail)) => tracing::warn!("wind refused: {reason}, {detail}"),
            }
        }
        Ok(newest)
    }
}

fn accept(cleaner: &Cleaner, quality: &mut Quality, frame: Arc<Frame>) -> Result<Arc<Frame>, (Reason, String)> {
    let known_at = known_at(frame.slot);
    quality.check(cleaner.clean(frame), known_at).map(|(frame, _)| frame)
}

/// Says that a stream which is steered is forecast without its wind.
pub fn warn_unsteered(stream: &StreamConfig) {
    if stream.inputs.steering.is_some() {
        tracing::warn!(
            stream = &*stream.name,
            "without the wind of inputs.steering: rain whose motion cannot be seen stands still, where the stream moves it"
        );
    }
}

/// The files of the wind that steers a stream's rain, opened; a stream that is steered can do without.
///
/// # Errors
/// A file cannot be read, or nothing steers the stream.
pub fn winds(stream: &StreamConfig, files: &[PathBuf]) -> anyhow::Result<Option<Arc<Archive>>> {
    match (&stream.inputs.steering, files) {
        (Some(_), []) => {
            warn_unsteered(stream);
            Ok(None)
        }
        (Some(steering), files) => {
            Ok(Some(Archive::open(files, &read_options(&steering.source)).context("--steering")?.into()))
        }
        (None, []) => Ok(None),
        (None, _) => Err(Usage(format!("--steering: stream {} has no inputs.steering", stream.name)).into()),
    }
}

/// A frame of a file counts as known at its slot, as one that is published without delay.
fn known_at(slot: ValidTime) -> KnowledgeTime {
    KnowledgeTime::from_unix_ms(slot.unix_seconds() * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::simulate::frames;
    use crate::config::Layers;
    use squall_connectors::netcdf::{Storage, WriteOptions, write_frames};
    use squall_fields::Variable;
    use squall_models::simulate::StormSettings;

    const CONFIG: &str = r#"
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "radar"
window_frames = 3
leads = 2
members = 2
thresholds = [1.0]
model = { name = "extrapolation" }
"#;

    #[test]
    fn a_window_with_a_gap_says_so_and_one_without_frames_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let settings = StormSettings { rows: 64, columns: 64, ..StormSettings::default() };
        let mut frames = frames(settings, 5, &[Variable::RainRate]);
        frames.remove(3);
        let path = folder.path().join("storm.nc");
        let exact = WriteOptions { storage: Storage::Float, ..WriteOptions::default() };
        write_frames(&path, &frames, "storm", &exact).unwrap();
        let config = Layers::from_text("t.toml", CONFIG).load().unwrap();
        let stream = &config.streams[0];
        let archive = Archive::open(&[path], &crate::archive::read_options(&stream.source)).unwrap();
        let mut once = Once::new(stream).unwrap();

        let whole = once.forecast(&archive, frames[2].slot.into()).unwrap();
        assert_eq!((whole.provenance.window_mask.as_slice(), whole.is_degraded()), (&[true, true, true][..], false));
        assert_eq!(whole.ensembles[0].values.dim(), (2, 2, 64, 64));
        let gap = once.forecast(&archive, frames[3].slot.into()).unwrap();
        assert_eq!((gap.provenance.window_mask.as_slice(), gap.is_degraded()), (&[true, false, true][..], true));
        let early = stream.source.cadence.step(frames[0].slot, -1);
        assert!(once.forecast(&archive, early.into()).unwrap_err().to_string().starts_with("no frame from"));
    }
}
