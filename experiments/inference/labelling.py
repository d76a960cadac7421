"""What the variables of fit.nc, recording.nc and design.nc say of themselves: `long_name`, and `units`, but where each
of the numbers over `free` has its own, which the coordinate `unit` has."""

from collections.abc import Iterable, Mapping, Sequence

import xarray as xr

from experiments.inference.coordinates import Coordinate
from experiments.inference.table import Observation
from experiments.spec.probes import FISHER, PROBES, probe_named

LONG_NAME = f"{PROBES[FISHER].long_name}, relative on a log scale"
STARTS = {
    "began": "where the start began",
    "ended": "where the start ended",
    "loss": "negative log-likelihood there, with the priors",
    "scores": "scores that the start took",
    "converged": "whether the start came to its end",
}
NATURAL = {
    "mean": "mean",
    "log_sd": "logarithm of the standard deviation",
    "logit": "logarithm of the odds of 1",
    "log_mean": "logarithm of the mean count",
    "logits": "logits of the choices",
}
DESIGN = {"true_number": "number that is taken for the truth"}
RULES = {
    "held_out": "log-likelihood by a fit without the fold",
    "block": "block of the presentation, -1 where nothing was observed",
    "fold": "fold that left the presentation out, -1 where nothing was observed",
    "behind": "log-likelihood of what was left out, behind the best rule",
    "estimate": "estimate from the whole recording",
    "misfit": "residuals by the test, in standard deviations",
}


def starts(data: xr.Dataset, free: Sequence[Coordinate]) -> xr.Dataset:
    """Of the ends of all starts."""
    return _over_free(data, free, STARTS, ("began", "ended"))


def rules(data: xr.Dataset, free: Iterable[Coordinate]) -> xr.Dataset:
    """Of a comparison of rules, given the free numbers of all of them."""
    return _over_free(data, free, RULES, ("estimate",))


def design(data: xr.Dataset, free: Sequence[Coordinate]) -> xr.Dataset:
    """Of expected errors."""
    unit, errors = _common("1" if one.is_log else unit_of(one) for one in free), ("error", "error_at_truth")
    names, units = {name: LONG_NAME for name in errors}, {name: unit for name in errors}
    return _said(_over_free(data, free, DESIGN, ("true_number",)), names, units)


def _over_free(data: xr.Dataset, free: Iterable[Coordinate], names: Mapping[str, str], of: Sequence[str]) -> xr.Dataset:
    """Where variables `of` free numbers are in the units of those."""
    known = {one.path: unit_of(one) for one in free}
    units = [known[path] for path in data["free"].values.tolist()]
    data = data.assign_coords(unit=("free", units, {"long_name": "unit of the free number"}))
    return _said(data, names, dict.fromkeys(of, _common(units)))


def _common(units: Iterable[str]) -> str:
    """The unit that all have, or ""."""
    each = {*units}
    return each.pop() if len(each) == 1 else ""


def unit_of(one: Coordinate) -> str:
    """Of a free number."""
    return "s" if one.is_time else "1"


def predicted(data: xr.Dataset, observe: Iterable[Observation]) -> xr.Dataset:
    """Of what the model says beside the data."""
    names, units = {}, {}
    for one in observe:
        text, unit = _observed(one)
        names |= {f"{one.name}_data": text, f"{one.name}_residual": f"{text}: residual, in standard deviations"}
        names |= {f"{one.name}_{key}": f"{text}: {what} by the model" for key, what in NATURAL.items()}
        units |= dict.fromkeys((f"{one.name}_data", f"{one.name}_mean"), unit)
    return _said(data, names, units)


def recording(data: xr.Dataset, observe: Iterable[Observation]) -> xr.Dataset:
    """Of a recording that was simulated."""
    known = {"sample": "sample of the task that was shown"} | {one.name: _observed(one)[0] for one in observe}
    names = {name: known.get(name, "initial weights") for name in map(str, data.data_vars)}
    return _said(data, names, {one.name: _observed(one)[1] for one in observe})


def _observed(one: Observation) -> tuple[str, str]:
    """What was observed, in words, and its unit."""
    unit = probe_named(one.of).units if one.is_probe and one.noise == "gaussian" else "1"
    kinds = {"bernoulli": f"0 or 1 by {one.of}", "categorical": "number of the chosen neuron", "poisson": "counts"}
    return f"{one.name}: {kinds.get(one.noise, one.of)}", unit


def profile(data: xr.Dataset, one: Coordinate) -> xr.Dataset:
    """Of a number that was held at values."""
    texts = {"loss": STARTS["loss"], "place": "share of the range", "at": one.path}
    return _said(data, texts, {"at": unit_of(one)})


def weights(data: xr.Dataset) -> xr.Dataset:
    """Of free initial weights."""
    ends = ("estimate of the initial weights", "standard errors of the initial weights")
    return _said(data, {str(name): ends[str(name).endswith("_error")] for name in data.data_vars})


def _said(data: xr.Dataset, names: Mapping[str, str], units: Mapping[str, str] = {}) -> xr.Dataset:
    """The data, with the long names of those of its variables that have one here, and their units: 1 where none is
    given, and none at all where that is ""."""
    data = data.copy()
    for name in names.keys() & set(data.variables):
        unit = units.get(name, "1")
        data[name].attrs = {"long_name": names[name]} | ({"units": unit} if unit else {})
    return data
