//! How the memory that is configured is divided.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_operators::decode::SharedFrames;

use crate::config::Config;

/// Bytes of decoded values that the streams of one source keep for each other, at most.
const SHARED_BYTES: u64 = 128 << 20;

/// What a stream, or a verification, may have in memory, beside what all share.
pub(super) fn budget(config: &Config, processes: usize) -> u64 {
    let verified = config.streams.iter().filter(|stream| stream.verification.is_some()).count();
    let shared = if shared_sources(config).is_empty() { 0 } else { shared_bytes(config) };
    (config.runtime.max_bytes_in_flight - shared) / ((config.streams.len() + verified).max(1) * processes) as u64
}

/// What frames that several streams share may take of the budget.
fn shared_bytes(config: &Config) -> u64 {
    SHARED_BYTES.min(config.runtime.max_bytes_in_flight / 8)
}

/// The sources that several streams read, with how many do.
fn shared_sources(config: &Config) -> BTreeMap<Arc<str>, usize> {
    let mut streams: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for stream in &config.streams {
        *streams.entry(stream.source.name.clone()).or_default() += 1 + usize::from(stream.verification.is_some());
        if let Some(truth) = &stream.inputs.truth {
            *streams.entry(truth.name.clone()).or_default() += 1;
        }
        if let Some(steering) = &stream.inputs.steering {
            let readers = 1 + usize::from(stream.verification.is_some());
            *streams.entry(steering.source.name.clone()).or_default() += readers;
        }
    }
    streams.retain(|_, streams| *streams > 1);
    streams
}

/// For each source that several streams read, what they share of its records.
pub(super) fn shared_frames(config: &Config) -> BTreeMap<Arc<str>, Arc<SharedFrames>> {
    let sources = shared_sources(config);
    let bytes = shared_bytes(config) as usize / sources.len().max(1);
    sources.into_iter().map(|(source, streams)| (source, SharedFrames::new(streams, bytes).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn config(streams: usize) -> Config {
        let stream = |n| {
            format!(
                "[[streams]]\nname = \"s{n}\"\nsource = \"radar\"\nproducts = [\"ensemble\"]\nmodel = {{ name = \"persistence\" }}\n"
            )
        };
        let text = "name = \"t\"\n[log]\nkind = \"memory\"\n[store]\nurl = \"out\"\n[runtime]\nmax_bytes_in_flight = \"80 MiB\"\n\
             [[sources]]\nname = \"radar\"\ntopic = \"obs\"\nvariables = [\"rain_rate\"]\ncadence = \"5 min\"\n";
        let text = text.to_owned() + &(0..streams).map(stream).collect::<String>();
        Layers::from_text("test.toml", &text).load().unwrap()
    }

    #[test]
    fn what_streams_share_is_part_of_the_memory_that_is_configured() {
        let of = |streams| budget(&config(streams), 1) >> 20;
        assert_eq!(of(1), 80, "nobody to share with");
        assert_eq!(of(2), 35, "half of what an eighth for shared frames leaves");
        assert_eq!(shared_frames(&config(1)).len(), 0);
        assert_eq!(shared_frames(&config(2)).len(), 1);
    }
}
