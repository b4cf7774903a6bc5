//! `squall store gc`: what nobody points at goes, what somebody points at stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Setting, files, forecasts};

/// Puts a file there that was last written so many hours ago.
fn put(path: &Path, hours: u64) -> PathBuf {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    let file = File::create(path).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).expect("its time");
    path.to_owned()
}

#[test]
fn orphans_go_and_old_forecasts_after_their_records() {
    let setting = Setting::new("gc");
    let rain = Rain::small(setting.folder(), 14);
    setting.publish(&rain.file);
    setting.run();
    let published = forecasts::published(&setting);
    assert_eq!(published.len(), 12);
    let in_use: Vec<PathBuf> = published.iter().map(forecasts::Published::file).collect();
    let (first, last) = (in_use[0].parent().expect("one"), in_use[11].parent().expect("one"));
    let orphan = put(&first.join("r7-0123456789abcdef.nc"), 2);
    let unfinished = put(&first.join(".r0-0123456789abcdef.nc.1-0-1.part"), 2);
    let stay = [
        put(&first.join("r8-0123456789abcdef.nc"), 0),
        // Its window may still be revised, so that a record of it may still come.
        put(&last.join("r9-0123456789abcdef.nc"), 2),
        put(&setting.store().join("wind/20150827T120000Z/r0-0123456789abcdef.nc"), 2),
        put(&setting.store().join("read-me.txt"), 2),
    ];
    let config = setting.config();
    let gc = |more: &[&str]| setting.start(&[&["store", "gc", config.as_str()], more].concat());
    let said = gc(&["--dry-run"]).success(LIMIT);
    assert!(said.contains("would be removed") && orphan.exists() && unfinished.exists(), "{said}");
    let said = gc(&[]).success(LIMIT);
    assert!(!orphan.exists() && !unfinished.exists(), "{said}");
    assert!(in_use.iter().chain(&stay).all(|path| path.exists()), "{said}");

    let refused = gc(&["--keep", "10 min"]).failure(2, LIMIT);
    assert!(refused.contains("horizon"), "{refused}");
    // The event is years old.
    let said = gc(&["--keep", "1 d"]).success(LIMIT);
    assert!(in_use.iter().all(|path| !path.exists()) && stay.iter().all(|path| path.exists()), "{said}");
    let index = Kafka::shared().read(&setting.topic("index"));
    assert_eq!(index.len(), 24, "a tombstone for each record");
    for (record, tombstone) in index[..12].iter().zip(&index[12..]) {
        assert!(index[12..].iter().any(|t| t.key == record.key) && tombstone.value.is_empty());
    }
    let said = gc(&["--keep", "1 d"]).success(LIMIT);
    assert!(!said.contains("removed"), "nothing is left to do: {said}");
    assert_eq!(files::below(&setting.store(), "nc").len(), 3);
    // What was committed is not made again for want of its file.
    setting.run();
    assert_eq!(Kafka::shared().read(&setting.topic("index")).len(), 24);
}
