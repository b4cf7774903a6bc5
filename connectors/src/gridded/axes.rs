//! In which unit axes are: metres, degrees, or the angles of a geostationary view.

use squall_fields::crs::PlaneUnit;
use squall_fields::crs::params::Params;

/// What the unit of a coordinate says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AxisUnit {
    /// So many metres.
    Metres(f64),
    /// So many radians.
    Radians(f64),
    /// Nothing, or no number of anything (`1`).
    NotStated,
    /// Something that is no length and no angle.
    Other,
}

const DEGREE: f64 = std::f64::consts::PI / 180.0;

impl AxisUnit {
    /// Reads the attribute `units`, in any case, with a number before it or a prefix of the SI.
    ///
    /// ```
    /// use squall_connectors::gridded::axes::AxisUnit;
    /// assert_eq!(AxisUnit::parse(Some("km")), AxisUnit::Metres(1000.0));
    /// assert_eq!(AxisUnit::parse(Some("1000 m")), AxisUnit::Metres(1000.0));
    /// assert_eq!(AxisUnit::parse(Some("microradian")), AxisUnit::Radians(1e-6));
    /// assert_eq!(AxisUnit::parse(Some("pixel")), AxisUnit::Other);
    /// ```
    pub fn parse(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default().trim().to_lowercase();
        let split = match text.split_once(char::is_whitespace) {
            Some((number, name)) if number.parse::<f64>().is_ok() => (number, name.trim()),
            _ => text.find(char::is_alphabetic).map_or((text.as_str(), ""), |at| text.split_at(at)),
        };
        let (number, name) = (split.0.trim().trim_end_matches('*').trim(), split.1);
        let Some(factor) = (if number.is_empty() { Some(1.0) } else { number.parse().ok() }) else {
            return Self::Other;
        };
        match name {
            "" => Self::NotStated,
            "ft" | "foot" | "feet" => Self::Metres(0.3048 * factor),
            "us-ft" | "us_survey_foot" | "us_survey_feet" => Self::Metres(1200.0 / 3937.0 * factor),
            name if name.starts_with("degree") || name == "deg" => Self::Radians(DEGREE * factor),
            _ => {
                let metres =
                    prefixed(name, &["m", "metre", "metres", "meter", "meters"]).map(|m| Self::Metres(m * factor));
                let radians = || prefixed(name, &["rad", "radian", "radians"]).map(|rad| Self::Radians(rad * factor));
                metres.or_else(radians).unwrap_or(Self::Other)
            }
        }
    }

    const fn is_degrees(self) -> bool {
        matches!(self, Self::Radians(radians) if radians == DEGREE)
    }
}

/// The factor of a unit with a prefix of the SI: symbols before symbols, names before names.
fn prefixed(name: &str, bases: &[&str]) -> Option<f64> {
    const PREFIXES: [(&str, &str, f64); 6] = [
        ("", "", 1.0),
        ("k", "kilo", 1e3),
        ("h", "hecto", 1e2),
        ("c", "centi", 1e-2),
        ("m", "milli", 1e-3),
        ("u", "micro", 1e-6),
    ];
    let (symbol, names) = bases.split_first()?;
    let name = name.replace(['\u{b5}', '\u{3bc}'], "u");
    let fits = |short: &str, long: &str| {
        name.strip_prefix(short) == Some(symbol) || name.strip_prefix(long).is_some_and(|name| names.contains(&name))
    };
    PREFIXES.iter().find(|(short, long, _)| fits(short, long)).map(|(.., factor)| *factor)
}

/// How the coordinates of an axis become those of a plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// From a coordinate of the file to one of the plane, in metres or degrees.
    pub factor: f64,
    /// What was assumed, for a person.
    pub said: String,
}

/// How coordinates become those of a plane.
///
/// `proj` is the plane's PROJ string, `unit` what it counts where the file names no unit; `largest` is the largest
/// coordinate without its sign.
///
/// # Errors
/// Says what contradicts what.
pub fn scaling(
    stated: AxisUnit,
    units: &str,
    plane: Option<(&str, PlaneUnit)>,
    largest: f64,
) -> Result<Scaling, String> {
    let scaling = |factor: f64, said: String| Ok(Scaling { factor, said });
    let by_attribute = |what: &str| format!("{what}, by its attribute units = \"{units}\"");
    let Some((proj, unit)) = plane else {
        // Without a reference system a plane is what it says it is.
        return match stated {
            AxisUnit::Metres(metres) => scaling(metres, by_attribute("metres")),
            AxisUnit::Radians(_) if stated.is_degrees() => scaling(1.0, by_attribute("degrees")),
            AxisUnit::Radians(radians) => scaling(radians / DEGREE, by_attribute("degrees")),
            AxisUnit::NotStated | AxisUnit::Other => {
                scaling(1.0, "taken to be metres: no unit that is known".to_owned())
            }
        };
    };
    let height = satellite_height(proj);
    match (unit, stated) {
        (PlaneUnit::Degrees, AxisUnit::Radians(_)) if stated.is_degrees() => scaling(1.0, by_attribute("degrees")),
        (PlaneUnit::Degrees, AxisUnit::Radians(radians)) => scaling(radians / DEGREE, by_attribute("degrees")),
        (PlaneUnit::Degrees, AxisUnit::NotStated) => scaling(1.0, "degrees, by the reference system".to_owned()),
        (PlaneUnit::Metres(_), AxisUnit::Metres(metres)) => scaling(metres, by_attribute("metres")),
        (PlaneUnit::Metres(_), AxisUnit::Radians(radians)) if height.is_some() => {
            let height = height.unwrap_or(1.0);
            let said = by_attribute(&format!("angles, multiplied by the height of the satellite, {height} m"));
            scaling(radians * height, said)
        }
        // Half a radian is more than the Earth fills from there; metres are never so few.
        (PlaneUnit::Metres(_), AxisUnit::NotStated) if height.is_some() && largest < 0.5 => {
            let height = height.unwrap_or(1.0);
            scaling(
                height,
                format!("taken to be radians: no unit, and less than 0.5; multiplied by the height, {height} m"),
            )
        }
        (PlaneUnit::Metres(1.0), AxisUnit::NotStated) => scaling(1.0, "metres, by the reference system".to_owned()),
        (PlaneUnit::Metres(metres), AxisUnit::NotStated) => {
            scaling(metres, format!("{metres} m each, by the reference system"))
        }
        (PlaneUnit::Degrees, AxisUnit::Metres(_)) => {
            Err(format!("its unit `{units}` is a length, but the plane of `{proj}` is in degrees"))
        }
        (PlaneUnit::Metres(_), AxisUnit::Radians(_)) => {
            Err(format!("its unit `{units}` is an angle, but the plane of `{proj}` is in metres"))
        }
        (_, AxisUnit::Other) => Err(format!("expected a unit of length or angle, got `{units}`")),
    }
}

/// Height of the satellite in metres, for a geostationary view.
fn satellite_height(proj: &str) -> Option<f64> {
    let params = Params::parse(proj).ok()?;
    if params.projection() == "geos" { params.number("h") } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_units() {
        for (text, unit) in [
            ("m", AxisUnit::Metres(1.0)),
            ("Meters", AxisUnit::Metres(1.0)),
            ("KM", AxisUnit::Metres(1000.0)),
            ("kilometre", AxisUnit::Metres(1000.0)),
            ("1e3 m", AxisUnit::Metres(1000.0)),
            ("100 km", AxisUnit::Metres(100_000.0)),
            ("rad", AxisUnit::Radians(1.0)),
            ("mrad", AxisUnit::Radians(1e-3)),
            ("\u{b5}rad", AxisUnit::Radians(1e-6)),
            ("milliradians", AxisUnit::Radians(1e-3)),
            ("degrees_north", AxisUnit::Radians(DEGREE)),
            ("degree_E", AxisUnit::Radians(DEGREE)),
            ("1", AxisUnit::NotStated),
            ("", AxisUnit::NotStated),
            ("pixel", AxisUnit::Other),
            ("kmetre", AxisUnit::Other),
        ] {
            assert_eq!(AxisUnit::parse(Some(text)), unit, "{text}");
        }
        assert_eq!(AxisUnit::parse(None), AxisUnit::NotStated);
    }

    #[test]
    fn the_unit_of_the_file_wins_over_that_of_the_projection() {
        let stere = "+proj=stere +lat_0=90 +R=6371000 +units=m";
        let of = |units: &str, unit| scaling(AxisUnit::parse(Some(units)), units, Some((stere, unit)), 3e6);
        assert_eq!(of("km", PlaneUnit::Metres(1000.0)).unwrap().factor, 1000.0);
        assert_eq!(of("km", PlaneUnit::Metres(1.0)).unwrap().factor, 1000.0);
        assert_eq!(of("m", PlaneUnit::Metres(1000.0)).unwrap().factor, 1.0);
        assert_eq!(of("", PlaneUnit::Metres(1000.0)).unwrap().factor, 1000.0);
        assert!(of("degrees", PlaneUnit::Metres(1.0)).unwrap_err().contains("angle"));
        assert!(of("m", PlaneUnit::Degrees).unwrap_err().contains("length"));
        assert!(of("pixel", PlaneUnit::Metres(1.0)).unwrap_err().contains("pixel"));
    }

    #[test]
    fn angles_of_a_geostationary_view() {
        let geos = "+proj=geos +lon_0=-75 +h=35786023 +sweep=x +ellps=GRS80";
        let of = |units: &str, largest| {
            scaling(AxisUnit::parse(Some(units)), units, Some((geos, PlaneUnit::Metres(1.0))), largest).unwrap().factor
        };
        assert_eq!(of("rad", 0.1), 35_786_023.0);
        assert!((of("microradian", 1e5) - 35.786_023).abs() < 1e-9);
        assert!((of("degrees", 5.0) - 35_786_023.0 * DEGREE).abs() < 1e-6);
        assert_eq!((of("m", 3e6), of("km", 3e3), of("1", 0.15), of("", 3e6)), (1.0, 1000.0, 35_786_023.0, 1.0));
    }
}
