"""Values in a recipe: a constant, or a distribution that it is drawn from.

`{uniform: [a, b]}`, `{uniform_int: [a, b]}`, `{log_uniform: [a, b]}` and `{choice: [...]}` may be used wherever a recipe
has a number or a word. Drawing itself is done by the planner (`corpus_builder.plan.materials.seeded_random`).
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import AfterValidator, model_serializer, model_validator

from manifests.errors import printable
from manifests.faults import plain_number
from manifests.io.records import Record

Spread = Literal["constant", "uniform", "uniform_int", "log_uniform", "choice"]


class Draw(Record):
    """A constant, or a distribution that a value is drawn from.

    Attributes:
        spread: Which distribution.
        values: `(value,)` for a constant, `(low, high)` for a range (both ends can be drawn), else the choices.
    """

    spread: Spread
    values: tuple[float | int | str, ...]

    @model_validator(mode="before")
    @classmethod
    def from_short_form(cls, data: Any) -> Any:
        """Read `3`, `word` or `{uniform: [a, b]}`."""
        if isinstance(data, Draw):
            return {"spread": data.spread, "values": data.values}
        if isinstance(data, bool):
            raise ValueError("expected a number, a word or a draw, got a boolean")  # noqa: TRY004 (pydantic's way)
        if isinstance(data, int | float | str):
            return {"spread": "constant", "values": (data,)}
        if not isinstance(data, dict) or len(data) != 1:
            raise ValueError(
                "expected a number, a word, or one of uniform, uniform_int, log_uniform, choice with a list"
                + range_of(data)
            )
        ((spread, values),) = data.items()
        if spread not in {"uniform", "uniform_int", "log_uniform", "choice"}:
            raise ValueError(f"unknown draw {spread!r}; known are uniform, uniform_int, log_uniform, choice")
        if not isinstance(values, list | tuple) or not values or len(values) > 10_000:
            raise ValueError(f"{spread} needs a list, such as {spread}: [1, 2]")
        return {"spread": spread, "values": tuple(values)}

    @model_validator(mode="after")
    def check_range(self) -> Self:
        """Ranges have two numbers, the lower first."""
        if self.spread in {"uniform", "uniform_int", "log_uniform"}:
            if len(self.values) != 2 or any(isinstance(value, str) for value in self.values):
                raise ValueError(f"{self.spread} needs two numbers, [low, high], got {printable(list(self.values))}")
            low, high = float(self.values[0]), float(self.values[1])
            if low > high:
                raise ValueError(f"{self.spread}: [{low:g}, {high:g}] is upside down; write [{high:g}, {low:g}]")
            if self.spread == "log_uniform" and low <= 0:
                raise ValueError(f"log_uniform needs numbers above 0, found {low:g}")
            if self.spread == "uniform_int" and (low != int(low) or high != int(high)):
                raise ValueError("uniform_int needs whole numbers")
        return self

    @model_serializer
    def to_short_form(self) -> Any:
        """Write as it was read."""
        return self.values[0] if self.spread == "constant" else {self.spread: list(self.values)}

    @property
    def low(self) -> float:
        """Smallest number that can be drawn."""
        return min(self.numbers())

    @property
    def high(self) -> float:
        """Largest number that can be drawn."""
        return max(self.numbers())

    def numbers(self) -> list[float]:
        """The values as numbers; words are an error."""
        words = [value for value in self.values if isinstance(value, str)]
        if words:
            raise ValueError(
                f"expected numbers, got {printable(words[0], limit=60)!r}"
                + (range_of(words[0]) or plain_number(words[0]))
            )
        return [float(value) for value in self.values]


def range_of(data: Any) -> str:
    """How to write a range that was written in another way, such as `[0, 20]`, `{min: 0, max: 20}` or `0-20`; empty if it is none."""
    ends = list(data.values()) if isinstance(data, dict) else data
    if isinstance(data, str):
        match = re.fullmatch(r"\s*(-?[0-9.]{1,12})\s*(?:-|to|,|:|\.\.)\s*(-?[0-9.]{1,12})\s*", data)
        ends = match.groups() if match else ()
    elif not isinstance(ends, list) or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        return ""
    return f"; for a range write {{uniform: [{ends[0]}, {ends[1]}]}}" if len(ends) == 2 else ""


def number_between(low: float, high: float, *, whole: bool = False) -> AfterValidator:
    """A validator of draws: every number that can be drawn is in [low, high]."""

    def check(draw: Draw) -> Draw:
        for value in draw.numbers():
            if not low <= value <= high:
                raise ValueError(f"{value:g} is outside [{low:g}, {high:g}]")
            if whole and (value != int(value) or draw.spread in {"uniform", "log_uniform"}):
                raise ValueError("expected whole numbers: use uniform_int")
        return draw

    return AfterValidator(check)
