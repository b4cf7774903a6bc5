//! Files as a sequence of frames in the order of their slots, read one at a time.

use std::path::{Path, PathBuf};

use anyhow::Context;
use squall_connectors::netcdf::Reader;
use squall_connectors::odim;
use squall_connectors::options::ReadOptions;
use squall_fields::{Frame, ValidTime};

use crate::config::SourceConfig;

/// How files and records of a source are read.
pub fn read_options(source: &SourceConfig) -> ReadOptions {
    let mut options = ReadOptions::of(&source.variables);
    options.z_relation = source.z_relation;
    options.amount_interval_seconds = Some(source.cadence.step_seconds() as f64);
    options.limits.max_bytes = options.limits.max_bytes.max(source.max_record_bytes as usize);
    options
}

/// Files of one source.
pub struct Archive {
    files: Vec<Opened>,
    options: ReadOptions,
    /// (slot, file, frame within it), ascending.
    frames: Vec<(ValidTime, usize, usize)>,
}

/// A NetCDF file of many slots, or an ODIM composite of one, which is read again when it is wanted.
enum Opened {
    Netcdf(PathBuf, Box<Reader<'static>>),
    Odim(PathBuf),
}

impl Opened {
    /// Opens a file and says which slots it has. An ending that ODIM files have is tried as ODIM first.
    fn open(path: &Path, options: &ReadOptions) -> anyhow::Result<(Self, Vec<ValidTime>)> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        let is_odim = ["h5", "hdf", "hdf5", "odim"].contains(&ending.as_str());
        let netcdf = || -> anyhow::Result<_> {
            let reader = Reader::open(path, options)?;
            let slots = reader.slots().to_vec();
            Ok((Self::Netcdf(path.to_owned(), Box::new(reader)), slots))
        };
        let odim = || -> anyhow::Result<_> {
            let slot = odim::read(path, options)?.frame.slot;
            Ok((Self::Odim(path.to_owned()), vec![slot]))
        };
        let opened = if is_odim { odim().or_else(|error| netcdf().map_err(|_| error)) } else { netcdf() };
        opened.with_context(|| format!("cannot read {}", path.display()))
    }

    fn frame(&self, index: usize, options: &ReadOptions) -> anyhow::Result<Frame> {
        let (path, frame) = match self {
            Self::Netcdf(path, reader) => (path, reader.frame(index)),
            Self::Odim(path) => (path, odim::read(path, options).map(|odim| odim.frame)),
        };
        frame.with_context(|| format!("cannot read field {index} of {}", path.display()))
    }
}

impl Archive {
    /// Opens files, NetCDF or ODIM; nothing dense is kept.
    ///
    /// # Errors
    /// A file cannot be read, or has not what the source wants.
    pub fn open(paths: &[PathBuf], options: &ReadOptions) -> anyhow::Result<Self> {
        let (mut files, mut frames) = (Vec::new(), Vec::new());
        for path in paths {
            let (opened, slots) = Opened::open(path, options)?;
            let file = files.len();
            frames.extend(slots.into_iter().enumerate().map(|(frame, slot)| (slot, file, frame)));
            files.push(opened);
        }
        frames.sort_unstable();
        anyhow::ensure!(!frames.is_empty(), "there is no frame in {}", names(paths));
        Ok(Self { files, options: options.clone(), frames })
    }

    /// The slots in order; one that several files hold comes several times.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = ValidTime> + '_ {
        self.frames.iter().map(|(slot, ..)| *slot)
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame; never for an archive that was opened.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Reads the frame at a place in [`Archive::slots`].
    ///
    /// # Errors
    /// There is no such place, or the file cannot be read there.
    pub fn frame(&self, place: usize) -> anyhow::Result<Frame> {
        let (_, file, frame) = self.frames.get(place).context("no such frame")?;
        self.files[*file].frame(*frame, &self.options)
    }
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path: &PathBuf| Path::display(path).to_string()).collect::<Vec<_>>().join(", ")
}
