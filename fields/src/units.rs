//! What a value is, and in what unit.

mod convert;
mod product;
mod text;

pub use convert::{Conversion, ConversionContext, DEFAULT_NO_ECHO_DBZ, UnitError};
pub use text::ScaledUnit;

use serde::{Deserialize, Serialize};

/// An enum whose variants have names: declared, listed, written and read from this one list.
macro_rules! named {
    (
        $(#[$about:meta])*
        $type:ident by $name:ident: $name_about:literal
        { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$doc])* #[serde(rename = $text)] $variant),+
        }

        impl $type {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            #[doc = $name_about]
            pub const fn $name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }
    };
}
pub(crate) use named;

named! {
    /// A physical quantity that a frame or an ensemble holds, always in the unit of [`Variable::unit`].
    Variable by name: "Name as in a configuration or a message." {
        /// Rain rate in mm/h of liquid water (CF `lwe_precipitation_rate`).
        RainRate = "rain_rate",
        /// Radar reflectivity in dBZ (CF `equivalent_reflectivity_factor`).
        Reflectivity = "reflectivity",
        /// Precipitation of one cadence step in kg m-2, which is mm (CF `precipitation_amount`).
        PrecipitationAmount = "precipitation_amount",
        /// Eastward wind in m/s.
        EastwardWind = "eastward_wind",
        /// Northward wind in m/s.
        NorthwardWind = "northward_wind",
        /// Wind along the grid's x axis in m/s.
        XWind = "x_wind",
        /// Wind along the grid's y axis in m/s.
        YWind = "y_wind",
        /// Wind speed in m/s.
        WindSpeed = "wind_speed",
    }
}

named! {
    /// A unit that Squall reads or writes.
    Unit by symbol: "How the unit is written into files and messages, after CF." {
        /// Millimetres per hour.
        MillimetresPerHour = "mm h-1",
        /// Kilograms per square metre and second, the SI unit of a precipitation flux.
        KilogramsPerSquareMetreSecond = "kg m-2 s-1",
        /// Kilograms per square metre (of one interval): millimetres of water.
        KilogramsPerSquareMetre = "kg m-2",
        /// Metres per second: a wind, or a depth of water.
        MetresPerSecond = "m s-1",
        /// Knots (1852 m per hour).
        Knots = "knot",
        /// Decibels relative to 1 mm6 m-3.
        DecibelZ = "dBZ",
    }
}

impl Unit {
    /// How a person writes the unit, as in the title of a map.
    pub const fn label(self) -> &'static str {
        match self {
            Self::MillimetresPerHour => "mm/h",
            // Of water that is a depth.
            Self::KilogramsPerSquareMetre => "mm",
            Self::MetresPerSecond => "m/s",
            other => other.symbol(),
        }
    }
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.symbol())
    }
}

impl Variable {
    /// The unit of this variable everywhere inside Squall.
    pub const fn unit(self) -> Unit {
        match self {
            Self::RainRate => Unit::MillimetresPerHour,
            Self::Reflectivity => Unit::DecibelZ,
            Self::PrecipitationAmount => Unit::KilogramsPerSquareMetre,
            _ => Unit::MetresPerSecond,
        }
    }

    /// The CF standard name.
    pub const fn standard_name(self) -> &'static str {
        match self {
            Self::RainRate => "lwe_precipitation_rate",
            Self::Reflectivity => "equivalent_reflectivity_factor",
            other => other.name(),
        }
    }
}

/// The power law Z = a R^b between reflectivity (mm6 m-3) and rain rate (mm/h).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZRelation {
    /// Factor; 200 for Marshall and Palmer (1948), 223 at FMI.
    pub a: f32,
    /// Exponent; 1.6 for Marshall and Palmer (1948), 1.53 at FMI.
    pub b: f32,
}

impl Default for ZRelation {
    /// Marshall and Palmer (1948): Z = 200 R^1.6.
    fn default() -> Self {
        Self { a: 200.0, b: 1.6 }
    }
}

impl ZRelation {
    /// Rain rate in mm/h of a reflectivity in dBZ. NaN stays NaN.
    ///
    /// ```
    /// use squall_fields::ZRelation;
    /// let z = ZRelation::default();
    /// assert!((z.rain_rate_mm_h(z.dbz(10.0)) - 10.0).abs() < 1e-4);
    /// ```
    pub fn rain_rate_mm_h(self, dbz: f32) -> f32 {
        (10f32.powf(dbz / 10.0) / self.a).powf(1.0 / self.b)
    }

    /// Reflectivity in dBZ of a rain rate in mm/h; minus infinity for no rain.
    pub fn dbz(self, rain_rate_mm_h: f32) -> f32 {
        10.0 * (self.a * rain_rate_mm_h.powf(self.b)).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_name_and_is_read_again() {
        let names = Variable::ALL.iter().map(|variable| variable.name());
        let symbols = Unit::ALL.iter().map(|unit| unit.symbol());
        let quoted = |text: &str| format!("\"{text}\"");
        let written: Vec<String> = names.chain(symbols).map(quoted).collect();
        let variables = Variable::ALL.iter().map(|variable| serde_json::to_string(variable).unwrap());
        let units = Unit::ALL.iter().map(|unit| serde_json::to_string(unit).unwrap());
        assert_eq!(written, variables.chain(units).collect::<Vec<_>>());
        for (text, variable) in written.iter().zip(Variable::ALL) {
            assert_eq!(serde_json::from_str::<Variable>(text).unwrap(), *variable);
        }
    }
}
