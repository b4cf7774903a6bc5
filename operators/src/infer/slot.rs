//! The models of one stream: the one in use, the one to come, and the one for when they fail.
//!
//! Streams that name the same model share it: it lies in memory once, and their requests go to it in one batch. A model
//! that fails or panics never stops a stream: its fallback answers, and the forecast says why.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use squall_fields::{Chain, Degradation, Failure, IssueTime};
use squall_models::{Forecaster, ModelError, Prediction, Request};

use super::Answer;
use crate::events;

/// A model that several streams of a device may share.
#[derive(Clone)]
pub struct SharedModel {
    identity: Arc<Identity>,
    model: Arc<Mutex<Box<dyn Forecaster>>>,
}

/// What tells models apart: two of one digest on one device give the same forecasts.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    name: String,
    digest: Arc<str>,
    device: String,
    steps: Option<usize>,
    repeats_members: bool,
}

impl SharedModel {
    /// A model that is not shared yet.
    pub fn new(model: Box<dyn Forecaster>) -> Self {
        let identity = Identity {
            name: model.name().to_owned(),
            digest: model.digest().into(),
            device: model.device(),
            steps: model.steps(),
            repeats_members: model.repeats_members(),
        };
        Self { identity: identity.into(), model: Arc::new(Mutex::new(model)) }
    }

    /// Name for people.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Hex digest of all that decides its output.
    pub fn digest(&self) -> &str {
        &self.identity.digest
    }

    /// Solver steps that it takes unless it is asked for fewer.
    pub fn steps(&self) -> Option<usize> {
        self.identity.steps
    }

    /// Whether both are one model in memory.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }

    /// Lets go of this copy if `other` is the same model, to use that one.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.identity == other.identity {
            self.model = other.model.clone();
        }
    }

    /// Prepares the model on the thread that will call it, and says how long that took. A failure is left for the first
    /// request to report.
    pub(super) fn warm_up(&self) -> std::time::Duration {
        let start = Instant::now();
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = catch_unwind(AssertUnwindSafe(|| model.warm_up()));
        start.elapsed()
    }

    /// Answers each request. One that the model does not fit, such as by the spacing of its grid, gets the reason.
    pub(super) fn forecast(&self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let coordinates = model.coordinates();
        let fault = |request: &Request| {
            let faults = coordinates.grid_faults(&request.window.newest()?.grid);
            (!faults.is_empty()).then(|| unfit(&**model, faults.join("; ")))
        };
        let faults: Vec<Option<ModelError>> = requests.iter().map(fault).collect();
        if faults.iter().all(Option::is_none) {
            return call(&mut **model, requests);
        }
        let fitting: Vec<Request> =
            requests.iter().zip(&faults).filter(|(_, fault)| fault.is_none()).map(|(r, _)| r.clone()).collect();
        let mut answers = call(&mut **model, &fitting).into_iter();
        let missing = || Err(unfit(&**model, "gave no answer"));
        faults.into_iter().map(|fault| fault.map_or_else(|| answers.next().unwrap_or_else(missing), Err)).collect()
    }

    fn answer(&self, prediction: Result<Prediction, ModelError>, degraded: Option<Degradation>) -> Answer {
        let Identity { name, digest, device, repeats_members, .. } = &*self.identity;
        let identical_members =
            *repeats_members && prediction.as_ref().is_ok_and(|p| p.ensembles.first().is_some_and(|e| e.members() > 1));
        let (model, model_digest, device) = (name.clone(), digest.clone(), device.clone());
        Answer { prediction, model, model_digest, device, degraded, identical_members }
    }
}

/// The models of one stream on its device.
pub struct ModelSlot {
    current: SharedModel,
    next: Option<(IssueTime, SharedModel)>,
    fallback: Option<SharedModel>,
}

impl ModelSlot {
    /// A model and its fallback.
    pub fn new(model: Box<dyn Forecaster>, fallback: Option<Box<dyn Forecaster>>) -> Self {
        Self { current: SharedModel::new(model), next: None, fallback: fallback.map(SharedModel::new) }
    }

    /// Takes up another model from an issue time on. Earlier issue times are still served by the old one until then,
    /// so that a stream changes at one slot.
    pub fn take_up(&mut self, from: IssueTime, model: SharedModel) {
        self.next = Some((from, model));
    }

    /// The model in use.
    pub fn current(&self) -> &SharedModel {
        &self.current
    }

    /// All its models that others may share.
    pub(super) fn models(&mut self) -> impl Iterator<Item = &mut SharedModel> {
        [Some(&mut self.current), self.next.as_mut().map(|(_, model)| model)].into_iter().flatten()
    }

    /// The model that serves an issue time.
    pub(super) fn at(&mut self, stream: &str, issue_time: IssueTime) -> SharedModel {
        if let Some((from, model)) = self.next.take_if(|(from, _)| issue_time >= *from) {
            let before = Some(self.current.digest());
            events::ModelTakenUp { stream, model: model.name(), digest: model.digest(), before, from: Some(from) }
                .emit();
            self.current = model;
        }
        self.current.clone()
    }

    /// Answers requests of one stream for consecutive issue times in one batch.
    pub fn answer(&mut self, device: &str, requests: &[Request]) -> Vec<Answer> {
        let Some(first) = requests.first() else { return Vec::new() };
        let model = self.at(&first.stream, first.window.issue_time);
        let started = Instant::now();
        let predictions = model.forecast(requests);
        events::BatchAnswered { device, stream: &first.stream, requests: requests.len(), took: started.elapsed() }
            .emit();
        requests.iter().zip(predictions).map(|(request, p)| self.judge(&model, request, p)).collect()
    }

    /// What is published of a prediction: itself, or if it failed the fallback's.
    pub(super) fn judge(
        &self,
        model: &SharedModel,
        request: &Request,
        prediction: Result<Prediction, ModelError>,
    ) -> Answer {
        let error = match prediction {
            Ok(prediction) => return model.answer(Ok(prediction), None),
            Err(error) => error,
        };
        let message = Chain(&error).to_string();
        let (stream, issue_time) = (&*request.stream, request.window.issue_time);
        events::ModelFailed { stream, model: model.name(), issue_time, message: &message }.emit();
        let Some(fallback) = &self.fallback else { return model.answer(Err(error), None) };
        let second = fallback.forecast(std::slice::from_ref(request)).pop();
        let second = second.expect("a model's answers are as many as its requests");
        if let Err(error) = &second {
            let message = &Chain(error).to_string();
            events::ModelFailed { stream, model: fallback.name(), issue_time, message }.emit();
        }
        fallback.answer(second, Some(Degradation::ModelFailed { message }))
    }
}

/// Calls a model; whatever it does, there is one answer for each request. A batch that panics is asked again one by
/// one: an answer depends on its request alone, so that one bad window spoils no other.
fn call(model: &mut dyn Forecaster, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
    if requests.is_empty() {
        return Vec::new();
    }
    let called = catch_unwind(AssertUnwindSafe(|| model.forecast(requests)));
    let mut answers = match called {
        Ok(answers) => answers,
        Err(_) if requests.len() > 1 => {
            return requests.iter().flat_map(|r| call(model, std::slice::from_ref(r))).collect();
        }
        Err(panic) => {
            let failure = Failure::panicked(format!("model {}", model.name()), &*panic);
            return requests.iter().map(|_| Err(ModelError::Panicked(failure.clone()))).collect();
        }
    };
    let count = answers.len();
    answers.truncate(requests.len());
    let checked = requests.iter().zip(answers).map(|(request, answer)| {
        let prediction = answer?;
        shape_fault(request, &prediction).map_or(Ok(prediction), |fault| Err(unfit(model, fault)))
    });
    let mut checked: Vec<_> = checked.collect();
    let reason = || format!("gave {count} answers to {} requests", requests.len());
    checked.resize_with(requests.len(), || Err(unfit(model, reason())));
    checked
}

/// An answer that cannot be used.
fn unfit(model: &dyn Forecaster, reason: impl Into<String>) -> ModelError {
    ModelError::Answer { model: model.name().to_owned(), reason: reason.into() }
}

/// What is wrong with the shape of a prediction.
fn shape_fault(request: &Request, prediction: &Prediction) -> Option<String> {
    let grid = request.window.newest()?.grid.shape();
    let expected = (request.members, request.leads.len(), grid.0, grid.1);
    if prediction.ensembles.is_empty() {
        return Some("gave no ensemble".into());
    }
    let wrong = prediction.ensembles.iter().find(|e| e.values.dim() != expected)?;
    let (name, shape) = (wrong.variable.name(), wrong.values.dim());
    Some(format!("gave {name} of {shape:?} as [member, lead, y, x], expected {expected:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::device::tests::{Constant, request_at, slot};
    use super::*;

    #[test]
    fn a_failure_or_panic_is_answered_by_the_fallback() {
        for issue_time in [600, 900] {
            let answer = slot(true).answer("cpu", &[request_at(issue_time)]).remove(0);
            assert!(answer.prediction.is_ok());
            assert_eq!(&*answer.model_digest, "fallback");
            assert!(
                matches!(answer.degraded, Some(Degradation::ModelFailed { message }) if message.contains("as asked"))
            );
            let answer = slot(false).answer("cpu", &[request_at(issue_time)]).remove(0);
            assert!(answer.prediction.is_err());
        }
    }

    #[test]
    fn a_grid_that_the_model_was_not_made_for_is_refused_with_the_reason() {
        struct Coarse(Constant);
        impl Forecaster for Coarse {
            fn name(&self) -> &str {
                "coarse"
            }
            fn digest(&self) -> &str {
                "coarse"
            }
            fn coordinates(&self) -> squall_models::Coordinates {
                squall_models::Coordinates { spacing_m: Some((1000.0, 2000.0)), ..self.0.coordinates() }
            }
            fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, squall_models::ModelError>> {
                self.0.forecast(requests)
            }
        }
        let fallback = Some(Box::new(Constant(0.0, "fallback")) as Box<dyn Forecaster>);
        let mut slot = ModelSlot::new(Box::new(Coarse(Constant(1.0, "first"))), fallback);
        // The cells of the request are 1 m wide.
        let answer = slot.answer("cpu", &[request_at(300)]).remove(0);
        assert_eq!((&*answer.model_digest, answer.prediction.is_ok()), ("fallback", true));
        let Some(Degradation::ModelFailed { message }) = answer.degraded else { panic!("not degraded") };
        assert_eq!(message, "model coarse was made for cells of 1000 to 2000 m, the grid has 1 m");
    }

    #[test]
    fn a_wrong_shape_is_a_failure() {
        let prediction = Prediction { ensembles: vec![], precision: None };
        assert!(shape_fault(&request_at(300), &prediction).is_some());
    }

    #[test]
    fn a_new_model_is_taken_up_at_its_slot() {
        let mut slot = slot(true);
        let new = SharedModel::new(Box::new(Constant(2.0, "second")));
        slot.take_up(IssueTime::from_unix_seconds(1500), new);
        let digest = |slot: &mut ModelSlot, t| slot.answer("cpu", &[request_at(t)]).remove(0).model_digest;
        assert_eq!(&*digest(&mut slot, 1200), "first");
        assert_eq!(&*digest(&mut slot, 1500), "second");
        assert_eq!(&*digest(&mut slot, 1200), "second", "a late revision is made by the model in use");
    }

    #[test]
    fn only_models_that_forecast_the_same_are_merged() {
        let shared = |digest| SharedModel::new(Box::new(Constant(1.0, digest)));
        let (first, mut same, mut other) = (shared("first"), shared("first"), shared("other"));
        same.merge(&first);
        other.merge(&first);
        assert!(same.is(&first) && !other.is(&first));
    }
}
