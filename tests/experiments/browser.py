"""A real browser without a window, which opens a page that a test has written."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
with_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


def read(page: str, script: str, folder: Path, *options: str) -> Any:
    """What the function body `script`, run in a page of 500 pixels' width, returns, through JSON."""
    told = "document.body.innerHTML = '<pre id=\"read\"></pre>';"
    told += "document.getElementById('read').textContent = JSON.stringify(read);"
    run = f"<script>(async () => {{ const read = await (async () => {{ {script} }})(); {told} }})();</script>"
    (folder / "read.html").write_text(page.replace("</body>", run + "</body>"))
    assert BROWSER is not None
    command = [BROWSER, *OPTIONS, *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, f"file://{folder}/read.html"], capture_output=True, text=True, timeout=600)
    found = re.search(r'<pre id="read">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stdout[-2000:] + done.stderr
    return json.loads(html.unescape(found[1]))
