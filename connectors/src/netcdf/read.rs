//! Frames from a CF-NetCDF file, one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::netcdf::types::{FloatType, IntType, NcVariableType};
use ::netcdf::{Extent, File, FileMem};
use ndarray::{Array2, Array3, ArrayViewMut2, Axis as NdAxis};
use sha2::{Digest, Sha256};
use squall_fields::{Conversion, Frame, Grid, InputRef, ValidTime, Variable};

use super::plan::{self, Packing, Plane};
use super::schema::{self, Placement, Role, Schema};
use super::unpack::{Layout, Packed, unpack};
use crate::error::FileError;
use crate::hdf5;
use crate::options::ReadOptions;

/// A file on disk, or bytes in memory.
enum Opened<'b> {
    OnDisk(File),
    InMemory(FileMem<'b>),
}

impl Opened<'_> {
    fn file(&self) -> &File {
        match self {
            Self::OnDisk(file) => file,
            Self::InMemory(file) => file,
        }
    }
}

/// An open CF-NetCDF file with gridded fields, read one frame at a time.
///
/// ```no_run
/// use squall_connectors::netcdf::Reader;
/// use squall_connectors::options::ReadOptions;
/// let reader = Reader::open("radar.nc".as_ref(), &ReadOptions::default())?;
/// for index in 0..reader.len() {
///     let frame = reader.frame(index)?; // values[variable, y, x], north first, NaN = missing
///     println!("{} {:.0} %", frame.slot, 100.0 * frame.completeness());
/// }
/// # Ok::<(), squall_connectors::error::FileError>(())
/// ```
pub struct Reader<'b> {
    opened: Opened<'b>,
    name: Arc<str>,
    grid: Arc<Grid>,
    slots: Vec<ValidTime>,
    interval_seconds: Vec<Option<f64>>,
    variables: Arc<[Variable]>,
    planes: Vec<Plane>,
    placement: Placement,
    schema: Schema,
    options: ReadOptions,
}

impl Reader<'static> {
    /// Opens a file that the user named.
    ///
    /// # Errors
    /// [`FileError`] says what was expected of the file.
    pub fn open(path: &Path, options: &ReadOptions) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.to_owned(), source };
        // The library would take a name like `https://...` for an address: only what exists is opened.
        let canonical = path.canonicalize().map_err(io)?;
        let mut first = [0; 8];
        let count =
            std::fs::File::open(&canonical).and_then(|mut f| std::io::Read::read(&mut f, &mut first)).map_err(io)?;
        recognise(&first[..count])?;
        let name = path.display().to_string();
        guarded(&name, || {
            let file = ::netcdf::open(&canonical).map_err(|e| FileError::malformed(&name, e))?;
            Reader::new(Opened::OnDisk(file), &name, options)
        })
    }
}

impl<'b> Reader<'b> {
    /// Opens bytes that came in a record. Nothing outside them is looked at.
    ///
    /// # Errors
    /// [`FileError`] says what was expected of the bytes.
    pub fn from_bytes(bytes: &'b [u8], options: &ReadOptions) -> Result<Self, FileError> {
        if bytes.len() > options.limits.max_bytes {
            let (got, limit) = (bytes.len() as u64, options.limits.max_bytes as u64);
            return Err(FileError::TooLarge { what: "size in bytes", got, limit });
        }
        recognise(bytes)?;
        if bytes.starts_with(hdf5::SIGNATURE) {
            hdf5::check(&hdf5::open(bytes, &options.limits)?, &options.limits)?;
        }
        guarded("NetCDF bytes", || {
            let file = ::netcdf::open_mem(None, bytes).map_err(|e| FileError::malformed("NetCDF bytes", e))?;
            Reader::new(Opened::InMemory(file), "", options)
        })
    }

    fn new(opened: Opened<'b>, name: &str, options: &ReadOptions) -> Result<Self, FileError> {
        let file = opened.file();
        let schema = Schema::of(file);
        let planes = plan::plan(&schema, options)?;
        let first = planes.first().ok_or_else(|| FileError::malformed(name, "there is nothing to read"))?;
        let placement = schema::placement(file, &schema, &first.source, options)?;
        for plane in &planes {
            if (&plane.source.dimensions, &plane.source.shape) != (&first.source.dimensions, &first.source.shape) {
                let reason = format!("expected the dimensions of {}: {:?}", first.source.name, first.source.dimensions);
                return Err(FileError::malformed(&plane.source.name, reason));
            }
        }
        let (slots, lengths) = schema::slots(file, &schema, &first.source, &options.limits)?;
        let interval_seconds = intervals(&slots, &lengths);
        let variables = planes.iter().map(|plane| plane.variable).collect();
        let grid = Arc::new(placement.grid.clone());
        let (name, options) = (Arc::from(name), options.clone());
        Ok(Self { opened, name, grid, slots, interval_seconds, variables, planes, placement, schema, options })
    }

    /// The grid of every frame.
    pub fn grid(&self) -> &Arc<Grid> {
        &self.grid
    }

    /// When each frame is valid, in the file's order.
    pub fn slots(&self) -> &[ValidTime] {
        &self.slots
    }

    /// What each plane of a frame is.
    pub fn variables(&self) -> &Arc<[Variable]> {
        &self.variables
    }

    /// Variables and attributes of the file.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Reads a frame; its input is this file, with the digest of the values.
    ///
    /// # Errors
    /// [`FileError`] if there is no such field, or it cannot be read.
    pub fn frame(&self, index: usize) -> Result<Frame, FileError> {
        let input = InputRef { topic: self.name.clone(), partition: 0, offset: index as i64, digest: Arc::from("") };
        let mut frame = self.frame_of(index, input)?;
        frame.input.digest = digest_of_values(&frame.values).into();
        Ok(frame)
    }

    /// Reads a frame that came in a record.
    ///
    /// # Errors
    /// As [`Reader::frame`].
    pub fn frame_of(&self, index: usize, input: InputRef) -> Result<Frame, FileError> {
        let count = self.slots.len();
        let slot = *self.slots.get(index).ok_or(FileError::NoField { index, count })?;
        let (rows, columns) = self.grid.shape();
        let mut values = Array3::zeros((self.planes.len(), rows, columns));
        for (plane, out) in self.planes.iter().zip(values.axis_iter_mut(NdAxis(0))) {
            let conversion = self.conversion(plane, index)?;
            guarded(&plane.source.name, || self.read_plane(plane, conversion, index, out))?;
        }
        let variables = self.variables.clone();
        Ok(Frame { grid: self.grid.clone(), slot, variables, values, quality: self.read_quality(index)?, input })
    }

    fn conversion(&self, plane: &Plane, index: usize) -> Result<Conversion, FileError> {
        let context = self.options.conversion(self.interval_seconds[index]);
        Conversion::new(plane.unit, plane.variable, &context)
            .map_err(|source| FileError::Unit { variable: plane.source.name.clone(), source })
    }

    fn read_plane(
        &self,
        plane: &Plane,
        conversion: Conversion,
        index: usize,
        out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), FileError> {
        let name = &plane.source.name;
        let file = self.opened.file();
        let variable = file.variable(name).ok_or_else(|| FileError::malformed(name, "it is gone"))?;
        let (extents, layout) = self.extents(plane, index)?;
        macro_rules! read {
            ($type:ty) => {{
                let mut raw = vec![<$type>::default(); layout.rows * layout.columns];
                variable.get_values_into(&mut raw, extents).map_err(|e| FileError::malformed(name, e))?;
                finish(&raw, plane, conversion, layout, out)
            }};
        }
        match variable.vartype() {
            NcVariableType::Int(IntType::I8) => read!(i8),
            NcVariableType::Int(IntType::U8) => read!(u8),
            NcVariableType::Int(IntType::I16) => read!(i16),
            NcVariableType::Int(IntType::U16) => read!(u16),
            NcVariableType::Int(IntType::I32) => read!(i32),
            NcVariableType::Int(IntType::U32) => read!(u32),
            NcVariableType::Int(IntType::I64) => read!(i64),
            NcVariableType::Int(IntType::U64) => read!(u64),
            NcVariableType::Float(FloatType::F32) => read!(f32),
            NcVariableType::Float(FloatType::F64) => read!(f64),
            other => return Err(FileError::malformed(name, format!("expected numbers, got {other:?}"))),
        }
        Ok(())
    }

    /// The quality index of a frame (`quality_index`, 0 to 1), if the file has one.
    fn read_quality(&self, index: usize) -> Result<Option<Array2<f32>>, FileError> {
        let (Some(info), Some(first)) = (self.schema.variable("quality_index"), self.planes.first()) else {
            return Ok(None);
        };
        if (&info.dimensions, &info.shape) != (&first.source.dimensions, &first.source.shape) {
            return Ok(None);
        }
        let plane = Plane { source: info.clone(), packing: Packing::of(info), ..first.clone() };
        let mut quality = Array2::zeros(self.grid.shape());
        guarded(&info.name, || self.read_plane(&plane, Conversion::Scale(1.0), index, quality.view_mut()))?;
        Ok(Some(quality))
    }

    /// The part of the variable that is one field, and how it lies.
    fn extents(&self, plane: &Plane, index: usize) -> Result<(Vec<Extent>, Layout), FileError> {
        let (mut extents, mut order) = (Vec::new(), Vec::new());
        for (dimension, len) in plane.source.dimensions.iter().zip(&plane.source.shape) {
            let (role, len) = (self.schema.role(dimension), *len);
            match role {
                Role::X | Role::Y => {
                    order.push(role);
                    extents.push(Extent::from(0..len));
                }
                Role::Time => extents.push(Extent::from(index..index + 1)),
                Role::Other if len == 1 => extents.push(Extent::from(0..1)),
                Role::Other => {
                    let reason = format!("its dimension `{dimension}` has {len} entries, expected one field a time");
                    return Err(FileError::malformed(&plane.source.name, reason));
                }
            }
        }
        let (rows, columns) = self.grid.shape();
        let Placement { flip_rows, flip_columns, .. } = self.placement;
        Ok((extents, Layout { rows, columns, flip_rows, flip_columns, transposed: order == [Role::X, Role::Y] }))
    }
}

/// Unpacks; a function of its own so that each type is compiled once.
fn finish<T: Packed>(raw: &[T], plane: &Plane, conversion: Conversion, layout: Layout, out: ArrayViewMut2<'_, f32>) {
    unpack(raw, &plane.packing, conversion, layout, out);
}

/// How long an amount at each slot was gathered: by time bounds, or else since the slot before.
fn intervals(slots: &[ValidTime], lengths: &[f64]) -> Vec<Option<f64>> {
    let since = |i: usize| {
        let (before, after) = if i == 0 { (0, 1) } else { (i - 1, i) };
        Some((slots.get(after)?.unix_seconds() - slots.get(before)?.unix_seconds()) as f64)
    };
    (0..slots.len()).map(|i| lengths.get(i).copied().or_else(|| since(i)).filter(|s| *s > 0.0)).collect()
}

/// SHA-256 over shape and values, in hex: the same field in another packing has the same digest.
pub fn digest_of_values(values: &Array3<f32>) -> String {
    let mut hash = Sha256::new();
    let (planes, rows, columns) = values.dim();
    [planes, rows, columns].iter().for_each(|n| hash.update((*n as u64).to_le_bytes()));
    match values.as_slice() {
        Some(values) => hash.update(bytemuck::cast_slice::<f32, u8>(values)),
        None => values.iter().for_each(|v| hash.update(v.to_le_bytes())),
    }
    hex::encode(hash.finalize())
}

/// NetCDF-4 (HDF5) or one of the classic formats, by the first bytes.
pub(super) fn recognise(bytes: &[u8]) -> Result<(), FileError> {
    if bytes.starts_with(b"\x89HDF\r\n\x1a\n") || (bytes.starts_with(b"CDF") && matches!(bytes.get(3), Some(1 | 2 | 5)))
    {
        return Ok(());
    }
    let got = match bytes.len() {
        0 => "nothing".to_owned(),
        n => format!("bytes that begin with {:02x?}", &bytes[..n.min(8)]),
    };
    Err(FileError::NotRecognised { expected: "NetCDF-4 or classic NetCDF", got })
}

/// Runs what calls the library. Its Rust wrapper panics where a damaged file breaks its assumptions;
/// such a file is an error like any other.
pub(crate) fn guarded<T>(what: &str, work: impl FnOnce() -> Result<T, FileError>) -> Result<T, FileError> {
    // HDF5 would print its own account of each error to stderr.
    hdf5_metno::silence_errors(true);
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(FileError::malformed(what, "the NetCDF library could not make sense of it")))
}
