"""Rules compared by what they foretell: folds, intervals of differences, the verdict on a small recording."""

import dataclasses
import functools
import json
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import plasticode
from dynamics.errors import PlasticodeError
from dynamics.information import Scored
from experiments.commands.cli import app
from experiments.execution.runner import local
from experiments.inference import comparison, folds, simulation
from experiments.inference.comparison import Compared, Contest, Explanation
from experiments.inference.coordinates import Coordinate
from experiments.inference.model import model, truth_of
from experiments.inference.recordings import Recording
from experiments.inference.searching import Searcher, Seeker, chunking_of
from experiments.inference.table import read_fit
from experiments.inference.verdicts import Misfit
from experiments.machine.progress import Meter
from experiments.points.jobs import group_stem
from experiments.spec.loading import load_spec, make_spec
from experiments.spec.spec import dump_toml
from experiments.storage import rundir
from tests.experiments.inference.test_fitting import CHOICE, FEEDBACK, PLASTICITY, Z1, are_told, fit_of, table

pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_folds_are_blocks_all_over_the_recording():
    observed = np.ones(50, bool)
    observed[10:20] = False
    block = folds.blocks(observed, 5)
    assert (block[~observed] == folds.UNSEEN).all()
    assert (np.diff(block[observed]) >= 0).all() and set(np.bincount(block[observed])) == {2}
    where = [np.flatnonzero(observed & (block % 5 == fold)) for fold in range(5)]
    assert all(one.min() < 10 and one.max() >= 40 for one in where)
    with pytest.raises(PlasticodeError, match=r"fit.folds = 11 .* observed in 40 presentations, and 4 of them"):
        folds.blocks(observed, 11)


def test_intervals_of_differences_cover_the_truth_though_it_grows():
    """Of 400 intervals, 95 % each; a variance of all blocks would make them three times as wide, and cover all."""
    rng, block = np.random.default_rng(0), np.repeat(np.arange(20), 5)
    truth = np.linspace(0, 4, 100)
    drawn = truth + rng.normal(size=(400, 100))
    found = [folds.difference(one, np.zeros(100), block) for one in drawn]
    held = sum(at.low < truth.sum() < at.high for at in found)
    assert 400 * 0.92 < held < 400 * 0.985
    assert all(at.is_out for at in found)
    assert not folds.difference(truth * 1e-3, np.zeros(100), block).is_out  # sure, and next to nothing
    assert folds.difference(truth, np.full(100, -np.inf), block).is_out


def compared(*totals, wrong=()):
    """Rules of such held-out log-likelihoods, a hundred presentations each."""
    block, chance = np.repeat(np.arange(20), 5), np.random.default_rng(1).normal(size=(len(totals), 100))
    test = {True: Misfit(9.0, 0.0), False: Misfit(0.0, None)}
    rules = [
        Explanation(f"r{i}", (), (), {}, {"z1": test[i in wrong]}, total / 100 + chance[i] / 100, 0.0)
        for i, total in enumerate(totals)
    ]
    behind = tuple(folds.difference(rules[0].held_out, one.held_out, block) for one in rules)
    return Compared(tuple(rules), behind, block, 5)


def test_verdicts_say_what_is_left():
    assert compared(0, -20, -30).verdict == "explained-by: r0"
    assert compared(0, -1, -30).verdict == "undecided: r0, r1"
    assert compared(0, -20, wrong=[1]).ok and compared(0, -20, wrong=[0]).verdict == "none"
    assert compared(0, -1, wrong=[0]).kind == "undecided"
    assert "Ruled out, in log units of what was left out of the fit: r1 (by 2" in str(compared(0, -20))


def test_a_rule_that_is_best_at_an_end_of_a_range_is_told():
    lag = Coordinate("delays.error", 0.0, 0.04, is_log=False, is_time=True, prior=None, value=None)
    found = compared(0, -20)
    ends = [dataclasses.replace(one, free=(lag,), estimates={lag.path: 0.04}) for one in found.rules[1:]]
    told = str(dataclasses.replace(found, rules=(found.rules[0], *ends)))
    assert told.count("still grows") == 1 and "With r1 the likelihood still" in told


def spec_of(**changes):
    observe = [Z1 | {"neurons": [0, 1, 2]}, CHOICE]
    return fit_of(table(presentations=60, observe=observe), rules=["fa", "sgd"], starts=2, **changes)


def test_what_is_left_out_of_a_fit_is_all_that_judges_it():
    """Scores of a part and of the rest add up to those of all, and what is told to what is scored."""
    spec = make_spec(spec_of())
    fit = read_fit(spec)
    made, recording = model(spec, fit), simulation.simulated(spec, fit, 0)[0]
    out = np.arange(60) % 3 == 0
    place = truth_of(made)
    masks = np.stack([np.zeros(60, bool), out, ~out])
    parts = comparison.Parts(recording.seen, jnp.asarray(masks))
    part = jax.jit(lambda which: comparison._scored(made, jnp.append(place, which), parts, made.data))
    none, some, rest = map(part, (0, 0.5, 1))
    assert not np.asarray(none.gradient)[-1] and not np.asarray(none.information)[-1].any()
    for whole, left, right in zip(none, some, rest, strict=True):
        np.testing.assert_allclose(np.asarray(left) + np.asarray(right), whole, rtol=1e-9, atol=1e-9)
    told, _, _ = jax.jit(lambda: comparison._told(made, place, recording.seen, made.data))()
    np.testing.assert_allclose(-told[~out].sum(), some.loss, rtol=1e-9)


Said: Any = Scored  # of NumPy's arrays


class Scores:
    """Of a mean of normal numbers, instead of a network; an interrupt comes instead of call number `last`."""

    batch = 4

    def __init__(self, y, last):
        self.y, self.left = y, last

    def __call__(self, places, parts, data):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        there = ~parts.left_out[np.rint(places[:, -1] * 5).astype(int)]
        rest = self.y - 10 * (places[:, :1] - 0.5)
        slope, count = np.zeros((4, 2)), np.zeros((4, 2, 2))
        slope[:, 0], count[:, 0, 0] = -10 * (rest * there).sum(axis=1), 100 * there.sum(axis=1)
        return Said((rest**2 * there).sum(axis=1) / 2, slope, count)

    def compiled(self, *arguments):
        pass


def contest(last=10**9):
    """Two rules, of which the second thinks of larger numbers."""
    y, ones = np.random.default_rng(0).normal(size=40), np.ones((40, 1))

    def rule(name, y):
        def told(places, seen, data):
            rest = y - 10 * (places - 0.5)
            return -(rest**2) / 2, {"z1": (rest[..., None], np.stack([2 * ones] * len(places)))}, np.zeros(len(places))

        free = (Coordinate("rule.a", -5.0, 5.0, False, False, None, 0.0),)
        flat = lambda places: Said(np.zeros(4), np.zeros((4, 1)), np.zeros((4, 1, 1)))  # noqa: E731
        seen = (SimpleNamespace(name="z1", noise="gaussian"),)
        made: Any = SimpleNamespace(free=free, prior=flat, data={}, observe=seen, initial=None, coordinates=1)
        scores: Any = Scores(y, last)
        return comparison.Contender(name, made, (), scores, told)

    rules = [rule("a", y), rule("b", 2 * y)]
    asked = read_fit(make_spec(spec_of()))
    counted: list[Any] = [one.scores for one in rules]
    return Contest(rules, asked, Recording(40, {"z1": y[:, None]}, None), 0), counted


def seeker(directory=None):
    execute = functools.partial(local, store=directory and directory.store, make=Searcher)
    return Seeker(Meter(None, 1.0), chunking_of(5, 1), execute, directory)


def test_each_presentation_is_judged_by_the_fit_that_did_not_have_it():
    """What is left out is foretold by the mean of the others."""
    asked, (scores, _) = contest()
    found = asked.compared(seeker())
    best, block, y = next(one for one in found.rules if one.rule == "a"), found.block, scores.y
    means = np.array([y[block % 5 != own].mean() for own in block % 5])
    np.testing.assert_allclose(best.held_out, -((y - means) ** 2) / 2, atol=1e-3)
    np.testing.assert_allclose(best.estimates["rule.a"], y.mean(), atol=1e-3)


def test_a_comparison_goes_on_where_it_was_stopped_to_the_same_numbers(tmp_path):
    """Interrupted after every score in turn, each of which is taken once."""
    whole, counted = contest()
    expected = whole.compared(seeker()).data
    calls = [10**9 - one.left for one in counted]
    jobs = {group_stem(part, 0): (size, 1) for part, size in whole.searches.items()}
    for last in (1, 4, 5, 8):
        out, taken = tmp_path / str(last), np.zeros(2, int)
        header = rundir.header("a", "hash", "a = 1", {}, {}, chunking_of(5, 1), jobs)
        for at_most in (last, last, 10**9, 10**9):
            asked, counted = contest(at_most)
            with rundir.opened(out, header) as directory:
                try:
                    found = asked.compared(seeker(directory))
                except KeyboardInterrupt:
                    found = None
            taken += [min(at_most, at_most - one.left) for one in counted]
        assert found is not None and found.data.identical(expected)
        assert taken.tolist() == calls


def test_a_command_names_the_rule_that_has_made_the_recording(tmp_path):
    file, out = tmp_path / "small.toml", tmp_path / "out"
    file.write_text(dump_toml(make_spec(spec_of())), encoding="utf-8")
    done = CliRunner().invoke(app, ["fit", str(file), "--synthetic", "--out", str(out), "--no-cache"])
    assert done.exit_code == 0, done.output
    assert "Of these rules fa alone explains the recording." in done.output
    assert f"sgd has no {FEEDBACK}, and is fitted without." in done.output
    content = json.loads((out / "summary.json").read_text())["rules"]
    assert content["verdict"] == "explained-by: fa"
    assert [sorted(one["estimates"]) for one in content["compared"]] == [sorted([PLASTICITY, FEEDBACK]), [PLASTICITY]]
    with xr.open_dataset(out / "fit.nc", group="rules") as data:
        are_told(data, ["estimate"])
        assert list(data["rule"].values) == ["fa", "sgd"] and set(data["fold"].values) == set(range(5))
        behind = -data["held_out"].sum("presentation").diff("rule").item()
        np.testing.assert_allclose(behind, data["behind"].sel(rule="sgd", bound="difference"))
    page = (out / "report.html").read_text()
    assert page.index("<img") < page.index("Of these rules fa alone") < page.index("<table")
    assert load_spec(out / "spec.toml").fit["rules"] == ["fa", "sgd"]


def test_what_is_taken_for_granted_of_a_recording_is_told(monkeypatch):
    monkeypatch.setattr(comparison.Contest, "compared", lambda *_: Compared((), (), np.zeros(60), 5))
    seen = {"z1": np.zeros((60, 3)), "choice": np.zeros(60)}
    (told,) = plasticode.which_rule(spec_of(), seen).notes
    assert told.startswith("The recording has no variable 'sample'")
    assert not plasticode.which_rule(spec_of(), synthetic=True).notes


WRONG = {
    "one": (dict(rules=["fa"]), "it must name the rules to compare, two or more"),
    "twice": (dict(rules=["fa", "fa"]), "each rule must be named once"),
    "unknown": (dict(rules=["fa", "sdg"]), "in fit.rules: rule 'sdg' is not known"),
    "number": (dict(free={"rule.feedback_scale": [0.1, 1]}), "this rule has none of the numbers of fit.free"),
    "nowhere": (dict(free={"rule.feedback_scal": [0.1, 1]}), "did you mean"),
    "cannot": (dict(rules=["fa", "oscillating-ep"]), "oscillating-ep"),
    "folds": (dict(folds=1), "fit.folds"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_comparison_that_cannot_be_is_told_in_a_sentence(case):
    changes, told = WRONG[case]
    with pytest.raises(PlasticodeError) as caught:
        seen = {"z1": np.zeros((60, 3)), "choice": np.zeros(60)}
        plasticode.which_rule(fit_of(spec_of(), **changes), seen)
    assert told in str(caught.value)


def test_initial_weights_that_only_one_of_the_rules_has_are_left_out_for_the_others():
    spec = make_spec(spec_of(initial_weights="start"))
    fit = read_fit(spec)
    recording = simulation.simulated(spec, fit, 0)[0]
    starts = [one.made.initial for one in comparison.contenders(spec, fit, recording)]
    assert [start is not None and "V2" in start.weights for start in starts] == [True, False]
    misspelt = recording._replace(start={"w1": np.zeros(1), **recording.start})
    with pytest.raises(PlasticodeError, match="has 'start_w1', and the rule's network has no such map"):
        comparison.contenders(spec, fit, misspelt)
