//! The Java that runs Kafka.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BrokerError;

/// The oldest Java that Kafka 4 runs on.
const OLDEST: u32 = 17;

/// A Java that is new enough, and Kafka's jars.
#[derive(Clone, Debug)]
pub(super) struct Java {
    program: PathBuf,
    libs: PathBuf,
}

impl Java {
    /// `JAVA_HOME`'s, else the one on the path.
    pub(super) fn find(libs: PathBuf) -> Result<Self, BrokerError> {
        let program = match std::env::var_os("JAVA_HOME").filter(|home| !home.is_empty()) {
            Some(home) => Path::new(&home).join("bin/java"),
            None => PathBuf::from("java"),
        };
        let output = Command::new(&program).arg("-version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| BrokerError::Java(format!("{}: {error}", program.display())))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match major_version(&said) {
            Some(major) if major >= OLDEST => Ok(Self { program, libs }),
            _ => Err(BrokerError::Java(format!("{} says {}", program.display(), said.trim()))),
        }
    }

    /// A command that runs a class of Kafka's.
    pub(super) fn kafka(&self, class: &str, flags: &[&str]) -> Command {
        let mut jars = OsString::from(&self.libs);
        jars.push("/*");
        let mut command = Command::new(&self.program);
        // The serial collector and the quick compiler start faster, which matters more here than peak throughput.
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
        command.args(flags).arg("-cp").arg(jars).arg(class);
        command
    }

    /// A command for Java's own key tool.
    pub(super) fn keytool(&self) -> Command {
        Command::new(self.program.with_file_name("keytool"))
    }
}

/// Runs a tool to its end; what it printed is the error if it fails.
pub(super) fn run(tool: &'static str, command: &mut Command) -> Result<(), BrokerError> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(BrokerError::Tool { tool, output: String::from_utf8_lossy(&said).trim().to_owned() })
}

/// The major version in what `java -version` prints; before Java 9 it was the number after `1.`.
pub(super) fn major_version(said: &str) -> Option<u32> {
    let version = said.split("version \"").nth(1)?.split('"').next()?;
    let mut numbers = version.split(['.', '-', '+']).map_while(|part| part.parse().ok());
    match numbers.next()? {
        1 => numbers.next(),
        major => Some(major),
    }
}
