//! The operator's side: hands work over, and keeps what belongs to it until the answer is there.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crossbeam_channel::{Receiver, Sender, unbounded};
use timely::scheduling::SyncActivator;

use super::service::{NotTaken, ReplyTo, Slot};
use super::{Lost, Service};

/// Work that a service did not take, given back as it was.
#[derive(Debug)]
pub enum Refused<Q, K> {
    /// As much waits as may: to be tried again when an answer comes.
    Full(Q, K),
    /// The thread is gone.
    Dead(Lost),
}

type Start<Q, A> = Box<dyn FnOnce() -> io::Result<Service<Q, A>>>;

/// Hands requests `Q` to a service and keeps a `K` for each until its answer `A` is there.
///
/// Belongs to one thread and never makes it wait. Dropping a desk cancels what it has under way.
pub struct Desk<Q, A: Send + 'static, K> {
    service: Option<Service<Q, A>>,
    start: Option<Start<Q, A>>,
    wake: Option<SyncActivator>,
    sender: Sender<(u64, Result<A, Lost>)>,
    answers: Receiver<(u64, Result<A, Lost>)>,
    running: BTreeMap<u64, (Slot<Q>, K)>,
    /// What the service had no room for, in order.
    backlog: VecDeque<(Q, K)>,
    next: u64,
}

impl<Q: Send + 'static, A: Send + 'static, K> Desk<Q, A, K> {
    /// A desk before a service; `wake` activates the operator when an answer is there.
    pub fn new(service: Service<Q, A>, wake: Option<SyncActivator>) -> Self {
        Self::made_of(Some(service), None, wake)
    }

    /// A desk whose service starts with the first piece of work: an operator that gets none has no thread.
    pub fn starting(start: impl FnOnce() -> io::Result<Service<Q, A>> + 'static, wake: Option<SyncActivator>) -> Self {
        Self::made_of(None, Some(Box::new(start)), wake)
    }

    fn made_of(service: Option<Service<Q, A>>, start: Option<Start<Q, A>>, wake: Option<SyncActivator>) -> Self {
        let (sender, answers) = unbounded();
        let (running, backlog) = (BTreeMap::new(), VecDeque::new());
        Self { service, start, wake, sender, answers, running, backlog, next: 0 }
    }

    /// Pieces of work without an answer, those that wait at the desk among them.
    pub fn len(&self) -> usize {
        self.running.len() + self.backlog.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands work over, or gives it back: for an operator that would do something else with it. Says its number.
    ///
    /// # Errors
    /// The queue is full, or the thread is gone.
    pub fn try_submit(&mut self, request: Q, keep: K) -> Result<u64, Refused<Q, K>> {
        let id = self.next;
        if let Some(start) = self.start.take() {
            match start() {
                Ok(service) => self.service = Some(service),
                Err(error) => return Err(Refused::Dead(Lost::no_thread(error))),
            }
        }
        let Some(service) = &self.service else { return Err(Refused::Dead(Lost::over("that did not start"))) };
        let to = ReplyTo { id, answers: self.sender.clone(), wake: self.wake.clone() };
        match service.hand_over(request, to) {
            Ok(slot) => {
                self.next += 1;
                self.running.insert(id, (slot, keep));
                Ok(id)
            }
            Err((NotTaken::Full, request)) => Err(Refused::Full(request, keep)),
            Err((NotTaken::Dead(lost), _)) => Err(Refused::Dead(lost)),
        }
    }

    /// Hands work over, in order; what the service has no room for waits here. For operators whose input is bounded
    /// already, by the bytes that sources may have in flight or by permits.
    pub fn submit(&mut self, request: Q, keep: K) -> Result<(), Lost> {
        self.backlog.push_back((request, keep));
        self.flush()
    }

    /// Hands over what waits here, as far as there is room.
    fn flush(&mut self) -> Result<(), Lost> {
        while let Some((request, keep)) = self.backlog.pop_front() {
            match self.try_submit(request, keep) {
                Ok(_) => {}
                Err(Refused::Full(request, keep)) => {
                    self.backlog.push_front((request, keep));
                    break;
                }
                Err(Refused::Dead(lost)) => {
                    self.backlog.clear();
                    return Err(lost);
                }
            }
        }
        Ok(())
    }

    /// The next answer that is there, with what was kept for it. Makes room for what waits here.
    pub fn poll(&mut self) -> Option<(K, Result<A, Lost>)> {
        while let Ok((id, answer)) = self.answers.try_recv() {
            if let Some(answered) = self.settle(id, answer) {
                return Some(answered);
            }
        }
        let _ = self.flush(); // there may be room without an answer to this desk
        None
    }

    /// Waits for the next answer; `None` if nothing is under way. For threads that may wait: tests and tools.
    pub fn wait(&mut self) -> Option<(K, Result<A, Lost>)> {
        while !self.is_empty() {
            let (id, answer) = self.answers.recv().expect("the desk itself holds a sender");
            if let Some(answered) = self.settle(id, answer) {
                return Some(answered);
            }
        }
        None
    }

    fn settle(&mut self, id: u64, answer: Result<A, Lost>) -> Option<(K, Result<A, Lost>)> {
        // The thread's death comes with its own answers; what waits here is told by the next `submit`.
        let _ = self.flush();
        let (_, keep) = self.running.remove(&id)?; // one that was cancelled is answered all the same
        Some((keep, answer))
    }

    /// Gives up a piece of work: its request is let go at once, its answer will not come.
    pub fn cancel(&mut self, id: u64) -> Option<K> {
        let (slot, keep) = self.running.remove(&id)?;
        slot.cancel();
        Some(keep)
    }

    /// Gives up everything.
    pub fn clear(&mut self) {
        self.backlog.clear();
        for (slot, _) in std::mem::take(&mut self.running).into_values() {
            slot.cancel();
        }
    }
}

impl<Q, A: Send + 'static, K> Drop for Desk<Q, A, K> {
    fn drop(&mut self) {
        for (slot, _) in self.running.values() {
            slot.cancel();
        }
    }
}
