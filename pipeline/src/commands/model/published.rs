//! What a stream has published, as samples that its model is calibrated by.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use ndarray::Axis;
use squall_fields::ValidTime;
use squall_models::calibration::{Calibration, Samples};

use super::calibrate::{Fitted, corrections, relative};
use crate::commands::verify::chosen;
use crate::commands::{Overrides, Usage, duration, time};
use crate::config::{Config, ModelConfig, StreamConfig, to_toml};
use crate::devices;
use crate::verify::topic::OfStream;

/// Forecasts of a stream, from its topics.
#[derive(Debug, Args)]
pub(super) struct PublishedArguments {
    /// Configuration of a stream whose published forecasts are fitted to, in place of events.
    #[arg(long, conflicts_with_all = ["model", "data", "events"], value_name = "CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    /// The stream; may be left out if there is only one.
    #[arg(long, requires = "config", value_name = "NAME")]
    stream: Option<String>,
    /// Forecasts that were issued up to this time; from which on says --from.
    #[arg(long, requires = "config", value_name = "TIME", value_parser = time)]
    until: Option<ValidTime>,
    /// Forecasts that were issued since so long before now, such as 7d.
    #[arg(long, requires = "config", conflicts_with = "from", value_name = "TIME", value_parser = duration)]
    last: Option<Duration>,
}

impl PublishedArguments {
    /// What was fitted, as text of the file `output`, and what is told of it.
    ///
    /// # Errors
    /// Topics or the model cannot be read, or nothing was published with that model.
    pub(super) fn fitted(
        &self,
        output: &Path,
        from: Option<ValidTime>,
        every: usize,
    ) -> anyhow::Result<(String, String)> {
        let Some(path) = &self.config else { return Err(Usage("expected --model or --config".to_owned()).into()) };
        let config: Config = self.overrides.load(path)?;
        let stream = chosen(&config, self.stream.as_deref())?;
        let (base, before) = match &stream.model {
            ModelConfig::Calibrated { base, calibration, .. } => (&**base, calibration.as_deref()),
            model => (model, None),
        };
        let digest = devices::model(stream)?.digest().to_owned();
        let of_base = devices::model(&StreamConfig { model: base.clone(), ..stream.clone() })?.digest().to_owned();
        let since = |last: Duration| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            ValidTime::from_unix_seconds(now.saturating_sub(last).as_secs() as i64)
        };
        let from = from.or(self.last.map(since));
        let of_stream = OfStream::read(&config, stream, (from, self.until), false)?;
        let variables = stream.source.variables.clone();
        let leads = stream.lead_times();
        let mut samples = vec![vec![Samples::default(); leads.len()]; variables.len()];
        let (mut forecasts, mut others, mut members) = (0, 0, 0);
        of_stream.for_each(|file, observations| {
            if file.model_digest() != Some(&digest) {
                others += 1;
                return Ok(1);
            }
            (forecasts, members) = (forecasts + 1, file.members());
            file.for_each_lead(observations, |lead, ensembles, observed| {
                let Some(place) = leads.iter().position(|known| *known == lead) else { return };
                for (variable, of_variable) in file.variables().iter().enumerate() {
                    let Some(wanted) = variables.iter().position(|known| known == of_variable) else { continue };
                    let (members, observed) =
                        (ensembles.index_axis(Axis(0), variable), observed.index_axis(Axis(0), variable));
                    samples[wanted][place].add(members, observed, every);
                }
            })
        })?;
        let (name, instance) = (&stream.name, &config.name);
        anyhow::ensure!(
            forecasts > 0,
            "the {others} forecasts of stream {name} in that time were made by another model than {digest}, which it has now"
        );
        if members < 2 {
            return Err(Usage(format!("stream {name}: one member has no spread to correct")).into());
        }
        let (variables, told) = corrections(&variables, stream.source.cadence, &samples, before)?;
        let fitted_to = vec![format!("{instance}/{name}")];
        let calibration = Calibration { digest: of_base, members, fitted_to, variables };
        let head = format!(
            "# Written by `squall model calibrate --config`: {forecasts} forecasts that {instance} published on stream {name}; \
             {others} of another model were left out.\n"
        );
        let model = relative(output, base)?;
        Ok((head + &to_toml(&Fitted { model: &model, calibration: Some(calibration) }), told))
    }
}
