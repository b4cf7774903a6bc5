//! Axes: where a value lies, and which round values are written beside it.

use super::format;

/// Steps of ticks of an axis of minutes.
const MINUTE_STEPS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 180.0, 360.0, 720.0, 1440.0];

/// More than this is taken for a fault in the data: it would hide everything else.
const LARGEST: f64 = 1e12;

/// An axis of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What it shows, with its unit.
    pub(super) label: String,
    /// Values with a tick, rising.
    pub(super) ticks: Vec<f64>,
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// From the tick below the smallest value to the tick above the largest.
    pub(super) fn linear(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let step = round_step((high - low) / 5.0);
        let from = (low / step + 1e-9).floor() * step;
        let to = (high / step - 1e-9).ceil() * step;
        Self::with_step(label, from, to, step)
    }

    /// From exactly one value to another.
    pub(super) fn between(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = range([low, high]).unwrap_or((0.0, 1.0));
        Self::with_step(label, low, high, round_step((high - low) / 6.0))
    }

    /// Like [`between`](Self::between), for what has no fractions.
    pub(super) fn whole(label: &str, low: f64, high: f64) -> Self {
        let (low, high) = range([low, high]).unwrap_or((0.0, 1.0));
        Self::with_step(label, low, high, round_step((high - low) / 6.0).max(1.0))
    }

    /// Minutes, with ticks at parts and multiples of an hour; a little wider than the values.
    pub(super) fn minutes(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 60.0));
        let span = high - low;
        let step = MINUTE_STEPS.into_iter().find(|step| span / step <= 7.0).unwrap_or_else(|| round_step(span / 6.0));
        Self::with_step(label, low - 0.03 * span, high + 0.03 * span, step)
    }

    /// Logarithmic over the positive values.
    pub(super) fn log(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|v| *v > 1.0 / LARGEST);
        let (low, high) = range(positive.map(f64::log10)).unwrap_or((0.0, 1.0));
        let digits: &[f64] = match high - low {
            span if span <= 2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (((high - low) / 6.0).ceil() as i32).max(1);
        let decades = (low.floor() as i32..=high.ceil() as i32).filter(|decade| decade.rem_euclid(every) == 0);
        let all: Vec<f64> = decades.flat_map(|decade| digits.iter().map(move |d| d * 10f64.powi(decade))).collect();
        let (low, high) = (10f64.powf(low - 0.02 * (high - low)), 10f64.powf(high + 0.02 * (high - low)));
        let ticks = all.into_iter().filter(|t| (low..=high).contains(t)).collect();
        Self { label: label.to_owned(), ticks, low, high, log: true }
    }

    fn with_step(label: &str, low: f64, high: f64, step: f64) -> Self {
        let first = (low / step - 1e-9).ceil();
        let ticks = (0..20).map(|i| (first + f64::from(i)) * step).take_while(|t| *t <= high + 1e-9 * step).collect();
        Self { label: label.to_owned(), ticks, low, high, log: false }
    }

    /// The smallest value on it.
    pub(super) fn low(&self) -> f64 {
        self.low
    }

    /// The largest value on it.
    pub(super) fn high(&self) -> f64 {
        self.high
    }

    /// Where a value lies, 0 at the low end and 1 at the high one; `None` where it has no place.
    pub(super) fn fraction(&self, value: f64) -> Option<f64> {
        let at = if self.log {
            (value / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        // What lies far outside is cut anyway, and must not make a coordinate nobody can draw.
        at.is_finite().then(|| at.clamp(-10.0, 10.0))
    }

    /// The text of a tick: as many decimals as its neighbours need.
    pub(super) fn text(&self, tick: f64) -> String {
        match self.ticks.as_slice() {
            [first, second, ..] if !self.log && tick.abs() < 1e4 => {
                let decimals = (-(second - first).abs().log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
                // A zero that came out of a difference would be written -0.
                let tick = if tick.abs() < 1e-9 * (second - first).abs() { 0.0 } else { tick };
                format!("{tick:.decimals$}")
            }
            _ if self.log && tick > 5e3 && tick < LARGEST => {
                // There is no room for the zeros.
                let exponent = tick.log10().floor();
                let digit = format::short(tick / 10f64.powf(exponent));
                let factor = if digit == "1" { String::new() } else { format!("{digit}·") };
                format!("{factor}10{}", superscript(exponent as u32))
            }
            _ => format::short(tick),
        }
    }
}

/// A number as an exponent.
fn superscript(number: u32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().filter_map(|digit| DIGITS.get(usize::from(digit.wrapping_sub(b'0')))).collect()
}

/// The smallest and the largest value, apart from each other.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let usable = values.into_iter().filter(|v| v.is_finite() && v.abs() <= LARGEST);
    let (low, high) = usable.fold(None, |range: Option<(f64, f64)>, v| {
        Some(range.map_or((v, v), |(low, high)| (low.min(v), high.max(v))))
    })?;
    if high - low > 1e-9 * high.abs().max(low.abs()) {
        return Some((low, high));
    }
    let margin = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
    Some((low - margin, high + margin))
}

/// The next of 1, 2 and 5 times a power of ten that is not smaller.
fn round_step(least: f64) -> f64 {
    if !least.is_finite() || least <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_one_two_or_five() {
        let steps = [0.03, 0.11, 0.2, 0.21, 3.0, 7.0, 51.0].map(round_step);
        let expected = [0.05, 0.2, 0.2, 0.5, 5.0, 10.0, 100.0];
        assert!(steps.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{steps:?}");
    }

    #[test]
    fn ticks_are_round_and_hold_the_values() {
        let axis = Axis::linear("y", [0.13, 0.87]);
        let texts: Vec<_> = axis.ticks.iter().map(|t| axis.text(*t)).collect();
        assert_eq!(texts, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert!(axis.low() <= 0.13 && axis.high() >= 0.87);
    }

    #[test]
    fn minutes_have_ticks_of_an_hour() {
        assert_eq!(Axis::minutes("", [30.0, 360.0]).ticks, [60.0, 120.0, 180.0, 240.0, 300.0, 360.0]);
    }

    #[test]
    fn log_ticks_are_one_two_and_five() {
        let axis = Axis::log("", [0.9, 60.0]);
        let texts: Vec<_> = axis.ticks.iter().map(|t| axis.text(*t)).collect();
        assert_eq!(texts, ["1", "2", "5", "10", "20", "50"]);
        let axis = Axis::log("", [1.0, 1e6]);
        let texts: Vec<_> = axis.ticks.iter().map(|t| axis.text(*t)).collect();
        assert_eq!(texts, ["1", "10", "100", "1000", "10⁴", "10⁵", "10⁶"]);
    }

    #[test]
    fn what_has_no_place_on_a_log_axis_has_no_fraction() {
        let axis = Axis::log("", [1.0, 100.0]);
        assert_eq!([axis.fraction(0.0), axis.fraction(-1.0), axis.fraction(f64::NAN)], [None, None, None]);
    }

    #[test]
    fn values_all_the_same_or_none_or_wild_still_make_an_axis() {
        for values in
            [vec![], vec![0.0], vec![3.0, 3.0], vec![f64::NAN], vec![f64::MAX, f64::MIN], vec![1e-300, 2e-300]]
        {
            for axis in [Axis::linear("", values.clone()), Axis::log("", values.clone()), Axis::minutes("", values)] {
                assert!(axis.high() > axis.low() && axis.ticks.len() <= 20, "{axis:?}");
            }
        }
    }
}
