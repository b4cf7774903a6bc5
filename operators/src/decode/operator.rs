//! The timely shell: records are decoded on a thread beside each worker that reads.

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::{Decoded, Decoder};
use crate::Tick;
use crate::local::Local;
use crate::offload::{Desk, Service};
use crate::order::frontier_of;
use crate::ports::Record;
use crate::quality::CleanFrame;
use crate::source::Arrived;
use crate::stream::StreamContext;

fn bytes_of(clean: &CleanFrame) -> u64 {
    let cells = clean.frame.values.len() + clean.frame.quality.as_ref().map_or(0, |quality| quality.len());
    (cells * size_of::<f32>()) as u64
}

/// Records that wait for the thread; more wait at the desk, bounded by the bytes that the source has in flight.
const WAITING: usize = 64;

/// Decodes each record beside the worker that read it. What comes out is in no order: the windows put it in the log's.
pub fn decode<'scope>(
    records: StreamVec<'scope, Tick, Local<Arrived>>,
    decoder: Decoder,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Decoded> {
    let worker = records.scope().worker();
    records.unary_frontier(Pipeline, "Decode", move |_capability, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let of_thread = stream.clone();
        // It starts with the first record: workers without any have none.
        let start = move || {
            let (control, budget) = (of_thread.control.clone(), of_thread.budget.clone());
            let service =
                Service::each(&format!("decode {}", of_thread.name), WAITING, move |mut arrived: Arrived| {
                    let outcome = decoder.decode(&arrived.record, |wait| control.pause_until_done(wait));
                    if arrived.refill {
                        budget.refilled(arrived.record.memory_bytes());
                        // No dead letter is made of it: its bytes go as soon as it is decoded.
                        arrived.record = Record { value: None, ..Record::clone(&arrived.record) }.into();
                    }
                    if let Ok(frames) = &outcome {
                        budget.decoded(frames.iter().map(bytes_of).sum());
                    }
                    Decoded { arrived, outcome }
                })?;
            service.health().attach(&of_thread.control);
            Ok(service)
        };
        let mut desk: Desk<Arrived, Decoded, Capability<Tick>> = Desk::starting(start, Some(waker()));
        move |(input, frontier), output| {
            stream.frontiers.report("decode", frontier_of(frontier));
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(arrived) in batches.flat_map(|batch| batch.drain(..)) {
                    if let Err(lost) = desk.submit(arrived, capability.clone()) {
                        stream.control.fail(lost.into());
                    }
                }
            });
            if stream.control.is_done() {
                desk.clear();
                return;
            }
            while let Some((capability, answer)) = desk.poll() {
                match answer {
                    Ok(decoded) => output.session(&capability).give(decoded),
                    Err(lost) => stream.control.fail(lost.into()),
                }
            }
        }
    })
}
