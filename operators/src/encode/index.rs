//! The record that says what there is of a forecast.

use bytes::Bytes;
use serde_json::{Value, json};
use squall_fields::{Degradation, Forecast, Grid, Provenance, ValidTime};
use uuid::Uuid;

use super::{EncodeConfig, INDEX_TYPE, StoredFile, compact, headers, key};
use crate::dead_letter::{DETAIL_BYTES, beginning};
use crate::ports::Outgoing;
use crate::products::{self, ProductsConfig};

/// The index record of a forecast.
pub fn index(config: &EncodeConfig, forecast: &Forecast, products: &ProductsConfig, file: &StoredFile) -> Outgoing {
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

fn index_json(config: &EncodeConfig, forecast: &Forecast, products: &ProductsConfig, file: &StoredFile) -> Value {
    let Forecast { id, known_at, grid, leads, provenance, .. } = forecast;
    let identity = format!("{}|{}|r{}", config.instance, key(forecast), id.revision);
    let times = forecast.valid_times();
    let time = |t: Option<&ValidTime>| t.map_or_else(|| id.issue_time.to_rfc3339(), |t| t.to_rfc3339());
    let rel = if id.revision == 0 { "canonical" } else { "update" };
    let topic = |role: &products::TopicRole| (role.setting.to_owned(), json!(config.topics.get(role.setting)));
    let topics: serde_json::Map<_, _> = products::topics().into_iter().map(topic).collect();
    let mut properties = json!({
        "pubtime": known_at.to_string(),
        "start_datetime": time(times.first()),
        "end_datetime": time(times.last()),
        "data_id": format!("{}/{}/{}", config.instance, id.stream, compact(id.issue_time.unix_seconds())),
        "integrity": {"method": "sha512", "value": file.sha512},
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
            "topics": topics,
            "grid": grid,
            "degraded": forecast.is_degraded(),
            "provenance": bounded(provenance),
        },
    });
    for setting in products::settings() {
        properties["squall"][setting.name] = json!(products.levels(setting));
    }
    json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes()).to_string(),
        "conformsTo": ["http://wis.wmo.int/spec/wnm/1/conf/core"],
        "type": "Feature",
        "geometry": outline(grid),
        "properties": properties,
        "links": [{"href": file.url, "rel": rel, "type": file.content_type, "length": file.length}],
    })
}

/// A provenance whose texts are bounded: what a model said of its failure may be of any length.
fn bounded(provenance: &Provenance) -> Provenance {
    let mut bounded = provenance.clone();
    for degraded in &mut bounded.degraded {
        if let Degradation::ModelFailed { message } = degraded {
            *message = beginning(message, DETAIL_BYTES).to_owned();
        }
    }
    bounded
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
