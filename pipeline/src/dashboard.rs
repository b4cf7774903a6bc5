//! Live progress in the terminal: bars where there is one, plain lines where there is not.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};

/// From one line about a task that takes long to the next, where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

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
    /// Of a task that says how long it will take.
    pace: Option<Arc<Mutex<Pace>>>,
}

/// How fast the steps of a task are done, and what that says of those that are left.
#[derive(Clone, Debug)]
struct Pace {
    name: String,
    steps: u64,
    /// Steps that were done before it began, which say nothing of how long one takes.
    before: u64,
    done: u64,
    began: Instant,
    /// When the last line was written, counted from the beginning.
    said: Duration,
}

impl Pace {
    /// How long the rest will take, if it goes on as it did so far.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.steps.saturating_sub(self.before + self.done);
        let seconds = elapsed.as_secs_f64() * left as f64 / self.done as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The same in words; nothing before the first step.
    fn text(&self, elapsed: Duration) -> String {
        self.left(elapsed).map_or_else(String::new, |left| format!("{} left", HumanDuration(left)))
    }

    /// The line that is due, if one is.
    fn line(&mut self, elapsed: Duration) -> Option<String> {
        if elapsed < self.said + BETWEEN_LINES {
            return None;
        }
        self.said = elapsed;
        Some(format!("{}: {} of {}, {}", self.name, self.before + self.done, self.steps, self.text(elapsed)))
    }
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
        Task { bar: self.bar(name, steps), pace: None }
    }

    /// A task of so many steps, some of which were done before, that says how long the rest will take: on its bar, or, where
    /// there is no terminal, in a line of the log now and then.
    pub fn long_task(&self, name: &str, steps: u64, before: u64) -> Task {
        let bar = self.bar(name, steps);
        if let Some(bar) = &bar {
            bar.set_position(before);
        }
        let (began, said) = (Instant::now(), Duration::ZERO);
        let pace = Pace { name: name.to_owned(), steps, before, done: 0, began, said };
        Task { bar, pace: (!self.silent).then(|| Arc::new(Mutex::new(pace))) }
    }

    fn bar(&self, name: &str, steps: u64) -> Option<ProgressBar> {
        let template = "{prefix:>11} {bar:30.cyan/dim} {pos:>4}/{len:<4} {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(steps).with_style(style).with_prefix(name.to_owned()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        })
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
        let left = self.pace.as_ref().map(|pace| {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.done += 1;
            let elapsed = pace.began.elapsed();
            if let Some(line) = pace.line(elapsed).filter(|_| self.bar.is_none()) {
                tracing::info!("{line}");
            }
            pace.text(elapsed)
        });
        if let Some(bar) = &self.bar {
            let message = message.into();
            bar.set_message(match left {
                Some(left) => format!("{left}, {message}"),
                None => message,
            });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_does_not_make_the_rest_look_fast() {
        let seconds = Duration::from_secs;
        let (began, said) = (Instant::now(), Duration::ZERO);
        let mut pace = Pace { name: "storm".to_owned(), steps: 100, before: 60, done: 0, began, said };
        assert_eq!((pace.left(seconds(5)), pace.text(seconds(5))), (None, String::new()));
        pace.done = 10;
        assert_eq!((pace.left(seconds(20)), pace.line(seconds(20))), (Some(seconds(60)), None));
        pace.done = 20;
        assert_eq!(pace.line(seconds(180)).as_deref(), Some("storm: 80 of 100, 3 minutes left"));
        assert_eq!(pace.line(seconds(200)), None, "not so soon again");
        pace.done = 40;
        assert_eq!(pace.left(seconds(300)), Some(Duration::ZERO));
    }
}
