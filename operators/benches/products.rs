//! Speed of the products of an ensemble, on rain like that of the Finnish composite: 1226 x 760 cells, 8 members, and
//! two leads for twelve.

use divan::Bencher;
use ndarray::Array4;
use squall_fields::random::Philox;
use squall_fields::{Ensemble, Variable};
use squall_operators::products::{MEAN, PROBABILITIES, Product, ProductsConfig, QUANTILES, of_ensemble};

fn main() {
    divan::main();
}

/// Rain in a fifth of the area, no data in a tenth.
fn rain() -> Ensemble {
    let random = Philox::new(7, 1);
    let values = Array4::from_shape_fn((8, 2, 1226, 760), |(member, lead, y, x)| {
        let (patch, cell) = ((y / 40 * 19 + x / 40) as u64, ((member * 2 + lead) * 1226 + y) * 760 + x);
        match random.uniform(patch) {
            u if u < 0.1 => f32::NAN,
            u if u < 0.8 => 0.0,
            _ => (20.0 * (random.uniform(cell as u64) - 0.3)).max(0.0) as f32,
        }
    });
    Ensemble { variable: Variable::RainRate, values }
}

fn bench(bencher: Bencher<'_, '_>, products: &[&'static Product]) {
    let levels = |name: &str| if name == "quantiles" { vec![0.1, 0.5, 0.9] } else { vec![0.1, 1.0, 5.0, 10.0] };
    let (rain, config) = (rain(), ProductsConfig::new(products.iter().copied(), |setting| levels(setting.name)));
    bencher.bench(|| of_ensemble(&rain, &config));
}

#[divan::bench(sample_count = 10)]
fn mean(bencher: Bencher<'_, '_>) {
    bench(bencher, &[&MEAN]);
}

#[divan::bench(sample_count = 10)]
fn quantiles(bencher: Bencher<'_, '_>) {
    bench(bencher, &[&QUANTILES]);
}

#[divan::bench(sample_count = 10)]
fn probabilities(bencher: Bencher<'_, '_>) {
    bench(bencher, &[&PROBABILITIES]);
}

#[divan::bench(sample_count = 10)]
fn all(bencher: Bencher<'_, '_>) {
    bench(bencher, &[&MEAN, &QUANTILES, &PROBABILITIES]);
}
