"""What may import what: packages in one order, modules without a circle. Imports inside functions count as well."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# What a package (or a module directly in experiments) may import, and so may what that imports. All may import machine.
ARROWS = {
    "dynamics": (),
    "rules": ("dynamics",),
    "machine": ("dynamics",),  # which tells errors
    "tasks": ("machine",),
    "spec": ("tasks", "rules"),
    "results": ("spec",),
    "points": ("spec",),
    "storage": ("points", "results"),
    "execution": ("storage",),
    "report": ("results",),
    "predictions": ("execution", "report"),
    "inference": ("execution", "report"),
    "session": ("predictions",),
    "interactive": ("predictions", "inference"),
    "commands": ("session", "inference"),
}
MOST_FLOORS = 10  # of rooms: to understand one, a reader has to go down so many
Imports = dict[str, set[str]]


def modules() -> dict[str, str]:
    """The text of every module, by its name."""
    found = {}
    for top in ("dynamics", "rules", "experiments"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


@functools.cache
def nodes(text: str) -> list[ast.AST]:
    """Imports and constants of a module, read once: a planted import changes one of hundreds."""
    wanted = ast.Import | ast.ImportFrom | ast.Constant
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, wanted)]


def imports_of(texts: dict[str, str]) -> Imports:
    """The modules among `texts` that each imports."""
    found: Imports = {}
    for name, text in texts.items():
        named: set[str] = set()
        for node in nodes(text):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                named |= {one if one in texts else node.module for one in inner}
        found[name] = (named & set(texts)) - {name}
    return found


def package(module: str) -> str:
    """The name under which a module is in `ARROWS`."""
    top, *rest = module.split(".")
    return rest[0] if top == "experiments" and rest else top


def allowed(name: str) -> set[str]:
    return ({name} if name == "dynamics" else {name, "machine"}).union(*(allowed(one) for one in ARROWS[name]))


def upwards(imports: Imports) -> list[str]:
    """Imports that `ARROWS` does not allow."""
    pairs = ((one, other) for one, others in imports.items() for other in others)
    return sorted(f"{a} -> {b}" for a, b in pairs if package(b) not in allowed(package(a)))


def unseen(texts: dict[str, str]) -> list[str]:
    """Imports that `imports_of` would not see, or that lead out of the packages."""
    found = []
    for name, content in texts.items():
        for node in nodes(content):
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            out = [one for one in named if one.split(".")[0] in ("plasticode", "benchmarks", "tests")]
            text = str(node.value) if isinstance(node, ast.Constant) else ""
            by_name = "." in text and text in texts and package(text) != package(name)
            found += [name] if relative or out or by_name else []
    return found


def floors(imports: Imports) -> list[set[str]]:
    """What stands on each floor, above all that it imports; without what is in a circle, or above one."""
    left, found = dict(imports), []
    while free := {name for name, others in left.items() if not others & set(left)}:
        found.append(free)
        for name in free:
            del left[name]
    return found


def in_circles(imports: Imports) -> set[str]:
    """The modules that are in a circle, or import one that is."""
    return set(imports).difference(*floors(imports))


def rooms(imports: Imports) -> Imports:
    """The packages (and modules directly in experiments) that each imports."""
    found: Imports = {}
    for name, others in imports.items():
        found.setdefault(package(name), set()).update(map(package, others))
    return {room: others - {room} for room, others in found.items()}


@pytest.fixture(scope="module")
def imports() -> Imports:
    return imports_of(modules())


def test_every_package_has_its_place(imports: Imports):
    assert {package(name) for name in imports} - {"experiments"} == set(ARROWS)


def test_no_import_runs_up(imports: Imports):
    assert upwards(imports) == []


def test_no_import_is_hidden():
    assert unseen(modules()) == []


@pytest.mark.parametrize(
    "text",
    ["from ..storage import chunks", "import plasticode", "import_module('rules.fa')"],
)
def test_hidden_imports_are_seen(text: str):
    assert unseen({"rules.fa": "", "experiments.report.page": text}) == ["experiments.report.page"]


def test_no_modules_import_each_other(imports: Imports):
    assert in_circles(imports) == set()


@pytest.mark.parametrize(
    "module, text",
    [
        ("experiments.results.labels", "def f():\n    from experiments.points import jobs"),
        ("dynamics.errors", "from experiments.spec.units import Time"),
        ("rules.contract", "import experiments.spec.units"),
    ],
)
def test_arrows_that_run_up_are_seen(module: str, text: str):
    texts = modules()
    assert len(upwards(imports_of(texts | {module: f"{texts[module]}\n{text}\n"}))) == 1


def test_circles_are_seen():
    texts = modules()
    texts["dynamics.errors"] += "\nif TYPE_CHECKING:\n    from dynamics.circuit import Circuit\n"
    assert {"dynamics.errors", "dynamics.circuit"} <= in_circles(imports_of(texts))


def test_the_house_is_low(imports: Imports):
    assert len(floors(rooms(imports))) <= MOST_FLOORS


def test_a_tower_is_seen(imports: Imports):
    tower = imports | {"experiments.shell": {"experiments.commands.start"}}
    assert len(floors(rooms(tower))) == len(floors(rooms(imports))) + 1
