//! The nearest of scattered points, by a hash of square cells.

/// Points sorted into squares, so that the nearest are found ring by ring.
pub(super) struct PointGrid<'a> {
    points: &'a [[f32; 2]],
    side: f32,
    origin: [f32; 2],
    wide: i64,
    tall: i64,
    /// Points of square `s` are `order[starts[s]..starts[s + 1]]`.
    starts: Vec<u32>,
    order: Vec<u32>,
}

/// Squared distance and index of a point.
pub(super) type Near = (f32, u32);

impl<'a> PointGrid<'a> {
    /// Sorts points into squares that hold about two each.
    pub(super) fn new(points: &'a [[f32; 2]]) -> Self {
        let fold = |k: usize, f: fn(f32, f32) -> f32, start: f32| points.iter().map(|p| p[k]).fold(start, f);
        let origin = [fold(0, f32::min, f32::MAX), fold(1, f32::min, f32::MAX)];
        // Without any point this is negative.
        let extent = |k: usize| (fold(k, f32::max, f32::MIN) - origin[k]).max(0.0);
        let extent = [extent(0), extent(1)];
        let side = (2.0 * extent[0].max(1.0) * extent[1].max(1.0) / points.len().max(1) as f32).sqrt().max(1.0);
        let (wide, tall) = ((extent[0] / side) as i64 + 1, (extent[1] / side) as i64 + 1);
        let mut grid = Self { points, side, origin, wide, tall, starts: Vec::new(), order: Vec::new() };
        grid.fill();
        grid
    }

    fn fill(&mut self) {
        let squares: Vec<usize> = self.points.iter().map(|p| self.square(*p)).collect();
        let mut starts = vec![0u32; (self.wide * self.tall) as usize + 1];
        squares.iter().for_each(|s| starts[s + 1] += 1);
        (1..starts.len()).for_each(|s| starts[s] += starts[s - 1]);
        let mut next = starts.clone();
        self.order = vec![0; self.points.len()];
        for (index, square) in squares.iter().enumerate() {
            self.order[next[*square] as usize] = index as u32;
            next[*square] += 1;
        }
        self.starts = starts;
    }

    fn square(&self, point: [f32; 2]) -> usize {
        let x = (((point[0] - self.origin[0]) / self.side) as i64).clamp(0, self.wide - 1);
        let y = (((point[1] - self.origin[1]) / self.side) as i64).clamp(0, self.tall - 1);
        (y * self.wide + x) as usize
    }

    /// The `k` nearest points (all, if there are fewer), unsorted; of equally far ones those of lower index.
    pub(super) fn nearest(&self, at: [f32; 2], k: usize, near: &mut Vec<Near>) {
        near.clear();
        let k = k.min(self.points.len());
        if k == 0 {
            return;
        }
        let position = [(at[0] - self.origin[0]) / self.side, (at[1] - self.origin[1]) / self.side];
        // Rings around the square nearest to the query; from outside, the first rings are merely less tight.
        let centre = [
            (position[0].floor() as i64).clamp(0, self.wide - 1),
            (position[1].floor() as i64).clamp(0, self.tall - 1),
        ];
        for ring in 0.. {
            self.collect_ring(at, centre, ring, near);
            if near.len() == self.points.len() {
                break;
            }
            if near.len() >= k {
                near.select_nth_unstable_by(k - 1, order);
                if near[k - 1].0 < self.covered(position, centre, ring).powi(2) {
                    break;
                }
            }
        }
        if near.len() > k {
            near.select_nth_unstable_by(k - 1, order);
            near.truncate(k);
        }
    }

    /// Distance from the query to the nearest point that the rings so far may not hold.
    fn covered(&self, position: [f32; 2], centre: [i64; 2], ring: i64) -> f32 {
        let mut least = f32::INFINITY;
        for (k, len) in [(0, self.wide), (1, self.tall)] {
            // A side at which the squares end hides nothing.
            if centre[k] - ring > 0 {
                least = least.min(position[k] - (centre[k] - ring) as f32);
            }
            if centre[k] + ring + 1 < len {
                least = least.min((centre[k] + ring + 1) as f32 - position[k]);
            }
        }
        least.max(0.0) * self.side
    }

    fn collect_ring(&self, at: [f32; 2], centre: [i64; 2], ring: i64, near: &mut Vec<Near>) {
        let rows = (centre[1] - ring).max(0)..=(centre[1] + ring).min(self.tall - 1);
        for y in rows {
            let whole_row = (y - centre[1]).abs() == ring;
            let step = if whole_row { 1 } else { (2 * ring).max(1) };
            let mut x = centre[0] - ring;
            while x <= centre[0] + ring {
                if (0..self.wide).contains(&x) {
                    self.collect_square(at, (y * self.wide + x) as usize, near);
                }
                x += step;
            }
        }
    }

    fn collect_square(&self, at: [f32; 2], square: usize, near: &mut Vec<Near>) {
        for index in &self.order[self.starts[square] as usize..self.starts[square + 1] as usize] {
            let p = self.points[*index as usize];
            near.push(((p[0] - at[0]).powi(2) + (p[1] - at[1]).powi(2), *index));
        }
    }
}

fn order(a: &Near, b: &Near) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_sort_of_all(
            points in prop::collection::vec([-20f32..200.0, 0f32..90.0], 1..120),
            at in [-100f32..300.0, -100f32..300.0],
            k in 1usize..40,
        ) {
            let mut near = Vec::new();
            PointGrid::new(&points).nearest(at, k, &mut near);
            near.sort_by(order);
            let mut all: Vec<Near> = points.iter().enumerate()
                .map(|(i, p)| ((p[0] - at[0]).powi(2) + (p[1] - at[1]).powi(2), i as u32)).collect();
            all.sort_by(order);
            all.truncate(k);
            prop_assert_eq!(near, all);
        }
    }
}
