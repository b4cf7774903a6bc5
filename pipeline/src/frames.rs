//! Frames that are read again when they are needed: those of an archive, and those of a topic, which wait on disk.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::Context;
use ndarray::Array3;
use squall_fields::Frame;
use squall_operators::verify::{pack, unpack};

use crate::archive::Archive;

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
}

impl FrameFile {
    /// An empty one, in the system's folder for temporary files.
    ///
    /// # Errors
    /// There is no such folder, or no room.
    pub fn new() -> anyhow::Result<Self> {
        let file = tempfile::tempfile().context("cannot make a temporary file (TMPDIR)")?;
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
            Ok::<usize, std::io::Error>(packed.len())
        };
        let length = write().context("cannot write a temporary file (TMPDIR)")?;
        let head = Frame {
            grid: grid.clone(),
            slot: *slot,
            variables: variables.clone(),
            values: Array3::zeros((0, 0, 0)),
            quality: None,
            input: input.clone(),
        };
        self.kept.push(Kept { head, shape: values.dim(), from: self.end, length });
        self.end += length as u64;
        Ok(self.kept.len() - 1)
    }
}

impl Frames for FrameFile {
    fn frame(&self, place: usize) -> anyhow::Result<Frame> {
        let Kept { head, shape, from, length } = self.kept.get(place).context("no such frame was kept")?;
        let read = || {
            let mut packed = vec![0; *length];
            self.file.read_exact_at(&mut packed, *from)?;
            let values = unpack(&packed, shape.0 * shape.1 * shape.2)?;
            Array3::from_shape_vec(*shape, values).map_err(std::io::Error::other)
        };
        let values = read().context("cannot read a temporary file")?;
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
        let mut kept = FrameFile::new().unwrap();
        let places: Vec<usize> = all.iter().map(|frame| kept.keep(frame).unwrap()).collect();
        for place in [2, 0, 1] {
            let (was, is) = (&all[place], kept.frame(places[place]).unwrap());
            assert_eq!((is.slot, &is.grid, &is.input), (was.slot, &was.grid, &was.input));
            assert!(is.values.iter().zip(&was.values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        assert!(kept.frame(3).is_err());
    }
}
