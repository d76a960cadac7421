#!/usr/bin/env bash
# pynapple 0.11.4 and neo 0.14.6 (with pynwb 4.2.0, from PyPI; seen 2026-11-30): what readers of NWB make of stored integers.
#
# A series of an NWB file says `conversion` and `offset`: volts = conversion * number + offset. pynwb hands out the numbers and has
# `get_data_in_units` beside them. One expects the libraries on top of it, made for analysis, to hand out volts. pynapple hands out
# the stored numbers, and says nothing. neo takes the conversion into the unit (1000 millivolts), but leaves the offset out, so that
# a membrane potential stored about -70 mV comes out about 0; and with a conversion that is no power of ten, as headstages have
# (0.195 uV), it raises a ValueError. Who fits a model of activity to what either hands out fits other numbers, each without a mark.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check pynapple==0.11.4 neo==0.14.6 pynwb==4.2.0
cat > "$scratch/shown.py" <<'PY'
import datetime
import pathlib
import sys

import neo
import numpy as np
import pynapple
import pynwb

STORED = np.array([0, 1000, 2000], dtype=np.int16)


def write(path, conversion, offset):
    """Three voltages, at 1 kHz, as whole numbers: volts = conversion * number + offset."""
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    session = pynwb.NWBFile("a session", "one", start)
    how = {"conversion": conversion, "offset": offset, "rate": 1000.0, "starting_time": 0.0}
    session.add_acquisition(pynwb.TimeSeries("v", data=STORED, unit="volts", **how))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(session)


def by_pynwb(path):
    with pynwb.NWBHDF5IO(path, "r") as io:
        return io.read().acquisition["v"].get_data_in_units()


def by_pynapple(path):
    return np.asarray(pynapple.load_file(path)["v"].values)


def by_neo(path):
    (block,) = neo.io.NWBIO(path, "r").read_all_blocks()
    return block.segments[0].analogsignals[0].rescale("V").magnitude[:, 0]


def shown(name, found, expected):
    print(f"  {name}: {np.array2string(np.asarray(found), precision=6)}")
    assert np.allclose(found, expected), "this has changed"


folder = pathlib.Path(sys.argv[1])
for conversion, offset in ((0.001, 0.0), (0.001, -0.07)):
    path = str(folder / f"{offset}.nwb")
    write(path, conversion, offset)
    volts = conversion * STORED + offset
    print(f"conversion {conversion}, offset {offset}: volts {volts}")
    shown("pynwb, get_data_in_units", by_pynwb(path), volts)
    shown("pynapple", by_pynapple(path), STORED)
    shown("neo, in volts", by_neo(path), conversion * STORED)

path = str(folder / "headstage.nwb")
write(path, 1.95e-7, 0.0)
print("conversion 1.95e-7, offset 0")
shown("pynapple", by_pynapple(path), STORED)
try:
    print(by_neo(path))
except ValueError as error:
    print(f"  neo: ValueError: {error}")
else:
    raise AssertionError("this has changed")
PY
"$scratch/venv/bin/python" -W ignore "$scratch/shown.py" "$scratch"
