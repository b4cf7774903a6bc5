use super::*;
use crate::decode::tests::{Words, record};
use crate::ports::FrameDecoder;
use squall_fields::InputRef;

fn frame(text: &str) -> Arc<Frame> {
    let input = InputRef { topic: "obs".into(), partition: 0, offset: 0, digest: "".into() };
    Words.decode(&bytes::Bytes::copy_from_slice(text.as_bytes()), &input).unwrap().remove(0).into()
}

fn config() -> QualityConfig {
    QualityConfig::new("radar", vec![Variable::RainRate], Cadence::every_seconds(300).unwrap())
}

fn clean(config: &QualityConfig, frame: Arc<Frame>) -> CleanFrame {
    Cleaner::new(config).clean(frame)
}

fn at(seconds: i64) -> KnowledgeTime {
    KnowledgeTime::from_unix_ms(seconds * 1000)
}

/// Whether the frame replaces another, or why it is refused.
fn check(quality: &mut Quality, text: &str, known: i64) -> Result<bool, Reason> {
    quality
        .check(clean(&quality.config.clone(), frame(text)), at(known))
        .map(|(_, correction)| correction)
        .map_err(|(reason, _)| reason)
}

fn fault(config: QualityConfig, text: &str, known: i64) -> Option<Reason> {
    check(&mut Quality::new(config), text, known).err()
}

#[test]
fn accepts_a_good_frame_and_learns_its_grid() {
    let mut quality = Quality::new(config());
    let good = frame("300 0 1 NaN");
    let (passed, _) = quality.check(clean(&config(), good.clone()), at(310)).unwrap();
    assert!(Arc::ptr_eq(&good, &passed), "no copy");
    assert_eq!(quality.grid().map(|g| g.shape()), Some((1, 3)));
    assert_eq!(check(&mut quality, "600 0 1", 610), Err(Reason::WrongGrid));
}

#[test]
fn tells_a_duplicate_from_a_correction() {
    let mut quality = Quality::new(config());
    assert_eq!(check(&mut quality, "300 0 1", 310), Ok(false));
    assert_eq!(check(&mut quality, "300 0 1", 320), Err(Reason::Duplicate));
    assert_eq!(check(&mut quality, "300 0 2", 330), Ok(true));
    assert_eq!(check(&mut quality, "300 0 1", 340), Ok(true), "back again is a correction too");
}

#[test]
fn each_fault_has_its_reason() {
    assert_eq!(fault(config(), "301 1", 310), Some(Reason::WrongSlot));
    assert_eq!(fault(config(), "3000 1", 310), Some(Reason::Future));
    assert_eq!(fault(config(), "900 1", 310), None, "within the tolerance");
    assert_eq!(fault(config(), "300 NaN NaN", 310), Some(Reason::AllMissing));
    let missing = QualityConfig { max_missing: 0.4, ..config() };
    assert_eq!(fault(missing, "300 NaN 1", 310), Some(Reason::TooMuchMissing));
    let wind = QualityConfig { variables: vec![Variable::EastwardWind], ..config() };
    assert_eq!(fault(wind, "300 1", 310), Some(Reason::WrongVariables));
}

#[test]
fn what_cannot_be_true_becomes_missing() {
    let range = QualityConfig { range: (0.0, 300.0), ..config() };
    let (clean, _) = Quality::new(range.clone()).check(clean(&range, frame("300 301 -1 300 NaN 0")), at(310)).unwrap();
    let missing: Vec<_> = clean.values.iter().map(|v| v.is_nan()).collect();
    assert_eq!(missing, [true, true, false, true, false]);
    let mut plane = ndarray::Array2::from_elem((5, 5), 1.0);
    plane[[2, 2]] = 90.0;
    plane[[0, 4]] = f32::NAN;
    assert_eq!(spikes::spikes(plane.view(), 50.0), [12]);
    plane[[2, 3]] = 80.0;
    plane[[3, 2]] = 80.0;
    plane[[3, 3]] = 80.0;
    assert_eq!(spikes::spikes(plane.view(), 80.0), [12], "against the median of 1 and three of 80");
}

#[test]
fn a_frozen_radar_is_stale() {
    let mut quality = Quality::new(QualityConfig { stale: Some(2), ..config() });
    assert_eq!(check(&mut quality, "300 0 1", 310), Ok(false));
    assert_eq!(check(&mut quality, "600 0 1", 610), Ok(false));
    assert_eq!(check(&mut quality, "900 0 1", 910), Err(Reason::Stale));
    assert_eq!(check(&mut quality, "900 0 2", 920), Ok(false));
}

#[test]
fn what_refills_makes_no_dead_letters_but_is_remembered() {
    let mut quality = Quality::new(config());
    let decoded = |text: &str, refill| {
        let record = Arc::new(record("text/x-words", text.as_bytes()));
        let arrived = Arrived {
            record,
            origin: Default::default(),
            after: Default::default(),
            at: at(310),
            decided: false,
            refill,
            read_at_us: 0,
        };
        Decoded { arrived, outcome: Ok(vec![clean(&config(), frame(text))]) }
    };
    assert_eq!(judge(&mut quality, decoded("301 1", true)).len(), 0);
    assert!(matches!(judge(&mut quality, decoded("300 1", true))[..], [Checked::Frame(_)]));
    assert!(matches!(judge(&mut quality, decoded("300 1", false))[..], [Checked::Dead(_)]));
}

#[test]
fn forgets_slots_beyond_its_memory() {
    let mut quality = Quality::new(QualityConfig { memory_ms: 600_000, ..config() });
    for slot in 0..20 {
        check(&mut quality, &format!("{} {slot}", slot * 300), slot * 300).unwrap();
        assert!(quality.seen.len() <= 3);
    }
}
