//! Losses and scores of a run as CSV.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::trainer::StepReport;

/// Appends to a table of losses.
#[derive(Debug)]
pub struct LossLog {
    file: File,
}

impl LossLog {
    /// Opens or makes it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(path: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if is_new {
            writeln!(file, "step,loss,gradient_norm,learning_rate,validation_loss")?;
        }
        Ok(Self { file })
    }

    /// Adds a step; the validation loss is left empty where there is none.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, report: &StepReport, validation_loss: Option<f64>) -> io::Result<()> {
        let validation = validation_loss.map_or_else(String::new, |v| format!("{v:.6}"));
        let StepReport { step, loss, gradient_norm, learning_rate } = report;
        writeln!(self.file, "{step},{loss:.6},{gradient_norm:.4},{learning_rate:.3e},{validation}")
    }
}
