//! `squall topics`: the topics of a configuration.

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::{ConfigFile, Usage, print};
use crate::config::LogKind;
use crate::connect;
use crate::topics::{self, State};

/// What to do with topics.
#[derive(Debug, Subcommand)]
pub enum Topics {
    /// Creates what is missing, as it should be, and says how what exists differs from that.
    #[command(after_help = "Example:
  squall topics create configs/radar.toml

Topics of observations are stamped by the broker for a live configuration and by the producer for a replay
(runtime.clock). Nothing that exists is changed. The exit code is 2 if Squall cannot work with a topic as it is.")]
    Create(Create),
}

impl Topics {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create(arguments) => arguments.run(),
        }
    }
}

/// Arguments of `squall topics create`.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    config: ConfigFile,
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        if config.log.kind == LogKind::Memory {
            return Err(Usage(
                "log.kind is \"memory\": its topics are made when it starts, and gone at its end".into(),
            )
            .into());
        }
        let states = topics::create(&config, &*connect::log(&config))?;
        let (mut text, mut unusable) = (String::new(), 0);
        for (name, state) in &states {
            match state {
                State::Created => writeln!(text, "created  {name}")?,
                State::Exists(differences) if differences.is_empty() => writeln!(text, "exists   {name}")?,
                State::Exists(differences) => {
                    let is_fatal = differences.iter().any(|difference| difference.is_fatal);
                    unusable += usize::from(is_fatal);
                    let word = if is_fatal { "unusable" } else { "differs " };
                    let said: Vec<String> = differences.iter().map(ToString::to_string).collect();
                    writeln!(text, "{word} {name}: {}", said.join("; "))?;
                }
            }
        }
        print(&text);
        if unusable > 0 {
            let plural = if unusable == 1 { "topic" } else { "topics" };
            return Err(
                Usage(format!("{unusable} {plural} cannot be used as they are: change or recreate them")).into()
            );
        }
        Ok(())
    }
}
