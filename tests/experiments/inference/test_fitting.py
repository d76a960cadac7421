"""Fits and designs of a small network whose answer is known: the numbers that have made the recording."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import plasticode
from dynamics.errors import PlasticodeError
from experiments.commands.cli import app
from experiments.inference import fitting, recordings, scoring, searching, simulation, writing
from experiments.inference.model import Rows, model, truth_of
from experiments.inference.table import read_fit
from experiments.results import ownership
from experiments.spec.loading import load_spec, make_spec
from experiments.spec.spec import dump_toml
from experiments.storage.status import status_of

pytestmark = pytest.mark.usefixtures("unchecked_types")

SEEN = {"z1": np.zeros((50, 2)), "choice": np.zeros(50)}
PLASTICITY, FEEDBACK, SD = "timescales.plasticity", "rule.feedback_scale", "observe.z1.sd"
Z1 = {"of": "z1", "neurons": [0, 2], "sd": 0.05}
CHOICE = {"of": "output", "data": "choice", "noise": "categorical", "temperature": 0.3}


def table(presentations=50, free=(PLASTICITY, FEEDBACK), observe=(Z1, CHOICE), starts=4, **more):
    ranges = {PLASTICITY: ["0.1 s", "10 s"], FEEDBACK: [0.2, 4.0], SD: [0.005, 0.5]}
    return {
        "regime": "discrete",
        "rule": "fa",
        "task": {"name": "circles", "samples": 40},
        "network": {"hidden": [3]},
        "stimulus": {"presentations": presentations},
        "timescales": {"plasticity": "0.5 s"},
        "fit": {"free": {path: ranges[path] for path in free}, "observe": list(observe), "starts": starts},
    } | more


def fit_of(spec: dict, **changes) -> dict:
    return spec | {"fit": spec["fit"] | changes}


@pytest.fixture(scope="module")
def found():
    return plasticode.fit(fit_of(table(free=(PLASTICITY, FEEDBACK, SD)), profile=[PLASTICITY]), synthetic=True)


def test_the_truth_is_found(found):
    assert found.ok and found.reached == 4
    for one, free in zip(found.estimates.values(), found.free, strict=True):
        value, low, high, truth = map(free.scaled, (one.value, one.low, one.high, one.truth))
        assert abs(truth - value) < 3.3 * (high - low) / (2 * 1.96) and one.high - one.low < one.truth
    assert abs(found.correlation[0, 1]) > 0.3 and np.isclose(found.correlation[0, 0], 1)
    assert not any(test.found for test in found.misfit.values())
    assert str(found).startswith(f"{PLASTICITY} = ")


def test_noise_alone_may_be_free():
    """Of n residuals the standard deviation is the root of their mean square, and known to 1 / sqrt(2 n) of itself."""
    of_noise = plasticode.fit(table(presentations=20, free=(SD,), observe=[Z1], starts=2), synthetic=True)
    data = of_noise.predicted
    sd = np.sqrt(np.square(data["z1_data"] - data["z1_mean"]).mean())
    np.testing.assert_allclose(of_noise.estimates[SD].value, sd, rtol=1e-4)
    np.testing.assert_allclose(of_noise.known.errors * of_noise.free[0].width, 1 / np.sqrt(2 * 40), rtol=1e-4)


def test_information_is_that_of_differences_of_what_is_predicted():
    """Of activities the squares of slopes; of choices the mean over all that there are of squares of log p's slopes."""
    spec = make_spec(table(presentations=10))
    made = model(spec, read_fit(spec))
    place, step = truth_of(made), 1e-6
    seen = {"z1": np.zeros((10, 2)), "choice": np.zeros((10, 1))}
    told = made.scored(place, Rows(np.arange(10, dtype=np.int32), seen), made.data)
    predicted = jax.jit(lambda at: made.predicted(at, 10, made.data)[0])
    moved = [predicted(place + step * side) for side in (*np.eye(2), *-np.eye(2))]

    def slopes(of):
        return np.array([np.ravel(of(moved[i]) - of(moved[i + 2])) / (2 * step) for i in range(2)])

    def log_p(etas):
        z = np.asarray(etas["choice"]["logits"])
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    of_means = slopes(lambda etas: np.asarray(etas["z1"]["mean"])) / 0.05
    of_choices, p = slopes(log_p), np.exp(log_p(predicted(place))).ravel()
    np.testing.assert_allclose(told.information, of_means @ of_means.T + (p * of_choices) @ of_choices.T, rtol=1e-5)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Of 32 intervals, 95 % each, fewer than 27 or shares of 68 % beyond 14 to 28 would be one case in 1000."""
    spec = make_spec(table(presentations=40, observe=[Z1]))
    fit = read_fit(spec)
    draw, made = simulation.simulator(spec, fit), model(spec, fit)
    seen = np.stack([draw(seed)[0].seen["z1"] for seed in range(16)])
    k, data, truth = np.arange(40, dtype=np.int32), made.data, truth_of(made)
    program = jax.jit(jax.vmap(lambda place, z1: made.scored(place, Rows(k, {"z1": z1}), data)))
    place = np.tile(truth, (16, 1))
    for _ in range(6):
        said = program(place, seen)
        place = place - np.linalg.solve(said.information, said.gradient[..., None])[..., 0]
    said = program(place, seen)
    assert np.abs(said.gradient).max() < 1e-3
    errors = np.stack([fitting.certainty(np.asarray(one)).errors for one in said.information])
    beyond = np.abs(place - truth) / errors
    assert (beyond < 1.96).sum() >= 27
    assert 14 <= (beyond < 1).sum() <= 28


def test_a_scale_that_acts_as_a_time_constant_is_named_and_another_is_not(monkeypatch):
    """What the hidden layer learns by is feedback over tau_plast; the output layer's own tau_plast is seen apart. A
    best start that is stopped goes on, as far as another may."""
    ranges = {
        "timescales.plasticity.0": ["0.1 s", "10 s"],
        FEEDBACK: {"range": [0.2, 4.0], "scale": "log"},
        "timescales.plasticity.1": ["0.1 s", "10 s"],
    }
    spec = fit_of(table(timescales={"plasticity": ["0.5 s", "0.5 s"]}), free=ranges)
    spec = make_spec(spec)
    prepared = fitting.Prepared(spec, read_fit(spec), simulation.simulated(spec, read_fit(spec), 0)[0], 0)
    first, scale, second = prepared.fitted(searching.in_memory(prepared.searches, None)).estimates.values()
    assert first.verdict == scale.verdict == "not-identified" and second.verdict == "identified"
    why = "timescales.plasticity.0 is multiplied by 2 and rule.feedback_scale is multiplied by 2"
    assert first.why == f"the data stay the same when {why}" and prepared.blind() == [why]  # told before all starts
    monkeypatch.setattr(scoring, "MOST_ROUNDS", 2)
    stopped = prepared.fitted(searching.in_memory(prepared.searches, None))
    assert stopped.starts["scores"].values.max() == 4 and "not at its end after 4 scores" in stopped.notes[0]


def test_noise_that_the_model_has_not_is_a_misfit():
    spec = table(observe=[Z1])
    recording, _ = simulation.simulated(make_spec(spec), read_fit(make_spec(spec)), 0)
    slow = np.cumsum(np.random.default_rng(0).normal(size=recording.seen["z1"].shape), axis=0)
    told = plasticode.fit(spec | {"dtype": "float32"}, {"z1": (recording.seen["z1"] + 0.05 * slow)[:49]})
    assert {one.verdict for one in told.estimates.values()} <= {"misfit", "at-bound"}
    assert "interval is too narrow" in str(told) or "still grows" in str(told)
    assert "All 49 presentations of the recording were fitted" in told.notes[0] and "in float64" in told.notes[1]
    assert told.notes[2].endswith("were taken to be shown by stimulus.order = 'random' with seed = 0.")


def test_a_prior_is_a_normal_distribution_on_the_scale_of_its_number():
    ranges = {PLASTICITY: {"range": ["0.1 s", "10 s"], "prior": ["0.5 s", 0.3]}, FEEDBACK: [0.2, 4.0]}
    spec = make_spec(fit_of(table(observe=[Z1]), free=ranges))
    made, place, step = model(spec, read_fit(spec)), np.array([0.8, 0.3]), 1e-6
    told = made.prior(place)
    z = np.log(made.free[0].number(0.8) / 0.5) / 0.3
    losses = [made.prior(place + step * side).loss for side in (*np.eye(2), *-np.eye(2))]
    np.testing.assert_allclose(told.loss, z**2 / 2)
    np.testing.assert_allclose(told.gradient, np.subtract(losses[:2], losses[2:]) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(told.information, np.diag([(np.log(100) / 0.3) ** 2, 0]))


def test_a_profile_of_what_is_nearly_a_parabola_has_the_interval_of_its_curvature(found):
    one, free, profile = found.estimates[PLASTICITY], found.free[0], found.profiles[PLASTICITY]
    assert np.isclose(profile["loss"].min(), -found.log_likelihood, atol=0.1)
    ends = [free.number(free.place(one.value) + side * 1.96 * found.known.errors[0]) for side in (-1, 1)]
    np.testing.assert_allclose([one.low, one.high], ends, rtol=0.03)
    assert not np.allclose([one.low, one.high], ends, rtol=1e-6)


def test_design_has_the_errors_that_a_fit_finds(found):
    spec = table(free=(PLASTICITY, FEEDBACK, SD))
    told = plasticode.design(spec | {"sweep": {"stimulus.duration": ["50 ms", "100 ms"]}})
    assert told.errors.dims == ("stimulus_duration", "free")
    for one, free, error in zip(found.estimates.values(), found.free, told.errors.values[0], strict=True):
        width = np.log(one.high / one.low) if free.is_log else one.high - one.low
        assert np.isclose(width / (2 * 1.96), error, rtol=0.35)
    np.testing.assert_allclose(told.seconds, [2.5, 5])


def test_seen_less_often_is_known_less_well():
    """What is observed is an axis, and errors are geometric means over truths."""
    spec = fit_of(table(free=(PLASTICITY, SD), observe=[Z1]), sweep={"observe.0.every": [1, 2]}, truths=3)
    told = plasticode.design(spec)
    errors = told.errors.sel(free=SD)
    assert errors.dims == ("fit_observe_0_every",) and told.data["error_at_truth"].sizes["truth"] == 3
    assert np.isclose(errors[1] / errors[0], np.sqrt(2))
    are_told(told.data)
    assert told.data["true_number"].attrs.get("units") is None and told.data.unit.values.tolist() == ["s", "1"]
    each = told.data["error_at_truth"].values
    np.testing.assert_allclose(told.errors, np.exp(np.log(each).mean(axis=1)))
    # Relative errors of a standard deviation follow from the number of data alone.
    np.testing.assert_allclose(each[0, :, 1], 1 / np.sqrt(2 * 50 * 2), rtol=1e-9)


def invoked(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments), "--no-cache"])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the command leaves behind, and what it said."""
    folder = tmp_path_factory.mktemp("fit")
    spec = folder / "small.toml"
    spec.write_text(dump_toml(make_spec(table())), encoding="utf-8")
    return folder, invoked("fit", spec, "--synthetic", "--out", folder / "out")


def test_the_command_writes_what_it_has_found(written):
    folder, done = written
    assert done.exit_code == 0, done.output
    assert "identified" in done.output and "truth" in done.output
    content = json.loads((folder / "out/summary.json").read_text())
    assert [one["path"] for one in content["estimates"]] == [PLASTICITY, FEEDBACK]
    assert {file.name for file in (folder / "out/figures").iterdir()} == {
        "estimates.png",
        "prediction-z1.png",
        "prediction-choice.png",
    }
    with xr.open_dataset(folder / "out/fit.nc", group="starts") as starts:
        assert starts.sizes == {"start": 4, "free": 2} and starts.unit.values.tolist() == ["s", "1"]


def are_told(data: xr.Dataset, own: Sequence[str] = ()) -> None:
    """Whether all variables have a long name, and a unit, but for those whose numbers have their `own`."""
    for name, one in data.data_vars.items():
        assert one.attrs["long_name"] and ("units" in one.attrs) == (name not in own), name


def test_what_is_written_says_what_it_is(found, written):
    folder, _ = written
    fit, own = folder / "out/fit.nc", ("began", "ended")
    groups = [xr.load_dataset(fit, group=group) for group in ("starts", "predicted")]
    profile = found.profiles[PLASTICITY]
    for data in (*groups, profile, xr.load_dataset(folder / "out/recording.nc")):
        are_told(data, own)
    assert profile["at"].attrs == {"long_name": PLASTICITY, "units": "s"}


def test_what_it_simulated_is_a_recording_that_its_own_spec_fits(written):
    folder, _ = written
    out = folder / "out"
    again = invoked("fit", out / "spec.toml", "--data", out / "recording.nc", "--out", folder / "again")
    assert again.exit_code == 0, again.output
    values = [
        [one["value"] for one in json.loads((place / "summary.json").read_text())["estimates"]]
        for place in (out, folder / "again")
    ]
    assert values[0] == values[1]
    # What a fit has written another may replace, but not a recording that none has simulated.
    made = [ownership.made_in(place).paths for place in (out, folder / "again")]
    assert not ownership.foreign(out, writing.written(True)) and "recording.nc" in made[0]
    assert "fit.nc" in made[1] and "recording.nc" not in made[1]


def test_an_interrupted_command_goes_on_to_the_same_numbers(written, monkeypatch):
    folder, _ = written
    out, real, calls = folder / "stopped", searching.Scorer.after, []

    def stops(self, walk):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, walk)

    with monkeypatch.context() as patch:
        patch.setattr(searching.Scorer, "after", stops)
        done = invoked("fit", folder / "small.toml", "--synthetic", "--out", out)
    assert done.exit_code == 130 and f"what is done is kept in {out}" in done.output
    assert "0 of 4 starts, 0 of 1 best, 0 of 4 ends, 0 of 4 valleys are finished" in status_of(out, [])[0]
    other = invoked("fit", folder / "small.toml", "--synthetic", "--seed", 3, "--out", out)
    assert other.exit_code == 2 and "holds results of another spec (seed is 0 there, 3 here" in other.output
    assert invoked("fit", folder / "small.toml", "--synthetic", "--out", out).exit_code == 0
    assert (out / "summary.json").read_bytes() == (folder / "out/summary.json").read_bytes()
    assert not (out / "chunks").exists()


def test_the_design_command_names_the_best_protocol(written):
    folder, _ = written
    axis = 'sweep.stimulus.duration=["20 ms", "100 ms"]'
    done = invoked("design", folder / "small.toml", "--set", axis, "--out", folder / "design")
    assert done.exit_code == 0, done.output
    assert f"{PLASTICITY} is known to" in done.output and "at best, with stimulus.duration" in done.output
    assert not ownership.foreign(folder / "design", ownership.DESIGNED)
    assert (folder / "design/figures/design.png").exists() and load_spec(folder / "design/spec.toml").fit
    refused = invoked("design", folder / "small.toml", "--set", axis, "--out", folder / "out")  # there is a fit
    assert refused.exit_code == 2 and "holds 'fit.nc' of a fit" in refused.output
    refused = invoked("fit", folder / "small.toml", "--synthetic", "--out", folder / "design")
    assert refused.exit_code == 2 and "holds 'design.nc' of a design" in refused.output
    for out, what in (("out", "'fit.nc' of a fit"), ("design", "'design.nc' of a design")):
        refused = invoked("run", folder / "small.toml", "--out", folder / out)
        assert refused.exit_code == 2 and f"holds {what}" in refused.output


def test_the_same_recording_in_other_files(written, tmp_path):
    folder, _ = written
    spec = load_spec(folder / "out/spec.toml")
    fit = read_fit(spec)
    first = recordings.read(folder / "out/recording.nc", fit)
    first.seen["z1"][3:5] = np.nan  # cells of a table that are empty
    np.savez(tmp_path / "r.npz", **first.seen)  # pyright: ignore[reportArgumentType] - of any name
    columns = {f"z1_{i}": first.seen["z1"][:, i] for i in range(2)} | {"choice": first.seen["choice"][:, 0]}
    xr.Dataset({name: ("row", values) for name, values in columns.items()}).to_dataframe().to_csv(tmp_path / "r.csv")
    for name in ("r.npz", "r.csv"):
        other = recordings.read(tmp_path / name, fit)
        for key, values in first.seen.items():
            np.testing.assert_allclose(other.seen[key], values)


def test_the_example_is_a_spec_that_can_be_fitted():
    spec = load_spec("recover")
    assert read_fit(spec).starts == 16 and Path(spec.name).name == "recover"


def test_inputs_and_targets_of_a_recording_are_shown_as_they_were(tmp_path):
    """Half of the rows were shown without a target, when nothing is learned from an error."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 1))
    y[::2] = np.nan
    np.savez(tmp_path / "shown.npz", inputs=x, targets=y, z1=np.zeros((20, 2)))
    network = {"hidden": [3], "bias": False}
    shown = {"name": "recorded", "file": str(tmp_path / "shown.npz")}
    spec = make_spec(table(presentations=20, observe=[Z1, {"of": "W1", "sd": 0.1}], task=shown, network=network))
    made = model(spec, read_fit(spec))
    eta, _ = made.predicted(truth_of(made), 20, made.data)
    moved = np.abs(np.diff(eta["W1"]["mean"], axis=0)).max(axis=1)
    assert (moved[::2] == 0).all() and (moved[1::2] > 0).all()
    weights = np.asarray(eta["W1"]["mean"]).reshape(20, 3, 3)
    np.testing.assert_allclose(
        eta["z1"]["mean"], np.tanh(np.einsum("kij,kj->ki", weights, x.astype(np.float32)))[:, [0, 2]], rtol=1e-6
    )
    fit, seen = read_fit(spec), {"z1": np.zeros((20, 2)), "W1": np.zeros((20, 9))}
    model(spec, fit, recordings.read(seen | {"inputs": x, "targets": y}, fit, spec.task))
    for other in ({"inputs": x[::-1]}, {"inputs": x[:, :2]}, {"targets": np.nan_to_num(y) + 1}):
        with pytest.raises(PlasticodeError, match=f"the recording has other '{next(iter(other))}' than task.file"):
            model(spec, fit, recordings.read(seen | other, fit, spec.task))


TIMED = {"of": "z1", "neurons": [0, 2], "times": ["10 ms", "1 T"], "sd": 0.05}


def coupled(observe):
    """A linear network that learns next to nothing."""
    spec = table(presentations=10, observe=observe, regime="coupled") | {"delays": {"error": "12 ms"}}
    spec |= {"stimulus": {"presentations": 10, "duration": "50 ms", "gap": "10 ms"}}
    spec |= {"timescales": {"plasticity": "1e9 s", "propagation": "5 ms"}}
    spec |= {"network": {"hidden": [3], "activation": "linear", "bias": False}}
    return fit_of(spec, free={PLASTICITY: ["1e8 s", "1e10 s"]})


def test_what_is_seen_inside_presentations_approaches_what_settles():
    """From silence by 1 - exp(-t / tau_prop); the second presentation starts from what a gap has left of the first."""
    spec = make_spec(coupled([TIMED, Z1 | {"data": "settled"}]))
    made = model(spec, read_fit(spec))
    eta, quality = made.predicted(truth_of(made), 2, made.data)
    seen, settled = np.asarray(eta["z1"]["mean"]).reshape(2, 2, 2), np.asarray(eta["settled"]["mean"])
    left = settled[0] * (1 - np.exp(-10)) * np.exp(-2)
    for k, start in enumerate((0, left)):
        expected = [settled[k] + (start - settled[k]) * np.exp(-t / 5) for t in (10, 50)]
        np.testing.assert_allclose(seen[k], expected, atol=1e-4)
    assert quality is not None and np.isfinite(quality.error)


@pytest.mark.parametrize(
    "observe, told",
    [
        (TIMED | {"times": ["70 ms"]}, "a presentation ends at 60 ms; a time in T"),
        (TIMED | {"of": "z7"}, "fit.observe.0.of 'z7' is not known"),
        (TIMED | {"noise": "categorical", "sd": None}, "a choice is made once"),
    ],
)
def test_times_that_cannot_be_are_told_in_a_sentence(observe, told):
    observe = {key: value for key, value in observe.items() if value is not None}
    with pytest.raises(PlasticodeError) as caught:
        plasticode.fit(coupled([observe]), synthetic=True)
    assert told in str(caught.value)


def test_an_update_has_no_times():
    with pytest.raises(PlasticodeError, match="regime = 'discrete' has no time in presentations"):
        plasticode.fit(table(observe=[TIMED]), synthetic=True)
