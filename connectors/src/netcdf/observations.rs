//! Observations as CF-NetCDF: an archive of many slots, or one frame for a record.

use std::path::Path;

use ::netcdf::FileMut;
use squall_fields::{Frame, Unit, ValidTime};

use super::create::{DenseWriter, Draft, GridInFile, Step, Storage, WriteOptions, describe, failed, to_bytes, to_path};
use crate::error::FileError;

/// Writes frames of one grid and one set of variables into a file, in the order given.
///
/// # Errors
/// [`FileError::Malformed`] if there is no frame or the frames differ in grid or variables;
/// [`FileError::Io`] if the file cannot be written.
pub fn write_frames(path: &Path, frames: &[Frame], title: &str, options: &WriteOptions) -> Result<(), FileError> {
    to_path(path, |draft| build(draft, frames, title, options))
}

/// One frame as the bytes of a file, for the value of a record. The same frame gives the same bytes.
///
/// ```
/// use std::sync::Arc;
/// use squall_connectors::netcdf::{Reader, WriteOptions, frame_bytes};
/// use squall_connectors::options::ReadOptions;
/// use squall_fields::*;
///
/// let axis = |first, step| Axis { first, step, len: 8 };
/// let frame = Frame {
///     grid: Arc::new(Grid { proj: "EPSG:3067".into(), wkt: None, x: axis(0.0, 1000.0), y: axis(7e6, -1000.0) }),
///     slot: ValidTime::from_unix_seconds(1_475_073_900),
///     variables: [Variable::RainRate].into(),
///     values: ndarray::Array3::from_elem((1, 8, 8), 0.25),
///     quality: None,
///     input: InputRef { topic: "t".into(), partition: 0, offset: 0, digest: "".into() },
/// };
/// let bytes = frame_bytes(&frame, &WriteOptions::default())?;
/// let back = Reader::from_bytes(&bytes, &ReadOptions::default())?.frame(0)?;
/// assert_eq!((back.values, back.slot, back.grid), (frame.values, frame.slot, frame.grid));
/// # Ok::<(), squall_connectors::error::FileError>(())
/// ```
///
/// # Errors
/// As [`write_frames`].
pub fn frame_bytes(frame: &Frame, options: &WriteOptions) -> Result<Vec<u8>, FileError> {
    // In a record the coordinates of every cell would be most of the bytes; the grid mapping gives them.
    let options = WriteOptions { lat_lon: false, ..options.clone() };
    to_bytes(|draft| build(draft, std::slice::from_ref(frame), "Observation", &options))
}

fn build(draft: &mut Draft, frames: &[Frame], title: &str, options: &WriteOptions) -> Result<(), FileError> {
    let wrong = |reason: &str| FileError::malformed("frames to write", reason);
    let first = frames.first().ok_or_else(|| wrong("expected at least one frame"))?;
    if frames
        .iter()
        .any(|f| f.grid != first.grid || f.variables != first.variables || f.values.dim() != first.values.dim())
    {
        return Err(wrong("expected frames of one grid and the same variables"));
    }
    let attributes = [
        ("Conventions", "CF-1.11"),
        ("title", title),
        ("institution", &options.institution),
        ("source", "gridded observation"),
        ("history", "written by Squall"),
    ];
    let file = &mut draft.file;
    for (name, value) in attributes {
        file.add_attribute(name, value).map_err(failed(name))?;
    }
    let slots: Vec<ValidTime> = frames.iter().map(|frame| frame.slot).collect();
    write_time(file, &slots)?;
    let grid = GridInFile::write(draft, &first.grid, options)?;
    let has_quality = frames.iter().any(|frame| frame.quality.is_some());
    for (plane, variable) in first.variables.iter().enumerate() {
        let packing = match options.storage {
            Storage::Packed => {
                let planes = frames.iter().map(|frame| frame.values.index_axis(ndarray::Axis(0), plane));
                let planes: Vec<_> = planes.collect();
                Some(Step::for_rows(planes.iter().flat_map(|plane| plane.rows()).collect()))
            }
            Storage::Float => None,
        };
        let name = variable.standard_name();
        let mut out = DenseWriter::add(draft, name, &["time"], &grid, packing, options.deflate)?;
        out.describe(&[
            ("standard_name", name),
            ("long_name", &variable.name().replace('_', " ")),
            ("units", variable.unit().symbol()),
            (
                "cell_methods",
                if variable.unit() == Unit::KilogramsPerSquareMetre { "time: sum" } else { "time: point" },
            ),
        ])?;
        if has_quality {
            out.describe(&[("ancillary_variables", "quality_index")])?;
        }
        out.coordinates("")?;
        let planes = frames.iter().map(|frame| frame.values.index_axis(ndarray::Axis(0), plane));
        out.put(&planes.enumerate().map(|(index, values)| (vec![index], values)).collect::<Vec<_>>());
    }
    if has_quality { write_quality(draft, frames, &grid, options) } else { Ok(()) }
}

/// Quality as 0 to 1 in steps of 0.0001; missing where a frame has none.
fn write_quality(
    draft: &mut Draft,
    frames: &[Frame],
    grid: &GridInFile,
    options: &WriteOptions,
) -> Result<(), FileError> {
    let step = (options.storage == Storage::Packed).then_some(Step { scale: 1e-4, offset: 0.0 });
    let mut out = DenseWriter::add(draft, "quality_index", &["time"], grid, step, options.deflate)?;
    out.describe(&[("long_name", "quality index of the observation, 0 bad to 1 good"), ("units", "1")])?;
    out.coordinates("")?;
    let planes =
        frames.iter().enumerate().filter_map(|(index, frame)| Some((vec![index], frame.quality.as_ref()?.view())));
    out.put(&planes.collect::<Vec<_>>());
    Ok(())
}

/// Writes dimension and coordinate `time`.
pub(super) fn write_time(file: &mut FileMut, slots: &[ValidTime]) -> Result<(), FileError> {
    file.add_dimension("time", slots.len()).map_err(failed("time"))?;
    let mut time = file.add_variable::<i64>("time", &["time"]).map_err(failed("time"))?;
    describe(&mut time, &TIME)?;
    describe(&mut time, &[("axis", "T")])?;
    let seconds: Vec<i64> = slots.iter().map(|slot| slot.unix_seconds()).collect();
    time.put_values(&seconds, ..).map_err(failed("time"))
}

/// Attributes of a time coordinate.
pub(super) const TIME: [(&str, &str); 4] = [
    ("standard_name", "time"),
    ("units", "seconds since 1970-01-01 00:00:00"),
    ("calendar", "standard"),
    ("units_metadata", "leap_seconds: none"),
];
