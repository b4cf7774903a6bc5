//! The chunks of dense variables, packed, shuffled and deflated on all cores, and written as they are.
//!
//! The library deflates one chunk after the other, under one lock, which costs more than all else about the file of a forecast.
//! So it makes the file with everything but the dense values; their chunks, in the form that its filters would give them, are
//! put into it afterwards. Readers see no difference.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytemuck::Pod;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use hdf5_metno_sys::h5d::H5Dwrite_chunk;
use hdf5_metno_sys::h5p::H5P_DEFAULT;
use ndarray::{ArrayView2, s};

use crate::error::FileError;

/// A chunk of a variable as the file holds it.
#[derive(Clone)]
pub(super) struct Chunk {
    variable: Arc<str>,
    /// Index of its first value in each dimension.
    offset: Vec<u64>,
    bytes: Bytes,
}

/// How the chunks of a variable are made.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Name of the variable.
    pub(super) variable: Arc<str>,
    /// Rows and columns of a chunk.
    pub(super) chunk: (usize, usize),
    /// Level of the deflate filter; 0 has no filters.
    pub(super) deflate: u8,
}

impl Shape {
    /// The chunks of a field `[y, x]` at an index of the leading dimensions, each value as `convert` has it in the file; `fill`
    /// pads those at the edges.
    pub(super) fn cut<V: Copy, T: Pod>(
        &self,
        at: &[usize],
        field: ArrayView2<'_, V>,
        fill: T,
        convert: impl Fn(V) -> T,
    ) -> Vec<Chunk> {
        let (rows, columns) = field.dim();
        let (chunk_rows, chunk_columns) = self.chunk;
        let mut chunks = Vec::new();
        let mut values = vec![fill; chunk_rows * chunk_columns];
        for y in (0..rows).step_by(chunk_rows) {
            for x in (0..columns).step_by(chunk_columns) {
                let part = field.slice(s![y..rows.min(y + chunk_rows), x..columns.min(x + chunk_columns)]);
                if part.dim() != self.chunk {
                    values.fill(fill);
                }
                for (row, out) in part.rows().into_iter().zip(values.chunks_mut(chunk_columns)) {
                    match row.as_slice() {
                        Some(row) => out.iter_mut().zip(row).for_each(|(out, value)| *out = convert(*value)),
                        None => out.iter_mut().zip(row).for_each(|(out, value)| *out = convert(*value)),
                    }
                }
                let bytes = bytemuck::cast_slice(&values);
                let bytes = match self.deflate {
                    0 => bytes.to_vec(),
                    level => deflated(&shuffled_values::<T>(bytes), level),
                };
                let offset = at.iter().copied().chain([y, x]).map(|index| index as u64).collect();
                chunks.push(Chunk { variable: self.variable.clone(), offset, bytes: bytes.into() });
            }
        }
        chunks
    }
}

/// The first bytes of all values, then the second ones, and so on: HDF5's shuffle filter.
fn shuffled_values<T>(bytes: &[u8]) -> Vec<u8> {
    match size_of::<T>() {
        2 => shuffled::<2>(bytes),
        4 => shuffled::<4>(bytes),
        8 => shuffled::<8>(bytes),
        size => (0..size).flat_map(|byte| bytes[byte..].iter().step_by(size).copied()).collect(),
    }
}

/// The same of values of a size.
fn shuffled<const SIZE: usize>(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; bytes.len()];
    // Of a size that is known when this is compiled it is done in vector registers.
    for (byte, plane) in out.chunks_exact_mut((bytes.len() / SIZE).max(1)).enumerate() {
        plane.iter_mut().zip(bytes.as_chunks::<SIZE>().0).for_each(|(out, value)| *out = value[byte]);
    }
    out
}

/// HDF5's deflate filter.
fn deflated(bytes: &[u8], level: u8) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(u32::from(level)));
    let done = encoder.write_all(bytes).and_then(|()| encoder.finish());
    done.expect("a Vec takes every write")
}

/// Puts chunks into a file whose variables are there and have no values yet.
pub(super) fn write(path: &Path, chunks: &[Chunk]) -> Result<(), FileError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: hdf5_metno::Error| FileError::unwritten(what, error)
    };
    if chunks.is_empty() {
        return Ok(());
    }
    let file = hdf5_metno::File::open_rw(path).map_err(failed("the unfinished file"))?;
    for of_one in chunks.chunk_by(|a, b| a.variable == b.variable) {
        let name = &of_one[0].variable;
        let dataset = file.dataset(name).map_err(failed(name))?;
        for Chunk { offset, bytes, .. } in of_one {
            let written = hdf5_metno::sync::sync(|| {
                // SAFETY: the lock of the library is held, the dataset is open, the offset has as many numbers as it has
                // dimensions, and the library reads so many bytes.
                unsafe {
                    H5Dwrite_chunk(dataset.id(), H5P_DEFAULT, 0, offset.as_ptr(), bytes.len(), bytes.as_ptr().cast())
                }
            });
            if written < 0 {
                let error = hdf5_metno::Error::query().unwrap_or_else(|error| error);
                return Err(failed(name)(error));
            }
        }
    }
    file.close().map_err(failed("the unfinished file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn the_edges_are_padded_and_bytes_are_shuffled() {
        let shape = Shape { variable: "v".into(), chunk: (2, 2), deflate: 0 };
        let field = Array2::from_shape_vec((3, 2), (1..7).map(|v| v as f32).collect()).unwrap();
        let chunks = shape.cut(&[7], field.view(), -1i16, |value| value as i16);
        let offsets: Vec<_> = chunks.iter().map(|chunk| chunk.offset.clone()).collect();
        assert_eq!(offsets, [[7, 0, 0], [7, 2, 0]]);
        assert_eq!(bytemuck::cast_slice::<u8, i16>(&chunks[1].bytes), [5, 6, -1, -1]);
        assert_eq!(shuffled::<2>(&[1, 2, 3, 4, 5, 6]), [1, 3, 5, 2, 4, 6]);
    }
}
