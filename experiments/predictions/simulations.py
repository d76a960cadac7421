"""How predictions simulate: a spec, run and read, in float64 on one device."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from experiments.execution import runner
from experiments.results.labels import STATUS
from experiments.spec.loading import make_spec


def swept(table: Mapping[str, Any]) -> xr.Dataset:
    """The results of a spec without parts, given as the tables of its TOML file."""
    return runner.run(make_spec({"dtype": "float64", **table})).datasets[""]


def final(data: xr.Dataset, probe: str) -> xr.DataArray:
    """The last record of a probe; NaN where a point has not ended well."""
    return data[probe].isel(record=-1).where(data["status"] == STATUS.index("ok")).astype(np.float64)
