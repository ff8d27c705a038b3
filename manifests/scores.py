"""Measured numbers, each with its condition, model and data digest.

A results folder holds `protocol.json` (what was asked, written first), `cells/<model>.json` (one a finished model), and
`results.json` (all of them, written last) with `report.md` beside it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from manifests.records import CONDITION_PATTERN, Document, Name, Record, Sha256

ConditionName = Annotated[str, Field(pattern=CONDITION_PATTERN)]
Measure = Literal["accuracy", "majority", "cosine", "mismatched", "leakage"]


class Score(Record):
    """A number that was measured.

    Attributes:
        measure: `accuracy` of a task's probe; `majority`, the accuracy of always answering the commonest label, of a task
            or (without a task) of the domain probe; `cosine` between frames of a clean utterance and of its distorted copy;
            `mismatched`, the same against a copy of another utterance; `leakage`, the accuracy of the domain probe.
        value: Shares and cosines as they are: 1 is all.
        condition: `clean`, or a condition of the corpus; None where it does not apply.
        task: `label` or `label within field`; None where it does not apply.
        layer: Transformer layer, from 1; None for the features of a task.
        count: How many utterances (frames for `cosine` and `mismatched`, copies for `leakage`) it was measured on.
        probe: Number of the probe, from 0; None where there is none.
    """

    measure: Measure
    value: float
    condition: ConditionName | None = None
    task: str | None = None
    layer: Annotated[int, Field(ge=1, le=1024)] | None = None
    count: Annotated[int, Field(ge=0)]
    probe: Annotated[int, Field(ge=0)] | None = None


class ModelFacts(Record):
    """What was measured: where a model came from, and how it was made.

    Attributes:
        kind: A teacher, or the student of a run.
        origin: The teacher's name, or the run folder's name and which of its checkpoints.
        digest: SHA-256 over its parameters.
        heard_known: Whether it says which utterances it was trained on; the published teachers do not.
        details: Steps, seconds heard, views, adversary, as its own record has them.
    """

    kind: Literal["teacher", "run"]
    origin: str
    digest: Sha256
    parameters: Annotated[int, Field(ge=0)]
    layers: Annotated[int, Field(ge=1)]
    heard_known: bool
    details: dict[str, Any] = {}


class Cell(Document):
    """`cells/<model>.json`: one model measured; the mark that it need not be measured again.

    Attributes:
        protocol_sha256: Digest of the protocol it was measured by, models left out.
        data_sha256: Digest of the data it was measured on.
        notes: What a reader of the numbers must know: utterances left out, probes that did not converge.
        chosen: Inverse regularisation strength that each probe chose, by task.
        cost: Wall seconds of features and of probes, seconds of audio.
    """

    SCHEMA: ClassVar[str] = "stillroom/cell/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    model: Name
    protocol_sha256: Sha256
    data_sha256: Sha256
    facts: ModelFacts
    scores: Annotated[tuple[Score, ...], Field(strict=False)]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    chosen: dict[str, Annotated[tuple[float, ...], Field(strict=False)]] = {}
    cost: dict[str, float]


class Protocol(Document):
    """`protocol.json`: what was asked, paths left out; another protocol may not use the same folder.

    Attributes:
        corpus: The corpus by its name.
        data_sha256: Digest over the shards of the splits that are read.
        conditions: Of the test split, in the order of the tables.
        settings: Splits by their role, tasks, measures, seed, limit, number of probes.
        models: Each model's kind and origin, by its name in the tables.
    """

    SCHEMA: ClassVar[str] = "stillroom/protocol/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    corpus: str
    data_sha256: Sha256
    conditions: Annotated[tuple[ConditionName, ...], Field(strict=False)]
    settings: dict[str, Any]
    models: dict[Name, str]


class Results(Document):
    """`results.json`: everything one `evaluate` measured."""

    SCHEMA: ClassVar[str] = "stillroom/results/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    protocol: Protocol
    cells: Annotated[tuple[Cell, ...], Field(strict=False)]
    software: dict[str, str]
    machine: dict[str, str]
