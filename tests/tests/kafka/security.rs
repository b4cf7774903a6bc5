//! A broker that demands TLS and a password: with the right ones everything works, with wrong ones the error says what to
//! mend, soon, and no secret is ever printed.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use squall_pipeline::broker::{BrokerOptions, DevBroker, SaslSsl, Scram};
use squall_pipeline::http::get_text;
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Running, Setting, files, models, squall};

const PASSWORD: &str = "s3cret-of-the-storm";
/// How long a command may take to say that it is not let in, on a busy machine.
const SOON: Duration = Duration::from_secs(40);

fn start(certificate_expired: bool) -> DevBroker {
    let scram = Scram { user: "squall".to_owned(), password: PASSWORD.to_owned() };
    let options = BrokerOptions { sasl_ssl: Some(scram), certificate_expired, ..Default::default() };
    DevBroker::start_with(&options).unwrap_or_else(|error| panic!("{error}"))
}

/// The one secure broker of these tests. It ends with the process.
fn broker() -> &'static SaslSsl {
    static SHARED: OnceLock<DevBroker> = OnceLock::new();
    SHARED.get_or_init(|| start(false)).sasl_ssl().expect("a listener with TLS")
}

/// Who comes to a broker, with a configuration and a folder.
struct Client {
    setting: Setting,
    config: String,
}

impl Client {
    fn new(listener: &SaslSsl, name: &str, properties: &str) -> Self {
        let mut setting = Setting::new(name);
        setting.address = Some(listener.bootstrap_servers.clone());
        setting.more = format!(
            "[log.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = \"squall\"\n{properties}\n"
        );
        let config = setting.config();
        Self { setting, config }
    }

    /// Starts the program with variables in its environment.
    fn start(&self, environment: &[String], arguments: &[&str]) -> Running {
        let program = squall().display().to_string();
        let all: Vec<&str> =
            environment.iter().map(String::as_str).chain([program.as_str()]).chain(arguments.iter().copied()).collect();
        Running::start(self.setting.folder(), Path::new("env"), &all)
    }
}

fn ca(listener: &SaslSsl) -> String {
    format!("\"ssl.ca.location\" = \"{}\"", listener.ca_file.display())
}

fn password(text: &str) -> String {
    format!("SQUALL__LOG__PROPERTIES__SASL_PASSWORD={text}")
}

#[test]
fn with_tls_and_a_password_everything_works_and_no_secret_is_printed() {
    let listener = broker();
    // In the file a password that the environment's replaces, and on the command line another secret: of none a word.
    let in_file = format!("{}\n\"sasl.password\" = \"s3cret-of-the-file\"", ca(listener));
    let client = Client::new(listener, "secure", &in_file);
    let rain = Rain::small(client.setting.folder(), 5);
    let (config, rain) = (client.config.as_str(), rain.file.display().to_string());
    let environment = [password(PASSWORD), "RUST_LOG=trace".to_owned()];
    let flag = ["--set", "log.properties.ssl.key.password=s3cret-of-a-flag"];
    let debug = ["--set", "log.properties.debug=security,broker,conf"];
    let stations = format!("streams.rain.inputs.stations.topic={}", client.setting.topic("stations"));
    let commands: [&[&str]; 10] = [
        &["inspect", "config", config],
        &["topics", "create", config],
        &["publish", &rain, "--config", config],
        &["run", config, "--log-format", "json"],
        &["inspect", "topics", config],
        &["store", "gc", config],
        &["doctor", config],
        &["supervise", config, "--processes", "2"],
        &["topics", "create", config, "--set", &stations],
        &["inspect", "stations", "--config", config, "--set", &stations],
    ];
    let mut said = Vec::new();
    for command in commands {
        let all = [command, &flag, &debug].concat();
        let text = client.start(&environment, &all).success(LIMIT);
        assert!(!text.contains("s3cret"), "{command:?} tells a secret:\n{text}");
        said.push(text);
    }
    let topic = |kind: &str| client.setting.topic(kind);
    for kind in ["observations", "progress"] {
        assert!(said[1].contains(&format!("created  {}", topic(kind))), "{}", said[1]);
    }
    assert!(said[2].contains(&format!("5 records to {}", topic("observations"))), "{}", said[2]);
    assert!(said[3].contains("rdkafka") || said[3].contains("squall::kafka"), "it says all that it can");
    assert!(said[4].contains(&format!("{}: ", topic("index"))) && !said[4].contains("missing"), "{}", said[4]);
    assert!(said[6].lines().any(|line| line.starts_with("ok       broker")), "{}", said[6]);
    assert!(said[7].contains("a process starts") && said[7].contains("going on from what is committed"), "{}", said[7]);
    assert!(said[8].contains(&format!("created  {}", topic("stations"))), "{}", said[8]);
    assert!(said[9].contains("0 readings of 0 stations"), "{}", said[9]);
    assert_eq!(files::below(&client.setting.store(), "nc").len(), 3, "forecasts come out");
    // Nor does a running program tell one to those who ask.
    let wait = ["--set", "runtime.until_marker=true", "--set", "metrics.listen=127.0.0.1:0", "--log-format", "json"];
    let mut running = client.start(&environment[..1], &[&["run", config][..], &wait, &flag, &debug].concat());
    let address = models::address(&mut running);
    for (path, holds) in [("/metrics", "squall_"), ("/frontiers", "rain"), ("/live", ""), ("/ready", "")] {
        let (_, text) = get_text(&address, path).expect("an answer");
        assert!(text.contains(holds) && !text.contains("s3cret"), "{path}:\n{text}");
    }
    let frontiers = ["inspect", "frontiers", "--address", address.as_str()];
    for arguments in [frontiers.to_vec(), [&frontiers[..], &["--json"]].concat()] {
        let text = client.start(&environment, &arguments).success(LIMIT);
        assert!(text.contains("rain") && text.contains("committed"), "{text}");
        assert!(!text.contains("s3cret"), "{arguments:?} tells a secret:\n{text}");
    }
    running.terminate();
    running.success(LIMIT);
    for text in files::below(client.setting.folder(), "log") {
        let text = fs::read_to_string(text).expect("a log");
        assert!(!text.contains("s3cret"));
    }
}

/// Runs commands that are not let in: each says so soon, with the code of a wrong configuration, and names what to mend.
fn is_refused(client: &Client, environment: &[String], commands: &[&[&str]], words: &[&str]) {
    for command in commands {
        let begun = Instant::now();
        let mut running = client.start(environment, command);
        let status = running.end(SOON);
        let said = running.output();
        assert_eq!(status.code(), Some(2), "{command:?} after {} ms:\n{said}", begun.elapsed().as_millis());
        let error: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        let error = error.join("\n");
        for word in words {
            assert!(error.contains(word), "{command:?} does not name {word}:\n{said}");
        }
        assert!(!said.contains("s3cret"), "{command:?} tells a secret:\n{said}");
        eprintln!("{command:?}: refused after {} ms: {error}", begun.elapsed().as_millis());
    }
}

#[test]
fn a_wrong_password_and_an_unknown_certificate_are_said_soon() {
    let listener = broker();
    let client = Client::new(listener, "wrong-password", &ca(listener));
    let rain = Rain::small(client.setting.folder(), 3).file.display().to_string();
    let config = client.config.as_str();
    let commands: [&[&str]; 4] = [
        &["run", config],
        &["publish", &rain, "--config", config],
        &["inspect", "topics", config],
        &["topics", "create", config],
    ];
    is_refused(&client, &[password("s3cret-but-wrong")], &commands, &["sasl.username", "sasl.password"]);
    // Trusts whom the system trusts, and that is not this broker.
    let stranger = Client::new(listener, "unknown-ca", "");
    let config = stranger.config.as_str();
    is_refused(
        &stranger,
        &[password(PASSWORD)],
        &[&["run", config], &["topics", "create", config]],
        &["ssl.ca.location"],
    );
    // A client that speaks plain text to it has no answer that says so; it is not waited for without end either.
    let plain = Client::new(listener, "plain", "");
    let begun = Instant::now();
    let arguments = ["inspect", "topics", &plain.config, "--set", "log.properties.security.protocol=PLAINTEXT"];
    let said = plain.start(&[], &arguments).failure(5, SOON);
    assert!(said.contains("error: the broker is away"), "{said}");
    eprintln!("plain text: given up after {} ms", begun.elapsed().as_millis());
}

#[test]
fn an_expired_certificate_is_named() {
    let broker = start(true);
    let listener = broker.sasl_ssl().expect("a listener with TLS");
    let client = Client::new(listener, "expired", &ca(listener));
    let config = client.config.as_str();
    is_refused(
        &client,
        &[password(PASSWORD)],
        &[&["run", config], &["topics", "create", config]],
        &["expired", "renew"],
    );
}
