"""Tasks: the data sets on which networks are trained and tested.

A task is a small description (a pydantic model, decoded strictly from the `[task]` table of a spec) and `load` turns it
into arrays. Everything random about a task comes from its own `seed`: the same description gives the same data.
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dynamics.errors import PlasticodeError, printable, refused
from experiments.tasks.idx import find_idx, lying_in, read_idx

LARGEST_ARRAY = 50_000_000  # numbers in one array, 200 MB as float32; MNIST's has 47 million
MOST_PRODUCTS = 20_000_000_000  # multiplications of samples by a teacher, or by a basis: seconds

Count = Annotated[int, Field(gt=0, le=10_000_000)]
Width = Annotated[int, Field(gt=0, le=100_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Variance = Annotated[float, Field(gt=0, le=1e12)]
Deviation = Annotated[float, Field(ge=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Eigenvalue = Annotated[float, Field(ge=0, le=1e12)]


@dataclass(frozen=True)
class Data:
    """What a network is trained and tested on: float32 arrays, one sample per row.

    Targets are one-hot rows (classification), real numbers (regression) or None (unsupervised). No training sample is
    a test sample.
    """

    train_inputs: Float32[np.ndarray, "train inputs"]
    train_targets: Float32[np.ndarray, "train outputs"] | None
    test_inputs: Float32[np.ndarray, "test inputs"]
    test_targets: Float32[np.ndarray, "test outputs"] | None
    kind: Literal["classification", "regression", "unsupervised"]


class AbstractTask(BaseModel):
    """A description of a data set: typed fields with defaults, and `load`.

    A final task adds `name`, the word that chooses it in a spec.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @abstractmethod
    def load(self) -> Data:
        """The data; a task that cannot be loaded raises `PlasticodeError`."""


class Digits(AbstractTask):
    """Handwritten digits, real data: 1797 images of 8x8 pixels in 10 classes, bundled with scikit-learn.

    Inputs (samples, 64): pixel intensities from 0 to 1 in steps of 1/16, dimensionless, times `scale`.
    Targets (samples, 10): one-hot. Of every class the same fraction, `test_fraction`, is kept for the test.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
    (1998), its test set.
    """

    name: Literal["digits"] = "digits"
    test_fraction: Fraction = 0.2
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    seed: Seed = 0

    def load(self) -> Data:
        """The images, split at random by `seed`."""
        from sklearn.datasets import load_digits  # here, because this import alone takes a second

        pixels, labels = load_digits(return_X_y=True)
        inputs = np.asarray(pixels) / 16 * self.scale
        return _classification(inputs, np.asarray(labels), self.test_fraction, self.seed)


class Circles(AbstractTask):
    """Two concentric circles in the plane, two classes that no line separates.

    Class 0 lies on the circle of radius 1, class 1 on the circle of radius `radius_ratio`, at uniformly random angles;
    gaussian noise of standard deviation `noise` is added to both coordinates. Half of the `samples` belong to each
    class (class 0 has the odd one).

    Inputs (samples, 2): coordinates, in units of the outer radius. Targets (samples, 2): one-hot. Of every class the
    same fraction, `test_fraction`, is kept for the test. Source: synthetic, after scikit-learn's `make_circles`.
    """

    name: Literal["circles"] = "circles"
    samples: Count = 1000
    noise: Deviation = 0.05
    radius_ratio: Fraction = 0.5
    test_fraction: Fraction = 0.2
    seed: Seed = 0

    def load(self) -> Data:
        """The points, drawn and split at random by `seed`."""
        _check_size("samples x 25, to draw and split them", self.samples, 25)
        labels = np.arange(self.samples) % 2
        angle = _generator(self.seed, "angles").uniform(0, 2 * np.pi, self.samples)
        radius = np.where(labels == 0, 1.0, self.radius_ratio)
        points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points += self.noise * _generator(self.seed, "noise").standard_normal(points.shape)
        return _classification(points, labels, self.test_fraction, self.seed)


class TeacherStudent(AbstractTask):
    """Gaussian inputs labelled by a random teacher network with a linear read-out.

    With h_0 = x, the teacher computes h_l = f(W_l h_{l-1}) for each hidden layer and y = W_L h_{L-1} + label noise,
    without biases. f is `activation`, `teacher_hidden` are the widths of the hidden layers (none: a linear map), and
    the weights of W_l are independent N(0, 1/fan_in). x ~ N(0, input_variance I); the label noise has standard
    deviation `label_noise` and is part of training and test targets alike.

    Inputs (samples, inputs), targets (samples, outputs), all dimensionless. Source: synthetic; the teacher-student
    setting of E. Gardner and B. Derrida, J. Phys. A 22, 1983 (1989).
    """

    name: Literal["teacher-student"] = "teacher-student"
    inputs: Width = 20
    input_variance: Variance = 1.0
    teacher_hidden: list[Width] = Field(default=[20], max_length=100)
    activation: Literal["linear", "tanh", "relu"] = "tanh"
    outputs: Width = 1
    samples: Count = 1000
    test_samples: Count = 200
    label_noise: Deviation = 0.0
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits_memory(self) -> "TeacherStudent":
        widths = [self.inputs, *self.teacher_hidden, self.outputs]
        _check_teacher(max(self.samples, self.test_samples), widths)
        return self

    def teacher(self) -> list[Float[np.ndarray, "_ _"]]:
        """The teacher's weights W_1, ..., W_L, float64, each (fan_out, fan_in), from the inputs to the read-out."""
        return _gaussian_weights(self.seed, [self.inputs, *self.teacher_hidden, self.outputs])

    def load(self) -> Data:
        """Inputs, label noise and teacher, each drawn from its own stream of `seed`."""
        deviation = np.full(self.inputs, np.sqrt(self.input_variance))
        train, test = _gaussian_inputs(self, deviation)
        return _regression(self, self.teacher(), self.activation, train, test)


class GaussianRegression(AbstractTask):
    """Linear regression on gaussian inputs: y = W* x + label noise, with x ~ N(0, input_variance diag(spectrum)).

    The rows of W* are drawn from N(0, I/inputs). `spectrum` lists one relative variance per input (absent: all 1, an
    isotropic input). The label noise has standard deviation `label_noise` and is part of training and test targets
    alike.

    Inputs (samples, inputs), targets (samples, outputs), all dimensionless. Source: synthetic; the setting of
    "Emergence of Hebbian Dynamics in Regularized Non-Local Learners", arXiv 2505.18069.
    """

    name: Literal["gaussian-regression"] = "gaussian-regression"
    inputs: Width = 20
    input_variance: Variance = 1.0
    spectrum: list[Eigenvalue] | None = None
    outputs: Width = 1
    samples: Count = 1000
    test_samples: Count = 200
    label_noise: Deviation = 0.0
    seed: Seed = 0

    @model_validator(mode="after")
    def _consistent(self) -> "GaussianRegression":
        if self.spectrum is not None and len(self.spectrum) != self.inputs:
            needed = f"one for each of the {self.inputs} inputs in task.inputs"
            raise PlasticodeError(f"task.spectrum has {len(self.spectrum)} entries: it must have {needed}")
        _check_teacher(max(self.samples, self.test_samples), [self.inputs, self.outputs])
        return self

    def variances(self) -> Float[np.ndarray, " inputs"]:
        """The population variance of each input: the diagonal of <x x^T>, whose other entries are zero."""
        return self.input_variance * np.array(self.spectrum or np.ones(self.inputs))

    def teacher(self) -> Float[np.ndarray, "outputs inputs"]:
        """W*, float64."""
        return _gaussian_weights(self.seed, [self.inputs, self.outputs])[0]

    def load(self) -> Data:
        """Inputs, label noise and W*, each drawn from its own stream of `seed`."""
        train, test = _gaussian_inputs(self, np.sqrt(self.variances()))
        return _regression(self, [self.teacher()], "linear", train, test)


class GaussianInputs(AbstractTask):
    """Unlabelled gaussian inputs x ~ N(0, C) for unsupervised rules, such as Oja's.

    C = U diag(spectrum) U^T, where the columns of U are a random orthonormal basis (uniformly distributed, drawn from
    `seed`). Inputs (samples, len(spectrum)), dimensionless; there are no targets. Source: synthetic.
    """

    name: Literal["gaussian-inputs"] = "gaussian-inputs"
    spectrum: list[Eigenvalue] = Field(default=[4.0, 2.0, 1.0, 0.5], min_length=1, max_length=1000)
    samples: Count = 1000
    test_samples: Count = 200
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits_memory(self) -> "GaussianInputs":
        _check_teacher(max(self.samples, self.test_samples), [len(self.spectrum)] * 2)  # the basis is like one
        return self

    def basis(self) -> Float[np.ndarray, "inputs inputs"]:
        """U, float64: column k is the eigenvector of C with eigenvalue `spectrum[k]`."""
        size = len(self.spectrum)
        orthogonal, triangular = np.linalg.qr(_generator(self.seed, "basis").standard_normal((size, size)))
        # QR fixes no signs; these make U uniformly distributed (F. Mezzadri, Notices AMS 54, 592, 2007).
        return orthogonal * np.sign(np.diag(triangular))

    def covariance(self) -> Float[np.ndarray, "inputs inputs"]:
        """C, float64."""
        basis = self.basis()
        return (basis * np.array(self.spectrum)) @ basis.T

    def load(self) -> Data:
        """Samples and basis, each drawn from its own stream of `seed`."""
        basis = self.basis().astype(np.float32)
        train, test = _gaussian_inputs(self, np.sqrt(self.spectrum))
        return Data(train @ basis.T, None, test @ basis.T, None, "unsupervised")


class Mnist(AbstractTask):
    """Handwritten digits, real data: images of 28x28 pixels in 10 classes, from local files in the MNIST format.

    `path` is a directory with MNIST's four IDX files, plain or gzipped, by their usual names (a dot
    before idx will do); nothing is downloaded. Blocks of `pool` x
    `pool` pixels are averaged. `train_samples` and `test_samples` keep that many samples from the start of each file
    (absent: all). The split into training and test is the one of the files.

    Inputs (samples, (28/pool)^2): pixel intensities from 0 to 1, dimensionless. Targets (samples, 10): one-hot.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Proc. IEEE 86, 2278 (1998).
    """

    name: Literal["mnist"] = "mnist"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    pool: Literal[1, 2, 4, 7, 14, 28] = 1
    train_samples: Count | None = None
    test_samples: Count | None = None

    def load(self) -> Data:
        """The files' samples; a missing, damaged or too short file raises `PlasticodeError`."""
        train_images, train_labels, test_images, test_labels = self._files()
        train = self._read(train_images, train_labels, "train_samples", self.train_samples)
        test = self._read(test_images, test_labels, "test_samples", self.test_samples)
        return Data(*train, *test, "classification")

    def _files(self) -> list[Path]:
        """The four files, in the order training images, training labels, test images, test labels."""
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in kinds]
        try:
            directory = Path(self.path).expanduser()
            found = [find_idx(directory, name) for name in names]
        except (OSError, RuntimeError, ValueError) as error:  # too long a name, no permission, nobody's home
            raise refused("task.path", self.path, f"it cannot be read ({type(error).__name__})") from None
        missing = [name for name, file in zip(names, found, strict=True) if file is None]
        if missing:
            raise PlasticodeError(
                f"task.path '{printable(self.path, 1000)}' lacks {', '.join(missing)}: it must be a directory "
                f"with MNIST's four files {', '.join(names)}, plain or gzipped; {lying_in(directory)}"
            )
        return [file for file in found if file is not None]

    def _read(
        self, image_file: Path, label_file: Path, key: str, limit: int | None
    ) -> tuple[Float32[np.ndarray, "samples inputs"], Float32[np.ndarray, "samples 10"]]:
        """Pooled images in rows and one-hot labels: the first `limit` of a pair of files."""
        images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if images.shape[1:] != (28, 28):
            size = f"{images.shape[1]}x{images.shape[2]}"
            raise PlasticodeError(f"'{image_file}' has images of {size} pixels: MNIST's are 28x28")
        if len(images) != len(labels):
            raise PlasticodeError(f"'{label_file}' has {len(labels)} labels for the {len(images)} images beside it")
        if labels.size and labels.max() > 9:
            raise PlasticodeError(f"'{label_file}' has the label {labels.max()}: MNIST's are 0 to 9")
        if len(images) < (limit or 1):
            raise PlasticodeError(f"task.{key} is {limit or 'all'}, but '{image_file}' has only {len(images)} images")
        images, side = images[:limit], 28 // self.pool
        blocks = images.reshape(len(images), side, self.pool, side, self.pool)
        pixels = blocks.mean(axis=(2, 4), dtype=np.float32) / 255
        return pixels.reshape(len(images), side * side), _one_hot(labels[:limit], 10)


Task = Annotated[
    Digits | Circles | TeacherStudent | GaussianRegression | GaussianInputs | Mnist, Field(discriminator="name")
]

TASKS: dict[str, type[AbstractTask]] = {
    "digits": Digits,
    "circles": Circles,
    "teacher-student": TeacherStudent,
    "gaussian-regression": GaussianRegression,
    "gaussian-inputs": GaussianInputs,
    "mnist": Mnist,
}


def _generator(seed: int, stream: str) -> np.random.Generator:
    """A generator for one purpose, so that more training samples leave the teacher and the test set as they are."""
    return np.random.default_rng([seed, *stream.encode()])


def _check_size(what: str, rows: int, columns: int) -> None:
    if rows * columns > LARGEST_ARRAY:
        raise PlasticodeError(f"task asks for {what} = {rows} x {columns} numbers: at most {LARGEST_ARRAY} are allowed")


def _check_teacher(samples: int, widths: list[int]) -> None:
    """Refuse samples and matrices of these widths that are too large, or take too long to multiply."""
    weights = sum(fan_in * fan_out for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True))
    _check_size("the teacher's weights", 1, weights)
    _check_size("samples x the widest layer", samples, max(widths))
    if samples * (weights + 50 * sum(widths)) > MOST_PRODUCTS:  # an activation function costs some 50 products
        what = f"task multiplies {samples} samples by {weights} weights"
        raise PlasticodeError(f"{what}: at most {MOST_PRODUCTS} multiplications are allowed")


def _one_hot(labels: Integer[np.ndarray, " samples"], classes: int) -> Float32[np.ndarray, "samples classes"]:
    return np.eye(classes, dtype=np.float32)[labels]


def _classification(
    inputs: Float[np.ndarray, "samples inputs"],
    labels: Integer[np.ndarray, " samples"],
    test_fraction: float,
    seed: int,
) -> Data:
    """Split labelled samples at random, class by class, and encode the labels as one-hot rows."""
    order = _generator(seed, "split").permutation(len(labels))
    inputs, labels = inputs[order].astype(np.float32), labels[order]
    targets = _one_hot(labels, int(labels.max()) + 1)
    test = _stratified(labels, test_fraction)
    return Data(inputs[~test], targets[~test], inputs[test], targets[test], "classification")


def _stratified(labels: Integer[np.ndarray, " samples"], test_fraction: float) -> Bool[np.ndarray, " samples"]:
    """Marks the first `test_fraction` of every class, rounded to whole samples, as test samples."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        kept = round(test_fraction * len(members))
        if not 0 < kept < len(members):
            raise PlasticodeError(
                f"task.test_fraction {test_fraction} leaves class {label}, which has {len(members)} samples, "
                f"{'no test' if kept == 0 else 'no training'} sample: every class needs at least one of both"
            )
        test[members[:kept]] = True
    return test


def _gaussian_weights(seed: int, widths: list[int]) -> list[Float[np.ndarray, "_ _"]]:
    """A matrix (fan_out, fan_in) between each two successive widths, with independent entries N(0, 1/fan_in)."""
    generator = _generator(seed, "teacher")
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [generator.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in) for fan_in, fan_out in pairs]


def _gaussian_inputs(
    task: TeacherStudent | GaussianRegression | GaussianInputs, deviation: Float[np.ndarray, " inputs"]
) -> tuple[Float32[np.ndarray, "train inputs"], Float32[np.ndarray, "test inputs"]]:
    """Training and test inputs with independent coordinates of the given standard deviations."""
    scale = deviation.astype(np.float32)
    train = _generator(task.seed, "train inputs").standard_normal((task.samples, len(scale)), np.float32)
    test = _generator(task.seed, "test inputs").standard_normal((task.test_samples, len(scale)), np.float32)
    return scale * train, scale * test


def _regression(
    task: TeacherStudent | GaussianRegression,
    weights: list[Float[np.ndarray, "_ _"]],
    activation: str,
    train: Float32[np.ndarray, "train inputs"],
    test: Float32[np.ndarray, "test inputs"],
) -> Data:
    """Label inputs by a teacher: `activation` after every matrix but the last, then label noise."""
    f = {"linear": lambda a: a, "tanh": np.tanh, "relu": lambda a: np.maximum(a, 0)}[activation]

    def label(inputs: Float32[np.ndarray, "samples inputs"], stream: str) -> Float32[np.ndarray, "samples outputs"]:
        activity = inputs.astype(np.float64)
        for matrix in weights[:-1]:
            activity = f(activity @ matrix.T)
        targets = activity @ weights[-1].T
        noise = task.label_noise * _generator(task.seed, stream).standard_normal(targets.shape)
        return (targets + noise).astype(np.float32)

    return Data(train, label(train, "train noise"), test, label(test, "test noise"), "regression")
