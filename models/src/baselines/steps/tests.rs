use ndarray::{Axis, s};
use squall_fields::{Frame, Variable};

use super::*;
use crate::baselines::testing::{bump, context, frame, request};

fn run(frames: Vec<Option<Frame>>, leads: usize, members: usize) -> Ensemble {
    Steps::default().forecast(&[request(frames, leads, members)]).remove(0).unwrap().ensembles.remove(0)
}

/// Showers of many sizes, `time` steps on their way.
fn showers(time: f32) -> Frame {
    frame(&[Variable::RainRate], (80, 100), |_, y, x| {
        let (x, y) = (x as f32 - 1.5 * time, y as f32 - 0.5 * time);
        let wave =
            (x / 9.0).sin() * (y / 7.0).cos() + 0.5 * (x / 3.1 + y / 2.3).sin() + 0.2 * (x * 1.3 - y + time).cos();
        (6.0 * wave - 2.0).max(0.0)
    })
}

fn window() -> Vec<Option<Frame>> {
    (0..4).map(|time| Some(showers(time as f32))).collect()
}

fn bits(ensemble: &Ensemble, member: usize) -> Vec<u32> {
    ensemble.values.index_axis(Axis(0), member).iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_member_depends_on_its_number_alone() {
    let (four, nine) = (run(window(), 6, 4), run(window(), 6, 9));
    (0..4).for_each(|member| assert_eq!(bits(&four, member), bits(&nine, member)));
    (1..9).for_each(|member| assert_ne!(bits(&nine, 0), bits(&nine, member)));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone = pool.install(|| run(window(), 6, 4));
    (0..4).for_each(|member| assert_eq!(bits(&alone, member), bits(&four, member)));
}

#[test]
fn a_lead_is_the_same_whatever_leads_are_asked_for() {
    let (few, many) = (run(window(), 2, 1), run(window(), 7, 1));
    let two = s![0, ..2, .., ..];
    assert!(few.values.slice(two).iter().zip(many.values.slice(two)).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn leads_between_two_steps_lie_between_them() {
    let mut asked = request(window(), 2, 1);
    let whole = Steps::default().forecast(&[asked.clone()]).remove(0).unwrap();
    asked.leads = [150, 300, 450, 600].map(squall_fields::LeadTime::from_seconds).to_vec();
    let halves = Steps::default().forecast(&[asked]).remove(0).unwrap();
    let wet = |prediction: &Prediction, lead| {
        prediction.ensembles[0].values.slice(s![0, lead, .., ..]).iter().filter(|v| **v > 0.1).count()
    };
    assert_eq!(halves.ensembles[0].values.dim().1, 4);
    assert!(wet(&halves, 2) * 10 > wet(&whole, 0) * 7);
}

#[test]
fn the_amount_of_rain_is_kept_and_members_spread_with_the_lead() {
    let forecast = run(window(), 8, 12);
    let observed = showers(3.0).values;
    let mean = |values: ndarray::ArrayView2<'_, f32>| {
        let valid: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
        valid.iter().sum::<f32>() / valid.len() as f32
    };
    let wanted = mean(observed.index_axis(Axis(0), 0));
    let spread = |lead: usize| {
        let members = forecast.values.slice(s![.., lead, .., ..]);
        let variance = members.std_axis(Axis(0), 0.0).mapv(|s| s * s);
        variance.iter().filter(|v| v.is_finite()).sum::<f32>()
    };
    for member in 0..12 {
        let got = mean(forecast.values.slice(s![member, 0, .., ..]));
        assert!((got - wanted).abs() < 0.3 * wanted, "{got} for {wanted}");
    }
    assert!(spread(6) > 1.3 * spread(0), "{} {}", spread(6), spread(0));
}

#[test]
fn dry_fields_stay_dry_and_missing_ones_missing() {
    let dry = || Some(frame(&[Variable::RainRate], (40, 50), |_, _, _| 0.0));
    let forecast = run(vec![dry(), dry(), dry()], 3, 2);
    assert!(forecast.values.iter().all(|v| *v == 0.0 || v.is_nan()));
    assert!(forecast.values.slice(s![.., .., 10..30, 10..40]).iter().all(|v| *v == 0.0));
    let missing = || Some(frame(&[Variable::RainRate], (40, 50), |_, _, _| f32::NAN));
    let forecast = run(vec![missing(), missing(), missing()], 3, 2);
    assert!(forecast.values.iter().all(|v| v.is_nan()));
}

#[test]
fn little_rain_and_large_gaps_are_forecast() {
    let speck = |t: usize| {
        Some(frame(&[Variable::RainRate], (40, 50), move |_, y, x| f32::from(u8::from((y, x) == (20, 20 + t)))))
    };
    let first = |t: usize| if t < 2 { Some(frame(&[Variable::RainRate], (40, 50), |_, _, _| 0.0)) } else { speck(t) };
    for frames in [(0..3).map(speck).collect(), (0..3).map(first).collect()] {
        let forecast = run(frames, 4, 3);
        // No more than was observed. No member's motion is so far off that something from outside comes to the middle.
        assert!(forecast.values.iter().all(|v| v.is_nan() || (0.0..1.001).contains(v)));
        assert!(forecast.values.slice(s![.., .., 12..28, 14..36]).iter().all(|v| v.is_finite()));
        assert!(forecast.values.iter().filter(|v| **v > 0.0).count() > 0);
    }
    let holes = |t: usize| {
        let mut frame = showers(t as f32);
        frame
            .values
            .indexed_iter_mut()
            .filter(|((_, y, x), _)| (x / 10 + y / 10) % 4 != 0)
            .for_each(|(_, v)| *v = f32::NAN);
        Some(frame)
    };
    let forecast = run((0..3).map(holes).collect(), 3, 2);
    let valid = forecast.values.iter().filter(|v| v.is_finite()).count();
    assert!(valid > 0 && valid < forecast.values.len() / 2);
    assert!(forecast.values.iter().all(|v| v.is_nan() || (0.0..1000.0).contains(v)));
}

#[test]
fn rain_that_neither_moves_nor_changes_stays() {
    let forecast = run(vec![Some(bump(50.0, 40.0)), Some(bump(50.0, 40.0)), Some(bump(50.0, 40.0))], 3, 2);
    let peak = forecast.values.slice(s![0, 2, 30..50, 40..60]).fold(0f32, |a, b| a.max(*b));
    assert!((peak - 20.0).abs() < 2.0, "{peak}");
    assert!(forecast.values.iter().all(|v| v.is_nan() || (0.0..25.0).contains(v)));
}

#[test]
fn constant_rain_is_forecast() {
    let wet = || Some(frame(&[Variable::RainRate], (40, 50), |_, _, _| 2.0));
    let forecast = run(vec![wet(), wet(), wet()], 2, 2);
    assert!(forecast.values.iter().all(|v| v.is_nan() || (v - 2.0).abs() < 1e-4));
}

#[test]
fn too_few_frames_and_too_small_grids_are_errors() {
    let fault = |frames| Steps::default().forecast(&[request(frames, 1, 1)]).remove(0).unwrap_err().to_string();
    let gap = fault(vec![Some(showers(0.0)), None, Some(showers(2.0)), Some(showers(3.0))]);
    assert!(gap.contains("expected 3 frames of rain_rate") && gap.contains("2 of them"), "{gap}");
    assert!(fault(vec![Some(showers(0.0))]).contains("1 of them"));
    let small = || Some(frame(&[Variable::RainRate], (15, 100), |_, _, _| 1.0));
    assert!(fault(vec![small(), small(), small()]).contains("at least 16 x 16 cells, got 15 x 100"));
    assert!(Steps::default().check(&context(&[Variable::XWind, Variable::YWind])).is_err());
    assert!(Steps::default().check(&context(&[Variable::RainRate])).is_ok());
}

#[test]
fn reflectivity_and_amounts_keep_their_units() {
    let dbz = |t: usize| {
        let mut frame = showers(t as f32);
        frame.variables = [Variable::Reflectivity].into();
        frame.values.mapv_inplace(|rate| squall_fields::ZRelation::default().dbz(rate.max(0.01)));
        Some(frame)
    };
    let amount = |t: usize| {
        let mut frame = showers(t as f32);
        frame.variables = [Variable::PrecipitationAmount].into();
        frame.values.mapv_inplace(|rate| rate / 12.0);
        Some(frame)
    };
    let most = |ensemble: &Ensemble| ensemble.values.iter().filter(|v| v.is_finite()).fold(0f32, |a, b| a.max(*b));
    let (rate, dbz, amount) = (
        run(window()[..3].to_vec(), 1, 1),
        run((0..3).map(dbz).collect(), 1, 1),
        run((0..3).map(amount).collect(), 1, 1),
    );
    assert!((most(&amount) * 12.0 - most(&rate)).abs() < 0.2 * most(&rate), "{} {}", most(&amount), most(&rate));
    let of_dbz = squall_fields::ZRelation::default().rain_rate_mm_h(most(&dbz));
    assert!((of_dbz - most(&rate)).abs() < 0.2 * most(&rate), "{of_dbz} {}", most(&rate));
    assert!(dbz.values.iter().all(|v| v.is_nan() || v.is_finite()));
}
