//! Speed of unpacking on one thread: a field of the size of the Finnish composite (1226 x 760 cells), a tenth missing.

use std::collections::BTreeMap;

use divan::{Bencher, counter::ItemsCount};
use ndarray::Array2;
use squall_connectors::gridded::unpack::{Layout, Packed, unpack};
use squall_connectors::gridded::{Attribute, Notes, NumberType, Packing};
use squall_fields::units::{Conversion, ConversionContext, ScaledUnit};
use squall_fields::{Unit, Variable};

const ROWS: usize = 1226;
const COLUMNS: usize = 760;
const SCALES: [NumberType; 2] = [NumberType::F32, NumberType::F64];

fn main() {
    // The pool is made once, so this can only fail where it was made before.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    divan::main();
}

fn raw<T: Packed>() -> Vec<T> {
    (0..ROWS * COLUMNS).map(|i| T::from_index(if i % 10 == 0 { 0 } else { i * 7 % 251 })).collect()
}

fn bench<T: Packed>(bencher: Bencher<'_, '_>, stored: NumberType, scale: Option<NumberType>, conversion: Conversion) {
    let number = |value: f64, kind| Attribute::Numbers(vec![value], kind);
    let mut attributes = BTreeMap::from([("_FillValue", number(0.0, stored))]);
    if let Some(kind) = scale {
        attributes
            .insert("scale_factor", number(if kind == NumberType::F32 { f64::from(0.01f32) } else { 0.01 }, kind));
        attributes.insert("add_offset", number(1.0, kind));
    }
    let packing = Packing::of_cf("rain", stored, |key| attributes.get(key), &mut Notes::default());
    let packing = packing.expect("attributes that are right");
    let layout = Layout { rows: ROWS, columns: COLUMNS, flip_rows: true, flip_columns: false, transposed: false };
    let (raw, mut out) = (raw::<T>(), Array2::zeros((ROWS, COLUMNS)));
    bencher
        .counter(ItemsCount::new(raw.len()))
        .bench_local(|| unpack(&raw, &packing, conversion, layout, divan::black_box(&mut out).view_mut()));
}

#[divan::bench(args = SCALES, sample_count = 200)]
fn i16_to_the_same_unit(bencher: Bencher<'_, '_>, scale: NumberType) {
    bench::<i16>(bencher, NumberType::I16, Some(scale), Conversion::Scale(1.0));
}

#[divan::bench(args = SCALES, sample_count = 200)]
fn i16_to_another_unit(bencher: Bencher<'_, '_>, scale: NumberType) {
    bench::<i16>(bencher, NumberType::I16, Some(scale), Conversion::Scale(12.0));
}

#[divan::bench(args = SCALES, sample_count = 200)]
fn u8_to_the_same_unit(bencher: Bencher<'_, '_>, scale: NumberType) {
    bench::<u8>(bencher, NumberType::U8, Some(scale), Conversion::Scale(1.0));
}

#[divan::bench(args = SCALES, sample_count = 200)]
fn u8_from_reflectivity(bencher: Bencher<'_, '_>, scale: NumberType) {
    let dbz = ScaledUnit { unit: Unit::DecibelZ, factor: 1.0 };
    let conversion = Conversion::new(dbz, Variable::RainRate, &ConversionContext::default());
    bench::<u8>(bencher, NumberType::U8, Some(scale), conversion.expect("a reflectivity gives a rate"));
}

#[divan::bench(sample_count = 200)]
fn f32_as_it_is(bencher: Bencher<'_, '_>) {
    bench::<f32>(bencher, NumberType::F32, None, Conversion::Scale(1.0));
}
