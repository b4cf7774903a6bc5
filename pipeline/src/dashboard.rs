//! Live progress in the terminal: bars where there is one, plain lines where there is not.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Bars on stderr, or lines on stdout. Clones draw on the same.
#[derive(Clone, Debug)]
pub struct Dashboard {
    bars: Option<MultiProgress>,
    silent: bool,
}

/// The progress of one thing.
#[derive(Clone, Debug)]
pub struct Task {
    bar: Option<ProgressBar>,
}

impl Dashboard {
    /// Bars if stderr is a terminal.
    pub fn new() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new), silent: false }
    }

    /// Shows nothing.
    pub const fn silent() -> Self {
        Self { bars: None, silent: true }
    }

    /// A task of so many steps.
    pub fn task(&self, name: &str, steps: u64) -> Task {
        let template = "{prefix:>11} {bar:30.cyan/dim} {pos:>4}/{len:<4} {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(steps).with_style(style).with_prefix(name.to_owned()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Task { bar }
    }

    /// A line that stays. On a terminal it appears above the bars.
    pub fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => {
                // A terminal that has gone away is no reason to stop.
                let _ = bars.println(text);
            }
            None if self.silent => {}
            None => {
                let mut stdout = std::io::stdout().lock();
                let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
            }
        }
    }
}

impl Default for Dashboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Task {
    /// One step is done; the message says which.
    pub fn step(&self, message: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.into());
            bar.inc(1);
        }
    }

    /// All is done, or will not be.
    pub fn end(&self, message: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.abandon_with_message(message.into());
        }
    }
}
