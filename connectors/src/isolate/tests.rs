//! Helpers that answer, that break, that hang, and that are not there.

use squall_fields::random::Philox;

use super::*;
use crate::netcdf::round_trip::{SYSTEMS, frame};
use crate::netcdf::{WriteOptions, frame_bytes};
use crate::odim::{OdimWriteOptions, write_bytes};

/// Not a test: what the helper processes of the tests below run, in this test binary.
#[test]
fn helper() {
    run_if_helper();
}

fn input() -> InputRef {
    InputRef { topic: "t".into(), partition: 3, offset: 7, digest: "d".into() }
}

fn isolated(format: Format) -> IsolatedDecoder {
    IsolatedDecoder::with_command(format, ReadOptions::default(), || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "isolate::tests::helper", "--nocapture", "--test-threads=1"]);
        Ok(command)
    })
}

fn samples() -> Vec<(Format, Bytes)> {
    let mut rain = frame(SYSTEMS[0], &[Variable::RainRate], 20, 30, 1);
    rain.quality = Some(Array2::from_elem((20, 30), 0.5));
    let variable_length = OdimWriteOptions { variable_length_texts: true, ..OdimWriteOptions::default() };
    vec![
        (Format::Netcdf, frame_bytes(&rain, &WriteOptions::default()).unwrap().into()),
        (Format::Odim, write_bytes(&rain, &OdimWriteOptions::default()).unwrap().into()),
        (Format::Odim, write_bytes(&rain, &variable_length).unwrap().into()),
    ]
}

#[test]
fn a_helper_gives_what_the_decoder_gives() {
    for (format, bytes) in samples() {
        let isolated = isolated(format);
        let here = format.decoder(ReadOptions::default()).decode(&bytes, &input()).unwrap();
        for _ in 0..3 {
            let there = isolated.decode(&bytes, &input()).unwrap();
            assert_eq!(there.len(), here.len());
            let (a, b) = (&there[0], &here[0]);
            assert_eq!((&a.grid, a.slot, &a.variables, &a.input), (&b.grid, b.slot, &b.variables, &b.input));
            assert_eq!(a.quality, b.quality);
            assert!(a.values.iter().zip(&b.values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        assert_eq!(isolated.idle().len(), 1, "one helper serves one after the other");
        let error = isolated.decode(&Bytes::from_static(b"GRIB"), &input()).unwrap_err();
        let here = format.decoder(ReadOptions::default()).decode(&Bytes::from_static(b"GRIB"), &input());
        assert_eq!(Chain(&error).to_string(), Chain(&here.unwrap_err()).to_string());
        assert_eq!(isolated.idle().len(), 1, "a bad record does not end it");
    }
}

/// How many damaged files of each kind; set `SQUALL_FUZZ` for more.
fn rounds() -> u64 {
    std::env::var("SQUALL_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

#[test]
fn damaged_files_do_not_stop_the_stream() {
    for (format, bytes) in samples() {
        let isolated = isolated(format);
        let (mut good, mut bad, mut crashed) = (0, 0, 0);
        for n in 0..rounds() {
            let random = Philox::new(n, 3);
            let mut damaged = bytes.to_vec();
            // Half of the damage goes into the first part, where structure is denser than data.
            let reach = if n % 2 == 0 { damaged.len() } else { damaged.len().min(4096) };
            for flip in 0..1 + n % 4 {
                let [place, value, ..] = random.block(flip);
                damaged[place as usize % reach] = value as u8;
            }
            match isolated.decode(&damaged.into(), &input()) {
                Ok(_) => good += 1,
                Err(DecodeError::Broke { .. }) => crashed += 1,
                Err(_) => bad += 1,
            }
        }
        eprintln!("{format:?}: {good} read, {bad} refused, {crashed} broke the helper");
        assert!(bad > 0 && good > 0, "{format:?}: {good} read, {bad} refused");
        assert_eq!(isolated.decode(&bytes, &input()).unwrap().len(), 1, "the next good record is read");
    }
}

#[test]
fn a_helper_that_hangs_is_ended() {
    let hanging = IsolatedDecoder::with_command(Format::Netcdf, ReadOptions::default(), || {
        let mut command = Command::new("sh");
        command.args(["-c", "printf squall-decoder/1; exec tail -f /dev/null"]);
        Ok(command)
    });
    let hanging = hanging.with_patience(Duration::from_millis(100));
    // More than a pipe holds, so that writing hangs too.
    for bytes in [Bytes::from_static(b"x"), vec![0; 1 << 20].into()] {
        let error = hanging.decode(&bytes, &input()).unwrap_err();
        let text = Chain(&error).to_string();
        assert!(text.contains("in time") && text.contains("signal: 9"), "{text}");
    }
}

#[test]
fn without_helpers_it_decodes_here() {
    let alone = IsolatedDecoder::with_command(Format::Netcdf, ReadOptions::default(), || {
        Ok(Command::new("/nonexistent/squall"))
    });
    assert_eq!(alone.decode(&samples()[0].1, &input()).unwrap().len(), 1);
}
