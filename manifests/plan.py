"""What was decided: one row an utterance, every parameter a number.

A plan folder (and a corpus, which holds one) has

```
plan/plan.json              this plan's own index, written last: the mark of a finished plan
plan/<split>-000000.jsonl   one file a shard, one row an utterance
plan/rooms.jsonl            geometry and final absorption of every room, never audio
plan/levels.jsonl           each noise file: length, digest, power per 100 ms
roots.local.json            root name -> folder on this machine; never packed
```
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from manifests.files import safe_relative
from manifests.recipe import CONDITION_PATTERN, Codec, Name
from manifests.records import SHA256_PATTERN, Document, Record

Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Samples = Annotated[int, Field(ge=0, lt=2**48)]
Point = Annotated[tuple[float, float, float], Field(strict=False)]


class FileSpan(Record):
    """A stretch of one channel of a source file.

    Attributes:
        root: Name of the root that the path is below.
        path: Relative POSIX path.
        start: Where the stretch begins in the file, in seconds.
        num_frames: Its length in samples at the file's own rate; None means to the end of the file.
        rate_hz: The file's own rate.
        channel: Which channel; None means that the file has one.
        sha256: Digest of the file's bytes, where it was read at planning.
    """

    root: Name
    path: str
    start: Annotated[float, Field(ge=0)] = 0.0
    num_frames: Samples | None = None
    rate_hz: Annotated[int, Field(ge=1, le=1_000_000)]
    channel: Annotated[int, Field(ge=0, le=1023)] | None = None
    sha256: Sha256 | None = None

    @field_validator("path")
    @classmethod
    def check_path(cls, path: str) -> str:
        """A stranger's path stays below its root."""
        return safe_relative(path, where="path")


class RecordedNoiseStep(Record):
    """Add a segment of a recording.

    Attributes:
        source: Name of the noise source in the recipe.
        root: Root of the file, which may differ from the source's name.
        recording: Relative path.
        offset: First sample of the segment, at the corpus rate; a recording shorter than the utterance is tiled from there.
        snr_db: Signal over noise; see law 3.
        response: Name of the room response of the noise's own position, where it stands in the room.
    """

    kind: Literal["noise"]
    form: Literal["recorded"]
    source: Name
    root: Name
    recording: str
    offset: Samples
    snr_db: float
    over: Literal["whole"] = "whole"
    response: str | None = None

    @field_validator("recording")
    @classmethod
    def check_path(cls, path: str) -> str:
        """A stranger's path stays below its root."""
        return safe_relative(path, where="recording")


class ColouredNoiseStep(Record):
    """Add synthetic noise, rendered from a seed by numpy's frozen `RandomState`."""

    kind: Literal["noise"]
    form: Literal["coloured"]
    source: Name
    colour: Literal["white"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    snr_db: float
    over: Literal["whole"] = "whole"
    response: str | None = None


class Talker(Record):
    """One voice of a babble: which utterance, its file, and where in it (at the corpus rate) the segment begins."""

    id: str
    speaker: str | None = None
    file: FileSpan
    offset: Samples


class BabbleStep(Record):
    """Add several other speakers at equal power, each utterance repeated from its offset if it is short."""

    kind: Literal["noise"]
    form: Literal["babble"]
    source: Name
    talkers: Annotated[tuple[Talker, ...], Field(min_length=1, strict=False)]
    snr_db: float
    over: Literal["whole"] = "whole"
    response: str | None = None


class PlannedRoomStep(Record):
    """Convolve with one response of a bank.

    Attributes:
        response: `<bank>-<room>-<position>`, the file's name in `rooms/` without its suffix.
    """

    kind: Literal["room"]
    bank: Name
    room: Annotated[int, Field(ge=0)]
    position: Annotated[int, Field(ge=0)]
    response: str


class PlannedCodecStep(Record):
    """Code and decode; the delay is measured per setting and removed."""

    kind: Literal["codec"]
    codec: Codec
    bitrate_kbps: float | None = None


PlannedNoise = Annotated[RecordedNoiseStep | ColouredNoiseStep | BabbleStep, Field(discriminator="form")]
PlannedStep = Annotated[PlannedNoise | PlannedRoomStep | PlannedCodecStep, Field(discriminator="kind")]


class PlannedCopy(Record):
    """One distorted copy.

    Attributes:
        name: `<condition>-<n>`; the copy's member in the tar is `<key>.<name>.flac`.
        level: `keep`, `match_clean` or dBFS.
    """

    name: str
    condition: Annotated[str, Field(pattern=CONDITION_PATTERN)]
    steps: Annotated[tuple[PlannedStep, ...], Field(strict=False)]
    level: Literal["keep", "match_clean"] | float = "keep"


class PlanRow(Record):
    """One utterance and its copies.

    Attributes:
        num_samples: Length of the clean utterance and of every copy, at the corpus rate.
    """

    id: Annotated[str, Field(min_length=1, max_length=4096)]
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
    split: Name
    num_samples: Annotated[int, Field(ge=1, lt=2**40)]
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    custom: dict[str, Any] = {}
    source: FileSpan
    copies: Annotated[tuple[PlannedCopy, ...], Field(strict=False)]


class PlannedRoom(Record):
    """One simulated room: geometry, final absorption, and the T30 that calibration measured.

    Attributes:
        room: Number within the bank.
        splits: Which splits may use it.
        absorption: Energy absorption of all walls.
        max_order: Highest image-source order.
        rt60_s: What was asked for.
        t30_s: Measured at each source position.
        microphone_m: Position, in metres.
        sources_m: Positions of the sources.
        attempts: How many rooms were drawn until one met what was asked.
    """

    bank: Name
    room: Annotated[int, Field(ge=0)]
    splits: Annotated[tuple[Name, ...], Field(strict=False)]
    size_m: Point
    absorption: Annotated[float, Field(gt=0, le=1)]
    max_order: Annotated[int, Field(ge=0, le=500)]
    rt60_s: float
    t30_s: Annotated[tuple[float, ...], Field(strict=False)]
    microphone_m: Point
    sources_m: Annotated[tuple[Point, ...], Field(min_length=1, strict=False)]
    attempts: int = 1


class NoiseLevels(Record):
    """One noise file, read once.

    Attributes:
        num_samples: Length at the corpus rate.
        splits: Which splits may use it.
        power_db: Mean power of each full 100 ms in dBFS, rounded to 0.1; -200 stands for silence.
    """

    source: Name
    root: Name
    path: str
    splits: Annotated[tuple[Name, ...], Field(strict=False)]
    num_samples: Samples
    rate_hz: int
    channel: int | None = None
    sha256: Sha256
    power_db: Annotated[tuple[float, ...], Field(strict=False)]

    @field_validator("path")
    @classmethod
    def check_path(cls, path: str) -> str:
        """A stranger's path stays below its root."""
        return safe_relative(path, where="path")


class PlanFile(Record):
    """One plan file, which becomes one shard."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*-[0-9]{6}$")]
    split: Name
    rows: Annotated[int, Field(ge=0)]
    seconds: float
    sha256: Sha256


class Plan(Document):
    """The index of a plan.

    Attributes:
        recipe_sha256: Digest of the recipe with its paths replaced by root names.
        levels_sha256: Digest of `levels.jsonl`.
        rooms_sha256: Digest of `rooms.jsonl`.
        filtered: How many utterances of each split were left out, by reason.
        refused: Utterances and files refused at planning, with the reason.
        limit: `--limit`, if one was given.
    """

    SCHEMA: ClassVar[str] = "stillroom/plan/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: Name
    recipe_sha256: Sha256
    sample_rate: int
    files: Annotated[tuple[PlanFile, ...], Field(strict=False)]
    levels_sha256: Sha256
    rooms_sha256: Sha256
    filtered: dict[str, dict[str, int]] = {}
    refused: Annotated[tuple[Refusal, ...], Field(strict=False)] = ()
    limit: int | None = None


class Refusal(Record):
    """An utterance or file that was left out, and why; the reason follows from the input alone."""

    split: str
    id: str
    reason: str


class LocalRoots(Document):
    """Where the roots lie on this machine; never packed, never part of a digest."""

    SCHEMA: ClassVar[str] = "stillroom/roots/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    roots: dict[Name, str]


Plan.model_rebuild()
