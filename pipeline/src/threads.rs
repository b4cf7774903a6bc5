//! How many threads libtorch computes on, how they wait, and when memory is given back: what libraries read as they are loaded.
//!
//! They are OpenMP's, whose library by default takes a thread for every core of the machine, whatever share of it a
//! container has, and has those that are done with their part of an operation spin until the others are. Beside the
//! workers of a dataflow and other programs that is time taken from who has something to do, the slowest part of the
//! same operation included. The library reads how it shall be when it is loaded, which is before `main`. So the program
//! starts itself anew with that in its environment, in its own place: same process, same arguments. It does so before
//! the libraries are initialised, which takes libtorch a third of a second.

use std::env;
use std::ffi::{CStr, CString, c_char, c_int};
use std::num::NonZero;
use std::thread::available_parallelism;

/// How threads wait: `passive` sleeps.
const POLICY: &str = "OMP_WAIT_POLICY";
/// The older spelling of the same in the GNU library, which would be heeded with it.
const SPINS: &str = "GOMP_SPINCOUNT";
/// How many threads there are at most.
const COUNT: &str = "OMP_NUM_THREADS";
/// After how many milliseconds the program's allocator gives the pages of freed memory back. At once, with 0, a replay takes a
/// twentieth less memory and no more time.
const PURGE: &str = "MIMALLOC_PURGE_DELAY";

/// Starts the program anew with threads that sleep while they wait, as many as the process may use cores at the same
/// time, and memory that is given back when it is freed, unless the environment says how it shall be.
///
/// Called once, before other threads start; where the loader has called `before_libraries`, nothing is left to change. Returns
/// then, and where the program cannot be started anew: it is then slower on a busy machine and nothing else.
pub fn bound_and_passive() {
    let settings = missing(|name| env::var_os(name).is_some(), available_parallelism().ok());
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

/// The same, as the loader of Linux calls it before it initialises the libraries (`.preinit_array`).
///
/// # Safety
/// To be called by the loader alone: both are lists of texts that end with a null, and nothing else runs.
#[cfg(target_os = "linux")]
pub unsafe extern "C" fn before_libraries(
    _: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    // SAFETY: a list of texts that ends with a null.
    let said = |at: usize| unsafe { (*environment.add(at)).as_ref().map(|text| CStr::from_ptr(text)) };
    let said = || (0..).map_while(said);
    let is_said = |name: &str| said().any(|text| text.to_bytes().strip_prefix(name.as_bytes()).is_some_and(is_value));
    // Nothing is allocated in the program that stays.
    if is_said(COUNT) && (is_said(POLICY) || is_said(SPINS)) && is_said(PURGE) {
        return;
    }
    let settings = missing(is_said, available_parallelism().ok()).into_iter();
    let settings: Vec<_> = settings.filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok()).collect();
    if settings.is_empty() {
        return;
    }
    let texts = said().chain(settings.iter().map(CString::as_c_str)).map(CStr::as_ptr);
    let texts: Vec<*const c_char> = texts.chain([std::ptr::null()]).collect();
    let mut program = [0; libc::PATH_MAX as usize];
    // SAFETY: texts and lists end with a null; the path is written within its room, whose last byte stays 0.
    unsafe {
        // The path itself, so that the process goes by the program's name.
        if libc::readlink(c"/proc/self/exe".as_ptr(), program.as_mut_ptr(), program.len() - 1) > 0 {
            libc::execve(program.as_ptr(), arguments, texts.as_ptr()); // only comes back if it fails
        }
    }
}

/// Whether that is what follows a variable's name.
fn is_value(rest: &[u8]) -> bool {
    rest.first() == Some(&b'=')
}

/// What an environment does not say yet, with the value that it should have.
fn missing(is_said: impl Fn(&str) -> bool, cores: Option<NonZero<usize>>) -> Vec<(&'static str, String)> {
    let policy = (!is_said(POLICY) && !is_said(SPINS)).then(|| (POLICY, "passive".to_owned()));
    let count = cores.filter(|_| !is_said(COUNT)).map(|cores| (COUNT, cores.to_string()));
    let purge = (!is_said(PURGE)).then(|| (PURGE, "0".to_owned()));
    policy.into_iter().chain(count).chain(purge).collect()
}

/// Lets the system prefer other threads to the one that calls, where it can.
pub(crate) fn give_way() {
    // SAFETY: on Linux the process 0 is the thread that calls, and a thread may always ask for less.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_is_left_alone_and_nothing_is_asked_for_twice() {
        let cores = NonZero::new(3);
        let of = |said: &[&str]| missing(|name| said.contains(&name), cores);
        let (policy, count) = ((POLICY, "passive".to_owned()), (COUNT, "3".to_owned()));
        let purge = (PURGE, "0".to_owned());
        assert_eq!(of(&[]), [policy.clone(), count.clone(), purge.clone()]);
        assert_eq!(of(&[PURGE]), [policy.clone(), count.clone()]);
        assert_eq!(of(&[SPINS]), [count.clone(), purge.clone()]);
        assert_eq!(of(&[COUNT]), [policy, purge.clone()]);
        assert_eq!(of(&[POLICY, COUNT]), [purge]);
        assert_eq!(of(&[POLICY, COUNT, PURGE]), []);
        assert_eq!(missing(|name| name == POLICY || name == PURGE, None), []);
    }
}
