//! Numbers that need no network: schedules, grids and the dynamical operator.

use squall_models::diffusion::{Process, Schedule, operator};
use tch::Tensor;

use super::fixture::Comparison;

/// Compares every schedule. A name that ends in a number, such as `thetas_cumprod_f64_0.5`, is of that ratio.
pub(crate) fn check(comparison: &mut Comparison<'_>, ratio: f64) {
    for name in comparison.names() {
        let (stem, ratio) = match name.rsplit_once('_') {
            Some((stem, number)) => number.parse().map_or((name, ratio), |ratio| (stem, ratio)),
            None => (name, ratio),
        };
        if !(0.0..=1.0).contains(&ratio) {
            continue;
        }
        let schedule = Schedule::cosine(ratio);
        let stem = stem.trim_end_matches("_f64");
        if let Some(values) = of_training(stem, &schedule) {
            comparison.compare(name, 1e-6, &Tensor::from_slice(&values));
        } else if let Some((tolerance, values)) = of_sampling(stem, &schedule) {
            comparison.compare(name, tolerance, &values);
        }
    }
}

/// A series over all diffusion steps.
fn of_training(stem: &str, schedule: &Schedule) -> Option<Vec<f64>> {
    let each = |values: &[f64], f: fn(f64) -> f64| Some(values.iter().map(|v| f(*v)).collect());
    let before = |values: &[f64]| Some([&[1.0], &values[..values.len() - 1]].concat());
    let (ab, g) = (&schedule.alpha_bar, &schedule.g);
    match stem {
        "betas" => Some(schedule.beta.clone()),
        "gammas" => Some(schedule.gamma.clone()),
        "alphas_cumprod" => Some(ab.clone()),
        "thetas_cumprod" => Some(g.clone()),
        "alphas_cumprod_prev" => before(ab),
        "thetas_cumprod_prev" => before(g),
        "sqrt_alphas_cumprod" => each(ab, f64::sqrt),
        "sqrt_thetas_cumprod" => each(g, f64::sqrt),
        "sqrt_one_minus_alphas_cumprod" => each(ab, |v| (1.0 - v).sqrt()),
        "sqrt_one_minus_thetas_cumprod" => each(g, |v| (1.0 - v).sqrt()),
        "sqrt_recip_alphas_cumprod" => each(ab, |v| v.recip().sqrt()),
        "sqrt_recipm1_alphas_cumprod" => each(ab, |v| (v.recip() - 1.0).sqrt()),
        _ => None,
    }
}

/// A series over the steps of sampling: `ddim50_alphas`, and so on for any number of steps.
fn of_sampling(stem: &str, schedule: &Schedule) -> Option<(f64, Tensor)> {
    let (count, what) = stem.strip_prefix("ddim")?.split_once('_')?;
    let grid = grid(count.parse().ok()?)?;
    let at = |values: &[f64]| grid.iter().map(|k| values[*k]).collect::<Vec<_>>();
    // Before the first step lies the clean end.
    let before = |values: &[f64]| [vec![1.0], at(values)[..grid.len() - 1].to_vec()].concat();
    let values = match what {
        "timesteps" => return Some((0.0, timesteps(&grid))),
        "alphas" => at(&schedule.alpha_bar),
        "alphas_prev" => before(&schedule.alpha_bar),
        "thetas" => at(&schedule.g),
        "thetas_prev" => before(&schedule.g),
        _ => return None,
    };
    Some((1e-6, Tensor::from_slice(&values)))
}

/// The diffusion steps that so many evaluations visit, cleanest first.
pub(crate) fn grid(count: usize) -> Option<Vec<usize>> {
    (1..=500).contains(&count).then(|| (0..count).map(|i| 1 + i * (1000 / count)).collect())
}

/// A grid as a tensor.
pub(crate) fn timesteps(grid: &[usize]) -> Tensor {
    Tensor::from_slice(&grid.iter().map(|k| *k as i64).collect::<Vec<_>>())
}

/// The operator and its inverse, both of `op.x`.
pub(crate) fn operator(comparison: &mut Comparison<'_>, process: &Process) -> Result<(), String> {
    let x = comparison.clip("op.x", 1)?;
    let g: Vec<f64> = comparison.steps("op.t", &x)?.iter().map(|k| process.schedule.at(*k).g).collect();
    comparison.compare("op.emas", 1e-6, &operator::apply_each(&x, &g).flatten(1, 2));
    comparison.compare("op.reverse", 1e-6, &operator::invert_each(&x, &g).flatten(1, 2));
    Ok(())
}
