//! How values become colours.

use squall_fields::Variable;

use super::canvas::Rgb;

/// Nothing is known here.
pub(super) const MISSING: Rgb = [214, 214, 214];
/// Below the lowest class: dry, calm, impossible.
const NOTHING: Rgb = [252, 252, 252];

/// Classes of values and their colours.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// What the legend says.
    pub title: String,
    /// Lower bound of each class, ascending.
    pub bounds: Vec<f32>,
    /// Colour of each class.
    pub colours: Vec<Rgb>,
}

impl Scale {
    /// The scale of a variable in its unit.
    pub fn of(variable: Variable) -> Self {
        let unit = variable.unit().label();
        match variable {
            Variable::RainRate | Variable::PrecipitationAmount => Self::rain(variable),
            Variable::Reflectivity => Self {
                title: format!("Reflectivity ({unit})"),
                bounds: vec![5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0],
                colours: RAIN.to_vec(),
            },
            _ => Self {
                title: format!("{} ({unit})", variable.name().replace('_', " ")),
                bounds: vec![-20.0, -15.0, -10.0, -5.0, -2.0, 2.0, 5.0, 10.0, 15.0, 20.0],
                colours: WIND.to_vec(),
            },
        }
    }

    fn rain(variable: Variable) -> Self {
        Self {
            title: format!("Rain ({})", variable.unit().label()),
            bounds: vec![0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
            colours: RAIN.to_vec(),
        }
    }

    /// The scale of a probability of exceeding a threshold.
    pub fn of_probability(title: String) -> Self {
        let bounds: Vec<f32> = (0..10).map(|tenth| if tenth == 0 { 0.02 } else { tenth as f32 / 10.0 }).collect();
        Self { title, bounds, colours: PROBABILITY.to_vec() }
    }

    /// The colour of a value; of a missing one, too.
    pub fn colour(&self, value: f32) -> Rgb {
        if value.is_nan() {
            return MISSING;
        }
        match self.bounds.iter().rposition(|bound| value >= *bound) {
            Some(class) => self.colours[class.min(self.colours.len() - 1)],
            None => NOTHING,
        }
    }
}

/// Blue for light, green and yellow for moderate, red and violet for heavy rain: what forecasters are used to.
const RAIN: [Rgb; 10] = [
    [198, 222, 241],
    [146, 194, 229],
    [88, 155, 209],
    [38, 108, 176],
    [38, 150, 92],
    [140, 196, 70],
    [250, 220, 70],
    [245, 150, 40],
    [220, 50, 40],
    [150, 30, 140],
];

/// From brown (against the axis) over white to violet (along it).
const WIND: [Rgb; 10] = [
    [140, 81, 10],
    [191, 129, 45],
    [223, 194, 125],
    [246, 232, 195],
    [252, 252, 252],
    [226, 216, 240],
    [195, 177, 225],
    [158, 130, 205],
    [118, 78, 180],
    [78, 32, 140],
];

/// From pale yellow to dark blue, even in lightness.
const PROBABILITY: [Rgb; 10] = [
    [255, 250, 214],
    [238, 247, 190],
    [214, 239, 180],
    [170, 221, 182],
    [122, 202, 188],
    [76, 180, 196],
    [43, 148, 192],
    [34, 110, 176],
    [37, 70, 150],
    [18, 36, 100],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_and_missing_differ() {
        let scale = Scale::of(Variable::RainRate);
        assert_ne!(scale.colour(0.0), scale.colour(f32::NAN));
        assert_eq!(scale.colour(0.1), RAIN[0]);
        assert_eq!(scale.colour(1e6), RAIN[9]);
    }

    #[test]
    fn every_class_has_a_colour() {
        for scale in [Scale::of(Variable::RainRate), Scale::of(Variable::XWind), Scale::of_probability(String::new())] {
            assert_eq!(scale.bounds.len(), scale.colours.len());
            assert!(scale.bounds.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
