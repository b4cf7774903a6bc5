//! What a score is, as far as a board of scores is concerned.

use std::any::Any;
use std::fmt::Debug;
use std::sync::OnceLock;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayView3, Axis};

use super::statistics::Sums;

/// A forecast of one variable at one lead, and what came.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// `[member, y, x]`, at least one member.
    pub members: ArrayView3<'a, f32>,
    /// `[y, x]`; NaN where nothing was observed or where the forecast shall not be judged.
    pub observed: ArrayView2<'a, f32>,
    /// `[y, x]`, of guided models: where the forecast is sure of itself.
    pub precision: Option<ArrayView2<'a, f32>>,
    /// Of a vector, such as wind, its second component: members and what came, in the shapes of the first.
    pub second: Option<(ArrayView3<'a, f32>, ArrayView2<'a, f32>)>,
    mean: OnceLock<Array2<f32>>,
}

impl<'a> Pair<'a> {
    /// Without a precision map.
    pub fn new(members: ArrayView3<'a, f32>, observed: ArrayView2<'a, f32>) -> Self {
        Self { members, observed, precision: None, second: None, mean: OnceLock::new() }
    }

    /// With a precision map, if there is one.
    #[must_use]
    pub fn with_precision(self, precision: Option<ArrayView2<'a, f32>>) -> Self {
        Self { precision, ..self }
    }

    /// With the second component of a vector, of which `self` has the first.
    #[must_use]
    pub fn with_second(self, members: ArrayView3<'a, f32>, observed: ArrayView2<'a, f32>) -> Self {
        debug_assert!(members.dim() == self.members.dim() && observed.dim() == self.observed.dim(), "of one shape");
        Self { second: Some((members, observed)), ..self }
    }

    /// Mean of the members, `[y, x]`; computed once.
    pub fn mean(&self) -> &Array2<f32> {
        // Summed in f64: equal members have the mean that they are, and no event is lost by a last bit.
        let count = self.members.len_of(Axis(0)) as f64;
        let of = |lane: ArrayView1<'_, f32>| (lane.iter().map(|v| f64::from(*v)).sum::<f64>() / count) as f32;
        self.mean.get_or_init(|| self.members.map_axis(Axis(0), of))
    }

    /// The first member, `[y, x]`: the control, which a mean would smooth.
    pub fn control(&self) -> ArrayView2<'_, f32> {
        self.members.index_axis(Axis(0), 0)
    }
}

/// A number that follows from the sums of a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its name in files, such as `crps_fair`.
    pub score: &'static str,
    /// What it is of, in cells, where a score has several: a wavelength.
    pub scale: Option<f64>,
    /// The number; `None` where it cannot be computed.
    pub value: Option<f64>,
}

impl Value {
    /// Without a scale of its own.
    pub fn new(score: &'static str, value: Option<f64>) -> Self {
        Self { score, scale: None, value }
    }
}

/// A score as a monoid: sums that start empty, take pairs, merge in any grouping, and give a number at the very end.
///
/// The value of a type is the sums; a new one, such as [`Default`] gives, is empty. A new score is a file with this
/// trait for its sums, and a line in [`super::list`].
pub trait Score: Sums + Clone + Debug + Send + Sync + 'static {
    /// Name in tables, such as `CRPS`.
    fn name(&self) -> &'static str;

    /// The threshold of its event, in the unit of the variable.
    fn threshold(&self) -> Option<f32> {
        None
    }

    /// The side of its windows in cells.
    fn scale(&self) -> Option<usize> {
        None
    }

    /// Whether its number has the unit of the variable.
    fn has_unit(&self) -> bool {
        false
    }

    /// Whether it judges vectors: of a pair without a second component it counts nothing.
    fn is_of_vectors(&self) -> bool {
        false
    }

    /// Whether it needs a whole field, beyond its windows: places without neighbours have no spectrum.
    fn is_of_neighbours(&self) -> bool {
        false
    }

    /// Whether it says something about each lead; otherwise it is of all leads together.
    fn is_by_lead(&self) -> bool {
        true
    }

    /// Takes a forecast and what came. What is missing in either does not count.
    fn add(&mut self, pair: &Pair<'_>);

    /// Takes the sums of another, which started as this one did.
    fn merge(&mut self, other: &Self);

    /// How many cases counted.
    fn count(&self) -> f64;

    /// The number; `None` where it cannot be computed.
    fn finish(&self) -> Option<f64>;

    /// All numbers that follow from the sums, always the same ones in the same order (but for wavelengths).
    fn values(&self) -> Vec<Value>;
}

/// Any [`Score`], so that a board can hold those of several kinds.
pub trait AnyScore: Sums + Debug + Send + Sync {
    /// See [`Score::name`].
    fn name(&self) -> &'static str;
    /// See [`Score::threshold`].
    fn threshold(&self) -> Option<f32>;
    /// See [`Score::scale`].
    fn scale(&self) -> Option<usize>;
    /// See [`Score::has_unit`].
    fn has_unit(&self) -> bool;
    /// See [`Score::is_of_vectors`].
    fn is_of_vectors(&self) -> bool;
    /// See [`Score::is_of_neighbours`].
    fn is_of_neighbours(&self) -> bool;
    /// See [`Score::is_by_lead`].
    fn is_by_lead(&self) -> bool;
    /// See [`Score::add`].
    fn add(&mut self, pair: &Pair<'_>);
    /// See [`Score::merge`].
    ///
    /// # Panics
    /// If the other is a score of another kind.
    fn merge(&mut self, other: &dyn AnyScore);
    /// See [`Score::count`].
    fn count(&self) -> f64;
    /// See [`Score::finish`].
    fn finish(&self) -> Option<f64>;
    /// See [`Score::values`].
    fn values(&self) -> Vec<Value>;
    /// A copy.
    fn boxed(&self) -> Box<dyn AnyScore>;
    /// Itself, to be asked for its kind.
    fn as_any(&self) -> &dyn Any;
}

impl<S: Score> AnyScore for S {
    fn name(&self) -> &'static str {
        Score::name(self)
    }

    fn threshold(&self) -> Option<f32> {
        Score::threshold(self)
    }

    fn scale(&self) -> Option<usize> {
        Score::scale(self)
    }

    fn has_unit(&self) -> bool {
        Score::has_unit(self)
    }

    fn is_of_vectors(&self) -> bool {
        Score::is_of_vectors(self)
    }

    fn is_of_neighbours(&self) -> bool {
        Score::is_of_neighbours(self)
    }

    fn is_by_lead(&self) -> bool {
        Score::is_by_lead(self)
    }

    fn add(&mut self, pair: &Pair<'_>) {
        Score::add(self, pair);
    }

    fn merge(&mut self, other: &dyn AnyScore) {
        Score::merge(self, other.as_any().downcast_ref().expect("merged with a score of its own kind"));
    }

    fn count(&self) -> f64 {
        Score::count(self)
    }

    fn finish(&self) -> Option<f64> {
        Score::finish(self)
    }

    fn values(&self) -> Vec<Value> {
        Score::values(self)
    }

    fn boxed(&self) -> Box<dyn AnyScore> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Clone for Box<dyn AnyScore> {
    fn clone(&self) -> Self {
        (**self).boxed()
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;

    #[test]
    fn equal_members_have_the_mean_that_they_are() {
        let (members, observed) = (Array3::from_elem((24, 2, 2), 0.1f32), Array2::from_elem((2, 2), 0.1f32));
        assert_eq!(Pair::new(members.view(), observed.view()).mean(), &observed);
    }
}
