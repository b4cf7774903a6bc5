//! Moving a field along: semi-Lagrangian backward extrapolation (Germann and Zawadzki 2002).
//!
//! For each cell the trajectory is followed *backwards* through a stationary motion field, and the
//! original field is read where it ends. The field is thus interpolated once, whatever the lead, and
//! does not blur from step to step. What comes from outside the domain is unknown, not dry: NaN.
//!
//! Trajectories are followed for the nodes of the motion field only and interpolated in between:
//! with nodes every 8 cells that is 64 times less work, and the motion is no finer than its nodes anyhow.

use ndarray::{Array3, ArrayView2};
use rayon::prelude::*;

use super::motion::MotionField;

/// Least weight of valid neighbours for a value to be valid.
const LEAST_WEIGHT: f32 = 0.5;
/// Rows that one task works on.
const BAND: usize = 32;

/// How far back the trajectories of a domain reach so far, on the nodes of a motion field.
#[derive(Clone, Debug, PartialEq)]
pub struct Displacement {
    /// In cells: what is at node `[j, i]` now was at its place plus `u` columns and `v` rows.
    nodes: MotionField,
}

impl Displacement {
    /// No displacement, on the nodes of `motion`.
    pub fn zero(motion: &MotionField) -> Self {
        Self { nodes: MotionField::on_nodes(motion.shape(), motion.spacing(), |_, _| [0.0, 0.0]) }
    }

    /// Follows the trajectories further back, by `steps` (at most about one) of a motion field,
    /// with the midpoint rule.
    pub fn advance(&mut self, motion: &MotionField, steps: f32) {
        let spacing = self.nodes.spacing() as f32;
        let u = self.nodes.u.indexed_iter_mut();
        u.zip(self.nodes.v.iter_mut()).for_each(|(((j, i), dx), dy)| {
            let (row, column) = (j as f32 * spacing, i as f32 * spacing);
            let here = motion.at(row + *dy, column + *dx);
            let (half_x, half_y) = (0.5 * steps * here.0, 0.5 * steps * here.1);
            let (u, v) = motion.at(row + *dy - half_y, column + *dx - half_x);
            *dx -= steps * u;
            *dy -= steps * v;
        });
    }

    /// `(columns, rows)` from a cell to where its trajectory began.
    pub fn at(&self, row: f32, column: f32) -> (f32, f32) {
        self.nodes.at(row, column)
    }

    /// Reads one row `y` of the displaced field; `cells` is the field row by row.
    fn sample_row(&self, cells: &[f32], y: usize, out: &mut [f32]) {
        let (rows, columns) = self.nodes.shape();
        let spacing = self.nodes.spacing();
        let weight = (y % spacing) as f32 / spacing as f32;
        let j = y / spacing;
        let south = (j + 1).min(self.nodes.u.nrows() - 1);
        let node = |a: &ndarray::Array2<f32>, i: usize| {
            let i = i.min(a.ncols() - 1);
            a[[j, i]] + (a[[south, i]] - a[[j, i]]) * weight
        };
        for (i, block) in out.chunks_mut(spacing).enumerate() {
            let (x0, y0) = (node(&self.nodes.u, i), node(&self.nodes.v, i));
            let scale = 1.0 / spacing as f32;
            let slope_x = (node(&self.nodes.u, i + 1) - x0) * scale;
            let slope_y = (node(&self.nodes.v, i + 1) - y0) * scale;
            for (k, value) in block.iter_mut().enumerate() {
                let column = (i * spacing + k) as f32 + x0 + slope_x * k as f32;
                let row = y as f32 + y0 + slope_y * k as f32;
                *value = bilinear(cells, (rows, columns), row, column);
            }
        }
    }

    /// As [`Displacement::sample_into`], on this thread alone: for callers that give each thread a field of its own.
    pub(crate) fn sample_sequentially(&self, cells: &[f32], out: &mut [f32]) {
        let columns = self.nodes.shape().1.max(1);
        out.chunks_exact_mut(columns).enumerate().for_each(|(y, row)| self.sample_row(cells, y, row));
    }

    /// Writes the displaced field to `out`, both row by row, in the shape of the motion field.
    pub(crate) fn sample_into(&self, cells: &[f32], out: &mut [f32]) {
        let columns = self.nodes.shape().1.max(1);
        out.par_chunks_mut(BAND * columns).enumerate().for_each(|(band, out)| {
            for (r, row) in out.chunks_exact_mut(columns).enumerate() {
                self.sample_row(cells, band * BAND + r, row);
            }
        });
    }
}

/// A value between cells. Missing neighbours and those outside are left out, if the others weigh enough.
#[inline(always)]
fn bilinear(cells: &[f32], (rows, columns): (usize, usize), row: f32, column: f32) -> f32 {
    // Also catches NaN.
    if !(row > -1.0 && column > -1.0 && row < rows as f32 && column < columns as f32) {
        return f32::NAN;
    }
    let (y, x) = (floor(row), floor(column));
    let (fy, fx) = (row - y as f32, column - x as f32);
    if x >= 0 && y >= 0 && (x as usize) + 1 < columns && (y as usize) + 1 < rows {
        let start = y as usize * columns + x as usize;
        let (north, south) = (&cells[start..start + 2], &cells[start + columns..start + columns + 2]);
        let top = north[0] + (north[1] - north[0]) * fx;
        let bottom = south[0] + (south[1] - south[0]) * fx;
        let value = top + (bottom - top) * fy;
        if value.is_finite() {
            return value;
        }
    }
    bilinear_of_valid(cells, (rows, columns), [y, x], [fy, fx])
}

/// The same, over the valid ones of the four neighbours.
#[cold]
fn bilinear_of_valid(cells: &[f32], (rows, columns): (usize, usize), [y, x]: [i32; 2], [fy, fx]: [f32; 2]) -> f32 {
    let (mut sum, mut weights) = (0f32, 0f32);
    for (dy, wy) in [(0, 1.0 - fy), (1, fy)] {
        for (dx, wx) in [(0, 1.0 - fx), (1, fx)] {
            let (row, column, weight) = (y + dy, x + dx, wy * wx);
            if weight > 0.0 && (0..rows as i32).contains(&row) && (0..columns as i32).contains(&column) {
                let value = cells[row as usize * columns + column as usize];
                if value.is_finite() {
                    sum += weight * value;
                    weights += weight;
                }
            }
        }
    }
    if weights >= LEAST_WEIGHT { sum / weights } else { f32::NAN }
}

/// `f32::floor` without a call into libm, for values in the range of `i32`.
#[inline(always)]
fn floor(value: f32) -> i32 {
    let whole = value as i32;
    whole - i32::from((whole as f32) > value)
}

/// The displacement at each of the ascending times, given in steps of the motion field.
///
/// `advance(displacement, part, until)` follows it back by `part` of a step, at most one, that ends at time `until`.
pub(crate) fn displacements(
    steps: &[f32],
    zero: Displacement,
    mut advance: impl FnMut(&mut Displacement, f32, f32),
) -> Vec<Displacement> {
    let (mut now, mut state) = (0f32, zero);
    let to = |until: &f32| {
        let parts = (until - now).abs().ceil().max(1.0);
        let part = (until - now) / parts;
        for k in 1..=parts as usize {
            advance(&mut state, part, now + part * k as f32);
        }
        now = *until;
        state.clone()
    };
    steps.iter().map(to).collect()
}

/// The field at each of the ascending times `steps` (in steps of the motion field): `[time, y, x]`.
///
/// ```
/// use ndarray::array;
/// use squall_models::baselines::{advection::extrapolate, motion::MotionField};
///
/// let rain = array![[1.0, 2.0, 3.0f32], [4.0, 5.0, 6.0]];
/// let moved = extrapolate(rain.view(), &MotionField::uniform((2, 3), 1.0, 0.0), &[1.0]);
/// assert!(moved[[0, 0, 0]].is_nan() && moved[[0, 1, 0]].is_nan());
/// assert_eq!(moved[[0, 1, 1]], 4.0);
/// ```
pub fn extrapolate(field: ArrayView2<'_, f32>, motion: &MotionField, steps: &[f32]) -> Array3<f32> {
    let (rows, columns) = field.dim();
    debug_assert_eq!(field.dim(), motion.shape(), "field and motion of one domain");
    let mut out = Array3::from_elem((steps.len(), rows, columns), f32::NAN);
    let paths = displacements(steps, Displacement::zero(motion), |d, part, _| d.advance(motion, part));
    let field = field.as_standard_layout();
    let (Some(cells), Some(values)) = (field.as_slice(), out.as_slice_mut()) else { return out };
    if cells.is_empty() {
        return out;
    }
    values.par_chunks_mut(cells.len()).zip(&paths).for_each(|(out, path)| path.sample_into(cells, out));
    out
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array, s};

    use super::*;

    fn assert_same(a: &Array3<f32>, b: &Array3<f32>) {
        assert_eq!(a.dim(), b.dim());
        for (x, y) in a.iter().zip(b) {
            assert!((x.is_nan() && y.is_nan()) || (x - y).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn whole_cells_are_exact_in_every_direction() {
        let field = Array2::from_shape_fn((8, 8), |(y, x)| (y * 8 + x) as f32);
        for (u, v) in [(1i32, 0i32), (-1, 0), (0, 1), (0, -1), (2, -1)] {
            let moved = extrapolate(field.view(), &MotionField::uniform((8, 8), u as f32, v as f32), &[1.0, 2.0]);
            let expected = Array3::from_shape_fn((2, 8, 8), |(t, y, x)| {
                let n = t as i32 + 1;
                let (y, x) = (y as i32 - n * v, x as i32 - n * u);
                field.get((y as usize, x as usize)).copied().unwrap_or(f32::NAN)
            });
            assert_same(&moved, &expected);
        }
    }

    #[test]
    fn half_cells_are_the_mean_and_the_field_is_never_blurred_twice() {
        let mut field = Array2::<f32>::zeros((3, 7));
        field[[1, 2]] = 1.0;
        let moved = extrapolate(field.view(), &MotionField::uniform((3, 7), 0.5, 0.0), &[1.0, 2.0, 3.0]);
        assert_eq!(moved.slice(s![0, 1, 1..]), array![0.0, 0.5, 0.5, 0.0, 0.0, 0.0f32]);
        assert_eq!(moved.slice(s![1, 1, 1..]), array![0.0, 0.0, 1.0, 0.0, 0.0, 0.0f32]);
        assert_eq!(moved.slice(s![2, 1, 2..]), array![0.0, 0.5, 0.5, 0.0, 0.0f32]);
    }

    #[test]
    fn no_motion_gives_the_field_and_keeps_its_mask() {
        let field = array![[0.0, f32::NAN, 2.0], [3.0, 4.0, 5.0]];
        let moved = extrapolate(field.view(), &MotionField::zero((2, 3)), &[1.0, 7.0]);
        for plane in moved.outer_iter() {
            assert!(plane[[0, 1]].is_nan());
            assert_eq!(plane.slice(s![1, ..]), field.slice(s![1, ..]));
        }
    }

    #[test]
    fn missing_cells_travel_with_the_rain() {
        let mut field = Array2::<f32>::ones((4, 9));
        field[[1, 3]] = f32::NAN;
        let moved = extrapolate(field.view(), &MotionField::uniform((4, 9), 1.2, 0.0), &[2.0]);
        let missing: Vec<_> = (3..9).filter(|x| moved[[0, 1, *x]].is_nan()).collect();
        assert_eq!(missing, [5], "only column 5 is read mostly (0.6) from the missing cell");
    }

    #[test]
    fn rotation_brings_a_blob_round() {
        let n = 101;
        let centre = 50.0;
        let omega = std::f32::consts::FRAC_PI_2 / 30.0;
        let rotation = |row: f32, column: f32| [-omega * (row - centre), omega * (column - centre)];
        let blob = |x: f32, y: f32| {
            Array2::from_shape_fn((n, n), |(j, i)| (-((i as f32 - x).powi(2) + (j as f32 - y).powi(2)) / 40.0).exp())
        };
        for spacing in [1, 4, 8] {
            let motion = MotionField::on_nodes((n, n), spacing, rotation);
            let moved = extrapolate(blob(75.0, 50.0).view(), &motion, &[30.0]);
            let expected = blob(50.0, 75.0);
            let error = moved.iter().zip(&expected).filter(|(m, _)| m.is_finite()).map(|(m, e)| (m - e).abs());
            assert!(error.fold(0f32, f32::max) < 0.02);
        }
    }

    #[test]
    fn a_coarse_lattice_agrees_with_a_dense_one() {
        let swirl = |row: f32, column: f32| [2.0 + (row / 80.0).sin(), (column / 90.0).cos()];
        let coarse = MotionField::on_nodes((120, 150), 8, swirl);
        let fine = coarse.to_dense();
        let dense = MotionField::dense(fine.slice(s![0, .., ..]).to_owned(), fine.slice(s![1, .., ..]).to_owned());
        let path = |motion: &MotionField| {
            displacements(&[12.0], Displacement::zero(motion), |d, part, _| d.advance(motion, part)).remove(0)
        };
        let (a, b) = (path(&coarse), path(&dense));
        for (y, x) in [(40.0, 60.0), (60.5, 77.0), (99.0, 141.0)] {
            let ((ax, ay), (bx, by)) = (a.at(y, x), b.at(y, x));
            assert!((ax - bx).abs() < 0.05 && (ay - by).abs() < 0.05, "{ax} {bx} {ay} {by}");
        }
    }
}
