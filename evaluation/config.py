"""What is asked of an evaluation: a corpus, models, splits, tasks, measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from manifests.files import read_yaml
from manifests.records import Name, Record

MAX_PROBES = 10
Label = Annotated[str, Field(min_length=1, max_length=200)]


class RunSource(Record):
    """The student of a run, and which of its checkpoints."""

    run: str
    checkpoint: Literal["last", "best"] = "last"


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
            raise ValueError(f"three different splits are due here, found {', '.join(named)}")
        return self


class ClassifyTask(Record):
    """Name the label of an utterance from frozen features.

    Attributes:
        label: `speaker`, `language`, `text`, or a custom field of the corpus.
        features: `last`, the mean over frames of the last transformer layer.
        probe: `clean`, a probe trained on clean speech, tested on clean and on every condition.
        within: One probe for each value of this field, their answers pooled: speakers within one recording set cannot
            be told by the channel.
        where: Only utterances whose field has one of these values take part.
    """

    kind: Literal["classify"]
    label: Label
    features: Literal["last"] = "last"
    probe: Literal["clean"] = "clean"
    within: Label | None = None
    where: dict[Label, Annotated[tuple[Label, ...], Field(strict=False, min_length=1)]] = {}

    @field_validator("where", mode="before")
    @classmethod
    def listed_values(cls, where: Any) -> Any:
        """One value may stand without its list; numbers and booleans are words here."""
        if not isinstance(where, dict):
            return where
        return {
            field: [word(one) for one in (value if isinstance(value, list | tuple) else [value])]
            for field, value in where.items()
        }

    @model_validator(mode="after")
    def check_within(self) -> Self:
        """A field is not divided by itself."""
        if self.within == self.label:
            raise ValueError(f"within: {self.label!r} is the label itself; name another field, or leave it out")
        return self

    @property
    def name(self) -> str:
        """What the task is called in a table."""
        filters = ", ".join(f"{field} {' or '.join(values)}" for field, values in self.where.items())
        return self.label + (f" within {self.within}" if self.within else "") + (f" where {filters}" if filters else "")


def word(value: Any) -> Any:
    """A scalar as the text that a corpus's field is compared with."""
    return str(value) if isinstance(value, bool | int | float) else value


class EvaluationConfig(Record):
    """A whole evaluation; paths are relative to the file it was read from.

    Attributes:
        corpus: A sealed corpus: a folder or a URL.
        models: By the name they have in the tables: a teacher's name, a folder, or a run with its checkpoint.
        measures: `cosine` of frames between clean and distorted; `leakage` of the domain to a linear probe.
        seed: Of which utterances are held back and which are taken under a limit.
        limit: At most so many utterances of each split, by keyed hash.
        probes: Probes a task; each holds another tenth of train back, and the spread is theirs.
    """

    corpus: str
    models: Annotated[dict[Name, str | RunSource], Field(min_length=1)]
    splits: Splits = Splits()
    tasks: Annotated[tuple[ClassifyTask, ...], Field(strict=False)] = ()
    measures: Annotated[tuple[Literal["cosine", "leakage"], ...], Field(strict=False)] = ("cosine", "leakage")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    limit: Annotated[int, Field(ge=1)] | None = None
    probes: Annotated[int, Field(ge=1, le=MAX_PROBES)] = 2

    @model_validator(mode="after")
    def check_something_is_asked(self) -> Self:
        """At least one number is asked for, none twice."""
        if not self.tasks and not self.measures:
            raise ValueError("neither tasks nor measures: name at least one, such as measures: [cosine, leakage]")
        names = [task.name for task in self.tasks]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"tasks: {min(twice)!r} stands twice")
        if len(set(self.measures)) != len(self.measures):
            raise ValueError("measures: one stands twice")
        return self

    @classmethod
    def read(cls, path: Path) -> EvaluationConfig:
        """Read a YAML file and resolve its relative paths.

        Raises:
            BadDocumentError: If a key is unknown or a value is not what is due.
            MissingFileError: If there is no such file.
        """
        config = cls.parse(read_yaml(path, needed="an evaluation config is due here"), where=path)
        folder = path.resolve().parent
        models = {name: resolved_model(source, folder=folder) for name, source in config.models.items()}
        return config.model_copy(update={"corpus": resolved(config.corpus, folder=folder), "models": models})

    def settings(self) -> dict[str, Any]:
        """What decides a number besides the models and the data, as plain JSON data."""
        return self.model_dump(
            mode="json", exclude_none=True, include={"splits", "tasks", "measures", "seed", "limit", "probes"}
        )


def resolved(path: str, *, folder: Path) -> str:
    """A path relative to `folder` made absolute; URLs stay as they are."""
    return path if "://" in path else str(folder / Path(path).expanduser())


def resolved_model(source: str | RunSource, *, folder: Path) -> str | RunSource:
    """A model's folder made absolute; a word that is no run folder beside the config is a teacher's name."""
    if isinstance(source, RunSource):
        return RunSource(run=resolved(source.run, folder=folder), checkpoint=source.checkpoint)
    path = folder / Path(source).expanduser()
    if is_run(path):
        return RunSource(run=str(path))
    return str(path) if "/" in source or (path / "config.json").is_file() else source


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run."""
    return (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()
