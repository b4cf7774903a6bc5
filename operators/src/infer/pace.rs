//! How long requests take on a device: what was measured, what is foreseen from it, and what waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use squall_models::Request;

use super::ladder::work;

/// Measurements that are kept of each stream: so many forecasts after a change of pace, only the new one counts.
const KEPT: usize = 8;

/// What the newest requests of a stream have taken.
///
/// A request takes some time of its own and some for each evaluation of the network; both are fitted to the measurements.
/// A dry window, or a machine that was busy with something else, lies off that line: the estimate is raised by the
/// greatest excess, or, of enough measurements, the second greatest, since one slip must not cost eight forecasts.
///
/// ```
/// use squall_operators::infer::pace::Pace;
/// let mut pace = Pace::default();
/// assert_eq!(pace.estimate(10.0), None);
/// pace.learn(10.0, 2.0);
/// assert_eq!(pace.estimate(5.0).unwrap().as_secs_f64(), 1.0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Work and seconds, the newest last.
    measured: VecDeque<(f64, f64)>,
    /// How often it was gone by without a new measurement.
    unconfirmed: usize,
}

impl Pace {
    /// Takes a measurement: work, and the seconds that it took.
    pub fn learn(&mut self, work: f64, seconds: f64) {
        if !(work > 0.0 && seconds.is_finite()) {
            return;
        }
        if self.measured.len() == KEPT {
            self.measured.pop_front();
        }
        self.measured.push_back((work, seconds));
        self.unconfirmed = 0;
    }

    /// The model was not asked, because of an estimate. Whoever does not ask gets no measurements: after eight times in a
    /// row the old ones are forgotten, and the model is asked again.
    pub fn fade(&mut self) {
        self.unconfirmed += 1;
        if self.unconfirmed >= KEPT {
            *self = Self::default();
        }
    }

    /// How long so much work will take; `None` if nothing is known.
    pub fn estimate(&self, work: f64) -> Option<Duration> {
        if self.measured.is_empty() {
            return None;
        }
        let (own, each) = self.line();
        let at = |work: f64| own + each * work;
        let mut excess: Vec<f64> =
            self.measured.iter().map(|(work, seconds)| (*work, *seconds)).map(|(w, s)| s / at(w).max(1e-9)).collect();
        excess.sort_by(|a, b| b.total_cmp(a));
        let excess = if excess.len() >= 4 { excess[1] } else { excess[0] };
        Duration::try_from_secs_f64(at(work) * excess.max(1.0)).ok()
    }

    /// Seconds of a request and of a unit of work, by least squares; neither is negative.
    fn line(&self) -> (f64, f64) {
        let count = self.measured.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| self.measured.iter().map(of).sum::<f64>() / count;
        let (work, seconds) = (mean(|m| m.0), mean(|m| m.1));
        let spread = mean(|m| m.0 * m.0) - work * work;
        let through_the_origin = mean(|m| m.0 * m.1) / mean(|m| m.0 * m.0);
        // Requests of about one size say nothing of what a request takes for itself.
        if spread < 0.01 * work * work {
            return (0.0, through_the_origin);
        }
        let each = (mean(|m| m.0 * m.1) - work * seconds) / spread;
        let own = seconds - each * work;
        match (own < 0.0, each < 0.0) {
            (true, _) => (0.0, through_the_origin),
            (_, true) => (seconds, 0.0),
            _ => (own, each),
        }
    }
}

/// What is known of the requests of a device, shared by its thread and by those that ask it.
#[derive(Clone, Debug, Default)]
pub struct Books(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    paces: HashMap<Arc<str>, Pace>,
    /// Solver steps of each stream's model.
    steps: HashMap<Arc<str>, usize>,
    /// Seconds of all requests that were handed over and are not answered.
    booked: f64,
    /// Since when the device is at work, and on how many seconds.
    running: Option<(Instant, f64)>,
}

/// The time that a request was foreseen to take, counted in the queue of the device until it is dropped.
#[derive(Debug)]
pub struct Booking {
    books: Books,
    seconds: f64,
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.books.lock().booked -= self.seconds;
    }
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books the time of a request that is about to be handed over.
    pub fn book(&self, request: &Request) -> Booking {
        let mut kept = self.lock();
        let amount = amount(request, kept.steps.get(&request.stream).copied());
        let known = kept.paces.get(&request.stream).and_then(|pace| pace.estimate(amount));
        let seconds = known.map_or(0.0, |known| known.as_secs_f64());
        kept.booked += seconds;
        Booking { books: self.clone(), seconds }
    }

    /// What requests of a stream have taken, and the solver steps of its model.
    pub fn pace(&self, stream: &str) -> (Pace, Option<usize>) {
        let kept = self.lock();
        (kept.paces.get(stream).cloned().unwrap_or_default(), kept.steps.get(stream).copied())
    }

    /// How long what was handed over will take. What takes longer than was foreseen is taken to need as long again as it
    /// is late: a device that hangs looks slower the longer it hangs.
    pub fn queue(&self, now: Instant) -> Duration {
        let kept = self.lock();
        let running = kept.running.map_or((0.0, 0.0), |(since, seconds)| {
            (seconds, (seconds - now.saturating_duration_since(since).as_secs_f64()).abs())
        });
        Duration::try_from_secs_f64((kept.booked - running.0).max(0.0) + running.1).unwrap_or(Duration::MAX)
    }

    /// The model of a stream takes so many steps.
    pub(super) fn set_steps(&self, stream: &Arc<str>, steps: Option<usize>) {
        let mut kept = self.lock();
        match steps {
            Some(steps) => drop(kept.steps.insert(stream.clone(), steps)),
            None => drop(kept.steps.remove(stream)),
        }
    }

    /// The device begins with requests.
    pub(super) fn begin<'b>(&self, bookings: impl Iterator<Item = &'b Booking>) {
        self.lock().running = Some((Instant::now(), bookings.map(|booking| booking.seconds).sum()));
    }

    /// The device is done with requests that it answered together, after so long: each stream's share follows its work.
    pub(super) fn end(&self, requests: &[Request], steps: Option<usize>, took: Duration) {
        let mut kept = self.lock();
        kept.running = None;
        let all: f64 = requests.iter().map(|request| amount(request, steps)).sum();
        for of_stream in requests.chunk_by(|a, b| a.stream == b.stream) {
            let own: f64 = of_stream.iter().map(|request| amount(request, steps)).sum();
            let pace = kept.paces.entry(of_stream[0].stream.clone()).or_default();
            pace.learn(own, took.as_secs_f64() * own / all);
        }
    }

    /// Lets the oldest measurement of a stream fade.
    pub fn fade(&self, stream: &str) {
        if let Some(pace) = self.lock().paces.get_mut(stream) {
            pace.fade();
        }
    }
}

/// How much work a request is for a model that is set to take so many steps.
fn amount(request: &Request, steps: Option<usize>) -> f64 {
    let cells = request.window.newest().map_or(0, |frame| frame.grid.shape().0 * frame.grid.shape().1);
    let steps = steps.map(|all| request.steps.map_or(all, |steps| steps.min(all)));
    work(request.members, steps, cells)
}

#[cfg(test)]
mod tests {
    use super::super::device::tests::request_at;
    use super::*;

    fn seconds(pace: &Pace, work: f64) -> f64 {
        pace.estimate(work).unwrap().as_secs_f64()
    }

    fn of(measured: &[(f64, f64)]) -> Pace {
        let mut pace = Pace::default();
        measured.iter().for_each(|(work, seconds)| pace.learn(*work, *seconds));
        pace
    }

    #[test]
    fn what_a_request_takes_for_itself_is_told_from_what_each_step_takes() {
        let pace = of(&[(10.0, 3.0), (20.0, 5.0), (30.0, 7.0)]);
        assert!((seconds(&pace, 40.0) - 9.0).abs() < 1e-9);
        assert!((seconds(&pace, 1.0) - 1.2).abs() < 1e-9);
        let same = of(&[(10.0, 3.0), (10.0, 3.0)]);
        assert!((seconds(&same, 20.0) - 6.0).abs() < 1e-9, "of one size they are taken to be proportional");
        let falling = of(&[(10.0, 3.0), (20.0, 2.0)]);
        assert!((seconds(&falling, 30.0)) >= 2.5, "more work never takes less");
    }

    #[test]
    fn a_slip_does_not_count_and_two_do() {
        let mut pace = of(&[(10.0, 1.0); 7]);
        pace.learn(10.0, 9.0);
        assert!(seconds(&pace, 10.0) < 2.5, "the mean has moved, and no more than that");
        pace.learn(10.0, 9.0);
        assert!((seconds(&pace, 10.0) - 9.0).abs() < 1e-9);
    }

    #[test]
    fn windows_that_take_no_time_do_not_hide_those_that_do() {
        let pace = of(&[(10.0, 4.0), (10.0, 0.0), (10.0, 4.0), (10.0, 0.0), (10.0, 0.0)]);
        assert!((seconds(&pace, 10.0) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_confirmed_fades() {
        let mut pace = of(&[(10.0, 4.0)]);
        (1..KEPT).for_each(|_| pace.fade());
        assert!(pace.estimate(1.0).is_some());
        pace.fade();
        assert!(pace.estimate(1.0).is_none());
    }

    #[test]
    fn what_was_handed_over_waits_until_it_is_answered_or_taken_back() {
        let (books, request) = (Books::default(), request_at(300));
        assert_eq!(books.queue(Instant::now()), Duration::ZERO);
        drop(books.book(&request));
        books.end(std::slice::from_ref(&request), None, Duration::from_secs(4));
        let (first, second) = (books.book(&request), books.book(&request));
        assert_eq!(books.queue(Instant::now()).as_secs_f64().round(), 8.0);
        books.begin([&first].into_iter());
        let now = Instant::now();
        let left = |after: u64| books.queue(now + Duration::from_secs(after)).as_secs_f64().round();
        assert_eq!((left(0), left(3), left(4), left(10)), (8.0, 5.0, 4.0, 10.0), "late: as long again");
        drop(second);
        assert_eq!(left(3), 1.0);
        books.end(std::slice::from_ref(&request), None, Duration::from_secs(4));
        drop(first);
        assert_eq!(left(3), 0.0);
    }
}
