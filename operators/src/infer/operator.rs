//! The timely shell around a stream's orders.

use std::collections::BTreeMap;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::InferConfig;
use super::device::Device;
use super::ladder::StandIn;
use super::orders::{AtWork, Orders};
use super::permits::{Inferred, Permits};
use crate::Tick;
use crate::local::Local;
use crate::order::frontier_of;
use crate::stream::StreamContext;
use crate::window::Windowed;

/// Has each window that fires forecast by the model of its stream on a device.
///
/// `stand_ins` are the models that answer where there is no time for the stream's own. Where the stream is not at home, no
/// window comes and there is no device.
pub fn infer<'scope>(
    windows: StreamVec<'scope, Tick, Local<Windowed>>,
    config: InferConfig,
    device: Option<Device>,
    stand_ins: BTreeMap<StandIn, Device>,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Inferred>> {
    let worker = windows.scope().worker();
    windows.unary_frontier(Pipeline, "Infer", move |_capability, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let activator = worker.activator_for(info.address.clone());
        let at_work = |device: Device| AtWork { desk: device.desk(&stream.control, waker()), device };
        let stand_ins = stand_ins.into_iter().map(|(of, device)| (of, at_work(device))).collect();
        let permits = Permits::new(config.max_alive, Some(waker()));
        let orders = |device| Orders::new(config, stream.clone(), at_work(device), stand_ins, permits);
        let mut orders = device.map(orders);
        move |(input, frontier), output| {
            let Some(orders) = &mut orders else { return };
            stream.frontiers.report("infer", frontier_of(frontier));
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(windowed) in batches.flat_map(|batch| batch.drain(..)) {
                    if let Windowed::Fired(fired) = windowed {
                        orders.push(capability.clone(), fired);
                    }
                }
            });
            if stream.control.is_done() {
                orders.clear();
                return;
            }
            match orders.turn() {
                Ok(Some(next)) => activator.activate_after(next),
                Ok(None) => {}
                Err(lost) => stream.control.fail(lost.into()),
            }
            for (capability, inferred) in orders.out.drain(..) {
                output.session(&capability).give(Local(inferred));
            }
        }
    })
}
