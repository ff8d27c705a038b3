"""Extracts the features of one model in three passes over a corpus (train, dev, test): those that tasks and measures need, no more."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.config import BY_LAYERS
from evaluation.data.abx_tokens import plan_abx
from evaluation.data.alignments import AlignedTask, FrameClock, alignments_of_test
from evaluation.data.labels import LabelledTask
from evaluation.data.transcripts import TextTask
from evaluation.data.trials import VerificationTask
from evaluation.data.utterances import REFERENCE_UTTERANCES, EmptyConditionError, TooShortError, keyed_order
from evaluation.features import PooledRows, Scaling, condition_of, features_of, is_one_state, state_slice
from evaluation.measures.abx import Abx
from evaluation.measures.cka import MOST_FRAMES, Similarity
from evaluation.measures.frame_cosine import FrameCosine, FrameMoments
from evaluation.measures.retrieval import Retrieval, plan_retrieval
from evaluation.measures.units import MOST_FRAMES as MOST_UNIT_FRAMES
from evaluation.measures.units import TrainingFrames, Units
from evaluation.tasks.frame_probes import FrameProbes
from evaluation.tasks.frame_store import FrameStore, stored_members
from manifests.corpus.sample import CLEAN
from manifests.errors import printable
from manifests.io.progress import Progress
from training.data.audio import utterances

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from evaluation.config import EvaluationConfig, Features
    from evaluation.data.abx_tokens import AbxPlan
    from evaluation.data.alignments import Segments
    from evaluation.data.utterances import EvaluationSet, ListedUtterance
    from evaluation.exposure.test_copies import CopyIndex, CopyKey
    from evaluation.features import UtteranceFeatures
    from evaluation.models import EvaluatedModel

PreparedTask = LabelledTask | TextTask | VerificationTask | AlignedTask
ROLES = ("train", "dev", "test")
LEAKAGE_TEST_UTTERANCES = 2 * REFERENCE_UTTERANCES


@dataclass(frozen=True)
class ExtractionPlan:
    """Which members of which utterances a model processes; mappings are by role (`train`, `dev`, `test`).

    Attributes:
        members: Names of the members that are processed, by sample key.
        chosen: By sample key, the copy of a training utterance that probes on distorted speech are trained on.
        frames: Sample key and member of all frames that are stored, for probes that read frames.
        leakage: Keys of utterances that the domain probe is trained or tested on.
        leakage_role: Where the domain probe is trained: `train`, or `dev` if train has no copies of the test's conditions.
        leakage_conditions: Conditions that both that split and the test split have, and `clean`.
        notes: What is left out, for readers of the scores.
        alignments: Of test utterances, for measures that take phones.
        abx: The phones that ABX compares; None if it is not requested.
    """

    members: dict[str, dict[str, frozenset[str]]]
    chosen: dict[str, str]
    frames: dict[str, frozenset[tuple[str, str]]]
    leakage: dict[str, frozenset[str]]
    leakage_role: str
    leakage_conditions: frozenset[str]
    notes: tuple[str, ...]
    alignments: Mapping[str, Segments] = field(default_factory=dict)
    abx: AbxPlan | None = None

    def passes(self, role: str) -> list[tuple[tuple[str, ...], frozenset[str]]]:
        """Members and keys of each pass over a split; members that are not needed are not decoded."""
        groups: dict[tuple[str, ...], set[str]] = {}
        for key, members in self.members[role].items():
            groups.setdefault((CLEAN, *sorted(members - {CLEAN})), set()).add(key)
        return [(members, frozenset(keys)) for members, keys in sorted(groups.items())]


def plan_extraction(dataset: EvaluationSet, tasks: Sequence[PreparedTask], config: EvaluationConfig) -> ExtractionPlan:
    """List what the requested tasks and measures need, and nothing else.

    Raises:
        EmptyConditionError: If leakage, or a probe on distorted speech, is requested and there are no copies to train on.
        NoTriplesError: If ABX is requested and there are no phones to compare.
    """
    members: dict[str, dict[str, set[str]]] = {role: {} for role in ROLES}
    chosen: dict[str, str] = {}

    def need(role: str, keys: Iterable[str], copies: Callable[[str], Iterable[str]] = lambda _: ()) -> None:
        for key in keys:
            members[role].setdefault(key, {CLEAN}).update(copies(key))

    for task in tasks:
        need("test", task.keys("test"), lambda key: copies_of(dataset.test[key]))
        need("dev", task.keys("dev"))
        need("train", task.keys("train"))
        if task.probe == "distorted":
            chosen.update(chosen_copies(dataset, task.keys("train"), seed=config.seed, task=task.name))
            need("train", task.keys("train"), lambda key: (chosen[key],))
    alignments, abx = phones_of_test(dataset, config)
    compared = {"cosine", "cka", "agreement", "units"} & set(config.measures)
    if compared or abx or any(isinstance(task, TextTask | AlignedTask) for task in tasks):
        need("train", dataset.reference)
    if compared:
        need("test", dataset.test, lambda key: copies_of(dataset.test[key]))
    if abx:
        need("test", abx.tokens, lambda key: copies_of(dataset.test[key]))
    leakage: dict[str, frozenset[str]] = dict.fromkeys(ROLES, frozenset())
    source, shared = "train", conditions_of(dataset.train) & set(dataset.conditions)
    notes: list[str] = []
    if "leakage" in config.measures:
        if not shared:
            source, shared = "dev", conditions_of(dataset.dev) & set(dataset.conditions)
        if not shared:
            raise EmptyConditionError(split=dataset.splits.train, condition=None, purpose="measure leakage")
        leakage[source] = chosen_keys(dataset.of(source), REFERENCE_UTTERANCES, seed=config.seed)
        leakage["test"] = chosen_keys(dataset.test, LEAKAGE_TEST_UTTERANCES, seed=config.seed)
        need(source, leakage[source], lambda key: copies_of(dataset.of(source)[key], conditions=shared))
        need("test", leakage["test"], lambda key: copies_of(dataset.test[key]))
        if missing := sorted(set(dataset.conditions) - shared):
            notes.append(f"leakage: {', '.join(missing)} left out, split {dataset.split_of(source)} does not have it")
    return ExtractionPlan(
        members={role: {key: frozenset(names) for key, names in found.items()} for role, found in members.items()},
        chosen=chosen,
        frames=stored_members(tasks, chosen),
        leakage=leakage,
        leakage_role=source,
        leakage_conditions=frozenset(shared | {CLEAN}),
        notes=tuple(notes),
        alignments=alignments,
        abx=abx,
    )


def phones_of_test(dataset: EvaluationSet, config: EvaluationConfig) -> tuple[dict[str, Segments], AbxPlan | None]:
    """Alignments that the requested measures take, and the phones that ABX compares.

    Raises:
        NoTriplesError: If ABX is requested and there are no phones to compare.
    """
    if not BY_LAYERS & set(config.measures):
        return {}, None
    alignments, label = alignments_of_test(config.tasks, dataset)
    if "abx" not in config.measures:
        return alignments, None
    split = dataset.splits.test
    return alignments, plan_abx(dataset.test, alignments, split=split, label=label, seed=config.seed)


def chosen_copies(dataset: EvaluationSet, keys: Iterable[str], *, seed: int, task: str) -> dict[str, str]:
    """One distorted copy of each training utterance, by keyed hash.

    Raises:
        EmptyConditionError: If an utterance has none.
    """
    chosen = {}
    for key in keys:
        names = copies_of(dataset.train[key])
        if not names:
            purpose = f"task {printable(task, limit=80)!r}"
            raise EmptyConditionError(split=dataset.splits.train, condition=None, purpose=purpose)
        chosen[key] = keyed_order(names, seed=seed, purpose=f"distorted {key}")[0]
    return chosen


def chosen_keys(entries: Iterable[str], most: int, *, seed: int) -> frozenset[str]:
    """At most so many keys, by keyed hash."""
    return frozenset(keyed_order(entries, seed=seed, purpose="reference")[:most])


def copies_of(entry: ListedUtterance, *, conditions: Container[str] | None = None) -> list[str]:
    """Names of an utterance's copies of some conditions (all by default)."""
    return [copy.name for copy in entry.sample.copies if conditions is None or copy.condition in conditions]


def conditions_of(entries: Mapping[str, ListedUtterance]) -> set[str]:
    """Conditions that some utterance has a copy of."""
    return {copy.condition for entry in entries.values() for copy in entry.sample.copies}


@dataclass
class ModelFeatures:
    """Features of one model, as tasks and measures need them.

    Attributes:
        pooled: Pooled states by features and role, for tasks that read one vector an utterance.
        pooled_layers: Pooled layers by role, for the domain probe.
        frames: States of training and dev utterances by role, in files, for tasks that read frames.
        frame_probes: Of those tasks; they are trained between dev and test.
        moments: Mean and variance of clean reference frames: layers, and heads where they are needed.
        training: Clean reference frames that units are fitted to; None where they are not needed.
        cosine: Of test frames; created when the moments are known, as all measures after it are.
    """

    pooled: dict[tuple[Features, str], PooledRows]
    pooled_layers: dict[str, PooledRows]
    frames: dict[str, FrameStore]
    moments: FrameMoments
    frame_probes: list[FrameProbes] = field(default_factory=list)
    training: TrainingFrames | None = None
    cosine: FrameCosine | None = None
    similarity: Similarity | None = None
    retrieval: Retrieval | None = None
    abx: Abx | None = None
    units: Units | None = None
    too_short: int = 0

    def add(self, role: str, utterance: UtteranceFeatures, *, dataset: EvaluationSet, plan: ExtractionPlan) -> None:
        """Add one utterance."""
        key = utterance.key
        if any(frames.shape[1] == 0 for frames in utterance.frames.values()):
            self.too_short += 1
            return
        for member, frames in utterance.frames.items():
            if role == "test" or member == CLEAN or plan.chosen.get(key) == member:
                for (features, owner), rows in self.pooled.items():
                    if owner == role:
                        states = utterance.states(member, features)
                        rows.add(key, member, states[0] if is_one_state(features) else states)
                if role != "test" and (key, member) in plan.frames[role]:
                    self.frames[role].add(utterance, member)
            if key in plan.leakage[role] and condition_of(member) in plan.leakage_conditions:
                self.pooled_layers[role].add(key, member, frames)
        if role == "train" and key in dataset.reference and CLEAN in utterance.frames:
            self.moments.add(utterance.states(CLEAN, "sum+heads"))
            if self.training is not None:
                self.training.add(utterance.frames[CLEAN])
        if role == "test":
            self.test(utterance)

    def test(self, utterance: UtteranceFeatures) -> None:
        """Add one test utterance to measures and trained probes."""
        for measure in (self.cosine, self.similarity, self.retrieval, self.abx, self.units):
            if measure is not None:
                measure.add(utterance)
        for probes in self.frame_probes:
            probes.test(utterance)


@dataclass(frozen=True)
class EvaluationSetup:
    """Everything that is the same for all models of an evaluation.

    Attributes:
        copies: The copies that are tested.
        plan: What is extracted of each model.
        recordings: Digests of noise recordings and responses of each copy, of the utterances of the domain probe.
        scratch: The results folder, where files of frames are while a model is measured.
    """

    dataset: EvaluationSet
    copies: CopyIndex
    plan: ExtractionPlan
    tasks: tuple[PreparedTask, ...]
    config: EvaluationConfig
    recordings: Mapping[CopyKey, tuple[str, ...]]
    protocol_sha256: str = ""
    scratch: Path = Path()

    @property
    def audio_s(self) -> float:
        """Seconds of audio that each model processes, all copies counted."""
        return sum(
            len(members) * self.dataset.of(role)[key].seconds
            for role in ROLES
            for members, keys in self.plan.passes(role)
            for key in keys
        )


def extract(model: EvaluatedModel, setup: EvaluationSetup, *, scratch: Path) -> tuple[ModelFeatures, float]:
    """Run a model over everything in the plan.

    Args:
        model: The model.
        setup: What is extracted, and from which corpus.
        scratch: A folder for files of frames; the caller removes it.

    Returns:
        Its features, and the seconds of audio that it processed.

    Raises:
        TooShortError: If a split has no utterance that is long enough.
    """
    dataset, plan = setup.dataset, setup.plan
    tables = empty_features(setup.tasks, scratch=scratch)
    if plan.abx is not None:
        tables.frames["test"] = FrameStore(scratch / "test.f16", "sum")
    if "units" in setup.config.measures:
        tables.training = TrainingFrames(max(1, MOST_UNIT_FRAMES // max(1, len(dataset.reference))))
    with ExitStack() as stack:
        for store in tables.frames.values():
            stack.callback(store.close)
        progress = stack.enter_context(
            Progress(f"features of {model.name}", total=round(setup.audio_s), unit="s of audio")
        )
        for role in ROLES:
            if role == "test":
                prepare_test(tables, model, setup)
            is_any_long = False
            for members, keys in plan.passes(role):
                found = utterances(setup.config.corpus, dataset.split_of(role), members=members, keys=keys)
                for utterance in features_of(model.encoder, found, advance=progress.advance, heads=model.heads):
                    tables.add(role, utterance, dataset=dataset, plan=plan)
                    is_any_long = is_any_long or utterance.frames[CLEAN].shape[1] > 0
            if plan.passes(role) and not is_any_long:
                raise TooShortError(model.name, split=dataset.split_of(role))
    return tables, setup.audio_s


def empty_features(tasks: Sequence[PreparedTask], *, scratch: Path) -> ModelFeatures:
    """Empty tables for what the tasks read."""
    pooled = {
        (task.features, role): PooledRows()
        for task in tasks
        if isinstance(task, LabelledTask | VerificationTask)
        for role in ROLES
    }
    stored = stored_features(tasks)
    frames = {role: FrameStore(scratch / f"{role}.f16", stored) for role in ("train", "dev")} if stored else {}
    return ModelFeatures(pooled, {role: PooledRows() for role in ROLES}, frames, FrameMoments())


def stored_features(tasks: Iterable[PreparedTask]) -> Features | None:
    """The states that are stored for tasks that read frames: the one layer that all read, or all that one of them reads; None if there is no such task."""
    read = {task.features for task in tasks if isinstance(task, TextTask | AlignedTask)}
    if len(read) <= 1:
        return next(iter(read), None)
    return "sum+heads" if "sum+heads" in read else "sum"


def prepare_test(tables: ModelFeatures, model: EvaluatedModel, setup: EvaluationSetup) -> None:
    """Before the pass over test: measures with their scaling, and trained probes that test frames as they come."""
    encoder, dataset, config = model.encoder, setup.dataset, setup.config
    measures = set(config.measures)
    if tables.moments.count == 0:
        return
    scaling = tables.moments.scaling()
    layers = scaling.first(encoder.num_layers)
    if measures & {"cosine", "cka", "agreement"}:
        tables.cosine = FrameCosine(layers) if "cosine" in measures else None
        each = max(1, MOST_FRAMES // max(1, len(dataset.test)))
        tables.similarity = Similarity(layers, each, model.teacher)
    if measures & {"cosine", "cka"}:
        retrieval = plan_retrieval(
            dataset.test,
            num_frames=encoder.config.num_frames,
            bytes_a_frame=4 * encoder.num_layers * encoder.num_features,
            num_conditions=len(dataset.conditions),
            seed=config.seed,
        )
        tables.retrieval = Retrieval(retrieval, layers)
    clock = FrameClock.of(encoder.config.num_frames, rate_hz=encoder.sample_rate)
    prepare_phone_measures(tables, layers, clock, setup)
    for task in setup.tasks:
        if isinstance(task, TextTask | AlignedTask):
            own = scaling_of(scaling, task.features, num_layers=encoder.num_layers)
            probes = FrameProbes(task, own, encoder.num_layers, clock)
            members = dict.fromkeys(task.train, CLEAN)
            if task.probe == "distorted":
                members = {key: setup.plan.chosen[key] for key in task.train}
            dev = tables.frames["dev"] if task.keys("dev") else None
            probes.fit(tables.frames["train"], dev, members=members, seed=config.seed, probes=config.probes)
            tables.frame_probes.append(probes)


def prepare_phone_measures(tables: ModelFeatures, scaling: Scaling, clock: FrameClock, setup: EvaluationSetup) -> None:
    """ABX and units, on the layers that the config names; `scaling` is of all layers."""
    if not BY_LAYERS & set(setup.config.measures):
        return
    plan, config = setup.plan, setup.config
    layers = [layer - 1 for layer in config.layers or range(1, len(scaling.mean) + 1)]
    own = Scaling(scaling.mean[layers], scaling.inverse[layers])
    if plan.abx is not None:
        tables.abx = Abx(plan.abx, own, layers, clock, tables.frames["test"])
    if tables.training is not None:
        centres = tables.training.centres(own, layers, seed=config.seed)
        tables.units = Units(centres, own, layers, clock, plan.alignments)
        tables.training = None  # its frames take memory


def scaling_of(scaling: Scaling, features: Features, *, num_layers: int) -> Scaling:
    """The scaling of the states that some features name."""
    states = state_slice(features, num_layers=num_layers)
    return Scaling(scaling.mean[states], scaling.inverse[states])
