//! The processes that run a configuration together: this one alone, or those of a cluster.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use sha2::{Digest, Sha256};
use squall_fields::{Chain, Failure};
use squall_operators::stream::StreamContext;

use super::Parts;
use super::workers::Place;
use crate::cluster::{Hosts, Identity, Link, Mesh, Opened, Peers};
use crate::config::Config;
use crate::graph;

/// Who runs a configuration.
pub(super) struct Processes {
    workers: usize,
    hosts: Option<Hosts>,
    peers: Option<Arc<Peers>>,
    place: Option<Place>,
}

impl Processes {
    /// Those of a configuration; of a cluster of one process there is nobody to meet.
    pub(super) fn new(config: &Config, parts: &Parts) -> Self {
        let hosts = parts.hosts.clone().filter(|hosts| hosts.processes() > 1);
        Self { workers: config.runtime.workers.max(1), hosts, peers: None, place: None }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.hosts.as_ref().map_or(1, Hosts::processes)
    }

    /// The worker, among those of all processes, where a stream is at home.
    pub(super) fn home(&self, stream: usize) -> usize {
        graph::home(stream, self.workers, self.count())
    }

    /// Whether that is one of this process.
    pub(super) fn is_home(&self, stream: usize) -> bool {
        self.home(stream) / self.workers == self.hosts.as_ref().map_or(0, |hosts| hosts.process)
    }

    /// Connects with the others.
    ///
    /// # Errors
    /// They do not come, or run something else.
    pub(super) fn meet(self, config: &Config, parts: &Parts, deadline: Instant) -> anyhow::Result<Self> {
        let Some(hosts) = &self.hosts else { return Ok(self) };
        let identity = Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: config.name.to_string(),
            processes: self.count(),
            workers: self.workers,
            settings: settings(config)?,
        };
        let Mesh { words, frames } = Mesh::connect(hosts, &identity, deadline, &*parts.pause)?;
        tracing::info!(process = hosts.process, processes = hosts.processes(), "the cluster is complete");
        let peers = Peers::start(hosts.clone(), words)?;
        let link = |(process, stream): (usize, Option<std::net::TcpStream>)| {
            let peers = peers.clone();
            Some(Link::new(stream?, Arc::new(move |why| peers.lose(process, &why))))
        };
        let frames: Vec<Option<Link>> = frames.into_iter().enumerate().map(link).collect();
        let place = Place { process: hosts.process, frames };
        Ok(Self { place: Some(place), peers: Some(peers), ..self })
    }

    /// Has the first process prepare what all need; the others wait for it.
    ///
    /// # Errors
    /// It cannot be prepared, or nobody says that it is.
    pub(super) fn prepare(
        &self,
        deadline: Instant,
        parts: &Parts,
        prepare: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match (&self.peers, &self.hosts) {
            (Some(peers), Some(hosts)) if hosts.process > 0 => Ok(peers.await_prepared(deadline, &*parts.pause)?),
            (peers, _) => {
                prepare()?;
                peers.iter().for_each(|peers| peers.tell_prepared());
                Ok(())
            }
        }
    }

    /// Tells the others what is committed of a stream at home here.
    pub(super) fn tell_opened(&self, stream: &Arc<str>, opened: &Opened) {
        if let Some(peers) = &self.peers {
            peers.tell_opened(stream, opened.clone());
        }
    }

    /// What is committed of a stream at home elsewhere.
    ///
    /// # Errors
    /// Its home does not say.
    pub(super) fn await_opened(&self, stream: &str, deadline: Instant, parts: &Parts) -> anyhow::Result<Opened> {
        let peers = self.peers.as_ref().ok_or_else(|| anyhow::anyhow!("stream {stream} is at home nowhere"))?;
        Ok(peers.await_opened(stream, deadline, &*parts.pause)?)
    }

    /// Has the streams hear and tell the others; `abandoned` is set when the workers cannot come to an end.
    pub(super) fn attach(&self, streams: &[StreamContext], abandoned: &Arc<AtomicBool>) {
        if let Some(peers) = &self.peers {
            peers.attach(streams, abandoned.clone());
        }
    }

    /// Where this process stands, once.
    pub(super) fn place(&mut self) -> Option<Place> {
        self.place.take()
    }

    /// What tells the others how this process ends.
    pub(super) fn goodbye(&self) -> impl FnOnce(Option<&Failure>) + use<> {
        let peers = self.peers.clone();
        move |failure| {
            if let Some(peers) = peers {
                peers.leave(failure.map(|failure| Chain(failure).to_string()));
            }
        }
    }

    /// Leaves the others before anything ran.
    pub(super) fn leave(&self, reason: Option<String>) {
        if let Some(peers) = &self.peers {
            peers.leave(reason);
        }
    }
}

/// Digest of the settings that decide what is computed.
fn settings(config: &Config) -> anyhow::Result<String> {
    let Config { runtime, topics, sources, streams, .. } = config;
    let settings = serde_json::to_vec(&(runtime, topics, sources, streams))?;
    Ok(hex::encode(&Sha256::digest(settings)[..8]))
}
