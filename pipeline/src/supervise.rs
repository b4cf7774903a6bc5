//! Keeps the processes of a cluster running: when one ends, all do, and all start anew, as the next *generation*.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use squall_fields::{ErrorKind, Failure};

use crate::exit;
use crate::signals::{Stop, signal_process};

/// How long the others may take to end by themselves once one has: they notice one that hangs after 10 s, and give up what is
/// under way after 8 s.
const END_WITHIN: Duration = Duration::from_secs(30);
/// How long they may take after a signal.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How often they are looked at.
const POLL: Duration = Duration::from_millis(100);
/// Before the first new start, and before the last of many.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A generation that ran this long was well: the next start waits as little as the first.
const WELL: Duration = Duration::from_secs(300);

/// What becomes of a cluster whose processes have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All came to their end: of the log, or because one was asked to stop.
    Done,
    /// A new start can help.
    Again,
    /// A new start would end in the same way: what is configured or given is wrong, or another instance has taken over.
    GiveUp(ErrorKind),
}

/// Judges exit codes; `None` is a process that a signal ended.
///
/// ```
/// use squall_fields::ErrorKind;
/// use squall_pipeline::supervise::{Verdict, judge};
/// assert_eq!(judge(&[Some(0), Some(0)]), Verdict::Done);
/// assert_eq!(judge(&[None, Some(7)]), Verdict::Again); // one was killed
/// assert_eq!(judge(&[Some(7), Some(6)]), Verdict::GiveUp(ErrorKind::Fenced));
/// ```
pub fn judge(codes: &[Option<i32>]) -> Verdict {
    let has = |kind| codes.contains(&Some(i32::from(exit::code(kind))));
    if codes.iter().all(|code| *code == Some(0)) {
        return Verdict::Done;
    }
    let hopeless = [ErrorKind::Fenced, ErrorKind::User, ErrorKind::Data].into_iter().find(|kind| has(*kind));
    hopeless.map_or(Verdict::Again, Verdict::GiveUp)
}

/// The processes of one generation.
struct Generation {
    children: Vec<(Child, Option<ExitStatus>)>,
}

impl Generation {
    fn start(commands: &mut [Command]) -> std::io::Result<Self> {
        let mut generation = Self { children: Vec::new() };
        for command in commands {
            // A terminal's Ctrl-C is for this process, which passes it on; and none outlives this one.
            command.process_group(0);
            // SAFETY: prctl is async-signal-safe and takes integers.
            unsafe {
                command.pre_exec(|| {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                    Ok(())
                });
            }
            generation.children.push((command.spawn()?, None));
        }
        Ok(generation)
    }

    /// Looks at each; how many still run.
    fn running(&mut self) -> usize {
        for (child, status) in &mut self.children {
            if status.is_none() {
                *status = child.try_wait().ok().flatten();
            }
        }
        self.children.iter().filter(|(_, status)| status.is_none()).count()
    }

    /// Waits until none runs, no longer than this; whether none does.
    fn ended_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.running() > 0 {
            if start.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    fn signal(&self, signal: libc::c_int) {
        for (child, _) in self.children.iter().filter(|(_, status)| status.is_none()) {
            signal_process(child.id(), signal);
        }
    }

    /// Asks all that still run to end, and ends those that do not.
    fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        if !self.ended_within(STOP_WITHIN) {
            self.signal(libc::SIGKILL);
            self.ended_within(STOP_WITHIN);
        }
    }

    fn codes(&self) -> Vec<Option<i32>> {
        self.children.iter().map(|(_, status)| status.and_then(|status| status.code())).collect()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.running() > 0 {
            self.stop();
        }
    }
}

/// Runs one generation after the other, until all processes of one end well, a new start cannot help, or it is asked to stop.
/// `commands` makes the processes of the next generation.
///
/// # Errors
/// A new start would not help; a process cannot be started.
pub fn supervise(stop: &Stop, mut commands: impl FnMut() -> anyhow::Result<Vec<Command>>) -> anyhow::Result<()> {
    let mut wait = BACKOFF.0;
    for generation in 1u64.. {
        let started = Instant::now();
        let mut processes = Generation::start(&mut commands()?)?;
        let all = processes.children.len();
        for (child, _) in &processes.children {
            tracing::info!(generation, pid = child.id(), "a process starts");
        }
        while processes.running() == all && !stop.wait_for(POLL) {}
        if stop.is_set() {
            processes.stop();
            return Ok(());
        }
        if !processes.ended_within(END_WITHIN) {
            processes.stop();
        }
        let codes = processes.codes();
        match judge(&codes) {
            Verdict::Done => return Ok(()),
            Verdict::GiveUp(kind) => {
                let text = format!("a new start would not help; exit codes: {}", written(&codes));
                return Err(Failure::new(kind, text).into());
            }
            Verdict::Again => {}
        }
        if started.elapsed() >= WELL {
            wait = BACKOFF.0;
        }
        tracing::warn!(generation, codes = written(&codes), again_in = ?wait, "a generation has ended");
        if stop.wait_for(wait) {
            return Ok(());
        }
        wait = (wait * 2).min(BACKOFF.1);
    }
    Ok(())
}

fn written(codes: &[Option<i32>]) -> String {
    let code = |code: &Option<i32>| code.map_or("killed".to_owned(), |code| code.to_string());
    codes.iter().map(code).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_generation_that_lost_a_process_is_followed_by_the_next() {
        let (stop, _stopper) = Stop::by_hand();
        let generations = AtomicUsize::new(0);
        let begun = Instant::now();
        let ended = supervise(&stop, || {
            Ok(match generations.fetch_add(1, Ordering::SeqCst) {
                0 => vec![shell("kill -9 $$"), shell("exit 7")],
                _ => vec![shell("exit 0"), shell("exit 0")],
            })
        });
        assert!(ended.is_ok() && generations.load(Ordering::SeqCst) == 2, "{ended:?}");
        assert!(begun.elapsed() >= BACKOFF.0);
    }

    #[test]
    fn what_a_new_start_cannot_help_is_given_up_with_its_code() {
        let (stop, _stopper) = Stop::by_hand();
        let error = supervise(&stop, || Ok(vec![shell("exit 7"), shell("exit 2")])).unwrap_err();
        assert_eq!(exit::kind(&error), Some(ErrorKind::User));
        assert!(error.to_string().contains("7, 2"), "{error}");
    }

    #[test]
    fn a_stop_is_passed_on_and_waited_for() {
        let (stop, stopper) = Stop::by_hand();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let script = |name: &str| {
            format!("trap 'touch {0}; exit 0' TERM; touch {0}.up; while :; do sleep 0.1; done", file(name).display())
        };
        let (first, second) = (script("a"), script("b"));
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| supervise(&stop, || Ok(vec![shell(&first), shell(&second)])));
            let until = Instant::now() + Duration::from_secs(20);
            while !(file("a.up").exists() && file("b.up").exists()) {
                assert!(Instant::now() < until, "they start");
                std::thread::sleep(POLL);
            }
            drop(stopper);
            ended.join().unwrap().unwrap();
        });
        assert!(file("a").exists() && file("b").exists());
    }
}
