"""Real data that scikit-learn brings along, by the names that it has for them."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from experiments.tasks.classes import classification, random_split
from experiments.tasks.contract import AbstractTask, Data, Fraction, Kind, Seed


class AbstractBundled(AbstractTask):
    """What these tasks share: columns are scaled to mean 0 and variance 1 over the training samples.

    `test_fraction` of the samples, of every class where there are classes, is kept for the test at random.
    """

    loader: ClassVar[str]
    test_fraction: Fraction = 0.2
    seed: Seed = 0

    def load(self) -> Data:
        """The samples, split at random by `seed`."""
        from sklearn import datasets  # here, because this import alone takes a second

        load: Callable[..., Any] = getattr(datasets, self.loader)
        held = load()
        x, y = np.asarray(held.data, float), np.asarray(held.target)
        if self.kind == "classification":
            data = classification(x, y, self.test_fraction, self.seed, tuple(map(str, held.target_names)))
            train, test = _scaled(data.train_inputs, data.test_inputs)
            return Data(train, data.train_targets, test, data.test_targets, "classification", data.classes)
        y = y.reshape(len(x), -1).astype(float)
        train, test = random_split(len(x), self.test_fraction, self.seed)
        (x_train, x_test), (y_train, y_test) = _scaled(x[train], x[test]), _scaled(y[train], y[test])
        return Data(x_train, y_train, x_test, y_test, "regression")


class Iris(AbstractBundled):
    """Iris flowers, real data: 150 flowers of 3 species, bundled with scikit-learn.

    Inputs (samples, 4): lengths and widths of sepals and petals, scaled to mean 0 and variance 1 over the training
    samples. Targets (samples, 3): one-hot. Source: R. A. Fisher, Annals of Eugenics 7, 179 (1936).
    """

    kind: ClassVar[Kind] = "classification"
    loader: ClassVar[str] = "load_iris"
    name: str = "iris"


class Wine(AbstractBundled):
    """Wines, real data: 178 wines of 3 growers, bundled with scikit-learn.

    Inputs (samples, 13): chemical measures, scaled to mean 0 and variance 1 over the training samples. Targets
    (samples, 3): one-hot. Source: S. Aeberhard and M. Forina, UCI Machine Learning Repository (1991).
    """

    kind: ClassVar[Kind] = "classification"
    loader: ClassVar[str] = "load_wine"
    name: str = "wine"


class BreastCancer(AbstractBundled):
    """Breast tumours, real data: 569 tumours, malignant or benign, bundled with scikit-learn.

    Inputs (samples, 30): features of images of their cells, scaled to mean 0 and variance 1 over the training samples.
    Targets (samples, 2): one-hot. Source: W. H. Wolberg, O. L. Mangasarian and W. N. Street, UCI Machine Learning
    Repository (1995).
    """

    kind: ClassVar[Kind] = "classification"
    loader: ClassVar[str] = "load_breast_cancer"
    name: str = "breast-cancer"


class Diabetes(AbstractBundled):
    """Progress of diabetes, real data: 442 patients, bundled with scikit-learn.

    Inputs (samples, 10): age, sex, body mass index, blood pressure and six blood serum measures. Targets (samples, 1):
    progress of the disease after a year. Both are scaled to mean 0 and variance 1 over the training samples. Source: B.
    Efron, T. Hastie, I. Johnstone and R. Tibshirani, Annals of Statistics 32, 407 (2004).
    """

    kind: ClassVar[Kind] = "regression"
    loader: ClassVar[str] = "load_diabetes"
    name: str = "diabetes"


class Linnerud(AbstractBundled):
    """Exercise and physiology, real data: 20 men of a fitness club, bundled with scikit-learn.

    Inputs (samples, 3): chin-ups, sit-ups and jumps. Targets (samples, 3): weight, waist and pulse. Both are scaled to
    mean 0 and variance 1 over the training samples. Source: M. Tenenhaus, La regression PLS, Technip (1998).
    """

    kind: ClassVar[Kind] = "regression"
    loader: ClassVar[str] = "load_linnerud"
    name: str = "linnerud"


def _scaled(
    train: Float[np.ndarray, "train _n"], test: Float[np.ndarray, "test _n"]
) -> tuple[Float[np.ndarray, "train _n"], Float[np.ndarray, "test _n"]]:
    """Both with the mean and standard deviation of the first taken off."""
    mean, deviation = train.mean(axis=0, dtype=float), train.std(axis=0, dtype=float)
    deviation[deviation == 0] = 1  # of a column that never changes in so few samples
    return ((train - mean) / deviation).astype(np.float32), ((test - mean) / deviation).astype(np.float32)
