"""An integrator, a noise and a traced number, each added to a copy of the code in the places that CONTRIBUTING names.

A copy in a process of its own: what is added is a file and a line of text, and what else is imported does not know it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("unchecked_types")
ROOT = Path(__file__).resolve().parent.parent.parent
MIDPOINT = '''
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from dynamics.coupled_run import CoupledProgress
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.regime import Quality

class Midpoint(AbstractIntegrator):
    """The midpoint method of second order."""

    explicit: ClassVar[bool] = True

    def init(self, run, fixed, weights):
        return CoupledProgress(run.system(fixed).initial_state(weights), fixed, None)

    def show(self, run, ready, progress, k):
        system, dt, inputs_at = run.system(progress.fixed), run.clock.dt, run.inputs_at(k)

        def step(j, y):
            inputs = inputs_at(jnp.asarray(j, dt.dtype))
            moved = lambda start, slope, time: jax.tree.map(lambda a, b: a + time * b, start, slope)
            middle = moved(y, system.drift(y, inputs, None), dt / 2)
            return moved(y, system.drift(middle, inputs, None), dt)

        return progress._replace(state=jax.lax.fori_loop(0, run.clock.steps, step, progress.state))

    def quality(self, run, progress):
        return Quality(jnp.zeros_like(run.clock.dt), jnp.asarray(True))

    def planned(self, settings, demands):
        return self, math.ceil(demands.period.max() / settings.dt)
'''
DOUBLED = '''
class Doubled(AbstractSynapticNoise):
    """g = 2, with the draws of additive noise."""

    multiplied: ClassVar[bool] = False
    draws: ClassVar[tuple[str, str]] = Additive.draws

    def amplitude(self, level, w):
        return jnp.full_like(w, 2 * level)

    def change(self, level, w, draw, half):
        return 2 * level * half.spread * draw


'''
NUMBER = "Annotated[PerLayer, Quantity(zero=True, per_layer=True, absent=0.0, coupled=True)]"
LINES = {  # what is added, and the line that it is added before
    "dynamics/integrators/registry.py": [
        ("from dynamics.integrators.midpoint import Midpoint\n", "from dynamics.integrators.solvers"),
        ('    "midpoint": Midpoint,\n', '    "window": Window'),
    ],
    "dynamics/noise.py": [
        (DOUBLED, "def _of("),
        ("    doubled: Level | None = _of(Doubled())\n", "    calculus: Literal"),
    ],
    # The number is one of the engine's; what is measured is its way through a spec.
    "dynamics/timescales.py": [("    rest: Float[Array, '*layers'] | None = None\n", "    trace: Float")],
    "experiments/spec/tables.py": [(f"    rest: {NUMBER} = Time(0.0)\n", "    trace: Annotated")],
}
SCRIPT = """
import gc
gc.disable()
import json
import jax
import jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from dynamics.errors import PlasticodeError
from experiments.points.assemble import build, plan
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.tasks.registry import load
from unjudged import unjudged

SMALL = {
    "task": {"name": "gaussian-regression", "inputs": 2, "outputs": 1, "samples": 9, "test_samples": 9},
    "network": {"hidden": []}, "dtype": "float64", "record": {"points": 1},
    "timescales": {"propagation": "5 ms", "plasticity": "1 s"}, "stimulus": {"presentations": 3},
}
QUICK = {"xla_llvm_disable_expensive_passes": True, "xla_backend_optimization_level": 0}
def runs(**changes):
    (group,) = expand(make_spec({**SMALL, **changes})).groups
    data = load(group.static.task)
    made = plan(group, data)
    shown = {name: getattr(data, name).astype(float) for name in ("train_inputs", "train_targets")}
    points = [{path: jnp.asarray(value[i]) for path, value in group.values.items()} for i in range(group.size)]
    return [build(made, point, jnp.uint32(0), shown) for point in points]
def end(**changes):
    ((run, key),) = runs(**changes)
    after = lambda run: run.weights(run.advance(run.init(run.circuit.initial_weights(key)), jnp.int32(0), jnp.int32(3)))
    return jax.jit(after, compiler_options=QUICK)(run)["W1"].tolist()
def refusal(**changes):
    try:
        make_spec({**SMALL, **changes})
    except PlasticodeError as error:
        return str(error)
def rests(**changes):
    found = [run.timescales.rest for run, _ in runs(**changes)]
    return [None if rest is None else rest.tolist() for rest in found]
by_steps = {"integrator": {"name": "euler", "dt": "5 ms", "tolerance": 0.9}}
with unjudged():  # nobody asks for an estimate
    found = {
        "midpoint": [end(integrator={"name": "midpoint", "dt": f"{dt} ms"}) for dt in (0.5, 0.25)],
        "window": end(integrator={"name": "window", "tolerance": 1e-8}),
        "late": refusal(integrator={"name": "midpoint"}, delays={"hop": "1 ms"}),
        "noisy": refusal(integrator={"name": "midpoint"}, noise={"doubled": 0.1}),
        "flow": refusal(integrator={"name": "midpoint"}, regime="flow"),
        "doubled": [end(noise={"doubled": 0.1}, **way) for way in ({}, by_steps)],
        "synaptic": [end(noise={"synaptic": 0.2}, **way) for way in ({}, by_steps)],
        "rests": rests(sweep={"timescales.rest": ["0 s", "0.5 T", "1 s"]}),
        "list": rests(timescales={**SMALL["timescales"], "rest": ["1 s"]}),
        "no rest": rests(),
        "settled": refusal(regime="flow", sweep={"timescales.rest": ["1 s"]}),
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What the copy with its additions says."""
    copy = tmp_path_factory.mktemp("copy")
    for package in ("dynamics", "rules", "experiments"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "predictions"))
    shutil.copy(ROOT / "tests/unjudged.py", copy)
    (copy / "dynamics/integrators/midpoint.py").write_text(MIDPOINT, encoding="utf-8")
    for file, added in LINES.items():
        text = (copy / file).read_text(encoding="utf-8")
        for line, before in added:
            assert text.count(f"\n{before}") == 1
            text = text.replace(f"\n{before}", f"\n{line}{before}")
        (copy / file).write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_integrator_is_a_file_and_a_line_of_the_registry(found):
    """It runs specs, to its own order; what it does not declare is refused."""
    errors = np.abs(np.subtract(found["midpoint"], found["window"]))
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.1)
    assert found["late"] == "integrator.name = 'midpoint' is not allowed with delays.hop: it knows no delays"
    assert found["noisy"] == "integrator.name = 'midpoint' is not allowed with noise.doubled: it knows no noise"
    assert "'midpoint'" in found["flow"] and "regime 'flow'" in found["flow"]


def test_a_noise_is_a_class_and_a_line(found):
    """In windows and in steps, the twin of a noise of the package with half its level is that noise to the last bit."""
    assert found["doubled"] == found["synaptic"] and found["doubled"][0] != found["doubled"][1]


def test_a_traced_number_is_declared_once(found):
    """From a sweep and from a list of layers; none where it stands for nothing at every point; in one regime only."""
    assert found["rests"] == [0.0, 0.025, 1.0] and found["list"] == [[1.0]] and found["no rest"] == [None]
    assert "timescales.rest is not allowed with regime = 'flow'" in found["settled"]
