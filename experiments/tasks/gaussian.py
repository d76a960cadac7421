"""Gaussian inputs: labelled by a random teacher, by a linear map, or not at all."""

import functools
from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float, Float32
from pydantic import AfterValidator, Field, model_validator

from dynamics.errors import PlasticodeError
from experiments.machine.names import one_of
from experiments.tasks.contract import (
    AbstractTask,
    Count,
    Data,
    Deviation,
    Eigenvalue,
    Kind,
    Seed,
    Variance,
    Width,
    check_size,
    generator,
)

MOST_PRODUCTS = 20_000_000_000  # multiplications of samples by a teacher, or by a basis: seconds


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of teachers, in float64
    "linear": lambda a: a,
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
}


class TeacherStudent(AbstractTask):
    """Gaussian inputs labelled by a random teacher network with a linear read-out.

    With h_0 = x, the teacher computes h_l = f(W_l h_{l-1}) for each hidden layer and y = W_L h_{L-1} + label noise,
    without biases. f is `activation`, `teacher_hidden` are the widths of the hidden layers (none: a linear map), and
    the weights of W_l are independent N(0, 1/fan_in). x ~ N(0, input_variance I); the label noise has standard
    deviation `label_noise` and is part of training and test targets alike.

    Inputs (samples, inputs), targets (samples, outputs), all dimensionless. Source: synthetic; the teacher-student
    setting of E. Gardner and B. Derrida, J. Phys. A 22, 1983 (1989).
    """

    kind: ClassVar[Kind] = "regression"
    name: str = "teacher-student"
    inputs: Width = 20
    input_variance: Variance = 1.0
    teacher_hidden: list[Width] = Field(default=[20], max_length=100)
    activation: Annotated[str, AfterValidator(functools.partial(one_of, allowed=ACTIVATIONS))] = "tanh"
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

    kind: ClassVar[Kind] = "regression"
    name: str = "gaussian-regression"
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

    kind: ClassVar[Kind] = "unsupervised"
    name: str = "gaussian-inputs"
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
        orthogonal, triangular = np.linalg.qr(generator(self.seed, "basis").standard_normal((size, size)))
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


def _check_teacher(samples: int, widths: list[int]) -> None:
    """Refuse samples and matrices of these widths that are too large, or take too long to multiply."""
    weights = sum(fan_in * fan_out for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True))
    check_size("the teacher's weights", 1, weights)
    check_size("samples x the widest layer", samples, max(widths))
    if samples * (weights + 50 * sum(widths)) > MOST_PRODUCTS:  # an activation function costs some 50 products
        what = f"task multiplies {samples} samples by {weights} weights"
        raise PlasticodeError(f"{what}: at most {MOST_PRODUCTS} multiplications are allowed")


def _gaussian_weights(seed: int, widths: list[int]) -> list[Float[np.ndarray, "_ _"]]:
    """A matrix (fan_out, fan_in) between each two successive widths, with independent entries N(0, 1/fan_in)."""
    draws = generator(seed, "teacher")
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return [draws.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in) for fan_in, fan_out in pairs]


def _gaussian_inputs(
    task: TeacherStudent | GaussianRegression | GaussianInputs, deviation: Float[np.ndarray, " inputs"]
) -> tuple[Float32[np.ndarray, "train inputs"], Float32[np.ndarray, "test inputs"]]:
    """Training and test inputs with independent coordinates of the given standard deviations."""
    scale = deviation.astype(np.float32)
    train = generator(task.seed, "train inputs").standard_normal((task.samples, len(scale)), np.float32)
    test = generator(task.seed, "test inputs").standard_normal((task.test_samples, len(scale)), np.float32)
    return scale * train, scale * test


def _regression(
    task: TeacherStudent | GaussianRegression,
    weights: list[Float[np.ndarray, "_ _"]],
    activation: str,
    train: Float32[np.ndarray, "train inputs"],
    test: Float32[np.ndarray, "test inputs"],
) -> Data:
    """Label inputs by a teacher: `activation` after every matrix but the last, then label noise."""
    f = ACTIVATIONS[activation]

    def label(inputs: Float32[np.ndarray, "samples inputs"], stream: str) -> Float32[np.ndarray, "samples outputs"]:
        activity = inputs.astype(np.float64)
        for matrix in weights[:-1]:
            activity = f(activity @ matrix.T)
        targets = activity @ weights[-1].T
        noise = task.label_noise * generator(task.seed, stream).standard_normal(targets.shape)
        return (targets + noise).astype(np.float32)

    return Data(train, label(train, "train noise"), test, label(test, "test noise"), "regression")
