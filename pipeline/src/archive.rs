//! Files as a sequence of frames in the order of their slots, read one at a time.

use std::path::{Path, PathBuf};

use anyhow::Context;
use squall_connectors::netcdf::Reader;
use squall_connectors::options::ReadOptions;
use squall_fields::{Frame, ValidTime};

/// Files of one source.
pub struct Archive {
    files: Vec<(PathBuf, Reader<'static>)>,
    /// (slot, file, frame within it), ascending.
    frames: Vec<(ValidTime, usize, usize)>,
}

impl Archive {
    /// Opens files; nothing dense is read yet.
    ///
    /// # Errors
    /// A file cannot be read, or has not what the source wants.
    pub fn open(paths: &[PathBuf], options: &ReadOptions) -> anyhow::Result<Self> {
        let (mut files, mut frames) = (Vec::new(), Vec::new());
        for path in paths {
            let reader = Reader::open(path, options).with_context(|| format!("cannot read {}", path.display()))?;
            let file = files.len();
            frames.extend(reader.slots().iter().enumerate().map(|(frame, slot)| (*slot, file, frame)));
            files.push((path.clone(), reader));
        }
        frames.sort_unstable();
        anyhow::ensure!(!frames.is_empty(), "there is no frame in {}", names(paths));
        Ok(Self { files, frames })
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
        let (slot, file, frame) = self.frames.get(place).context("no such frame")?;
        let (path, reader) = &self.files[*file];
        reader.frame(*frame).with_context(|| format!("cannot read the field of {slot} in {}", path.display()))
    }
}

fn names(paths: &[PathBuf]) -> String {
    paths.iter().map(|path: &PathBuf| Path::display(path).to_string()).collect::<Vec<_>>().join(", ")
}
