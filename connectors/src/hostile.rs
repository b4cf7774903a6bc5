//! Truncated files, files that are none, and files that reach outside: an error, never a panic.

use squall_fields::{InputRef, Variable};
use squall_operators::products::products;

use crate::error::FileError;
use crate::netcdf::round_trip::{SYSTEMS, all_products, forecast, frame};
use crate::netcdf::{Reader, WriteOptions, forecast_bytes, forecast_from_bytes, frame_bytes};
use crate::odim::{OdimWriteOptions, read_bytes, write_bytes};
use crate::options::{Limits, ReadOptions};

fn input() -> InputRef {
    InputRef { topic: "t".into(), partition: 0, offset: 0, digest: "".into() }
}

fn options() -> ReadOptions {
    ReadOptions { limits: Limits { max_cells: 1 << 20, max_fields: 1000, max_bytes: 8 << 20 }, ..Default::default() }
}

fn netcdf(bytes: &[u8]) -> Result<(), FileError> {
    let options = options();
    let reader = Reader::from_bytes(bytes, &options)?;
    for index in 0..reader.len().min(2) {
        let frame = reader.frame(index)?;
        assert_eq!(frame.values.dim().1, reader.grid().y.len);
    }
    Ok(())
}

fn odim(bytes: &[u8]) -> Result<(), FileError> {
    read_bytes(bytes, &options(), input()).map(|_| ())
}

fn stored_forecast(bytes: &[u8]) -> Result<(), FileError> {
    forecast_from_bytes(bytes, &options().limits).map(|_| ())
}

type Read = fn(&[u8]) -> Result<(), FileError>;

fn samples() -> Vec<(&'static str, Vec<u8>, Read)> {
    let rain = frame(SYSTEMS[0], &[Variable::RainRate], 20, 30, 1);
    let cast = forecast(SYSTEMS[1], 9, 8);
    let made = products(&cast, &all_products());
    let variable_length = OdimWriteOptions { variable_length_texts: true, ..OdimWriteOptions::default() };
    vec![
        ("NetCDF", frame_bytes(&rain, &WriteOptions::default()).unwrap(), netcdf),
        ("ODIM", write_bytes(&rain, &OdimWriteOptions::default()).unwrap(), odim),
        ("ODIM, texts of variable length", write_bytes(&rain, &variable_length).unwrap(), odim),
        ("forecast", forecast_bytes(&cast, &made, &WriteOptions::default()).unwrap(), stored_forecast),
    ]
}

/// How many damaged files of each kind; set `SQUALL_FUZZ` for more.
fn rounds() -> u64 {
    std::env::var("SQUALL_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

#[test]
fn truncated() {
    for (name, bytes, read) in samples() {
        read(&bytes).unwrap();
        for n in 0..rounds() {
            let len = bytes.len() * n as usize / rounds() as usize;
            assert!(read(&bytes[..len]).is_err(), "{name}: {len} of {} bytes were read", bytes.len());
        }
    }
}

#[test]
fn refused_before_anything_is_read() {
    let rain = frame(SYSTEMS[0], &[Variable::RainRate], 20, 30, 1);
    let bytes = frame_bytes(&rain, &WriteOptions::default()).unwrap();
    let refuse = |limits: Limits| {
        let options = ReadOptions { limits, ..Default::default() };
        Reader::from_bytes(&bytes, &options).map(|_| ()).unwrap_err().to_string()
    };
    let default = Limits::default();
    assert!(refuse(Limits { max_cells: 599, ..default }).contains("at most"));
    assert!(refuse(Limits { max_bytes: 1000, ..default }).contains("1000"));
    for other in [&b""[..], b"GIF89a", b"https://example.org/x.nc", b"CDF", &[0; 4096]] {
        assert!(netcdf(other).is_err() && odim(other).is_err() && stored_forecast(other).is_err());
    }
}

#[test]
fn a_file_that_points_at_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret.bin");
    std::fs::write(&secret, [1u8; 64]).unwrap();
    let path = folder.path().join("pointing.h5");
    let read = |build: &dyn Fn(&hdf5_metno::File)| {
        let file = hdf5_metno::File::create(&path).unwrap();
        build(&file);
        file.close().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (netcdf(&bytes).unwrap_err().to_string(), odim(&bytes).unwrap_err().to_string())
    };
    let link = read(&|file| file.link_external("other.h5", "/data", "data").unwrap());
    assert!(link.0.contains("refused") && link.1.contains("refused"), "{link:?}");
    let name = secret.display().to_string();
    let storage = read(&|file| {
        let builder = file.new_dataset::<u8>().shape((8, 8)).external(&name, 0, 64);
        builder.create("data").unwrap();
    });
    assert!(storage.0.contains("refused") && storage.1.contains("refused"), "{storage:?}");
}

#[test]
fn two_images_at_once_are_two_files() {
    let bytes: Vec<Vec<u8>> = (0..2)
        .map(|seed| {
            frame_bytes(&frame(SYSTEMS[0], &[Variable::RainRate], 20, 30, seed), &WriteOptions::default()).unwrap()
        })
        .collect();
    let options = ReadOptions::default();
    let (a, b) = (Reader::from_bytes(&bytes[0], &options).unwrap(), Reader::from_bytes(&bytes[1], &options).unwrap());
    assert_ne!(a.frame(0).unwrap().input.digest, b.frame(0).unwrap().input.digest);
}
