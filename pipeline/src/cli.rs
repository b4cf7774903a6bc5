//! The command line: what can be asked.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::logging::{self, LogFormat};
use crate::{commands, exit, memory, threads};

/// Nowcasts of precipitation and wind from a stream of observations, with their probabilities.
#[derive(Debug, Parser)]
#[command(name = "squall", version, max_term_width = 100, arg_required_else_help = true, after_help = after_help())]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Begin here:
  squall demo                                   watch a storm being forecast, then look into out/demo
  squall forecast configs/fmi-radar.toml --input event.nc --at 2016-09-28T16:00:00Z --output out
  squall inspect file event.nc                  what a NetCDF or ODIM file holds

Then continuously, from Kafka:
  squall doctor configs/radar.toml              does everything work here?
  squall inspect config configs/radar.toml      the configuration with every default filled in
  squall run configs/radar.toml                 forecasts until SIGTERM or Ctrl-C
  squall publish event.nc --config configs/radar.toml --speed 60x

`squall COMMAND --help` explains each command.";

fn after_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::help())
}

/// What holds for every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How log lines look on stderr.
    #[arg(long, global = true, value_enum, default_value = "human", env = "SQUALL_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Log more: -v for what happens, -vv for how. The variable RUST_LOG chooses finer.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Plays a storm through the whole pipeline, draws maps and scores the forecasts.
    #[command(after_help = commands::demo::EXAMPLES)]
    Demo(commands::demo::Arguments),
    /// Forecasts continuously, from the log to the log, until it is told to stop.
    #[command(after_help = commands::run::EXAMPLES)]
    Run(commands::run::Arguments),
    /// Runs the processes of a cluster on this machine, and starts all anew when one ends.
    #[command(after_help = commands::supervise::EXAMPLES)]
    Supervise(commands::supervise::Arguments),
    /// Makes one forecast from files.
    #[command(after_help = commands::forecast::EXAMPLES)]
    Forecast(commands::forecast::Arguments),
    /// Publishes the frames of files to an observation topic.
    #[command(after_help = commands::publish::EXAMPLES)]
    Publish(commands::publish::Arguments),
    /// Scores forecasts against what came.
    #[command(after_help = commands::verify::EXAMPLES)]
    Verify(commands::verify::Arguments),
    /// Compares models over the events of an archive.
    #[command(after_help = commands::backtest::EXAMPLES)]
    Backtest(commands::backtest::Arguments),
    /// Trains a diffusion model on archives.
    #[command(after_help = commands::train::EXAMPLES)]
    Train(commands::train::Arguments),
    /// Trains and uses models of series at a place, such as the wind of stations.
    #[command(subcommand)]
    Series(commands::series::Series),
    /// Looks at and converts weights files; scores and calibrates models.
    #[command(subcommand)]
    Model(commands::model::Model),
    /// Writes a simulated storm as NetCDF: rain that moves, grows and decays, and the wind that moves it.
    #[command(after_help = commands::simulate::EXAMPLES)]
    Simulate(commands::simulate::Arguments),
    /// Shows what a configuration, a file, the topics or a running instance hold.
    #[command(subcommand)]
    Inspect(commands::inspect::Inspect),
    /// Tries everything that Squall needs on this machine, and says what does not work.
    #[command(after_help = commands::doctor::EXAMPLES)]
    Doctor(commands::doctor::Arguments),
    /// Creates the topics of a configuration.
    #[command(subcommand)]
    Topics(commands::topics::Topics),
    /// Tidies the store of forecasts' files.
    #[command(subcommand)]
    Store(commands::store::Store),
    /// Prints completions for a shell.
    #[command(after_help = "Example:\n  squall completions bash > ~/.local/share/bash-completion/completions/squall")]
    Completions(Completions),
}

/// Arguments of `squall completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    fn run(self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "squall", &mut script);
        commands::print(&String::from_utf8_lossy(&script));
    }
}

impl Command {
    /// Whether the command runs long enough that its log lines are wanted without `-v`.
    fn is_service(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Supervise(_))
    }

    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Demo(arguments) => arguments.run(),
            Self::Run(arguments) => arguments.run(),
            Self::Supervise(arguments) => arguments.run(),
            Self::Forecast(arguments) => arguments.run(),
            Self::Publish(arguments) => arguments.run(),
            Self::Verify(arguments) => arguments.run(),
            Self::Backtest(arguments) => arguments.run(),
            Self::Train(arguments) => arguments.run(),
            Self::Series(series) => series.run(),
            Self::Model(model) => model.run(),
            Self::Simulate(arguments) => arguments.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Doctor(arguments) => arguments.run(),
            Self::Topics(topics) => topics.run(),
            Self::Store(store) => store.run(),
            Self::Completions(completions) => {
                completions.run();
                Ok(())
            }
        }
    }
}

/// Reads the command line, does what it asks, and says how the process should end.
pub fn main() -> ExitCode {
    squall_connectors::isolate::run_if_helper();
    threads::bound_and_passive();
    memory::keep_freed();
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with exit code 0. A closed stdout is no reason to fail.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let is_service = cli.command.is_service();
    logging::start(cli.global.log_format, cli.global.verbose, is_service);
    let code = match cli.command.run() {
        Ok(()) => 0,
        Err(error) => {
            let (text, code) = exit::report(&error);
            eprint!("{text}");
            code
        }
    };
    if is_service {
        // A device may still be at work on what nobody waits for. To take its library down under it, as the destructors of
        // a process do, crashes.
        let _ = (std::io::stdout().flush(), std::io::stderr().flush());
        signal_hook::low_level::exit(i32::from(code));
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_is_explained() {
        fn walk(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no explanation", command.get_name());
            for argument in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
