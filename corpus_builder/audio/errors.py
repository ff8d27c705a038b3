"""Errors of reading audio: one class for each reason why a file cannot be used."""

from __future__ import annotations

import math

from manifests.errors import StillroomError, printable


class UnfitAudioError(StillroomError, ValueError):
    """An audio file that cannot be used, for a reason that follows from the file alone; becomes a line in `refused.jsonl`."""


class MissingAudioError(UnfitAudioError):
    """The file is not there."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} does not exist below its root")


class UnreadableAudioError(UnfitAudioError):
    """No decoder can read the file."""

    def __init__(self, name: object, problem: object) -> None:
        super().__init__(f"{printable(name)} cannot be decoded: {printable(problem, limit=120)}")


class EmptyAudioError(UnfitAudioError):
    """The file, or the requested stretch of it, has no samples."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} has no samples")


class TruncatedAudioError(UnfitAudioError):
    """The file ends before its header or its manifest says, or within a frame or a page (`promised` is None)."""

    def __init__(self, name: object, *, found: int, promised: int | None) -> None:
        what = "within a frame or a page" if promised is None else f"where {promised} are promised"
        super().__init__(f"{printable(name)} ends after {found} samples {what}: it was cut off")


class NotFiniteAudioError(UnfitAudioError):
    """The file holds NaN or infinity."""

    def __init__(self, name: object) -> None:
        super().__init__(f"{printable(name)} holds NaN or infinite samples")


class SilentAudioError(UnfitAudioError):
    """The file, or the requested stretch of it, is silent but for a constant; a level of minus infinity is digital silence."""

    def __init__(self, name: object, *, level_dbfs: float, least_dbfs: float) -> None:
        found = f"{level_dbfs:.0f} dBFS without its mean (DC), {least_dbfs:g} dBFS at least are needed"
        if level_dbfs == -math.inf:
            found = "digital silence: every sample is zero, or all are the same"
        super().__init__(f"{printable(name)} is {'' if level_dbfs == -math.inf else 'silent: '}{found}")


class ChannelError(UnfitAudioError):
    """The channel is ambiguous, or does not exist."""

    def __init__(self, name: object, what: str) -> None:
        super().__init__(f"{printable(name)} {what}")


class OddRateError(UnfitAudioError):
    """A sample rate that no speech file has, or not the one its manifest says."""

    def __init__(self, name: object, what: str) -> None:
        super().__init__(f"{printable(name)} {what}")
