"""The steps of a condition, in ranges: the distortions of a copy in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, model_validator

from manifests.io.records import Name, Record
from manifests.recipe.channel_steps import (
    CHANNEL_KINDS,
    BandPassStep,
    BandRejectStep,
    ClipStep,
    GainStep,
    HighPassStep,
    LowPassStep,
    PitchStep,
    ResampleStep,
    TiltStep,
)
from manifests.recipe.codecs import APPLICATIONS, CODECS, Codec, PacketLoss, check_bitrates, check_loss
from manifests.recipe.distributions import Draw, number_between

if TYPE_CHECKING:
    from collections.abc import Iterable


Weight = Annotated[float, Field(gt=0, le=1e9)]
Weights = Annotated[tuple[Annotated[float, Field(ge=0, le=1e9)], ...], Field(min_length=1, strict=False)]


def from_form(data: Any) -> str:
    """Whether sources are listed or weighted."""
    return "-weights" if isinstance(data, dict) else "-list"


From = Annotated[
    Annotated[tuple[Name, ...], Field(min_length=1, strict=False), Tag("-list")]
    | Annotated[dict[Name, Weight], Field(min_length=1), Tag("-weights")],
    Discriminator(from_form),
]


class NoiseStep(Record):
    """Add one noise or several, from one of several sources each, at an SNR.

    Attributes:
        from_: Names of noise sources: a list, or a mapping of each to its weight, `{musan: 3, white: 1}`.
        draw: What is drawn uniformly: a `source` and then one of its files (the default); a `file` of all those sources
            together; or, by `duration`, a second of them, so that the probability of a file is proportional to its length.
            Weights are those of sources in each case; then `file` equals `source`, and `duration` applies within the source.
        count: Number of noises at once; each is drawn independently, all get equal power, and their sum has the SNR. 1 by default.
        snr_db: Power of the signal as it enters this step over the power of the noise put in.
        over: `whole` utterance, or `active` speech: the signal's power is that of its active speech level by ITU-T P.56, which
            pauses do not lower.
        in_room: The noise has its own position in the room of the preceding room step.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        "noise": "write from, a list of names under noises",
        "noises": "write from, a list of names under noises",
        "source": "write from, a list of names under noises",
        **dict.fromkeys(
            ("p", "prob", "probability"),
            "a step is always applied; how many copies a condition gives is under copies, and choose takes one of several chains",
        ),
    }

    kind: Literal["noise"]
    from_: Annotated[From, Field(alias="from")]
    draw: Literal["source", "file", "duration"] | None = None
    count: Annotated[Draw, number_between(1, 16, whole=True)] | None = None
    snr_db: Annotated[Draw, number_between(-60, 100)]
    over: Literal["whole", "active"] = "whole"
    in_room: bool = False

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weight of each source; None if they have none."""
        return tuple(self.from_.values()) if isinstance(self.from_, dict) else None


class RoomStep(Record):
    """Convolve with a response of a room bank.

    Attributes:
        bank: One of `rooms`.
        keep_rms: Give the result the RMS that the signal had (the default); false: as loud as the response makes it.
    """

    kind: Literal["room"]
    bank: Name
    keep_rms: bool | None = None


class FreeverbStep(Record):
    """Reverberation by Freeverb, with the parameters of `sox reverb`.

    Attributes:
        reverberance: Length of the reverberation, in percent.
        hf_damping: Damping of high frequencies, in percent.
        room_scale: In percent.
        pre_delay_ms: Before the reverberation begins.
        wet_gain_db: Gain of the reverberation; the direct signal is unchanged.
        keep_rms: As for a room.
    """

    kind: Literal["freeverb"]
    reverberance: Annotated[Draw, number_between(0, 100)] = Draw.model_validate(50)
    hf_damping: Annotated[Draw, number_between(0, 100)] = Draw.model_validate(50)
    room_scale: Annotated[Draw, number_between(0, 100)] = Draw.model_validate(100)
    pre_delay_ms: Annotated[Draw, number_between(0, 500)] = Draw.model_validate(0)
    wet_gain_db: Annotated[Draw, number_between(-10, 10)] = Draw.model_validate(0)
    keep_rms: bool | None = None


class CodecStep(Record):
    """Code and decode the signal, perhaps with packets lost on the way.

    Attributes:
        codec: The coder, or a choice of several.
        bitrate_kbps: Bit rate, rounded to the nearest of the coder; a usual one by default.
        application: Of Opus: `voip` or `audio` (the default).
        loss: Packets lost, for the codecs that are sent in packets.
    """

    kind: Literal["codec"]
    codec: Draw
    bitrate_kbps: Annotated[Draw, number_between(1, 512)] | None = None
    application: Draw | None = None
    loss: PacketLoss | None = None

    @model_validator(mode="after")
    def check_codecs(self) -> Self:
        """Known coders, at bit rates that they have, with losses that they can have."""
        for name in self.codec.values:
            if name not in CODECS:
                raise ValueError(f"unknown codec {name!r}; known are {', '.join(CODECS)}")
        codecs = cast("tuple[Codec, ...]", self.codec.values)
        if self.bitrate_kbps is not None:
            check_bitrates(codecs, self.bitrate_kbps)
        if self.application is not None:
            if "opus" not in codecs:
                raise ValueError(f"application: only opus has applications, not {', '.join(codecs)}")
            for word in self.application.values:
                if word not in APPLICATIONS:
                    raise ValueError(f"application: unknown {word!r}; known are {', '.join(APPLICATIONS)}")
        if self.loss is not None:
            check_loss(codecs, self.loss)
        return self


class ChooseStep(Record):
    """One of several lists of steps; an empty list leaves the signal unchanged.

    Attributes:
        choose: The lists.
        weights: The weight of each; equal by default.
    """

    choose: Annotated[tuple[Annotated[tuple[Step, ...], Field(strict=False)], ...], Field(min_length=1, strict=False)]
    weights: Weights | None = None

    @model_validator(mode="after")
    def check_weights(self) -> Self:
        """A weight a list, and not all of them zero."""
        if self.weights is not None and (len(self.weights) != len(self.choose) or not any(self.weights)):
            raise ValueError(
                f"weights: expected {len(self.choose)} weights, one a list of choose and not all 0, got {list(self.weights)}"
            )
        return self

    @property
    def chances(self) -> tuple[float, ...]:
        """The probability of each list."""
        weights = self.weights or (1.0,) * len(self.choose)
        return tuple(weight / sum(weights) for weight in weights)


STEP_KINDS = ("noise", "room", "codec", "freeverb", *CHANNEL_KINDS)
OTHER_KINDS = {  # what other programs call a step
    **dict.fromkeys(("reverb", "rir", "reverberation"), "write kind: room, with a bank under rooms"),
    **dict.fromkeys(("babble", "musan", "white", "additive"), "write kind: noise, with a source under noises"),
    **dict.fromkeys(("volume", "amplitude", "loudness"), "write kind: gain"),
    **dict.fromkeys(
        ("speed", "tempo", "stretch"), "no step changes the speed, since copies stay in step with the clean wave"
    ),
    **dict.fromkeys(("mp3", "opus", "aac", "mulaw", "amr"), "write kind: codec, and its name as codec"),
}


def step_kind(data: Any) -> str | None:
    """The kind of a step, from its keys; None if it is not known."""
    if isinstance(data, ChooseStep) or (isinstance(data, dict) and "choose" in data):
        return "-choose"
    kind = data.get("kind") if isinstance(data, dict) else getattr(data, "kind", None)
    return f"-{kind}" if kind in STEP_KINDS else None


Step = Annotated[
    Annotated[NoiseStep, Tag("-noise")]
    | Annotated[RoomStep, Tag("-room")]
    | Annotated[FreeverbStep, Tag("-freeverb")]
    | Annotated[CodecStep, Tag("-codec")]
    | Annotated[LowPassStep, Tag("-lowpass")]
    | Annotated[HighPassStep, Tag("-highpass")]
    | Annotated[BandPassStep, Tag("-bandpass")]
    | Annotated[BandRejectStep, Tag("-bandreject")]
    | Annotated[TiltStep, Tag("-tilt")]
    | Annotated[GainStep, Tag("-gain")]
    | Annotated[ClipStep, Tag("-clip")]
    | Annotated[ResampleStep, Tag("-resample")]
    | Annotated[PitchStep, Tag("-pitch")]
    | Annotated[ChooseStep, Tag("-choose")],
    Discriminator(
        step_kind,
        custom_error_type="unknown_step",
        custom_error_message=f"kind: expected one of {', '.join(STEP_KINDS)} (or choose: [...])",
        custom_error_context={"known": ", ".join(STEP_KINDS), **OTHER_KINDS},
    ),
]


def noise_names(steps: Iterable[Step]) -> set[str]:
    """Names of the noise sources that a chain may draw from."""
    names: set[str] = set()
    for step in steps:
        if isinstance(step, NoiseStep):
            names.update(step.from_)
        elif isinstance(step, ChooseStep):
            names.update(*(noise_names(way) for way in step.choose))
    return names


class Condition(Record):
    """A chain of steps, and the level of the result.

    Attributes:
        steps: In the order in which they are applied.
        level: `keep`, `match_clean` (the RMS of the clean utterance) or a draw in dBFS.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {"kind": "a condition is a list of steps: steps: [{kind: ...}]"}

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=16, strict=False)]
    level: Draw = Draw.model_validate("keep")

    @model_validator(mode="after")
    def check_level(self) -> Self:
        """A known word, or dBFS."""
        if self.level.spread == "constant" and isinstance(self.level.values[0], str):
            if self.level.values[0] not in {"keep", "match_clean"}:
                raise ValueError(f"level: expected keep, match_clean or a number in dBFS, got {self.level.values[0]!r}")
        elif not -100 <= self.level.low <= self.level.high <= 0:
            raise ValueError("level: expected dBFS from -100 to 0")
        return self
