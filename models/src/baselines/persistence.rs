//! Eulerian persistence: nothing changes.
//!
//! The reference that every other forecast has to beat. It takes any variable, so it is the one
//! baseline that rain and wind share.

use ndarray::{Array4, Axis};
use squall_fields::{Ensemble, Variable};

use super::{Kind, digest};
use crate::{Coordinates, Forecaster, ModelError, Prediction, Request};

/// Counts changes of the algorithm; part of the digest.
const VERSION: u32 = 1;

/// The newest frame that is present, at every lead, missing cells included.
///
/// It has one field to give and repeats it for each member: an ensemble without spread. Its probabilities are 0 or 1, and
/// its quantiles are all the same. Whoever publishes it must say so ([`Forecaster::repeats_members`]).
#[derive(Clone, Debug)]
pub struct Persistence {
    digest: String,
}

impl Default for Persistence {
    fn default() -> Self {
        Self { digest: digest(Kind::Persistence, VERSION, &()) }
    }
}

impl Forecaster for Persistence {
    fn name(&self) -> &str {
        Kind::Persistence.name()
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            variables: Variable::ALL.iter().map(|v| vec![*v]).collect(),
            cadence: None,
            spacing_m: None,
            context_frames: 1,
            max_leads: None,
            min_shape: (1, 1),
            max_members: None,
        }
    }

    fn repeats_members(&self) -> bool {
        true
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(persist).collect()
    }
}

fn persist(request: &Request) -> Result<Prediction, ModelError> {
    let window = &request.window;
    let newest = window.newest().ok_or_else(|| ModelError::Window {
        issue_time: window.issue_time,
        reason: format!("none of its {} frames is present", window.frames.len()),
    })?;
    let ensembles = newest.variables.iter().zip(newest.values.axis_iter(Axis(0))).map(|(variable, plane)| {
        let shape = (request.members, request.leads.len(), plane.nrows(), plane.ncols());
        let mut values = Array4::zeros(shape);
        values.assign(&plane);
        Ensemble { variable: *variable, values }
    });
    Ok(Prediction { ensembles: ensembles.collect(), precision: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::testing::{frame, request};

    #[test]
    fn the_newest_present_frame_is_repeated_with_its_mask() {
        let mut old = frame(&[Variable::XWind, Variable::YWind], (2, 3), |v, y, x| (v * 10 + y * 3 + x) as f32);
        old.values[[1, 0, 2]] = f32::NAN;
        let request = request(vec![None, Some(old.clone()), None], 4, 1);
        let prediction = Persistence::default().forecast(&[request]).remove(0).unwrap();
        assert_eq!(prediction.ensembles.len(), 2);
        let v = &prediction.ensembles[1];
        assert_eq!((v.variable, v.members(), v.leads()), (Variable::YWind, 1, 4));
        assert!(v.values[[0, 3, 0, 2]].is_nan());
        assert_eq!(v.values[[0, 3, 1, 1]], 14.0);
    }

    #[test]
    fn as_many_members_as_are_asked_for_are_all_the_same_and_it_says_so() {
        let newest =
            frame(&[Variable::EastwardWind, Variable::NorthwardWind], (2, 2), |v, y, x| (v + y * 2 + x) as f32);
        let mut model = Persistence::default();
        let prediction = model.forecast(&[request(vec![Some(newest)], 2, 5)]).remove(0).unwrap();
        assert_eq!(prediction.ensembles.len(), 2, "both components of the wind");
        for ensemble in &prediction.ensembles {
            let first = ensemble.values.index_axis(Axis(0), 0).to_owned();
            assert_eq!(ensemble.members(), 5);
            assert!(ensemble.values.outer_iter().all(|member| member == first));
        }
        assert!(model.repeats_members());
    }

    #[test]
    fn an_empty_window_is_an_error() {
        let answer = Persistence::default().forecast(&[request(vec![None, None], 2, 1)]).remove(0);
        assert!(matches!(answer, Err(ModelError::Window { .. })));
    }
}
