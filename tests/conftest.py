"""Goldens fail when they are missing, and are rewritten only when that is asked for; in CI a skipped test is a failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable

# A deadline would measure how busy the machine is, not the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="rewrite the golden files under tests/golden")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn skips into a failure where `STILLROOM_NO_SKIPS` is set."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("STILLROOM_NO_SKIPS") and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """A check that a text is that of a golden file; `golden(name, text)`."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--write-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not path.exists():
            pytest.fail(f"{path} is missing; look at the text, then run pytest with --write-golden:\n{text}")
        assert text == path.read_text(encoding="utf-8")

    return check
