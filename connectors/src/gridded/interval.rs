//! Over which interval an amount was gathered.

/// An interval in seconds, and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub enum Interval {
    /// The file says so: time bounds, or the start and the end of an ODIM data set.
    Stated(f64),
    /// Nothing says so; since the slot before.
    Spacing(f64),
    /// Nothing says so, and there is one slot alone.
    Unknown,
}

impl Interval {
    /// What the file says.
    pub const fn stated(&self) -> Option<f64> {
        if let Self::Stated(seconds) = self { Some(*seconds) } else { None }
    }

    /// What the file's slots make likely.
    pub const fn spacing(&self) -> Option<f64> {
        if let Self::Spacing(seconds) = self { Some(*seconds) } else { None }
    }
}

/// The interval of each slot: its own bounds, where there are any, or else since the slot before.
///
/// ```
/// use squall_connectors::gridded::interval::{Interval, intervals};
/// let bounds = [Some(900.0), None, Some(0.0)];
/// assert_eq!(intervals(&[0, 300, 900], &bounds), [Interval::Stated(900.0), Interval::Spacing(300.0), Interval::Spacing(600.0)]);
/// ```
pub fn intervals(slots: &[i64], bounds: &[Option<f64>]) -> Vec<Interval> {
    let since = |i: usize| {
        let (before, after) = if i == 0 { (0, 1) } else { (i - 1, i) };
        let seconds = (slots.get(after)? - slots.get(before)?) as f64;
        (seconds > 0.0).then_some(Interval::Spacing(seconds))
    };
    let stated = |i: usize| bounds.get(i).copied().flatten().filter(|seconds| *seconds > 0.0).map(Interval::Stated);
    (0..slots.len()).map(|i| stated(i).or_else(|| since(i)).unwrap_or(Interval::Unknown)).collect()
}

/// Seconds for a person: `5 min`, `1 h`, `90 s`.
pub fn in_words(seconds: f64) -> String {
    match seconds {
        s if s >= 3600.0 && s % 3600.0 == 0.0 => format!("{} h", s / 3600.0),
        s if s >= 60.0 && s % 60.0 == 0.0 => format!("{} min", s / 60.0),
        s => format!("{s} s"),
    }
}
