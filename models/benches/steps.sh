#!/bin/sh
# Times STEPS in Squall and, with PYTHON naming an interpreter that has pysteps, netCDF4, opencv, dask and pyfftw, in pysteps on
# the same frames: 24 members, 12 leads. One line of JSON each: wall and CPU seconds, peak memory, CRPS at each lead.
#
#   SQUALL_DATA=... PYTHON=... models/benches/steps.sh
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked -q -p squall-models --example steps_speed
for file in radar_mch_20150515.nc radar_fmi_20160928.nc; do
    LD_LIBRARY_PATH="${LIBTORCH:-target/libtorch}/lib" target/release/examples/steps_speed "$file" 24 12
    [ -z "${PYTHON:-}" ] || OMP_NUM_THREADS=1 "$PYTHON" models/benches/steps_pysteps.py "$SQUALL_DATA/$file" 24 12 2>/dev/null | grep '^{'
done
