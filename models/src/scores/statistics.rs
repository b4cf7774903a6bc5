//! Sums of scores as exact integers: what can be added in any order, and taken back without a trace.
//!
//! Sums of `f64` depend on the order, and subtracting leaves a remainder. A corrected observation must take back exactly what
//! rested on it, and one worker must say what many say. So what a score has summed over one field, in a fixed order, is
//! rounded once to a multiple of 2^-64 and is an integer from then on: of values above 2^-11 nothing is lost.

use serde::{Deserialize, Serialize};

use super::score::AnyScore;

/// What a score has summed, each sum under a number of its own. Sums that are 0 may be left out.
pub trait Sums {
    /// The sums.
    fn sums(&self) -> Vec<(u64, f64)>;

    /// Puts sums into empty ones.
    fn set_sums(&mut self, sums: &[(u64, f64)]);
}

/// [`Sums`] of a struct of `f64`, numbered as they are named.
macro_rules! plain_sums {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::scores::statistics::Sums for $type {
            fn sums(&self) -> Vec<(u64, f64)> {
                (0..).zip([$(self.$field),+]).filter(|(_, sum)| *sum != 0.0).collect()
            }

            fn set_sums(&mut self, sums: &[(u64, f64)]) {
                let mut of = (0..).map(|key| sums.iter().find(|(k, _)| *k == key).map_or(0.0, |(_, sum)| *sum));
                $(self.$field = of.next().expect("there is a number for each");)+
            }
        }
    };
}
pub(super) use plain_sums;

/// [`Sums`] of a struct that are those of one of its fields.
macro_rules! sums_of_field {
    ($type:ty, $field:tt) => {
        impl $crate::scores::statistics::Sums for $type {
            fn sums(&self) -> Vec<(u64, f64)> {
                $crate::scores::statistics::Sums::sums(&self.$field)
            }

            fn set_sums(&mut self, sums: &[(u64, f64)]) {
                $crate::scores::statistics::Sums::set_sums(&mut self.$field, sums);
            }
        }
    };
}
pub(super) use sums_of_field;

/// Bits after the point.
const FRACTION: i32 = 64;

/// Numbers of a score's sums; the score's own place lies above them.
const KEY_BITS: u32 = 48;

/// The sums of several scores, as a vector of exact integers: an abelian group.
///
/// ```
/// use squall_models::scores::{Statistics, list};
/// use squall_models::scores::list::Settings;
/// # use ndarray::{Array2, Array3};
/// # use squall_models::scores::Pair;
///
/// let settings = Settings { thresholds: vec![1.0], scales: vec![3], ..Settings::default() };
/// let mut scores = list::start(&["crps", "csi"], &settings).unwrap();
/// let (members, observed) = (Array3::from_elem((2, 4, 4), 0.1), Array2::from_elem((4, 4), 2.0));
/// scores.iter_mut().for_each(|score| score.add(&Pair::new(members.view(), observed.view())));
/// let once = Statistics::of(&scores);
/// assert_eq!(once.plus(&once).plus(&once.negated()), once);
/// assert!(once.plus(&once.negated()).is_zero());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Statistics(Vec<(u64, i128)>);

impl Statistics {
    /// Of scores in this order.
    pub fn of(scores: &[Box<dyn AnyScore>]) -> Self {
        let mut all = Vec::new();
        for (place, score) in (0u64..).zip(scores) {
            let sums = score.sums().into_iter().map(|(key, sum)| {
                debug_assert!(key < 1 << KEY_BITS, "a number of a sum fits");
                (place << KEY_BITS | key, exact(sum))
            });
            all.extend(sums.filter(|(_, sum)| *sum != 0));
        }
        all.sort_unstable_by_key(|(key, _)| *key);
        Self(all)
    }

    /// Scores with these sums, from empty ones in the same order as those that they are of.
    pub fn scores(&self, empty: &[Box<dyn AnyScore>]) -> Vec<Box<dyn AnyScore>> {
        let mut scores = empty.to_vec();
        for (place, score) in (0u64..).zip(&mut scores) {
            let from = self.0.partition_point(|(key, _)| key >> KEY_BITS < place);
            let own = self.0[from..].iter().take_while(|(key, _)| key >> KEY_BITS == place);
            let sums: Vec<_> = own.map(|(key, sum)| (key & ((1 << KEY_BITS) - 1), inexact(*sum))).collect();
            score.set_sums(&sums);
        }
        scores
    }

    /// Those of the score at a place, as if it were the only one.
    #[must_use]
    pub fn only(&self, place: usize) -> Self {
        let place = place as u64;
        let from = self.0.partition_point(|(key, _)| key >> KEY_BITS < place);
        let own = self.0[from..].iter().take_while(|(key, _)| key >> KEY_BITS == place);
        Self(own.map(|(key, sum)| (key & ((1 << KEY_BITS) - 1), *sum)).collect())
    }

    /// Each sum: the place of its score, its number there, and how many multiples of 2^-64 it is.
    pub fn parts(&self) -> impl Iterator<Item = (usize, u64, i128)> + '_ {
        self.0.iter().map(|(key, sum)| ((key >> KEY_BITS) as usize, key & ((1 << KEY_BITS) - 1), *sum))
    }

    /// Whether nothing was counted, or everything taken back.
    pub fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The sums of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut all = Vec::with_capacity(self.0.len().max(other.0.len()));
        while let Some(key) = a.peek().into_iter().chain(b.peek()).map(|(key, _)| *key).min() {
            let own = a.next_if(|(k, _)| *k == key).map_or(0, |(_, sum)| *sum);
            let sum = own + b.next_if(|(k, _)| *k == key).map_or(0, |(_, sum)| *sum);
            if sum != 0 {
                all.push((key, sum));
            }
        }
        Self(all)
    }

    /// What takes these sums back.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self(self.0.iter().map(|(key, sum)| (*key, -sum)).collect())
    }

    /// These sums so many times.
    #[must_use]
    pub fn times(&self, factor: i64) -> Self {
        match factor {
            0 => Self::default(),
            _ => Self(self.0.iter().map(|(key, sum)| (*key, sum * i128::from(factor))).collect()),
        }
    }
}

/// The nearest multiple of 2^-64; what is not finite, or beyond 2^62, is held there.
fn exact(sum: f64) -> i128 {
    let scaled = sum * 2f64.powi(FRACTION);
    // A cast saturates, and takes NaN for 0; a margin of one bit is left for additions.
    (scaled.round() as i128).clamp(-(1 << 126), 1 << 126)
}

fn inexact(sum: i128) -> f64 {
    sum as f64 / 2f64.powi(FRACTION)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use proptest::prelude::*;

    use super::super::list::{self, Settings};
    use super::super::score::Pair;
    use super::*;

    const MEMBERS: usize = 3;
    const SIDE: usize = 6;

    /// All scores that have sums, of one field each.
    fn empty() -> Vec<Box<dyn AnyScore>> {
        let names: Vec<_> = list::measures().chain(["wet-area", "maximum", "spectrum-log"]).collect();
        let settings = Settings { thresholds: vec![0.5, 2.0], scales: vec![1, 3], ..Settings::default() };
        list::start(&names, &settings).unwrap()
    }

    fn added(fields: &[Vec<f32>]) -> Vec<Box<dyn AnyScore>> {
        let mut scores = empty();
        for field in fields {
            let mut field = field.iter().copied();
            let mut take = |n: usize| Array3::from_shape_simple_fn((n, SIDE, SIDE), || field.next().unwrap());
            let (u, v, o, p) = (take(MEMBERS), take(MEMBERS), take(1), take(1));
            let first = |a: &Array3<f32>| -> Array2<f32> { a.index_axis(ndarray::Axis(0), 0).to_owned() };
            let (o, p) = (first(&o), first(&p));
            let pair = Pair::new(u.view(), o.view()).with_second(v.view(), p.view());
            scores.iter_mut().for_each(|score| score.add(&pair));
        }
        scores
    }

    fn fields() -> impl Strategy<Value = Vec<Vec<f32>>> {
        let value = prop_oneof![4 => Just(0.0f32), 4 => 0.0f32..30.0, 1 => Just(2.0f32), 1 => Just(f32::NAN)];
        prop::collection::vec(prop::collection::vec(value, 2 * (MEMBERS + 1) * SIDE * SIDE), 1..4)
    }

    fn statistics(fields: &[Vec<f32>]) -> Vec<Statistics> {
        fields.iter().map(|field| Statistics::of(&added(std::slice::from_ref(field)))).collect()
    }

    fn pooled<'a>(parts: impl Iterator<Item = &'a Statistics>) -> Statistics {
        parts.fold(Statistics::default(), |all, part| all.plus(part))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_order_is_nothing_and_what_is_taken_back_leaves_no_trace(fields in fields(), more in fields()) {
            let (fields, more) = (statistics(&fields), statistics(&more));
            let whole = pooled(fields.iter().chain(&more));
            prop_assert_eq!(&pooled(more.iter().rev().chain(&fields)), &whole);
            prop_assert_eq!(whole.plus(&pooled(more.iter()).negated()), pooled(fields.iter()));
            prop_assert_eq!(whole.times(2), whole.plus(&whole));
        }

        #[test]
        fn every_score_merges_to_what_it_is_of_all(fields in fields()) {
            let (merged, whole) = (pooled(statistics(&fields).iter()).scores(&empty()), added(&fields));
            for (merged, whole) in merged.iter().zip(&whole) {
                prop_assert_eq!(merged.count(), whole.count(), "{:?}", whole);
                let (merged, whole) = (merged.values(), whole.values());
                prop_assert_eq!(merged.len(), whole.len());
                for (merged, whole) in merged.iter().zip(&whole) {
                    prop_assert_eq!(merged.score, whole.score);
                    match (merged.value, whole.value) {
                        // Differences of large sums, such as the economic value, magnify the last bit.
                        (Some(a), Some(b)) => prop_assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{merged:?} {whole:?}"),
                        (a, b) => prop_assert_eq!(a, b, "{:?}", whole),
                    }
                }
            }
        }
    }

    #[test]
    fn sums_lose_nothing_that_counts() {
        for sum in [0.1, 1e-3, 1.0 / 3.0, 123_456.789, 4e15] {
            assert_eq!(inexact(exact(sum)), sum);
        }
        assert!((inexact(exact(1e-15)) - 1e-15).abs() < 1e-19);
        assert_eq!((exact(f64::NAN), exact(f64::INFINITY)), (0, 1 << 126));
    }
}
