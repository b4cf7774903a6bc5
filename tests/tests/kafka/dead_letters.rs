//! Bad records: each goes to the dead-letter topic with its bytes, its place and the reason, and the stream goes on.

use std::fs;
use std::path::Path;

use squall_tests::program::{python, root};
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Seen, Sent, Setting, forecasts};

/// Most bytes of a record that its dead letter keeps, as docs/formats.md says.
const KEPT: usize = 256 * 1024;

/// A bad record and what its dead letter must say.
struct Case {
    name: &'static str,
    record: Sent,
    reasons: &'static [&'static str],
}

fn cases(good: &Seen, partition: i32, known_ms: i64, folder: &Path) -> Vec<Case> {
    let file = folder.join("good.nc");
    fs::write(&file, &good.value).expect("a file");
    let script = root().join("tests/python/bad_frames.py").display().to_string();
    let (good_path, folder_path) = (file.display().to_string(), folder.display().to_string());
    Running::start(folder, &python(), &[&script, &good_path, &folder_path]).success(LIMIT);
    let bad = |name: &str| fs::read(folder.join(format!("{name}.nc"))).expect("bad_frames.py has made it");
    let again = Sent::again(good, partition, known_ms);
    let with = |value: Vec<u8>| Sent { value, ..again.clone() };
    let case = |name, record, reasons| Case { name, record, reasons };
    vec![
        case("truncated NetCDF", with(bad("truncated")), &["undecodable"]),
        case("hostile superblock", with(bad("hostile")), &["undecodable"]),
        case("garbage behind a sound superblock", with(bad("garbage")), &["undecodable"]),
        case("no NetCDF at all", with(b"It will rain.".to_vec()), &["undecodable"]),
        case("empty", with(Vec::new()), &["empty", "undecodable"]),
        case("wrong grid", with(bad("grid")), &["wrong-grid"]),
        case("wrong units", with(bad("units")), &["wrong-variables", "undecodable"]),
        case("nothing but missing values", with(bad("missing")), &["all-missing"]),
        case("a record of 200 MB", with(vec![7; 200_000_000]), &["oversized"]),
        case("a date in the future", with(bad("future")), &["future"]),
        case("between two slots", with(bad("slot")), &["wrong-slot"]),
        case("a duplicate", again.clone(), &["duplicate"]),
        case("an unknown content type", again.clone().with_header("content-type", "text/plain"), &["content-type"]),
        case("no content type", Sent { headers: Vec::new(), ..again.clone() }, &["content-type"]),
    ]
}

#[test]
fn each_bad_record_becomes_a_dead_letter_and_the_stream_goes_on() {
    let source = Setting::new("bad-source");
    let rain = Rain::small(source.folder(), 10);
    let good = source.published(&rain.file);
    let known = |frame: usize| rain.slots[frame] * 1000 + 1000;

    let setting = Setting::new("bad");
    let cases = cases(&good[4], 0, known(4) + 1000, setting.folder());
    let mut records: Vec<Sent> = good.iter().enumerate().map(|(i, s)| Sent::again(s, 0, known(i))).collect();
    let after = 5;
    records.splice(after..after, cases.iter().map(|case| case.record.clone()));
    let topic = setting.topic("observations");
    Kafka::shared().create(&topic, 1);
    Kafka::shared().write(&topic, &records);
    setting.run();

    let published = forecasts::published(&setting);
    let issue_times: Vec<_> = published.iter().map(|p| p.issue_time.clone()).collect();
    assert_eq!(issue_times, rain.full_windows(3), "the stream goes on as if there had been none");
    assert!(published.iter().all(|p| p.revision == 0 && !p.degraded()));

    let letters = Kafka::shared().read(&setting.topic("dead-letters"));
    for (index, case) in cases.iter().enumerate() {
        let (name, offset) = (case.name, (after + index).to_string());
        let found: Vec<_> = letters.iter().filter(|l| l.header("dead-letter-offset") == offset).collect();
        assert_eq!(found.len(), 1, "{name}: one dead letter");
        let letter = found[0];
        let reason = letter.header("dead-letter-reason");
        assert!(case.reasons.contains(&reason.as_str()), "{name}: {reason}: {}", letter.header("dead-letter-detail"));
        assert_eq!(letter.header("dead-letter-topic"), topic, "{name}");
        assert_eq!(letter.header("dead-letter-partition"), "0", "{name}");
        assert_eq!(letter.header("dead-letter-bytes"), case.record.value.len().to_string(), "{name}");
        assert!(!letter.header("dead-letter-detail").is_empty(), "{name}: says what was expected and what came");
        let kept = case.record.value.len().min(KEPT);
        assert!(letter.value == case.record.value[..kept], "{name}: the beginning of its bytes, as they were");
    }
    assert_eq!(letters.len(), cases.len(), "and nothing else");
}
