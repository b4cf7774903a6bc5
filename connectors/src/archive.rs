//! An archive: files, read frame by frame in the order of their valid times.
//!
//! Files may be NetCDF or ODIM_H5 (told by what is in them, not by their names), of one slot or of many,
//! given in any order and with gaps. Opening reads coordinates only; a frame is decoded when it is asked for, and one
//! file at a time is kept open. Where two files have the same slot, the one given first is taken.
//! When each frame *arrives* is simulated by [`arrival`].

pub mod arrival;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use squall_fields::{Cadence, Frame, ValidTime};

pub use arrival::Arrival;

use crate::error::FileError;
use crate::netcdf::Reader;
use crate::odim;
use crate::options::ReadOptions;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// CF-NetCDF, classic or NetCDF-4.
    Netcdf,
    /// ODIM_H5.
    Odim,
}

/// Where a frame of an archive lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Index of the field in the file.
    pub index: usize,
}

/// A frame and where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveFrame {
    /// The frame.
    pub frame: Frame,
    /// Where it was read.
    pub source: Place,
}

struct Entry {
    slot: ValidTime,
    file: usize,
    index: usize,
}

/// Files as one sequence of frames in the order of valid time.
///
/// ```no_run
/// use squall_connectors::archive::Archive;
/// use squall_connectors::options::ReadOptions;
/// let archive = Archive::open(&["monday.nc", "tuesday.nc"], &ReadOptions::default())?;
/// for frame in archive.frames() {
///     println!("{}", frame?.frame.slot);
/// }
/// # Ok::<(), squall_connectors::error::FileError>(())
/// ```
pub struct Archive {
    files: Vec<(PathBuf, Format)>,
    options: ReadOptions,
    entries: Vec<Entry>,
    duplicates: usize,
    /// The file that was read last.
    open: Mutex<Option<(usize, Reader<'static>)>>,
}

impl Archive {
    /// Opens files and sorts what they hold. Nothing dense is read of NetCDF files.
    ///
    /// # Errors
    /// [`FileError`] of the first file that cannot be read.
    pub fn open<P: AsRef<Path>>(paths: &[P], options: &ReadOptions) -> Result<Self, FileError> {
        let (mut files, mut entries, mut last) = (Vec::new(), Vec::new(), None);
        for (file, path) in paths.iter().map(AsRef::as_ref).enumerate() {
            let format = format_of(path)?;
            files.push((path.to_owned(), format));
            match format {
                Format::Netcdf => {
                    let reader = Reader::open(path, options)?;
                    let slots = reader.slots().iter().enumerate();
                    entries.extend(slots.map(|(index, slot)| Entry { slot: *slot, file, index }));
                    last = Some((file, reader));
                }
                Format::Odim => {
                    let slot = odim::read(path, options)?.frame.slot;
                    entries.push(Entry { slot, file, index: 0 });
                }
            }
        }
        entries.sort_by_key(|entry| (entry.slot, entry.file, entry.index));
        let all = entries.len();
        entries.dedup_by_key(|entry| entry.slot);
        let duplicates = all - entries.len();
        Ok(Self { files, options: options.clone(), entries, duplicates, open: Mutex::new(last) })
    }

    /// The slots, ascending, each once.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = ValidTime> + '_ {
        self.entries.iter().map(|entry| entry.slot)
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Frames that were left out because another file has their slot.
    pub fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// Slots of a cadence that are missing between the first and the last.
    pub fn gaps(&self, cadence: Cadence) -> Vec<ValidTime> {
        let between = |pair: &[Entry]| {
            let (mut slot, mut missing) = (cadence.step(pair[0].slot, 1), Vec::new());
            while slot < pair[1].slot {
                missing.push(slot);
                slot = cadence.step(slot, 1);
            }
            missing
        };
        self.entries.windows(2).flat_map(between).collect()
    }

    /// Reads the frame at a position in [`Archive::slots`].
    ///
    /// # Errors
    /// [`FileError::NoField`] if there is none, or what reading the file gives.
    pub fn frame(&self, position: usize) -> Result<ArchiveFrame, FileError> {
        let count = self.entries.len();
        let Entry { file, index, .. } =
            *self.entries.get(position).ok_or(FileError::NoField { index: position, count })?;
        let (path, format) = &self.files[file];
        let frame = match format {
            Format::Odim => odim::read(path, &self.options)?.frame,
            Format::Netcdf => self.netcdf_frame(file, path, index)?,
        };
        Ok(ArchiveFrame { frame, source: Place { path: path.clone(), index } })
    }

    fn netcdf_frame(&self, file: usize, path: &Path, index: usize) -> Result<Frame, FileError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reader)) = open.as_ref().filter(|(last, _)| *last == file) {
            return reader.frame(index);
        }
        let reader = Reader::open(path, &self.options)?;
        let frame = reader.frame(index);
        *open = Some((file, reader));
        frame
    }

    /// All frames in the order of valid time, each read when it is asked for.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Result<ArchiveFrame, FileError>> + '_ {
        (0..self.entries.len()).map(|position| self.frame(position))
    }

    /// Positions in the order of arrival, each with its arrival in milliseconds since 1970: the order
    /// in which a replay publishes.
    pub fn arrivals(&self, arrival: &Arrival) -> Vec<(usize, i64)> {
        let mut order: Vec<(usize, i64)> = self.slots().map(|slot| arrival.at_ms(slot)).enumerate().collect();
        order.sort_by_key(|(position, at)| (*at, *position));
        order
    }
}

/// The format of a file, by its contents.
fn format_of(path: &Path) -> Result<Format, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let mut first = [0; 8];
    let count = std::fs::File::open(path).and_then(|mut f| std::io::Read::read(&mut f, &mut first)).map_err(io)?;
    if &first[..count] != crate::hdf5::SIGNATURE {
        // Classic NetCDF, or nothing that is known: the reader says which.
        return Ok(Format::Netcdf);
    }
    hdf5_metno::silence_errors(true);
    let file = hdf5_metno::File::open(path).map_err(|e| FileError::malformed(path.display().to_string(), e))?;
    let is_odim = file.link_exists("dataset1") && (file.link_exists("what") || file.link_exists("where"));
    Ok(if is_odim { Format::Odim } else { Format::Netcdf })
}

#[cfg(test)]
mod tests {
    use squall_fields::Variable;

    use super::*;
    use crate::netcdf::round_trip::{SYSTEMS, frame};
    use crate::netcdf::{Storage, WriteOptions, write_frames};
    use crate::odim::{OdimWriteOptions, write_bytes};

    fn frames() -> Vec<Frame> {
        let at = |i: i64| {
            let mut frame = frame(SYSTEMS[0], &[Variable::RainRate], 12, 14, i as u64);
            frame.slot = frame.slot.plus_seconds(300 * i);
            frame
        };
        (0..8).map(at).collect()
    }

    fn equal(a: &Frame, b: &Frame, tolerance: f32) -> bool {
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= tolerance || (a.is_nan() && b.is_nan());
        a.slot == b.slot && a.values.iter().zip(&b.values).all(same)
    }

    #[test]
    fn files_in_any_order_with_gaps_and_duplicates() {
        let (folder, frames) = (tempfile::tempdir().unwrap(), frames());
        let path = |name: &str| folder.path().join(name);
        let exact = WriteOptions { storage: Storage::Float, ..WriteOptions::default() };
        // The later file first; slot 3 is in both, slots 5 and 6 in none, and slot 7 is ODIM.
        write_frames(&path("late.nc"), &[frames[4].clone(), frames[3].clone()], "late", &exact).unwrap();
        write_frames(&path("early.nc"), &frames[..4], "early", &exact).unwrap();
        std::fs::write(path("radar.hdf"), write_bytes(&frames[7], &OdimWriteOptions::default()).unwrap()).unwrap();
        let paths = [path("radar.hdf"), path("late.nc"), path("early.nc")];
        let archive = Archive::open(&paths, &ReadOptions::of(&[Variable::RainRate])).unwrap();
        assert_eq!((archive.len(), archive.duplicates()), (6, 1));
        let read: Vec<ArchiveFrame> = archive.frames().collect::<Result<_, _>>().unwrap();
        for (found, expected) in read.iter().zip([0, 1, 2, 3, 4, 7]) {
            let tolerance = if expected == 7 { 0.011 } else { 0.0 };
            assert!(equal(&found.frame, &frames[expected], tolerance), "{expected}");
        }
        assert_eq!(read[3].source, Place { path: path("late.nc"), index: 1 });
        let five_minutes = Cadence::every_seconds(300).unwrap();
        assert_eq!(archive.gaps(five_minutes), [frames[5].slot, frames[6].slot]);
        assert!(archive.frame(6).unwrap_err().to_string().contains("6"));
    }

    #[test]
    fn what_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Archive::open(&[folder.path().join("none.nc")], &ReadOptions::default()).err().unwrap();
        assert!(missing.to_string().contains("none.nc") && !missing.is_retriable());
        let other = folder.path().join("other.nc");
        std::fs::write(&other, b"GRIB").unwrap();
        let error = Archive::open(&[other], &ReadOptions::default()).err().unwrap();
        assert!(error.to_string().contains("expected NetCDF"), "{error}");
    }
}
