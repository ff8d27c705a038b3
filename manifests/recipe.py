"""What is wanted: sources, conditions as ranges, copies, seed, shard size.

A recipe holds ranges (`ranges.py`), a plan holds numbers (`plan.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self, assert_never

from pydantic import Field, model_validator

from manifests.banks import RoomBank
from manifests.noises import DividedNoise, NoiseSource, RecordedNoise
from manifests.records import CONDITION_PATTERN, Document, Name, Record
from manifests.speech import SpeechSource
from manifests.steps import ChooseStep, CodecStep, Condition, NoiseStep, RoomStep, Step

if TYPE_CHECKING:
    from collections.abc import Iterator


class ShardSize(Record):
    """How many utterances a shard holds, about."""

    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 512


class Recipe(Document):
    """A whole recipe; see DESIGN, "The formats"."""

    SCHEMA: ClassVar[str] = "stillroom/recipe/1"

    schema_: Annotated[str, Field(alias="schema")]
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    sample_rate: Annotated[int, Field(ge=8000, le=48_000)] = 16_000
    speech: Annotated[dict[Name, SpeechSource], Field(min_length=1)]
    noises: dict[Name, NoiseSource] = {}
    rooms: dict[Name, RoomBank] = {}
    conditions: dict[Annotated[str, Field(pattern=CONDITION_PATTERN)], Condition] = {}
    copies: dict[Name, dict[str, Annotated[int, Field(ge=0, le=1000)]]] = {}
    shards: ShardSize = ShardSize()

    @model_validator(mode="after")
    def check_names(self) -> Self:
        """Every name that is used is known, and no name means two things."""
        for first, second in (("speech", "noises"), ("speech", "rooms"), ("noises", "rooms")):
            twice = set(getattr(self, first)) & set(getattr(self, second))
            if twice:
                raise ValueError(f"{min(twice)!r} names both something under {first} and under {second}; rename one")
        for reserved in {"clean", "json"} & set(self.conditions):
            raise ValueError(f"conditions: {reserved!r} is reserved; choose another name")
        for split, counts in self.copies.items():
            if split not in self.speech:
                raise ValueError(f"copies.{split}: no such split under speech; known are {', '.join(self.speech)}")
            for name in counts:
                if name not in self.conditions:
                    raise ValueError(
                        f"copies.{split}.{name}: no such condition; known are {', '.join(self.conditions) or 'none'}"
                    )
        for name, condition in self.conditions.items():
            check_chain(condition.steps, self, where=f"conditions.{name}.steps", room=None)
        for name, noise in self.noises.items():
            if isinstance(noise, DividedNoise):
                for split in noise.splits:
                    if split not in self.speech:
                        raise ValueError(
                            f"noises.{name}.{split}: neither a key of a noise source (dir, cuts, colour, talkers) "
                            f"nor a split under speech ({', '.join(self.speech)})"
                        )
        return self

    def source_roots(self) -> dict[str, SpeechSource]:
        """Every source of files by the name its root goes by."""
        roots: dict[str, SpeechSource] = {}
        for name, source in self.file_sources():
            roots[source.root or name] = source
        return roots

    def file_sources(self) -> Iterator[tuple[str, SpeechSource]]:
        """Name and source of everything that is read from files: speech, recorded and divided noises."""
        yield from self.speech.items()
        for name, noise in self.noises.items():
            if isinstance(noise, RecordedNoise):
                yield name, noise
            elif isinstance(noise, DividedNoise):
                for split, source in noise.splits.items():
                    yield f"{name}-{split}", source


def check_chain(steps: tuple[Step, ...], recipe: Recipe, *, where: str, room: str | None) -> str | None:
    """Names in a chain are known and `in_room` follows a room; returns the bank in force at the end of the chain."""
    for number, step in enumerate(steps):
        place = f"{where}.{number}"
        match step:
            case NoiseStep():
                for name in step.from_:
                    if name not in recipe.noises:
                        known = ", ".join(recipe.noises) or "none"
                        raise ValueError(f"{place}.from: no noise source {name!r} under noises; known are {known}")
                if step.in_room and room is None:
                    raise ValueError(f"{place}.in_room: no room step comes before; put {{kind: room, bank: ...}} first")
                if step.in_room and room is not None and recipe.rooms[room].positions < 2:
                    raise ValueError(f"{place}.in_room: bank {room!r} has one position; give it positions: 2 or more")
            case RoomStep():
                if step.bank not in recipe.rooms:
                    raise ValueError(
                        f"{place}.bank: no bank {step.bank!r} under rooms; known are {', '.join(recipe.rooms) or 'none'}"
                    )
                room = step.bank
            case ChooseStep():
                ends = {check_chain(tuple(way), recipe, where=f"{place}.choose", room=room) for way in step.choose}
                room = ends.pop() if len(ends) == 1 else None
            case CodecStep():
                pass
            case _:
                assert_never(step)
    return room
