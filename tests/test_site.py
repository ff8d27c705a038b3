"""The documentation as a site: strict, without requests to other hosts, every key of a config on its page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.schema import document_of

pytestmark = pytest.mark.slow

HOUSE = Path(__file__).resolve().parents[1]
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(https?:)?//"""
    r"""|<link[^>]*rel=["']?(?:stylesheet|preconnect|preload|icon)[^>]*href=["']?(https?:)?//|url\(["']?(https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=HOUSE, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_no_page_asks_another_host_for_anything(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 30
    assert not [str(page.relative_to(site)) for page in pages if LOADED.search(page.read_text("utf-8"))]


@pytest.mark.parametrize("name", ["recipe", "train", "evaluation"])
def test_the_reference_has_every_key_with_its_help(site, name):
    page = re.sub(r"<[^>]+>", "", (site / "reference" / name / "index.html").read_text("utf-8"))
    schema = document_of(name).model_json_schema(by_alias=True)
    for key, value in schema["properties"].items():
        assert key in page
        first = value.get("description", "").partition("`")[0].strip()
        assert first in page.replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">")


def test_the_reference_has_every_verb_and_every_public_name(site):
    command = (site / "reference" / "command" / "index.html").read_text("utf-8")
    python = (site / "reference" / "python" / "index.html").read_text("utf-8")
    for verb in ("plan", "build", "verify", "pack", "rebuild", "train", "evaluate", "report", "export", "init"):
        assert f'id="stillroom-{verb}"' in command
    for name in ("build", "pairs", "train", "Recipe", "TrainConfig"):
        assert f"stillroom.{name}" in python


def test_every_decision_is_listed(site):
    page = (site / "decisions" / "index.html").read_text("utf-8")
    numbers = sorted(path.stem[:4] for path in (HOUSE / "docs" / "decisions").glob("[0-9]*.md"))
    assert numbers
    assert [number for number in numbers if f">{number} " not in page and f"{number} <a" not in page] == []
