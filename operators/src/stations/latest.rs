//! The latest of each reading, as a collection: a correction takes back what it replaces.

use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::upsert::arrange_from_upsert;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{JudgedReading, ReadingKey};
use crate::Tick;

/// The index of the latest readings by key.
pub type LatestTrace = TraceAgent<ValSpine<ReadingKey, JudgedReading, Tick, isize>>;

/// The latest reading of each key, as an index that several joins may share, spread over the workers by key.
///
/// A reading counts from the time at which it is known until another of its key is known. Of several of one key at one time
/// the one later in the log counts. A reading that is missing or that failed is one like others: it replaces the one before.
///
/// `None` forgets a key: what was made of its reading is taken back.
pub fn arrange_latest<'scope>(
    judged: StreamVec<'scope, Tick, (ReadingKey, Option<JudgedReading>)>,
) -> Arranged<'scope, LatestTrace> {
    let upserts = judged.unary(Pipeline, "Upserts", |_capability, _info| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let known_at = *time.time();
                let mut session = output.session(&time);
                for (key, reading) in batches.flat_map(|batch| batch.drain(..)) {
                    session.give((key, reading, known_at));
                }
            });
        }
    });
    arrange_from_upsert::<ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, _, _>(upserts, "LatestReadings")
}

/// The latest reading of each key, as a collection of `(key, reading)`.
///
/// ```
/// use differential_dataflow::collection::AsCollection;
/// use squall_operators::stations::latest;
/// use timely::dataflow::operators::{Input, vec::ToStream};
/// timely::example(|scope| {
///     let none = Vec::new().to_stream(scope);
///     latest(none).inspect(|(_reading, known_at, change)| println!("{known_at} {change:+}"));
/// });
/// ```
pub fn latest<'scope>(
    judged: StreamVec<'scope, Tick, (ReadingKey, Option<JudgedReading>)>,
) -> VecCollection<'scope, Tick, (ReadingKey, JudgedReading), isize> {
    arrange_latest(judged).as_collection(|key, reading| (key.clone(), reading.clone()))
}

#[cfg(test)]
mod tests;
