//! How the rain moves: dense Lucas–Kanade optical flow.
//!
//! The steps, each in a file of its own, in the order in which data passes through them:
//! preparation (dB scale, opening, common scaling), corners worth tracking (Shi and
//! Tomasi 1994), tracking them from frame to frame (pyramidal Lucas–Kanade; Bouguet 2001), throwing
//! out and thinning tracks, and interpolation to the whole domain by inverse distance. Rain moves
//! smoothly over tens of kilometres, so the result is kept on a coarse lattice of nodes
//! ([`MotionField`]) and read bilinearly in between; everything downstream gets cheap by that.
//!
//! Every step is a pure function and gives the same bits on any number of threads.

mod cleansing;
mod dense;
mod features;
mod field;
mod image;
mod neighbours;
mod pyramid;
mod tracking;

use ndarray::ArrayView2;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use field::MotionField;

/// What tunes the motion estimate; the defaults suit rain at 0.25 to 4 km and 2 to 15 min.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MotionParams {
    /// Rates below this are dry, in mm/h.
    pub threshold_mm_h: f32,
    /// Most corners that are tracked from a frame.
    pub corners: usize,
    /// A corner is at least this strong, as a share of the strongest in its frame.
    pub quality: f32,
    /// Corners are at least this many cells apart.
    pub min_distance: usize,
    /// Side of the tracked window in cells.
    pub window: usize,
    /// Levels of the pyramid, the full resolution included.
    pub levels: usize,
    /// Most iterations on each level.
    pub iterations: usize,
    /// A track is dropped if it is further than this from its neighbours, in their standard deviations.
    pub outlier_deviations: f32,
    /// Neighbours that a track is compared with.
    pub outlier_neighbours: usize,
    /// Tracks in a square of so many cells are replaced by their median.
    pub decluster_cells: f32,
    /// Tracks that a node is interpolated from.
    pub dense_neighbours: usize,
    /// Cells from node to node of the result.
    pub node_spacing: usize,
}

impl Default for MotionParams {
    fn default() -> Self {
        Self {
            threshold_mm_h: 0.1,
            corners: 1000,
            quality: 0.01,
            min_distance: 10,
            window: 50,
            levels: 4,
            iterations: 10,
            outlier_deviations: 3.0,
            outlier_neighbours: 30,
            decluster_cells: 20.0,
            dense_neighbours: 20,
            node_spacing: 8,
        }
    }
}

impl MotionParams {
    /// The parameters that make no sense, each with what must hold.
    pub(crate) fn faults(&self) -> Vec<(&'static str, &'static str)> {
        const POSITIVE: &str = "must be more than 0";
        let rules = [
            (self.threshold_mm_h > 0.0, ("threshold_mm_h", POSITIVE)),
            (self.corners > 0, ("corners", POSITIVE)),
            (self.quality > 0.0 && self.quality <= 1.0, ("quality", "must be more than 0 and at most 1")),
            ((4..=256).contains(&self.window), ("window", "must be from 4 to 256 cells")),
            ((1..=8).contains(&self.levels), ("levels", "must be from 1 to 8")),
            (self.iterations > 0, ("iterations", POSITIVE)),
            (self.outlier_deviations > 0.0, ("outlier_deviations", POSITIVE)),
            (self.decluster_cells > 0.0, ("decluster_cells", POSITIVE)),
            (self.dense_neighbours > 0, ("dense_neighbours", POSITIVE)),
            (self.node_spacing > 0, ("node_spacing", POSITIVE)),
        ];
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, fault)| fault).collect()
    }
}

/// A corner that was followed from one frame to a later one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Track {
    /// Column and row where it was.
    pub(crate) at: [f32; 2],
    /// Columns and rows that it moves in one step.
    pub(crate) motion: [f32; 2],
}

/// One input of [`estimate`]: when, in steps of the cadence on any common clock, and the rain rate
/// `[y, x]` in mm/h, NaN where missing.
pub type TimedField<'a> = (f64, ArrayView2<'a, f32>);

/// The motion that carries each frame into the next, from two or more frames, oldest first.
///
/// Frames need not be adjacent: the motion of a pair is divided by the time between them. `None` if
/// nothing could be tracked: fewer than two frames, no rain, or rain without structure.
///
/// ```
/// use ndarray::Array2;
/// use squall_models::baselines::motion::{estimate, MotionParams};
///
/// let blob = |x0: f32| Array2::from_shape_fn((96, 96), |(y, x)| {
///     let d2 = (x as f32 - x0).powi(2) + (y as f32 - 48.0).powi(2);
///     20.0 * (-d2 / 50.0).exp()
/// });
/// let (a, b) = (blob(40.0), blob(43.0));
/// let motion = estimate(&[(0.0, a.view()), (1.0, b.view())], &MotionParams::default()).unwrap();
/// let (u, v) = motion.at(48.0, 40.0);
/// assert!((u - 3.0).abs() < 0.1 && v.abs() < 0.1, "{u} {v}");
/// ```
pub fn estimate(frames: &[TimedField<'_>], params: &MotionParams) -> Option<MotionField> {
    let shape = frames.first()?.1.dim();
    let images = image::prepare(frames, params)?;
    let tracks: Vec<Track> = (1..frames.len())
        .into_par_iter()
        .flat_map_iter(|newer| {
            let steps = (frames[newer].0 - frames[newer - 1].0) as f32;
            tracking::follow(&images[newer - 1], &images[newer], steps, params)
        })
        .collect();
    let tracks = cleansing::without_outliers(tracks, params);
    let tracks = cleansing::declustered(tracks, params.decluster_cells);
    dense::interpolate(&tracks, shape, params)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    /// A field of smooth bumps, moved by `(u, v)` cells.
    fn bumps(shape: (usize, usize), u: f32, v: f32) -> Array2<f32> {
        Array2::from_shape_fn(shape, |(y, x)| {
            let (x, y) = (x as f32 - u, y as f32 - v);
            let wave = (x / 7.0).sin() * (y / 9.0).cos() + (x / 13.0 + y / 11.0).sin();
            (2.0 * wave).max(0.0) * (1.0 + 0.3 * (y / 17.0).sin())
        })
    }

    #[test]
    fn a_uniform_translation_is_found_everywhere() {
        let (a, b) = (bumps((200, 240), 0.0, 0.0), bumps((200, 240), 2.5, -1.25));
        let motion = estimate(&[(0.0, a.view()), (1.0, b.view())], &MotionParams::default()).unwrap();
        for (y, x) in [(0.0, 0.0), (100.0, 120.0), (199.0, 239.0)] {
            let (u, v) = motion.at(y, x);
            assert!((u - 2.5).abs() < 0.1 && (v + 1.25).abs() < 0.1, "{y} {x}: {u} {v}");
        }
    }

    #[test]
    fn a_gap_is_divided_out() {
        let (a, b) = (bumps((160, 160), 0.0, 0.0), bumps((160, 160), 3.0, 0.0));
        let motion = estimate(&[(0.0, a.view()), (3.0, b.view())], &MotionParams::default()).unwrap();
        let (u, v) = motion.at(80.0, 80.0);
        assert!((u - 1.0).abs() < 0.05 && v.abs() < 0.05, "{u} {v}");
    }

    #[test]
    fn nothing_to_track_gives_none() {
        let params = MotionParams::default();
        let dry = Array2::<f32>::zeros((64, 64));
        let missing = Array2::<f32>::from_elem((64, 64), f32::NAN);
        assert!(estimate(&[(0.0, dry.view()), (1.0, dry.view())], &params).is_none());
        assert!(estimate(&[(0.0, missing.view()), (1.0, missing.view())], &params).is_none());
        assert!(estimate(&[(0.0, bumps((64, 64), 0.0, 0.0).view())], &params).is_none());
        assert!(estimate(&[], &params).is_none());
    }

    #[test]
    fn the_edge_of_the_data_does_not_hold_the_motion_back() {
        let (mut a, mut b) = (bumps((200, 200), 0.0, 0.0), bumps((200, 200), 3.0, 1.0));
        for field in [&mut a, &mut b] {
            field.indexed_iter_mut().filter(|((y, x), _)| x + y < 120).for_each(|(_, v)| *v = f32::NAN);
        }
        let motion = estimate(&[(0.0, a.view()), (1.0, b.view())], &MotionParams::default()).unwrap();
        for (y, x) in [(70.0, 70.0), (100.0, 100.0), (150.0, 40.0)] {
            let (u, v) = motion.at(y, x);
            assert!((u - 3.0).abs() < 0.25 && (v - 1.0).abs() < 0.25, "{y} {x}: {u} {v}");
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() {
        let (a, b) = (bumps((150, 170), 0.0, 0.0), bumps((150, 170), 1.5, 0.5));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| estimate(&[(0.0, a.view()), (1.0, b.view())], &MotionParams::default()))
        };
        assert_eq!(run(1), run(3));
    }
}
