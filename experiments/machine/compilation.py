"""Compiled programs outlive the process: jax's own store of them, in a private folder of the user's.

jax finds a program by its text, the compiler's version and flags, and the devices. The folder says the rest: the
version of this package and of jax, and the processor, since a home may be shared by machines whose processors differ.
"""

import contextlib
import functools
import hashlib
import importlib
import os
import platform
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.machine.versions import version_of

LARGEST = 512_000_000  # bytes of programs, of all versions together
WORTH = 0.05  # seconds of compilation: what takes less is compiled as soon as it is read
PLACE, SWITCH = "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"
TRACED = "PLASTICODE_PROGRAMS"  # the same folder, where it is this package that has chosen it
TOLD = "Error reading persistent compilation cache", "Error writing persistent compilation cache"
PROCESSOR = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")
SEALED = 0o400  # of an entry that was found to be whole


@contextlib.contextmanager
def kept_programs(wanted: bool = True) -> Iterator[None]:
    """The environment in which jax, which is imported in here, and the processes that start in here keep programs and
    find them again; without it where there is no place for them. Not `wanted`, they do neither.
    """
    added = {name: str(value) for name, value in settings().items()} if wanted else {SWITCH: "false"}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def kept_here(wanted: bool) -> None:
    """The same for a process that has imported jax before it knew, such as a worker of a cluster; for good."""
    import jax

    for name, value in settings().items() if wanted else ():
        if name.startswith("JAX_"):
            jax.config.update(name.lower(), value)
        elif name == TRACED:
            os.environ[name] = str(value)


SMALL = 100  # neurons


def for_products(sizes: Sequence[int]) -> dict[str, str | bool | int]:
    """Options for programs of a network with layers of these sizes. Where they are small, products are done without
    the library and the threads that XLA calls for them, which cost more than they save: runs of layers of 12 neurons
    take half of the time."""
    if max(sizes) > SMALL:
        return {}
    return known_options({"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_multi_thread_eigen": False})


def known_options(options: Mapping[str, str | bool | int]) -> dict[str, str | bool | int]:
    """Those options of a program that the compiler of this version and device knows."""
    return {name: value for name, value in options.items() if _is_known(name, value)}


@functools.cache
def _is_known(option: str, value: str | bool | int) -> bool:
    import jax

    try:
        jax.jit(lambda x: x, compiler_options={option: value}).lower(0.0).compile()
    except Exception:  # jaxlib's own, of several types
        return False
    return True


def are_wanted() -> bool:
    """Whether this process keeps programs, for all that `kept_programs` was told."""
    return os.environ.get(SWITCH) != "false"


def traced_folder() -> Path | None:
    """Where programs are kept by what they follow from (execution.stored); None where none are."""
    folder = os.environ.get(TRACED)
    return Path(folder) if folder and are_wanted() else None


@functools.cache
def settings() -> dict[str, str | float]:
    """What jax is told through the environment; nothing where the user has told it already, or where no folder is the
    user's alone and can be written.

    The folder is looked after at the same time: see `_tidy`.
    """
    if PLACE in os.environ or SWITCH in os.environ:
        return {}
    try:
        place = _user_folder() / "plasticode"
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = place / f"programs-{_version()}"
        if not (_private(place) and _private(folder)):
            return {}
        _tidy(place, folder)
    except (OSError, RuntimeError):  # the latter where nobody knows the user's home
        return {}
    quiet = [f"ignore:{text}" for text in TOLD]  # what cannot be read or written is compiled, as ever
    for text in TOLD:
        warnings.filterwarnings("ignore", text)
    return {
        PLACE: str(folder),
        TRACED: str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": WORTH,
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",  # without files of the compiler's own, which may fail
        "PYTHONWARNINGS": ",".join([*filter(None, [os.environ.get("PYTHONWARNINGS")]), *quiet]),
    }


def _user_folder() -> Path:
    """Where this system keeps what programs can make again. Nobody's home is made."""
    if (given := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():
        return given
    home = Path.home()
    if not home.is_dir():
        raise FileNotFoundError(home)
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _version() -> str:
    """What no other version and no other processor shares."""
    parts = [*map(version_of, ("plasticode", "jax", "jaxlib")), sys.platform, platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if not line.strip():  # the first of several
                break
            parts += [line] * line.startswith(PROCESSOR)
    return f"{parts[0]}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"


def _private(folder: Path) -> bool:
    """Make a folder, if need be; whether it is the user's own, and others cannot write there: what they left would be
    executed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    owned = status.st_uid == os.geteuid() if hasattr(os, "geteuid") else True  # Windows: the profile is the user's own
    return owned and not status.st_mode & 0o022 and os.access(folder, os.W_OK | os.X_OK)


def _tidy(place: Path, own: Path) -> None:
    """Of the entries of all versions, remove those that are not whole, and beyond the limit those used longest ago.

    A process that was killed and a full disk leave pieces, which jax would fail to read for ever: each entry is looked
    at once. One that another process is writing just now is lost, which costs no more than compiling it again.
    """
    found = []
    for path in place.glob("programs-*/*"):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if stat.S_IMODE(status.st_mode) != SEALED:
                if not (stat.S_ISREG(status.st_mode) and _is_whole(path.read_bytes())):
                    path.unlink()
                    continue
                path.chmod(SEALED)
            found.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    room = LARGEST
    for _, size, path in sorted(found, reverse=True):
        room -= size
        if room < 0:
            with contextlib.suppress(OSError):
                path.unlink()
    for folder in set(place.glob("programs-*")) - {own}:
        with contextlib.suppress(OSError):  # of a version that still has programs
            folder.rmdir()


def _is_whole(content: bytes) -> bool:
    """Whether an entry can be unpacked by one of the packages of which jax takes the first that is there."""
    for name in ("zlib", "compression.zstd", "zstandard"):
        with contextlib.suppress(Exception):  # each has errors of its own
            importlib.import_module(name).decompress(content)
            return True
    return False
