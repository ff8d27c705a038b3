"""The steps of a condition, in ranges: what happens to a copy, one thing after another."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from manifests.ranges import Draw, number_between
from manifests.records import Name, Record

Codec = Literal["g711-mulaw", "amr-nb", "opus", "mp3"]
CODECS: tuple[Codec, ...] = get_args(Codec)


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
