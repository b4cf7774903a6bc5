//! Tensors side by side in one buffer: what is done to all of them takes a few kernels, not a few for each.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

/// Each tensor starts at a multiple of so many values, as kernels of convolutions and products like it best.
const ALIGNED: i64 = 64;
/// Norms are taken row by row, then of the rows: a sum of millions of numbers in f32 would lose the small ones.
const ROW: i64 = 4096;

/// Where a tensor lies.
#[derive(Debug)]
struct Place {
    name: String,
    size: Vec<i64>,
    from: i64,
    count: i64,
    /// Where the next one starts: what lies between stays zero.
    until: i64,
}

/// Where each lies.
#[derive(Debug)]
struct Layout {
    places: Vec<Place>,
    numbers: BTreeMap<String, usize>,
    length: i64,
}

impl Layout {
    fn new(tensors: &[(String, Tensor)]) -> Self {
        let mut places: Vec<Place> = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let (size, from) = (tensor.size(), places.last().map_or(0, |place| place.until));
            let count: i64 = size.iter().product();
            places.push(Place { name: name.clone(), size, from, count, until: up_to(from + count, ALIGNED) });
        }
        let numbers = places.iter().enumerate().map(|(number, place)| (place.name.clone(), number)).collect();
        let length = up_to(places.last().map_or(0, |place| place.until), ROW);
        Self { places, numbers, length }
    }
}

/// The next multiple.
const fn up_to(count: i64, multiple: i64) -> i64 {
    (count + multiple - 1) / multiple * multiple
}

/// Tensors of f32 in one buffer, each to be had by its name: what is written to one is written to the buffer.
#[derive(Debug)]
pub struct Flat {
    layout: Arc<Layout>,
    values: Tensor,
    named: BTreeMap<String, Tensor>,
}

impl Flat {
    /// Copies, in the order of their names.
    pub fn of(tensors: &BTreeMap<String, Tensor>) -> Self {
        let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        Self::ordered(&tensors.collect::<Vec<_>>())
    }

    /// Copies, in this order.
    pub(super) fn ordered(tensors: &[(String, Tensor)]) -> Self {
        let device = tensors.first().map_or(Device::Cpu, |(_, tensor)| tensor.device());
        let mut flat = Self::zeros(Arc::new(Layout::new(tensors)), device);
        tch::no_grad(|| {
            for (name, tensor) in tensors {
                if let Some(view) = flat.named.get_mut(name) {
                    view.copy_(tensor);
                }
            }
        });
        flat
    }

    /// Zeros for the same names.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        Self::zeros(self.layout.clone(), self.values.device())
    }

    /// The same values in a buffer of their own.
    #[must_use]
    pub fn copied(&self) -> Self {
        let mut copy = self.zeros_like();
        tch::no_grad(|| copy.values.copy_(&self.values));
        copy
    }

    fn zeros(layout: Arc<Layout>, device: Device) -> Self {
        let values = Tensor::zeros([layout.length], (Kind::Float, device));
        let view = |place: &Place| values.narrow(0, place.from, place.count).reshape(&place.size);
        let named = tch::no_grad(|| layout.places.iter().map(|place| (place.name.clone(), view(place))).collect());
        Self { layout, values, named }
    }

    /// Views of the tensors, by name.
    pub fn named(&self) -> &BTreeMap<String, Tensor> {
        &self.named
    }

    /// The same, to be written to. None may be replaced.
    pub(super) fn named_mut(&mut self) -> &mut BTreeMap<String, Tensor> {
        &mut self.named
    }

    /// A view of the whole buffer.
    pub(super) fn values(&self) -> &Tensor {
        &self.values
    }

    /// How many tensors it holds.
    pub fn len(&self) -> usize {
        self.layout.places.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.layout.places.is_empty()
    }

    /// Names and numbers of the tensors, in order of the names; a number is a place in the order of the buffer.
    pub(super) fn numbers(&self) -> &BTreeMap<String, usize> {
        &self.layout.numbers
    }

    /// The values of a buffer that these tensors and what is free between them take.
    pub(super) fn range(&self, numbers: Range<usize>) -> Range<i64> {
        let places = &self.layout.places[numbers];
        places.first().map_or(0, |place| place.from)..places.last().map_or(0, |place| place.until)
    }

    /// Where the values of a tensor start, by its name.
    pub(super) fn start(&self, name: &str) -> Option<i64> {
        self.layout.numbers.get(name).map(|number| self.layout.places[*number].from)
    }

    /// `end` counts for a share: `self <- (1 - share) * self + share * end`, of flat tensors of the same names.
    pub(super) fn approach(&mut self, end: &Self, share: f64) {
        tch::no_grad(|| drop(self.values.lerp_(&end.values, share)));
    }
}

/// Sums of gradients in f32. A parameter that had none is left as it is by a step, which one whose gradient is zero is not.
#[derive(Debug)]
pub struct Gradients {
    sums: Flat,
    present: Vec<bool>,
}

impl Gradients {
    /// None yet, of these parameters.
    pub fn none(parameters: &Flat) -> Self {
        Self { sums: parameters.zeros_like(), present: vec![false; parameters.len()] }
    }

    /// Adds the gradients of some parameters, of any float type. Names that are no parameter's are ignored.
    pub fn add(&mut self, gradients: impl IntoIterator<Item = (String, Tensor)>) {
        let numbered = |(name, gradient): (String, Tensor)| Some((*self.sums.numbers().get(&name)?, gradient));
        let mut gradients: Vec<(usize, Tensor)> = gradients.into_iter().filter_map(numbered).collect();
        gradients.sort_by_key(|(number, _)| *number);
        tch::no_grad(|| {
            for run in gradients.chunk_by(|(a, one), (b, next)| a + 1 == *b && one.kind() == next.kind()) {
                let range = self.sums.range(run[0].0..run[run.len() - 1].0 + 1);
                let mut sum = self.sums.values.narrow(0, range.start, range.end - range.start);
                let _ = sum.g_add_(&self.joined(run));
            }
        });
        gradients.iter().for_each(|(number, _)| self.present[*number] = true);
    }

    /// Neighbours as they lie in the buffer.
    fn joined(&self, run: &[(usize, Tensor)]) -> Tensor {
        let free = Tensor::zeros([ALIGNED], (run[0].1.kind(), run[0].1.device()));
        let mut parts = Vec::with_capacity(run.len());
        for (number, gradient) in run {
            let place = &self.sums.layout.places[*number];
            parts.push(gradient.flatten(0, -1));
            if place.until > place.from + place.count {
                parts.push(free.narrow(0, 0, place.until - place.from - place.count));
            }
        }
        Tensor::cat(&parts, 0).to_kind(Kind::Float)
    }

    /// The norm of all of them together, one number on their device.
    pub fn norm(&self) -> Tensor {
        tch::no_grad(|| self.sums.values.reshape([-1, ROW]).norm_scalaropt_dim(2.0, [1], false).norm())
    }

    /// The sum of a parameter that had a gradient.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let number = *self.sums.numbers().get(name)?;
        if self.present[number] { self.sums.named.get(name) } else { None }
    }

    /// Which had a gradient, in the order of the buffer.
    pub(super) fn present(&self) -> &[bool] {
        &self.present
    }

    /// A view of all sums.
    pub(super) fn values(&self) -> &Tensor {
        &self.sums.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> BTreeMap<String, Tensor> {
        let of = |count: i64, first: f64| Tensor::arange(count, (Kind::Float, Device::Cpu)) + first;
        let named = [("a", of(6, 1.0).reshape([2, 3])), ("b", of(64, 10.0)), ("c", of(1, -3.0).squeeze())];
        named.map(|(name, tensor)| (name.to_owned(), tensor)).into()
    }

    #[test]
    fn a_view_of_a_buffer_is_the_tensor_that_went_in_and_writes_to_the_buffer() {
        let (tensors, mut flat) = (tensors(), Flat::of(&tensors()));
        assert!(flat.named().iter().eq(tensors.iter()) && flat.len() == 3 && !flat.is_empty());
        let before = flat.copied();
        let _ = tch::no_grad(|| flat.named_mut().get_mut("b").unwrap().fill_(7.0));
        let sum = |flat: &Flat| flat.values().sum(Kind::Double).double_value(&[]);
        assert_eq!(sum(&before) - sum(&flat), (0..64).map(|i| f64::from(i) + 3.0).sum::<f64>());
        assert_eq!((flat.named()["a"].size(), flat.start("b"), flat.range(1..3)), (vec![2, 3], Some(64), 64..192));
        assert_eq!(sum(&flat.zeros_like()), 0.0);
    }

    #[test]
    fn gradients_add_up_where_their_parameters_lie_and_others_have_none() {
        let mut gradients = Gradients::none(&Flat::of(&tensors()));
        let all = tensors();
        let of = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), all[*n].shallow_clone())).collect::<Vec<_>>();
        gradients.add(of(&["c", "a"]));
        let half = all["a"].to_kind(Kind::BFloat16);
        gradients.add([("a".to_owned(), half), ("of nobody".to_owned(), Tensor::from(1f32))]);
        assert_eq!(*gradients.get("a").unwrap(), &all["a"] * 2.0);
        assert_eq!(*gradients.get("c").unwrap(), all["c"]);
        assert!(gradients.get("b").is_none() && gradients.present() == [true, false, true]);
        let expected = (4.0 * (1..7).map(|i| f64::from(i * i)).sum::<f64>() + 9.0).sqrt();
        assert!((gradients.norm().double_value(&[]) - expected).abs() < 1e-5 * expected);
    }
}
