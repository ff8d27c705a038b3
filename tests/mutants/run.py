"""Applies one wrong wiring at a time to a copy of the tree, and runs the tests that should notice.

    python tests/mutants/run.py [--check] [--only TEXT] [--jobs 2] [--report docs/results/mutants.md] [LIST.yaml ...]

Each entry of a list has `wiring` (what is wrong), `file`, `old` (must be there exactly once), `new`, and `tests`. A mutant is killed when
a test fails; it survives when all pass. Before that, all named tests run once on the tree as it is and must pass. A test file that
cannot be imported, or an old line that is gone, is a fault of the list. `--check` looks at the lists alone and runs nothing.

Each runner is a process that has imported the libraries, and none of our packages; it forks for each mutant, so that the five seconds
of importing torch, lhotse and scipy are paid once.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

TREE = Path(__file__).resolve().parents[2]
LISTS = Path(__file__).resolve().parent
KEYS = {"wiring", "file", "old", "new", "tests"}
TIMEOUT_S = 300
OURS = {"corpus_builder", "evaluation", "manifests", "stillroom", "training"}
LIBRARIES = [
    "click",
    "fsspec",
    "hypothesis",
    "jinja2",
    "jiwer",
    "lhotse",
    "matplotlib.pyplot",
    "pydantic",
    "pyroomacoustics",
    "pytest",
    "rich.progress",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.signal",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "soundfile",
    "soxr",
    "threadpoolctl",
    "torch",
    "torch.distributed",
    "torchaudio",
    "webdataset",
]
TESTS_FAILED = 1  # pytest's exit codes
ALL_PASSED = 0


@dataclass(frozen=True)
class Mutant:
    """One wrong wiring."""

    package: str
    wiring: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def fault(self) -> str | None:
        """What is wrong with the entry itself; None if it can be applied."""
        path = TREE / self.file
        if not path.is_file():
            return f"{self.file} is not there"
        count = path.read_text(encoding="utf-8").count(self.old)
        if count != 1:
            return f"the old line is {count} times in {self.file}"
        if self.old == self.new:
            return "old and new are the same"
        missing = [test for test in self.tests if not (TREE / test.partition("::")[0]).exists()]
        if missing or not self.tests:
            return f"no such test: {', '.join(missing) or 'none named'}"
        return None


def read_lists(paths: list[Path]) -> list[Mutant]:
    """All entries of some lists."""
    mutants = []
    for path in paths:
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            if set(entry) != KEYS:
                sys.exit(f"{path}: an entry has the keys {sorted(entry)}, expected {sorted(KEYS)}")
            tests = tuple(entry["tests"])
            mutants.append(Mutant(path.stem, entry["wiring"], entry["file"], entry["old"], entry["new"], tests))
    wirings = [mutant.wiring for mutant in mutants]
    if repeated := {wiring for wiring in wirings if wirings.count(wiring) > 1}:
        sys.exit(f"two entries are called alike: {sorted(repeated)}")
    return mutants


def copy_tree(to: Path) -> None:
    """The files that git knows or would take, as they are in the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TREE, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = TREE / name, to / name
        if source.is_file() and not name.startswith("docs/results/cells"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def start_runner(scratch: str) -> None:
    """Makes this process a runner: a tree of its own to stand in, one thread, and the libraries imported."""
    tree = Path(tempfile.mkdtemp(dir=scratch))
    copy_tree(tree)
    os.chdir(tree)
    os.environ.update(PYTHONPATH=str(tree), OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = True
    sys.path[:] = [str(tree), *(path for path in sys.path if path and Path(path) not in (TREE, LISTS))]
    for library in LIBRARIES:
        importlib.import_module(library)
    ours = {name for name in sys.modules if name.partition(".")[0] in OURS}
    assert not ours, ours


def run_tests(tests: tuple[str, ...], output: Path, *, timeout_s: float = TIMEOUT_S) -> int | None:
    """Pytest's exit code in a child of this process; None if it did not end in time."""
    child = os.fork()
    if child == 0:
        os.setsid()
        descriptor = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = 99
        try:
            import pytest

            # Plugins that are imported already cannot have their assertions rewritten, which pytest would warn of.
            quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
            own = ["-p", "no:cacheprovider", f"--basetemp={tempfile.gettempdir()}/mutant-{os.getppid()}"]
            code = int(pytest.main(["-x", "-q", "-m", "not slow", *own, *quiet, *tests]))
        finally:
            sys.stdout.flush()
            os._exit(code)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def outcome(mutant: Mutant) -> str:
    """`killed`, `survived`, or what else pytest said; in the runner's own tree."""
    path = Path(mutant.file)
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace(mutant.old, mutant.new), encoding="utf-8")
    output = Path(tempfile.gettempdir()) / f"mutant-{os.getpid()}.txt"
    try:
        code = run_tests(mutant.tests, output)
    finally:
        path.write_text(original, encoding="utf-8")
    if code in (None, TESTS_FAILED):
        what = "killed"
    elif code == ALL_PASSED:
        what = "survived"
    else:
        what = f"pytest ended with {code}: " + " ".join(output.read_text(errors="replace").split())[-300:]
    print(f"{what:9} {mutant.package}: {mutant.wiring}", flush=True)
    return what


def unmutated(tests: tuple[str, ...]) -> str | None:
    """What pytest says of tests in the runner's own tree as it is; None if all pass."""
    output = Path(tempfile.gettempdir()) / f"mutant-{os.getpid()}.txt"
    if run_tests(tests, output, timeout_s=10 * TIMEOUT_S) == ALL_PASSED:
        return None
    return output.read_text(errors="replace")[-3000:]


def report(mutants: list[Mutant], outcomes: dict[str, str], seconds: float) -> str:
    """The page of the last outcome."""
    lines = [
        "# Wrong wirings that the tests notice",
        "",
        (
            f"`make mutants`: {sum(what == 'killed' for what in outcomes.values())} of {len(outcomes)} one-line wrong wirings are "
            f"killed by the fast tests named beside them in `tests/mutants` ({seconds / 60:.0f} minutes on {os.cpu_count()} cores, Python {platform.python_version()})."
        ),
    ]
    for package in dict.fromkeys(mutant.package for mutant in mutants):
        lines += ["", f"## {package}", "", "| wrong wiring | file | outcome |", "|---|---|---|"]
        lines += [
            f"| {mutant.wiring.replace('|', '/')} | `{mutant.file}` | {outcomes[mutant.wiring]} |"
            for mutant in mutants
            if mutant.package == package
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Try them all; exit code 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", nargs="*", type=Path, default=sorted(LISTS.glob("*.yaml")))
    parser.add_argument("--check", action="store_true", help="look at the lists, run nothing")
    parser.add_argument("--only", default="", help="only those whose wiring or file has this text")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once")
    parser.add_argument("--report", type=Path, help="write the outcome as Markdown")
    options = parser.parse_args()
    mutants = [one for one in read_lists(options.lists) if options.only in one.wiring + one.file]
    faults = {one.wiring: fault for one in mutants if (fault := one.fault()) is not None}
    for wiring, fault in faults.items():
        print(f"{wiring}: {fault}")
    if options.check or faults:
        print(f"{len(mutants)} wrong wirings, {len(faults)} of them no longer apply")
        sys.exit(1 if faults else 0)
    started = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(options.jobs, spawn, start_runner, (scratch,)) as pool,
    ):
        tests = sorted({test for one in mutants for test in one.tests})
        shares = [tuple(tests[first :: options.jobs]) for first in range(min(options.jobs, len(tests)))]
        if failures := [what for what in pool.map(unmutated, shares) if what is not None]:
            sys.exit("\n".join(["tests fail without a wrong wiring:", *failures]))
        outcomes = dict(zip((one.wiring for one in mutants), pool.map(outcome, mutants), strict=True))
    killed = sum(what == "killed" for what in outcomes.values())
    print(f"{killed} of {len(mutants)} killed")
    if options.report:
        options.report.write_text(report(mutants, outcomes, time.monotonic() - started), encoding="utf-8")
    sys.exit(0 if killed == len(mutants) else 1)


if __name__ == "__main__":
    main()
