//! One file a command: its arguments, and what it does with them.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use squall_connectors::error::FileError;
use squall_fields::ErrorKind;

use crate::config::{Config, Layers};

pub mod backtest;
pub mod demo;
pub mod doctor;
pub mod forecast;
pub mod inspect;
pub mod model;
pub mod publish;
pub mod run;
pub mod series;
pub mod simulate;
pub mod store;
pub mod supervise;
pub mod topics;
pub mod train;
pub mod verify;

/// A command line that cannot work; the program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Usage {
    /// Who can help: whoever typed it.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::User
    }
}

/// Settings laid over a configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct Overrides {
    /// Change a setting, such as streams.rain.leads=6 (may be repeated).
    #[arg(long = "set", value_name = "SETTING=VALUE")]
    set: Vec<String>,
}

impl Overrides {
    /// Reads a configuration: the file, the environment, and these settings.
    ///
    /// # Errors
    /// The file cannot be read, or anything in any layer is wrong.
    pub fn load(&self, path: &Path) -> anyhow::Result<Config> {
        Ok(self.layers(path)?.load()?)
    }

    /// The layers of a configuration: the file, the environment, and these settings.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn layers(&self, path: &Path) -> anyhow::Result<Layers> {
        let layers = Layers::from_file(path)
            .map_err(|error| Usage(format!("cannot read the configuration {}: {error}", path.display())))?;
        Ok(self.lay_over(layers))
    }

    /// Lays the environment and these settings over layers.
    ///
    /// # Errors
    /// Anything in any layer is wrong.
    pub fn apply(&self, layers: Layers) -> anyhow::Result<Config> {
        Ok(self.lay_over(layers).load()?)
    }

    fn lay_over(&self, layers: Layers) -> Layers {
        self.set.iter().fold(layers.process_environment(), |layers, set| layers.set(set))
    }
}

/// A configuration file and settings laid over it.
#[derive(Clone, Debug, Args)]
pub struct ConfigFile {
    /// Configuration file (TOML); see configs/ for examples.
    #[arg(value_name = "CONFIG")]
    path: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
}

impl ConfigFile {
    /// Reads it.
    ///
    /// # Errors
    /// The file cannot be read, or anything in any layer is wrong.
    pub fn load(&self) -> anyhow::Result<Config> {
        self.overrides.load(&self.path)
    }

    /// Its layers, not yet read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn layers(&self) -> anyhow::Result<Layers> {
        self.overrides.layers(&self.path)
    }

    /// The arguments that say the same to another command.
    pub fn arguments(&self) -> Vec<OsString> {
        let set = self.overrides.set.iter().flat_map(|set| ["--set".into(), set.into()]);
        std::iter::once(self.path.clone().into_os_string()).chain(set).collect()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// An argument that is not what it should be; clap adds what came, and for which argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(pub &'static str);

/// Reads a duration on the command line.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, Expected> {
    crate::config::parse_duration(text).ok_or(Expected("a duration such as '5 min'"))
}

/// Reads a time on the command line.
pub(crate) fn time(text: &str) -> Result<squall_fields::ValidTime, Expected> {
    squall_fields::ValidTime::parse_rfc3339(text).ok_or(Expected("a time such as 2018-10-13T09:00:00Z"))
}

/// Writes a file whole, with the folders above it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        let made = std::fs::create_dir_all(folder).map_err(|error| FileError::io(folder, error));
        made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    let written = std::fs::write(path, bytes).map_err(|error| FileError::io(path, error));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Prints to stdout; a reader that has gone away (`squall ... | head`) ends the program quietly.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}
