"""How data differ from what a model shows: four kinds of noise, each by its likelihood and its Fisher information.

A kind turns what is shown into `natural` parameters eta of a distribution, smooth in everything that is free. Its
Fisher information about eta is W W^T, so that along two directions with slopes s and t of eta it is (W^T s) . (W^T t):
`white` gives W^T s.
"""

import abc
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Eta = dict[str, Float[Array, "..."]]
Numbers = Mapping[str, Float[Array, ""]]
Row = Float[Array, " data"]
Seen = Bool[Array, " data"]


class AbstractLikelihood:
    """A kind of noise; `numbers` are its own, and what they are by default (None: they must be given, or free)."""

    numbers: ClassVar[dict[str, float | None]]

    @staticmethod
    def width(shown: int) -> int:
        """How many data there are of so many numbers that are shown."""
        return shown

    @staticmethod
    @abc.abstractmethod
    def natural(shown: Float[Array, " shown"], numbers: Numbers) -> Eta:
        """The parameters of the distribution."""

    @staticmethod
    @abc.abstractmethod
    def loss(eta: Eta, y: Row, seen: Seen) -> Float[Array, ""]:
        """The negative log-likelihood of the data that were seen; the others are any number."""

    @staticmethod
    @abc.abstractmethod
    def white(eta: Eta, slope: Eta, seen: Seen) -> Float[Array, " rows"]:
        """Along a direction in which eta has this slope: products of two such are the Fisher information."""

    @staticmethod
    @abc.abstractmethod
    def draw(key: PRNGKeyArray, eta: Eta) -> Row:
        """Data."""

    @staticmethod
    @abc.abstractmethod
    def residuals(eta: Eta, y: Row, seen: Seen) -> tuple[Row, Row]:
        """Of each datum a residual of mean 0 and variance 1 if the model is right, and the variance of its square."""


class Gaussian(AbstractLikelihood):
    """y = x + sd normal error."""

    numbers: ClassVar[dict[str, float | None]] = {"sd": None}

    @staticmethod
    def natural(shown: Float[Array, " shown"], numbers: Numbers) -> Eta:
        return {"mean": shown, "log_sd": jnp.log(numbers["sd"])}

    @staticmethod
    def loss(eta: Eta, y: Row, seen: Seen) -> Float[Array, ""]:
        each = jnp.square((y - eta["mean"]) * jnp.exp(-eta["log_sd"])) / 2 + eta["log_sd"] + math.log(2 * math.pi) / 2
        return jnp.where(seen, each, 0).sum()

    @staticmethod
    def white(eta: Eta, slope: Eta, seen: Seen) -> Float[Array, " rows"]:
        of_mean = jnp.where(seen, slope["mean"] * jnp.exp(-eta["log_sd"]), 0)
        return jnp.concatenate([of_mean, jnp.where(seen, math.sqrt(2) * slope["log_sd"], 0)])

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Eta) -> Row:
        mean = eta["mean"]
        return mean + jnp.exp(eta["log_sd"]) * jax.random.normal(key, mean.shape, mean.dtype)

    @staticmethod
    def residuals(eta: Eta, y: Row, seen: Seen) -> tuple[Row, Row]:
        return (y - eta["mean"]) * jnp.exp(-eta["log_sd"]), jnp.full_like(y, 2)


class Bernoulli(AbstractLikelihood):
    """y = 1 with probability 1 / (1 + exp(-x / temperature)), else 0."""

    numbers: ClassVar[dict[str, float | None]] = {"temperature": 1.0}

    @staticmethod
    def natural(shown: Float[Array, " shown"], numbers: Numbers) -> Eta:
        return {"logit": shown / numbers["temperature"]}

    @staticmethod
    def loss(eta: Eta, y: Row, seen: Seen) -> Float[Array, ""]:
        return jnp.where(seen, jax.nn.softplus(eta["logit"]) - y * eta["logit"], 0).sum()

    @staticmethod
    def white(eta: Eta, slope: Eta, seen: Seen) -> Float[Array, " rows"]:
        return jnp.where(seen, slope["logit"] * jnp.sqrt(_variance(eta)), 0)

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Eta) -> Row:
        logit = eta["logit"]
        return (jax.random.uniform(key, logit.shape, logit.dtype) < jax.nn.sigmoid(logit)).astype(logit.dtype)

    @staticmethod
    def residuals(eta: Eta, y: Row, seen: Seen) -> tuple[Row, Row]:
        variance = _variance(eta)
        return (y - jax.nn.sigmoid(eta["logit"])) / jnp.sqrt(variance), 1 / variance - 4


def _variance(eta: Eta) -> Row:
    return jax.nn.sigmoid(eta["logit"]) * jax.nn.sigmoid(-eta["logit"])


class Categorical(AbstractLikelihood):
    """y = the number of the neuron that is chosen, with probabilities softmax(x / temperature)."""

    numbers: ClassVar[dict[str, float | None]] = {"temperature": 1.0}

    @staticmethod
    def width(shown: int) -> int:
        return 1

    @staticmethod
    def natural(shown: Float[Array, " shown"], numbers: Numbers) -> Eta:
        return {"logits": shown / numbers["temperature"]}

    @staticmethod
    def loss(eta: Eta, y: Row, seen: Seen) -> Float[Array, ""]:
        return jnp.where(seen[0], -jax.nn.log_softmax(eta["logits"])[y[0].astype(jnp.int32)], 0)

    @staticmethod
    def white(eta: Eta, slope: Eta, seen: Seen) -> Float[Array, " rows"]:
        p, of = jax.nn.softmax(eta["logits"]), slope["logits"]
        return jnp.where(seen[0], jnp.sqrt(p) * (of - (of * p).sum()), 0)

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Eta) -> Row:
        return jax.random.categorical(key, eta["logits"])[None].astype(eta["logits"].dtype)

    @staticmethod
    def residuals(eta: Eta, y: Row, seen: Seen) -> tuple[Row, Row]:
        """How much more probable than on average the chosen one was: log p(y) has mean and variance of its own. NaN
        where all are equally probable."""
        p, log_p = jax.nn.softmax(eta["logits"]), jax.nn.log_softmax(eta["logits"])
        mean = (p * log_p).sum()
        moments = [(p * (log_p - mean) ** order).sum() for order in (2, 4)]
        size = jnp.sqrt(jnp.where(moments[0] > jnp.finfo(y.dtype).eps, moments[0], jnp.nan))
        fourth = moments[1] / size**4
        return ((log_p[y[0].astype(jnp.int32)] - mean) / size)[None], (fourth - 1)[None]


class Poisson(AbstractLikelihood):
    """y counts, of mean rate exp(gain x)."""

    numbers: ClassVar[dict[str, float | None]] = {"rate": 1.0, "gain": 1.0}

    @staticmethod
    def natural(shown: Float[Array, " shown"], numbers: Numbers) -> Eta:
        return {"log_mean": jnp.log(numbers["rate"]) + numbers["gain"] * shown}

    @staticmethod
    def loss(eta: Eta, y: Row, seen: Seen) -> Float[Array, ""]:
        each = jnp.exp(eta["log_mean"]) - y * eta["log_mean"] + gammaln(y + 1)
        return jnp.where(seen, each, 0).sum()

    @staticmethod
    def white(eta: Eta, slope: Eta, seen: Seen) -> Float[Array, " rows"]:
        return jnp.where(seen, slope["log_mean"] * jnp.exp(eta["log_mean"] / 2), 0)

    @staticmethod
    def draw(key: PRNGKeyArray, eta: Eta) -> Row:
        return jax.random.poisson(key, jnp.exp(eta["log_mean"])).astype(eta["log_mean"].dtype)

    @staticmethod
    def residuals(eta: Eta, y: Row, seen: Seen) -> tuple[Row, Row]:
        mean = jnp.exp(eta["log_mean"])
        return (y - mean) / jnp.sqrt(mean), 2 + 1 / mean


LIKELIHOODS: dict[str, type[AbstractLikelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
}
