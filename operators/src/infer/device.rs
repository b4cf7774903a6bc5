//! The thread of a device, and the models that live on it.
//!
//! A model belongs to one thread: tensors and their libraries keep thread-local state (such as `no_grad`), and two
//! threads on one GPU only get in each other's way. Requests that come together are answered together, those of
//! several streams in one batch where the streams share a model.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use squall_fields::IssueTime;
use squall_models::{Forecaster, Request};
use timely::scheduling::SyncActivator;

use super::Answer;
pub use super::slot::{ModelSlot, SharedModel};
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
        self.start();
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

    /// Shares what is the same, and prepares each model once.
    fn start(&mut self) {
        let mut seen: Vec<SharedModel> = Vec::new();
        for (stream, slot) in &mut self.models {
            for model in slot.models() {
                if !share(model, &seen) {
                    events::ModelWarmedUp { stream, model: model.name(), took: model.warm_up() }.emit();
                    seen.push(model.clone());
                }
            }
            let model = slot.current();
            let (model, digest) = (model.name(), model.digest());
            events::ModelTakenUp { stream, model, digest, before: None, from: None }.emit();
        }
    }

    fn take(&mut self, command: Command, jobs: &mut Vec<Job>) {
        match command {
            Command::Answer(job) => jobs.push(job),
            Command::TakeUp { stream, from, model } => self.take_up(&stream, from, SharedModel::new(model)),
        }
    }

    fn take_up(&mut self, stream: &str, from: IssueTime, mut model: SharedModel) {
        let seen: Vec<SharedModel> =
            self.models.values_mut().flat_map(|slot| slot.models().map(|m| m.clone())).collect();
        if !share(&mut model, &seen) {
            events::ModelWarmedUp { stream, model: model.name(), took: model.warm_up() }.emit();
        }
        if let Some(slot) = self.models.get_mut(stream) {
            slot.take_up(from, model);
        }
    }

    /// Answers jobs model by model, each stream's in order.
    fn answer(&mut self, mut jobs: Vec<Job>) {
        jobs.sort_by(|a, b| (&a.request.stream, a.id).cmp(&(&b.request.stream, b.id)));
        let mut batches: Vec<(SharedModel, Vec<Job>)> = Vec::new();
        for job in jobs {
            let stream = &job.request.stream;
            let Some(slot) = self.models.get_mut(stream) else {
                // Dropping the job would hold back its time for ever.
                reply(job, no_model);
                continue;
            };
            let model = slot.at(stream, job.request.window.issue_time);
            match batches.iter_mut().find(|(of, _)| of.is(&model)) {
                Some((_, batch)) => batch.push(job),
                None => batches.push((model, vec![job])),
            }
        }
        for (model, batch) in batches {
            self.answer_batch(&model, batch);
        }
    }

    fn answer_batch(&self, model: &SharedModel, batch: Vec<Job>) {
        let requests: Vec<Request> = batch.iter().map(|job| job.request.clone()).collect();
        let started = Instant::now();
        let predictions = model.forecast(&requests);
        let took = started.elapsed();
        for of_stream in requests.chunk_by(|a, b| a.stream == b.stream) {
            let (stream, requests) = (&of_stream[0].stream, of_stream.len());
            events::BatchAnswered { device: &self.name, stream, requests, took }.emit();
        }
        for ((job, request), prediction) in batch.into_iter().zip(&requests).zip(predictions) {
            let slot = self.models.get(&request.stream);
            reply(job, |stream| slot.map_or_else(|| no_model(stream), |slot| slot.judge(model, request, prediction)));
        }
    }
}

/// Uses a model that is there already, if one of `seen` is the same.
fn share(model: &mut SharedModel, seen: &[SharedModel]) -> bool {
    seen.iter().for_each(|other| model.merge(other));
    seen.iter().any(|other| model.is(other))
}

fn reply(job: Job, answer: impl FnOnce(&str) -> Answer) {
    let answer = answer(&job.request.stream);
    let _ = job.reply.send((job.id, answer)); // a stream that is gone needs no answer
    if let Some(wake) = &job.wake {
        let _ = wake.activate();
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
    use squall_models::{Coordinates, ModelError, Prediction};

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
                    return Err(ModelError::device("cpu", "as asked"));
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

    pub(crate) fn slot(with_fallback: bool) -> ModelSlot {
        let fallback = with_fallback.then(|| Box::new(Constant(0.0, "fallback")) as Box<dyn Forecaster>);
        ModelSlot::new(Box::new(Constant(1.0, "first")), fallback)
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

    /// Notes how many requests each call brings.
    struct Counting(std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

    impl Forecaster for Counting {
        fn name(&self) -> &str {
            "counting"
        }

        fn digest(&self) -> &str {
            "same"
        }

        fn coordinates(&self) -> Coordinates {
            Constant(0.0, "same").coordinates()
        }

        fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
            self.0.lock().unwrap().push(requests.len());
            Constant(0.0, "same").forecast(requests)
        }
    }

    #[test]
    fn streams_that_share_a_model_are_answered_in_one_batch() {
        let calls = std::sync::Arc::default();
        let slot = |_: &str| ModelSlot::new(Box::new(Counting(std::sync::Arc::clone(&calls))), None);
        let models = ["rain", "snow"].map(|name| (Arc::from(name), slot(name))).into();
        let policy = BatchPolicy { most: 3, wait: Duration::from_secs(5) };
        let device = Device::start("cpu", models, policy).unwrap();
        let (reply, answers) = crossbeam_channel::unbounded();
        for (id, stream) in ["rain", "snow", "rain"].into_iter().enumerate() {
            let request = Request { stream: stream.into(), ..request_at(300 * (id as i64 + 5)) };
            device.submit(Job { id: id as u64, request, reply: reply.clone(), wake: None }).unwrap();
        }
        assert!(answers.iter().take(3).all(|(_, answer)| answer.prediction.is_ok()));
        assert_eq!(*calls.lock().unwrap(), [3]);
    }
}
