//! Room for forecasts in memory: they are large, so that a stream asks for a new one only while few are alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use squall_fields::Forecast;
use timely::scheduling::SyncActivator;

use crate::progress::Decision;
use crate::source::budget::Budget;

/// Counts the forecasts of one stream that are alive, from request to publication.
#[derive(Clone)]
pub struct Permits {
    alive: Arc<AtomicUsize>,
    most: usize,
    waker: Option<Arc<SyncActivator>>,
}

impl Permits {
    /// At most `most` at once, at least one; whoever waits for one is woken by `waker`.
    pub fn new(most: usize, waker: Option<SyncActivator>) -> Self {
        Self { alive: Arc::default(), most: most.max(1), waker: waker.map(Arc::new) }
    }

    /// One more, if there is room.
    pub fn take(&self) -> Option<Permit> {
        let take = |alive| (alive < self.most).then_some(alive + 1);
        self.alive.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()?;
        Some(Permit { permits: self.clone(), weighs: None })
    }
}

/// Room for one forecast in memory, given back when dropped.
pub struct Permit {
    permits: Permits,
    /// The forecast, once it is there: where its bytes count.
    weighs: Option<(Arc<Budget>, u64)>,
}

impl Permit {
    /// The forecast is there, and counts until it is published.
    pub(super) fn weigh(&mut self, forecast: &Forecast, budget: &Arc<Budget>) {
        let bytes = forecast.bytes() as u64;
        budget.add_forecast(bytes);
        self.weighs = Some((budget.clone(), bytes));
    }

    /// Gives the room back to the one who took it just now, who need not be woken.
    pub fn give_back(mut self) {
        self.permits.waker = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((budget, bytes)) = self.weighs.take() {
            budget.drop_forecast(bytes);
        }
        self.permits.alive.fetch_sub(1, Ordering::SeqCst);
        if let Some(waker) = &self.permits.waker {
            let _ = waker.activate(); // a worker that is gone needs no waking
        }
    }
}

/// A forecast on its way, with the room that it takes.
#[derive(Clone)]
pub struct Made {
    /// The forecast.
    pub forecast: Arc<Forecast>,
    /// When the last record that it needed was read, by the machine's clock in microseconds since 1970.
    pub read_at_us: i64,
    /// What the machine's clock decided about it, if anything.
    pub decision: Option<Decision>,
    /// Given back once it is published.
    pub permit: Arc<Permit>,
}

/// What becomes of a window.
#[derive(Clone)]
pub enum Inferred {
    /// A forecast.
    Made(Made),
    /// No forecast: the machine's clock decided so.
    Skipped(Decision),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back() {
        let permits = Permits::new(2, None);
        let first = permits.take();
        let second = permits.take();
        assert!(first.is_some() && second.is_some() && permits.take().is_none());
        drop(first);
        assert!(permits.take().is_some());
    }
}
