//! SIGINT and SIGTERM: the first asks to end cleanly, the second ends at once.

use std::io::{self, Write};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, select};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use squall_fields::Failure;

use crate::runtime::Handle;

/// How often the end of what runs is looked for.
const POLL: Duration = Duration::from_millis(50);

/// Set once, for good, when the program should end. Clones see the same.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Closed when the stop is set.
    closed: Receiver<()>,
}

/// Sets a [`Stop`]; dropping it does, too.
#[derive(Debug)]
pub struct Stopper(#[expect(dead_code, reason = "dropped to close the channel")] Sender<()>);

/// Bounds the end of the process while it lives; see [`Stop::within`].
#[derive(Debug)]
pub struct Within(#[expect(dead_code, reason = "dropped to close the channel")] Sender<()>);

impl Stop {
    /// A stop that is set by hand.
    ///
    /// ```
    /// let (stop, stopper) = squall_pipeline::signals::Stop::by_hand();
    /// assert!(!stop.is_set());
    /// drop(stopper);
    /// assert!(stop.is_set());
    /// ```
    pub fn by_hand() -> (Self, Stopper) {
        let (sender, closed) = bounded(0);
        (Self { closed }, Stopper(sender))
    }

    /// A stop that SIGINT or SIGTERM sets. A second signal ends the process at once, with 128 plus its number.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn on_signal() -> io::Result<Self> {
        let (stop, stopper) = Self::by_hand();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let mut stopper = Some(stopper);
            for signal in signals.forever() {
                if stopper.take().is_none() {
                    // No destructors: whoever asks twice wants out, and an open transaction is aborted by the broker.
                    signal_hook::low_level::exit(128 + signal);
                }
                // Not eprintln: it would panic where stderr is closed.
                let _ = writeln!(io::stderr(), "stopping; once more ends at once");
            }
        })?;
        Ok(stop)
    }

    /// Ends the process, once this is set, when it has not ended by itself within a time, whatever it waits for: a call to a
    /// broker that is away may take minutes. Without harm, since a new start goes on from what is committed. As long as the
    /// returned guard lives.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn within(&self, limit: Duration) -> io::Result<Within> {
        let (guard, over) = bounded::<()>(0);
        let closed = self.closed.clone();
        std::thread::Builder::new().name("stop".into()).spawn(move || {
            select! {
                recv(closed) -> _ => {}
                recv(over) -> _ => return,
            }
            select! {
                recv(over) -> _ => {}
                recv(after(limit)) -> _ => {
                    let text = "ends without what it waits for; the next start goes on from what is committed";
                    let _ = writeln!(io::stderr(), "{text}");
                    signal_hook::low_level::exit(0);
                }
            }
        })?;
        Ok(Within(guard))
    }

    /// Waits for the end of what runs, and asks it to end cleanly once this is set.
    ///
    /// # Errors
    /// Why it failed.
    pub fn end(&self, handle: Handle) -> Result<(), Failure> {
        let mut asked = false;
        while !handle.is_finished() {
            // Asked once: from then on only its end is waited for.
            if asked {
                std::thread::sleep(POLL);
            } else if self.wait_for(POLL) {
                handle.stop();
                asked = true;
            }
        }
        handle.join()
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        matches!(self.closed.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    /// Waits until it is set.
    pub fn wait(&self) {
        let _ = self.closed.recv();
    }

    /// Waits until it is set, but no longer than this; says whether it is.
    pub fn wait_for(&self, limit: Duration) -> bool {
        select! {
            recv(self.closed) -> _ => true,
            recv(after(limit)) -> _ => self.is_set(),
        }
    }
}

/// Sends a signal to a child.
pub(crate) fn signal_process(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes plain numbers; the child has not been waited for yet.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends a signal to the process group of a child.
pub(crate) fn signal_group(pid: u32, signal: libc::c_int) {
    if let Ok(pid) = libc::pid_t::try_from(pid) {
        // SAFETY: kill takes plain numbers; the group is that of a child which has not been waited for yet.
        unsafe { libc::kill(-pid, signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_stop() {
        let stop = Stop::on_signal().unwrap();
        assert!(!stop.wait_for(Duration::ZERO));
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(stop.wait_for(Duration::from_secs(10)));
    }
}
