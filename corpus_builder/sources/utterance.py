"""An utterance as its source describes it, before anything is drawn or decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from manifests.recipe.speech import Channel

LONGEST_ID = 4096


class NoAudioError(StillroomError, ValueError):
    """A source has nothing that can be used."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{printable(where)}: {what}")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance, or one noise file.

    Attributes:
        path: Relative to its root where `base` is None; else absolute or relative to `base`, until the root is known.
        start_s: Where it begins in the file.
        num_frames: Its length at the file's own rate.
        channel: Which channel, or `mix` for the mean of all; None of a mono file.
    """

    id: str
    path: str
    start_s: float
    num_frames: int
    rate_hz: int
    channel: Channel | None = None
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
    """What a recipe's own rules leave out, or what is no audio by its name; it is counted, not refused."""

    reason: str
    count: int = 1


Found = Utterance | Refused | LeftOut

LONGEST_S = 120.0  # with the waves of one copy a worker stays below 700 MB, up to 48 kHz
MOST_FRAMES = 28_800_000  # two minutes at 240 kHz, as the file holds it


def too_long(utterance: Utterance, *, in_manifest: bool) -> str | None:
    """Why an utterance is too long to be rendered within a worker's memory, and what to do; None if it is not.

    Args:
        utterance: As its source describes it.
        in_manifest: Whether it comes from a lhotse manifest, which lhotse can cut.
    """
    most_s = min(LONGEST_S, MOST_FRAMES / utterance.rate_hz)
    if utterance.seconds <= most_s:
        return None
    cut = f"cut the manifest with lhotse's cut_into_windows({most_s:g})" if in_manifest else "cut it into utterances"
    return (
        f"lasts {utterance.seconds:g} s; utterances of up to {most_s:g} s are rendered: {cut}, or leave longer ones out with "
        f"max_s: {most_s:g}"
    )


class UnfitTextError(StillroomError, ValueError):
    """An id or a text that cannot be written as UTF-8, or an id that is empty or too long."""


def check_text(name: str, *texts: str) -> None:
    """Check that an id is neither empty nor too long, and that all text can be written as UTF-8.

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
