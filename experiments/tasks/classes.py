"""Labelled samples: split class by class, labels as one-hot rows."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

from dynamics.errors import PlasticodeError, shown
from experiments.machine.memory import aligned
from experiments.tasks.contract import Data, generator


def classification(
    inputs: Float[np.ndarray, "samples inputs"],
    labels: Integer[np.ndarray, " samples"],
    test_fraction: float,
    seed: int,
    classes: tuple[str, ...] = (),
) -> Data:
    """Split labelled samples at random, class by class, and encode the labels as one-hot rows.

    `classes` names the classes, where they are not just numbers from 0.
    """
    targets = len(classes) or int(labels.max()) + 1
    parts = stratified_split(labels, test_fraction, seed, classes)
    (x, y), (test_x, test_y) = ((inputs[part].astype(np.float32), one_hot(labels[part], targets)) for part in parts)
    return Data(x, y, test_x, test_y, "classification", classes)


def one_hot(labels: Integer[np.ndarray, " samples"], classes: int) -> Float32[np.ndarray, "samples classes"]:
    """Rows that are 1 at their label and 0 elsewhere."""
    return np.take(np.eye(classes, dtype=np.float32), labels, axis=0, out=aligned(len(labels), classes))


Parts = tuple[Integer[np.ndarray, " train"], Integer[np.ndarray, " test"]]


def random_split(samples: int, test_fraction: float, seed: int) -> Parts:
    """Which samples are for the training and which for the test, in a random order."""
    kept = round(test_fraction * samples)
    if not 0 < kept < samples:
        part = "test" if kept == 0 else "training"
        raise PlasticodeError(f"task.test_fraction {test_fraction} of {samples} samples leaves no {part} sample")
    order = generator(seed, "split").permutation(samples)
    return order[kept:], order[:kept]


def stratified_split(
    labels: Integer[np.ndarray, " samples"],
    test_fraction: float,
    seed: int,
    classes: tuple[str, ...] = (),
    at_least: int = 0,
) -> Parts:
    """As `random_split`, class by class; for the test `at_least` so many samples of each."""
    order = generator(seed, "split").permutation(len(labels))
    test = stratified(labels[order], test_fraction, classes, at_least)
    return order[~test], order[test]


def stratified(
    labels: Integer[np.ndarray, " samples"], test_fraction: float, classes: tuple[str, ...] = (), at_least: int = 0
) -> Bool[np.ndarray, " samples"]:
    """Marks the first `test_fraction` of every class, rounded to whole samples, as test samples; `at_least` so many."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept = max(round(test_fraction * len(members)), at_least)
        if not 0 < kept < len(members):
            name = shown(classes[label]) if classes else label
            raise PlasticodeError(
                f"task.test_fraction {test_fraction} leaves class {name}, which has {len(members)} samples, "
                f"{'no test' if kept == 0 else 'no training'} sample: every class needs at least one of both"
            )
        test[members[:kept]] = True
    return test
