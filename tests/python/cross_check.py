"""Scores of `squall verify` against other programs' scores: cross_check.py SQUALL WORK_FOLDER [DATA_FOLDER].

Forecasts and observations are drawn, written in the shapes of IMPROVER and of pysteps, and scored by Squall; every
number that it prints, points of curves and ranks among them, is compared with what scoringrules, properscoring, scores
and pysteps say of the same values, or NumPy and SciPy where none of them has it (definitions: docs/verification.md).
With a folder of archives the same is done for a real ensemble at stations, for wind on a grid, and for a radar, of
which some values are published. Prints a line for each score and program; the exit code is 1 if a number differs.
"""

import itertools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy
import properscoring
import pysteps.utils.spectral
import pysteps.verification
import scores.categorical
import scores.continuous
import scores.probability
import scores.spatial
import scoringrules
import xarray
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter, uniform_filter

TOLERANCE = 1e-9
# Squall keeps the means of windows as float32.
ROUNDED = dict.fromkeys(("crps_pooled_mean", "crps_pooled_mean_fair"), 1e-6)
# Where the event comes nearly always, a value of 0 is a small difference of large numbers, divided by a small one.
ROUNDED["economic_value"] = 1e-8
CURVES = "reliability", "roc", "economic_value"
# Ratios of cost to loss with an economic value, beside the base rate: in each power of ten, and high ones.
COSTS, HIGH_COSTS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0), (0.9, 0.95, 0.98, 0.99)
THRESHOLDS, SCALES = [0.1, 0.5, 5.0, 20.0, 1000.0], [1, 2, 5, 10, 33]
ROWS, COLUMNS = 40, 46
# Part of a radar's picture: a tenth of it is out of reach, and it rains on a fifth.
EDGE = {"y": slice(460, 560), "x": slice(540, 650)}
ISSUED = 1475064000
RAIN = {"standard_name": "lwe_precipitation_rate", "units": "mm h-1"}


class Comparison:
    """Differences so far, by score and program."""

    def __init__(self):
        self.groups, self.wrong = {}, []

    def add(self, group, where, got, expected, tolerance):
        """Compares two numbers, relative to the expected one or 0.001 if that is less; none equals not finite."""
        if got is None or not numpy.isfinite(expected):
            difference = float((got is None) == numpy.isfinite(expected))
        else:
            difference = float(abs(got - expected) / max(abs(expected), 1e-3))
        count, largest = self.groups.get(group, (0, 0.0))
        self.groups[group] = count + 1, max(largest, difference)
        if not difference <= tolerance:
            self.wrong.append(f"{where}, {group}: {got}, expected {expected}")

    def add_rows(self, label, rows, expected):
        """Compares rows of Squall with (program, score, threshold, scale, value, count). All must be expected; what has
        counted nothing must be absent."""
        left = set(rows)
        for program, score, threshold, scale, value, count in expected:
            key = score, threshold and numpy.float32(threshold), scale
            where = f"{label}, threshold {threshold}, scale {scale}"
            left.discard(key)
            got, got_count = rows.get(key, (None, 0))
            self.add("counts (numpy)", f"{where}, {score}", got_count, count, 0)
            if count:
                self.add(f"{score} ({program})", where, got, value, ROUNDED.get(score, TOLERANCE))
        self.wrong += [f"{label}: nothing to compare {key} with" for key in left]

    def report(self):
        for group, (count, largest) in sorted(self.groups.items()):
            print(f"{group:<40} {count:5} numbers, largest difference {largest:.1e}")
        print("\n".join(self.wrong) or "No number differs.")
        return int(bool(self.wrong))


def verify(squall, forecasts, observation, *more, thresholds=THRESHOLDS, scales=SCALES):
    """Rows of `squall verify` by variable and lead: (score, threshold, scale) to (value, count)."""
    command = [squall, "verify", "--forecast", *forecasts, "--observation", observation, "--format", "json", *more]
    command += ["--thresholds", ",".join(map(str, thresholds)), "--scales", ",".join(map(str, scales))]
    environment = {key: value for key, value in os.environ.items() if key not in ("RUST_LOG", "SQUALL_LOG_FORMAT")}
    result = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    tables = {}

    def table(of):
        return tables.setdefault((of["variable"], of["lead_minutes"]), {})

    for row in result["scores"]:
        key = row["score"], row["threshold"] and numpy.float32(row["threshold"]), row["scale"]
        table(row)[key] = row["value"], row["count"]
    for name in CURVES:
        for curve in result[name]:
            points = [(point["x"], point["y"], point["count"]) for point in curve["points"]]
            table(curve).update(on_curve(name, numpy.float32(curve["threshold"]), points))
    for histogram in result["ranks"]:
        ranks = histogram["ranks"]
        table(histogram).update({("ranks", None, at): (share, round(sum(ranks))) for at, share in enumerate(ranks)})
    return tables


def on_curve(name, threshold, points):
    """Points (x, y, count) as rows: y by x, which is a probability or a ratio of costs; of the ROC both by number."""
    if name == "roc":
        both = enumerate(points)
        return {(f"roc_{axis}", threshold, at): (p["xy".index(axis)], p[2]) for at, p in both for axis in "xy"}
    return {(name, threshold, x): (y, count) for x, y, count in points}


# Files. Values are `[..., y, x]` with the northern row first.


def write(path, dimensions, fields, coordinates, south_first=False):
    """Writes fields, name to (attributes, values), on the one grid."""
    y = {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"}
    x = {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"}
    grid = {"y": ("y", 7e6 - 1e3 * numpy.arange(ROWS), y), "x": ("x", 4e5 + 1e3 * numpy.arange(COLUMNS), x)}
    crs = {"grid_mapping_name": "transverse_mercator", "proj4": "+proj=utm +zone=35 +datum=WGS84 +units=m +no_defs"}
    variables = {name: (dimensions, values, {**a, "grid_mapping": "crs"}) for name, (a, values) in fields.items()}
    data = xarray.Dataset({**variables, "crs": ((), numpy.int32(0), crs)}, {**grid, **coordinates})
    (data.isel(y=slice(None, None, -1)) if south_first else data).to_netcdf(path)
    return path


def time(dimensions, values, since="1970-01-01 00:00:00", name="time"):
    return dimensions, numpy.array(values, "i8"), {"standard_name": name, "units": f"seconds since {since}"}


def write_plain(path, times, fields):
    return write(path, ("time", "y", "x"), fields, {"time": time("time", times)})


def write_improver(path, issued, lead, fields):
    members = len(next(iter(fields.values()))[1])
    number = {"standard_name": "realization", "units": "1"}
    coordinates = {
        "realization": ("realization", numpy.arange(members, dtype="i4"), number),
        "time": time((), issued + lead),
        "forecast_reference_time": time((), issued, name="forecast_reference_time"),
        "forecast_period": ((), numpy.int32(lead), {"standard_name": "forecast_period", "units": "seconds"}),
    }
    return write(path, ("realization", "y", "x"), fields, coordinates, south_first=True)


def write_pysteps(path, leads, values):
    number = {"long_name": "ensemble member", "standard_name": "realization", "units": ""}
    since = str(numpy.datetime64(ISSUED, "s")).replace("T", " ")
    coordinates = {
        "ens_number": ("ens_number", numpy.arange(1, len(values) + 1), number),
        "time": time("time", leads, since),
    }
    attributes = {"long_name": "instantaneous precipitation rate", "units": "mm h-1"}
    return write(path, ("ens_number", "time", "y", "x"), {"precip_intensity": (attributes, values)}, coordinates)


# What the scores should be, as (program, score, threshold, scale, value, count). A case is members `[member, y, x]` and
# an observation `[y, x]`.


def known(members, observed):
    return ~numpy.isnan(members).any(axis=0) & ~numpy.isnan(observed)


def cells(cases):
    """Members `[cell, member]` and observations `[cell]` of the cells where none is missing."""
    members = [members[:, known(members, observed)].T for members, observed in cases]
    return numpy.concatenate(members), numpy.concatenate([observed[known(m, observed)] for m, observed in cases])


def array(values):
    return xarray.DataArray(numpy.asarray(values, "f8"), dims=("cell", "member")[: numpy.ndim(values)])


def mean(members, axis):
    return members.mean(axis=axis, dtype="f8").astype("f4")


def crps(score, members, observed, scale=None):
    members, observed, count = array(members), array(observed), len(observed)
    if not count:
        members, observed = array(numpy.full((1, 2), numpy.nan)), array([numpy.nan])
    values = observed.values, members.values
    yield "properscoring", score, None, scale, properscoring.crps_ensemble(*values).mean(), count
    for name, estimator, method in ((score, "nrg", "ecdf"), (f"{score}_fair", "fair", "fair")):
        yield "scoringrules", name, None, scale, scoringrules.crps_ensemble(*values, estimator=estimator).mean(), count
        value = scores.probability.crps_for_ensemble(members, observed, "member", method=method)
        yield "scores", name, None, scale, float(value), count
    # That of pysteps is wrong where members or the observation are equal.
    every = numpy.sort(numpy.c_[values[1], values[0]], axis=1)
    if count and members.shape[1] > 1 and (numpy.diff(every) > 0).all():
        yield "pysteps", score, None, scale, pysteps.verification.probscores.CRPS(values[1].T, values[0]), count


def tail_crps(members, observed, threshold):
    members, observed, count, a = array(members), array(observed), len(observed), float(numpy.float32(threshold))
    for name, estimator, method in (("twcrps", "nrg", "ecdf"), ("twcrps_fair", "fair", "fair")):
        own = scoringrules.twcrps_ensemble(observed.values, members.values, a=a, estimator=estimator)
        yield "scoringrules", name, threshold, None, own.mean(), count
        of = members, observed, "member", a
        value = scores.probability.tail_tw_crps_for_ensemble(*of, tail="upper", method=method)
        yield "scores", name, threshold, None, float(value), count


def errors(members, observed):
    """Of the mean, the spread, and the ranks."""
    size, count, forecast = members.shape[1], len(observed), mean(members, axis=1)
    for name, function in {"mae": "mae", "rmse": "rmse", "bias": "mean_error"}.items():
        value = getattr(scores.continuous, function)(array(forecast), array(observed))
        yield "scores", name, None, None, float(value), count
        if count:
            key = {"mae": "MAE", "rmse": "RMSE", "bias": "ME"}[name]
            value = pysteps.verification.det_cont_fct(forecast.astype("f8"), observed.astype("f8"), key)[key]
            yield "pysteps", name, None, None, value, count
    members = members.astype("f8")
    spread = numpy.sqrt(members.var(axis=1, ddof=1).mean())
    skill = numpy.sqrt(((members.mean(axis=1) - observed) ** 2).mean())
    ratio = spread * numpy.sqrt((size + 1) / size) / skill
    for name, value in {"spread": spread, "skill": skill, "spread_skill": ratio}.items():
        yield "numpy", name, None, None, value, count if size > 1 else 0
    ranks = scores.probability.rank_histogram(array(members), array(observed), "member").values
    yield "scores", "rank_outliers", None, None, (ranks[0] + ranks[-1]) * (size + 1) / 2, count
    yield "scores", "rank_reliability_index", None, None, float(numpy.abs(ranks - 1 / (size + 1)).sum()), count
    for at, share in enumerate(ranks):
        yield "scores", "ranks", None, at, share * count, count
    # pysteps draws the rank of an observation that equals a member.
    if not (members == observed[:, None]).any():
        histogram = pysteps.verification.ensscores.rankhist_init(size)
        pysteps.verification.ensscores.rankhist_accum(histogram, members.T, observed)
        for at, number in enumerate(histogram["n"]):
            yield "pysteps", "ranks", None, at, number, count


CONTINGENCY = {
    "csi": "critical_success_index",
    "pod": "probability_of_detection",
    "far": "false_alarm_ratio",
    "ets": "equitable_threat_score",
    "hss": "heidke_skill_score",
    "frequency_bias": "frequency_bias",
}
CONTROL = {f"{name}_control": CONTINGENCY[name] for name in ("csi", "frequency_bias")}
NEARBY = {"csi_neighbourhood": CONTINGENCY["csi"]}


def contingency(names, forecast, observed, threshold, scale=None):
    """Of where the forecast and the observation have an event."""
    table = scores.categorical.BinaryContingencyManager(array(forecast), array(observed)).transform()
    for name, function in names.items():
        yield "scores", name, threshold, scale, float(getattr(table, function)()), len(observed)
    keys = {"csi": "CSI", "pod": "POD", "far": "FAR", "ets": "ETS", "hss": "HSS", "frequency": "BIAS"}
    for name in names if len(observed) else ():
        key = keys[name.split("_")[0]]
        with numpy.errstate(divide="ignore", invalid="ignore"):
            value = pysteps.verification.det_cat_fct(forecast * 1.0, observed * 1.0, 0.5, key)[key]
        yield "pysteps", name, threshold, scale, value, len(observed)


def probabilities(members, observed, threshold):
    limit, size, count = numpy.float32(threshold), members.shape[1], len(observed)
    yes, came = (members >= limit).sum(axis=1), observed >= limit
    share, base = yes / size, came.mean()

    def brier(fair):
        of = array(members), array(observed), "member", float(limit)
        return scores.probability.brier_score_for_ensemble(*of, fair_correction=fair).item()

    bins = [(k / size, came[yes == k]) for k in range(size + 1) if (yes == k).any()]
    steps = [k / size for k in range(size + 1)]
    alarms = {"cost_loss_ratios": [base], "probability_thresholds": steps, "generate_maximum_rev": True}
    value = scores.probability.relative_economic_value(array(share), array(came), **alarms)["maximum"]
    for program, name, number in (
        ("scores", "brier", brier(fair=False)),
        ("scoringrules", "brier", scoringrules.brier_score(came, share).mean()),
        ("scores", "brier_fair", brier(fair=True) if size > 1 else numpy.nan),
        ("numpy", "brier_reliability", sum(len(part) * (p - part.mean()) ** 2 for p, part in bins) / count),
        ("numpy", "brier_resolution", sum(len(part) * (part.mean() - base) ** 2 for _, part in bins) / count),
        ("numpy", "brier_uncertainty", base * (1 - base)),
        ("scores", "roc_area", float(scores.probability.roc_auc(array(share), array(came)))),
        ("scores", "economic_value_max", value.item()),
    ):
        yield program, name, threshold, None, number, count
    points = reliability(yes, came, size), roc(yes, came, size), economic_value(share, came, steps)
    for program, name, at, number, cases in itertools.chain(*points):
        yield program, name, threshold, at, number, cases


# Points of the curves of one threshold, as (program, curve, place, value, count): of so many of `size` members with the
# event, and whether it came.


def reliability(yes, came, size):
    """How often the event came, by forecast probability; pysteps with as many bins as there are probabilities."""
    diagram = pysteps.verification.probscores.reldiag_init(0.5, n_bins=size + 1, min_count=1)
    pysteps.verification.probscores.reldiag_accum(diagram, yes / size, came * 1.0)
    _, frequency = pysteps.verification.probscores.reldiag_compute(diagram)
    for k in numpy.unique(yes):
        yield "pysteps", "reliability", k / size, frequency[k], diagram["num_idx"][k]
        yield "numpy", "reliability", k / size, came[yes == k].mean(), (yes == k).sum()


def roc(yes, came, size):
    """False alarm and hit rates, from no alarm on, by falling probability; none if the event came always or never."""
    if came.all() or not came.any():
        return
    present, count = numpy.unique(yes), len(came)
    curve = scores.probability.roc_curve_data(array(yes / size), array(came * 1.0), present / size)
    # From the highest threshold, which nothing reaches; where 0 was not forecast, it was added.
    theirs = numpy.stack([curve["POFD"], curve["POD"]])[:, ::-1][:, : len(present) + 1]
    # The probabilities as pysteps has them: it compares to the last bit.
    table = pysteps.verification.probscores.ROC_curve_init(0.5, n_prob_thrs=size + 1)
    pysteps.verification.probscores.ROC_curve_accum(table, table["prob_thrs"][yes], came * 1.0)
    others = numpy.array(pysteps.verification.probscores.ROC_curve_compute(table))[:, present[::-1]]
    for name, alarms, attainable in zip(("roc_x", "roc_y"), theirs, others):
        for at, number in enumerate(alarms):
            yield "scores", name, at, number, count
        for at, number in enumerate(attainable, 1):
            yield "pysteps", name, at, number, count


def economic_value(share, came, steps):
    """For each ratio of cost to loss that of the best alarm. To act always or never, which is no threshold, is worth 0."""
    base, count = came.mean(), len(came)
    if not 0 < base < 1:
        return
    least = min(max(base / 10, 1e-6), 1e-3)
    spaced = (cost / decade for decade in (1e6, 1e5, 1e4, 1e3, 1e2, 1e1) for cost in COSTS)
    ratios = sorted({*(ratio for ratio in spaced if ratio >= least), *HIGH_COSTS, float(base)})
    alarms = {"cost_loss_ratios": ratios, "probability_thresholds": steps, "generate_maximum_rev": True}
    best = scores.probability.relative_economic_value(array(share), array(came), **alarms)["maximum"].values
    for ratio, value in zip(ratios, best.ravel()):
        yield "scores", "economic_value", ratio, max(value, 0.0), count


def fss(cases, threshold, scale, is_event=numpy.greater_equal):
    """As pysteps computes it; a cell that is missing anywhere is no event, and a window of such cells does not count. And
    of one field by scores, which has other windows at the border, where no event is near it."""
    limit, sums, pairs, count = numpy.float32(threshold), numpy.zeros(2), [], 0
    for members, observed in cases:
        whole = known(members, observed)
        pairs.append((is_event(members, limit).mean(axis=0) * whole, is_event(observed, limit) * 1.0 * whole))
        f, o = (uniform_filter(values, scale, mode="constant") for values in pairs[-1])
        sums += ((f - o) ** 2).sum(), (f**2 + o**2).sum()
        count += int(maximum_filter(whole.astype("u1"), scale, mode="constant").sum(dtype="i8"))
    yield "scipy", "fss", threshold, scale, 1 - sums[0] / sums[1] if sums[1] > 1e-9 else numpy.nan, count
    if len(cases) == len(cases[0][0]) == 1 and sums[1] > 1e-9:
        value = pysteps.verification.spatialscores.fss(*pairs[0], 0.5, scale)
        yield "pysteps", "fss", threshold, scale, value, count
    border = numpy.ones(cases[0][1].shape, bool)
    border[scale:-scale, scale:-scale] = False
    if len(cases) == len(cases[0][0]) == 1 and sums[1] > 1e-9 and not any((border * v).any() for v in pairs[0]):
        options = {"event_threshold": 0.5, "window_size": (scale, scale), "zero_padding": True}
        yield "scores", "fss", threshold, scale, scores.spatial.fss_2d_single_field(*pairs[0], **options), count


def fss_inside(members, observed, threshold, scale, is_event):
    """Of windows inside the grid alone; of one field as scores has it."""
    limit, whole = numpy.float32(threshold), known(members, observed)
    pair = is_event(members, limit).mean(axis=0) * whole, is_event(observed, limit) * 1.0 * whole
    f, o = (sliding_window_view(values, (scale, scale)).mean(axis=(2, 3)) for values in pair)
    reference = (f**2 + o**2).sum()
    count = int(sliding_window_view(whole, (scale, scale)).any(axis=(2, 3)).sum())
    value = 1 - ((f - o) ** 2).sum() / reference if reference > 1e-9 else numpy.nan
    yield "numpy", "fss", threshold, scale, value, count
    if len(members) == 1 and reference > 1e-9:
        # A cell that is missing anywhere is dry in both.
        fields = (numpy.where(whole, field, 0).astype("f8") for field in (members[0], observed))
        options = {"event_threshold": float(limit), "window_size": (scale, scale), "threshold_operator": is_event}
        yield "scores", "fss", threshold, scale, scores.spatial.fss_2d_single_field(*fields, **options), count


def nearby(cases, threshold, scale):
    """CSI of events anywhere in windows, half of their side apart and as far beyond the border; of known cells."""
    limit, half, windows = numpy.float32(threshold), scale // 2, []
    for members, observed in cases:
        whole = known(members, observed)
        layers = (mean(members, axis=0) >= limit) & whole, (observed >= limit) & whole, whole
        padded = [sliding_window_view(numpy.pad(layer, half), (scale, scale)) for layer in layers]
        f, o, counts = (layer[:: max(half, 1), :: max(half, 1)].any(axis=(2, 3)) for layer in padded)
        windows.append((f[counts], o[counts]))
    return contingency(NEARBY, *map(numpy.concatenate, zip(*windows)), threshold, scale)


def pooled(cases, scale):
    """CRPS of windows inside, (scale + 2) / 4 cells apart."""
    step = max((scale + 2) // 4, 1)
    for score, pool in {"crps_pooled_mean": numpy.mean, "crps_pooled_max": numpy.max}.items():

        def of(field):
            windows = sliding_window_view(field.astype("f8"), (scale, scale), axis=(-2, -1))
            return pool(windows[..., ::step, ::step, :, :], axis=(-2, -1))

        yield from crps(score, *cells([(of(members), of(observed)) for members, observed in cases]), scale)


def spectrum(field):
    """Mean power on rings of rounded wavenumber, below half of the longer side."""
    power = numpy.abs(numpy.fft.fft2(field.astype("f8"))) ** 2 / field.size
    y, x = (numpy.fft.fftfreq(n) * n for n in field.shape)
    ring = numpy.hypot(y[:, None], x).round()
    return numpy.array([power[ring == k].mean() for k in range((max(field.shape) + 1) // 2)])


def spectra(cases):
    """Ratios of power by wavelength; a cell that is missing anywhere is dry in all."""
    fields = [[numpy.where(known(*case), field, 0) for field in (*case[0], case[1])] for case in cases]
    powers = [[spectrum(field) for field in case] for case in fields]
    ratios = sum(numpy.mean(case[:-1], axis=0) for case in powers) / sum(case[-1] for case in powers)
    theirs = [[pysteps.utils.spectral.rapsd(field.astype("f8"), numpy.fft) for field in case] for case in fields]
    theirs = sum(numpy.mean(case[:-1], axis=0) for case in theirs) / sum(case[-1] for case in theirs)
    for k in range(1, len(ratios)):
        wavelength = max(cases[0][1].shape) / k
        yield "numpy", "rapsd_ratio", None, wavelength, ratios[k], len(cases)
        if k < len(theirs):
            yield "pysteps", "rapsd_ratio", None, wavelength, theirs[k], len(cases)


def of_cells(cases, thresholds=THRESHOLDS):
    """All scores that look at each cell by itself."""
    members, observed = cells(cases)
    first = cells([(members[:1], observed) for members, observed in cases])
    yield from crps("crps", members, observed)
    yield from errors(members, observed)
    for threshold in thresholds:
        limit = numpy.float32(threshold)
        yield from tail_crps(members, observed, threshold)
        yield from contingency(CONTINGENCY, mean(members, axis=1) >= limit, observed >= limit, threshold)
        yield from contingency(CONTROL, first[0][:, 0] >= limit, first[1] >= limit, threshold)
        yield from probabilities(members, observed, threshold)


def of_fields(cases, thresholds=THRESHOLDS, scales=SCALES):
    """All scores."""
    yield from of_cells(cases, thresholds)
    yield from spectra(cases)
    for scale in scales:
        yield from pooled(cases, scale)
        for threshold in thresholds:
            yield from fss(cases, threshold, scale)
            yield from nearby(cases, threshold, scale)


def speed(u, v):
    """As Squall has it: float32."""
    return numpy.hypot(u.astype("f8"), v.astype("f8")).astype("f4")


def of_vectors(east, north):
    """Scores of the wind, of a case for each component."""
    whole = known(*east) & known(*north)
    members = numpy.stack([part[0][:, whole].T for part in (east, north)], axis=-1)
    observed, count = numpy.stack([part[1][whole] for part in (east, north)], axis=-1), int(whole.sum())
    yield from crps("crps_speed", speed(*numpy.moveaxis(members, -1, 0)), speed(*observed.T))
    pair = observed.astype("f8"), members.astype("f8")
    for name, estimator in {"energy": "nrg", "energy_fair": "fair"}.items():
        yield "scoringrules", name, None, None, scoringrules.es_ensemble(*pair, estimator=estimator).mean(), count
    forecast, observed = mean(members, axis=1).astype("f8"), pair[0]
    yield "numpy", "vector_rmse", None, None, numpy.sqrt(((forecast - observed) ** 2).sum(axis=1).mean()), count
    angle = numpy.degrees(numpy.arctan2(*forecast.T) - numpy.arctan2(*observed.T))
    error = numpy.abs((angle + 180) % 360 - 180)[(numpy.hypot(*forecast.T) >= 1) & (numpy.hypot(*observed.T) >= 1)]
    yield "numpy", "direction_error", None, None, error.mean(), len(error)


# The comparisons.


def draw_rain(random, members, missing=0.01, margin=0):
    """A case in steps of 0.5 mm/h: mostly dry, members often equal to the observation, some heavy rain."""
    rain = random.gamma(0.6, 6.0, (members + 1, ROWS, COLUMNS)).round() / 2
    rain[random.random(rain.shape) < 0.5] = 0
    rain[:, 13:17, 13:20] += 30
    rain[1:] = numpy.where(random.random(rain[1:].shape) < 0.3, rain[0], rain[1:])
    inside = numpy.zeros((ROWS, COLUMNS), bool)
    inside[margin : ROWS - margin, margin : COLUMNS - margin] = True
    rain *= inside
    rain[random.random(rain.shape) < missing] = numpy.nan
    return rain[1:].astype("f4"), rain[0].astype("f4")


def check_improver(comparison, squall, folder, random):
    """Rates in m s-1, south first; two forecasts of one lead, pooled."""
    rate, issued = {**RAIN, "units": "m s-1"}, (ISSUED, ISSUED + 300)
    stored = [[(part / 3.6e6).astype("f4") for part in draw_rain(random, 7)] for _ in issued]
    forecasts = [
        write_improver(folder / f"improver_{at}.nc", at, 900, {"lwe_precipitation_rate": (rate, members)})
        for at, (members, _) in zip(issued, stored)
    ]
    came = {"rain": (rate, numpy.stack([observed for _, observed in stored]))}
    observation = write_plain(folder / "improver_observation.nc", [at + 900 for at in issued], came)
    tables = verify(squall, forecasts, observation, "--model", "improver")
    read = [[part * numpy.float32(3.6e6) for part in case] for case in stored]
    comparison.add_rows("IMPROVER", tables["rain_rate", 15.0], of_fields(read))


def check_pysteps(comparison, squall, folder, random):
    """Two leads, the second without a missing value."""
    cases = {300: draw_rain(random, 10), 600: draw_rain(random, 10, missing=0)}
    members = numpy.stack([members for members, _ in cases.values()], axis=1)
    came = {"rain": (RAIN, numpy.stack([observed for _, observed in cases.values()]).astype("f8"))}
    observation = write_plain(folder / "pysteps_observation.nc", [ISSUED + lead for lead in cases], came)
    tables = verify(squall, [write_pysteps(folder / "pysteps.nc", list(cases), members)], observation)
    for lead, case in cases.items():
        comparison.add_rows(f"pysteps +{lead} s", tables["rain_rate", lead / 60], of_fields([case]))


def check_single(comparison, squall, folder, random):
    """One field, dry near the border."""
    members, observed = draw_rain(random, 1, margin=10)
    forecast = write_plain(folder / "single.nc", [ISSUED + 300], {"rain": (RAIN, members)})
    observation = write_plain(folder / "single_observation.nc", [ISSUED + 300], {"rain": (RAIN, observed[None])})
    tables = verify(squall, [forecast], observation, "--issue-time", f"{numpy.datetime64(ISSUED, 's')}Z")
    comparison.add_rows("one member", tables["rain_rate", 5.0], of_fields([(members, observed)]))


def check_fss(comparison, squall, folder, random):
    """The FSS as other programs have it: windows inside alone, events above a threshold. A corner is missing, and has
    windows in which nothing is known."""
    issued = "--scores", "fss", "--issue-time", f"{numpy.datetime64(ISSUED, 's')}Z"
    names = {numpy.greater: "above", numpy.greater_equal: "at-least"}
    for size in (1, 4):
        members, observed = draw_rain(random, size)
        observed[:15, :18] = numpy.nan
        forecast = write_improver(folder / f"fss_{size}.nc", ISSUED, 300, {"lwe_precipitation_rate": (RAIN, members)})
        came = {"rain": (RAIN, observed[None])}
        observation = write_plain(folder / f"fss_{size}_observation.nc", [ISSUED + 300], came)
        for is_event, border in (
            (numpy.greater, "interior"),
            (numpy.greater_equal, "interior"),
            (numpy.greater, "no-event"),
        ):
            chosen = "--fss-border", border, "--fss-operator", names[is_event]
            tables = verify(squall, [forecast], observation, *issued, *chosen)
            expected = []
            for threshold, scale in ((threshold, scale) for threshold in THRESHOLDS for scale in SCALES):
                if border == "interior":
                    expected += fss_inside(members, observed, threshold, scale, is_event)
                else:
                    expected += fss([(members, observed)], threshold, scale, is_event)
            comparison.add_rows(f"{size} members, {border}, {names[is_event]}", tables["rain_rate", 5.0], expected)


def check_wind(comparison, squall, folder, random):
    """Both components in steps of 0.5 m/s: some are just no calm."""
    names = "eastward_wind", "northward_wind"
    wind = (random.normal(0, 3, (2, 6, ROWS, COLUMNS)).round() / 2).astype("f4")
    wind[random.random(wind.shape) < 0.01] = numpy.nan
    members, came = (
        {name: ({"standard_name": name, "units": "m s-1"}, field[part]) for name, field in zip(names, wind)}
        for part in (slice(1, None), slice(1))
    )
    observation = write_plain(folder / "wind_observation.nc", [ISSUED + 3600], came)
    tables = verify(squall, [write_improver(folder / "wind.nc", ISSUED, 3600, members)], observation)
    cases = [(field[1:], field[0]) for field in (*wind, speed(*wind))]
    for variable, case in zip((*names, "wind_speed"), cases):
        comparison.add_rows(variable, tables[variable, 60.0], of_fields([case]))
    comparison.add_rows("wind", tables["wind", 60.0], of_vectors(*cases[:2]))


def check_stations(comparison, squall, data):
    """A real ensemble at stations, by lead."""
    path, thresholds = data / "ens_meps_wind10m_20190217.nc", [5.0, 10.0, 15.0]
    tables = verify(squall, [path], path, thresholds=thresholds)
    with xarray.open_dataset(path, decode_timedelta=False) as file:
        for lead in numpy.unique(file.lead_hours):
            part = file.isel(case=file.lead_hours.values == lead)
            case = part.forecast.values.T[:, None], part.observed.values[None]
            comparison.add_rows(f"MEPS +{lead} h", tables["wind_speed", lead * 60.0], of_cells([case], thresholds))


def check_arpege(comparison, squall, folder, data):
    """Real wind on a grid: what six hours had, as members, for the hour after."""
    names = {"u10": "eastward_wind", "v10": "northward_wind"}
    with xarray.open_dataset(data / "wind_arpege_nw_20180501.nc") as file:
        file = file.drop_encoding().load()
    observed = file.isel(time=[12])
    lagged = {name: file[name].values[6:12] for name in names}
    fields = {name: observed[name].expand_dims(realization=6).copy(data=lagged[name][:, None]) for name in names}
    paths = [folder / f"arpege_{name}.nc" for name in ("forecast", "observation")]
    observed.assign(fields).to_netcdf(paths[0])
    observed.to_netcdf(paths[1])
    settings = {"thresholds": [2.0, 5.0], "scales": [1, 5, 10]}
    tables = verify(squall, paths[:1], paths[1], "--issue-time", "2018-05-01T11:00:00Z", **settings)
    cases = [(lagged[name], observed[name].values[0]) for name in names]
    cases.append(tuple(speed(*parts) for parts in zip(*cases)))
    for variable, case in zip((*names.values(), "wind_speed"), cases):
        comparison.add_rows(f"ARPEGE {variable}", tables[variable, 60.0], of_fields([case], **settings))
    comparison.add_rows("ARPEGE wind", tables["wind", 60.0], of_vectors(*cases[:2]))


def check_radar(comparison, squall, folder, data):
    """A radar, where it is at its edge all scores of ten members; and published values, in mm in 5 minutes: here mm/h, 12
    times as large."""
    with xarray.open_dataset(data / "radar_mch_20150515.nc") as file:
        file = file.drop_encoding().load()
    first = int(numpy.searchsorted(file.time.values, numpy.datetime64("2015-05-15T16:30")))
    frames = file.rainfall_rate.values

    def table(forecast, at, *more, part=None, **settings):
        observed = file.isel(time=[at], **(part or {}))
        ensemble = observed.rainfall_rate.expand_dims(realization=len(forecast)).copy(data=forecast[:, None])
        paths = [folder / f"radar_{name}.nc" for name in ("forecast", "observation")]
        observed.assign(rainfall_rate=ensemble).to_netcdf(paths[0])
        observed.to_netcdf(paths[1])
        issued = "--issue-time", "2015-05-15T16:25:00Z"
        (rows,) = verify(squall, paths[:1], paths[1], *issued, *more, **settings).values()
        return rows

    lagged, observed = frames[first : first + 10], frames[first + 10]
    rows = table(lagged, first + 10, "--scores", "crps,probability", thresholds=[12])
    members, observed = cells([(lagged, observed)])
    comparison.add_rows("radar", rows, [*crps("crps", members, observed), *probabilities(members, observed, 12)])
    part, settings = EDGE, {"thresholds": [0.1, 2.0, 12.0], "scales": [1, 5, 10]}
    edge = table(lagged[:, part["y"], part["x"]], first + 10, part=part, **settings)
    case = lagged[:, part["y"], part["x"]], frames[first + 10, part["y"], part["x"]]
    comparison.add_rows("radar, its edge", edge, of_fields([case], **settings))
    # The archive is rounded to 0.01 mm/h, what was published is not; all programs say the same of the archive.
    for score, published in {"crps": 0.01587150, "crps_fair": 0.01470641}.items():
        comparison.add(f"{score} (published)", "radar", rows[score, None, None][0] / 12, published, 3e-4)
    by_scale = {1: 0.477413, 3: 0.612789, 9: 0.831840, 10: 0.85161531, 33: 0.965598}
    rows = table(frames[first - 1 : first], first, "--scores", "fss", thresholds=[12], scales=by_scale)
    for scale, published in by_scale.items():
        got = rows["fss", numpy.float32(12), scale][0]
        comparison.add("fss (published)", f"radar, scale {scale}", got, published, 1e-4)


def main(squall, folder, data=None):
    warnings.simplefilter("ignore")
    numpy.seterr(all="ignore")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    comparison, random = Comparison(), numpy.random.default_rng(20160928)
    for check in (check_improver, check_pysteps, check_single, check_wind, check_fss):
        check(comparison, squall, folder, random)
    if data:
        check_stations(comparison, squall, Path(data))
        check_arpege(comparison, squall, folder, Path(data))
        check_radar(comparison, squall, folder, Path(data))
    return comparison.report()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
