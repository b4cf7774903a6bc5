//! What is scored where, and what is not scored at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use squall_fields::{Axis, InputRef};
use squall_models::scores::list::{Settings, start};
use squall_models::scores::numbers;

use super::*;
use crate::encode::file_name;
use crate::encode::tests::forecast;
use crate::infer::Permits;

struct InMemory;

struct Parts(Vec<Vec<u8>>);

impl Scratch for InMemory {
    fn keep(&self, parts: &[Vec<u8>]) -> Result<Box<dyn Kept>, StoreError> {
        Ok(Box::new(Parts(parts.to_vec())))
    }
}

impl Kept for Parts {
    fn part(&mut self, index: usize) -> Result<Vec<u8>, StoreError> {
        Ok(self.0[index].clone())
    }
}

impl FieldStore for InMemory {
    fn put(&self, _: &str, _: &[u8]) -> Result<String, StoreError> {
        unreachable!("nothing is published here")
    }

    fn get(&self, _: &str, _: u64) -> Result<Bytes, StoreError> {
        unreachable!("nothing was published here")
    }
}

impl ForecastDecoder for InMemory {
    fn decode(&self, _: &[u8]) -> Result<Forecast, DecodeError> {
        unreachable!("nothing was published here")
    }
}

fn scorer(regions: Vec<Region>) -> Scorer {
    let empty = |names: &[&str]| -> Arc<[Box<dyn AnyScore>]> { start(names, &Settings::default()).unwrap().into() };
    let tools = Tools {
        scratch: Arc::new(InMemory),
        store: Arc::new(InMemory),
        decoder: Arc::new(InMemory),
        max_bytes: 0,
        empty: empty(&["mae", "crps"]),
        measures: empty(&["crps"]),
        regions,
    };
    Scorer::new(tools, &StreamContext::new("rain", 0))
}

fn made(forecast: Forecast) -> Source {
    Source::Made(Arc::new(forecast), Arc::new(Permits::new(1, None).take().unwrap()))
}

/// An observation without any rain.
fn dry(grid: Arc<Grid>) -> Arc<Frame> {
    let (rows, columns) = grid.shape();
    let frame = Frame {
        grid,
        slot: ValidTime::from_unix_seconds(600),
        variables: [Variable::RainRate].into(),
        values: Array3::zeros((1, rows, columns)),
        quality: None,
        input: InputRef { topic: "obs".into(), partition: 0, offset: 0, digest: "".into() },
    };
    frame.into()
}

#[test]
fn what_was_published_and_a_rival_are_compared_where_both_have_a_value() {
    let mut scorer = scorer(Vec::new());
    // The rain of all members by cell: what was published has the first two cells, the rival the last two.
    let mut hold = |handle: Handle, rain: [f32; 3]| {
        let mut forecast = forecast(300, 0);
        let rain = [rain[0], rain[1], rain[2], f32::NAN];
        for ((_, _, y, x), value) in forecast.ensembles[0].values.indexed_iter_mut() {
            *value = rain[2 * y + x];
        }
        let grid = forecast.grid.clone();
        assert_eq!(scorer.answer(Task::Forecast(handle, made(forecast))), Done::Held(true));
        grid
    };
    let grid = hold(1, [1.0, 2.0, f32::NAN]);
    hold(2, [f32::NAN, 5.0, 7.0]);
    assert_eq!(scorer.answer(Task::Observation(3, dry(grid))), Done::Held(true));

    let alone =
        Match { lead: 0, truth: Truth::Field, valid: 600, contestant: 1, rival: None, forecast: 2, observation: 3 };
    let crps = |scorer: &Scorer, all: &[Scored], measures: bool| {
        let empty = if measures { &scorer.tools.measures } else { &scorer.tools.empty };
        let found = numbers(empty, &all[0].statistics).into_iter().find(|number| number.score == "crps").unwrap();
        (found.value.unwrap(), found.count)
    };
    let Done::Scored(all) = scorer.answer(Task::Score(alone)) else { panic!("it has no rival") };
    assert_eq!(crps(&scorer, &all, false), (6.0, 2.0));
    let together = Match { rival: Some(1), ..alone };
    let Done::Compared { published, rival } = scorer.answer(Task::Score(together)) else { panic!("it has one") };
    assert_eq!(crps(&scorer, &published, true), (2.0, 1.0));
    assert_eq!(crps(&scorer, &rival, true), (5.0, 1.0));

    scorer.answer(Task::Forget(vec![1]));
    assert_eq!(scorer.answer(Task::Score(together)), Done::Scored(Vec::new()), "it is forgotten");
}

#[test]
fn a_region_is_scored_by_itself_and_a_rival_in_it_where_both_have_a_value() {
    let region = |name: &str, north: f64| Region { name: name.into(), west: 9.5, south: 59.5, east: 11.5, north };
    let mut scorer = scorer(vec![region("south", 60.5), region("nowhere", 59.6)]);
    let axis = |first, step| Axis { first, step, len: 2 };
    let grid: Arc<Grid> =
        Grid { proj: "+proj=longlat".into(), wkt: None, x: axis(10.0, 1.0), y: axis(61.0, -1.0) }.into();
    // What each forecast is wrong by in the north, and in the two cells of the south.
    let mut hold = |handle: Handle, north: f32, south: [f32; 2]| {
        let mut forecast = Forecast { grid: grid.clone(), ..forecast(300, 0) };
        for ((_, _, y, x), value) in forecast.ensembles[0].values.indexed_iter_mut() {
            *value = if y == 0 { north } else { south[x] };
        }
        assert_eq!(scorer.answer(Task::Forecast(handle, made(forecast))), Done::Held(true));
    };
    hold(1, 1.0, [2.0, 4.0]);
    hold(2, 8.0, [6.0, f32::NAN]);
    assert_eq!(scorer.answer(Task::Observation(3, dry(grid))), Done::Held(true));

    // By region: the CRPS, which is the error of members that are all the same, and how many cells counted.
    let crps = |scorer: &Scorer, all: &[Scored], measures: bool| -> Vec<(String, f64, f64)> {
        let empty = if measures { &scorer.tools.measures } else { &scorer.tools.empty };
        let of = |scored: &Scored| {
            let found = numbers(empty, &scored.statistics).into_iter().find(|number| number.score == "crps").unwrap();
            (scored.region.to_string(), found.value.unwrap(), found.count)
        };
        all.iter().map(of).collect()
    };
    // Where there is no cell, there is nothing to tell.
    let by_region = |whole: (f64, f64), south: (f64, f64)| {
        [("domain", whole), ("south", south)].map(|(region, (crps, count))| (region.to_owned(), crps, count))
    };
    let alone =
        Match { lead: 0, truth: Truth::Field, valid: 600, contestant: 0, rival: None, forecast: 1, observation: 3 };
    let Done::Scored(all) = scorer.answer(Task::Score(alone)) else { panic!("it has no rival") };
    assert_eq!(crps(&scorer, &all, false), by_region((2.0, 4.0), (3.0, 2.0)));
    let together = Match { contestant: 1, rival: Some(1), forecast: 2, ..alone };
    let Done::Compared { published, rival } = scorer.answer(Task::Score(together)) else { panic!("it has one") };
    assert_eq!(crps(&scorer, &published, true), by_region((4.0 / 3.0, 3.0), (2.0, 1.0)));
    assert_eq!(crps(&scorer, &rival, true), by_region((22.0 / 3.0, 3.0), (6.0, 1.0)));
}

/// A disk on which something else may lie in place of all that was written.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Option<Vec<u8>>>>);

struct OnIt(Disk, Vec<Vec<u8>>);

impl Scratch for Disk {
    fn keep(&self, parts: &[Vec<u8>]) -> Result<Box<dyn Kept>, StoreError> {
        Ok(Box::new(OnIt(self.clone(), parts.to_vec())))
    }
}

impl Kept for OnIt {
    fn part(&mut self, index: usize) -> Result<Vec<u8>, StoreError> {
        let replaced = self.0.0.lock().unwrap().clone();
        Ok(replaced.unwrap_or_else(|| self.1[index].clone()))
    }
}

/// Counts the forecasts that were not judged.
#[derive(Default)]
struct NotJudged(Arc<AtomicU64>);

impl NotJudged {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Recorder for NotJudged {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "squall_not_judged_total" => Counter::from_arc(self.0.clone()),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn what_lies_on_disk_in_place_of_what_was_written_is_counted_and_not_scored() {
    let (disk, not_judged, mut scorer) = (Disk::default(), NotJudged::default(), scorer(Vec::new()));
    scorer.tools.scratch = Arc::new(disk.clone());
    let forecast = forecast(300, 0);
    let (members, _, rows, columns) = forecast.ensembles[0].values.dim();
    let grid = forecast.grid.clone();
    assert_eq!(scorer.answer(Task::Forecast(1, made(forecast))), Done::Held(true));
    assert_eq!(scorer.answer(Task::Observation(2, dry(grid))), Done::Held(true));
    let pair =
        Match { lead: 0, truth: Truth::Field, valid: 600, contestant: 0, rival: None, forecast: 1, observation: 2 };
    let as_written = scorer.answer(Task::Score(pair));
    assert!(matches!(&as_written, Done::Scored(all) if !all.is_empty()), "{as_written:?}");

    // Another field of as many values, which unpacks as well as the right one; a part of a file; nothing.
    let other = pack(&vec![9.0; members * rows * columns]).unwrap();
    let replaced = [other.clone(), other[..other.len() - 1].to_vec(), Vec::new()];
    for (before, instead) in (0..).zip(replaced) {
        *disk.0.lock().unwrap() = Some(instead);
        let done = metrics::with_local_recorder(&not_judged, || scorer.answer(Task::Score(pair)));
        assert_eq!((done, not_judged.count()), (Done::Scored(Vec::new()), before + 1));
    }
    *disk.0.lock().unwrap() = None;
    assert_eq!(scorer.answer(Task::Score(pair)), as_written);
}

/// A store with one file, which is the forecast of 00:05.
struct OneFile(&'static [u8]);

impl FieldStore for OneFile {
    fn put(&self, _: &str, _: &[u8]) -> Result<String, StoreError> {
        unreachable!("nothing is published here")
    }

    fn get(&self, _: &str, _: u64) -> Result<Bytes, StoreError> {
        Ok(Bytes::from_static(self.0))
    }
}

impl ForecastDecoder for OneFile {
    fn decode(&self, _: &[u8]) -> Result<Forecast, DecodeError> {
        Ok(forecast(300, 0))
    }
}

#[test]
fn a_file_of_the_store_that_is_not_what_was_published_is_counted_and_not_held() {
    let (not_judged, published) = (NotJudged::default(), forecast(300, 0));
    let url = format!("mem:///{}", file_name(&published, b"as published", "nc"));
    let file = PublishedFile::of(&published, url);
    let unnamed = PublishedFile { url: "mem:///rain.nc".into(), ..file.clone() };
    let hold = |file: &PublishedFile, bytes: &'static [u8]| {
        let mut scorer = scorer(Vec::new());
        scorer.tools.store = Arc::new(OneFile(bytes));
        scorer.tools.decoder = Arc::new(OneFile(bytes));
        let task = Task::Forecast(1, Source::Stored(file.clone()));
        metrics::with_local_recorder(&not_judged, || scorer.answer(task))
    };
    assert_eq!((hold(&file, b"as published"), not_judged.count()), (Done::Held(true), 0));
    assert_eq!((hold(&file, b"as publish"), not_judged.count()), (Done::Held(false), 1), "its end is missing");
    assert_eq!((hold(&file, b"as Published"), not_judged.count()), (Done::Held(false), 2), "it has changed");
    assert_eq!((hold(&unnamed, b"as published"), not_judged.count()), (Done::Held(false), 3), "no digest is known");
}
