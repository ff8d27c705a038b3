"""Reports of commands as JSON: `rebuilt.json`, `stillroom.json` of unpack, `status.json` of a run, and what `--json` prints of verify, diff and audit."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from manifests.io.records import Document, Name, Rate, Record, Sha256

Count = Annotated[int, Field(ge=0)]
State = Literal["running", "preempted", "failed", "done"]


class Verdicts(Record):
    """Verdicts on waves, compared with those of a pack.

    Attributes:
        near: Within the tolerances of `docs/fingerprint.md`.
    """

    identical: Count
    near: Count
    different: Count


class ConditionVerdicts(Verdicts):
    """Verdicts on the waves of one condition and codec, or chain of codecs.

    Attributes:
        decoder_differs: Waves of a source file with the same bytes that was decoded to another PCM.
    """

    condition: str
    codec: str | None = None
    decoder_differs: Count


class RebuiltReport(Verdicts, Document):
    """`rebuilt.json` of a corpus that was rebuilt from a pack."""

    SCHEMA: ClassVar[str] = "stillroom/rebuilt/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    pack_sha256: Sha256
    decoder_differs: Count
    by_condition: list[ConditionVerdicts]


class PartCounts(Record):
    """Number of equal and of different items of one part."""

    same: Count
    different: Count


class DiffReport(Document):
    """The summary of `diff --json`; each difference is a line of its own after it.

    Attributes:
        a: Description of the first.
        pcm: None if one is a plan, which has no waves.
    """

    SCHEMA: ClassVar[str] = "stillroom/diff/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    a: str
    b: str
    recipe: PartCounts
    sources: PartCounts
    utterances: PartCounts
    conditions: PartCounts
    parameters: PartCounts
    pcm: Verdicts | None


class DiffWhole(DiffReport):
    """The summary with its differences, as in `verify --against --json`."""

    differences: list[dict[str, Any]]


class Finding(Record):
    """A fault that was found, and where."""

    where: str
    what: str


class LagReport(Record):
    """Lags behind the clean wave, in samples; `largest` is that with the largest magnitude."""

    measured: Count
    largest: int


class SnrReport(Record):
    """MeasureName minus planned SNR in dB, by subtraction; it cannot be measured for `by_plan` copies."""

    measured: Count
    by_plan: Count
    largest: float


class LevelReport(Record):
    """Levels in dBFS."""

    mean: float
    lowest: float
    highest: float


class PhysicsReport(Record):
    """Measurements of the copies of a condition."""

    copies: Count
    lag_samples: LagReport
    snr_error_db: SnrReport
    level_dbfs: LevelReport


class VerifyReport(Document):
    """`verify --json`.

    Attributes:
        physics: By condition, at level physics.
        against: With `--against`.
    """

    SCHEMA: ClassVar[str] = "stillroom/verify/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    level: Literal["bytes", "pcm", "physics"]
    files: Count
    samples: Count
    waves: Count
    findings: list[Finding]
    physics: dict[str, PhysicsReport] | None = None
    against: DiffWhole | None = None


Kind = Literal["utterance", "speaker", "recording", "noise", "room"]
How = Literal["file", "pcm", "path", "label", "geometry", "response", "sound"]
Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class LeakReport(Record):
    """Items of one kind that two splits share, found in one way.

    Attributes:
        between: Letter of the corpus and name of the split, of both.
        heard: Number of those that are in utterances of both; the others were only assigned to both.
        examples: Name of an item in each of the two.
    """

    kind: Kind
    how: How
    between: Annotated[list[Pair], Field(min_length=2, max_length=2)]
    count: Count
    heard: Count
    examples: list[Pair]


class NotChecked(Record):
    """Items that an audit could not check: number, and number of all."""

    kind: Kind
    corpus: str
    split: str | None
    count: Count
    of: Count
    why: str


class AuditReport(Document):
    """`audit --json`.

    Attributes:
        corpora: Description of each, by its letter.
        checked: Number of different items of each kind that were compared.
        declared: What recipes share between splits on purpose.
    """

    SCHEMA: ClassVar[str] = "stillroom/audit/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    answer: Literal["leaks", "no match found"]
    corpora: dict[str, str]
    checked: dict[Kind, Count]
    leaks: list[LeakReport]
    declared: list[str]
    not_checked: list[NotChecked]


class UnpackedCard(Document):
    """`stillroom.json` in an unpacked folder: the corpus it was made from."""

    SCHEMA: ClassVar[str] = "stillroom/unpacked/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    corpus: Name
    corpus_sha256: Sha256
    condition: str
    splits: list[str]
    sample_rate: Rate


class RunStatus(Document):
    """`status.json` of a run; the same command resumes a `preempted` one.

    Attributes:
        problem: The error that ended it, in a line, if the state is `failed`.
    """

    SCHEMA: ClassVar[str] = "stillroom/status/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    state: State
    step: Count
    steps: Count
    problem: str | None = None


def reported(kind: type[Document], report: dict[str, Any]) -> dict[str, Any]:
    """Check a report against its schema, and give it back.

    Raises:
        BadDocumentError: If it breaks its schema, which is an error in Stillroom.
    """
    kind.parse(report, where=kind.SCHEMA)
    return report
