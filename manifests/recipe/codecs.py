"""The codecs with their bit rates, and which of them are sent in packets that can be lost.

Recipe and plan, planner and renderer share this module; the coders themselves are in `corpus_builder.distortions.codecs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from manifests.io.records import Record
from manifests.recipe.distributions import Draw, number_between

if TYPE_CHECKING:
    from collections.abc import Mapping

Codec = Literal["g711-alaw", "g711-mulaw", "g722", "g726", "gsm-fr", "amr-nb", "opus", "mp3", "aac", "vorbis"]
CODECS: tuple[Codec, ...] = get_args(Codec)

Application = Literal["voip", "audio"]
"""Opus's application (RFC 6716, section 2.1): `voip` favours the speech coder SILK, `audio` faithful waveforms."""
APPLICATIONS: tuple[Application, ...] = get_args(Application)
DEFAULT_APPLICATION: Final[Application] = "audio"

Concealment = Literal["zeros", "repeat", "codec"]
"""What replaces a lost packet: silence, the last packet again, or the concealment of the decoder itself."""

BITRATES_KBPS: Final[Mapping[Codec, tuple[float, ...]]] = {
    "g711-alaw": (64.0,),
    "g711-mulaw": (64.0,),
    "g722": (48.0, 56.0, 64.0),
    "g726": (16.0, 24.0, 32.0, 40.0),
    "gsm-fr": (13.0,),
    "amr-nb": (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2),
    "opus": tuple(float(rate) for rate in range(6, 65)),
    "mp3": (8.0, 16.0, 24.0, 32.0, 40.0, 48.0, 56.0, 64.0, 80.0, 96.0, 112.0, 128.0),
    "aac": (16.0, 24.0, 32.0, 40.0, 48.0, 56.0, 64.0, 80.0),
    "vorbis": (24.0, 32.0, 40.0, 48.0, 56.0, 64.0, 80.0),
}
"""The bit rates of each codec, lowest first. Opus, MP3, AAC and Vorbis have higher ones, at which no distortion is audible."""

DEFAULT_BITRATE_KBPS: Final[Mapping[Codec, float]] = {
    "g711-alaw": 64.0,
    "g711-mulaw": 64.0,
    "g722": 64.0,
    "g726": 32.0,
    "gsm-fr": 13.0,
    "amr-nb": 12.2,
    "opus": 16.0,
    "mp3": 32.0,
    "aac": 32.0,
    "vorbis": 48.0,
}

PACKET_CODECS: Final[tuple[Codec, ...]] = ("g711-alaw", "g711-mulaw", "g722", "g726", "gsm-fr", "amr-nb", "opus")
"""The codecs of telephony: each packet holds 20 ms and can be lost by itself. The others are streams."""

CONCEALING_CODECS: Final[tuple[Codec, ...]] = ("amr-nb", "opus")
"""Those whose decoder conceals lost packets itself (3GPP TS 26.091; RFC 6716, section 4.4)."""


def nearest_bitrate_kbps(codec: Codec, wanted_kbps: float) -> float:
    """The codec's bit rate nearest to the wanted one; the lower of two that are as near."""
    return min(BITRATES_KBPS[codec], key=lambda rate: (abs(rate - wanted_kbps), rate))


def known_bitrates(codec: Codec) -> str:
    """The codec's bit rates in words."""
    rates = BITRATES_KBPS[codec]
    if len(rates) < 20:
        return ", ".join(f"{rate:g}" for rate in rates)
    return f"{rates[0]:g} to {rates[-1]:g} in whole numbers"


def check_bitrates(codecs: tuple[Codec, ...], bitrate_kbps: Draw) -> None:
    """Check that every bit rate that can be drawn is in the range of every codec that can be drawn.

    Raises:
        ValueError: If one is not; the message names the rates of the codec.
    """
    for codec in codecs:
        for rate in bitrate_kbps.numbers():
            if not BITRATES_KBPS[codec][0] <= rate <= BITRATES_KBPS[codec][-1]:
                raise ValueError(
                    f"bitrate_kbps: {codec} has no bit rate of {rate:g} kbit/s; it has {known_bitrates(codec)}"
                    + ("; give codecs of other rates steps of their own under choose" if len(codecs) > 1 else "")
                )


ALWAYS_LOST, NEVER_LOST = 100.0, 0.0  # percent


class PacketLoss(Record):
    """Packets of 20 ms lost on the way from coder to decoder, in ranges.

    Without `burst_packets` packets are lost independently. With it, loss follows the chain of Gilbert (1960) and Elliott (1963): a
    good and a bad state, each with its own share of lost packets; the bad one lasts `burst_packets` on average.

    Attributes:
        percent: Packets lost, over good and bad states.
        burst_packets: Mean stay in the bad state, in packets; None for independent loss.
        bad_percent: Share lost in the bad state.
        good_percent: Share lost in the good state.
        conceal: `zeros`, `repeat` (the last packet received) or `codec` (the decoder's own), or a choice.
    """

    percent: Annotated[Draw, number_between(0.01, 100)]
    burst_packets: Annotated[Draw, number_between(1, 1000)] | None = None
    bad_percent: Annotated[float, Field(gt=0, le=100)] = ALWAYS_LOST
    good_percent: Annotated[float, Field(ge=0, lt=100)] = NEVER_LOST
    conceal: Draw = Draw.model_validate("zeros")

    @model_validator(mode="after")
    def check_chain(self) -> Self:
        """The chain can have the wanted loss, and the words are known."""
        for word in self.conceal.values:
            if word not in get_args(Concealment):
                raise ValueError(f"conceal: unknown {word!r}; known are {', '.join(get_args(Concealment))}")
        if self.burst_packets is None:
            if (self.bad_percent, self.good_percent) != (ALWAYS_LOST, NEVER_LOST):  # defaults are written out in a plan
                raise ValueError("burst_packets is missing: bad_percent and good_percent are of bursty loss")
            return self
        if not (self.good_percent <= self.percent.low and self.percent.high < self.bad_percent):
            raise ValueError(
                f"percent: {self.percent.low:g} to {self.percent.high:g} is not from good_percent {self.good_percent:g} "
                f"to below bad_percent {self.bad_percent:g}"
            )
        odds = odds_of_bad(self.percent.high, bad_percent=self.bad_percent, good_percent=self.good_percent)
        if odds > self.burst_packets.low:
            raise ValueError(
                f"burst_packets: {self.burst_packets.low:g} is too short for {self.percent.high:g} percent of loss; "
                f"it needs at least {odds:.4g}"
            )
        return self


def odds_of_bad(percent: float, *, bad_percent: float, good_percent: float) -> float:
    """Share of time in the bad state over that in the good one, at which the mean loss is `percent` (below `bad_percent`)."""
    return (percent - good_percent) / (bad_percent - percent)


def check_loss(codecs: tuple[Codec, ...], loss: PacketLoss) -> None:
    """Check that every codec that can be drawn is sent in packets, and can conceal losses itself where that is wanted.

    Raises:
        ValueError: If one is not; the message names those that are.
    """
    for codec in codecs:
        for conceal in loss.conceal.values:
            check_packets(codec, conceal)


def check_packets(codec: Codec, conceal: object) -> None:
    """Check that a codec is sent in packets, and can conceal losses itself where that is wanted.

    Raises:
        ValueError: If not; the message names the codecs that are.
    """
    if codec not in PACKET_CODECS:
        raise ValueError(f"loss: {codec} is a stream, not packets; packets are lost in {', '.join(PACKET_CODECS)}")
    if conceal == "codec" and codec not in CONCEALING_CODECS:
        raise ValueError(
            f"loss.conceal: the decoder of {codec} has no concealment ({' and '.join(CONCEALING_CODECS)} do); "
            "write zeros or repeat"
        )


assert set(CODECS) == set(BITRATES_KBPS) == set(DEFAULT_BITRATE_KBPS)
assert all(rate in BITRATES_KBPS[codec] for codec, rate in DEFAULT_BITRATE_KBPS.items())
