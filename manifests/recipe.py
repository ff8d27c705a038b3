"""What is wanted: sources, conditions as ranges, copies, seed, shard size.

A recipe holds ranges (`ranges.py`), a plan holds numbers (`plan.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, model_serializer, model_validator

from manifests.ranges import Draw, number_between
from manifests.records import NAME_PATTERN, Document, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
CONDITION_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"
Codec = Literal["g711-mulaw", "amr-nb", "opus", "mp3"]
CODECS: tuple[Codec, ...] = get_args(Codec)


class SpeechSource(Record):
    """Utterances of one split: a lhotse manifest or a folder.

    Attributes:
        cuts: A lhotse manifest (cuts or recordings, JSON lines, plain or gzip); or
        dir: a folder of audio files.
        strip: A prefix taken off the paths in `cuts`.
        channel: Which channel of a file with several, from 0; None means that a file must have one.
        pattern: Which files of a folder.
        fields: A template of the path below the folder, such as `{speaker}/{id}.flac`; each name matches `[^/]+`.
        table: A CSV beside or in the folder with the column `path` and any of id, text, speaker, language; others are custom.
        min_s: Shorter utterances are left out, and counted.
        max_s: Longer utterances are left out, and counted.
        root: The name its files go by wherever a root is asked for; the source's own name by default.
    """

    cuts: str | None = None
    dir: str | None = None
    strip: str | None = None
    channel: Annotated[int, Field(ge=0, le=1023)] | None = None
    pattern: str = "**/*"
    fields: str | None = None
    table: str | None = None
    min_s: Annotated[float, Field(ge=0)] = 0.0
    max_s: Annotated[float, Field(gt=0)] = 600.0
    root: Name | None = None

    @model_validator(mode="after")
    def check_one_origin(self) -> Self:
        """Either cuts or dir, with the options that fit."""
        if (self.cuts is None) == (self.dir is None):
            raise ValueError("exactly one of cuts (a lhotse manifest) and dir (a folder) is due here")
        if self.cuts is not None and (self.fields or self.table or self.pattern != "**/*"):
            raise ValueError("fields, table and pattern go with dir, not with cuts")
        if self.dir is not None and self.strip is not None:
            raise ValueError("strip goes with cuts, not with dir")
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s:g} is above max_s {self.max_s:g}")
        if self.fields is not None:
            check_template(self.fields)
        return self


def check_template(template: str) -> None:
    """A template has each name once and no regular expression of its own."""
    names = re.findall(r"\{([^{}]*)\}", template)
    if not names or any(not re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names) or len(set(names)) != len(names):
        raise ValueError(
            f"a template such as '{{speaker}}/{{id}}.flac' is due here, each name once, found {template!r}"
        )


class RecordedNoise(SpeechSource):
    """Recorded noises, undivided: dealt to the splits by keyed hash of their group.

    Attributes:
        group: A name in `fields` (or a custom field of the cuts); files of one group go to one split. Default: the file.
        split: `own` deals the files to the splits, `shared` gives all files to all splits, as some papers do.
    """

    group: str | None = None
    split: Literal["own", "shared"] = "own"


class DividedNoise(Record):
    """Recorded noises that come with a folder or manifest for each split."""

    splits: dict[str, SpeechSource]

    @model_validator(mode="before")
    @classmethod
    def from_short_form(cls, data: Any) -> Any:
        """`{train: {...}, test: {...}}`: the keys are the splits."""
        return data if isinstance(data, dict) and set(data) == {"splits"} else {"splits": data}

    @model_serializer
    def to_short_form(self) -> Any:
        """Write as it was read."""
        return {name: source.model_dump(mode="json", exclude_none=True) for name, source in self.splits.items()}


class ColouredNoise(Record):
    """Synthetic stationary noise."""

    colour: Literal["white"]


class Babble(Record):
    """Several other speakers of the same split at once, never the speaker itself."""

    talkers: Annotated[Draw, number_between(1, 64, whole=True)]


def noise_kind(data: Any) -> str:
    """Which kind of noise source the keys tell."""
    if isinstance(data, Record):
        return {RecordedNoise: "-recorded", DividedNoise: "-divided", ColouredNoise: "-coloured", Babble: "-babble"}[
            type(data)
        ]
    keys = set(data) if isinstance(data, dict) else set()
    if "talkers" in keys:
        return "-babble"
    if "colour" in keys:
        return "-coloured"
    if keys & {"cuts", "dir"}:
        return "-recorded"
    return "-divided"


NoiseSource = Annotated[
    Annotated[RecordedNoise, Tag("-recorded")]
    | Annotated[DividedNoise, Tag("-divided")]
    | Annotated[ColouredNoise, Tag("-coloured")]
    | Annotated[Babble, Tag("-babble")],
    Discriminator(noise_kind),
]


Metres = Annotated[float, Field(gt=0, le=200)]
Size = Annotated[tuple[Metres, Metres, Metres], Field(strict=False)]


class RoomBank(Record):
    """Simulated shoebox rooms, each with a microphone and several source positions.

    Attributes:
        rooms: How many rooms, over all splits.
        size_m: Smallest and largest length, width and height.
        rt60_s: Reverberation time asked for.
        distance_m: From the microphone to a source.
        positions: Sources in a room; speech takes one, noise in the same room another.
        split: `own` deals the rooms to the splits, `shared` gives all rooms to all splits, as some papers do.
    """

    rooms: Annotated[int, Field(ge=1, le=100_000)]
    size_m: Annotated[tuple[Size, Size], Field(strict=False)]
    rt60_s: Annotated[Draw, number_between(0.1, 3.0)]
    distance_m: Annotated[Draw, number_between(0.1, 100.0)]
    positions: Annotated[int, Field(ge=1, le=64)] = 3
    split: Literal["own", "shared"] = "own"

    @model_validator(mode="after")
    def check_sizes(self) -> Self:
        """The smallest room comes first, and the largest can hold every asked distance."""
        if any(low > high for low, high in zip(*self.size_m, strict=True)):
            raise ValueError(
                f"size_m: {list(self.size_m[0])} is larger than {list(self.size_m[1])}; write the smallest size first"
            )
        diagonal_m = sum(side**2 for side in self.size_m[1]) ** 0.5
        if self.distance_m.high >= diagonal_m:
            raise ValueError(
                f"distance_m: {self.distance_m.high:g} m does not fit into the largest room, {list(self.size_m[1])} m "
                f"(diagonal {diagonal_m:.1f} m); ask for less, or for larger rooms"
            )
        return self


class NoiseStep(Record):
    """Add a noise from one of several sources at an SNR.

    Attributes:
        from_: Names of noise sources, drawn with equal chance.
        snr_db: Power of the signal as it enters this step over the power of the noise put in.
        over: `whole` utterance, or `active` speech (ITU-T P.56).
        in_room: The noise stands at its own position in the room of the room step before.
    """

    kind: Literal["noise"]
    from_: Annotated[tuple[Name, ...], Field(alias="from", min_length=1, strict=False)]
    snr_db: Annotated[Draw, number_between(-60, 100)]
    over: Literal["whole"] = "whole"
    in_room: bool = False


class RoomStep(Record):
    """Put the signal into a room of a bank."""

    kind: Literal["room"]
    bank: Name


class CodecStep(Record):
    """Code and decode the signal.

    Attributes:
        codec: Which coder, or a choice of several.
        bitrate_kbps: Bit rate; a rate that suits the coder by default.
    """

    kind: Literal["codec"]
    codec: Draw
    bitrate_kbps: Annotated[Draw, number_between(1, 512)] | None = None

    @model_validator(mode="after")
    def check_codecs(self) -> Self:
        """Only coders we have."""
        for name in self.codec.values:
            if name not in CODECS:
                raise ValueError(f"unknown codec {name!r}; known are {', '.join(CODECS)}")
        return self


class ChooseStep(Record):
    """One of several lists of steps, each with equal chance; an empty list leaves the signal as it is."""

    choose: Annotated[tuple[Annotated[tuple[Step, ...], Field(strict=False)], ...], Field(min_length=1, strict=False)]


def step_kind(data: Any) -> str | None:
    """Which kind of step the keys tell; None if they do not."""
    if isinstance(data, ChooseStep) or (isinstance(data, dict) and "choose" in data):
        return "-choose"
    kind = data.get("kind") if isinstance(data, dict) else getattr(data, "kind", None)
    return f"-{kind}" if kind in {"noise", "room", "codec"} else None


Step = Annotated[
    Annotated[NoiseStep, Tag("-noise")]
    | Annotated[RoomStep, Tag("-room")]
    | Annotated[CodecStep, Tag("-codec")]
    | Annotated[ChooseStep, Tag("-choose")],
    Discriminator(
        step_kind,
        custom_error_type="unknown_step",
        custom_error_message="kind: one of noise, room, codec (or choose: [...]) is due here",
    ),
]


class Condition(Record):
    """A chain of steps, and the level of what comes out.

    Attributes:
        steps: In the order in which the signal meets them.
        level: `keep`, `match_clean` (the RMS of the clean utterance) or a draw in dBFS.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=16, strict=False)]
    level: Draw = Draw.model_validate("keep")

    @model_validator(mode="after")
    def check_level(self) -> Self:
        """A word we know, or dBFS."""
        if self.level.spread == "constant" and isinstance(self.level.values[0], str):
            if self.level.values[0] not in {"keep", "match_clean"}:
                raise ValueError(
                    f"level: keep, match_clean or a number in dBFS is due here, found {self.level.values[0]!r}"
                )
        elif not -100 <= self.level.low <= self.level.high <= 0:
            raise ValueError("level: dBFS from -100 to 0 are due here")
        return self


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
    return room


Recipe.model_rebuild()
