//! Frames as ODIM_H5 composites, in every variant that producers write.

use chrono::DateTime;
use hdf5_metno::types::{FixedAscii, VarLenUnicode};
use hdf5_metno::{File, Group, H5Type};
use ndarray::{Array2, ArrayView2};
use squall_fields::{Frame, ValidTime, Variable};

use crate::error::FileError;
use crate::netcdf::create::chunk_len;
use crate::netcdf::read::guarded;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Rain rate in mm/h.
    Rate,
    /// Accumulation in mm over the interval.
    Acrr,
    /// Reflectivity in dBZ.
    Dbzh,
}

impl Quantity {
    const fn name(self) -> &'static str {
        match self {
            Self::Rate => "RATE",
            Self::Acrr => "ACRR",
            Self::Dbzh => "DBZH",
        }
    }
}

/// How a composite is written. The default is that of OPERA (version 2.4).
#[derive(Clone, Debug, PartialEq)]
pub struct OdimWriteOptions {
    /// The quantity; the frame's variable must be the one it is made of.
    pub quantity: Quantity,
    /// How long was gathered, in seconds: from `slot - interval` to `slot`.
    pub interval_seconds: i64,
    /// Geometry in `/dataset1/where` instead of `/where`.
    pub where_in_dataset: bool,
    /// Corners as projected coordinates (`UL_x`, `UL_y`) instead of longitudes and latitudes.
    pub projected_corner: bool,
    /// `quantity`, `gain` and the like in `/dataset1/what` instead of `/dataset1/data1/what`.
    pub what_in_dataset: bool,
    /// Texts of variable length (UTF-8) instead of fixed length (ASCII).
    pub variable_length_texts: bool,
    /// Packed into bytes with `gain`, `offset`, `nodata`, `undetect`; otherwise f64, NaN missing, without them.
    pub packed: bool,
    /// `what/source`.
    pub source: String,
    /// Contributing radars, for `how/nodes`.
    pub nodes: Vec<String>,
}

impl Default for OdimWriteOptions {
    fn default() -> Self {
        Self {
            quantity: Quantity::Rate,
            interval_seconds: 300,
            where_in_dataset: false,
            projected_corner: false,
            what_in_dataset: false,
            variable_length_texts: false,
            packed: true,
            source: "ORG:247".to_owned(),
            nodes: Vec::new(),
        }
    }
}

/// The first variable of a frame as the bytes of a composite. The same frame gives the same bytes.
///
/// # Errors
/// [`FileError::Malformed`] if the frame's variable is not what the quantity is made of.
pub fn write_bytes(frame: &Frame, options: &OdimWriteOptions) -> Result<Vec<u8>, FileError> {
    let expected = match options.quantity {
        Quantity::Rate | Quantity::Acrr => Variable::RainRate,
        Quantity::Dbzh => Variable::Reflectivity,
    };
    if frame.variables.first() != Some(&expected) {
        let reason = format!("{} is made of {}", options.quantity.name(), expected.name());
        return Err(FileError::malformed("frame to write", reason));
    }
    let io = |source| FileError::Io { path: std::env::temp_dir(), source };
    let folder = tempfile::tempdir().map_err(io)?;
    let path = folder.path().join("squall.h5");
    guarded("ODIM_H5", || {
        let file = File::with_options().with_fcpl(|p| p.obj_track_times(false)).create(&path).map_err(failed)?;
        let root = file.as_group().map_err(failed)?;
        Writer { frame, options }.root(&root)?;
        file.close().map_err(failed)
    })?;
    std::fs::read(&path).map_err(io)
}

fn failed(error: hdf5_metno::Error) -> FileError {
    FileError::unwritten("ODIM_H5", error)
}

struct Writer<'a> {
    frame: &'a Frame,
    options: &'a OdimWriteOptions,
}

impl Writer<'_> {
    fn root(&self, root: &Group) -> Result<(), FileError> {
        self.text(root, "Conventions", "ODIM_H5/V2_4")?;
        let what = root.create_group("what").map_err(failed)?;
        let (date, time) = date_time(self.frame.slot);
        for (name, value) in [
            ("object", "COMP"),
            ("version", "H5rad 2.4"),
            ("date", &date),
            ("time", &time),
            ("source", &self.options.source),
        ] {
            self.text(&what, name, value)?;
        }
        if !self.options.nodes.is_empty() {
            let nodes: Vec<String> = self.options.nodes.iter().map(|node| format!("'{node}'")).collect();
            self.text(&root.create_group("how").map_err(failed)?, "nodes", &nodes.join(","))?;
        }
        let dataset = root.create_group("dataset1").map_err(failed)?;
        self.geometry(if self.options.where_in_dataset { &dataset } else { root })?;
        self.dataset(&dataset)
    }

    fn geometry(&self, parent: &Group) -> Result<(), FileError> {
        let place = parent.create_group("where").map_err(failed)?;
        let grid = &self.frame.grid;
        self.text(&place, "projdef", &grid.proj)?;
        number(&place, "xsize", grid.x.len as i64)?;
        number(&place, "ysize", grid.y.len as i64)?;
        number(&place, "xscale", grid.x.step.abs())?;
        number(&place, "yscale", grid.y.step.abs())?;
        let (left, right) = (-0.5, grid.x.len as f64 - 0.5);
        let (top, bottom) = (-0.5, grid.y.len as f64 - 0.5);
        if self.options.projected_corner {
            number(&place, "UL_x", grid.x.first + left * grid.x.step)?;
            return number(&place, "UL_y", grid.y.first + top * grid.y.step);
        }
        for (name, row, column) in [("LL", bottom, left), ("LR", bottom, right), ("UL", top, left), ("UR", top, right)]
        {
            let (lat, lon) = grid.lat_lon(row, column)?;
            number(&place, &format!("{name}_lat"), lat)?;
            number(&place, &format!("{name}_lon"), lon)?;
        }
        Ok(())
    }

    fn dataset(&self, dataset: &Group) -> Result<(), FileError> {
        let what = dataset.create_group("what").map_err(failed)?;
        let (start, end) = (self.frame.slot.plus_seconds(-self.options.interval_seconds), self.frame.slot);
        let ((start_date, start_time), (end_date, end_time)) = (date_time(start), date_time(end));
        for (name, value) in [
            ("product", "COMP"),
            ("startdate", &start_date),
            ("starttime", &start_time),
            ("enddate", &end_date),
            ("endtime", &end_time),
        ] {
            self.text(&what, name, value)?;
        }
        let data = dataset.create_group("data1").map_err(failed)?;
        let data_what = if self.options.what_in_dataset { what } else { data.create_group("what").map_err(failed)? };
        self.text(&data_what, "quantity", self.options.quantity.name())?;
        self.values(&data, &data_what)?;
        match &self.frame.quality {
            Some(quality) => self.quality(&data, quality),
            None => Ok(()),
        }
    }

    fn values(&self, data: &Group, what: &Group) -> Result<(), FileError> {
        let factor = match self.options.quantity {
            Quantity::Acrr => self.options.interval_seconds as f32 / 3600.0,
            _ => 1.0,
        };
        let values = self.frame.values.index_axis(ndarray::Axis(0), 0).mapv(|v| v * factor);
        if !self.options.packed {
            return dense(data, values.mapv(f64::from).view());
        }
        let rate = self.options.quantity != Quantity::Dbzh;
        let (gain, offset) = if rate { (0.01, 0.0) } else { (0.01, -100.0) };
        for (name, value) in [("gain", gain), ("offset", offset), ("nodata", 65_535.0), ("undetect", 0.0)] {
            number(what, name, value)?;
        }
        let no_echo = |v: f32| if rate { v <= 0.0 } else { v <= super::read::UNDETECT_DBZ };
        let pack = |v: f32| match v {
            v if v.is_nan() => 65_535,
            v if no_echo(v) => 0,
            v => ((f64::from(v) - offset) / gain).round().clamp(1.0, 65_534.0) as u16,
        };
        dense(data, values.mapv(pack).view())
    }

    fn quality(&self, data: &Group, quality: &Array2<f32>) -> Result<(), FileError> {
        let group = data.create_group("quality1").map_err(failed)?;
        let what = group.create_group("what").map_err(failed)?;
        self.text(&what, "quantity", "QIND")?;
        for (name, value) in [("gain", 1.0 / 250.0), ("offset", 0.0), ("nodata", 255.0), ("undetect", 254.0)] {
            number(&what, name, value)?;
        }
        self.text(&group.create_group("how").map_err(failed)?, "task", "pl.imgw.quality.qi_total")?;
        let pack = |v: &f32| if v.is_nan() { 255 } else { (v * 250.0).round().clamp(0.0, 250.0) as u8 };
        dense(&group, quality.map(pack).view())
    }

    /// Writes a text; fixed lengths are rounded up to a few sizes, padded with zeros.
    fn text(&self, group: &Group, name: &str, value: &str) -> Result<(), FileError> {
        if self.options.variable_length_texts {
            let value: VarLenUnicode =
                value.replace('\0', "").parse().map_err(|e| FileError::malformed(name, format!("{e}")))?;
            let attribute = group.new_attr::<VarLenUnicode>().create(name).map_err(failed)?;
            return attribute.write_scalar(&value).map_err(failed);
        }
        match value.len() {
            0..=31 => fixed::<32>(group, name, value),
            32..=255 => fixed::<256>(group, name, value),
            _ => fixed::<8192>(group, name, value),
        }
    }
}

fn fixed<const N: usize>(group: &Group, name: &str, value: &str) -> Result<(), FileError> {
    let value = FixedAscii::<N>::from_ascii(value).map_err(|e| FileError::malformed(name, e))?;
    group.new_attr::<FixedAscii<N>>().create(name).and_then(|a| a.write_scalar(&value)).map_err(failed)
}

fn number<T: H5Type>(group: &Group, name: &str, value: T) -> Result<(), FileError> {
    group.new_attr::<T>().create(name).and_then(|a| a.write_scalar(&value)).map_err(failed)
}

fn dense<T: H5Type + Clone>(group: &Group, values: ArrayView2<'_, T>) -> Result<(), FileError> {
    let (rows, columns) = values.dim();
    let chunk = (chunk_len(rows), chunk_len(columns));
    let builder = group.new_dataset_builder().with_data(values).chunk(chunk).shuffle().deflate(1);
    builder.obj_track_times(false).create("data").map(|_| ()).map_err(failed)
}

fn date_time(t: ValidTime) -> (String, String) {
    let t = DateTime::from_timestamp(t.unix_seconds(), 0).unwrap_or_default();
    (t.format("%Y%m%d").to_string(), t.format("%H%M%S").to_string())
}
