"""The planned steps of a copy, every parameter a number, and the stretches of source files that they use."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from manifests.io.json_yaml import safe_relative
from manifests.io.records import CONDITION_PATTERN, Name, Record, Samples, Sha256
from manifests.plan.channel_steps import AnyPlannedChannelStep
from manifests.recipe.codecs import Application, Codec, Concealment, check_packets
from manifests.recipe.noises import Colour
from manifests.recipe.speech import Channel

LATEST_START_S = 1e8


def within(value: float, low: float, high: float) -> float:
    """Check that a planned number is in the range that a recipe may have; arithmetic beyond it overflows.

    Raises:
        ValueError: If it is not.
    """
    if not low <= value <= high:
        raise ValueError(f"expected a number from {low:g} to {high:g}, got {value:g}")
    return value


PlannedSnr = Annotated[float, AfterValidator(lambda snr_db: within(snr_db, -60, 100))]


class FileSpan(Record):
    """A stretch of one channel of a source file.

    Attributes:
        root: Name of the root of the file.
        path: Relative POSIX path.
        start: Start of the stretch in the file, in seconds.
        num_frames: Its length in samples at the file's own rate; None means to the end of the file.
        rate_hz: The file's own rate.
        channel: Channel, or `mix` for the mean of all; None if the file has one.
        sha256: Digest of the file's bytes, if it was read at planning.
    """

    root: Name
    path: str
    start: Annotated[float, Field(ge=0)] = 0.0
    num_frames: Samples | None = None
    rate_hz: Annotated[int, Field(ge=1, le=1_000_000)]
    channel: Channel | None = None
    sha256: Sha256 | None = None

    @field_validator("path")
    @classmethod
    def check_path(cls, path: str) -> str:
        """An untrusted path stays below its root."""
        return safe_relative(path, where="path")

    @field_validator("start")
    @classmethod
    def check_start(cls, start: float) -> float:
        """No recording is three years long, and numbers of samples are bounded."""
        return within(start, 0, LATEST_START_S)


Over = Literal["whole", "active"]


class RecordedPart(Record):
    """A segment of a recording.

    Attributes:
        source: Name of the noise source in the recipe.
        root: Root of the file, which may differ from the source's name.
        recording: Relative path.
        offset: First sample of the segment, at the corpus rate; a recording shorter than the utterance is tiled from there.
        response: Name of the room response of the noise's own position, for a noise in the room.
    """

    form: Literal["recorded"]
    source: Name
    root: Name
    recording: str
    offset: Samples
    response: str | None = None

    @field_validator("recording")
    @classmethod
    def check_path(cls, path: str) -> str:
        """An untrusted path stays below its root."""
        return safe_relative(path, where="recording")


class RecordedNoiseStep(RecordedPart):
    """Add a segment of a recording.

    Attributes:
        snr_db: Signal over noise; see law 3.
        over: Whether the power of the signal is that of the whole utterance or of its active speech (ITU-T P.56).
    """

    kind: Literal["noise"]
    snr_db: PlannedSnr
    over: Over = "whole"


class ColouredPart(Record):
    """Synthetic noise, rendered from a seed by numpy's frozen `RandomState`.

    Attributes:
        spectrum: For the colour `speech`, the split whose row of `plan/spectra.jsonl` shapes it.
    """

    form: Literal["coloured"]
    source: Name
    colour: Colour
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    spectrum: Name | None = None
    response: str | None = None

    @model_validator(mode="after")
    def check_spectrum(self) -> Self:
        """Speech-shaped noise, and no other, names a spectrum."""
        if (self.colour == "speech") != (self.spectrum is not None):
            raise ValueError("spectrum goes with colour: speech, and with no other colour")
        return self


class ColouredNoiseStep(ColouredPart):
    """Add synthetic noise; attributes as above."""

    kind: Literal["noise"]
    snr_db: PlannedSnr
    over: Over = "whole"


class Talker(Record):
    """One talker of a babble: the utterance, its file, and the start of the segment in it (at the corpus rate)."""

    id: str
    speaker: str | None = None
    file: FileSpan
    offset: Samples


class BabblePart(Record):
    """Several other speakers at equal power, each utterance repeated from its offset if it is short.

    Attributes:
        talkers: The talkers that are mixed. One who pauses through the whole segment starts at the next sound after `offset`;
            one whose file cannot be read or is silent is left out, and listed in the sample's JSON (`unheard`).
        spare: Talkers of which the first usable one is taken if none of `talkers` is usable; drawn for one interfering talker.
    """

    form: Literal["babble"]
    source: Name
    talkers: Annotated[tuple[Talker, ...], Field(min_length=1, strict=False)]
    spare: Annotated[tuple[Talker, ...], Field(strict=False)] | None = None
    response: str | None = None


class BabbleStep(BabblePart):
    """Add several other speakers; attributes as above."""

    kind: Literal["noise"]
    snr_db: PlannedSnr
    over: Over = "whole"


NoisePart = Annotated[RecordedPart | ColouredPart | BabblePart, Field(discriminator="form")]


class SeveralNoisesStep(Record):
    """Add several noises at once, each at equal power; their sum has the SNR."""

    kind: Literal["noise"]
    form: Literal["several"]
    noises: Annotated[tuple[NoisePart, ...], Field(min_length=2, max_length=16, strict=False)]
    snr_db: PlannedSnr
    over: Over = "whole"

    @property
    def source(self) -> str:
        """Its sources, each once, joined by `+`."""
        return "+".join(dict.fromkeys(noise.source for noise in self.noises))


class PlannedRoomStep(Record):
    """Convolve with one response of a bank.

    Attributes:
        response: `<bank>-<room>-<position>`, the file's name in `rooms/` without its suffix.
        keep_rms: False: the level that the convolution gives, not scaled to the RMS that the signal had.
    """

    kind: Literal["room"]
    bank: Name
    room: Annotated[int, Field(ge=0)]
    position: Annotated[int, Field(ge=0)]
    response: str
    keep_rms: bool | None = None


class PlannedFreeverbStep(Record):
    """Freeverb with its parameters; see `corpus_builder.distortions.freeverb`.

    Attributes:
        keep_rms: False: not scaled to the RMS that the signal had.
    """

    kind: Literal["freeverb"]
    reverberance: Annotated[float, Field(ge=0, le=100)]
    hf_damping: Annotated[float, Field(ge=0, le=100)]
    room_scale: Annotated[float, Field(ge=0, le=100)]
    pre_delay_ms: Annotated[float, Field(ge=0, le=500)]
    wet_gain_db: Annotated[float, Field(ge=-10, le=10)]
    keep_rms: bool | None = None


class PlannedPacketLoss(Record):
    """The packets of 20 ms that are lost, as parameters and seed of a chain of two states, rendered by numpy's frozen `RandomState`.

    Attributes:
        percent: Mean loss of the chain.
        burst_packets: Mean stay in the bad state; None for independent loss.
        bad_percent: Share lost in the bad state.
        good_percent: Share lost in the good state.
        conceal: What replaces a lost packet.
        lost_packets: Number of packets of the utterance that are lost; at least one, as a loss of none is not planned.
    """

    percent: Annotated[float, Field(gt=0, le=100)]
    burst_packets: Annotated[float, Field(ge=1), AfterValidator(lambda packets: within(packets, 1, 1e6))] | None = None
    bad_percent: Annotated[float, Field(gt=0, le=100)] = 100.0
    good_percent: Annotated[float, Field(ge=0, lt=100)] = 0.0
    conceal: Concealment
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    lost_packets: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def check_chain(self) -> Self:
        """The chain can have this loss."""
        if self.burst_packets is not None and not self.good_percent <= self.percent < self.bad_percent:
            raise ValueError("percent is not from good_percent to below bad_percent")
        return self


class PlannedCodecStep(Record):
    """Code and decode; the delay is measured per setting and removed.

    Attributes:
        application: Of Opus; None means `audio`.
        loss: Lost packets; None if none is lost.
    """

    kind: Literal["codec"]
    codec: Codec
    bitrate_kbps: Annotated[float, AfterValidator(lambda kbps: within(kbps, 1, 512))] | None = None
    application: Application | None = None
    loss: PlannedPacketLoss | None = None

    @model_validator(mode="after")
    def check_loss(self) -> Self:
        """Only codecs that are sent in packets lose some."""
        if self.loss is not None:
            check_packets(self.codec, self.loss.conceal)
        return self


PlannedNoise = Annotated[
    RecordedNoiseStep | ColouredNoiseStep | BabbleStep | SeveralNoisesStep, Field(discriminator="form")
]
PlannedStep = Annotated[
    PlannedNoise | PlannedRoomStep | PlannedFreeverbStep | PlannedCodecStep | AnyPlannedChannelStep,
    Field(discriminator="kind"),
]


class PlannedCopy(Record):
    """One distorted copy.

    Attributes:
        name: `<condition>-<n>`; the copy's member in the tar is `<key>.<name>.flac`.
        level: `keep`, `match_clean` or dBFS.
    """

    name: str
    condition: Annotated[str, Field(pattern=CONDITION_PATTERN)]
    steps: Annotated[tuple[PlannedStep, ...], Field(strict=False)]
    level: Literal["keep", "match_clean"] | Annotated[float, AfterValidator(lambda dbfs: within(dbfs, -100, 0))] = (
        "keep"
    )
