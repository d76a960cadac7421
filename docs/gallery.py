"""The gallery: notebooks of docs/gallery are executed as the site is built, and shown with what they print and draw."""

import functools
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

SECONDS = 300  # that a cell may take
AT_ONCE = 2
DRAWN = ["--InlineBackend.figure_formats={'svg'}", "--InlineBackend.rc={'svg.fonttype': 'path'}"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called with the files of the site: beside every notebook comes a page, and what the page shows."""
    notebooks = [file for file in files if file.src_uri.endswith(".ipynb")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shown = list(pool.map(lambda file: _shown(file.name, file.content_string), notebooks))
    for file, (text, pictures) in zip(notebooks, shown, strict=True):
        place = PurePosixPath(file.src_uri)
        files.append(File.generated(config, str(place.with_suffix(".md")), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, str(place.parent / name), content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called for every page: what is a notebook in the repository is a page of the site."""
    return re.sub(r"\]\((gallery/[\w-]+)\.ipynb\)", r"](\1.md)", markdown)


@functools.cache  # `mkdocs serve` executes what has changed
def _shown(name: str, text: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures in it; a cell that fails breaks off the build."""
    notebook = nbformat.reads(text, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            timeout=SECONDS,
            startup_timeout=SECONDS,
            resources={"metadata": {"path": folder}},
            extra_arguments=DRAWN,
            config=Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"}),  # and not the network
        ).execute()
    made = {"unique_key": name, "output_files_dir": f"{name}_files"}
    page, found = MarkdownExporter().from_notebook_node(notebook, made)
    title, _, rest = page.lstrip().partition("\n")
    link = f"[The notebook]({name}.ipynb) to run and change; its results here are those of this version."
    return f"{title}\n\n{link}\n{rest}", found["outputs"]
