//! From packed integers to f32, north first, west first, missing as NaN.
//!
//! This is the hot loop of reading: it runs outside the library's lock, in parallel over rows. Numbers of 8 or 16 bits go
//! through a table of all their values where the field is larger than that. Whatever the way, a value is what
//! `Recipe::value` says, to the last bit: 10 in steps of 0.01 reaches a threshold of 0.1.

#[cfg(test)]
mod tests;

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
    /// Whether f32 holds every value exactly.
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
        let Packing { scale, offset, .. } = self.packing;
        let unpacked = if self.packing.single {
            f64::from(packed as f32 * scale as f32 + offset as f32)
        } else {
            packed * scale + offset
        };
        finite(match self.conversion {
            Conversion::Scale(factor) => (unpacked * factor) as f32,
            other => other.apply(unpacked as f32),
        })
    }

    /// The common case, of numbers that f32 holds and a conversion that is a factor: `arithmetic` and two selects.
    fn place_fused<T: Packed>(
        &self,
        raw: &[T],
        layout: Layout,
        out: &mut ArrayViewMut2<'_, f32>,
        arithmetic: impl Fn(f32) -> f32 + Sync,
    ) {
        let Packing { valid: (low, high), no_echo, .. } = self.packing;
        let (low, high) = (low as f32, high as f32);
        let missing: Vec<f32> = self.packing.missing.iter().map(|missing| missing.value as f32).collect();
        let first = missing.first().copied().unwrap_or(f32::NAN);
        let second = missing.get(1).copied().unwrap_or(first);
        let more = missing.get(2..).unwrap_or(&[]);
        let (undetect, floor) = no_echo.map_or((f32::NAN, 0.0), |(v, floor)| (v.value as f32, floor));
        let value = |v: f32| {
            let good = (v >= low) & (v <= high) & (v != first) & (v != second);
            let value = if good { finite(arithmetic(v)) } else { f32::NAN };
            if v == undetect { floor } else { value }
        };
        if more.is_empty() {
            place(raw, layout, out, |v| value(v.to_f32()));
        } else {
            let value = |v: f32| if more.contains(&v) && v != undetect { f32::NAN } else { value(v) };
            place(raw, layout, out, |v| value(v.to_f32()));
        }
    }
}

fn finite(value: f32) -> f32 {
    if value.abs() <= f32::MAX { value } else { f32::NAN }
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
    let worth = |bits: &u32| match conversion.as_scale() {
        _ if *bits == 8 => true,
        Some(_) => raw.len() >= 2 << bits,
        None => raw.len() >= 1 << bits,
    };
    let table = T::TABLE_BITS.filter(worth);
    if let Some(bits) = table {
        let table: Vec<f32> = (0..1usize << bits).map(|i| recipe.value(T::from_index(i).to_f64())).collect();
        return place(raw, layout, &mut out, |v| table[v.index()]);
    }
    let Packing { scale, offset, .. } = recipe.packing;
    // Numbers that mean what they are need no f64 either.
    let single = recipe.packing.single || (scale, offset) == (1.0, 0.0);
    match conversion.as_scale().filter(|_| T::FITS_F32) {
        Some(factor) if single && f64::from(factor as f32) == factor => {
            let (scale, offset, factor) = (scale as f32, offset as f32, factor as f32);
            recipe.place_fused(raw, layout, &mut out, |v| (v * scale + offset) * factor);
        }
        Some(factor) if !single => {
            recipe.place_fused(raw, layout, &mut out, |v| ((f64::from(v) * scale + offset) * factor) as f32);
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
