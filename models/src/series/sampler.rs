//! From noise and what is known of a series to all of it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use squall_fields::random::Philox;
use tch::{Device, Tensor};

use crate::diffusion::solver::clean;
use crate::diffusion::{Grid, Instant, Method, Process, Schedule, SolverConfig};

/// Sampling step by step, with the known part replaced at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InPainting {
    /// Diffusion steps, 1 to 500.
    pub steps: usize,
    /// How often each of them is gone, 1 to 1000: after all but the last time the state is noised again. 1 is plain replacement.
    pub repeats: usize,
}

impl Default for InPainting {
    /// 50 steps, each gone ten times.
    fn default() -> Self {
        Self { steps: 50, repeats: 10 }
    }
}

impl InPainting {
    /// What is wrong with it, in a sentence.
    pub fn fault(self) -> Option<String> {
        let Self { steps, repeats } = self;
        let is_sound = (1..=500).contains(&steps) && (1..=1000).contains(&repeats);
        (!is_sound).then(|| format!("expected 1 to 500 steps and 1 to 1000 repeats, got {steps} and {repeats}"))
    }

    /// How often the network is asked.
    pub const fn evaluations(self) -> usize {
        self.steps.saturating_sub(1) * self.repeats + 1
    }

    fn instants(self, schedule: &Schedule) -> Vec<Instant> {
        SolverConfig { method: Method::Ddim, grid: Grid::UniformT, steps: self.steps }.instants(schedule)
    }

    /// Samples of series whose `known` values `[sample, time]` are NaN where they are not known, such as in the future; the known
    /// ones come back as they are. `noise` says the noise of a state at an instant, as a network or a formula has it. Each
    /// sample has random numbers of its own. Takes no gradients.
    pub fn sample(
        self,
        process: &Process,
        noise: &dyn Fn(&Tensor, &Instant) -> Tensor,
        known: &Tensor,
        randoms: &[Philox],
    ) -> Tensor {
        // Of this thread alone, hence here.
        tch::no_grad(|| self.run(process, noise, known, randoms))
    }

    fn run(
        self,
        process: &Process,
        noise: &dyn Fn(&Tensor, &Instant) -> Tensor,
        known: &Tensor,
        randoms: &[Philox],
    ) -> Tensor {
        let instants = self.instants(&process.schedule);
        let is_known = known.isnan().logical_not();
        let known = known.nan_to_num(0.0, None, None);
        let replaced = |x: &Tensor, at: &Instant, random: &Tensor| {
            (&known * at.alpha + random * at.sigma).where_self(&is_known, x)
        };
        let mut draws = Draws { randoms, length: known.size()[1] as usize, device: known.device(), done: 0 };
        let start = draws.draw();
        let mut x = replaced(&start, &instants[0], &start);
        for pair in instants.windows(2) {
            let (from, to) = (&pair[0], &pair[1]);
            let repeats = if to.step.is_none() { 1 } else { self.repeats };
            for repeat in 1..=repeats {
                // What is known takes the numbers at its own places, the rest those at its own.
                let random = draws.draw();
                x = replaced(&back(&x, &noise(&x, from), from, to, &random), to, &random);
                if repeat < repeats {
                    x = forth(&x, to, from, &draws.draw());
                }
            }
        }
        x
    }
}

/// One step of ancestral sampling (Ho et al. 2020): the mean of the posterior, and noise of the variance that the step added, which
/// is that of the reverse process of data of variance 1.
fn back(x: &Tensor, noise: &Tensor, from: &Instant, to: &Instant, random: &Tensor) -> Tensor {
    let added = 1.0 - (from.alpha / to.alpha).powi(2);
    let posterior = (to.sigma / from.sigma).powi(2) * added;
    let mean = clean(x, noise, from) * to.alpha + noise * (to.sigma.powi(2) - posterior).max(0.0).sqrt();
    if to.step.is_none() { mean } else { mean + random * added.sqrt() }
}

/// A state noised further, from an instant to an earlier one of the sampling.
fn forth(x: &Tensor, from: &Instant, to: &Instant, random: &Tensor) -> Tensor {
    let share = to.alpha / from.alpha;
    x * share + random * (to.sigma.powi(2) - (share * from.sigma).powi(2)).max(0.0).sqrt()
}

/// Standard normal numbers `[sample, time]`, each draw others; those of a sample depend on no other sample.
struct Draws<'a> {
    randoms: &'a [Philox],
    length: usize,
    device: Device,
    done: u64,
}

impl Draws<'_> {
    fn draw(&mut self) -> Tensor {
        let first = self.done * self.length.div_ceil(4) as u64;
        self.done += 1;
        let mut values = vec![0f32; self.randoms.len() * self.length];
        let rows = values.par_chunks_mut(self.length.max(1)).zip(self.randoms.par_iter());
        rows.for_each(|(row, random)| random.fill_normal(first, row));
        Tensor::from_slice(&values).reshape([self.randoms.len() as i64, self.length as i64]).to_device(self.device)
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;
    use crate::diffusion::ProcessConfig;

    /// Values of the toy, and how many of them are known.
    const LENGTH: usize = 8;
    const KNOWN: [f64; 5] = [0.5, -0.4, 0.3, 1.0, 1.5];
    /// Correlation from value to value.
    const PHI: f64 = 0.9;

    fn process() -> Process {
        Process::new(ProcessConfig::Plain {})
    }

    /// The noise that an ideal network says of AR(1) series of variance 1 whose covariance is K, known in closed form:
    /// `sigma (alpha^2 K + sigma^2 I)^-1 x`.
    fn ideal(x: &Tensor, at: &Instant) -> Tensor {
        let covariance = |i: usize| {
            let (row, column) = (i / LENGTH, i % LENGTH);
            let own = if row == column { at.sigma.powi(2) } else { 0.0 };
            at.alpha.powi(2) * PHI.powi(row.abs_diff(column) as i32) + own
        };
        let covariance: Vec<f64> = (0..LENGTH * LENGTH).map(covariance).collect();
        let side = LENGTH as i64;
        let inverse = Tensor::from_slice(&covariance).reshape([side, side]).inverse() * at.sigma;
        x.matmul(&inverse.to_kind(Kind::Float))
    }

    fn prompts(count: usize) -> Tensor {
        let mut row = [f32::NAN; LENGTH];
        row.iter_mut().zip(KNOWN).for_each(|(value, known)| *value = known as f32);
        Tensor::from_slice(&row).reshape([1, LENGTH as i64]).repeat([count as i64, 1])
    }

    fn randoms(count: usize) -> Vec<Philox> {
        (0..count as u64).map(|member| Philox::new(11, member)).collect()
    }

    /// Mean and variance of each unknown value over so many samples.
    fn moments(sampling: InPainting, count: usize) -> Vec<[f64; 2]> {
        let samples = sampling.sample(&process(), &ideal, &prompts(count), &randoms(count)).to_kind(Kind::Double);
        let moments = |at: usize| {
            let value = samples.narrow(1, at as i64, 1);
            [value.mean(Kind::Double).double_value(&[]), value.var(true).double_value(&[])]
        };
        (KNOWN.len()..LENGTH).map(moments).collect()
    }

    /// The exact conditional distribution of an AR(1) series `lead` values after the last known one.
    fn exact(lead: i32) -> (f64, f64) {
        (PHI.powi(lead) * KNOWN[KNOWN.len() - 1], 1.0 - PHI.powi(2 * lead))
    }

    /// With an ideal network every step of the sampling is linear in a Gaussian state, so mean and covariance of what comes out
    /// follow by multiplying matrices. The numbers are from such a computation in another program, rounded. The tolerances are
    /// four standard errors of n = 4,000 samples: sqrt(v / n) of a mean, v sqrt(2 / n) of a variance v.
    #[test]
    fn samples_have_the_distribution_that_the_published_steps_give() {
        let cases: [(usize, [f64; 3], [f64; 3]); 2] =
            [(1, [0.767, 0.524, 0.414], [0.316, 0.513, 0.632]), (20, [1.279, 1.111, 0.981], [0.200, 0.360, 0.486])];
        for (repeats, means, variances) in cases {
            let found = moments(InPainting { steps: 50, repeats }, 4000);
            for ((mean, v), [found_mean, found_v]) in means.into_iter().zip(variances).zip(&found) {
                let said = format!("{repeats} repeats: {found:?}");
                assert!((found_mean - mean).abs() < 4.0 * (v / 4000.0).sqrt() + 5e-4, "{said}");
                assert!((found_v - v).abs() < 4.0 * v * (2.0 / 4000f64).sqrt() + 5e-4, "{said}");
            }
        }
    }

    /// The same computation says that 50 repeats leave 0.033, 0.049 and 0.053 of the means and 0.008 of the variances; to that come
    /// four standard errors.
    #[test]
    fn repeats_lead_from_plain_replacement_to_the_exact_conditional_distribution() {
        let plain = moments(InPainting { steps: 50, repeats: 1 }, 4000);
        let found = moments(InPainting { steps: 50, repeats: 50 }, 4000);
        for (lead, ([plain, _], [mean, variance])) in (1..).zip(plain.iter().zip(&found)) {
            let (exact_mean, exact_variance) = exact(lead);
            let of_variance = 4.0 * exact_variance * (2.0 / 4000f64).sqrt();
            assert!((mean - exact_mean).abs() < 0.055 + 4.0 * (exact_variance / 4000.0).sqrt(), "{found:?}");
            assert!((variance - exact_variance).abs() < 0.01 + of_variance, "{found:?}");
            assert!(exact_mean - plain > 0.5, "plain replacement forgets a part of the prompt: {plain}");
        }
    }

    #[test]
    fn what_is_known_comes_back_and_a_member_does_not_depend_on_how_many_there_are() {
        let sampling = InPainting { steps: 12, repeats: 3 };
        let of = |count| sampling.sample(&process(), &ideal, &prompts(count), &randoms(count));
        let (few, many) = (of(3), of(40));
        let past = KNOWN.len() as i64;
        assert_eq!(many.narrow(1, 0, past), prompts(40).narrow(1, 0, past), "to the bit");
        // But for the last bits of matrix products of another size.
        assert!((few - many.narrow(0, 0, 3)).abs().max().double_value(&[]) < 1e-4);
        let members = many.narrow(1, past, 3);
        assert!((members.get(0) - members.get(1)).abs().max().double_value(&[]) > 1e-2, "each has its own noise");
        assert_eq!(sampling.evaluations(), 11 * 3 + 1);
    }

    #[test]
    fn a_gap_in_the_past_is_filled_from_both_sides() {
        let row = [1.0f32, 1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0, 1.0];
        let known = Tensor::from_slice(&row).reshape([1, 8]).repeat([2000, 1]);
        let samples = InPainting { steps: 50, repeats: 20 }.sample(&process(), &ideal, &known, &randoms(2000));
        let filled = samples.narrow(1, 2, 1).to_kind(Kind::Double);
        // Between two neighbours of 1 its mean is 2 phi / (1 + phi^2), its variance v = (1 - phi^2) / (1 + phi^2). 20 repeats leave
        // 0.001 and 0.004 of them; to that come four standard errors.
        let (exact, v) = (2.0 * PHI / (1.0 + PHI * PHI), (1.0 - PHI * PHI) / (1.0 + PHI * PHI));
        let (mean, variance) = (filled.mean(Kind::Double).double_value(&[]), filled.var(true).double_value(&[]));
        assert!((mean - exact).abs() < 0.001 + 4.0 * (v / 2000.0).sqrt(), "{mean} for {exact}");
        assert!((variance - v).abs() < 0.004 + 4.0 * v * (2.0 / 2000f64).sqrt(), "{variance} for {v}");
        assert_eq!(samples.narrow(1, 3, 5), known.narrow(1, 3, 5));
    }
}
