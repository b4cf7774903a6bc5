//! The machine: processor, memory, threads, data.

use std::thread::available_parallelism;

use super::Finding;
use crate::config::{Config, format_bytes};

/// A line of a file of `/proc` that begins with a word; none where there is no such file.
fn line_of(file: &str, word: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(word))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// An amount of memory in bytes.
fn memory(word: &str) -> Option<u64> {
    let kib: u64 = line_of("/proc/meminfo", word)?.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Memory below which models and events do not fit.
const LEAST_MEMORY: u64 = 2 << 30;

pub(super) fn cpu() -> Finding {
    let name = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = available_parallelism().map_or(1, usize::from);
    let bf16 = if squall_models::device::has_native_bf16() { "multiplies in bf16" } else { "no native bf16" };
    let found = format!("{cores} cores of {name}, {bf16}");
    match (memory("MemAvailable"), memory("MemTotal")) {
        (Some(free), Some(all)) => {
            let found = format!("{found}; {} of {} of memory free", format_bytes(free), format_bytes(all));
            if free < LEAST_MEMORY {
                Finding::note("cpu", format!("{found}: little"))
            } else {
                Finding::ok("cpu", found)
            }
        }
        _ => Finding::note("cpu", format!("{found}; how much memory there is cannot be read here")),
    }
}

pub(super) fn threads(config: Option<&Config>) -> Finding {
    let (cores, torch) = (available_parallelism().map_or(1, usize::from), tch::get_num_threads());
    let found = format!("libtorch computes on {torch}");
    let workers = config.map_or(0, |config| config.runtime.workers);
    let found = if workers > 0 { format!("{found}, {workers} workers of the dataflow") } else { found };
    if workers > cores {
        return Finding::note("threads", format!("{found}: more workers than the {cores} cores"));
    }
    Finding::ok("threads", found)
}

/// The folder of archives for training, scores and backtests; a stream needs none.
pub(super) fn data() -> Finding {
    let Some(folder) = std::env::var_os("SQUALL_DATA") else {
        return Finding::note("SQUALL_DATA", "is not set: archives are looked for in the working folder alone");
    };
    match std::fs::read_dir(&folder) {
        Ok(entries) => Finding::ok("SQUALL_DATA", format!("{}: {} files", folder.display(), entries.count())),
        Err(error) => Finding::note("SQUALL_DATA", format!("{}: {error}", folder.display())),
    }
}
