//! What the demo plays: a real event if there is one, otherwise the built-in storm.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::s;
use squall_connectors::options::ReadOptions;
use squall_fields::{Axis, Frame, Grid, ValidTime, Variable};
use squall_models::simulate::StormSettings;

use crate::archive::Archive;
use crate::commands::simulate;

/// Frames in the order of their slots, and what they are.
#[derive(Clone, Debug)]
pub struct Event {
    /// For people.
    pub title: String,
    /// At least one.
    pub frames: Vec<Arc<Frame>>,
}

/// Name of the real event in the folder that SQUALL_DATA names.
const REAL: &str = "radar_fmi_20160928.nc";

impl Event {
    /// The real event if it is there, cut to a square of at most `side` cells where it rains most; else the storm.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn choose(file: Option<&Path>, frames: usize, side: usize) -> anyhow::Result<Self> {
        let real = || Some(PathBuf::from(std::env::var_os("SQUALL_DATA")?).join(REAL)).filter(|path| path.is_file());
        match file.map(Path::to_owned).or_else(real) {
            Some(path) => Self::real(&path, frames, side),
            None => Ok(Self::storm(frames)),
        }
    }

    fn storm(frames: usize) -> Self {
        let frames = simulate::frames(StormSettings::default(), frames, &[Variable::RainRate]);
        let title = "the built-in storm (set SQUALL_DATA for a real event)".to_owned();
        Self { title, frames: frames.into_iter().map(Arc::new).collect() }
    }

    fn real(path: &Path, frames: usize, side: usize) -> anyhow::Result<Self> {
        let archive = Archive::open(&[path.to_owned()], &ReadOptions::of(&[Variable::RainRate]))?;
        let count = archive.len().min(frames);
        let first = archive.frame(0)?;
        let corner = wettest(&archive.frame(count / 2)?, side);
        let grid = Arc::new(cut_grid(&first.grid, corner, side));
        let name = path.file_name().expect("a path that was read names a file").to_string_lossy();
        let (rows, columns) = grid.shape();
        let title = format!("{name}, {count} frames, {rows} x {columns} cells");
        let cut = |place| Ok(Arc::new(cut(archive.frame(place)?, &grid, corner)));
        Ok(Self { title, frames: (0..count).map(cut).collect::<anyhow::Result<_>>()? })
    }

    /// The frame of a valid time.
    pub fn at(&self, time: ValidTime) -> Option<Arc<Frame>> {
        self.frames.iter().find(|frame| frame.slot == time).cloned()
    }
}

/// Row and column of the square with the most rain.
pub(crate) fn wettest(frame: &Frame, side: usize) -> (usize, usize) {
    let (rows, columns) = frame.grid.shape();
    let (height, width) = (side.min(rows), side.min(columns));
    let starts = |len: usize, part: usize| (0..=len - part).step_by(32);
    let wet = |(row, column): &(usize, usize)| {
        let square = frame.values.slice(s![0, *row..*row + height, *column..*column + width]);
        square.iter().filter(|rate| **rate >= 1.0).count()
    };
    let corners = starts(rows, height).flat_map(|row| starts(columns, width).map(move |column| (row, column)));
    corners.max_by_key(wet).expect("the square at the first corner fits into every field")
}

/// The part of a grid that is at most `side` cells wide and high.
pub(crate) fn cut_grid(grid: &Grid, (row, column): (usize, usize), side: usize) -> Grid {
    let part = |axis: Axis, from: usize| Axis { first: axis.centre(from), step: axis.step, len: axis.len.min(side) };
    Grid { x: part(grid.x, column), y: part(grid.y, row), ..grid.clone() }
}

/// The part of a frame that lies on a part of its grid.
pub(crate) fn cut(frame: Frame, grid: &Arc<Grid>, (row, column): (usize, usize)) -> Frame {
    let (rows, columns) = grid.shape();
    let values = frame.values.slice(s![.., row..row + rows, column..column + columns]).to_owned();
    let quality = frame.quality.map(|q| q.slice(s![row..row + rows, column..column + columns]).to_owned());
    Frame { grid: grid.clone(), values, quality, ..frame }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_lies_where_it_rains_and_keeps_its_place() {
        let event = Event::storm(1);
        let frame = event.frames[0].as_ref();
        let corner = wettest(frame, 96);
        let grid = Arc::new(cut_grid(&frame.grid, corner, 96));
        let part = cut(frame.clone(), &grid, corner);
        assert_eq!((part.values.dim(), grid.shape()), ((1, 96, 96), (96, 96)));
        assert_eq!(grid.x.centre(5), frame.grid.x.centre(corner.1 + 5));
        assert_eq!(part.values[[0, 7, 9]].to_bits(), frame.values[[0, corner.0 + 7, corner.1 + 9]].to_bits());
        let wet =
            |frame: &Frame| frame.values.iter().filter(|rate| **rate >= 1.0).count() as f64 / frame.values.len() as f64;
        assert!(wet(&part) >= wet(frame));
    }
}
