//! Forecast probabilities against what happened: reliability, ROC, economic value and the parts of the Brier score.

use std::collections::BTreeMap;

use ndarray::{ArrayView2, ArrayView3, s};

use super::statistics::Sums;
use super::{Event, over_rows, ratio, with_slice};

/// Cases of one forecast probability: a natural bin of an ensemble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Share of the members with the event, from 0 to 1.
    pub probability: f64,
    /// Cases with the event.
    pub events: i64,
    /// Cases without.
    pub others: i64,
}

/// Counts by the number of members with the event, from which all scores of probabilities follow.
///
/// An ensemble of M members has M+1 natural bins; ensembles of several sizes keep theirs apart until the end. The
/// counts are integers: [`subtract`](Self::subtract) undoes [`merge`](Self::merge) exactly.
///
/// ```
/// use squall_models::scores::{Event, ProbabilityTable};
/// let mut table = ProbabilityTable::default();
/// table.add_case(&[0.0, 0.2, 0.7, 0.9], 0.0, Event::AtLeast(0.6));
/// assert_eq!((table.count(), table.brier()), (1, Some(0.25)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbabilityTable {
    /// Cases without and with the event, by (members, members with the event); none is zero.
    cases: BTreeMap<(u32, u32), [i64; 2]>,
}

/// Members, of which so many have the event, and whether it came.
impl Sums for ProbabilityTable {
    fn sums(&self) -> Vec<(u64, f64)> {
        let key = |m: u32, k: u32, came: usize| u64::from(m) << 24 | u64::from(k) << 1 | came as u64;
        let both = self.cases.iter().flat_map(|((m, k), n)| [0, 1].map(|came| (key(*m, *k, came), n[came] as f64)));
        both.filter(|(_, n)| *n != 0.0).collect()
    }

    fn set_sums(&mut self, sums: &[(u64, f64)]) {
        self.cases.clear();
        for (key, n) in sums {
            let case = ((key >> 24) as u32, (key >> 1 & 0x7f_ffff) as u32);
            self.cases.entry(case).or_default()[(key & 1) as usize] = *n as i64;
        }
    }
}

impl ProbabilityTable {
    /// Adds one case, unless a value is missing or there is no member.
    pub fn add_case(&mut self, members: &[f32], observed: f32, event: Event) {
        if members.is_empty() || observed.is_nan() || members.iter().any(|x| x.is_nan()) {
            return;
        }
        let yes = members.iter().filter(|x| event.holds(**x)).count();
        self.cases.entry((members.len() as u32, yes as u32)).or_default()[usize::from(event.holds(observed))] += 1;
    }

    /// Adds every cell of members `[member, y, x]` and an observation `[y, x]`.
    pub fn add(&mut self, members: ArrayView3<'_, f32>, observed: ArrayView2<'_, f32>, event: Event) {
        let count = members.dim().0;
        if count == 0 {
            return;
        }
        let least = event.least();
        let row_counts = |y: usize| {
            // For each cell: members with the event, and whether one is missing.
            let (mut yes, mut missing) = (vec![0u32; observed.dim().1], vec![0u32; observed.dim().1]);
            for m in 0..count {
                with_slice(members.slice(s![m, y, ..]), |row| {
                    for ((yes, missing), x) in yes.iter_mut().zip(&mut missing).zip(row) {
                        *yes += u32::from(*x >= least);
                        *missing |= u32::from(x.is_nan());
                    }
                });
            }
            let mut counts = vec![[0i64; 2]; count + 1];
            for ((yes, missing), came) in yes.iter().zip(&missing).zip(observed.row(y)) {
                counts[*yes as usize][usize::from(event.holds(*came))] += i64::from(*missing == 0 && !came.is_nan());
            }
            counts
        };
        for row in over_rows(members, observed, row_counts) {
            for (yes, [others, events]) in row.into_iter().enumerate().filter(|(_, counts)| *counts != [0, 0]) {
                let own = self.cases.entry((count as u32, yes as u32)).or_default();
                *own = [own[0] + others, own[1] + events];
            }
        }
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
        for (key, [no, yes]) in &other.cases {
            let own = cases.entry(*key).or_default();
            *own = [own[0] + sign * no, own[1] + sign * yes];
        }
        cases.retain(|_, counts| *counts != [0, 0]);
        Self { cases }
    }

    /// Number of cases.
    pub fn count(&self) -> i64 {
        self.cases.values().flatten().sum()
    }

    /// The reliability diagram: bins that have cases, by rising probability.
    pub fn bins(&self) -> Vec<Bin> {
        let mut bins: Vec<Bin> = Vec::new();
        let mut sorted: Vec<_> = self.cases.iter().map(|((m, k), n)| (f64::from(*k) / f64::from(*m), *n)).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (probability, [others, events]) in sorted {
            match bins.last_mut() {
                Some(last) if last.probability == probability => {
                    last.events += events;
                    last.others += others;
                }
                _ => bins.push(Bin { probability, events, others }),
            }
        }
        bins
    }

    /// Share of cases with the event.
    pub fn base_rate(&self) -> Option<f64> {
        let events: i64 = self.cases.values().map(|n| n[1]).sum();
        ratio(events as f64, self.count() as f64)
    }

    /// The Brier score, biased: that of the share of members.
    pub fn brier(&self) -> Option<f64> {
        let squares =
            |b: &Bin| b.events as f64 * (1.0 - b.probability).powi(2) + b.others as f64 * b.probability.powi(2);
        ratio(self.bins().iter().map(squares).sum(), self.count() as f64)
    }

    /// The same as of infinitely many members, over the cases of two members or more.
    pub fn fair_brier(&self) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0i64);
        for ((m, k), [others, events]) in self.cases.iter().filter(|((m, _), _)| *m > 1) {
            let (m, k, n) = (f64::from(*m), f64::from(*k), others + events);
            let squares = *events as f64 * (1.0 - k / m).powi(2) + *others as f64 * (k / m).powi(2);
            sum += squares - n as f64 * k * (m - k) / (m * m * (m - 1.0));
            count += n;
        }
        ratio(sum, count as f64)
    }

    /// Murphy's (1973) parts of the Brier score, which is reliability - resolution + uncertainty.
    pub fn murphy(&self) -> Option<[f64; 3]> {
        let (base, total) = (self.base_rate()?, self.count() as f64);
        let (mut reliability, mut resolution) = (0.0, 0.0);
        for bin in self.bins() {
            let n = (bin.events + bin.others) as f64;
            let Some(frequency) = ratio(bin.events as f64, n) else { continue };
            reliability += n * (bin.probability - frequency).powi(2);
            resolution += n * (frequency - base).powi(2);
        }
        Some([reliability / total, resolution / total, base * (1.0 - base)])
    }

    /// The ROC curve: (false alarm rate, hit rate) for an alarm at every attainable probability or above, from never,
    /// (0, 0), to always, (1, 1). `None` unless the event both happened and did not.
    pub fn roc(&self) -> Option<Vec<(f64, f64)>> {
        let bins = self.bins();
        let (events, others) = bins.iter().fold((0, 0), |n, bin| (n.0 + bin.events, n.1 + bin.others));
        if events == 0 || others == 0 {
            return None;
        }
        let (mut hits, mut alarms, mut curve) = (0, 0, vec![(0.0, 0.0)]);
        for bin in bins.iter().rev() {
            hits += bin.events;
            alarms += bin.others;
            curve.push((alarms as f64 / others as f64, hits as f64 / events as f64));
        }
        Some(curve)
    }

    /// Area under the ROC curve by trapezia; 0.5 does not discriminate.
    pub fn roc_area(&self) -> Option<f64> {
        let area = |ends: &[(f64, f64)]| (ends[1].0 - ends[0].0) * (ends[0].1 + ends[1].1) / 2.0;
        Some(self.roc()?.windows(2).map(area).sum())
    }

    /// Relative economic value (Richardson 2000) for a ratio of cost to loss between 0 and 1, of the best alarm there
    /// is: the envelope over the probabilities. 1 is perfect, 0 what always or never acting gives.
    pub fn economic_value(&self, cost_loss: f64) -> Option<f64> {
        let (base, curve) = (self.base_rate()?, self.roc()?);
        let climate = cost_loss.min(base);
        let best =
            curve.iter().map(|(f, h)| climate - (f * (1.0 - base) * cost_loss - h * base * (1.0 - cost_loss) + base));
        ratio(best.fold(f64::NEG_INFINITY, f64::max), climate - base * cost_loss)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use proptest::prelude::*;

    use super::{super::Brier, *};

    const EVENT: Event = Event::AtLeast(2.0);

    fn table(cases: &[(Vec<f32>, f32)]) -> ProbabilityTable {
        let mut table = ProbabilityTable::default();
        cases.iter().for_each(|(members, y)| table.add_case(members, *y, EVENT));
        table
    }

    fn cases() -> impl Strategy<Value = Vec<(Vec<f32>, f32)>> {
        let value = || prop::sample::select(vec![0.0f32, 1.0, 2.0, 3.0, f32::NAN]);
        prop::collection::vec((prop::collection::vec(value(), 0..6), value()), 0..40)
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole_and_are_taken_back_exactly(a in cases(), b in cases()) {
            let whole = table(&[a.clone(), b.clone()].concat());
            prop_assert_eq!(&table(&a).merge(&table(&b)), &whole);
            prop_assert_eq!(whole.subtract(&table(&b)), table(&a));
        }

        #[test]
        fn a_field_is_its_cells(count in 0usize..5, values in prop::collection::vec(0u8..5, 60)) {
            let value = |n: u8| [0.0f32, 1.0, 2.0, 3.0, f32::NAN][usize::from(n)];
            let members = Array3::from_shape_fn((count, 3, 4), |(m, y, x)| value(values[m * 12 + y * 4 + x]));
            let observed = Array2::from_shape_fn((3, 4), |(y, x)| value(values[48 + y * 4 + x]));
            let (mut field, mut cells) = (ProbabilityTable::default(), ProbabilityTable::default());
            field.add(members.view(), observed.view(), EVENT);
            for ((y, x), o) in observed.indexed_iter() {
                cells.add_case(&members.slice(s![.., y, x]).to_vec(), *o, EVENT);
            }
            prop_assert_eq!(field, cells);
        }

        #[test]
        fn the_parts_of_the_brier_score_add_up_to_it(cases in cases()) {
            let mut brier = Brier::default();
            cases.iter().for_each(|(members, y)| brier.add_case(members.iter().copied(), *y, EVENT));
            let table = table(&cases);
            prop_assert_eq!(table.brier().is_some(), brier.biased().is_some());
            if let (Some(brier), Some([reliability, resolution, uncertainty])) = (brier.biased(), table.murphy()) {
                prop_assert!((table.brier().unwrap() - brier).abs() < 1e-12);
                prop_assert!((reliability - resolution + uncertainty - brier).abs() < 1e-12);
            }
        }

        #[test]
        fn the_area_is_how_often_an_event_has_the_higher_probability(cases in cases()) {
            let table = table(&cases);
            let (mut wins, mut pairs) = (0.0, 0.0);
            for a in table.bins() {
                for b in table.bins() {
                    let n = (a.events * b.others) as f64;
                    let half = f64::from(a.probability == b.probability) / 2.0;
                    wins += n * (f64::from(a.probability > b.probability) + half);
                    pairs += n;
                }
            }
            prop_assert_eq!(table.roc_area().is_some(), pairs > 0.0);
            if let Some(area) = table.roc_area() {
                prop_assert!((area - wins / pairs).abs() < 1e-12);
            }
        }
    }

    /// Of 10 members of the radar of 2015-05-15, of which so many have the event (1 mm in 5 minutes): how often it happened
    /// and did not.
    const RADAR: [[usize; 2]; 11] = [
        [199, 310_723],
        [93, 1514],
        [65, 672],
        [48, 274],
        [57, 124],
        [34, 53],
        [38, 71],
        [27, 58],
        [21, 27],
        [33, 13],
        [104, 7],
    ];

    #[test]
    fn golden_areas_under_the_roc_curve() {
        let mut table = ProbabilityTable::default();
        for (yes, [events, others]) in RADAR.iter().enumerate() {
            let mut members = [0.0; 10];
            members[..yes].fill(3.0);
            (0..*events).for_each(|_| table.add_case(&members, 2.0, EVENT));
            (0..*others).for_each(|_| table.add_case(&members, 0.0, EVENT));
        }
        assert_eq!(table.count(), 314_255);
        let area = table.roc_area().unwrap();
        assert!((area - 387_291_919.0 / 450_864_768.0).abs() < 1e-12, "{area}");
        // pysteps has ten thresholds by default, k / 9: none of them tells one member from two.
        let mut curve = table.roc().unwrap();
        curve.remove(curve.len() - 2);
        let area: f64 = curve.windows(2).map(|ends| (ends[1].0 - ends[0].0) * (ends[0].1 + ends[1].1) / 2.0).sum();
        assert!((area - 59_782_661.0 / 75_144_128.0).abs() < 1e-12 && (area - 0.79557329).abs() < 1e-8, "{area}");
    }

    #[test]
    fn perfect_alarms_have_value_1_and_no_event_has_none() {
        let perfect = table(&[(vec![3.0, 3.0], 3.0), (vec![0.0, 0.0], 0.0), (vec![0.0, 1.0], 1.0)]);
        for cost_loss in [0.1, 0.5, 0.9] {
            assert!((perfect.economic_value(cost_loss).unwrap() - 1.0).abs() < 1e-12);
        }
        assert_eq!(perfect.roc_area(), Some(1.0));
        let quiet = table(&[(vec![0.0], 0.0)]);
        assert_eq!((quiet.roc_area(), quiet.economic_value(0.5), quiet.count()), (None, None, 1));
    }
}
