"""The one choice on dev: of a probe's regularisation, or of its learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


def best_on_dev(candidates: Iterable[T], error: Callable[[T], float]) -> T:
    """The candidate with the lowest error on dev; of several that are equally good, the first.

    Args:
        candidates: Settings, or probes that were fitted with them, the most cautious first; one is in memory at a time.
        error: Error of a candidate on clean dev.
    """
    return min(candidates, key=error)
