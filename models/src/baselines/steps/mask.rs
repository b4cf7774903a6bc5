//! Where rain may be: near where it was a step before.
//!
//! The incremental mask of STEPS. Dilations of a wet area by the cross of five cells are the cells within a number of
//! steps along rows and columns, so one distance transform replaces all of them.

/// Weights by distance from the rain, for a cadence and a grid.
#[derive(Clone, Debug)]
pub(super) struct Rim {
    /// Weight at each distance in steps along rows and columns; beyond them it is 0.
    weights: Vec<f32>,
}

impl Rim {
    /// Rain grows by `cells_per_step / 2` cells in a step, at least by one; over `rim` cells beyond that the weight
    /// falls to 0.
    pub(super) fn new(cells_per_step: f64, rim: usize) -> Self {
        let grown = (((cells_per_step - 1.0) / 2.0) as usize).clamp(1, usize::from(u16::MAX) / 4);
        let weight = |distance: usize| (rim + 1 - distance.saturating_sub(grown)) as f32 / (rim + 1) as f32;
        Self { weights: (0..=grown + rim).map(weight).collect() }
    }

    /// The weight `[y, x]` of each cell, from which cells are `wet`; 0 everywhere without any.
    pub(super) fn spread(&self, columns: usize, wet: impl Fn(usize) -> bool, distances: &mut [u16], out: &mut [f32]) {
        let far = self.weights.len() as u16;
        for (i, distance) in distances.iter_mut().enumerate() {
            *distance = if wet(i) { 0 } else { far };
        }
        relax(distances, columns, far);
        for (weight, distance) in out.iter_mut().zip(distances.iter()) {
            *weight = self.weights.get(usize::from(*distance)).copied().unwrap_or(0.0);
        }
    }
}

/// Lowers each distance to one more than that of its nearest neighbour, first downwards, then upwards.
fn relax(distances: &mut [u16], columns: usize, far: u16) {
    let rows = distances.len() / columns.max(1);
    for y in 0..rows {
        let (above, here) = distances.split_at_mut(y * columns);
        let here = &mut here[..columns];
        if y > 0 {
            step(here, &above[(y - 1) * columns..]);
        }
        let mut last = far;
        here.iter_mut().for_each(|d| {
            last = (*d).min(last + 1);
            *d = last;
        });
    }
    for y in (0..rows).rev() {
        let (here, below) = distances.split_at_mut((y + 1) * columns);
        let here = &mut here[y * columns..];
        if y + 1 < rows {
            step(here, below);
        }
        let mut last = far;
        here.iter_mut().rev().for_each(|d| {
            last = (*d).min(last + 1);
            *d = last;
        });
    }
}

fn step(here: &mut [u16], next: &[u16]) {
    here.iter_mut().zip(next).for_each(|(h, n)| *h = (*h).min(n + 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fall_along_rows_and_columns() {
        let rim = Rim::new(5.0, 3);
        let (mut distances, mut out) = (vec![0; 11 * 13], vec![0.0; 11 * 13]);
        rim.spread(13, |i| i == 5 * 13 + 6, &mut distances, &mut out);
        for (i, weight) in out.iter().enumerate() {
            let distance = (i / 13).abs_diff(5) + (i % 13).abs_diff(6);
            let expected = [1.0, 1.0, 1.0, 0.75, 0.5, 0.25].get(distance).copied().unwrap_or(0.0);
            assert_eq!(*weight, expected, "at {distance}");
        }
    }

    #[test]
    fn without_rain_there_is_none_to_come() {
        let (mut distances, mut out) = (vec![0; 20], vec![1.0; 20]);
        Rim::new(1.0, 10).spread(5, |_| false, &mut distances, &mut out);
        assert!(out.iter().all(|weight| *weight == 0.0));
    }
}
