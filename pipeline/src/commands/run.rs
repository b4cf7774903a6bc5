//! `squall run`: forecasts until it is told to stop, or until the log ends.

use std::time::Duration;

use clap::Args;
use squall_fields::Chain;

use super::ConfigFile;
use crate::http::{Endpoint, collect_metrics};
use crate::runtime::{Parts, Runtime, isolated_decoders};
use crate::signals::Stop;
use crate::{config, connect};

/// How long the end may take after a signal. Streams give up what is under way after 8 s.
const END_WITHIN: Duration = Duration::from_secs(12);

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall run configs/radar.toml
  squall run configs/radar.toml --set runtime.workers=4 --log-format json
  SQUALL__LOG__BOOTSTRAP_SERVERS=broker:9092 squall run configs/radar.toml

The first SIGINT or SIGTERM stops reading, finishes and commits what is in flight, and exits 0; a second one exits at
once. Whatever was committed is never made again: a new start goes on from there. With runtime.clock = \"log\" it ends
by itself at the end of the log. Metrics, health and frontiers: see [metrics] and `squall inspect frontiers`.";

/// Arguments of `squall run`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        if config.log.kind == config::LogKind::Memory {
            tracing::warn!("log.kind is \"memory\": nothing can reach this instance from outside");
        }
        let stop = Stop::on_signal()?;
        let _within = stop.within(END_WITHIN)?;
        let metrics = match &config.metrics {
            Some(metrics) => Some((metrics.listen, collect_metrics()?)),
            None => None,
        };
        let mut parts = Parts::new(&config, connect::log(&config), connect::store(&config)?);
        parts.decoders = Box::new(isolated_decoders);
        let (waits, stopped) = (stop.clone(), stop.clone());
        parts.pause = Box::new(move |wait| !waits.wait_for(wait));
        let handle = match Runtime::start_with(&config, parts) {
            Err(error) if stopped.is_set() => {
                tracing::warn!(error = %Chain(error.as_ref()), "stopped before it ran");
                return Ok(());
            }
            started => started?,
        };
        let endpoint = match metrics {
            Some((listen, metrics)) => Some(Endpoint::start(listen, metrics, handle.monitor())?),
            None => None,
        };
        if let Some(endpoint) = &endpoint {
            tracing::info!(address = %endpoint.address(), "metrics are served");
        }
        tracing::info!(name = &*config.name, streams = config.streams.len(), "running");
        stop.end(handle)?;
        tracing::info!("ended; everything is committed");
        Ok(())
    }
}
