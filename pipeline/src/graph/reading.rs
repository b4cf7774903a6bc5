//! The dataflow that reads a source for several streams, and forecasts nothing.

use std::sync::Arc;

use squall_operators::Tick;
use squall_operators::decode::{Decoder, decode};
use squall_operators::local::Local;
use squall_operators::ports::Connect;
use squall_operators::source::{SourceConfig, source};
use squall_operators::steering::steer;
use squall_operators::stream::StreamContext;
use squall_operators::window::{Windowed, window};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

use super::{BesidePlan, alone, quality_config, source_config, window_config, winds_core};
use crate::config::StreamConfig;
use crate::inputs::Inputs;

/// Everything that reading a source needs.
pub struct ReadingPlan {
    /// Streams of the source, whose windows are gathered.
    pub streams: Vec<StreamConfig>,
    /// The source's topic as it was found.
    pub inputs: Inputs,
    /// Where it reads.
    pub connect: Arc<dyn Connect>,
    /// What decodes its records.
    pub decoder: Decoder,
    /// The wind that steers the rain of each of the streams, where one does.
    pub steering: Vec<Option<BesidePlan>>,
    /// How it ends, how far it is.
    pub context: StreamContext,
}

/// Wires the reading of a source on the only worker; `tell` gets what the windows of each stream say, with its time.
pub fn build_reading(
    worker: &mut Worker,
    plan: &ReadingPlan,
    tell: impl Fn(usize, Tick, Local<Windowed>) + Clone + 'static,
) {
    let ReadingPlan { streams, inputs, connect, decoder, steering, context } = plan;
    let Some(first) = streams.first() else { return };
    worker.dataflow_named::<Tick, _, _>(&format!("reading {}", first.source.name), |scope| {
        let probe = ProbeHandle::new();
        let sources = 1 + steering.iter().flatten().count();
        // What does no harm to the least patient does none to the others.
        let least = streams.iter().min_by_key(|stream| stream.patience).unwrap_or(first);
        let reading = SourceConfig { sources, ..source_config(least, inputs, None) };
        let records = source(scope, reading, None, connect.clone(), context.clone(), probe.clone());
        let decoded = decode(records, decoder.clone(), context.clone());
        for (number, (stream, steering)) in streams.iter().zip(steering).enumerate() {
            let (accepted, shape) = (quality_config(stream), window_config(stream));
            let mut windows = window(decoded.clone(), accepted, shape, context.clone(), None);
            if let Some(steering) = steering {
                let reading = source_config(&steering.stream, &steering.inputs, None);
                let first_holder = 1 + number; // the one worker reads each
                let reading = SourceConfig { first_holder, sources, ..reading };
                let records = source(scope, reading, None, connect.clone(), context.clone(), probe.clone());
                let (winds, _) = alone(records, steering, 0, context.clone());
                windows = steer(windows, winds, winds_core(stream, None), context.clone());
            }
            let tell = tell.clone();
            windows.inspect_time(move |time, windowed| tell(number, *time, windowed.clone())).probe_with(&probe);
        }
    });
}
