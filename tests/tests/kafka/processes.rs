//! Several processes as one, and several instances beside each other: the forecasts are those of one process, and when one
//! process dies the others end, and all start anew.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use squall_tests::freeze::signal;
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Sent, Setting, forecasts};

/// Enough for each partition's timestamps to confirm each other before the end of either half.
const FRAMES: usize = 42;
const PARTITIONS: i32 = 3;
/// A process that hangs is noticed after 10 s, and then the streams give up within 8 s.
const NOTICED: Duration = Duration::from_secs(30);

/// A second stream of the same source, with topics of its own.
fn second_stream(setting: &Setting) -> String {
    let [index, probabilities, quantiles] = ["index", "probabilities", "quantiles"].map(|kind| second(setting, kind));
    format!(
        "[[streams]]\nname = \"long\"\nsource = \"radar\"\nmodel = {{ name = \"extrapolation\" }}\n\
         window_frames = 4\nleads = 2\nmembers = 3\nthresholds = [0.5]\n\
         topics = {{ index = \"{index}\", probabilities = \"{probabilities}\", quantiles = \"{quantiles}\" }}\n"
    )
}

fn second(setting: &Setting, kind: &str) -> String {
    format!("{}.long.{kind}", setting.prefix())
}

/// A setting with two streams that reads a topic.
fn two_streams(name: &str, topic: &str) -> Setting {
    let mut setting = Setting::new(name);
    (setting.partitions, setting.observations) = (PARTITIONS, Some(topic.to_owned()));
    setting.more = second_stream(&setting);
    setting
}

/// All products of both streams, consolidated, and the identities of the forecasts in the order of the index.
fn products(setting: &Setting) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let topics = ["probabilities", "quantiles"].map(|kind| [setting.topic(kind), second(setting, kind)]);
    let tiles = topics.concat().iter().flat_map(|topic| forecasts::consolidated(topic)).collect();
    let indexes = [setting.topic("index"), second(setting, "index")];
    let published = indexes.iter().flat_map(|topic| forecasts::published_on(topic));
    (tiles, published.map(|p| format!("{} r{}", p.issue_time, p.revision)).collect())
}

/// Real rain over three partitions, where neighbours change places; two halves of it.
fn halves(name: &str) -> (String, Vec<Sent>, Vec<Sent>) {
    let (_, mut sent) = Rain::observed(name, FRAMES);
    for (frame, sent) in sent.iter_mut().enumerate() {
        sent.partition = (frame as i32 * 2) % PARTITIONS;
        sent.timestamp_ms += [170_000, 10_000, 90_000, 5_000, 120_000][frame % 5];
    }
    sent.sort_by_key(|sent| sent.timestamp_ms);
    let topic = format!("{name}.{}", std::process::id());
    Kafka::shared().create(&topic, PARTITIONS);
    let rest = sent.split_off(FRAMES / 2);
    (topic, sent, rest)
}

/// A file of hosts for so many processes on this machine.
fn hosts(setting: &Setting, processes: usize) -> String {
    let listeners: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let lines = listeners.iter().map(|listener| format!("{}\n", listener.local_addr().expect("an address")));
    let path = setting.folder().join("hosts");
    fs::write(&path, lines.collect::<String>()).expect("a file of hosts");
    path.display().to_string()
}

/// Starts the processes of a cluster.
pub(crate) fn start(setting: &Setting, processes: usize, more: &[&str]) -> Vec<Running> {
    let (config, hosts) = (setting.config(), hosts(setting, processes));
    let start = |process: usize| {
        let process = process.to_string();
        setting.start(&[&["run", &config, "--hosts", &hosts, "--process", &process], more].concat())
    };
    (0..processes).map(start).collect()
}

#[test]
fn two_processes_and_two_instances_say_what_one_process_says() {
    let (topic, first, rest) = halves("processes");
    Kafka::shared().write(&topic, &[first, rest].concat());
    let one = two_streams("one-process", &topic);
    one.run();
    let (expected, identities) = products(&one);
    assert!(identities.len() > FRAMES && !expected.is_empty(), "{identities:?}");

    for (processes, workers) in [(2, 1), (2, 2), (3, 1)] {
        let mut setting = two_streams("many-processes", &topic);
        setting.workers = workers;
        for process in start(&setting, processes, &[]) {
            process.success(LIMIT);
        }
        let (found, same) = products(&setting);
        assert_eq!(same, identities, "{processes} processes of {workers} workers");
        assert!(found == expected, "{processes} processes of {workers} workers");
    }

    // Two instances with one stream each, on topics that together are those of one.
    let both = two_streams("instances", &topic);
    let config = fs::read_to_string(both.config()).expect("the configuration");
    let (before, streams) = config.split_once("[[streams]]").expect("streams");
    let run = |(name, stream): (&str, &str)| {
        let path = both.folder().join(format!("{name}.toml"));
        let before = before.replacen(both.prefix(), &format!("{}.{name}", both.prefix()), 1);
        fs::write(&path, format!("{before}[[streams]]{stream}")).expect("a configuration file");
        both.start(&["run", &path.display().to_string()])
    };
    let streams = streams.split_once("[[streams]]").expect("two streams");
    let instances = [("a", streams.0), ("b", streams.1)].map(run);
    for instance in instances {
        instance.success(LIMIT);
    }
    let (found, same) = products(&both);
    assert_eq!(same, identities);
    assert!(found == expected, "two instances");
}

#[test]
fn one_that_dies_or_hangs_ends_the_others_with_a_code_of_their_own() {
    let (topic, first, _) = halves("dying");
    Kafka::shared().write(&topic, &first);
    for fate in [libc::SIGKILL, libc::SIGSTOP] {
        let setting = two_streams("one-dies", &topic);
        let mut processes = start(&setting, 2, &["--set", "runtime.until_marker=true"]);
        let index = setting.topic("index");
        processes[0].until(LIMIT, "forecasts", || !Kafka::shared().read(&index).is_empty());
        let (mut second, first) = (processes.remove(1), processes.remove(0));
        signal(second.pid(), fate);
        let said = first.failure(7, NOTICED);
        assert!(said.contains("process 1 (127.0.0.1:"), "{said}");
        if fate == libc::SIGSTOP {
            // It finds itself alone once it goes on.
            signal(second.pid(), libc::SIGCONT);
            assert_eq!(second.end(NOTICED).code(), Some(7), "{}", second.output());
        }
    }
}

#[test]
fn processes_of_other_settings_do_not_run_together() {
    let (topic, _, _) = halves("unequal");
    let setting = two_streams("unequal", &topic);
    let (config, hosts) = (setting.config(), hosts(&setting, 2));
    let run = |process: &str, leads: &str| {
        setting.start(&["run", &config, "--hosts", &hosts, "--process", process, "--set", leads])
    };
    let (first, second) = (run("0", "streams.rain.leads=2"), run("1", "streams.rain.leads=3"));
    for (process, other) in [(first, "process 1"), (second, "process 0")] {
        let said = process.failure(2, LIMIT);
        assert!(said.contains(other) && said.contains("its digest of settings is"), "{said}");
    }
}

#[test]
fn a_supervised_cluster_that_loses_a_process_says_what_an_undisturbed_one_says() {
    let (topic, first, rest) = halves("supervised");
    Kafka::shared().write(&topic, &first);
    let setting = two_streams("supervised", &topic);
    let config = setting.config();
    let arguments = ["supervise", &config, "--processes", "2", "--set", "runtime.until_marker=true"];
    let mut supervisor = setting.start(&arguments);
    let pids = |said: &str| -> Vec<u32> {
        let after = said.split("pid=").skip(1);
        after.filter_map(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
    };
    let indexes = [setting.topic("index"), second(&setting, "index")];
    let committed = || indexes.iter().map(|topic| Kafka::shared().read(topic).len()).sum::<usize>();
    supervisor.until(LIMIT, "forecasts of the first generation", || committed() > 4);
    // Each process once, the second in the middle of the rest.
    signal(pids(&supervisor.output())[1], libc::SIGKILL);
    supervisor.until_said(LIMIT, "a second generation", |said| pids(said).len() == 4);
    Kafka::shared().write(&topic, &rest);
    let before = committed();
    supervisor.until(LIMIT, "forecasts of the second generation", || committed() > before);
    signal(pids(&supervisor.output())[2], libc::SIGKILL);
    supervisor.until_said(LIMIT, "a third generation", |said| pids(said).len() == 6);
    let end = rest.last().expect("records").clone().with_header("squall-end-of-log", "true");
    let ends: Vec<_> = (0..PARTITIONS).map(|partition| Sent { partition, value: vec![], ..end.clone() }).collect();
    Kafka::shared().write(&topic, &ends);
    let said = supervisor.success(LIMIT);
    assert!(said.contains("7, killed") && said.contains("killed, 7"), "{said}");

    let undisturbed = two_streams("undisturbed", &topic);
    undisturbed.start(&["run", &undisturbed.config(), "--set", "runtime.until_marker=true"]).success(LIMIT);
    let (expected, identities) = products(&undisturbed);
    let (found, same) = products(&setting);
    assert_eq!(same, identities, "none is missing and none is there twice");
    assert!(found == expected, "bit for bit");
}
