//! A field of motion on a lattice of nodes.

use ndarray::{Array2, Array3, Zip};

/// Motion in cells per step of the cadence, on nodes every `spacing` cells, bilinear in between.
///
/// `u` is towards higher columns (east) and `v` towards higher rows (**south**, for rows run from north
/// to south). Node `[j, i]` lies at row `j * spacing` and column `i * spacing`; the last ones lie on or
/// just beyond the edge. Outside the lattice the nearest edge value holds.
#[derive(Clone, Debug, PartialEq)]
pub struct MotionField {
    shape: (usize, usize),
    spacing: usize,
    /// Columns per step, `[node row, node column]`.
    pub u: Array2<f32>,
    /// Rows per step, `[node row, node column]`.
    pub v: Array2<f32>,
}

impl MotionField {
    /// The same motion everywhere in a domain of `(rows, columns)`.
    pub fn uniform(shape: (usize, usize), u: f32, v: f32) -> Self {
        let spacing = shape.0.max(shape.1).max(1);
        Self::on_nodes(shape, spacing, |_, _| [u, v])
    }

    /// No motion.
    pub fn zero(shape: (usize, usize)) -> Self {
        Self::uniform(shape, 0.0, 0.0)
    }

    /// One node for each cell. The two arrays are of one shape; a smaller one is repeated at its edge.
    pub fn dense(u: Array2<f32>, v: Array2<f32>) -> Self {
        debug_assert_eq!(u.dim(), v.dim(), "components of one shape");
        Self { shape: u.dim(), spacing: 1, u, v }
    }

    /// Nodes every `spacing` cells, with `[u, v]` given at each `(row, column)` in cells.
    pub fn on_nodes(shape: (usize, usize), spacing: usize, mut motion: impl FnMut(f32, f32) -> [f32; 2]) -> Self {
        let spacing = spacing.max(1);
        let nodes = Self::node_shape(shape, spacing);
        let mut field = Self { shape, spacing, u: Array2::zeros(nodes), v: Array2::zeros(nodes) };
        Zip::indexed(&mut field.u).and(&mut field.v).for_each(|(j, i), u, v| {
            [*u, *v] = motion((j * spacing) as f32, (i * spacing) as f32);
        });
        field
    }

    /// Number of nodes as `(rows, columns)` that cover a domain.
    pub(crate) fn node_shape(shape: (usize, usize), spacing: usize) -> (usize, usize) {
        let nodes = |n: usize| n.saturating_sub(1).div_ceil(spacing) + 1;
        (nodes(shape.0), nodes(shape.1))
    }

    /// The domain as `(rows, columns)` of cells.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Cells from node to node.
    pub fn spacing(&self) -> usize {
        self.spacing
    }

    /// `(u, v)` at a fractional row and column of cells.
    pub fn at(&self, row: f32, column: f32) -> (f32, f32) {
        let scale = 1.0 / self.spacing as f32;
        let (rows, columns) = self.u.dim();
        let (j, j1, fy) = bracket(row * scale, rows);
        let (i, i1, fx) = bracket(column * scale, columns);
        let read = |a: &Array2<f32>| {
            let north = a[[j, i]] + (a[[j, i1]] - a[[j, i]]) * fx;
            let south = a[[j1, i]] + (a[[j1, i1]] - a[[j1, i]]) * fx;
            north + (south - north) * fy
        };
        (read(&self.u), read(&self.v))
    }

    /// `[component, y, x]` at every cell: `u`, then `v`.
    pub fn to_dense(&self) -> Array3<f32> {
        let (rows, columns) = self.shape;
        let mut out = Array3::zeros((2, rows, columns));
        for ((y, x), _) in Array2::<u8>::zeros(self.shape).indexed_iter() {
            let (u, v) = self.at(y as f32, x as f32);
            out[[0, y, x]] = u;
            out[[1, y, x]] = v;
        }
        out
    }

    /// Mean `(u, v)` over the nodes.
    pub fn mean(&self) -> (f32, f32) {
        (self.u.mean().unwrap_or(0.0), self.v.mean().unwrap_or(0.0))
    }
}

/// The two indices around a position on an axis of `len > 0`, clamped to it, and the weight of the second.
fn bracket(position: f32, len: usize) -> (usize, usize, f32) {
    let position = position.clamp(0.0, (len - 1) as f32);
    let low = position as usize;
    (low, (low + 1).min(len - 1), position - low as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_cover_the_domain_and_are_read_bilinearly() {
        let field = MotionField::on_nodes((10, 18), 8, |row, column| [column, 2.0 * row + 1.0]);
        assert_eq!(field.u.dim(), (3, 4));
        assert_eq!(field.at(4.5, 11.0), (11.0, 10.0));
        assert_eq!(field.at(-3.0, 100.0), (24.0, 1.0));
        let dense = field.to_dense();
        assert_eq!(dense.dim(), (2, 10, 18));
        assert_eq!((dense[[0, 9, 17]], dense[[1, 9, 17]]), (17.0, 19.0));
    }

    #[test]
    fn a_uniform_field_is_uniform() {
        assert_eq!(MotionField::uniform((5, 7), 1.5, -2.0).at(3.2, 6.9), (1.5, -2.0));
        assert_eq!(MotionField::uniform((1, 1), 1.0, 2.0).at(0.0, 0.0), (1.0, 2.0));
    }
}
