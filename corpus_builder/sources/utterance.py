"""An utterance as a source tells of it, before anything is drawn or decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from manifests.errors import StillroomError, printable

LONGEST_ID = 4096


class NoAudioError(StillroomError, ValueError):
    """A source has nothing that could be used."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{printable(where)}: {what}")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance, or one noise file.

    Attributes:
        path: Relative to its root where `base` is None; else absolute or relative to `base`, until the root is known.
        start_s: Where it begins in the file.
        num_frames: Its length at the file's own rate.
        channel: Which channel; None of a mono file.
    """

    id: str
    path: str
    start_s: float
    num_frames: int
    rate_hz: int
    channel: int | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    custom: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_frames / self.rate_hz


@dataclass(frozen=True, slots=True)
class Refused:
    """What cannot be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a recipe's own rules leave out: counted, not refused."""

    reason: str


Found = Utterance | Refused | LeftOut

MOST_SAMPLES = 9_600_000  # ten minutes at 16 kHz: with the waves of one copy a worker stays below 700 MB
LONG_UTTERANCE_SAMPLES = 1 << 21  # rendering one takes the memory that is else kept for noises
MOST_FRAMES = 28_800_000  # ten minutes at 48 kHz, as the file holds it


def too_long(utterance: Utterance, *, rate_hz: int) -> str | None:
    """Why an utterance is too long to be rendered within a worker's memory, and what to do; None if it is not."""
    most_s = min(MOST_SAMPLES / rate_hz, MOST_FRAMES / utterance.rate_hz)
    if utterance.seconds <= most_s:
        return None
    return (
        f"lasts {utterance.seconds:.0f} s; a worker renders up to {most_s:.0f} s at these rates in 700 MB: cut it into "
        f"utterances, or leave such out with max_s: {most_s:.0f}"
    )


class UnfitTextError(StillroomError, ValueError):
    """An id or a text that cannot be written down."""


def check_text(name: str, *texts: str) -> None:
    """An id is not empty nor endless, and all text can be written as UTF-8.

    Raises:
        UnfitTextError: If not.
    """
    if not name or len(name) > LONGEST_ID:
        raise UnfitTextError(f"its id has {len(name)} characters; 1 to {LONGEST_ID} are allowed")
    for text in (name, *texts):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UnfitTextError(f"{printable(text)!r} is not valid Unicode text") from None
