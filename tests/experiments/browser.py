"""A real browser without a window, which opens a page that a test has written."""

import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
with_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


# Runs a browser, waits for all that it has started, and tells the time of processors that they took together.
COUNTED = """
import ctypes, os, resource, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what it leaves behind are children of this process
subprocess.run(sys.argv[1:], timeout=600)
try:
    while True:
        os.waitpid(-1, 0)
except ChildProcessError:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(used.ru_utime + used.ru_stime, file=sys.stderr)
"""


def read(page: str, script: str, folder: Path, *options: str) -> Any:
    """What the function body `script`, run in a page of 500 pixels' width, returns, through JSON."""
    done = _opened([], page, script, folder, *options)
    found = re.search(r'<pre id="read">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:] + done.stderr
    return json.loads(html.unescape(found[1]))


def seconds(page: str, script: str, folder: Path, *options: str) -> float:
    """The time of processors that it takes, in all processes of the browser: it does not depend on what else runs."""
    done = _opened([sys.executable, "-c", COUNTED], page, script, folder, *options)
    assert '<pre id="read">' in done.stdout
    return float(done.stderr.splitlines()[-1])


def _opened(by: list[str], page: str, script: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    told = "document.body.innerHTML = '<pre id=\"read\"></pre>';"
    told += "document.getElementById('read').textContent = JSON.stringify(read);"
    run = f"<script>(async () => {{ const read = await (async () => {{ {script} }})(); {told} }})();</script>"
    (folder / "read.html").write_text(page.replace("</body>", run + "</body>"))
    assert BROWSER is not None
    command = [*by, BROWSER, *OPTIONS, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    return subprocess.run([*command, f"file://{folder}/read.html"], capture_output=True, text=True, timeout=600)
