//! Scores on real fields, against published values of independent implementations.

mod support;

use ndarray::s;
use squall_models::scores::{Crps, Event, Fss, ProbabilityTable, VectorError};
use support::read;

/// Index of 16:30 in the event of 2015-05-15.
const START: usize = 9;

#[test]
fn crps_of_a_lagged_ensemble() {
    let Some(rates) = read("radar_mch_20150515.nc", "rainfall_rate") else { return };
    let depths = rates.mapv(|rate| rate / 12.0);
    let mut crps = Crps::default();
    // Ten frames are the members, the one after them is the observation.
    let observed = depths.index_axis(ndarray::Axis(0), START + 10);
    crps.add(depths.slice(s![START..START + 10, .., ..]), observed);
    assert_eq!(crps.weight(), 314_255.0);
    let (biased, fair) = (crps.biased().unwrap(), crps.fair().unwrap());
    assert!((biased - 0.01587150).abs() < 1e-4 && (fair - 0.01470641).abs() < 1e-4, "{biased} {fair}");
}

#[test]
fn area_under_the_roc_curve_of_a_lagged_ensemble() {
    let Some(rates) = read("radar_mch_20150515.nc", "rainfall_rate") else { return };
    let depths = rates.mapv(|rate| rate / 12.0);
    let mut table = ProbabilityTable::default();
    let observed = depths.index_axis(ndarray::Axis(0), START + 10);
    table.add(depths.slice(s![START..START + 10, .., ..]), observed, Event::AtLeast(1.0));
    let mut curve = table.roc().unwrap();
    assert_eq!((table.count(), curve.len()), (314_255, 12));
    // What is published has ten thresholds, k / 9: none of them tells one member from two.
    curve.remove(10);
    let area: f64 = curve.windows(2).map(|ends| (ends[1].0 - ends[0].0) * (ends[0].1 + ends[1].1) / 2.0).sum();
    assert!((area - 0.79557329).abs() < 1e-4, "{area}");
}

#[test]
fn fractions_skill_score_of_one_step() {
    let Some(rates) = read("radar_mch_20150515.nc", "rainfall_rate") else { return };
    let depths = rates.mapv(|rate| rate / 12.0);
    let frame = |index: usize| depths.index_axis(ndarray::Axis(0), index);
    for (scale, expected) in [(1, 0.477413), (3, 0.612789), (9, 0.831840), (10, 0.85161531), (33, 0.965598)] {
        let mut fss = Fss::default();
        fss.add(frame(START - 1), frame(START), Event::AtLeast(1.0), scale);
        let score = fss.score().unwrap();
        assert!((score - expected).abs() < 1e-4, "{scale}: {score} {expected}");
    }
}

#[test]
fn vector_error_of_persisted_wind() {
    for (file, published) in [
        ("wind_arpege_nw_20180501.nc", [1.11, 1.87, 2.48, 4.02]),
        ("wind_arpege_se_20180501.nc", [1.06, 1.82, 2.41, 3.69]),
    ] {
        let (Some(u), Some(v)) = (read(file, "u10"), read(file, "v10")) else { return };
        for (hours, published) in [1, 2, 3, 6].into_iter().zip(published) {
            let mut error = VectorError::default();
            for start in 0..u.dim().0 - hours {
                for (y, x) in ndarray::indices((u.dim().1, u.dim().2)) {
                    let at = |t: usize| [u[[t, y, x]], v[[t, y, x]]];
                    error.add_pair(at(start), at(start + hours));
                }
            }
            let rmse = error.rmse().unwrap();
            assert!((rmse - published).abs() < 0.01, "{file} {hours} h: {rmse} for {published}");
        }
    }
}
