//! A broker that does not answer once, whatever it is asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use squall_operators::ports::{LogError, LogReader, LogWriter, TopicInfo, TopicSpec};

use super::*;

/// A log of which one call fails as if the broker were away.
struct Stumbling {
    log: Arc<dyn Connect>,
    calls: AtomicUsize,
    at: usize,
}

impl Stumbling {
    fn step(&self, what: &'static str) -> Result<(), LogError> {
        let is_this = self.calls.fetch_add(1, Ordering::SeqCst) == self.at;
        if is_this { Err(LogError::away(what, "as asked")) } else { Ok(()) }
    }
}

impl Connect for Stumbling {
    fn reader(&self, max_record_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        self.step("a reader")?;
        self.log.reader(max_record_bytes)
    }
    fn writer(&self) -> Result<Box<dyn LogWriter>, LogError> {
        self.step("a writer")?;
        self.log.writer()
    }
    fn ledger(&self, name: &str, progress_topic: &str) -> Result<Box<dyn Ledger>, LogError> {
        self.step("a ledger")?;
        self.log.ledger(name, progress_topic)
    }
    fn describe(&self, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError> {
        self.step("asking for topics")?;
        self.log.describe(topics)
    }
    fn create(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.step("creating topics")?;
        self.log.create(topics)
    }
}

#[test]
fn no_question_that_the_broker_does_not_answer_once_ends_a_start() {
    let config = config(1, "log", "5 min");
    for at in 0.. {
        let log = filled(in_order(4).into_iter().map(observation));
        let connect = Arc::new(Stumbling { log: log.connect(), calls: AtomicUsize::new(0), at });
        let started = Runtime::start_with(&config, Parts { connect: connect.clone(), ..parts(&log) });
        let handle = started.unwrap_or_else(|error| panic!("call {at}: {error:#}"));
        wait("the end of the log", || handle.is_finished());
        handle.join().unwrap_or_else(|error| panic!("call {at}: {}", squall_fields::Chain(&error)));
        assert_eq!(read(&log, "fcst.index.v1").len(), 2, "call {at}");
        if connect.calls.load(Ordering::SeqCst) <= at {
            assert!(at > 5, "{at} calls in all");
            break;
        }
    }
}
