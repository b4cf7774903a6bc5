//! Forecasts as CF-NetCDF: ensemble, probabilities, percentiles, precision, provenance.
//!
//! The shape is that of the CF conventions' "multiple forecasts from a single analysis" (section
//! 5.7), with the names and types of IMPROVER: `realization`, `time` and `forecast_reference_time` as
//! int64 seconds since 1970, `forecast_period` as int32 seconds, probabilities with a `threshold`
//! coordinate that carries `spp__relative_to_threshold`.

use ::netcdf::FileMut;
use ndarray::{Array4, Axis as NdAxis};
use squall_fields::{Forecast, Variable};

use super::create::{DenseWriter, GridInFile, Step, Storage, WriteOptions, describe, failed, to_bytes};
use super::observations::{TIME, write_time};
use crate::error::FileError;

/// Probabilities that a variable reaches thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbabilityField {
    /// The variable.
    pub variable: Variable,
    /// Thresholds in the variable's unit, ascending.
    pub thresholds: Vec<f32>,
    /// `[threshold, lead, y, x]`, 0 to 1, of being at or above the threshold; NaN where missing.
    pub values: Array4<f32>,
    /// Whether reaching it anywhere in a neighbourhood counts.
    pub in_vicinity: bool,
}

/// Percentiles of a variable.
#[derive(Clone, Debug, PartialEq)]
pub struct PercentileField {
    /// The variable.
    pub variable: Variable,
    /// Percentiles, 0 to 100, ascending.
    pub percentiles: Vec<f32>,
    /// `[percentile, lead, y, x]` in the variable's unit; NaN where missing.
    pub values: Array4<f32>,
}

/// What is written beside the ensemble.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForecastExtras {
    /// Probabilities.
    pub probabilities: Vec<ProbabilityField>,
    /// Percentiles.
    pub percentiles: Vec<PercentileField>,
}

/// A forecast as the bytes of a file. The same forecast gives the same bytes.
///
/// # Errors
/// [`FileError::Malformed`] if shapes do not fit the grid and the leads; [`FileError::Io`] if no
/// temporary file can be written.
pub fn forecast_bytes(
    forecast: &Forecast,
    extras: &ForecastExtras,
    options: &WriteOptions,
) -> Result<Vec<u8>, FileError> {
    check(forecast, extras)?;
    to_bytes(|file| {
        write_provenance(file, forecast, options)?;
        write_times(file, forecast)?;
        let grid = GridInFile::write(file, &forecast.grid, options)?;
        let writer = Writer { forecast, options, grid };
        writer.ensembles(file)?;
        writer.precision(file)?;
        writer.probabilities(file, &extras.probabilities)?;
        writer.percentiles(file, &extras.percentiles)
    })
}

fn check(forecast: &Forecast, extras: &ForecastExtras) -> Result<(), FileError> {
    let (rows, columns) = forecast.grid.shape();
    let expected = (forecast.leads.len(), rows, columns);
    let members = forecast.members();
    let fits = |what: &str, (first, leads, y, x): (usize, usize, usize, usize), wanted: usize| {
        if (leads, y, x) == expected && first == wanted && wanted > 0 {
            return Ok(());
        }
        let reason =
            format!("expected [{wanted}, {}, {rows}, {columns}], got [{first}, {leads}, {y}, {x}]", expected.0);
        Err(FileError::malformed(what, reason))
    };
    for ensemble in &forecast.ensembles {
        fits(ensemble.variable.name(), ensemble.values.dim(), members)?;
    }
    for field in &extras.probabilities {
        fits("probabilities", field.values.dim(), field.thresholds.len())?;
    }
    for field in &extras.percentiles {
        fits("percentiles", field.values.dim(), field.percentiles.len())?;
    }
    match &forecast.precision {
        Some(precision) if precision.dim() != expected => {
            Err(FileError::malformed("precision", format!("expected {expected:?}, got {:?}", precision.dim())))
        }
        _ => Ok(()),
    }
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
    for (name, value) in attributes {
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

/// Scalar and auxiliary times of every dense variable.
const TIMES: &str = "forecast_reference_time forecast_period";

struct Writer<'f> {
    forecast: &'f Forecast,
    options: &'f WriteOptions,
    grid: GridInFile,
}

impl Writer<'_> {
    fn packing(&self, values: &Array4<f32>) -> Option<Step> {
        let slice = values.as_slice_memory_order().unwrap_or_default();
        let step = || Step::for_values(rayon::iter::IntoParallelRefIterator::par_iter(slice));
        (self.options.storage == Storage::Packed).then(step)
    }

    fn put_all(&self, out: &mut DenseWriter<'_, '_>, values: &Array4<f32>) -> Result<(), FileError> {
        for (first, fields) in values.axis_iter(NdAxis(0)).enumerate() {
            for (lead, field) in fields.axis_iter(NdAxis(0)).enumerate() {
                out.put(&[first, lead], field)?;
            }
        }
        Ok(())
    }

    fn ensembles(&self, file: &mut FileMut) -> Result<(), FileError> {
        let members = self.forecast.members();
        if members == 0 {
            return Ok(());
        }
        let name = "realization";
        file.add_dimension(name, members).map_err(failed(name))?;
        let mut realization = file.add_variable::<i32>(name, &[name]).map_err(failed(name))?;
        describe(&mut realization, &[("standard_name", name), ("units", "1")])?;
        realization.put_values(&(0..members as i32).collect::<Vec<_>>(), ..).map_err(failed(name))?;
        for ensemble in &self.forecast.ensembles {
            let variable = ensemble.variable;
            let packing = self.packing(&ensemble.values);
            let mut out = DenseWriter::add(
                file,
                variable.standard_name(),
                &[name, "time"],
                &self.grid,
                packing,
                self.options.deflate,
            )?;
            let long_name = format!("nowcast {}", variable.name().replace('_', " "));
            out.describe(&[
                ("standard_name", variable.standard_name()),
                ("long_name", &long_name),
                ("units", variable.unit().symbol()),
                ("cell_methods", cell_methods(variable)),
            ])?;
            if self.forecast.precision.is_some() {
                out.describe(&[("ancillary_variables", "precision")])?;
            }
            out.coordinates(TIMES)?;
            self.put_all(&mut out, &ensemble.values)?;
        }
        Ok(())
    }

    fn precision(&self, file: &mut FileMut) -> Result<(), FileError> {
        let Some(precision) = &self.forecast.precision else { return Ok(()) };
        let mut out = DenseWriter::add(file, "precision", &["time"], &self.grid, None, self.options.deflate)?;
        out.describe(&[("long_name", "precision weight of the guided diffusion model"), ("units", "1")])?;
        out.coordinates(TIMES)?;
        precision.axis_iter(NdAxis(0)).enumerate().try_for_each(|(lead, field)| out.put(&[lead], field))
    }

    fn probabilities(&self, file: &mut FileMut, fields: &[ProbabilityField]) -> Result<(), FileError> {
        for (index, field) in fields.iter().enumerate() {
            let threshold = if index == 0 { "threshold".to_owned() } else { format!("threshold_{index}") };
            file.add_dimension(&threshold, field.thresholds.len()).map_err(failed(&threshold))?;
            let mut coordinate = file.add_variable::<f32>(&threshold, &[&threshold]).map_err(failed(&threshold))?;
            describe(
                &mut coordinate,
                &[
                    ("standard_name", field.variable.standard_name()),
                    ("units", field.variable.unit().symbol()),
                    ("spp__relative_to_threshold", "greater_than_or_equal_to"),
                ],
            )?;
            coordinate.put_values(&field.thresholds, ..).map_err(failed(&threshold))?;
            let vicinity = if field.in_vicinity { "_in_vicinity" } else { "" };
            let name = format!("probability_of_{}{vicinity}_above_threshold", field.variable.standard_name());
            // Probabilities of an ensemble are multiples of 1/M: a step of 1/10000 is finer than any.
            let packing = (self.options.storage == Storage::Packed).then_some(Step { scale: 1e-4, offset: 0.0 });
            let leading = [threshold.as_str(), "time"];
            let mut out = DenseWriter::add(file, &name, &leading, &self.grid, packing, self.options.deflate)?;
            out.describe(&[("long_name", &name), ("units", "1")])?;
            out.coordinates(TIMES)?;
            self.put_all(&mut out, &field.values)?;
        }
        Ok(())
    }

    fn percentiles(&self, file: &mut FileMut, fields: &[PercentileField]) -> Result<(), FileError> {
        for (index, field) in fields.iter().enumerate() {
            let percentile = if index == 0 { "percentile".to_owned() } else { format!("percentile_{index}") };
            file.add_dimension(&percentile, field.percentiles.len()).map_err(failed(&percentile))?;
            let mut coordinate = file.add_variable::<f32>(&percentile, &[&percentile]).map_err(failed(&percentile))?;
            describe(&mut coordinate, &[("long_name", "percentile"), ("units", "%")])?;
            coordinate.put_values(&field.percentiles, ..).map_err(failed(&percentile))?;
            let name = format!("{}_percentiles", field.variable.standard_name());
            let (leading, packing) = ([percentile.as_str(), "time"], self.packing(&field.values));
            let mut out = DenseWriter::add(file, &name, &leading, &self.grid, packing, self.options.deflate)?;
            out.describe(&[
                ("standard_name", field.variable.standard_name()),
                ("long_name", &format!("percentiles of {}", field.variable.name().replace('_', " "))),
                ("units", field.variable.unit().symbol()),
                ("cell_methods", cell_methods(field.variable)),
            ])?;
            out.coordinates(TIMES)?;
            self.put_all(&mut out, &field.values)?;
        }
        Ok(())
    }
}

const fn cell_methods(variable: Variable) -> &'static str {
    match variable {
        Variable::PrecipitationAmount => "time: sum",
        _ => "time: point",
    }
}
