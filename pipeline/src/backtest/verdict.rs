//! Which of two models is better, by a paired block bootstrap.
//!
//! Forecasts of one hour resemble each other, so an hour of an event is one block, and what is drawn are blocks: the same ones
//! for both models. The interval holds the middle 95 % of the differences of the scores of 1,000 draws; where it does not hold 0,
//! one model is better. Draws are by a counter-based generator: the same backtest gives the same verdict.

use std::collections::{BTreeMap, BTreeSet};

use squall_fields::random::Philox;
use squall_models::scores::{AnyScore, Probability, Statistics, Value};

/// Draws of blocks.
const DRAWS: u64 = 1000;
/// Fewer blocks than this decide nothing.
pub const FEWEST_BLOCKS: usize = 5;

/// A value and the middle 95 % of what it is over draws of blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Of all blocks.
    pub value: f64,
    /// 2.5 % of the draws lie below.
    pub low: f64,
    /// 2.5 % of the draws lie above.
    pub high: f64,
}

impl Interval {
    /// Whether the whole interval lies on one side of 0.
    pub fn is_decided(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// How often each block is drawn, for each draw: as many blocks as there are.
pub fn draws(blocks: usize) -> Vec<Vec<i64>> {
    let random = |draw: u64| Philox::new(0x5ca1_1b00, draw);
    let draw = |draw: u64| {
        let (random, mut times) = (random(draw), vec![0; blocks]);
        for place in 0..blocks as u64 {
            let block = (random.uniform(place) * blocks as f64) as usize;
            times[block.min(blocks.saturating_sub(1))] += 1;
        }
        times
    };
    (0..DRAWS).map(draw).collect()
}

/// What a number is over all blocks, and over each draw of them. What two models are over the same draws can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    whole: Option<f64>,
    draws: Vec<Option<f64>>,
}

impl Drawn {
    /// Numbers of a score that starts as `empty`, by name, from its own sums in each block.
    ///
    /// Sums are laid side by side and added as integers: the same as those of [`interval`], many times faster.
    pub fn of(blocks: &[Statistics], draws: &[Vec<i64>], empty: &dyn AnyScore, names: &[&str]) -> Vec<Self> {
        let sums: Vec<BTreeMap<u64, i128>> =
            blocks.iter().map(|block| block.parts().map(|(_, key, sum)| (key, sum)).collect()).collect();
        let keys: BTreeSet<u64> = sums.iter().flat_map(|block| block.keys().copied()).collect();
        let row = |block: &BTreeMap<u64, i128>| keys.iter().map(|key| block.get(key).copied().unwrap_or(0)).collect();
        let rows: Vec<Vec<i128>> = sums.iter().map(row).collect();
        let pooled = |times: &dyn Fn(usize) -> i64| {
            let mut all = vec![0i128; keys.len()];
            for (i, row) in rows.iter().enumerate().filter(|(i, _)| times(*i) > 0) {
                let times = i128::from(times(i));
                all.iter_mut().zip(row).for_each(|(all, own)| *all += own * times);
            }
            let known = keys.iter().zip(all).filter(|(_, sum)| *sum != 0);
            // Multiples of 2^-64.
            let sums: Vec<(u64, f64)> = known.map(|(key, sum)| (*key, sum as f64 / 2f64.powi(64))).collect();
            let mut score = empty.boxed();
            score.set_sums(&sums);
            let values = values(&*score);
            let of = |name: &&str| values.iter().find(|value| value.score == *name)?.value.filter(|v| v.is_finite());
            names.iter().map(of).collect::<Vec<Option<f64>>>()
        };
        let whole = pooled(&|_| 1);
        let drawn: Vec<Vec<Option<f64>>> = draws.iter().map(|times| pooled(&|i| times[i])).collect();
        let each = whole.into_iter().enumerate();
        each.map(|(i, whole)| Self { whole, draws: drawn.iter().map(|numbers| numbers[i]).collect() }).collect()
    }

    /// What the number is less that of another, over the same draws.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let minus = |(a, b): (&Option<f64>, &Option<f64>)| Some((*a)? - (*b)?);
        Self {
            whole: minus((&self.whole, &other.whole)),
            draws: self.draws.iter().zip(&other.draws).map(minus).collect(),
        }
    }

    /// The number with the middle 95 % of its draws; `None` if it cannot be computed.
    pub fn interval(&self) -> Option<Interval> {
        middle(self.whole?, self.draws.iter().copied().flatten().collect())
    }
}

/// The numbers of a score. Of probabilities those alone that have intervals: the others take ten times as long.
fn values(score: &dyn AnyScore) -> Vec<Value> {
    let Some(of) = score.as_any().downcast_ref::<Probability>() else { return score.values() };
    vec![Value::new("brier", of.table().brier()), Value::new("brier_fair", of.table().fair_brier())]
}

/// A value with the middle 95 % of what was drawn.
fn middle(value: f64, mut drawn: Vec<f64>) -> Option<Interval> {
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get(((drawn.len().max(1) - 1) as f64 * share).round() as usize).copied();
    Some(Interval { value, low: at(0.025)?, high: at(0.975)? })
}

/// The interval of a number that follows from pooled sums of each block.
pub fn interval<const N: usize>(
    blocks: &[[Statistics; N]],
    draws: &[Vec<i64>],
    number: impl Fn(&[Statistics; N]) -> Option<f64>,
) -> Option<Interval> {
    let pooled = |times: &dyn Fn(usize) -> i64| {
        let mut sums: [Statistics; N] = std::array::from_fn(|_| Statistics::default());
        for (i, block) in blocks.iter().enumerate().filter(|(i, _)| times(*i) > 0) {
            for (sum, own) in sums.iter_mut().zip(block) {
                *sum = sum.plus(&own.times(times(i)));
            }
        }
        sums
    };
    let value = number(&pooled(&|_| 1))?;
    middle(value, draws.iter().filter_map(|times| number(&pooled(&|i| times[i]))).collect())
}

/// The number of a score of one kind, from statistics of that kind alone.
pub fn number(statistics: &Statistics, empty: &[Box<dyn AnyScore>], score: &str) -> Option<f64> {
    let values = statistics.scores(empty).first()?.values();
    values.into_iter().find(|value| value.score == score)?.value
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use squall_models::scores::Pair;
    use squall_models::scores::list::{self, Settings};

    use super::*;

    fn blocks(errors: &[(f32, f32)]) -> (Vec<[Statistics; 2]>, Vec<Box<dyn AnyScore>>) {
        let empty = list::start(&["crps"], &Settings::default()).unwrap();
        let of = |error: f32| {
            let mut scores = empty.clone();
            let (members, observed) = (Array3::from_elem((1, 2, 2), error), Array2::zeros((2, 2)));
            scores.iter_mut().for_each(|score| score.add(&Pair::new(members.view(), observed.view())));
            Statistics::of(&scores)
        };
        (errors.iter().map(|(a, b)| [of(*a), of(*b)]).collect(), empty)
    }

    fn difference(errors: &[(f32, f32)]) -> Interval {
        let (blocks, empty) = blocks(errors);
        let of = |sums: &Statistics| number(sums, &empty, "crps");
        interval(&blocks, &draws(blocks.len()), |[a, b]| Some(of(a)? - of(b)?)).unwrap()
    }

    #[test]
    fn a_model_that_is_always_better_is_and_one_that_is_by_chance_is_not() {
        let always = difference(&[(1.0, 1.5), (5.0, 5.6), (2.0, 2.4), (9.0, 9.5), (3.0, 3.5)]);
        assert!(always.is_decided() && always.high < 0.0 && (always.value + 0.5).abs() < 1e-6, "{always:?}");
        let chance = difference(&[(1.0, 1.5), (5.6, 5.0), (2.0, 2.4), (9.5, 9.0), (3.0, 3.1)]);
        assert!(!chance.is_decided() && chance.low < chance.value && chance.value < chance.high, "{chance:?}");
    }

    #[test]
    fn sums_side_by_side_have_the_intervals_of_sums_one_by_one() {
        let settings = Settings { thresholds: vec![1.0], scales: vec![3], ..Settings::default() };
        let empty = list::start(&["crps", "fss", "probability"], &settings).unwrap();
        let block = |n: usize| {
            let members =
                Array3::from_shape_fn((4, 5, 6), |(m, y, x)| ((m * 5 + y * 3 + x * 7 + n * 11) % 9) as f32 / 4.0);
            let observed = Array2::from_shape_fn((5, 6), |(y, x)| ((y * 2 + x * 5 + n * 3) % 7) as f32 / 3.0);
            let mut scores = empty.clone();
            scores.iter_mut().for_each(|score| score.add(&Pair::new(members.view(), observed.view())));
            Statistics::of(&scores)
        };
        let draws = draws(6);
        for (place, names) in [(0, &["crps", "crps_fair"][..]), (1, &["fss"][..]), (2, &["brier", "brier_fair"][..])] {
            let of = |from: usize| (from..from + 6).map(|n| block(n).only(place)).collect::<Vec<_>>();
            let (a, b) = (of(0), of(6));
            let drawn = [&a, &b].map(|blocks| Drawn::of(blocks, &draws, &*empty[place], names));
            let alone = [empty[place].clone()];
            for (i, name) in names.iter().enumerate() {
                let number = |sums: &Statistics| number(sums, &alone, name);
                let singles: Vec<_> = a.iter().map(|a| [a.clone()]).collect();
                let expected = interval(&singles, &draws, |[a]| number(a));
                assert!(expected.is_some() && drawn[0][i].interval() == expected, "{name}: {expected:?}");
                let pairs: Vec<_> = a.iter().cloned().zip(b.iter().cloned()).map(|(a, b)| [a, b]).collect();
                let expected = interval(&pairs, &draws, |[a, b]| Some(number(a)? - number(b)?));
                assert_eq!(drawn[0][i].minus(&drawn[1][i]).interval(), expected, "{name}");
            }
        }
    }

    #[test]
    fn every_draw_has_as_many_blocks_as_there_are() {
        let draws = draws(7);
        assert!(draws.iter().all(|times| times.iter().sum::<i64>() == 7));
        assert_ne!(draws[0], draws[1]);
        let mean = draws.iter().map(|times| times[3]).sum::<i64>() as f64 / draws.len() as f64;
        assert!((mean - 1.0).abs() < 0.15, "{mean}");
    }
}
