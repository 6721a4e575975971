"""A page in headless Chromium: what a script of the test finds when the page's own script has run."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_LISTENING = """<script>
window.errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => errors.push("refused: " + event.blockedURI));
console.error = (...words) => errors.push(words.join(" "));
</script>"""
_ANSWERING = """<script>
const asked = async () => {{ {script} }};
asked().then((found) => answer({{ found, errors }}), (error) => answer({{ errors: [error.stack] }}));
function answer(content) {{
  const place = document.createElement("pre");
  place.id = "answer";
  place.textContent = JSON.stringify(content);
  document.body.append(place);
}}
</script>"""
_OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-extensions"]
_DARK = "--blink-settings=preferredColorScheme=0"


def asked(page: Path, script: str, folder: Path, width: int = 1200, dark: bool = False) -> Any:
    """What `script`, the body of an async function, returns in the page; an AssertionError if the console has errors.

    Args:
        page: the file to open.
        folder: for a copy of it with the script, and for the browser's profile.
    """
    assert CHROMIUM is not None
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{_LISTENING}", 1)
    copy = folder / f"asked-{width}.html"
    copy.write_text(text.replace("</body>", f"{_ANSWERING.format(script=script)}</body>"), encoding="utf-8")
    options = [*_OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", *([_DARK] * dark)]
    command = [CHROMIUM, *options, "--virtual-time-budget=20000", "--dump-dom", copy.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    answer = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert answer is not None, "the script did not finish"
    content = json.loads(html.unescape(answer[1]))
    assert content["errors"] == []
    return content["found"]
