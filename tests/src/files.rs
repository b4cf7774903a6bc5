//! NetCDF files as the tests see them: the numbers, bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The values of every numeric variable of a file, as bits, so that two missing values are equal and +0 is not -0.
pub fn numbers(path: &Path) -> BTreeMap<String, Vec<u64>> {
    let file = open(path);
    let mut numbers = BTreeMap::new();
    for variable in file.variables() {
        if let Ok(values) = variable.get_values::<f64, _>(..) {
            numbers.insert(variable.name(), values.into_iter().map(f64::to_bits).collect());
        }
    }
    assert!(!numbers.is_empty(), "{} holds no numbers", path.display());
    numbers
}

/// Which values of a variable are not missing.
pub fn present(variable: &netcdf::Variable<'_>) -> Vec<bool> {
    let fill = variable.attribute_value("_FillValue").and_then(Result::ok);
    let fill = fill.and_then(|fill| f64::try_from(fill).ok()).unwrap_or(f64::NAN);
    let values = variable.get_values::<f64, _>(..).expect("numbers");
    values.into_iter().map(|value| !value.is_nan() && value != fill).collect()
}

/// Opens a file. HDF5 would print its whole error stack whenever netCDF asks for an attribute that is not there.
pub fn open(path: &Path) -> netcdf::File {
    hdf5_metno::silence_errors(true);
    netcdf::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Which variables of two files differ, with the number of values that do. Empty: equal to the last bit.
pub fn difference(left: &Path, right: &Path) -> Vec<String> {
    let (left, right) = (numbers(left), numbers(right));
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let one = |name: &&String| match (left.get(*name), right.get(*name)) {
        (Some(a), Some(b)) if a == b => None,
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(format!("{name}: {} of {} values differ", a.iter().zip(b).filter(|(a, b)| a != b).count(), a.len()))
        }
        (a, b) => Some(format!("{name}: {:?} and {:?} values", a.map(Vec::len), b.map(Vec::len))),
    };
    names.iter().filter_map(one).collect()
}

/// Every file below a folder with that ending, in order.
pub fn below(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
