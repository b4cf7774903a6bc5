//! An archive: files, read frame by frame in the order of their valid times.
//!
//! Files may be NetCDF or ODIM_H5 (told by what is in them, not by their names), of one slot or of many,
//! given in any order and with gaps. Opening reads coordinates only; a frame is decoded when it is asked for, and one
//! file at a time is kept open. A slot that several files have comes once for each of them, in the order in which
//! they were given: as a log has it, where what comes later corrects what came before. Who wants each slot once
//! calls [`Archive::without_duplicates`].

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use squall_fields::{Cadence, Frame, ValidTime};

use crate::error::FileError;
use crate::gridded::Notes;
pub use crate::isolate::Format;
use crate::netcdf::Reader;
use crate::odim;
use crate::options::ReadOptions;

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
///     println!("{}", frame?.slot);
/// }
/// # Ok::<(), squall_connectors::error::FileError>(())
/// ```
pub struct Archive {
    files: Vec<(PathBuf, Format)>,
    options: ReadOptions,
    entries: Vec<Entry>,
    /// The file that was read last.
    open: Mutex<Option<(usize, Reader<'static>)>>,
}

impl Archive {
    /// Opens files and sorts what they hold. Nothing dense is read of NetCDF files.
    ///
    /// # Errors
    /// [`FileError::In`] names the first file that cannot be read.
    pub fn open<P: AsRef<Path>>(paths: &[P], options: &ReadOptions) -> Result<Self, FileError> {
        let (mut files, mut entries, mut last) = (Vec::new(), Vec::new(), None);
        for (file, path) in paths.iter().map(AsRef::as_ref).enumerate() {
            let named = |error| FileError::within(path, error);
            let format = format_of(path).map_err(named)?;
            files.push((path.to_owned(), format));
            match format {
                Format::Netcdf => {
                    let reader = Reader::open(path, options).map_err(named)?;
                    warn_of_skipped(path, reader.notes());
                    let slots = reader.slots().iter().enumerate();
                    entries.extend(slots.map(|(index, slot)| Entry { slot: *slot, file, index }));
                    last = Some((file, reader));
                }
                Format::Odim => {
                    let odim = odim::read(path, options).map_err(named)?;
                    warn_of_skipped(path, &odim.notes);
                    entries.push(Entry { slot: odim.frame.slot, file, index: 0 });
                }
            }
        }
        entries.sort_by_key(|entry| (entry.slot, entry.file, entry.index));
        if entries.is_empty() {
            let names: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
            return Err(FileError::malformed("archive", format!("there is no frame in {}", names.join(", "))));
        }
        Ok(Self { files, options: options.clone(), entries, open: Mutex::new(last) })
    }

    /// The same with each slot once: from the file that was given first.
    pub fn without_duplicates(mut self) -> Self {
        self.entries.dedup_by_key(|entry| entry.slot);
        self
    }

    /// The slots, ascending.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = ValidTime> + '_ {
        self.entries.iter().map(|entry| entry.slot)
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no frame; never for an archive that was opened.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
    pub fn frame(&self, position: usize) -> Result<Frame, FileError> {
        let count = self.entries.len();
        let Entry { file, index, .. } =
            *self.entries.get(position).ok_or(FileError::NoField { index: position, count })?;
        let (path, format) = &self.files[file];
        let frame = match format {
            Format::Odim => odim::read(path, &self.options).map(|odim| odim.frame),
            Format::Netcdf => self.netcdf_frame(file, path, index),
        };
        frame.map_err(|error| FileError::within(path, error))
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
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Result<Frame, FileError>> + '_ {
        (0..self.entries.len()).map(|position| self.frame(position))
    }
}

/// A part that cannot be used makes a frame less than it might be: that is said once, when a file is opened.
fn warn_of_skipped(path: &Path, notes: &Notes) {
    for reason in notes.skipped() {
        tracing::warn!(path = %path.display(), "left out: {reason}");
    }
}

/// The format of a file, by its contents; what is none that is known counts as NetCDF, whose reader says so.
///
/// # Errors
/// [`FileError::Io`], or [`FileError::Malformed`] for an HDF5 file that cannot be opened.
pub fn format_of(path: &Path) -> Result<Format, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let mut first = [0; 8];
    let count = std::fs::File::open(path).and_then(|mut f| std::io::Read::read(&mut f, &mut first)).map_err(io)?;
    if &first[..count] != crate::hdf5::SIGNATURE {
        return Ok(Format::Netcdf);
    }
    hdf5_metno::silence_errors(true);
    let file = hdf5_metno::File::open(path).map_err(|e| FileError::malformed(path.display().to_string(), e))?;
    let has = |name: &str| file.link_exists(name);
    let is_odim = has("dataset1") && (has("what") || has("where") || has("dataset1/data1"));
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
        assert_eq!(archive.len(), 7);
        let twice: Vec<Frame> = [3, 4].map(|position| archive.frame(position).unwrap()).into();
        assert!(twice.iter().all(|frame| frame.slot == frames[3].slot));
        assert!(twice[0].input.topic.ends_with("late.nc") && twice[1].input.topic.ends_with("early.nc"));
        let archive = archive.without_duplicates();
        assert_eq!(archive.len(), 6);
        let read: Vec<Frame> = archive.frames().collect::<Result<_, _>>().unwrap();
        for (found, expected) in read.iter().zip([0, 1, 2, 3, 4, 7]) {
            let tolerance = if expected == 7 { 0.011 } else { 0.0 };
            assert!(equal(found, &frames[expected], tolerance), "{expected}");
        }
        assert!(read[3].input.topic.ends_with("late.nc") && read[3].input.offset == 1);
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
