"""Goldens fail when missing and are rewritten only on request; tests have a home and caches of their own; in CI a skip is a failure."""

from __future__ import annotations

import os
import shutil
import site
import tempfile
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
HOME = pytest.StashKey[str]()
# Where libraries look for caches and settings before they look in the home folder.
CACHES = {
    "XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share", "TORCH_HOME": ".cache/torch",
    "HF_HOME": ".cache/huggingface", "MPLCONFIGDIR": ".cache/matplotlib", "CROISSANT_CACHE": ".cache/croissant",
    "FSSPEC_CONFIG_DIR": ".config/fsspec", "DASK_CONFIG": ".config/dask", "AWS_CONFIG_FILE": ".aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials",
}  # fmt: skip
MORE_CACHES = ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "S3PRL_CACHE", "AWS_PROFILE")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the session a home of its own, before a test imports anything; workers and subprocesses inherit it."""
    if hasattr(config, "workerinput"):
        return
    python, git = site.getuserbase(), Path.home() / ".gitconfig"
    home = tempfile.mkdtemp(prefix="stillroom-home-")
    config.stash[HOME] = home
    os.environ["PYTHONUSERBASE"] = python  # what is installed for this user is still found
    if git.exists():
        os.environ.setdefault("GIT_CONFIG_GLOBAL", str(git))  # it may say that this checkout is safe
    os.environ["HOME"] = home
    os.environ.update({name: str(Path(home, folder)) for name, folder in CACHES.items()})
    for name in MORE_CACHES:
        os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's home."""
    if HOME in config.stash:
        shutil.rmtree(config.stash[HOME], ignore_errors=True)


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
