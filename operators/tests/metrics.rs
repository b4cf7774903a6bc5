//! The table of metrics in `docs/operations.md` against what the events emit: names and labels, both ways.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::atomics::AtomicU64;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit};
use ndarray::{Array2, Array3};
use squall_fields::{ForecastId, IssueTime, KnowledgeTime, Quantity, ValidTime, Variable, Verdict};
use squall_models::scores::list::{self, Settings};
use squall_models::scores::{Field, of_fields};
use squall_operators::dead_letter::{DeadLetter, Reason};
use squall_operators::events::*;
use squall_operators::infer::ladder::Step;
use squall_operators::ports::{LogError, PartitionId, Record};
use squall_operators::source::Loss;
use squall_operators::verify::{DOMAIN, Key as ScoreKey, PUBLISHED, Period, Series, Standing, Sums};

/// Labels of each metric.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Gauges by their names and labels.
type Gauges = BTreeMap<(String, BTreeMap<String, String>), Arc<AtomicU64>>;

/// Remembers which metrics were asked for, with which labels, and what gauges are set to.
#[derive(Default)]
struct Seen(RefCell<Labels>, RefCell<Gauges>);

impl Seen {
    fn see(&self, key: &Key) {
        let labels = key.labels().map(Label::key).map(str::to_owned).collect();
        let before = self.0.borrow_mut().insert(key.name().to_owned(), labels);
        let now = &self.0.borrow()[key.name()];
        assert!(before.is_none_or(|before| before == *now), "{} has other labels at another place", key.name());
    }

    /// What the gauges of a name are set to, by the values of some of their labels.
    fn gauges(&self, name: &str, labels: &[&str]) -> Vec<(String, f64)> {
        let gauges = self.1.borrow();
        let of_name = gauges.iter().filter(|((of, _), _)| of == name);
        let value = |((_, of), value): (&(String, BTreeMap<String, String>), &Arc<AtomicU64>)| {
            let values: Vec<&str> = labels.iter().map(|label| of[*label].as_str()).collect();
            (values.join(" "), f64::from_bits(value.load(Ordering::Relaxed)))
        };
        of_name.map(value).collect()
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.see(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.see(key);
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        Gauge::from_arc(self.1.borrow_mut().entry((key.name().to_owned(), labels)).or_default().clone())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.see(key);
        Histogram::noop()
    }
}

const STREAM: &str = "rain";
const TOOK: Duration = Duration::from_millis(20);
const ISSUE_TIME: IssueTime = IssueTime::from_unix_seconds(600);
const SLOT: ValidTime = ValidTime::from_unix_seconds(600);
const KNOWN_AT: KnowledgeTime = KnowledgeTime::from_unix_ms(601_000);

fn read_and_written() {
    let partition = &PartitionId::new("obs", 2);
    RecordRead { stream: STREAM, partition, bytes: 3, known_at: KNOWN_AT }.emit();
    Lag { stream: STREAM, partition, offsets: 4 }.emit();
    RecordLate { stream: STREAM, partition, offset: 7, known_at: KNOWN_AT }.emit();
    TimestampDoubted { stream: STREAM, partition, offset: 7, timestamp_ms: 900_000, known_at: KNOWN_AT }.emit();
    let loss = &Loss::Deleted { partition: partition.clone(), next: 7 };
    PositionLost { stream: STREAM, loss }.emit();
    BrokerClock { stream: STREAM, offset_ms: 3 }.emit();
    BrokerTrouble { stream: STREAM, what: "reading", reason: "timed out".into() }.emit();
    let record = Record {
        partition: partition.clone(),
        offset: 7,
        timestamp_ms: 601_000,
        key: None,
        headers: Vec::new(),
        value: None,
        value_bytes: 0,
    };
    let letter = &DeadLetter::new(record.into(), KNOWN_AT, Reason::Empty, "x");
    let reason = &LogError::TooLarge { topic: "dead".into(), bytes: 3, limit: 2 };
    RecordRefused { ledger: STREAM, record: &letter.outgoing(&"dead".into()), reason }.emit();
    RecordRejected { source: "radar", letter }.emit();
    Committed { ledger: STREAM, records: 3, frontier: KNOWN_AT, took: TOOK }.emit();
    StopGivesUp { stream: STREAM, waited: TOOK }.emit();
}

fn frames_and_forecasts() {
    FrameAccepted { stream: STREAM, slot: SLOT, correction: false }.emit();
    FrameTooLate { stream: STREAM, slot: SLOT, known_at: KNOWN_AT }.emit();
    WindowFired { stream: STREAM, issue_time: ISSUE_TIME, revision: 0, missing: 1 }.emit();
    let id = &ForecastId { stream: STREAM.into(), model_digest: "d1".into(), issue_time: ISSUE_TIME, revision: 0 };
    ForecastPublished { id, model: "m", degraded: false, latency: TOOK }.emit();
    ForecastLost { stream: STREAM, issue_time: ISSUE_TIME, reason: "x" }.emit();
}

fn models_and_devices() {
    BatchAnswered { device: "cpu", stream: STREAM, requests: 2, took: TOOK }.emit();
    ModelFailed { stream: STREAM, model: "m", issue_time: ISSUE_TIME, message: "x" }.emit();
    DeadlineMissed { stream: STREAM, device: "cpu", issue_time: ISSUE_TIME }.emit();
    let step = Step::Less { steps: None, members: 2 };
    DeadlineForeseen { stream: STREAM, issue_time: ISSUE_TIME, step, left: TOOK, queue: TOOK }.emit();
    WindowSkipped { stream: STREAM, issue_time: ISSUE_TIME, revision: 0 }.emit();
    DeviceState { device: "cpu", silent_for: TOOK, pending: 1 }.emit();
    ModelTakenUp { stream: STREAM, model: "m", digest: "d2", before: Some("d1"), from: Some(ISSUE_TIME) }.emit();
    ModelLoaded { stream: STREAM, model: "m", took: TOOK }.emit();
    ModelNotLoaded { stream: STREAM, reason: "x", instead: "m" }.emit();
    ModelWarmedUp { stream: STREAM, model: "m", took: TOOK }.emit();
}

/// The sums of a period have changed, to those of one field with an error, or nothing counts in them any more.
fn scored(period: Period, error: Option<f32>, is_newest: bool) {
    let settings = Settings { thresholds: vec![1.0], ..Settings::default() };
    let empty = list::start(&["mae", "csi", "energy"], &settings).unwrap();
    let sums = error.map(|error| {
        let (members, observed) = (Array3::from_elem((1, 2, 2), error), Array2::zeros((2, 2)));
        let field = Field { variable: Variable::RainRate, members: members.view(), observed: observed.view() };
        Sums(of_fields(&empty, &[field]).remove(0).1)
    });
    let [contestant, model, digest, variable, region]: [Arc<str>; 5] =
        [PUBLISHED, "m", "d1", "rain_rate", DOMAIN].map(Into::into);
    let key = &ScoreKey { series: Series { contestant, model, digest, variable, region, lead: 300 }, period };
    Scored { stream: STREAM, key, sums: sums.as_ref(), is_newest, empty: &empty }.emit();
}

fn scores_and_standings() {
    NotJudged { stream: STREAM, reason: "x" }.emit();
    ScratchHeld { stream: STREAM, bytes: 3 }.emit();
    let readings = BTreeMap::from([((Quantity::WindSpeed, Verdict::Good), 2)]);
    ReadingsJudged { stream: STREAM, readings: &readings, without_place: 1, ignored: 1 }.emit();
    scored(Period::Hour(0), Some(2.0), true);
    let standing = &Standing {
        baseline: "persistence".into(),
        variable: "rain_rate".into(),
        region: DOMAIN.into(),
        hour: SLOT,
        score: "crps".into(),
        published: 2.0,
        of_baseline: 1.0,
        skill: Some(-1.0),
        hours_behind: 3,
        is_behind: true,
    };
    Stands { stream: STREAM, standing }.emit();
}

fn emitted() -> Labels {
    let seen = Seen::default();
    metrics::with_local_recorder(&seen, || {
        read_and_written();
        frames_and_forecasts();
        models_and_devices();
        scores_and_standings();
    });
    seen.0.into_inner()
}

fn documented() -> Labels {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| metric |")).skip(2);
    let mut documented = Labels::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        for name in cells[0].split('`').skip(1).step_by(2) {
            assert!(documented.insert(name.to_owned(), labels(cells[1])).is_none(), "{name} has two rows");
        }
    }
    documented
}

/// Names with commas between, without the values that stand in brackets.
fn labels(cell: &str) -> BTreeSet<String> {
    let names = cell.split('(').map(|part| part.rsplit(')').next().unwrap_or(part)).collect::<String>();
    names.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_table_of_metrics_is_what_the_events_emit() {
    let (documented, emitted) = (documented(), emitted());
    let names = |labels: &Labels| labels.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&documented), names(&emitted));
    for (name, labels) in &emitted {
        assert_eq!(&documented[name], labels, "labels of {name}");
    }
}

#[test]
fn every_metric_of_the_source_is_emitted_above() {
    let folder = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/events")).unwrap();
    let source: String = folder.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let quoted = source.split('"').skip(1).step_by(2).filter(|text| text.starts_with("squall_"));
    let written: BTreeSet<String> = quoted.map(str::to_owned).collect();
    assert_eq!(written, emitted().into_keys().collect());
}

#[test]
fn scores_are_shown_by_window_and_what_is_taken_back_or_older_is_not() {
    let seen = Seen::default();
    let shown = || seen.gauges("squall_score", &["window", "lead_minutes", "score", "threshold"]);
    let of = |window: &str, rmse: f64| {
        let name = |what: &str| format!("{window} 5 {what}");
        // No event was seen, and each cell is a false alarm where the error is so large.
        let csi = if rmse >= 1.0 { 0.0 } else { f64::NAN };
        [(name("bias "), rmse), (name("csi 1"), csi), (name("rmse "), rmse)]
    };
    // Not a number is equal to itself here.
    let text = |gauges: &[(String, f64)]| gauges.iter().map(|gauge| format!("{gauge:?}")).collect::<BTreeSet<_>>();
    metrics::with_local_recorder(&seen, || {
        scored(Period::Hour(3600), Some(2.0), true);
        scored(Period::Day(0), Some(3.0), true);
        scored(Period::All, Some(4.0), true);
        let all = [of("1h", 2.0), of("24h", 3.0), of("all", 4.0)].concat();
        assert_eq!(text(&shown()), text(&all), "and nothing of vectors");
        scored(Period::At(3600), Some(5.0), false);
        scored(Period::Hour(0), Some(5.0), false);
        scored(Period::Hour(0), None, false);
        assert_eq!(text(&shown()), text(&all), "it is older");
        scored(Period::Hour(3600), None, true);
        let taken_back = [of("1h", f64::NAN), of("24h", 3.0), of("all", 4.0)].concat();
        assert_eq!(text(&shown()), text(&taken_back));
    });
}

/// The `squall_...` words of the table of alerts, without what Prometheus adds to a histogram.
#[test]
fn alerts_rest_on_metrics_that_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with("| alert |")).skip(2);
    let emitted = emitted();
    let mut count = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let words = row.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("squall_")) {
            let name = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(emitted.contains_key(name), "{name}");
            count += 1;
        }
    }
    assert!(count > 5, "{count} metrics in the table of alerts");
}
