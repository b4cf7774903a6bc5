//! Yes or no: the contingency table and its scores.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::statistics::plain_sums;
use super::{ratio, with_slice};

/// What counts as an event.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A value of at least this. The usual choice.
    AtLeast(f32),
    /// A value of more than this.
    Above(f32),
}

impl Event {
    /// Whether a value is one; NaN never is.
    pub fn holds(self, value: f32) -> bool {
        match self {
            Self::AtLeast(threshold) => value >= threshold,
            Self::Above(threshold) => value > threshold,
        }
    }

    /// The least value that is one, for loops without a choice; NaN if none is.
    pub(super) fn least(self) -> f32 {
        match self {
            Self::AtLeast(threshold) => threshold,
            Self::Above(threshold) if threshold == f32::INFINITY => f32::NAN,
            Self::Above(threshold) => threshold.next_up(),
        }
    }
}

/// Counts of hits, false alarms, misses and correct rejections; weights may make them fractional.
///
/// ```
/// use squall_models::scores::{Contingency, Event};
///
/// let mut table = Contingency::default();
/// for (forecast, observed) in [(2.0, 2.0), (2.0, 0.0), (0.0, 2.0), (0.0, 0.0), (f32::NAN, 2.0)] {
///     table.add_pair(forecast, observed, Event::AtLeast(1.0));
/// }
/// assert_eq!(table.total(), 4.0);
/// assert_eq!(table.csi(), Some(1.0 / 3.0));
/// assert_eq!(Contingency::default().csi(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contingency {
    /// Forecast and observed.
    pub hits: f64,
    /// Forecast, not observed.
    pub false_alarms: f64,
    /// Observed, not forecast.
    pub misses: f64,
    /// Neither.
    pub correct_rejections: f64,
}

plain_sums!(Contingency { hits, false_alarms, misses, correct_rejections });

impl Contingency {
    /// Counts one pair, unless a value is missing.
    pub fn add_pair(&mut self, forecast: f32, observed: f32, event: Event) {
        if forecast.is_nan() || observed.is_nan() {
            return;
        }
        match (event.holds(forecast), event.holds(observed)) {
            (true, true) => self.hits += 1.0,
            (true, false) => self.false_alarms += 1.0,
            (false, true) => self.misses += 1.0,
            (false, false) => self.correct_rejections += 1.0,
        }
    }

    /// Counts the cells of two fields of one shape.
    pub fn add(&mut self, forecast: ArrayView2<'_, f32>, observed: ArrayView2<'_, f32>, event: Event) {
        debug_assert_eq!(forecast.dim(), observed.dim(), "fields of one shape");
        for (f, o) in forecast.outer_iter().zip(observed.outer_iter()) {
            let row = with_slice(f, |f| with_slice(o, |o| Self::of_row(f, o, event.least())));
            *self = self.merge(&row);
        }
    }

    fn of_row(forecast: &[f32], observed: &[f32], least: f32) -> Self {
        // In integers without a branch: known, forecast, observed, and both.
        let mut counts = [0u32; 4];
        for (f, o) in forecast.iter().zip(observed) {
            let known = u32::from(!f.is_nan()) & u32::from(!o.is_nan());
            let (f, o) = (known & u32::from(*f >= least), known & u32::from(*o >= least));
            counts = [counts[0] + known, counts[1] + f, counts[2] + o, counts[3] + (f & o)];
        }
        let [known, forecast, observed, hits] = counts.map(f64::from);
        let (false_alarms, misses) = (forecast - hits, observed - hits);
        Self { hits, false_alarms, misses, correct_rejections: known - hits - false_alarms - misses }
    }

    /// The counts of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            false_alarms: self.false_alarms + other.false_alarms,
            misses: self.misses + other.misses,
            correct_rejections: self.correct_rejections + other.correct_rejections,
        }
    }

    /// Number of pairs.
    pub fn total(&self) -> f64 {
        self.hits + self.false_alarms + self.misses + self.correct_rejections
    }

    /// Critical success index H/(H+M+F), or threat score.
    pub fn csi(&self) -> Option<f64> {
        ratio(self.hits, self.hits + self.misses + self.false_alarms)
    }

    /// Probability of detection H/(H+M).
    pub fn pod(&self) -> Option<f64> {
        ratio(self.hits, self.hits + self.misses)
    }

    /// False alarm ratio F/(H+F).
    pub fn far(&self) -> Option<f64> {
        ratio(self.false_alarms, self.hits + self.false_alarms)
    }

    /// Probability of false detection F/(F+C), the false alarm *rate*.
    pub fn pofd(&self) -> Option<f64> {
        ratio(self.false_alarms, self.false_alarms + self.correct_rejections)
    }

    /// Frequency bias (H+F)/(H+M).
    pub fn bias(&self) -> Option<f64> {
        ratio(self.hits + self.false_alarms, self.hits + self.misses)
    }

    /// Share of correct answers (H+C)/N.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.hits + self.correct_rejections, self.total())
    }

    /// Equitable threat score, or Gilbert skill score: CSI less the hits of chance.
    pub fn ets(&self) -> Option<f64> {
        let chance = ratio((self.hits + self.misses) * (self.hits + self.false_alarms), self.total())?;
        ratio(self.hits - chance, self.hits + self.misses + self.false_alarms - chance)
    }

    /// Heidke skill score 2(HC-FM)/((H+M)(M+C)+(H+F)(F+C)).
    pub fn hss(&self) -> Option<f64> {
        let Self { hits: h, false_alarms: f, misses: m, correct_rejections: c } = *self;
        ratio(2.0 * (h * c - f * m), (h + m) * (m + c) + (h + f) * (f + c))
    }

    /// Hanssen and Kuipers' discriminant POD - POFD, or true skill statistic.
    pub fn hk(&self) -> Option<f64> {
        Some(self.pod()? - self.pofd()?)
    }

    /// F1 score, the harmonic mean of POD and success ratio: 2H/(2H+F+M).
    pub fn f1(&self) -> Option<f64> {
        ratio(2.0 * self.hits, 2.0 * self.hits + self.false_alarms + self.misses)
    }

    /// Matthews correlation coefficient.
    pub fn mcc(&self) -> Option<f64> {
        let Self { hits: h, false_alarms: f, misses: m, correct_rejections: c } = *self;
        ratio(h * c - f * m, ((h + f) * (h + m) * (c + f) * (c + m)).sqrt())
    }

    /// Symmetric extremal dependence index, which stays meaningful for rare events.
    pub fn sedi(&self) -> Option<f64> {
        let (f, h) = (self.pofd()?, self.pod()?);
        let value =
            (f.ln() - h.ln() + (1.0 - h).ln() - (1.0 - f).ln()) / (f.ln() + h.ln() + (1.0 - h).ln() + (1.0 - f).ln());
        value.is_finite().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::{super::close, *};

    /// The worked example of the CAWCR verification page.
    const TABLE: Contingency = Contingency { hits: 82.0, false_alarms: 38.0, misses: 23.0, correct_rejections: 222.0 };

    #[test]
    fn the_worked_example() {
        for (score, expected) in [
            (TABLE.accuracy(), 304.0 / 365.0),
            (TABLE.bias(), 8.0 / 7.0),
            (TABLE.pod(), 82.0 / 105.0),
            (TABLE.far(), 19.0 / 60.0),
            (TABLE.pofd(), 19.0 / 130.0),
            (TABLE.csi(), 82.0 / 143.0),
            (TABLE.hss(), 6932.0 / 11385.0),
            (TABLE.hk(), 1733.0 / 2730.0),
            (TABLE.ets(), 3466.0 / 7919.0),
            (TABLE.sedi(), 0.789_308_194_298_270_1),
            (TABLE.mcc(), 17330.0 / 802_620_000f64.sqrt()),
            (TABLE.f1(), 164.0 / 225.0),
        ] {
            assert!(close(score, expected, 1e-12), "{score:?} {expected}");
        }
    }

    #[test]
    fn fields_drop_missing_pairs_and_tell_at_least_from_above() {
        let forecast = array![[f32::NAN, 2.0, 0.0, 0.0, 1.0]];
        let observed = array![[2.0, 2.0, 0.0, f32::NAN, 1.0]];
        let count = |event| {
            let mut table = Contingency::default();
            table.add(forecast.view(), observed.view(), event);
            table
        };
        let at_least = Contingency { hits: 2.0, correct_rejections: 1.0, ..Default::default() };
        let above = Contingency { hits: 1.0, correct_rejections: 2.0, ..Default::default() };
        assert_eq!((count(Event::AtLeast(1.0)), count(Event::Above(1.0))), (at_least, above));
    }

    #[test]
    fn an_event_is_what_reaches_its_least_value() {
        let values =
            [f32::NEG_INFINITY, f32::MIN, -1.0, -f32::from_bits(1), -0.0, 0.0, f32::from_bits(1), 1.0, f32::MAX];
        let values = [&values[..], &[f32::INFINITY, f32::NAN, 1f32.next_up(), 1f32.next_down()]].concat();
        for event in values.iter().flat_map(|threshold| [Event::AtLeast(*threshold), Event::Above(*threshold)]) {
            for value in &values {
                assert_eq!(*value >= event.least(), event.holds(*value), "{value} {event:?}");
            }
        }
    }

    #[test]
    fn a_field_is_its_pairs_whatever_its_order_in_memory() {
        let value = |n: usize| [0.0f32, 1.0, 2.0, f32::NAN][n % 4];
        let forecast = Array2::from_shape_fn((7, 11), |(y, x)| value(y * 5 + x * x));
        let observed = Array2::from_shape_fn((7, 11), |(y, x)| value(y * y + x * 3));
        for event in [Event::AtLeast(1.0), Event::Above(1.0)] {
            let (mut field, mut turned, mut pairs) = (TABLE, TABLE, TABLE);
            field.add(forecast.view(), observed.view(), event);
            turned.add(forecast.t(), observed.t(), event);
            forecast.iter().zip(&observed).for_each(|(f, o)| pairs.add_pair(*f, *o, event));
            assert_eq!((field, turned), (pairs, pairs));
        }
    }

    #[test]
    fn merging_sums_and_empty_denominators_are_missing() {
        let twice = TABLE.merge(&TABLE);
        assert_eq!((twice.total(), twice.csi()), (730.0, TABLE.csi()));
        let quiet = Contingency { correct_rejections: 9.0, ..Default::default() };
        for score in
            [quiet.csi(), quiet.pod(), quiet.far(), quiet.bias(), quiet.ets(), quiet.hss(), quiet.sedi(), quiet.mcc()]
        {
            assert_eq!(score, None);
        }
        assert_eq!(quiet.accuracy(), Some(1.0));
    }
}
