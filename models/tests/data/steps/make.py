"""Makes reference.json: the deterministic stages of STEPS by pysteps 1.21.5, on simulated rain.

    pip install pysteps==1.21.5 opencv-python-headless && python3 make.py
"""

import json
import pathlib

import numpy as np
from pysteps import cascade, extrapolation, noise
from pysteps.cascade.decomposition import decomposition_fft
from pysteps.nowcasts.utils import compute_dilated_mask
from pysteps.postprocessing.probmatching import nonparam_match_empirical_cdf
from pysteps.timeseries import autoregression, correlation
from scipy.ndimage import generate_binary_structure, iterate_structure

ROWS, COLUMNS, LEVELS = 26, 33, 6
random = np.random.RandomState(7)
y, x = np.mgrid[:ROWS, :COLUMNS].astype(float)
waves = [(random.uniform(0.1, 1.6), random.uniform(0, 6.3), random.uniform(0, 6.3)) for _ in range(25)]


def rain(t):
    field = sum(
        np.cos(k * ((x - 1.2 * t) * np.cos(a) + (y - 0.7 * t) * np.sin(a)) + p + 0.35 * k * t) / (1 + k)
        for k, a, p in waves
    )
    rate = np.maximum(field, 0) ** 2
    return np.where(rate >= 0.1, 10 * np.log10(np.maximum(rate, 1e-9)), -15.0)


fields = np.stack([rain(t) for t in range(3)])
bands = cascade.get_method("gaussian")((ROWS, COLUMNS), LEVELS)
levels = [
    decomposition_fft(f, bands, fft_method="numpy", normalize=True, compute_stats=True, compact_output=True)
    for f in fields
]
stack = np.stack([d["cascade_levels"] for d in levels], axis=1)
gamma = np.array([correlation.temporal_autocorrelation(stack[k]) for k in range(LEVELS)])
adjusted = np.array([[g1, autoregression.adjust_lag2_corrcoef2(g1, g2)] for g1, g2 in gamma])
phi = np.array([autoregression.estimate_ar_params_yw(g) for g in adjusted])
shape = noise.get_method("nonparametric")[0](fields, fft_method="numpy")["field"]
velocity = np.stack([1.0 + 0.02 * y, -0.5 + 0.03 * x])
moved = extrapolation.get_method("semilagrangian")(fields[2], velocity, 3)
other = fields[2] + random.randn(ROWS, COLUMNS)
drier = np.where(other > np.percentile(other, 80), other, other.min())
wetter = np.where(other > np.percentile(other, 10), other, other.min())
cross = iterate_structure(generate_binary_structure(2, 1), 2)


def numbers(array):
    return [None if not np.isfinite(v) else float(f"{v:.9g}") for v in np.asarray(array, float).ravel()]


reference = {
    "shape": [ROWS, COLUMNS], "fields": [numbers(f) for f in fields], "weights": [numbers(w) for w in bands["weights_2d"]],
    "levels": [numbers(level) for level in levels[2]["cascade_levels"]], "means": numbers(levels[2]["means"]),
    "deviations": [numbers(d["stds"]) for d in levels], "gamma": [numbers(g) for g in gamma],
    "adjusted": [numbers(g) for g in adjusted], "phi": [numbers(p) for p in phi], "noise_filter": numbers(shape),
    "moved": [numbers(f) for f in moved], "drier": numbers(drier), "wetter": numbers(wetter),
    "drier_matched": numbers(nonparam_match_empirical_cdf(drier, fields[2])),
    "wetter_matched": numbers(nonparam_match_empirical_cdf(wetter, fields[2])),
    "mask": numbers(compute_dilated_mask(fields[2] >= 8.0, cross, 4)),
}
pathlib.Path(__file__).with_name("reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")
