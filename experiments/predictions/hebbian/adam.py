"""T4.7: the row of Adam in the published table of Hebbian alignment against weight decay."""

from typing import ClassVar

import jax
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.predictions.contract import Finding, NonNegatives, Positive
from experiments.predictions.hebbian.decay_trend import OPEN, RECORDS, HebbianDecayTrend
from experiments.predictions.hebbian.setting import rises
from experiments.predictions.kit import drawn, look, marked
from experiments.results.verdicts import stays_below
from rules.gradient import SGD

PUBLISHED = {0.0: -0.02, 5e-5: 0.10, 5e-4: 0.66}  # cosine in layer 2 by weight decay; at 5e-3 weights collapse


class HebbianAdam(HebbianDecayTrend):
    """The student of `hebbian-decay-trend`, its drifts fed to Adam."""

    number: ClassVar[str] = "T4.7"
    title = "Hebbian alignment rises with weight decay under Adam too"
    claim = """Under Adam the alignment of a hidden layer's learning signal with the Hebbian update is about 0 without
        weight decay and rises with it, as far as weights do not collapse. With decay it stays below the published
        values here."""
    method = """Mini-batches of fresh samples; minus the drift of the weight flow, decay included, is the gradient that
        Adam gets. gamma as in `hebbian-decay-trend`, whose scale Adam does not see. The rate is not published."""
    tolerance = """Increases and the alignment without decay are judged by their 99.9 % intervals over seeds, the latter
        against half of what the largest decay reaches. Values are shown beside the published,
        not judged."""
    quick = {"seeds": 6, "gammas": (0.0, 5e-4), "time": 24.0, "batch": 32}

    gammas: NonNegatives = (0.0, 5e-5, 5e-4)
    time: Positive = 64.0  # 20 times as many steps
    rate: Positive = 3e-3

    def misfit(self) -> str | None:
        if list(self.gammas) != sorted(set(self.gammas)) or len(self.gammas) < 2 or self.gammas[0] != 0:
            return "gammas must be 2 or more, from 0 on in increasing order"

    def measure(self) -> Finding:
        with jax.numpy_dtype_promotion("standard"):  # optax takes powers of floats by integer counts
            end = self._simulated(SGD(), optax.adam(self.rate))[:, -RECORDS // 4 :].mean(1)
        least = end[0] - end[-1] / 2
        verdicts = [
            rises("rises under Adam", "least increase from one gamma to the next", end),
            stays_below("little without decay", "cosine at gamma = 0 less half of that at the largest", 0.0, least),
        ]
        means = dict(zip(self.gammas, end.mean(-1), strict=True))
        pairs = [f"{mean:.2f} ({PUBLISHED.get(g, np.nan):.2f}) at {g:g}" for g, mean in means.items()]
        return Finding(verdicts, self._shown(end), [f"Cosines at the end, and those published: {', '.join(pairs)}."])

    @drawn(3.4, 2.6)
    def _shown(self, figure: Figure, end: np.ndarray) -> None:
        panel, places = figure.subplots(), np.arange(len(self.gammas))
        marked(panel, places, end, **look(0), label="Adam")
        panel.plot(places, [PUBLISHED.get(g, np.nan) for g in self.gammas], **look(0), **OPEN, label="published")
        panel.set_xticks(places, [f"{g:g}" for g in self.gammas])
        panel.set(xlabel="weight decay gamma, as published", ylabel="cosine of g and H, layer 2", ylim=(-0.2, 1.05))
        panel.legend()
