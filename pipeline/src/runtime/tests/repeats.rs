//! Runs that repeat what another instance decided.

use squall_connectors::progress::progress_record;
use squall_operators::progress::Progress;

use super::*;

#[test]
fn who_repeats_a_run_goes_on_to_where_it_had_come_and_no_further() {
    const LAST: i64 = 16;
    const PATIENCE_MS: i64 = 180_000;
    let config = config(2, "log", "5 min");
    // The last window misses a frame: it still waits when the log ends.
    let run = |come_to_ms: Option<i64>| {
        let log = filled(in_order(7).into_iter().filter(|o| o.1 != LAST - 1).map(observation));
        let mut writer = log.connect().writer().unwrap();
        if let Some(frontier) = come_to_ms.map(KnowledgeTime::from_unix_ms) {
            let progress = Progress { frontier, ..Progress::default() };
            writer.send(progress_record(&config.topics.progress, "live/rain", &progress).unwrap()).unwrap();
        }
        writer.flush(Duration::from_secs(60)).unwrap();
        let handle = Runtime::start_with(&config, Parts { as_recorded: Some("live".into()), ..parts(&log) }).unwrap();
        wait("the end of the log", || handle.is_finished());
        handle.join().unwrap();
        forecasts(&log)
    };
    let full: Vec<_> = (12..=14).map(|slot| (slot, 0, vec![true; 3])).collect();
    let due_ms = LAST * STEP * 1000 + PATIENCE_MS;
    assert_eq!(run(None), full, "nothing is known of that run");
    assert_eq!(run(Some(due_ms)), full, "its patience was not over");
    let last = (LAST, 0, vec![true, false, true]);
    assert_eq!(run(Some(due_ms + 50)), [full, vec![last]].concat());
}
