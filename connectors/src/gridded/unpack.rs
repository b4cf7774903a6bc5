//! From packed integers to f32, north first, west first, missing as NaN.
//!
//! This is the hot loop of reading: it runs outside the library's lock, in parallel over rows. A
//! conversion that is no mere factor (reflectivity to rain rate takes two powers) goes through a
//! table where the packed type has 8 or 16 bits.

use ndarray::ArrayViewMut2;
use rayon::prelude::*;
use squall_fields::Conversion;

use super::packing::{Packing, Sentinel};

/// How a field lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub columns: usize,
    /// Whether the file's rows run south to north.
    pub flip_rows: bool,
    /// Whether the file's columns run east to west.
    pub flip_columns: bool,
    /// Whether the file stores columns one after the other.
    pub transposed: bool,
}

/// A number as files store it.
pub trait Packed: Copy + Send + Sync + 'static {
    /// Bits, where a table over all values pays.
    const TABLE_BITS: Option<u32>;
    /// Whether f32 holds every value exactly, so that unpacking needs no f64.
    const FITS_F32: bool;
    /// As f64.
    fn to_f64(self) -> f64;
    /// As f32.
    fn to_f32(self) -> f32;
    /// Position in a table over all values.
    fn index(self) -> usize;
    /// The value at a position in a table.
    fn from_index(index: usize) -> Self;
    /// What the NetCDF library fills unwritten values with (8-bit types have none).
    fn default_fill() -> Option<f64>;
}

macro_rules! packed {
    ($type:ty, $bits:expr, $fits:expr, $unsigned:ty, $fill:expr) => {
        impl Packed for $type {
            const TABLE_BITS: Option<u32> = $bits;
            const FITS_F32: bool = $fits;
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn to_f32(self) -> f32 {
                self as f32
            }
            fn index(self) -> usize {
                self as $unsigned as usize
            }
            fn from_index(index: usize) -> Self {
                index as $unsigned as Self
            }
            fn default_fill() -> Option<f64> {
                $fill
            }
        }
    };
}

packed!(i8, Some(8), true, u8, None);
packed!(u8, Some(8), true, u8, None);
packed!(i16, Some(16), true, u16, Some(-32_767.0));
packed!(u16, Some(16), true, u16, Some(65_535.0));
packed!(i32, None, false, u32, Some(-2_147_483_647.0));
packed!(u32, None, false, u32, Some(4_294_967_295.0));
packed!(i64, None, false, u64, Some(-9_223_372_036_854_775_806.0));
packed!(u64, None, false, u64, Some(18_446_744_073_709_551_614.0));
packed!(f32, None, true, u32, Some(9.969_209_968_386_869e36));
packed!(f64, None, false, u64, Some(9.969_209_968_386_869e36));

/// What is done to one packed value.
struct Recipe {
    packing: Packing,
    conversion: Conversion,
}

impl Recipe {
    fn is_missing(&self, value: f64) -> bool {
        !(value >= self.packing.valid.0 && value <= self.packing.valid.1)
            || self.packing.missing.iter().any(|missing| missing.is(value))
    }

    fn value(&self, packed: f64) -> f32 {
        if let Some((_, value)) = self.packing.no_echo.filter(|(undetect, _)| undetect.is(packed)) {
            return value;
        }
        if self.is_missing(packed) {
            return f32::NAN;
        }
        self.conversion.apply((packed * self.packing.scale + self.packing.offset) as f32)
    }
}

/// Unpacks one field into `out[y, x]`.
///
/// `raw` has `rows * columns` values in the file's order; what is not finite after unpacking is NaN.
pub fn unpack<T: Packed>(
    raw: &[T],
    packing: &Packing,
    conversion: Conversion,
    layout: Layout,
    mut out: ArrayViewMut2<'_, f32>,
) {
    let mut packing = packing.clone();
    if packing.default_fill {
        packing.missing.extend(T::default_fill().map(Sentinel::exact));
    }
    let recipe = Recipe { packing, conversion };
    let table = T::TABLE_BITS.filter(|bits| raw.len() >= 1 << bits || *bits == 8);
    match (table, conversion.as_scale()) {
        (Some(bits), None) => {
            let table: Vec<f32> = (0..1usize << bits).map(|i| recipe.value(T::from_index(i).to_f64())).collect();
            place(raw, layout, &mut out, |v| table[v.index()]);
        }
        (_, Some(factor)) if T::FITS_F32 => {
            // The common case: one fused multiply and a select, in f32, which the compiler vectorises.
            let scale = (recipe.packing.scale * f64::from(factor)) as f32;
            let offset = (recipe.packing.offset * f64::from(factor)) as f32;
            let low = recipe.packing.valid.0.max(f64::from(f32::MIN)) as f32;
            let high = recipe.packing.valid.1.min(f64::from(f32::MAX)) as f32;
            let missing: Vec<f32> = recipe.packing.missing.iter().map(|missing| missing.value as f32).collect();
            let first = missing.first().copied().unwrap_or(f32::NAN);
            let second = missing.get(1).copied().unwrap_or(first);
            let more = missing.get(2..).unwrap_or(&[]);
            let no_echo = recipe.packing.no_echo;
            let (undetect, floor) = no_echo.map_or((f32::NAN, 0.0), |(v, floor)| (v.value as f32, floor));
            let value = |v: f32| {
                if v == undetect {
                    return floor;
                }
                let good = (v >= low) & (v <= high) & (v != first) & (v != second);
                if good { v * scale + offset } else { f32::NAN }
            };
            if more.is_empty() {
                place(raw, layout, &mut out, |v| value(v.to_f32()));
            } else {
                let value = |v: f32| if more.contains(&v) && v != undetect { f32::NAN } else { value(v) };
                place(raw, layout, &mut out, |v| value(v.to_f32()));
            }
        }
        _ => place(raw, layout, &mut out, |v| recipe.value(v.to_f64())),
    }
}

/// Puts each value where it belongs.
fn place<T: Packed>(raw: &[T], layout: Layout, out: &mut ArrayViewMut2<'_, f32>, value: impl Fn(T) -> f32 + Sync) {
    let Layout { rows, columns, flip_rows, flip_columns, transposed } = layout;
    let Some(cells) = out.as_slice_mut().filter(|cells| cells.len() == raw.len() && raw.len() == rows * columns) else {
        return;
    };
    let per_task = (1usize << 16).div_ceil(columns.max(1));
    cells.par_chunks_mut(columns.max(1)).with_min_len(per_task).enumerate().for_each(|(row, cells)| {
        let row = if flip_rows { rows - 1 - row } else { row };
        match (transposed, flip_columns) {
            (false, false) => {
                let from = &raw[row * columns..(row + 1) * columns];
                cells.iter_mut().zip(from).for_each(|(cell, v)| *cell = value(*v));
            }
            (false, true) => {
                let from = &raw[row * columns..(row + 1) * columns];
                cells.iter_mut().zip(from.iter().rev()).for_each(|(cell, v)| *cell = value(*v));
            }
            (true, _) => {
                for (column, cell) in cells.iter_mut().enumerate() {
                    let column = if flip_columns { columns - 1 - column } else { column };
                    *cell = value(raw[column * rows + row]);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
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
}
