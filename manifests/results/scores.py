"""Measured numbers, each with its condition, model and data digest.

A results folder has `protocol.json` (what is measured, written first), `cells/<model>.json` (one a finished model), and
`results.json` (all of them, written last) with `report.md` beside it. Each score has its outcomes copy by copy, in the order of
`roll`, so that any grouping and any bootstrap can be computed from the file alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from manifests.io.records import CONDITION_PATTERN, Document, Name, Record, Sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

ConditionName = Annotated[str, Field(pattern=CONDITION_PATTERN)]
TaskMeasure = Literal["accuracy", "cer", "wer", "per", "eer"]
Measure = Literal[
    "accuracy", "cer", "wer", "per", "eer", "majority", "cosine", "mismatched", "cka", "agreement", "retrieval", "rank",
    "variance", "leakage", "leakage_mlp", "abx_within", "abx_across", "unit_edits", "unit_perplexity", "pnmi", "phone_purity",
]  # fmt: skip
ModelKind = Literal["teacher", "run", "export", "checkpoint", "floor"]
Category = Literal["clean", "heard", "seen", "shifted", "new", "unknown"]
CATEGORIES: dict[str, Category] = {"c": "clean", "h": "heard", "s": "seen", "f": "shifted", "n": "new", "u": "unknown"}
ABSENT = "-"
NUMBER = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{0,18})?(e[-+]?[0-9]{1,2})?")
MOST_COPIES = 2**40
MOST_COLUMN_CHARACTERS = 1 << 28


class Score(Record):
    """One measured number.

    Attributes:
        measure: `accuracy` of a task's probe; `cer`, `wer`, `per` and `eer`, its error rates (smaller is better); `majority`,
            the accuracy of always answering the commonest label, of a task or (without a task) of the domain probe;
            `cosine` between frames of a clean utterance and of its distorted copy; `mismatched`, the same against a copy of
            another utterance; `cka` between clean and distorted frames; `agreement`, the CKA of distorted frames with the
            teacher's clean ones; `retrieval` of the clean frame among many of the same speaker; `rank`, how many dimensions
            the features really use; `variance`, the share of the features' energy that varies; `leakage` and `leakage_mlp`,
            the accuracy of a linear domain probe and of a small network; `abx_within` and `abx_across`, the error of phone ABX with clean A and B and X of this
            condition, within and across speakers (smaller is better); `unit_edits`, the unit edit distance of clean and distorted (smaller is better);
            `unit_perplexity`, how many units are really used; `pnmi` and `phone_purity` of units.
        value: Shares, error rates and cosines from 0 to 1; `rank` in dimensions; `unit_perplexity` in units.
        condition: `clean`, or a condition of the corpus; None if it does not apply.
        task: `label` or `label within field`; None if it does not apply.
        layer: Transformer layer, from 1; None for the features of a task.
        count: Number of utterances (frames for measures of frames, copies for `leakage` and `unit_edits`, trials for `eer`, triples for ABX) that it was measured on.
        probe: Number of the probe, from 0; None if there is none.
    """

    measure: Measure
    value: float
    condition: ConditionName | None = None
    task: str | None = None
    layer: Annotated[int, Field(ge=1, le=1024)] | None = None
    count: Annotated[int, Field(ge=0)]
    probe: Annotated[int, Field(ge=0)] | None = None


class Outcomes(Record):
    """Outcomes of one probe, copy by copy; sums over any group of copies give its score there.

    Attributes:
        counts: One number a copy of `roll`, separated by spaces: what `measure` counts (correct answers for `accuracy`, edits
            for error rates); `-` for a copy that takes no part.
        totals: Number of frames, characters, words or phones of each copy, likewise; None if each is 1.
    """

    task: str
    measure: TaskMeasure
    probe: Annotated[int, Field(ge=0)]
    counts: str
    totals: str | None = None


class Trials(Record):
    """Verification trials of one task: an enrolled clean utterance and a tested copy each.

    Attributes:
        copies: Number in `roll` of the tested copy of each trial.
        enrolled: Number in `roll` of the clean utterance that it is compared with.
        same: One letter a trial, `1` if both are of one speaker.
        scores: Similarity of each trial, a column a probe.
    """

    task: str
    copies: str
    enrolled: str
    same: str
    scores: Annotated[tuple[str, ...], Field(strict=False)]


class Efficiency(Record):
    """Cost of running a model on one thread of the machine that is named in the results.

    Attributes:
        macs_per_s: Multiply-accumulate operations for a second of audio.
        real_time_factor: Seconds of work for a second of audio (smaller is faster).
        peak_mb: Peak memory in 10**6 bytes, in results of before it was dropped.
        size_mb: Of the parameters as float32, or of the file of an export to ONNX, in 10**6 bytes.
        measured_s: Length of the stretch of audio.
    """

    macs_per_s: float
    real_time_factor: float
    peak_mb: float | None = None
    size_mb: float
    measured_s: float


class ModelFacts(Record):
    """The evaluated model: its origin, and how it was trained.

    Attributes:
        kind: A teacher, the student of a run, an export, a checkpoint of another toolkit, or the log-mel baseline (`floor`).
        origin: The teacher's name, or the name of the run folder and its checkpoint.
        digest: SHA-256 over its parameters.
        heard_known: Whether its training utterances are known; those of published teachers are not.
        details: Steps, seconds of training audio, views, adversary, from its own record.
        system: Models of one system are its seeds: their spread is the system's. A model is its own system by default.
    """

    kind: ModelKind
    origin: str
    digest: Sha256
    parameters: Annotated[int, Field(ge=0)]
    layers: Annotated[int, Field(ge=1)]
    heard_known: bool
    details: dict[str, Any] = {}
    system: Name | None = None


class ModelScores(Document):
    """`cells/<model>.json`: the scores of one model; a model that has it is not measured again.

    Attributes:
        protocol_sha256: Digest of the protocol it was measured by, models left out.
        data_sha256: Digest of the data it was measured on.
        notes: Remarks on the numbers: utterances left out, probes that did not converge.
        chosen: Inverse regularisation strength or learning rate of each probe of a task, chosen on clean dev.
        chosen_is: Which of the two, by task.
        cost: Wall seconds of features and of probes, seconds of audio.
        outcomes: Of every probe, copy by copy.
        trials: Of speaker verification.
        seen: One letter for each copy of `roll` (`CATEGORIES`): its category for this model.
        seen_by_teacher: The same for the teacher that this model was distilled from; for itself, if it is a teacher.
        trained: Summary of its training distortions without recordings; None if it is not known.
        efficiency: Cost of running it.
    """

    SCHEMA: ClassVar[str] = "stillroom/cell/2"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    model: Name
    protocol_sha256: Sha256
    data_sha256: Sha256
    facts: ModelFacts
    scores: Annotated[tuple[Score, ...], Field(strict=False)]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    chosen: dict[str, Annotated[tuple[float, ...], Field(strict=False)]] = {}
    chosen_is: dict[str, Literal["C", "learning rate"]] = {}
    cost: dict[str, float]
    outcomes: Annotated[tuple[Outcomes, ...], Field(strict=False)] = ()
    trials: Annotated[tuple[Trials, ...], Field(strict=False)] = ()
    seen: str | None = None
    seen_by_teacher: str | None = None
    trained: dict[str, Any] | None = None
    efficiency: Efficiency | None = None


class CopyTable(Record):
    """Every copy that is tested, in one order; columns are numbers separated by spaces.

    Attributes:
        speakers: Speakers (the utterance itself for one without a speaker).
        conditions: `clean` first.
        utterance: Number of the utterance of each copy.
        speaker: Number in `speakers` of each copy.
        condition: Number in `conditions` of each copy.
        snr_db: SNR of the loudest noise that was added, `-` if there is none.
    """

    speakers: Annotated[tuple[str, ...], Field(strict=False)]
    conditions: Annotated[tuple[ConditionName, ...], Field(strict=False)]
    utterance: str
    speaker: str
    condition: str
    snr_db: str


class Protocol(Document):
    """`protocol.json`: the settings of an evaluation without paths; another protocol may not use the same folder.

    Attributes:
        corpus: Name of the corpus.
        data_sha256: Digest over the shards of the splits that are read.
        conditions: Conditions of the test split, in the order of the tables.
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

    @field_validator("settings")
    @classmethod
    def check_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings that a report reads have their types."""
        splits = settings.get("splits", {})
        if not isinstance(splits, dict) or not all(isinstance(name, str | None) for name in splits.values()):
            raise ValueError("splits: expected names by role")
        for key in ("seed", "limit", "probes"):
            if not isinstance(settings.get(key), int | None):
                raise ValueError(f"{key}: expected a whole number")  # noqa: TRY004 (pydantic's way)
        for key in ("tasks", "measures"):
            if not isinstance(settings.get(key, []), list | tuple):
                raise ValueError(f"{key}: expected a list")  # noqa: TRY004 (pydantic's way)
        return settings


def whole_numbers(column: str, *, below: int, what: str) -> list[int]:
    """The whole numbers of a column.

    Raises:
        ValueError: If one is not a whole number, or is too large.
    """
    if len(column) > MOST_COLUMN_CHARACTERS:
        raise ValueError(f"{what}: a column of {len(column)} characters")
    words = column.split()
    if any(not (word.isascii() and word.isdigit() and len(word) < 16 and int(word) < below) for word in words):
        raise ValueError(f"{what}: expected whole numbers below {below}, separated by spaces")
    return [int(word) for word in words]


def check_numbers(column: str, *, length: int, what: str) -> None:
    """Check that a column has as many numbers, or `-`.

    Raises:
        ValueError: If not.
    """
    words = column.split()
    if len(words) != length:
        raise ValueError(f"{what}: expected {length} numbers, got {len(words)}")
    if any(word != ABSENT and not NUMBER.fullmatch(word) for word in words):
        raise ValueError(f"{what}: expected numbers or {ABSENT}, separated by spaces")


def check_score_columns(cell: ModelScores, *, copies: int) -> None:
    """Check that columns of a model have one entry for each copy of `roll`.

    Raises:
        ValueError: If not.
    """
    for one in cell.outcomes:
        check_numbers(one.counts, length=copies, what=f"{cell.model}: counts")
        if one.totals is not None:
            check_numbers(one.totals, length=copies, what=f"{cell.model}: totals")
    for letters in (cell.seen, cell.seen_by_teacher):
        if letters is not None and (len(letters) != copies or set(letters) - set(CATEGORIES)):
            raise ValueError(f"{cell.model}: seen: expected one of the letters {''.join(CATEGORIES)} for each copy")
    for trials in cell.trials:
        tested = whole_numbers(trials.copies, below=copies, what=f"{cell.model}: copies")
        enrolled = whole_numbers(trials.enrolled, below=copies, what=f"{cell.model}: enrolled")
        if not len(tested) == len(enrolled) == len(trials.same) or set(trials.same) - {"0", "1"}:
            raise ValueError(f"{cell.model}: trials: columns of different lengths")
        for scores in trials.scores:
            check_numbers(scores, length=len(tested), what=f"{cell.model}: scores of trials")


class Results(Document):
    """`results.json`: everything that one `evaluate` measured.

    Attributes:
        roll: The copies, in the order of the columns of outcomes.
        command: The command line, absolute paths cut to their last name.
    """

    SCHEMA: ClassVar[str] = "stillroom/results/2"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    protocol: Protocol
    cells: Annotated[tuple[ModelScores, ...], Field(strict=False)]
    software: dict[str, str]
    machine: dict[str, str]
    roll: CopyTable | None = None
    command: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def check_columns(self) -> Self:
        """Every column has an entry for each copy of `roll`, some of which are clean."""
        if self.roll is None:
            return self
        roll = self.roll
        utterances = whole_numbers(roll.utterance, below=MOST_COPIES, what="roll: utterance")
        copies = len(utterances)
        for column, names in ((roll.speaker, roll.speakers), (roll.condition, roll.conditions)):
            if len(whole_numbers(column, below=len(names), what="roll")) != copies:
                raise ValueError("roll: columns of different lengths")
        if 0 not in whole_numbers(roll.condition, below=len(roll.conditions), what="roll"):
            raise ValueError("roll: condition: expected copies of number 0, clean speech")
        check_numbers(roll.snr_db, length=copies, what="roll: snr_db")
        for cell in self.cells:
            check_score_columns(cell, copies=copies)
        return self


def joined(values: Iterable[float | None], *, decimals: int = 4) -> str:
    """Numbers as one column; None is `-`, whole numbers have no point, others at most `decimals`."""
    return " ".join(
        ABSENT if value is None else f"{round(value, decimals):.{decimals + 2}g}" if value % 1 else str(int(value))
        for value in values
    )


def separated(column: str) -> list[float | None]:
    """The numbers of a column.

    Raises:
        ValueError: If one is not a number.
    """
    return [None if word == ABSENT else float(word) for word in column.split()]
