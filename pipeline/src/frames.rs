//! Frames that are read again when they are needed: those of an archive, and those of a topic, which wait on disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Context;
use ndarray::Array3;
use sha2::{Digest, Sha256};
use squall_connectors::store::ScratchFiles;
use squall_fields::Frame;
use squall_operators::verify::{pack, unpack};

use crate::archive::Archive;
use crate::scratch;

/// Frames by number.
pub trait Frames: Send + Sync {
    /// A frame, counted from 0.
    ///
    /// # Errors
    /// It cannot be read.
    fn frame(&self, place: usize) -> anyhow::Result<Frame>;
}

impl Frames for Archive {
    fn frame(&self, place: usize) -> anyhow::Result<Frame> {
        Ok(Self::frame(self, place)?)
    }
}

/// Frames in a file without a name, packed: a topic may hold more than the memory does. The quality of their cells, which
/// no model reads, is not kept.
pub struct FrameFile {
    file: File,
    end: u64,
    kept: Vec<Kept>,
}

/// Where a frame lies.
struct Kept {
    /// Without values.
    head: Frame,
    shape: (usize, usize, usize),
    from: u64,
    length: usize,
    /// SHA-256 of what lies there.
    digest: [u8; 32],
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl FrameFile {
    /// An empty one, in a folder that is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made, or not be written to.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        scratch::warn_of_memory(folder);
        let file = ScratchFiles::made(folder).file();
        let file = file.with_context(|| format!("cannot make a file in {} (store.scratch)", folder.display()))?;
        Ok(Self { file, end: 0, kept: Vec::new() })
    }

    /// Keeps a frame: its number.
    ///
    /// # Errors
    /// There is no room.
    pub fn keep(&mut self, frame: &Frame) -> anyhow::Result<usize> {
        let Frame { grid, slot, variables, values, input, .. } = frame;
        let write = || {
            let packed = match values.as_slice() {
                Some(values) => pack(values)?,
                None => pack(&values.iter().copied().collect::<Vec<_>>())?,
            };
            self.file.write_all_at(&packed, self.end)?;
            Ok::<_, std::io::Error>((packed.len(), digest(&packed)))
        };
        let (length, digest) = write().context("cannot write what waits on disk (store.scratch)")?;
        let head = Frame {
            grid: grid.clone(),
            slot: *slot,
            variables: variables.clone(),
            values: Array3::zeros((0, 0, 0)),
            quality: None,
            input: input.clone(),
        };
        self.kept.push(Kept { head, shape: values.dim(), from: self.end, length, digest });
        self.end += length as u64;
        Ok(self.kept.len() - 1)
    }
}

impl Frames for FrameFile {
    fn frame(&self, place: usize) -> anyhow::Result<Frame> {
        let Kept { head, shape, from, length, digest: kept } =
            self.kept.get(place).context("no such frame was kept")?;
        let read = || {
            let mut packed = vec![0; *length];
            self.file.read_exact_at(&mut packed, *from)?;
            if digest(&packed) != *kept {
                return Err(std::io::Error::other("it is not what was written there: its digest differs"));
            }
            let values = unpack(&packed, shape.0 * shape.1 * shape.2)?;
            Array3::from_shape_vec(*shape, values).map_err(std::io::Error::other)
        };
        let values = read().context("cannot read what waited on disk")?;
        Ok(Frame { values, ..head.clone() })
    }
}

#[cfg(test)]
mod tests {
    use squall_fields::Variable;
    use squall_models::simulate::StormSettings;

    use super::*;
    use crate::commands::simulate::frames;

    #[test]
    fn frames_come_back_as_they_were_in_any_order() {
        let settings = StormSettings { rows: 32, columns: 40, ..StormSettings::default() };
        let mut all = frames(settings, 3, &[Variable::RainRate]);
        all[1].values[[0, 3, 4]] = f32::NAN;
        let folder = tempfile::tempdir().unwrap();
        let mut kept = FrameFile::new(&folder.path().join("scratch")).unwrap();
        let places: Vec<usize> = all.iter().map(|frame| kept.keep(frame).unwrap()).collect();
        for place in [2, 0, 1] {
            let (was, is) = (&all[place], kept.frame(places[place]).unwrap());
            assert_eq!((is.slot, &is.grid, &is.input), (was.slot, &was.grid, &was.input));
            assert!(is.values.iter().zip(&was.values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        assert!(kept.frame(3).is_err());
        // Another frame of the same size in place of the last one, and then only a part of a frame.
        let (first, last) = (&kept.kept[0], &kept.kept[2]);
        let mut other = vec![0; last.length];
        kept.file.read_exact_at(&mut other[..first.length.min(last.length)], first.from).unwrap();
        kept.file.write_all_at(&other, last.from).unwrap();
        let reason = |place: usize| format!("{:#}", kept.frame(place).unwrap_err());
        assert!(reason(2).contains("not what was written"), "{}", reason(2));
        kept.file.set_len(kept.kept[1].from + 1).unwrap();
        assert!(reason(1).contains("cannot read what waited on disk"), "{}", reason(1));
        assert!(kept.frame(0).is_ok());
    }
}
