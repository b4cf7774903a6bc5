//! D-Train (Wang et al. 2023): one backbone for the data of several domains, such as radars, and a head for each.
//!
//! All domains are trained together first, with one head (*pre-training*). Then each has a head of its own, which starts as the
//! common one, and batches come from one domain after the other (*post-training*). In the end the backbone stays as it is and
//! the heads are trained alone (*fine-tuning*), so that no domain pulls at what another uses. What comes out is one ordinary
//! model a domain, and one for data of none of them, whose head is the mean of all.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Task;
use super::data::Archive;
use crate::network::config::UNET_PREFIX;

/// When heads are parted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DomainsConfig {
    /// Share of the steps after which each domain has its own head.
    pub heads_from: f64,
    /// Share of the steps after which heads are trained alone.
    pub heads_alone_from: f64,
}

impl Default for DomainsConfig {
    fn default() -> Self {
        Self { heads_from: 0.5, heads_alone_from: 0.8 }
    }
}

/// What is trained at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Backbone and one head, by all domains.
    Together,
    /// Backbone and the head of one domain.
    Heads,
    /// The head of one domain.
    HeadsAlone,
}

impl DomainsConfig {
    /// What is wrong with it, one sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let rising = 0.0 <= self.heads_from && self.heads_from <= self.heads_alone_from && self.heads_alone_from <= 1.0;
        if rising { Vec::new() } else { vec!["0 <= domains.heads_from <= heads_alone_from <= 1 must hold".to_owned()] }
    }

    /// The first step of heads.
    pub(super) fn first(&self, steps: u64) -> u64 {
        (self.heads_from * steps as f64).ceil() as u64
    }

    /// What a step (from 0) trains.
    pub fn phase(&self, step: u64, steps: u64) -> Phase {
        match step {
            step if step < self.first(steps) => Phase::Together,
            step if (step as f64) < self.heads_alone_from * steps as f64 => Phase::Heads,
            _ => Phase::HeadsAlone,
        }
    }
}

/// The domain of an archive that a batch comes from; none where all are trained together.
pub(super) fn of_batch(task: &Task, archive: &Archive, index: u64) -> Option<usize> {
    let training = &task.training;
    let phase = training.domains.as_ref()?.phase(index / training.accumulate.max(1) as u64, training.steps);
    (phase != Phase::Together).then(|| index as usize % archive.domains().len().max(1))
}

/// Whether a parameter is of the head.
pub(super) fn is_of_head(name: &str) -> bool {
    name.strip_prefix(UNET_PREFIX).is_some_and(|rest| rest.starts_with(".out."))
}

/// Name of a head's parameter in a domain.
pub(super) fn of_domain(name: &str, domain: &Arc<str>) -> String {
    format!("{name}@{domain}")
}

/// The same without the domain.
pub(super) fn of_all(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_trained_together_then_with_heads_then_heads_alone() {
        let config = DomainsConfig { heads_from: 0.25, heads_alone_from: 0.75 };
        let phases: Vec<Phase> = (0..8).map(|step| config.phase(step, 8)).collect();
        use Phase::{Heads, HeadsAlone, Together};
        assert_eq!(phases, [Together, Together, Heads, Heads, Heads, Heads, HeadsAlone, HeadsAlone]);
        assert_eq!((config.first(8), config.faults().len()), (2, 0));
        assert_eq!(DomainsConfig { heads_from: 0.9, heads_alone_from: 0.5 }.faults().len(), 1);
    }

    #[test]
    fn a_parameter_of_a_head_has_a_name_in_each_domain() {
        let name = format!("{UNET_PREFIX}.out.2.weight");
        let finland = of_domain(&name, &"fmi".into());
        assert!(is_of_head(&name) && is_of_head(&finland) && finland != name);
        assert_eq!((of_all(&finland), of_all(&name)), (name.as_str(), name.as_str()));
        assert!(!is_of_head(&format!("{UNET_PREFIX}.output_blocks.0.0.bias")));
    }
}
