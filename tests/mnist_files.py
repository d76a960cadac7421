"""A tiny MNIST, written as its format is described."""

from pathlib import Path

import numpy as np

IMAGES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
LABELS = ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file as its format is described: magic, sizes, entries."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def write_mnist(directory: Path) -> dict[str, np.ndarray]:
    """Four files of random bytes; their arrays by file name."""
    rng = np.random.default_rng(0)
    arrays = {}
    for samples, images, labels in zip((7, 3), IMAGES, LABELS, strict=True):
        arrays[images] = rng.integers(0, 256, (samples, 28, 28), np.uint8)
        arrays[labels] = rng.integers(0, 10, samples, np.uint8)
    for name, array in arrays.items():
        (directory / name).write_bytes(idx_bytes(array))
    return arrays


def arrays_of(data) -> dict[str, np.ndarray]:
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    return {name: getattr(data, name) for name in names if getattr(data, name) is not None}
