//! Scores each pair once, and takes back what rested on a pair that is no more: the statistics are the differences of a
//! collection.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::due::Due;
use super::gather::{Closing, Hours};
use super::matching::{Match, Truth};
use super::scorer::{Done, Scored, Task};
use super::series::{Key, Series, Sums};
use super::skill::{Skill, Standing};
use super::sums::{Archive, Ledger};
use crate::Tick;
use crate::local::Local;
use crate::offload::{Desk, Lost, Service};
use crate::order::frontier_of;
use crate::ports::Outgoing;
use crate::stream::StreamContext;

/// What goes out.
#[derive(Clone, Debug)]
pub enum Judged {
    /// A change of the sums.
    Sums(Key, Sums),
    /// Records of the topic of progress.
    Kept(Vec<Outgoing>),
    /// How the stream stands against a baseline, after an hour.
    Standing(Standing),
}

/// How a contestant is named and what its forecasts are ahead.
#[derive(Clone, Debug)]
pub struct Names {
    /// Of the contestants, the stream itself first.
    pub contestants: Vec<Arc<str>>,
    /// Leads in seconds.
    pub leads: Vec<i64>,
    /// Those contestants, by number, that the stream is held against: its baselines.
    pub rivals: Vec<u32>,
}

enum Score {
    /// Under way; with permission to take it back if it was taken back meanwhile.
    Running(Option<Capability<Tick>>),
    Known(Vec<(Series, Sums)>),
}

/// What comes in.
enum Arrived {
    /// A pair, or that it is no more.
    Pair(Match, isize),
    Closing(Closing),
}

struct Shell {
    names: Names,
    hours: Hours,
    desk: Desk<Task, Done, (Capability<Tick>, Match)>,
    ledger: Ledger,
    archive: Archive,
    skill: Skill,
    /// By baseline: what it and the stream summed to over what both have. It is of open hours alone.
    duels: BTreeMap<Arc<str>, Ledger>,
    scores: BTreeMap<Match, Score>,
    /// Times of the pairs that are under way, with how many.
    running: BTreeMap<Tick, usize>,
    /// What has come and whose time is not over.
    waiting: Due<Arrived>,
    /// Closings whose pairs are under way.
    closing: BTreeMap<Tick, (Capability<Tick>, Vec<Closing>)>,
    out: Vec<(Capability<Tick>, Judged)>,
}

impl Shell {
    /// Does what the frontier has passed.
    fn turn(&mut self, frontier: Option<Tick>) -> Result<(), Lost> {
        while let Some((capability, arrived)) = self.waiting.pop_before(frontier) {
            let (mut net, mut closings) = (BTreeMap::<Match, isize>::new(), Vec::new());
            for arrived in arrived {
                match arrived {
                    Arrived::Pair(pair, change) => *net.entry(pair).or_default() += change,
                    Arrived::Closing(closing) => closings.push(closing),
                }
            }
            for (pair, change) in net {
                match change {
                    0 => {}
                    1.. => self.score(&capability, pair)?,
                    _ => self.take_back(&capability, pair),
                }
            }
            if !closings.is_empty() {
                self.closing.insert(*capability.time(), (capability, closings));
            }
        }
        self.take_answers()?;
        self.close()
    }

    fn score(&mut self, capability: &Capability<Tick>, pair: Match) -> Result<(), Lost> {
        self.scores.insert(pair, Score::Running(None));
        *self.running.entry(*capability.time()).or_default() += 1;
        self.desk.submit(Task::Score(pair), (capability.clone(), pair))
    }

    fn take_back(&mut self, capability: &Capability<Tick>, pair: Match) {
        // What a closed hour summed to stays.
        let is_over = pair.valid < self.hours.open_from(*capability.time());
        match self.scores.get_mut(&pair) {
            Some(Score::Running(_)) if is_over => {}
            Some(Score::Running(taken_back)) => *taken_back = Some(capability.clone()),
            Some(Score::Known(_)) => {
                let Some(Score::Known(sums)) = self.scores.remove(&pair) else { return };
                if !is_over {
                    self.emit(capability, &pair, &sums, true);
                }
            }
            None => {}
        }
    }

    fn emit(&mut self, capability: &Capability<Tick>, pair: &Match, sums: &[(Series, Sums)], negated: bool) {
        for (series, Sums(statistics)) in sums {
            let statistics = if negated { statistics.negated() } else { statistics.clone() };
            if pair.rival.is_some() {
                let baseline = self.contestant(pair);
                self.duels.entry(baseline).or_default().add(series, pair.valid, &statistics);
                continue;
            }
            let changes = self.ledger.add(series, pair.valid, &statistics);
            self.out.extend(changes.into_iter().map(|(key, sums)| (capability.clone(), Judged::Sums(key, sums))));
        }
    }

    fn contestant(&self, pair: &Match) -> Arc<str> {
        self.names.contestants.get(pair.contestant as usize).cloned().unwrap_or_default()
    }

    fn take_answers(&mut self) -> Result<(), Lost> {
        while let Some(((capability, pair), answer)) = self.desk.poll() {
            let answer = answer?;
            if pair == NOTHING {
                continue;
            }
            let contestant = self.contestant(&pair);
            let sums: Vec<_> = match answer {
                Done::Scored(scored) => scored.into_iter().map(|of| self.series(&pair, &contestant, of)).collect(),
                Done::Compared { published, rival } => {
                    let own = self.names.contestants.first().cloned().unwrap_or_default();
                    let published = published.into_iter().map(|of| self.series(&pair, &own, of));
                    published.chain(rival.into_iter().map(|of| self.series(&pair, &contestant, of))).collect()
                }
                Done::Held(_) => Vec::new(),
            };
            let time = *capability.time();
            if let Some(running) = self.running.get_mut(&time) {
                *running -= 1;
                if *running == 0 {
                    self.running.remove(&time);
                }
            }
            self.emit(&capability, &pair, &sums, false);
            match self.scores.remove(&pair) {
                Some(Score::Running(Some(later))) => self.emit(&later, &pair, &sums, true),
                _ => drop(self.scores.insert(pair, Score::Known(sums))),
            }
        }
        Ok(())
    }

    fn series(&self, pair: &Match, contestant: &Arc<str>, scored: Scored) -> (Series, Sums) {
        let Scored { model, digest, variable, region, statistics } = scored;
        let contestant = contestant.clone();
        let lead = self.names.leads.get(pair.lead as usize).copied().unwrap_or_default();
        (Series { contestant, model, digest, variable: variable.into(), region, lead }, Sums(statistics))
    }

    /// Closes hours, once nothing of before is under way.
    fn close(&mut self) -> Result<(), Lost> {
        let is_free =
            |time: &Tick, running: &BTreeMap<Tick, usize>| running.keys().next().is_none_or(|first| first > time);
        while let Some(entry) = self.closing.first_entry().filter(|entry| is_free(entry.key(), &self.running)) {
            let (capability, closings) = entry.remove();
            for Closing { open, forget } in closings {
                for hour in self.ledger.hours_before(open) {
                    let duels = &self.duels;
                    let of = |baseline: &str| duels.get(baseline).map(|duel| duel.hour(hour)).unwrap_or_default();
                    let standings = self.skill.close(hour, of);
                    for standing in standings {
                        let kept = vec![self.archive.standing(&standing)];
                        self.out.push((capability.clone(), Judged::Kept(kept)));
                        self.out.push((capability.clone(), Judged::Standing(standing)));
                    }
                }
                self.duels.values_mut().for_each(|duel| duel.forget(open));
                let (leaves, records) = self.ledger.close(open, &self.archive);
                self.out.extend(leaves.into_iter().map(|(key, sums)| (capability.clone(), Judged::Sums(key, sums))));
                if !records.is_empty() {
                    self.out.push((capability.clone(), Judged::Kept(records)));
                }
                self.scores.retain(|pair, _| pair.valid >= open);
                // Nobody waits for the answer, but that it was done.
                self.desk.submit(Task::Forget(forget), (capability.clone(), NOTHING))?;
            }
        }
        Ok(())
    }
}

/// Stands for what is no pair.
const NOTHING: Match =
    Match { lead: 0, truth: Truth::Field, valid: 0, contestant: u32::MAX, rival: None, forecast: 0, observation: 0 };

/// What the operator goes on from, on the home worker.
pub struct Judge {
    /// The thread that scores.
    pub thread: Service<Task, Done>,
    /// What was kept.
    pub ledger: Ledger,
    /// Where it is kept.
    pub archive: Archive,
    /// How the stream stands.
    pub skill: Skill,
}

/// Scores pairs on the home worker of a stream.
pub fn judge<'scope>(
    matches: StreamVec<'scope, Tick, (Match, Tick, isize)>,
    closings: StreamVec<'scope, Tick, Local<Closing>>,
    names: Names,
    hours: Hours,
    judge: Option<Judge>,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Judged>> {
    let worker = matches.scope().worker();
    let home = stream.home as u64;
    let together = Exchange::new(move |_: &(Match, Tick, isize)| home);
    matches.binary_frontier(closings, together, Pipeline, "Judge", move |root, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let mut shell = judge.map(|Judge { thread, ledger, archive, skill }| {
            let out =
                ledger.at_start().into_iter().map(|(key, sums)| (root.clone(), Judged::Sums(key, sums))).collect();
            Shell {
                names,
                hours,
                desk: Desk::new(thread, Some(waker())),
                ledger,
                archive,
                skill,
                duels: BTreeMap::new(),
                scores: BTreeMap::new(),
                running: BTreeMap::new(),
                waiting: Due::default(),
                closing: BTreeMap::new(),
                out,
            }
        });
        drop(root);
        move |(matches, frontier), (closings, other), output| {
            let Some(shell) = &mut shell else { return };
            matches.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for (pair, at, change) in batches.flat_map(|batch| batch.drain(..)) {
                    shell.waiting.push(&capability, at, Arrived::Pair(pair, change));
                }
            });
            closings.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(closing) in batches.flat_map(|batch| batch.drain(..)) {
                    shell.waiting.push(&capability, *capability.time(), Arrived::Closing(closing));
                }
            });
            if stream.control.is_done() {
                shell.desk.clear();
                shell.waiting.clear();
                shell.closing.clear();
                shell.scores.clear();
                shell.out.clear();
                return;
            }
            let frontier = match (frontier_of(frontier), frontier_of(other)) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (one, other) => one.or(other),
            };
            stream.frontiers.report("judge", frontier);
            if let Err(lost) = shell.turn(frontier) {
                stream.control.fail(lost.into());
            }
            for (capability, judged) in shell.out.drain(..) {
                output.session(&capability).give(Local(judged));
            }
        }
    })
}
