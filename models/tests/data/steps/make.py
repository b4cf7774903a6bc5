"""STEPS by pysteps 1.21.5, stage by stage, for the tests of Squall's own to compare with.

    make.py                       writes reference.json beside this: the deterministic stages, of a small field of drawn rain
    make.py OUTPUT [RADAR.nc]     writes a list: the same, Lagrangian alignment, perturbations of the motion, noise, and an
                                  ensemble, of larger drawn rain and of a part of a radar's picture

It is run by the Python of the tests (`target/venv/bin/python`).
"""

import contextlib
import json
import pathlib
import signal
import sys

import matplotlib

matplotlib.use("Agg")

import netCDF4
import numpy as np

with contextlib.redirect_stdout(sys.stderr):
    from pysteps import cascade, extrapolation, noise, nowcasts
from pysteps.cascade.decomposition import decomposition_fft
from pysteps.nowcasts.utils import compute_dilated_mask
from pysteps.postprocessing.probmatching import nonparam_match_empirical_cdf
from pysteps.timeseries import autoregression, correlation
from pysteps.utils.spectral import rapsd
from scipy.ndimage import generate_binary_structure, iterate_structure

LEVELS = 6
# Of the field of reference.json.
SMALL = 26, 33
# Rain below this is dry, in mm/h, and what dry cells are given, in dB.
THRESHOLD, DRY = 0.1, -15.0
# Of the ensemble; its fields are written without the cells that are this near to the border.
MEMBERS, LEADS, MARGIN = 16, 3, 20
# Fields of noise.
DRAWS = 100
# Part of the radar's picture: the first of the frames, rows and columns.
RADAR = 15, slice(420, 516), slice(400, 501)

move = extrapolation.get_method("semilagrangian")


def decibel(rate):
    wet = 10 * np.log10(np.maximum(rate, 1e-9, dtype="f8"))
    return np.where(np.isfinite(rate), np.where(rate >= np.float32(THRESHOLD), wet, DRY), np.nan)


def numbers(array):
    """Row by row; what is missing is none."""
    values = np.asarray(array, float).ravel()
    known = np.isfinite(values)
    return values.tolist() if known.all() else np.where(known, values, None).tolist()


def short(part):
    """With nine digits."""
    if isinstance(part, dict):
        return {key: short(value) for key, value in part.items()}
    if isinstance(part, list):
        return [short(value) for value in part]
    return float(f"{part:.9g}") if isinstance(part, float) else part


def draw(shape, frames, random):
    """Rates of rain that moves by (1.2, 0.7) cells a frame and changes on its way."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    waves = [(random.uniform(0.1, 1.6), random.uniform(0, 6.3), random.uniform(0, 6.3)) for _ in range(25)]

    def rate(t):
        field = sum(
            np.cos(k * ((x - 1.2 * t) * np.cos(a) + (y - 0.7 * t) * np.sin(a)) + p + 0.35 * k * t) / (1 + k)
            for k, a, p in waves
        )
        return np.maximum(field, 0) ** 2

    return np.stack([rate(t) for t in range(frames)])


def stages(fields, random):
    """The deterministic stages, of three fields in dB without missing values."""
    shape = fields[0].shape
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    bands = cascade.get_method("gaussian")(shape, LEVELS)
    options = {"fft_method": "numpy", "normalize": True, "compute_stats": True, "compact_output": True}
    levels = [decomposition_fft(field, bands, **options) for field in fields]
    stack = np.stack([d["cascade_levels"] for d in levels], axis=1)
    gamma = np.array([correlation.temporal_autocorrelation(stack[k]) for k in range(LEVELS)])
    adjusted = np.array([[g1, autoregression.adjust_lag2_corrcoef2(g1, g2)] for g1, g2 in gamma])
    # Like the rain, but nowhere the same, in steps that a float32 has, too.
    other = (fields[2] + random.randn(*shape)).ravel().argsort().argsort().reshape(shape) / 64.0 + DRY
    drier, wetter = (np.where(other > np.percentile(other, dry), other, other.min()) for dry in (80, 10))
    cross = iterate_structure(generate_binary_structure(2, 1), 2)
    return {
        "shape": shape,
        "fields": [numbers(f) for f in fields],
        "weights": [numbers(w) for w in bands["weights_2d"]],
        "levels": [numbers(level) for level in levels[2]["cascade_levels"]],
        "means": numbers(levels[2]["means"]),
        "deviations": [numbers(d["stds"]) for d in levels],
        "gamma": [numbers(g) for g in gamma],
        "adjusted": [numbers(g) for g in adjusted],
        "phi": [numbers(autoregression.estimate_ar_params_yw(g)) for g in adjusted],
        "noise_filter": numbers(noise.get_method("nonparametric")[0](fields, fft_method="numpy")["field"]),
        "moved": [numbers(f) for f in move(fields[2], np.stack([1.0 + 0.02 * y, -0.5 + 0.03 * x]), 3)],
        "drier": numbers(drier),
        "wetter": numbers(wetter),
        "drier_matched": numbers(nonparam_match_empirical_cdf(drier, fields[2])),
        "wetter_matched": numbers(nonparam_match_empirical_cdf(wetter, fields[2])),
        "mask": numbers(compute_dilated_mask(fields[2] >= 8.0, cross, 4)),
    }


def perturbations():
    """What three members add to a motion that turns, at three leads."""
    y, x = np.mgrid[: SMALL[0], : SMALL[1]].astype(float)
    begin, at = noise.get_method("bps")
    for seed in range(3):
        member = begin(np.stack([1.0 + 0.02 * y, -0.5 + 0.03 * x]), 1.0, 5.0, seed=seed, randstate=np.random.RandomState())
        for minutes in (5.0, 30.0, 60.0):
            added = at(member, minutes)
            draws = {"parallel": float(member["eps_par"]), "perpendicular": float(member["eps_perp"])}
            yield {**draws, "minutes": minutes, "u": numbers(added[0]), "v": numbers(added[1])}


def noises(fields):
    """Of each field of noise, which have unit variance: the power at each wavenumber, and the variance of each level."""
    begin, draw = noise.get_method("nonparametric")
    shape, random, kind = fields[0].shape, np.random.RandomState(1), begin(fields, fft_method="numpy")
    bands = cascade.get_method("gaussian")(shape, LEVELS)
    drawn = [draw(kind, randstate=random, fft_method="numpy") for _ in range(DRAWS)]
    options = {"fft_method": "numpy", "compute_stats": True}
    parts = [np.square(decomposition_fft(field, bands, **options)["stds"]) for field in drawn]
    return [numbers(rapsd(field, np.fft)) for field in drawn], [numbers(part) for part in parts]


def travelled(rates):
    """How far rain has moved in two frames, a frame: where they agree best."""
    a, b = (np.fft.fft2(np.nan_to_num(rate)) for rate in (rates[0], rates[2]))
    agreement = np.fft.ifft2(np.conj(a) * b).real[:, :, None]
    near = [(dy, dx) for dy in range(-8, 9) for dx in range(-8, 9)]
    dy, dx = max(near, key=lambda shift: agreement[shift].item())
    return dx / 2, dy / 2


def ensemble(frames, velocity, seed):
    """`[member, lead, y, x]` in dB."""
    with contextlib.redirect_stdout(sys.stderr):
        return nowcasts.get_method("steps")(
            frames, velocity, LEADS, n_ens_members=MEMBERS, n_cascade_levels=LEVELS, precip_thr=-10.0, kmperpixel=1.0,
            timestep=5, noise_method="nonparametric", vel_pert_method="bps", mask_method="incremental",
            probmatching_method="cdf", seed=seed, num_workers=1, fft_method="numpy",
        )  # fmt: skip


def dump(name, rates, random):
    """Everything, of three rates of rain and those of the leads."""
    rates = rates.astype("f4")
    rates[:, :6, :6] = np.nan
    frames, (u, v), shape = decibel(rates[:3]), travelled(rates[:3]), rates[0].shape
    velocity = np.stack([np.full(shape, u), np.full(shape, v)])
    moved = {0: frames[2]}
    for age in (1, 2):
        moved[age] = move(frames[2 - age], velocity, age, np.nan, allow_nonfinite_values=True)[-1]
    aligned = np.stack([moved[2], moved[1], moved[0]])
    filled = np.where(np.isfinite(aligned), aligned, np.nanmin(aligned))
    power, parts = noises(filled)
    inside = slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN)
    observed = decibel(rates[3:])[:, *inside]
    members = np.nan_to_num(ensemble(frames.copy(), velocity, 1)[:, :, *inside], nan=DRY)
    return {
        "name": name,
        "stages": stages(filled, random),
        "rates": [numbers(np.nan_to_num(rate, nan=-1)) for rate in rates[:3]],
        "velocity": [u, v],
        "aligned": [numbers(field) for field in aligned],
        "perturbations": list(perturbations()),
        "noise_power": power,
        "noise_parts": parts,
        "margin": MARGIN,
        "observed": [numbers(field) for field in observed],
        "members": [[numbers(np.float32(field)) for field in member] for member in members],
    }


def main(output=None, radar=None):
    # Nobody waits for longer.
    signal.alarm(300)
    random = np.random.RandomState(7)
    if output is None:
        fields = decibel(draw(SMALL, 3, random))
        return write(pathlib.Path(__file__).with_name("reference.json"), short(stages(fields, random)))
    dumps = [dump("drawn", 4 * draw((96, 101), 3 + LEADS, random), random)]
    if radar:
        first, *part = RADAR
        with netCDF4.Dataset(radar) as file:
            rates = np.ma.filled(file["rainfall_rate"][first : first + 3 + LEADS, *part].astype("f4"), np.nan)
        dumps.append(dump("radar", rates, random))
    write(pathlib.Path(output), dumps)


def write(path, what):
    path.write_text(json.dumps(what, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
