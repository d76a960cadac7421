"""Specs and options that nobody would write: each is refused in one sentence, or can be run, at once.

Valid specs are mutated as tables, as bytes, and by `--set`. They take the way of `plasticode check` up to the
compiler; none writes a file.
"""

import contextlib
import copy
import io
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments.commands import cli, console
from experiments.execution import runner
from experiments.predictions.study.choice import check_study
from experiments.spec.loading import built_in_specs, load_spec
from experiments.spec.tables import TRACED
from experiments.spec.toml_text import inline, parse_toml
from tests.spec_texts import FULL, PARTS

pytestmark = pytest.mark.usefixtures("unjudged", "unchecked_types")  # nor are finer steps tried
SLOWEST, LONGEST = 5.0, 2000  # seconds of a case, characters of a sentence
LARGEST = 1_500_000_000  # bytes by which the memory of the process may grow
SAME = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(cast(Any, HealthCheck)))
ASKED: dict[str, Any] = {"watch": False, "written": [], "cases": 0, "refused": 0, "commands": 0}

README = """
rule = "fa"
network = {hidden = [64]}
timescales = {propagation = "2 ms", plasticity = "75 T"}
stimulus = {duration = "50 ms", presentations = 500}
[sweep]
"delays.error" = {linspace = ["0 T", "1.2 T", 7]}
"noise.activity" = [0.0, 0.3]
seeds = 5
"""
SMALL = [
    'task = {name = "circles", samples = 20}\nnetwork = {hidden = [3, 2], skips = [[0, 2]]}\nrule = "kp"',
    'task = {name = "teacher-student", samples = 9, inputs = 3, teacher_hidden = [2]}\nnetwork = {hidden = [2], '
    'activation = "relu"}\nregime = "flow"\nrecord = {probes = ["loss", "hebbian_alignment"], points = 3}\n'
    "noise = {sampling = true}",
    'task = {name = "gaussian-regression", inputs = 2, spectrum = [1.0, 0.5], samples = 9}\nregime = "discrete"\n'
    'network = {hidden = []}\nrule = {name = "curl", credit = {name = "dfa"}, flips = 0.5}\n'
    'discrete = {optimiser = "adam"}\nsweep = {"task.seed" = [1, 2], "rule.flips" = [0.1, 0.2], seeds = 2}',
    'task = {name = "gaussian-inputs", spectrum = [1.0, 0.5], samples = 9}\nnetwork = {hidden = [], outputs = 2}\n'
    'rule = {name = "heterosynaptic"}\nstimulus = {gap = "10 ms"}\nintegrator = {name = "euler", dt = "1 ms"}',
    'task = {name = "mnist", path = "nowhere", pool = 7}\nrule = {name = "oja"}',
    'task = {name = "circles", samples = 9}\nnetwork = {hidden = [2]}\nrule = "dfa"\nseed = 7\nintegrator = {name = '
    '"tsit5", adaptive = true}\nsweep = {"network.gain" = [1, 2], "timescales.plasticity.0" = ["1 s", "2 s"], '
    'zip = [["network.gain", "timescales.plasticity.0"]]}',
    'task = {name = "circles", samples = 9}\nnetwork = {hidden = [2], loss = "softmax"}\n'
    'delays = {error = "10 ms", hop = "1 ms", input = "1 ms", stages = 2}\nsweep = {rule = ["hebbian", "bcm", "sgd"]}',
    'task = {name = "circles", samples = 9}\nnetwork = {hidden = [2]}\nintegrator = {name = "heun"}\n[quick]\n'
    '"sweep.seeds" = 1\n[parts.a]\nset = {rule = "fa"}\nsweep = {"stimulus.gap" = {logspace = ["1 ms", "2 ms", 2]}}\n'
    '[parts.b]\nset = {"noise.activity" = 0.1}\nsweep = {seeds = 2}\nquick = {"stimulus.presentations" = 50}',
]
BUILT_IN = [path.read_text(encoding="utf-8") for path in built_in_specs().values()]
TEXTS = [*SMALL, *SMALL, *SMALL, README, FULL, PARTS, *BUILT_IN[:2]]  # the last one is many seconds of programs
TABLES = [parse_toml(text) for text in TEXTS]

INTEGERS = [0, -1, 1, 2, 3, 64, 101, 10**4, 10**5, 10**6, 10**7, 10**9, 10**12, 10**30, -(10**30), 2**31 - 1, 2**31]
INTEGERS += [2**63, 2**64]
HUGE = "0x" + "f" * 5000  # an integer that Python refuses to print
FLOATS = [0.0, -0.0, 0.5, 1.0, 1.5, -1.0, 1e-3, 1e12, 1e-12, 1e39, 1e300, 1e308, -1e308, 1e-300, 5e-324]
FLOATS += [float("inf"), float("-inf"), float("nan")]
TIMES = ["inf", "-inf", "nan", "1e308 s", "1e308 h", "1e-320 s", "0 s", "0 T", "1 T", "1e300 T", "1e-300 T", "-1 ms"]
TIMES += ["50", "50 mm", "1 h", "1e6 h", "1 ns", "١ s", "1e-9999 s", "1e9999 s", "9" * 5000 + " s"]
NAMES = ["sgd", "fa", "curl", "hebbian", "digits", "circles", "gaussian-inputs", "mnist", "coupled", "flow", "discrete"]
NAMES += ["euler", "milstein", "window", "tsit5", "relu", "softmax", "float64", "accuracy", "ito", "seeds", "seed"]
NAMES += ["experiments.predictions.study.single_synapse:SingleSynapse", "stratonovich", "plasticity-window"]
PLACES = ["../x:Y", ".x:Y", ":", "x:", ":Y", "json:JSONDecoder", "__main__:x", "../../escaped"]
PLACES += ["/etc/passwd", "/root/x", "x" * 10**5, "os.path:"]
PLACES += ["~", "~nobody-at-all/x", "/dev/zero", "C:\\x", "a" * 300, "a/" * 3000, ".", "..", " "]
UNICODE = ["", "\0", "a\0b", "\n", "\r\n", "\x1b[31m", "\x7f", "\u202eabc", "\u2066\u2069", "\ufeff", "שלום", "𝕏" * 100]
UNICODE += ["HUGE", "\u2028", "\x85", "é" * 130, "\udcff", "\ud800", "\U0010ffff", "'", '"', "\\"]
UNICODE += ["${HOME}", "%s%n", "{0}"]
ODD_TEXTS = [*TIMES, *NAMES, *PLACES, *UNICODE]
MANY = [{"linspace": [0, 1, 10**9]}, {"linspace": ["0 T", "1 T", 10**6]}, {"logspace": ["1 s", "1e300 s", 3]}]
MANY += [{"linspace": [-1e308, 1e308, 3]}, {"logspace": [1, 100, 3]}, {"linspace": [1, 3, 3]}]
MANY += [{"linspace": [0, 1, True]}]
MANY += [{"linspace": [1, 10**30, 3]}, {"linspace": [0, "nan", 3]}, {"logspace": [0, 1, 2], "linspace": [0, 1, 2]}]
LISTS = [[], [[]], [10**9], [3] * 99, [1] * 10**4, [0.1] * 2000, [[0, 2]], [["seeds", "rule"]], [1, "x"], [True], [{}]]
LISTS += [["sgd", {"name": "fa"}], ["sgd", "sgd"], ["1 s", "2 T"], [[0.1, 0.2], 0.3], [float("nan")]]
LISTS += [[{"name": "kp"}, 7]]
ODD = [*INTEGERS, *FLOATS, *ODD_TEXTS, *LISTS, *MANY, True, False, {}, {"name": "x"}, {"name": 7}, {"x": {"y": {}}}]

INNER = [item for table in TABLES for item in table.items() if isinstance(item[1], dict)]
KEYS = [f"{name}.{key}" for name, inner in INNER for key in inner]
PATHS = [*dict.fromkeys(KEYS), "name", "study", "regime", "seed", "dtype", "rule", "task"]
PATHS += ["rule.feedback_scale", "parts"]
PATHS += ["timescales.plasticity.0", "timescales.decay.1", "network.hidden.0", "sweep.seeds"]
PATHS += ["sweep.seed", "sweep.rule"]
PATHS += ["sweep.network.hidden", "sweep.zip", "sweep.task", "sweep.network.gain", "sweep.integrator.dt"]
PATHS += ["sweep.task.path"]
PATHS += ["integrator.rtol", "network.output_activation", "noise.calculus", "record", "sweep", "parts.a.set", "quick"]
PATHS += ["sweep.../x", "a.b.c.d", "", ".", "..", "sweep.", "network.", ".network", "stimulus.duratoin"]
PATHS += ["timescales.1.1", "timescales.trace", "delays.hop", "stimulus.gap", "noise.error"]
PATHS += ["noise.synaptic_multiplicative", "task.samples"]


NUMBERS = [0, 0.0, -0.0, 1, 0.25, 7, 1e-29, 1e-20, 1e20, 1e29, 1e30, 1e31, 5e-324]
SPANS = ["0 s", "1 ns", "1e-29 s", "1e29 s", "1 ms", "20 ms", "0.1 T", "1 T", "1e9 T", "1e-9 T", "1 h"]
SPANS += ["inf", "1e-33 T"]


NO_PLACE = AttributeError, KeyError, IndexError, TypeError  # an earlier change has removed it
CHANGES = ["alike", "alike", "alike", "replace", "remove", "add", "rename", "nest", "path"]


def nodes(table: Any, at: tuple = ()) -> list[tuple]:
    """The places of everything in a table."""
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    return [place for key, value in items for place in [(*at, key), *nodes(value, (*at, key))]]


PLACES_IN = [nodes(table) for table in TABLES]


def text_of(table: dict[str, Any]) -> bytes:
    """TOML of any table; what no TOML can have becomes bytes that are no TOML."""
    lines = [f"{inline(key)} = {inline(value)}\n" for key, value in table.items()]
    return "".join(lines).replace('"HUGE"', HUGE).encode("utf-8", "surrogatepass")


def alike(value: Any) -> st.SearchStrategy:
    """Odd values of the kind of this one, so that more than its type is looked at."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return odd_values
    kind = TIMES + FLOATS if isinstance(value, str) and value[:1].isdigit() else NAMES if isinstance(value, str) else []
    return st.sampled_from(kind or (INTEGERS if isinstance(value, int) else FLOATS))


odd_values = st.sampled_from(ODD) | st.sampled_from(INTEGERS) | st.sampled_from(FLOATS) | st.sampled_from(TIMES)


@st.composite
def changed_tables(draw) -> bytes:
    number = draw(st.integers(0, len(TABLES) - 1))
    table, places = copy.deepcopy(TABLES[number]), PLACES_IN[number]
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        *way, key = draw(st.sampled_from(places))
        inner: Any = table
        with contextlib.suppress(*NO_PLACE):
            for step in way:
                inner = inner[step]
            change = draw(st.sampled_from(CHANGES))
            if change == "alike":
                inner[key] = draw(alike(inner[key]))
            elif change == "replace":
                inner[key] = draw(odd_values)
            elif change == "remove":
                del inner[key]
            elif change == "nest":
                inner[key] = [inner[key]] if draw(st.booleans()) else {str(key): inner[key]}
            elif change == "rename":
                inner[draw(st.sampled_from([f"{key}s", f"{key}"[1:], f"{key}".upper(), *UNICODE]))] = inner.pop(key)
            elif isinstance(inner, dict):
                path = draw(st.sampled_from(PATHS))
                name, _, rest = path.partition(".")
                if change == "path" and isinstance(table.get(name), dict):
                    inner, path = table[name], rest
                inner[path] = draw(odd_values)
    return text_of(table)


@st.composite
def changed_texts(draw) -> bytes:
    content = draw(st.sampled_from(TEXTS)).encode()
    for _ in range(draw(st.integers(1, 3))):
        first = draw(st.integers(0, len(content)))
        last = draw(st.integers(first, min(first + 30, len(content))))
        line = draw(st.sampled_from(content.splitlines() or [b""])) + b"\n"
        pieces = [b"", line, b"\n" + line, b"[" * 5000, b"{a=" * 3000, b"[" * 300 + b"]" * 300]
        pieces += [b"a." * 2000 + b"b = 1\n"]
        pieces += [b"\xff", b"\0", b"\xef\xbb\xbf", b"\r", b'"""', b"'", b"=", b".", b"-"]
        pieces += [b"1979-05-27T07:32:00Z", b"#"]
        pieces += [b"0x" + b"f" * 9000, b"9" * 5000, b"1e999", b"nan", b"_", b"0", b"\x85", b"\xc3", b"T"]
        pieces += [b"[[parts]]\n"]
        insert = draw(st.sampled_from(pieces) | st.binary(max_size=3))
        content = content[:first] + insert + content[last:]
    return content


@st.composite
def changed_settings(draw) -> list[str]:
    sets = []
    if draw(st.booleans()):  # what may well be accepted
        paths = draw(st.lists(st.sampled_from(list(TRACED)), min_size=1, max_size=3))
        return [f"{path}={draw(st.sampled_from(SPANS if TRACED[path].time else NUMBERS))}" for path in paths]
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        path = draw(st.sampled_from(PATHS) | st.sampled_from(UNICODE) | st.text(max_size=8))
        value = draw(odd_values.map(lambda odd: inline(odd).replace('"HUGE"', HUGE)) | st.text(max_size=12))
        value = draw(st.sampled_from([value, value.strip('"')]))
        sets.append(path + draw(st.sampled_from(["=", "=", "=", " = ", "", "=="])) + value)
    return sets


def watch(event: str, arguments: tuple) -> None:
    """An audit hook: notes whatever is written outside the directory of the test, while it is told to."""
    if not ASKED["watch"] or (arguments and str(arguments[0]).startswith(os.environ["JAX_COMPILATION_CACHE_DIR"])):
        return
    if event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.rmdir", "os.truncate"):
        ASKED["written"].append((event, str(arguments[0])))
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        ASKED["written"].append((event, str(arguments[0])))


sys.addaudithook(watch)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test in a directory two levels down in its own."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != "spec.toml") == ["a", "b"]


def checked(source: str, sets: list[str], quick: bool, seed: int | None) -> str:
    """As `plasticode check` does it, without the compiler: what it says on its way out with code 2, or nothing."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            with console.sentences():
                spec = load_spec(source, sets, quick, seed)
                check_study(spec)
                runner.prepare(spec)
        except typer.Exit as leaving:
            assert leaving.exit_code == 2
            return is_sentence(stderr.getvalue())
    assert stderr.getvalue() == ""
    return ""


def is_sentence(told: str) -> str:
    assert told.startswith("error: ") and told.endswith("\n") and "Traceback" not in told
    assert told[:-1].isprintable() and 20 < len(told) < LONGEST, told
    return told


def examine(content: bytes | None, sets: list[str] = [], quick: bool = False, seed: int | None = None) -> str:  # noqa: B006
    """Check one case; what was said about it."""
    if content is not None:
        Path("spec.toml").write_bytes(content)
    started, before = time.perf_counter(), time.process_time()
    ASKED["watch"], ASKED["written"] = True, []
    try:
        told = checked("spec.toml", sets, quick, seed)
    finally:
        ASKED["watch"] = False
    took = min(time.perf_counter() - started, time.process_time() - before)  # the machine may be busy otherwise
    assert ASKED["written"] == []
    assert took < SLOWEST, f"{took:.1f} s"
    ASKED["cases"] += 1
    ASKED["refused"] += bool(told)
    return told


def fuzzed(examples: int, property: Any, *strategies: st.SearchStrategy) -> None:
    """Try that many cases, the same ones in every run, and count them."""
    first = ASKED["cases"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings(SAME, max_examples=examples)(given(*strategies)(property))()
    assert ASKED["cases"] - first >= examples
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) < LARGEST


def test_changed_tables_are_refused_or_can_be_run():
    def property(content: bytes, quick: bool) -> None:
        examine(content, [], quick)

    fuzzed(120, property, changed_tables(), st.booleans())


def test_changed_bytes_are_refused_or_can_be_run():
    """Every sixth refusal also goes through the command itself, which says the same."""

    def property(content: bytes) -> None:
        told = examine(content)
        if told and ASKED["refused"] % 6 == 0:
            left = CliRunner().invoke(cli.app, ["run", "spec.toml", "--out", "results"])
            assert (left.exit_code, left.stdout, left.stderr) == (2, "", told)
            ASKED["commands"] += 1

    fuzzed(200, property, changed_texts())
    assert ASKED["commands"] > 20


def test_settings_and_seeds_are_refused_or_can_be_run():
    seeds = st.sampled_from([None] * 6 + [0, -1, 2**31 - 1, 2**31, 10**30])
    texts = st.sampled_from([text.encode() for text in [*SMALL, FULL]])

    def property(content: bytes, sets: list[str], quick: bool, seed: int | None) -> None:
        examine(content, sets, quick, seed)

    fuzzed(80, property, texts, changed_settings(), st.booleans(), seeds)


TINY = 'task = {name = "circles", samples = 20}\n'
TEACHER = 'task = {name = "teacher-student", samples = %d, inputs = %d, teacher_hidden = %s}\n'
ENORMOUS = {
    "a wide layer": ("network.hidden = [1000000000]", "network.hidden.0"),
    "wide layers": ("network.hidden = [100000, 100000]", "network.hidden"),
    "deep": ("network.hidden = [" + "3, " * 100_000 + "]", "network.hidden"),
    "many matrices": (f"network.hidden = {[2] * 70}", "network.hidden"),
    "long": ("stimulus.presentations = 1000000000000", "stimulus.presentations"),
    "many samples": ('task = {name = "circles", samples = 10000000}', "samples"),
    "a slow teacher": (TEACHER % (20_000, 2_000, [2_000] * 90), "weights"),
    "a slow deep teacher": (TEACHER % (9_000_000, 1, [1] * 100), "samples"),
    "many records": ("record.points = 1000000000\nstimulus.presentations = 1000000000", "record.points"),
    "many records of points": (
        "record.points = 100000\nstimulus.presentations = 100000\nsweep.seeds = 1000000",
        "record.points",
    ),
    "many seeds": ("sweep.seeds = 1000000000000", "1000000000000 points"),
    "many points": ('sweep."network.gain" = {linspace = [1, 2, 1000000000]}', "1000000000 points"),
    "a grid": ("sweep = {seeds = 100000, network = {gain = {linspace = [1, 2, 100000]}}}", "10000000000 points"),
    "many lists": (
        f'network.hidden = {[2] * 40}\n[sweep]\nseeds = 1000000\n"timescales.plasticity.0" = [1]',
        "timescales.plasticity.0",
    ),
    "many axes": (
        f"network.hidden = {[2] * 30}\n[sweep]\n" + "".join(f'"timescales.decay.{i}" = [1]\n' for i in range(30)),
        "30 axes",
    ),
    "many parts": ("".join(f"[parts.p{i}]\n" for i in range(9_000)), "parts"),
    "many tables": ("".join(f"[parts.p{i}]\n" for i in range(50_000)), "too many keys, lists and tables"),
    "many points of parts": ("".join(f"[parts.p{i}]\nsweep.seeds = 1000000\n" for i in range(30)), "30000000 points"),
    "long delays": ('delays.hop = "1e12 s"', "delays need"),
    "many past values": (
        'delays = {stages = 1000, hop = "1 s"}\nnetwork.hidden = [100000, 2, 100000, 2, 99999]',
        "past",
    ),
    "short steps": ('integrator = {name = "euler", dt = 5e-324}', "integrator.dt"),
    "a long noisy stimulus": ('noise.activity = 1\nstimulus.duration = "1e29 s"', "integrator.dt"),
    "an early overflow": ('timescales.decay = "1e308 s"', "timescales.decay"),
    "a number too small": ("timescales.plasticity = 1e-300", "timescales.plasticity"),
    "an integer beyond print": (f'task = {{name = "circles", samples = 9, seed = {HUGE}}}', "task.seed"),
    "an unreadable path": (f'task = {{name = "mnist", path = "{"a" * 4000}"}}', "task.path"),
    "nobody's home": ('task = {name = "mnist", path = "~nobody-at-all/x"}', "task.path"),
    "a rule beyond print": ('rule = {name = "curl", credit = "\\u202Ex"}', "u202e"),
    "a wrapped rule's number": ('rule = {name = "curl", credit = {name = "fa", feedback_scale = inf}}', "rule.credit."),
    "a wrapped rule's range": ('rule = {name = "curl", credit = {name = "curl", flips = 7}}', "rule.credit.flips = 7"),
    "a module that leaves": ('rule = "leaving:Rule"', "leaving:Rule"),
    "a place above": ('rule = "../x:Y"', "../x:Y"),
    "a name that climbs": ('name = "../../escaped"', "../../escaped"),
    "a name too long for a file": (f'name = "{"é" * 130}"', "name"),
    "a part's name too long": (f"[parts.{'p' * 300}]", "parts"),
    "nested": ("network.hidden = " + "[" * 5000, "nested"),
    "twice": ("seed = 1\nseed = 2", "not valid TOML"),
    "ten megabytes": ("# " + "x" * 10**7, "too large"),
    "a million spaces": (" " * 999_000, ""),
}


@pytest.mark.parametrize(("text", "part"), ENORMOUS.values(), ids=list(ENORMOUS))
def test_what_could_never_run_is_refused_at_once(text, part, tmp_path_factory, monkeypatch):
    (modules := tmp_path_factory.mktemp("modules")).joinpath("leaving.py").write_text("raise SystemExit(0)")
    monkeypatch.syspath_prepend(modules)
    table = parse_toml(TINY) if "task = " not in text else {}
    told = examine(text_of(table) + text.encode())
    assert part in told and (told or part == ""), told


SHORT = 'stimulus = {duration = "4 ms", presentations = 3}\nrecord.points = 1\n'
ODD_BUT_VALID = {
    "no hidden layer": 'network.hidden = []\nregime = "discrete"',
    "a name in many scripts": 'name = "שלום 𝕏 é"\nregime = "discrete"',
    "one neuron, no weight": 'regime = "discrete"\nnetwork = {hidden = [1], gain = 0}',
    "signs of zero": 'noise.activity = -0.0\ndelays.error = "0 h"\nintegrator = {name = "euler", dt = "0.5 T"}',
    "the last seed": f'seed = {2**31 - 1}\nregime = "flow"\nnetwork.bias = false',
    "extremes of time": 'timescales = {plasticity = "1e29 s", decay = "inf"}\nregime = "discrete"',
    "a rule within itself": 'rule = {name = "curl", credit = {name = "curl", credit = "fa"}}\nregime = "discrete"',
    "axes of one value": 'regime = "discrete"\n[sweep]\n"network.gain" = [1]\nrule = ["kp"]\nseeds = 1',
    "gamma lags": 'delays = {error = "2 ms", stages = 3}\nintegrator = {name = "heun", dt = "0.5 ms"}',
    "a wide range": 'regime = "discrete"\nsweep."network.gain" = {logspace = [1e-29, 1e29, 3]}',
}


@pytest.mark.parametrize("text", ODD_BUT_VALID.values(), ids=list(ODD_BUT_VALID))
def test_what_is_odd_but_valid_runs(text):
    base = parse_toml(TINY) | {"network": {"hidden": [2]}} | parse_toml(SHORT)
    odd = parse_toml(text)
    changed = {key: base.get(key, {}) | value if isinstance(value, dict) else value for key, value in odd.items()}
    assert examine(text_of(base | changed)) == ""
    results = runner.run(load_spec("spec.toml"))
    assert results.complete and "status" in results.datasets[""]
