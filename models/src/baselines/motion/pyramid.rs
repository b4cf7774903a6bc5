//! An image at halving resolutions, padded so that a window may hang over the edge.

use ndarray::Array2;
use rayon::prelude::*;

/// A plane of cells with `pad` repeated cells on each side.
pub(super) struct Padded {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pad: usize,
    cells: Vec<f32>,
}

impl Padded {
    /// Repeats the edge outwards.
    fn new(values: &Array2<f32>, pad: usize) -> Self {
        let (rows, columns) = values.dim();
        let mut cells = Vec::with_capacity((rows + 2 * pad) * (columns + 2 * pad));
        for y in 0..rows + 2 * pad {
            let row = values.row(y.saturating_sub(pad).min(rows - 1));
            cells.extend(std::iter::repeat_n(row[0], pad));
            cells.extend(row);
            cells.extend(std::iter::repeat_n(row[columns - 1], pad));
        }
        Self { rows, columns, pad, cells }
    }

    /// `len` cells of a row from a column on; both may be negative, down to the padding.
    pub(super) fn slice(&self, row: i32, column: i32, len: usize) -> &[f32] {
        let stride = self.columns + 2 * self.pad;
        let start = (row + self.pad as i32) as usize * stride + (column + self.pad as i32) as usize;
        &self.cells[start..start + len]
    }
}

/// One resolution: the image and its derivatives along columns and rows, per cell.
pub(super) struct Level {
    pub(super) image: Padded,
    pub(super) gradient: Option<[Padded; 2]>,
}

/// Level 0 is the full resolution, each further one has half as many rows and columns.
pub(super) struct Pyramid {
    pub(super) levels: Vec<Level>,
}

impl Pyramid {
    /// At most `levels` levels; a level smaller than 8 cells is not made. Derivatives only where asked for.
    pub(super) fn new(image: &Array2<f32>, levels: usize, pad: usize, with_gradient: bool) -> Self {
        let mut coarse: Vec<Array2<f32>> = Vec::new();
        while coarse.len() + 1 < levels {
            let last = coarse.last().unwrap_or(image);
            if last.nrows().min(last.ncols()) < 16 {
                break;
            }
            coarse.push(halved(last));
        }
        let planes: Vec<&Array2<f32>> = std::iter::once(image).chain(&coarse).collect();
        let level = |plane: &&Array2<f32>| Level {
            image: Padded::new(plane, pad),
            gradient: with_gradient.then(|| gradient(plane, pad)),
        };
        Self { levels: planes.par_iter().map(level).collect() }
    }
}

/// Smooths by (1 4 6 4 1)/16 in both directions and keeps every other row and column.
fn halved(plane: &Array2<f32>) -> Array2<f32> {
    const WEIGHTS: [f32; 5] = [0.0625, 0.25, 0.375, 0.25, 0.0625];
    let (rows, columns) = plane.dim();
    let (tall, wide) = (rows.div_ceil(2), columns.div_ceil(2));
    let mirror = |i: isize, n: usize| {
        let last = n as isize - 1;
        (if i < 0 {
            -i
        } else if i > last {
            2 * last - i
        } else {
            i
        })
        .clamp(0, last) as usize
    };
    let mut out = Array2::zeros((tall, wide));
    let Some(cells) = out.as_slice_mut() else { return out };
    cells.par_chunks_mut(wide).enumerate().for_each(|(j, out)| {
        let mut blurred = vec![0f32; columns];
        for (k, weight) in WEIGHTS.iter().enumerate() {
            let row = plane.row(mirror(2 * j as isize + k as isize - 2, rows));
            blurred.iter_mut().zip(row).for_each(|(b, v)| *b += weight * v);
        }
        for (i, value) in out.iter_mut().enumerate() {
            *value = (0..5).map(|k| WEIGHTS[k] * blurred[mirror((2 * i + k) as isize - 2, columns)]).sum();
        }
    });
    out
}

/// Derivatives along columns and rows by Scharr's operator, per cell; zero at the edge and beyond.
fn gradient(plane: &Array2<f32>, pad: usize) -> [Padded; 2] {
    let (rows, columns) = plane.dim();
    let stride = columns + 2 * pad;
    let [mut gx, mut gy] = [(); 2].map(|()| Padded { rows, columns, pad, cells: vec![0.0; (rows + 2 * pad) * stride] });
    let padded_rows = gx.cells.par_chunks_mut(stride).zip(gy.cells.par_chunks_mut(stride));
    let inner = padded_rows.skip(pad).take(rows).enumerate();
    inner.filter(|(y, _)| *y > 0 && *y + 1 < rows).for_each(|(y, (gx, gy))| {
        let (north, here, south) = (plane.row(y - 1), plane.row(y), plane.row(y + 1));
        let (Some(n), Some(h), Some(s)) = (north.as_slice(), here.as_slice(), south.as_slice()) else { return };
        let (gx, gy) = (&mut gx[pad + 1..], &mut gy[pad + 1..]);
        let windows = n.windows(3).zip(h.windows(3)).zip(s.windows(3));
        for (((n, h), s), (gx, gy)) in windows.zip(gx.iter_mut().zip(gy)) {
            let across = 3.0 * (n[2] - n[0]) + 10.0 * (h[2] - h[0]) + 3.0 * (s[2] - s[0]);
            let down = 3.0 * (s[0] - n[0]) + 10.0 * (s[1] - n[1]) + 3.0 * (s[2] - n[2]);
            (*gx, *gy) = (across / 32.0, down / 32.0);
        }
    });
    [gx, gy]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_keeps_its_slope_per_cell_of_each_level() {
        let ramp = Array2::from_shape_fn((64, 80), |(y, x)| 3.0 * x as f32 - 2.0 * y as f32);
        let pyramid = Pyramid::new(&ramp, 3, 10, true);
        for (level, factor) in pyramid.levels.iter().zip([1.0, 2.0, 4.0]) {
            let [gx, gy] = level.gradient.as_ref().unwrap();
            assert!((gx.slice(8, 8, 1)[0] - 3.0 * factor).abs() < 1e-4);
            assert!((gy.slice(8, 8, 1)[0] + 2.0 * factor).abs() < 1e-4);
        }
        assert_eq!((pyramid.levels[2].image.rows, pyramid.levels[2].image.columns), (16, 20));
    }

    #[test]
    fn padding_repeats_the_edge_and_small_images_have_few_levels() {
        let plane = Array2::from_shape_fn((12, 12), |(y, x)| (y * 12 + x) as f32);
        let pyramid = Pyramid::new(&plane, 4, 5, false);
        assert_eq!(pyramid.levels.len(), 1);
        assert_eq!(pyramid.levels[0].image.slice(-5, -5, 6), [0.0; 6]);
        assert_eq!(pyramid.levels[0].image.slice(16, 11, 6), [143.0; 6]);
    }
}
