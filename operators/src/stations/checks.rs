//! The checks: functions of a value and of those that it is compared with.

use squall_fields::{Quantity, Verdict};

use super::thresholds::{BuddyLimit, PersistenceLimit, StepLimit, Thresholds};

/// Whether a value is possible and usual.
pub(super) fn range(value: f32, allowed: &Thresholds) -> Verdict {
    let within = |(least, greatest): (f32, f32)| (least..=greatest).contains(&value);
    match (within(allowed.possible), allowed.usual.is_none_or(within)) {
        (false, _) => Verdict::Fail,
        (true, false) => Verdict::Suspect,
        (true, true) => Verdict::Good,
    }
}

/// Whether a value follows from those before it, the newest first, each with its age in seconds.
pub(super) fn step(
    quantity: Quantity,
    value: f32,
    mut before: impl Iterator<Item = (i64, f32)>,
    limit: &StepLimit,
) -> Verdict {
    let within = i64::from(limit.within_seconds);
    let far = |a, b| quantity.distance(a, b) > limit.most;
    let Some((age, last)) = before.next().filter(|(age, _)| *age <= within) else { return Verdict::NotEvaluated };
    if !far(value, last) {
        return Verdict::Good;
    }
    match before.next().filter(|(older, _)| older - age <= within) {
        // The one before stood out, and this is as it was before that.
        Some((_, older)) if far(last, older) && !far(value, older) => Verdict::Good,
        _ => Verdict::Suspect,
    }
}

/// Whether a value has changed of late; `before` as for [`step`].
pub(super) fn persistence(
    quantity: Quantity,
    value: f32,
    before: impl Iterator<Item = (i64, f32)>,
    limit: &PersistenceLimit,
) -> Verdict {
    if limit.except.is_some_and(|(least, greatest)| (least..=greatest).contains(&value)) {
        return Verdict::Good;
    }
    let same = before.take_while(|(_, earlier)| quantity.distance(value, *earlier) <= limit.tolerance);
    let (count, age) = same.fold((1, 0), |(count, _), (age, _)| (count + 1, age));
    let lasts = |seconds: u32| count >= limit.least_readings && age >= i64::from(seconds);
    match (limit.fail_after_seconds.is_some_and(lasts), lasts(limit.suspect_after_seconds)) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Suspect,
        (false, false) => Verdict::Good,
    }
}

/// Whether a value agrees with those of neighbours, each with its distance in metres. Their order does not matter.
pub(super) fn buddy(
    quantity: Quantity,
    value: f32,
    neighbours: impl Iterator<Item = (f64, f32)>,
    limit: &BuddyLimit,
) -> Verdict {
    let weight = |metres: f64| (-2.0 * (metres / limit.radius_m).powi(2)).exp();
    let mut weighted: Vec<(f32, f64)> = neighbours.map(|(metres, value)| (value, weight(metres))).collect();
    if weighted.len() < limit.least_neighbours.max(1) {
        return Verdict::NotEvaluated;
    }
    let middle = match quantity {
        Quantity::WindFromDirection => mean_direction(&mut weighted),
        _ => Some(weighted_median(&mut weighted)),
    };
    let Some(middle) = middle else { return Verdict::NotEvaluated };
    let mut apart: Vec<_> = weighted.iter().map(|(v, weight)| (quantity.distance(*v, middle), *weight)).collect();
    let allowed = limit.most + limit.spreads * weighted_median(&mut apart);
    if quantity.distance(value, middle) > allowed { Verdict::Suspect } else { Verdict::Good }
}

fn sort(weighted: &mut [(f32, f64)]) {
    weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
}

/// The least value at which half of the weight is reached; of at least one value.
fn weighted_median(weighted: &mut [(f32, f64)]) -> f32 {
    sort(weighted);
    let half = weighted.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let reached = weighted.iter().find(|(_, weight)| {
        sum += weight;
        sum >= half
    });
    reached.or(weighted.last()).map_or(f32::NAN, |(value, _)| *value)
}

/// The weighted mean of directions in degrees, 0 to 360; `None` where they do not agree.
fn mean_direction(weighted: &mut [(f32, f64)]) -> Option<f32> {
    // A sum depends on its order in the last digit.
    sort(weighted);
    let (mut east, mut north, mut all) = (0.0, 0.0, 0.0);
    for (direction, weight) in weighted.iter() {
        let (sin, cos) = f64::from(*direction).to_radians().sin_cos();
        (east, north, all) = (east + weight * sin, north + weight * cos, all + weight);
    }
    let agreement = f64::hypot(east, north) / all;
    (agreement >= 0.7).then(|| east.atan2(north).to_degrees().rem_euclid(360.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEED: Quantity = Quantity::WindSpeed;

    #[test]
    fn a_range_has_its_ends() {
        let allowed = Thresholds { usual: Some((0.0, 50.0)), ..Thresholds::of(SPEED) };
        for (value, verdict) in [
            (-0.1, Verdict::Fail),
            (0.0, Verdict::Good),
            (50.0, Verdict::Good),
            (50.1, Verdict::Suspect),
            (75.0, Verdict::Suspect),
            (75.1, Verdict::Fail),
        ] {
            assert_eq!(range(value, &allowed), verdict, "{value}");
        }
        assert_eq!(range(60.0, &Thresholds { usual: None, ..allowed }), Verdict::Good);
    }

    #[test]
    fn a_spike_is_suspect_and_the_way_back_is_not() {
        let limit = StepLimit { most: 10.0, within_seconds: 3600 };
        let of = |value, before: &[(i64, f32)]| step(SPEED, value, before.iter().copied(), &limit);
        assert_eq!(of(25.0, &[(3600, 5.0)]), Verdict::Suspect);
        assert_eq!(of(15.0, &[(3600, 5.0)]), Verdict::Good);
        assert_eq!(of(25.0, &[(3601, 5.0)]), Verdict::NotEvaluated);
        assert_eq!(of(25.0, &[]), Verdict::NotEvaluated);
        // 5, 25, 6: the second is a spike, the third goes on from the first.
        assert_eq!(of(6.0, &[(3600, 25.0), (7200, 5.0)]), Verdict::Good);
        // 25, 25, 6: it was so for a while, and then changed.
        assert_eq!(of(6.0, &[(3600, 25.0), (7200, 25.0)]), Verdict::Suspect);
        // 5, nothing for hours, 25, 6.
        assert_eq!(of(6.0, &[(3600, 25.0), (20_000, 5.0)]), Verdict::Suspect);
        // The way round north is short.
        let turn = step(Quantity::WindFromDirection, 355.0, [(60, 4.0)].into_iter(), &limit);
        assert_eq!(turn, Verdict::Good);
    }

    #[test]
    fn what_stays_the_same_is_suspect_unless_it_may() {
        let limit = PersistenceLimit {
            tolerance: 0.05,
            suspect_after_seconds: 4 * 3600,
            fail_after_seconds: Some(8 * 3600),
            least_readings: 3,
            except: Some((0.0, 0.5)),
        };
        let hours = |values: &[f32]| -> Vec<(i64, f32)> {
            values.iter().enumerate().map(|(hour, value)| (3600 * (hour as i64 + 1), *value)).collect()
        };
        let of = |value, before: Vec<(i64, f32)>| persistence(SPEED, value, before.into_iter(), &limit);
        assert_eq!(of(5.0, hours(&[5.0; 3])), Verdict::Good);
        assert_eq!(of(5.0, hours(&[5.0, 5.04, 4.96, 5.0])), Verdict::Suspect);
        assert_eq!(of(5.0, hours(&[5.0; 8])), Verdict::Fail);
        assert_eq!(of(5.0, hours(&[5.0, 5.0, 5.0, 5.1, 5.0, 5.0])), Verdict::Good);
        assert_eq!(of(0.0, hours(&[0.0; 48])), Verdict::Good);
        // Two readings ten hours apart are no evidence.
        assert_eq!(of(5.0, vec![(36_000, 5.0)]), Verdict::Good);
        assert_eq!(of(5.0, vec![]), Verdict::Good);
    }

    #[test]
    fn neighbours_that_agree_make_another_suspect() {
        let limit = BuddyLimit { radius_m: 1e5, elevation_m: None, least_neighbours: 3, most: 5.0, spreads: 2.0 };
        let of = |value, near: &[(f64, f32)]| buddy(SPEED, value, near.iter().copied(), &limit);
        let calm = [(1e4, 2.0), (2e4, 2.5), (5e4, 3.0)];
        assert_eq!(of(7.0, &calm), Verdict::Good);
        assert_eq!(of(9.0, &calm), Verdict::Suspect);
        assert_eq!(of(9.0, &calm[..2]), Verdict::NotEvaluated);
        // One bad neighbour does not make the others' reading suspect.
        assert_eq!(of(3.0, &[(1e4, 60.0), (1e4, 2.5), (1e4, 3.0)]), Verdict::Good);
        // Where the neighbours differ, so may this one: their median deviation is 8.
        assert_eq!(of(24.0, &[(1e4, 2.0), (1e4, 10.0), (1e4, 18.0)]), Verdict::Good);
        // The near ones count for more: the median is 20 and not 2.
        let near = [(1e3, 20.0), (1e3, 20.0), (9.9e4, 2.0), (9.9e4, 2.0), (9.9e4, 2.0)];
        assert_eq!(of(20.0, &near), Verdict::Good);
        assert_eq!(of(2.0, &near), Verdict::Suspect);
    }

    #[test]
    fn directions_are_compared_around_north_and_only_where_they_agree() {
        let limit = BuddyLimit { radius_m: 1e5, elevation_m: None, least_neighbours: 2, most: 60.0, spreads: 0.0 };
        let of = |value, near: &[f32]| {
            buddy(Quantity::WindFromDirection, value, near.iter().map(|direction| (0.0, *direction)), &limit)
        };
        assert_eq!(of(20.0, &[350.0, 10.0, 355.0]), Verdict::Good);
        assert_eq!(of(180.0, &[350.0, 10.0, 355.0]), Verdict::Suspect);
        assert_eq!(of(180.0, &[0.0, 90.0, 180.0, 270.0]), Verdict::NotEvaluated);
    }
}
