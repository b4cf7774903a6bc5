//! Trying again what may succeed later, for as long as it makes sense.

use std::time::Duration;

/// How long to wait between tries: twice as long each time, up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the second try.
    pub first: Duration,
    /// Longest wait.
    pub most: Duration,
}

impl Default for Backoff {
    /// From 50 ms to 5 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(5) }
    }
}

/// Calls until it succeeds, fails for good, or waiting makes no sense any more.
///
/// `pause` waits between two tries and says whether to go on: it is where a stream that ends, a deadline or a number
/// of tries cuts in, also during the wait. `passes` tells an error that a retry can help, and may log it.
///
/// ```
/// use squall_operators::retry::{Backoff, retry};
/// let mut tries = 0;
/// let done = retry(Backoff::default(), |_| true, |_: &&str| true, || {
///     tries += 1;
///     if tries < 3 { Err("away") } else { Ok(tries) }
/// });
/// assert_eq!(done, Ok(3));
/// ```
///
/// # Errors
/// The last one, if no retry can help it or `pause` says to give up.
pub fn retry<T, E>(
    backoff: Backoff,
    mut pause: impl FnMut(Duration) -> bool,
    mut passes: impl FnMut(&E) -> bool,
    mut call: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut wait = backoff.first;
    loop {
        match call() {
            Err(error) if passes(&error) => {
                if !pause(wait) {
                    return Err(error);
                }
                wait = (wait * 2).min(backoff.most);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_up_to_a_bound_and_gives_up_when_told() {
        let backoff = Backoff { first: Duration::from_millis(10), most: Duration::from_millis(30) };
        let mut waits = Vec::new();
        let pause = |wait: Duration| {
            waits.push(wait.as_millis());
            waits.len() < 4
        };
        assert_eq!(retry(backoff, pause, |_| true, || Err::<(), _>("away")), Err("away"));
        assert_eq!(waits, [10, 20, 30, 30]);
    }

    #[test]
    fn what_no_retry_can_help_is_not_tried_again() {
        let mut tries = 0;
        let refused = retry(
            Backoff::default(),
            |_| true,
            |_| false,
            || {
                tries += 1;
                Err::<(), _>("refused")
            },
        );
        assert_eq!((refused, tries), (Err("refused"), 1));
    }
}
