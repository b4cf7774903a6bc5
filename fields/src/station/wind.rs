//! The components of a wind from its speed and direction, and its speed from its components.

use super::{Quantity, Reading};

/// What follows of the wind from other readings of the same station and time, and is not among them: the components from
/// speed and direction, the speed from the components. Flags are the worse of the two that it is made of.
///
/// A wind of 0 m/s has the components 0 whatever its direction (and the flags of its speed alone), and a direction outside of 0 to 360 degrees or a negative
/// speed has none: what is made of them is missing.
///
/// ```
/// use squall_fields::{Quantity, Reading, station::derived_winds};
/// let reading = |quantity, value| Reading::new(quantity, None, value);
/// let west = [reading(Quantity::WindSpeed, 10.0), reading(Quantity::WindFromDirection, 270.0)];
/// let derived = derived_winds(&west);
/// assert_eq!(derived[0].quantity, Quantity::EastwardWind);
/// assert!((derived[0].value - 10.0).abs() < 1e-5 && derived[1].value.abs() < 1e-5);
/// ```
pub fn derived_winds(readings: &[Reading]) -> Vec<Reading> {
    use Quantity::{EastwardWind, NorthwardWind, WindFromDirection, WindSpeed};
    let find = |quantity: Quantity, period: Option<u32>| {
        readings.iter().find(|r| (r.quantity, r.period_seconds) == (quantity, period))
    };
    let mut derived = Vec::new();
    let mut derive = |quantity, period, flags, value: f64| {
        if find(quantity, period).is_none() {
            let reading = Reading::new(quantity, period, value as f32);
            derived.push(Reading { flags: reading.flags.worse(flags), ..reading });
        }
    };
    for first in readings {
        match first.quantity {
            WindSpeed => {
                let Some(direction) = find(WindFromDirection, first.period_seconds) else { continue };
                let (east, north) = components(f64::from(first.value), f64::from(direction.value));
                let flags = if first.value == 0.0 { first.flags } else { first.flags.worse(direction.flags) };
                derive(EastwardWind, first.period_seconds, flags, east);
                derive(NorthwardWind, first.period_seconds, flags, north);
            }
            EastwardWind => {
                let Some(north) = find(NorthwardWind, first.period_seconds) else { continue };
                let speed = f64::from(first.value).hypot(f64::from(north.value));
                derive(WindSpeed, first.period_seconds, first.flags.worse(north.flags), speed);
            }
            _ => {}
        }
    }
    derived
}

/// Eastward and northward wind of a speed that comes from a direction in degrees; NaN if it has none.
fn components(speed: f64, direction: f64) -> (f64, f64) {
    if speed == 0.0 {
        return (0.0, 0.0);
    }
    if !(speed > 0.0 && (0.0..=360.0).contains(&direction)) {
        return (f64::NAN, f64::NAN);
    }
    let (east, north) = direction.to_radians().sin_cos();
    (-speed * east, -speed * north)
}

#[cfg(test)]
mod tests {
    use super::super::{Check, Verdict};
    use super::*;

    fn of(speed: f32, direction: f32) -> Vec<Reading> {
        let reading = |quantity, value| Reading::new(quantity, None, value);
        derived_winds(&[reading(Quantity::WindFromDirection, direction), reading(Quantity::WindSpeed, speed)])
    }

    #[test]
    fn the_wind_blows_away_from_where_it_comes() {
        for (direction, east, north) in
            [(0.0, 0.0, -10.0), (360.0, 0.0, -10.0), (90.0, -10.0, 0.0), (180.0, 0.0, 10.0), (225.0, 7.071, 7.071)]
        {
            let derived = of(10.0, direction);
            assert_eq!(derived.len(), 2);
            assert!((derived[0].value - east).abs() < 1e-3, "{direction}: {}", derived[0].value);
            assert!((derived[1].value - north).abs() < 1e-3, "{direction}: {}", derived[1].value);
        }
    }

    #[test]
    fn a_calm_has_no_direction_and_what_is_impossible_no_components() {
        assert!(of(0.0, f32::NAN).iter().all(|reading| reading.value == 0.0 && reading.flags.is_usable()));
        for (speed, direction) in [(5.0, 361.0), (5.0, -1.0), (-1.0, 90.0), (5.0, f32::NAN), (f32::NAN, 90.0)] {
            let derived = of(speed, direction);
            assert!(derived.iter().all(Reading::is_missing), "{speed} {direction}");
            assert!(derived.iter().all(|reading| reading.flags.overall() == Verdict::Missing));
        }
    }

    #[test]
    fn what_is_there_is_not_made_and_flags_are_the_worse() {
        let reading = |quantity, value| Reading::new(quantity, Some(600), value);
        let mut east = reading(Quantity::EastwardWind, 3.0);
        east.flags = east.flags.with(Check::Step, Verdict::Suspect);
        let speed = derived_winds(&[east, reading(Quantity::NorthwardWind, 4.0)]);
        assert_eq!((speed.len(), speed[0].quantity, speed[0].value), (1, Quantity::WindSpeed, 5.0));
        assert_eq!((speed[0].period_seconds, speed[0].flags.overall()), (Some(600), Verdict::Suspect));
        let whole = [east, reading(Quantity::NorthwardWind, 4.0), speed[0]];
        assert_eq!(derived_winds(&whole), []);
        // A speed over ten minutes and a direction at an instant are no wind.
        let other = Reading::new(Quantity::WindFromDirection, None, 90.0);
        assert_eq!(derived_winds(&[reading(Quantity::WindSpeed, 3.0), other]), []);
    }
}
