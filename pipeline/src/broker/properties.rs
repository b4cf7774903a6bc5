//! What a development broker is told: its `server.properties`, its storage format, and its keys.

use std::fmt;
use std::path::{Path, PathBuf};

use super::BrokerError;
use super::java::{Java, run};

/// Any 16 bytes in Kafka's base64 do: every development broker is a cluster of its own.
const CLUSTER_ID: &str = "squall-dev-broker-AAAA";
/// Protects nothing: the key is made for one run on the loopback address.
const STORE_PASSWORD: &str = "squall-development";

/// A user of the listener with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scram {
    /// Name of the user.
    pub user: String,
    /// Password of the user.
    pub password: String,
}

/// What a client needs for the listener with TLS: `security.protocol=SASL_SSL`, mechanism SCRAM-SHA-512.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslSsl {
    /// `host:port` for `bootstrap.servers`.
    pub bootstrap_servers: String,
    /// The certificate to trust, as PEM (`ssl.ca.location`).
    pub ca_file: PathBuf,
    /// Who to log in as.
    pub scram: Scram,
}

/// Ports on the loopback address.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    pub(super) plain: u16,
    pub(super) controller: u16,
    pub(super) secure: Option<u16>,
    /// Of the plain listener behind a proxy, with the proxy's port.
    pub(super) behind: Option<(u16, u16)>,
}

/// Displays as `server.properties`.
pub(super) struct Settings<'a> {
    pub(super) folder: &'a Path,
    pub(super) ports: &'a Ports,
    pub(super) tls: bool,
    pub(super) own: &'a [(String, String)],
}

impl fmt::Display for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports { plain, controller, secure, behind } = self.ports;
        let proxied = behind.map_or(String::new(), |(port, _)| format!(",PROXIED://127.0.0.1:{port}"));
        let secure = secure.filter(|_| self.tls).map_or(String::new(), |p| format!(",SASL_SSL://127.0.0.1:{p}"));
        writeln!(f, "process.roles=broker,controller")?;
        writeln!(f, "node.id=1")?;
        writeln!(f, "controller.quorum.voters=1@127.0.0.1:{controller}")?;
        writeln!(f, "controller.listener.names=CONTROLLER")?;
        writeln!(f, "inter.broker.listener.name=PLAINTEXT")?;
        writeln!(f, "listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}{secure}{proxied}")?;
        if let Some((_, proxy)) = behind {
            // Who comes through the proxy is told to come back through it.
            writeln!(f, "advertised.listeners=PLAINTEXT://127.0.0.1:{plain}{secure},PROXIED://127.0.0.1:{proxy}")?;
        }
        writeln!(
            f,
            "listener.security.protocol.map=\
             PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL"
        )?;
        writeln!(f, "log.dirs={}", self.folder.join("data").display())?;
        // One node, so nothing is replicated; few internal partitions, so starts and restarts are quick.
        for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            writeln!(f, "{topic}.replication.factor=1")?;
            writeln!(f, "{topic}.num.partitions=4")?;
        }
        writeln!(f, "transaction.state.log.min.isr=1")?;
        writeln!(f, "share.coordinator.state.topic.min.isr=1")?;
        writeln!(f, "group.initial.rebalance.delay.ms=0")?;
        writeln!(f, "log.cleaner.dedupe.buffer.size=8388608")?;
        writeln!(f, "log.index.size.max.bytes=1048576")?;
        // Replays carry timestamps of the past, which retention by time would delete at once.
        writeln!(f, "log.retention.ms=-1")?;
        // Topics are made by whoever owns them; a misspelt name is an error and not a new topic.
        writeln!(f, "auto.create.topics.enable=false")?;
        // Whole radar composites in a record.
        writeln!(f, "message.max.bytes=67108864")?;
        if self.tls {
            writeln!(f, "sasl.enabled.mechanisms=SCRAM-SHA-512")?;
            writeln!(
                f,
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
                 org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )?;
            writeln!(f, "ssl.keystore.type=PKCS12")?;
            writeln!(f, "ssl.keystore.location={}", self.folder.join("broker.p12").display())?;
            writeln!(f, "ssl.keystore.password={STORE_PASSWORD}")?;
            writeln!(f, "ssl.key.password={STORE_PASSWORD}")?;
        }
        // In a properties file the last line for a key wins.
        self.own.iter().try_for_each(|(key, value)| writeln!(f, "{key}={value}"))
    }
}

/// Makes a key pair for 127.0.0.1 and exports its certificate, which signs itself, for clients to trust. It is valid for
/// 30 days, or was until 10 days ago.
pub(super) fn make_keys(
    java: &Java,
    folder: &Path,
    scram: &Scram,
    ports: &Ports,
    expired: bool,
) -> Result<SaslSsl, BrokerError> {
    let store = folder.join("broker.p12");
    let ca_file = folder.join("ca.pem");
    let common = ["-alias", "broker", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD];
    let key = ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30", "-dname", "CN=127.0.0.1"];
    let start = if expired { "-40d" } else { "-1d" };
    let mut generate = java.keytool();
    generate
        .args(["-genkeypair", "-startdate", start])
        .args(common)
        .args(key)
        .args(["-ext", "SAN=ip:127.0.0.1"])
        .arg("-keystore")
        .arg(&store);
    run("keytool", &mut generate)?;
    let mut export = java.keytool();
    export.args(["-exportcert", "-rfc"]).args(common).arg("-keystore").arg(&store).arg("-file").arg(&ca_file);
    run("keytool", &mut export)?;
    let port = ports.secure.expect("a port is chosen for every listener that is asked for");
    Ok(SaslSsl { bootstrap_servers: format!("127.0.0.1:{port}"), ca_file, scram: scram.clone() })
}

/// Formats the storage, once in a broker's life; users with passwords are written at that time.
pub(super) fn format_storage(java: &Java, properties: &Path, scram: Option<&Scram>) -> Result<(), BrokerError> {
    let mut command = java.kafka("kafka.tools.StorageTool", &[]);
    command.args(["format", "-t", CLUSTER_ID, "-c"]).arg(properties);
    if let Some(Scram { user, password }) = scram {
        command.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={user},password={password}]"));
    }
    run("Kafka's storage tool", &mut command)
}
