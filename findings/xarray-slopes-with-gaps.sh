#!/usr/bin/env bash
# xarray 2026.9.0 (with numpy 2.4.6, from PyPI; seen 2026-12-01): standard errors of slopes count samples that are missing.
#
# `polyfit` is numpy's, the help says, with NaNs left out, which it does by default where there are any. With `cov=True` one expects the
# covariance that numpy gives of the samples that are left. The coefficients are numpy's, to the last digits; the covariance is that
# of all times, as if each had been measured: both the variance of residuals and the inverse of the design are too small. Where a
# fraction f is left, so is the standard error by f, and not by its root: with a quarter of the samples, the 95 % interval of a
# slope holds the truth in 38 % of recordings. Nothing warns. What helps: `dropna` before, one recording at a time.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check xarray==2026.9.0 numpy==2.4.6
cat > "$scratch/shown.py" <<'PY'
import numpy as np
import xarray as xr

SLOPE, RECORDINGS, TIMES = 0.5, 2000, np.arange(200.0)


def shares_and_errors(left):
    """Share of 95 % intervals with the true slope, and mean standard error: of xarray, and of numpy of what is left."""
    rng = np.random.default_rng(0)
    measured = rng.random((RECORDINGS, len(TIMES))) < left
    activity = SLOPE * TIMES + rng.standard_normal(measured.shape)
    data = xr.DataArray(np.where(measured, activity, np.nan), dims=("recording", "time"), coords={"time": TIMES})
    fitted = data.polyfit("time", 1, cov=True)
    by_xarray = fitted.polyfit_coefficients.sel(degree=1).values, fitted.polyfit_covariance[0, 0].values ** 0.5
    each = [np.polyfit(TIMES[here], row[here], 1, cov=True) for here, row in zip(measured, activity, strict=True)]
    by_numpy = np.array([line[0] for line, _ in each]), np.array([cov[0, 0] ** 0.5 for _, cov in each])
    assert np.allclose(by_xarray[0], by_numpy[0], rtol=1e-9), "the slopes differ"
    without = data[0].dropna("time").polyfit("time", 1, cov=True).polyfit_covariance[0, 0] ** 0.5
    assert np.isclose(without, by_numpy[1][0]), "dropna does not help"
    return [(np.mean(abs(slope - SLOPE) < 1.96 * error), error.mean()) for slope, error in (by_xarray, by_numpy)]


for left, expected in ((1.0, 0.95), (0.5, 0.67), (0.25, 0.38)):
    (share, error), (right_share, right_error) = shares_and_errors(left)
    print(f"{left:.0%} of the samples: xarray's standard error {error:.5f}, the truth is in {share:.1%} of intervals")
    print(f"  numpy's standard error {right_error:.5f}, the truth is in {right_share:.1%} of intervals")
    assert abs(error / right_error - left) < 0.03 and abs(share - expected) < 0.04, "this has changed"
    assert abs(right_share - 0.95) < 0.03
PY
"$scratch/venv/bin/python" "$scratch/shown.py"
