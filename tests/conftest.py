"""Settings of every test run: strict numerics, two host devices, no display. They must precede the first use of jax."""

import ast
import atexit
import functools
import gc
import os
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

gc.disable()  # until all is imported

# All are inherited by the processes that tests start, and give way to what the caller has set.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Threads of NumPy's linear algebra would wait for each other, busily, where several processes of tests share the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Tests compile far more than they compute: these settings more than halve the compiler's time and change no result.
QUICK_COMPILER = (
    "xla_llvm_disable_expensive_passes=true",
    "xla_backend_optimization_level=0",
    "xla_cpu_use_fusion_emitters=false",
    "xla_cpu_parallel_codegen_split_count=1",  # of a small program each piece costs more than it saves
    "xla_disable_hlo_passes=while-loop-invariant-code-motion",  # half of compiling adaptive steps, a tenth of others
)
os.environ.setdefault("XLA_FLAGS", " ".join(f"--{flag}" for flag in QUICK_COMPILER))

# Many tests compile the same tiny programs: one folder of them for all processes of a test run, and for their commands.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.mkdtemp(prefix="programs-")
    atexit.register(shutil.rmtree, _programs, ignore_errors=True)
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": _programs, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

import hypothesis  # noqa: E402
import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from jax._src import compilation_cache  # noqa: E402
from jax._src.interpreters import mlir  # noqa: E402


def check_functions_of_modules_and_classes_alone() -> None:
    """jaxtyping's hook makes a checker for a function whenever it is defined: of one within another at every call of
    that, a fifteenth of the time of all tests. What goes into the outer function is checked."""
    hook: Any = jaxtyping._import_hook
    every, cached = hook.JaxtypingTransformer.visit_FunctionDef, hook._optimized_cache_from_source

    def visit(self: Any, node: ast.FunctionDef) -> ast.AST:
        return node if any(isinstance(parent, ast.FunctionDef) for parent in self._parents) else every(self, node)

    hook.JaxtypingTransformer.visit_FunctionDef = visit
    hook._optimized_cache_from_source = lambda name, *where, **more: cached(f"outer{name}", *where, **more)


check_functions_of_modules_and_classes_alone()


def share_contexts_of_the_compiler() -> None:
    """jax makes a context of MLIR for each program that it lowers, a quarter of the time of a small one: here a hundred
    of a thread share one, and what they leave in it goes with it."""
    make, mine = mlir.make_ir_context, threading.local()

    def shared() -> Any:
        mine.uses = getattr(mine, "uses", 0) + 1
        if mine.uses % 100 == 1:
            mine.context = make()
        return mine.context

    mlir.make_ir_context = shared


share_contexts_of_the_compiler()


def pack_programs_quickly() -> None:
    """jax packs what it keeps as small as zlib can, where it has nothing better: a hundredth of the time."""
    if not any(getattr(compilation_cache, name, None) for name in ("zstd", "zstandard")):
        compilation_cache.compress_executable = functools.partial(zlib.compress, level=1)


pack_programs_quickly()

# The same examples in every run; `pytest --hypothesis-profile=default` looks for others.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("same")

jax.config.update("jax_num_cpu_devices", 2)  # so that sharded code runs on every laptop
jax.config.update("jax_enable_x64", True)  # for float64 oracles; the code under test chooses its own dtype
jax.config.update("jax_numpy_dtype_promotion", "strict")  # a silent float32 -> float64 is an error
jax.config.update("jax_numpy_rank_promotion", "raise")  # and so is a forgotten axis
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_collection_finish() -> None:
    """What was imported stays: to look through it again and again for garbage took a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


MAPS = Path("/proc/self/maps")
MOST_MAPS = 10_000


def uses_up_maps() -> bool:
    """Whether compiled programs hold many memory maps, of which Linux allows a process 65530."""
    return not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MOST_MAPS


@pytest.fixture(scope="module", autouse=True)
def release_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """The whole suite needs more maps than there are. Nor may programs of patched code be found by other files, or
    those of others by files that patch: all others share what was compiled."""
    items = (item for item in request.session.items if item.path == request.path)
    patches = any({"monkeypatch", "plant"} & set(getattr(item, "fixturenames", ())) for item in items)
    from dynamics.kept import forget  # not before jaxtyping's hook is there

    if patches:
        forget()
    yield
    if patches or uses_up_maps():
        forget()
    if uses_up_maps():
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def settings_stay() -> Iterator[None]:
    """Commands that run in the process of the tests leave the settings above alone: tests that follow rely on them.
    Those that are processes compile no module that another one has, also where the caller keeps no bytecode."""
    from experiments.execution import runner

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setattr(runner, "configure", functools.wraps(runner.configure)(lambda *_, **__: None))
        yield


@pytest.fixture(scope="module")
def unchecked_types() -> Iterator[None]:
    """jaxtyping's checks of every call cost a tenth of a test that traces. Files whose statements are of other things
    go without; those of tests/dynamics and tests/rules run every regime, integrator and rule with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


@pytest.fixture(scope="module")
def unjudged() -> Iterator[None]:
    """Runs of a file whose tests ask none for an estimate of its error: see tests/unjudged.py."""
    from tests.unjudged import unjudged  # not before jaxtyping's hook is there

    with unjudged():
        yield


@pytest.fixture(scope="module")
def unkept_programs() -> Iterator[None]:
    """Programs that hardly another test compiles are not packed for any: in tests/dynamics 2 in 100 were found, for 3 %
    of the time."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, float("inf"))
    yield
    jax.config.update(name, before)


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """What imports everything once, and forks for all files of tests that start processes."""
    from tests.forks import serving

    with serving("distributed", "cryptography.x509", "pyarrow.parquet") as found:
        yield found


@pytest.fixture(scope="module")
def forks(server: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs of the command line and programs as processes, in a folder of the file's own."""
    from tests.forks import Forks

    found = Forks(server, tmp_path_factory.mktemp("forks"))
    yield found
    found.end()


@pytest.fixture
def key() -> jax.Array:
    """A random key, the same in every test."""
    return jax.random.key(0)
