//! Forecasts joined with observations by valid time: *what was known at k about what was valid at v*.
//!
//! Both sides are differential collections of handles: of each slot the newest observation, of each contestant and issue
//! time the newest revision. A corrected observation takes back the pairs of the one that it replaces and makes new ones;
//! so does a revised forecast, and an expired one takes its pairs with it. The fields themselves stay where they are.

use differential_dataflow::operators::arrange::upsert::arrange_from_upsert;
use differential_dataflow::trace::implementations::{ValBuilder, ValSpine};
use serde::{Deserialize, Serialize};
use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;

use crate::Tick;

/// Names a field that is held: of what came later, the larger one.
pub type Handle = u64;

/// What forecasts are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Truth {
    /// A field.
    Field,
    /// Readings of stations.
    Places,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Change {
    /// The observation of a valid time, in seconds since 1970; none any more.
    Observation((Truth, i64), Option<Handle>),
    /// The forecast of a contestant for an issue time, in seconds since 1970; none any more.
    Forecast((u32, i64), Option<Handle>),
}

/// A forecast at one lead, and what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Match {
    /// Which lead, counted from 0.
    pub lead: u32,
    /// What it is compared with.
    pub truth: Truth,
    /// The valid time, in seconds since 1970.
    pub valid: i64,
    /// Which contestant.
    pub contestant: u32,
    /// The forecast of the same issue time that was published, where both are compared: judged is what both have.
    pub rival: Option<Handle>,
    /// The forecast.
    pub forecast: Handle,
    /// The observation.
    pub observation: Handle,
}

/// The pairs of a stream of changes, and those that are no more, as multiplicities. `leads` are those of all forecasts,
/// in seconds; the forecasts of the contestants `rivals` are compared with those of the first, which are published, too.
pub fn matches<'scope>(
    changes: StreamVec<'scope, Tick, (Change, Tick)>,
    leads: Vec<i64>,
    rivals: Vec<u32>,
) -> StreamVec<'scope, Tick, (Match, Tick, isize)> {
    let observations = changes.clone().flat_map(|(change, time)| match change {
        Change::Observation(of, handle) => Some((of, handle, time)),
        Change::Forecast(..) => None,
    });
    let forecasts = changes.flat_map(|(change, time)| match change {
        Change::Forecast(of, handle) => Some((of, handle, time)),
        Change::Observation(..) => None,
    });
    // Of several at one time the largest handle counts: the last.
    let observations = arrange_from_upsert::<ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, (Truth, i64), Handle>(
        observations,
        "Observations",
    );
    let observations = observations.as_collection(|(truth, valid), handle| (*valid, (*truth, *handle)));
    let forecasts =
        arrange_from_upsert::<ValBuilder<_, _, _, _>, ValSpine<_, _, _, _>, (u32, i64), Handle>(forecasts, "Forecasts");
    let open = forecasts.as_collection(|of, handle| (*of, *handle));
    let alone = open.clone().map(|((contestant, issue_time), forecast)| (issue_time, (contestant, None, forecast)));
    let all = if rivals.is_empty() {
        alone
    } else {
        let published = open.clone().filter(|((contestant, _), _)| *contestant == 0);
        let published = published.map(|((_, issue_time), forecast)| (issue_time, forecast));
        let rivals = open.filter(move |((contestant, _), _)| rivals.contains(contestant));
        let rivals = rivals.map(|((contestant, issue_time), forecast)| (issue_time, (contestant, forecast)));
        let both = |issue_time: &i64, published: &Handle, (contestant, forecast): &(u32, Handle)| {
            (*issue_time, (*contestant, Some(*published), *forecast))
        };
        alone.concat(published.join_map(rivals, both))
    };
    let by_valid_time = all.flat_map(move |(issue_time, (contestant, rival, forecast))| {
        let of =
            move |(lead, seconds): (usize, i64)| (issue_time + seconds, (contestant, lead as u32, rival, forecast));
        leads.clone().into_iter().enumerate().map(of)
    });
    let pair = |valid: &i64, of: &(u32, u32, Option<Handle>, Handle), observation: &(Truth, Handle)| {
        let (contestant, lead, rival, forecast) = *of;
        let (truth, observation) = *observation;
        Match { lead, truth, valid: *valid, contestant, rival, forecast, observation }
    };
    by_valid_time.join_map(observations, pair).inner
}
