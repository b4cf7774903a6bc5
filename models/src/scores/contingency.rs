//! Yes or no: the contingency table and its scores.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::ratio;
use super::statistics::plain_sums;

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
        // Integers count faster than floats and are exact.
        let mut counts = [0u64; 4];
        for (f, o) in forecast.iter().zip(observed) {
            let cell = 2 * usize::from(event.holds(*f)) + usize::from(event.holds(*o));
            counts[cell] += u64::from(!(f.is_nan() || o.is_nan()));
        }
        let [rejections, misses, false_alarms, hits] = counts.map(|n| n as f64);
        *self = self.merge(&Self { hits, false_alarms, misses, correct_rejections: rejections });
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
    use ndarray::array;

    use super::{super::close, *};

    /// The worked example of the CAWCR verification page.
    const TABLE: Contingency = Contingency { hits: 82.0, false_alarms: 38.0, misses: 23.0, correct_rejections: 222.0 };

    #[test]
    fn the_worked_example() {
        for (score, expected) in [
            (TABLE.accuracy(), 0.83287671),
            (TABLE.bias(), 1.1428571),
            (TABLE.pod(), 0.7809524),
            (TABLE.far(), 0.316667),
            (TABLE.pofd(), 0.146154),
            (TABLE.csi(), 0.573426),
            (TABLE.hss(), 0.608871),
            (TABLE.hk(), 0.634799),
            (TABLE.ets(), 0.437682),
            (TABLE.sedi(), 0.789308),
            (TABLE.mcc(), 0.611707),
            (TABLE.f1(), 0.728889),
        ] {
            assert!(close(score, expected, 1e-6), "{score:?} {expected}");
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
