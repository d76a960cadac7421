"""What a user should know of a spec that is right, but does not run quite as it is written."""

import jax.numpy as jnp
import numpy as np

from experiments.points.jobs import Job
from rules.curl import flipped


def notes_of(jobs: dict[str, list[Job]]) -> list[str]:
    """Sentences about the jobs of all parts: fractions of neurons that are rounded to whole ones."""
    rounded = dict.fromkeys(text for members in jobs.values() for job in members for text in _rounded_flips(job))
    if not rounded:
        return []
    more = f", and {len(rounded) - 1} more such cases" if len(rounded) > 1 else ""
    return [f"note: {next(iter(rounded))}, as flips are whole neurons (halves are rounded up){more}"]


def _rounded_flips(job: Job) -> list[str]:
    """Of curl descent: each fraction of a layer's neurons that is not the one that is flipped."""
    spec, sizes = job.plan.spec, job.plan.sizes
    if spec.rule.name != "curl":
        return []
    values = np.asarray(job.group.values["rule.flips"])
    columns = values if values.ndim == 2 else np.repeat(values[:, None], len(sizes) - 1, axis=1)
    found = []
    for neurons, column in zip(sizes[:-1], columns.T, strict=True):
        for fraction in np.unique(column):
            count = int(flipped(jnp.asarray(fraction, spec.dtype), neurons))
            if abs(count - fraction * neurons) > 1e-6 * neurons:
                share = f"{count} of {neurons} neurons, {count / neurons:.3g} of them"
                found.append(f"rule.flips = {fraction:g} flips {share}")
    return found
