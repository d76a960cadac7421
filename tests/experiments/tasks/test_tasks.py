"""The tasks: closed forms and invariants of the data they give, and the sentences they refuse with."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import numpy as np
import pytest
from pydantic import ValidationError

from dynamics.errors import PlasticodeError
from experiments.tasks.circles import Circles
from experiments.tasks.contract import AbstractTask, Data
from experiments.tasks.gaussian import GaussianInputs, GaussianRegression, TeacherStudent
from experiments.tasks.real import Digits
from experiments.tasks.registry import TASKS, make_task
from tests.mnist_files import LABELS, arrays_of, idx_bytes, write_mnist


@pytest.fixture
def mnist(tmp_path):
    """A tiny MNIST of random bytes: its directory and its arrays by file name."""
    return tmp_path, write_mnist(tmp_path)


def needed(name: str, folder) -> dict:
    """What a task must be given: files in a folder."""
    np.savez(folder / "a.npz", x=np.random.default_rng(0).standard_normal((30, 3)), y=np.arange(30) % 3)
    (folder / "idx").mkdir(exist_ok=True)
    arrays = write_mnist(folder / "idx")
    (folder / "idx" / LABELS[1]).write_bytes(idx_bytes(arrays[LABELS[0]][:3]))  # whose classes the training has
    for labels, files in ((1, [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]), (2, ["train", "test"])):
        for number, file in enumerate(files):
            images = np.random.default_rng(number).integers(10, size=(2, labels + 3072), dtype=np.uint8)
            (folder / f"{file}.bin").write_bytes(images.tobytes())
    own = {"train": str(folder / "a.npz"), "inputs": "x", "targets": "y"}
    recorded = {"file": str(folder / "a.npz"), "inputs": "x", "targets": "y"}
    needs: dict[str, dict] = {"idx": {"path": str(folder / "idx")}, "arrays": own, "recorded": recorded}
    for kind in ("mnist", "cifar10", "cifar100"):
        needs[kind] = {"path": str(folder)}
    curves = np.random.default_rng(0).standard_normal((4, 40))
    np.savez(folder / "curves.npz", x=curves[:2], y=np.arange(2), x_test=curves[2:], y_test=np.arange(2))
    needs["mnist1d"] = {"path": str(folder / "curves.npz")}
    return needs.get(name, {})


def every_task(folder) -> list[AbstractTask]:
    return [make_task(name, needed(name, folder)) for name in TASKS]


def rows(array: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in array}


# Invariants of every task


def test_the_names_in_a_spec_choose_the_tasks(mnist):
    for name, task in TASKS.items():
        assert type(make_task(name, needed(name, mnist[0]))) is task


def test_every_task_gives_float32_and_disjoint_sets(mnist):
    for task in every_task(mnist[0]):
        data = task.load()
        assert {array.dtype for array in arrays_of(data).values()} == {np.dtype(np.float32)}, task.name
        halves = (rows(half.reshape(len(half) // data.frames, -1)) for half in (data.train_inputs, data.test_inputs))
        # Two flowers of iris measure the same, and a recording has no other samples.
        assert set.isdisjoint(*halves) or task.name in ("iris", "recorded")
        assert (data.train_targets is None) == (data.test_targets is None) == (data.kind == "unsupervised")
        if data.train_targets is not None and data.test_targets is not None:
            assert len(data.train_targets) == len(data.train_inputs)
            assert len(data.test_targets) == len(data.test_inputs)


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(mnist):
    for task in every_task(mnist[0]):
        first, again = arrays_of(task.load()), arrays_of(task.load())
        assert all(np.array_equal(first[name], again[name]) for name in first), task.name
        if "seed" in type(task).model_fields:
            other = arrays_of(task.model_copy(update={"seed": 1}).load())
            assert all(not np.array_equal(first[name], other[name]) for name in first), task.name


@pytest.mark.parametrize("task", [TeacherStudent(), GaussianRegression(), GaussianInputs()])
def test_more_training_samples_leave_teacher_and_test_set_alone(task):
    small, large = task.load(), task.model_copy(update={"samples": 2 * task.samples}).load()
    assert len(large.train_inputs) == 2 * len(small.train_inputs)
    assert np.array_equal(small.test_inputs, large.test_inputs)
    if small.test_targets is not None:
        assert np.array_equal(small.test_targets, large.test_targets)


# Classification: digits, circles


@pytest.mark.parametrize("task", [Digits(), Digits(test_fraction=0.5, seed=3), Circles(samples=501)])
def test_splits_are_stratified_and_targets_one_hot(task):
    data = task.load()
    targets = np.concatenate(targets_of(data))
    assert np.array_equal(np.sort(targets, axis=1)[:, :-1], np.zeros((len(targets), targets.shape[1] - 1)))
    assert np.array_equal(targets.max(axis=1), np.ones(len(targets)))
    expected = task.test_fraction * targets.sum(axis=0)
    assert np.abs(data.test_targets.sum(axis=0) - expected).max() <= 0.5  # rounding to whole samples


def targets_of(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Those of training and test, which a supervised task has."""
    assert data.train_targets is not None and data.test_targets is not None
    return data.train_targets, data.test_targets


def test_the_digits_are_all_there_with_their_own_labels():
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    label = {row.tobytes(): digit for row, digit in zip(pixels.astype(np.float32), digits, strict=True)}
    data = Digits().load()
    inputs = np.concatenate([data.train_inputs, data.test_inputs])
    targets = np.concatenate(targets_of(data))
    assert inputs.shape == (1797, 64) and len(rows(inputs)) == 1797
    assert (inputs.min(), inputs.max()) == (0, 1)
    assert [label[(16 * row).tobytes()] for row in inputs] == list(targets.argmax(axis=1))


def test_scale_multiplies_the_inputs_of_the_same_split():
    assert np.array_equal(Digits(scale=4).load().test_inputs, 4 * Digits().load().test_inputs)


def test_neither_training_nor_test_samples_are_sorted_by_class():
    data = Digits().load()
    for targets in targets_of(data):
        repeats = np.mean(np.diff(targets.argmax(axis=1)) == 0)
        assert abs(repeats - 0.1) < 4 * np.sqrt(0.09 / len(targets))  # neighbours agree as often as chance


def test_noiseless_circles_have_their_radii_and_all_angles():
    data = Circles(noise=0, radius_ratio=0.3, samples=2000).load()
    radius = np.hypot(*data.train_inputs.T)
    np.testing.assert_allclose(radius, np.where(data.train_targets[:, 0] == 1, 1, 0.3), rtol=1e-6)
    resultant = np.abs(np.mean(np.exp(1j * np.arctan2(*data.train_inputs.T))))
    assert resultant < 4 / np.sqrt(len(radius))  # the mean of n random unit vectors has length about 1/sqrt(n)


def test_noisy_circles_have_the_variance_of_their_noise():
    """E |x|^2 = radius^2 + 2 noise^2 for each circle, and both classes have half of the samples."""
    task = Circles(noise=0.2, samples=20_000)
    data = task.load()
    for label, radius in enumerate((1, task.radius_ratio)):
        squares = (data.train_inputs[data.train_targets[:, label] == 1] ** 2).sum(axis=1)
        assert len(squares) == 8000
        assert abs(squares.mean() - radius**2 - 2 * 0.2**2) < 4 * squares.std() / np.sqrt(len(squares))


@pytest.mark.parametrize(("fraction", "part"), [(0.001, "no test"), (0.999, "no training")])
def test_a_split_without_a_sample_of_some_class_is_refused(fraction, part):
    with pytest.raises(PlasticodeError, match=rf"task\.test_fraction {fraction} leaves class 0.* {part} sample"):
        Digits(test_fraction=fraction).load()


# Gaussian tasks


def assert_covariance(inputs: np.ndarray, covariance: np.ndarray) -> None:
    """Every entry of <x x^T> within 5 standard errors: var = (C_ii C_jj + C_ij^2) / n for gaussian samples."""
    variance = np.diag(covariance)
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / len(inputs))
    inputs = inputs.astype(np.float64)
    assert (np.abs(inputs.T @ inputs / len(inputs) - covariance) <= 5 * error + 1e-12).all()
    assert (np.abs(inputs.mean(axis=0)) <= 5 * np.sqrt(variance / len(inputs))).all()


def test_gaussian_inputs_have_the_covariance_of_their_description():
    spectrum = [3.0, 1.0, 0.0, 0.25]
    regression = GaussianRegression(inputs=4, input_variance=2, spectrum=spectrum, samples=40_000)
    np.testing.assert_allclose(regression.variances(), 2 * np.array(spectrum))
    assert_covariance(regression.load().train_inputs, np.diag([6.0, 2.0, 0.0, 0.5]))
    isotropic = GaussianRegression(inputs=4, input_variance=2, samples=40_000)
    assert_covariance(isotropic.load().train_inputs, 2 * np.eye(4))
    teacher_student = TeacherStudent(inputs=4, input_variance=0.5, test_samples=40_000)
    assert_covariance(teacher_student.load().test_inputs, 0.5 * np.eye(4))


def test_unsupervised_inputs_have_their_spectrum_in_a_rotated_basis():
    task = GaussianInputs(spectrum=[4, 1, 0.25], samples=40_000, test_samples=40_000)
    basis, covariance = task.basis(), task.covariance()
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(covariance @ basis, basis * [4, 1, 0.25], atol=1e-14)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() > 0.1
    data = task.load()
    assert_covariance(data.train_inputs, covariance)
    assert_covariance(data.test_inputs, covariance)


def test_a_random_basis_has_no_preferred_direction():
    """Over seeds, every entry of U has mean 0 and variance 1/n; plain QR would fix the signs of the diagonal."""
    bases = np.array([GaussianInputs(spectrum=[1, 1, 1], seed=seed).basis() for seed in range(1000)])
    assert np.abs(bases.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 1000)
    assert np.abs((bases**2).mean(axis=0) - 1 / 3).max() < 5 * (bases**2).std() / np.sqrt(1000)


def test_noiseless_regression_is_exactly_linear():
    """Least squares recovers W* from the training set, and W* predicts the test set."""
    task = GaussianRegression(inputs=5, outputs=3, samples=50)
    data = task.load()
    train, test = targets_of(data)
    fit, residual, rank, _ = np.linalg.lstsq(data.train_inputs.astype(np.float64), train, rcond=None)
    assert rank == 5 and residual.max() < 1e-10
    np.testing.assert_allclose(fit.T, task.teacher(), atol=1e-6)
    np.testing.assert_allclose(test, data.test_inputs @ fit, atol=1e-5)


@pytest.mark.parametrize("task", [GaussianRegression(label_noise=0.3), TeacherStudent(label_noise=0.3)])
def test_label_noise_is_white_and_has_its_standard_deviation(task):
    sizes = {"samples": 20_000, "test_samples": 20_000}
    noisy = task.model_copy(update=sizes).load()
    clean = task.model_copy(update={**sizes, "label_noise": 0.0}).load()
    assert np.array_equal(noisy.train_inputs, clean.train_inputs)
    train = noisy.train_targets - clean.train_targets
    test = noisy.test_targets - clean.test_targets
    for noise in (train, test):
        assert abs(noise.std() - 0.3) < 5 * 0.3 / np.sqrt(2 * noise.size)
        assert abs(np.mean(noise * noisy.train_inputs[:, :1])) < 5 * 0.3 / np.sqrt(noise.size)
    assert abs(np.mean(train * test)) < 5 * 0.3**2 / np.sqrt(train.size)


ACTIVATIONS = {"linear": lambda a: a, "tanh": lambda a: 1 - 2 / (1 + np.exp(2 * a)), "relu": lambda a: a * (a > 0)}


@pytest.mark.parametrize("hidden", [[], [7], [4, 6]])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_teacher_labels_its_inputs(activation, hidden):
    """An independent computation, sample by sample: hidden layers through f, the read-out linear."""
    sizes = {"inputs": 3, "teacher_hidden": hidden, "outputs": 2, "samples": 20, "test_samples": 10}
    task = TeacherStudent(activation=activation, **sizes)
    weights, data, f = task.teacher(), task.load(), ACTIVATIONS[activation]
    assert [matrix.shape for matrix in weights] == list(zip([*hidden, 2], [3, *hidden], strict=True))
    for inputs, targets in zip((data.train_inputs, data.test_inputs), targets_of(data), strict=True):
        for x, y in zip(inputs.astype(np.float64), targets, strict=True):
            h = x
            for matrix in weights[:-1]:
                h = f(np.einsum("ij,j->i", matrix, h))
            np.testing.assert_allclose(y, np.einsum("ij,j->i", weights[-1], h), rtol=1e-5, atol=1e-6)


def test_teacher_weights_have_variance_one_over_fan_in():
    weights = [
        *TeacherStudent(inputs=400, teacher_hidden=[100], outputs=300).teacher(),
        GaussianRegression(inputs=300, outputs=200).teacher(),
    ]
    for matrix in weights:
        scaled = matrix * np.sqrt(matrix.shape[1])
        assert abs(scaled.var() - 1) < 5 * np.sqrt(2 / scaled.size)
        assert abs(scaled.mean()) < 5 / np.sqrt(scaled.size)


# What a description may not say

REFUSED = [
    ({"name": "digit"}, "digits"),
    ({"name": "digits", "test_fraction": 0}, "greater than 0"),
    ({"name": "digits", "test_fraction": 1.0}, "less than 1"),
    ({"name": "digits", "scale": float("inf")}, "finite"),
    ({"name": "digits", "samples": 10}, "Extra inputs"),
    ({"name": "circles", "samples": 0}, "greater than 0"),
    ({"name": "circles", "samples": 10_000_001}, "less than or equal to 10000000"),
    ({"name": "circles", "noise": float("nan")}, "finite"),
    ({"name": "circles", "radius_ratio": 1.5}, "less than 1"),
    ({"name": "circles", "seed": -1}, "greater than or equal to 0"),
    ({"name": "teacher-student", "inputs": 100_001}, "less than or equal to 100000"),
    ({"name": "teacher-student", "teacher_hidden": [10, 0]}, "greater than 0"),
    ({"name": "teacher-student", "activation": "softmax"}, "'linear', 'tanh' or 'relu'"),
    ({"name": "teacher-student", "inputs": 100_000, "samples": 10_000_000}, "10000000 x 100000 numbers"),
    ({"name": "teacher-student", "inputs": 100_000, "teacher_hidden": [100_000]}, "teacher's weights"),
    ({"name": "gaussian-regression", "input_variance": 0}, "greater than 0"),
    ({"name": "gaussian-regression", "label_noise": -0.1}, "greater than or equal to 0"),
    ({"name": "gaussian-regression", "inputs": 3, "spectrum": [1.0, 2.0]}, "2 entries.*each of the 3 inputs"),
    ({"name": "gaussian-regression", "inputs": 50_000, "outputs": 50_000}, "teacher's weights"),
    ({"name": "gaussian-inputs", "spectrum": []}, "at least 1 item"),
    ({"name": "gaussian-inputs", "spectrum": [1.0, -1.0]}, "greater than or equal to 0"),
    ({"name": "gaussian-inputs", "spectrum": [1.0] * 100, "samples": 10_000_000}, "10000000 x 100 numbers"),
    ({"name": "mnist"}, "Field required"),
    ({"name": "mnist", "path": ".", "pool": 3}, "1, 2, 4, 7, 14 or 28"),
]


@pytest.mark.parametrize(("description", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_description_out_of_bounds_is_refused(description, reason):
    with pytest.raises((ValidationError, PlasticodeError), match=reason):
        make_task(description["name"], description)


def test_a_task_cannot_be_changed_and_needs_a_load():
    with pytest.raises(ValidationError, match="frozen"):
        Digits().seed = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="abstract"):
        AbstractTask()  # pyright: ignore[reportAbstractUsage]
