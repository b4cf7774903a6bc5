//! The dataflow that reads a source for several streams, and forecasts nothing.

use std::sync::Arc;

use squall_operators::Tick;
use squall_operators::decode::{Decoder, decode};
use squall_operators::local::Local;
use squall_operators::ports::Connect;
use squall_operators::source::source;
use squall_operators::stream::StreamContext;
use squall_operators::window::{Windowed, window};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

use super::{quality_config, source_config, window_config};
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
    /// How it ends, how far it is.
    pub context: StreamContext,
}

/// Wires the reading of a source on the only worker; `tell` gets what the windows of each stream say, with its time.
pub fn build_reading(
    worker: &mut Worker,
    plan: &ReadingPlan,
    tell: impl Fn(usize, Tick, Local<Windowed>) + Clone + 'static,
) {
    let ReadingPlan { streams, inputs, connect, decoder, context } = plan;
    let Some(first) = streams.first() else { return };
    worker.dataflow_named::<Tick, _, _>(&format!("reading {}", first.source.name), |scope| {
        let probe = ProbeHandle::new();
        let reading = source_config(first, inputs, None);
        let records = source(scope, reading, None, connect.clone(), context.clone(), probe.clone());
        let decoded = decode(records, decoder.clone(), context.clone());
        for (number, stream) in streams.iter().enumerate() {
            let (accepted, shape) = (quality_config(stream), window_config(stream));
            let windows = window(decoded.clone(), accepted, shape, context.clone(), None);
            let tell = tell.clone();
            windows.inspect_time(move |time, windowed| tell(number, *time, windowed.clone())).probe_with(&probe);
        }
    });
}
