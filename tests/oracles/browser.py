"""Pages in headless Chromium: a picture of one, and how wide it is on a narrow screen."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
# A window of headless Chromium is at least 500 px wide, so the page is in a frame; the script is not of the page, which allows none.
FRAME = """<!doctype html><meta charset="utf-8"><iframe width="{width}" height="844" style="border: 0" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const inside = document.querySelector("iframe").contentDocument;
  const widest = [...inside.body.querySelectorAll("*")].reduce((a, b) => a.getBoundingClientRect().right > b.getBoundingClientRect().right ? a : b);
  const spilled = [...inside.querySelectorAll("td.number")].filter((cell) => cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.textContent);
  document.title = `${{inside.documentElement.clientWidth}} ${{inside.documentElement.scrollWidth}} ${{widest.tagName}}.${{widest.className}}|${{spilled.join("; ")}}`;
}});
</script>"""


def opened(page: Path, *options: str, scratch: Path) -> str:
    """Open a page as a file; gives what the browser writes. Skips the test where there is no browser."""
    browser = next((found for found in map(shutil.which, NAMES) if found), None)
    if browser is None:
        pytest.skip("no chromium: apt-get install chromium")
    words = [browser, *OPTIONS, f"--user-data-dir={scratch / 'profile'}", *options, page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


def check_width(page: Path, *, width: int, scratch: Path) -> None:
    """Fail if a page is wider than a screen of that width, in pixels, or the text of a cell with numbers wider than its cell."""
    frame = scratch / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(page.read_text("utf-8"))), "utf-8")
    shown = opened(frame, "--dump-dom", scratch=scratch)
    found = re.search(r"<title>(\d+) (\d+) (.*)\|(.*)</title>", shown)
    assert found is not None, shown[-1000:]
    assert found[1] == str(width), "the frame is not of the requested width"
    assert int(found[2]) <= width, (
        f"{page.name} is {found[2]} px wide on a screen of {width}; furthest right is {found[3]}"
    )
    assert not found[4], f"{page.name}: wider than their cells on a screen of {width} px: {found[4]}"
