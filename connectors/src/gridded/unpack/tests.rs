//! Orders of cells, what is missing, and values to the last bit.

use ndarray::{Array2, array};
use squall_fields::units::{ConversionContext, ScaledUnit};
use squall_fields::{Unit, Variable};

use super::*;
use crate::gridded::NumberType;

const PLAIN: Layout = Layout { rows: 2, columns: 3, flip_rows: false, flip_columns: false, transposed: false };

/// As of a file that names its missing numbers; without any, the library's own fill is missing.
fn packing(scale: f64, offset: f64, missing: &[f64]) -> Packing {
    let default_fill = missing.is_empty();
    let missing = missing.iter().copied().map(Sentinel::exact).collect();
    Packing { scale, offset, missing, default_fill, ..Packing::plain(NumberType::F64) }
}

fn run<T: Packed>(raw: &[T], packing: &Packing, conversion: Conversion, layout: Layout) -> Array2<f32> {
    let mut out = Array2::zeros((layout.rows, layout.columns));
    unpack(raw, packing, conversion, layout, out.view_mut());
    out
}

#[test]
fn orders() {
    let raw = [1i16, 2, 3, 4, 5, 6];
    let one = Conversion::Scale(1.0);
    let plain = packing(1.0, 0.0, &[-1.0]);
    assert_eq!(run(&raw, &plain, one, PLAIN), array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let flipped = run(&raw, &plain, one, Layout { flip_rows: true, flip_columns: true, ..PLAIN });
    assert_eq!(flipped, array![[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]);
    let transposed = run(&raw, &plain, one, Layout { transposed: true, ..PLAIN });
    assert_eq!(transposed, array![[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]]);
    let both = run(&raw, &plain, one, Layout { transposed: true, flip_rows: true, flip_columns: true, ..PLAIN });
    assert_eq!(both, array![[6.0, 4.0, 2.0], [5.0, 3.0, 1.0]]);
}

#[test]
fn missing_and_packed() {
    let raw = [-32_768i16, 0, 100, 250, -32_767, 7];
    let out = run(&raw, &packing(0.01, 1.0, &[-32_768.0, 7.0]), Conversion::Scale(2.0), PLAIN);
    assert!(out[[0, 0]].is_nan() && out[[1, 2]].is_nan());
    assert_eq!((out[[0, 1]], out[[0, 2]], out[[1, 0]]), (2.0, 4.0, 7.0));
    let unfilled = run(
        &[1f32, f32::NAN, 9.969_21e36, f32::INFINITY, 2.0, 3.0],
        &packing(1.0, 0.0, &[]),
        Conversion::Scale(1.0),
        PLAIN,
    );
    assert_eq!(unfilled.iter().filter(|v| v.is_nan()).count(), 3);
}

#[test]
fn more_than_two_numbers_are_missing() {
    let raw = [-999f32, -99.0, -33.0, 1.0, -32.0, 0.0];
    let out = run(&raw, &packing(1.0, 0.0, &[-999.0, -99.0, -33.0]), Conversion::Scale(1.0), PLAIN);
    assert_eq!(out.iter().map(|v| v.is_nan()).collect::<Vec<_>>(), [true, true, true, false, false, false]);
}

#[test]
fn a_table_gives_what_the_formula_gives() {
    let dbz = ScaledUnit { unit: Unit::DecibelZ, factor: 1.0 };
    let conversion = Conversion::new(dbz, Variable::RainRate, &ConversionContext::default()).unwrap();
    let raw: Vec<u8> = (0..=255).collect();
    let layout = Layout { rows: 16, columns: 16, ..PLAIN };
    let bytes = run(&raw, &packing(0.5, -32.0, &[255.0]), conversion, layout);
    let wide: Vec<i32> = raw.iter().map(|v| i32::from(*v)).collect();
    let wide = run(&wide, &packing(0.5, -32.0, &[255.0]), conversion, layout);
    assert_eq!(bytes.iter().filter(|v| **v == 0.0).count(), 74);
    assert!(bytes[[15, 15]].is_nan() && wide[[15, 15]].is_nan());
    assert!(bytes.iter().zip(&wide).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())));
}

fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn steps_of_an_f64_are_rounded_once_and_those_of_an_f32_as_others_round_them() {
    let raw: Vec<i16> = (0..30_000).collect();
    let layout = Layout { rows: 100, columns: 300, ..PLAIN };
    let double = packing(0.01, 0.0, &[-1.0]);
    let one = run(&raw, &double, Conversion::Scale(1.0), layout);
    assert_eq!(bits(one), bits((0..30_000).map(|n| (f64::from(n) * 0.01) as f32)));
    let twelve = run(&raw, &double, Conversion::Scale(12.0), layout);
    assert_eq!(bits(twelve), bits((0..30_000).map(|n| (f64::from(n) * 0.01 * 12.0) as f32)));
    let hundredths = run(&raw, &packing(1.0, 0.0, &[-1.0]), Conversion::Scale(0.01), layout);
    assert_eq!(bits(hundredths), bits((0..30_000).map(|n| (f64::from(n) * 0.01) as f32)));
    let single = Packing { scale: f64::from(0.01f32), offset: 0.5, single: true, ..double };
    let one = run(&raw, &single, Conversion::Scale(1.0), layout);
    assert_eq!(bits(one), bits(raw.iter().map(|n| f32::from(*n) * 0.01f32 + 0.5f32)));
    let twelve = run(&raw, &single, Conversion::Scale(12.0), layout);
    assert_eq!(bits(twelve), bits(raw.iter().map(|n| (f32::from(*n) * 0.01f32 + 0.5f32) * 12.0f32)));
}

/// All numbers of a type that f32 holds, or a sample of them, unpacked in each way.
fn each_way<T: Packed>(raw: &[T]) {
    let layout = Layout { rows: 1, columns: raw.len(), ..PLAIN };
    let dbz = ScaledUnit { unit: Unit::DecibelZ, factor: 1.0 };
    let powers = Conversion::new(dbz, Variable::RainRate, &ConversionContext::default()).unwrap();
    for conversion in [1.0, 12.0, 0.01, 1852.0 / 3600.0].map(Conversion::Scale).into_iter().chain([powers]) {
        for (scale, offset, single) in
            [(0.01, 0.0, false), (0.5, -32.0, false), (1.0, 0.0, false), (f64::from(0.01f32), 0.5, true)]
        {
            for missing in [&[7.0][..], &[7.0, 9.0, 11.0]] {
                let packing = Packing {
                    single,
                    valid: (2.0, 30_000.0),
                    no_echo: Some((Sentinel::exact(3.0), 0.25)),
                    ..packing(scale, offset, missing)
                };
                let recipe = Recipe { packing: packing.clone(), conversion };
                let expected = bits(raw.iter().map(|v| recipe.value(v.to_f64())));
                let got = bits(run(raw, &packing, conversion, layout));
                assert!(got == expected, "{conversion:?} of {packing:?}");
            }
        }
    }
}

#[test]
fn every_way_gives_the_same_to_the_last_bit() {
    each_way::<u8>(&(0..=255).collect::<Vec<_>>());
    each_way::<i8>(&(-128..=127).collect::<Vec<_>>());
    each_way::<i16>(&(i16::MIN..=i16::MAX).collect::<Vec<_>>());
    each_way::<u16>(&(0..2_000).collect::<Vec<_>>());
    each_way::<i32>(&(0..2_000).collect::<Vec<_>>());
    each_way::<f32>(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 7.0, 9.0, 11.0, 3.0, 2.0, 10.1, 1e4]);
}

#[test]
fn what_is_not_finite_is_missing() {
    let layout = Layout { rows: 1, columns: 3, ..PLAIN };
    let singles = [f32::INFINITY, f32::NEG_INFINITY, 3e38];
    let doubles = [f64::INFINITY, f64::NEG_INFINITY, 3e300];
    assert!(run(&singles, &packing(10.0, 0.0, &[0.0]), Conversion::Scale(1.0), layout).iter().all(|v| v.is_nan()));
    assert!(run(&doubles, &packing(10.0, 0.0, &[0.0]), Conversion::Scale(1.0), layout).iter().all(|v| v.is_nan()));
}
