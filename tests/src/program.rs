//! The real binary, run with bounds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The binary that `make build` leaves, beside which the tests' own executables lie, or in whose folder `deps`.
pub fn squall() -> PathBuf {
    let executable = std::env::current_exe().expect("the test's own path");
    let near = executable.ancestors().skip(1).take(2).map(|folder| folder.join("squall"));
    let found = near.clone().find(|binary| binary.is_file());
    found.unwrap_or_else(|| panic!("{:?} are missing: run `make build` first", near.collect::<Vec<_>>()))
}

/// A number that the environment gives.
pub fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    let given = std::env::var(name).ok().filter(|text| !text.is_empty());
    given.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The Python of the tests' environment, which `make setup` makes.
pub fn python() -> PathBuf {
    let python = root().join("target/venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup` first", python.display());
    python
}

/// A program at work, whose output goes to a file. Dropping it kills it.
pub struct Running {
    child: Child,
    output: PathBuf,
    name: String,
}

impl Running {
    /// Starts a program; `folder` is where its output file is kept.
    pub fn start(folder: &Path, program: &Path, arguments: &[&str]) -> Self {
        let count = fs::read_dir(folder).map_or(0, Iterator::count);
        let name = program.file_name().expect("a program is a file").to_string_lossy().into_owned();
        let output = folder.join(format!("{name}-{count}.log"));
        let log = File::create(&output).expect("a log file");
        let child = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, output, name: format!("{name} {}", arguments.join(" ")) }
    }

    /// What it has printed so far, stdout and stderr together.
    pub fn output(&self) -> String {
        read(&self.output)
    }

    /// Waits for its end; it is a failure if that takes longer.
    pub fn end(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        let ended = until(limit, || {
            status = self.child.try_wait().expect("a child that can be waited for");
            status.is_some()
        });
        assert!(ended, "{} still runs after {} s:\n{}", self.name, limit.as_secs(), self.output());
        status.expect("it has ended")
    }

    /// Waits for its end, which must be a success, and gives what it printed.
    pub fn success(mut self, limit: Duration) -> String {
        let status = self.end(limit);
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.output());
        self.output()
    }

    /// Waits for its end, which must be this exit code, and gives what it printed.
    pub fn failure(mut self, code: i32, limit: Duration) -> String {
        let status = self.end(limit);
        assert_eq!(status.code(), Some(code), "{}:\n{}", self.name, self.output());
        self.output()
    }

    /// Waits until a condition holds while it runs.
    pub fn until(&mut self, limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let held = until(limit, || {
            ended = self.child.try_wait().expect("a child that can be waited for");
            condition() || ended.is_some()
        });
        assert!(held && ended.is_none(), "{}: {what}? ended: {ended:?}\n{}", self.name, self.output());
    }

    /// Waits until a condition on what it has printed holds while it runs.
    pub fn until_said(&mut self, limit: Duration, what: &str, mut condition: impl FnMut(&str) -> bool) {
        let output = self.output.clone();
        self.until(limit, what, || condition(&read(&output)));
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child that can be waited for").is_some()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as an operator would.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{} could not be signalled", self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(output: &Path) -> String {
    String::from_utf8_lossy(&fs::read(output).expect("the output file, made at the start")).into_owned()
}

/// Asks again and again until the answer is yes; no if the time is over.
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
