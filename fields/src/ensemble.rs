//! Samples of the future of one variable.

use ndarray::Array4;

use crate::Variable;

/// Members of one variable's forecast: `values[member, lead, y, x]`, NaN where missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// What the values are, and so their unit.
    pub variable: Variable,
    /// `[member, lead, y, x]`, rows north to south.
    pub values: Array4<f32>,
}

impl Ensemble {
    /// Number of members.
    pub fn members(&self) -> usize {
        self.values.dim().0
    }

    /// Number of leads.
    pub fn leads(&self) -> usize {
        self.values.dim().1
    }
}
