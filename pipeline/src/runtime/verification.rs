//! Starts the verification of streams: their ledgers, companions and what was kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context as _;
use squall_connectors::station::StationDecoder;
use squall_fields::KnowledgeTime;
use squall_models::scores::list;
use squall_operators::decisions::Keeper;
use squall_operators::events;
use squall_operators::infer::device::Device;
use squall_operators::infer::{Resumed, Rules};
use squall_operators::kept;
use squall_operators::offload::{Aside, Service};
use squall_operators::ports::{Ledger, LedgerError, ReportDecoder};
use squall_operators::progress::{Progress, StreamState};
use squall_operators::publish::Publisher;
use squall_operators::source::Clock;
use squall_operators::source::budget::Budget;
use squall_operators::stations::ReportReader;
use squall_operators::stream::StreamContext;
use squall_operators::verify::{
    Archive, Handover, Judge, Ledger as Sums, PublishedFile, Report, Scorer, Skill, Tools, Whereabouts,
};

use super::{
    Base, Claim, LARGEST_FILE, Opened, Parts, Role, STOP_WITHIN, beside, budget, dead_letters, decided, decoder,
    recorded, retry,
};
use crate::config::{Config, StreamConfig, VerificationConfig};
use crate::devices::{self, Devices, ModelFactory};
use crate::graph::{self, CompanionPlan, StationsPlan, StreamPlan, VerificationPlan};
use crate::inputs::{self, Inputs};
use crate::threads;
use crate::topics::STATION_BYTES;
use crate::watch;

/// Tasks that wait for the thread that scores.
const WAITING: usize = 64;

/// The models beside those of streams, on threads of their own, on which forecasts are scored, too.
pub(super) struct Companions(Devices, Aside);

impl Companions {
    /// Starts those of streams.
    ///
    /// # Errors
    /// As [`devices::start`], or the system gives no threads.
    pub(super) fn start(streams: &[&StreamConfig], factory: &ModelFactory) -> anyhow::Result<Self> {
        let of = |stream: &&StreamConfig| -> Vec<StreamConfig> {
            stream.companions.iter().map(|(name, companion)| stream.of_companion(name, companion)).collect()
        };
        let all: Vec<StreamConfig> = streams.iter().flat_map(of).collect();
        let is_verified = streams.iter().any(|stream| stream.verification.is_some() || !stream.companions.is_empty());
        let aside = if is_verified { Aside::start(threads::give_way)? } else { Aside::default() };
        Ok(Self(devices::start(&all.iter().collect::<Vec<_>>(), factory, &aside)?, aside))
    }
}

/// What was opened, by name.
type Named = (Arc<str>, (Opened, Box<dyn Ledger>));

/// Opens the ledger of a stream's verification, if it has one. A verification that is new to a stream begins where the
/// stream is.
///
/// # Errors
/// As those of the stream's own ledger.
pub(super) fn open(
    config: &Config,
    stream: &StreamConfig,
    of_stream: &Opened,
    parts: &Parts,
    deadline: Instant,
) -> anyhow::Result<Option<Named>> {
    let Some(verification) = &stream.verification else { return Ok(None) };
    let name = stream.scores_name();
    let claim = Claim {
        settings: graph::verification_settings(stream, verification),
        reset: [&stream.name, &name].iter().any(|name| parts.reset.contains(*name)),
        name: name.clone(),
    };
    let (mut opened, ledger) = super::open(config, stream, &claim, parts, deadline)?;
    if opened.progress.positions.is_empty() {
        let Progress { frontier, positions, decisions, state, .. } = of_stream.progress.clone();
        let state = StreamState { windows: Vec::new(), ..state };
        opened.progress = Progress { frontier, positions, decisions, state, ..opened.progress };
    }
    let look = |what: &dyn Fn() -> anyhow::Result<Inputs>| retry(parts, deadline, "asking for partitions", what);
    let connect = &*parts.connect;
    if let Some(truth) = &stream.inputs.truth {
        opened.truth = Some(look(&|| inputs::look(config, truth, connect))?);
    }
    if let Some(stations) = &stream.inputs.stations {
        opened.stations = Some(look(&|| inputs::look_at(config, &stations.topic, STATION_BYTES, connect))?);
    }
    Ok(Some((name, (opened, ledger))))
}

/// What is kept under a prefix, as it is written.
fn read<T: serde::de::DeserializeOwned>(base: &Base<'_>, prefix: &str) -> anyhow::Result<Vec<(String, T)>> {
    let topic = &base.config.topics.progress;
    let kept =
        retry(base.parts, base.deadline, "reading what is kept", || Ok(base.parts.connect.kept(topic, prefix)?))?;
    let entry = |(key, value): &(bytes::Bytes, bytes::Bytes)| {
        let read = serde_json::from_slice(value).map_err(|error| LedgerError::progress(prefix, error));
        Ok((String::from_utf8_lossy(key).into_owned(), read.with_context(|| format!("what is kept under {prefix}"))?))
    };
    kept.iter().map(entry).collect()
}

/// What the machine's clock decides about a companion: what was decided before is decided again.
fn rules(
    base: &Base<'_>,
    companion: &StreamConfig,
    keeper: &Keeper,
    (clock, committed): (Clock, KnowledgeTime),
) -> anyhow::Result<Rules> {
    if let Some(recorded) = recorded(base.config, &companion.name, base.parts, base.deadline)? {
        return Ok(Rules::Recorded(recorded.into()));
    }
    let (Clock::Wall { .. }, Some(skip_older_than)) = (clock, companion.skip_older_than) else {
        return Ok(Rules::Clean);
    };
    let recorded = decided(base.config, keeper, base.parts, base.deadline)?.into();
    Ok(Rules::Resumed(Resumed { recorded, before: committed.unix_ms(), skip_older_than }))
}

/// Everything that the verification of a stream needs; the stream's own plan is told to whom it hands over.
///
/// # Errors
/// What is kept cannot be read, or the system gives no thread.
pub(super) fn plan(
    base: &Base<'_>,
    of_stream: &mut StreamPlan,
    verification: &VerificationConfig,
    companions: &Companions,
    opened: Opened,
    ledger: Option<Box<dyn Ledger>>,
) -> anyhow::Result<VerificationPlan> {
    let Base { config, parts, shared, deadline, processes } = base;
    let stream = &of_stream.stream;
    let Opened { progress, inputs, is_new, truth, stations, steering } = opened;
    let (topic, instance, name) = (&config.topics.progress, &config.name, stream.scores_name());
    let context = StreamContext {
        budget: Budget::new(budget(config, processes.count())).into(),
        // What the stream has forecast is to be scored, wherever the verification was that is repeated.
        until: of_stream.context.until,
        ..StreamContext::new(name.clone(), of_stream.context.home)
    };
    let empty: Arc<[_]> = list::start(&verification.scores, &verification.settings())?.into();
    let mut names: Vec<&'static str> = Vec::new();
    for name in &verification.scores {
        let count = list::start(&[name], &verification.settings())?.len();
        names.resize(names.len() + count, *name);
    }
    let measures: Arc<[_]> = list::start(&verification.measures(), &verification.settings())?.into();
    let whereabouts = Whereabouts::new(topic.clone(), instance, &stream.name);
    let archive = Archive::new(topic.clone(), instance, &stream.name);
    let (mut judge, mut handover, mut stale) = (None, None, Vec::new());
    let mut devices: BTreeMap<Arc<str>, Device> = BTreeMap::new();
    if ledger.is_some() {
        let mut sums = read(base, archive.prefix())?;
        let mut standings = read(base, archive.standings())?;
        if is_new {
            // What a verification summed to that has begun anew since.
            let keys = sums.drain(..).map(|(key, _)| key).chain(standings.drain(..).map(|(key, _)| key));
            stale = keys.map(|key| kept::record(topic, key, None::<&()>)).collect();
            let of = |name: &Arc<str>| Keeper::new(topic.clone(), instance, name);
            let companions = stream.companions.keys().map(|companion| of(&stream.companion_name(companion)));
            let keepers: Vec<Keeper> = companions.chain([of(&name)]).collect();
            stale.extend(super::forgotten(base, &keepers.iter().collect::<Vec<_>>())?);
        }
        let committed = of_stream.progress.as_ref().map(|progress| progress.frontier).unwrap_or_default();
        let files: Vec<(String, PublishedFile)> = read(base, whereabouts.prefix())?;
        let files = files.into_iter().map(|(_, file)| file).filter(|file| file.known_at < committed).collect();
        let shared_handover = Arc::new(Handover::new(committed, files));
        of_stream.handover = Some((shared_handover.clone(), whereabouts.clone()));
        handover = Some(shared_handover);
        let tools = Tools {
            scratch: parts.scratch.clone(),
            store: parts.store.clone(),
            decoder: parts.forecasts.clone(),
            max_bytes: LARGEST_FILE,
            empty: empty.clone(),
            measures: measures.clone(),
            regions: verification.regions(),
        };
        let mut scorer = Scorer::new(tools, &context);
        let (of_scores, aside) = (format!("scores {}", stream.name), companions.1.clone());
        let thread = Service::each(&of_scores, WAITING, move |task| aside.run(|| scorer.answer(task)))?;
        thread.health().attach(&context.control);
        let patience = (verification.behind_after.as_secs() / 3600) as u32;
        let standings = standings.into_iter().map(|(_, standing)| standing);
        let skill = Skill::new(measures, stream.baselines(), patience, standings);
        // Metrics know nothing of before, and the next hour may be long in closing.
        skill.at_start().iter().for_each(|standing| events::Stands { stream: &stream.name, standing }.emit());
        judge =
            Some(Judge { thread, ledger: Sums::new(sums.into_iter().map(|(_, sums)| sums).collect()), archive, skill });
        for (name, companion) in &stream.companions {
            let stream = stream.of_companion(name, companion);
            let thread = companions.0.threads.get(&stream.device).context("every companion has a device")?;
            let has_model = !companions.0.without_model.contains(&stream.name);
            watch::start(&stream, config.runtime.clock, thread.clone(), context.control.clone(), has_model)?;
            devices.insert(name.clone(), thread.clone());
        }
    }
    let beside_it = stream.companions.iter().map(|(name, companion)| {
        let of_companion = stream.of_companion(name, companion);
        let keeper = Keeper::new(topic.clone(), instance, &of_companion.name);
        let device = devices.remove(name);
        let rules = match device {
            Some(_) => rules(base, &of_companion, &keeper, (inputs.clock, progress.frontier))?,
            None => Rules::Clean,
        };
        let publisher = |_| {
            let publisher = super::publisher(instance, &of_companion, parts.store.clone(), parts.encoder.clone());
            Publisher { aside: companions.1.clone(), ..publisher }
        };
        let publisher = companion.topics.as_ref().map(publisher);
        Ok(CompanionPlan { name: name.clone(), publisher, device, rules, keeper, stream: of_companion })
    });
    let beside_it: Vec<CompanionPlan> = beside_it.collect::<anyhow::Result<_>>()?;
    let truth = beside(base, stream, Role::Truth, truth);
    let steering = beside(base, stream, Role::SteeringAgain, steering);
    let decoders = || -> Vec<Arc<dyn ReportDecoder>> { vec![Arc::new(StationDecoder::default())] };
    let stations = stream.inputs.stations.clone().zip(stations);
    let stations = stations.map(|(of, inputs)| {
        let reads = |other: &&StreamConfig| other.inputs.stations.as_ref().is_some_and(|s| s.topic == of.topic);
        let keeps_dead = config.streams.iter().find(reads).is_some_and(|first| first.name == stream.name);
        StationsPlan { config: of, inputs, reader: ReportReader::new(decoders(), STATION_BYTES), keeps_dead }
    });
    Ok(VerificationPlan {
        dead_letters: judge.is_some().then(|| dead_letters(config, parts, *deadline)).transpose()?,
        truth,
        stations,
        steering,
        config: verification.clone(),
        inputs,
        progress,
        ledger: Mutex::new(ledger),
        judge: Mutex::new(judge),
        stale,
        connect: parts.connect.clone(),
        decoder: decoder(stream, parts, shared),
        companions: beside_it,
        recorded: recorded(config, &name, parts, *deadline)?.map(Arc::new),
        keeper: Keeper::new(topic.clone(), instance, &name),
        handover,
        whereabouts,
        report: Report {
            instance: instance.clone(),
            stream: stream.name.clone(),
            statistics: verification.topics.statistics.clone(),
            scores: verification.topics.scores.clone(),
            empty,
            names: names.into(),
            hours: graph::hours(verification),
        },
        stop_within: STOP_WITHIN,
        context,
        stream: stream.clone(),
    })
}
