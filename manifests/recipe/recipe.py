"""The recipe of a corpus: sources, conditions as ranges, copies, seed, shard size.

A recipe holds ranges (`distributions`), a plan holds numbers (`manifests.plan.plan`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, assert_never

from pydantic import Field, model_validator

from manifests.io.records import CONDITION_PATTERN, Document, Name, Record
from manifests.recipe.channel_steps import ChannelStep, channel_fault
from manifests.recipe.noises import Babble, ColouredNoise, DividedNoise, NoiseSource, RecordedNoise
from manifests.recipe.rooms import Bank, RecordedBank, RoomBank
from manifests.recipe.speech import SpeechSource
from manifests.recipe.steps import ChooseStep, CodecStep, Condition, FreeverbStep, NoiseStep, RoomStep, Step

if TYPE_CHECKING:
    from collections.abc import Iterator


FLAC_BYTES_A_SAMPLE = 1.22  # of 2; measured on read speech with noisy, reverberant and coded copies
MEMBER_BYTES = 1200  # a tar header, its padding, and a share of the JSON
MOST_MEMBERS = 80_000  # of a shard: its index is one JSON document, and `json_yaml.MAX_JSON_MEMORY` bounds what is read


class ShardSize(Record):
    """The approximate size of a shard: a number of utterances, or gigabytes with all copies.

    Attributes:
        samples: Utterances; 512 by default.
        gigabytes: Instead: of 10^9 bytes, as FLAC usually packs speech and noise.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {"size": "write samples (a number of utterances) or gigabytes"}

    samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = 512
    gigabytes: Annotated[float, Field(gt=0, le=1000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def check_one_measure(cls, data: Any) -> Any:
        """One of the two."""
        if isinstance(data, dict) and data.get("gigabytes") is not None:
            if data.get("samples") is not None:
                raise ValueError("expected one of samples and gigabytes, got both")
            return {**data, "samples": None}
        return data

    def samples_of(self, *, utterances: int, num_samples: int, waves: int) -> int:
        """About how many utterances a shard holds; never more than `MOST_MEMBERS` members.

        Args:
            utterances: Number of utterances of a split.
            num_samples: Their total length.
            waves: Waves of each utterance: the clean one and its copies.
        """
        most = max(1, MOST_MEMBERS // (waves + 1))
        if self.gigabytes is None:
            return min(self.samples or 512, most)
        content = FLAC_BYTES_A_SAMPLE * num_samples / max(utterances, 1)
        return min(max(1, int(self.gigabytes * 1e9 / (waves * (content + MEMBER_BYTES)))), most)


class Recipe(Document):
    """A whole recipe; see docs/manifests.md.

    Attributes:
        name: Of the corpus; it is on the card.
        seed: All that is drawn depends on it, and on the names of what is drawn.
        sample_rate: Of the corpus, in Hz; sources are resampled to it.
        speech: A source of utterances for each split.
        noises: Sources of noise by name, for `from` of a noise step: recorded, coloured, or other speakers.
        rooms: Banks of room responses by name, for `bank` of a room step: simulated or recorded.
        conditions: Distortions by name, each a chain of steps.
        copies: For each split, how many copies of an utterance each condition gives.
        shards: Size of a shard.
    """

    SCHEMA: ClassVar[str] = "stillroom/recipe/1"
    EXAMPLES: ClassVar[dict[str, str]] = {
        "speech": "speech: {train: {dir: FOLDER}}",
        "noises": "noises: {musan: {dir: FOLDER}, white: {colour: white}}",
        "rooms": "rooms: {home: {rooms: 60, size_m: [[3, 3, 2.4], [8, 6, 3.5]], rt60_s: 0.4, distance_m: 1}}",
        "conditions": "conditions: {phone: {steps: [{kind: codec, codec: opus}]}}",
        "copies": "copies: {train: {noise: 2, phone: 1}}",
        "shards": "shards: {samples: 512}",
    }
    OTHER_NAMES: ClassVar[dict[str, str]] = {
        "augmentations": "write conditions",
        "augment": "write conditions",
        "distortions": "write conditions",
        "data": "write speech",
        "splits": "write speech, with a key for each split",
        "sr": "write sample_rate",
        "rirs": "write rooms",
        "output": "the corpus is named on the command line",
    }

    schema_: Annotated[str, Field(alias="schema")]
    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    sample_rate: Annotated[int, Field(ge=8000, le=48_000)] = 16_000
    speech: Annotated[dict[Name, SpeechSource], Field(min_length=1)]
    noises: dict[Name, NoiseSource] = {}
    rooms: dict[Name, Bank] = {}
    conditions: dict[Annotated[str, Field(pattern=CONDITION_PATTERN)], Condition] = {}
    copies: dict[Name, dict[str, Annotated[int, Field(ge=0, le=1000)]]] = {}
    shards: ShardSize = ShardSize()

    @model_validator(mode="after")
    def check_names(self) -> Self:
        """Every name that is used is known, and none has two meanings."""
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
        """Every source of files by the name of its root."""
        roots: dict[str, SpeechSource] = {}
        for name, source in self.file_sources():
            roots[source.root or name] = source
        return roots

    def file_sources(self) -> Iterator[tuple[str, SpeechSource]]:
        """Name and source of all speech, recorded and divided noises and recorded rooms."""
        yield from self.speech.items()
        for name, noise in self.noises.items():
            if isinstance(noise, RecordedNoise):
                yield name, noise
            elif isinstance(noise, DividedNoise):
                for split, source in noise.splits.items():
                    yield f"{name}-{split}", source
        for name, bank in self.rooms.items():
            if isinstance(bank, RecordedBank):
                yield name, bank.responses


def check_chain(steps: tuple[Step, ...], recipe: Recipe, *, where: str, room: str | None) -> str | None:
    """Check that names in a chain are known and that `in_room` follows a room; returns the last bank of the chain."""
    for number, step in enumerate(steps):
        place = f"{where}.{number}"
        match step:
            case NoiseStep():
                check_noise_step(step, recipe, place=place, room=room)
            case RoomStep():
                if step.bank not in recipe.rooms:
                    raise ValueError(
                        f"{place}.bank: no bank {step.bank!r} under rooms; known are {', '.join(recipe.rooms) or 'none'}"
                    )
                room = step.bank
            case ChooseStep():
                ends = {
                    check_chain(way, recipe, where=f"{place}.choose.{at}", room=room)
                    for at, way in enumerate(step.choose)
                }
                room = ends.pop() if len(ends) == 1 else None
            case CodecStep() | FreeverbStep():
                pass
            case ChannelStep():
                fault = channel_fault(step, sample_rate=recipe.sample_rate)
                if fault is not None:
                    raise ValueError(f"{place}.{fault}")
            case _:
                assert_never(step)
    return room


def check_noise_step(step: NoiseStep, recipe: Recipe, *, place: str, room: str | None) -> None:
    """Check that sources are known and can be drawn as wanted, and that `in_room` has a room."""
    for name in step.from_:
        if name not in recipe.noises:
            known = ", ".join(recipe.noises) or "none"
            raise ValueError(f"{place}.from: no noise source {name!r} under noises; known are {known}")
    if step.draw in {"file", "duration"} and step.weights is None:
        without = [name for name in step.from_ if isinstance(recipe.noises[name], ColouredNoise | Babble)]
        if without:
            raise ValueError(
                f"{place}.draw: {without[0]!r} has no files, so that it cannot be drawn by {step.draw}; give each source a weight "
                f"(from: {{{without[0]}: 1, ...}}), or put {without[0]!r} into a choose of its own"
            )
    if step.in_room and room is None:
        raise ValueError(f"{place}.in_room: no room step comes before; put {{kind: room, bank: ...}} first")
    bank = recipe.rooms.get(room or "")
    if step.in_room and isinstance(bank, RoomBank) and bank.positions < 2:
        raise ValueError(f"{place}.in_room: bank {room!r} has one position; give it positions: 2 or more")
