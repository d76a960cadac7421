"""Every rule, the same tests: coupled -> discrete, weight flow = discrete, update by hand, traced numbers, contract."""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Draw, Outer, Scaled, Trace, Variable, Wave
from dynamics.coupled import Coupled
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from dynamics.plasticity import slow_traces
from dynamics.stimulus import Stream
from rules.registry import RULES
from tests.compilations import compilations
from tests.oracles import DIRECTIONS, hand_update
from tests.problems import (
    ALL_RULES,
    TINY,
    circuit_of,
    clock,
    discrete,
    distance,
    f64,
    flow,
    random_problem,
    random_weights,
    run,
    timescales,
    wired,
    with_new_pieces,
)
from tests.unjudged import PlainSteps

HEADINGS = ("Equation", "Discrete limit", "Locality", "Shapes", "Errors", "Reference")
each_rule = pytest.mark.parametrize("name", ALL_RULES)


def is_waving(name):
    """Whether a layer is a function of time, which only coupled runs have."""
    return any(isinstance(layer.source, Wave) for layer in circuit_of(name).layers)


each_that_settles = pytest.mark.parametrize("name", [n for n in ALL_RULES if not is_waving(n)])


def is_drawn(circuit):
    """Whether something is drawn anew for each presentation, of which there is no weight flow."""
    return bool(circuit.drawn) or any(isinstance(layer.source, Draw) for layer in circuit.layers)


def is_rewarded(circuit):
    """Whether a reward gates what is drawn: that moves weights ten times as far as it carries them."""
    gated = any(isinstance(t.term, Outer) and t.term.gate is not None for t in circuit.terms)
    return gated and any(isinstance(layer.source, Draw) for layer in circuit.layers)


def is_clamped(name):
    circuit = circuit_of(name)
    return any(circuit.map_of(p.name).holds_norm for p in circuit.plastic)


def has_momentum(name):
    """Updates step a slow trace before the weights, half a presentation ahead of the flow."""
    return bool(slow_traces(circuit_of(name)))


def is_pulled(name):
    """Weights go on pulling at each other in gaps, which updates do not have."""
    return any(isinstance(t.term, Scaled) and t.term.matrix is not None for t in circuit_of(name).terms)


def is_mirrored(name):
    circuit = circuit_of(name)
    return any(circuit.map_of(p.name).mirror is not None for p in circuit.plastic)


def plastic(circuit, weights):
    return {p.name: weights[p.name] for p in circuit.plastic}


def plastic_changes(circuit, before, after):
    return jax.tree.map(jnp.subtract, plastic(circuit, after), plastic(circuit, before))


def only_first_sample(problem):
    """The problem with its first sample in place of all."""
    return problem._replace(inputs=jnp.tile(problem.inputs[:1], (4, 1)), targets=jnp.tile(problem.targets[:1], (4, 1)))


# --------------------------------------------------------------------------------------------------------------- limits


def changes_of_weights(rule, problem, shrink, presentations, gap, steps):
    """The changes of the plastic matrices in the coupled and in the discrete regime, for eight orders of the samples.

    T shrinks by `shrink`, tau_prop and the timescales of all else that settles by its square, and all other time
    constants stay: so tau_prop/T and T/tau_plast shrink together, and so do T/tau_dec and T/threshold_timescale. At the
    smallest tau_prop, T/200, its step is 1/2 if there are 400: a filter by Euler's steps is late by its time constant,
    however long they are.
    """
    circuit = settling_sooner(wired(rule, problem.network), shrink**2)
    weights = random_weights(circuit)
    time = clock(0.02 * shrink, gap * 0.02 * shrink, steps)
    times = timescales(propagation=0.02 * 0.02 * shrink**2, plasticity=4.0 if is_rewarded(circuit) else 0.4, decay=1.0)

    def changes(key):
        shown = Stream(problem.inputs, problem.targets, key)
        regimes = Coupled(circuit, times, shown, time, integrator=PlainSteps()), Discrete(circuit, times, shown, time)
        return [plastic_changes(circuit, weights, run(regime, weights, presentations)) for regime in regimes]

    return jax.vmap(changes)(jax.random.split(jax.random.key(3), 8))


def settling_sooner(circuit, factor):
    """The circuit with all own timescales of what settles, fast variables and traces, times `factor`."""

    def sooner(piece):
        fast = piece.timescale is not None and not piece.slow
        return dataclasses.replace(piece, timescale=factor * piece.timescale) if fast else piece

    def is_piece(node):
        return isinstance(node, Variable | Trace)

    return jax.tree.map(lambda node: sooner(node) if is_piece(node) else node, circuit, is_leaf=is_piece)


def errors_of_the_coupled_regime(rule, problem, gap, steps=400):
    """|change in the coupled regime - discrete change| / |discrete change| after a given time, for T = 20, 10, 5 ms.

    Of all matrices together; root mean squares over the orders of the samples, since runs of different T meet others.
    Where something is drawn the number of presentations is given, so that all meet the same samples and draws.
    """
    total, drawn = [], is_drawn(wired(rule, problem.network))
    for halvings in range(3):
        shown = 4 if drawn else 4 * 2**halvings
        coupled, updates = changes_of_weights(rule, problem, 0.5**halvings, shown, gap, steps)
        off, size = (
            sum(np.sum(np.square(x), axis=(1, 2)) for x in jax.tree.leaves(tree))
            for tree in (jax.tree.map(np.subtract, coupled, updates), updates)
        )
        total.append(np.sqrt(np.mean(off / size)))
    return total


def assert_first_order(total, last=0.04):
    """Each halving of tau_prop/T and T/tau_plast halves the error, down to a few per cent."""
    assert total[0] / total[1] > 1.7 and 1.7 < total[1] / total[2] < 2.4, total
    assert total[2] < last, total


def assert_first_order_of_draws(total):
    """As above, of what is drawn: it meets the draws of other presentations, which have nothing to do with it, for a
    few tau_prop, so that errors are larger and the next order counts. What is left at T -> 0 by both orders is less."""
    assert 1.6 < total[0] / total[1] < total[1] / total[2] < 2.2, total
    assert abs(total[0] - 6 * total[1] + 8 * total[2]) / 3 < 0.02, total


@pytest.mark.parametrize("name", [name for name in with_new_pieces(ALL_RULES) if not is_waving(name)])
def test_the_coupled_regime_tends_to_the_discrete_one(name):
    """Of every piece that a circuit may have; how rules put them together is seen below, of each rule."""
    # By two traces each side meets the other one's past, to which the length of a step counts.
    errors = errors_of_the_coupled_regime(ALL_RULES[name], TINY, gap=0.0, steps=800 if name == "stdp" else 400)
    if is_drawn(circuit_of(name)) and not circuit_of(name).with_errors:
        assert_first_order_of_draws(errors)
    else:
        assert_first_order(errors, 0.1 if has_momentum(name) else 0.04)


@pytest.mark.parametrize("name", ["kp", "oja", "bcm"])
def test_the_coupled_regime_tends_to_the_discrete_one_with_gaps(name):
    """Without biases, which would go on driving Hebbian laws in the gaps."""
    unbiased = random_problem((3, 4, 2), bias=False, samples=4)
    assert_first_order(errors_of_the_coupled_regime(ALL_RULES[name], unbiased, gap=0.5))


DRIVEN_IN_GAPS = ("hebbian", "hebbian-delta", "anti-hebbian", "oja", "bcm", "stdp")


def euler_step_and_update(name, eta):
    """The weights after two Euler steps of the weight flow on one sample with dt = T + g, and after two updates.

    Of rules that need no error without biases, which drive them in the gaps too: updates have no gaps. Without a gap
    where neurons are active in it.
    """
    problem = random_problem((3, 4, 2), bias=False, samples=4) if name in DRIVEN_IN_GAPS else TINY
    circuit, one = wired(ALL_RULES[name], problem.network), only_first_sample(problem)
    silent = all(
        float(jnp.abs(layer.f(jnp.zeros(layer.size))).max()) == 0 for layer in circuit.layers if not layer.given
    )
    gap = eta / 4 if silent and not is_pulled(name) else 0.0
    weights, times, time = random_weights(circuit), timescales(decay=2.0), clock(eta, gap=gap)
    slow = jax.tree.map(lambda v: v + 0.3, circuit.initial_slow())
    regimes = flow(circuit, one, times, time, "euler"), discrete(circuit, one, times, time)
    return [run(regime, weights, 2, slow) for regime in regimes]


@each_that_settles
def test_an_euler_step_of_the_weight_flow_is_the_discrete_update(name):
    if is_drawn(circuit_of(name)):
        with pytest.raises(PlasticodeError, match="drawn anew"):
            flow(circuit_of(name), TINY, timescales())
        return
    if not (is_clamped(name) or has_momentum(name) or is_mirrored(name)):
        assert distance(*euler_step_and_update(name, eta=0.1)) < 1e-14
        return
    # The step along the tangent of the sphere and the published rescaling agree to first order in eta only, and so do a
    # step in a mirror's geometry and momentum.
    coarse, fine = (distance(*euler_step_and_update(name, eta)) for eta in (0.02, 0.01))
    assert 3.5 < coarse / fine < 4.5 and fine < 1e-3


# --------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("name", DIRECTIONS)
def test_one_update_by_hand(name):
    circuit = circuit_of(name)
    weights = random_weights(circuit)
    one = only_first_sample(TINY)
    theta = {"z1": np.array([0.1, -0.2, 0.3, 0.5]), "z2": np.array([0.4, 0.2])}
    slow = {layer: {"threshold": f64(theta[layer])} for layer in circuit.initial_slow()}
    time = clock(0.1, gap=0.05)
    after = run(discrete(circuit, one, timescales(plasticity=2.0, decay=3.0), time), weights, 1, slow)
    start, x, y = jax.tree.map(np.asarray, (weights, one.inputs[0], one.targets[0]))
    by_hand = hand_update(name, start, x, y, theta, eta=0.1 / 2, shrink=0.15 / 3)
    assert distance(plastic(circuit, after), by_hand) < 1e-14
    fixed = {n: w for n, w in weights.items() if n not in by_hand}
    assert not fixed or distance({n: after[n] for n in fixed}, fixed) == 0


# --------------------------------------------------------------------------------------------------------- equivalences

with_numbers = pytest.mark.parametrize(
    "name", [n for n, rule in ALL_RULES.items() if jax.tree.leaves(rule) and not is_waving(n)]
)


def with_scaled_numbers(rule, factor):
    return jax.tree.map(lambda leaf: factor * leaf, rule)


@with_numbers
def test_other_numbers_of_a_rule_need_no_other_compilation_and_vmap_over_them_is_a_loop(name):
    """By the program of one update by hand and of the discrete limit: its times have a decay too."""

    def trained(factor):
        circuit = with_scaled_numbers(ALL_RULES[name], factor).wire(TINY.network)
        return run(discrete(circuit, TINY, timescales(decay=2.0), clock(0.1)), random_weights(circuit), 5)

    factors, alone = f64([0.5, 1.0]), [trained(f64(0.5))]
    before = compilations()
    alone.append(trained(f64(1.0)))
    assert compilations() == before
    together = jax.vmap(trained)(factors)
    assert distance(alone[0], alone[1]) > 1e-6
    for i in range(2):
        largest = max(float(jnp.abs(w).max()) for w in alone[i].values())
        assert distance({matrix: w[i] for matrix, w in together.items()}, alone[i]) < 1e-14 * max(largest, 1)


# ------------------------------------------------------------------------------------------------------------- contract


def heading_lines(rule):
    """The text after each heading of a rule's docstring."""
    lines = [line.strip() for line in (inspect.getdoc(type(rule)) or "").splitlines()]
    return {h: line.removeprefix(h).strip() for h in HEADINGS for line in lines if line.startswith(h + " ")}


@each_rule
def test_the_docstring_has_all_headings(name):
    assert tuple(heading_lines(ALL_RULES[name])) == HEADINGS


@each_rule
def test_the_reference_is_a_bibtex_entry(name):
    reference = ALL_RULES[name].reference
    assert reference.startswith("@") and "title={" in reference and reference.count("{") == reference.count("}") > 1
    key = reference.split("{")[1].split(",")[0]
    assert key in heading_lines(ALL_RULES[name])["Reference"] or name == "template"


@each_rule
def test_a_rule_is_short(name):
    """Its class, apart from the docstring and the bibtex, has fewer than 40 lines."""
    cls: Any = ast.parse(textwrap.dedent(inspect.getsource(type(ALL_RULES[name])))).body[0]
    apart = [
        cls.body[0],
        *(n for n in cls.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "reference"),
    ]
    assert cls.end_lineno - sum(n.end_lineno - n.lineno + 1 for n in apart) < 40


@each_rule
def test_a_matrix_has_the_level_of_its_target_and_feedback_that_of_the_forward_matrix_it_mirrors(name):
    """It picks the time constants: a user's lists per layer mean the same with every rule. The layers of a second copy
    of the network have a prime."""
    network = Network((3, 4, 3, 3, 2), skips=((0, 2), (1, 4)), gain=f64(1.0))
    circuit = wired(ALL_RULES[name], network)
    levels = {layer.name: layer.level for layer in circuit.layers if layer.name[0] == "z"}
    assert levels.items() >= {f"z{level}": level for level in range(5)}.items()
    assert all(level == int(layer[1:].partition("~")[0].rstrip("'")) for layer, level in levels.items())
    for p in circuit.projections:
        end = p.source if p.name.startswith("V") else p.target
        assert p.level == circuit.layer(end).level, p.name


@each_rule
def test_locality_is_as_documented(name):
    rules = [ALL_RULES[name]]
    while hasattr(rules[-1], "credit"):  # a wrapper is no more local than what it wraps
        rules.append(rules[-1].credit)
    assert circuit_of(name).is_local == (not any(heading_lines(r)["Locality"].startswith("not") for r in rules))


def test_every_registered_rule_is_in_the_matrix():
    assert set(RULES.values()) <= {type(rule) for rule in ALL_RULES.values()}


UNSUPERVISED = {"hebbian", "anti-hebbian", "oja", "bcm", "ska", "stdp"}


@each_rule
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2)])
def test_a_rule_that_needs_an_error_refuses_an_unsupervised_network(name, sizes):
    network = Network(sizes, supervised=False, gain=f64(1.0))
    if name in UNSUPERVISED:
        assert not wired(ALL_RULES[name], network).with_errors
        return
    with pytest.raises(PlasticodeError, match="unsupervised.*must be one that needs no error, such as hebbian"):
        ALL_RULES[name].wire(network)
