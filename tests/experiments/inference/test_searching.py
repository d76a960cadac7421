"""Starts as chunks: what was interrupted goes on, here and as a command, to the very same numbers."""

import json

import numpy as np
import pytest

from experiments.inference.scoring import Walk, advanced, spread
from experiments.inference.searching import Search, Searcher, Seeker, chunking_of, ends_of, meter_of, record_of
from experiments.machine.progress import Meter
from experiments.results import ownership
from experiments.results.netcdf import output_directory
from experiments.storage.chunks import ChunkStore
from tests.experiments.inference.test_scoring import curved


class Way:
    """Scores with NumPy; an interrupt comes instead of score number `last`."""

    batch = 4

    def __init__(self, last=10**9):
        self.left = last

    def prepare(self):
        pass

    def begun(self, start, held):
        return Walk.begun(start, held)

    def after(self, walk):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return advanced(walk, curved, self.batch)


STARTS = spread(11, 2, 0)


def search(last=10**9):
    return Search("starts", Way(last), STARTS, np.zeros(STARTS.shape, bool))


def same(one, other):
    return all(np.array_equal(a, b) for row, of in zip(one, other, strict=True) for a, b in zip(row, of, strict=True))


@pytest.fixture(scope="module")
def whole():
    (ends,) = Seeker(Meter(None, 1.0), chunking_of(11, 1))(search())
    return ends


def test_progress_tells_how_many_starts_have_ended():
    """Of the search that a fit is at, while they go on side by side; and never a pace of starts, which end together."""
    told = []
    meter = meter_of({"starts": 11, "valleys": 4}, told.append)
    Seeker(meter, chunking_of(11, 1))(search())
    ended, done = [now.points for now in told], [now.done for now in told]
    assert ended == sorted(ended) and ended[0] == 0 and ended[-1] == 11 and len(set(ended)) > 2
    assert done == sorted(done) and done[-1] == 11 * 12 and told[-1].total == 11 * 12 + 4 * 0.5
    assert "11 of 11 starts finished" in told[-1].facts and not any(now.rate for now in told)


def test_ends_are_what_a_chunk_keeps(whole):
    assert same(ends_of(record_of(whole)), whole)


@pytest.mark.parametrize("last", [1, 5, 10])
def test_an_interrupted_chunk_goes_on_to_the_same_numbers(tmp_path, whole, last):
    (key, points), *_ = search().chunks(chunking_of(11, 1)).items()
    with pytest.raises(KeyboardInterrupt):
        Searcher(search(last), 11, ChunkStore(tmp_path, "this fit")).run(key, points, Meter(None, 1.0))
    again = search()
    record = Searcher(again, 11, ChunkStore(tmp_path, "this fit")).run(key, points, Meter(None, 1.0))
    rounds = 10**9 - again.way.left
    assert same(ends_of(record), whole) and rounds == 11 - last  # not one score is taken twice
    elsewhere = search()
    Searcher(elsewhere, 11, ChunkStore(tmp_path, "another fit")).run(key, points, Meter(None, 1.0))
    assert 10**9 - elsewhere.way.left == 11


@pytest.mark.parametrize("summary, stays", [({"recording": "recording.nc"}, False), ({}, True)])
def test_a_recording_that_was_simulated_does_not_outlive_its_fit(tmp_path, summary, stays):
    """A user's own does: the summary of who simulated one says so."""
    out = tmp_path / "out"
    for content in (summary, {}):
        with output_directory(out, ownership.FITTED) as directory:
            (directory / "summary.json").write_text(json.dumps(content | {"estimates": [], "figures": []}))
        if content is summary:
            (out / "recording.nc").write_text("data")
            assert ownership.is_own(out, out / "recording.nc", "recording.nc") is not stays
            assert not ownership.is_own(out, tmp_path / "recording.nc", "recording.nc")
    assert (out / "recording.nc").exists() is stays
