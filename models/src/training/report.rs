//! Losses and scores of a run as CSV.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::trainer::StepReport;

const HEADER: &str = "step,loss,gradient_norm,learning_rate,validation_loss";

/// A table of losses, a row a step.
#[derive(Debug)]
pub struct LossLog {
    file: File,
}

impl LossLog {
    /// Opens or makes it for a run that has done `steps`: rows of later steps, of a run that went on from there before
    /// or of another one, are dropped.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: &Path, steps: u64) -> io::Result<Self> {
        let kept = kept(path, HEADER, steps.checked_sub(1));
        let temporary = path.with_extension("partial");
        std::fs::write(&temporary, kept)?;
        std::fs::rename(&temporary, path)?;
        Ok(Self { file: OpenOptions::new().append(true).open(path)? })
    }

    /// Adds a step; the validation loss is left empty where there is none.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, report: &StepReport, validation_loss: Option<f64>) -> io::Result<()> {
        let validation = validation_loss.map_or_else(String::new, |v| format!("{v:.6}"));
        let StepReport { step, loss, gradient_norm, learning_rate } = report;
        let row = format!("{step},{loss:.6},{gradient_norm:.4},{learning_rate:.3e},{validation}\n");
        self.file.write_all(row.as_bytes())
    }
}

/// A table whose rows start with a step: its header, and the rows up to and with step `last`. A row that was cut off
/// when its run was killed is dropped.
pub fn kept(path: &Path, header: &str, last: Option<u64>) -> String {
    // A table that is not there yet has no rows.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let step = |row: &&str| row.split(',').next().and_then(|step| step.parse::<u64>().ok());
    let whole = |row: &&str| row.matches(',').count() == header.matches(',').count();
    let early = |row: &&str| step(row).is_some_and(|step| last.is_some_and(|last| step <= last));
    let rows = text.lines().filter(|row| whole(row) && early(row));
    std::iter::once(header).chain(rows).flat_map(|row| [row, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_run_has_each_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        let report = |step| StepReport { step, loss: 0.5, gradient_norm: 1.0, learning_rate: 1e-4 };
        let write = |steps: std::ops::Range<u64>| {
            let mut log = LossLog::open(&path, steps.start).unwrap();
            steps.for_each(|step| log.add(&report(step), None).unwrap());
        };
        let steps = || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().skip(1).map(|row| row.split(',').next().unwrap().parse().unwrap()).collect::<Vec<u64>>()
        };
        write(0..5);
        write(3..6);
        assert_eq!(steps(), [0, 1, 2, 3, 4, 5]);
        write(0..2);
        assert_eq!(steps(), [0, 1]);
        std::fs::write(&path, "step,loss,gradient_norm,learning_rate,validation_loss\n0,1,1,1,\n1,1,1,1,\n1").unwrap();
        write(2..3);
        assert_eq!(steps(), [0, 1, 2], "half a row is no row");
    }
}
