"""What a fit and a design leave behind: tables, sentences, figures, files."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from experiments.inference import page
from experiments.inference.comparison import Compared
from experiments.inference.coordinates import Coordinate
from experiments.inference.design import Design, Plans
from experiments.inference.figures import design_figures, figures, rules_figure
from experiments.inference.fitting import Fitted, Prepared
from experiments.inference.recordings import dataset
from experiments.inference.table import Fit
from experiments.inference.verdicts import number_text
from experiments.report.figures import save
from experiments.results.netcdf import output_directory, write_json
from experiments.results.ownership import DESIGNED, FITTED, RECORDED, SIMULATED
from experiments.results.text_tables import TextTable, path_text, value_text
from experiments.spec.spec import Spec, dump_toml

MOST_ROWS = 30


def table_of(found: Fitted) -> TextTable:
    """The estimates, one a row."""
    truth = any(one.truth is not None for one in found.estimates.values())
    header = ["number", "estimate", "95 % interval", *(["truth"] if truth else []), "verdict"]
    rows = []
    for one, free in zip(found.estimates.values(), found.free, strict=True):
        interval = f"{number_text(free, one.low)} to {number_text(free, one.high)}"
        known = [number_text(free, one.truth)] if one.truth is not None else []
        rows.append([one.path, number_text(free, one.value), interval, *known, one.verdict])
    note = f"{found.reached} of {found.starts.sizes['start']} starts came to these estimates."
    return TextTable("what the recording says", header, rows, note)


def table_of_rules(found: Compared) -> TextTable:
    """The rules, the best first, one a row."""
    paths = list(dict.fromkeys(path for one in found.rules for path in one.estimates))
    rows = []
    for one, at in zip(found.rules, found.behind, strict=True):
        behind = f"{at.behind:.1f} ({at.low:.1f} to {at.high:.1f})" if at is not found.behind[0] else ""
        numbers = {free.path: number_text(free, one.estimates[free.path]) for free in one.free}
        fits = f"misfit of {', '.join(one.wrong)}" if one.wrong else "fits"
        said = "ruled out" if at.is_out else "best" if one is found.rules[0] else "possible"
        shown = [numbers.get(path, "-") for path in paths]
        rows.append([one.rule, f"{one.log_likelihood:.1f}", behind, f"{said}, {fits}", *shown])
    header = ["rule", "log-likelihood", "behind by (95 %)", "verdict", *paths]
    note = f"Log-likelihoods are of what was left out of the fit, a fold of {found.folds} at a time."
    return TextTable("which rule explains the recording", header, rows, note)


def summary_of_rules(found: Compared) -> dict[str, Any]:
    """What summary.json says of a comparison."""
    compared = [
        {
            "rule": one.rule,
            "log_likelihood": one.log_likelihood,
            **at._asdict(),
            "ruled_out": at.is_out,
            "estimates": one.estimates,
            "misfit": {name: test._asdict() for name, test in one.misfit.items()},
        }
        for one, at in zip(found.rules, found.behind, strict=True)
    ]
    return {"verdict": found.verdict, "folds": found.folds, "compared": compared, "sentences": found.sentences}


def summary(found: Fitted) -> dict[str, Any]:
    """What summary.json says."""
    return {
        "estimates": [dataclasses.asdict(one) for one in found.estimates.values()],
        "correlation": found.correlation.tolist(),
        "eigenvalues": found.known.eigenvalues.tolist(),
        "log_likelihood": found.log_likelihood,
        "misfit": {name: test._asdict() for name, test in found.misfit.items()},
        "starts": {"reached": found.reached, "of": found.starts.sizes["start"]},
        "sentences": found.sentences,
        "notes": list(found.notes),
    }


def written(is_simulated: bool) -> tuple[str, ...]:
    """What a fit writes."""
    return SIMULATED if is_simulated else FITTED


def write(found: Fitted, compared: Compared | None, prepared: Prepared, has_recording: bool, target: Path) -> None:
    """All that a fit leaves behind, into a directory that is whole or not there; the recording too, where it is not a
    user's own file."""
    with output_directory(target, written(has_recording)) as directory:
        spec, text = prepared.spec, resolved_fit(prepared)
        (directory / "spec.toml").write_text(text, encoding="utf-8")
        groups = {"starts": found.starts, "predicted": found.predicted}
        groups |= {} if found.weights is None else {"initial_weights": found.weights}
        groups |= {f"profile {path}": profile for path, profile in found.profiles.items()}
        groups |= {} if compared is None else {"rules": compared.data}
        for number, (group, data) in enumerate(groups.items()):
            data.to_netcdf(directory / "fit.nc", mode="a" if number else "w", group=group, engine="h5netcdf")
        if has_recording:
            dataset(prepared.recording, prepared.table).to_netcdf(directory / RECORDED, engine="h5netcdf")
        drawn = figures(found) | ({} if compared is None else {"rules": rules_figure(compared)})
        files = save(drawn, directory / "figures")
        tables = [table_of(found), *([] if compared is None else [table_of_rules(compared)])]
        told = [*(compared.sentences if compared else []), *found.sentences, *found.notes]
        page.write(spec, text, files, told, tables, directory / "report.html")
        simulated = {"recording": RECORDED} if has_recording else {}
        rules = {} if compared is None else {"rules": summary_of_rules(compared)}
        content = summary(found) | rules | simulated | {"figures": [file.name for file in files.values()]}
        write_json({"name": spec.name, "spec_hash": spec.hash(), **content}, directory / "summary.json")


def error_text(one: Coordinate, error: float) -> str:
    """A standard error: in per cent on a log scale."""
    if not np.isfinite(error):
        return "not converged" if np.isnan(error) else "unknown"
    return f"{100 * error:.3g} %" if one.is_log else number_text(one, error)


def best_sentences(found: Design) -> list[str]:
    """The best protocol for each free number, by presentation and by second of recording."""
    told = []
    for i, one in enumerate(found.free):
        errors = found.errors.values[..., i]
        if not np.isfinite(errors).any():
            told.append(f"No protocol tells {one.path}.")
            continue
        best = np.unravel_index(np.nanargmin(errors), errors.shape)
        per_second = np.where(np.isfinite(errors), errors * np.sqrt(found.seconds.values), np.inf)
        fastest = np.unravel_index(np.argmin(per_second), errors.shape)
        worst = error_text(one, float(np.nanmax(errors)))
        sentence = f"{one.path} is known to {error_text(one, float(errors[best]))}"
        if errors.ndim:
            sentence += f" at best, with {_words(found, best)} (worst: {worst})"
            sentence += f"; per second of recording with {_words(found, fastest)}" if fastest != best else ""
        told.append(f"{sentence}.")
    told += [f"With {at or 'this protocol'} the data stay the same when {why}." for at, why in found.blind.items()]
    astray = int(np.isnan(found.errors.values).any(axis=-1).sum())
    coarse = "take a smaller integrator.tolerance or finer steps"
    return told + ([f"{astray} of {found.seconds.size} runs have not converged: {coarse}."] if astray else [])


def _words(found: Design, at: tuple[Any, ...]) -> str:
    """A point of the grid in words."""
    names = map(str, found.seconds.dims)
    return ", ".join(
        f"{path_text(found.data, name)} = {value_text(found.data, name, int(i))}"
        for name, i in zip(names, at, strict=True)
    )


def design_table(found: Design) -> TextTable:
    """The errors of every protocol, or of the first of them."""
    names = [str(name) for name in found.seconds.dims]
    shape = found.seconds.shape
    rows = []
    for at in list(np.ndindex(shape))[:MOST_ROWS]:
        places = [value_text(found.data, name, i) for name, i in zip(names, at, strict=True)]
        errors = [error_text(one, float(found.errors.values[(*at, i)])) for i, one in enumerate(found.free)]
        rows.append([*places, *errors])
    header = [*(path_text(found.data, name) for name in names), *(one.path for one in found.free)]
    left = found.seconds.size - len(rows)
    note = f"design.nc has {left} protocols more." if left > 0 else ""
    return TextTable("standard errors that a fit would have", header, rows, note)


def write_design(found: Design, plans: Plans, target: Path) -> None:
    """All that a design leaves behind, into a directory that is whole or not there."""
    with output_directory(target, DESIGNED) as directory:
        spec, told, text = plans.spec, best_sentences(found), resolved(plans.spec, plans.table)
        (directory / "spec.toml").write_text(text, encoding="utf-8")
        found.data.to_netcdf(directory / "design.nc", engine="h5netcdf")
        files = save(design_figures(found), directory / "figures")
        page.write(spec, text, files, told, [design_table(found)], directory / "report.html")
        content = {"sentences": told, "figures": [file.name for file in files.values()]}
        write_json({"name": spec.name, "spec_hash": spec.hash(), **content}, directory / "summary.json")


def resolved_fit(prepared: Prepared) -> str:
    """The spec of a fit as TOML, with as many presentations as were fitted."""
    spec, shown = prepared.spec, prepared.recording.presentations
    stimulus = spec.stimulus.model_copy(update={"presentations": shown})
    record = spec.record.model_copy(update={"points": min(spec.record.points, shown)})  # there may not be more
    return resolved(spec.model_copy(update={"stimulus": stimulus, "record": record}), prepared.table)


def resolved(spec: Spec, table: Fit) -> str:
    """The spec with all defaults, its table [fit] too, in the dtype that it is computed in, as TOML."""
    fit = table.model_dump(mode="json", exclude_none=True)
    return dump_toml(spec.model_copy(update={"fit": fit, "dtype": "float64"}))
