//! Fractions skill score: right, if not exactly there (Roberts and Lean 2008).

use ndarray::{Array2, ArrayView2, ArrayView3, Zip};
use serde::{Deserialize, Serialize};

use super::statistics::plain_sums;
use super::{Event, ratio};

/// Which windows count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Border {
    /// One around every cell; outside the domain there is no event.
    #[default]
    NoEvent,
    /// Those that lie inside the domain alone.
    Interior,
}

/// Sums of the fractions skill score; merged sums give the score over all cases (Mittermaier 2021).
///
/// Fractions are of a square window of `scale` cells around every cell, where what lies outside the
/// domain is no event. An even window reaches one cell further to the north and west.
/// Cells that are missing in either field are no event in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fss {
    squared_difference: f64,
    reference: f64,
    /// Windows.
    count: f64,
}

plain_sums!(Fss { squared_difference, reference, count });

impl Fss {
    /// Adds two fields of one shape.
    pub fn add(&mut self, forecast: ArrayView2<'_, f32>, observed: ArrayView2<'_, f32>, event: Event, scale: usize) {
        debug_assert_eq!(forecast.dim(), observed.dim(), "fields of one shape");
        let both = |own: ArrayView2<'_, f32>, other: ArrayView2<'_, f32>| {
            Zip::from(own).and(other).map_collect(|a, b| f32::from(event.holds(*a) && !b.is_nan()))
        };
        self.add_probabilities(both(forecast, observed).view(), both(observed, forecast).view(), scale);
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
        self.add_counts(forecast, 1.0, observed, scale, border);
    }

    /// The same of numbers of members with the event, out of `count`.
    fn add_counts(
        &mut self,
        forecast: ArrayView2<'_, f32>,
        count: f64,
        observed: ArrayView2<'_, f32>,
        scale: usize,
        border: Border,
    ) {
        let (forecast, observed) = (fractions(forecast, scale, border), fractions(observed, scale, border));
        for (f, o) in forecast.iter().map(|f| f / count).zip(&observed) {
            self.squared_difference += (f - o) * (f - o);
            self.reference += f * f + o * o;
            self.count += 1.0;
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
        let (count, cells) = (members.dim().0 as f64, observed.dim());
        let (mut yes, mut known) = (Array2::<f32>::zeros(cells), observed.mapv(|v| !v.is_nan()));
        for member in members.outer_iter() {
            Zip::from(&mut yes).and(&mut known).and(member).for_each(|yes, known, value| {
                *yes += f32::from(event.holds(*value));
                *known &= !value.is_nan();
            });
        }
        if !known.iter().any(|known| *known) {
            return;
        }
        Zip::from(&mut yes).and(&known).for_each(|yes, known| *yes *= f32::from(*known));
        let observed = Zip::from(observed).and(&known).map_collect(|v, known| f32::from(*known && event.holds(*v)));
        // Numbers of members are exact in f32, shares of them are not.
        self.add_counts(yes.view(), count, observed.view(), scale, border);
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

    /// Windows that were compared.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// 1 is perfect, 0 without any overlap; `None` if there was no event at all.
    pub fn score(&self) -> Option<f64> {
        ratio(self.squared_difference, self.reference).map(|r| 1.0 - r)
    }
}

/// Mean over each window, from a table of sums.
fn fractions(events: ArrayView2<'_, f32>, scale: usize, border: Border) -> Array2<f64> {
    let (rows, columns) = events.dim();
    let mut sums = Array2::<f64>::zeros((rows + 1, columns + 1));
    for ((y, x), event) in events.indexed_iter() {
        sums[[y + 1, x + 1]] = f64::from(*event) + sums[[y, x + 1]] + sums[[y + 1, x]] - sums[[y, x]];
    }
    let (scale, before) = (scale.max(1), scale / 2);
    let range = |i: usize, n: usize| (i.saturating_sub(before), (i + scale - before).min(n));
    let (inside, first) = match border {
        Border::NoEvent => ((rows, columns), 0),
        Border::Interior => (((rows + 1).saturating_sub(scale), (columns + 1).saturating_sub(scale)), before),
    };
    Array2::from_shape_fn(inside, |(y, x)| {
        let (y, x) = (y + first, x + first);
        let ((y0, y1), (x0, x1)) = (range(y, rows), range(x, columns));
        (sums[[y1, x1]] - sums[[y0, x1]] - sums[[y1, x0]] + sums[[y0, x0]]) / (scale * scale) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};
    use ndarray::{Array3, s};

    #[test]
    fn golden_values() {
        let (mut forecast, mut observed) = (Array2::<f32>::zeros((8, 10)), Array2::<f32>::zeros((8, 10)));
        observed.slice_mut(s![2..5, 3..6]).fill(1.0);
        forecast.slice_mut(s![3..6, 5..8]).fill(1.0);
        for (scale, expected) in
            [(1, 0.2222222), (2, 0.32), (3, 0.4432133), (4, 0.5739796), (5, 0.6705625), (7, 0.7951070)]
        {
            let mut fss = Fss::default();
            fss.add(forecast.view(), observed.view(), Event::AtLeast(1.0), scale);
            assert!(close(fss.score(), expected, 1e-7), "{scale}: {:?} {expected}", fss.score());
            assert_eq!(fss.merge(&fss).score(), fss.score());
            let (mut twins, both) = (Fss::default(), ndarray::stack![ndarray::Axis(0), forecast, forecast]);
            twins.add_ensemble(both.view(), observed.view(), Event::AtLeast(1.0), scale, Border::NoEvent);
            assert_eq!(twins, fss);
        }
        for (scale, expected) in [(1, 0.2222222), (4, 0.6060606), (5, 0.7685009), (7, 0.9850746)] {
            let mut fss = Fss::default();
            fss.add_windows(forecast.view(), observed.view(), scale, Border::Interior);
            assert!(close(fss.score(), expected, 1e-7), "{scale}: {:?} {expected}", fss.score());
        }
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
        let other = field.mapv(|_| f32::NAN);
        field.fill(2.0);
        fss.add(field.view(), other.view(), Event::AtLeast(1.0), 3);
        assert_eq!(fss.score(), None);
    }
}
