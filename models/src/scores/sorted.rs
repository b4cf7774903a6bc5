//! Members of many cells sorted at once.
//!
//! The members of one cell are too few for a sort to be fast, and its branches cannot be foreseen. A network compares the same
//! places whatever the numbers are, so that it does so for several cells side by side, in vector registers.

use std::array::from_fn;

use ndarray::{ArrayView1, ArrayView2, ArrayView3, Axis, s};

/// Cells side by side.
pub(super) const LANES: usize = 16;

/// A number of each of them.
pub(super) type Lanes = [f32; LANES];

/// Places to be compared, and exchanged where the first has the larger number, so that `count` numbers are sorted:
/// merge exchange (Batcher 1968; Knuth, The Art of Computer Programming 3, algorithm 5.2.2M).
pub(super) fn network(count: usize) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let first = count.next_power_of_two() / 2;
    let mut p = first;
    while p > 0 {
        let (mut q, mut r, mut d) = (first, 0, p);
        loop {
            pairs.extend((0..count.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    pairs
}

/// Sorts the numbers of each cell; NaN anywhere leaves that cell in some order.
pub(super) fn sort(members: &mut [Lanes], network: &[(usize, usize)]) {
    for (i, j) in network {
        let (a, b) = (members[*i], members[*j]);
        // Written so that of equal numbers, such as 0 and -0, none is lost.
        members[*i] = from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] });
        members[*j] = from_fn(|lane| if a[lane] < b[lane] { b[lane] } else { a[lane] });
    }
}

/// Calls `visit` with members and observations of the cells of a row, so many at a time, after `map`; what is beyond the
/// end of the row is missing.
pub(super) fn chunks_of_row(
    members: ArrayView3<'_, f32>,
    observed: ArrayView2<'_, f32>,
    y: usize,
    map: impl Fn(f32) -> f32,
    mut visit: impl FnMut(&mut [Lanes], &Lanes),
) {
    let (count, _, columns) = members.dim();
    let chunks = columns.div_ceil(LANES);
    let mut row = vec![[f32::NAN; LANES]; chunks * (count + 1)];
    let mut fill = |m: usize, values: ArrayView1<'_, f32>| {
        // Chunk by chunk, the members of one after the other, and the observation behind them.
        for (chunk, values) in values.axis_chunks_iter(Axis(0), LANES).enumerate() {
            row[chunk * (count + 1) + m].iter_mut().zip(values).for_each(|(to, value)| *to = map(*value));
        }
    };
    (0..count).for_each(|m| fill(m, members.slice(s![m, y, ..])));
    fill(count, observed.row(y));
    for chunk in row.chunks_mut(count + 1) {
        let (observed, members) = chunk.split_last_mut().expect("the observation is there");
        visit(members, observed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_network_sorts_any_numbers_of_any_count(values in prop::collection::vec(-3i8..4, 0..70)) {
            let mut members: Vec<Lanes> = values.iter().map(|v| from_fn(|lane| f32::from(*v) * lane as f32)).collect();
            sort(&mut members, &network(values.len()));
            for lane in 0..LANES {
                let mut expected: Vec<f32> = values.iter().map(|v| f32::from(*v) * lane as f32).collect();
                expected.sort_by(f32::total_cmp);
                let got: Vec<f32> = members.iter().map(|numbers| numbers[lane]).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
