//! Log lines on stderr: for a person, or as JSON for a machine.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for a person, coloured on a terminal.
    Human,
    /// A JSON object a line.
    Json,
}

/// Starts logging to stderr; stdout belongs to what a command prints.
///
/// Without `-v` a command logs warnings and errors, and how far it is where no terminal shows that; a service also what it
/// does. `RUST_LOG` decides instead where it is set.
pub fn start(format: LogFormat, verbose: u8, service: bool) {
    let level = match (verbose, service) {
        (0, false) => "warn,squall_pipeline::dashboard=info",
        (0, true) | (1, _) => "info,librdkafka=warn",
        (2, _) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start, as in tests, keeps the first subscriber.
    let _ = match format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(verbose > 1).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
}
