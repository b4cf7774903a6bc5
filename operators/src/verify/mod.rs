//! Verification while it runs: every forecast is scored against what then came, and a late or corrected observation takes
//! back exactly the scores that rested on it.
//!
//! It is a dataflow of its own, with its own source and ledger, beside that of its stream: what is slow here never holds up
//! a forecast, and what fails here is made again. The stages, in the order in which data pass:
//!
//! ```text
//! observations, companions' forecasts ─┐
//! published forecasts (handover) ──────┴─> gather ─> matches ─> judge ─> sums ─> report ─> sink
//!                                          fields     pairs     scores   by period
//! ```
//!
//! [`gather()`] has fields held on disk ([`Scorer`]) and turns them into changes of two differential collections of handles;
//! [`matches()`] joins these by valid time; [`judge()`] scores each pair once, by cells, and what it counted is the *difference*
//! ([`Sums`]) of a third collection, keyed by [`Key`]: contestant, model, lead, region, and the time, hour and day that it
//! was valid at. [`report()`] writes what has changed in it.
//!
//! Everything is a function of the log. A restart reads the open hours again, from the oldest record that they rest on, and
//! adds what closed hours summed to ([`Ledger`]): the scores are those of an undisturbed run.

mod due;
pub mod gather;
pub mod handover;
pub mod judge;
pub mod matching;
mod packed;
mod places;
mod region;
mod report;
mod scorer;
mod series;
mod skill;
mod sums;
#[cfg(test)]
mod tests;

use differential_dataflow::AsCollection;
use differential_dataflow::operators::CountTotal;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;

use crate::Tick;
use crate::events;
use crate::local::Local;
use crate::note::Note;
use crate::offload::Service;
use crate::stream::StreamContext;

pub use self::gather::{Arrival, Closing, Gather, Gathered, Hours, Times, gather};
pub use self::handover::{Handover, PublishedFile, Reached, Whereabouts, published};
pub use self::judge::{Judge, Judged, Names, judge};
pub use self::matching::{Change, Handle, Match, Truth, matches};
pub use self::packed::{pack, unpack};
pub use self::places::{OnGrid, Places, PlacesConfig, Spot, latest_places, places};
pub use self::region::Region;
pub use self::report::{Report, report};
pub use self::scorer::{Done, Scored, Scorer, Source, Task, Tools};
pub use self::series::{DOMAIN, Key, PUBLISHED, Period, STATIONS, Series, Sums};
pub use self::skill::{MEASURES, Skill, Standing};
pub use self::sums::{Archive, ClosedSums, Ledger};

/// What the verification of a stream is made of, on any worker.
pub struct Verification {
    /// Names of contestants, and leads.
    pub names: Names,
    /// Times.
    pub times: Times,
    /// Where the published forecasts' whereabouts are kept.
    pub whereabouts: Whereabouts,
    /// Where scores go.
    pub report: Report,
    /// What it goes on from.
    pub gather: Gather,
    /// What it goes on from, on the home worker.
    pub judge: Option<Judge>,
}

/// Scores what arrives on the home worker of a stream. The notes are for its sink.
pub fn verify<'scope>(
    arrivals: StreamVec<'scope, Tick, Local<Arrival>>,
    verification: Verification,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Note>> {
    let Verification { names, times, whereabouts, report: reporting, gather: core, judge: judging } = verification;
    let thread: Option<Service<Task, Done>> = judging.as_ref().map(|judge| judge.thread.clone());
    let gathered = gather(arrivals, core, whereabouts, thread, stream.clone());
    let changes = gathered.clone().flat_map(|Local(gathered)| match gathered {
        Gathered::Change(change) => Some(change),
        Gathered::Closing(_) | Gathered::Mark(_) | Gathered::Kept(_) => None,
    });
    let closings = gathered.clone().flat_map(|Local(gathered)| match gathered {
        Gathered::Closing(closing) => Some(Local(closing)),
        Gathered::Change(_) | Gathered::Mark(_) | Gathered::Kept(_) => None,
    });
    let said = gathered.flat_map(|Local(gathered)| match gathered {
        Gathered::Mark(mark) => Some(Local(Note::Mark(mark))),
        Gathered::Kept(records) => Some(Local(Note::Records(records))),
        Gathered::Change(_) | Gathered::Closing(_) => None,
    });
    let pairs = matches(timed(changes), names.leads.clone(), names.rivals.clone());
    let judged = judge(pairs, closings, names, times.hours, judging, stream.clone());
    let sums = judged.clone().flat_map(|Local(judged)| match judged {
        Judged::Sums(key, sums) => Some((key, sums)),
        Judged::Kept(_) | Judged::Standing(_) => None,
    });
    let standing = reporting.clone();
    let kept = timed(judged).flat_map(move |(Local(judged), time)| match judged {
        Judged::Kept(records) => Some(Local(Note::Records(records))),
        Judged::Standing(of) => {
            events::Stands { stream: &standing.stream, standing: &of }.emit();
            let known_at = squall_fields::KnowledgeTime::at(time);
            Some(Local(Note::Records(vec![standing.standing(&of, known_at)])))
        }
        Judged::Sums(..) => None,
    });
    let collection = timed(sums).map(|((key, sums), time)| (key, time, sums)).as_collection();
    let counted = collection.count_total().inner;
    use timely::dataflow::operators::Concat;
    said.concat(kept).concat(report(counted, reporting, stream))
}

/// What a restart makes again and has committed already is left out: all of before a time.
pub fn since<'scope, D: 'static>(stream: StreamVec<'scope, Tick, D>, from: Tick) -> StreamVec<'scope, Tick, D> {
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::generic::Operator;
    stream.unary(Pipeline, "Since", move |_capability, _info| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let is_new = *time.time() >= from;
                let items = batches.flat_map(|batch| batch.drain(..));
                if is_new {
                    output.session(&time).give_iterator(items);
                } else {
                    items.for_each(drop);
                }
            });
        }
    })
}

/// Each with its time.
fn timed<'scope, D: 'static>(stream: StreamVec<'scope, Tick, D>) -> StreamVec<'scope, Tick, (D, Tick)> {
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::generic::Operator;
    stream.unary(Pipeline, "Timed", |_capability, _info| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let at = *time.time();
                let mut session = output.session(&time);
                batches.flat_map(|batch| batch.drain(..)).for_each(|item| session.give((item, at)));
            });
        }
    })
}
