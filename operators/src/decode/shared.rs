//! What the streams of one source share: a record that two of them read is decoded once.
//!
//! Each stream reads its source by itself, so that none waits for another. They mostly read the same records at about
//! the same time, and decoding costs far more than reading. So the first to come decodes, and the others take what it
//! made. It is kept until each has taken it, within a bound of bytes: a stream that lags behind decodes by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_fields::Frame;

use super::Outcome;
use crate::ports::{PartitionId, Record};

/// How long a stream waits for another that is decoding a record already: what hangs there must not hang here.
const PATIENCE: Duration = Duration::from_millis(300);

type Key = (PartitionId, i64);

/// Frames by record, for the streams of one source in one process.
#[derive(Debug)]
pub struct SharedFrames {
    streams: usize,
    max_bytes: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// Keys of what is there, oldest first; one may be gone already.
    order: VecDeque<Key>,
    bytes: usize,
}

#[derive(Debug)]
enum Entry {
    /// A stream is at it.
    Begun,
    /// It is there, for so many streams yet.
    There { outcome: Outcome, left: usize, bytes: usize },
}

impl SharedFrames {
    /// For so many streams; holds at most about `max_bytes` of values.
    pub fn new(streams: usize, max_bytes: usize) -> Self {
        Self { streams, max_bytes, inner: Mutex::default(), changed: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another stream made of the record, or what `make` makes of it, kept for the others.
    pub fn get_or_make(&self, record: &Record, make: impl FnOnce() -> Outcome) -> Outcome {
        let key = (record.partition.clone(), record.offset);
        let mut inner = self.inner();
        if !inner.entries.contains_key(&key) {
            inner.entries.insert(key.clone(), Entry::Begun);
            drop(inner);
            let begun = Begun { shared: self, key };
            let outcome = make();
            begun.done(&outcome);
            return outcome;
        }
        let begun = |inner: &mut Inner| matches!(inner.entries.get(&key), Some(Entry::Begun));
        let (mut inner, _) =
            self.changed.wait_timeout_while(inner, PATIENCE, begun).unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = inner.take(&key) {
            return outcome;
        }
        drop(inner);
        make()
    }
}

impl Inner {
    fn take(&mut self, key: &Key) -> Option<Outcome> {
        let Entry::There { outcome, left, .. } = self.entries.get_mut(key)? else { return None };
        if *left > 1 {
            *left -= 1;
            return Some(outcome.clone());
        }
        match self.remove(key)? {
            Entry::There { outcome, .. } => Some(outcome),
            Entry::Begun => None,
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key);
        if let Some(Entry::There { bytes, .. }) = &entry {
            self.bytes -= bytes;
        }
        entry
    }

    fn insert(&mut self, key: Key, outcome: Outcome, left: usize, max_bytes: usize) {
        let bytes = outcome.as_ref().map_or(0, |frames| frames.iter().map(|clean| bytes_of(&clean.frame)).sum());
        self.bytes += bytes;
        self.entries.insert(key.clone(), Entry::There { outcome, left, bytes });
        self.order.push_back(key);
        while self.bytes > max_bytes || self.order.len() > 4 * self.entries.len().max(16) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(&oldest);
        }
    }
}

fn bytes_of(frame: &Frame) -> usize {
    let cells = frame.values.len() + frame.quality.as_ref().map_or(0, |quality| quality.len());
    cells * size_of::<f32>()
}

/// A record that is being decoded; the others hear of its end, whatever it is.
struct Begun<'a> {
    shared: &'a SharedFrames,
    key: Key,
}

impl Begun<'_> {
    fn done(&self, outcome: &Outcome) {
        let SharedFrames { streams, max_bytes, .. } = *self.shared;
        if streams > 1 {
            self.shared.inner().insert(self.key.clone(), outcome.clone(), streams - 1, max_bytes);
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut inner = self.shared.inner();
        if let Some(Entry::Begun) = inner.entries.get(&self.key) {
            inner.remove(&self.key);
        }
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::super::Decoder;
    use super::super::tests::{Words, cleaner, record};
    use super::*;
    use crate::dead_letter::Reason;

    fn frames(text: &str) -> Outcome {
        Decoder::new(vec![Arc::new(Words)], None, 1000, cleaner())
            .decode(&record("text/x-words", text.as_bytes()), |_| true)
    }

    fn at(offset: i64) -> Record {
        Record { offset, ..record("text/x-words", b"300 1 2") }
    }

    #[test]
    fn each_record_is_made_once_and_let_go_when_every_stream_has_it() {
        let shared = SharedFrames::new(3, 1000);
        let made = AtomicUsize::new(0);
        let make = || {
            made.fetch_add(1, Ordering::SeqCst);
            frames("300 1 2")
        };
        let outcomes: Vec<_> = (0..3).map(|_| shared.get_or_make(&at(3), make).unwrap()).collect();
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(outcomes.iter().all(|frames| Arc::ptr_eq(&frames[0].frame, &outcomes[0][0].frame)));
        assert!(shared.inner().entries.is_empty() && shared.inner().bytes == 0);
        let fault = || Err((Reason::Undecodable, "bad".to_owned()));
        assert_eq!(shared.get_or_make(&at(4), fault).err(), fault().err());
        assert_eq!(shared.get_or_make(&at(4), make).err(), fault().err());
    }

    #[test]
    fn a_stream_that_lags_behind_costs_no_memory() {
        let shared = SharedFrames::new(2, 40);
        for offset in 0..200 {
            shared.get_or_make(&at(offset), || frames("300 1 2")).unwrap();
            let inner = shared.inner();
            assert!(inner.bytes <= 40 && inner.entries.len() <= 5 && inner.order.len() <= 64);
        }
        assert!(shared.get_or_make(&at(0), || frames("300 1 2")).is_ok(), "it decodes by itself");
    }

    #[test]
    fn what_hangs_for_one_stream_does_not_hang_for_another() {
        let shared = Arc::new(SharedFrames::new(2, 1000));
        let (go, gate) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let frozen = shared.clone();
        let thread = std::thread::spawn(move || {
            frozen.get_or_make(&at(1), || {
                began.send(()).expect("the test looks on");
                let _ = gate.recv();
                frames("300 1 2")
            })
        });
        begun.recv().unwrap();
        assert!(shared.get_or_make(&at(1), || frames("300 1 2")).is_ok(), "it does not wait for the other");
        drop(go);
        assert!(thread.join().unwrap().is_ok());
    }

    #[test]
    fn a_panic_of_one_stream_leaves_the_record_to_the_other() {
        let shared = SharedFrames::new(2, 1000);
        let panics = std::panic::AssertUnwindSafe(|| shared.get_or_make(&at(1), || panic!("as asked")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(shared.get_or_make(&at(1), || frames("300 1 2")).is_ok());
    }
}
