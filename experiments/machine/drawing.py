"""matplotlib, for whoever draws: as it is imported it reads a file `matplotlibrc` of the working folder, which may be
anybody's, so it is imported elsewhere. The settings of the user's own environment and home are read as ever."""

import contextlib
import os
import sys


def _import() -> None:
    for name in ("MATPLOTLIBRC", "MPLCONFIGDIR"):
        if path := os.environ.get(name):
            with contextlib.suppress(OSError):  # a working folder that was removed
                os.environ[name] = os.path.abspath(path)
    here = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY))
    try:
        os.chdir(os.sep)
        import matplotlib  # noqa: F401
    finally:
        os.fchdir(here)
        os.close(here)


if "matplotlib" not in sys.modules:
    _import()
