"""The page of a fit or a design, report.html: figures, then what may be said, then tables that open on demand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.report.page import details, document, escaped, folded, paragraph, picture
from experiments.results.text_tables import TextTable
from experiments.spec.spec import Spec


def write(
    spec: Spec, text: str, files: Mapping[str, Path], told: Sequence[str], tables: Sequence[TextTable], target: Path
) -> None:
    """The page, with the figures that are in `files`, the sentences `told`, tables, and the spec as `text`."""
    sections = [
        f"<h1>{escaped(spec.name)}</h1>",
        f'<p class="lead">{escaped(spec.description)}</p>',
        *(picture(stem, file) for stem, file in files.items()),
        "<h2>What may be said</h2>",
        *map(paragraph, told),
        "<h2>Tables</h2>",
        *map(folded, tables),
        details("Spec", text),
    ]
    target.write_text(document(spec.name, sections), encoding="utf-8")
