//! Motion everywhere from motion at scattered places, by inverse distance.

use rayon::prelude::*;

use super::{MotionField, MotionParams, Track, neighbours::PointGrid};

/// Added to each distance in cells, so that a track at a node does not stand alone.
const OFFSET: f32 = 0.5;

/// Each node is the mean of its nearest tracks, weighted by the inverse square root of distance.
/// `None` without tracks.
pub(super) fn interpolate(tracks: &[Track], shape: (usize, usize), params: &MotionParams) -> Option<MotionField> {
    if tracks.is_empty() {
        return None;
    }
    let places: Vec<[f32; 2]> = tracks.iter().map(|t| t.at).collect();
    let grid = PointGrid::new(&places);
    let spacing = params.node_spacing.max(1);
    let (tall, wide) = MotionField::node_shape(shape, spacing);
    let nodes: Vec<[f32; 2]> = (0..tall * wide)
        .into_par_iter()
        .map_init(Vec::new, |near, node| {
            let at = [(node % wide * spacing) as f32, (node / wide * spacing) as f32];
            grid.nearest(at, params.dense_neighbours.max(1), near);
            let mut sum = [0f32; 3];
            for (squared, index) in near.iter() {
                let weight = 1.0 / (squared.sqrt() + OFFSET).sqrt();
                let [u, v] = tracks[*index as usize].motion;
                sum = [sum[0] + weight * u, sum[1] + weight * v, sum[2] + weight];
            }
            [sum[0] / sum[2], sum[1] / sum[2]]
        })
        .collect();
    Some(MotionField::on_nodes(shape, spacing, |row, column| {
        nodes[row as usize / spacing * wide + column as usize / spacing]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_tracks_lies_their_mean_and_near_one_its_own() {
        let track = |x, u| Track { at: [x, 10.0], motion: [u, 0.0] };
        let field = interpolate(&[track(0.0, 1.0), track(32.0, 3.0)], (33, 33), &MotionParams::default()).unwrap();
        assert!((field.at(10.0, 16.0).0 - 2.0).abs() < 1e-5);
        let weights = (1.0 / (2f32.hypot(0.0) + 0.5).sqrt(), 1.0 / (32f32.hypot(2.0) + 0.5).sqrt());
        let expected = (weights.0 + 3.0 * weights.1) / (weights.0 + weights.1);
        assert!((field.at(8.0, 0.0).0 - expected).abs() < 1e-5);
        assert!(interpolate(&[], (33, 33), &MotionParams::default()).is_none());
    }
}
