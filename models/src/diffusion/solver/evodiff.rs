//! EVODiff: entropy-aware variance optimised inference (Li, Chen and Zeng 2025).
//!
//! Second order in the clean prediction, with one evaluation a step. A step first probes: it extrapolates with the
//! last two predictions. The network's answer at the probe then corrects the step before the next one begins. How much
//! of each difference enters is chosen for each frame and channel from projections of the predictions on each other,
//! so that the variance of the step falls.

use tch::{Kind, Tensor};

use super::{Instant, Solver, clean};

/// The solver; it must know the way in advance.
#[derive(Debug)]
pub struct Evodiff {
    /// Steps between evaluations of the network.
    updates: usize,
    taken: usize,
    first_index: f64,
    last_index: f64,
    before: Option<(Tensor, Instant)>,
    probe: Option<Probe>,
}

/// A step that was extrapolated and waits for the network's answer.
#[derive(Debug)]
struct Probe {
    euler: Tensor,
    /// Clean predictions at the start of the step and of the one before.
    now: Tensor,
    earlier: Tensor,
    /// `now` less its share of `earlier`.
    difference: Tensor,
    /// Factor of the difference in the probe.
    gain: Tensor,
    /// `sigma h` of the step.
    reach: f64,
    h: f64,
    /// Length of the step before in ln(kappa) over that of this one.
    stretch: f64,
    balance: Balance,
    /// sigma at the end over sigma at the start.
    decline: f64,
    long: bool,
}

/// The share of an earlier prediction that is taken from a later one: partly from the schedule, partly projected.
#[derive(Clone, Copy, Debug)]
struct Balance {
    scheduled: f64,
    weight: f64,
}

impl Balance {
    fn share(self, later: &Tensor, earlier: &Tensor) -> Tensor {
        projection(later, earlier) * self.weight + (1.0 - self.weight) * self.scheduled
    }
}

/// `<a, b> / <b, b>` of each frame and channel, within [-2, 2]; 0 where b is 0.
fn projection(a: &Tensor, b: &Tensor) -> Tensor {
    let dot = |a: &Tensor, b: &Tensor| (a * b).sum_dim_intlist([-2i64, -1].as_slice(), true, None::<Kind>);
    (dot(a, b) / dot(b, b)).nan_to_num(0.0, 2.0, -2.0).clamp(-2.0, 2.0)
}

impl Evodiff {
    /// For a way that ends with the clean instant.
    pub fn new(instants: &[Instant]) -> Self {
        let index = |instant: Option<&Instant>| instant.and_then(|i| i.step).unwrap_or(0) as f64;
        Self {
            updates: instants.len().saturating_sub(2),
            taken: 0,
            first_index: index(instants.first()),
            last_index: index(instants.iter().rfind(|i| i.step.is_some())),
            before: None,
            probe: None,
        }
    }

    fn probe(&self, euler: Tensor, now: &Tensor, (from, to): (&Instant, &Instant)) -> Option<(Probe, Tensor)> {
        let (earlier, then) = self.before.as_ref()?;
        let h = to.kappa().recip() - from.kappa().recip();
        let stretch = (then.kappa() / from.kappa()).ln() / (from.kappa() / to.kappa()).ln();
        let decline = to.sigma / from.sigma;
        let index = to.step.unwrap_or(0) as f64 + self.last_index;
        let balance = Balance {
            scheduled: (decline / (from.sigma / then.sigma)).sqrt(),
            weight: 0.5 * (1.0 - (index / (self.first_index + self.last_index)).powi(2)),
        };
        let share = balance.share(now, earlier);
        let difference = now - &share * earlier;
        let divisor = ((share.abs() * 0.25).sigmoid() * stretch).clamp(0.25 * stretch, 1.5 * stretch);
        let reach = to.sigma * h;
        let gain = divisor.reciprocal() * (0.5 * reach);
        let state = &euler + &gain * &difference;
        let (now, earlier, long) = (now.shallow_clone(), earlier.shallow_clone(), self.updates > 20);
        let probe = Probe { euler, now, earlier, difference, gain, reach, h, stretch, balance, decline, long };
        Some((probe, state))
    }

    /// The last step, whose end is only evaluated once more: first order, pulled towards the change of prediction.
    fn last(&self, euler: Tensor, now: &Tensor, (from, to): (&Instant, &Instant)) -> Tensor {
        let Some((earlier, _)) = &self.before else { return euler };
        let decline = to.sigma / from.sigma;
        let excess = if decline < 0.5 { decline } else { decline - 0.5 };
        let change = now - earlier * (1.0 - 0.5 * excess.sqrt());
        let h = to.kappa().recip() - from.kappa().recip();
        euler * (1.0 - (to.sigma * from.sigma).sqrt()) + change * (0.5 * to.sigma * h)
    }
}

impl Probe {
    /// The state at the end of the step, once `next` is predicted at the probe.
    fn corrected(&self, probe: &Tensor, next: &Tensor) -> Tensor {
        let difference = next - self.balance.share(next, &self.now) * &self.now;
        let (behind, ahead) = (&self.difference / (self.stretch * self.h), &difference * (self.stretch / self.h));
        let eta = (projection(&(&ahead + &behind), &(&ahead - &behind)) * 0.5).abs().sigmoid() * 0.5;
        let slope = difference * ((1.0 - &eta) * self.stretch) - &self.difference * (eta / self.stretch);
        let rest = probe - &self.euler - &self.gain * &slope;
        let shift = (projection(&rest, &self.difference) / self.reach).abs() - 0.5;
        let zeta = if self.long {
            let drift = (&self.now - &self.earlier) / self.h;
            let agreement = (projection(&self.now, &drift) * (2.0 - self.decline * self.decline)).sigmoid();
            (-shift * agreement).sigmoid()
        } else {
            shift.sigmoid()
        };
        &self.euler + slope * (zeta.reciprocal() * (0.5 * self.reach))
    }
}

impl Solver for Evodiff {
    fn step(&mut self, y: &Tensor, noise: &Tensor, from: &Instant, to: &Instant) -> Tensor {
        let now = clean(y, noise, from);
        if to.sigma == 0.0 {
            return now;
        }
        let y = match self.probe.take() {
            Some(probe) => probe.corrected(y, &now),
            None => y.shallow_clone(),
        };
        self.taken += 1;
        let h = to.kappa().recip() - from.kappa().recip();
        let euler = y * (to.sigma / from.sigma) + &now * (to.sigma * h);
        let next = if self.taken == self.updates {
            self.last(euler, &now, (from, to))
        } else {
            match self.probe(euler.shallow_clone(), &now, (from, to)) {
                Some((probe, state)) => {
                    self.probe = Some(probe);
                    state
                }
                None => euler,
            }
        };
        self.before = Some((now, *from));
        next
    }
}
