//! Frames from a CF-NetCDF file, one at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::netcdf::{Extent, File, FileMem};
use ndarray::{Array2, Array3, ArrayViewMut2, Axis as NdAxis};
use sha2::{Digest, Sha256};
use squall_fields::{Conversion, Frame, Grid, InputRef, IssueTime, ValidTime, Variable};

use super::attributes::text;
use super::choice::{choose_group, note_interval};
use super::classic;
use super::placement::{Placement, placement};
use super::plan::{self, Plane};
use super::schema::{Role, Schema};
use super::times::{self, Times};
use crate::error::FileError;
use crate::gridded::unpack::{Layout, Packed, unpack};
use crate::gridded::{Notes, NumberType};
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
    times: Times,
    variables: Arc<[Variable]>,
    planes: Vec<Plane>,
    quality: Option<Plane>,
    placement: Placement,
    notes: Notes,
    schema: Schema,
    options: ReadOptions,
    members: usize,
    issue_time: Option<IssueTime>,
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
        if first.starts_with(CLASSIC) {
            let file = std::fs::File::open(&canonical).map_err(io)?;
            let len = file.metadata().map_err(io)?.len();
            classic::check_length(std::io::BufReader::new(file), len)?;
        }
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
        if bytes.starts_with(CLASSIC) {
            classic::check_length(bytes, bytes.len() as u64)?;
        }
        guarded("NetCDF bytes", || {
            let file = ::netcdf::open_mem(None, bytes).map_err(|e| FileError::malformed("NetCDF bytes", e))?;
            Reader::new(Opened::InMemory(file), "", options)
        })
    }

    fn new(opened: Opened<'b>, name: &str, options: &ReadOptions) -> Result<Self, FileError> {
        let file = opened.file();
        let mut notes = Notes::default();
        let (schema, planes) = choose_group(file, options, &mut notes)?;
        let first = planes.first().ok_or_else(|| FileError::malformed(name, "there is nothing to read"))?;
        let placement = placement(file, &schema, &first.source, options)?;
        notes.extend(placement.notes.clone());
        for plane in &planes {
            if (&plane.source.dimensions, &plane.source.shape) != (&first.source.dimensions, &first.source.shape) {
                let reason = format!("expected the dimensions of {}: {:?}", first.source.path, first.source.dimensions);
                return Err(FileError::malformed(&plane.source.path, reason));
            }
        }
        let times = Times::read(file, &schema, &first.source, &options.limits, &mut notes)?;
        planes
            .iter()
            .filter(|plane| plane.is_amount())
            .for_each(|plane| note_interval(plane, &times, options, &mut notes));
        let quality = plan::quality(&schema, first, &mut notes);
        let variables = planes.iter().map(|plane| plane.variable).collect();
        let grid = Arc::new(placement.grid.clone());
        let (name, options) = (Arc::from(name), options.clone());
        let dimensions = first.source.dimensions.iter().zip(&first.source.shape);
        let members = dimensions.filter(|(d, _)| schema.role(d) == Role::Member).map(|(_, len)| *len).product();
        let issue_time = times::issue_time(file, &schema, &times).map(IssueTime::from);
        Ok(Self {
            opened,
            name,
            grid,
            times,
            variables,
            planes,
            quality,
            placement,
            notes,
            schema,
            options,
            members,
            issue_time,
        })
    }

    /// The grid of every frame.
    pub fn grid(&self) -> &Arc<Grid> {
        &self.grid
    }

    /// When each frame is valid, in the file's order.
    pub fn slots(&self) -> &[ValidTime] {
        &self.times.slots
    }

    /// What each plane of a frame is.
    pub fn variables(&self) -> &Arc<[Variable]> {
        &self.variables
    }

    /// Members of each field: 1 of an observation.
    pub fn members(&self) -> usize {
        self.members
    }

    /// When the file was issued, if it is a forecast.
    pub fn issue_time(&self) -> Option<IssueTime> {
        self.issue_time
    }

    /// A text attribute of the file.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        text(&self.schema.attributes, name)
    }

    /// What was assumed of the file.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.times.slots.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.times.slots.is_empty()
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
        if self.members > 1 {
            let reason = format!("it has {} members, expected one field a time", self.members);
            return Err(FileError::malformed(&self.planes[0].source.path, reason));
        }
        self.member(index, 0, input)
    }

    /// Reads one member of a forecast, as a frame.
    ///
    /// # Errors
    /// As [`Reader::frame`].
    pub fn member(&self, index: usize, member: usize, input: InputRef) -> Result<Frame, FileError> {
        if member >= self.members {
            return Err(FileError::NoField { index: member, count: self.members });
        }
        let count = self.times.slots.len();
        let slot = *self.times.slots.get(index).ok_or(FileError::NoField { index, count })?;
        let (rows, columns) = self.grid.shape();
        let mut values = Array3::zeros((self.planes.len(), rows, columns));
        for (plane, out) in self.planes.iter().zip(values.axis_iter_mut(NdAxis(0))) {
            let conversion = self.conversion(plane, index)?;
            guarded(&plane.source.path, || self.read_plane(plane, conversion, (index, member), out))?;
        }
        let variables = self.variables.clone();
        Ok(Frame { grid: self.grid.clone(), slot, variables, values, quality: self.read_quality(index), input })
    }

    fn conversion(&self, plane: &Plane, index: usize) -> Result<Conversion, FileError> {
        let context = self.options.conversion(&self.times.intervals[index]);
        Conversion::new(plane.unit, plane.variable, &context)
            .map_err(|source| FileError::Unit { variable: plane.source.path.clone(), source })
    }

    fn read_plane(
        &self,
        plane: &Plane,
        conversion: Conversion,
        at: (usize, usize),
        out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), FileError> {
        let name = &plane.source.path;
        let file = self.opened.file();
        let variable = file.variable(name).ok_or_else(|| FileError::malformed(name, "it is gone"))?;
        let (extents, layout) = self.extents(plane, at)?;
        // A signed type may be declared and an unsigned one meant, of the same width.
        macro_rules! read {
            ($declared:ty, $stored:ty) => {{
                let mut raw = vec![<$declared>::default(); layout.rows * layout.columns];
                variable.get_values_into(&mut raw, extents).map_err(|e| FileError::malformed(name, e))?;
                finish::<$stored>(bytemuck::cast_slice(&raw), plane, conversion, layout, out)
            }};
        }
        use NumberType::{F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        let declared = plane.source.stored.ok_or_else(|| FileError::malformed(name, "expected numbers"))?;
        match (declared, plane.packing.stored) {
            (I8, U8) => read!(i8, u8),
            (I8, _) => read!(i8, i8),
            (U8, I8) => read!(u8, i8),
            (U8, _) => read!(u8, u8),
            (I16, U16) => read!(i16, u16),
            (I16, _) => read!(i16, i16),
            (U16, I16) => read!(u16, i16),
            (U16, _) => read!(u16, u16),
            (I32, U32) => read!(i32, u32),
            (I32, _) => read!(i32, i32),
            (U32, I32) => read!(u32, i32),
            (U32, _) => read!(u32, u32),
            (I64, U64) => read!(i64, u64),
            (I64, _) => read!(i64, i64),
            (U64, I64) => read!(u64, i64),
            (U64, _) => read!(u64, u64),
            (F32, _) => read!(f32, f32),
            (F64, _) => read!(f64, f64),
        }
        Ok(())
    }

    /// The quality index of a frame, if the file has one that can be read.
    fn read_quality(&self, index: usize) -> Option<Array2<f32>> {
        let plane = self.quality.as_ref()?;
        let mut quality = Array2::zeros(self.grid.shape());
        let read = guarded(&plane.source.path, || {
            self.read_plane(plane, Conversion::Scale(1.0), (index, 0), quality.view_mut())
        });
        match read {
            Ok(()) => Some(quality),
            Err(error) => {
                tracing::warn!(%error, "the frame has no quality");
                None
            }
        }
    }

    /// The part of the variable that is one field, and how it lies.
    fn extents(&self, plane: &Plane, (index, member): (usize, usize)) -> Result<(Vec<Extent>, Layout), FileError> {
        let (mut extents, mut order) = (Vec::new(), Vec::new());
        for (dimension, len) in plane.source.dimensions.iter().zip(&plane.source.shape) {
            let (role, len) = (self.schema.role(dimension), *len);
            match role {
                Role::X | Role::Y => {
                    order.push(role);
                    extents.push(Extent::from(0..len));
                }
                Role::Time => extents.push(Extent::from(index..index + 1)),
                Role::Member => extents.push(Extent::from(member..member + 1)),
                Role::Other if len == 1 => extents.push(Extent::from(0..1)),
                Role::Other => {
                    let reason = format!("its dimension `{dimension}` has {len} entries, expected one field a time");
                    return Err(FileError::malformed(&plane.source.path, reason));
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

/// How every classic file begins, before its version.
const CLASSIC: &[u8; 3] = b"CDF";

/// NetCDF-4 (HDF5) or one of the classic formats, by the first bytes.
pub(super) fn recognise(bytes: &[u8]) -> Result<(), FileError> {
    if bytes.starts_with(b"\x89HDF\r\n\x1a\n")
        || (bytes.starts_with(CLASSIC) && matches!(bytes.get(3), Some(1 | 2 | 5)))
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
