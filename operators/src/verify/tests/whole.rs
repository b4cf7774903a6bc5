//! The same of all that lies between what arrives and what is written: hours close, both sides expire, and the stream is held
//! against a baseline. Whatever came, what is written last is what follows at once from what was known when each hour closed.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, IssueTime, KnowledgeTime, ValidTime};

use super::*;
use crate::encode::tests::forecast;
use crate::infer::{Inferred, Made, Permits};
use crate::ports::Outgoing;
use crate::source::Origin;
use crate::verify::series::{HOUR, start};
use crate::window::Observed;

/// Seconds from slot to slot.
const SLOT: i64 = 1200;
const AHEAD: [i64; 3] = [SLOT, 2 * SLOT, 3 * SLOT];
/// Two hours before a day is over.
const FIRST: i64 = 22 * HOUR;
const HOURS: Hours = Hours { horizon_ms: 1_800_000 };

/// What something is of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    Observation(Truth, i64),
    Forecast(u32, i64),
}

/// What arrives, when, and what is in it.
#[derive(Clone, Copy, Debug)]
struct Came {
    time: Tick,
    of: Of,
    value: u64,
}

impl Came {
    fn arrival(self) -> Arrival {
        match self.of {
            Of::Observation(Truth::Field, valid) => {
                let axis = || Axis { first: 0.0, step: 1.0, len: 1 };
                let frame = Frame {
                    grid: Grid { proj: "+proj=longlat".into(), wkt: None, x: axis(), y: axis() }.into(),
                    slot: ValidTime::from_unix_seconds(valid),
                    variables: [Variable::RainRate].into(),
                    values: Array3::zeros((1, 1, 1)),
                    quality: None,
                    input: InputRef { topic: "obs".into(), partition: 0, offset: self.value as i64, digest: "".into() },
                };
                Arrival::Observed(Observed { frame: frame.into(), origin: Origin::default() })
            }
            Of::Observation(Truth::Places, valid) => {
                let spot = Spot { latitude: self.value as f64, longitude: 0.0, values: Vec::new() };
                Arrival::Places(valid, Places(vec![spot]).into())
            }
            Of::Forecast(0, issue_time) => Arrival::Published(PublishedFile {
                issue_time: IssueTime::from_unix_seconds(issue_time),
                revision: self.value as u32,
                known_at: KnowledgeTime::at(self.time),
                url: self.value.to_string(),
            }),
            Of::Forecast(contestant, issue_time) => {
                let forecast = forecast(issue_time, self.value as u32).into();
                let permit = Permits::new(1, None).take().unwrap().into();
                Arrival::Made(contestant, Inferred::Made(Made { forecast, read_at_us: 0, decision: None, permit }))
            }
        }
    }
}

/// Stands for the thread that holds fields: it knows what is in each, until it is told to let go of it.
fn thread() -> Service<Task, Done> {
    let mut held: HashMap<Handle, u64> = HashMap::new();
    let answer = move |task| {
        let (handle, value) = match task {
            Task::Observation(handle, frame) => (handle, frame.input.offset as u64),
            Task::Places(handle, places) => (handle, places.0[0].latitude as u64),
            Task::Forecast(handle, Source::Stored(file)) => (handle, file.url.parse().unwrap()),
            Task::Forecast(handle, Source::Made(forecast, _)) => (handle, u64::from(forecast.id.revision)),
            Task::Score(pair) => return done(&held, &pair),
            Task::Forget(handles) => {
                held.retain(|handle, _| !handles.contains(handle));
                return Done::Held(false);
            }
        };
        held.insert(handle, value);
        Done::Held(true)
    };
    Service::each("scores", 4, answer).unwrap()
}

/// What it says of a pair; nothing where one of it is gone.
fn done(held: &HashMap<Handle, u64>, pair: &Match) -> Done {
    let of = |handle: Handle| held.get(&handle).copied();
    let score = |forecast: Option<u64>| -> Option<Vec<Scored>> {
        let (forecast, observation) = (forecast?, of(pair.observation)?);
        Some(vec![scored(&Match { forecast, observation, ..*pair })])
    };
    let own = score(of(pair.forecast));
    match pair.rival {
        None => Done::Scored(own.unwrap_or_default()),
        Some(published) => match (score(of(published)), own) {
            (Some(published), Some(rival)) => Done::Compared { published, rival },
            _ => Done::Scored(Vec::new()),
        },
    }
}

fn times() -> Times {
    let cadence = Cadence::every_seconds(SLOT as u32).unwrap();
    Times { cadence, window_frames: 1, leads: AHEAD.to_vec(), hours: HOURS, reports_back: 0 }
}

fn skill() -> Skill {
    Skill::new(empty(), vec!["persistence".into()], 2, [])
}

fn reporting() -> Report {
    let [instance, stream, statistics, scores] = ["squall", "rain", "statistics", "scores"].map(Arc::from);
    let names = ["crps", "csi", "rank"].into();
    Report { instance, stream, statistics, scores, empty: empty(), names, hours: HOURS }
}

/// The verification of a stream that begins, on a worker.
fn verification(is_home: bool) -> Verification {
    Verification {
        names: Names { leads: AHEAD.to_vec(), ..names() },
        times: times(),
        whereabouts: Whereabouts::new("progress", "squall", "rain"),
        report: reporting(),
        gather: Gather::new(times(), None),
        judge: is_home.then(|| Judge {
            thread: thread(),
            ledger: Ledger::default(),
            archive: Archive::new("progress", "squall", "rain"),
            skill: skill(),
        }),
    }
}

/// The newest record of each key of the topics of statistics and of scores, but when it became known.
fn newest(records: impl Iterator<Item = Outgoing>) -> BTreeMap<String, Value> {
    let mut newest = BTreeMap::new();
    for record in records.filter(|record| &*record.topic != "progress") {
        let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
        let Some(value) = record.value else {
            newest.remove(&key);
            continue;
        };
        let mut json: Value = serde_json::from_slice(&value).unwrap();
        json.as_object_mut().unwrap().remove("known_at");
        newest.insert(key, json);
    }
    newest
}

/// What is written of what came, in the order of its times. Frames and forecasts come to the home of a stream, which is the
/// last worker; what is made of them is spread over all.
fn written(came: &[Came], workers: usize) -> BTreeMap<String, Value> {
    let notes: Arc<Mutex<Vec<(Tick, Note)>>> = Arc::default();
    let (came, collected) = (came.to_vec(), notes.clone());
    let config = if workers == 1 { timely::Config::thread() } else { timely::Config::process(workers) };
    let guards = timely::execute(config, move |worker| {
        let (is_home, collected) = (worker.index() == workers - 1, collected.clone());
        let verification = verification(is_home);
        let mut input: InputHandle<Tick, _> = InputHandle::new();
        let probe = worker.dataflow(|scope| {
            let arrivals = scope.input_from(&mut input);
            let (probe, notes) = verify(arrivals, verification, StreamContext::new("rain", workers - 1)).probe();
            notes.inspect_time(move |time, Local(note)| collected.lock().unwrap().push((*time, note.clone())));
            probe
        });
        for one in came.iter().filter(|_| is_home) {
            input.advance_to(one.time);
            input.send(Local(one.arrival()));
            worker.step();
        }
        input.close();
        while !probe.done() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|worker| worker.unwrap());
    let mut notes = std::mem::take(&mut *notes.lock().unwrap());
    notes.sort_by_key(|(time, _)| *time);
    let records = notes.into_iter().filter_map(|(_, note)| match note {
        Note::Records(records) => Some(records),
        _ => None,
    });
    newest(records.flatten())
}

/// The same at once.
fn at_once(came: &[Came]) -> BTreeMap<String, Value> {
    let last = came.last().map_or(0, |one| one.time);
    // What is known of a valid time when its hour is closed, stays.
    let known = |of: Of, valid: i64| {
        let newest = came.iter().rfind(|one| one.of == of && one.time < HOURS.closing(valid));
        newest.map(|one| one.value)
    };
    let mut sums: BTreeMap<Key, Statistics> = BTreeMap::new();
    let mut duels: BTreeMap<i64, BTreeMap<Series, Statistics>> = BTreeMap::new();
    let observed: BTreeSet<i64> = came
        .iter()
        .filter_map(|one| match one.of {
            Of::Observation(_, valid) => Some(valid),
            Of::Forecast(..) => None,
        })
        .collect();
    let truths = [Truth::Field, Truth::Places];
    for valid in observed {
        for (truth, lead) in truths.into_iter().flat_map(|truth| (0..3).map(move |lead| (truth, lead))) {
            let Some(observation) = known(Of::Observation(truth, valid), valid) else { continue };
            let ahead = AHEAD[lead as usize];
            let score = |contestant: u32| {
                let forecast = known(Of::Forecast(contestant, valid - ahead), valid)?;
                let pair = Match { lead, truth, valid, contestant, rival: None, forecast, observation };
                let Scored { model, digest, variable, region, statistics } = scored(&pair);
                let contestant = names().contestants[contestant as usize].clone();
                Some((Series { contestant, model, digest, variable: variable.into(), region, lead: ahead }, statistics))
            };
            let both = [score(0), score(1)];
            for (series, statistics) in both.iter().flatten() {
                for period in Period::of(valid) {
                    let sum = sums.entry(Key { series: series.clone(), period }).or_default();
                    *sum = sum.plus(statistics);
                }
                if both.iter().all(Option::is_some) {
                    let hour = duels.entry(start(valid, HOUR)).or_default();
                    let sum = hour.entry(series.clone()).or_default();
                    *sum = sum.plus(statistics);
                }
            }
        }
    }
    let (report, nobody_asks) = (reporting(), KnowledgeTime::default());
    let mut skill = skill();
    let closed = duels.iter().filter(|(hour, _)| HOURS.closing(**hour) <= last);
    let standings: Vec<_> = closed.flat_map(|(hour, sums)| skill.close(*hour, |_| sums.clone())).collect();
    let standings = standings.iter().map(|standing| report.standing(standing, nobody_asks));
    let sums = sums.into_iter().filter(|(_, sum)| !sum.is_zero());
    newest(sums.map(|(key, sum)| report.record(&key, Some(&Sums(sum)), nobody_asks)).chain(standings))
}

/// Observations and forecasts of either contestant, new and again, as they come over some hours: some of them when their hour
/// is closed.
fn arrivals() -> impl Strategy<Value = Vec<Came>> {
    let truth = prop_oneof![2 => Just(Truth::Field), 1 => Just(Truth::Places)];
    let of = prop_oneof![truth.prop_map(Ok::<Truth, u32>), (0..2u32).prop_map(Err::<Truth, u32>)];
    prop::collection::vec((of, 0..16u64, -6..3i64), 1..60).prop_map(|all| {
        let mut time = FIRST as Tick * 1000;
        let one = |(number, (of, minutes, slots)): (usize, (Result<Truth, u32>, u64, i64))| {
            time += minutes * 60_000;
            let slot = start(time as i64 / 1000, SLOT) + slots * SLOT;
            let of = match of {
                Ok(truth) => Of::Observation(truth, slot),
                Err(contestant) => Of::Forecast(contestant, slot),
            };
            Came { time, of, value: 2 * number as u64 }
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_through_closings_and_duels_is_batch_on_any_number_of_workers(came in arrivals()) {
        let expected = at_once(&came);
        prop_assert_eq!(&written(&came, 1), &expected);
        prop_assert_eq!(&written(&came, 3), &expected);
    }
}

#[test]
fn time_ends_with_what_came_last_though_an_hour_is_open() {
    let latest = timely::execute(timely::Config::thread(), |worker| {
        let verification = verification(true);
        let mut input: InputHandle<Tick, _> = InputHandle::new();
        let probe = worker.dataflow(|scope| {
            verify(scope.input_from(&mut input), verification, StreamContext::new("rain", 0)).probe().0
        });
        let one = Came { time: FIRST as Tick * 1000, of: Of::Observation(Truth::Field, FIRST), value: 2 };
        let last = one.time;
        input.advance_to(last);
        input.send(Local(one.arrival()));
        worker.step_while(|| probe.less_than(&last));
        input.close();
        let mut latest = last;
        while !probe.done() {
            worker.step();
            latest = latest.max(probe.with_frontier(|frontier| frontier.first().copied()).unwrap_or(0));
        }
        latest - last
    });
    let latest: Vec<_> = latest.unwrap().join().into_iter().map(Result::unwrap).collect();
    assert_eq!(latest, [0], "time never comes to the closing of the hour");
}

#[test]
fn a_forecast_that_comes_again_once_an_hour_is_closed_changes_what_is_open() {
    let slot = |number: i64| FIRST + number * SLOT;
    let at = |seconds: i64| (seconds * 1000) as Tick;
    let forecast = |contestant, time, value| Came { time, of: Of::Forecast(contestant, slot(1)), value };
    let observation = |number, time, value| Came { time, of: Of::Observation(Truth::Field, slot(number)), value };
    // Valid within the first hour (slot 2), and in the second (3 and 4).
    let came = [
        forecast(0, at(slot(1)), 2),
        forecast(1, at(slot(1)), 4),
        observation(2, at(slot(2)), 6),
        observation(3, at(slot(3)), 8),
        // The first hour is closed half an hour after its end, at slot 4.5.
        forecast(0, at(slot(5)), 10),
        observation(2, at(slot(5)), 12),
        observation(4, at(slot(5)), 14),
        // And the second one.
        observation(9, at(slot(9)), 16),
    ];
    let written = written(&came, 1);
    assert_eq!(written, at_once(&came));
    let of = |part: &str| written.keys().filter(|key| key.contains(part)).count();
    // Two contestants, at three leads.
    assert_eq!((of("|1h|"), of("|24h|"), of("|all")), (6, 6, 6));
    assert_eq!(of("|skill|persistence|rain_rate|domain"), 1);
}
