//! `squall inspect file`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ndarray::ArrayView2;
use squall_connectors::archive::{Format, format_of};
use squall_connectors::error::FileError;
use squall_connectors::gridded::Notes;
use squall_connectors::netcdf::{Reader, StationSeries};
use squall_connectors::odim::{self, Odim};
use squall_connectors::options::ReadOptions;
use squall_fields::{Frame, Grid, InputRef, Quantity, ValidTime};

use crate::commands::print;
use crate::config::format_duration;

/// Arguments of `squall inspect file`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// NetCDF or ODIM file: fields, or series of stations.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show every slot, not only the first and the last.
    #[arg(long)]
    slots: bool,
}

impl Arguments {
    pub(super) fn run(self) -> anyhow::Result<()> {
        for path in &self.files {
            let summary = summary(path, self.slots).with_context(|| format!("cannot read {}", path.display()))?;
            print(&format!("{}\n{summary}", path.display()));
        }
        Ok(())
    }
}

/// What a file holds, and what was assumed while it was read.
fn summary(path: &Path, every_slot: bool) -> anyhow::Result<String> {
    let options = ReadOptions::default();
    match format_of(path)? {
        Format::Odim => of_composite(odim::read(path, &options)?),
        Format::Netcdf => match Reader::open(path, &options) {
            Ok(reader) => of_netcdf(&reader, every_slot),
            Err(no_grid) => match StationSeries::open(path, &options.limits) {
                Ok(series) => of_stations(&series, every_slot),
                Err(_) => Err(no_grid.into()),
            },
        },
    }
}

fn of_composite(composite: Odim) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "  ODIM     {} from {}", composite.quantity, composite.source)?;
    if !composite.nodes.is_empty() {
        writeln!(text, "  radars   {}: {}", composite.nodes.len(), composite.nodes.join(", "))?;
    }
    grid(&mut text, &composite.frame.grid)?;
    assumptions(&mut text, &composite.notes)?;
    slots(&mut text, &[composite.frame.slot], false)?;
    values(&mut text, std::iter::once(Ok(composite.frame)))?;
    Ok(text)
}

fn of_netcdf(reader: &Reader<'_>, every_slot: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    grid(&mut text, reader.grid())?;
    assumptions(&mut text, reader.notes())?;
    if let Some(issued) = reader.issue_time() {
        writeln!(text, "  issued   {issued}")?;
    }
    if reader.members() > 1 {
        writeln!(text, "  members  {}, the values are those of the first", reader.members())?;
    }
    slots(&mut text, reader.slots(), every_slot)?;
    let mut shown: Vec<usize> = match reader.len() {
        0 => Vec::new(),
        len if every_slot => (0..len).collect(),
        len => vec![0, len / 2, len - 1],
    };
    shown.dedup();
    values(&mut text, shown.into_iter().map(|index| reader.member(index, 0, no_input())))?;
    Ok(text)
}

/// What series of stations hold, over all of their times.
fn of_stations(series: &StationSeries, every_slot: bool) -> anyhow::Result<String> {
    let mut text = String::new();
    let (stations, times) = (series.stations(), series.times());
    let placed = stations.iter().filter(|station| station.place.is_some()).count();
    writeln!(text, "  stations {}, the place of {placed} is known", stations.len())?;
    assumptions(&mut text, series.notes())?;
    slots(&mut text, times, every_slot)?;
    let mut readings: BTreeMap<(Quantity, Option<u32>), Vec<f32>> = BTreeMap::new();
    for index in 0..times.len() {
        for reading in series.reports(index)?.iter().flat_map(|report| &report.readings) {
            readings.entry((reading.quantity, reading.period_seconds)).or_default().push(reading.value);
        }
    }
    writeln!(text, "  values")?;
    let head = ["missing", "lowest", "mean", "highest"].map(|name| format!("{name:>10}")).concat();
    writeln!(text, "    {:<48}{head}", "quantity")?;
    for ((quantity, period), mut values) in readings {
        let over = period.map_or_else(String::new, |seconds| format!(" over {seconds} s"));
        let name = format!("{} ({}){over}", quantity.standard_name(), quantity.unit());
        values.resize(values.len().max(stations.len() * times.len()), f32::NAN);
        writeln!(text, "    {name:<48}{}", statistics(ArrayView2::from_shape((1, values.len()), &values)?))?;
    }
    Ok(text)
}

/// Nobody asks where these frames are from.
fn no_input() -> InputRef {
    InputRef { topic: "".into(), partition: 0, offset: 0, digest: "".into() }
}

/// Statistics of each frame; one of them is in memory at a time.
fn values(text: &mut String, frames: impl Iterator<Item = Result<Frame, FileError>>) -> anyhow::Result<()> {
    writeln!(text, "  values")?;
    let head = ["missing", "lowest", "mean", "highest"].map(|name| format!("{name:>10}")).concat();
    writeln!(text, "    {:<26}{:<22}{head}", "variable", "slot")?;
    for frame in frames {
        let frame = frame?;
        for (variable, plane) in frame.variables.iter().zip(frame.values.outer_iter()) {
            let name = format!("{} ({})", variable.name(), variable.unit());
            writeln!(text, "    {name:<26}{:<22}{}", frame.slot.to_rfc3339(), statistics(plane))?;
        }
    }
    Ok(())
}

fn grid(text: &mut String, grid: &Grid) -> std::fmt::Result {
    let (rows, columns) = grid.shape();
    writeln!(
        text,
        "  grid     {rows} x {columns} cells of {} x {}, id {}",
        grid.x.step.abs(),
        grid.y.step.abs(),
        grid.id()
    )?;
    writeln!(text, "           {}", grid.proj)
}

/// One line for each thing that was decided, so that a wrong guess is seen.
fn assumptions(text: &mut String, notes: &Notes) -> std::fmt::Result {
    notes.iter().try_for_each(|note| writeln!(text, "  {:<9}{}", note.about, note.text))
}

fn slots(text: &mut String, slots: &[ValidTime], every_slot: bool) -> std::fmt::Result {
    let [first, .., last] = slots else {
        return writeln!(text, "  slots    {}", slots.first().map_or_else(|| "none".to_owned(), ToString::to_string));
    };
    let steps: Vec<i64> = slots.windows(2).map(|pair| pair[1].unix_seconds() - pair[0].unix_seconds()).collect();
    let step = steps.iter().copied().min().unwrap_or(0);
    let every = format_duration(Duration::from_secs(step.unsigned_abs()));
    writeln!(text, "  slots    {}, {first} to {last}, every {every}", slots.len())?;
    let gaps: Vec<String> = (1..slots.len())
        .filter(|i| steps[i - 1] != step)
        .map(|i| format!("{} to {}", slots[i - 1], slots[i]))
        .collect();
    if !gaps.is_empty() {
        let shown = if every_slot { gaps.len() } else { gaps.len().min(3) };
        let more = if shown < gaps.len() { format!(" and {} more", gaps.len() - shown) } else { String::new() };
        writeln!(text, "           gaps: {}{more}", gaps[..shown].join(", "))?;
    }
    Ok(())
}

fn statistics(plane: ArrayView2<'_, f32>) -> String {
    let finite = plane.iter().filter(|value| value.is_finite());
    let (mut count, mut sum, mut lowest, mut highest) = (0usize, 0f64, f32::INFINITY, f32::NEG_INFINITY);
    for value in finite {
        (count, sum) = (count + 1, sum + f64::from(*value));
        (lowest, highest) = (lowest.min(*value), highest.max(*value));
    }
    let missing = 100.0 * (plane.len() - count) as f64 / plane.len().max(1) as f64;
    if count == 0 {
        return format!("{missing:>9.1}%{:>10}{:>10}{:>10}", "-", "-", "-");
    }
    format!("{missing:>9.1}%{lowest:>10.2}{:>10.3}{highest:>10.2}", sum / count as f64)
}
