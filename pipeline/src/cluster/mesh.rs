//! How the processes of a cluster find each other: each listens for those after it and asks those before it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Hosts, peer_failure};
use crate::commands::Usage;

/// How long a process that connects may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(5);
/// Between two looks for those that are missing.
const AGAIN: Duration = Duration::from_millis(100);
/// Most bytes of a word: the progress of a stream with many windows has some hundred kilobytes.
const MOST_BYTES: u32 = 64 << 20;

/// What must be the same in all processes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Version of the program.
    pub(crate) version: String,
    /// Name of the instance.
    pub(crate) instance: String,
    /// How many processes there are.
    pub(crate) processes: usize,
    /// Workers of each.
    pub(crate) workers: usize,
    /// Digest of the settings that decide what is computed.
    pub(crate) settings: String,
}

/// The connections of a pair of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Purpose {
    Words,
    Frames,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Hello {
    identity: Identity,
    process: usize,
    /// Tells a process from the one that was there before.
    session: u64,
    purpose: Purpose,
}

/// The connections to each process, `None` for this one.
pub(crate) struct Mesh {
    pub(crate) words: Vec<Option<TcpStream>>,
    pub(crate) frames: Vec<Option<TcpStream>>,
}

/// A pair of connections that is being made.
#[derive(Default)]
struct Half {
    session: u64,
    words: Option<TcpStream>,
    frames: Option<TcpStream>,
    /// What the newest call said, if it was in vain.
    trouble: Option<String>,
    /// How it differs, if it is not of this cluster.
    different: Option<String>,
}

impl Half {
    fn is_whole(&self) -> bool {
        self.words.is_some() && self.frames.is_some()
    }

    fn take(&mut self, hello: &Hello, stream: TcpStream) {
        if self.session != hello.session {
            *self = Self { session: hello.session, ..Self::default() };
        }
        match hello.purpose {
            Purpose::Words => self.words = Some(stream),
            Purpose::Frames => self.frames = Some(stream),
        }
    }

    /// Forgets a process that has gone again.
    fn look(&mut self) {
        let Some(words) = &self.words else { return };
        let gone = words.set_nonblocking(true).is_err()
            || match words.peek(&mut [0]) {
                Ok(read) => read == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            }
            || words.set_nonblocking(false).is_err();
        if gone {
            *self = Self::default();
        }
    }
}

struct Meeting<'a> {
    hosts: &'a Hosts,
    identity: &'a Identity,
    session: u64,
    halves: Vec<Half>,
}

impl Mesh {
    /// Connects with all other processes. `goes_on` waits a little and says whether to go on.
    ///
    /// # Errors
    /// The address of this process cannot be listened on; some do not come before the deadline, or are of another
    /// configuration.
    pub(crate) fn connect(
        hosts: &Hosts,
        identity: &Identity,
        deadline: Instant,
        goes_on: impl Fn(Duration) -> bool,
    ) -> anyhow::Result<Self> {
        let halves = hosts.addresses.iter().map(|_| Half::default()).collect();
        let mut meeting = Meeting { hosts, identity, session: session(), halves };
        let mut listener = None;
        let mut said = String::new();
        while !meeting.is_complete() {
            if listener.is_none() && hosts.process + 1 < hosts.processes() {
                listener = meeting.listen(deadline)?;
            }
            listener.iter().for_each(|listener| meeting.accept(listener));
            meeting.ask();
            let missing = meeting.missing();
            if missing != said && !missing.is_empty() {
                tracing::info!("waits for {missing}");
                said = missing;
            }
            if !meeting.is_complete() && (Instant::now() >= deadline || !goes_on(AGAIN)) {
                return Err(meeting.why_not());
            }
        }
        let (words, frames): (_, Vec<_>) = meeting.halves.into_iter().map(|half| (half.words, half.frames)).unzip();
        for frames in frames.iter().flatten() {
            // Between two frames lie minutes; that a process is gone its words tell.
            frames.set_read_timeout(None)?;
            frames.set_write_timeout(None)?;
        }
        Ok(Self { words, frames })
    }
}

impl Meeting<'_> {
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.hosts.process;
        (0..self.hosts.processes()).filter(move |process| *process != own)
    }

    fn is_complete(&self) -> bool {
        self.others().all(|process| self.halves[process].is_whole())
    }

    /// Those that are not there yet.
    fn missing(&self) -> String {
        let missing = self.others().filter(|process| !self.halves[*process].is_whole());
        let why = |half: &Half| half.different.clone().or_else(|| half.trouble.clone());
        let names = missing.map(|process| match why(&self.halves[process]) {
            Some(trouble) => format!("{}: {trouble}", self.hosts.name(process)),
            None => self.hosts.name(process),
        });
        names.collect::<Vec<_>>().join("; ")
    }

    fn why_not(&self) -> anyhow::Error {
        let missing = self.missing();
        if self.halves.iter().any(|half| half.different.is_some()) {
            return Usage(missing).into();
        }
        peer_failure(format!("not all processes of the cluster came: {missing}")).into()
    }

    /// Listens on the address of this process; `None` while its name is not known yet.
    fn listen(&self, deadline: Instant) -> anyhow::Result<Option<TcpListener>> {
        let address = &self.hosts.addresses[self.hosts.process];
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => Ok(Some(listener)),
            // The name of a process may be known only after it has started; its address may be another's for a moment.
            Err(error) if Instant::now() < deadline => {
                tracing::debug!(address, %error, "cannot listen yet");
                Ok(None)
            }
            Err(error) => {
                Err(Usage(format!("cannot listen on {address}, the address of this process: {error}")).into())
            }
        }
    }

    fn hello(&self, purpose: Purpose) -> Hello {
        Hello { identity: self.identity.clone(), process: self.hosts.process, session: self.session, purpose }
    }

    /// Takes in those after this process.
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, from)) = listener.accept() {
            match self.introduce(stream) {
                Ok((hello, stream)) => match different(self.identity, &hello.identity) {
                    None if hello.process > self.hosts.process && hello.process < self.hosts.processes() => {
                        self.halves[hello.process].take(&hello, stream);
                    }
                    None => tracing::warn!(%from, process = hello.process, "no process of that number is expected"),
                    Some(different) => self.differs(hello.process, different),
                },
                // Whoever it was: a process of the cluster comes again.
                Err(error) => tracing::debug!(%from, %error, "an unknown connection"),
            }
        }
    }

    fn introduce(&self, mut stream: TcpStream) -> io::Result<(Hello, TcpStream)> {
        prepare(&stream)?;
        let hello: Hello = read(&mut stream)?;
        write(&mut stream, &self.hello(hello.purpose))?;
        Ok((hello, stream))
    }

    /// Asks those before this process.
    fn ask(&mut self) {
        for process in self.others() {
            self.halves[process].look();
            if process > self.hosts.process || self.halves[process].is_whole() {
                continue;
            }
            for purpose in [Purpose::Words, Purpose::Frames] {
                match self.call(process, purpose) {
                    Ok((hello, stream)) => match different(self.identity, &hello.identity) {
                        None => self.halves[process].take(&hello, stream),
                        Some(different) => self.differs(process, different),
                    },
                    Err(error) => {
                        self.halves[process].trouble = Some(error.to_string());
                        break;
                    }
                }
            }
        }
    }

    fn call(&self, process: usize, purpose: Purpose) -> io::Result<(Hello, TcpStream)> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in self.hosts.addresses[process].to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, INTRODUCTION) {
                Ok(mut stream) => {
                    prepare(&stream)?;
                    write(&mut stream, &self.hello(purpose))?;
                    return Ok((read(&mut stream)?, stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn differs(&mut self, process: usize, different: String) {
        if let Some(half) = self.halves.get_mut(process) {
            half.different = Some(different);
        }
    }
}

/// What differs between two processes that should be of one cluster.
fn different(own: &Identity, theirs: &Identity) -> Option<String> {
    fn differs(what: &str, own: &dyn fmt::Display, theirs: &dyn fmt::Display) -> Option<String> {
        let (own, theirs) = (own.to_string(), theirs.to_string());
        (own != theirs).then(|| format!("its {what} is {theirs}, here {own}"))
    }
    let all = [
        differs("version", &own.version, &theirs.version),
        differs("name", &own.instance, &theirs.instance),
        differs("number of processes", &own.processes, &theirs.processes),
        differs("number of workers", &own.workers, &theirs.workers),
        differs("digest of settings", &own.settings, &theirs.settings),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| format!("is not of this cluster: {}", all.join(", ")))
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(INTRODUCTION))?;
    stream.set_write_timeout(Some(INTRODUCTION))
}

/// Another number for each start.
fn session() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

/// Writes a word: its length and its JSON.
pub(super) fn write(stream: &mut TcpStream, word: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(word)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MOST_BYTES);
    let length = length.ok_or_else(|| io::Error::other(format!("a word of {} bytes", bytes.len())))?;
    let mut all = Vec::with_capacity(bytes.len() + 4);
    all.extend_from_slice(&length.to_be_bytes());
    all.extend_from_slice(&bytes);
    stream.write_all(&all)
}

/// Reads a word.
pub(super) fn read<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a word of {length} bytes")));
    }
    // What is announced is not believed before it comes.
    let mut bytes = Vec::new();
    if stream.take(u64::from(length)).read_to_end(&mut bytes)? < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identity(settings: &str) -> Identity {
        let (version, instance) = ("1".to_owned(), "t".to_owned());
        Identity { version, instance, processes: 2, workers: 1, settings: settings.into() }
    }

    /// Addresses of two processes on this machine that nobody has.
    pub(crate) fn addresses(count: usize) -> Vec<String> {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
    }

    fn meet(settings: [&str; 2], within: Duration) -> [anyhow::Result<Mesh>; 2] {
        let addresses = addresses(2);
        let deadline = Instant::now() + within;
        let threads = [0, 1].map(|process| {
            let (hosts, identity) = (Hosts { addresses: addresses.clone(), process }, identity(settings[process]));
            std::thread::spawn(move || {
                Mesh::connect(&hosts, &identity, deadline, |wait| {
                    std::thread::sleep(wait);
                    true
                })
            })
        });
        threads.map(|thread| thread.join().unwrap())
    }

    #[test]
    fn two_processes_meet_and_talk() {
        let [first, second] = meet(["a", "a"], Duration::from_secs(20)).map(Result::unwrap);
        let mut to_second = first.words[1].as_ref().unwrap().try_clone().unwrap();
        let mut to_first = second.words[0].as_ref().unwrap().try_clone().unwrap();
        write(&mut to_second, &"hello").unwrap();
        assert_eq!(read::<String>(&mut to_first).unwrap(), "hello");
        let frames = first.frames[1].as_ref().unwrap();
        assert_eq!(frames.read_timeout().unwrap(), None, "frames may be far apart");
        assert!(first.frames[0].is_none() && second.frames[0].is_some());
    }

    #[test]
    fn a_process_with_other_settings_is_named() {
        let [first, second] = meet(["a", "b"], Duration::from_secs(2));
        for (met, (own, theirs)) in [(first, ("a", "b")), (second, ("b", "a"))] {
            let error = met.err().unwrap();
            assert!(error.is::<Usage>(), "{error:#}");
            assert!(error.to_string().contains(&format!("its digest of settings is {theirs}, here {own}")), "{error}");
        }
    }
}
