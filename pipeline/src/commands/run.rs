//! `squall run`: forecasts until it is told to stop, or until the log ends.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use squall_fields::Chain;

use super::{ConfigFile, Usage};
use crate::cluster::Hosts;
use crate::http::{Endpoint, collect_metrics};
use crate::runtime::{Parts, Runtime, isolated_decoders};
use crate::signals::Stop;
use crate::{config, connect};

/// How long the end may take after a signal. Streams give up what is under way after 8 s.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall run configs/radar.toml
  squall run configs/radar.toml --set runtime.workers=4 --log-format json
  squall run replay.toml --as-recorded=squall --set name=replay
  SQUALL__LOG__BOOTSTRAP_SERVERS=broker:9092 squall run configs/radar.toml

The first SIGINT or SIGTERM stops reading, finishes and commits what is in flight, and exits 0; a second one exits at
once. Whatever was committed is never made again: a new start goes on from there. With runtime.clock = \"log\" it ends
by itself at the end of the log; nothing is then decided by the machine's clock, unless --as-recorded takes what a live
run decided from its topic of progress, for forecasts that are equal to the last bit. A changed topic, cadence or window needs --reset-progress for its
stream. Metrics, health and frontiers: see [metrics] and `squall inspect frontiers`.";

/// Arguments of `squall run`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Forgets what a stream has committed and starts it anew, from the beginning of its topics. What it published
    /// stays, and is published once more. May be given several times.
    #[arg(long, value_name = "STREAM")]
    reset_progress: Vec<String>,
    /// A replay that repeats what the clock decided in the live run of INSTANCE (default: of this name): late records,
    /// degraded forecasts, skipped windows, and how far time went after the newest record. Needs runtime.clock = "log",
    /// and the topic of progress of that run.
    #[arg(long, value_name = "INSTANCE", num_args = 0..=1, require_equals = true, conflicts_with = "clean")]
    as_recorded: Option<Option<String>>,
    /// A replay that decides nothing by the clock: every window is forecast in full (the default).
    #[arg(long)]
    clean: bool,
    /// Runs as one of several processes: a file with HOST:PORT of each, one a line. All have the same configuration.
    #[arg(long, value_name = "FILE", requires = "process")]
    hosts: Option<PathBuf>,
    /// Which of them this is; the first line is process 0.
    #[arg(long, value_name = "N", requires = "hosts")]
    process: Option<usize>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let as_recorded = self.as_recorded.map(|instance| instance.unwrap_or_else(|| config.name.to_string()));
        if config.runtime.clock == config::Clock::Wall && (as_recorded.is_some() || self.clean) {
            let flag = if self.clean { "--clean" } else { "--as-recorded" };
            return Err(Usage(format!("{flag} is for a replay: expected runtime.clock = \"log\"")).into());
        }
        if config.log.kind == config::LogKind::Memory {
            tracing::warn!("log.kind is \"memory\": nothing can reach this instance from outside");
        }
        for name in &self.reset_progress {
            let verified = config.streams.iter().filter(|stream| stream.verification.is_some());
            let scores: Vec<_> = verified.map(config::StreamConfig::scores_name).collect();
            let names: Vec<&str> =
                config.streams.iter().map(|stream| &stream.name).chain(&scores).map(|n| &**n).collect();
            if !names.contains(&name.as_str()) {
                return Err(Usage(format!("--reset-progress {name}: the streams are {}", names.join(", "))).into());
            }
        }
        let hosts = match (&self.hosts, self.process) {
            (Some(path), Some(process)) => Some(Hosts::read(path, process)?),
            _ => None,
        };
        if hosts.as_ref().is_some_and(|hosts| hosts.processes() > 1) && config.log.kind == config::LogKind::Memory {
            return Err(
                Usage("log.kind is \"memory\": several processes need a log that all of them reach".into()).into()
            );
        }
        let stop = Stop::on_signal()?;
        let _within = stop.within(END_WITHIN)?;
        let metrics = match &config.metrics {
            Some(metrics) => Some((metrics.listen, collect_metrics()?)),
            None => None,
        };
        let mut parts = Parts::new(&config, connect::log(&config), connect::store(&config)?);
        parts.decoders = Box::new(isolated_decoders);
        parts.reset = self.reset_progress.iter().map(|name| name.as_str().into()).collect();
        parts.as_recorded = as_recorded;
        parts.hosts = hosts;
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
