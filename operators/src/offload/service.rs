//! The thread's side: a bounded queue, and answers that cannot be forgotten.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use timely::scheduling::SyncActivator;

use super::{Health, Lost};

/// A thread that answers requests `Q` with answers `A`. It ends when the last handle is dropped.
pub struct Service<Q, A: Send + 'static> {
    queue: Sender<Work<Q, A>>,
    health: Arc<Health>,
    room: Arc<Room>,
}

/// Who found the queue full: desks share a service, and one whose own work is all answered is woken by no answer.
#[derive(Default)]
struct Room(Mutex<Vec<SyncActivator>>);

impl Room {
    fn wanted_by(&self, waker: SyncActivator) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }

    /// There is some.
    fn is_there(&self) {
        for waker in std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = waker.activate(); // a worker that is gone wants none
        }
    }
}

impl<Q, A: Send + 'static> Clone for Service<Q, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), health: self.health.clone(), room: self.room.clone() }
    }
}

/// Why a request without an answer was not taken.
#[derive(Debug)]
pub enum TellError<Q> {
    /// As many wait as may; it is given back.
    Full(Q),
    /// The thread is gone.
    Dead(Lost),
}

/// Why a piece of work was not taken.
pub(super) enum NotTaken {
    /// As many wait as may.
    Full,
    /// The thread is gone.
    Dead(Lost),
}

impl<Q: Send + 'static, A: Send + 'static> Service<Q, A> {
    /// Starts a thread that runs `serve` until its inbox is closed; at most `capacity` requests wait for it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(name: &str, capacity: usize, serve: impl FnOnce(&Inbox<Q, A>) + Send + 'static) -> io::Result<Self> {
        let (queue, works) = bounded(capacity.max(1));
        let health = Arc::new(Health::new(name));
        let room = Arc::<Room>::default();
        let inbox = Inbox { works, health: health.clone(), room: room.clone() };
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| serve(&inbox))) {
                inbox.health.panicked(&*payload);
            }
            // What waits will not be served: dropped, each piece of work tells its desk. What comes later is refused.
            inbox.health.close();
            inbox.works.try_iter().for_each(drop);
            inbox.room.is_there(); // whoever tries again learns that the thread is gone
        })?;
        Ok(Self { queue, health, room })
    }

    /// Starts a thread that answers one request after the other.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn each(name: &str, capacity: usize, mut answer: impl FnMut(Q) -> A + Send + 'static) -> io::Result<Self> {
        Self::start(name, capacity, move |inbox| {
            while let Some((request, reply)) = inbox.next() {
                let answer = answer(request);
                reply.send(answer);
            }
        })
    }

    /// Hands over a request to which no answer is wanted.
    ///
    /// # Errors
    /// The queue is full, or the thread is gone.
    pub fn tell(&self, request: Q) -> Result<(), TellError<Q>> {
        self.queue_up(request, None).map(drop).map_err(|(why, request)| match why {
            NotTaken::Full => TellError::Full(request),
            NotTaken::Dead(lost) => TellError::Dead(lost),
        })
    }

    /// How the thread is.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Hands a request over without waiting; whoever holds the returned slot can take it back.
    pub(super) fn hand_over(&self, request: Q, to: ReplyTo<A>) -> Result<Slot<Q>, (NotTaken, Q)> {
        let again = to.again();
        match self.queue_up(request, Some(to)) {
            Err((NotTaken::Full, request)) => {
                // Known to wait before it is tried once more: room that came in between woke nobody.
                again.wake.iter().for_each(|waker| self.room.wanted_by(waker.clone()));
                self.queue_up(request, Some(again))
            }
            other => other,
        }
    }

    fn queue_up(&self, request: Q, to: Option<ReplyTo<A>>) -> Result<Slot<Q>, (NotTaken, Q)> {
        let slot = Slot::new(request);
        self.health.more();
        let reply = Reply { to, wanted: slot.wanted.clone(), health: self.health.clone() };
        match self.queue.try_send(Work { slot: slot.clone(), reply }) {
            // A thread that ended in between has thrown the work away, or never will see it.
            Ok(()) if self.health.is_closed() => match slot.take() {
                Some(request) => Err((NotTaken::Dead(self.health.gone()), request)),
                None => Ok(slot),
            },
            Ok(()) => Ok(slot),
            Err(refused) => {
                let full = matches!(refused, TrySendError::Full(_));
                let mut work = refused.into_inner();
                work.reply.to = None; // it was never under way: nobody waits for it
                let request = slot.take().expect("nobody else has the slot of work that was not handed over");
                let why = if full { NotTaken::Full } else { NotTaken::Dead(self.health.gone()) };
                Err((why, request))
            }
        }
    }
}

/// A request on its way. Taken by the thread, or taken back by the desk, whichever comes first.
pub(super) struct Slot<Q> {
    request: Arc<Mutex<Option<Q>>>,
    wanted: Arc<AtomicBool>,
}

impl<Q> Clone for Slot<Q> {
    fn clone(&self) -> Self {
        Self { request: self.request.clone(), wanted: self.wanted.clone() }
    }
}

impl<Q> Slot<Q> {
    fn new(request: Q) -> Self {
        Self { request: Arc::new(Mutex::new(Some(request))), wanted: Arc::new(AtomicBool::new(true)) }
    }

    fn take(&self) -> Option<Q> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Nobody wants the answer any more.
    pub(super) fn cancel(&self) {
        self.wanted.store(false, Ordering::SeqCst);
        drop(self.take());
    }
}

/// A piece of work in the queue.
pub struct Work<Q, A: Send + 'static> {
    slot: Slot<Q>,
    reply: Reply<A>,
}

/// Where the answers of a desk go.
pub(super) struct ReplyTo<A> {
    pub(super) id: u64,
    pub(super) answers: Sender<(u64, Result<A, Lost>)>,
    pub(super) wake: Option<SyncActivator>,
}

/// The right, and the duty, to answer one request: dropped without an answer it says that the work is lost.
pub struct Reply<A: Send + 'static> {
    to: Option<ReplyTo<A>>,
    wanted: Arc<AtomicBool>,
    health: Arc<Health>,
}

impl<A: Send + 'static> Reply<A> {
    /// Whether anybody still wants the answer.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Answers.
    pub fn send(mut self, answer: A) {
        if let Some(to) = self.to.take() {
            to.give(Ok(answer));
        }
    }
}

impl<A> ReplyTo<A> {
    /// The same, for another try.
    fn again(&self) -> Self {
        Self { id: self.id, answers: self.answers.clone(), wake: self.wake.clone() }
    }

    fn give(self, answer: Result<A, Lost>) {
        let Self { id, answers, wake } = self;
        let _ = answers.send((id, answer)); // a desk that is gone needs no answer
        if let Some(wake) = wake {
            let _ = wake.activate(); // nor does a worker that is gone need waking
        }
    }
}

impl<A: Send + 'static> Drop for Reply<A> {
    fn drop(&mut self) {
        self.health.moved();
        self.health.less();
        let Some(to) = self.to.take() else { return };
        if std::thread::panicking() {
            self.health.orphan(Box::new(move |lost| to.give(Err(lost))));
        } else {
            to.give(Err(self.health.gone()));
        }
    }
}

/// The requests of a service, on its thread.
pub struct Inbox<Q, A: Send + 'static> {
    works: Receiver<Work<Q, A>>,
    health: Arc<Health>,
    room: Arc<Room>,
}

impl<Q, A: Send + 'static> Inbox<Q, A> {
    /// Waits for the next request that is still wanted; `None` once nobody can send one any more.
    pub fn next(&self) -> Option<(Q, Reply<A>)> {
        loop {
            if let Some(taken) = self.open(self.works.recv().ok()?) {
                return Some(taken);
            }
        }
    }

    /// The same, but no longer than until an instant.
    pub fn next_before(&self, deadline: Instant) -> Option<(Q, Reply<A>)> {
        loop {
            match self.works.recv_deadline(deadline) {
                Ok(work) => match self.open(work) {
                    Some(taken) => return Some(taken),
                    None => continue,
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn open(&self, work: Work<Q, A>) -> Option<(Q, Reply<A>)> {
        let Work { slot, mut reply } = work;
        self.health.moved();
        self.room.is_there();
        match slot.take() {
            Some(request) => Some((request, reply)),
            None => {
                reply.to = None; // cancelled: nobody waits
                None
            }
        }
    }
}
