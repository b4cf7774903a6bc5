//! Ten thousand damaged records among good ones: each is accounted for, and the good ones' forecasts are what they are
//! without them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Sent, Setting, files, forecasts, models};

const FRAMES: usize = 30;
const MUTATED: usize = 10_000;
/// Damaged copies of the first frame come once it is older than any window that is still revised: one that is read after
/// all, with other values, changes no forecast.
const OLD: usize = 14;

/// xorshift64*: the same damage in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize) % n
    }
}

/// A damaged copy of a record, and the name of the damage. Structure lies in the first part of a file.
fn mutated(good: &Sent, chance: &mut Chance) -> (&'static str, Sent) {
    let mut bad = good.clone();
    let length = bad.value.len();
    let types = ["application/x-odim", "application/geo+json", "text/plain", "", "application/x-netcdf;;;"];
    let name = match chance.below(10) {
        0 | 1 => {
            for _ in 0..1 + chance.below(4) {
                let at = chance.below(length);
                bad.value[at] ^= 1 << chance.below(8);
            }
            "bits"
        }
        2 => {
            let at = chance.below(length.min(4096));
            bad.value[at] = chance.below(256) as u8;
            "structure"
        }
        3 | 4 => {
            bad.value.truncate(chance.below(length));
            "truncated"
        }
        5 => {
            let at = chance.below(length);
            let removed = (at..length.min(at + 1 + chance.below(16))).count();
            bad.value.drain(at..at + removed);
            "removed"
        }
        6 => {
            bad = bad.with_header("content-type", types[chance.below(types.len())]);
            "type"
        }
        7 => {
            bad.headers =
                (0..chance.below(100)).map(|n| (format!("h{n}"), vec![n as u8; chance.below(9000)])).collect();
            "headers"
        }
        8 => {
            bad.value = (0..chance.below(2000)).map(|_| chance.below(256) as u8).collect();
            "noise"
        }
        _ => "duplicate",
    };
    (name, bad)
}

/// The records of a topic with the damaged ones among them, and of how many kinds how many.
fn among(good: &[Sent], rain: &Rain) -> (Vec<Sent>, BTreeMap<&'static str, usize>) {
    let mut chance = Chance(20_160_928);
    let (mut all, mut kinds) = (Vec::new(), BTreeMap::new());
    let gaps = FRAMES - OLD;
    for (frame, record) in good.iter().enumerate() {
        all.push(record.clone());
        if frame < OLD {
            continue;
        }
        let count = MUTATED / gaps + usize::from(frame - OLD < MUTATED % gaps);
        for n in 0..count {
            let (kind, bad) = mutated(&good[0], &mut chance);
            *kinds.entry(kind).or_default() += 1;
            // Known between this frame and the next.
            let timestamp_ms = rain.slots[frame] * 1000 + 2000 + (n * 200_000 / count) as i64;
            all.push(Sent { timestamp_ms, ..bad });
        }
    }
    (all, kinds)
}

fn end_of_log(timestamp_ms: i64) -> Sent {
    let headers = vec![("squall-end-of-log".to_owned(), b"true".to_vec())];
    Sent { partition: 0, timestamp_ms, key: Vec::new(), headers, value: Vec::new() }
}

/// The numbers of the files that the index points at, by forecast.
fn numbers(setting: &Setting) -> BTreeMap<(String, u64), BTreeMap<String, Vec<u64>>> {
    let published = forecasts::published(setting).into_iter();
    published.map(|p| ((p.issue_time.clone(), p.revision), files::numbers(&p.file()))).collect()
}

#[test]
fn ten_thousand_damaged_records_are_accounted_for_and_change_nothing() {
    let source = Setting::new("mutated-source");
    let frames = FRAMES.to_string();
    let rain =
        Rain::storm(source.folder(), "storm.nc", &["--frames", &frames, "--size", "16x16", "--variables", "rain"]);
    let seen = source.published(&rain.file);
    let good: Vec<Sent> =
        seen.iter().enumerate().map(|(i, seen)| Sent::again(seen, 0, rain.slots[i] * 1000 + 1000)).collect();
    let alone = Setting::new("mutated-alone");
    Kafka::shared().create(&alone.topic("observations"), 1);
    Kafka::shared().write(&alone.topic("observations"), &good);
    alone.run();

    let (mut records, kinds) = among(&good, &rain);
    let total = records.len();
    // What is known last is judged once time goes on behind it: one more, which is not counted.
    let last_ms = rain.slots[FRAMES - 1] * 1000 + 280_000;
    records.push(Sent {
        partition: 0,
        timestamp_ms: last_ms,
        key: Vec::new(),
        headers: Vec::new(),
        value: b"last".to_vec(),
    });
    let setting = Setting::new("mutated");
    let topic = setting.topic("observations");
    Kafka::shared().create(&topic, 1);
    Kafka::shared().write(&topic, &records);
    let begun = Instant::now();
    let arguments = ["--set", "runtime.until_marker=true", "--set", "metrics.listen=127.0.0.1:0"];
    let config = setting.config();
    let mut running = setting.start(&[&["run", &config, "--log-format", "json"], &arguments[..]].concat());
    let address = models::address(&mut running);
    let metric = |name: &str, labels: &[(&str, &str)]| models::metric(&address, name, labels).unwrap_or(0.0) as usize;
    let sum = |name: &str| {
        let (_, text) = squall_pipeline::http::get_text(&address, "/metrics").expect("metrics");
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as usize
    };
    let accepted =
        || metric("squall_frames_total", &[("kind", "new")]) + metric("squall_frames_total", &[("kind", "correction")]);
    let all_judged = || accepted() + sum("squall_dead_letters_total") >= total;
    running.until(LIMIT, "every record is judged", all_judged);
    let (read, frames, dead) = (metric("squall_records_total", &[]), accepted(), sum("squall_dead_letters_total"));
    let too_late = metric("squall_frames_total", &[("kind", "too_late")]);
    Kafka::shared().write(&topic, &[end_of_log(last_ms + 1000)]);
    let status = running.end(LIMIT);
    let took = begun.elapsed();
    assert!(status.success(), "{}", running.output());
    eprintln!(
        "{MUTATED} damaged ({kinds:?}): {frames} frames accepted ({too_late} too late), {dead} dead letters, {took:?}"
    );

    assert_eq!((total, read), (FRAMES + MUTATED, total + 1), "every record was read");
    assert_eq!(frames + dead, total, "and is a frame or a dead letter");
    let mut letters = Kafka::shared().read(&setting.topic("dead-letters"));
    letters.retain(|letter| letter.header("dead-letter-offset") != total.to_string());
    assert_eq!(letters.len(), dead, "each dead letter is on the topic");
    let places: BTreeSet<String> = letters.iter().map(|letter| letter.header("dead-letter-offset")).collect();
    assert_eq!(places.len(), dead, "once");
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for letter in &letters {
        *reasons.entry(letter.header("dead-letter-reason")).or_default() += 1;
    }
    assert!(reasons.len() >= 5, "of many kinds: {reasons:?}");
    assert_eq!(frames - too_late, FRAMES, "no damaged frame was used");
    assert!(numbers(&setting) == numbers(&alone), "every forecast is there, and equal to that without damage");
}
