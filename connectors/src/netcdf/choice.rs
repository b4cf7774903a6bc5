//! Which group of a file is read, and over which interval its amounts are.

use ::netcdf::File;

use super::plan::{self, Plane};
use super::schema::Schema;
use super::times::Times;
use crate::error::FileError;
use crate::gridded::Notes;
use crate::gridded::interval::in_words;
use crate::options::ReadOptions;

/// The first group that has what is wanted, the root before others.
pub(super) fn choose_group(
    file: &File,
    options: &ReadOptions,
    notes: &mut Notes,
) -> Result<(Schema, Vec<Plane>), FileError> {
    let groups = Schema::of_groups(file)?;
    let grouped = groups.len() > 1;
    let mut refused = None;
    for schema in groups {
        let mut said = Notes::default();
        match plan::plan(&schema, options, &mut said) {
            Ok(planes) => {
                if !schema.group.is_empty() {
                    notes.add("group", format!("the variables are read from the group {}", schema.group));
                }
                notes.extend(said);
                return Ok((schema, planes));
            }
            Err(error) => {
                if grouped && schema.own().next().is_some() {
                    let group = if schema.group.is_empty() { "/" } else { &schema.group };
                    notes.add("skipped", format!("the group {group}: {error}"));
                }
                // What is there and cannot be understood says more than what is not there.
                if !matches!((&refused, &error), (Some(_), FileError::NoVariable { .. })) {
                    refused = Some(error);
                }
            }
        }
    }
    Err(refused.expect("a file has a root group, which was chosen or refused"))
}

/// Says over which interval an amount is taken to be.
pub(super) fn note_interval(plane: &Plane, times: &Times, options: &ReadOptions, notes: &mut Notes) {
    let mut stated: Vec<f64> = times.intervals.iter().filter_map(|interval| interval.stated()).collect();
    let all = stated.len() == times.intervals.len();
    stated.sort_by(f64::total_cmp);
    stated.dedup();
    let words: Vec<String> = stated.iter().take(5).map(|seconds| in_words(*seconds)).collect();
    let by_bounds = times.bounds.as_ref().filter(|_| !stated.is_empty());
    let mut text = by_bounds.map_or_else(String::new, |name| format!("{} by the time bounds {name}", words.join(", ")));
    if !all {
        let between = if text.is_empty() { "" } else { "; where there are none, " };
        text += between;
        match options.amount_interval_seconds {
            Some(seconds) => text += &format!("{} by the cadence: the file does not say", in_words(seconds)),
            None => text += "since the slot before: the file does not say",
        }
    }
    notes.add("interval", format!("{} is an amount over {text}", plane.source.path));
}
