use super::java::major_version;
use super::*;

/// The set-up without Kafka (`make build`) is a proper one too: the tests that need it say that they were left out.
fn broker(options: &BrokerOptions) -> Option<DevBroker> {
    match DevBroker::start_with(options) {
        Ok(broker) => Some(broker),
        Err(error @ (BrokerError::NoJars { .. } | BrokerError::Java(_))) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn reads_the_versions_that_java_prints() {
    assert_eq!(major_version("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
    assert_eq!(major_version("openjdk version \"21\" 2023-09-19"), Some(21));
    assert_eq!(major_version("java version \"1.8.0_292\""), Some(8));
    assert_eq!(major_version("openjdk version \"24-ea\""), Some(24));
    assert_eq!(major_version("command not found"), None);
}

#[test]
fn says_where_it_looked_for_jars() {
    let empty = tempfile::tempdir().unwrap();
    let error = find_libs(Some(empty.path())).unwrap_err().to_string();
    assert!(error.contains(&empty.path().display().to_string()) && error.contains("make setup"), "{error}");
}

#[test]
fn answers_survives_a_crash_and_leaves_nothing_behind() {
    let Some(mut broker) = broker(&BrokerOptions::default()) else { return };
    let folder = broker.folder().to_owned();
    let first = broker.pid().unwrap();
    assert!(probe::answers(broker.ports.plain));

    broker.kill().unwrap();
    assert!(!is_alive(first) && !probe::answers(broker.ports.plain));
    broker.restart().unwrap();
    let second = broker.pid().unwrap();
    assert!(second != first && probe::answers(broker.ports.plain));

    drop(broker);
    assert!(!is_alive(second), "the broker outlived its value");
    assert!(!folder.exists(), "{} was left behind", folder.display());
}

#[test]
fn a_fault_in_its_properties_is_told_with_its_log() {
    let properties = vec![("log.retention.ms".to_owned(), "soon".to_owned())];
    let java = find_libs(None).and_then(Java::find);
    if let Err(error) = java {
        eprintln!("skipped: {error}");
        return;
    }
    let error = DevBroker::start_with(&BrokerOptions { properties, ..Default::default() }).unwrap_err().to_string();
    assert!(error.contains("log.retention.ms") && error.contains("soon"), "{error}");
}

#[test]
fn the_guard_removes_what_a_killed_owner_left() {
    let folder = tempfile::tempdir().unwrap().keep();
    let mut orphan = Command::new("sleep").arg("30").process_group(0).spawn().unwrap();
    fs::write(folder.join("pid"), orphan.id().to_string()).unwrap();
    let (mut guard, string) = spawn_guard(&folder).unwrap();
    // Closing the string is all that the death of its owner does.
    drop(string);
    let ended = orphan.wait().unwrap();
    guard.wait().unwrap();
    assert!(!ended.success() && !folder.exists());
}

#[test]
fn offers_tls_with_passwords() {
    let scram = Scram { user: "squall".into(), password: "storm".into() };
    let Some(broker) = broker(&BrokerOptions { sasl_ssl: Some(scram.clone()), ..Default::default() }) else { return };
    let listener = broker.sasl_ssl().unwrap();
    assert_eq!(listener.scram, scram);
    let pem = fs::read_to_string(&listener.ca_file).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    // A client that speaks plain text to it is turned away, so it is not the plain listener under another name.
    assert!(!probe::answers(broker.ports.secure.unwrap()));
}
