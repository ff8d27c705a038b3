"""What a model costs: its parameters, and how many fewer they are than a teacher's."""

from __future__ import annotations


def smaller_percent(parameters: int, *, than: int) -> float:
    """By how many percent a model is smaller than another; negative if it is larger."""
    return 100.0 * (1.0 - parameters / than)
