//! Several processes as one, here as threads of a test that share nothing but the log and the store.

use super::*;
use crate::cluster::Hosts;
use crate::cluster::tests::addresses;

/// Two streams of one source, so that two processes have one each.
fn two_streams(workers: usize, clock: &str, cadence: &str) -> Config {
    let second = r#"
        [[streams]]
        name = "more-rain"
        source = "radar"
        model = { name = "lagrangian-probability" }
        window_frames = 4
        leads = 1
        members = 3
        thresholds = [100.0]
        quantiles = [0.5]
        "#;
    Layers::from_text("test.toml", &(settings(workers, clock, cadence) + second)).load().unwrap()
}

/// What processes on one log came to.
fn run_all(log: &MemoryLog, config: &Config, processes: usize) -> Vec<Result<(), Failure>> {
    let shelf: Arc<Shelf> = Arc::default();
    let handles = start_all(log, config, processes, &shelf);
    wait("the end of all", || handles.iter().all(Handle::is_finished));
    handles.into_iter().map(Handle::join).collect()
}

fn start_all(log: &MemoryLog, config: &Config, processes: usize, shelf: &Arc<Shelf>) -> Vec<Handle> {
    let addresses = addresses(processes);
    let start = |process| {
        let (addresses, config, log, shelf) = (addresses.clone(), config.clone(), log.clone(), shelf.clone());
        std::thread::spawn(move || {
            let hosts = Some(Hosts { addresses, process });
            Runtime::start_with(&config, Parts { hosts, store: shelf, ..parts(&log) })
        })
    };
    let threads: Vec<_> = (0..processes).map(start).collect();
    threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
}

#[test]
fn several_processes_say_what_one_says() {
    let records: Vec<_> = shuffled(16, 3).into_iter().map(observation).chain(bad_records()).collect();
    let reference = filled(records.clone());
    assert_eq!(run_all(&reference, &two_streams(1, "log", "5 min"), 1), [Ok(())]);
    let expected = said(&reference);
    assert!(expected.len() > 100, "{}", expected.len());
    for (processes, workers) in [(2, 1), (2, 2), (3, 1)] {
        let log = filled(records.clone());
        let ended = run_all(&log, &two_streams(workers, "log", "5 min"), processes);
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
        assert!(said(&log) == expected, "{processes} processes of {workers} workers: to the byte");
    }
}

#[test]
fn processes_go_on_where_one_left_off() {
    let all = shuffled(20, 5);
    let reference = filled(all.iter().copied().map(observation));
    assert_eq!(run_all(&reference, &two_streams(1, "log", "5 min"), 1), [Ok(())]);
    let log = filled(all.iter().copied().map(observation));
    let commits = AtomicUsize::new(0);
    log.on_commit(move |_| match commits.fetch_add(1, Ordering::SeqCst) {
        8 => Verdict::FailAfter(LogError::failed("committing", "crash")),
        _ => Verdict::Proceed,
    });
    let ended = run_all(&log, &two_streams(1, "log", "5 min"), 2);
    let kinds: Vec<_> = ended.iter().filter_map(|ended| Some(ended.as_ref().err()?.kind())).collect();
    assert!(kinds.len() == 2 && kinds.contains(&ErrorKind::Peer), "one fails, the other ends with it: {ended:?}");
    let ended = run_all(&log, &two_streams(2, "log", "5 min"), 2);
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    assert!(said(&log) == said(&reference), "to the byte");
}

#[test]
fn whichever_is_asked_to_stop_all_stop_and_commit() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    for asked in 0..2 {
        let mut log = MemoryLog::new();
        let config = two_streams(1, "wall", "1 s");
        topics::ensure(&config, &log).unwrap();
        let handles = start_all(&log, &config, 2, &Arc::default());
        let first = now();
        for slot in first..first + 6 {
            log.send(record((slot % 3) as i32, "text/x-words", format!("{slot} {} 2 0", slot % 5), 0)).unwrap();
        }
        wait("forecasts of both streams", || {
            let streams = read(&log, "fcst.index.v1").into_iter().filter_map(|r| r.header("stream").map(str::to_owned));
            streams.collect::<std::collections::BTreeSet<_>>().len() == 2
        });
        handles[asked].stop();
        wait("the stop of all", || handles.iter().all(Handle::is_finished));
        let ended: Vec<_> = handles.into_iter().map(Handle::join).collect();
        assert!(ended.iter().all(Result::is_ok), "{ended:?}");
    }
}
