"""Results files that tests write themselves, of the same form as those that runs merge from chunks."""

from pathlib import Path

import h5netcdf

from experiments.results.labels import Results, root_attributes


def save(results: Results, path: Path) -> None:
    """Write all parts into one netCDF-4 file, each a group (the part "" is the root)."""
    with h5netcdf.File(path, "w") as file:  # to which groups are added
        file.attrs.update({} if "" in results.datasets else root_attributes(results.datasets))
    for part, data in results.datasets.items():
        # Missing values are NaN as they stand: a fill value would turn a coordinate into a masked one.
        plain = {name: {"_FillValue": None} for name, values in data.variables.items() if values.dtype.kind == "f"}
        data.to_netcdf(path, mode="a", group=part or None, engine="h5netcdf", encoding=plain)
