//! What a model is asked for when there is no time for all of it: less, step by step, chosen before the work begins.
//!
//! A publication deadline that is only looked at when it passes costs the whole forecast. Here the time that a request
//! will take is foreseen from what requests have taken ([`Pace`]), with what waits before it on the device, and the first
//! step of the stream's ladder that fits into the time left is taken. What is chosen is a decision of the machine's clock:
//! the forecast says so, and it is kept for replays.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::Pace;

/// A model that needs no time to speak of and answers in place of a stream's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandIn {
    /// The newest frame, moved.
    Extrapolation,
    /// The newest frame as it is.
    Persistence,
}

/// What a ladder gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Solver steps of the model.
    Steps,
    /// Members of the ensemble.
    Members,
    /// The model, for extrapolation.
    Extrapolation,
    /// The model, for persistence.
    Persistence,
}

impl Rung {
    /// Every rung.
    pub const ALL: [Self; 4] = [Self::Steps, Self::Members, Self::Extrapolation, Self::Persistence];

    /// Its name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Members => "members",
            Self::Extrapolation => "extrapolation",
            Self::Persistence => "persistence",
        }
    }

    /// The model that answers on it in place of the stream's own.
    pub const fn stand_in(self) -> Option<StandIn> {
        match self {
            Self::Steps | Self::Members => None,
            Self::Extrapolation => Some(StandIn::Extrapolation),
            Self::Persistence => Some(StandIn::Persistence),
        }
    }
}

/// What a stream gives up, in which order, and how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// From the first to be given up to the last; empty foresees nothing.
    pub rungs: Vec<Rung>,
    /// Solver steps that are never given up.
    pub min_steps: usize,
    /// Members that are never given up.
    pub min_members: usize,
}

/// Fewer solver steps than a model is set to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FewerSteps {
    /// Steps to take.
    pub steps: usize,
    /// Steps that the model is set to take.
    pub of: usize,
}

/// What is asked for a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// All that the stream asks of its model.
    #[default]
    Full,
    /// Less of the stream's model.
    Less {
        /// Fewer solver steps, if so.
        steps: Option<FewerSteps>,
        /// Members.
        members: usize,
    },
    /// Another model in its place.
    StandIn(StandIn),
}

/// What a full request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Members.
    pub members: usize,
    /// Solver steps of the model, if it has such.
    pub steps: Option<usize>,
    /// Cells of the grid.
    pub cells: usize,
}

impl Full {
    /// How much work a request with so many members and steps is: evaluations of a million cells.
    pub fn work(&self, members: usize, steps: Option<usize>) -> f64 {
        work(members, steps, self.cells)
    }
}

/// How much work it is to give members with so many steps on so many cells: evaluations of a million cells.
pub fn work(members: usize, steps: Option<usize>, cells: usize) -> f64 {
    (members * steps.unwrap_or(1)) as f64 * cells as f64 / 1e6
}

/// What is known before a request is made.
#[derive(Clone, Debug, Default)]
pub struct Foresight {
    /// Until the deadline.
    pub left: Duration,
    /// What the device does before it.
    pub queue: Duration,
    /// What requests of the stream have taken there.
    pub model: Pace,
    /// What each stand-in would take, its own queue included; one of which nothing is known is taken to be fast.
    pub stand_ins: Vec<(StandIn, Option<Duration>)>,
}

/// The first step of a ladder that is done in time, and of fewer steps or members as many as are; the last step if none
/// is. A model of which nothing was measured yet is asked for everything.
pub fn choose(ladder: &Ladder, full: &Full, foresight: &Foresight) -> Step {
    let Foresight { left, queue, model, stand_ins } = foresight;
    let fits = |members, steps| {
        let takes = model.estimate(full.work(members, steps));
        takes.is_none_or(|takes| *queue + takes <= *left)
    };
    let (mut steps, mut members) = (full.steps, full.members);
    if ladder.rungs.is_empty() || fits(members, steps) {
        return Step::Full;
    }
    let less = |steps: Option<usize>, members| {
        let fewer = steps.zip(full.steps).filter(|(steps, of)| steps < of);
        Step::Less { steps: fewer.map(|(steps, of)| FewerSteps { steps, of }), members }
    };
    let mut last = Step::Full;
    for rung in &ladder.rungs {
        match (rung, full.steps) {
            (Rung::Steps, None) => continue,
            (Rung::Steps, Some(of)) => {
                let least = ladder.min_steps.clamp(1, of);
                let most = (least..of).rev().find(|steps| fits(members, Some(*steps)));
                steps = Some(most.unwrap_or(least));
                last = less(steps, members);
                if most.is_some() {
                    return last;
                }
            }
            (Rung::Members, _) => {
                let least = ladder.min_members.clamp(1, full.members);
                let most = (least..full.members).rev().find(|members| fits(*members, steps));
                members = most.unwrap_or(least);
                last = less(steps, members);
                if most.is_some() {
                    return last;
                }
            }
            (Rung::Extrapolation | Rung::Persistence, _) => {
                let Some(stand_in) = rung.stand_in() else { continue };
                let takes = stand_ins.iter().find(|(of, _)| *of == stand_in).and_then(|(_, takes)| *takes);
                last = Step::StandIn(stand_in);
                if takes.is_none_or(|takes| takes <= *left) {
                    return last;
                }
            }
        }
    }
    // A ladder that had nothing to give up.
    if matches!(last, Step::Less { steps: None, members } if members == full.members) { Step::Full } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const FULL: Full = Full { members: 8, steps: Some(10), cells: 1_000_000 };

    fn ladder(rungs: &[Rung]) -> Ladder {
        Ladder { rungs: rungs.to_vec(), min_steps: 4, min_members: 2 }
    }

    /// 10 ms for each step of each member: 800 ms for everything.
    fn foresight(left_ms: u64) -> Foresight {
        let mut model = Pace::default();
        model.learn(80.0, 0.8);
        Foresight { left: MS(left_ms), model, ..Foresight::default() }
    }

    fn chosen(left_ms: u64) -> Step {
        choose(&ladder(&Rung::ALL), &FULL, &foresight(left_ms))
    }

    fn less(steps: usize, members: usize) -> Step {
        let steps = (steps < 10).then_some(FewerSteps { steps, of: 10 });
        Step::Less { steps, members }
    }

    #[test]
    fn each_step_is_taken_as_far_as_needed_and_no_further() {
        assert_eq!(chosen(1000), Step::Full);
        assert_eq!(chosen(801), Step::Full, "just in time");
        assert_eq!(chosen(790), less(9, 8));
        assert_eq!(chosen(401), less(5, 8));
        assert_eq!(chosen(321), less(4, 8), "the fewest steps");
        assert_eq!(chosen(300), less(4, 7), "then members");
        assert_eq!(chosen(81), less(4, 2), "the fewest members");
        assert_eq!(chosen(79), Step::StandIn(StandIn::Extrapolation));
    }

    #[test]
    fn what_waits_before_it_counts() {
        let waits = Foresight { queue: MS(500), ..foresight(901) };
        assert_eq!(choose(&ladder(&Rung::ALL), &FULL, &waits), less(5, 8));
        let waits = Foresight { queue: MS(900), ..waits };
        assert_eq!(choose(&ladder(&Rung::ALL), &FULL, &waits), Step::StandIn(StandIn::Extrapolation));
    }

    #[test]
    fn the_order_is_the_streams_own() {
        let members_first = ladder(&[Rung::Members, Rung::Steps]);
        assert_eq!(choose(&members_first, &FULL, &foresight(401)), less(10, 4));
        assert_eq!(choose(&members_first, &FULL, &foresight(101)), less(5, 2));
        assert_eq!(choose(&members_first, &FULL, &foresight(1)), less(4, 2), "nothing fits: the cheapest");
        let none = ladder(&[]);
        assert_eq!(choose(&none, &FULL, &foresight(1)), Step::Full, "nothing is foreseen without a ladder");
        let only = ladder(&[Rung::Persistence]);
        assert_eq!(choose(&only, &FULL, &foresight(1)), Step::StandIn(StandIn::Persistence));
    }

    #[test]
    fn a_slow_stand_in_is_passed_over_for_a_faster_one() {
        let takes = |extrapolation| vec![(StandIn::Extrapolation, extrapolation), (StandIn::Persistence, Some(MS(1)))];
        let with = |takes| Foresight { stand_ins: takes, ..foresight(50) };
        assert_eq!(choose(&ladder(&Rung::ALL), &FULL, &with(takes(Some(MS(60))))), Step::StandIn(StandIn::Persistence));
        assert_eq!(choose(&ladder(&Rung::ALL), &FULL, &with(takes(None))), Step::StandIn(StandIn::Extrapolation));
        let slow = vec![(StandIn::Extrapolation, Some(MS(60))), (StandIn::Persistence, Some(MS(55)))];
        assert_eq!(choose(&ladder(&Rung::ALL), &FULL, &with(slow)), Step::StandIn(StandIn::Persistence), "the last");
    }

    #[test]
    fn a_model_that_was_never_measured_is_asked_for_everything() {
        let unknown = Foresight { left: MS(1), ..Foresight::default() };
        assert_eq!(choose(&ladder(&Rung::ALL), &FULL, &unknown), Step::Full);
    }

    #[test]
    fn a_model_without_steps_gives_up_members_and_what_cannot_be_given_up_is_kept() {
        let full = Full { steps: None, ..FULL };
        let mut model = Pace::default();
        model.learn(8.0, 0.8);
        let foresight = Foresight { left: MS(401), model, ..Foresight::default() };
        assert_eq!(choose(&ladder(&Rung::ALL), &full, &foresight), Step::Less { steps: None, members: 4 });
        let all = Ladder { min_members: 20, ..ladder(&[Rung::Steps, Rung::Members]) };
        assert_eq!(choose(&all, &full, &foresight), Step::Full);
    }

    proptest! {
        /// More time never gives less, and what is chosen fits whenever anything of the model does.
        #[test]
        fn is_monotone_in_time(left in 0u64..1000, more in 0u64..1000) {
            let rank = |step: Step| match step {
                Step::Full => 1000,
                Step::Less { steps, members } => members * steps.map_or(10, |s| s.steps),
                Step::StandIn(_) => 0,
            };
            prop_assert!(rank(chosen(left + more)) >= rank(chosen(left)));
            if let Step::Less { steps, members } = chosen(left) {
                let takes = foresight(left).model.estimate(FULL.work(members, steps.map_or(FULL.steps, |s| Some(s.steps))));
                prop_assert!(takes.unwrap() <= MS(left));
            }
        }
    }
}
