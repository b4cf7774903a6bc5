//! Scores of several models side by side, by lead.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, ArrayView3};
use squall_fields::LeadTime;

use super::score::{AnyScore, Pair};

/// Every score of every model at every lead.
///
/// A model is judged on the pairs that it is given; [`common`] makes observations that are fair to several at once.
///
/// ```
/// use ndarray::{Array2, Array3};
/// use squall_fields::LeadTime;
/// use squall_models::scores::{Pair, Scoreboard, list};
///
/// let mut board = Scoreboard::new(list::start(&["crps", "csi"], &vec![1.0].into()).unwrap());
/// let model = board.enter("dry");
/// let (dry, wet) = (Array3::zeros((2, 4, 4)), Array2::from_elem((4, 4), 2.0));
/// board.add(model, LeadTime::from_seconds(300), &Pair::new(dry.view(), wet.view()));
/// assert_eq!(board.value(model, LeadTime::from_seconds(300), 0), Some(2.0));
/// assert_eq!(board.pooled(model, 1), Some(0.0));
/// ```
#[derive(Clone, Debug)]
pub struct Scoreboard {
    /// Empty sums of each score, in the order of a table.
    empty: Vec<Box<dyn AnyScore>>,
    models: Vec<Entry>,
}

/// The scores of one model.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    leads: BTreeMap<LeadTime, Vec<Box<dyn AnyScore>>>,
}

impl Scoreboard {
    /// Of scores that are all empty, and no model yet.
    pub fn new(scores: Vec<Box<dyn AnyScore>>) -> Self {
        Self { empty: scores, models: Vec::new() }
    }

    /// Adds a model and says which number it has, counted from 0.
    pub fn enter(&mut self, name: &str) -> usize {
        self.models.push(Entry { name: name.to_owned(), leads: BTreeMap::new() });
        self.models.len() - 1
    }

    /// Takes a forecast of a model at a lead, and what came.
    pub fn add(&mut self, model: usize, lead: LeadTime, pair: &Pair<'_>) {
        let scores = self.models[model].leads.entry(lead).or_insert_with(|| self.empty.clone());
        scores.iter_mut().for_each(|score| score.add(pair));
    }

    /// The names of the models, in the order of their numbers.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &str> {
        self.models.iter().map(|entry| entry.name.as_str())
    }

    /// The scores that it keeps, empty.
    pub fn scores(&self) -> &[Box<dyn AnyScore>] {
        &self.empty
    }

    /// The number of the score that a table calls so, such as `CRPS`; of several, the first.
    pub fn score(&self, name: &str) -> Option<usize> {
        self.empty.iter().position(|score| score.name() == name)
    }

    /// The leads at which any model was judged, ascending.
    pub fn leads(&self) -> Vec<LeadTime> {
        let mut leads: Vec<LeadTime> = self.models.iter().flat_map(|entry| entry.leads.keys().copied()).collect();
        leads.sort_unstable();
        leads.dedup();
        leads
    }

    /// A score of a model at a lead.
    pub fn value(&self, model: usize, lead: LeadTime, score: usize) -> Option<f64> {
        self.models[model].leads.get(&lead)?[score].finish()
    }

    /// A score of a model over all leads.
    pub fn pooled(&self, model: usize, score: usize) -> Option<f64> {
        self.all_leads(model, score).finish()
    }

    /// The sums of a score of a model over all leads.
    pub fn all_leads(&self, model: usize, score: usize) -> Box<dyn AnyScore> {
        let mut all = self.empty[score].clone();
        self.models[model].leads.values().for_each(|scores| all.merge(&*scores[score]));
        all
    }

    /// The sums of a score of a model at a lead, if it was judged there.
    pub fn at_lead(&self, model: usize, lead: LeadTime, score: usize) -> Option<&dyn AnyScore> {
        Some(&*self.models[model].leads.get(&lead)?[score])
    }

    /// Whether a score has counted anything for any model.
    pub fn has_any(&self, score: usize) -> bool {
        (0..self.models.len()).any(|model| self.has(model, score))
    }

    /// Takes the sums of another board of the same scores and models.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.models.iter_mut().zip(&other.models) {
            for (lead, more) in &other.leads {
                let scores = own.leads.entry(*lead).or_insert_with(|| self.empty.clone());
                scores.iter_mut().zip(more).for_each(|(score, more)| score.merge(&**more));
            }
        }
    }

    /// Whether a score has counted anything for a model; the spread of a single member never does.
    pub fn has(&self, model: usize, score: usize) -> bool {
        self.models[model].leads.values().any(|scores| scores[score].count() > 0.0)
    }
}

/// An observation `[y, x]`, NaN wherever a member of any of these ensembles `[member, y, x]` is: judged by it, all of
/// them are judged on the same cells.
pub fn common<'a>(observed: ArrayView2<'_, f32>, ensembles: impl Iterator<Item = ArrayView3<'a, f32>>) -> Array2<f32> {
    let mut common = observed.to_owned();
    for ensemble in ensembles {
        for member in ensemble.outer_iter() {
            common.zip_mut_with(&member, |observed, forecast| {
                if forecast.is_nan() {
                    *observed = f32::NAN;
                }
            });
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::scores::list;

    #[test]
    fn boards_of_parts_merge_to_the_board_of_the_whole() {
        let empty = || Scoreboard::new(list::start(&["crps", "csi"], &vec![1.0].into()).unwrap());
        let lead = |step: i64| LeadTime::from_seconds(300 * step);
        let (members, observed) = (|v: f32| Array3::from_elem((2, 3, 3), v), Array2::from_elem((3, 3), 2.0));
        let (mut whole, mut merged) = (empty(), empty());
        for board in [&mut whole, &mut merged] {
            board.enter("model");
        }
        for (step, value) in [(1, 0.0), (2, 1.0), (2, 5.0)] {
            let mut part = empty();
            part.enter("model");
            let members = members(value);
            [&mut whole, &mut part]
                .into_iter()
                .for_each(|board| board.add(0, lead(step), &Pair::new(members.view(), observed.view())));
            merged.merge(&part);
        }
        assert_eq!(merged.leads(), whole.leads());
        for score in 0..2 {
            assert_eq!(merged.pooled(0, score), whole.pooled(0, score));
            assert_eq!(merged.value(0, lead(2), score), whole.value(0, lead(2), score));
        }
        assert_eq!(merged.at_lead(0, lead(2), 0).map(AnyScore::count), Some(18.0));
        assert!(merged.at_lead(0, lead(3), 0).is_none());
    }
}
