"""The config of an evaluation: corpus, models, splits, tasks, measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from evaluation.config_paths import with_paths
from manifests.errors import BadDocumentError
from manifests.io.digest import bytes_digest
from manifests.io.json_yaml import read_bytes, read_yaml
from manifests.io.place import local_path
from manifests.io.records import Name, Record
from training.config.load import merged, named_overrides, override_of

MAX_PROBES = 10
MAX_LAYER = 1024
Label = Annotated[str, Field(min_length=1, max_length=200)]
LayerNumber = Annotated[int, Field(ge=1, le=MAX_LAYER)]


class LayerFeatures(Record):
    """One transformer layer, as a probe reads it.

    Attributes:
        layer: Its number, from 1.
    """

    layer: LayerNumber

    def __str__(self) -> str:
        """As the name of a task has it."""
        return f"layer {self.layer}"


def features_form(data: Any) -> str:
    """Whether features are a name or a layer, so that an error message is about that form alone."""
    return "-layer" if isinstance(data, dict | LayerFeatures) else "-name"


def no_bare_number(data: Any) -> Any:
    """Refuse the number of a layer without the key that says so."""
    if isinstance(data, bool) or data not in range(1, MAX_LAYER + 1):
        return data
    raise ValueError(f"one layer alone is written {{layer: {data:.0f}}}")


Features = Literal["last", "sum", "sum+heads"] | LayerFeatures
AnyFeatures = Annotated[
    Annotated[Literal["last", "sum", "sum+heads"], Tag("-name")] | Annotated[LayerFeatures, Tag("-layer")],
    Discriminator(features_form),
    BeforeValidator(no_bare_number),
]
MeasureName = Literal["cosine", "cka", "agreement", "leakage", "abx", "units"]
BY_LAYERS = frozenset({"abx", "units"})  # measures that `layers` chooses the layers of


class RunSource(Record):
    """The student of a run, and which of its checkpoints.

    Attributes:
        run: Folder of the run.
        checkpoint: Its last checkpoint, or the one of lowest validation loss.
        system: Runs that differ in nothing but their seed share a system; a report gives the spread over them.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("path", "dir", "folder", "model"), "write run: FOLDER, or the folder alone in place of the mapping"
        )
    }

    run: str
    checkpoint: Literal["last", "best"] = "last"
    system: Name | None = None


class Splits(Record):
    """Which split of the corpus has which role.

    Attributes:
        train: Standardisation is fitted and probes are trained on its clean utterances, the domain probe on its copies too.
        dev: Regularisation is chosen on its clean utterances. By default the split named dev, if there is one; without it
            each probe chooses on the tenth of train that it holds back.
        test: What is reported.
    """

    train: Name = "train"
    dev: Name | None = None
    test: Name = "test"

    @model_validator(mode="after")
    def check_distinct(self) -> Self:
        """A probe may not be tested on what it was trained on."""
        named = [split for split in (self.train, self.dev, self.test) if split is not None]
        if len(set(named)) != len(named):
            raise ValueError(f"expected three different splits, found {', '.join(named)}")
        return self


class ProbedTask(Record):
    """Keys that every task has: a probe predicts a label from a frozen model's features.

    Attributes:
        label: `speaker`, `language`, `text`, or a custom field of the corpus.
        features: `last`, the last transformer layer; `sum`, a learned weighted sum of all layers, as s3prl's; `sum+heads`,
            with the heads' predictions in the sum, s3prl's default for distillers (a model without heads has the sum alone);
            `{layer: 4}`, that layer alone.
        probe: `clean`: trained on clean speech; `distorted`: on one distorted copy of each training utterance. It is tested on
            clean and on every condition either way.
        where: Only utterances whose field has one of these values take part.
    """

    label: Label
    features: AnyFeatures = "last"
    probe: Literal["clean", "distorted"] = "clean"
    where: dict[Label, Annotated[tuple[Label, ...], Field(strict=False, min_length=1)]] = {}

    @field_validator("where", mode="before")
    @classmethod
    def listed_values(cls, where: Any) -> Any:
        """A single value is a list of one; numbers and booleans become text."""
        if not isinstance(where, dict):
            return where
        return {
            field: [word(one) for one in (value if isinstance(value, list | tuple) else [value])]
            for field, value in where.items()
        }

    @property
    def target(self) -> str:
        """What is predicted, without features, probe and filter."""
        return self.label

    @property
    def name(self) -> str:
        """Name of the task in a table."""
        filters = ", ".join(f"{field} {' or '.join(values)}" for field, values in self.where.items())
        return (
            self.target
            + (f" where {filters}" if filters else "")
            + ("" if self.features == "last" else f" ({self.features})")
            + (" (probe trained on distorted)" if self.probe == "distorted" else "")
        )


class ClassifyTask(ProbedTask):
    """Predict the label of an utterance from its frozen features, averaged over frames.

    Attributes:
        within: One probe for each value of this field, their predictions pooled: within one recording set the channel
            does not give away who speaks.
    """

    kind: Literal["classify"]
    within: Label | None = None

    @model_validator(mode="after")
    def check_within(self) -> Self:
        """`within` is another field than the label."""
        if self.within == self.label:
            raise ValueError(f"within: {self.label!r} is the label itself; name another field, or leave it out")
        return self

    @property
    def target(self) -> str:
        """The label, and the field it is within."""
        return self.label + (f" within {self.within}" if self.within else "")


class CtcTask(ProbedTask):
    """Transcribe speech by connectionist temporal classification (CTC).

    Attributes:
        units: `characters` of the text (CER and WER), or `phones`, words of the field (PER).
        head: `linear`, or `blstm`: two bidirectional layers.
        updates: Of the probe.
        unseen: For characters that only test has: `refuse` the task, or count them as `errors`, as no probe has learned them.
    """

    kind: Literal["ctc"]
    label: Label = "text"
    units: Literal["characters", "phones"] = "characters"
    head: Literal["linear", "blstm"] = "linear"
    updates: Annotated[int, Field(ge=1, le=1_000_000)] = 1500
    unseen: Literal["refuse", "errors"] = "refuse"

    @property
    def target(self) -> str:
        """The field and its units."""
        return f"{self.units} of {self.label}" + ("" if self.head == "linear" else f" by {self.head}")


class VerifyTask(ProbedTask):
    """Decide whether two utterances are of one speaker: clean enrolment, clean or distorted test.

    Attributes:
        trials: At most so many a condition, half of them of one speaker.
    """

    kind: Literal["verify"]
    label: Label = "speaker"
    trials: Annotated[int, Field(ge=2, le=1_000_000)] = 1000

    @property
    def target(self) -> str:
        """The field that is verified."""
        return f"verify {self.label}"


class FramesTask(ProbedTask):
    """Predict the phone of every frame, where there are alignments.

    Attributes:
        label: A custom field of the corpus: a list of `[start, end, phone]`, in seconds.
        table: A CSV file with the columns `id,start,end,label` in place of the field, `id` the utterance's.
    """

    kind: Literal["frames"]
    label: Label = "phones"
    table: str | None = None

    @property
    def target(self) -> str:
        """The field that is predicted."""
        return f"frames of {self.label}"


KINDS = ("classify", "ctc", "verify", "frames")

OTHER_KINDS = {  # tasks of SUPERB and others
    **dict.fromkeys(("asr", "ASR"), "write kind: ctc, label: text"),
    **dict.fromkeys(("pr", "PR"), "write kind: ctc, label: text, units: phones"),
    **dict.fromkeys(("asv", "ASV", "sv", "speaker_verification"), "write kind: verify, label: speaker"),
    **dict.fromkeys(
        ("ks", "KS", "ic", "IC", "er", "ER", "sid", "SID", "classification"), "write kind: classify, and its label"
    ),
}


def task_kind(data: Any) -> str | None:
    """The kind of task that the keys name; None if they name none."""
    kind = data.get("kind") if isinstance(data, dict) else getattr(data, "kind", None)
    return f"-{kind}" if kind in KINDS else None


AnyTask = ClassifyTask | CtcTask | VerifyTask | FramesTask
Task = Annotated[
    Annotated[ClassifyTask, Tag("-classify")]
    | Annotated[CtcTask, Tag("-ctc")]
    | Annotated[VerifyTask, Tag("-verify")]
    | Annotated[FramesTask, Tag("-frames")],
    Discriminator(
        task_kind,
        custom_error_type="unknown_step",
        custom_error_message=f"kind: expected one of {', '.join(KINDS)}",
        custom_error_context={"known": ", ".join(KINDS), **OTHER_KINDS},
    ),
]


def word(value: Any) -> Any:
    """A scalar as the text that a corpus's field is compared with."""
    return str(value) if isinstance(value, bool | int | float) else value


def model_form(data: Any) -> str:
    """Whether a model is a name or a run, so that an error message is about that form alone."""
    return "-run" if isinstance(data, dict | RunSource) else "-name"


Model = Annotated[Annotated[str, Tag("-name")] | Annotated[RunSource, Tag("-run")], Discriminator(model_form)]


class EvaluationConfig(Record):
    """A whole evaluation; paths are relative to the file it was read from.

    Attributes:
        corpus: A sealed corpus: a folder or a URL.
        models: By the name they have in the tables: a teacher's name, a folder, a run with its checkpoint, or `logmel`, log-mel energies as a baseline.
        splits: Which split of the corpus has which role.
        tasks: What probes predict from the features.
        measures: Between clean and distorted frames, `cosine` and `cka` (linear CKA), each with a measure that collapsed features lose;
            `agreement`, the CKA of a student's frames with its teacher's clean ones; `leakage` of the domain to probes; `abx`, phone ABX with clean A and B
            and distorted X; `units`, the unit edit distance. Both take alignments from the first task of kind `frames`, else from the field `phones`.
        layers: The layers, from 1, that `abx` and `units` are measured on; all by default.
        seed: Of the choice of utterances that are held back or taken under a limit, and of probes.
        limit: At most so many utterances of each split, by keyed hash.
        probes: Probes a task, each with its own seed (of its first weights, and of the tenth of train that it holds back); the
            spread is theirs.
        efficiency: Whether MACs, real-time factor and size are measured too.
    """

    SCHEMA: ClassVar[str] = "stillroom/evaluation/1"  # of its JSON Schema; the file has no such key

    EXAMPLES: ClassVar[dict[str, str]] = {
        "corpus": "corpus: FOLDER",
        "models": "models: {teacher: nano, mine: runs/mine}",
        "tasks": "tasks: [{kind: classify, label: speaker}]",
        "measures": "measures: [cosine, leakage]",
        "splits": "splits: {train: train, dev: dev, test: test}",
    }
    OTHER_NAMES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("model", "run", "runs", "checkpoint", "upstream"), "write models: {NAME: FOLDER}"),
        **dict.fromkeys(("task", "downstream"), "write tasks, a list"),
        **dict.fromkeys(("metrics", "metric"), "write measures; each task has a metric of its own"),
        **dict.fromkeys(("dataset", "data", "corpora"), "write corpus: FOLDER, one"),
        **dict.fromkeys(
            ("device", "gpu", "batch_size", "num_workers"),
            "the command finds the GPU, and sizes its batches itself (--device)",
        ),
        **dict.fromkeys(("output", "output_dir", "results"), "the results' folder is named on the command line"),
        **dict.fromkeys(("split", "test", "test_split"), "write splits: {test: NAME}"),
        **dict.fromkeys(("preset", "teacher", "student", "steps"), "a key of training: `stillroom train CONFIG RUN`"),
        **dict.fromkeys(("schema", "speech", "conditions"), "a key of a recipe: `stillroom build RECIPE CORPUS`"),
    }

    corpus: str
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    splits: Splits = Splits()
    tasks: Annotated[tuple[Task, ...], Field(strict=False)] = ()
    measures: Annotated[tuple[MeasureName, ...], Field(strict=False)] = ("cosine", "cka", "agreement", "leakage")
    layers: Annotated[tuple[LayerNumber, ...], Field(strict=False, min_length=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    probes: Annotated[int, Field(ge=1, le=MAX_PROBES)] = 2
    efficiency: bool = True

    @model_validator(mode="after")
    def check_something_is_requested(self) -> Self:
        """At least one task or measure is requested, none twice."""
        if not self.tasks and not self.measures:
            raise ValueError("neither tasks nor measures: name at least one, such as measures: [cosine, leakage]")
        names = [task.name for task in self.tasks]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"tasks: {min(twice)!r} is listed twice")
        if len(set(self.measures)) != len(self.measures):
            raise ValueError("measures: one is listed twice")
        if self.layers is not None and not BY_LAYERS & set(self.measures):
            raise ValueError(
                f"layers: they are those of {' and '.join(sorted(BY_LAYERS))}; name one in measures, or leave layers out"
            )
        if self.layers is not None and len(set(self.layers)) != len(self.layers):
            raise ValueError("layers: one is listed twice")
        return self

    @classmethod
    def read(cls, path: str | Path, *, overrides: tuple[str, ...] = ()) -> EvaluationConfig:
        """Read a YAML file and work in `key=value` overrides.

        Relative paths in the file are relative to it, those in overrides to the current folder.

        Raises:
            BadDocumentError: If a key is unknown, a value is wrong, or a system's name is that of another model.
            MissingFileError: If there is no such file.
            UsageError: If an override is none.
        """
        path = local_path(path)
        data = read_yaml(path, needed="expected an evaluation config")
        if isinstance(data, dict):
            data = with_paths(data, path.resolve().parent)
            for override in overrides:
                data = merged(data, with_paths(override_of(override, example="limit=100"), Path.cwd()))
        with named_overrides(path, overrides):
            config = cls.parse(data, where=path)
        systems = {source.system for source in config.models.values() if isinstance(source, RunSource)}
        if clash := [name for name, source in config.models.items() if isinstance(source, str) and name in systems]:
            raise BadDocumentError(path, f"models: {clash[0]!r} is a model, and the system of runs too; rename one")
        return config

    def with_best(self) -> EvaluationConfig:
        """The same with the best checkpoint of every run."""
        models = {
            name: source.model_copy(update={"checkpoint": "best"}) if isinstance(source, RunSource) else source
            for name, source in self.models.items()
        }
        return self.model_copy(update={"models": models})

    def settings(self) -> dict[str, Any]:
        """Everything that decides the scores besides models and data, as plain JSON data; an alignment table is its digest."""
        include = {"splits", "tasks", "measures", "layers", "seed", "limit", "probes", "efficiency"}
        settings = self.model_dump(mode="json", exclude_none=True, include=include)
        for task in settings["tasks"]:
            if "table" in task:
                task["table"] = bytes_digest(read_bytes(Path(task["table"]), needed="the alignments of a task"))
        return settings
