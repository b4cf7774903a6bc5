//! Rank histogram: is what comes like one more member?

use std::collections::BTreeMap;

use ndarray::{ArrayView2, ArrayView3};

use super::score::{Pair, Score, Value};
use super::statistics::Sums;
use super::{over_cells, ratio};

/// Counts of the rank of the observation among the members (Hamill 2001).
///
/// An observation that equals t members lies in each of the t+1 ranks between them with a share of 1/(t+1): no random
/// numbers, so that a replay gives the same. What is kept are integers, by the number of members, of members below
/// and of equal ones; so [`subtract`](Self::subtract) undoes [`merge`](Self::merge) exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RankHistogram {
    /// Cases by (members, members below, members equal); none is zero.
    cases: BTreeMap<(u32, u32, u32), i64>,
}

/// Members, members below and members equal, in 16 bits each.
impl Sums for RankHistogram {
    fn sums(&self) -> Vec<(u64, f64)> {
        let key = |(m, below, equal): (u32, u32, u32)| u64::from(m) << 32 | u64::from(below) << 16 | u64::from(equal);
        self.cases.iter().map(|(case, n)| (key(*case), *n as f64)).collect()
    }

    fn set_sums(&mut self, sums: &[(u64, f64)]) {
        let part = |key: u64, shift: u32| (key >> shift & 0xffff) as u32;
        self.cases = sums.iter().map(|(key, n)| ((part(*key, 32), part(*key, 16), part(*key, 0)), *n as i64)).collect();
    }
}

impl Score for RankHistogram {
    fn name(&self) -> &'static str {
        "outliers"
    }

    fn add(&mut self, pair: &Pair<'_>) {
        Self::add(self, pair.members, pair.observed);
    }

    fn merge(&mut self, other: &Self) {
        *self = self.combine(other, 1);
    }

    fn count(&self) -> f64 {
        self.cases.values().sum::<i64>() as f64
    }

    fn finish(&self) -> Option<f64> {
        self.outliers()
    }

    fn values(&self) -> Vec<Value> {
        vec![
            Value::new("rank_outliers", self.outliers()),
            Value::new("rank_reliability_index", self.reliability_index()),
        ]
    }
}

impl RankHistogram {
    /// Adds one case, unless a value is missing or there is no member.
    pub fn add_case(&mut self, members: &[f32], observed: f32) {
        if members.is_empty() || observed.is_nan() || members.iter().any(|x| x.is_nan()) {
            return;
        }
        let count = |holds: &dyn Fn(f32) -> bool| members.iter().filter(|x| holds(**x)).count() as u32;
        let key = (members.len() as u32, count(&|x| x < observed), count(&|x| x == observed));
        *self.cases.entry(key).or_default() += 1;
    }

    /// Adds every cell of members `[member, y, x]` and an observation `[y, x]`.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>) {
        let sums = over_cells(members, observed, |sum: &mut Self, case, y| sum.add_case(case, y), Self::merge);
        *self = self.combine(&sums, 1);
    }

    /// The counts of both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        self.combine(other, 1)
    }

    /// The counts without those of the other, exactly.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        self.combine(other, -1)
    }

    fn combine(&self, other: &Self, sign: i64) -> Self {
        let mut cases = self.cases.clone();
        other.cases.iter().for_each(|(key, n)| *cases.entry(*key).or_default() += sign * n);
        cases.retain(|_, n| *n != 0);
        Self { cases }
    }

    /// Number of cases.
    pub fn count(&self) -> i64 {
        self.cases.values().sum()
    }

    /// Sizes of the ensembles that were counted, ascending.
    pub fn sizes(&self) -> Vec<u32> {
        let mut sizes: Vec<u32> = self.cases.keys().map(|(members, _, _)| *members).collect();
        sizes.dedup();
        sizes
    }

    /// Share of the observations in the lowest and the highest rank, over the share of a reliable ensemble, 2/(M+1): 1 is
    /// reliable, more is overconfident.
    pub fn outliers(&self) -> Option<f64> {
        let (mut outside, mut expected) = (0.0, 0.0);
        for members in self.sizes() {
            let ranks = self.ranks(members);
            outside += ranks[0] + ranks[members as usize];
            expected += ranks.iter().sum::<f64>() * 2.0 / f64::from(members + 1);
        }
        ratio(outside, expected)
    }

    /// Sum over the ranks of how far the share of observations is from 1/(M+1) (Delle Monache et al. 2006): 0 is reliable, 2
    /// at most. Of ensembles of several sizes, their mean by cases.
    pub fn reliability_index(&self) -> Option<f64> {
        let (mut index, mut cases) = (0.0, 0.0);
        for members in self.sizes() {
            let ranks = self.ranks(members);
            let all: f64 = ranks.iter().sum();
            let even = all / f64::from(members + 1);
            index += ranks.iter().map(|rank| (rank - even).abs()).sum::<f64>();
            cases += all;
        }
        ratio(index, cases)
    }

    /// Cases in each of the M+1 ranks, of ensembles of M members alone: ranks of other sizes do not compare.
    pub fn ranks(&self, members: u32) -> Vec<f64> {
        let mut ranks = vec![0.0; members as usize + 1];
        for ((_, below, equal), n) in self.cases.range((members, 0, 0)..=(members, u32::MAX, u32::MAX)) {
            let between = *below as usize..=(below + equal) as usize;
            ranks[between].iter_mut().for_each(|rank| *rank += *n as f64 / f64::from(equal + 1));
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(cases: &[(Vec<f32>, f32)]) -> RankHistogram {
        let mut histogram = RankHistogram::default();
        cases.iter().for_each(|(members, y)| histogram.add_case(members, *y));
        histogram
    }

    fn cases() -> impl Strategy<Value = Vec<(Vec<f32>, f32)>> {
        let value = || prop::sample::select(vec![0.0f32, 1.0, 2.0, f32::NAN]);
        prop::collection::vec((prop::collection::vec(value(), 0..5), value()), 0..30)
    }

    #[test]
    fn ties_are_shared_and_missing_values_do_not_count() {
        assert_eq!(histogram(&[(vec![0.0; 3], 0.0)]).ranks(3), [0.25; 4]);
        assert_eq!(histogram(&[(vec![0.0, 1.0, 1.0], 1.0)]).ranks(3), [0.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(histogram(&[(vec![0.0], f32::NAN), (vec![f32::NAN], 0.0), (vec![], 0.0)]).count(), 0);
    }

    #[test]
    fn a_flat_histogram_has_index_0_and_one_rank_alone_nearly_2() {
        let flat: Vec<_> = [0.0, 1.5, 2.5, 4.0].map(|y| (vec![1.0, 2.0, 3.0], y)).into();
        assert_eq!(histogram(&flat).reliability_index(), Some(0.0));
        assert_eq!(histogram(&flat[..1]).reliability_index(), Some(1.5), "three quarters too many, and none elsewhere");
        assert_eq!(histogram(&[]).reliability_index(), None);
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole_and_are_taken_back_exactly(a in cases(), b in cases()) {
            let whole = histogram(&[a.clone(), b.clone()].concat());
            prop_assert_eq!(&histogram(&b).merge(&histogram(&a)), &whole);
            prop_assert_eq!(whole.subtract(&histogram(&a)), histogram(&b));
            let all: f64 = (1..5).flat_map(|m| whole.ranks(m)).sum();
            prop_assert!((all - whole.count() as f64).abs() < 1e-9);
        }
    }
}
