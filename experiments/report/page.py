"""One page of HTML that needs no other file: its style, tables, figures inside, readable on a phone."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from dynamics.errors import visible
from experiments.results.text_tables import TextTable
from experiments.results.verdicts import WORDS

_CSS = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; }
body { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p.lead { color: #555; margin-top: .2rem; }
p { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #1a1a1a; white-space: nowrap; }
.pass { color: #00664b; font-weight: 600; } .fail { color: #a63c00; font-weight: 600; }
.undecided { color: #0063a6; font-weight: 600; }
.warning { border-left: 4px solid #a63c00; padding-left: .8rem; }
figure { margin: 1rem 0 2rem; }
figure img { max-width: 100%; height: auto; }
figcaption, .note { font-size: .875rem; color: #555; white-space: pre-line; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .8rem; line-height: 1.4; }
summary { cursor: pointer; font-weight: 600; }
dt { font-weight: 600; font-size: .875rem; margin-top: .6rem; } dd { margin: 0; overflow-wrap: anywhere; }
details { margin: .6rem 0; }
#explore h3 { font-size: 1rem; margin: 1.2rem 0 0; overflow-wrap: anywhere; }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: .5rem 0; font-size: .875rem; }
.controls label { display: flex; flex-direction: column; color: #555; max-width: min(100%, 14rem); }
.controls select, .legend button { font: inherit; color: #1a1a1a; background: #fff; border: 1px solid #bbb; }
.controls select { border-radius: 4px; padding: .25rem; width: 100%; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .5rem; align-items: center; font-size: .875rem; }
.legend button { border-color: #ddd; border-radius: 4px; padding: .1rem .5rem; text-align: left; cursor: pointer; }
.legend button[aria-pressed=false] { opacity: .4; text-decoration: line-through; }
@media print { .controls, .modebar, .hoverlayer { display: none; } .figure, figure { break-inside: avoid; } }
@media print { h2, h3 { break-after: avoid; } }
"""


def escaped(text: str) -> str:
    """Text as HTML that shows it, whatever it holds."""
    return html.escape(visible(text))


def document(title: str, sections: Sequence[str]) -> str:
    """The whole page; `sections` are HTML."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_CSS}</style>"
    )
    body = "\n".join(sections)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def picture(alt: str, file: Path) -> str:
    """A PNG file, put into the page at half its size: the texts of figures are then as large as those of the page."""
    content = file.read_bytes()
    image, width = base64.b64encode(content).decode(), int.from_bytes(content[16:20]) // 2  # of the header, IHDR
    caption = escaped(f"figures/{file.name}")
    shown = f'<img alt="{escaped(alt)}" width="{width}" src="data:image/png;base64,{image}">'
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def table(content: TextTable) -> str:
    """A table with its title, wide ones scrolling by themselves, and its note."""
    title = escaped(content.title[:1].upper() + content.title[1:])
    return f"<h2>{title}</h2>{bare_table(content)}"


def bare_table(content: TextTable) -> str:
    """A table without its title."""
    header = "".join(f"<th>{escaped(cell)}</th>" for cell in content.header)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in content.rows)
    note = f'<p class="note">{escaped(content.note)}</p>' if content.note else ""
    return f'<div class="scroll"><table><tr>{header}</tr>{rows}</table></div>{note}'


def details(summary: str, text: str) -> str:
    """A text that opens on demand, set as it is."""
    return f"<details><summary>{escaped(summary)}</summary><pre>{escaped(text)}</pre></details>"


def folded(content: TextTable) -> str:
    """A table that opens on demand, and is open in print."""
    title = escaped(content.title[:1].upper() + content.title[1:])
    return f'<details class="printed"><summary>{title}</summary>{bare_table(content)}</details>'


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escaped(text)}</p>"


def _cell(text: str) -> str:
    kind = f' class="{text.lower()}"' if text in WORDS.values() else ""
    return f"<td{kind}>{escaped(text)}</td>"
