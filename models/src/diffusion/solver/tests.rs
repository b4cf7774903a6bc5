//! Every solver against the exact solution for normal data, on every path to the noise.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::diffusion::process::{Process, ProcessConfig};

const MEAN: f64 = 0.7;
const SPREAD: f64 = 0.4;

/// What an ideal network says of data that are N(0.7, 0.4^2), and where their exact solution ends.
///
/// The noise of a sample is normal, of one of several sizes: `[size, 1, 1, 1, 1]`, each with its share.
struct Oracle {
    sizes: Tensor,
    shares: Tensor,
}

impl Oracle {
    fn new(config: ProcessConfig) -> Self {
        let (sizes, shares): (Vec<f64>, Vec<f64>) = match config {
            // The noise is divided by the root of a chi-square variable's share of its mean: 24 values of the variable, each
            // with its density.
            ProcessConfig::Poisson { dimensions } => {
                let dimensions = f64::from(dimensions);
                let of = |squares: f64| {
                    let density = squares.powf(dimensions / 2.0 - 1.0) * (-squares / 2.0).exp();
                    ((dimensions / squares).sqrt(), density)
                };
                (0..24).map(|i| of(2.0 * f64::from(i) + 1.0)).unzip()
            }
            _ => (vec![1.0], vec![1.0]),
        };
        let column = |values: &[f64]| Tensor::from_slice(values).reshape([-1, 1, 1, 1, 1]);
        let shares = column(&shares);
        Self { sizes: column(&sizes), shares: &shares / shares.sum(Kind::Double) }
    }

    /// Variance of a state for each size of its noise.
    fn variance(&self, at: &Instant) -> Tensor {
        self.sizes.square() * at.sigma.powi(2) + (at.alpha * SPREAD).powi(2)
    }

    /// Mean of the noise that a state may hold.
    fn noise(&self, y: &Tensor, at: &Instant) -> Tensor {
        let (off, variance) = (y - at.alpha * MEAN, self.variance(at));
        let likely =
            (off.square() / (&variance * -2.0) - variance.log() * 0.5 + self.shares.log()).softmax(0, Kind::Double);
        let each = likely * self.sizes.square() * &off * at.sigma / variance;
        each.sum_dim_intlist([0i64].as_slice(), true, None::<Kind>)
    }

    /// Each state keeps the share of the others that lies below it.
    fn exact(&self, y: &Tensor, at: &Instant) -> Tensor {
        let below = ((y - at.alpha * MEAN) / (self.variance(at) * 2.0).sqrt()).erf() * &self.shares;
        let below = below.sum_dim_intlist([0i64].as_slice(), true, None::<Kind>);
        below.erfinv() * (2f64.sqrt() * SPREAD) + MEAN
    }
}

/// Root-mean-square error to the exact solution for data that are N(0.7, 0.4^2), over standard normal noise to start from.
fn error_of(process: ProcessConfig, method: Method, grid: Grid, steps: usize) -> f64 {
    let config = SolverConfig { method, grid, steps };
    let (oracle, process) = (Oracle::new(process), Process::new(process));
    let instants = config.instants(&process.schedule);
    // Quantiles of the standard normal: a start that needs no random numbers.
    let unit = (Tensor::arange(4096, (Kind::Double, Device::Cpu)) + 0.5) / 4096.0;
    let noise = ((unit * 2.0 - 1.0).erfinv() * 2f64.sqrt()).reshape([1, 1, 1, 64, 64]);
    let mut y = process.start(&noise, &instants[0]);
    let exact = oracle.exact(&y, &instants[0]);
    let mut solver = config.solver(&instants);
    for pair in instants.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        y = solver.step(&y, &oracle.noise(&y, from), from, to);
    }
    (y - exact).square().mean(Kind::Double).sqrt().double_value(&[])
}

/// The same of the dynamical process, which to a solver is plain diffusion.
fn error(method: Method, grid: Grid, steps: usize) -> f64 {
    error_of(ProcessConfig::Dynamical { ratio: 0.5 }, method, grid, steps)
}

fn errors_are(process: ProcessConfig, table: [(Grid, usize, [f64; 4]); 3]) {
    let methods = [Method::Ddim, Method::Dpm2m, Method::Ghvb(2.0), Method::Ghvb(3.0)];
    for (grid, steps, expected) in table {
        for (method, expected) in methods.into_iter().zip(expected) {
            let error = error_of(process, method, grid, steps);
            // The table has two digits.
            let is_right = (error / expected - 1.0).abs() < 0.05;
            assert!(is_right, "{process:?} {method:?} {grid:?} {steps}: {error:.3e}, {expected:.1e}");
        }
    }
}

#[test]
fn errors_on_the_analytic_oracle() {
    use Grid::{UniformLambda, UniformT};
    let table = [
        (UniformT, 10, [6.6e-2, 1.1e-1, 1.9e-2, 4.2e-3]),
        (UniformLambda, 10, [6.9e-2, 3.1e-3, 1.3e-2, 3.8e-3]),
        (UniformLambda, 20, [3.6e-2, 3.9e-5, 4.6e-3, 1.2e-6]),
    ];
    errors_are(ProcessConfig::Dynamical { ratio: 0.5 }, table);
}

#[test]
fn errors_on_the_analytic_oracle_of_a_straight_line() {
    use Grid::{UniformLambda, UniformT};
    let table = [
        (UniformT, 10, [6.0e-2, 8.7e-3, 1.23e-2, 1.04e-3]),
        (UniformLambda, 10, [7.8e-2, 8.9e-3, 1.66e-2, 5.3e-3]),
        (UniformLambda, 20, [3.9e-2, 3.2e-3, 4.4e-3, 1.93e-3]),
    ];
    errors_are(ProcessConfig::Flow {}, table);
}

/// Where noise has heavy tails the ideal answer is no straight line any more.
#[test]
fn errors_on_the_analytic_oracle_of_a_poisson_flow() {
    use Grid::{UniformLambda, UniformT};
    let table = [
        (UniformT, 10, [6.1e-2, 9.5e-2, 2.01e-2, 6.4e-3]),
        (UniformLambda, 10, [5.9e-2, 2.63e-3, 1.05e-2, 3.7e-3]),
        (UniformLambda, 20, [3.07e-2, 7.1e-4, 4.2e-3, 5.3e-4]),
    ];
    errors_are(ProcessConfig::Poisson { dimensions: 8 }, table);
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
