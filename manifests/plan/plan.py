"""The rows of a plan, one an utterance with every parameter a number, and the index of a plan.

A plan folder (and a corpus, which holds one) has

```
plan/plan.json              the index of the plan, written last: the mark of a finished plan
plan/<split>-000000.jsonl   one file a shard, one row an utterance
plan/rooms.jsonl            geometry and final absorption of every room, or the files of recorded responses, never audio
plan/levels.jsonl           each noise file: length, digest, power per 100 ms
plan/spectra.jsonl          long-term spectrum of a split's speech, where speech-shaped noise is made for it
roots.local.json            root name -> folder on this machine; never packed
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from manifests.errors import BadDocumentError, printable
from manifests.io.json_yaml import safe_relative
from manifests.io.records import Document, Name, Rate, Record, Samples, Sha256
from manifests.plan.steps import FileSpan, PlannedCopy
from manifests.recipe.speech import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSED_OVER = "files that are not read, by their suffix: "
"""Begins the reasons for which files of no audio suffix are counted in `Plan.filtered`; the suffix follows."""


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


class NoiseLevels(Record):
    """One noise file: length, digest and levels.

    Attributes:
        num_samples: Length at the corpus rate.
        splits: Splits that may use it.
        mean: Mean of its samples (DC), full scale at 1, rounded to 1e-6; None in plans of version 1.
        power_db: Mean power of each full 100 ms without their mean in dBFS, rounded to 0.1; -200 stands for silence. In plans of version 1
            with the mean.
    """

    source: Name
    root: Name
    path: str
    splits: Annotated[tuple[Name, ...], Field(strict=False)]
    num_samples: Samples
    rate_hz: int
    channel: Channel | None = None
    sha256: Sha256
    mean: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None
    power_db: Annotated[tuple[float, ...], Field(strict=False)]

    @field_validator("path")
    @classmethod
    def check_path(cls, path: str) -> str:
        """An untrusted path stays below its root."""
        return safe_relative(path, where="path")


class SpeechSpectrum(Record):
    """Long-term average spectrum of one split's speech.

    Attributes:
        utterances: Number of utterances that it was measured on.
        power_db: Power at equally spaced frequencies from 0 Hz to half the rate, relative to the strongest, to 0.01 dB.
    """

    split: Name
    rate_hz: int
    utterances: Annotated[int, Field(ge=1)]
    power_db: Annotated[
        tuple[Annotated[float, Field(ge=-200, le=0)], ...], Field(min_length=2, max_length=65_536, strict=False)
    ]


class PlanFile(Record):
    """One plan file; one shard is rendered from it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*-[0-9]{6}$")]
    split: Name
    rows: Annotated[int, Field(ge=0)]
    seconds: float
    sha256: Sha256


class Refusal(Record):
    """An utterance or file that was left out, and the reason, which follows from the input alone."""

    split: str
    id: str
    reason: str


class OlderPlanError(BadDocumentError):
    """A plan of an earlier version can be looked at, not rendered: its numbers mean something else now."""

    def __init__(self, where: object, *, found: str) -> None:
        super().__init__(
            where,
            f"its plan is {printable(found)!r}, whose SNRs and levels counted a mean (DC) as signal, and this Stillroom renders "
            f"{Plan.SCHEMA!r}: plan again from its recipe, or use the Stillroom that made it",
        )


class Plan(Document):
    """The index of a plan.

    Attributes:
        recipe_sha256: Digest of the recipe with its paths replaced by root names.
        levels_sha256: Digest of `levels.jsonl`.
        rooms_sha256: Digest of `rooms.jsonl`.
        spectra_sha256: Digest of `spectra.jsonl`, if there is one.
        filtered: How many utterances of each split were left out, by reason, and how many files are not audio by their suffix.
        refused: Utterances and files refused at planning, with the reason.
        cut_through: How many supervisions of each split reach beyond their cuts; their text says more than the audio.
        limit: `--limit`, if one was given.
    """

    SCHEMA: ClassVar[str] = "stillroom/plan/2"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: Name
    recipe_sha256: Sha256
    sample_rate: Rate
    files: Annotated[tuple[PlanFile, ...], Field(strict=False)]
    levels_sha256: Sha256
    rooms_sha256: Sha256
    spectra_sha256: Sha256 | None = None
    filtered: dict[str, dict[str, int]] = {}
    refused: Annotated[tuple[Refusal, ...], Field(strict=False)] = ()
    cut_through: dict[str, int] = {}
    limit: int | None = None

    def check_current(self, *, where: object) -> None:
        """Check that this Stillroom renders the plan as it was meant.

        Raises:
            OlderPlanError: If it was made by an earlier one, whose powers counted DC as signal.
        """
        if self.schema_ != self.SCHEMA:
            raise OlderPlanError(where, found=self.schema_)


class LocalRoots(Document):
    """The folders of the roots on this machine; never packed, never part of a digest."""

    SCHEMA: ClassVar[str] = "stillroom/roots/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    roots: dict[Name, str]

    @field_validator("roots")
    @classmethod
    def check_folders(cls, roots: dict[str, str]) -> dict[str, str]:
        """No path of any system holds a NUL, and system calls fail on it."""
        if any("\0" in folder for folder in roots.values()):
            raise ValueError("holds a NUL character, which no path has")
        return roots


def passed_over_lines(filtered: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for each source and suffix of files that are not read because they have no audio suffix."""
    return [
        f"{printable(source)}: {count} files that end in {printable(suffix)} are not read"
        for source, counts in filtered.items()
        for reason, count in counts.items()
        for suffix in (reason.removeprefix(PASSED_OVER),)
        if suffix != reason
    ]


def left_out_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """What the recipe's own rules leave out of one source, by reason."""
    return {reason: count for reason, count in counts.items() if not reason.startswith(PASSED_OVER)}


Plan.model_rebuild()
