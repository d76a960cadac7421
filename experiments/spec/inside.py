"""What `record.inside` asks for, as results have it."""

from collections.abc import Collection, Sequence

import numpy as np

from dynamics.errors import PlasticodeError, refused
from experiments.spec.probes import TAKEN, variable
from experiments.spec.tables import Record

PRESENTATION, TIME = "inside_presentation", "inside_time"  # dimensions of results
TOLD = "inside_told"  # of presentations, where not all targets are told


def coordinates(record: Record, periods: np.ndarray, dims: Collection[str]) -> dict[str, tuple]:
    """The coordinates of what is seen, over `dims`; `periods` are the seconds from one presentation to the next at all
    points.

    Where these are not the same, times are in periods.
    """
    shares, same = np.linspace(0, 1, record.inside_times), len(periods) == 1
    times = {"units": "s" if same else "period", "long_name": "time from the start of the presentation"}
    shown = {"units": "1", "long_name": "presentation that is seen inside, counted from 0"}
    found: dict[str, tuple] = {
        PRESENTATION: (PRESENTATION, np.array(record.inside_presentations, np.int32), shown),
        TIME: (TIME, shares * float(periods[0]) if same else shares, times),
    }
    for layer, numbers in record.inside_neurons.items():
        label = {"units": "1", "long_name": f"neuron of layer {layer}, counted from 0"}
        own = set(neurons_of((layer, layer))) & set(dims)
        found |= {dim: (dim, np.array(numbers, np.int32), label) for dim in own}
    return found


def neurons_of(layers: Sequence[str]) -> tuple[str, ...]:
    """What results call the dimensions of the neurons of layers; the sources of a matrix within a layer have a name of
    their own."""
    return tuple(f"{layer}{'_source' * (layer in layers[:i])}_neuron" for i, layer in enumerate(layers))


def column(record: Record, name: str) -> str:
    """What a result calls what is seen: a name of Python's, which is longer beside saved weights, whose variables are
    W1 and whose dimensions are z1."""
    return name.replace(".", "_") + ("" if record.weights is None else "_inside")


def check_inside(record: Record, probes: tuple[str, ...], regime: str, presentations: int) -> None:
    """Refuses what [record] says of the inside, as far as it can be seen without the circuit."""
    shown = list(record.inside_presentations)
    for key in ("inside_presentations", "inside_times", "inside_neurons"):
        value = getattr(record, key)
        if not record.inside and value != Record.model_fields[key].default:
            raise refused(f"record.{key}", list(value) if isinstance(value, tuple) else value, "it needs record.inside")
    if not record.inside:
        return
    if regime != "coupled":
        told = f"regime = '{regime}' has settled activities, and presentations no inside: it must be 'coupled'"
        raise refused("record.inside", list(record.inside), told)
    if not shown:
        raise PlasticodeError(
            "record.inside_presentations is missing: record.inside needs the numbers of presentations"
        )
    if shown != sorted(set(shown)) or shown[-1] >= presentations:
        told = f"it must be numbers of presentations in ascending order, from 0 to {presentations - 1}"
        raise refused("record.inside_presentations", shown, told)
    columns = [column(record, name) for name in record.inside]
    taken = {*TAKEN, PRESENTATION, TIME, *map(variable, probes)}
    for name in columns:
        if name in taken or columns.count(name) > 1:
            raise refused("record.inside", list(record.inside), f"results can have '{name}' once only")
