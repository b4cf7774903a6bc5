//! Threads for what nobody waits for.

use std::io;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Threads that compute what may come late, such as the forecasts of companions and scores.
///
/// Whatever a model or a score spreads over several threads goes to those of one pool for all, in which a forecast that
/// is waited for would stand behind it. Clones share the threads; by default there are none, and the pool for all is used.
#[derive(Clone, Debug, Default)]
pub struct Aside(Option<Arc<ThreadPool>>);

impl Aside {
    /// As many threads as the pool for all has. Each begins with `give_way`, which makes the system prefer others.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(give_way: fn()) -> io::Result<Self> {
        let threads = ThreadPoolBuilder::new()
            .num_threads(rayon::current_num_threads())
            .thread_name(|number| format!("aside {number}"))
            .start_handler(move |_| give_way())
            .build();
        Ok(Self(Some(threads.map_err(io::Error::other)?.into())))
    }

    /// Does a piece of work there, and waits for it.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(threads) => threads.install(work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use rayon::prelude::*;

    use super::*;

    fn names(aside: &Aside) -> Vec<String> {
        let name = |_| std::thread::current().name().unwrap_or_default().to_owned();
        aside.run(|| (0..64).into_par_iter().map(name).collect())
    }

    #[test]
    fn what_is_done_aside_is_spread_over_threads_of_its_own() {
        let aside = Aside::start(|| ()).unwrap();
        assert!(names(&aside).iter().all(|name| name.starts_with("aside ")));
        assert!(names(&Aside::default()).iter().all(|name| !name.starts_with("aside ")));
    }

    #[test]
    fn work_on_the_pool_for_all_does_not_wait_for_what_is_done_aside() {
        let aside = Aside::start(|| ()).unwrap();
        let (done, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        std::thread::scope(|scope| {
            let (held, holds) = mpsc::channel();
            let beside = scope.spawn(|| {
                aside.run(move || {
                    let _ = held.send(());
                    wait.lock().unwrap().recv()
                })
            });
            holds.recv().unwrap();
            assert_eq!((0..64_u32).into_par_iter().sum::<u32>(), 2016);
            done.send(()).unwrap();
            assert!(beside.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_panic_aside_is_that_of_who_asked() {
        let aside = Aside::start(|| ()).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| aside.run(|| panic!("a model's"))));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"a model's"));
        assert_eq!(aside.run(|| 1), 1);
    }
}
