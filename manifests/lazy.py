"""Public names of a package, imported when they are first used (PEP 562), so that no process imports what it does not need."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose `__init__` lists its public names under `if TYPE_CHECKING:`.

    The list is written once, where type checkers and editors read it: `from package.module import name as name`.

    Args:
        package: The package's `__name__`.
        file: Its `__file__`.

    Returns:
        The two functions, to be assigned in the `__init__`.
    """
    found: dict[str, tuple[str, str]] = {}

    def names() -> dict[str, tuple[str, str]]:
        """Module and name there, by public name."""
        if not found:
            for block in ast.parse(Path(file).read_text(encoding="utf-8")).body:
                if isinstance(block, ast.If):
                    found.update(
                        (alias.asname, (line.module, alias.name))
                        for line in block.body
                        if isinstance(line, ast.ImportFrom) and line.module is not None
                        for alias in line.names
                        if alias.asname is not None
                    )
        return found

    def getattr_(name: str) -> Any:
        """Import a public name."""
        if name.startswith("__") or name not in names():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = names()[name]
        return getattr(importlib.import_module(module), original)

    def dir_() -> list[str]:
        """The public names."""
        return sorted(names())

    return getattr_, dir_
