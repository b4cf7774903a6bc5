//! Rain to forecast: real radar where it is at hand, otherwise simulated.

use std::path::{Path, PathBuf};

use crate::setting::LIMIT;
use crate::{Running, Sent, Setting, squall};

/// An archive of radar frames.
pub struct Rain {
    /// Its file.
    pub file: PathBuf,
    /// Valid time of each frame, in seconds since 1970.
    pub slots: Vec<i64>,
}

impl Rain {
    /// The first `frames` frames of a small, fast event: the Gothenburg radar, or without `SQUALL_DATA` a simulated
    /// storm. The archive is written to `folder`.
    pub fn small(folder: &Path, frames: usize) -> Self {
        match data("radar_openmrg_20150827.nc") {
            Some(file) => Self::first(&file, folder, frames),
            None => Self::simulated(folder, frames),
        }
    }

    /// The first frames of that event as `squall publish` writes them, each known one second after its slot.
    pub fn observed(name: &str, frames: usize) -> (Self, Vec<Sent>) {
        let source = Setting::new(&format!("{name}-source"));
        let rain = Self::small(source.folder(), frames);
        let seen = source.published(&rain.file);
        assert_eq!(seen.len(), rain.slots.len(), "one record a frame");
        let known = |frame: usize| rain.slots[frame] * 1000 + 1000;
        let sent = seen.iter().enumerate().map(|(frame, seen)| Sent::again(seen, 0, known(frame))).collect();
        (rain, sent)
    }

    /// The whole Finnish event of 2016, if `SQUALL_DATA` is set.
    pub fn finnish() -> Option<Self> {
        data("radar_fmi_20160928.nc").map(|file| Self::open(&file))
    }

    /// The Finnish event of 2016 where most is going on, or without `SQUALL_DATA` a simulated storm, written to `folder`.
    pub fn event(folder: &Path) -> Self {
        let cut = || Self::part(folder, "radar_fmi_20160928.nc", "2016-09-28T15:00", 36, 256, -1);
        cut().unwrap_or_else(|| Self::simulated(folder, 36))
    }

    /// A part of an archive of the real data, if it is there: `frames` frames from a time on but for one that may be
    /// left out, and the square of `size` cells in which most is going on.
    pub fn part(folder: &Path, name: &str, from: &str, frames: u32, size: u32, left_out: i32) -> Option<Self> {
        let file = data(name)?;
        let out = folder.join(name);
        let script = crate::program::root().join("tests/python/cut.py").display().to_string();
        let (source, target) = (file.display().to_string(), out.display().to_string());
        let numbers = [frames.to_string(), size.to_string(), left_out.to_string()];
        let arguments = [&script, &source, &target, from, &numbers[0], &numbers[1], &numbers[2]];
        Running::start(folder, &crate::program::python(), &arguments).success(LIMIT);
        Some(Self::open(&out))
    }

    /// A simulated storm, with more arguments of `squall simulate`.
    pub fn storm(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let out = folder.join(name);
        let path = out.display().to_string();
        Running::start(folder, &squall(), &[&["simulate", "--output", &path], arguments].concat()).success(LIMIT);
        Self::open(&out)
    }

    /// An archive that is there.
    pub fn open(file: &Path) -> Self {
        let open = crate::files::open(file);
        let time = open.variable("time").expect("a time coordinate");
        let units: String = match time.attribute_value("units") {
            Some(Ok(netcdf::AttributeValue::Str(units))) => units,
            other => panic!("units of time: {other:?}"),
        };
        let (step, since) = units.split_once(" since ").expect("a unit since a date");
        let step = match step {
            "seconds" => 1.0,
            "minutes" => 60.0,
            "hours" => 3600.0,
            other => panic!("time in {other}"),
        };
        let date = since.trim_end_matches('Z').replace('T', " ");
        let date = if date.len() == 10 { format!("{date} 00:00:00") } else { date.chars().take(19).collect() };
        let origin = chrono::NaiveDateTime::parse_from_str(&date, "%Y-%m-%d %H:%M:%S").expect("a date").and_utc();
        let values = time.get_values::<f64, _>(..).expect("times");
        let slots = values.iter().map(|value| origin.timestamp() + (value * step).round() as i64).collect();
        Self { file: file.to_owned(), slots }
    }

    fn first(file: &Path, folder: &Path, frames: usize) -> Self {
        // ncks is not everywhere, and the tests' Python is.
        let out = folder.join("rain.nc");
        let code = "import sys, xarray\n\
                    source, target, frames = sys.argv[1:]\n\
                    data = xarray.open_dataset(source, mask_and_scale=False, decode_times=False)\n\
                    data.isel(time=slice(0, int(frames))).to_netcdf(target)\n";
        let arguments = ["-c", code, &file.display().to_string(), &out.display().to_string(), &frames.to_string()];
        Running::start(folder, &crate::program::python(), &arguments).success(LIMIT);
        Self::open(&out)
    }

    fn simulated(folder: &Path, frames: usize) -> Self {
        eprintln!("SQUALL_DATA is not set: simulated rain instead of real radar");
        Self::storm(folder, "rain.nc", &["--frames", &frames.to_string(), "--size", "48x48", "--seed", "1"])
    }

    /// The issue times of windows of `frames` frames that are full, RFC 3339.
    pub fn full_windows(&self, frames: usize) -> Vec<String> {
        self.windows(frames, 300)
    }

    /// The same for frames that are so many seconds apart.
    pub fn windows(&self, frames: usize, seconds: i64) -> Vec<String> {
        let is_full = |window: &&[i64]| window.windows(2).all(|pair| pair[1] - pair[0] == seconds);
        self.slots.windows(frames).filter(is_full).map(|window| rfc3339(window[frames - 1])).collect()
    }
}

/// `2016-09-28T16:00:00Z`.
pub fn rfc3339(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 0).expect("a time of this age");
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// A file of the real data, if there is any.
fn data(name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("SQUALL_DATA")?).join(name);
    file.exists().then_some(file)
}
