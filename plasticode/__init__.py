"""Plasticode: learning rules in continuous time.

    import plasticode

    result = plasticode.run("my-sweep.toml", {"delays.error": "0.5 T"})   # in memory: result.data
    data = plasticode.open("results/my-sweep")                            # what `plasticode run` has written

Circuits (`Circuit`, `Layer`, `Projection`, `TwoFactor`, ...), rules that wire them (`FA`, `Oja`, ...), the regimes
that run them (`Coupled`, `WeightFlow`, `Discrete`, through `simulate`), and the experiments of specs. Each name has
its own documentation; all are imported when they are first used.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamics import *  # noqa: F403
    from experiments.interactive import *  # noqa: F403
    from rules import *  # noqa: F403

    __version__: str

_PLACES = ("dynamics", "rules", "experiments.interactive")  # all that they hand on is public
_MODULES = ("instruments", "theory")  # and of their modules these


def _handed_on(place: str) -> dict[str, Any]:
    """The public names of a module, and what they stand for."""
    module = importlib.import_module(place)
    if hasattr(module, "__all__"):
        return {name: getattr(module, name) for name in module.__all__}
    found = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if name in _MODULES or not isinstance(value, ModuleType)}


def _found(name: str) -> Any:
    """What a public name stands for, imported at its first use."""
    if name == "__version__":
        from experiments.machine.versions import version_of

        value: Any = version_of("plasticode")
    elif name == "__all__":
        value = sorted(["__version__", *(name for place in _PLACES for name in _handed_on(place))])
    else:
        places = () if name.startswith("_") else _PLACES  # notebooks ask every object for private names
        value = next((known[name] for known in map(_handed_on, places) if name in known), None)
        if value is None:
            raise AttributeError(f"module 'plasticode' has no attribute '{name}'", name=name, obj=sys.modules[__name__])
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # which would take every name for one of ours
    __getattr__ = _found


def __dir__() -> list[str]:
    return _found("__all__")
