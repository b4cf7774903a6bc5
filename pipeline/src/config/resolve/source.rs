//! A source: what comes in.

use std::sync::Arc;

use squall_fields::{Axis, Grid, Variable, ZRelation};
use squall_operators::source::OnLost;

use super::{own_name, topic};
use crate::config::check;
use crate::config::resolved::{QualityConfig, SourceConfig};
use crate::config::section::{Section, variables};

pub(super) fn source(section: &Section<'_>, name: &str) -> Option<SourceConfig> {
    let own = own_name(section, name);
    let topic = topic(section, "topic", name);
    let partitions = section.count("partitions", 1..=10_000);
    let variables = section.choices("variables", &variables());
    let cadence = section.cadence("cadence");
    let future_tolerance = section.duration("future_tolerance");
    let max_record_bytes = section.bytes("max_record_bytes");
    let lost = [("stop", OnLost::Stop), ("continue", OnLost::Continue)];
    let on_lost_position = section.choice("on_lost_position", &lost);
    let z_relation = z_relation(&section.section("z_relation"));
    let grid = grid(&section.section("grid"));
    let quality = quality(&section.section("quality"), variables.as_deref().unwrap_or_default());
    section.finish();
    let source = SourceConfig {
        name: own?,
        topic: topic?,
        partitions: i32::try_from(partitions?).ok()?,
        variables: variables?,
        cadence: cadence?,
        future_tolerance: future_tolerance?,
        max_record_bytes: max_record_bytes?,
        on_lost_position: on_lost_position?,
        z_relation: z_relation?,
        grid: grid?,
        quality: quality?,
    };
    check::source(section, &source);
    Some(source)
}

fn z_relation(section: &Section<'_>) -> Option<ZRelation> {
    let (a, b) = (section.number("a"), section.number("b"));
    section.finish();
    Some(ZRelation { a: a? as f32, b: b? as f32 })
}

fn grid(section: &Section<'_>) -> Option<Option<Arc<Grid>>> {
    if !section.is_given() {
        return Some(None);
    }
    let proj = section.text("proj");
    let wkt = section.optional_text("wkt");
    let (x, y) = (axis(&section.section("x")), axis(&section.section("y")));
    section.finish();
    let grid = Grid { proj: proj?, wkt, x: x?, y: y? };
    if grid.x.step <= 0.0 || grid.y.step >= 0.0 {
        section.fault("", "expected x.step > 0 (west to east) and y.step < 0 (north to south)");
    }
    Some(Some(Arc::new(grid)))
}

fn axis(section: &Section<'_>) -> Option<Axis> {
    if !section.is_given() {
        section.fault("", "expected { first = ..., step = ..., len = ... }");
        return None;
    }
    let (first, step, len) = (section.number("first"), section.number("step"), section.count("len", 1..=100_000));
    section.finish();
    Some(Axis { first: first?, step: step?, len: len? as usize })
}

fn quality(section: &Section<'_>, variables: &[Variable]) -> Option<QualityConfig> {
    let range = match section.numbers("range").as_deref() {
        Some([lowest, highest]) => Some([*lowest, *highest]),
        Some(other) => {
            section.fault("range", format!("expected [lowest, highest], got {} numbers", other.len()));
            None
        }
        None => Some(plausible(variables)),
    };
    let max_missing = section.number("max_missing");
    let spikes = section.optional_number("spikes").map(|spikes| spikes as f32);
    let stale = section.optional_count("stale", 1..=1000).map(|stale| stale as u32);
    section.finish();
    Some(QualityConfig { range: range?, max_missing: max_missing? as f32, spikes, stale })
}

/// The range that holds every plausible value of a source's variables.
fn plausible(variables: &[Variable]) -> [f32; 2] {
    let range = |variable: &Variable| match variable {
        Variable::RainRate | Variable::PrecipitationAmount => [0.0, 500.0],
        Variable::Reflectivity => [-32.0, 95.0],
        Variable::WindSpeed => [0.0, 120.0],
        _ => [-120.0, 120.0],
    };
    let widest = |[a, b]: [f32; 2], [c, d]: [f32; 2]| [a.min(c), b.max(d)];
    variables.iter().map(range).reduce(widest).unwrap_or([f32::MIN, f32::MAX])
}
