"""Arrays that points keep beside numbers, such as their weights: dimensions and lengths, which all of them fit into."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from dynamics.errors import PlasticodeError, printable
from experiments.spec.probes import TAKEN

HELD = "arrays"  # where a record has them, by name: (points, records, *shape)
MOST_KEPT = 200_000_000  # numbers, over all points and records


class Extent(NamedTuple):
    """An array of a point: what results call its dimensions and their lengths; whether it is kept at all `records`, or
    at the end alone; its name and unit ("": each number has its own); what places along its last dimension are called.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    records: bool
    long_name: str
    units: str = "1"
    places: tuple[str, ...] = ()

    @property
    def attributes(self) -> dict[str, str]:
        """What a variable of a result says of itself."""
        return {"long_name": self.long_name} | ({"units": self.units} if self.units else {})


Layout = dict[str, Extent]  # by name


def common(layouts: Iterable[Layout], points: int, records: int, taken: Collection[str]) -> Layout:
    """The arrays that those of all points fit into, shorter ones with NaN at their ends: layers differ in size.

    `points` and `records` are how many there are, `taken` what else a result has. Raises `PlasticodeError` where one
    name stands for arrays with other dimensions, or for something else, and where all of them are too large.
    """
    found: Layout = {}
    sizes: dict[str, int] = {}
    for name, extent in ((name, extent) for layout in layouts for name, extent in layout.items()):
        first = found.setdefault(name, extent)
        if wrong := sorted({name, *extent.dims} & ({*TAKEN, *taken} - {"sample"})):
            raise PlasticodeError(
                f"results cannot keep '{printable(wrong[0])}', as something else in them is called so"
            )
        if first.dims != extent.dims:
            dims = " and ".join(f"({', '.join(map(printable, one.dims))})" for one in (first, extent))
            raise PlasticodeError(
                f"record.weights is not allowed with this sweep: '{printable(name)}' has the dimensions {dims}; use "
                "parts for these points"
            )
        for dim, size in zip(extent.dims, extent.shape, strict=True):
            sizes[dim] = max(sizes.get(dim, 0), size)
    found = {name: one._replace(shape=tuple(sizes[dim] for dim in one.dims)) for name, one in found.items()}
    kept = sum(points * (records if one.records else 1) * math.prod(one.shape) for one in found.values())
    if kept > MOST_KEPT:
        told = f"{', '.join(found)} would be {kept:.3g} numbers at {points} points: at most {MOST_KEPT} can be kept"
        raise PlasticodeError(f"record.inside, record.weights and probes that keep arrays ask for too much: {told}")
    return found


def are_held(held: Mapping[str, tuple[int, ...]], layout: Layout, points: int, records: int) -> bool:
    """Whether a chunk has the arrays of a layout, by their shapes."""
    return held == {name: (points, records if one.records else 1, *one.shape) for name, one in layout.items()}
