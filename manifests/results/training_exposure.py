"""Summary of the distortions that a model was trained on: kinds, sources, recordings and ranges of numbers.

It is `trained.json` beside a run or an export, or the key `trained` of a teacher's `card.json`. For a model without it nothing is
known; a model with no `kinds` was trained on clean speech alone.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field

from manifests.io.records import Document, Record

RecordingDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Word = Annotated[str, Field(min_length=1, max_length=400)]


class TrainedKind(Record):
    """The training steps of one kind of distortion.

    Attributes:
        count: Number of steps of this kind in the training copies.
        sources: Their noise sources or codecs; none for a kind without sources (simulated rooms).
        recordings: First 16 hex digits of the SHA-256 of every noise recording or room response that was used.
        ranges: Smallest and largest value of each number, such as `snr_db`.
    """

    count: Annotated[int, Field(ge=0)]
    sources: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    recordings: Annotated[tuple[RecordingDigest, ...], Field(strict=False)] = ()
    ranges: dict[Word, Annotated[tuple[float, float], Field(strict=False)]] = {}


class TrainedOn(Document):
    """`trained.json`.

    Attributes:
        kinds: By kind, such as `noise recorded` or `codec narrow-band`.
        chains: The kinds of each chain of steps that occurred, in order.
    """

    SCHEMA: ClassVar[str] = "stillroom/trained/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    kinds: dict[Word, TrainedKind] = {}
    chains: Annotated[tuple[Annotated[tuple[Word, ...], Field(strict=False)], ...], Field(strict=False)] = ()

    @classmethod
    def clean(cls) -> Self:
        """The summary of a model that was trained on clean speech alone."""
        return cls.model_validate({"schema": cls.SCHEMA})
