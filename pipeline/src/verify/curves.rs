//! Whole curves, where a table of scores has a number of each: reliability, ROC, economic value and rank histograms.

use std::sync::Arc;

use serde::Serialize;
use squall_models::scores::{Probability, RankHistogram, Score};

use super::tally::{Subject, Tally};

/// A point of a curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// From left to right.
    pub x: f64,
    /// From the bottom up.
    pub y: f64,
    /// Number of cases behind it.
    pub count: f64,
}

/// Costs of protection, as shares of the loss, in each power of ten: evenly spaced to the eye, as those who use a forecast
/// of what is rare have low ones.
const COSTS: [f64; 10] = [1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0];
/// Between these and 1 the curve falls steeply.
const HIGH_COSTS: [f64; 4] = [0.9, 0.95, 0.98, 0.99];
/// The curve begins here, or a power of ten below the base rate, but not below the last.
const LEAST_COSTS: [f64; 2] = [1e-3, 1e-6];

/// x is the forecast probability, y how often the event came, of each probability that was forecast.
pub fn reliability(of: &Probability) -> Vec<Point> {
    let point = |events: i64, others: i64, x| {
        let count = (events + others) as f64;
        Point { x, y: events as f64 / count, count }
    };
    of.table().bins().into_iter().map(|bin| point(bin.events, bin.others, bin.probability)).collect()
}

/// x is the false alarm rate, y the hit rate, when a warning is given from each probability on; nothing where the event
/// came always, or never.
pub fn roc(of: &Probability) -> Vec<Point> {
    let count = of.table().count() as f64;
    of.table().roc().into_iter().flatten().map(|(x, y)| Point { x, y, count }).collect()
}

/// x is the ratio of cost to loss, y the value; one of the points is at the base rate, where the value is largest.
pub fn economic_value(of: &Probability) -> Vec<Point> {
    let (table, count) = (of.table(), of.table().count() as f64);
    let ratios = table.base_rate().map(cost_loss_ratios).unwrap_or_default().into_iter();
    ratios.filter_map(|x| Some(Point { x, y: table.economic_value(x)?, count })).collect()
}

/// Ratios, rising, the base rate among them.
fn cost_loss_ratios(base_rate: f64) -> Vec<f64> {
    let least = (base_rate / 10.0).clamp(LEAST_COSTS[1], LEAST_COSTS[0]);
    // Divided, not multiplied: 0.001 shall be written so.
    let decades = [1e6, 1e5, 1e4, 1e3, 1e2, 1e1].into_iter();
    let spaced = decades.flat_map(|decade| COSTS.into_iter().map(move |cost| cost / decade));
    let mut ratios: Vec<f64> = spaced.filter(|ratio| *ratio >= least).chain(HIGH_COSTS).collect();
    ratios.extend(Some(base_rate).filter(|rate| *rate > 0.0 && *rate < 1.0));
    ratios.sort_by(f64::total_cmp);
    ratios.dedup();
    ratios
}

/// A curve of one subject, as it stands in files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The event, or `all`.
    pub event: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The quantity.
    pub variable: Arc<str>,
    /// Where.
    pub region: Arc<str>,
    /// Lead time in minutes.
    pub lead_minutes: f64,
    /// Threshold of its event, in the unit of the quantity.
    pub threshold: Option<f32>,
    /// From left to right, or in the order of falling probabilities.
    pub points: Vec<Point>,
}

/// A rank histogram of one subject, as it stands in files.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranks {
    /// The event, or `all`.
    pub event: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The quantity.
    pub variable: Arc<str>,
    /// Where.
    pub region: Arc<str>,
    /// Lead time in minutes.
    pub lead_minutes: f64,
    /// Size of the ensemble.
    pub members: u32,
    /// Cases with the observation below all members, then between each two of them, then above all; of ties a share each.
    pub ranks: Vec<f64>,
}

/// The curves of all subjects.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Curves {
    /// See [`reliability`].
    pub reliability: Vec<Curve>,
    /// See [`roc`].
    pub roc: Vec<Curve>,
    /// See [`economic_value`].
    pub economic_value: Vec<Curve>,
    /// One for each size of an ensemble.
    pub ranks: Vec<Ranks>,
}

impl Curves {
    /// Those of the sums of each subject, in the order of subjects and thresholds; one without points is left out.
    pub fn of(tally: &Tally) -> Self {
        let mut all = Self::default();
        for subject in tally.subjects() {
            for score in tally.scores(subject).unwrap_or_default() {
                if let Some(of) = score.as_any().downcast_ref::<Probability>() {
                    let lists = [&mut all.reliability, &mut all.roc, &mut all.economic_value];
                    for (list, points) in lists.into_iter().zip([reliability(of), roc(of), economic_value(of)]) {
                        list.extend((!points.is_empty()).then(|| curve(subject, Score::threshold(of), points)));
                    }
                }
                if let Some(of) = score.as_any().downcast_ref::<RankHistogram>() {
                    all.ranks.extend(of.sizes().into_iter().map(|members| ranks(subject, members, of.ranks(members))));
                }
            }
        }
        all
    }
}

fn curve(of: &Subject, threshold: Option<f32>, points: Vec<Point>) -> Curve {
    let Subject { event, model, variable, region, lead } = of.clone();
    Curve { event, model, variable, region, lead_minutes: lead.seconds() as f64 / 60.0, threshold, points }
}

fn ranks(of: &Subject, members: u32, ranks: Vec<f64>) -> Ranks {
    let Subject { event, model, variable, region, lead } = of.clone();
    Ranks { event, model, variable, region, lead_minutes: lead.seconds() as f64 / 60.0, members, ranks }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, Array3};
    use squall_fields::LeadTime;
    use squall_models::scores::list::{self, Settings};
    use squall_models::scores::{Pair, Statistics};

    use super::*;

    /// Four members of 40 x 50 cells, and an event in 6 of these.
    fn tally() -> Tally {
        let settings = Settings { thresholds: vec![1.0], ..Settings::default() };
        let empty = list::start(&["probability", "rank"], &settings).unwrap();
        let wet = |y: usize, x: usize| (y * 50 + x).is_multiple_of(397);
        let observed = Array2::from_shape_fn((40, 50), |(y, x)| if wet(y, x) { 2.0 } else { 0.0 });
        let members = Array3::from_shape_fn((4, 40, 50), |(m, y, x)| {
            let sure = match wet(y, x) {
                // One that nobody foresaw.
                true if x == 0 => 0,
                true => 3 - x % 2,
                false => (x * 7 + y) % 29 / 27,
            };
            if m < sure { 3.0 } else { 0.0f32 }
        });
        let mut scores = empty.clone();
        scores.iter_mut().for_each(|score| score.add(&Pair::new(members.view(), observed.view())));
        let mut tally = Tally::new(empty);
        let [event, model, variable, region] = ["all", "steps", "rain_rate", "domain"].map(Arc::from);
        let subject = Subject { event, model, variable, region, lead: LeadTime::from_seconds(1800) };
        tally.add(subject, &Statistics::of(&scores));
        tally
    }

    #[test]
    fn curves_say_the_numbers_that_the_scores_say() {
        let (tally, rows) = (tally(), tally().rows());
        let number = |name: &str| rows.iter().find(|row| row.score == name).and_then(|row| row.value).unwrap();
        let Curves { reliability, roc, economic_value, ranks } = Curves::of(&tally);
        let [bins, curve, value] = [&reliability, &roc, &economic_value].map(|list| {
            assert!(list.len() == 1 && list[0].lead_minutes == 30.0 && list[0].threshold == Some(1.0), "{list:?}");
            &list[0].points
        });
        let total: f64 = bins.iter().map(|bin| bin.count).sum();
        let squares = |bin: &Point| bin.count * (bin.y * (1.0 - bin.x).powi(2) + (1.0 - bin.y) * bin.x.powi(2));
        let brier = bins.iter().map(squares).sum::<f64>() / total;
        assert!((brier - number("brier")).abs() < 1e-12 && total == 2000.0);
        let area = |pair: &[Point]| (pair[1].x - pair[0].x) * (pair[0].y + pair[1].y) / 2.0;
        assert!((curve.windows(2).map(area).sum::<f64>() - number("roc_area")).abs() < 1e-12);
        let highest = value.iter().map(|point| point.y).fold(f64::NEG_INFINITY, f64::max);
        assert!((highest - number("economic_value_max")).abs() < 1e-12, "the peak is not cut");
        assert!(ranks.len() == 1 && ranks[0].members == 4 && ranks[0].ranks.len() == 5, "{ranks:?}");
        assert!((ranks[0].ranks.iter().sum::<f64>() - 2000.0).abs() < 1e-9);
    }

    #[test]
    fn cost_loss_ratios_reach_below_what_is_rare() {
        let ratios = cost_loss_ratios(0.003);
        assert!(ratios[0] <= 0.001 && ratios.contains(&0.003) && ratios.last() == Some(&0.99), "{ratios:?}");
        assert!(ratios.is_sorted() && ratios.windows(2).all(|pair| pair[1] / pair[0] < 1.3), "{ratios:?}");
        assert!(cost_loss_ratios(0.5)[0] == 0.001 && cost_loss_ratios(2e-5)[0] <= 2.5e-6);
        assert!(cost_loss_ratios(0.0)[0] == 1e-6 && cost_loss_ratios(1.0).last() == Some(&0.99));
    }
}
