//! The copy of the parameters that networks compute in.

use std::collections::BTreeMap;

use tch::{Tensor, nn};

use super::super::flat::Flat;

/// The variables of networks, moved into buffers in which they lie as the parameters do: a buffer is renewed by one copy.
#[derive(Debug)]
pub(super) struct Working {
    variables: BTreeMap<String, Tensor>,
    /// Each with the place in the parameters' buffer where its values start.
    buffers: Vec<(Tensor, i64)>,
}

impl Working {
    /// Of stores whose variables are the first parameters, store by store, each in the order of their names.
    pub(super) fn new(stores: [&nn::VarStore; 2], parameters: &Flat) -> Self {
        let (mut variables, mut buffers, mut first) = (BTreeMap::new(), Vec::new(), 0);
        for store in stores {
            let own: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
            let range = parameters.range(first..first + own.len());
            first += own.len();
            // Variables of one store are of one type.
            if let Some(kind) = own.values().next().map(Tensor::kind) {
                let length = range.end - range.start;
                let buffer = parameters.values().narrow(0, range.start, length).to_kind(kind).copy();
                variables.extend(own.into_iter().map(|(name, mut variable)| {
                    if let Some(start) = parameters.start(&name) {
                        let count = variable.numel() as i64;
                        let place = buffer.narrow(0, start - range.start, count).reshape(variable.size());
                        variable.set_data(&place);
                    }
                    (name, variable)
                }));
                buffers.push((buffer, range.start));
            }
        }
        Self { variables, buffers }
    }

    /// The variables, by name.
    pub(super) fn variables(&self) -> &BTreeMap<String, Tensor> {
        &self.variables
    }

    /// The same, to be written to.
    pub(super) fn variables_mut(&mut self) -> &mut BTreeMap<String, Tensor> {
        &mut self.variables
    }

    /// Copies the parameters.
    pub(super) fn renew(&mut self, parameters: &Flat) {
        tch::no_grad(|| {
            for (buffer, start) in &mut self.buffers {
                let count = buffer.numel() as i64;
                buffer.copy_(&parameters.values().narrow(0, *start, count));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::copies;
    use super::*;

    #[test]
    fn networks_compute_in_the_parameters_that_were_copied_last() {
        let (exact, mut store) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
        let ours = exact.root().ones("z", &[3]);
        let theirs = [store.root().ones("b", &[2, 2]), store.root().zeros("a", &[5])];
        let mut parameters = copies(&exact);
        parameters.extend(copies(&store));
        parameters.push(("a@domain".to_owned(), Tensor::ones([5], (Kind::Float, Device::Cpu))));
        let mut parameters = Flat::ordered(&parameters);
        store.bfloat16();
        let mut working = Working::new([&exact, &store], &parameters);
        assert_eq!(working.variables().keys().collect::<Vec<_>>(), ["a", "b", "z"]);
        assert_eq!((ours.kind(), theirs[0].kind()), (Kind::Float, Kind::BFloat16));
        assert_eq!(theirs[1].sum(Kind::Float).double_value(&[]), 0.0);
        tch::no_grad(|| {
            for (name, value) in [("a", 2.0), ("b", 3.0), ("z", 4.0)] {
                let _ = parameters.named_mut().get_mut(name).unwrap().fill_(value);
            }
        });
        working.renew(&parameters);
        let sums = [&ours, &theirs[0], &theirs[1]].map(|tensor| tensor.sum(Kind::Float).double_value(&[]));
        assert_eq!(sums, [12.0, 12.0, 10.0]);
        // They are still variables.
        let loss = (&ours.square().sum(Kind::Float) + theirs[0].to_kind(Kind::Float).sum(Kind::Float)) * 1.0;
        let inputs: Vec<&Tensor> = working.variables().values().collect();
        let gradients = Tensor::run_backward(&[&loss], &inputs, false, false);
        assert!(!gradients[0].defined());
        assert_eq!((gradients[1].kind(), gradients[1].size()), (Kind::BFloat16, vec![2, 2]));
        assert_eq!(gradients[2].sum(Kind::Float).double_value(&[]), 24.0);
    }
}
