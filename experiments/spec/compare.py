"""Rule families side by side: the spec of a comparison, which is then run as any other."""

from collections.abc import Sequence

from dynamics.errors import PlasticodeError, refused
from experiments.spec.loading import load_spec
from experiments.spec.probes import PROBES
from experiments.spec.rule_table import rule_fields
from experiments.spec.spec import Spec
from experiments.spec.toml_text import inline
from experiments.tasks.contract import AbstractTask


def comparison(
    rules: Sequence[str], task: str = "digits", seeds: int | None = None, sets: Sequence[str] = (), quick: bool = False
) -> Spec:
    """The built-in spec `compare` with an axis of `rules`, on a task by name, with `seeds` replicates.

    Where the task has targets, a rule that does not use them teaches its output layer by the error
    (`readout = "delta"`): otherwise its accuracy would say nothing. `sets` ("path=value") are applied last. A rule or
    task that does not exist raises `PlasticodeError`.
    """
    if not rules:
        raise PlasticodeError("--rules '' is not allowed: it must be a list of rules such as sgd,fa,dfa")
    for rule in rules:
        if rules.count(rule) > 1:
            raise refused("--rules", ",".join(rules), f"'{rule}' may be given once")
    described = _described(task, sets)
    kind = described.kind
    by_error = [kind != "unsupervised" and "readout" in rule_fields(rule) for rule in rules]
    entries = [{"name": rule, "readout": "delta"} if has else rule for rule, has in zip(rules, by_error, strict=True)]
    probes = [name for name, probe in PROBES.items() if kind in probe.compared]
    probes = [name for name in probes if not (described.in_frames and PROBES[name].settled)]
    settings = [f"sweep.rule={inline(entries)}", f"task={inline(task)}", f"record.probes={inline(probes)}"]
    if seeds is not None:
        settings.append(f"sweep.seeds={seeds}")
    return load_spec("compare", [*settings, *sets], quick)


def _described(task: str, sets: Sequence[str]) -> AbstractTask:
    """The task as the settings have it: what its targets are, and whether its samples are sequences, they may say."""
    heeded = [text for text in sets if text.partition("=")[0].partition(".")[0] in ("task", "network")]
    anything = f"record.probes={inline(['weight_norm'])}"  # which fits every task
    return load_spec("compare", [f"task={inline(task)}", anything, *heeded]).task
