//! What is computed from the members of an ensemble: mean, quantiles, exceedance probabilities.
//!
//! Every number is exact in the sense that it depends on the members of its cell alone, in member order: not on
//! threads, tiles or the order in which cells are visited. A member that is missing at a cell is left out there; a
//! cell without any member is missing (NaN).

use ndarray::parallel::prelude::*;
use ndarray::{Array3, Array4, ArrayView4, Axis};
use squall_fields::Ensemble;

/// What to compute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProductsConfig {
    /// Whether to compute the mean.
    pub mean: bool,
    /// Quantiles, each 0 to 1.
    pub quantiles: Vec<f32>,
    /// Thresholds of the exceedance probabilities, in the variable's unit.
    pub thresholds: Vec<f32>,
}

/// Products of one ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct Products {
    /// `[lead, y, x]` in the variable's unit.
    pub mean: Option<Array3<f32>>,
    /// `[quantile, lead, y, x]` in the variable's unit, quantiles as configured.
    pub quantiles: Option<Array4<f32>>,
    /// `[threshold, lead, y, x]`, 0 to 1: the share of members at or above the threshold.
    pub probabilities: Option<Array4<f32>>,
}

/// Computes the products of an ensemble, on all cores.
///
/// ```
/// use ndarray::Array4;
/// use squall_fields::{Ensemble, Variable};
/// use squall_operators::products::{ProductsConfig, products};
/// let values = Array4::from_shape_vec((4, 1, 1, 1), vec![0.0, 1.0, 2.0, 5.0]).unwrap();
/// let ensemble = Ensemble { variable: Variable::RainRate, values };
/// let config = ProductsConfig { mean: true, quantiles: vec![0.5], thresholds: vec![1.0] };
/// let p = products(&ensemble, &config);
/// assert_eq!(p.mean.unwrap()[[0, 0, 0]], 2.0);
/// assert_eq!(p.quantiles.unwrap()[[0, 0, 0, 0]], 1.5);
/// assert_eq!(p.probabilities.unwrap()[[0, 0, 0, 0]], 0.75);
/// ```
pub fn products(ensemble: &Ensemble, config: &ProductsConfig) -> Products {
    let values = ensemble.values.view();
    let members = values.dim().0;
    let wanted = |levels: &[f32]| !levels.is_empty();
    Products {
        mean: config.mean.then(|| {
            let mean = reduce(values, 1, |cell, out| out[0] = mean(cell));
            mean.index_axis_move(Axis(0), 0)
        }),
        quantiles: wanted(&config.quantiles)
            .then(|| reduce(values, config.quantiles.len(), |cell, out| quantiles(cell, &config.quantiles, out))),
        probabilities: (wanted(&config.thresholds) && members > 0)
            .then(|| reduce(values, config.thresholds.len(), |cell, out| exceedance(cell, &config.thresholds, out))),
    }
}

/// Applies a function to the members of every cell: `[member, lead, y, x]` to `[level, lead, y, x]`.
fn reduce(values: ArrayView4<'_, f32>, levels: usize, each: impl Fn(&mut Vec<f32>, &mut [f32]) + Sync) -> Array4<f32> {
    let (_, leads, rows, columns) = values.dim();
    // Rows of all levels together in memory, so that each thread writes its own: [lead, y, level, x].
    let mut out = Array4::zeros((leads, rows, levels, columns));
    out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(lead, mut plane)| {
        plane.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(row, mut out)| {
            let members = values.index_axis(Axis(1), lead);
            let members = members.index_axis(Axis(1), row);
            let mut cell = Vec::with_capacity(members.dim().0);
            let mut result = vec![0f32; levels];
            for column in 0..columns {
                cell.clear();
                cell.extend(members.column(column).iter().filter(|v| !v.is_nan()));
                if cell.is_empty() {
                    result.fill(f32::NAN);
                } else {
                    each(&mut cell, &mut result);
                }
                out.column_mut(column).iter_mut().zip(&result).for_each(|(o, r)| *o = *r);
            }
        });
    });
    out.permuted_axes([2, 0, 1, 3])
}

fn mean(cell: &[f32]) -> f32 {
    (cell.iter().map(|v| f64::from(*v)).sum::<f64>() / cell.len() as f64) as f32
}

/// Quantiles by linear interpolation between order statistics (type 7 of Hyndman and Fan, 1996).
fn quantiles(cell: &mut [f32], levels: &[f32], out: &mut [f32]) {
    if cell.iter().any(|v| *v != cell[0]) {
        cell.sort_unstable_by(f32::total_cmp);
    }
    for (level, out) in levels.iter().zip(out) {
        let position = f64::from(level.clamp(0.0, 1.0)) * (cell.len() - 1) as f64;
        let (low, high) = (cell[position.floor() as usize], cell[position.ceil() as usize]);
        *out = (f64::from(low) + position.fract() * (f64::from(high) - f64::from(low))) as f32;
    }
}

fn exceedance(cell: &[f32], thresholds: &[f32], out: &mut [f32]) {
    for (threshold, out) in thresholds.iter().zip(out) {
        *out = cell.iter().filter(|v| *v >= threshold).count() as f32 / cell.len() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use squall_fields::Variable;

    fn ensemble(members: usize, values: &[f32]) -> Ensemble {
        let cells = values.len() / members;
        let values = Array4::from_shape_vec((members, 1, 1, cells), values[..members * cells].to_vec()).unwrap();
        Ensemble { variable: Variable::RainRate, values }
    }

    fn all() -> ProductsConfig {
        ProductsConfig { mean: true, quantiles: vec![0.1, 0.5, 0.9], thresholds: vec![0.1, 1.0, 5.0] }
    }

    #[test]
    fn missing_members_are_left_out_and_missing_cells_stay_missing() {
        let p = products(&ensemble(2, &[1.0, f32::NAN, 3.0, f32::NAN]), &all());
        let (mean, probabilities) = (p.mean.unwrap(), p.probabilities.unwrap());
        assert_eq!(mean[[0, 0, 0]], 2.0);
        assert!(mean[[0, 0, 1]].is_nan() && probabilities[[0, 0, 0, 1]].is_nan());
        let p = products(&ensemble(2, &[1.0, 2.0, f32::NAN, 4.0]), &all());
        assert_eq!(p.mean.unwrap().as_slice(), Some(&[1.0, 3.0][..]));
    }

    #[test]
    fn nothing_is_computed_that_is_not_wanted() {
        let p = products(&ensemble(2, &[1.0, 2.0]), &ProductsConfig::default());
        assert_eq!(p, Products { mean: None, quantiles: None, probabilities: None });
    }

    proptest! {
        #[test]
        fn quantiles_are_ordered_and_probabilities_fall(values in prop::collection::vec(0f32..20.0, 5..40)) {
            let ensemble = ensemble(5, &values);
            let p = products(&ensemble, &all());
            let (q, e) = (p.quantiles.unwrap(), p.probabilities.unwrap());
            for cell in 0..ensemble.values.dim().3 {
                prop_assert!(q[[0, 0, 0, cell]] <= q[[1, 0, 0, cell]] && q[[1, 0, 0, cell]] <= q[[2, 0, 0, cell]]);
                prop_assert!(e[[0, 0, 0, cell]] >= e[[1, 0, 0, cell]] && e[[1, 0, 0, cell]] >= e[[2, 0, 0, cell]]);
                let members: Vec<f32> = ensemble.values.iter().skip(cell).step_by(ensemble.values.dim().3).copied().collect();
                let oracle = members.iter().filter(|v| **v >= 1.0).count() as f32 / 5.0;
                prop_assert_eq!(e[[1, 0, 0, cell]], oracle);
            }
        }
    }
}
