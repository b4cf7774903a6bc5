//! The store of fields: what a record points at is on the disk before the record is committed, a damaged file is made
//! whole again, and a full disk is waited for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Running, Setting, files, forecasts, models};

/// A setting with a few frames published.
fn published(name: &str, frames: usize) -> Setting {
    let setting = Setting::new(name);
    let rain = Rain::small(setting.folder(), frames);
    setting.publish(&rain.file);
    setting
}

/// The configuration of a setting with other topics behind the same observations, store and name: as if all that it has
/// committed were lost.
fn without_progress(setting: &Setting) -> String {
    let path = setting.config();
    let mut text = fs::read_to_string(&path).expect("the configuration");
    for kind in ["dead-letters", "progress", "index", "probabilities", "quantiles"] {
        let topic = setting.topic(kind);
        text = text.replace(&format!("\"{topic}\""), &format!("\"{topic}.again\""));
    }
    let again = Path::new(&path).with_file_name("again.toml");
    fs::write(&again, text).expect("a configuration file");
    again.display().to_string()
}

#[test]
fn a_file_that_a_loss_of_power_has_cut_is_whole_after_the_next_start() {
    let setting = published("cut-file", 6);
    setting.run();
    let whole: Vec<(PathBuf, Vec<u8>)> = files::below(&setting.store(), "nc")
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).expect("a file of the store")))
        .collect();
    assert_eq!(whole.len(), 4);
    for (cut, (path, bytes)) in [0, 1000, usize::MAX].iter().zip(&whole) {
        let mut damaged = bytes[..bytes.len().min(*cut)].to_vec();
        damaged.resize(if *cut == usize::MAX { bytes.len() } else { damaged.len() }, 0);
        let middle = damaged.len() / 2;
        if let Some(byte) = damaged.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(path, damaged).expect("a file of the store");
    }
    setting.start(&["run", &without_progress(&setting)]).success(LIMIT);
    let again = forecasts::published_on(&format!("{}.again", setting.topic("index")));
    let pointed: Vec<PathBuf> = again.iter().map(forecasts::Published::file).collect();
    let named: Vec<PathBuf> = whole.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(pointed, named, "the same forecasts under the same names");
    for (path, bytes) in &whole {
        assert!(fs::read(path).expect("a file") == *bytes, "{} is whole", path.display());
    }
    assert_eq!(files::below(&setting.store(), "part"), Vec::<PathBuf>::new());
}

/// One system call of a trace: where its line begins and where it is over, and what it says.
struct Call {
    begun: usize,
    over: usize,
    text: String,
}

/// The calls of a trace by `strace -f`, with those put together that another thread's interrupted.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: Vec<(String, usize)> = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (thread, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim_start();
        if let Some(tail) = rest.strip_prefix("<... ") {
            let Some(found) = open.iter().rposition(|(of, _)| of == thread) else { continue };
            let (_, index) = open.remove(found);
            calls[index].over = at;
            calls[index].text.push_str(tail.split_once('>').map_or("", |(_, tail)| tail));
        } else {
            let text = rest.trim_end_matches("<unfinished ...>");
            if text.len() < rest.len() {
                open.push((thread.to_owned(), calls.len()));
            }
            calls.push(Call { begun: at, over: at, text: text.to_owned() });
        }
    }
    calls
}

/// The system's own word for what the store promises: for each file, its bytes are synced before it is renamed, its
/// folder is synced after that, and only then does any record that names it leave for the broker.
#[test]
fn a_file_and_its_folder_are_synced_before_a_record_points_at_it() {
    let there = Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success());
    assert!(there, "strace is missing: run `make setup` first");
    let setting = published("synced", 5);
    let trace = setting.folder().join("trace");
    let (config, squall) = (setting.config(), squall_tests::squall().display().to_string());
    let out = trace.display().to_string();
    let which = "trace=fsync,rename,renameat,renameat2,sendmsg,sendto,write,mkdir";
    let arguments = ["-f", "-y", "-s", "100000", "-e", which, "-o", &out, &squall, "run", &config];
    let mut running = Running::start(setting.folder(), Path::new("strace"), &arguments);
    let status = running.end(LIMIT);
    if !status.success() && running.output().contains("ptrace") {
        eprintln!("skipped: strace may not trace: {}", running.output());
        return;
    }
    assert!(status.success(), "{}", running.output());
    let text = String::from_utf8_lossy(&fs::read(&trace).expect("a trace")).into_owned();
    let calls = calls(&text);
    let stored = files::below(&setting.store(), "nc");
    assert_eq!(stored.len(), 3);
    for file in stored {
        let file = file.canonicalize().expect("a file");
        let (folder, name) = (file.parent().expect("a folder"), file.file_name().expect("a name").to_string_lossy());
        let find = |what: &str, after: usize, fits: &dyn Fn(&str) -> bool| {
            let found = calls.iter().find(|call| call.begun >= after && fits(&call.text));
            found.unwrap_or_else(|| panic!("{name}: no {what} after line {after}")).over
        };
        let synced =
            |path: String| move |text: &str| text.starts_with("fsync(") && text.contains(&path) && text.contains("= 0");
        let part = find("fsync of its bytes", 0, &synced(format!("/.{name}.")));
        let renamed = find("rename", part, &|text| text.starts_with("rename") && text.contains(&*name));
        let rename = calls.iter().filter(|call| call.text.starts_with("rename") && call.text.contains(&*name));
        assert_eq!(rename.count(), 1, "{name}: renamed once");
        let kept = find("fsync of its folder", renamed, &synced(format!("<{}>", folder.display())));
        let above =
            find("fsync of the folder above", 0, &synced(format!("<{}>", folder.parent().expect("one").display())));
        let sends = |call: &&Call| call.text.starts_with("send") && call.text.contains(&*name);
        let sent = calls.iter().filter(sends).map(|call| call.begun).min();
        let sent = sent.unwrap_or_else(|| panic!("{name}: no record that names it was seen to leave"));
        assert!(kept < sent && above < sent, "{name}: synced at {above} and {kept}, sent at {sent}");
    }
}

/// What a run gives in the end, whatever happened to it.
fn products(setting: &Setting) -> (Vec<String>, std::collections::BTreeMap<String, Vec<u8>>) {
    let published = forecasts::published(setting).into_iter().map(|p| format!("{} r{}", p.issue_time, p.revision));
    let mut products = forecasts::consolidated(&setting.topic("probabilities"));
    products.extend(forecasts::consolidated(&setting.topic("quantiles")));
    (published.collect(), products)
}

#[test]
fn a_full_disk_of_the_store_is_waited_for_and_then_nothing_is_missing() {
    // A file system of its own, in a name space of its own: no rights are needed, and nothing is left behind.
    let mut mount = Command::new("unshare");
    mount.args(["-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).env("LC_ALL", "C");
    let tried = mount.output().expect("unshare, which is in util-linux");
    if !tried.status.success() {
        // Whoever is not root needs the system's leave, which many do not give; anything else is a fault.
        let said = String::from_utf8_lossy(&tried.stderr).into_owned();
        let is_forbidden = ["unshare failed", "not permitted", "ermission denied"].iter().any(|why| said.contains(why));
        assert!(is_forbidden, "no file system in a name space of its own: {said}");
        eprintln!("skipped: the system forbids to mount a file system in a name space of one's own: {said}");
        return;
    }
    let undisturbed = published("disk-undisturbed", 8);
    undisturbed.run();
    let mut setting = Setting::new("full-disk");
    setting.observations = Some(undisturbed.topic("observations"));
    let (config, store) = (setting.config(), setting.store());
    fs::create_dir(&store).expect("a folder");
    // Room for two files, and for none once the rest is filled.
    let largest = files::below(&undisturbed.store(), "nc").iter().map(|f| fs::metadata(f).map_or(0, |f| f.len())).max();
    let size = (largest.expect("files") * 12).div_ceil(4096) * 4096;
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs '{store}' && head -c {size} /dev/zero >'{store}/ballast' ; \
         truncate -s -{room} '{store}/ballast' && exec '{squall}' run '{config}' --set metrics.listen=127.0.0.1:0 \
         --log-format json",
        store = store.display(),
        room = largest.expect("files") * 2 + 3 * 4096,
        squall = squall_tests::squall().display(),
    );
    let arguments = ["-Urm", "sh", "-c", &script];
    let mut running = Running::start(setting.folder(), Path::new("unshare"), &arguments);
    let address = models::address(&mut running);
    let trouble = || models::metric(&address, "squall_broker_errors_total", &[("what", "storing a forecast")]);
    running.until(LIMIT, "it says that it waits", || trouble().is_some_and(|count| count >= 3.0));
    let said = running.output();
    assert!(said.contains("storing a forecast failed; trying again") && said.contains("No space left"), "{said}");

    // As the program sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", running.pid(), store.display()));
    let there = files::below(&inside, "nc");
    let committed = forecasts::published(&setting);
    assert!(!committed.is_empty() && committed.len() < 6, "some fitted: {}", committed.len());
    for published in &committed {
        let path = PathBuf::from(format!("/proc/{}/root{}", running.pid(), published.file().display()));
        assert!(there.contains(&path), "{} is pointed at and is there", path.display());
    }
    // Every try leaves the disk as it was.
    let rest = |ending| files::below(&inside, ending);
    assert!(rest("part").len() <= 1, "{:?}", rest("part"));

    fs::remove_file(inside.join("ballast")).expect("room is made");
    let status = running.end(Duration::from_secs(60));
    assert!(status.success(), "{}", running.output());
    assert!(products(&setting) == products(&undisturbed), "the same forecasts as with room all the time");
}
