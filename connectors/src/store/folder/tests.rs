//! What is on the disk, and when: by the order of the calls, and by what a loss of power would leave.

use std::collections::BTreeMap;

use super::*;

/// A disk that keeps what is written in memory until it is synced, over a real folder.
#[derive(Default)]
struct Forgetful(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Every call, by what it does to which name.
    calls: Vec<String>,
    /// Files whose bytes are on the disk, by their current path.
    whole: BTreeSet<PathBuf>,
    /// Names that are on the disk.
    names: BTreeSet<PathBuf>,
    /// Names that are not yet, by folder.
    fresh: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// The next write fails after half of its bytes.
    is_full: bool,
}

impl Forgetful {
    fn note(&self, what: &str, path: &Path) -> MutexGuard<'_, Kept> {
        let mut kept = self.0.lock().unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let name = if name.ends_with(TEMPORARY) { "TEMPORARY".into() } else { name };
        kept.calls.push(format!("{what} {name}"));
        kept
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap().to_owned()
}

impl Disk for Forgetful {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.note("folder", path).fresh.entry(folder_of(path)).or_default().push(path.to_owned());
        SystemDisk.make_folder(path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.note("write", path);
        if kept.is_full {
            fs::write(path, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        kept.whole.insert(path.to_owned());
        SystemDisk.write_new(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut kept = self.note("rename to", to);
        assert!(kept.whole.remove(from), "a name would lead to a part of the file");
        kept.whole.insert(to.to_owned());
        kept.fresh.entry(folder_of(to)).or_default().push(to.to_owned());
        SystemDisk.rename(from, to)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.note("sync", path).whole.insert(path.to_owned());
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut kept = self.note("sync", path);
        let fresh = kept.fresh.remove(path).unwrap_or_default();
        kept.names.extend(fresh);
        Ok(())
    }
}

fn folder() -> (tempfile::TempDir, Folder<Forgetful>) {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().canonicalize().unwrap().join("root");
    fs::create_dir(&root).unwrap();
    (temporary, Folder { root, disk: Forgetful::default(), durable: Mutex::default() })
}

fn calls(folder: &Folder<Forgetful>) -> Vec<String> {
    std::mem::take(&mut folder.disk.0.lock().unwrap().calls)
}

#[test]
fn all_of_a_file_is_on_the_disk_before_its_name_and_its_name_before_put_returns() {
    let (_temporary, folder) = folder();
    assert_eq!(folder.put(Path::new("s/i/d.nc"), b"one").unwrap(), Put::New);
    let expected = ["folder s", "sync root", "folder i", "sync s", "write TEMPORARY", "rename to d.nc", "sync i"]
        .map(str::to_owned);
    assert_eq!(calls(&folder), expected);
    let kept = folder.disk.0.lock().unwrap();
    let root = &folder.root;
    let names = [root.join("s"), root.join("s/i"), root.join("s/i/d.nc")];
    assert_eq!(kept.names, names.clone().into(), "a loss of power takes nothing");
    assert!(kept.whole.contains(&names[2]));
    drop(kept);

    // Folders that are there for good are not synced again.
    folder.put(Path::new("s/i/e.nc"), b"two").unwrap();
    assert_eq!(calls(&folder), ["write TEMPORARY", "rename to e.nc", "sync i"]);
}

#[test]
fn what_another_process_left_is_made_to_last_too() {
    let (_temporary, folder) = folder();
    // It was renamed, and the process ended before it synced the folder.
    fs::create_dir_all(folder.root.join("s/i")).unwrap();
    fs::write(folder.root.join("s/i/d.nc"), b"one").unwrap();
    assert_eq!(folder.put(Path::new("s/i/d.nc"), b"one").unwrap(), Put::There);
    assert_eq!(calls(&folder), ["folder s", "sync root", "folder i", "sync s", "sync d.nc", "sync i"]);
}

#[test]
fn a_part_of_a_file_under_its_name_is_replaced() {
    let (_temporary, folder) = folder();
    fs::create_dir_all(folder.root.join("s")).unwrap();
    for damaged in [&b""[..], b"wh", b"wHole"] {
        fs::write(folder.root.join("s/d.nc"), damaged).unwrap();
        assert_eq!(folder.put(Path::new("s/d.nc"), b"whole").unwrap(), Put::Replaced);
        assert_eq!(fs::read(folder.root.join("s/d.nc")).unwrap(), b"whole");
    }
}

#[test]
fn a_full_disk_keeps_no_part_of_what_did_not_fit() {
    let (_temporary, folder) = folder();
    folder.disk.0.lock().unwrap().is_full = true;
    for _ in 0..3 {
        let error = folder.put(Path::new("s/d.nc"), b"whole").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(folder.list().unwrap(), []);
    folder.disk.0.lock().unwrap().is_full = false;
    assert_eq!(folder.put(Path::new("s/d.nc"), b"whole").unwrap(), Put::New);
}

#[test]
fn folders_that_are_removed_while_they_are_empty_are_made_again() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = Folder::open(&temporary.path().join("a/b"), true).unwrap();
    folder.put(Path::new("s/i/d.nc"), b"one").unwrap();
    // Another process does not know what this one remembers.
    Folder::open(folder.root(), false).unwrap().remove(Path::new("s/i/d.nc")).unwrap();
    assert!(!folder.root().join("s").exists() && folder.root().exists());
    assert_eq!(folder.put(Path::new("s/i/d.nc"), b"one").unwrap(), Put::New);
}

#[test]
fn lists_files_and_tells_those_that_a_write_left() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = Folder::open(temporary.path(), true).unwrap();
    folder.put(Path::new("s/i/d.nc"), b"one").unwrap();
    for left in [".d.nc.0f.part", "d.nc#1"] {
        fs::write(folder.root().join("s/i").join(left), b"on").unwrap();
    }
    std::os::unix::fs::symlink("/etc", folder.root().join("link")).unwrap();
    let mut found: Vec<_> = folder.list().unwrap().into_iter().map(|f| (f.name, f.bytes, f.temporary)).collect();
    found.sort();
    let expected = [("s/i/.d.nc.0f.part", 2, true), ("s/i/d.nc", 3, false), ("s/i/d.nc#1", 2, true)];
    assert_eq!(found, expected.map(|(name, bytes, temporary)| (name.to_owned(), bytes, temporary)));
}

#[test]
fn a_link_leads_no_file_out_of_the_folder() {
    let (temporary, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = Folder::open(temporary.path(), true).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.root().join("s")).unwrap();
    let error = folder.put(Path::new("s/d.nc"), b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

/// Not a test: what the syncing of a file costs, for docs/benchmarks.md.
#[test]
#[ignore = "measures"]
fn cost_of_a_put() {
    let folder = tempfile::tempdir_in(std::env::var("SQUALL_STORE").as_deref().unwrap_or("target")).unwrap();
    let store = Folder::open(folder.path(), true).unwrap();
    for bytes in [50_000, 5_000_000] {
        let contents = vec![7; bytes];
        let mut took = Vec::new();
        for n in 0..50 {
            // A folder for each, as an issue time has.
            let name = PathBuf::from(format!("s/{bytes}-{n}/r0.nc"));
            let begun = std::time::Instant::now();
            store.put(&name, &contents).unwrap();
            let synced = begun.elapsed();
            let begun = std::time::Instant::now();
            let plain = folder.path().join("plain").join(&name);
            fs::create_dir_all(plain.parent().unwrap()).unwrap();
            fs::write(plain.with_extension("new"), &contents).unwrap();
            fs::rename(plain.with_extension("new"), &plain).unwrap();
            took.push((synced, begun.elapsed()));
        }
        let median = |mut all: Vec<std::time::Duration>| {
            all.sort();
            all[all.len() / 2]
        };
        let (synced, plain): (Vec<_>, Vec<_>) = took.into_iter().unzip();
        eprintln!("{bytes} bytes: {:?} synced, {:?} not (median of 50)", median(synced), median(plain));
    }
}
