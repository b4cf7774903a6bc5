//! The thread of a device, and the models that live on it.
//!
//! A model belongs to one thread: tensors and their libraries keep thread-local state (such as `no_grad`), and two
//! threads on one GPU only get in each other's way. Requests that come together are answered together, those of
//! several streams in one batch where the streams share a model.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_fields::{ErrorKind, Failure, IssueTime};
use squall_models::{Forecaster, ModelError, Request};
use timely::scheduling::SyncActivator;

use super::Answer;
use super::pace::{Booking, Books, Pace};
pub use super::slot::{ModelSlot, SharedModel};
use crate::control::Control;
use crate::events;
use crate::offload::{Aside, Desk, Inbox, Lost, Reply, Service, TellError};

/// What a device is asked.
pub enum Ask {
    /// To forecast. The stream of the request says with which model; its time is booked until it is answered.
    Forecast(Request, Booking),
    /// To take up a model for a stream from an issue time on.
    TakeUp(NewModel),
}

/// A model that a stream goes over to.
pub struct NewModel {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// The first issue time that it serves.
    pub from: IssueTime,
    /// The model.
    pub model: Box<dyn Forecaster>,
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

/// Requests that may wait for a device, for each of its streams: more than any stream has in memory at once.
const WAITING: usize = 8;

/// A device: its thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Device {
    name: Arc<str>,
    service: Service<Ask, Answer>,
    books: Books,
    patience: Duration,
}

impl Device {
    /// Starts the thread of a device with the models of its streams. One that is silent for longer than `patience`
    /// counts as stuck.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        name: &str,
        models: HashMap<Arc<str>, ModelSlot>,
        policy: BatchPolicy,
        patience: Duration,
    ) -> io::Result<Self> {
        Self::start_aside(name, models, policy, patience, Aside::default())
    }

    /// The same for models that nobody waits for: they compute on the threads of `aside`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_aside(
        name: &str,
        models: HashMap<Arc<str>, ModelSlot>,
        policy: BatchPolicy,
        patience: Duration,
        aside: Aside,
    ) -> io::Result<Self> {
        let capacity = WAITING * models.len().max(1);
        let books = Books::default();
        let worker = Worker { name: name.to_owned(), models, policy, books: books.clone(), aside };
        let service = Service::start(&format!("device {name}"), capacity, move |inbox| worker.run(inbox))?;
        Ok(Self { name: name.into(), service, books, patience })
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How it is at this moment.
    pub fn state(&self) -> events::DeviceState<'_> {
        let health = self.service.health();
        events::DeviceState { device: &self.name, silent_for: health.silent_for(), pending: health.pending() }
    }

    /// What is wrong with it, if something is: its thread is gone, or has been silent for too long.
    pub fn trouble(&self) -> Option<Failure> {
        if let Some(lost) = self.service.health().lost() {
            return Some(lost.into());
        }
        let silent = self.service.health().silent_for();
        let what = || format!("device {} has not answered for {} s", self.name, silent.as_secs());
        (silent > self.patience).then(|| Failure::new(ErrorKind::Device, what()))
    }

    /// What it is asked to forecast, with the time that this will take booked.
    pub fn ask(&self, request: Request) -> Ask {
        let booking = self.books.book(&request);
        Ask::Forecast(request, booking)
    }

    /// What requests of a stream have taken here, and how many solver steps its model takes.
    pub fn pace(&self, stream: &str) -> (Pace, Option<usize>) {
        self.books.pace(stream)
    }

    /// How long what it has been asked for will take.
    pub fn queue(&self) -> Duration {
        self.books.queue(Instant::now())
    }

    /// It was not asked, because of what is known of its pace: that counts for less from now on.
    pub fn passed_over(&self, stream: &str) {
        self.books.fade(stream);
    }

    /// A desk for a stream, which fails if the device's thread panics.
    pub fn desk<K>(&self, control: &Arc<Control>, wake: SyncActivator) -> DeviceDesk<K> {
        self.service.health().attach(control);
        Desk::new(self.service.clone(), Some(wake))
    }

    /// Takes up a model for a stream; it is given back if the device has no room for it now.
    ///
    /// # Errors
    /// The device takes nothing now, or its thread is gone.
    pub fn take_up(&self, model: NewModel) -> Result<(), TakeUpError> {
        self.service.tell(Ask::TakeUp(model)).map_err(|error| match error {
            TellError::Full(Ask::TakeUp(model)) => TakeUpError::Full(model),
            TellError::Full(Ask::Forecast(..)) => unreachable!("what was refused is what was asked"),
            TellError::Dead(lost) => TakeUpError::Dead(lost),
        })
    }
}

/// Where an operator hands requests to a device.
pub type DeviceDesk<K> = Desk<Ask, Answer, K>;

/// Why a device did not take up a model.
pub enum TakeUpError {
    /// It takes nothing now; the model is given back.
    Full(NewModel),
    /// Its thread is gone.
    Dead(Lost),
}

/// A request on the device's thread.
struct Job {
    request: Request,
    booking: Booking,
    reply: Reply<Answer>,
}

struct Worker {
    name: String,
    models: HashMap<Arc<str>, ModelSlot>,
    policy: BatchPolicy,
    books: Books,
    aside: Aside,
}

impl Worker {
    fn run(mut self, inbox: &Inbox<Ask, Answer>) {
        let aside = self.aside.clone();
        aside.run(|| self.start());
        while let Some(asked) = inbox.next() {
            let mut jobs = Vec::new();
            self.take(asked, &mut jobs);
            let deadline = Instant::now() + self.policy.wait;
            while !jobs.is_empty() && jobs.len() < self.policy.most {
                let Some(asked) = inbox.next_before(deadline) else { break };
                self.take(asked, &mut jobs);
            }
            // What was taken back while it waited for others need not be computed.
            jobs.retain(|job| job.reply.is_wanted());
            aside.run(|| self.answer(jobs));
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
            self.books.set_steps(stream, model.steps());
            let (model, digest) = (model.name(), model.digest());
            events::ModelTakenUp { stream, model, digest, before: None, from: None }.emit();
        }
    }

    fn take(&mut self, (ask, reply): (Ask, Reply<Answer>), jobs: &mut Vec<Job>) {
        match ask {
            Ask::Forecast(request, booking) => jobs.push(Job { request, booking, reply }),
            Ask::TakeUp(NewModel { stream, from, model }) => self.take_up(&stream, from, SharedModel::new(model)),
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

    /// Answers jobs model by model, each stream's in the order in which they came.
    fn answer(&mut self, mut jobs: Vec<Job>) {
        jobs.sort_by(|a, b| a.request.stream.cmp(&b.request.stream));
        let mut batches: Vec<(SharedModel, Vec<Job>)> = Vec::new();
        for job in jobs {
            let stream = &job.request.stream;
            let Some(slot) = self.models.get_mut(stream) else {
                let answer = no_model(stream);
                job.reply.send(answer);
                continue;
            };
            let model = slot.at(stream, job.request.window.issue_time);
            self.books.set_steps(stream, model.steps());
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
        self.books.begin(batch.iter().map(|job| &job.booking));
        let apart = |Job { request, booking, reply }| (request, (booking, reply));
        let (requests, replies): (Vec<Request>, Vec<_>) = batch.into_iter().map(apart).unzip();
        let started = Instant::now();
        let predictions = model.forecast(&requests);
        let took = started.elapsed();
        self.books.end(&requests, model.steps(), took);
        for of_stream in requests.chunk_by(|a, b| a.stream == b.stream) {
            let (stream, requests) = (&of_stream[0].stream, of_stream.len());
            events::BatchAnswered { device: &self.name, stream, requests, took }.emit();
        }
        for (((booking, reply), request), prediction) in replies.into_iter().zip(&requests).zip(predictions) {
            drop(booking);
            let slot = self.models.get(&request.stream);
            reply.send(slot.map_or_else(|| no_model(&request.stream), |slot| slot.judge(model, request, prediction)));
        }
    }
}

/// Uses a model that is there already, if one of `seen` is the same.
fn share(model: &mut SharedModel, seen: &[SharedModel]) -> bool {
    seen.iter().for_each(|other| model.merge(other));
    seen.iter().any(|other| model.is(other))
}

fn no_model(stream: &str) -> Answer {
    let model = format!("of stream {stream}");
    let prediction = Err(ModelError::Answer { model, reason: "is not on this device".into() });
    let (model, device) = (String::new(), String::new());
    Answer { prediction, model, model_digest: "".into(), device, degraded: None, identical_members: false }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ndarray::{Array3, Array4};
    use squall_fields::{Axis, Cadence, Ensemble, Frame, Grid, InputRef, LeadTime, ValidTime, Variable, Window};
    use squall_models::{Coordinates, ModelError, Prediction};

    const PATIENCE: Duration = Duration::from_secs(60);

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
        let issue_time = frame.slot.into();
        let window = Window { issue_time, cadence, frames: vec![Some(frame.into())], steering: None };
        let leads = vec![LeadTime::from_seconds(300), LeadTime::from_seconds(600)];
        Request { stream: "rain".into(), window: window.into(), leads, members: 2, steps: None }
    }

    pub(crate) fn slot(with_fallback: bool) -> ModelSlot {
        let fallback = with_fallback.then(|| Box::new(Constant(0.0, "fallback")) as Box<dyn Forecaster>);
        ModelSlot::new(Box::new(Constant(1.0, "first")), fallback)
    }

    #[test]
    fn a_device_answers_every_job_and_changes_model_within_a_batch() {
        let models = HashMap::from([("rain".into(), slot(true))]);
        let policy = BatchPolicy { most: 8, wait: Duration::from_secs(5) };
        let device = Device::start("cpu", models, policy, PATIENCE).unwrap();
        let mut desk = Desk::new(device.service.clone(), None);
        let model = Box::new(Constant(2.0, "second"));
        let new = NewModel { stream: "rain".into(), from: IssueTime::from_unix_seconds(1500), model };
        assert!(device.take_up(new).is_ok());
        for (id, issue_time) in (0..8).map(|i| (i, 300 * (i as i64 + 1))) {
            desk.submit(device.ask(request_at(issue_time)), id).unwrap();
        }
        let answers = std::iter::from_fn(|| desk.wait());
        let digests: Vec<_> = answers.map(|(id, a)| (id, a.unwrap().model_digest.to_string())).collect();
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
        let device = Device::start("cpu", models, policy, PATIENCE).unwrap();
        let mut desk = Desk::new(device.service.clone(), None);
        for (id, stream) in ["rain", "snow", "rain"].into_iter().enumerate() {
            let request = Request { stream: stream.into(), ..request_at(300 * (id as i64 + 5)) };
            desk.submit(device.ask(request), ()).unwrap();
        }
        assert!(std::iter::from_fn(|| desk.wait()).all(|(_, answer)| answer.unwrap().prediction.is_ok()));
        assert_eq!(*calls.lock().unwrap(), [3]);
    }
}
