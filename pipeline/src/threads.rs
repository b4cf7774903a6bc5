//! How many threads libtorch computes on, and how they wait.
//!
//! They are OpenMP's, whose library by default takes a thread for every core of the machine, whatever share of it a
//! container has, and has those that are done with their part of an operation spin until the others are. Beside the
//! workers of a dataflow and other programs that is time taken from who has something to do, the slowest part of the
//! same operation included. The library reads how it shall be when it is loaded, which is before `main`. So the program
//! starts itself anew with that in its environment, in its own place: same process, same arguments.

use std::env;
use std::num::NonZero;

/// How threads wait: `passive` sleeps.
const POLICY: &str = "OMP_WAIT_POLICY";
/// The older spelling of the same in the GNU library, which would be heeded with it.
const SPINS: &str = "GOMP_SPINCOUNT";
/// How many threads there are at most.
const COUNT: &str = "OMP_NUM_THREADS";

/// Starts the program anew with threads that sleep while they wait, as many as the process may use cores at the same
/// time, unless the environment says how it shall be.
///
/// Called once, before other threads start. Returns if there is nothing to change, and where the program cannot be
/// started anew: it is then slower on a busy machine and nothing else.
pub fn bound_and_passive() {
    let settings = missing(|name| env::var_os(name).is_some(), std::thread::available_parallelism().ok());
    if settings.is_empty() {
        return;
    }
    #[cfg(unix)]
    if let Ok(program) = env::current_exe() {
        use std::os::unix::process::CommandExt;
        let mut arguments = env::args_os();
        let mut again = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Only comes back if it fails.
        let _ = again.args(arguments).envs(settings).exec();
    }
}

/// What an environment does not say yet, with the value that it should have.
fn missing(is_said: impl Fn(&str) -> bool, cores: Option<NonZero<usize>>) -> Vec<(&'static str, String)> {
    let policy = (!is_said(POLICY) && !is_said(SPINS)).then(|| (POLICY, "passive".to_owned()));
    let count = cores.filter(|_| !is_said(COUNT)).map(|cores| (COUNT, cores.to_string()));
    policy.into_iter().chain(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_is_left_alone_and_nothing_is_asked_for_twice() {
        let cores = NonZero::new(3);
        let of = |said: &[&str]| missing(|name| said.contains(&name), cores);
        let (policy, count) = ((POLICY, "passive".to_owned()), (COUNT, "3".to_owned()));
        assert_eq!(of(&[]), [policy.clone(), count.clone()]);
        assert_eq!(of(&[SPINS]), std::slice::from_ref(&count));
        assert_eq!(of(&[COUNT]), [policy]);
        assert_eq!(of(&[POLICY, COUNT]), []);
        assert_eq!(missing(|name| name == POLICY, None), []);
    }
}
