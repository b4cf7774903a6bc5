//! Freezing what should go on: a process, or a single thread of one, as a driver or a file system that hangs would.

use std::fs;
use std::io;
use std::time::Duration;

use crate::program::until;

/// A thread of a child that does not move until this is dropped; the child's other threads go on.
///
/// The system stops single threads only for a debugger, so this is one: it must be dropped on the thread that made it.
pub struct FrozenThread {
    tid: libc::pid_t,
}

impl FrozenThread {
    /// Freezes the thread of that name of a child process. Names are cut to 15 bytes by the system.
    pub fn new(pid: u32, name: &str) -> Self {
        let tid = thread(pid, name).unwrap_or_else(|| panic!("process {pid} has no thread {name}"));
        // SAFETY: plain system calls on a thread of a child; no memory is passed.
        unsafe {
            let none = std::ptr::null_mut::<libc::c_void>();
            check("seize", libc::ptrace(libc::PTRACE_SEIZE, tid, none, none));
            check("interrupt", libc::ptrace(libc::PTRACE_INTERRUPT, tid, none, none));
            let mut status = 0;
            assert_eq!(libc::waitpid(tid, &raw mut status, libc::__WALL), tid, "{}", io::Error::last_os_error());
            assert!(libc::WIFSTOPPED(status), "thread {name} is not stopped: {status:x}");
        }
        Self { tid }
    }

    /// Waits for the end of its process, whose last word only its debugger hears; it is a failure if that takes longer.
    pub fn until_dead(self, limit: Duration) {
        let mut status = 0;
        let dead = until(limit, || {
            // SAFETY: a plain system call; the status lives on this stack.
            let waited = unsafe { libc::waitpid(self.tid, &raw mut status, libc::__WALL | libc::WNOHANG) };
            waited == self.tid && (libc::WIFEXITED(status) || libc::WIFSIGNALED(status))
        });
        assert!(dead, "thread {} still lives after {} s", self.tid, limit.as_secs());
    }
}

impl Drop for FrozenThread {
    fn drop(&mut self) {
        // SAFETY: as above. A thread that was killed meanwhile needs no letting go.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.tid, std::ptr::null_mut::<u8>(), std::ptr::null_mut::<u8>()) };
    }
}

fn check(what: &str, result: libc::c_long) {
    assert!(result == 0, "{what}: {}", io::Error::last_os_error());
}

fn thread(pid: u32, name: &str) -> Option<libc::pid_t> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let called = |tid: &libc::pid_t| {
        let comm = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_else(|_| String::new());
        comm.trim_end() == name.get(..15).unwrap_or(name)
    };
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).find(called)
}

/// The processes that a process has started.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_thread =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_else(|_| String::new());
    let all: Vec<String> = tasks.flatten().map(of_thread).collect();
    all.iter().flat_map(|text| text.split_whitespace()).filter_map(|pid| pid.parse().ok()).collect()
}

/// Processes that do not move until this is dropped.
pub struct FrozenProcesses(Vec<u32>);

impl FrozenProcesses {
    /// Freezes processes and waits until each stands still.
    pub fn new(pids: Vec<u32>) -> Self {
        for pid in &pids {
            signal(*pid, libc::SIGSTOP);
            let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| String::new());
            let stands =
                until(Duration::from_secs(10), || state().rsplit(')').next().is_some_and(|s| s.starts_with(" T")));
            assert!(stands, "process {pid} goes on: {}", state());
        }
        Self(pids)
    }
}

impl Drop for FrozenProcesses {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, libc::SIGCONT));
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: a plain system call. A process that is gone needs no signal.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Memory of a process that is its own, in bytes.
pub fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
