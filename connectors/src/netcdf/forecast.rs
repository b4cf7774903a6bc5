//! Forecasts as CF-NetCDF: the products that a stream publishes, and provenance.
//!
//! The shape is that of the CF conventions' "multiple forecasts from a single analysis" (section
//! 5.7), with the names and types of IMPROVER: `realization`, `time` and `forecast_reference_time` as
//! int64 seconds since 1970, `forecast_period` as int32 seconds, probabilities with a `threshold`
//! coordinate that carries `spp__relative_to_threshold`. What each product is called, and what its
//! attributes are, it says itself ([`squall_operators::products`]).

use ::netcdf::FileMut;
use ndarray::{ArrayView4, s};
use squall_fields::{Forecast, Variable};
use squall_operators::products::{LevelAxis, PRECISION, ProductField, Quantity, fill};

use super::create::{DenseWriter, Draft, GridInFile, Step, Storage, WriteOptions, describe, failed, to_bytes};
use super::observations::{TIME, write_time};
use crate::error::FileError;

/// The products of a forecast as the bytes of a file. The same ones give the same bytes.
///
/// # Errors
/// [`FileError::Malformed`] if there is nothing to write or shapes do not fit the grid and the leads;
/// [`FileError::Io`] if no temporary file can be written.
pub fn forecast_bytes(
    forecast: &Forecast,
    products: &[ProductField<'_>],
    options: &WriteOptions,
) -> Result<Vec<u8>, FileError> {
    if products.is_empty() {
        return Err(FileError::malformed("forecast", "expected at least one product to write"));
    }
    products.iter().try_for_each(|field| check(forecast, field))?;
    to_bytes(|draft| {
        let file = &mut draft.file;
        write_provenance(file, forecast, options)?;
        write_times(file, forecast)?;
        if products.iter().any(|field| field.product.is_computed()) {
            write_realizations(file, forecast.members())?;
        }
        let grid = GridInFile::write(draft, &forecast.grid, options)?;
        let beside = products.iter().any(|field| *field.product == PRECISION).then_some(PRECISION.file.name);
        let mut writer = Writer { options, grid, beside, axes: Vec::new() };
        products.iter().try_for_each(|field| writer.write(draft, field))
    })
}

fn check(forecast: &Forecast, field: &ProductField<'_>) -> Result<(), FileError> {
    let (rows, columns) = forecast.grid.shape();
    let expected = (field.levels.len(), forecast.leads.len(), rows, columns);
    if field.values.dim() == expected && !field.levels.is_empty() {
        return Ok(());
    }
    let what = field.product.name_in_file(field.variable);
    Err(FileError::malformed(what, format!("expected the shape {expected:?}, got {:?}", field.values.dim())))
}

/// Identity and provenance as attributes of the file.
fn write_provenance(file: &mut FileMut, forecast: &Forecast, options: &WriteOptions) -> Result<(), FileError> {
    let (id, provenance) = (&forecast.id, &forecast.provenance);
    let json = |value: serde_json::Result<String>| value.map_err(|e| FileError::malformed("provenance", e));
    let degraded = if forecast.is_degraded() { " (degraded)" } else { "" };
    let mask: Vec<&str> = provenance.window_mask.iter().map(|m| if *m { "1" } else { "0" }).collect();
    let attributes = [
        ("Conventions", "CF-1.11".to_owned()),
        ("title", format!("Nowcast of {}, issued {}{degraded}", id.stream, id.issue_time)),
        ("institution", options.institution.clone()),
        ("source", format!("Squall {}, model {} ({})", provenance.code_version, provenance.model, id.model_digest)),
        ("history", format!("{}: made from {} inputs by Squall", id.issue_time, provenance.inputs.len())),
        ("references", "https://cfconventions.org".to_owned()),
        ("comment", "Probabilistic nowcast: each realization is one sample of the future".to_owned()),
        ("squall_stream", id.stream.to_string()),
        ("squall_model", provenance.model.clone()),
        ("squall_model_digest", id.model_digest.to_string()),
        ("squall_issue_time", id.issue_time.to_rfc3339()),
        ("squall_revision", id.revision.to_string()),
        ("squall_known_at_ms", forecast.known_at.unix_ms().to_string()),
        ("squall_seed", provenance.seed.to_string()),
        ("squall_code_version", provenance.code_version.clone()),
        ("squall_device", provenance.device.clone()),
        ("squall_window_mask", mask.concat()),
        ("squall_inputs", json(serde_json::to_string(&provenance.inputs))?),
        ("squall_degraded", json(serde_json::to_string(&provenance.degraded))?),
    ];
    let identical = provenance.identical_members.then(|| ("squall_identical_members", "true".to_owned()));
    for (name, value) in attributes.into_iter().chain(identical) {
        file.add_attribute(name, value.as_str()).map_err(failed(name))?;
    }
    Ok(())
}

fn write_times(file: &mut FileMut, forecast: &Forecast) -> Result<(), FileError> {
    write_time(file, &forecast.valid_times())?;
    let name = "forecast_reference_time";
    let mut reference = file.add_variable::<i64>(name, &[]).map_err(failed(name))?;
    describe(&mut reference, &[("standard_name", name)])?;
    describe(&mut reference, &TIME[1..])?;
    reference.put_value(forecast.id.issue_time.unix_seconds(), ()).map_err(failed(name))?;
    let name = "forecast_period";
    let mut period = file.add_variable::<i32>(name, &["time"]).map_err(failed(name))?;
    describe(&mut period, &[("standard_name", name), ("units", "seconds")])?;
    let leads: Vec<i32> = forecast.leads.iter().map(|lead| lead.seconds() as i32).collect();
    period.put_values(&leads, ..).map_err(failed(name))
}

/// Of how many members a product is made: a mean has no dimension any more that would tell.
fn write_realizations(file: &mut FileMut, members: usize) -> Result<(), FileError> {
    let mut realizations = file.add_variable::<i32>(REALIZATIONS, &[]).map_err(failed(REALIZATIONS))?;
    describe(&mut realizations, &[("long_name", "number of realizations"), ("units", "1")])?;
    realizations.put_value(members as i32, ()).map_err(failed(REALIZATIONS))
}

/// Scalar coordinate of what is computed from all members.
const REALIZATIONS: &str = "realizations";
/// Scalar and auxiliary times of every dense variable.
const TIMES: &str = "forecast_reference_time forecast_period";

/// A coordinate of levels that is in the file.
struct WrittenAxis {
    kind: &'static str,
    name: String,
    attributes: Vec<(&'static str, String)>,
    values: Vec<f32>,
}

struct Writer<'o> {
    options: &'o WriteOptions,
    grid: GridInFile,
    /// What says how good each field is.
    beside: Option<&'static str>,
    axes: Vec<WrittenAxis>,
}

impl Writer<'_> {
    fn write(&mut self, draft: &mut Draft, field: &ProductField<'_>) -> Result<(), FileError> {
        let ProductField { product, variable, levels, values } = field;
        let axis = product
            .levels
            .as_ref()
            .map(|kind| self.axis(&mut draft.file, &kind.axis, *variable, levels))
            .transpose()?;
        let leading: Vec<&str> = axis.as_deref().into_iter().chain(["time"]).collect();
        let packing = self.packing(product.file.packed, values.view());
        let name = product.name_in_file(*variable);
        let mut out = DenseWriter::add(draft, &name, &leading, &self.grid, packing, self.options.deflate)?;
        if let (Quantity::Variable { cell_method }, Some(variable)) = (product.quantity, variable) {
            let methods = [Some(own_cell_method(*variable)), cell_method];
            let methods: Vec<&str> = methods.into_iter().flatten().collect();
            out.describe(&[("standard_name", variable.standard_name()), ("cell_methods", &methods.join(" "))])?;
        }
        let long_name = fill(product.file.long_name, *variable);
        out.describe(&[("long_name", &long_name), ("units", product.quantity.unit(*variable))])?;
        if let (Some(beside), Some(_)) = (self.beside, variable) {
            out.describe(&[("ancillary_variables", beside)])?;
        }
        let of_all = if product.is_computed() { REALIZATIONS } else { "" };
        out.coordinates(format!("{TIMES} {of_all}").trim_end())?;
        let (levels, leads, ..) = values.dim();
        let places = (0..levels).flat_map(|level| (0..leads).map(move |lead| [level, lead]));
        let plane = |place: [usize; 2]| {
            let plane = values.slice(s![place[0], place[1], .., ..]);
            (place[place.len() - leading.len()..].to_vec(), plane)
        };
        out.put(&places.map(plane).collect::<Vec<_>>());
        Ok(())
    }

    fn packing(&self, packed: bool, values: ArrayView4<'_, f32>) -> Option<Step> {
        let wanted = packed && self.options.storage == Storage::Packed;
        wanted.then(|| Step::for_rows(values.rows().into_iter().collect()))
    }

    /// The name of a coordinate of levels, which is written unless it is there already.
    fn axis(
        &mut self,
        file: &mut FileMut,
        axis: &'static LevelAxis,
        variable: Option<Variable>,
        levels: &[f32],
    ) -> Result<String, FileError> {
        let attributes: Vec<_> = axis.attributes.iter().map(|(key, value)| (*key, fill(value, variable))).collect();
        let values: Vec<f32> = levels.iter().map(|level| in_file(*level, axis.factor)).collect();
        let before: Vec<&WrittenAxis> = self.axes.iter().filter(|other| other.kind == axis.name).collect();
        if let Some(same) = before.iter().find(|other| other.attributes == attributes && other.values == values) {
            return Ok(same.name.clone());
        }
        let name = if before.is_empty() { axis.name.to_owned() } else { format!("{}_{}", axis.name, before.len()) };
        write_axis(file, &name, axis.whole, &attributes, &values)?;
        self.axes.push(WrittenAxis { kind: axis.name, name: name.clone(), attributes, values });
        Ok(name)
    }
}

/// A level as a file has it: exactly 10 % for the quantile 0.1, which is not exact in binary.
fn in_file(level: f32, factor: f64) -> f32 {
    if factor == 1.0 { level } else { ((f64::from(level) * factor * 1e4).round() / 1e4) as f32 }
}

fn write_axis(
    file: &mut FileMut,
    name: &str,
    whole: bool,
    attributes: &[(&str, String)],
    values: &[f32],
) -> Result<(), FileError> {
    file.add_dimension(name, values.len()).map_err(failed(name))?;
    let attributes: Vec<_> = attributes.iter().map(|(key, value)| (*key, value.as_str())).collect();
    if whole {
        let mut coordinate = file.add_variable::<i32>(name, &[name]).map_err(failed(name))?;
        describe(&mut coordinate, &attributes)?;
        let values: Vec<i32> = values.iter().map(|level| *level as i32).collect();
        return coordinate.put_values(&values, ..).map_err(failed(name));
    }
    let mut coordinate = file.add_variable::<f32>(name, &[name]).map_err(failed(name))?;
    describe(&mut coordinate, &attributes)?;
    coordinate.put_values(values, ..).map_err(failed(name))
}

/// What a value of a variable is in time.
const fn own_cell_method(variable: Variable) -> &'static str {
    match variable {
        Variable::PrecipitationAmount => "time: sum",
        _ => "time: point",
    }
}
