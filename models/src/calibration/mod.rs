//! Any forecaster, dressed: its ensemble's mean and spread corrected by lead.
//!
//! An ensemble that is too narrow loses to one that is not, whatever either knows of the weather. So a learnt model must
//! beat rivals whose bias and spread were fitted as its own were. A member x around the mean m of its ensemble becomes
//!
//! > level · m + spread · (x − m)
//!
//! in ln(1 + x / floor) for rain, whose errors are factors, and as it is for wind. What is dry in a member stays dry there,
//! and nothing falls below 0: the correction makes rain stronger and weaker, and takes it away, but invents none.
//!
//! The mean is that of the members at hand, so that unlike those of any other forecaster a calibrated member does depend,
//! a little, on how many there are.

mod fit;

use std::sync::Arc;

use ndarray::{Axis, Zip};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use squall_fields::{Ensemble, LeadTime};

use crate::{Context, Coordinates, Forecaster, ModelError, Prediction, Request};

pub use fit::{Samples, fit};

/// Counts changes of the method; part of the digest.
const VERSION: u32 = 1;

/// What was fitted, and of which model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Digest of the model that it corrects, and of no other.
    pub digest: String,
    /// Members that it was fitted with.
    pub members: usize,
    /// The events that it was fitted to.
    pub fitted_to: Vec<String>,
    /// A correction for each variable; another variable is left as it is.
    pub variables: Vec<Correction>,
}

/// The correction of a variable, by lead. Between two leads it is interpolated, beyond them it stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correction {
    /// Name of the variable.
    pub name: String,
    /// The amount from which on factors count, in the unit of the variable; none corrects values as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f32>,
    /// Leads in seconds, ascending.
    pub leads_seconds: Vec<i64>,
    /// What the mean is multiplied by, for each lead.
    pub level: Vec<f32>,
    /// What the distance from the mean is multiplied by, for each lead.
    pub spread: Vec<f32>,
}

/// A correction at one lead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At {
    /// As [`Correction::floor`].
    pub floor: Option<f32>,
    /// Of the mean.
    pub level: f32,
    /// Of the distance from the mean.
    pub spread: f32,
}

impl Calibration {
    /// What makes no sense, in one sentence each.
    pub fn faults(&self) -> Vec<String> {
        self.variables.iter().filter_map(Correction::fault).collect()
    }
}

impl Correction {
    fn fault(&self) -> Option<String> {
        let Self { name, floor, leads_seconds, level, spread } = self;
        let count = leads_seconds.len();
        let is_sound = |values: &[f32]| values.len() == count && values.iter().all(|v| v.is_finite() && *v >= 0.0);
        if count == 0 || !leads_seconds.is_sorted() {
            return Some(format!("{name}: leads_seconds must be ascending, one at least"));
        }
        if !is_sound(level) || !is_sound(spread) {
            return Some(format!("{name}: level and spread must have {count} numbers each, none of them negative"));
        }
        floor.is_some_and(|floor| floor.is_nan() || floor <= 0.0).then(|| format!("{name}: floor must be positive"))
    }

    /// The correction at a lead.
    pub fn at(&self, lead: LeadTime) -> At {
        let at = |values: &[f32]| interpolated(&self.leads_seconds, values, lead.seconds());
        At { floor: self.floor, level: at(&self.level), spread: at(&self.spread) }
    }
}

/// Values between their places; the first or the last one beyond. There is one at least.
pub(crate) fn interpolated(places: &[i64], values: &[f32], place: i64) -> f32 {
    let next = places.partition_point(|p| *p < place);
    match (next.checked_sub(1), next < places.len()) {
        (None, _) => values[0],
        (Some(last), false) => values[last],
        (Some(before), true) => {
            let share = (place - places[before]) as f32 / (places[next] - places[before]) as f32;
            values[before] + share * (values[next] - values[before])
        }
    }
}

impl At {
    /// The scale on which the correction works, and back.
    fn scale(self) -> Scale {
        match self.floor {
            Some(floor) => Scale::Factors { floor },
            None => Scale::Differences,
        }
    }

    /// Corrects the members of one cell, in place. Missing ones stay missing and do not count in the mean.
    pub fn correct(self, members: &mut [f32]) {
        let scale = self.scale();
        if members.iter().all(|x| scale.is_nothing(*x) || x.is_nan()) {
            return;
        }
        let (mut sum, mut count) = (0f32, 0f32);
        for x in members.iter_mut().filter(|x| !x.is_nan()) {
            sum += scale.to(*x);
            count += 1.0;
        }
        if count > 0.0 {
            let mean = sum / count;
            let of = |x: f32| scale.from(self.level * mean + self.spread * (scale.to(x) - mean));
            members.iter_mut().filter(|x| !x.is_nan() && !scale.is_nothing(**x)).for_each(|x| *x = of(*x));
        }
    }
}

#[derive(Clone, Copy)]
enum Scale {
    Differences,
    Factors { floor: f32 },
}

impl Scale {
    /// Whether a value stays whatever the correction: no rain is no rain.
    fn is_nothing(self, x: f32) -> bool {
        matches!(self, Self::Factors { .. }) && x <= 0.0
    }

    fn to(self, x: f32) -> f32 {
        match self {
            Self::Differences => x,
            Self::Factors { floor } => (x.max(0.0) / floor).ln_1p(),
        }
    }

    fn from(self, x: f32) -> f32 {
        match self {
            Self::Differences => x,
            Self::Factors { floor } => floor * x.max(0.0).exp_m1(),
        }
    }
}

/// A forecaster whose ensembles are corrected.
pub struct Calibrated {
    inner: Box<dyn Forecaster>,
    calibration: Arc<Calibration>,
    name: String,
    digest: String,
}

impl Calibrated {
    /// A model with what was fitted for it.
    ///
    /// # Errors
    /// [`ModelError::File`] if it was fitted for another model, or for one with other settings or weights; `path` is
    /// where it stands.
    pub fn new(
        inner: Box<dyn Forecaster>,
        calibration: impl Into<Arc<Calibration>>,
        path: &str,
    ) -> Result<Self, ModelError> {
        let calibration = calibration.into();
        if calibration.digest != inner.digest() {
            let text = format!(
                "was fitted for a model with digest {}, {} has {}: fit it anew with squall model calibrate",
                calibration.digest,
                inner.name(),
                inner.digest()
            );
            return Err(ModelError::file(path, text));
        }
        let numbers = serde_json::to_string(&*calibration).expect("numbers and names have a JSON form");
        let digest = hex::encode(Sha256::digest(format!("calibrated\n{VERSION}\n{numbers}")));
        let name = format!("calibrated-{}", inner.name());
        Ok(Self { inner, calibration, name, digest })
    }

    fn correct(&self, ensemble: &mut Ensemble, leads: &[LeadTime]) {
        let corrections = &self.calibration.variables;
        let Some(correction) = corrections.iter().find(|c| c.name == ensemble.variable.name()) else { return };
        for (index, lead) in leads.iter().enumerate() {
            let at = correction.at(*lead);
            let mut members = ensemble.values.index_axis_mut(Axis(1), index);
            Zip::from(members.lanes_mut(Axis(0))).par_for_each(|mut lane| {
                let mut members = lane.to_vec();
                at.correct(&mut members);
                lane.iter_mut().zip(members).for_each(|(to, from)| *to = from);
            });
        }
    }
}

impl Forecaster for Calibrated {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        self.inner.coordinates()
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn steps(&self) -> Option<usize> {
        self.inner.steps()
    }

    fn repeats_members(&self) -> bool {
        self.inner.repeats_members()
    }

    fn check(&self, context: &Context) -> Result<(), ModelError> {
        self.inner.check(context)
    }

    fn prepare_for(&mut self, context: &Context) {
        self.inner.prepare_for(context);
    }

    fn warm_up(&mut self) {
        self.inner.warm_up();
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        let mut answers = self.inner.forecast(requests);
        for (answer, request) in answers.iter_mut().zip(requests) {
            if let Ok(prediction) = answer {
                prediction.ensembles.iter_mut().for_each(|ensemble| self.correct(ensemble, &request.leads));
            }
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::testing::{bump, request};
    use crate::baselines::{Extrapolation, Persistence};

    fn correction(level: &[f32], spread: &[f32]) -> Correction {
        let leads_seconds = (1..=level.len() as i64).map(|i| 300 * i).collect();
        Correction {
            name: "rain_rate".into(),
            floor: Some(0.1),
            leads_seconds,
            level: level.to_vec(),
            spread: spread.to_vec(),
        }
    }

    fn calibration(digest: &str, correction: Correction) -> Calibration {
        Calibration { digest: digest.into(), members: 4, fitted_to: vec!["shower".into()], variables: vec![correction] }
    }

    #[test]
    fn a_correction_of_nothing_changes_nothing_and_dry_members_stay_dry() {
        let at = |level, spread| At { floor: Some(0.1), level, spread };
        let mut same = [0.0, 2.0, f32::NAN, 30.0];
        at(1.0, 1.0).correct(&mut same);
        assert!(same[0] == 0.0 && (same[1] - 2.0).abs() < 1e-5 && same[2].is_nan() && (same[3] - 30.0).abs() < 1e-3);
        let mut more = [0.0, 2.0, 8.0];
        at(1.3, 1.0).correct(&mut more);
        assert!(more[0] == 0.0 && more[1] > 2.0 && more[2] > 8.0, "{more:?}");
        let mut wide = [0.0, 0.01, 8.0];
        at(1.0, 2.0).correct(&mut wide);
        assert!(wide[1] == 0.0 && wide[2] > 8.0, "far below the mean is dry: {wide:?}");
        let mut dry = [0.0; 3];
        at(2.0, 2.0).correct(&mut dry);
        assert_eq!(dry, [0.0; 3]);
    }

    #[test]
    fn wind_is_corrected_as_it_is() {
        let mut members = [-4.0, -2.0, f32::NAN];
        At { floor: None, level: 0.5, spread: 2.0 }.correct(&mut members);
        assert_eq!(members[..2], [-3.5, 0.5]);
    }

    #[test]
    fn between_two_leads_it_is_between_and_beyond_the_last_it_stays() {
        let correction = correction(&[1.0, 0.8], &[1.0, 2.0]);
        let at = |seconds| correction.at(LeadTime::from_seconds(seconds));
        assert_eq!((at(60).level, at(300).level, at(900).level), (1.0, 1.0, 0.8));
        assert!((at(450).level - 0.9).abs() < 1e-6 && (at(450).spread - 1.5).abs() < 1e-6);
    }

    #[test]
    fn each_lead_of_a_forecast_has_its_own_correction() {
        let frames: Vec<_> = (0..3).map(|t| Some(bump(30.0 + 2.0 * t as f32, 40.0))).collect();
        let requests = [request(frames, 2, 4)];
        let plain = Extrapolation::default().forecast(&requests).remove(0).unwrap();
        let inner = Extrapolation::default();
        let fitted = calibration(inner.digest(), correction(&[1.0, 0.5], &[1.0, 0.5]));
        let mut dressed = Calibrated::new(Box::new(inner), fitted, "x.toml").unwrap();
        assert_eq!(dressed.name(), "calibrated-extrapolation");
        let answer = dressed.forecast(&requests).remove(0).unwrap();
        let sum = |p: &Prediction, lead| {
            p.ensembles[0].values.index_axis(Axis(1), lead).iter().filter(|v| !v.is_nan()).sum::<f32>()
        };
        assert!((sum(&plain, 0) - sum(&answer, 0)).abs() < 1e-3 * sum(&plain, 0));
        assert!(sum(&answer, 1) < 0.5 * sum(&plain, 1), "half of the logarithm");
    }

    #[test]
    fn what_was_fitted_for_another_model_is_refused() {
        let fitted = calibration(Extrapolation::default().digest(), correction(&[1.0], &[1.0]));
        let error = Calibrated::new(Box::new(Persistence::default()), fitted, "x.toml").err().unwrap();
        assert!(matches!(&error, ModelError::File { path, .. } if path == "x.toml"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let mut faulty = calibration("", correction(&[1.0, 1.0], &[1.0]));
        assert!(faulty.faults()[0].contains("2 numbers"), "{:?}", faulty.faults());
        faulty.variables[0].spread = vec![1.0, -1.0];
        assert_eq!(faulty.faults().len(), 1);
        faulty.variables[0].spread = vec![1.0, 1.0];
        assert!(faulty.faults().is_empty());
        faulty.variables[0].floor = Some(0.0);
        assert_eq!(faulty.faults(), ["rain_rate: floor must be positive"]);
    }
}
