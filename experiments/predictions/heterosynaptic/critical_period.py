"""T3.6: accuracy after rewiring: images and noise change places, after some epochs, between two halves of the input."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.instruments import accuracy
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.drawing import drawn, legend_outside, look, marked
from experiments.predictions.kit import f64, weight_flow, weights_after, wired
from experiments.report.figures import LINES, OKABE_ITO
from experiments.results.verdicts import close, mean_of, stays_below
from experiments.tasks.real import Digits
from rules.heterosynaptic import Heterosynaptic

Epoch = Annotated[int, Field(strict=True, ge=0, le=1000)]


class CriticalPeriod(AbstractPrediction):
    number = "T3.6"
    title = "Critical period: late rewiring of the inputs costs final accuracy"
    source = "ziyin2025heterosynaptic, fig. 3 (there with colour images)"
    equation = "accuracy(RT, so many epochs after RT) falls monotonically with RT"
    claim = """One half of the inputs carries images, the other noise. Where they change places after RT epochs, what is
        reached so many epochs later is the worse the larger RT is. Here the images are the digits of scikit-learn."""
    method = """Networks with one hidden layer and a random feedback population learn in the weight flow, one Euler step
        per batch, with fresh gaussian noise in every presentation; the slope of the test accuracy against ln(1 + RT),
        per seed. The images have unit variance. `weak` noise is a comparison."""
    tolerance = """The mean slope over seeds lies below 0 at 99.9 %, and no step from one RT to the next goes up at 99.9
        %: the size of the effect is not predicted."""
    quick = {"rewirings": (0, 2, 12), "images": 160, "batch": 40, "epochs": 6}

    rewirings: Annotated[tuple[Epoch, ...], Field(min_length=2)] = (0, 1, 3, 10, 30)  # RT, in epochs
    epochs: Size = 20  # after the rewiring
    noise: Positive = 3.0  # standard deviation, that of images being 1
    weak: Positive = 1.0  # the same, of the comparison
    images: Annotated[int, Field(strict=True, ge=10, le=1400)] = 300
    batch: Annotated[int, Field(strict=True, ge=1, le=1400)] = 50
    neurons: Size = 20
    units: Size = 20
    decay: Positive = 1000.0  # tau_dec in units of tau_plast
    step: Positive = 0.3  # duration of a batch in units of tau_plast
    seeds: Seeds = 12

    def misfit(self) -> str | None:
        if list(self.rewirings) != sorted(set(self.rewirings)):
            return "the rewiring times must increase"
        if self.batch > self.images:
            return f"a batch of {self.batch} does not fit into {self.images} images"

    def measure(self) -> Finding:
        curves = self._trained()
        ends = np.array(self.rewirings) + self.epochs
        final = np.stack([curves[:, :, i, end] for i, end in enumerate(ends)], -1)  # (noise, seeds, rewirings)
        scale = np.log1p(np.array(self.rewirings, float))
        weak, slopes = ((final[i] - final[i].mean(-1, keepdims=True)) @ (scale - scale.mean()) for i in (0, 1))
        steps = [mean_of(difference, 0.999) for difference in np.diff(final[1]).T]
        rises = sum(step.value > step.half for step in steps)
        spread = np.sum((scale - scale.mean()) ** 2)
        verdicts = [
            stays_below("later is worse", "change of accuracy per unit of ln(1 + RT)", 0.0, slopes / spread),
            close("monotone", f"steps up, of {len(steps)}", 0.0, float(rises), 0.0),
        ]
        slope, low = mean_of(weak / spread), final.mean(1)
        note = (
            f"With noise of {self.weak:g} times the images' deviation the slope is {slope.value:.4f} +- "
            f"{slope.half:.4f} (95 %), the accuracy going from {low[0, 0]:.3f} to {low[0, -1]:.3f}; with "
            f"{self.noise:g} times, it goes from {low[1, 0]:.3f} to {low[1, -1]:.3f}. What makes late rewiring costly "
            "is how strong the noise is that the weights learned from images then pass on."
        )
        return Finding(verdicts, self._drawn(curves[1], final), [note])

    def _trained(self) -> np.ndarray:
        """(noise, seeds, rewirings, epochs): the test accuracy at the start of each epoch."""
        x, y, x_test, y_test = self._images()
        rule = Heterosynaptic(feedback_scale=f64(1.0), feedback_units=self.units)
        circuit = wired(rule, (2 * x.shape[1], self.neurons, y.shape[1]), loss="softmax")
        per_epoch = self.images // self.batch

        def shown(key: Array, images: Array, late: Array, noise: Array) -> Array:
            other = noise * jax.random.normal(key, images.shape, images.dtype)
            return jnp.where(late, jnp.concatenate([other, images], 1), jnp.concatenate([images, other], 1))

        def one(noise: Array, key: Array, rewired: Array) -> Array:
            for_start, for_test, for_training = jax.random.split(key, 3)

            def batch(number: Array, w: Weights, late: Array) -> Weights:
                for_noise, for_choice = jax.random.split(jax.random.fold_in(for_training, number))
                chosen = jax.random.randint(for_choice, (self.batch,), 0, self.images)
                inputs = shown(for_noise, x[chosen], late, noise)
                flow = weight_flow(circuit, inputs, y[chosen], self.step, self.decay)
                return weights_after(flow, w, 1)

            def epoch(w: Weights, number: Array) -> tuple[Weights, Array]:
                late = number >= rewired
                tested = shown(jax.random.fold_in(for_test, number), x_test, late, noise)
                first = number * per_epoch
                after = jax.lax.fori_loop(first, first + per_epoch, lambda i, w: batch(i, w, late), w)
                return after, accuracy(circuit, w, tested, y_test)

            epochs = jnp.arange(max(self.rewirings) + self.epochs + 1)
            return jax.lax.scan(epoch, circuit.initial_weights(for_start), epochs)[1]

        over = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
        keys = jax.random.split(jax.random.key(self.seed), self.seeds)
        return np.asarray(jax.jit(over)(f64((self.weak, self.noise)), keys, jnp.asarray(self.rewirings)))

    def _images(self) -> tuple[Array, Array, Array, Array]:
        """Training and test images of mean 0 (of each pixel) and variance 1 (over all), with their one-hot targets."""
        data = Digits(seed=self.seed).load()
        mean, deviation = data.train_inputs.mean(0), data.train_inputs.std(0).astype(float)
        scale = np.sqrt(np.mean(deviation**2))
        x, x_test = (f64((inputs - mean) / scale) for inputs in (data.train_inputs, data.test_inputs))
        return x[: self.images], f64(data.train_targets)[: self.images], x_test, f64(data.test_targets)

    @drawn(3.4, 4.4)
    def _drawn(self, figure: Figure, curves: np.ndarray, final: np.ndarray) -> None:
        top, bottom = figure.subplots(2, 1)
        ends = np.array(self.rewirings) + self.epochs
        for i, (rewired, end) in enumerate(zip(self.rewirings, ends, strict=True)):
            line = {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 7], "label": f"RT = {rewired}"}
            top.plot(np.arange(end + 1), curves[:, i, : end + 1].mean(0), **line)
        for i, noise in enumerate((self.weak, self.noise)):
            marked(bottom, np.arange(len(ends)), final[i].T, label=f"noise {noise:g}", linestyle="-", **look(i))
        bottom.set_xticks(np.arange(len(self.rewirings)), [str(rewired) for rewired in self.rewirings])
        top.set(xlabel="epoch", ylabel=f"accuracy, noise {self.noise:g}", ylim=(0, 1))
        bottom.set(xlabel="rewiring time RT (epochs)", ylabel=f"accuracy {self.epochs} epochs later")
        legend_outside(top, 3, loc="upper left")
        bottom.legend(loc="lower left")
