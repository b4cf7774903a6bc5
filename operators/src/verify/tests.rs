//! What is computed change by change is what is computed of the whole at once, on any number of workers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ndarray::{Array2, Array3};
use proptest::prelude::*;
use squall_fields::Variable;
use squall_models::scores::list::{self, Settings};
use squall_models::scores::{AnyScore, Field, Statistics, of_fields};
use timely::dataflow::InputHandle;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Input, Inspect, Probe};

use super::*;
use crate::stream::StreamContext;

mod whole;

const CADENCE: i64 = 300;
const LEADS: [i64; 3] = [300, 600, 900];

fn empty() -> Arc<[Box<dyn AnyScore>]> {
    let settings = Settings { thresholds: vec![2.0], ..Settings::default() };
    list::start(&["crps", "csi", "rank"], &settings).unwrap().into()
}

/// A field that is told by its handle, 0 to 6.
fn value(handle: Handle) -> f32 {
    (handle.wrapping_mul(0x9e37_79b9) >> 7) as f32 % 7.0
}

/// What the thread says of a pair.
fn scored(pair: &Match) -> Scored {
    let members = Array3::from_shape_fn((2, 1, 2), |(m, _, x)| value(pair.forecast + m as u64) + x as f32);
    let observed = Array2::from_elem((1, 2), value(pair.observation));
    let field = Field { variable: Variable::RainRate, members: members.view(), observed: observed.view() };
    let (variable, statistics) = of_fields(&empty(), &[field]).remove(0);
    let region = if pair.truth == Truth::Field { DOMAIN } else { STATIONS }.into();
    Scored { model: "m".into(), digest: "d".into(), variable, region, statistics }
}

fn names() -> Names {
    Names { contestants: vec![PUBLISHED.into(), "persistence".into()], leads: LEADS.to_vec(), rivals: vec![1] }
}

/// Which of so many workers brings a change: those of one key come from one, in order.
fn brought_by(change: &Change, workers: usize) -> usize {
    let number = match change {
        Change::Observation((truth, valid), _) => valid / CADENCE + i64::from(*truth == Truth::Places),
        Change::Forecast((contestant, issue_time), _) => issue_time / CADENCE + i64::from(*contestant),
    };
    number.unsigned_abs() as usize % workers
}

/// Changes, each at a time; runs them through the dataflow and adds up what comes out.
fn incremental(changes: &[(Tick, Change)], workers: usize, horizon_ms: i64) -> BTreeMap<Key, Statistics> {
    let out: Arc<Mutex<BTreeMap<Key, Statistics>>> = Arc::default();
    let (changes, collected) = (changes.to_vec(), out.clone());
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let (index, collected) = (worker.index(), collected.clone());
        let stream = StreamContext::new("rain", workers - 1);
        let judging = (index == workers - 1).then(|| {
            let answer = |task| match task {
                Task::Score(pair) => match pair.rival {
                    None => Done::Scored(vec![scored(&pair)]),
                    Some(forecast) => {
                        let published = scored(&Match { forecast, ..pair });
                        Done::Compared { published: vec![published], rival: vec![scored(&pair)] }
                    }
                },
                _ => Done::Held(false),
            };
            Judge {
                thread: Service::each("scores", 4, answer).unwrap(),
                ledger: Ledger::default(),
                archive: Archive::new("progress", "squall", "rain"),
                skill: Skill::new(empty(), vec![], 1, []),
            }
        });
        let mut input: InputHandle<Tick, _> = InputHandle::new();
        let probe = worker.dataflow(|scope| {
            let pairs = matches(scope.input_from(&mut input), LEADS.to_vec(), names().rivals);
            let closings = pairs.clone().flat_map(|_| None::<Local<Closing>>);
            let hours = Hours { horizon_ms };
            let judged = judge(pairs, closings, names(), hours, judging, stream);
            let (probe, judged) = judged.probe();
            judged.inspect(move |Local(judged)| {
                if let Judged::Sums(key, Sums(statistics)) = judged {
                    let mut all = collected.lock().unwrap();
                    let sum = all.entry(key.clone()).or_default();
                    *sum = sum.plus(statistics);
                }
            });
            probe
        });
        let is_mine = |(_, change): &&(Tick, Change)| brought_by(change, workers) == index;
        let mut changes: Vec<_> = changes.iter().filter(is_mine).cloned().collect();
        changes.sort_by_key(|(time, _)| *time);
        for (time, change) in changes {
            input.advance_to(time);
            input.send((change, time));
            worker.step();
        }
        input.close();
        while !probe.done() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|worker| worker.unwrap());
    let mut all = std::mem::take(&mut *out.lock().unwrap());
    all.retain(|_, sum| !sum.is_zero());
    all
}

/// The same of what there is in the end, at once.
fn batch(changes: &[(Tick, Change)]) -> BTreeMap<Key, Statistics> {
    let (mut observations, mut forecasts) = (BTreeMap::new(), BTreeMap::new());
    let mut sorted = changes.to_vec();
    sorted.sort_by_key(|(time, _)| *time);
    for (_, change) in sorted {
        match change {
            Change::Observation(of, handle) => drop(observations.insert(of, handle)),
            Change::Forecast(of, handle) => drop(forecasts.insert(of, handle)),
        }
    }
    let mut all: BTreeMap<Key, Statistics> = BTreeMap::new();
    for ((contestant, issue_time), forecast) in forecasts {
        for (lead, seconds) in LEADS.into_iter().enumerate() {
            let valid = issue_time + seconds;
            for truth in [Truth::Field, Truth::Places] {
                let came = observations.get(&(truth, valid));
                let (Some(forecast), Some(Some(observation))) = (forecast, came) else { continue };
                let (lead, observation) = (lead as u32, *observation);
                let pair = Match { lead, truth, valid, contestant, rival: None, forecast, observation };
                let Scored { model, digest, variable, region, statistics } = scored(&pair);
                let contestant = names().contestants[contestant as usize].clone();
                let series = Series { contestant, model, digest, variable: variable.into(), region, lead: seconds };
                for period in Period::of(valid) {
                    let sum = all.entry(Key { series: series.clone(), period }).or_default();
                    *sum = sum.plus(&statistics);
                }
            }
        }
    }
    all.retain(|_, sum| !sum.is_zero());
    all
}

/// Arrivals, corrections, revisions and deletions; each handle newer than those before it, no two changes of one thing at
/// one time.
fn changes() -> impl Strategy<Value = Vec<(Tick, Change)>> {
    let slot = (0..20i64).prop_map(|slot| slot * CADENCE);
    let there = || prop::bool::weighted(0.85);
    let truth = prop_oneof![2 => Just(Truth::Field), 1 => Just(Truth::Places)];
    let observation = (slot.clone(), truth, there()).prop_map(|(slot, truth, there)| (slot, Err(truth), there));
    let forecast = (slot, 0..2u32, there()).prop_map(|(slot, of, there)| (slot, Ok(of), there));
    let one = prop_oneof![1 => observation, 1 => forecast];
    prop::collection::vec(one, 1..60).prop_map(|all| {
        let change = |(number, (slot, of, there)): (usize, (i64, Result<u32, Truth>, bool))| {
            let handle = there.then_some(2 * number as Handle);
            let change = match of {
                Ok(contestant) => Change::Forecast((contestant, slot), handle),
                Err(truth) => Change::Observation((truth, slot), handle),
            };
            (50 * (number as Tick + 1), change)
        };
        all.into_iter().enumerate().map(change).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn incremental_is_batch_on_any_number_of_workers(changes in changes()) {
        let expected = batch(&changes);
        prop_assert_eq!(&incremental(&changes, 1, i64::MAX / 4), &expected);
        prop_assert_eq!(&incremental(&changes, 3, i64::MAX / 4), &expected);
    }

    #[test]
    fn hours_that_close_keep_what_they_summed_to_however_they_are_cut(
        values in prop::collection::vec((0..90i64, 0..5u64), 1..60),
        cuts in prop::collection::vec(0..10i64, 0..4),
    ) {
        let archive = Archive::new("progress", "squall", "rain");
        let series = |lead| Series {
            contestant: PUBLISHED.into(), model: "m".into(), digest: "d".into(), variable: "rain_rate".into(),
            region: DOMAIN.into(), lead,
        };
        let statistics = |handle| scored(&Match { lead: 0, truth: Truth::Field, valid: 0, contestant: 0, rival: None, forecast: handle, observation: 3 }).statistics;
        let mut values = values;
        values.sort();
        let mut whole: BTreeMap<Key, Statistics> = BTreeMap::new();
        let apply = |all: &mut BTreeMap<Key, Statistics>, changes: Vec<(Key, Sums)>| {
            for (key, Sums(sums)) in changes {
                let sum = all.entry(key).or_default();
                *sum = sum.plus(&sums);
            }
        };
        let mut undisturbed = Ledger::default();
        for (hour, handle) in &values {
            apply(&mut whole, undisturbed.add(&series(300), hour * 1800, &statistics(*handle)));
        }
        // With closings and restarts in between: what is closed is kept, what is open is added again.
        let mut cuts = cuts;
        cuts.sort();
        let mut kept: BTreeMap<Vec<u8>, ClosedSums> = BTreeMap::new();
        let mut open = i64::MIN;
        for cut in cuts.iter().map(|cut| cut * 4 * 3600) {
            let mut ledger = Ledger::new(kept.values().cloned().collect());
            for (hour, handle) in values.iter().filter(|(hour, _)| hour * 1800 >= open && hour * 1800 < cut + 7200) {
                ledger.add(&series(300), hour * 1800, &statistics(*handle));
            }
            for record in ledger.close(cut.max(open), &archive).1 {
                let sums = serde_json::from_slice(&record.value.unwrap()).unwrap();
                kept.insert(record.key.unwrap().to_vec(), sums);
            }
            open = cut.max(open);
        }
        let mut last = Ledger::new(kept.values().cloned().collect());
        let mut all = BTreeMap::new();
        apply(&mut all, last.at_start());
        for (hour, handle) in values.iter().filter(|(hour, _)| hour * 1800 >= open) {
            apply(&mut all, last.add(&series(300), hour * 1800, &statistics(*handle)));
        }
        let total = |all: &BTreeMap<Key, Statistics>| all.iter().find(|(key, _)| key.period == Period::All).map(|(_, s)| s.clone());
        prop_assert_eq!(total(&all), total(&whole));
        // Days that are not over are whole, too.
        for (key, sum) in whole.iter().filter(|(key, _)| matches!(key.period, Period::Day(day) if day + 86_400 > open)) {
            prop_assert_eq!(all.get(key), Some(sum));
        }
    }
}
