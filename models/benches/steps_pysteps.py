"""STEPS by pysteps on the middle start of an event: time, memory and CRPS, one line of JSON.

    python3 steps_pysteps.py FILE MEMBERS LEADS [fft]

The CRPS is that of the ensemble (not of its infinite limit) in mm/h at each lead, over the cells where the observation
and every member have a value.
"""

import contextlib
import json
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

file, members, leads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fft = sys.argv[4] if len(sys.argv) > 4 else "pyfftw"
rain = np.ma.filled(netCDF4.Dataset(file)["rainfall_rate"][:].astype("f4"), np.nan)
newest = (len(rain) - 24) // 2 + 3


def decibel(rate):
    out = np.where(rate >= 0.1, 10 * np.log10(np.maximum(rate, 1e-6)), -15.0)
    out[~np.isfinite(rate)] = np.nan
    return out


def crps(ensemble, observed):
    valid = np.isfinite(observed) & np.isfinite(ensemble).all(axis=0)
    x, y = np.sort(ensemble[:, valid], axis=0).astype("f8"), observed[valid].astype("f8")
    m = len(x)
    weights = 2 * np.arange(1, m + 1) - m - 1
    return float((np.abs(x - y).mean(axis=0) - (weights[:, None] * x).sum(axis=0) / m**2).mean())


def peak_mb():
    """Most memory since it was last forgotten."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


def forget_peak():
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")


context = decibel(rain[newest - 3 : newest + 1])
observed = rain[newest + 1 : newest + 1 + leads]
del rain
forget_peak()
wall, cpu = time.perf_counter(), time.process_time()
with contextlib.redirect_stdout(sys.stderr):
    velocity = motion.get_method("LK")(context)
    motion_wall, motion_cpu = time.perf_counter() - wall, time.process_time() - cpu
    forecast = nowcasts.get_method("steps")(
        context[-3:], velocity, leads, n_ens_members=members, n_cascade_levels=6, precip_thr=-10.0, kmperpixel=1.0,
        timestep=5, noise_method="nonparametric", vel_pert_method="bps", mask_method="incremental",
        probmatching_method="cdf", seed=1, num_workers=len(os.sched_getaffinity(0)), fft_method=fft,
    )
forecast = np.where(forecast >= -10.0, 10 ** (forecast / 10), np.where(np.isfinite(forecast), 0.0, np.nan)).astype("f4")
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
peak = peak_mb()
print(
    json.dumps(
        {
            "program": "pysteps", "file": os.path.basename(file), "members": members, "leads": leads, "wall_s": wall, "cpu_s": cpu,
            "motion_wall_s": motion_wall, "motion_cpu_s": motion_cpu,
            "peak_mb": peak,
            "crps": [round(crps(forecast[:, k], observed[k]), 5) for k in range(leads)],
        }
    )
)
