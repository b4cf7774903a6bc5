//! Files without a name, gone with the process.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use squall_fields::Cause;
use squall_operators::ports::{Kept, Scratch, StoreError};

/// Keeps parts in files of a folder that no name leads to: the system takes them back, however the process ends.
///
/// ```
/// use squall_connectors::store::ScratchFiles;
/// use squall_operators::ports::Scratch;
/// let mut kept = ScratchFiles::default().keep(&[vec![1, 2], vec![3]])?;
/// assert_eq!((kept.part(1)?, kept.part(0)?), (vec![3], vec![1, 2]));
/// # Ok::<(), squall_operators::ports::StoreError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ScratchFiles {
    folder: PathBuf,
    is_made: bool,
}

impl ScratchFiles {
    /// In a folder, which must be there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), is_made: false }
    }

    /// In a folder that is made, with those above it, once there is something to keep.
    pub fn made(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), is_made: true }
    }

    /// A file without a name, empty.
    ///
    /// # Errors
    /// There is no such folder, or it cannot be written to.
    pub fn file(&self) -> io::Result<File> {
        if self.is_made {
            fs::create_dir_all(&self.folder)?;
        }
        tempfile::tempfile_in(&self.folder)
    }

    fn fails(&self, error: io::Error) -> StoreError {
        StoreError::Disk { name: self.folder.display().to_string(), cause: Cause::new(error) }
    }
}

/// In the system's folder for temporary files.
impl Default for ScratchFiles {
    fn default() -> Self {
        Self::new(std::env::temp_dir())
    }
}

impl Scratch for ScratchFiles {
    fn keep(&self, parts: &[Vec<u8>]) -> Result<Box<dyn Kept>, StoreError> {
        let write = || {
            let mut file = self.file()?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            Ok(file)
        };
        let file = write().map_err(|error| self.fails(error))?;
        let lengths = parts.iter().map(Vec::len).collect();
        Ok(Box::new(KeptFile { scratch: self.clone(), file, lengths }))
    }
}

struct KeptFile {
    scratch: ScratchFiles,
    file: File,
    lengths: Vec<usize>,
}

impl Kept for KeptFile {
    fn part(&mut self, index: usize) -> Result<Vec<u8>, StoreError> {
        let missing = || StoreError::Missing { name: format!("part {index}") };
        let length = *self.lengths.get(index).ok_or_else(missing)?;
        let from = self.lengths[..index].iter().sum::<usize>() as u64;
        let mut part = vec![0; length];
        let mut read = || {
            self.file.seek(SeekFrom::Start(from))?;
            self.file.read_exact(&mut part)
        };
        read().map_err(|error| self.scratch.fails(error))?;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_gone_or_a_part_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let gone = ScratchFiles::new(folder.path().join("gone"));
        assert!(gone.keep(&[]).err().is_some_and(|error| error.is_retriable()));
        let mut kept = ScratchFiles::new(folder.path()).keep(&[vec![1]]).unwrap();
        assert!(matches!(kept.part(1), Err(StoreError::Missing { .. })));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "no name leads to it");
    }

    #[test]
    fn a_folder_is_made_when_it_is_needed_and_the_files_lie_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        let scratch = ScratchFiles::made(&deep);
        assert!(!deep.exists());
        let mut kept = scratch.keep(&[vec![1, 2]]).unwrap();
        assert!(deep.is_dir());
        fs::remove_dir(&deep).unwrap();
        assert_eq!(kept.part(0).unwrap(), [1, 2]);
        // Where the folder cannot be, nothing is kept elsewhere.
        fs::write(&deep, b"a file").unwrap();
        assert!(scratch.keep(&[vec![1]]).err().is_some_and(|error| error.is_retriable()));
    }
}
