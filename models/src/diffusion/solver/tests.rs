//! Every solver against the exact solution for normal data.

use tch::{Device, Kind, Tensor};

use super::*;

const MEAN: f64 = 0.7;
const SPREAD: f64 = 0.4;

/// Root-mean-square error to the exact solution for data that are N(0.7, 0.4^2), over standard normal starts.
fn error(method: Method, grid: Grid, steps: usize) -> f64 {
    let config = SolverConfig { method, grid, steps };
    let instants = config.instants(&Schedule::cosine(0.5));
    // Quantiles of the standard normal: a start that needs no random numbers.
    let unit = (Tensor::arange(4096, (Kind::Double, Device::Cpu)) + 0.5) / 4096.0;
    let start = ((unit * 2.0 - 1.0).erfinv() * 2f64.sqrt()).reshape([1, 1, 1, 64, 64]);
    let deviation = |i: &Instant| (i.alpha * i.alpha * SPREAD * SPREAD + i.sigma * i.sigma).sqrt();
    let first = &instants[0];
    let exact = (&start - first.alpha * MEAN) * (SPREAD / deviation(first)) + MEAN;
    let mut solver = config.solver(&instants);
    let mut y = start;
    for pair in instants.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        let noise = (&y - from.alpha * MEAN) * (from.sigma / deviation(from).powi(2));
        y = solver.step(&y, &noise, from, to);
    }
    (y - exact).square().mean(Kind::Double).sqrt().double_value(&[])
}

#[test]
fn errors_on_the_analytic_oracle() {
    use Grid::{UniformLambda, UniformT};
    let table = [
        (UniformT, 10, [6.6e-2, 1.1e-1, 1.9e-2, 4.2e-3]),
        (UniformLambda, 10, [6.9e-2, 3.1e-3, 1.3e-2, 3.8e-3]),
        (UniformLambda, 20, [3.6e-2, 3.9e-5, 4.6e-3, 1.2e-6]),
    ];
    let methods = [Method::Ddim, Method::Dpm2m, Method::Ghvb(2.0), Method::Ghvb(3.0)];
    for (grid, steps, expected) in table {
        for (method, expected) in methods.into_iter().zip(expected) {
            let error = error(method, grid, steps);
            // The table has two digits.
            assert!((error / expected - 1.0).abs() < 0.05, "{method:?} {grid:?} {steps}: {error:.3e}, {expected:.1e}");
        }
    }
}

#[test]
fn order_one_of_the_heavy_ball_is_ddim() {
    let (heavy, ddim) = (error(Method::Ghvb(1.0), Grid::UniformT, 10), error(Method::Ddim, Grid::UniformT, 10));
    assert!((heavy - ddim).abs() < 1e-12, "{heavy} {ddim}");
}

#[test]
fn second_order_in_data_prediction_beats_first_order() {
    let (second, first) =
        (error(Method::Evodiff, Grid::UniformLambda, 20), error(Method::Ddim, Grid::UniformLambda, 20));
    assert!(second < first, "{second} {first}");
}
