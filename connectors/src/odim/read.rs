//! A frame from an ODIM_H5 composite.

use std::path::Path;
use std::sync::Arc;

use hdf5_metno::types::{FloatSize, IntSize, TypeDescriptor};
use hdf5_metno::{Dataset, File, Group};
use ndarray::{Array2, Array3, ArrayViewMut2, Axis as NdAxis};
use squall_fields::{Conversion, Frame, InputRef, ScaledUnit, Unit, ValidTime, Variable};

use super::attributes::{Scope, text};
use super::geometry;
use crate::error::FileError;
use crate::gridded::interval::in_words;
use crate::gridded::unpack::{Layout, Packed, unpack};
use crate::gridded::{Interval, Notes, NumberType, Packing};
use crate::hdf5;
use crate::netcdf::read::{digest_of_values, guarded};
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
    /// What was assumed.
    pub notes: Notes,
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
        let mut notes = Notes::default();
        let grid = Arc::new(geometry::grid(&first.scope, self.options, &mut notes)?);
        let (rows, columns) = grid.shape();
        let mut values = Array3::zeros((wanted.len(), rows, columns));
        for ((field, variable), out) in chosen.iter().zip(wanted).zip(values.axis_iter_mut(NdAxis(0))) {
            self.read_field(field, *variable, out, &mut notes)?;
        }
        let nominal = Scope { groups: vec![self.root()?] }.instant("date", "time")?;
        let (start, end) = (first.scope.instant("startdate", "starttime")?, first.scope.instant("enddate", "endtime")?);
        let slot = nominal.or(end).ok_or_else(|| FileError::malformed("what", "expected date and time"))?;
        let quality = quality(&first.scope, (rows, columns), &mut notes);
        let nodes = first.scope.text("how", "nodes").unwrap_or_default();
        let nodes = nodes.split(',').map(|n| n.trim_matches(['\'', '"', ' ', '[', ']']).to_owned());
        Ok(Odim {
            frame: Frame { grid, slot, variables: wanted.into(), values, quality, input },
            quantity: first.quantity.clone(),
            start,
            end,
            source: first.scope.text("what", "source").unwrap_or_default(),
            nodes: nodes.filter(|n| !n.is_empty()).collect(),
            notes,
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

    fn read_field(
        &self,
        field: &Field,
        variable: Variable,
        out: ArrayViewMut2<'_, f32>,
        notes: &mut Notes,
    ) -> Result<(), FileError> {
        let unit = match field.quantity.as_str() {
            "RATE" => Unit::MillimetresPerHour,
            "ACRR" => Unit::KilogramsPerSquareMetre,
            _ => Unit::DecibelZ,
        };
        let interval = field.scope.instant("startdate", "starttime")?.zip(field.scope.instant("enddate", "endtime")?);
        let seconds = interval.map(|(start, end)| (end.unix_seconds() - start.unix_seconds()) as f64);
        let interval = seconds.filter(|s| *s > 0.0).map_or(Interval::Unknown, Interval::Stated);
        if unit == Unit::KilogramsPerSquareMetre {
            let text = match (interval.stated(), self.options.amount_interval_seconds) {
                (Some(seconds), _) => format!("{} by its start and its end", in_words(seconds)),
                (None, Some(seconds)) => format!("{} by the cadence: the file does not say", in_words(seconds)),
                (None, None) => "an unknown interval".to_owned(),
            };
            notes.add("interval", format!("{} is an amount over {text}", field.quantity));
        }
        let conversion =
            Conversion::new(ScaledUnit { unit, factor: 1.0 }, variable, &self.options.conversion(&interval))
                .map_err(|source| FileError::Unit { variable: field.quantity.clone(), source })?;
        let no_echo = if variable == Variable::Reflectivity { UNDETECT_DBZ } else { 0.0 };
        let data = field.scope.groups[0].dataset("data").map_err(malformed("data"))?;
        read_dense(&data, (&field.quantity, &field.scope, no_echo), conversion, out, notes)
    }
}

/// The first quality field that can be read, the total index before others: 0 to 1. One that is broken costs the
/// quality, not the frame.
fn quality(scope: &Scope, shape: (usize, usize), notes: &mut Notes) -> Option<Array2<f32>> {
    let mut found: Vec<Group> = scope.groups.iter().take(2).flat_map(|g| numbered(g, "quality")).collect();
    let total = |g: &Group| {
        let task = g.group("how").ok().and_then(|how| text(&how.attr("task").ok()?));
        task.is_some_and(|task| task.contains("total") || task.contains("qind"))
    };
    found.sort_by_key(|g| !total(g));
    found.into_iter().find_map(|group| {
        let name = group.name().trim_start_matches('/').to_owned();
        let skip = |notes: &mut Notes, reason: String| notes.add("skipped", format!("{name}: {reason}"));
        if !group.link_exists("data") {
            skip(notes, "it has no data set".to_owned());
            return None;
        }
        let mut quality = Array2::zeros(shape);
        let read = group.dataset("data").map_err(malformed("data")).and_then(|data| {
            let own = Scope { groups: vec![group] };
            read_dense(&data, (&name, &own, 0.0), Conversion::Scale(1.0), quality.view_mut(), notes)
        });
        match read {
            Ok(()) => Some(quality),
            Err(error) => {
                skip(notes, error.to_string());
                None
            }
        }
    })
}

/// `gain`, `offset`, `nodata` and `undetect` of a data set.
fn packing(
    (name, scope, no_echo): (&str, &Scope, f32),
    stored: NumberType,
    notes: &mut Notes,
) -> Result<Packing, FileError> {
    let number = |key: &str| scope.typed_number("what", key);
    let value = |found: Option<(f64, NumberType)>, default| found.map_or(default, |(value, _)| value);
    let mut packing =
        Packing { scale: value(number("gain")?, 1.0), offset: value(number("offset")?, 0.0), ..Packing::plain(stored) };
    packing.check(name, "gain", "offset")?;
    if let Some((nodata, kind)) = number("nodata")? {
        packing.add_missing(nodata, kind, &format!("nodata of {name}"), notes);
    }
    let undetect = number("undetect")?.and_then(|(undetect, kind)| packing.sentinel(undetect, kind));
    packing.no_echo = undetect.map(|undetect| (undetect, no_echo));
    packing.default_fill = packing.missing.is_empty() && packing.no_echo.is_none();
    notes.add("packing", format!("{name}: {}", packing.summary(stored)));
    Ok(packing)
}

fn read_dense(
    data: &Dataset,
    about: (&str, &Scope, f32),
    conversion: Conversion,
    out: ArrayViewMut2<'_, f32>,
    notes: &mut Notes,
) -> Result<(), FileError> {
    let (rows, columns) = out.dim();
    if data.shape() != [rows, columns] {
        let reason = format!("expected [{rows}, {columns}] (ysize, xsize), got {:?}", data.shape());
        return Err(FileError::malformed("data", reason));
    }
    let layout = Layout { rows, columns, flip_rows: false, flip_columns: false, transposed: false };
    let descriptor = data.dtype().and_then(|t| t.to_descriptor()).map_err(malformed("data"))?;
    let read = Dense { data, about, conversion, layout };
    match descriptor {
        TypeDescriptor::Unsigned(IntSize::U1) => read.as_type::<u8>(NumberType::U8, out, notes),
        TypeDescriptor::Unsigned(IntSize::U2) => read.as_type::<u16>(NumberType::U16, out, notes),
        TypeDescriptor::Unsigned(_) => read.as_type::<u64>(NumberType::U64, out, notes),
        TypeDescriptor::Integer(IntSize::U1) => read.as_type::<i8>(NumberType::I8, out, notes),
        TypeDescriptor::Integer(IntSize::U2) => read.as_type::<i16>(NumberType::I16, out, notes),
        TypeDescriptor::Integer(_) => read.as_type::<i64>(NumberType::I64, out, notes),
        TypeDescriptor::Float(FloatSize::U4) => read.as_type::<f32>(NumberType::F32, out, notes),
        TypeDescriptor::Float(_) => read.as_type::<f64>(NumberType::F64, out, notes),
        other => Err(FileError::malformed("data", format!("expected numbers, got {other:?}"))),
    }
}

/// A data set that is being read.
struct Dense<'a> {
    data: &'a Dataset,
    about: (&'a str, &'a Scope, f32),
    conversion: Conversion,
    layout: Layout,
}

impl Dense<'_> {
    fn as_type<T: Packed + hdf5_metno::H5Type>(
        &self,
        stored: NumberType,
        out: ArrayViewMut2<'_, f32>,
        notes: &mut Notes,
    ) -> Result<(), FileError> {
        let packing = packing(self.about, stored, notes)?;
        let raw = self.data.read_raw::<T>().map_err(malformed("data"))?;
        unpack(&raw, &packing, self.conversion, self.layout, out);
        Ok(())
    }
}
