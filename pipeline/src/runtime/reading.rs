//! Reads a source to its present end as streams would, without a forecast: for what looks back at a topic.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use squall_fields::{ErrorKind, Failure, KnowledgeTime};
use squall_operators::local::Local;
use squall_operators::source::Clock;
use squall_operators::source::budget::Budget;
use squall_operators::stream::StreamContext;
use squall_operators::window::Windowed;

use super::{Parts, beside_of, decoder, monitor, workers};
use crate::config::{Config, StreamConfig};
use crate::graph;
use crate::inputs::{self, Inputs};

/// What takes what the windows of streams say: the number of the stream, when it is known, and what.
type Each = dyn FnMut(usize, KnowledgeTime, Windowed) -> anyhow::Result<()> + Send;

/// Reads the topic of a source that all of these streams have, and those of the winds that steer them, from their beginning
/// to their present end: sources, decoder, quality control and windows are those of `squall run` with the clock `log`, so
/// that everything is known when it is known there. `each` gets what the windows of each stream say, in the order of time.
///
/// # Errors
/// The topic cannot be read, or the first error of `each`.
pub fn read_to_end(
    config: &Config,
    parts: &Parts,
    streams: &[StreamConfig],
    each: impl FnMut(usize, KnowledgeTime, Windowed) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let Some(first) = streams.first() else { return Ok(()) };
    let clock = Clock::Log { until_marker: false };
    let inputs = Inputs { clock, ..inputs::look(config, &first.source, &*parts.connect)? };
    let context = StreamContext {
        budget: Budget::new(config.runtime.max_bytes_in_flight).into(),
        ..StreamContext::new(first.source.name.clone(), 0)
    };
    let steering = |stream: &StreamConfig| {
        let Some(steering) = &stream.inputs.steering else { return Ok(None) };
        let inputs = Inputs { clock, ..inputs::look(config, &steering.source, &*parts.connect)? };
        anyhow::Ok(Some(beside_of(stream, &steering.source, inputs, parts, &BTreeMap::new())))
    };
    let reading = graph::ReadingPlan {
        steering: streams.iter().map(steering).collect::<anyhow::Result<_>>()?,
        streams: streams.to_vec(),
        inputs,
        connect: parts.connect.clone(),
        decoder: decoder(first, parts, &BTreeMap::new()),
        context: context.clone(),
    };
    let failed = Arc::new(Mutex::new(None));
    let (of_each, control) = (failed.clone(), context.control.clone());
    let each: Arc<Mutex<Box<Each>>> = Arc::new(Mutex::new(Box::new(each)));
    let tell = move |stream: usize, time, Local(windowed): Local<Windowed>| {
        let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
        if control.is_done() {
            return;
        }
        if let Err(error) = each(stream, KnowledgeTime::at(time), windowed) {
            *of_each.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            control.finish();
        }
    };
    let abandoned = Arc::new(AtomicBool::new(false));
    let workers = workers::run(1, None, abandoned, vec![context.clone()], move |worker| {
        graph::build_reading(worker, &reading, tell.clone());
    })?;
    let lost = workers.join().into_iter();
    let lost = lost.map(|error| Failure::new(ErrorKind::Internal, "a worker died").because(error));
    context.control.finish();
    monitor::together(context.control.failure().into_iter().chain(lost).collect())?;
    match failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
