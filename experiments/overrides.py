"""Overrides of a spec's tables before they are checked: the [quick] table and the settings of the command line."""

import copy
from collections.abc import Mapping
from typing import Any

from dynamics.errors import PlasticodeError
from experiments.paths import assign, check_path, covers, flattened, merged
from experiments.units import inline_value, printable, refused


def apply_overrides(table: Mapping[str, Any], settings: Mapping[str, Any], quick: bool) -> dict[str, Any]:
    """The tables of a spec after, where asked, its `quick` overrides and then `settings`, paths to values.

    What is overridden at the top is overridden in every part as well. The tables come back without `quick`.
    """
    table = copy.deepcopy(dict(table))
    settings = flattened(settings, "a setting")
    common = flattened(table.pop("quick", {}), "quick") if quick else {}
    table.pop("quick", None)
    if "parts" not in table:
        overrides = merged(common, settings)
        _check_effect(overrides, [table.get("sweep", {})])
        return _overridden(table, overrides)
    parts = _table(table["parts"], "parts")
    overrides = merged(common, settings)
    sweeps = [part.get("sweep", {}) for part in parts.values() if isinstance(part, Mapping)]
    _check_effect(overrides, sweeps)
    table["parts"] = {
        name: _part(_table(part, f"parts.{name}"), name, common, settings, quick) for name, part in parts.items()
    }
    return _overridden(table, {path: value for path, value in overrides.items() if not covers("sweep", path)})
