"""A task of which every utterance has something due by itself: a text, an alignment, a speaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from evaluation.config import Features, ProbedTask

Asked = TypeVar("Asked", bound="ProbedTask")
Due = TypeVar("Due")


@dataclass(frozen=True)
class KeyedTask(Generic[Asked, Due]):
    """A task and what is due, by sample key.

    Attributes:
        name: In tables.
        task: As asked.
        notes: What was left out, for the reader of the numbers.
    """

    name: str
    task: Asked
    train: dict[str, Due]
    dev: dict[str, Due]
    test: dict[str, Due]
    notes: tuple[str, ...]

    @property
    def features(self) -> Features:
        """Which states the probe reads."""
        return self.task.features

    @property
    def probe(self) -> Literal["clean", "distorted"]:
        """What it is trained on."""
        return self.task.probe

    def keys(self, role: Literal["train", "dev", "test"]) -> set[str]:
        """Sample keys of a role."""
        return set(getattr(self, role))
