//! What every NetCDF file that Squall writes has in common: grid, packing, and bytes that are the
//! same for the same content.
//!
//! The library cannot give a NetCDF-4 file as bytes, so it is written to a temporary file and read
//! back. Nothing of the machine's clock goes into it: a forecast's name in the store is its digest.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ::netcdf::{AttributeValue, FileMut, Options, VariableMut};
use ndarray::{Array2, ArrayView1, ArrayView2, Axis as NdAxis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use squall_fields::crs::CfValue;
use squall_fields::{Axis, Grid};

use super::chunks::{self, Chunk, Shape};
use super::read::guarded;
use crate::error::FileError;

/// Order of the rows in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOrder {
    /// As in memory.
    #[default]
    NorthFirst,
    /// As most models write.
    SouthFirst,
}

/// How values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// 16-bit integers with a step of 0.01 of the unit, or coarser where the range needs it.
    #[default]
    Packed,
    /// 32-bit floating point, exact.
    Float,
}

/// How files are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// Order of the rows.
    pub rows: RowOrder,
    /// How values are stored.
    pub storage: Storage,
    /// Level of the deflate filter, 0 (none) to 9. Beyond 2 rain fields shrink little and take much longer.
    pub deflate: u8,
    /// Whether latitude and longitude of every cell are written where the grid is projected. The CF
    /// conventions ask for them; a file of a few fields is mostly coordinates then.
    pub lat_lon: bool,
    /// The publisher, for the attribute `institution`.
    pub institution: String,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            rows: RowOrder::NorthFirst,
            storage: Storage::Packed,
            deflate: 2,
            lat_lon: true,
            institution: "unknown".to_owned(),
        }
    }
}

/// A file that is being made.
pub(super) struct Draft {
    /// All but the dense values.
    pub(super) file: FileMut,
    /// Their chunks.
    dense: Vec<Chunk>,
}

/// Builds a file and gives its bytes.
pub(super) fn to_bytes(build: impl FnOnce(&mut Draft) -> Result<(), FileError>) -> Result<Vec<u8>, FileError> {
    let io = |source| FileError::Io { path: std::env::temp_dir(), source };
    let folder = tempfile::tempdir().map_err(io)?;
    let path = folder.path().join("squall.nc");
    create(&path, build)?;
    std::fs::read(&path).map_err(io)
}

/// Builds a file at a path, in place of one that is there: it appears whole or not at all.
pub(super) fn to_path(path: &Path, build: impl FnOnce(&mut Draft) -> Result<(), FileError>) -> Result<(), FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = tempfile::Builder::new().prefix(".squall-").tempdir_in(folder).map_err(io)?;
    let unfinished = place.path().join("squall.nc");
    create(&unfinished, build)?;
    std::fs::rename(&unfinished, path).map_err(io)
}

fn create(path: &Path, build: impl FnOnce(&mut Draft) -> Result<(), FileError>) -> Result<(), FileError> {
    let name = path.display().to_string();
    guarded(&name, || {
        let bare = path.with_extension("bare");
        let file = ::netcdf::create_with(&bare, Options::NETCDF4).map_err(failed(&name))?;
        let mut draft = Draft { file, dense: Vec::new() };
        build(&mut draft)?;
        draft.file.close().map_err(failed(&name))?;
        // The library locks what it writes, and a child process that starts at that moment keeps the lock for as long as it
        // lives: a copy is nobody's yet.
        std::fs::copy(&bare, path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        chunks::write(path, &draft.dense)
    })
}

/// An error of the library while something is written.
pub(super) fn failed<'a>(what: &'a str) -> impl Fn(::netcdf::Error) -> FileError + 'a {
    move |error| FileError::unwritten(what, error)
}

/// Sets attributes of a variable.
pub(super) fn describe(variable: &mut VariableMut<'_>, attributes: &[(&str, &str)]) -> Result<(), FileError> {
    for (name, value) in attributes {
        variable.put_attribute(name, *value).map_err(failed(name))?;
    }
    Ok(())
}

/// Writes a coordinate variable of f64.
fn coordinate(file: &mut FileMut, name: &str, axis: Axis, attributes: &[(&str, &str)]) -> Result<(), FileError> {
    file.add_dimension(name, axis.len).map_err(failed(name))?;
    let mut variable = file.add_variable::<f64>(name, &[name]).map_err(failed(name))?;
    describe(&mut variable, attributes)?;
    variable.put_values(&axis.centres(), ..).map_err(failed(name))
}

/// How a grid lies in a file that is being written.
pub(super) struct GridInFile {
    /// Names of the dimensions of rows and columns.
    pub(super) rows: &'static str,
    pub(super) columns: &'static str,
    /// Auxiliary coordinates for the attribute `coordinates`.
    pub(super) auxiliary: &'static str,
    /// Whether there is a variable `crs`.
    pub(super) has_crs: bool,
    flip: bool,
    chunk: (usize, usize),
}

/// Latitudes and longitudes of a grid as files have them.
struct Places {
    grid: Grid,
    flip: bool,
    deflate: u8,
    chunks: Vec<Chunk>,
}

/// Names and units of the auxiliary coordinates.
const PLACES: [(&str, &str); 2] = [("latitude", "degrees_north"), ("longitude", "degrees_east")];
/// Degrees that one step of them stands for.
const STEP_OF_PLACES: f64 = 1e-6;
/// The places that were made last.
static MADE: Mutex<VecDeque<Places>> = Mutex::new(VecDeque::new());
/// Grids whose places are remembered: about as many as a program forecasts on, a few bytes a cell each.
const MOST_MADE: usize = 8;

impl GridInFile {
    /// Writes dimensions, coordinates and grid mapping.
    pub(super) fn write(draft: &mut Draft, grid: &Grid, options: &WriteOptions) -> Result<Self, FileError> {
        let file = &mut draft.file;
        let flip = options.rows == RowOrder::SouthFirst;
        let y = if flip { grid.y.reversed() } else { grid.y };
        let projection = if grid.proj.is_empty() { None } else { Some(grid.projection()?) };
        let (angular, geographic) = projection.as_ref().map_or((false, false), |p| (p.is_angular(), p.is_geographic()));
        let (rows, columns, standard_y, standard_x, unit_y, unit_x) = match (angular, geographic) {
            (_, true) => ("latitude", "longitude", "latitude", "longitude", "degrees_north", "degrees_east"),
            (true, _) => ("rlat", "rlon", "grid_latitude", "grid_longitude", "degrees", "degrees"),
            _ => ("y", "x", "projection_y_coordinate", "projection_x_coordinate", "m", "m"),
        };
        coordinate(file, rows, y, &[("standard_name", standard_y), ("units", unit_y), ("axis", "Y")])?;
        coordinate(file, columns, grid.x, &[("standard_name", standard_x), ("units", unit_x), ("axis", "X")])?;
        let has_crs = projection.is_some();
        let mut has_name = true;
        if has_crs {
            let mut crs = file.add_variable::<i32>("crs", &[]).map_err(failed("crs"))?;
            let attributes = grid.crs_to_cf()?;
            has_name = attributes.contains_key("grid_mapping_name");
            for (name, value) in attributes {
                let value = match value {
                    CfValue::Text(text) => AttributeValue::Str(text),
                    CfValue::Numbers(v) if v.len() == 1 => AttributeValue::Double(v[0]),
                    CfValue::Numbers(v) => AttributeValue::Doubles(v),
                };
                crs.put_attribute(&name, value).map_err(failed("crs"))?;
            }
            crs.put_value(0i32, ()).map_err(failed("crs"))?;
        }
        let chunk = (chunk_len(grid.y.len), chunk_len(grid.x.len));
        let mut this = Self { rows, columns, auxiliary: "", has_crs, flip, chunk };
        // A projection that CF has no name for is placed by latitudes and longitudes alone.
        if (options.lat_lon || !has_name) && has_crs && !geographic {
            this.write_places(draft, grid, options)?;
            this.auxiliary = "latitude longitude";
        }
        Ok(this)
    }

    /// Latitude and longitude of every cell, to a millionth of a degree (0.1 m).
    fn write_places(&self, draft: &mut Draft, grid: &Grid, options: &WriteOptions) -> Result<(), FileError> {
        for (name, unit) in PLACES {
            let variable = draft.file.add_variable::<i32>(name, &[self.rows, self.columns]);
            let mut variable = variable.map_err(failed(name))?;
            variable.set_fill_value(i32::MIN).map_err(failed(name))?;
            variable.set_chunking(&[self.chunk.0, self.chunk.1]).map_err(failed(name))?;
            if options.deflate > 0 {
                variable.set_compression(i32::from(options.deflate.min(9)), true).map_err(failed(name))?;
            }
            describe(&mut variable, &[("standard_name", name), ("units", unit)])?;
            variable.put_attribute("scale_factor", STEP_OF_PLACES).map_err(failed(name))?;
        }
        draft.dense.extend(self.places(grid, options.deflate.min(9))?);
        Ok(())
    }

    /// The chunks of latitudes and longitudes. Every file of a stream has the same: they are made once, since the projection
    /// of each cell takes longer than all else about a small forecast.
    fn places(&self, grid: &Grid, deflate: u8) -> Result<Vec<Chunk>, FileError> {
        let made = || MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |of: &Places| of.flip == self.flip && of.deflate == deflate && of.grid == *grid;
        if let Some(chunks) = made().iter().find(|of| is_same(of)).map(|of| of.chunks.clone()) {
            return Ok(chunks);
        }
        // Not under the lock: the thread that makes them may do other work of the pool meanwhile, such as another file.
        let (lat, lon) = grid.lat_lon_fields()?;
        let pack = |v: f64| if v.is_finite() { (v / STEP_OF_PLACES).round() as i32 } else { i32::MIN };
        let cut = |((name, _), values): (&(&str, &str), Array2<f64>)| {
            let shape = Shape { variable: (*name).into(), chunk: self.chunk, deflate };
            shape.cut(&[], self.in_file_order(values.view()), i32::MIN, pack)
        };
        let chunks: Vec<Chunk> = PLACES.iter().zip([lat, lon]).flat_map(cut).collect();
        let places = Places { grid: grid.clone(), flip: self.flip, deflate, chunks: chunks.clone() };
        let mut made = made();
        if !made.iter().any(is_same) {
            made.truncate(MOST_MADE - 1);
            made.push_front(places);
        }
        Ok(chunks)
    }

    fn in_file_order<'a, T>(&self, mut field: ArrayView2<'a, T>) -> ArrayView2<'a, T> {
        if self.flip {
            field.invert_axis(NdAxis(0));
        }
        field
    }
}

/// Length of the chunks of an axis: at most 512, and as even as possible, since the last one is stored
/// in full (760 columns in chunks of 512 would be a third padding).
pub(crate) fn chunk_len(len: usize) -> usize {
    len.max(1).div_ceil(len.max(1).div_ceil(512))
}

/// A dense variable of fields: `[leading.., y, x]`.
pub(super) struct DenseWriter<'f, 'g> {
    variable: VariableMut<'f>,
    grid: &'g GridInFile,
    shape: Shape,
    /// Where its chunks are gathered.
    chunks: &'f mut Vec<Chunk>,
    /// `None` for f32.
    packing: Option<Step>,
}

/// Packing into 16-bit integers: value = packed * scale + offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) scale: f32,
    pub(super) offset: f32,
}

/// The packed value that means missing.
const MISSING: i16 = i16::MIN;

impl Step {
    /// 0.01 of the unit around 0, coarser if the values reach beyond 327.67.
    pub(super) fn for_rows(rows: Vec<ArrayView1<'_, f32>>) -> Self {
        // The bits of sizes are in their order, and whole numbers with a sign are compared in vector registers.
        const INFINITE: i32 = f32::INFINITY.to_bits() as i32;
        let bits = |value: f32| value.abs().to_bits() as i32;
        let larger = |largest: i32, value| if bits(value) < INFINITE { largest.max(bits(value)) } else { largest };
        let largest = |row: &ArrayView1<'_, f32>| match row.as_slice() {
            Some(row) => row.iter().copied().fold(0, larger),
            None => row.iter().copied().fold(0, larger),
        };
        let largest = rows.par_iter().with_min_len(64).map(largest).reduce(|| 0, i32::max);
        let largest = f32::from_bits(largest.unsigned_abs());
        Self { scale: (largest / 32_767.0).max(0.01), offset: 0.0 }
    }

    fn pack(self, value: f32) -> i16 {
        // Adding 1.5 * 2^23 leaves the nearest integer in the low bits: unlike `round`, which is a call
        // on plain x86-64, this vectorises.
        const MAGIC: f32 = 12_582_912.0;
        let scaled = ((value - self.offset) / self.scale).clamp(-32_767.0, 32_767.0);
        let packed = (scaled + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i16;
        if value.is_finite() { packed } else { MISSING }
    }
}

impl<'f, 'g> DenseWriter<'f, 'g> {
    /// Adds a variable with its fill value, chunks and filter.
    pub(super) fn add(
        Draft { file, dense: chunks }: &'f mut Draft,
        name: &str,
        leading: &[&str],
        grid: &'g GridInFile,
        packing: Option<Step>,
        deflate: u8,
    ) -> Result<Self, FileError> {
        let dimensions: Vec<&str> = leading.iter().copied().chain([grid.rows, grid.columns]).collect();
        let chunk: Vec<usize> = leading.iter().map(|_| 1).chain([grid.chunk.0, grid.chunk.1]).collect();
        let mut variable = match packing {
            Some(_) => file.add_variable::<i16>(name, &dimensions).map_err(failed(name))?,
            None => file.add_variable::<f32>(name, &dimensions).map_err(failed(name))?,
        };
        match packing {
            Some(_) => variable.set_fill_value(MISSING).map_err(failed(name))?,
            None => variable.set_fill_value(f32::NAN).map_err(failed(name))?,
        }
        variable.set_chunking(&chunk).map_err(failed(name))?;
        if deflate > 0 {
            variable.set_compression(i32::from(deflate.min(9)), true).map_err(failed(name))?;
        }
        if let Some(step) = packing {
            variable.put_attribute("scale_factor", step.scale).map_err(failed(name))?;
            variable.put_attribute("add_offset", step.offset).map_err(failed(name))?;
        }
        if grid.has_crs {
            variable.put_attribute("grid_mapping", "crs").map_err(failed(name))?;
        }
        let shape = Shape { variable: name.into(), chunk: grid.chunk, deflate: deflate.min(9) };
        Ok(Self { variable, grid, shape, chunks, packing })
    }

    /// Sets text attributes.
    pub(super) fn describe(&mut self, attributes: &[(&str, &str)]) -> Result<(), FileError> {
        describe(&mut self.variable, attributes)
    }

    /// Sets `coordinates` to the scalar and auxiliary coordinates.
    pub(super) fn coordinates(&mut self, scalar: &str) -> Result<(), FileError> {
        let all = format!("{scalar} {}", self.grid.auxiliary);
        if all.trim().is_empty() { Ok(()) } else { self.describe(&[("coordinates", all.trim())]) }
    }

    /// Writes fields, each at an index of the leading dimensions.
    pub(super) fn put(&mut self, fields: &[(Vec<usize>, ArrayView2<'_, f32>)]) {
        let (grid, shape, packing) = (self.grid, &self.shape, self.packing);
        let cut = |(at, field): &(Vec<usize>, ArrayView2<'_, f32>)| {
            let field = grid.in_file_order(*field);
            match packing {
                Some(step) => shape.cut(at, field, MISSING, |value| step.pack(value)),
                None => shape.cut(at, field, f32::NAN, |value| value),
            }
        };
        let chunks: Vec<Vec<Chunk>> = fields.par_iter().map(cut).collect();
        self.chunks.extend(chunks.into_iter().flatten());
    }
}

/// Rounds as packing does: what a reader will see.
#[cfg(test)]
pub(super) fn as_stored(values: &ndarray::Array2<f32>, step: Step) -> ndarray::Array2<f32> {
    values.mapv(|v| match step.pack(v) {
        MISSING => f32::NAN,
        packed => f32::from(packed) * step.scale + step.offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_rounds_to_the_nearest_step() {
        let step = Step { scale: 0.01, offset: 0.0 };
        for (value, packed) in
            [(0.0, 0), (0.014, 1), (0.016, 2), (-0.016, -2), (327.67, 32_767), (1e9, 32_767), (-1e9, -32_767)]
        {
            assert_eq!(step.pack(value), packed, "{value}");
        }
        assert_eq!([f32::NAN, f32::INFINITY].map(|v| step.pack(v)), [MISSING; 2]);
    }

    #[test]
    fn chunks_are_even() {
        assert_eq!([1, 256, 512, 513, 760, 1226, 7000].map(chunk_len), [1, 256, 512, 257, 380, 409, 500]);
    }
}
