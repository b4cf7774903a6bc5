//! What a backtest has done so far, so that one that was killed goes on.
//!
//! A file for each event: a line that says of what it is, then a line for each issue time. A line that was cut off is not
//! there; a file of another backtest is begun anew.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use squall_models::scores::Statistics;

/// What came of one issue time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// In seconds since 1970.
    pub issue_time: i64,
    /// Of each model, in the order of the models; none where it was left out.
    pub models: Vec<DoneModel>,
    /// The places of the models that gave no forecast, not even by their fallback.
    pub failed: Vec<usize>,
    /// Why it was left out, if it was.
    pub left_out: Option<String>,
}

/// What came of one model at an issue time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DoneModel {
    /// Digest of its weights or settings.
    pub digest: String,
    /// How long it took.
    pub seconds: f64,
    /// Why its fallback answered in its place, if that did.
    pub fallback: Option<String>,
    /// What counts, of each variable, region and lead.
    pub statistics: Vec<Sum>,
}

/// What counts of one variable in one region at one lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// The quantity.
    pub variable: String,
    /// Where.
    pub region: String,
    /// How far ahead, in seconds.
    pub lead: i64,
    /// Its sums.
    pub statistics: Statistics,
}

/// The state of one event.
pub struct State {
    path: PathBuf,
    file: File,
    /// What was done before.
    pub done: Vec<Done>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    backtest: String,
}

impl State {
    /// Opens the state of an event, of a backtest that this text describes.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn open(folder: &Path, event: &str, backtest: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{event}.jsonl"));
        let head = Head { backtest: backtest.to_owned() };
        let done = read(&path, &head).unwrap_or_default();
        let within = || format!("cannot write {}", path.display());
        // Written anew, so that a line that was cut off does not stay between whole ones.
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished).with_context(within)?;
        writeln!(file, "{}", serde_json::to_string(&head)?).with_context(within)?;
        for done in &done {
            writeln!(file, "{}", serde_json::to_string(done)?).with_context(within)?;
        }
        file.sync_all().with_context(within)?;
        std::fs::rename(&unfinished, &path).with_context(within)?;
        let file = OpenOptions::new().append(true).open(&path).with_context(within)?;
        Ok(Self { path, file, done })
    }

    /// Adds an issue time.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, done: Done) -> anyhow::Result<()> {
        let line = format!("{}\n", serde_json::to_string(&done)?);
        self.file.write_all(line.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.done.push(done);
        Ok(())
    }
}

/// The whole lines of a file of this backtest; nothing of another.
fn read(path: &Path, head: &Head) -> Option<Vec<Done>> {
    let mut lines = BufReader::new(File::open(path).ok()?).lines();
    let found: Head = serde_json::from_str(&lines.next()?.ok()?).ok()?;
    let done = lines.map_while(|line| serde_json::from_str(&line.ok()?).ok());
    (found == *head).then(|| done.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_done_again_and_another_backtest_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let done = |issue_time| Done { issue_time, models: vec![], failed: vec![], left_out: None };
        let mut state = State::open(folder.path(), "storm", "a").unwrap();
        for time in [1, 2] {
            state.add(done(time)).unwrap();
        }
        let path = folder.path().join("storm.jsonl");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
        let mut state = State::open(folder.path(), "storm", "a").unwrap();
        assert_eq!(state.done, [done(1)]);
        state.add(done(3)).unwrap();
        assert_eq!(State::open(folder.path(), "storm", "a").unwrap().done, [done(1), done(3)]);
        assert_eq!(State::open(folder.path(), "storm", "b").unwrap().done, []);
    }
}
