"""House rules that no single file shows: sizes, the direction of imports, final classes, a light command line."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("dynamics", "rules", "experiments")
LONGEST_FUNCTION = 60
LONGEST_FILE = 400
UNFINISHED = re.compile(r"\b(NotImplementedError|TODO|FIXME)\b")
SLOW_TO_IMPORT = ("jax", "matplotlib", "plotly", "sklearn", "xarray")


def source_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def definitions(path: Path) -> list[Any]:
    """The functions and classes of a file, read once for all tests."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)]


def nodes(kind, *folders: str) -> Iterator[tuple[str, Any]]:
    """Every definition of a kind, with the place to look for it."""
    for path in source_files(*folders):
        found = (node for node in definitions(path) if isinstance(node, kind))
        yield from ((f"{path.relative_to(ROOT)}:{node.lineno}", node) for node in found)


def base_name(base: ast.expr) -> str:
    """The class name in `Base`, `module.Base` or `Base[T]`."""
    if isinstance(base, ast.Subscript):
        base = base.value
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def test_the_packages_are_found():
    """Guards the other tests, which would hold for an empty tree."""
    for package in PACKAGES:
        assert len(source_files(package)) > 1


def test_functions_are_short():
    functions = nodes((ast.FunctionDef, ast.AsyncFunctionDef), *PACKAGES, "tests", "benchmarks")
    lengths = {f"{place} {node.name}": node.end_lineno - node.lineno + 1 for place, node in functions}
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FUNCTION} == {}


def test_files_are_short():
    files = source_files(*PACKAGES, "tests", "benchmarks")
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_classes_are_abstract_or_final():
    """Only a class whose name starts with `Abstract` is subclassed."""
    own = {node.name for _, node in nodes(ast.ClassDef, *PACKAGES)}
    final = {name for name in own if not name.startswith("Abstract")}
    classes = nodes(ast.ClassDef, "dynamics", "rules")
    assert [f"{place} {node.name}" for place, node in classes if {base_name(base) for base in node.bases} & final] == []


def test_no_regular_expression_is_possessive():
    """Before Python 3.11.5 `re` matches possessive and atomic groups wrongly (gh-106052): no spec could be read."""
    possessive = re.compile(r"""r["'].*(?:[\])][*+?]\+|\(\?>)""")
    lines = [line for path in source_files(*PACKAGES) for line in path.read_text(encoding="utf-8").splitlines()]
    assert possessive.search(r"""r'"(?:[^"]|.)*+"'""")
    assert [line for line in lines if possessive.search(line)] == []


def test_nothing_is_left_unfinished():
    files = source_files(*PACKAGES)
    assert [str(path) for path in files if UNFINISHED.search(path.read_text(encoding="utf-8"))] == []


def test_the_command_line_imports_nothing_slow():
    """`plasticode --help` must answer at once, so what computes is imported by the command that needs it."""
    script = f"import experiments.commands.cli, sys; print(*(name for name in {SLOW_TO_IMPORT} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
