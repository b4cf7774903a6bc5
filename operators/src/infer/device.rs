//! The thread of a device, and the models that live on it.
//!
//! A model belongs to one thread: tensors and their libraries keep thread-local state (such as `no_grad`), and two
//! threads on one GPU only get in each other's way. A model that fails or panics never stops the stream: its
//! fallback answers, and the forecast says why.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use squall_fields::{Degradation, IssueTime};
use squall_models::{Forecaster, Prediction, Request};
use timely::scheduling::SyncActivator;

use super::Answer;
use crate::events;

/// One request, and where its answer goes.
pub struct Job {
    /// Comes back with the answer.
    pub id: u64,
    /// What to forecast. Its stream says with which model.
    pub request: Request,
    /// Takes the answer.
    pub reply: Sender<(u64, Answer)>,
    /// Activated when the answer is there.
    pub wake: Option<Arc<SyncActivator>>,
}

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Most requests in a batch, at least 1.
    pub most: usize,
    /// How long the first request of a batch waits for others.
    pub wait: Duration,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self { most: 4, wait: Duration::from_millis(2) }
    }
}

/// The models of one stream on its device: the one in use, the one to come, and the one for when they fail.
pub struct ModelSlot {
    current: Box<dyn Forecaster>,
    next: Option<(IssueTime, Box<dyn Forecaster>)>,
    fallback: Option<Box<dyn Forecaster>>,
}

impl ModelSlot {
    /// A model and its fallback.
    pub fn new(model: Box<dyn Forecaster>, fallback: Option<Box<dyn Forecaster>>) -> Self {
        Self { current: model, next: None, fallback }
    }

    /// Takes up another model from an issue time on. Earlier issue times are still served by the old one until then,
    /// so that a stream changes at one slot.
    pub fn take_up(&mut self, from: IssueTime, model: Box<dyn Forecaster>) {
        self.next = Some((from, model));
    }

    /// The model that serves an issue time.
    pub fn at(&mut self, stream: &str, issue_time: IssueTime) -> &mut dyn Forecaster {
        if let Some((from, model)) = self.next.take_if(|(from, _)| issue_time >= *from) {
            let (name, digest) = (model.name(), model.digest());
            events::ModelTakenUp { stream, model: name, digest, from: Some(from) }.emit();
            self.current = model;
        }
        &mut *self.current
    }

    /// Answers requests of one stream for consecutive issue times in one batch.
    pub fn answer(&mut self, device: &str, requests: &[Request]) -> Vec<Answer> {
        let Some(first) = requests.first() else { return Vec::new() };
        let (stream, started) = (first.stream.clone(), Instant::now());
        let model = self.at(&stream, first.window.issue_time);
        let predictions = forecast(model, requests);
        events::BatchAnswered { device, stream: &stream, requests: requests.len(), took: started.elapsed() }.emit();
        requests.iter().zip(predictions).map(|(request, prediction)| self.judge(request, prediction)).collect()
    }

    fn judge(&mut self, request: &Request, prediction: Result<Prediction, String>) -> Answer {
        let message = match prediction {
            Ok(prediction) => return answer(&*self.current, Ok(prediction), None),
            Err(message) => message,
        };
        let (stream, issue_time) = (&*request.stream, request.window.issue_time);
        events::ModelFailed { stream, model: self.current.name(), issue_time, message: &message }.emit();
        let Some(fallback) = &mut self.fallback else { return answer(&*self.current, Err(message), None) };
        let second = forecast(&mut **fallback, std::slice::from_ref(request)).pop();
        let second = second.unwrap_or_else(|| Err("the fallback gave no answer".into()));
        if let Err(message) = &second {
            events::ModelFailed { stream, model: fallback.name(), issue_time, message }.emit();
        }
        answer(&**fallback, second, Some(Degradation::ModelFailed { message }))
    }
}

fn answer(model: &dyn Forecaster, prediction: Result<Prediction, String>, degraded: Option<Degradation>) -> Answer {
    let (name, digest) = (model.name().to_owned(), model.digest().into());
    Answer { prediction, model: name, model_digest: digest, device: model.device(), degraded }
}

/// Calls a model; whatever it does, there is one answer for each request. A batch that panics is asked again one by
/// one: an answer depends on its request alone, so that one bad window spoils no other.
fn forecast(model: &mut dyn Forecaster, requests: &[Request]) -> Vec<Result<Prediction, String>> {
    let called = catch_unwind(AssertUnwindSafe(|| model.forecast(requests)));
    let mut answers = match called {
        Ok(answers) => answers,
        Err(_) if requests.len() > 1 => {
            return requests.iter().flat_map(|r| forecast(model, std::slice::from_ref(r))).collect();
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
            let message = format!("the model panicked: {}", text.unwrap_or_default());
            return requests.iter().map(|_| Err(message.clone())).collect();
        }
    };
    let count = answers.len();
    answers.truncate(requests.len());
    let checked = requests.iter().zip(answers).map(|(request, answer)| {
        let prediction = answer.map_err(|error| error.to_string())?;
        shape_fault(request, &prediction).map_or(Ok(prediction), Err)
    });
    let mut checked: Vec<_> = checked.collect();
    let short = || Err(format!("the model gave {count} answers to {} requests", requests.len()));
    checked.resize_with(requests.len(), short);
    checked
}

/// What is wrong with the shape of a prediction.
fn shape_fault(request: &Request, prediction: &Prediction) -> Option<String> {
    let grid = request.window.newest()?.grid.shape();
    let expected = (request.members, request.leads.len(), grid.0, grid.1);
    if prediction.ensembles.is_empty() {
        return Some("the model gave no ensemble".into());
    }
    let wrong = prediction.ensembles.iter().find(|e| e.values.dim() != expected)?;
    let (name, shape) = (wrong.variable.name(), wrong.values.dim());
    Some(format!("{name} is {shape:?} as [member, lead, y, x], expected {expected:?}"))
}

enum Command {
    Answer(Job),
    TakeUp { stream: Arc<str>, from: IssueTime, model: Box<dyn Forecaster> },
}

/// A device: its thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Device {
    name: Arc<str>,
    commands: Sender<Command>,
}

impl Device {
    /// Starts the thread of a device with the models of its streams.
    pub fn start(name: &str, models: HashMap<Arc<str>, ModelSlot>, policy: BatchPolicy) -> std::io::Result<Self> {
        // Room for every stream's forecasts in memory: an operator never waits here.
        let (commands, inbox) = bounded(64 * models.len().max(1));
        let thread_name = name.to_owned();
        std::thread::Builder::new()
            .name(format!("device {name}"))
            .spawn(move || Worker { name: thread_name, models, policy }.run(&inbox))?;
        Ok(Self { name: name.into(), commands })
    }

    /// Asks for a forecast. An error means that the thread is gone.
    pub fn submit(&self, job: Job) -> Result<(), String> {
        self.send(Command::Answer(job))
    }

    /// Takes up a model for a stream from an issue time on.
    pub fn take_up(&self, stream: &Arc<str>, from: IssueTime, model: Box<dyn Forecaster>) -> Result<(), String> {
        self.send(Command::TakeUp { stream: stream.clone(), from, model })
    }

    fn send(&self, command: Command) -> Result<(), String> {
        self.commands.send(command).map_err(|_| format!("the thread of device {} is gone", self.name))
    }
}

struct Worker {
    name: String,
    models: HashMap<Arc<str>, ModelSlot>,
    policy: BatchPolicy,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Command>) {
        for (stream, slot) in &self.models {
            let (model, digest) = (slot.current.name(), slot.current.digest());
            events::ModelTakenUp { stream, model, digest, from: None }.emit();
        }
        while let Ok(command) = inbox.recv() {
            let mut jobs = Vec::new();
            self.take(command, &mut jobs);
            let deadline = Instant::now() + self.policy.wait;
            while !jobs.is_empty() && jobs.len() < self.policy.most {
                match inbox.recv_deadline(deadline) {
                    Ok(command) => self.take(command, &mut jobs),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.answer(jobs);
        }
    }

    fn take(&mut self, command: Command, jobs: &mut Vec<Job>) {
        match command {
            Command::Answer(job) => jobs.push(job),
            Command::TakeUp { stream, from, model } => {
                if let Some(slot) = self.models.get_mut(&stream) {
                    slot.take_up(from, model);
                }
            }
        }
    }

    /// Answers jobs stream by stream: a model sees only its own requests in a batch.
    fn answer(&mut self, mut jobs: Vec<Job>) {
        jobs.sort_by(|a, b| (&a.request.stream, a.id).cmp(&(&b.request.stream, b.id)));
        while let Some(first) = jobs.first() {
            let stream = first.request.stream.clone();
            // One model for the whole batch: it ends where a new model begins.
            let change = self.models.get(&stream).and_then(|slot| slot.next.as_ref()).map(|(from, _)| *from);
            let new = |job: &Job| change.is_some_and(|from| job.request.window.issue_time >= from);
            let is_new = new(first);
            let same = |job: &Job| job.request.stream == stream && new(job) == is_new;
            let count = jobs.iter().take_while(|job| same(job)).count();
            let batch: Vec<Job> = jobs.drain(..count).collect();
            let requests: Vec<_> = batch.iter().map(|job| job.request.clone()).collect();
            let answers = match self.models.get_mut(&stream) {
                Some(slot) => slot.answer(&self.name, &requests),
                None => Vec::new(), // dropping the job would hold back its time for ever: answer below
            };
            let mut answers = answers.into_iter();
            for job in batch {
                let answer = answers.next().unwrap_or_else(|| no_model(&stream));
                let _ = job.reply.send((job.id, answer)); // a stream that is gone needs no answer
                if let Some(wake) = &job.wake {
                    let _ = wake.activate();
                }
            }
        }
    }
}

fn no_model(stream: &str) -> Answer {
    let prediction = Err(format!("no model for stream {stream}"));
    Answer { prediction, model: String::new(), model_digest: "".into(), device: String::new(), degraded: None }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ndarray::{Array3, Array4};
    use squall_fields::{Axis, Cadence, Ensemble, Frame, Grid, InputRef, LeadTime, ValidTime, Variable, Window};
    use squall_models::{Coordinates, ModelError};

    /// Repeats one value; panics at issue time 600 and fails at 900.
    pub(crate) struct Constant(pub f32, pub &'static str);

    impl Forecaster for Constant {
        fn name(&self) -> &str {
            "constant"
        }

        fn digest(&self) -> &str {
            self.1
        }

        fn coordinates(&self) -> Coordinates {
            Coordinates {
                variables: vec![vec![Variable::RainRate]],
                cadence: None,
                spacing_m: None,
                context_frames: 1,
                max_leads: None,
                min_shape: (1, 1),
                max_members: None,
            }
        }

        fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
            let one = |request: &Request| {
                let issue_time = request.window.issue_time.unix_seconds();
                assert!(issue_time != 600 || self.1 == "fallback", "as asked");
                if issue_time == 900 && self.1 != "fallback" {
                    return Err(ModelError::Device("as asked".into()));
                }
                let (rows, columns) = request.window.newest().map_or((1, 1), |f| f.grid.shape());
                let values = Array4::from_elem((request.members, request.leads.len(), rows, columns), self.0);
                let ensembles = vec![Ensemble { variable: Variable::RainRate, values }];
                Ok(Prediction { ensembles, precision: None })
            };
            requests.iter().map(one).collect()
        }
    }

    pub(crate) fn request_at(issue_time: i64) -> Request {
        let axis = |step: f64| Axis { first: 0.0, step, len: 2 };
        let frame = Frame {
            grid: Grid { proj: "+proj=utm".into(), wkt: None, x: axis(1.0), y: axis(-1.0) }.into(),
            slot: ValidTime::from_unix_seconds(issue_time),
            variables: vec![Variable::RainRate].into(),
            values: Array3::zeros((1, 2, 2)),
            quality: None,
            input: InputRef { topic: "obs".into(), partition: 0, offset: 0, digest: "".into() },
        };
        let cadence = Cadence::every_seconds(300).unwrap();
        let window = Window { issue_time: frame.slot.into(), cadence, frames: vec![Some(frame.into())] };
        let leads = vec![LeadTime::from_seconds(300), LeadTime::from_seconds(600)];
        Request { stream: "rain".into(), window: window.into(), leads, members: 2 }
    }

    fn slot(with_fallback: bool) -> ModelSlot {
        let fallback = with_fallback.then(|| Box::new(Constant(0.0, "fallback")) as Box<dyn Forecaster>);
        ModelSlot::new(Box::new(Constant(1.0, "first")), fallback)
    }

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
    fn a_wrong_shape_is_a_failure() {
        let prediction = Prediction { ensembles: vec![], precision: None };
        assert!(shape_fault(&request_at(300), &prediction).is_some());
    }

    #[test]
    fn a_new_model_is_taken_up_at_its_slot() {
        let mut slot = slot(true);
        slot.take_up(IssueTime::from_unix_seconds(1500), Box::new(Constant(2.0, "second")));
        let digest = |slot: &mut ModelSlot, t| slot.answer("cpu", &[request_at(t)]).remove(0).model_digest;
        assert_eq!(&*digest(&mut slot, 1200), "first");
        assert_eq!(&*digest(&mut slot, 1500), "second");
        assert_eq!(&*digest(&mut slot, 1200), "second", "a late revision is made by the model in use");
    }

    #[test]
    fn a_device_answers_every_job_and_changes_model_within_a_batch() {
        let models = HashMap::from([("rain".into(), slot(true))]);
        let policy = BatchPolicy { most: 8, wait: Duration::from_secs(5) };
        let device = Device::start("cpu", models, policy).unwrap();
        let (reply, answers) = crossbeam_channel::unbounded();
        let new = Box::new(Constant(2.0, "second"));
        device.take_up(&"rain".into(), IssueTime::from_unix_seconds(1500), new).unwrap();
        for (id, issue_time) in (0..8).map(|i| (i, 300 * (i as i64 + 1))) {
            device.submit(Job { id, request: request_at(issue_time), reply: reply.clone(), wake: None }).unwrap();
        }
        let digests: Vec<_> = answers.iter().take(8).map(|(id, a)| (id, a.model_digest.to_string())).collect();
        let of = |id: u64| digests.iter().find(|d| d.0 == id).map(|d| d.1.as_str());
        // Issue times 600 and 900 fail or panic in the first model; from 1500 on the second answers.
        assert_eq!((of(0), of(3)), (Some("first"), Some("first")), "not spoilt by the panic beside them");
        assert_eq!((of(1), of(2)), (Some("fallback"), Some("fallback")));
        assert_eq!((of(4), of(7)), (Some("second"), Some("second")));
    }
}
