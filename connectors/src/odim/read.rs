//! A frame from an ODIM_H5 composite.

use std::path::Path;
use std::sync::Arc;

use hdf5_metno::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5_metno::{Dataset, File, Group};
use ndarray::{Array2, Array3, ArrayViewMut2, Axis as NdAxis};
use squall_fields::crs::Projection;
use squall_fields::{Axis, Conversion, Frame, Grid, InputRef, ScaledUnit, Unit, ValidTime, Variable};

use super::attributes::{Scope, text};
use crate::error::FileError;
use crate::hdf5;
use crate::netcdf::plan::Packing;
use crate::netcdf::read::{digest_of_values, guarded};
use crate::netcdf::unpack::{Layout, Packed, unpack};
use crate::options::ReadOptions;

/// What `undetect` becomes where reflectivity itself is wanted: below what any radar sees.
pub const UNDETECT_DBZ: f32 = -32.0;

/// A frame, and what a composite says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Odim {
    /// The frame; its slot is the nominal time.
    pub frame: Frame,
    /// The quantity that it was read from, such as `DBZH`.
    pub quantity: String,
    /// When gathering began, if the file says.
    pub start: Option<ValidTime>,
    /// When gathering ended: the time of the event, if the file says.
    pub end: Option<ValidTime>,
    /// Who made it (`what/source`).
    pub source: String,
    /// The radars that contributed (`how/nodes`), empty if the file does not say.
    pub nodes: Vec<String>,
}

/// Reads a file that the user named.
///
/// # Errors
/// [`FileError`] says what was expected of the file.
pub fn read(path: &Path, options: &ReadOptions) -> Result<Odim, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
    let topic = Arc::from(path.display().to_string());
    let mut odim = read_bytes(&bytes, options, InputRef { topic, partition: 0, offset: 0, digest: Arc::from("") })?;
    odim.frame.input.digest = digest_of_values(&odim.frame.values).into();
    Ok(odim)
}

/// Reads bytes that came in a record. Nothing outside them is looked at.
///
/// # Errors
/// [`FileError`] says what was expected of the bytes.
pub fn read_bytes(bytes: &[u8], options: &ReadOptions, input: InputRef) -> Result<Odim, FileError> {
    let file = hdf5::open(bytes, &options.limits)?;
    hdf5::check(&file, &options.limits)?;
    guarded("ODIM_H5 bytes", || {
        let composite = Composite { file: &file, options };
        let fields = composite.fields()?;
        let wanted = if options.variables.is_empty() { composite.own(&fields)? } else { options.variables.clone() };
        composite.frame(&fields, &wanted, input)
    })
}

/// One `/datasetN/dataM` with its quantity.
struct Field {
    quantity: String,
    scope: Scope,
}

struct Composite<'a> {
    file: &'a File,
    options: &'a ReadOptions,
}

fn malformed(what: &str) -> impl Fn(hdf5_metno::Error) -> FileError + '_ {
    move |error| FileError::malformed(what, error)
}

/// Child groups `prefix1`, `prefix2`, ... in order.
fn numbered(group: &Group, prefix: &str) -> Vec<Group> {
    (1..=64)
        .map(|n| format!("{prefix}{n}"))
        .take_while(|name| group.link_exists(name))
        .filter_map(|n| group.group(&n).ok())
        .collect()
}

impl Composite<'_> {
    fn root(&self) -> Result<Group, FileError> {
        self.file.as_group().map_err(malformed("/"))
    }

    fn fields(&self) -> Result<Vec<Field>, FileError> {
        let root = self.root()?;
        let object = Scope { groups: vec![root.clone()] }.text("what", "object").unwrap_or_default();
        if !matches!(object.as_str(), "COMP" | "IMAGE" | "") {
            return Err(FileError::NotRecognised { expected: "an ODIM_H5 composite (COMP)", got: object });
        }
        let mut fields = Vec::new();
        for dataset in numbered(&root, "dataset") {
            for data in numbered(&dataset, "data") {
                let scope = Scope { groups: vec![data, dataset.clone(), root.clone()] };
                let quantity = scope.text("what", "quantity").unwrap_or_default().to_ascii_uppercase();
                fields.push(Field { quantity, scope });
            }
        }
        if fields.is_empty() {
            let got = format!("an HDF5 file with {:?}", root.member_names().unwrap_or_default());
            return Err(FileError::NotRecognised { expected: "ODIM_H5 with /dataset1/data1", got });
        }
        Ok(fields)
    }

    /// What the file has: a rate before a reflectivity before an accumulation.
    fn own(&self, fields: &[Field]) -> Result<Vec<Variable>, FileError> {
        let order = [
            ("RATE", Variable::RainRate),
            ("DBZH", Variable::Reflectivity),
            ("TH", Variable::Reflectivity),
            ("ACRR", Variable::RainRate),
        ];
        let own = order.iter().find(|(quantity, _)| fields.iter().any(|f| f.quantity == *quantity));
        own.map(|(_, variable)| vec![*variable])
            .ok_or_else(|| self.no_variable(fields, "a quantity RATE, DBZH, TH or ACRR"))
    }

    fn no_variable(&self, fields: &[Field], wanted: &str) -> FileError {
        let found: Vec<&str> = fields.iter().map(|f| f.quantity.as_str()).collect();
        FileError::NoVariable { wanted: wanted.to_owned(), found: found.join(", ") }
    }

    fn frame(&self, fields: &[Field], wanted: &[Variable], input: InputRef) -> Result<Odim, FileError> {
        let chosen = wanted.iter().map(|v| self.choose(fields, *v)).collect::<Result<Vec<_>, _>>()?;
        let first = *chosen.first().ok_or_else(|| FileError::malformed("variables", "none was asked for"))?;
        let grid = Arc::new(self.grid(&first.scope)?);
        let (rows, columns) = grid.shape();
        let mut values = Array3::zeros((wanted.len(), rows, columns));
        for ((field, variable), out) in chosen.iter().zip(wanted).zip(values.axis_iter_mut(NdAxis(0))) {
            self.read_field(field, *variable, (rows, columns), out)?;
        }
        let nominal = Scope { groups: vec![self.root()?] }.instant("date", "time")?;
        let (start, end) = (first.scope.instant("startdate", "starttime")?, first.scope.instant("enddate", "endtime")?);
        let slot = nominal.or(end).ok_or_else(|| FileError::malformed("what", "expected date and time"))?;
        let quality = self.quality(&first.scope, (rows, columns))?;
        let nodes = first.scope.text("how", "nodes").unwrap_or_default();
        let nodes = nodes.split(',').map(|n| n.trim_matches(['\'', '"', ' ', '[', ']']).to_owned());
        Ok(Odim {
            frame: Frame { grid, slot, variables: wanted.into(), values, quality, input },
            quantity: first.quantity.clone(),
            start,
            end,
            source: first.scope.text("what", "source").unwrap_or_default(),
            nodes: nodes.filter(|n| !n.is_empty()).collect(),
        })
    }

    /// The field that gives a variable: the quantity itself before one that it can be computed from.
    fn choose<'f>(&self, fields: &'f [Field], variable: Variable) -> Result<&'f Field, FileError> {
        let order: &[&str] = match variable {
            Variable::RainRate => &["RATE", "ACRR", "DBZH", "TH"],
            Variable::Reflectivity => &["DBZH", "TH", "RATE"],
            Variable::PrecipitationAmount => &["ACRR", "RATE"],
            _ => &[],
        };
        let found = order.iter().find_map(|quantity| fields.iter().find(|f| f.quantity == *quantity));
        found.ok_or_else(|| self.no_variable(fields, variable.name()))
    }

    /// Axes from the outer corners; where only the spacing of centres fits, from centres.
    fn grid(&self, scope: &Scope) -> Result<Grid, FileError> {
        let number = |name: &str| scope.number("where", name).filter(|v| v.is_finite());
        let need = |name: &str| number(name).ok_or_else(|| FileError::malformed("where", format!("expected `{name}`")));
        let proj = scope.text("where", "projdef").or_else(|| self.options.crs.clone());
        let proj = proj.ok_or_else(|| FileError::malformed("where", "expected `projdef`"))?;
        let projection = Projection::parse(&proj)?;
        let (columns, rows) = (need("xsize")?, need("ysize")?);
        let cells = columns * rows;
        if !(columns >= 2.0 && rows >= 2.0 && cells <= self.options.limits.max_cells as f64) {
            let limit = self.options.limits.max_cells as u64;
            return Err(FileError::TooLarge { what: "number of cells", got: cells.max(0.0) as u64, limit });
        }
        let corner = |name: &str| -> Result<Option<(f64, f64)>, FileError> {
            match (number(&format!("{name}_lon")), number(&format!("{name}_lat"))) {
                (Some(lon), Some(lat)) => Ok(Some(projection.to_xy(lat, lon)?)),
                _ => Ok(number(&format!("{name}_x")).zip(number(&format!("{name}_y")))),
            }
        };
        let (ul, ll, ur, lr) = (corner("UL")?, corner("LL")?, corner("UR")?, corner("LR")?);
        let left = ul.or(ll).map(|c| c.0).ok_or_else(|| FileError::malformed("where", "expected UL or LL corners"))?;
        let top = ul.or(ur).map(|c| c.1);
        let right = ur.or(lr).map(|c| c.0);
        let bottom = ll.or(lr).map(|c| c.1);
        let x = axis(left, right, number("xscale"), columns as usize)?;
        let y = match (top, bottom) {
            (Some(top), bottom) => axis(-top, bottom.map(|b| -b), number("yscale"), rows as usize)?,
            (None, Some(bottom)) => {
                let scale = need("yscale")?;
                axis(-(bottom + rows * scale), Some(-bottom), Some(scale), rows as usize)?
            }
            (None, None) => return Err(FileError::malformed("where", "expected UL or LL corners")),
        };
        let y = Axis { first: -y.first, step: -y.step, len: y.len };
        Ok(Grid { proj, wkt: None, x, y })
    }

    fn read_field(
        &self,
        field: &Field,
        variable: Variable,
        shape: (usize, usize),
        out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), FileError> {
        let unit = match field.quantity.as_str() {
            "RATE" => Unit::MillimetresPerHour,
            "ACRR" => Unit::KilogramsPerSquareMetre,
            _ => Unit::DecibelZ,
        };
        let interval = field.scope.instant("startdate", "starttime")?.zip(field.scope.instant("enddate", "endtime")?);
        let seconds = interval.map(|(start, end)| (end.unix_seconds() - start.unix_seconds()) as f64);
        let context = self.options.conversion(seconds.filter(|s| *s > 0.0));
        let conversion = Conversion::new(ScaledUnit { unit, factor: 1.0 }, variable, &context)
            .map_err(|source| FileError::Unit { variable: field.quantity.clone(), source })?;
        let no_echo = if variable == Variable::Reflectivity { UNDETECT_DBZ } else { 0.0 };
        let packing = packing(&field.scope, no_echo);
        let data = field.scope.groups[0].dataset("data").map_err(malformed("data"))?;
        read_dense(&data, &packing, conversion, shape, out)
    }

    /// The first quality field, the total index before others: 0 to 1.
    fn quality(&self, scope: &Scope, shape: (usize, usize)) -> Result<Option<Array2<f32>>, FileError> {
        let mut found: Vec<Group> = scope.groups.iter().take(2).flat_map(|g| numbered(g, "quality")).collect();
        let total = |g: &Group| {
            let task = g.group("how").ok().and_then(|how| text(&how.attr("task").ok()?));
            task.is_some_and(|task| task.contains("total") || task.contains("qind"))
        };
        found.sort_by_key(|g| !total(g));
        let Some(group) = found.into_iter().next() else { return Ok(None) };
        let data = group.dataset("data").map_err(malformed("quality"))?;
        let own = Scope { groups: vec![group] };
        let mut quality = Array2::zeros(shape);
        read_dense(&data, &packing(&own, 0.0), Conversion::Scale(1.0), shape, quality.view_mut())?;
        Ok(Some(quality))
    }
}

/// The axis from its first outer edge to its last, ascending.
fn axis(first: f64, last: Option<f64>, scale: Option<f64>, len: usize) -> Result<Axis, FileError> {
    let wrong = |reason: &str| FileError::malformed("where", reason);
    let span = last.map(|last| last - first);
    let step = match (scale.filter(|s| *s > 0.0), span) {
        (Some(scale), _) => scale,
        (None, Some(span)) => span / len as f64,
        (None, None) => return Err(wrong("expected a scale or two corners")),
    };
    if !(step.is_finite() && step > 0.0) {
        return Err(wrong("the corners are in the wrong order"));
    }
    // Some producers give the centres of the corner cells instead of their outer edges.
    let centres = span.is_some_and(|span| {
        (span - step * len as f64).abs() > 0.5 * step && (span - step * (len - 1) as f64).abs() < 0.25 * step
    });
    // Corners are given in degrees with few digits; where two are, the cells lie between them.
    let span = span.filter(|span| (span - step * len as f64).abs() < 0.5 * step);
    let first = match span {
        Some(span) => first + 0.5 * (span - step * len as f64),
        None => first,
    };
    Ok(Axis { first: if centres { first } else { first + 0.5 * step }, step, len })
}

fn packing(scope: &Scope, no_echo: f32) -> Packing {
    let number = |name: &str| scope.number("what", name);
    Packing {
        scale: number("gain").unwrap_or(1.0),
        offset: number("offset").unwrap_or(0.0),
        // NaN cannot be told from NaN by comparison; it is missing anyway.
        missing: number("nodata").filter(|v| !v.is_nan()).into_iter().collect(),
        valid: (f64::NEG_INFINITY, f64::INFINITY),
        no_echo: number("undetect").map(|v| (v, no_echo)),
    }
}

fn read_dense(
    data: &Dataset,
    packing: &Packing,
    conversion: Conversion,
    (rows, columns): (usize, usize),
    out: ArrayViewMut2<'_, f32>,
) -> Result<(), FileError> {
    if data.shape() != [rows, columns] {
        let reason = format!("expected [{rows}, {columns}] (ysize, xsize), got {:?}", data.shape());
        return Err(FileError::malformed("data", reason));
    }
    let layout = Layout { rows, columns, flip_rows: false, flip_columns: false, transposed: false };
    let descriptor = data.dtype().and_then(|t| t.to_descriptor()).map_err(malformed("data"))?;
    fn typed<T: Packed + hdf5_metno::H5Type>(
        data: &Dataset,
        packing: &Packing,
        conversion: Conversion,
        layout: Layout,
        out: ArrayViewMut2<'_, f32>,
    ) -> Result<(), FileError> {
        let raw = data.read_raw::<T>().map_err(malformed("data"))?;
        unpack(&raw, packing, conversion, layout, out);
        Ok(())
    }
    match descriptor {
        TypeDescriptor::Unsigned(IntSize::U1) => typed::<u8>(data, packing, conversion, layout, out),
        TypeDescriptor::Unsigned(IntSize::U2) => typed::<u16>(data, packing, conversion, layout, out),
        TypeDescriptor::Unsigned(_) => typed::<u64>(data, packing, conversion, layout, out),
        TypeDescriptor::Integer(IntSize::U1) => typed::<i8>(data, packing, conversion, layout, out),
        TypeDescriptor::Integer(IntSize::U2) => typed::<i16>(data, packing, conversion, layout, out),
        TypeDescriptor::Integer(_) => typed::<i64>(data, packing, conversion, layout, out),
        TypeDescriptor::Float(FloatSize::U4) => typed::<f32>(data, packing, conversion, layout, out),
        TypeDescriptor::Float(_) => typed::<f64>(data, packing, conversion, layout, out),
        other => Err(FileError::malformed("data", format!("expected numbers, got {other:?}"))),
    }
}
