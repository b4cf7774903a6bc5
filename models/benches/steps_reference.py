"""CRPS of STEPS by pysteps on the middle start of an event, as a row of `STEPS` in models/tests/real_events.rs.

    PYTHONPATH=target/bench-python target/venv/bin/python models/benches/steps_reference.py FILE MEMBERS SEEDS [fft]

`make bench-baselines` makes target/bench-python. SEEDS is how many forecasts are averaged, of the seeds 1, 2 and so on.
FILE and MEMBERS are those of the row: the CRPS is that of the ensemble, not of its infinite limit, so it depends on how
many members there are. A seed takes minutes; on stderr are its CRPS and its time.

The CRPS is in mm/h at leads 1, 3 and 6, over the cells that are further than REACH from any cell that is missing in the
newest frame and from the border, where the observation has a value: which these are does not depend on the draws. A
member without a value there, as one that moves by more than REACH would be, is an error.
"""

import contextlib
import os
import sys
import time

# Without them pysteps does not track, or runs on one core, or transforms more slowly, and does not say so.
import cv2  # noqa: F401
import dask  # noqa: F401
import netCDF4
import numpy as np
import pyfftw  # noqa: F401
from pysteps import motion, nowcasts
from scipy.ndimage import minimum_filter

LEADS, REACH = (1, 3, 6), 60


def decibel(rate):
    out = np.where(rate >= 0.1, 10 * np.log10(np.maximum(rate, 1e-6)), -15.0)
    out[~np.isfinite(rate)] = np.nan
    return out


def inside(newest):
    """Cells whose whole square of 2 REACH + 1 cells lies on the grid and has values."""
    return minimum_filter(np.isfinite(newest).astype("u1"), 2 * REACH + 1, mode="constant").astype(bool)


def crps(ensemble, observed):
    x, y, m = np.sort(ensemble, axis=0).astype("f8"), observed.astype("f8"), len(ensemble)
    weights = 2 * np.arange(1, m + 1) - m - 1
    return (np.abs(x - y).mean(axis=0) - (weights[:, None] * x).sum(axis=0) / m**2).mean()


def main(file, members, seeds, fft="pyfftw"):
    with netCDF4.Dataset(file) as archive:
        count = archive.dimensions["time"].size
        newest = (count - 24) // 2 + 3
        rain = archive["rainfall_rate"][newest - 3 : newest + 1 + max(LEADS)]
    rain = np.ma.filled(rain.astype("f4"), np.nan)
    context, region = decibel(rain[:4]), inside(rain[3])
    print(f"{region.sum()} cells of {region.size}", file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        velocity = motion.get_method("LK")(context)
    found = []
    for seed in range(1, int(seeds) + 1):
        started = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            forecast = nowcasts.get_method("steps")(
                context[-3:], velocity, max(LEADS), n_ens_members=int(members), n_cascade_levels=6, precip_thr=-10.0,
                kmperpixel=1.0, timestep=5, noise_method="nonparametric", vel_pert_method="bps",
                mask_method="incremental", probmatching_method="cdf", seed=seed,
                num_workers=len(os.sched_getaffinity(0)), fft_method=fft,
            )
        row = []
        for lead in LEADS:
            observed = rain[3 + lead]
            known = region & np.isfinite(observed)
            values = forecast[:, lead - 1, known]
            assert np.isfinite(values).all(), f"lead {lead}: a member came from beyond {REACH} cells"
            row.append(crps(np.where(values >= -10.0, 10 ** (values / 10), 0.0).astype("f4"), observed[known]))
        found.append(row)
        took = time.perf_counter() - started
        print(f"seed {seed}: {', '.join(f'{value:.5f}' for value in row)} in {took:.0f} s", file=sys.stderr)
    mean = ", ".join(f"{value:.5f}" for value in np.mean(found, axis=0))
    print(f'    ("{os.path.basename(file)}", {members}, RUNS, [{mean}]),')


main(*sys.argv[1:])
