//! Bad records: each goes to the dead-letter topic with its bytes, its place and the reason, and the stream goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha512};
use squall_tests::program::{python, root};
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Seen, Sent, Setting, forecasts};

use crate::budget::{BUDGET, least_and_most};

/// Most bytes of a record that its dead letter keeps, as docs/formats.md says.
const KEPT: usize = 256 * 1024;

/// A bad record and what its dead letter must say.
struct Case {
    name: &'static str,
    record: Sent,
    reasons: &'static [&'static str],
    /// Words of the detail.
    says: &'static str,
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
    let case = |name, record, reasons| Case { name, record, reasons, says: "" };
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

/// A WIS2 notification in place of a frame: it says of the file where it points that it holds the frame's bytes.
fn notification(frame: &Sent, content_type: &str, href: &str) -> Sent {
    let (digest, length) = (STANDARD.encode(Sha512::digest(&frame.value)), frame.value.len());
    let link = json!({ "href": href, "rel": "canonical", "type": content_type, "length": length });
    let properties = json!({ "integrity": { "method": "sha512", "value": digest } });
    let feature = json!({ "type": "Feature", "properties": properties, "links": [link] });
    let value = feature.to_string().into_bytes();
    Sent { value, ..frame.clone() }.with_header("content-type", "application/geo+json")
}

/// Notifications whose links leave the store, each in its own way. All but the first lead to a good frame, which would
/// be a duplicate if it were read.
fn links_that_lead_out(good: &Seen, known_ms: i64, folder: &Path, store: &Path) -> Vec<Case> {
    let outside = folder.join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("frame.nc"), &good.value).expect("a file");
    symlink(outside.join("frame.nc"), store.join("link.nc")).expect("a symbolic link");
    symlink(&outside, store.join("folder")).expect("a symbolic link");
    let store = store.display();
    let links = [
        ("a file of the system", "file:///etc/passwd".to_owned()),
        ("a path that leads up", format!("file://{store}/../outside/frame.nc")),
        ("a path that leads up from below", format!("file://{store}/inbox/../../outside/frame.nc")),
        ("a path that leads up by encoded dots", format!("file://{store}/inbox/%2e%2e/%2E%2E/outside/frame.nc")),
        ("a path that leads up by encoded slashes", format!("file://{store}/inbox/..%2f..%2foutside/frame.nc")),
        ("a symbolic link to a file outside", format!("file://{store}/link.nc")),
        ("a symbolic link to a folder outside", format!("file://{store}/folder/frame.nc")),
    ];
    let (frame, content_type) = (Sent::again(good, 0, known_ms), good.header("content-type"));
    let case = |(name, href): (&'static str, String)| {
        let record = notification(&frame, &content_type, &href);
        Case { name, record, reasons: &["fetch"], says: "may not be read" }
    };
    links.into_iter().map(case).collect()
}

#[test]
fn each_bad_record_becomes_a_dead_letter_and_the_stream_goes_on() {
    let source = Setting::new("bad-source");
    let rain = Rain::small(source.folder(), 10);
    let good = source.published(&rain.file);
    let known = |frame: usize| rain.slots[frame] * 1000 + 1000;

    let setting = Setting::new("bad");
    let inbox = setting.store().join("inbox");
    fs::create_dir_all(&inbox).expect("a folder");
    let store = setting.store().canonicalize().expect("the store");
    let mut cases = cases(&good[4], 0, known(4) + 1000, setting.folder());
    cases.extend(links_that_lead_out(&good[4], known(4) + 1000, setting.folder(), &store));
    let mut records: Vec<Sent> = good.iter().enumerate().map(|(i, s)| Sent::again(s, 0, known(i))).collect();
    // A frame whose link stays in the store, behind those that do not.
    let linked = 7;
    fs::write(inbox.join("frame.nc"), &good[linked].value).expect("a file");
    let href = format!("file://{}/inbox/frame.nc", store.display());
    records[linked] = notification(&records[linked], &good[linked].header("content-type"), &href);
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
        let detail = letter.header("dead-letter-detail");
        assert!(!detail.is_empty(), "{name}: says what was expected and what came");
        assert!(detail.contains(case.says), "{name}: {detail}");
        let kept = case.record.value.len().min(KEPT);
        assert!(letter.value == case.record.value[..kept], "{name}: the beginning of its bytes, as they were");
    }
    assert_eq!(letters.len(), cases.len(), "and nothing else");
}

/// The same file with a field of 12,000 x 12,000 zeros in place of its own: sound in all but its size.
fn of_a_huge_field(good: &[u8], folder: &Path) -> Vec<u8> {
    const CODE: &str = "\
import sys, netCDF4, numpy
side = 12000
good, huge = netCDF4.Dataset(sys.argv[1]), netCDF4.Dataset(sys.argv[2], 'w')
for data in (good, huge): data.set_auto_maskandscale(False)
for name, dimension in good.dimensions.items():
    huge.createDimension(name, side if name in 'xy' else len(dimension))
for name, old in good.variables.items():
    packed = dict(zlib=True, complevel=9, shuffle=False, chunksizes=[1] * (old.ndim - 2) + [500, side])
    is_field = old.dimensions[-2:] == ('y', 'x')
    new = huge.createVariable(name, old.dtype, old.dimensions, **(packed if is_field else {}))
    new.setncatts({key: old.getncattr(key) for key in old.ncattrs() if key != '_FillValue'})
    if name in 'xy':
        new[:] = old[0] + (old[1] - old[0]) * numpy.arange(side)
    elif is_field:
        for row in range(0, side, 500): new[..., row:row + 500, :] = 0
    else:
        new[...] = old[...]
huge.close()
";
    let (from, to) = (folder.join("good.nc"), folder.join("huge.nc"));
    fs::write(&from, good).expect("a file");
    let (from, to_path) = (from.display().to_string(), to.display().to_string());
    Running::start(folder, &python(), &["-c", CODE, &from, &to_path]).success(LIMIT);
    fs::read(to).expect("the script has made it")
}

#[test]
fn a_small_file_of_a_huge_field_is_refused_before_it_is_unpacked() {
    let setting = Setting::new("huge");
    let (rain, mut records) = Rain::observed(setting.prefix(), 10);
    let huge = Sent { value: of_a_huge_field(&records[4].value, setting.folder()), ..records[4].clone() };
    assert!(huge.value.len() < 1 << 20, "{} bytes, of a field of 288 MB", huge.value.len());
    let after = 5;
    records.insert(after, huge.clone());
    Kafka::shared().create(&setting.topic("observations"), 1);
    Kafka::shared().write(&setting.topic("observations"), &records);
    let budget = format!("runtime.max_bytes_in_flight={BUDGET}");
    let (least, most) = least_and_most(setting.start(&["run", &setting.config(), "--set", &budget]));
    assert!(most < least + BUDGET, "{least} bytes at the start, {most} at most");

    let issue_times: Vec<_> = forecasts::published(&setting).into_iter().map(|p| p.issue_time).collect();
    assert_eq!(issue_times, rain.full_windows(3), "the stream goes on as if there had been none");
    let letters = Kafka::shared().read(&setting.topic("dead-letters"));
    let [letter] = &letters[..] else { panic!("{} dead letters", letters.len()) };
    assert_eq!(letter.header("dead-letter-reason"), "oversized");
    assert_eq!(letter.header("dead-letter-offset"), after.to_string());
    assert_eq!(letter.header("dead-letter-bytes"), huge.value.len().to_string());
    let detail = letter.header("dead-letter-detail");
    assert!(detail.contains("number of cells is 144000000"), "{detail}");
}
