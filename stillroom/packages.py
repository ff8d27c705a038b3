"""Looks whether the packages that Stillroom consists of are its own: their names are common, and another project's may come first."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
PACKAGES = ("manifests", "corpus_builder", "training", "evaluation")
MARK = "Part of Stillroom"  # in each package's docstring: another project's files may have been installed over ours


class OtherPackageError(ImportError):
    """A package of the same name, but of another project, would be imported."""

    def __init__(self, package: str, where: str) -> None:
        super().__init__(
            f"the package {package!r} was found at {where}, and is not Stillroom's (at {TREE}): take that folder off PYTHONPATH, or "
            "install stillroom into an environment of its own"
        )


def prepare_imports() -> None:
    """Make sure that Stillroom's own packages are the ones that are imported; the command ends with one line where they are not.

    Raises:
        OtherPackageError: If one is another project's.
    """
    is_command = bool(sys.argv) and Path(sys.argv[0]).name in {"-m", "stillroom"}
    if is_command:
        drop_current_folder()
    try:
        check_packages()
    except OtherPackageError as problem:
        if not is_command:
            raise
        print(f"stillroom: {problem}", file=sys.stderr)
        raise SystemExit(2) from None


def drop_current_folder() -> None:
    """Take the current folder off the import path.

    `python -m` and `torchrun -m` put it first, where a lab's own `training/` would shadow ours. Our own checkout may stay.
    """
    first = Path(sys.path[0] or ".").resolve() if sys.path else None
    if first is not None and first != TREE and first == Path.cwd().resolve():
        del sys.path[0]


def check_packages() -> None:
    """Look where each package would be imported from, without importing it.

    Raises:
        OtherPackageError: If one is another project's.
    """
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        where = found.origin if found is not None and found.origin is not None else "nowhere"
        path = Path(where)
        if path.resolve().parent.parent != TREE or MARK not in path.read_text(encoding="utf-8"):
            raise OtherPackageError(package, where)
