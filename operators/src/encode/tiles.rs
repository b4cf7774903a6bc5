//! The records that hold the packed fields of a forecast.

use std::sync::Arc;

use bytes::Bytes;
use ndarray::Axis;
use rayon::prelude::*;
use squall_fields::{Forecast, LeadTime, Variable};

use super::{EncodeConfig, TILE_TYPE, headers, key};
use crate::ports::Outgoing;
use crate::products::{ProductField, Tiles};
use crate::tile::{self, FieldHeader};

/// The tile records of a forecast: of each variable, for each lead, the products that have a topic, in order.
///
/// # Errors
/// A tile cannot be compressed.
pub fn tiles(
    config: &EncodeConfig,
    forecast: &Forecast,
    products: &[ProductField<'_>],
) -> std::io::Result<Vec<Outgoing>> {
    let published = |field| Published::of(config, forecast, field);
    let mut planes = Vec::new();
    for fields in products.chunk_by(|a, b| a.variable == b.variable) {
        let fields: Vec<_> = fields.iter().filter_map(published).collect();
        for (step, lead) in forecast.leads.iter().enumerate() {
            planes.extend(fields.iter().map(|field| (field.clone(), step, *lead)));
        }
    }
    let records: std::io::Result<Vec<_>> =
        planes.into_par_iter().map(|(field, step, lead)| field.records(step, lead)).collect();
    Ok(records?.into_iter().flatten().collect())
}

/// A field that has a topic.
#[derive(Clone)]
struct Published<'a, 'p> {
    config: &'a EncodeConfig,
    forecast: &'a Forecast,
    field: &'a ProductField<'p>,
    form: &'a Tiles,
    topic: &'a Arc<str>,
}

impl<'a, 'p> Published<'a, 'p> {
    fn of(config: &'a EncodeConfig, forecast: &'a Forecast, field: &'a ProductField<'p>) -> Option<Self> {
        let form = field.product.tiles.as_ref()?;
        let topic = config.topics.get(form.topic.setting)?;
        Some(Self { config, forecast, field, form, topic })
    }

    fn header(&self, lead: LeadTime) -> FieldHeader {
        let Self { forecast, field, form, .. } = self;
        let ProductField { product, variable, levels, .. } = field;
        let level_unit = product.levels.as_ref().map_or("1", |levels| levels.quantity.unit(*variable));
        FieldHeader {
            stream: forecast.id.stream.clone(),
            model_digest: forecast.id.model_digest.clone(),
            issue_time: forecast.id.issue_time.to_rfc3339(),
            issue_time_seconds: forecast.id.issue_time.unix_seconds(),
            revision: forecast.id.revision,
            degraded: forecast.is_degraded(),
            members: forecast.members(),
            variable: variable.map_or(product.name, Variable::name).to_owned(),
            product: form.word.to_owned(),
            unit: product.quantity.unit(*variable).to_owned(),
            levels: levels.clone(),
            level_unit: level_unit.to_owned(),
            lead_seconds: lead.seconds(),
            valid_time: forecast.id.issue_time.at(lead).to_rfc3339(),
        }
    }

    fn records(&self, step: usize, lead: LeadTime) -> std::io::Result<Vec<Outgoing>> {
        let Self { config, forecast, field, form, topic } = self;
        let header = self.header(lead);
        let values = field.values.index_axis(Axis(1), step);
        let tiles = tile::tiles(values, form.packing, &header, &forecast.grid)?;
        let record = |tile: tile::Tile| {
            let FieldHeader { product, variable, lead_seconds, .. } = &header;
            let part = format!("{product}|{variable}|{lead_seconds}|{}", tile.place.index);
            Outgoing {
                topic: Arc::clone(topic),
                partition: None,
                key: Some(Bytes::from(format!("{}|{part}", key(forecast)))),
                headers: headers(config, forecast, TILE_TYPE, tile::CONTENT_TYPE, &part),
                value: Some(Bytes::from(tile.value)),
                timestamp_ms: None,
            }
        };
        Ok(tiles.into_iter().map(record).collect())
    }
}
