//! Heads of domains in a training: parted, taken, averaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Kind, Tensor};

use super::super::domains::{self, Phase};
use super::{Trainer, copy_into};

impl Trainer {
    /// The averaged weights, f32, by name; where domains have heads of their own, with the mean of these.
    pub fn averaged(&self) -> BTreeMap<String, Tensor> {
        let weights = self.average.weights();
        let parted = self.is_parted();
        let of = |name: &String, weight: &Tensor| {
            let heads: Vec<Tensor> = match parted && domains::is_of_head(name) {
                true => self.domains.iter().map(|d| weights[&domains::of_domain(name, d)].shallow_clone()).collect(),
                false => Vec::new(),
            };
            if heads.is_empty() {
                weight.shallow_clone()
            } else {
                Tensor::stack(&heads, 0).mean_dim(0, false, Kind::Float)
            }
        };
        let plain = weights.iter().filter(|(name, _)| domains::of_all(name) == *name);
        plain.map(|(name, weight)| (name.clone(), of(name, weight))).collect()
    }

    /// The averaged weights of each domain that has a head of its own.
    pub fn averaged_by_domain(&self) -> Vec<(Arc<str>, BTreeMap<String, Tensor>)> {
        let (weights, parted) = (self.average.weights(), self.is_parted());
        let of = |domain: &Arc<str>| {
            let head = |name: &String| weights.get(&domains::of_domain(name, domain)).map(Tensor::shallow_clone);
            let own = |(name, weight): (String, Tensor)| (head(&name).unwrap_or(weight), name);
            let weights = self.averaged().into_iter().map(own).map(|(weight, name)| (name, weight)).collect();
            (domain.clone(), weights)
        };
        self.domains.iter().filter(|_| parted).map(of).collect()
    }

    /// What a step (from 0) trains.
    pub(super) fn phase(&self, step: u64) -> Phase {
        let training = &self.task.training;
        training.domains.as_ref().map_or(Phase::Together, |domains| domains.phase(step, training.steps))
    }

    /// Whether a step has been done with heads of domains; until then theirs mean nothing.
    fn is_parted(&self) -> bool {
        self.step.checked_sub(1).is_some_and(|last| self.phase(last) != Phase::Together)
    }

    /// Each domain's head becomes the common one.
    pub(super) fn part_heads(&mut self) {
        for domain in &self.domains {
            for weights in [self.parameters.named_mut(), self.average.weights_mut()] {
                let heads: BTreeMap<_, _> = heads_of(weights, domain).into_iter().collect();
                copy_into(weights, &heads);
            }
        }
    }

    /// The working copy has the head of a domain.
    pub(super) fn take_head(&mut self, domain: &Arc<str>) {
        let own = self.working.variables().keys().filter(|name| domains::is_of_head(name));
        let of = |name: &String| self.parameters.named()[&domains::of_domain(name, domain)].shallow_clone();
        let own = own.map(|name| (name.clone(), of(name))).collect();
        copy_into(self.working.variables_mut(), &own);
    }
}

/// The parameters of the common head, as those of a domain.
pub(super) fn heads_of(parameters: &BTreeMap<String, Tensor>, domain: &Arc<str>) -> Vec<(String, Tensor)> {
    let common = parameters.iter().filter(|(name, _)| domains::of_all(name) == *name && domains::is_of_head(name));
    common.map(|(name, value)| (domains::of_domain(name, domain), value.copy())).collect()
}
