//! What the processes of a cluster tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde::{Deserialize, Serialize};
use squall_fields::Failure;
use squall_operators::control::Change;
use squall_operators::progress::Progress;
use squall_operators::stream::StreamContext;

use super::{Hosts, mesh, peer_failure};
use crate::inputs::Inputs;

/// How often a process says that it lives.
const ALIVE: Duration = Duration::from_secs(1);
/// After this long without a word a process counts as gone.
const SILENT: Duration = Duration::from_secs(10);

/// What the home of a stream tells the others before anything is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// What is committed.
    pub(crate) progress: Progress,
    /// Its source's topic as it was found.
    pub(crate) inputs: Inputs,
    /// Whether it had committed nothing.
    pub(crate) is_new: bool,
    /// Of a verification: the topic of what forecasts are compared with in place of the source's.
    pub(crate) truth: Option<Inputs>,
    /// Of a verification: the topic of reports of stations.
    pub(crate) stations: Option<Inputs>,
    /// The topic of the wind that steers.
    pub(crate) steering: Option<Inputs>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Word {
    /// It lives.
    Alive,
    /// The topics are there.
    Prepared,
    /// The ledger of a stream is open.
    Opened(Arc<str>, Box<Opened>),
    /// Something about a stream has changed.
    Changed(Arc<str>, Change),
    /// It ends, and why if not because it is done.
    Bye(Option<String>),
}

/// The other processes, as this one hears and tells them.
pub(crate) struct Peers {
    hosts: Hosts,
    senders: Vec<Sender<Word>>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Default)]
struct Heard {
    prepared: bool,
    opened: BTreeMap<Arc<str>, Opened>,
    /// What changed, by process, before the streams were there to be told.
    changes: Vec<(usize, Arc<str>, Change)>,
    streams: Vec<StreamContext>,
    abandoned: Arc<AtomicBool>,
    /// Those that have ended in order.
    left: BTreeSet<usize>,
    /// Whether this one has.
    leaves: bool,
    lost: Option<Failure>,
}

impl Peers {
    /// Begins to listen and to speak.
    ///
    /// # Errors
    /// The system gives no threads.
    pub(crate) fn start(hosts: Hosts, words: Vec<Option<TcpStream>>) -> io::Result<Arc<Self>> {
        let (mut senders, mut ears, mut mouths) = (Vec::new(), Vec::new(), Vec::new());
        for (process, stream) in words.into_iter().enumerate().filter_map(|(p, stream)| Some((p, stream?))) {
            stream.set_read_timeout(Some(SILENT))?;
            stream.set_write_timeout(Some(SILENT))?;
            let (sender, receiver) = unbounded();
            senders.push(sender);
            ears.push((process, stream.try_clone()?));
            mouths.push((process, stream, receiver));
        }
        let peers = Arc::new(Self {
            hosts,
            senders,
            writers: Mutex::default(),
            heard: Mutex::default(),
            changed: Condvar::new(),
        });
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name).spawn(run);
        for (process, stream) in ears {
            let peers = peers.clone();
            spawn(format!("hear {process}"), Box::new(move || peers.hear(process, stream)))?;
        }
        for (process, stream, words) in mouths {
            let of_thread = peers.clone();
            let thread = spawn(format!("tell {process}"), Box::new(move || of_thread.speak(process, stream, &words)))?;
            peers.writers.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(peers)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, word: &Word) {
        for sender in &self.senders {
            let _ = sender.send(word.clone()); // whoever is gone is noticed by its silence
        }
    }

    fn speak(&self, process: usize, mut stream: TcpStream, words: &Receiver<Word>) {
        loop {
            let word = match words.recv_timeout(ALIVE) {
                Ok(word) => word,
                Err(RecvTimeoutError::Timeout) => Word::Alive,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = mesh::write(&mut stream, &word) {
                return self.lose(process, &format!("cannot be reached: {error}"));
            }
            if matches!(word, Word::Bye(_)) {
                let _ = stream.shutdown(Shutdown::Write);
                return;
            }
        }
    }

    fn hear(&self, process: usize, mut stream: TcpStream) {
        loop {
            match mesh::read(&mut stream) {
                Ok(Word::Bye(None)) => {
                    self.heard().left.insert(process);
                    return;
                }
                Ok(Word::Bye(Some(reason))) => return self.lose(process, &format!("ended: {reason}")),
                Ok(word) => self.take(process, word),
                Err(error) if is_silence(&error) => {
                    return self.lose(process, &format!("said nothing for {} s", SILENT.as_secs()));
                }
                Err(error) => return self.lose(process, &format!("is gone: {error}")),
            }
        }
    }

    fn take(&self, process: usize, word: Word) {
        let mut heard = self.heard();
        match word {
            Word::Alive | Word::Bye(_) => return,
            Word::Prepared => heard.prepared = true,
            Word::Opened(stream, opened) => drop(heard.opened.insert(stream, *opened)),
            Word::Changed(stream, change) if heard.streams.is_empty() => heard.changes.push((process, stream, change)),
            Word::Changed(stream, change) => {
                let streams = heard.streams.clone();
                drop(heard);
                return self.apply(&streams, process, &stream, change);
            }
        }
        self.changed.notify_all();
    }

    fn apply(&self, streams: &[StreamContext], process: usize, stream: &str, change: Change) {
        let Some(context) = streams.iter().find(|context| *context.name == *stream) else { return };
        let failed = |reason| peer_failure(format!("{}: {reason}", self.hosts.name(process)));
        context.control.apply(change, failed);
    }

    /// A process is not there any more: everything here ends.
    pub(crate) fn lose(&self, process: usize, why: &str) {
        let (streams, failure) = {
            let mut heard = self.heard();
            if heard.leaves || heard.left.contains(&process) || heard.lost.is_some() {
                return;
            }
            let failure = peer_failure(format!("{} {why}", self.hosts.name(process)));
            tracing::error!("{failure}");
            heard.lost = Some(failure.clone());
            heard.abandoned.store(true, Ordering::SeqCst);
            (heard.streams.clone(), failure)
        };
        self.changed.notify_all();
        for stream in &streams {
            stream.control.fail(failure.clone());
        }
    }

    /// The streams that run from now on, and what is set when their workers cannot come to an end.
    pub(crate) fn attach(self: &Arc<Self>, streams: &[StreamContext], abandoned: Arc<AtomicBool>) {
        for stream in streams {
            let (peers, name) = (self.clone(), stream.name.clone());
            stream.control.tell(Box::new(move |change| peers.tell(&Word::Changed(name.clone(), change))));
        }
        let (changes, lost) = {
            let mut heard = self.heard();
            abandoned.fetch_or(heard.lost.is_some(), Ordering::SeqCst);
            (heard.streams, heard.abandoned) = (streams.to_vec(), abandoned);
            (std::mem::take(&mut heard.changes), heard.lost.clone())
        };
        for (process, stream, change) in changes {
            self.apply(streams, process, &stream, change);
        }
        for stream in streams.iter().filter(|_| lost.is_some()) {
            lost.iter().for_each(|lost| stream.control.fail(lost.clone()));
        }
    }

    /// Tells that the topics are there.
    pub(crate) fn tell_prepared(&self) {
        self.tell(&Word::Prepared);
    }

    /// Waits until process 0 has said that the topics are there.
    ///
    /// # Errors
    /// A process is lost, or the time is over.
    pub(crate) fn await_prepared(&self, deadline: Instant, goes_on: &dyn Fn(Duration) -> bool) -> Result<(), Failure> {
        self.wait("the topics", deadline, goes_on, |heard| heard.prepared.then_some(()))
    }

    /// Tells what is committed of a stream at home here.
    pub(crate) fn tell_opened(&self, stream: &Arc<str>, opened: Opened) {
        self.tell(&Word::Opened(stream.clone(), opened.into()));
    }

    /// Waits for what is committed of a stream at home elsewhere.
    ///
    /// # Errors
    /// A process is lost, or the time is over.
    pub(crate) fn await_opened(
        &self,
        stream: &str,
        deadline: Instant,
        goes_on: &dyn Fn(Duration) -> bool,
    ) -> Result<Opened, Failure> {
        self.wait(&format!("stream {stream}"), deadline, goes_on, |heard| heard.opened.remove(stream))
    }

    fn wait<T>(
        &self,
        what: &str,
        deadline: Instant,
        goes_on: &dyn Fn(Duration) -> bool,
        mut take: impl FnMut(&mut Heard) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            let mut heard = self.heard();
            if let Some(taken) = take(&mut heard) {
                return Ok(taken);
            }
            if let Some(lost) = &heard.lost {
                return Err(lost.clone());
            }
            let waited = self.changed.wait_timeout(heard, Duration::from_millis(100));
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            if Instant::now() >= deadline || !goes_on(Duration::ZERO) {
                return Err(peer_failure(format!("waited in vain for {what}")));
            }
        }
    }

    /// Says goodbye, with the reason if it is not the end that was meant.
    pub(crate) fn leave(&self, failure: Option<String>) {
        self.heard().leaves = true;
        self.tell(&Word::Bye(failure));
        let writers = std::mem::take(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner));
        writers.into_iter().for_each(|writer| drop(writer.join()));
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
