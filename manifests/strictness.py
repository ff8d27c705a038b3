"""What JSON and YAML from a stranger have in common: keys once, numbers finite, nesting bounded."""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 64


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict from pairs; the same key twice is an error."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} stands twice")
    return result


def finite_float(text: str) -> float:
    """A float that is not an overflow to infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"number {text[:20]} is too large")
    return value
