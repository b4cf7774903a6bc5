//! `squall store`: the files of forecasts.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::{Args, Subcommand};
use squall_connectors::store::ObjectFieldStore;
use squall_operators::encode::folder_name;
use squall_operators::ports::{Connect, Outgoing};

use super::{ConfigFile, Usage, duration, print};
use crate::config::{Config, LogKind, StreamConfig, format_bytes};
use crate::connect;
use crate::gc::{self, Fate, Plan, Pointer, Rules};

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Removes files that no record points at and, if asked, forecasts that are too old.
    #[command(after_help = "Examples:
  squall store gc configs/radar.toml --dry-run
  squall store gc configs/radar.toml --keep '30 d'

A file is an orphan if no committed index record points at it and none can come any more: it is older than
--older-than, and its stream has committed later forecasts. Only files of the configuration's streams are looked at:
give each configuration that shares a store. With --keep the index records of old forecasts are taken back first, by
tombstones, and then their files are removed. It may run beside `squall run`, as often as you like.")]
    Gc(Gc),
}

impl Store {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Gc(arguments) => arguments.run(),
        }
    }
}

/// Arguments of `squall store gc`.
#[derive(Debug, Args)]
pub struct Gc {
    #[command(flatten)]
    config: ConfigFile,
    /// Leave files that are younger alone.
    #[arg(long, default_value = "1 h", value_name = "AGE", value_parser = duration)]
    older_than: Duration,
    /// Remove forecasts whose issue time is longer ago, too.
    #[arg(long, value_name = "AGE", value_parser = duration)]
    keep: Option<Duration>,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        if config.log.kind == LogKind::Memory {
            return Err(Usage("log.kind is \"memory\": nothing says which files are in use".into()).into());
        }
        let rules = self.rules(&config)?;
        let connect = connect::log(&config);
        let store = ObjectFieldStore::open(&config.store.url).context("the store (store.url)")?;
        // In this order: what is committed after the files were listed is seen in the index.
        let files = store.list()?;
        let topics: std::collections::BTreeSet<&str> =
            config.streams.iter().flat_map(StreamConfig::all_topics).map(|of| &*of.index).collect();
        let index = gc::read(&*connect, &topics.into_iter().collect::<Vec<_>>()).context("nothing is removed")?;
        let plan = gc::plan(files, &index, &rules, SystemTime::now());
        if !self.dry_run {
            take_back(&*connect, &plan.tombstones)?;
            for (file, _) in plan.files.iter().filter(|(_, fate)| fate.is_removed()) {
                store.remove(&file.name)?;
            }
        }
        print(&report(&plan, store.url().unwrap_or_default(), self.dry_run));
        Ok(())
    }

    fn rules(&self, config: &Config) -> anyhow::Result<Rules> {
        // A forecast is read again until the hour of its last lead is closed.
        let judged = |stream: &StreamConfig| {
            let verification = stream.verification.as_ref()?;
            let reach = stream.source.cadence.step_seconds() as u64 * stream.leads as u64 + 3600;
            Some(Duration::from_secs(reach) + verification.horizon)
        };
        let after = |stream: &StreamConfig| stream.patience.max(stream.horizon).max(judged(stream).unwrap_or_default());
        let longest = config.streams.iter().map(after).max().unwrap_or_default();
        if let Some(keep) = self.keep.filter(|keep| *keep <= longest) {
            let (keep, longest) = (humantime::format_duration(keep), humantime::format_duration(longest));
            let reason = format!(
                "--keep {keep}: forecasts are still revised, or scored, after {longest} (horizon); keep them longer"
            );
            return Err(Usage(reason).into());
        }
        let with_companions = |stream: &StreamConfig| {
            let of_companion = |name: &Arc<str>| (folder_name(&stream.companion_name(name)), after(stream));
            let published = stream.companions.iter().filter(|(_, companion)| companion.topics.is_some());
            let companions = published.map(|(name, _)| of_companion(name));
            companions.chain([(folder_name(&stream.name), after(stream))]).collect::<Vec<_>>()
        };
        let streams = config.streams.iter().flat_map(with_companions).collect();
        Ok(Rules { streams, older_than: self.older_than, keep: self.keep })
    }
}

/// Writes tombstones for the keys of records, and waits until they are there for good.
fn take_back(connect: &dyn Connect, pointers: &[Pointer]) -> anyhow::Result<()> {
    if pointers.is_empty() {
        return Ok(());
    }
    let mut writer = connect.writer()?;
    for Pointer { partition, key, .. } in pointers {
        let (topic, key) = (partition.topic.clone(), Some(key.clone()));
        let partition = Some(partition.partition);
        writer.send(Outgoing { topic, partition, key, headers: vec![], value: None, timestamp_ms: None })?;
    }
    writer.flush(Duration::from_secs(60)).context("the index records were not taken back; no file was removed")
}

fn report(plan: &Plan, url: &str, dry_run: bool) -> String {
    let mut text = format!("{url}\n");
    for fate in Fate::ALL {
        let (count, bytes) = plan.count(fate);
        let done = match (fate.is_removed() && count > 0, dry_run) {
            (true, true) => "  would be removed",
            (true, false) => "  removed",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<34} {count:>8} {:>10}{done}", fate.describe(), format_bytes(bytes));
    }
    if !plan.tombstones.is_empty() {
        let (count, will) = (plan.tombstones.len(), if dry_run { "would be taken back" } else { "taken back" });
        let _ = writeln!(text, "  {:<34} {count:>8}             {will}", "index records");
    }
    text
}
