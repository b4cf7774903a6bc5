use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use squall_fields::Chain;

const BOUND: Duration = Duration::from_secs(20);

type Gated = (Service<u32, u32>, mpsc::Sender<()>, mpsc::Receiver<u32>);

/// A service that answers a request once it is let go on, and says which it took.
fn gated() -> Gated {
    let (go, gate) = mpsc::channel();
    let (took, taken) = mpsc::channel();
    let service = Service::each("gated", 2, move |n: u32| {
        took.send(n).expect("the test looks on");
        gate.recv().expect("the test lets it go on");
        assert!(n != 13, "thirteen");
        n + 100
    });
    (service.expect("a thread"), go, taken)
}

fn desk(service: &Service<u32, u32>) -> Desk<u32, u32, &'static str> {
    Desk::new(service.clone(), None)
}

/// The same with one request at work and as many waiting as may, all of one desk.
fn full() -> (Gated, Desk<u32, u32, &'static str>) {
    let (service, go, taken) = gated();
    let mut busy = desk(&service);
    busy.try_submit(1, "a").unwrap();
    assert_eq!(taken.recv_timeout(BOUND), Ok(1));
    busy.try_submit(2, "b").unwrap();
    busy.try_submit(3, "c").unwrap();
    ((service, go, taken), busy)
}

#[test]
fn a_full_queue_gives_work_back_and_a_patient_desk_keeps_it_in_order() {
    let ((_service, go, _taken), mut busy) = full();
    assert!(matches!(busy.try_submit(4, "d"), Err(Refused::Full(4, "d"))));
    busy.submit(4, "d").unwrap();
    busy.submit(5, "e").unwrap();
    assert_eq!(busy.len(), 5);
    (0..5).for_each(|_| go.send(()).unwrap());
    let answers: Vec<_> = std::iter::from_fn(|| busy.wait()).map(|(keep, answer)| (keep, answer.unwrap())).collect();
    assert_eq!(answers, [("a", 101), ("b", 102), ("c", 103), ("d", 104), ("e", 105)]);
}

/// Desks share a service: while the work of one fills its queue, another has nothing under way whose answer would wake it.
#[test]
fn a_desk_that_found_no_room_is_woken_once_there_is_some() {
    use timely::dataflow::operators::Probe;
    use timely::dataflow::operators::generic::operator::source;

    let ((service, go, _taken), _busy) = full();
    let ((waits, waiting), (tell, ended)) = (mpsc::channel(), mpsc::channel());
    std::thread::spawn(move || {
        timely::execute_directly(move |worker| {
            worker.dataflow::<u64, _, _>(|scope| {
                let stream: timely::dataflow::StreamVec<'_, u64, u32> = source(scope, "Patient", |root, info| {
                    let waker = scope.worker().sync_activator_for(info.address.to_vec());
                    let mut desk = Desk::new(service, Some(waker));
                    desk.submit(4, root).unwrap();
                    waits.send(()).unwrap();
                    move |output| {
                        while let Some((capability, answer)) = desk.poll() {
                            output.session(&capability).give(answer.expect("an answer"));
                        }
                    }
                });
                stream.probe();
            });
        });
        tell.send(()).unwrap();
    });
    waiting.recv_timeout(BOUND).expect("it found no room");
    // Long enough that its worker sleeps, most likely; right either way.
    assert!(ended.recv_timeout(Duration::from_millis(200)).is_err());
    (0..4).for_each(|_| go.send(()).unwrap());
    ended.recv_timeout(BOUND).expect("the desk was not woken");
}

#[test]
fn what_is_cancelled_lets_go_of_its_request_while_the_thread_hangs() {
    let (go, gate) = mpsc::channel::<()>();
    let service = Service::each("hanging", 2, move |_: std::sync::Arc<()>| {
        let _ = gate.recv();
    })
    .unwrap();
    let mut desk = Desk::new(service.clone(), None);
    let request = std::sync::Arc::new(());
    desk.try_submit(request.clone(), 0).unwrap();
    while std::sync::Arc::strong_count(&request) > 1 && service.health().silent_for() < BOUND {
        let second = desk.try_submit(request.clone(), 1);
        let Ok(id) = second else { continue };
        assert_eq!(desk.cancel(id), Some(1));
        // The first is with the thread; the second is let go at once, wherever it is.
        if std::sync::Arc::strong_count(&request) <= 2 {
            break;
        }
    }
    assert!(std::sync::Arc::strong_count(&request) <= 2);
    drop(go);
    assert!(matches!(desk.wait(), Some((0, Ok(())))));
    assert!(desk.wait().is_none(), "what was cancelled is not answered");
}

#[test]
fn a_thread_that_dies_answers_for_everything_and_fails_its_streams() {
    let (service, go, taken) = gated();
    let control = crate::control::Control::new();
    service.health().attach(&control);
    let mut desk = desk(&service);
    desk.try_submit(13, "dies").unwrap();
    assert_eq!(taken.recv_timeout(BOUND), Ok(13));
    desk.try_submit(14, "waits").unwrap();
    go.send(()).unwrap();
    let lost: Vec<_> = std::iter::from_fn(|| desk.wait()).map(|(keep, answer)| (keep, answer.is_err())).collect();
    assert_eq!(lost, [("dies", true), ("waits", true)]);
    let until = Instant::now() + BOUND;
    while !control.is_done() && Instant::now() < until {
        std::thread::yield_now();
    }
    let failure = control.failure().expect("the stream has failed");
    let text = Chain(&failure).to_string();
    assert!(failure.kind() == ErrorKind::Internal && text.contains("gated") && text.contains("thirteen"), "{text}");
    assert!(matches!(desk.try_submit(1, "late"), Err(Refused::Dead(_))));
}

#[test]
fn silence_is_told_only_while_something_waits() {
    let (service, go, taken) = gated();
    assert_eq!(service.health().silent_for(), Duration::ZERO);
    let mut desk = desk(&service);
    desk.try_submit(1, "a").unwrap();
    assert_eq!(taken.recv_timeout(BOUND), Ok(1));
    let until = Instant::now() + BOUND;
    while service.health().silent_for() < Duration::from_millis(20) {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    assert!(desk.wait().is_some());
    while service.health().silent_for() > Duration::ZERO {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
}
