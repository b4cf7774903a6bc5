//! Turns a forecast into the records that speak of it.
//!
//! Three kinds, in CloudEvents' binary mode (conventions of the Kafka binding 1.0):
//!
//! - the [`index()`]: JSON in the shape of a WIS2 notification, which says what there is, where its file lies, and all
//!   of its provenance; key `stream|model|issue time`, so that compaction keeps the newest revision;
//! - [`tiles()`]: packed fields of its products, see [`crate::tile`];
//! - dead letters, see [`crate::dead_letter`].
//!
//! Everything here is a function of the forecast: the same forecast gives the same records, to the byte.

mod index;
mod tiles;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256, Sha512};
use squall_fields::{Forecast, TraceParent};
use uuid::Uuid;

use crate::ports::Headers;

pub use index::index;
pub use tiles::tiles;

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
    /// Topics of packed fields by their [role](crate::products::TopicRole::setting); a role without one publishes none.
    pub topics: BTreeMap<&'static str, Arc<str>>,
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
    let digest = short_digest(bytes);
    format!(
        "{}/{}/r{}-{digest}.{extension}",
        folder_name(&forecast.id.stream),
        compact(forecast.id.issue_time.unix_seconds()),
        forecast.id.revision
    )
}

/// Whether a file of this URL is to hold these bytes: its [name](file_name) has their digest.
pub fn is_file_of(url: &str, bytes: &[u8]) -> bool {
    let name = url.rsplit('/').next().unwrap_or(url);
    let stem = name.split('.').next().unwrap_or(name);
    stem.rsplit_once('-').is_some_and(|(_, digest)| digest == short_digest(bytes))
}

/// The part of a digest that stands in names.
fn short_digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

/// The folder of a stream in the store: its name, with nothing in it that a path could take for more than a name.
pub fn folder_name(stream: &str) -> String {
    let is_safe = |(at, c): (usize, char)| c.is_alphanumeric() || "-_".contains(c) || (c == '.' && at > 0);
    stream.chars().enumerate().map(|(at, c)| if is_safe((at, c)) { c } else { '_' }).collect()
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

/// The trace context of a forecast's records: a span of the trace that the record which completed its window belongs to,
/// else of a trace of its own. A function of the forecast.
fn trace(config: &EncodeConfig, forecast: &Forecast) -> TraceParent {
    let digest: [u8; 32] =
        Sha256::digest(format!("{}|{}|r{}", config.instance, key(forecast), forecast.id.revision)).into();
    let (mut own, mut span) = ([0; 16], [0; 8]);
    own.copy_from_slice(&digest[..16]);
    span.copy_from_slice(&digest[16..24]);
    forecast.trace.map_or_else(|| TraceParent::new(own, span), |incoming| incoming.child(span))
}

/// CloudEvents headers of a record about a forecast, and what consumers filter by.
fn headers(config: &EncodeConfig, forecast: &Forecast, kind: &str, content_type: &str, part: &str) -> Headers {
    let id = &forecast.id;
    let identity = format!("{}|{}|r{}|{part}", config.instance, key(forecast), id.revision);
    let trace = trace(config, forecast).to_string();
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
        ("traceparent", trace),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), Some(Bytes::from(value)))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::infer::{
        InferConfig, Rules, assemble, device::ModelSlot, device::tests::Constant, device::tests::request_at,
    };
    use crate::ports::Outgoing;
    use crate::products::{ALL, LevelSetting, ProductsConfig, products};
    use crate::tile;
    use crate::window::Fired;
    use ndarray::{Array3, Array4, s};
    use serde_json::Value;
    use squall_fields::random::Philox;
    use squall_fields::{Axis, Ensemble, Grid, KnowledgeTime, Variable};

    pub(crate) fn forecast(issue_time: i64, revision: u32) -> Forecast {
        let request = request_at(issue_time);
        let answer = ModelSlot::new(Box::new(Constant(1.5, "abc")), None)
            .answer("cpu", std::slice::from_ref(&request))
            .remove(0);
        let known_at = KnowledgeTime::from_unix_ms(issue_time * 1000 + 20_000);
        let fired = Fired { window: request.window, revision, known_at, read_at_us: 0, trace: None };
        let stream = request.stream;
        let config =
            InferConfig { stream, leads: request.leads, members: request.members, max_alive: 1, rules: Rules::Clean };
        assemble(&config, &fired, answer).unwrap()
    }

    pub(crate) fn config() -> EncodeConfig {
        let (instance, index) = ("test".into(), "index".into());
        let topics = [("probabilities", "prob".into()), ("quantiles", "quant".into())].into();
        EncodeConfig { instance, index, topics }
    }

    fn all() -> ProductsConfig {
        let levels = |setting: &LevelSetting| if setting.name == "quantiles" { vec![0.5] } else { vec![1.0, 2.0] };
        ProductsConfig::new(ALL, levels)
    }

    /// Two variables with gaps, on a grid that is cut nowhere, and a precision map.
    fn everything() -> Forecast {
        let mut forecast = forecast(1_475_078_400, 1);
        let (members, leads, rows, columns) = (5, 2, 7, 9);
        let random = Philox::new(11, 3);
        let value = |i: usize| match random.uniform(i as u64) {
            u if u < 0.1 => f32::NAN,
            u if u < 0.5 => 0.0,
            u => (30.0 * (u - 0.5)) as f32,
        };
        let axis = |step: f64, len| Axis { first: 0.0, step, len };
        forecast.grid =
            Grid { proj: "+proj=utm +zone=35".into(), wkt: None, x: axis(1e3, columns), y: axis(-1e3, rows) }.into();
        forecast.leads.truncate(leads);
        let ensemble = |variable, sign: f32| {
            let values = (0..members * leads * rows * columns).map(|i| sign * value(i)).collect();
            let mut values = Array4::from_shape_vec((members, leads, rows, columns), values).unwrap();
            values.slice_mut(s![.., .., 2, 3]).fill(f32::NAN);
            Ensemble { variable, values }
        };
        forecast.ensembles = vec![ensemble(Variable::RainRate, 1.0), ensemble(Variable::XWind, -1.0)];
        forecast.precision = Some(Array3::from_shape_fn((leads, rows, columns), |(l, y, x)| value(l + 7 * y + x)));
        forecast
    }

    /// Header and packed values of a tile, or the text of an index record: what compression does is not ours.
    fn content(record: &Outgoing) -> Vec<u8> {
        let value = record.value.as_ref().unwrap();
        let Some(rest) = value.strip_prefix(tile::MAGIC) else { return value.to_vec() };
        let length = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
        let packed = zstd::bulk::decompress(&rest[4 + length..], tile::MAX_RAW_BYTES).unwrap();
        [&rest[4..4 + length], &packed].concat()
    }

    #[test]
    fn no_name_of_a_stream_leads_out_of_the_store() {
        for (stream, folder) in [("rain.5", "rain.5"), ("..", "_."), (".", "_"), ("a/../b", "a_.._b"), ("a\\b", "a_b")]
        {
            assert_eq!(folder_name(stream), folder);
        }
    }

    #[test]
    fn the_index_has_the_shape_of_a_notification() {
        let forecast = forecast(1_475_078_400, 1);
        let file = StoredFile::new("file:///x.nc".into(), "application/x-netcdf", b"abc");
        let record = index(&config(), &forecast, &all(), &file);
        let json: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        assert!(record.value.as_ref().unwrap().len() <= 8192);
        assert_eq!(json["properties"]["data_id"], "test/rain/20160928T160000Z");
        assert_eq!(json["links"][0]["rel"], "update");
        assert_eq!(json["properties"]["squall"]["provenance"]["inputs"][0]["topic"], "obs");
        assert_eq!(json["properties"]["pubtime"], "2016-09-28T16:00:20.000Z");
        assert_eq!(record.key.as_deref(), Some(&b"rain|abc|2016-09-28T16:00:00Z"[..]));
        assert_eq!(record, index(&config(), &forecast, &all(), &file), "a function of the forecast");
    }

    #[test]
    fn tiles_carry_probabilities_quantiles_and_mean() {
        let forecast = forecast(300, 0);
        let records = tiles(&config(), &forecast, &products(&forecast, &all())).unwrap();
        assert_eq!(records.len(), 2 * 3, "two leads of three products");
        let read: Vec<_> = records.iter().map(|r| tile::read(r.value.as_ref().unwrap()).unwrap()).collect();
        let of = |product: &str| read.iter().find(|(h, _)| h.field.product == product).unwrap();
        let (header, values) = of("probability");
        assert_eq!((header.field.levels.as_slice(), values[[0, 1, 1]], values[[1, 1, 1]]), (&[1.0, 2.0][..], 1.0, 0.0));
        assert_eq!(of("quantile").1[[0, 0, 0]], 1.5);
        assert_eq!(of("mean").0.field.valid_time, "1970-01-01T00:10:00Z");
        let keys: std::collections::BTreeSet<_> = records.iter().map(|r| r.key.clone()).collect();
        assert_eq!(keys.len(), records.len());
    }

    #[test]
    fn a_forecast_goes_on_with_the_trace_of_its_input() {
        let incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let (alone, mut within) = (forecast(300, 0), forecast(300, 0));
        within.trace = TraceParent::parse(incoming);
        let (alone, within) = (trace(&config(), &alone).to_string(), trace(&config(), &within).to_string());
        assert_eq!(within[..36], incoming[..36], "the same trace");
        assert_eq!(within[36..52], alone[36..52], "a span of its own, the same each time");
        assert!(within.ends_with("-00") && alone.ends_with("-01"), "whether it is sampled was decided before");
        assert_ne!(alone[3..35], incoming[3..35]);
    }

    #[test]
    fn records_are_what_they_were_to_the_byte() {
        let forecast = everything();
        let file = StoredFile::new("file:///x.nc".into(), "application/x-netcdf", b"abc");
        let mut records = vec![index(&config(), &forecast, &all(), &file)];
        records.extend(tiles(&config(), &forecast, &products(&forecast, &all())).unwrap());
        let mut hash = Sha256::new();
        for record in &records {
            hash.update(format!("{} {:?} {:?}\n", record.topic, record.key, record.headers));
            hash.update(content(record));
        }
        assert_eq!(
            (records.len(), &*hex::encode(hash.finalize())),
            (15, "848bba1d24f92ced31ad2ddcaf8e5adf2e45af5b13442817e0b67bdccece55a2")
        );
    }
}
