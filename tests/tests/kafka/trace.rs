//! The trace of an observation goes on in the forecast that it completes.

use squall_tests::rain::{Rain, rfc3339};
use squall_tests::{Kafka, Setting, forecasts};

fn traceparent(frame: usize) -> String {
    format!("00-{:032x}-{:016x}-01", frame + 1, 7)
}

#[test]
fn a_forecast_is_a_span_of_the_trace_of_the_record_that_completed_its_window() {
    let setting = Setting::new("trace");
    let (rain, mut records) = Rain::observed("trace", 8);
    for (frame, record) in records.iter_mut().enumerate() {
        let text = match frame {
            5 => "00-nonsense".to_owned(),
            6 => "x".repeat(100_000),
            frame => traceparent(frame),
        };
        *record = record.clone().with_header("traceparent", &text);
    }
    Kafka::shared().create(&setting.topic("observations"), 1);
    Kafka::shared().write(&setting.topic("observations"), &records);
    setting.run();
    assert_eq!(forecasts::published(&setting).len(), 6);
    let mut spans = std::collections::BTreeSet::new();
    for kind in ["index", "probabilities", "quantiles"] {
        for record in Kafka::shared().read(&setting.topic(kind)) {
            let trace = record.header("traceparent");
            assert_eq!(trace.len(), 55, "{trace}");
            let frame =
                rain.slots.iter().position(|slot| rfc3339(*slot) == record.header("issue-time")).expect("a frame");
            let is_own = trace[..35] != traceparent(frame)[..35];
            assert_eq!(is_own, frame == 5 || frame == 6, "{kind} of frame {frame}: {trace}");
            assert_ne!(trace[36..52], traceparent(frame)[36..52], "a span of its own");
            spans.insert((frame, trace));
        }
    }
    assert_eq!(spans.len(), 6, "one for all records of a forecast");
}
