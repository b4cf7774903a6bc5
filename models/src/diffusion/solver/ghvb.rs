//! Generalised heavy ball: Adams-Bashforth with momentum, of fractional order.

use std::collections::VecDeque;

use tch::Tensor;

use super::{Instant, Solver};

/// Order `K - 1 + beta`, 0 < beta <= 1: a K-step method whose velocity has the inertia `1 - beta`.
#[derive(Debug)]
pub struct Ghvb {
    most: usize,
    beta: f64,
    /// Newest first.
    velocities: VecDeque<Tensor>,
}

impl Ghvb {
    /// Of any order above 0 up to 4; a whole order has no inertia.
    pub fn new(order: f64) -> Self {
        let order = order.clamp(0.05, 4.0);
        let most = order.ceil();
        Self { most: most as usize, beta: order - (most - 1.0), velocities: VecDeque::new() }
    }

    /// Factors of the velocities, newest first, for as many as are known.
    fn weights(&self) -> Vec<f64> {
        let b = self.beta;
        match self.velocities.len() {
            0 | 1 => vec![b],
            2 => vec![(2.0 + b) / 2.0, -(2.0 - b) / 2.0],
            3 => vec![(18.0 + 5.0 * b) / 12.0, -(24.0 - 8.0 * b) / 12.0, (6.0 - b) / 12.0],
            _ => {
                let all = [46.0 + 9.0 * b, -(78.0 - 19.0 * b), 42.0 - 5.0 * b, -(10.0 - b)];
                all.map(|w| w / 24.0).to_vec()
            }
        }
    }
}

impl Solver for Ghvb {
    fn step(&mut self, y: &Tensor, noise: &Tensor, from: &Instant, to: &Instant) -> Tensor {
        let velocity = match self.velocities.front() {
            Some(v) if self.beta < 1.0 => v * (1.0 - self.beta) + noise * self.beta,
            _ => noise.shallow_clone(),
        };
        self.velocities.push_front(velocity);
        self.velocities.truncate(self.most);
        let direction = match self.velocities.len() {
            1 => self.velocities[0].shallow_clone(),
            _ => {
                let terms = self.velocities.iter().zip(self.weights());
                terms.map(|(v, w)| v * (w / self.beta)).reduce(|a, b| a + b).expect("a velocity was just added")
            }
        };
        (y / from.alpha + direction * (to.kappa() - from.kappa())) * to.alpha
    }
}
