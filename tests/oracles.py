"""What rules are tested against, written without any code of the engine: a forward pass and updates by hand."""

import jax
import jax.numpy as jnp
import numpy as np

VALUES = {"linear": lambda a: a, "relu": lambda a: jnp.maximum(a, 0), "softplus": jax.nn.softplus, "tanh": jnp.tanh}


def forward(network, weights, inputs):
    """The output z_L of a batch of inputs (n, n_0)."""
    z = [inputs]
    for level in range(1, network.depth + 1):
        a = z[level - 1] @ weights[f"W{level}"].T
        for source, target in network.skips:
            if target == level:
                a = a + z[source] @ weights[f"S{source}_{target}"].T
        if network.bias:
            a = a + weights[f"b{level}"].T
        z.append(VALUES[network.activation if level < network.depth else network.output_activation](a))
    return z[-1]


def loss(network, weights, inputs, targets):
    """Mean over the batch of |y - z|^2 / 2 or of the cross-entropy of softmax(z)."""
    z = forward(network, weights, inputs)
    if network.loss == "softmax":
        return -jnp.mean(jnp.sum(targets * jnp.log(jax.nn.softmax(z)), axis=1))
    return jnp.mean(jnp.sum((targets - z) ** 2, axis=1)) / 2


def _taught(w, x, y, credit):
    """Directions e_l z_{l-1}^T of a tanh-linear network of depth 2, the hidden error being f' * credit(e_2)."""
    z1 = np.tanh(w["W1"] @ x + w["b1"][:, 0])
    e2 = y - (w["W2"] @ z1 + w["b2"][:, 0])
    e1 = (1 - z1**2) * credit(e2)
    return {"W1": np.outer(e1, x), "b1": e1[:, None], "W2": np.outer(e2, z1), "b2": e2[:, None]}, z1, e2


def _sgd(w, x, y, theta):
    return _taught(w, x, y, lambda e2: w["W2"].T @ e2)[0]


def _fa(w, x, y, theta):
    return _taught(w, x, y, lambda e2: w["V2"] @ e2)[0]


def _dfa(w, x, y, theta):
    return _taught(w, x, y, lambda e2: w["B1"] @ e2)[0]


def _kp(w, x, y, theta):
    directions, z1, e2 = _taught(w, x, y, lambda e2: w["V2"] @ e2)
    return directions | {"V2": np.outer(z1, e2)}


def _heterosynaptic(w, x, y, theta):
    directions, z1, e2 = _taught(w, x, y, lambda e2: w["V2"] @ w["M2"] @ e2)
    return directions | {"V2": np.outer(z1, w["M2"] @ e2)}


def _activities(w, x):
    z1 = np.tanh(w["W1"] @ x + w["b1"][:, 0])
    return z1, w["W2"] @ z1 + w["b2"][:, 0]


def _hebbian(w, x, y, theta):
    z1, z2 = _activities(w, x)
    return {"W1": np.outer(z1, x), "b1": z1[:, None], "W2": np.outer(z2, z1), "b2": z2[:, None]}


def _anti_hebbian(w, x, y, theta):
    return {name: -direction for name, direction in _hebbian(w, x, y, theta).items()}


def _hebbian_delta(w, x, y, theta):
    taught = _taught(w, x, y, lambda e2: 0)[0]
    return _hebbian(w, x, y, theta) | {"W2": taught["W2"], "b2": taught["b2"]}


def _oja(w, x, y, theta):
    squares = {level: z[:, None] ** 2 for level, z in zip("12", _activities(w, x), strict=True)}
    return {name: d - squares[name[1]] * w[name] for name, d in _hebbian(w, x, y, theta).items()}


def _bcm(w, x, y, theta):
    above = {level: (z - theta[f"z{level}"])[:, None] for level, z in zip("12", _activities(w, x), strict=True)}
    return {name: above[name[1]] * d for name, d in _hebbian(w, x, y, theta).items()}


def _half_flipped(directions):
    """The first half of the presynaptic neurons (round(1.5) = 2 of 3 inputs, 2 of 4 hidden) learn with sign -1."""
    return directions | {"W1": directions["W1"] * [-1, -1, 1], "W2": directions["W2"] * [-1, -1, 1, 1]}


DIRECTIONS = {  # by the names of tests.problems.ENGINE_RULES
    "sgd": _sgd,
    "fa": _fa,
    "template": _fa,
    "dfa": _dfa,
    "kp": _kp,
    "heterosynaptic": _heterosynaptic,
    "heterosynaptic-identity": _heterosynaptic,
    "hebbian": _hebbian,
    "hebbian-delta": _hebbian_delta,
    "anti-hebbian": _anti_hebbian,
    "oja": _oja,
    "bcm": _bcm,
    "curl": lambda *state: _half_flipped(_sgd(*state)),
    "curl-clamp": lambda *state: _half_flipped(_sgd(*state)),
    "curl-fa": lambda *state: _half_flipped(_fa(*state)),
}


def hand_update(name, weights, x, y, theta, eta, shrink):
    """The plastic matrices (sizes 3-4-2, tanh, linear output, squared loss) after one presentation of (x, y).

    W += eta direction - shrink W, biases without the decay; "curl-clamp" rescales W to its norm instead of the decay.
    """
    after = {}
    for matrix, direction in DIRECTIONS[name](weights, x, y, theta).items():
        w = weights[matrix]
        if matrix.startswith("b"):
            after[matrix] = w + eta * direction
        elif name == "curl-clamp":
            moved = w + eta * direction
            after[matrix] = moved * np.sqrt((w**2).sum() / (moved**2).sum())
        else:
            after[matrix] = w + eta * direction - shrink * w
    return after
