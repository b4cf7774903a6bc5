use std::sync::Arc;

use squall_fields::{Frame, ValidTime};

use super::*;
use crate::baselines::testing::{context, frame, request};
use crate::training::validate::Case;

const UV: [Variable; 2] = [Variable::EastwardWind, Variable::NorthwardWind];

fn smooth_field(key: u64) -> Array2<f32> {
    noise(Philox::new(key, 3), (24, 24), 4)
}

fn at(mut frame: Frame, step: i64) -> Frame {
    frame.slot = ValidTime::from_unix_seconds(300 * step);
    frame
}

fn of(field: &Array2<f32>) -> Frame {
    frame(&UV, (24, 24), |v, y, x| if v == 0 { 10.0 * field[[y, x]] } else { -5.0 * field[[y, x]] })
}

fn single(damping: f32, change_hours: f32, deviation: f32) -> DampedPersistence {
    DampedPersistence::new(DampedParams {
        leads_seconds: vec![300],
        newest: vec![damping],
        smooth: vec![0.0],
        broad: vec![0.0],
        change_hours: vec![change_hours],
        deviation: vec![deviation],
        noise_passes: 2,
        noise_persistence: 0.5,
    })
}

#[test]
fn without_noise_the_mean_is_the_sum_of_its_parts() {
    let (old, new) = (smooth_field(1), smooth_field(2));
    let frames = vec![Some(at(of(&old), 0)), Some(at(of(&new), 1))];
    let answer = single(0.5, 1.0 / 12.0, 0.0).forecast(&[request(frames, 1, 2)]).remove(0).unwrap();
    let v = &answer.ensembles[1];
    assert_eq!(v.variable, Variable::NorthwardWind);
    let expected = -5.0 * (0.5 * new[[3, 4]] + new[[3, 4]] - old[[3, 4]]);
    assert!((v.values[[1, 0, 3, 4]] - expected).abs() < 1e-4, "{} {expected}", v.values[[1, 0, 3, 4]]);
}

#[test]
fn a_member_does_not_depend_on_the_size_and_members_differ_as_much_as_they_should() {
    let flat = Array2::zeros((24, 24));
    let frames = || vec![Some(at(of(&flat), 0)), Some(at(of(&flat), 1))];
    let mut model = single(1.0, 0.0, 2.0);
    let few = model.forecast(&[request(frames(), 3, 2)]).remove(0).unwrap().ensembles.remove(0).values;
    let many = model.forecast(&[request(frames(), 3, 200)]).remove(0).unwrap().ensembles.remove(0).values;
    assert_eq!(few.index_axis(Axis(0), 1), many.index_axis(Axis(0), 1));
    let of_lead = |lead: usize| many.index_axis(Axis(1), lead).iter().map(|v| v * v).sum::<f32>() / (200 * 576) as f32;
    assert!((0..3).all(|lead| (of_lead(lead).sqrt() - 2.0).abs() < 0.1));
    let both: f32 = many.index_axis(Axis(1), 0).iter().zip(many.index_axis(Axis(1), 1)).map(|(a, b)| a * b).sum();
    let kept = both / (200 * 576) as f32 / 4.0;
    assert!((kept - 0.5f32.powf(1.0 / 12.0)).abs() < 0.05, "five minutes later: {kept}");
}

#[test]
fn a_gap_makes_the_lead_longer_and_an_empty_window_is_an_error() {
    let new = smooth_field(2);
    let model = DampedPersistence::new(DampedParams {
        leads_seconds: vec![300, 600],
        newest: vec![0.9, 0.5],
        smooth: vec![0.0; 2],
        broad: vec![0.0; 2],
        change_hours: vec![0.0; 2],
        deviation: vec![0.0; 2],
        noise_passes: 0,
        noise_persistence: 0.0,
    });
    let answers = model.clone().forecast(&[request(vec![Some(of(&new)), None], 1, 1), request(vec![None, None], 1, 1)]);
    let late = answers[0].as_ref().unwrap().ensembles[0].values[[0, 0, 5, 5]];
    assert!((late - 0.5 * 10.0 * new[[5, 5]]).abs() < 1e-4);
    assert!(matches!(answers[1], Err(ModelError::Window { .. })));
    assert!(model.check(&context(&UV)).is_ok());
    assert!(model.check(&context(&[Variable::RainRate])).is_err());
}

/// Fields each of which keeps so much of the one before and is otherwise new.
fn series(kept: f32, frames: usize) -> Vec<Arc<Frame>> {
    let mut field = smooth_field(100);
    let mut next = |step: usize| {
        field = &field * kept + smooth_field(200 + step as u64) * (1.0 - kept * kept).sqrt();
        Arc::new(at(of(&field), step as i64))
    };
    (0..frames).map(&mut next).collect()
}

fn cases(frames: &[Arc<Frame>]) -> Vec<Case> {
    let windows = frames.windows(4);
    let of = |four: &[Arc<Frame>]| {
        let window = request(Vec::new(), 1, 1).window;
        let window = Window { frames: four[..2].iter().cloned().map(Some).collect(), ..(*window).clone() };
        Case { window: Arc::new(window), truth: four[2..].to_vec() }
    };
    windows.map(of).collect()
}

#[test]
fn the_fit_finds_how_fast_a_field_fades_and_how_far_it_is_off() {
    let cases = cases(&series(0.8, 60));
    let found = fit(&cases, Fit::Damping).unwrap();
    assert_eq!(found.leads_seconds, [300, 600]);
    assert!((found.newest[0] - 0.8).abs() < 0.05 && (found.newest[1] - 0.64).abs() < 0.08, "{found:?}");
    assert_eq!((found.smooth[0], found.broad[0], found.change_hours[0]), (0.0, 0.0, 0.0));
    // Both components together: the root of (10^2 + 5^2) / 2 times what is new.
    let expected = 62.5f32.sqrt() * 0.6;
    assert!((found.deviation[0] - expected).abs() < 0.1 * expected, "{found:?}");
    assert!((2..=6).contains(&found.noise_passes), "{found:?}");
    let all = fit(&cases, Fit::All).unwrap();
    assert!(all.deviation[0] <= found.deviation[0] + 1e-4, "more parts fit no worse: {all:?}");
    assert!(all.faults().is_empty() && DampedParams::default().faults().is_empty());
}

#[test]
fn lists_of_different_lengths_are_refused() {
    let params = DampedParams { smooth: vec![0.0], noise_persistence: 1.5, ..DampedParams::default() };
    let names: Vec<&str> = params.faults().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["smooth", "noise_persistence"]);
}
