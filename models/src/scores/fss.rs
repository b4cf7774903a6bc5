//! Fractions skill score: right, if not exactly there (Roberts and Lean 2008).

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayView3, Zip};
use serde::{Deserialize, Serialize};

use super::statistics::plain_sums;
use super::{Event, ratio, with_slice};

/// Which windows count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Border {
    /// One around every cell; outside the domain there is no event.
    #[default]
    NoEvent,
    /// Those that lie inside the domain alone.
    Interior,
}

impl Border {
    /// Each by its name in a configuration and on a command line.
    pub const NAMED: [(&'static str, Self); 2] = [("no-event", Self::NoEvent), ("interior", Self::Interior)];

    /// Its name there.
    pub const fn name(self) -> &'static str {
        Self::NAMED[self as usize].0
    }
}

/// Which side of a threshold a value that equals it lies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// It is an event.
    #[default]
    AtLeast,
    /// It is none.
    Above,
}

impl Operator {
    /// Each by its name in a configuration and on a command line.
    pub const NAMED: [(&'static str, Self); 2] = [("at-least", Self::AtLeast), ("above", Self::Above)];

    /// Its name there.
    pub const fn name(self) -> &'static str {
        Self::NAMED[self as usize].0
    }

    /// The event of a threshold.
    pub fn event(self, threshold: f32) -> Event {
        match self {
            Self::AtLeast => Event::AtLeast(threshold),
            Self::Above => Event::Above(threshold),
        }
    }
}

/// What programs define otherwise: pysteps has windows around every cell and events at or above a threshold, `scores` has
/// windows inside alone and events above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FssOptions {
    /// Which windows count.
    pub border: Border,
    /// Which values are events.
    pub operator: Operator,
}

/// Sums of the fractions skill score; merged sums give the score over all cases (Mittermaier 2021).
///
/// Fractions are of a square window of `scale` cells around every cell, where what lies outside the
/// domain is no event. An even window reaches one cell further to the north and west.
/// Cells that are missing in either field are no event in both; a window without any other cell does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fss {
    squared_difference: f64,
    reference: f64,
    /// Windows with a cell that is known.
    count: f64,
}

plain_sums!(Fss { squared_difference, reference, count });

impl Fss {
    /// Adds two fields of one shape.
    pub fn add(&mut self, forecast: ArrayView2<'_, f32>, observed: ArrayView2<'_, f32>, event: Event, scale: usize) {
        debug_assert_eq!(forecast.dim(), observed.dim(), "fields of one shape");
        let least = event.least();
        let both = |own: ArrayView2<'_, f32>, other: ArrayView2<'_, f32>| {
            Zip::from(own).and(other).map_collect(|a, b| u32::from((*a >= least) & !b.is_nan()))
        };
        let known = Zip::from(forecast).and(observed).map_collect(|f, o| !(f.is_nan() | o.is_nan()));
        let (forecast, observed) = (both(forecast, observed), both(observed, forecast));
        let sums = [&forecast, &observed].map(|counts| sums_of_counts(counts.view()));
        self.add_sums(&sums[0], 1.0, &sums[1], sums_of_known(&known).as_ref(), scale, Border::NoEvent);
    }

    /// Adds probabilities of an event and whether it happened (1 or 0), without missing values.
    pub fn add_probabilities(&mut self, forecast: ArrayView2<'_, f32>, observed: ArrayView2<'_, f32>, scale: usize) {
        self.add_windows(forecast, observed, scale, Border::NoEvent);
    }

    /// The same with a choice of windows; [`Border::Interior`] adds nothing where no window fits.
    pub fn add_windows(
        &mut self,
        forecast: ArrayView2<'_, f32>,
        observed: ArrayView2<'_, f32>,
        scale: usize,
        border: Border,
    ) {
        self.add_sums(&sums(forecast), 1.0, &sums(observed), None, scale, border);
    }

    /// The same of tables of sums, that of the forecast over numbers of members with the event, out of `count`. `known` are
    /// sums over cells that are known, if not all of them are.
    fn add_sums(
        &mut self,
        forecast: &Array2<f64>,
        count: f64,
        observed: &Array2<f64>,
        known: Option<&Array2<f64>>,
        scale: usize,
        border: Border,
    ) {
        let (rows, columns) = (forecast.dim().0 - 1, forecast.dim().1 - 1);
        let windows = |cells: usize| Windows::of(scale, border, cells);
        let (high, wide) = (windows(rows), windows(columns));
        let (mut f, mut o) = (vec![0f64; wide.count], vec![0f64; wide.count]);
        let mut shares_known = vec![0f64; if known.is_some() { wide.count } else { 0 }];
        for y in 0..high.count {
            fractions(forecast, high.range(y), &wide, &mut f);
            fractions(observed, high.range(y), &wide, &mut o);
            if count != 1.0 {
                f.iter_mut().for_each(|f| *f /= count);
            }
            let of_pair = |(difference, reference): (f64, f64), (f, o): (&f64, &f64)| {
                (difference + (f - o) * (f - o), reference + (f * f + o * o))
            };
            let so_far = (self.squared_difference, self.reference);
            (self.squared_difference, self.reference) = f.iter().zip(&o).fold(so_far, of_pair);
            let windows = match known {
                Some(known) => {
                    fractions(known, high.range(y), &wide, &mut shares_known);
                    shares_known.iter().filter(|share| **share > 0.0).count()
                }
                None => wide.count,
            };
            self.count += windows as f64;
        }
    }

    /// Adds members `[member, y, x]`, as the share of them with the event, and an observation `[y, x]`: the
    /// probabilistic score (Necker et al. 2024). A cell that is missing in any of them is no event in all; where no cell is
    /// known in all, nothing is added.
    pub fn add_ensemble(
        &mut self,
        members: ArrayView3<'_, f32>,
        observed: ArrayView2<'_, f32>,
        event: Event,
        scale: usize,
        border: Border,
    ) {
        let (count, cells, least) = (members.dim().0 as f64, observed.dim(), event.least());
        let (mut yes, mut known) = (Array2::<u32>::zeros(cells), observed.mapv(|v| !v.is_nan()));
        for member in members.outer_iter() {
            Zip::from(&mut yes).and(&mut known).and(member).for_each(|yes, known, value| {
                *yes += u32::from(*value >= least);
                *known &= !value.is_nan();
            });
        }
        if !known.iter().any(|known| *known) {
            return;
        }
        Zip::from(&mut yes).and(&known).for_each(|yes, known| *yes *= u32::from(*known));
        let observed = Zip::from(observed).and(&known).map_collect(|v, known| u32::from(*known & (*v >= least)));
        // Counts of members are exact, shares of them are not.
        let (yes, observed) = (sums_of_counts(yes.view()), sums_of_counts(observed.view()));
        self.add_sums(&yes, count, &observed, sums_of_known(&known).as_ref(), scale, border);
    }

    /// The sums of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            squared_difference: self.squared_difference + other.squared_difference,
            reference: self.reference + other.reference,
            count: self.count + other.count,
        }
    }

    /// Windows that were compared: those with a cell that is known.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// 1 is perfect, 0 without any overlap; `None` if there was no event at all.
    pub fn score(&self) -> Option<f64> {
        ratio(self.squared_difference, self.reference).map(|r| 1.0 - r)
    }
}

/// The windows along one side of a field.
struct Windows {
    scale: usize,
    /// How far a window reaches before its cell.
    before: usize,
    cells: usize,
    /// The cell of the first window.
    first: usize,
    count: usize,
}

impl Windows {
    fn of(scale: usize, border: Border, cells: usize) -> Self {
        let (scale, before) = (scale.max(1), scale / 2);
        let (first, count) = match border {
            Border::NoEvent => (0, cells),
            Border::Interior => (before, (cells + 1).saturating_sub(scale)),
        };
        Self { scale, before, cells, first, count }
    }

    /// The cells of a window.
    fn range(&self, window: usize) -> Range<usize> {
        let cell = window + self.first;
        cell.saturating_sub(self.before)..(cell + self.scale - self.before).min(self.cells)
    }

    /// The windows that lie inside.
    fn inside(&self) -> Range<usize> {
        let first = self.before - self.first;
        let end = (self.cells + 1).saturating_sub(self.scale) + first;
        first.min(self.count)..end.clamp(first.min(self.count), self.count)
    }
}

/// Mean over each window of some rows, from a table of sums.
fn fractions(sums: &Array2<f64>, rows: Range<usize>, windows: &Windows, out: &mut [f64]) {
    let (above, below) = (sums.row(rows.start), sums.row(rows.end));
    let (above, below) = (above.as_slice().unwrap_or_default(), below.as_slice().unwrap_or_default());
    let area = (windows.scale * windows.scale) as f64;
    let inside = windows.inside();
    for x in (0..inside.start).chain(inside.end..windows.count) {
        let Range { start, end } = windows.range(x);
        out[x] = (below[end] - above[end] - below[start] + above[start]) / area;
    }
    if inside.is_empty() {
        return;
    }
    let start = windows.range(inside.start).start;
    let (lefts, rights) = (start..start + inside.len(), start + windows.scale..start + windows.scale + inside.len());
    let lefts = below[lefts.clone()].iter().zip(&above[lefts]);
    let rights = below[rights.clone()].iter().zip(&above[rights]);
    for (out, ((b0, a0), (b1, a1))) in out[inside].iter_mut().zip(lefts.zip(rights)) {
        *out = (b1 - a1 - b0 + a0) / area;
    }
}

/// A table of the sums over all cells to the north and west, `[y + 1, x + 1]`.
fn sums(values: ArrayView2<'_, f32>) -> Array2<f64> {
    let (rows, columns) = values.dim();
    let mut sums = Array2::<f64>::zeros((rows + 1, columns + 1));
    for ((y, x), value) in values.indexed_iter() {
        sums[[y + 1, x + 1]] = f64::from(*value) + sums[[y, x + 1]] + sums[[y + 1, x]] - sums[[y, x]];
    }
    sums
}

/// The same of counts, which no order of additions changes: along each row in integers, which wait for each other least.
fn sums_of_counts(counts: ArrayView2<'_, u32>) -> Array2<f64> {
    let (rows, columns) = counts.dim();
    let mut sums = Array2::<f64>::zeros((rows + 1, columns + 1));
    let mut lines = sums.as_slice_mut().unwrap_or_default().chunks_exact_mut(columns + 1);
    let Some(mut above) = lines.next() else { return sums };
    for (below, counts) in lines.zip(counts.outer_iter()) {
        with_slice(counts, |counts| {
            let mut row = 0;
            for ((below, above), count) in below[1..].iter_mut().zip(&above[1..]).zip(counts) {
                row += count;
                *below = above + f64::from(row);
            }
        });
        above = below;
    }
    sums
}

/// The same of the cells that are known; `None` if all are.
fn sums_of_known(known: &Array2<bool>) -> Option<Array2<f64>> {
    let is_whole = known.iter().all(|known| *known);
    (!is_whole).then(|| sums_of_counts(known.mapv(u32::from).view()))
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};
    use ndarray::{Array3, s};
    use proptest::prelude::*;

    #[test]
    fn golden_values() {
        let (mut forecast, mut observed) = (Array2::<f32>::zeros((8, 10)), Array2::<f32>::zeros((8, 10)));
        observed.slice_mut(s![2..5, 3..6]).fill(1.0);
        forecast.slice_mut(s![3..6, 5..8]).fill(1.0);
        // The exact fractions. From a scale of 4 on windows that reach beyond the border see an event.
        let no_event = [2.0 / 9.0, 8.0 / 25.0, 160.0 / 361.0, 225.0 / 392.0, 918.0 / 1369.0, 260.0 / 327.0];
        let interior = [2.0 / 9.0, 8.0 / 25.0, 160.0 / 361.0, 20.0 / 33.0, 405.0 / 527.0, 66.0 / 67.0];
        for (scale, expected) in [1, 2, 3, 4, 5, 7].into_iter().zip(no_event) {
            let mut fss = Fss::default();
            fss.add(forecast.view(), observed.view(), Event::AtLeast(1.0), scale);
            assert!(close(fss.score(), expected, 1e-12), "{scale}: {:?} {expected}", fss.score());
            assert_eq!(fss.merge(&fss).score(), fss.score());
            let (mut twins, both) = (Fss::default(), ndarray::stack![ndarray::Axis(0), forecast, forecast]);
            twins.add_ensemble(both.view(), observed.view(), Event::AtLeast(1.0), scale, Border::NoEvent);
            assert_eq!(twins, fss);
        }
        for (scale, expected) in [1, 2, 3, 4, 5, 7].into_iter().zip(interior) {
            let mut fss = Fss::default();
            fss.add_windows(forecast.view(), observed.view(), scale, Border::Interior);
            assert!(close(fss.score(), expected, 1e-12), "{scale}: {:?} {expected}", fss.score());
        }
    }

    /// Fractions window by window, each from its cells; of windows where one is known.
    fn slow(forecast: &Array2<f32>, count: f64, observed: &Array2<f32>, scale: usize, border: Border) -> Fss {
        let all = Array2::from_elem(forecast.dim(), true);
        slow_where(&all, forecast, count, observed, scale, border)
    }

    fn slow_where(
        known: &Array2<bool>,
        forecast: &Array2<f32>,
        count: f64,
        observed: &Array2<f32>,
        scale: usize,
        border: Border,
    ) -> Fss {
        let (rows, columns) = forecast.dim();
        let (scale, before) = (scale.max(1) as isize, (scale / 2) as isize);
        let mut fss = Fss::default();
        for (y, x) in ndarray::indices((rows, columns)) {
            let (y0, x0) = (y as isize - before, x as isize - before);
            let fits = y0 >= 0 && x0 >= 0 && y0 + scale <= rows as isize && x0 + scale <= columns as isize;
            if border == Border::Interior && !fits {
                continue;
            }
            let range = |start: isize, n: usize| start.max(0)..(start + scale).min(n as isize);
            if !known.slice(s![range(y0, rows), range(x0, columns)]).iter().any(|known| *known) {
                continue;
            }
            let fraction = |field: &Array2<f32>| {
                let window = field.slice(s![range(y0, rows), range(x0, columns)]);
                window.iter().map(|v| f64::from(*v)).sum::<f64>() / (scale * scale) as f64
            };
            let (f, o) = (fraction(forecast) / count, fraction(observed));
            fss.squared_difference += (f - o) * (f - o);
            fss.reference += f * f + o * o;
            fss.count += 1.0;
        }
        fss
    }

    proptest! {
        #[test]
        fn windows_are_the_sums_of_their_cells_to_the_last_bit(
            rows in 1usize..12, columns in 1usize..40, scale in 0usize..14, inside: bool, seed in 0usize..1000,
        ) {
            let border = if inside { Border::Interior } else { Border::NoEvent };
            let field = |k: usize| Array3::from_shape_fn((3, rows, columns), |(m, y, x)| {
                [0.0f32, 0.5, 1.0, 2.0][(m * 7 + y * y * 3 + x * (seed + k) + seed / (x + 1)) % 4]
            });
            let (members, observed) = (field(0), field(5).index_axis_move(ndarray::Axis(0), 0));
            let event = Event::AtLeast(1.0);
            let yes = |v: f32| f32::from(event.holds(v));
            let counts = members.mapv(yes).sum_axis(ndarray::Axis(0));
            let mut fss = Fss::default();
            fss.add_ensemble(members.view(), observed.view(), event, scale, border);
            prop_assert_eq!(fss, slow(&counts, 3.0, &observed.mapv(yes), scale, border));
            let mut one = Fss::default();
            let first = members.index_axis(ndarray::Axis(0), 0);
            one.add_windows(first.mapv(yes).view(), observed.mapv(yes).view(), scale, border);
            prop_assert_eq!(one, slow(&first.mapv(yes), 1.0, &observed.mapv(yes), scale, border));
        }

        #[test]
        fn windows_without_a_known_cell_do_not_count_and_others_are_as_if_the_missing_were_dry(
            rows in 1usize..9, columns in 1usize..20, scale in 1usize..7, inside: bool, above: bool, seed in 0usize..1000,
        ) {
            let border = if inside { Border::Interior } else { Border::NoEvent };
            let operator = if above { Operator::Above } else { Operator::AtLeast };
            // Whole blocks are missing, and cells by themselves in one of the fields.
            let field = |k: usize| Array3::from_shape_fn((2, rows, columns), |(m, y, x)| {
                let is_gone = (y / 3 + x / 4 + seed).is_multiple_of(2) || (x + 5 * y + k + seed + m).is_multiple_of(7);
                if is_gone { f32::NAN } else { [0.0f32, 1.0, 2.0][(m * 5 + y * y + x * (seed + k)) % 3] }
            });
            let (members, observed) = (field(0), field(5).index_axis_move(ndarray::Axis(0), 0));
            let known = Zip::from(&observed).and(members.lanes(ndarray::Axis(0))).map_collect(|o, lane| {
                !o.is_nan() && lane.iter().all(|v| !v.is_nan())
            });
            let event = operator.event(1.0);
            let yes = |of: &Array2<f32>| {
                Zip::from(of).and(&known).map_collect(|v, known| f32::from(*known && event.holds(*v)))
            };
            let each: Vec<Array2<f32>> = members.outer_iter().map(|member| yes(&member.to_owned())).collect();
            let mut fss = Fss::default();
            fss.add_ensemble(members.view(), observed.view(), event, scale, border);
            let expected = slow_where(&known, &(&each[0] + &each[1]), 2.0, &yes(&observed), scale, border);
            prop_assert_eq!(fss, expected);
        }
    }

    #[test]
    fn a_window_counts_once_a_cell_of_it_is_known() {
        let (mut forecast, observed) = (Array2::<f32>::from_elem((20, 20), f32::NAN), Array2::<f32>::ones((20, 20)));
        forecast.slice_mut(s![5..8, 5..9]).fill(2.0);
        let counts = |scale: usize, border: Border| {
            let (mut fss, members) = (Fss::default(), forecast.view().insert_axis(ndarray::Axis(0)));
            fss.add_ensemble(members, observed.view(), Event::AtLeast(1.0), scale, border);
            assert_eq!(fss.score(), Some(1.0));
            fss.count()
        };
        assert_eq!(counts(1, Border::NoEvent), 12.0, "of 400 cells");
        assert_eq!((counts(3, Border::NoEvent), counts(3, Border::Interior)), (30.0, 30.0), "one more on each side");
        assert_eq!((counts(33, Border::NoEvent), counts(20, Border::Interior)), (400.0, 1.0));
        let mut fss = Fss::default();
        fss.add(forecast.view(), observed.view(), Event::AtLeast(1.0), 3);
        assert_eq!(fss.count(), 30.0);
    }

    #[test]
    fn what_equals_the_threshold_is_an_event_or_none() {
        assert!(Border::NAMED.iter().all(|(name, border)| border.name() == *name));
        assert!(Operator::NAMED.iter().all(|(name, operator)| operator.name() == *name));
        let forecast = ndarray::arr2(&[[1.0f32, 0.0], [2.0, 0.0]]);
        let observed = ndarray::arr2(&[[2.0f32, 0.0], [2.0, 1.0]]);
        let score = |operator: Operator| {
            let mut fss = Fss::default();
            fss.add(forecast.view(), observed.view(), operator.event(1.0), 1);
            fss.score()
        };
        // One of three events is missed, or one of two.
        assert!(close(score(Operator::AtLeast), 0.8, 1e-15), "{:?}", score(Operator::AtLeast));
        assert!(close(score(Operator::Above), 1.0 - 1.0 / 3.0, 1e-15), "{:?}", score(Operator::Above));
    }

    #[test]
    fn shares_of_members_lose_nothing() {
        let (mut members, came) = (Array3::<f32>::zeros((3, 1, 1)), Array2::<f32>::ones((1, 1)));
        members[[0, 0, 0]] = 1.0;
        let mut fss = Fss::default();
        fss.add_ensemble(members.view(), came.view(), Event::AtLeast(1.0), 1, Border::NoEvent);
        assert!(close(fss.score(), 0.6, 1e-15), "{:?}", fss.score());
        members.fill(f32::NAN);
        let before = fss;
        fss.add_ensemble(members.view(), came.view(), Event::AtLeast(1.0), 1, Border::NoEvent);
        assert_eq!(fss, before, "nothing is known");
    }

    #[test]
    fn no_event_has_no_score_and_missing_cells_are_none() {
        let mut field = Array2::<f32>::zeros((5, 5));
        let mut fss = Fss::default();
        fss.add(field.view(), field.view(), Event::AtLeast(1.0), 3);
        assert_eq!(fss.score(), None);
        assert_eq!(fss.count(), 25.0);
        let other = field.mapv(|_| f32::NAN);
        field.fill(2.0);
        fss.add(field.view(), other.view(), Event::AtLeast(1.0), 3);
        assert_eq!((fss.score(), fss.count()), (None, 25.0));
    }
}
