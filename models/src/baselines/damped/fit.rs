//! The weights that a series of analyses has, by least squares.

use ndarray::{Array2, Zip};
use squall_fields::Variable;

use super::{DampedParams, Parts};
use crate::ModelError;
use crate::training::validate::Case;

/// Which parts a fit may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The newest frame alone: damping and nothing else.
    Damping,
    /// All.
    All,
}

impl Fit {
    fn parts(self) -> usize {
        match self {
            Self::Damping => 1,
            Self::All => 4,
        }
    }
}

/// Sums of a regression.
#[derive(Clone, Default)]
struct Sums {
    products: [[f64; 4]; 4],
    with_truth: [f64; 4],
}

impl Sums {
    fn add(&mut self, parts: [f32; 4], truth: f32) {
        if truth.is_nan() || parts.iter().any(|v| v.is_nan()) {
            return;
        }
        let parts = parts.map(f64::from);
        for (i, a) in parts.iter().enumerate() {
            for (j, b) in parts.iter().enumerate() {
                self.products[i][j] += a * b;
            }
            self.with_truth[i] += a * f64::from(truth);
        }
    }

    /// The weights of the first parts; those of the others are 0.
    fn solve(&self, count: usize) -> [f32; 4] {
        let (mut matrix, mut right) = (self.products, self.with_truth);
        for pivot in 0..count {
            // The products of a regression are positive definite: no rows need to be exchanged. A part that is nowhere
            // different from 0, such as a change that is never known, has no weight.
            if matrix[pivot][pivot].abs() < 1e-12 {
                continue;
            }
            for row in (0..count).filter(|row| *row != pivot) {
                let factor = matrix[row][pivot] / matrix[pivot][pivot];
                (0..count).for_each(|column| matrix[row][column] -= factor * matrix[pivot][column]);
                right[row] -= factor * right[pivot];
            }
        }
        let weight = |i: usize| if matrix[i][i].abs() < 1e-12 { 0.0 } else { (right[i] / matrix[i][i]) as f32 };
        std::array::from_fn(|i| if i < count { weight(i) } else { 0.0 })
    }
}

/// The parameters that fit these cases best, whose windows and truth hold wind.
///
/// # Errors
/// A window has no frame, or lacks a component.
pub fn fit(cases: &[Case], which: Fit) -> Result<DampedParams, ModelError> {
    let mut all = Vec::new();
    for case in cases {
        let variables = case.truth.first().map(|frame| frame.variables.to_vec()).unwrap_or_default();
        for variable in variables {
            all.push((case, variable, Parts::new(&case.window, variable)?));
        }
    }
    let leads = cases.iter().map(|case| case.truth.len()).min().unwrap_or(0);
    let Some(cadence) = cases.first().map(|case| case.window.cadence).filter(|_| leads > 0) else {
        return Ok(DampedParams::default());
    };
    let sums = |lead: usize| {
        let mut sums = Sums::default();
        for (case, variable, parts) in &all {
            each(case, *variable, parts, lead, |parts, truth| sums.add(parts, truth));
        }
        sums
    };
    let weights: Vec<[f32; 4]> = (0..leads).map(|lead| sums(lead).solve(which.parts())).collect();
    let errors = |lead: usize| -> Vec<Array2<f32>> {
        let of = |(case, variable, parts): &(&Case, Variable, Parts)| {
            let truth = case.truth[lead].plane(*variable)?;
            let mean = parts.mean(weights[lead]);
            (truth.dim() == mean.dim()).then(|| Zip::from(truth).and(&mean).map_collect(|truth, mean| truth - mean))
        };
        all.iter().filter_map(of).collect()
    };
    let errors: Vec<Vec<Array2<f32>>> = (0..leads).map(errors).collect();
    let hours = cadence.step_seconds() as f64 / 3600.0;
    let column = |part: usize| weights.iter().map(|weights| weights[part]).collect();
    let middle = &errors[leads / 2];
    let neighbours = correlation(middle.iter().flat_map(|field| {
        field.rows().into_iter().flat_map(|row| row.windows(2).into_iter().map(|w| (w[0], w[1])).collect::<Vec<_>>())
    }));
    let steps = correlation(
        errors
            .windows(2)
            .flat_map(|pair| pair[0].iter().zip(&pair[1]).flat_map(|(a, b)| a.iter().copied().zip(b.iter().copied()))),
    );
    Ok(DampedParams {
        leads_seconds: cadence.leads(leads).iter().map(|lead| lead.seconds()).collect(),
        newest: column(0),
        smooth: column(1),
        broad: column(2),
        change_hours: column(3),
        deviation: errors.iter().map(|fields| deviation(fields)).collect(),
        noise_passes: passes(neighbours),
        noise_persistence: steps.clamp(0.0, 1.0).powf(1.0 / hours) as f32,
    })
}

/// Calls with the parts and the truth of each cell of a case.
fn each(case: &Case, variable: Variable, parts: &Parts, lead: usize, mut visit: impl FnMut([f32; 4], f32)) {
    let Some(truth) = case.truth[lead].plane(variable) else { return };
    let [a, b, c, d] = &parts.0;
    if truth.dim() == a.dim() {
        for (truth, (((a, b), c), d)) in truth.iter().zip(a.iter().zip(b).zip(c).zip(d)) {
            visit([*a, *b, *c, *d], *truth);
        }
    }
}

fn deviation(fields: &[Array2<f32>]) -> f32 {
    let known = || fields.iter().flatten().filter(|v| !v.is_nan()).map(|v| f64::from(*v));
    (known().map(|v| v * v).sum::<f64>() / known().count().max(1) as f64).sqrt() as f32
}

/// Of pairs of errors, whose mean is 0.
fn correlation(pairs: impl Iterator<Item = (f32, f32)>) -> f64 {
    let (mut both, mut squares) = (0f64, [0f64; 2]);
    for (a, b) in pairs.filter(|(a, b)| !a.is_nan() && !b.is_nan()) {
        let (a, b) = (f64::from(a), f64::from(b));
        both += a * b;
        squares = [squares[0] + a * a, squares[1] + b * b];
    }
    let size = (squares[0] * squares[1]).sqrt();
    if size > 0.0 { both / size } else { 0.0 }
}

/// The passes after which neighbouring cells of white noise correlate so: exp(-1 / 2 passes).
fn passes(neighbours: f64) -> usize {
    if neighbours <= 0.0 {
        return 0;
    }
    (-0.5 / neighbours.min(0.999).ln()).round().clamp(0.0, 100.0) as usize
}
