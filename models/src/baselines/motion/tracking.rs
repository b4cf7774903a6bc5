//! Following corners from one image to the next: pyramidal Lucas–Kanade (Bouguet 2001).
//!
//! For each corner the shift of the window around it is sought that minimises the squared difference
//! of the two images, by Gauss–Newton steps, from the coarsest level to the finest. The gradient is
//! taken in the older image only, so the normal matrix of a window is made once a level.

use rayon::prelude::*;

use super::{
    MotionParams, Track,
    features::corners,
    image::Image,
    pyramid::{Level, Pyramid},
};

/// A window whose mean squared gradient is below this in some direction, on a scale of 255, has no structure.
const LEAST_STRUCTURE: f32 = 0.1;
/// A step shorter than this, in cells, ends the iteration.
const SMALL_STEP: f32 = 0.01;
/// Lanes of a sum: fixed, so that every machine adds in the same order.
const LANES: usize = 8;

/// Tracks of the corners of `older` that are found again in `newer`, `steps` steps later.
pub(super) fn follow(older: &Image, newer: &Image, steps: f32, params: &MotionParams) -> Vec<Track> {
    let corners = corners(older, params);
    if corners.is_empty() || steps <= 0.0 {
        return Vec::new();
    }
    let pad = params.window + 2;
    let (from, to) = rayon::join(
        || Pyramid::new(&older.values, params.levels, pad, true),
        || Pyramid::new(&newer.values, params.levels, pad, false),
    );
    let found: Vec<Option<Track>> = corners
        .par_iter()
        .map_init(
            || Patch::new(params.window),
            |patch, at| {
                let moved = shift(&from, &to, *at, patch, params.iterations)?;
                Some(Track { at: *at, motion: [moved[0] / steps, moved[1] / steps] })
            },
        )
        .collect();
    found.into_iter().flatten().collect()
}

/// The window around a corner in the older image, with its gradient.
struct Patch {
    side: usize,
    values: Vec<f32>,
    gx: Vec<f32>,
    gy: Vec<f32>,
}

/// Bilinear weights of the four cells around a position, and the cell north-west of it.
struct Corner {
    row: i32,
    column: i32,
    weights: [f32; 4],
}

impl Corner {
    /// `None` if a window of `side` cells from here on leaves the padding of a level.
    fn new(column: f32, row: f32, side: usize, level: &Level) -> Option<Self> {
        let (x, y) = (column.floor(), row.floor());
        let reach = -(side as f32);
        if !(x >= reach && y >= reach && x <= level.image.columns as f32 && y <= level.image.rows as f32) {
            return None;
        }
        let (fx, fy) = (column - x, row - y);
        let weights = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
        Some(Self { row: y as i32, column: x as i32, weights })
    }
}

impl Patch {
    fn new(side: usize) -> Self {
        let cells = side * side;
        Self { side, values: vec![0.0; cells], gx: vec![0.0; cells], gy: vec![0.0; cells] }
    }

    /// Reads the window from the older image and gives its normal matrix `[xx, xy, yy]`.
    fn read(&mut self, level: &Level, corner: &Corner) -> [f32; 3] {
        let side = self.side;
        if let Some([gx, gy]) = &level.gradient {
            for (plane, out) in [(&level.image, &mut self.values), (gx, &mut self.gx), (gy, &mut self.gy)] {
                for (r, row) in out.chunks_exact_mut(side).enumerate() {
                    let north = plane.slice(corner.row + r as i32, corner.column, side + 1);
                    let south = plane.slice(corner.row + r as i32 + 1, corner.column, side + 1);
                    blend(north, south, &corner.weights, row);
                }
            }
        }
        let mut sums = [[0f32; LANES]; 3];
        for (gx, gy) in self.gx.chunks(LANES).zip(self.gy.chunks(LANES)) {
            for (lane, (x, y)) in gx.iter().zip(gy).enumerate() {
                sums[0][lane] += x * x;
                sums[1][lane] += x * y;
                sums[2][lane] += y * y;
            }
        }
        sums.map(|lanes| lanes.iter().sum())
    }

    /// Sums of gradient times difference to the newer image at a place.
    fn mismatch(&self, level: &Level, corner: &Corner, row_buffer: &mut [f32]) -> [f32; 2] {
        let side = self.side;
        let (mut sum_x, mut sum_y) = ([0f32; LANES], [0f32; LANES]);
        for r in 0..side {
            let north = level.image.slice(corner.row + r as i32, corner.column, side + 1);
            let south = level.image.slice(corner.row + r as i32 + 1, corner.column, side + 1);
            blend(north, south, &corner.weights, row_buffer);
            let cells = r * side..(r + 1) * side;
            let (mut values, mut gx, mut gy) = (
                self.values[cells.clone()].chunks_exact(LANES),
                self.gx[cells.clone()].chunks_exact(LANES),
                self.gy[cells].chunks_exact(LANES),
            );
            let mut moved = row_buffer.chunks_exact(LANES);
            for (((m, v), x), y) in (&mut moved).zip(&mut values).zip(&mut gx).zip(&mut gy) {
                for lane in 0..LANES {
                    let difference = m[lane] - v[lane];
                    sum_x[lane] += difference * x[lane];
                    sum_y[lane] += difference * y[lane];
                }
            }
            let rest = moved.remainder().iter().zip(values.remainder()).zip(gx.remainder()).zip(gy.remainder());
            for (lane, (((m, v), x), y)) in rest.enumerate() {
                sum_x[lane] += (m - v) * x;
                sum_y[lane] += (m - v) * y;
            }
        }
        [sum_x.iter().sum(), sum_y.iter().sum()]
    }
}

/// One row of a window, bilinear between two rows of cells that are one longer.
fn blend(north: &[f32], south: &[f32], weights: &[f32; 4], out: &mut [f32]) {
    let n = out.len();
    let (nw, ne, sw, se) = (&north[..n], &north[1..=n], &south[..n], &south[1..=n]);
    for i in 0..n {
        out[i] = nw[i] * weights[0] + ne[i] * weights[1] + sw[i] * weights[2] + se[i] * weights[3];
    }
}

/// Columns and rows that a corner moved; `None` if it was lost.
fn shift(from: &Pyramid, to: &Pyramid, at: [f32; 2], patch: &mut Patch, iterations: usize) -> Option<[f32; 2]> {
    let side = patch.side;
    let half = 0.5 * (side as f32 - 1.0);
    let mut row_buffer = vec![0f32; side];
    let mut moved = [0f32; 2];
    for (index, (older, newer)) in from.levels.iter().zip(&to.levels).enumerate().rev() {
        let scale = 1.0 / (1 << index) as f32;
        let origin = [at[0] * scale - half, at[1] * scale - half];
        moved = moved.map(|m| 2.0 * m);
        let Some(corner) = Corner::new(origin[0], origin[1], side, older) else { continue };
        let [xx, xy, yy] = patch.read(older, &corner);
        let determinant = xx * yy - xy * xy;
        let smaller = 0.5 * (xx + yy - ((xx - yy) * (xx - yy) + 4.0 * xy * xy).sqrt());
        if smaller < LEAST_STRUCTURE * (side * side) as f32 || determinant <= f32::EPSILON {
            if index == 0 {
                return None;
            }
            continue;
        }
        let mut last = [0f32; 2];
        for _ in 0..iterations {
            let place = Corner::new(origin[0] + moved[0], origin[1] + moved[1], side, newer)?;
            let [bx, by] = patch.mismatch(newer, &place, &mut row_buffer);
            let step = [(xy * by - yy * bx) / determinant, (xy * bx - xx * by) / determinant];
            moved = [moved[0] + step[0], moved[1] + step[1]];
            if step[0].hypot(step[1]) < SMALL_STEP {
                break;
            }
            if (step[0] + last[0]).abs() < SMALL_STEP && (step[1] + last[1]).abs() < SMALL_STEP {
                // It swings between two places: the middle is the best answer.
                moved = [moved[0] - 0.5 * step[0], moved[1] - 0.5 * step[1]];
                break;
            }
            last = step;
        }
    }
    moved.iter().all(|m| m.is_finite()).then_some(moved)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn texture(u: f32, v: f32) -> Image {
        let values = Array2::from_shape_fn((160, 160), |(y, x)| {
            let (x, y) = (x as f32 - u, y as f32 - v);
            128.0 + 60.0 * (x / 9.0).sin() * (y / 7.0).cos() + 40.0 * (x / 23.0 + y / 31.0).sin()
        });
        Image { missing: values.mapv(|_| false), values }
    }

    #[test]
    fn large_and_fractional_shifts_are_followed() {
        for (u, v) in [(0.0, 0.0), (0.25, -0.4), (6.5, 3.0), (-9.0, 7.25)] {
            let tracks = follow(&texture(0.0, 0.0), &texture(u, v), 1.0, &MotionParams::default());
            let inner: Vec<_> = tracks.iter().filter(|t| t.at.iter().all(|c| (40.0..120.0).contains(c))).collect();
            assert!(inner.len() > 10);
            for track in inner {
                let [a, b] = track.motion;
                assert!((a - u).abs() < 0.1 && (b - v).abs() < 0.1, "{u} {v}: {track:?}");
            }
        }
    }

    #[test]
    fn a_corner_without_structure_is_lost() {
        let image = texture(0.0, 0.0);
        let blank = Array2::<f32>::zeros((160, 160));
        let (from, to) = (Pyramid::new(&blank, 3, 52, true), Pyramid::new(&image.values, 3, 52, false));
        assert_eq!(shift(&from, &to, [80.0, 80.0], &mut Patch::new(50), 10), None);
    }
}
