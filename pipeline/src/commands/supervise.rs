//! `squall supervise`: the processes of a cluster on this machine, started anew together whenever one ends.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::Args;

use super::{ConfigFile, Usage};
use crate::cluster::Hosts;
use crate::signals::Stop;
use crate::supervise::supervise;

/// Examples that `--help` shows.
pub const EXAMPLES: &str = "Examples:
  squall supervise configs/radar.toml --processes 2           two processes on this machine
  squall supervise configs/radar.toml --hosts hosts.txt --process 0      the first of several machines
  squall supervise configs/radar.toml --processes 2 -- --as-recorded     what follows -- is for `squall run`

Starts `squall run --hosts FILE --process N` for each process. When one ends, the others end with exit code 7, and all are
started anew: after 1 s, then after longer, at most 60 s. It gives up, with their exit code, where a new start cannot help:
2, what is configured is wrong, 3, what is given is, and 6, another instance took over. A signal is passed on. With several processes on this
machine, the metrics of process N are served at the configured port plus N.";

/// Arguments of `squall supervise`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// How many processes to run on this machine, at addresses of their own on loopback.
    #[arg(long, value_name = "N", conflicts_with = "hosts", required_unless_present = "hosts")]
    processes: Option<usize>,
    /// A file with HOST:PORT of each process, one a line.
    #[arg(long, value_name = "FILE")]
    hosts: Option<PathBuf>,
    /// The process of that file to run here (may be repeated); all of them unless given.
    #[arg(long, value_name = "N", requires = "hosts")]
    process: Vec<usize>,
    /// What each `squall run` gets besides.
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let metrics = config.metrics.map(|metrics| metrics.listen);
        let folder = tempfile::tempdir().context("no folder for the file of hosts")?;
        let processes: Vec<usize> = match (&self.hosts, self.processes) {
            (Some(hosts), _) => {
                let count = Hosts::read(hosts, self.process.iter().max().copied().unwrap_or(0))?.processes();
                if self.process.is_empty() { (0..count).collect() } else { self.process.clone() }
            }
            (None, count) => (0..count.unwrap_or(1)).collect(),
        };
        if processes.is_empty() {
            return Err(Usage("--processes 0: expected at least 1".into()).into());
        }
        let stop = Stop::on_signal()?;
        let program = std::env::current_exe().context("the path of this program")?;
        supervise(&stop, || {
            let hosts = match &self.hosts {
                Some(hosts) => hosts.clone(),
                None => loopback(folder.path(), processes.len())?,
            };
            let command = |process: &usize| {
                let mut command = Command::new(&program);
                command.arg("run").args(self.config.arguments());
                command.arg("--hosts").arg(&hosts).args(["--process", &process.to_string()]);
                if let Some(listen) = metrics.filter(|listen| processes.len() > 1 && listen.port() > 0) {
                    command.arg("--set").arg(metrics_of(listen, *process)?);
                }
                command.args(&self.arguments);
                Ok(command)
            };
            processes.iter().map(command).collect()
        })
    }
}

/// Where the metrics of a process are served.
fn metrics_of(listen: SocketAddr, process: usize) -> anyhow::Result<String> {
    let port = u16::try_from(process).ok().and_then(|process| listen.port().checked_add(process));
    let port = port.ok_or_else(|| Usage(format!("metrics.listen {listen}: no port for process {process}")))?;
    Ok(format!("metrics.listen={}", SocketAddr::new(listen.ip(), port)))
}

/// A file of hosts for processes on this machine, at ports that nobody has at the moment.
fn loopback(folder: &Path, processes: usize) -> anyhow::Result<PathBuf> {
    let listeners: Vec<TcpListener> =
        (0..processes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
    let mut text = String::new();
    for listener in &listeners {
        writeln!(text, "{}", listener.local_addr()?)?;
    }
    let path = folder.join("hosts");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_serves_its_metrics_at_a_port_of_its_own() {
        let listen: SocketAddr = "127.0.0.1:9464".parse().unwrap();
        assert_eq!(metrics_of(listen, 2).unwrap(), "metrics.listen=127.0.0.1:9466");
        assert!(metrics_of("127.0.0.1:65535".parse().unwrap(), 1).is_err());
    }

    #[test]
    fn the_processes_of_one_machine_have_addresses_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = loopback(folder.path(), 3).unwrap();
        assert_eq!(Hosts::read(&path, 2).unwrap().processes(), 3);
    }
}
