"""What the commands `fit` and `design` do: a spec read with its settings, the result in a directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dynamics.errors import PlasticodeError, refused
from experiments.inference import recordings, writing
from experiments.inference.design import design
from experiments.inference.fitting import fitted, simulated
from experiments.inference.table import read_fit
from experiments.machine.progress import OnProgress, Progress
from experiments.results import ownership
from experiments.results.text_tables import TextTable
from experiments.spec.loading import load_spec
from experiments.spec.spec import Spec
from experiments.spec.toml_text import parse_setting


class Told(NamedTuple):
    """What a command prints, and whether all that was asked for is known."""

    table: TextTable
    sentences: list[str]
    ok: bool


def loaded(source: str, sets: Sequence[str], quick: bool, seed: int | None) -> Spec:
    """A spec, with settings of its own and of its table [fit], such as "fit.starts=8"."""
    of_fit = [text for text in sets if text.strip().startswith("fit.")]
    spec = load_spec(source, [text for text in sets if text not in of_fit], quick, seed)
    table: dict[str, Any] = dict(spec.fit)
    for text in of_fit:
        path, value = parse_setting(text)
        table = _assigned(table, path.split(".")[1:], value, path)
    return spec.model_copy(update={"fit": table})


def _assigned(table: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    """The table with a value at nested keys, numbers those of lists."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(table, list):
        if not key.isdigit() or int(key) >= len(table):
            raise refused(path, value, f"{key} must be a number from 0 to {len(table) - 1}")
        return [_assigned(one, rest, value, path) if i == int(key) else one for i, one in enumerate(table)]
    if not isinstance(table, dict):
        raise PlasticodeError(f"spec path '{path}' is not known: nothing comes after a number")
    flat = ".".join(keys)
    if flat in table:  # a quoted path is one key
        return table | {flat: value}
    return table | {key: _assigned(table.get(key, {} if rest else None), rest, value, path)}


def fit_into(spec: Spec, data: Path | None, synthetic: bool, target: Path, on_progress: OnProgress) -> Told:
    """Fit a spec to a recording, or to one that it simulates, and write what was found."""
    table = read_fit(spec)
    ownership.refuse(target, writing.written(synthetic))  # sooner than after the fit
    truth = None
    if synthetic:
        if data is not None:
            raise PlasticodeError("--data and --synthetic are not allowed together: a recording is given or simulated")
        recording, truth = simulated(spec, table, spec.seed)
    else:
        source = data or table.data
        if source is None:
            raise PlasticodeError("fit.data is missing: it, or --data, must name the recording; --synthetic makes one")
        recording = recordings.read(source, table, spec.task)

    def tell(done: int, of: int) -> None:
        on_progress(Progress(done, of))

    found = fitted(spec, table, recording, spec.seed, truth, tell)
    writing.write(found, spec, table, recording if synthetic else None, target)
    return Told(writing.table_of(found), found.sentences, found.ok)


def design_into(spec: Spec, target: Path, on_progress: OnProgress) -> Told:
    """Compute what the protocols of a sweep would tell, and write it."""
    ownership.refuse(target, ownership.DESIGNED)
    found = design(spec, on_progress=lambda done, of: on_progress(Progress(done, of)))
    writing.write_design(found, spec, read_fit(spec), target)
    return Told(writing.design_table(found), writing.best_sentences(found), True)
