"""B11: a tanh network learns alpha (f - f(0)) at the rate 1 / alpha^2, by rules that are linear in the error."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.flow import FlowState
from dynamics.instruments import predict
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import drift_of, f64, keys_from, order, weight_flow, wired
from experiments.results.verdicts import Verdict, matches
from rules.contract import AbstractRule
from rules.feedback_alignment import DFA, FA
from rules.gradient import SGD
from rules.heterosynaptic import Heterosynaptic
from rules.kolen_pollack import KP

RULES: dict[str, AbstractRule] = {
    "sgd": SGD(),
    "fa": FA(),
    "dfa": DFA(),
    "kp": KP(),
    "heterosynaptic": Heterosynaptic(),
}
STEP = 0.1  # tau_plast
LOOKS = 12


class LazyLimit(AbstractPrediction):
    number = "B11"
    title = "Lazy learning is linear up to 1 / alpha, under feedback alignment too"
    source = """chizat2019lazy, for gradient descent; the kernel of other rules derived: K = J(x) D(x'), D the rule's
        drift"""
    equation = """f' = K (y - f) with K_ij = J(x_i) D(x_j) / n at the start; max_t |alpha (f - f(0)) - f_lin| = O(1 /
        alpha), |dW| = O(1 / alpha)"""
    claim = """Gradient descent with a large output scale alpha follows the flow of its initial tangent kernel, up to
        1 / alpha. So do random feedback, Kolen-Pollack and heterosynaptic circuits, whose kernel is not symmetric:
        the Jacobian times the drift of the weights that an error of one sample makes."""
    method = """The engine's weight flow, in Heun steps, on targets f(0) + y / alpha, which is the same:
        tau_plast absorbs 1 / alpha^2. Largest deviation over time from the same steps of the linear flow, so that
        their own error drops out; its kernel is taken from the engine's drift and predictions by differentiation. The
        slope is fitted to the largest three alpha."""
    tolerance = "Slopes: the 99.9 % interval over seeds within 0.1, as the next order counts with 1 / alpha."
    quick = {"rules": ("sgd", "fa"), "seeds": 6}

    rules: Annotated[tuple[str, ...], Field(min_length=1)] = ("sgd", "fa", "dfa", "kp", "heterosynaptic")
    alphas: Annotated[tuple[Positive, ...], Field(min_length=3)] = (1.0, 4.0, 16.0, 64.0, 256.0)
    inputs: Size = 4
    hidden: Size = 20
    outputs: Size = 2
    samples: Size = 5
    time: Positive = 6.0  # tau_plast
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if list(self.alphas) != sorted(set(self.alphas)):
            return "alphas must be in increasing order"
        wrong = [name for name in self.rules if name not in RULES]
        return f"there is no rule '{wrong[0]}' here: it must be one of {', '.join(RULES)}" if wrong else None

    def measure(self) -> Finding:
        found = {name: self._measured(RULES[name]) for name in self.rules}
        verdicts = [self._slope(f"linear up to 1 / alpha, {name}", one[0]) for name, one in found.items()]
        moved = np.concatenate([self._slopes(one[1])[None] for one in found.values()])
        quantity = "slope of log |dW| / |W| against log alpha, mean of the rules"
        verdicts.append(matches("weights move by 1 / alpha", quantity, -1.0, moved.mean(0), 0.02))
        return Finding(verdicts, self._drawn(found))

    @property
    def _steps(self) -> int:
        """From one look to the next."""
        return max(1, round(self.time / LOOKS / STEP))

    def _slopes(self, sizes: np.ndarray) -> np.ndarray:
        """Slopes against log alpha of the last three, by seed."""
        return order(self.alphas[-3:], sizes[-3:])

    def _slope(self, name: str, errors: np.ndarray) -> Verdict:
        return matches(name, "slope of the log of the deviation against log alpha", -1.0, self._slopes(errors), 0.1)

    def _measured(self, rule: AbstractRule) -> tuple[np.ndarray, np.ndarray]:
        """Largest deviation over |y|, and how far the weights move over their size: (alphas, seeds) each."""
        sizes = (self.inputs, self.hidden, self.outputs)
        circuit = wired(rule, sizes, activation="tanh")
        steps = self._steps

        def one(key: PRNGKeyArray, alphas: Array) -> tuple[Array, Array]:
            for_x, for_y, for_w = jax.random.split(key, 3)
            x = jax.random.normal(for_x, (self.samples, self.inputs), jnp.float64)
            y = jax.random.normal(for_y, (self.samples, self.outputs), jnp.float64)
            weights = circuit.initial_weights(for_w)
            at_start = predict(circuit, weights, x)
            linear = self._linear(circuit, weights, x, y)

            def scaled(alpha: Array) -> tuple[Array, Array]:
                flow = weight_flow(circuit, x, at_start + y / alpha, STEP, integrator="heun")

                def look(state: FlowState, r: Array) -> tuple[FlowState, Array]:
                    state = flow.advance(state, r * steps, steps)
                    return state, alpha * (predict(circuit, flow.weights(state), x) - at_start)

                end, f = jax.lax.scan(look, flow.init(weights), jnp.arange(LOOKS, dtype=jnp.int32))
                moved = sum(jnp.sum((end.weights[n] - weights[n]) ** 2) for n in ("W1", "W2"))
                size = sum(jnp.sum(weights[n] ** 2) for n in ("W1", "W2"))
                return jnp.abs(f - linear).max() / jnp.sqrt(jnp.mean(y**2)), jnp.sqrt(moved / size)

            return jax.vmap(scaled)(alphas)

        results = jax.jit(jax.vmap(one, (0, None), 1))(keys_from(self.seed, self.seeds), f64(self.alphas))
        return np.asarray(results[0]), np.asarray(results[1])

    def _linear(self, circuit: Circuit, weights: Weights, x: Array, y: Array) -> Array:
        """f of the linear flow at every look, by Heun steps: (looks, samples, outputs)."""
        at_start = predict(circuit, weights, x)

        def response(error: Array) -> Array:
            """f' under an error (samples * outputs,): the Jacobian along the drift that it makes."""
            drift = drift_of(weight_flow(circuit, x, at_start + error.reshape(y.shape), STEP), weights)
            still = {name: jnp.zeros_like(w) for name, w in weights.items()}
            return jax.jvp(lambda w: predict(circuit, w, x).ravel(), (weights,), (still | drift,))[1]

        kernel = jax.vmap(response, 1, 1)(jnp.eye(y.size, dtype=y.dtype))
        step = jnp.eye(y.size, dtype=y.dtype) - STEP * kernel + STEP**2 / 2 * kernel @ kernel
        between = jnp.linalg.matrix_power(step, self._steps)
        left = jax.lax.scan(lambda left, _: (between @ left,) * 2, y.ravel(), length=LOOKS)[1]
        return (y.ravel()[None] - left).reshape(-1, *y.shape)

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        panels = figure.subplots(1, 2)
        labels = r"$\max_t |\alpha(f - f_0) - f_{lin}|$ / |y|", "|W - W(0)| / |W(0)|"
        for panel, which, label in zip(panels, (0, 1), labels, strict=True):
            for i, (name, one) in enumerate(found.items()):
                marked(panel, self.alphas, one[which], label=name, **look(i))
            start = np.mean([one[which][-1].mean() for one in found.values()])
            law = start * self.alphas[-1] / np.array(self.alphas)
            panel.plot(self.alphas, law, color="0.3", label=r"slope $-1$", zorder=0)
            panel.set(xscale="log", yscale="log", xlabel=r"output scale $\alpha$", ylabel=label)
        panels[1].legend(bbox_to_anchor=(1, 1), loc="upper left")
