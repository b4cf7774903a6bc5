//! Where fields wait on disk: whether that is a disk at all.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a file system says that lies in memory, in `linux/magic.h`.
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

/// Says in the log if what waits in a folder takes memory, which no setting bounds.
pub fn warn_of_memory(folder: &Path) {
    if is_memory(folder) {
        tracing::warn!(
            folder = %folder.display(),
            "what waits to be scored waits in memory: this folder is a tmpfs; have store.scratch lead to a disk"
        );
    }
}

/// Whether what lies in a folder takes memory. One that is not there yet will lie where the next folder above it does.
pub fn is_memory(folder: &Path) -> bool {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| PathBuf::from(folder));
    let there = absolute.ancestors().find(|folder| folder.exists());
    there.and_then(kind).is_some_and(|kind| [TMPFS, RAMFS].contains(&kind))
}

/// The kind of the file system that a folder lies in: the number has 32 bits everywhere, whatever type it comes in.
fn kind(folder: &Path) -> Option<u32> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: a struct of integers, for which zeros are valid, filled by the call, whose text ends with 0.
    let (done, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::statfs(path.as_ptr(), &mut found), found)
    };
    (done == 0).then_some(found.f_type as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A folder that a file system of a kind is mounted on, with no other above it.
    fn mounted(kind: &str) -> Option<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let of = |line: &str| {
            let mut parts = line.split(' ').skip(1).map(str::to_owned);
            parts.next().zip(parts.next())
        };
        let newest: BTreeMap<String, String> = mounts.lines().filter_map(of).collect();
        let of_kind = newest.into_iter().filter(|(_, found)| found == kind);
        of_kind.map(|(folder, _)| PathBuf::from(folder)).find(|folder| folder.is_dir())
    }

    #[test]
    fn a_folder_in_memory_is_told_from_one_on_a_disk_even_before_it_is_made() {
        let Some(memory) = mounted("tmpfs") else {
            eprintln!("no tmpfs is mounted: skipped");
            return;
        };
        assert!(is_memory(&memory) && is_memory(&memory.join("not/yet/there")), "{}", memory.display());
        let none = mounted("proc").unwrap();
        assert!(!is_memory(&none), "{}", none.display());
    }
}
