"""Labelled samples: split class by class, labels as one-hot rows."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

from dynamics.errors import PlasticodeError, shown
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
    order = generator(seed, "split").permutation(len(labels))
    inputs, labels = inputs[order].astype(np.float32), labels[order]
    targets = one_hot(labels, len(classes) or int(labels.max()) + 1)
    test = stratified(labels, test_fraction, classes)
    return Data(inputs[~test], targets[~test], inputs[test], targets[test], "classification", classes)


def one_hot(labels: Integer[np.ndarray, " samples"], classes: int) -> Float32[np.ndarray, "samples classes"]:
    """Rows that are 1 at their label and 0 elsewhere."""
    return np.eye(classes, dtype=np.float32)[labels]


def stratified(
    labels: Integer[np.ndarray, " samples"], test_fraction: float, classes: tuple[str, ...] = ()
) -> Bool[np.ndarray, " samples"]:
    """Marks the first `test_fraction` of every class, rounded to whole samples, as test samples."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept = round(test_fraction * len(members))
        if not 0 < kept < len(members):
            name = shown(classes[label]) if classes else label
            raise PlasticodeError(
                f"task.test_fraction {test_fraction} leaves class {name}, which has {len(members)} samples, "
                f"{'no test' if kept == 0 else 'no training'} sample: every class needs at least one of both"
            )
        test[members[:kept]] = True
    return test
