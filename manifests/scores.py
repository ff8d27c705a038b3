"""One measured number, with its condition, model and data digest."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from manifests.records import Document, Record


class Score(Record):
    """A number that was measured.

    Attributes:
        measure: What: `accuracy`, `cosine`, `leakage`, `majority`, `parameters`.
        model: Name in the evaluation config.
        condition: `clean`, or a condition of the corpus; None where it does not apply.
        task: Label that was classified; None where it does not apply.
        layer: Transformer layer, from 1; None for the features of a task or for the whole model.
        value: In the measure's own unit; shares run from 0 to 1.
        count: How many utterances (or frames, for frame measures) it was measured on.
        seed: Of the probe.
    """

    measure: Literal["accuracy", "cosine", "leakage", "majority", "parameters"]
    model: str
    value: float
    condition: str | None = None
    task: str | None = None
    layer: int | None = None
    count: int | None = None
    seed: int | None = None


class ModelFacts(Record):
    """What was measured: where a model came from, and how it was made.

    Attributes:
        digest: SHA-256 over its parameters.
        origin: The teacher's name or the run's folder name.
        details: Steps, seconds heard, views, adversary, as its own record has them.
    """

    digest: str
    origin: str
    parameters: int
    details: dict[str, Any] = {}


class Results(Document):
    """`results.json`: everything one `evaluate` measured.

    Attributes:
        data: Digest of the corpus, by its name.
        protocol: The config as resolved, paths left out.
        cost: Wall seconds and the machine, in plain words.
    """

    SCHEMA: ClassVar[str] = "stillroom/results/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    corpus: str
    data_sha256: str
    conditions: Annotated[tuple[str, ...], Field(strict=False)]
    protocol: dict[str, Any]
    models: dict[str, ModelFacts]
    scores: Annotated[tuple[Score, ...], Field(strict=False)]
    software: dict[str, str]
    cost: dict[str, Any]
