//! Scores as sums that merge: what a scoring job keeps of each hour, and how a day comes of it.
//!
//! ```text
//! cargo run --release -p squall-models --example scores
//! ```
//!
//! The forecast is a lagged ensemble: the last three frames of a storm are its members, half an hour ahead.

use ndarray::{Array2, Axis, stack};
use squall_models::scores::{Contingency, Crps, Event};
use squall_models::simulate::{Storm, StormSettings};

const MEMBERS: usize = 3;
/// Frames from the newest member to the observation.
const LEAD: usize = 6;

/// What is kept of a stretch of time: sums, not scores.
#[derive(Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
struct Sums {
    crps: Crps,
    wet: Contingency,
}

impl Sums {
    fn of(frames: &[Array2<f32>]) -> Result<Self, ndarray::ShapeError> {
        let mut sums = Self::default();
        for cut in frames.windows(MEMBERS + LEAD) {
            let views: Vec<_> = cut[..MEMBERS].iter().map(|frame| frame.view()).collect();
            let (members, observed) = (stack(Axis(0), &views)?, cut[MEMBERS + LEAD - 1].view());
            sums.crps.add(members.view(), observed);
            sums.wet.add(members.index_axis(Axis(0), MEMBERS - 1), observed, Event::AtLeast(1.0));
        }
        Ok(sums)
    }

    fn merge(self, other: Self) -> Self {
        Self { crps: self.crps.merge(&other.crps), wet: self.wet.merge(&other.wet) }
    }

    /// CRPS in mm/h and CSI; `None` of what no case was there for.
    fn scores(&self) -> (Option<f64>, Option<f64>) {
        (self.crps.biased(), self.wet.csi())
    }
}

/// Two hours of a storm with so much of the map under rain.
fn storm(wet_share: f64, seed: u64) -> Vec<Array2<f32>> {
    let settings = StormSettings { rows: 96, columns: 96, wet_share, seed, ..StormSettings::default() };
    Storm::new(settings).take(24).map(|frame| frame.rain_rate).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let show = |name: &str, (crps, csi): (Option<f64>, Option<f64>)| {
        let number = |score: Option<f64>| score.map_or("-".to_owned(), |score| format!("{score:.4}"));
        println!("{name:<26} CRPS {} mm/h, CSI at 1 mm/h {}", number(crps), number(csi));
    };
    let parts = [Sums::of(&storm(0.4, 1))?, Sums::of(&storm(0.03, 2))?];
    show("a wet morning", parts[0].scores());
    show("a nearly dry afternoon", parts[1].scores());

    // What is written down between the two is the sums.
    let kept = parts.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let read = kept.iter().map(|text| serde_json::from_str(text)).collect::<Result<Vec<Sums>, _>>()?;
    let day = read.into_iter().fold(Sums::default(), Sums::merge);
    show("the day, by merging", day.scores());

    // A mean of scores is another number: the few wet cells of the afternoon would count as much as all of the morning.
    let [(_, Some(morning)), (_, Some(afternoon))] = parts.map(|part| part.scores()) else {
        return Err("it rained in both parts, so both have a CSI".into());
    };
    println!("{:<26} CSI at 1 mm/h {:.4}", "the mean of the two", (morning + afternoon) / 2.0);
    Ok(())
}
