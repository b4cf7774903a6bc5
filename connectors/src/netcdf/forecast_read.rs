//! Forecast files back into forecasts: for verification, for `inspect`, and for tests.

use std::path::Path;
use std::sync::Arc;

use ::netcdf::{Extent, File};
use ndarray::{Array4, Axis as NdAxis};
use squall_fields::{
    Conversion, Ensemble, Forecast, ForecastId, IssueTime, KnowledgeTime, LeadTime, Provenance, Variable,
};
use squall_operators::products::{self, PRECISION, ProductField, Source};

use super::attributes::text;
use super::placement::{Placement, placement, read_numbers};
use super::read::{guarded, recognise};
use super::schema::{Schema, VariableInfo};
use crate::error::FileError;
use crate::gridded::Notes;
use crate::gridded::unpack::{Layout, unpack};
use crate::options::{Limits, ReadOptions};

/// What a forecast's file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The forecast; without ensembles if the file has none.
    pub forecast: Forecast,
    /// What was computed from it.
    pub products: Vec<ProductField<'static>>,
}

/// Reads the file of a forecast that [`super::forecast_bytes`] wrote.
///
/// # Errors
/// [`FileError`] says what was expected of the file.
pub fn read_forecast(path: &Path, limits: &Limits) -> Result<Stored, FileError> {
    let bytes = std::fs::read(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
    forecast_from_bytes(&bytes, limits)
}

/// As [`read_forecast`], from bytes.
///
/// # Errors
/// As [`read_forecast`].
pub fn forecast_from_bytes(bytes: &[u8], limits: &Limits) -> Result<Stored, FileError> {
    recognise(bytes)?;
    guarded("forecast", || {
        let file = ::netcdf::open_mem(None, bytes).map_err(|e| FileError::malformed("forecast", e))?;
        let schema = Schema::of(&file);
        let options = ReadOptions { limits: *limits, ..ReadOptions::default() };
        let any = schema.variables.iter().find(|v| v.shape.len() >= 3);
        let any = any.ok_or_else(|| FileError::malformed("forecast", "it has no field"))?;
        let placement = placement(&file, &schema, any, &options)?;
        Reading { file: &file, schema: &schema, placement, limits }.forecast()
    })
}

struct Reading<'a> {
    file: &'a File,
    schema: &'a Schema,
    placement: Placement,
    limits: &'a Limits,
}

impl Reading<'_> {
    fn forecast(&self) -> Result<Stored, FileError> {
        let leads = self.numbers("forecast_period")?;
        let issue_time = self.numbers("forecast_reference_time")?.first().copied();
        let issue_time = issue_time.ok_or_else(|| FileError::malformed("forecast_reference_time", "it is empty"))?;
        let (mut ensembles, mut precision, mut products) = (Vec::new(), None, Vec::new());
        for field in self.products()? {
            match (field.product.source, field.variable) {
                (Source::Ensemble(_), Some(variable)) => {
                    ensembles.push(Ensemble { variable, values: field.values.into_owned() });
                }
                (Source::Forecast(_), _) if *field.product == PRECISION => {
                    precision = Some(field.values.into_owned().index_axis_move(NdAxis(0), 0));
                }
                _ => products.push(field),
            }
        }
        let forecast = Forecast {
            id: ForecastId {
                stream: Arc::from(self.text("squall_stream")),
                model_digest: Arc::from(self.text("squall_model_digest")),
                issue_time: IssueTime::from_unix_seconds(issue_time as i64),
                revision: self.text("squall_revision").parse().unwrap_or(0),
            },
            known_at: KnowledgeTime::from_unix_ms(self.text("squall_known_at_ms").parse().unwrap_or(0)),
            grid: Arc::new(self.placement.grid.clone()),
            leads: leads.into_iter().map(|seconds| LeadTime::from_seconds(seconds as i64)).collect(),
            ensembles,
            precision,
            provenance: self.provenance()?,
            trace: None,
        };
        Ok(Stored { forecast, products })
    }

    /// Every product that the file holds.
    fn products(&self) -> Result<Vec<ProductField<'static>>, FileError> {
        let variables = Variable::ALL.iter().copied().map(Some).chain([None]);
        let mut fields = Vec::new();
        for variable in variables {
            for product in products::ALL.into_iter().filter(|p| p.is_asked_for() == variable.is_some()) {
                let rank = 3 + usize::from(product.levels.is_some());
                let info = self.schema.variable(&product.name_in_file(variable));
                let Some(info) = info.filter(|info| info.shape.len() == rank) else { continue };
                let levels = match &product.levels {
                    Some(levels) => self.leading(info, levels.axis.factor)?,
                    None => vec![0.0],
                };
                fields.push(ProductField { product, variable, levels, values: self.dense(info)?.into() });
            }
        }
        Ok(fields)
    }

    fn text(&self, name: &str) -> &str {
        text(&self.schema.attributes, name).unwrap_or_default()
    }

    fn provenance(&self) -> Result<Provenance, FileError> {
        let json = |name: &str| if self.text(name).is_empty() { "[]" } else { self.text(name) }.to_owned();
        let wrong = |e| FileError::malformed("provenance", e);
        Ok(Provenance {
            inputs: serde_json::from_str(&json("squall_inputs")).map_err(wrong)?,
            window_mask: self.text("squall_window_mask").chars().map(|c| c == '1').collect(),
            seed: self.text("squall_seed").parse().unwrap_or(0),
            model: self.text("squall_model").to_owned(),
            code_version: self.text("squall_code_version").to_owned(),
            device: self.text("squall_device").to_owned(),
            degraded: serde_json::from_str(&json("squall_degraded")).map_err(wrong)?,
            identical_members: self.text("squall_identical_members") == "true",
        })
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>, FileError> {
        let info = self.schema.variable(name).ok_or_else(|| FileError::malformed(name, "expected in a forecast"))?;
        read_numbers(self.file, info, self.limits.max_fields)
    }

    /// The coordinate of the first dimension, as levels.
    fn leading(&self, info: &VariableInfo, factor: f64) -> Result<Vec<f32>, FileError> {
        let name = info.dimensions.first().ok_or_else(|| FileError::malformed(&info.name, "it has no dimension"))?;
        Ok(self.numbers(name)?.into_iter().map(|v| (v / factor) as f32).collect())
    }

    /// `[first, lead, y, x]` in the variable's unit; a variable without first dimension has one entry there.
    fn dense(&self, info: &VariableInfo) -> Result<Array4<f32>, FileError> {
        let (rows, columns) = self.placement.grid.shape();
        let (first, leads) = match info.shape[..] {
            [first, leads, y, x] if (y, x) == (rows, columns) => (first, leads),
            [leads, y, x] if (y, x) == (rows, columns) => (1, leads),
            _ => return Err(FileError::malformed(&info.name, format!("unexpected shape {:?}", info.shape))),
        };
        let cells = [first, leads, rows, columns].iter().fold(1u64, |n, len| n.saturating_mul(*len as u64));
        let limit = (self.limits.max_cells as u64).saturating_mul(64);
        if cells > limit {
            return Err(FileError::TooLarge { what: "number of values", got: cells, limit });
        }
        let mut out = Array4::zeros((first, leads, rows, columns));
        for (i, mut fields) in out.axis_iter_mut(NdAxis(0)).enumerate() {
            for (lead, mut field) in fields.axis_iter_mut(NdAxis(0)).enumerate() {
                let at: &[usize] = if info.shape.len() == 4 { &[i, lead] } else { &[lead] };
                self.field(info, at, &mut field)?;
            }
        }
        Ok(out)
    }

    fn field(
        &self,
        info: &VariableInfo,
        at: &[usize],
        out: &mut ndarray::ArrayViewMut2<'_, f32>,
    ) -> Result<(), FileError> {
        let Placement { flip_rows, flip_columns, grid, .. } = &self.placement;
        let (rows, columns) = grid.shape();
        let layout = Layout { rows, columns, flip_rows: *flip_rows, flip_columns: *flip_columns, transposed: false };
        let extents: Vec<Extent> = at
            .iter()
            .map(|i| Extent::from(*i..i + 1))
            .chain([Extent::from(0..rows), Extent::from(0..columns)])
            .collect();
        let wrong = |e| FileError::malformed(&info.name, e);
        let variable = self.file.variable(&info.name).ok_or_else(|| FileError::malformed(&info.name, "it is gone"))?;
        let packing = info.packing(&mut Notes::default())?;
        use ::netcdf::types::{IntType, NcVariableType};
        if variable.vartype() == NcVariableType::Int(IntType::I16) {
            let mut raw = vec![0i16; rows * columns];
            variable.get_values_into(&mut raw, extents).map_err(wrong)?;
            unpack(&raw, &packing, Conversion::Scale(1.0), layout, out.view_mut());
        } else {
            let mut raw = vec![0f32; rows * columns];
            variable.get_values_into(&mut raw, extents).map_err(wrong)?;
            unpack(&raw, &packing, Conversion::Scale(1.0), layout, out.view_mut());
        }
        Ok(())
    }
}
