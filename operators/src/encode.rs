//! Turns a forecast into the records that speak of it.
//!
//! Three kinds, in CloudEvents' binary mode (conventions of the Kafka binding 1.0):
//!
//! - the *index*: JSON in the shape of a WIS2 notification, which says what there is, where its file lies, and all
//!   of its provenance; key `stream|model|issue time`, so that compaction keeps the newest revision;
//! - *probabilities* and *quantiles* (with mean and precision): packed tiles, see [`crate::tile`];
//! - dead letters, see [`crate::dead_letter`].
//!
//! Everything here is a function of the forecast: the same forecast gives the same records, to the byte.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use ndarray::{ArrayView3, ArrayView4, Axis};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use squall_fields::{Forecast, Grid};
use uuid::Uuid;

use crate::ports::{Headers, Outgoing};
use crate::products::{Products, ProductsConfig};
use crate::tile::{self, FieldHeader, Packing};

/// Type of a forecast's index record, as CloudEvents has it.
pub const INDEX_TYPE: &str = "squall.forecast.v1";
/// Type of a tile record.
pub const TILE_TYPE: &str = "squall.tile.v1";

/// Where the records of a stream go.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodeConfig {
    /// Name of the instance: CloudEvents' source.
    pub instance: Arc<str>,
    /// Topic of the index.
    pub index: Arc<str>,
    /// Topic of probabilities; `None` publishes none.
    pub probabilities: Option<Arc<str>>,
    /// Topic of quantiles, means and precision; `None` publishes none.
    pub quantiles: Option<Arc<str>>,
}

/// The file of a forecast in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it can be had.
    pub url: String,
    /// Its media type.
    pub content_type: &'static str,
    /// Its length in bytes.
    pub length: u64,
    /// SHA-512 of its bytes, base64.
    pub sha512: String,
}

impl StoredFile {
    /// Of bytes that lie at a URL.
    pub fn new(url: String, content_type: &'static str, bytes: &[u8]) -> Self {
        Self { url, content_type, length: bytes.len() as u64, sha512: STANDARD.encode(Sha512::digest(bytes)) }
    }
}

/// Name of a forecast's file in the store: `stream/issue time/rREVISION-DIGEST.ending`.
pub fn file_name(forecast: &Forecast, bytes: &[u8], extension: &str) -> String {
    let digest = hex::encode(&Sha256::digest(bytes)[..8]);
    let safe: String =
        forecast.id.stream.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    format!("{safe}/{}/r{}-{digest}.{extension}", compact(forecast.id.issue_time.unix_seconds()), forecast.id.revision)
}

/// `20160928T160000Z`.
fn compact(seconds: i64) -> String {
    DateTime::<Utc>::from_timestamp(seconds, 0)
        .map_or_else(|| seconds.to_string(), |t| t.format("%Y%m%dT%H%M%SZ").to_string())
}

/// The key of a forecast: `stream|model|issue time`.
pub fn key(forecast: &Forecast) -> String {
    let id = &forecast.id;
    format!("{}|{}|{}", id.stream, id.model_digest, id.issue_time)
}

/// CloudEvents headers of a record about a forecast, and what consumers filter by.
fn headers(config: &EncodeConfig, forecast: &Forecast, kind: &str, content_type: &str, part: &str) -> Headers {
    let id = &forecast.id;
    let identity = format!("{}|{}|r{}|{part}", config.instance, key(forecast), id.revision);
    let trace = hex::encode(Sha256::digest(format!("{}|{}|r{}", config.instance, key(forecast), id.revision)));
    let known_at = forecast.known_at.to_string();
    let all: [(&str, String); 14] = [
        ("ce_specversion", "1.0".into()),
        ("ce_id", Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes()).to_string()),
        ("ce_source", format!("/squall/{}", config.instance)),
        ("ce_type", kind.into()),
        ("ce_time", known_at),
        ("ce_subject", format!("{}/{}", id.stream, id.issue_time)),
        ("content-type", content_type.into()),
        ("stream", id.stream.to_string()),
        ("issue-time", id.issue_time.to_rfc3339()),
        ("revision", id.revision.to_string()),
        ("members", forecast.members().to_string()),
        ("degraded", forecast.is_degraded().to_string()),
        ("model-digest", id.model_digest.to_string()),
        ("traceparent", format!("00-{}-{}-01", &trace[..32], &trace[32..48])),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), Some(Bytes::from(value)))).collect()
}

/// The index record of a forecast.
pub fn index(
    config: &EncodeConfig,
    forecast: &Forecast,
    products: &ProductsConfig,
    file: Option<&StoredFile>,
) -> Outgoing {
    let value = index_json(config, forecast, products, file);
    Outgoing {
        topic: config.index.clone(),
        partition: None,
        key: Some(Bytes::from(key(forecast))),
        headers: headers(config, forecast, INDEX_TYPE, "application/geo+json", "index"),
        value: Some(Bytes::from(value.to_string())),
        timestamp_ms: None,
    }
}

fn index_json(
    config: &EncodeConfig,
    forecast: &Forecast,
    products: &ProductsConfig,
    file: Option<&StoredFile>,
) -> Value {
    let Forecast { id, known_at, grid, leads, provenance, .. } = forecast;
    let identity = format!("{}|{}|r{}", config.instance, key(forecast), id.revision);
    let times = forecast.valid_times();
    let time = |t: Option<&squall_fields::ValidTime>| t.map_or_else(|| id.issue_time.to_rfc3339(), |t| t.to_rfc3339());
    let links = file.map(|file| {
        let rel = if id.revision == 0 { "canonical" } else { "update" };
        json!({"href": file.url, "rel": rel, "type": file.content_type, "length": file.length})
    });
    let mut properties = json!({
        "pubtime": known_at.to_string(),
        "start_datetime": time(times.first()),
        "end_datetime": time(times.last()),
        "data_id": format!("{}/{}/{}", config.instance, id.stream, compact(id.issue_time.unix_seconds())),
        "squall": {
            "stream": id.stream,
            "model": provenance.model,
            "model_digest": id.model_digest,
            "issue_time": id.issue_time.to_rfc3339(),
            "revision": id.revision,
            "known_at": known_at.to_string(),
            "variables": forecast.ensembles.iter().map(|e| json!({"name": e.variable.name(), "unit": e.variable.unit()})).collect::<Vec<_>>(),
            "members": forecast.members(),
            "lead_seconds": leads.iter().map(|l| l.seconds()).collect::<Vec<_>>(),
            "thresholds": products.thresholds,
            "quantiles": products.quantiles,
            "topics": {"probabilities": config.probabilities, "quantiles": config.quantiles},
            "grid": grid,
            "degraded": forecast.is_degraded(),
            "provenance": provenance,
        },
    });
    if let Some(file) = file {
        properties["integrity"] = json!({"method": "sha512", "value": file.sha512});
    }
    json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes()).to_string(),
        "conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"],
        "type": "Feature",
        "geometry": outline(grid),
        "properties": properties,
        "links": links.into_iter().collect::<Vec<_>>(),
    })
}

/// The outline of a grid as a GeoJSON polygon in longitude and latitude; null where it cannot be computed.
fn outline(grid: &Grid) -> Value {
    let (rows, columns) = grid.shape();
    let (bottom, right) = (rows as f64 - 0.5, columns as f64 - 0.5);
    // Counter-clockwise from the north-west, with the middles of the edges: they are curved in longitude and latitude.
    let ring = [
        (-0.5, -0.5),
        (bottom / 2.0, -0.5),
        (bottom, -0.5),
        (bottom, right / 2.0),
        (bottom, right),
        (bottom / 2.0, right),
        (-0.5, right),
        (-0.5, right / 2.0),
        (-0.5, -0.5),
    ];
    let Ok(projection) = grid.projection() else { return Value::Null };
    let round = |degrees: f64| (degrees * 1e5).round() / 1e5;
    let corner = |(row, column): (f64, f64)| {
        let (latitude, longitude) = grid.lat_lon_with(&projection, row, column).ok()?;
        (latitude.is_finite() && longitude.is_finite()).then(|| [round(longitude), round(latitude)])
    };
    match ring.into_iter().map(corner).collect::<Option<Vec<_>>>() {
        Some(ring) => json!({"type": "Polygon", "coordinates": [ring]}),
        None => Value::Null,
    }
}

struct Field<'a> {
    topic: &'a Arc<str>,
    header: FieldHeader,
    values: ArrayView3<'a, f32>,
    packing: Packing,
}

/// The tile records of a forecast: products of each of its ensembles, in order.
pub fn tiles(
    config: &EncodeConfig,
    forecast: &Forecast,
    levels: &ProductsConfig,
    products: &[Products],
) -> std::io::Result<Vec<Outgoing>> {
    let mut fields = Vec::new();
    for (ensemble, products) in forecast.ensembles.iter().zip(products) {
        let (name, unit) = (ensemble.variable.name(), ensemble.variable.unit());
        let unit_text = serde_json::to_value(unit).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        for (step, lead) in forecast.leads.iter().enumerate() {
            let header = |product, unit: &str, levels: &[f32], level_unit: &str| FieldHeader {
                stream: forecast.id.stream.clone(),
                model_digest: forecast.id.model_digest.clone(),
                issue_time: forecast.id.issue_time,
                revision: forecast.id.revision,
                degraded: forecast.is_degraded(),
                members: forecast.members(),
                variable: name,
                product,
                unit: unit.to_owned(),
                levels: levels.to_vec(),
                level_unit: level_unit.to_owned(),
                lead_seconds: lead.seconds(),
                valid_time: forecast.id.issue_time.at(*lead),
                grid: forecast.grid.clone(),
            };
            fn at_lead(values: &ndarray::Array4<f32>, step: usize) -> ArrayView3<'_, f32> {
                let values: ArrayView4<'_, f32> = values.view();
                values.index_axis_move(Axis(1), step)
            }
            if let (Some(topic), Some(values)) = (&config.probabilities, &products.probabilities) {
                let header = header("probability", "1", &levels.thresholds, &unit_text);
                fields.push(Field { topic, header, values: at_lead(values, step), packing: Packing::Share });
            }
            let Some(topic) = &config.quantiles else { continue };
            if let Some(values) = &products.quantiles {
                let header = header("quantile", &unit_text, &levels.quantiles, "1");
                fields.push(Field { topic, header, values: at_lead(values, step), packing: Packing::of(unit) });
            }
            if let Some(values) = &products.mean {
                let header = header("mean", &unit_text, &[0.0], "1");
                let values = values.index_axis(Axis(0), step).insert_axis(Axis(0));
                fields.push(Field { topic, header, values, packing: Packing::of(unit) });
            }
        }
    }
    if let (Some(topic), Some(precision), Some(first)) = (&config.quantiles, &forecast.precision, fields.first()) {
        let template = first.header.clone();
        for (step, lead) in forecast.leads.iter().enumerate() {
            let header = FieldHeader {
                variable: "precision",
                product: "precision",
                unit: "1".into(),
                levels: vec![0.0],
                level_unit: "1".into(),
                lead_seconds: lead.seconds(),
                valid_time: forecast.id.issue_time.at(*lead),
                ..template.clone()
            };
            let values = precision.index_axis(Axis(0), step).insert_axis(Axis(0));
            fields.push(Field { topic, header, values, packing: Packing::Steps { scale: 0.001 } });
        }
    }
    let records: Vec<_> = fields.par_iter().map(|field| field.records(config, forecast)).collect::<Result<_, _>>()?;
    Ok(records.into_iter().flatten().collect())
}

impl Field<'_> {
    fn records(&self, config: &EncodeConfig, forecast: &Forecast) -> std::io::Result<Vec<Outgoing>> {
        let FieldHeader { product, variable, lead_seconds, .. } = &self.header;
        let tiles = tile::tiles(self.values, self.packing, &self.header)?;
        let record = |tile: tile::Tile| {
            let part = format!("{product}|{variable}|{lead_seconds}|{}", tile.place.index);
            Outgoing {
                topic: self.topic.clone(),
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::infer::{InferConfig, assemble, device::ModelSlot, device::tests::Constant, device::tests::request_at};
    use crate::products::products;
    use crate::window::Fired;
    use squall_fields::KnowledgeTime;

    pub(crate) fn forecast(issue_time: i64, revision: u32) -> Forecast {
        let request = request_at(issue_time);
        let answer = ModelSlot::new(Box::new(Constant(1.5, "abc")), None)
            .answer("cpu", std::slice::from_ref(&request))
            .remove(0);
        let known_at = KnowledgeTime::from_unix_ms(issue_time * 1000 + 20_000);
        let fired = Fired { window: request.window, revision, known_at, read_at_us: 0 };
        let stream = request.stream;
        let config = InferConfig {
            stream,
            leads: request.leads,
            members: request.members,
            max_alive: 1,
            deadline: None,
            counts_waiting: false,
        };
        assemble(&config, &fired, answer).unwrap()
    }

    pub(crate) fn config() -> EncodeConfig {
        let (instance, index) = ("test".into(), "index".into());
        EncodeConfig { instance, index, probabilities: Some("prob".into()), quantiles: Some("quant".into()) }
    }

    fn levels() -> ProductsConfig {
        ProductsConfig { mean: true, quantiles: vec![0.5], thresholds: vec![1.0, 2.0] }
    }

    #[test]
    fn the_index_has_the_shape_of_a_notification() {
        let forecast = forecast(1_475_078_400, 1);
        let file = StoredFile::new("file:///x.nc".into(), "application/x-netcdf", b"abc");
        let record = index(&config(), &forecast, &levels(), Some(&file));
        let json: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        assert!(record.value.as_ref().unwrap().len() <= 8192);
        assert_eq!(json["properties"]["data_id"], "test/rain/20160928T160000Z");
        assert_eq!(json["links"][0]["rel"], "update");
        assert_eq!(json["properties"]["squall"]["provenance"]["inputs"][0]["topic"], "obs");
        assert_eq!(json["properties"]["pubtime"], "2016-09-28T16:00:20.000Z");
        assert_eq!(record.key.as_deref(), Some(&b"rain|abc|2016-09-28T16:00:00Z"[..]));
        assert_eq!(record, index(&config(), &forecast, &levels(), Some(&file)), "a function of the forecast");
    }

    #[test]
    fn tiles_carry_probabilities_quantiles_and_mean() {
        let forecast = forecast(300, 0);
        let products: Vec<_> = forecast.ensembles.iter().map(|e| products(e, &levels())).collect();
        let records = tiles(&config(), &forecast, &levels(), &products).unwrap();
        assert_eq!(records.len(), 2 * 3, "two leads of three products");
        let read: Vec<_> = records.iter().map(|r| tile::read(r.value.as_ref().unwrap()).unwrap()).collect();
        let of = |product: &str| read.iter().find(|(h, _)| h.product == product).unwrap();
        let (header, values) = of("probability");
        assert_eq!((header.levels.as_slice(), values[[0, 1, 1]], values[[1, 1, 1]]), (&[1.0, 2.0][..], 1.0, 0.0));
        assert_eq!(of("quantile").1[[0, 0, 0]], 1.5);
        assert_eq!(of("mean").0.valid_time, "1970-01-01T00:10:00Z");
        let keys: std::collections::BTreeSet<_> = records.iter().map(|r| r.key.clone()).collect();
        assert_eq!(keys.len(), records.len());
    }
}
