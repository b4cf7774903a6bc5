//! A forecast from files, through the library: what `squall forecast` does, in a program of one's own.
//!
//! ```text
//! target/release/squall simulate --output out/storm.nc
//! cargo run --release -p squall-pipeline --example forecast_from_files -- configs/demo.toml out/storm.nc
//! ```

use std::path::PathBuf;

use anyhow::Context;
use ndarray::Axis;
use squall_pipeline::archive::{Archive, read_options};
use squall_pipeline::config::Layers;
use squall_pipeline::once::Once;

fn main() -> anyhow::Result<()> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let config = paths.next().context("usage: forecast_from_files CONFIG FILE...")?;
    let files: Vec<PathBuf> = paths.collect();

    // What is written, and what it means: every fault of the configuration is reported at once.
    let config = Layers::from_file(&config)?.load()?;
    let stream = &config.streams[0];
    // Frames in the order of their slots, whatever the files are; each is read when it is asked for.
    let archive = Archive::open(&files, &read_options(&stream.source))?;
    let newest = archive.slots().last().context("the files hold no frame")?;
    // Quality control, window, model: as in the stream, to the last bit.
    let forecast = Once::new(stream)?.forecast(&archive, newest.into())?;

    let (issue_time, model) = (forecast.id.issue_time, &forecast.provenance.model);
    println!("{} of {issue_time} by {model}, degraded: {}", forecast.id.stream, forecast.is_degraded());
    let ensemble = &forecast.ensembles[0]; // [member, lead, y, x], missing cells are NaN
    for (lead, values) in forecast.leads.iter().zip(ensemble.values.axis_iter(Axis(1))) {
        let seen = values.iter().filter(|value| !value.is_nan());
        let (count, wet) = seen.fold((0, 0), |(count, wet), value| (count + 1, wet + usize::from(*value >= 1.0)));
        println!("{lead}: {:.1} % of the cells have 1 mm/h or more", 100.0 * wet as f64 / f64::from(count.max(1)));
    }
    Ok(())
}
