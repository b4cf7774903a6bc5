//! What a value is, and in what unit.

mod convert;
mod product;
mod text;

pub use convert::{Conversion, ConversionContext, DEFAULT_NO_ECHO_DBZ, UnitError};
pub use text::ScaledUnit;

use serde::{Deserialize, Serialize};

/// A physical quantity that a frame or an ensemble holds, always in the unit of [`Variable::unit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variable {
    /// Rain rate in mm/h of liquid water (CF `lwe_precipitation_rate`).
    RainRate,
    /// Radar reflectivity in dBZ (CF `equivalent_reflectivity_factor`).
    Reflectivity,
    /// Precipitation of one cadence step in kg m-2, which is mm (CF `precipitation_amount`).
    PrecipitationAmount,
    /// Eastward wind in m/s.
    EastwardWind,
    /// Northward wind in m/s.
    NorthwardWind,
    /// Wind along the grid's x axis in m/s.
    XWind,
    /// Wind along the grid's y axis in m/s.
    YWind,
    /// Wind speed in m/s.
    WindSpeed,
}

/// A unit that Squall reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// Millimetres per hour.
    #[serde(rename = "mm h-1")]
    MillimetresPerHour,
    /// Kilograms per square metre and second, the SI unit of a precipitation flux.
    #[serde(rename = "kg m-2 s-1")]
    KilogramsPerSquareMetreSecond,
    /// Kilograms per square metre (of one interval): millimetres of water.
    #[serde(rename = "kg m-2")]
    KilogramsPerSquareMetre,
    /// Metres per second: a wind, or a depth of water.
    #[serde(rename = "m s-1")]
    MetresPerSecond,
    /// Knots (1852 m per hour).
    #[serde(rename = "knot")]
    Knots,
    /// Decibels relative to 1 mm6 m-3.
    #[serde(rename = "dBZ")]
    DecibelZ,
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

    /// Name as in a configuration: `rain_rate`, `eastward_wind`, ...
    pub const fn name(self) -> &'static str {
        match self {
            Self::RainRate => "rain_rate",
            Self::Reflectivity => "reflectivity",
            Self::PrecipitationAmount => "precipitation_amount",
            Self::EastwardWind => "eastward_wind",
            Self::NorthwardWind => "northward_wind",
            Self::XWind => "x_wind",
            Self::YWind => "y_wind",
            Self::WindSpeed => "wind_speed",
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
