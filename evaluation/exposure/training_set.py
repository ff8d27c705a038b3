"""The distortions that a model was trained on, from its own record: `trained.json`, its card, or its run's config and corpus."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import training
from evaluation.config import RunSource
from evaluation.config_paths import is_run
from evaluation.exposure.categories import Library, copy_facts
from manifests.errors import StillroomError, printable
from manifests.io.json_yaml import read_json, read_yaml
from manifests.results.training_exposure import TrainedKind, TrainedOn
from training.data.joined_corpus import open_corpus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from evaluation.exposure.categories import StepFacts
    from manifests.corpus.sample import SampleCopy
    from training.data.corpus import CorpusReader


class TrainingUnknownError(StillroomError, ValueError):
    """A model whose training cannot be found out; it becomes a note, never fatal."""

    def __init__(self, model: str, why: object) -> None:
        super().__init__(f"{model}: what it was trained on is not known: {why}")


def exposure_of(name: str, source: str | RunSource, facts: Mapping[str, Any]) -> TrainedOn | None:
    """The distortions that a model was trained on; None if nothing is known of them.

    Args:
        name: Its name in the tables.
        source: Its source in the config.
        facts: Its card or its checkpoint's facts.

    Raises:
        TrainingUnknownError: If its record names something that cannot be read.
    """
    try:
        if isinstance(source, RunSource):
            return run_exposure(Path(source.run))
        if "trained" in facts:
            return TrainedOn.parse(facts["trained"], where=f"the card of {name}, key trained")
        return folder_exposure(folder_of(source))
    except (StillroomError, OSError) as problem:
        raise TrainingUnknownError(printable(name), problem) from None


def teacher_exposure(name: str, source: str | RunSource, facts: Mapping[str, Any]) -> TrainedOn | None:
    """The same of the teacher that a student was distilled from; of the model itself, if it has none."""
    try:
        if isinstance(source, RunSource):
            config = read_yaml(Path(source.run) / "config.yaml", needed="the config of a run")
            teacher = str(config["teacher"]["name"])
        elif isinstance(facts.get("teacher"), str):
            teacher = facts["teacher"]
        else:
            return exposure_of(name, source, facts)
        return folder_exposure(folder_of(teacher))
    except (StillroomError, OSError, KeyError, TypeError) as problem:
        raise TrainingUnknownError(f"the teacher of {printable(name)}", problem) from None


def folder_of(name: str) -> Path | None:
    """The folder of a model, if it has one: that of its export, where it is named by its file."""
    if name.lower() == "nano":
        return Path(training.__file__).parent / "nano"
    path = Path(name)
    if path.is_file() and (path.parent / "export.json").is_file():
        return path.parent
    return path if path.is_dir() else None


def folder_exposure(folder: Path | None) -> TrainedOn | None:
    """From `trained.json`, `card.json` or a run's own record in a folder; None if it has none of them."""
    if folder is None:
        return None
    if (folder / "trained.json").exists():
        return TrainedOn.read(folder / "trained.json", needed="what the model was trained on")
    if (folder / "card.json").exists():
        card = read_json(folder / "card.json", needed="a card")
        if isinstance(card, dict) and "trained" in card:
            return TrainedOn.parse(card["trained"], where=f"{folder / 'card.json'}, key trained")
    return run_exposure(folder) if is_run(folder) else None


def training_command(run: Path) -> dict[str, Any]:
    """The command line that trained a run, under the key `command`; empty where its record has none."""
    path = run / "provenance.json"
    record = read_json(path, needed="what made the run") if path.is_file() else None
    command = record.get("command") if isinstance(record, dict) else None
    is_words = isinstance(command, list) and all(isinstance(word, str) for word in command)
    return {"command": command} if is_words else {}


def run_exposure(run: Path) -> TrainedOn | None:
    """From `trained.json`, or from the corpus that the run's config names, if that is unchanged."""
    if (run / "trained.json").exists():
        return TrainedOn.read(run / "trained.json", needed="what the model was trained on")
    config = read_yaml(run / "config.yaml", needed="the config of a run")
    views = config.get("views") or {}
    if not isinstance(views, dict) or views.get("kind", "none") == "none":
        return TrainedOn.clean()
    corpora = config["corpus"] if isinstance(config["corpus"], list) else [config["corpus"]]
    record = read_json(run / "provenance.json", needed="what made the run")
    if isinstance(record, dict) and "corpus_sha256" in record:
        with open_corpus(corpora) as reader:
            if reader.digest != record["corpus_sha256"]:
                names = ", ".join(map(printable, corpora))
                raise TrainingUnknownError(run.name, f"the corpus {names} changed since")
    student = views.get("student")
    conditions = student.get("conditions") if isinstance(student, dict) else None
    used = tuple(map(str, conditions)) if isinstance(conditions, list | tuple) else None
    return corpus_exposure(tuple(map(str, corpora)), str(config.get("split", "train")), conditions=used)


@dataclass
class ExposureCounter:
    """Counts steps of training copies: kinds, sources, recordings and ranges of numbers."""

    counts: dict[str, int] = field(default_factory=dict)
    sources: dict[str, set[str]] = field(default_factory=dict)
    recordings: dict[str, set[str]] = field(default_factory=dict)
    ranges: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    chains: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, steps: Iterable[StepFacts]) -> None:
        """Count the steps of one copy."""
        chain = []
        for step in steps:
            chain.append(step.kind)
            self.counts[step.kind] = self.counts.get(step.kind, 0) + 1
            if step.source is not None:
                self.sources.setdefault(step.kind, set()).add(step.source)
            self.recordings.setdefault(step.kind, set()).update(step.recordings)
            ranges = self.ranges.setdefault(step.kind, {})
            for name, value in step.numbers.items():
                low, high = ranges.get(name, (value, value))
                ranges[name] = min(low, value), max(high, value)
        self.chains.add(tuple(chain))

    def summary(self) -> TrainedOn:
        """The counts as a document."""
        kinds = {
            kind: TrainedKind(
                count=count,
                sources=tuple(sorted(self.sources.get(kind, ()))),
                recordings=tuple(sorted(self.recordings.get(kind, ()))),
                ranges=dict(sorted(self.ranges.get(kind, {}).items())),
            )
            for kind, count in sorted(self.counts.items())
        }
        return TrainedOn.model_validate(
            {"schema": TrainedOn.SCHEMA, "kinds": kinds, "chains": tuple(sorted(self.chains - {()}))}
        )


@functools.lru_cache(maxsize=8)
def corpus_exposure(corpora: tuple[str, ...], split: str, *, conditions: tuple[str, ...] | None = None) -> TrainedOn:
    """The distortions of the copies of a split; JSON members alone are read, once for all seeds of a system.

    Args:
        corpora: One, or several that were joined.
        split: Which split.
        conditions: Conditions whose copies were used; None for all.

    Raises:
        StillroomError: If a corpus cannot be read.
    """
    counter = ExposureCounter()
    for corpus in corpora:
        with open_corpus(corpus) as reader:
            library = Library(reader)
            for copy in copies_in(reader, split):
                if conditions is None or copy.condition in conditions:
                    counter.add(copy_facts(copy, library))
    return counter.summary()


def copies_in(reader: CorpusReader, split: str) -> Iterator[SampleCopy]:
    """Every copy of a split, from the JSON of its samples."""
    for shard in reader.shards(split):
        for indexed in reader.samples(shard.name):
            yield from reader.whole_record(shard.name, indexed, split=split).copies
