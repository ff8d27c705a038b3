"""The steps of one copy, decided: every parameter a number; and where the audio of a row lies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from manifests.files import safe_relative
from manifests.records import CONDITION_PATTERN, Name, Record, Samples, Sha256
from manifests.steps import Codec


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
