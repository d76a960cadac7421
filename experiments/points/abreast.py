"""Which points advance side by side: those that learn about as fast.

A block of points sweeps as often as the one of them that learns fastest needs, T |x|^2 / tau_plast telling how often
that is; |x|^2 is the same for all points of a job. Blocks of neighbours are dealt to the devices in turn, so that none
has all of the fast ones.
"""

import numpy as np

from experiments.points.demands import smallest
from experiments.points.jobs import Job


def abreast(job: Job, points: np.ndarray, padded: int, block: int, devices: int) -> np.ndarray:
    """The positions in `points` of the `padded` points of a batch, some twice: `devices` equal parts one after the
    other, each made of blocks of `block` points."""
    every = [v["stimulus.duration"] / smallest(v["timescales.plasticity"]) for v in job.group.stages]
    slowest_first = np.argsort(np.max(every, axis=0)[points], kind="stable")
    blocks = np.resize(slowest_first, padded).reshape(-1, devices, block)
    return blocks.swapaxes(0, 1).ravel()
