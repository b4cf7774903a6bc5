//! A development broker: a real Apache Kafka for the demo, for tests and for trying things out.
//!
//! Squall's promises about transactions, fencing and `read_committed` can only be shown on the real thing, so nothing
//! is imitated here. [`DevBroker`] starts one KRaft node from Kafka's plain jars on free loopback ports, with its log in
//! a temporary folder, waits until it answers, and leaves nothing behind: it is stopped when the value is dropped, and a
//! small guard process stops it and removes the folder even if this process is killed.
//!
//! ```no_run
//! let broker = squall_pipeline::broker::DevBroker::start()?;
//! println!("bootstrap.servers = {}", broker.bootstrap_servers());
//! # Ok::<(), squall_pipeline::broker::BrokerError>(())
//! ```

mod java;
mod probe;
mod properties;

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use squall_fields::ErrorKind;

use crate::signals::signal_group;

pub use properties::{SaslSsl, Scram};

use java::Java;
use properties::{Ports, Settings};

/// How long a start may take; a start after an unclean stop recovers its logs first.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a broker may take to end after SIGTERM before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Ports are free when they are chosen, and may be taken when Kafka binds them; then others are tried.
const PORT_ATTEMPTS: usize = 3;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// No Java, or one that is too old.
    #[error("Kafka needs Java 17 or newer: {0}; install one (Debian: openjdk-17-jre-headless) or set JAVA_HOME")]
    Java(String),
    /// Kafka's jars are nowhere to be found.
    #[error("no Kafka jars in {}; run `make setup`, or set SQUALL_KAFKA_LIBS to a folder that holds kafka_2.13-*.jar",
        searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    NoJars {
        /// Where they were looked for.
        searched: Vec<PathBuf>,
    },
    /// A tool that prepares the broker failed.
    #[error("{tool} failed: {output}")]
    Tool {
        /// Which one.
        tool: &'static str,
        /// What it printed.
        output: String,
    },
    /// The broker ended by itself.
    #[error("Kafka ended with {status} before it answered; its last lines:\n{log}")]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The broker did not answer in time.
    #[error("Kafka did not answer on {address} within {} s; its last lines:\n{log}", limit.as_secs())]
    Silent {
        /// Where it should listen.
        address: String,
        /// How long was waited.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// A file or a process of the broker could not be handled.
    #[error("development broker: {0}")]
    Io(#[from] io::Error),
}

impl BrokerError {
    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Java(_) | Self::NoJars { .. } => ErrorKind::User,
            Self::Tool { .. } | Self::Ended { .. } | Self::Silent { .. } => ErrorKind::Broker,
            Self::Io(_) => ErrorKind::Device,
        }
    }
}

/// What a development broker should be.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    /// Folder of Kafka's jars. By default `SQUALL_KAFKA_LIBS`, else `kafka/libs` beside the executable or under the
    /// current folder's `target`.
    pub libs: Option<PathBuf>,
    /// A second listener with TLS and SCRAM passwords.
    pub sasl_ssl: Option<Scram>,
    /// Port of a proxy on the loopback address before one more plain listener, see [`DevBroker::behind_proxy`].
    pub proxy: Option<u16>,
    /// Whether the certificate of that listener has expired, for tests of what clients say then.
    pub certificate_expired: bool,
    /// Lines for `server.properties`, which win over the built-in ones.
    pub properties: Vec<(String, String)>,
}

/// A running Apache Kafka with one node, for development only: no replication, no authentication on its plain
/// listener, data deleted at the end.
#[derive(Debug)]
pub struct DevBroker {
    java: Java,
    ports: Ports,
    bootstrap: String,
    sasl_ssl: Option<SaslSsl>,
    process: Option<Child>,
    /// Its standard input is the string that the guard hangs on: closed by our death, whatever the cause.
    guard: Option<(Child, ChildStdin)>,
    folder: PathBuf,
}

impl DevBroker {
    /// Starts one with default options and waits until it answers.
    pub fn start() -> Result<Self, BrokerError> {
        Self::start_with(&BrokerOptions::default())
    }

    /// Starts one as asked and waits until it answers, at most two minutes.
    pub fn start_with(options: &BrokerOptions) -> Result<Self, BrokerError> {
        let java = Java::find(find_libs(options.libs.as_deref())?)?;
        let mut attempt = 1;
        loop {
            match Self::prepare(java.clone(), options).and_then(|mut broker| broker.launch().map(|()| broker)) {
                Err(BrokerError::Ended { log, .. })
                    if log.contains("Address already in use") && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// `host:port` for `bootstrap.servers`, without TLS.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// What a client needs for the listener with TLS and a password, if one was asked for.
    pub fn sasl_ssl(&self) -> Option<&SaslSsl> {
        self.sasl_ssl.as_ref()
    }

    /// Where the proxy that was asked for must lead to.
    pub fn behind_proxy(&self) -> Option<u16> {
        self.ports.behind.map(|(port, _)| port)
    }

    /// The temporary folder with its configuration, its log files and its data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Ends it cleanly (SIGTERM; SIGKILL if it takes too long). Its data stay for [`DevBroker::restart`].
    pub fn stop(&mut self) -> Result<(), BrokerError> {
        self.end(libc::SIGTERM)
    }

    /// Ends it as a crash would (SIGKILL). Its data stay for [`DevBroker::restart`].
    pub fn kill(&mut self) -> Result<(), BrokerError> {
        self.end(libc::SIGKILL)
    }

    /// Starts it again on the same ports with the same data, ending it first if it runs.
    pub fn restart(&mut self) -> Result<(), BrokerError> {
        self.stop()?;
        self.launch()
    }

    /// Chooses ports, writes the configuration, and formats the storage.
    fn prepare(java: Java, options: &BrokerOptions) -> Result<Self, BrokerError> {
        let folder = tempfile::Builder::new().prefix("squall-kafka-").tempdir()?.keep();
        let guard = Some(spawn_guard(&folder)?);
        let ports = free_ports(options.sasl_ssl.is_some(), options.proxy)?;
        // From here on a failure drops the broker, and with it the folder.
        let bootstrap = format!("127.0.0.1:{}", ports.plain);
        let mut broker = Self { java, ports, bootstrap, sasl_ssl: None, process: None, guard, folder };
        if let Some(scram) = &options.sasl_ssl {
            broker.sasl_ssl = Some(properties::make_keys(
                &broker.java,
                &broker.folder,
                scram,
                &broker.ports,
                options.certificate_expired,
            )?);
        }
        let settings = Settings {
            folder: &broker.folder,
            ports: &broker.ports,
            tls: broker.sasl_ssl.is_some(),
            own: &options.properties,
        };
        fs::write(broker.properties_file(), settings.to_string())?;
        properties::format_storage(&broker.java, &broker.properties_file(), options.sasl_ssl.as_ref())?;
        Ok(broker)
    }

    fn properties_file(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("kafka.log")
    }

    /// Starts the process and waits until the broker has registered with its controller and answers.
    fn launch(&mut self) -> Result<(), BrokerError> {
        let log = File::create(self.log_file())?;
        let child = self
            .java
            .kafka("kafka.Kafka", &["-Xms256m", "-Xmx1g"])
            .arg(self.properties_file())
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        fs::write(self.folder.join("pid"), child.id().to_string())?;
        self.process = Some(child);
        let start = Instant::now();
        while !probe::answers(self.ports.plain) {
            if let Some(status) = self.process.as_mut().map(Child::try_wait).transpose()?.flatten() {
                self.forget_process();
                return Err(BrokerError::Ended { status, log: self.log_tail() });
            }
            if start.elapsed() > START_LIMIT {
                self.kill()?;
                let address = self.bootstrap.clone();
                return Err(BrokerError::Silent { address, limit: START_LIMIT, log: self.log_tail() });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Signals the whole process group and waits for its end.
    fn end(&mut self, signal: libc::c_int) -> Result<(), BrokerError> {
        let Some(child) = self.process.as_mut() else { return Ok(()) };
        signal_group(child.id(), signal);
        let start = Instant::now();
        while child.try_wait()?.is_none() {
            if start.elapsed() > STOP_LIMIT {
                signal_group(child.id(), libc::SIGKILL);
                child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.forget_process();
        Ok(())
    }

    /// After its end the process id may be given to another, which the guard must not touch.
    fn forget_process(&mut self) {
        self.process = None;
        let _ = fs::remove_file(self.folder.join("pid"));
    }

    fn log_tail(&self) -> String {
        // It explains an error that is told without it, too.
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for DevBroker {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the development broker did not stop");
        }
        if let Some((mut guard, string)) = self.guard.take() {
            drop(string);
            let _ = guard.wait();
        }
    }
}

/// Where Kafka's jars are: as given, from the environment, or where `make setup` puts them.
fn find_libs(given: Option<&Path>) -> Result<PathBuf, BrokerError> {
    let mut searched = Vec::new();
    if let Some(given) = given {
        searched.push(given.to_owned());
    } else if let Some(variable) = std::env::var_os("SQUALL_KAFKA_LIBS").filter(|v| !v.is_empty()) {
        searched.push(variable.into());
    } else {
        let executable = std::env::current_exe()?;
        searched.extend(executable.ancestors().skip(1).take(3).map(|folder| folder.join("kafka/libs")));
        searched.push(std::env::current_dir()?.join("target/kafka/libs"));
    }
    match searched.iter().find(|folder| holds_kafka(folder)) {
        Some(folder) => Ok(folder.clone()),
        None => Err(BrokerError::NoJars { searched }),
    }
}

fn holds_kafka(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("kafka_2."))
}

/// Ports that are free now. All are held until the last is chosen, so that they differ.
fn free_ports(tls: bool, proxy: Option<u16>) -> io::Result<Ports> {
    let held = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0"));
    let [plain, controller, secure, behind] = held.map(|l| l.and_then(|l| Ok((l.local_addr()?.port(), l))));
    let (secure, behind) = (secure?.0, behind?.0);
    Ok(Ports {
        plain: plain?.0,
        controller: controller?.0,
        secure: tls.then_some(secure),
        behind: proxy.map(|proxy| (behind, proxy)),
    })
}

/// A shell that sleeps until this process lets go of its input, by dropping the broker or by dying, and then ends what
/// is left of the broker and removes its folder. A group of its own keeps Ctrl-C in the terminal from it.
fn spawn_guard(folder: &Path) -> io::Result<(Child, ChildStdin)> {
    const SCRIPT: &str = r#"
        cat >/dev/null
        if pid=$(cat "$1/pid" 2>/dev/null); then
            kill -s TERM -- "-$pid" 2>/dev/null
            for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 -- "-$pid" 2>/dev/null || break; sleep 0.5; done
            kill -s KILL -- "-$pid" 2>/dev/null
        fi
        rm -rf -- "$1""#;
    let mut guard = Command::new("sh")
        .args(["-c", SCRIPT, "squall-kafka-guard"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    match guard.stdin.take() {
        Some(string) => Ok((guard, string)),
        None => Err(io::Error::other("the guard has no input")),
    }
}

#[cfg(test)]
mod tests;
