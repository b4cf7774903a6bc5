"""Times scores of other programs, when asked: scores_speed.py FOLDER MEMBERS ROWS COLUMNS THRESHOLD.

The folder has members and an observation of `rain` and of `wind` as raw float32. Each line of the input names a stage and a
program; the answer is a line with the seconds of one call and the numbers that it gave. Run by
`models/examples/scores_speed.rs`, which has the same stages in Squall.
"""

import importlib.util
import sys
import time
import warnings

import numpy
import scores.categorical
import scores.probability
import scores.spatial
import scoringrules
import xarray
from scipy.ndimage import uniform_filter

warnings.simplefilter("ignore")
# Backend of scoringrules, and the estimators with which it is fastest: the biased one and the fair one.
FASTEST = ("numba", "nrg", "fair") if importlib.util.find_spec("numba") else ("numpy", "qd", "pwm")
folder, members, rows, columns = sys.argv[1], *map(int, sys.argv[2:5])
threshold = numpy.float32(sys.argv[5])


class Field:
    """One field in the layouts that each program is fastest with."""

    def __init__(self, name):
        read = [numpy.fromfile(f"{folder}/{name}_{part}.f32", "f4") for part in ("members", "observed")]
        self.members, self.observed = read[0].reshape(members, rows, columns), read[1].reshape(rows, columns)
        self.last = numpy.ascontiguousarray(numpy.moveaxis(self.members, 0, -1))
        self.forecast = xarray.DataArray(self.members, dims=("member", "y", "x"))
        self.came = xarray.DataArray(self.observed, dims=("y", "x"))


def crps_scores(field):
    of = field.forecast, field.came, "member"
    return [scores.probability.crps_for_ensemble(*of, method=method).item() for method in ("ecdf", "fair")]


def crps_scoringrules(field):
    backend, *estimators = FASTEST
    of = field.observed, field.last
    each = (scoringrules.crps_ensemble(*of, estimator=estimator, backend=backend) for estimator in estimators)
    return [values.mean(dtype="f8") for values in each]


def contingency_scores(field):
    events = field.forecast >= threshold, field.came >= threshold
    table = scores.categorical.BinaryContingencyManager(*events).transform()
    return [getattr(table, name)().item() for name in ("critical_success_index", "probability_of_detection")]


def brier_scores(field):
    of = field.forecast, field.came, "member", float(threshold)
    score = scores.probability.brier_score_for_ensemble
    return [score(*of, fair_correction=fair).item() for fair in (False, True)]


def brier_scoringrules(field):
    """The biased one alone."""
    share = (field.members >= threshold).mean(axis=0)
    return [scoringrules.brier_score(field.observed >= threshold, share).mean()]


def reliability_numpy(field):
    """Counts of a reliability diagram, and what follows."""
    yes, came = (field.members >= threshold).sum(axis=0), field.observed >= threshold
    counts = numpy.bincount((2 * yes + came).ravel(), minlength=2 * members + 2).reshape(-1, 2)
    total, share, base = counts.sum(axis=1), numpy.arange(members + 1) / members, came.mean()
    frequency = counts[:, 1] / numpy.maximum(total, 1)
    return [(total * part).sum() / came.size for part in ((share - frequency) ** 2, (frequency - base) ** 2)]


def roc_scores(field):
    """Area under the ROC curve, of shares that are given."""
    share = (field.forecast >= threshold).mean("member")
    return [scores.probability.roc_auc(share, (field.came >= threshold).astype("f8")).item()]


def probability_scores(field):
    return brier_scores(field) + roc_scores(field)


def fss_scores(field, scale):
    options = {"event_threshold": threshold, "window_size": (scale, scale), "zero_padding": True}
    return [scores.spatial.fss_2d_single_field(field.members[0], field.observed, **options)]


def fss_scipy(field, scale):
    """As pysteps does it."""
    both = ((values >= threshold).astype("f8") for values in (field.members[0], field.observed))
    f, o = (uniform_filter(values, scale, mode="constant") for values in both)
    return [1 - ((f - o) ** 2).sum() / ((f**2).sum() + (o**2).sum())]


STAGES = {
    "crps": (crps_scores, crps_scoringrules),
    "contingency": (contingency_scores,),
    "brier": (brier_scores, brier_scoringrules),
    "reliability": (reliability_numpy,),
    "roc": (roc_scores,),
    "probability": (probability_scores,),
    "fss": (fss_scores, fss_scipy),
}
FIELDS = {name: Field(name) for name in ("rain", "wind")}

for line in sys.stdin:
    # Such as `fss rain scipy 33`.
    stage, field, program, scale = line.split()
    (function,) = (function for function in STAGES[stage] if function.__name__.endswith(f"_{program}"))
    start = time.perf_counter()
    numbers = function(FIELDS[field], int(scale)) if stage == "fss" else function(FIELDS[field])
    print(time.perf_counter() - start, *map(float, numbers), flush=True)
