//! Corners worth tracking, after Shi and Tomasi (1994).
//!
//! A corner is a place where the image changes in two directions, so that its motion can be told in
//! both: the smaller eigenvalue of the structure tensor is large there.

use ndarray::Array2;
use rayon::prelude::*;

use super::{MotionParams, image::Image};

/// Half the side of the block over which the structure tensor is summed.
const BLOCK: usize = 2;
/// Cells around missing ones in which no corner is sought: the edge of the data is no edge of the rain.
const BUFFER: usize = 4;
/// Rows that one task works on.
const BAND: usize = 64;

/// `[column, row]` of the corners, strongest first, ties in order of rows and columns.
pub(super) fn corners(image: &Image, params: &MotionParams) -> Vec<[f32; 2]> {
    let mut strength = smaller_eigenvalue(&image.values);
    mask_buffer(&mut strength, &image.missing);
    let least = params.quality * strength.iter().fold(0f32, |a, b| a.max(*b));
    let mut candidates = local_maxima(&strength, least);
    candidates.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    spread(&candidates, image.values.dim(), params)
}

/// The smaller eigenvalue of the structure tensor at every cell, rows in parallel.
fn smaller_eigenvalue(image: &Array2<f32>) -> Array2<f32> {
    let (rows, columns) = image.dim();
    let mut out = Array2::zeros((rows, columns));
    let Some(cells) = out.as_slice_mut() else { return out };
    cells.par_chunks_mut(BAND * columns.max(1)).enumerate().for_each(|(band, out)| {
        eigenvalues_of_band(image, band * BAND, out);
    });
    out
}

/// Fills `out`, whole rows from `first` on.
fn eigenvalues_of_band(image: &Array2<f32>, first: usize, out: &mut [f32]) {
    let (rows, columns) = image.dim();
    let band = out.len() / columns;
    // Products of the gradient for the rows of the band and a margin, summed along the row.
    let tensor_rows: Vec<[Vec<f32>; 3]> = (0..band + 2 * BLOCK)
        .map(|r| {
            let y = (first + r).saturating_sub(BLOCK).min(rows - 1);
            row_sums(gradient_products(image, y))
        })
        .collect();
    let mut sums = [vec![0f32; columns], vec![0f32; columns], vec![0f32; columns]];
    for (r, out_row) in out.chunks_exact_mut(columns).enumerate() {
        for (k, sum) in sums.iter_mut().enumerate() {
            sum.fill(0.0);
            for row in &tensor_rows[r..=r + 2 * BLOCK] {
                sum.iter_mut().zip(&row[k]).for_each(|(sum, v)| *sum += v);
            }
        }
        for (x, value) in out_row.iter_mut().enumerate() {
            let (xx, xy, yy) = (0.5 * sums[0][x], sums[1][x], 0.5 * sums[2][x]);
            *value = xx + yy - ((xx - yy) * (xx - yy) + xy * xy).sqrt();
        }
    }
}

/// `gx * gx`, `gx * gy`, `gy * gy` of a row by Sobel's operator; the edge is repeated outwards.
fn gradient_products(image: &Array2<f32>, y: usize) -> [Vec<f32>; 3] {
    let (rows, columns) = image.dim();
    let (north, here, south) = (image.row(y.saturating_sub(1)), image.row(y), image.row((y + 1).min(rows - 1)));
    // Column sums and differences, with one repeated cell at either end.
    let mut across = vec![0f32; columns + 2];
    let mut down = vec![0f32; columns + 2];
    for (x, ((n, h), s)) in north.iter().zip(here).zip(south).enumerate() {
        across[x + 1] = n + 2.0 * h + s;
        down[x + 1] = s - n;
    }
    for row in [&mut across, &mut down] {
        (row[0], row[columns + 1]) = (row[1], row[columns]);
    }
    let mut products = [vec![0f32; columns], vec![0f32; columns], vec![0f32; columns]];
    let [xx, xy, yy] = &mut products;
    let windows = across.windows(3).zip(down.windows(3));
    for (((a, d), (xx, xy)), yy) in windows.zip(xx.iter_mut().zip(xy)).zip(yy) {
        let (gx, gy) = (a[2] - a[0], d[0] + 2.0 * d[1] + d[2]);
        (*xx, *xy, *yy) = (gx * gx, gx * gy, gy * gy);
    }
    products
}

/// Sums over `2 * BLOCK + 1` neighbours along a row; the edge is repeated outwards.
fn row_sums(rows: [Vec<f32>; 3]) -> [Vec<f32>; 3] {
    rows.map(|row| {
        let (first, last) = (row[0], row[row.len() - 1]);
        let mut padded = vec![first; BLOCK];
        padded.extend(&row);
        padded.extend([last; BLOCK]);
        padded.windows(2 * BLOCK + 1).map(|window| window.iter().sum()).collect()
    })
}

/// Sets to zero what lies within [`BUFFER`] cells of a missing one.
fn mask_buffer(strength: &mut Array2<f32>, missing: &Array2<bool>) {
    let (rows, columns) = strength.dim();
    // A square is dilated along rows first, then along columns.
    let mut along = Array2::from_elem((rows, columns), false);
    for (mut out, row) in along.rows_mut().into_iter().zip(missing.rows()) {
        let mut until = 0;
        for x in 0..columns + BUFFER {
            if x < columns && row[x] {
                until = x + 2 * BUFFER + 1;
            }
            if x >= BUFFER && x < until.max(BUFFER) {
                out[x - BUFFER] = true;
            }
        }
    }
    for y in 0..rows {
        for near in y.saturating_sub(BUFFER)..(y + BUFFER + 1).min(rows) {
            let flags = along.row(near);
            strength.row_mut(y).iter_mut().zip(flags).for_each(|(s, near)| *s = if *near { 0.0 } else { *s });
        }
    }
}

/// `(strength, cell index)` of the cells that no neighbour exceeds, away from the edge.
fn local_maxima(strength: &Array2<f32>, least: f32) -> Vec<(f32, u32)> {
    let (rows, columns) = strength.dim();
    (1..rows.saturating_sub(1))
        .into_par_iter()
        .flat_map_iter(|y| {
            (1..columns.saturating_sub(1)).filter_map(move |x| {
                let s = strength[[y, x]];
                let top = s > 0.0
                    && s >= least
                    && (y - 1..=y + 1).all(|ny| (x - 1..=x + 1).all(|nx| strength[[ny, nx]] <= s));
                top.then_some((s, (y * columns + x) as u32))
            })
        })
        .collect()
}

/// Takes candidates in order, each only if no taken one is closer than the least distance.
fn spread(candidates: &[(f32, u32)], (rows, columns): (usize, usize), params: &MotionParams) -> Vec<[f32; 2]> {
    let side = params.min_distance.max(1);
    let (tall, wide) = (rows.div_ceil(side), columns.div_ceil(side));
    let mut taken: Vec<Vec<[f32; 2]>> = vec![Vec::new(); tall * wide];
    let mut corners = Vec::new();
    for (_, cell) in candidates {
        let (y, x) = (*cell as usize / columns, *cell as usize % columns);
        let point = [x as f32, y as f32];
        let (j, i) = (y / side, x / side);
        let free = (j.saturating_sub(1)..(j + 2).min(tall)).all(|nj| {
            (i.saturating_sub(1)..(i + 2).min(wide)).all(|ni| {
                taken[nj * wide + ni].iter().all(|p| {
                    (p[0] - point[0]).powi(2) + (p[1] - point[1]).powi(2) >= (params.min_distance as f32).powi(2)
                })
            })
        });
        if free {
            taken[j * wide + i].push(point);
            corners.push(point);
            if corners.len() == params.corners {
                break;
            }
        }
    }
    corners
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square() -> Image {
        let values =
            Array2::from_shape_fn(
                (60, 60),
                |(y, x)| {
                    if (20..40).contains(&y) && (20..40).contains(&x) { 255.0 } else { 0.0 }
                },
            );
        Image { missing: values.mapv(|_| false), values }
    }

    #[test]
    fn a_square_has_four_corners() {
        let mut found = corners(&square(), &MotionParams { quality: 0.5, ..Default::default() });
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(found.len(), 4, "{found:?}");
        for (corner, expected) in found.iter().zip([[20.0, 20.0], [20.0, 39.0], [39.0, 20.0], [39.0, 39.0f32]]) {
            assert!((corner[0] - expected[0]).abs() <= 2.0 && (corner[1] - expected[1]).abs() <= 2.0, "{corner:?}");
        }
    }

    #[test]
    fn corners_keep_their_distance_and_avoid_missing_cells() {
        let mut image = square();
        image.missing.slice_mut(ndarray::s![..30, ..]).fill(true);
        let params = MotionParams { quality: 0.001, ..Default::default() };
        let found = corners(&image, &params);
        assert!(!found.is_empty());
        assert!(found.iter().all(|p| p[1] >= (30 + BUFFER) as f32), "{found:?}");
        for (i, a) in found.iter().enumerate() {
            for b in &found[..i] {
                assert!((a[0] - b[0]).hypot(a[1] - b[1]) >= 10.0);
            }
        }
    }

    #[test]
    fn the_buffer_is_a_square_around_each_missing_cell() {
        let mut strength = Array2::<f32>::ones((20, 20));
        let mut missing = Array2::from_elem((20, 20), false);
        missing[[10, 2]] = true;
        mask_buffer(&mut strength, &missing);
        for ((y, x), s) in strength.indexed_iter() {
            let near = y.abs_diff(10) <= BUFFER && x.abs_diff(2) <= BUFFER;
            assert_eq!(*s, if near { 0.0 } else { 1.0 }, "{y} {x}");
        }
    }
}
