//! Tracks thrown out where they contradict their neighbours, and thinned where they crowd.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{MotionParams, Track, neighbours::PointGrid};

/// Drops each track whose motion is further than `outlier_deviations` from the mean of its neighbours,
/// by Mahalanobis distance in their covariance. A track with too few neighbours, or with neighbours
/// that all move alike, is kept.
pub(super) fn without_outliers(tracks: Vec<Track>, params: &MotionParams) -> Vec<Track> {
    let places: Vec<[f32; 2]> = tracks.iter().map(|t| t.at).collect();
    let grid = PointGrid::new(&places);
    let keep: Vec<bool> = (0..tracks.len())
        .into_par_iter()
        .map_init(Vec::new, |near, index| {
            grid.nearest(places[index], params.outlier_neighbours + 1, near);
            near.sort_unstable_by_key(|(_, neighbour)| *neighbour);
            let others = near.iter().filter(|n| n.1 as usize != index).map(|n| tracks[n.1 as usize].motion);
            mahalanobis(tracks[index].motion, others).is_none_or(|d| d <= f64::from(params.outlier_deviations))
        })
        .collect();
    tracks.into_iter().zip(keep).filter_map(|(track, keep)| keep.then_some(track)).collect()
}

/// Distance of a motion from a sample of motions; `None` if their covariance is singular.
fn mahalanobis(motion: [f32; 2], sample: impl Iterator<Item = [f32; 2]> + Clone) -> Option<f64> {
    let n = sample.clone().count() as f64;
    let mean = sample.clone().fold([0f64; 2], |m, s| [m[0] + f64::from(s[0]) / n, m[1] + f64::from(s[1]) / n]);
    let from_mean = |s: [f32; 2]| [f64::from(s[0]) - mean[0], f64::from(s[1]) - mean[1]];
    let [xx, xy, yy] = sample
        .map(from_mean)
        .fold([0f64; 3], |c, [x, y]| [c[0] + x * x / (n - 1.0), c[1] + x * y / (n - 1.0), c[2] + y * y / (n - 1.0)]);
    let determinant = xx * yy - xy * xy;
    if n < 3.0 || determinant <= 1e-12 * xx * yy {
        return None;
    }
    let [x, y] = from_mean(motion);
    Some(((yy * x * x - 2.0 * xy * x * y + xx * y * y) / determinant).max(0.0).sqrt())
}

/// One track for each square of `side` cells that has any: the medians of place and motion.
pub(super) fn declustered(tracks: Vec<Track>, side: f32) -> Vec<Track> {
    let mut squares: BTreeMap<(i32, i32), Vec<Track>> = BTreeMap::new();
    for track in tracks {
        let square = ((track.at[1] / side).floor() as i32, (track.at[0] / side).floor() as i32);
        squares.entry(square).or_default().push(track);
    }
    squares
        .into_values()
        .map(|group| {
            let middle = |read: fn(&Track) -> f32| median(group.iter().map(read).collect());
            Track {
                at: [middle(|t| t.at[0]), middle(|t| t.at[1])],
                motion: [middle(|t| t.motion[0]), middle(|t| t.motion[1])],
            }
        })
        .collect()
}

/// Of at least one value; of an even number the mean of the two in the middle.
fn median(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let n = values.len();
    0.5 * (values[(n - 1) / 2] + values[n / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracks() -> Vec<Track> {
        (0..64)
            .map(|i| {
                let wiggle = |k: usize| 0.1 * (((i * 37 + k * 11) % 17) as f32 - 8.0);
                Track { at: [(i % 8 * 5) as f32, (i / 8 * 5) as f32], motion: [3.0 + wiggle(0), -1.0 + wiggle(1)] }
            })
            .collect()
    }

    #[test]
    fn a_track_against_the_flow_is_dropped_and_only_that() {
        let mut all = tracks();
        all[20].motion = [-9.0, 4.0];
        let kept = without_outliers(all.clone(), &MotionParams::default());
        assert_eq!(kept.len(), 63);
        assert!(!kept.contains(&all[20]));
    }

    #[test]
    fn equal_motions_are_kept() {
        let mut all = tracks();
        all.iter_mut().for_each(|t| t.motion = [2.0, 2.0]);
        assert_eq!(without_outliers(all.clone(), &MotionParams::default()), all);
        assert!(without_outliers(Vec::new(), &MotionParams::default()).is_empty());
    }

    #[test]
    fn a_square_is_replaced_by_its_medians() {
        let track = |x, y, u, v| Track { at: [x, y], motion: [u, v] };
        let all = vec![
            track(1.0, 1.0, 1.0, 0.0),
            track(3.0, 2.0, 9.0, 2.0),
            track(5.0, 9.0, 2.0, 1.0),
            track(25.0, 1.0, 7.0, 7.0),
        ];
        assert_eq!(declustered(all, 20.0), [track(3.0, 2.0, 2.0, 1.0), track(25.0, 1.0, 7.0, 7.0)]);
    }
}
