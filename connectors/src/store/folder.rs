//! A folder as a store: what was put is there after a loss of power, whole, or was never there.
//!
//! A transaction that points at a file may be committed as soon as [`Folder::put`] returns, so by then the file, its
//! entry in its folder, and the entries of the folders that were made for it are on the disk and not in memory alone.
//! The bytes go to a temporary file, which is synced and renamed: no name ever leads to a part of them.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Ending of temporary files, whose names begin with a dot.
const TEMPORARY: &str = ".part";
/// Folders that are remembered to be on the disk; more are forgotten, and synced once more.
const REMEMBERED: usize = 4096;
/// How often the folders of a file are made: another process may remove them while they are empty.
const TRIES: u32 = 5;

/// What becomes of a file before it is there for good.
pub(super) trait Disk: Send + Sync {
    /// Makes a folder; one that is there already is none the worse.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Writes a file that must not be there yet, and waits until its bytes are on the disk.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Gives a file another name, in place of whatever had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Waits until the bytes of a file are on the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Waits until the names in a folder are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The system's.
#[derive(Debug)]
pub(super) struct SystemDisk;

impl Disk for SystemDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// What a put found under the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Nothing.
    New,
    /// The same bytes.
    There,
    /// Other bytes, such as a part of these after a loss of power. They are gone now.
    Replaced,
}

/// A file of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name, relative to the store, with `/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub written: SystemTime,
    /// Whether it is what a write left that did not come to its end.
    pub temporary: bool,
}

/// A folder, and what is known to be on its disk.
#[derive(Debug)]
pub(super) struct Folder<D = SystemDisk> {
    root: PathBuf,
    disk: D,
    /// Folders below the root whose names are on the disk.
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    /// The folder at a path, which is made if `create` says so, and the folders above it.
    pub(super) fn open(path: &Path, create: bool) -> io::Result<Self> {
        if create {
            make_with_parents(&SystemDisk, &std::path::absolute(path)?)?;
        }
        let root = path.canonicalize()?;
        if create && let Some(above) = root.parent() {
            // Its own name may be new; where the folder above may not be opened it was not made here.
            let _ = SystemDisk.sync_folder(above);
        }
        Ok(Self { root, disk: SystemDisk, durable: Mutex::default() })
    }
}

impl<D: Disk> Folder<D> {
    /// Where it is, without links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a file there for good, under a relative path that names its contents: whatever else has that name is a
    /// damaged copy, and is replaced.
    pub(super) fn put(&self, name: &Path, bytes: &[u8]) -> io::Result<Put> {
        let target = self.root.join(name);
        let above = target.parent().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let found = match fs::symlink_metadata(&target) {
            Ok(there) if there.is_file() && there.len() == bytes.len() as u64 && fs::read(&target)? == bytes => {
                Put::There
            }
            Ok(_) => Put::Replaced,
            Err(_) => Put::New, // if it cannot even be asked for, writing says why
        };
        let mut tries = 0;
        loop {
            tries += 1;
            self.make_folders(&above)?;
            let written = if found == Put::There { self.disk.sync_file(&target) } else { self.write(&target, bytes) };
            match written.and_then(|()| self.disk.sync_folder(&above)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => self.durable().clear(),
                done => return done.map(|()| found),
            }
        }
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the folders between the root and a file, each with its name on the disk.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let below = folder.strip_prefix(&self.root).map_err(|_| io::ErrorKind::InvalidFilename)?;
        let mut at = self.root.clone();
        for part in below.components() {
            let above = at.clone();
            at.push(part);
            if self.durable().contains(&at) {
                continue;
            }
            self.disk.make_folder(&at)?;
            if !at.canonicalize().unwrap_or_else(|_| at.clone()).starts_with(&self.root) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the folder"));
            }
            self.disk.sync_folder(&above)?;
            let mut durable = self.durable();
            if durable.len() >= REMEMBERED {
                durable.clear();
            }
            durable.insert(at.clone());
        }
        Ok(())
    }

    /// Writes under another name, and gives it its own once it is whole; leaves nothing behind if it cannot.
    fn write(&self, target: &Path, bytes: &[u8]) -> io::Result<()> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
        let temporary = target.with_file_name(format!(".{name}.{}{TEMPORARY}", unique()));
        let written = self.disk.write_new(&temporary, bytes).and_then(|()| self.disk.rename(&temporary, target));
        if written.is_err() {
            // A full disk must not be filled with what did not fit.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Every file, in no order. Links are no files of the store.
    pub(super) fn list(&self) -> io::Result<Vec<Stored>> {
        let (mut found, mut open) = (Vec::new(), vec![self.root.clone()]);
        while let Some(folder) = open.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder != self.root => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file()
                    && let Some(name) = name_below(&self.root, &entry.path())
                    && let Ok(about) = entry.metadata()
                {
                    let temporary = is_temporary(&name);
                    found.push(Stored { name, bytes: about.len(), written: about.modified()?, temporary });
                }
            }
        }
        Ok(found)
    }

    /// Removes a file, and the folders that are empty without it. One that is gone already is gone.
    pub(super) fn remove(&self, name: &Path) -> io::Result<()> {
        let file = self.root.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut folder = file.parent();
        while let Some(empty) = folder.filter(|folder| *folder != self.root && folder.starts_with(&self.root)) {
            if fs::remove_dir(empty).is_err() {
                break; // it is not empty
            }
            self.durable().remove(empty);
            folder = empty.parent();
        }
        Ok(())
    }
}

/// A text that no other write has at the same time, in this process or another. Should one have it, the write fails
/// and is tried again.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{:x}-{:x}-{since:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a folder and those above it that are missing, each with its name on the disk.
fn make_with_parents(disk: &impl Disk, path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let Some(above) = path.parent() else { return disk.make_folder(path) };
    make_with_parents(disk, above)?;
    disk.make_folder(path)?;
    disk.sync_folder(above)
}

/// The relative name of a path; `None` if it is not text.
fn name_below(root: &Path, path: &Path) -> Option<String> {
    let parts = path.strip_prefix(root).ok()?.components();
    let text = |part: Component<'_>| part.as_os_str().to_str().map(str::to_owned);
    Some(parts.map(text).collect::<Option<Vec<_>>>()?.join("/"))
}

/// Whether a name is that of a temporary file, of this version or of earlier ones (`NAME#1`).
fn is_temporary(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let staged = last.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    staged || last.starts_with('.') && last.ends_with(TEMPORARY)
}

#[cfg(test)]
mod tests;
