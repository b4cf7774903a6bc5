//! Scores of pooled fields: right in the mean, or the maximum, of a neighbourhood (Ravuri et al. 2021).

use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};

use super::{Contingency, Crps, Event};

/// What is made of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Its mean.
    Mean,
    /// Its largest value.
    Max,
}

/// Pools `[y, x]` over the square windows of `size` cells that lie inside, every (size+2)/4 cells (rounded down, at
/// least 1). A window with a missing value is NaN. Empty if no window fits.
pub fn pooled(field: ArrayView2<'_, f32>, size: usize, pool: Pool) -> Array2<f32> {
    let (size, (rows, columns)) = (size.max(1), field.dim());
    if size == 1 {
        return field.to_owned();
    }
    let step = ((size + 2) / 4).max(1);
    let fit = |n: usize| (n + 1).saturating_sub(size).div_ceil(step);
    // Along the rows first, then down the columns.
    let across = Array2::from_shape_fn((rows, fit(columns)), |(y, x)| {
        pool.of((x * step..x * step + size).map(|x| f64::from(field[[y, x]])))
    });
    Array2::from_shape_fn((fit(rows), fit(columns)), |(y, x)| {
        let value = pool.of((y * step..y * step + size).map(|y| across[[y, x]]));
        match pool {
            Pool::Mean => (value / (size * size) as f64) as f32,
            Pool::Max => value as f32,
        }
    })
}

impl Pool {
    /// The sum, or the largest, of values; NaN if one is.
    fn of(self, mut values: impl Iterator<Item = f64>) -> f64 {
        match self {
            Self::Mean => values.sum(),
            Self::Max => {
                let first = values.next().unwrap_or(f64::NAN);
                values.fold(first, |most, value| if value > most || value.is_nan() { value } else { most })
            }
        }
    }
}

/// CRPS of members `[member, y, x]` and an observation `[y, x]`, each pooled first; sums to be merged.
pub fn pooled_crps(members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>, size: usize, pool: Pool) -> Crps {
    let observed = pooled(observed, size, pool);
    let mut all = Array3::zeros((members.dim().0, observed.dim().0, observed.dim().1));
    for (member, mut out) in members.outer_iter().zip(all.axis_iter_mut(Axis(0))) {
        out.assign(&pooled(member, size, pool));
    }
    let mut crps = Crps::default();
    crps.add(all.view(), observed.view());
    crps
}

/// The contingency table of windows with an event somewhere in them: its CSI is the neighbourhood CSI.
///
/// Windows of `size` cells lie every size/2 cells (rounded down, at least 1) and reach as far over the border, where
/// there is no event. A cell that is missing in either field is an event in neither; a window of such cells alone does
/// not count.
pub fn neighbourhood_table(
    forecast: ArrayView2<'_, f32>,
    observed: ArrayView2<'_, f32>,
    event: Event,
    size: usize,
) -> Contingency {
    debug_assert_eq!(forecast.dim(), observed.dim(), "fields of one shape");
    if size <= 1 {
        let mut table = Contingency::default();
        table.add(forecast, observed, event);
        return table;
    }
    let (size, half, (rows, columns)) = (size.max(1), size / 2, forecast.dim());
    let step = half.max(1);
    let windows = |n: usize| (0..=(n + 2 * half).saturating_sub(size)).step_by(step);
    let range = |start: usize, n: usize| start.saturating_sub(half).min(n)..(start + size).saturating_sub(half).min(n);
    let mut table = Contingency::default();
    for y in windows(rows) {
        for x in windows(columns) {
            let window = ndarray::s![range(y, rows), range(x, columns)];
            let (mut f, mut o, mut any) = (false, false, false);
            for (a, b) in forecast.slice(window).iter().zip(observed.slice(window)) {
                if !(a.is_nan() || b.is_nan()) {
                    any = true;
                    f |= event.holds(*a);
                    o |= event.holds(*b);
                }
            }
            let counts = match (f, o) {
                (true, true) => &mut table.hits,
                (true, false) => &mut table.false_alarms,
                (false, true) => &mut table.misses,
                (false, false) => &mut table.correct_rejections,
            };
            *counts += f64::from(any);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::{super::close, *};

    fn observed() -> Array2<f32> {
        let mut field = Array2::zeros((16, 16));
        field.slice_mut(s![4..8, 4..8]).fill(10.0);
        field[[12, 12]] = 20.0;
        field
    }

    #[test]
    fn golden_values_of_the_pooled_crps() {
        let o = observed();
        let members = Array3::from_shape_fn((4, 16, 16), |(i, y, x)| {
            o[[(y + 16 - i) % 16, (x + 16 - 2 * i) % 16]] * (1.0 + 0.1 * i as f32)
        });
        for (size, pool, fair, biased) in [
            (1, Pool::Mean, 93.0 / 256.0, 273.0 / 512.0),
            (4, Pool::Mean, 491.0 / 1014.0, 14617.0 / 21632.0),
            (4, Pool::Max, 1835.0 / 1014.0, 6531.0 / 2704.0),
            (16, Pool::Mean, 3.0 / 64.0, 63.0 / 1024.0),
            (16, Pool::Max, 4.0 / 3.0, 1.75),
        ] {
            let crps = pooled_crps(members.view(), o.view(), size, pool);
            assert!(close(crps.fair(), fair, 1e-12) && close(crps.biased(), biased, 1e-12), "{size} {pool:?} {crps:?}");
        }
        assert_eq!(pooled_crps(members.view(), o.view(), 17, Pool::Mean).biased(), None);
    }

    #[test]
    fn golden_values_of_the_neighbourhood_csi() {
        let o = observed();
        let mut f = Array2::zeros((16, 16));
        f.slice_mut(s![6..10, 7..11]).fill(10.0);
        f[[2, 13]] = 20.0;
        for (size, counts) in [(3, (12.0, 33.0, 33.0)), (5, (8.0, 13.0, 17.0)), (7, (9.0, 6.0, 8.0))] {
            let table = neighbourhood_table(f.view(), o.view(), Event::AtLeast(8.0), size);
            assert_eq!((table.hits, table.false_alarms, table.misses), counts, "{size}");
            assert!(close(table.csi(), counts.0 / (counts.0 + counts.1 + counts.2), 1e-12), "{size}");
        }
        assert_eq!(neighbourhood_table(f.view(), o.view(), Event::AtLeast(8.0), 1).csi(), Some(0.0625));
    }

    #[test]
    fn a_window_with_a_missing_value_does_not_count() {
        let mut o = observed();
        o[[0, 0]] = f32::NAN;
        assert!(pooled(o.view(), 4, Pool::Max)[[0, 0]].is_nan());
        let missing = Array2::from_elem((16, 16), f32::NAN);
        assert_eq!(neighbourhood_table(o.view(), missing.view(), Event::AtLeast(1.0), 3).total(), 0.0);
    }
}
