"""What a user should know of a spec that is right, but does not run quite as it is written."""

from dynamics.plugins import blamed, modules_of
from experiments.points.heeded import never_arrive, unheeded_errors, unheeded_spans, unheeded_steps
from experiments.points.jobs import Job
from rules.registry import rule_class


def notes_of(jobs: dict[str, list[Job]]) -> list[str]:
    """Sentences about the jobs of all parts: for each rule the first of its own, and how many more there are; so too of
    errors that are late or noisy where nothing uses them, of steps that nothing takes, of lags that outlast the run, of
    a duration and a gap that each sample has for itself."""
    told: dict[str, dict[str, None]] = {}
    for job in (job for members in jobs.values() for job in members):
        spec, values, absent = job.plan.spec, job.group.values, job.plan.absent
        for what, sentences in (
            ("errors", unheeded_errors(spec, values, absent, job.heeded)),
            ("steps", unheeded_steps(spec, values, absent)),
            ("lags", never_arrive(spec, values, absent)),
            ("spans", unheeded_spans(spec, values, [stage.data for stage in job.stages])),
        ):
            told.setdefault(what, {}).update(dict.fromkeys(sentences))
        for at, table in spec.rule.tables():
            rule, known = table["name"], [path.rpartition(".") for path in spec.rule.numbers()]
            numbers = {key: job.group.values[f"{at}.{key}"] for where, _, key in known if where == at}
            with blamed(f"rule '{rule}' makes no remarks", modules_of([rule])):
                sentences = rule_class(rule).remarks(numbers, job.plan.sizes, spec.dtype)
            told.setdefault(rule, {}).update(dict.fromkeys(text.replace("rule.", f"{at}.") for text in sentences))
    cases = [(next(iter(texts)), len(texts) - 1) for texts in told.values() if texts]
    return [f"note: {text}" + (f", and {more} more such cases" if more else "") for text, more in cases]
