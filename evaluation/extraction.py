"""Three passes over a corpus (train, dev, test), in which one model hears what the tasks and measures need, and no more."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evaluation.data.alignments import AlignedTask, FrameClock
from evaluation.data.labels import LabelledTask
from evaluation.data.transcripts import TextTask
from evaluation.data.trials import VerificationTask
from evaluation.data.utterances import REFERENCE_UTTERANCES, EmptyConditionError, TooShortError, keyed_order
from evaluation.features import PooledRows, Scaling, condition_of, features_of
from evaluation.measures.cka import MOST_FRAMES, Similarity
from evaluation.measures.frame_cosine import FrameCosine, FrameMoments
from evaluation.measures.retrieval import Retrieval, plan_retrieval
from evaluation.tasks.frame_probes import FrameProbes, FrameStore
from manifests.corpus.sample import CLEAN
from manifests.errors import printable
from manifests.io.progress import Progress
from training.data.audio import utterances

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from evaluation.config import EvaluationConfig, Features
    from evaluation.data.utterances import EvaluationSet, ListedUtterance
    from evaluation.features import UtteranceFeatures
    from training.models.encoder import Encoder

PreparedTask = LabelledTask | TextTask | VerificationTask | AlignedTask
ROLES = ("train", "dev", "test")
LEAKAGE_TEST_UTTERANCES = 2 * REFERENCE_UTTERANCES


@dataclass(frozen=True)
class ExtractionPlan:
    """Which members of which utterances one model has to extract; all mappings are by role (`train`, `dev`, `test`).

    Attributes:
        members: Names of the members that are heard, by sample key.
        chosen: By sample key, the copy of a training utterance that probes on distorted speech are trained on.
        leakage: Keys of utterances that the domain probe is trained or tested on.
        leakage_role: Where the domain probe is trained: `train`, or `dev` if train has no copies of the test's conditions.
        leakage_conditions: Conditions that both that split and the test split have, and `clean`.
        notes: What is left out.
    """

    members: dict[str, dict[str, frozenset[str]]]
    chosen: dict[str, str]
    leakage: dict[str, frozenset[str]]
    leakage_role: str
    leakage_conditions: frozenset[str]
    notes: tuple[str, ...]

    def passes(self, role: str) -> list[tuple[tuple[str, ...], frozenset[str]]]:
        """Members and keys of each pass over a split; members that nobody hears are not decoded."""
        groups: dict[tuple[str, ...], set[str]] = {}
        for key, members in self.members[role].items():
            groups.setdefault((CLEAN, *sorted(members - {CLEAN})), set()).add(key)
        return [(members, frozenset(keys)) for members, keys in sorted(groups.items())]


def plan_extraction(dataset: EvaluationSet, tasks: Iterable[PreparedTask], config: EvaluationConfig) -> ExtractionPlan:
    """Decide what must be heard for the tasks and measures that are asked for, and nothing else.

    Raises:
        EmptyConditionError: If leakage, or a probe on distorted speech, is asked for and there are no copies to train on.
    """
    members: dict[str, dict[str, set[str]]] = {role: {} for role in ROLES}
    chosen: dict[str, str] = {}

    def hear_of(role: str, keys: Iterable[str], copies: Callable[[str], Iterable[str]] = lambda _: ()) -> None:
        for key in keys:
            members[role].setdefault(key, {CLEAN}).update(copies(key))

    for task in tasks:
        hear_of("test", task.keys("test"), lambda key: copies_of(dataset.test[key]))
        hear_of("dev", task.keys("dev"))
        hear_of("train", task.keys("train"))
        if task.probe == "distorted":
            chosen.update(chosen_copies(dataset, task.keys("train"), seed=config.seed, task=task.name))
            hear_of("train", task.keys("train"), lambda key: (chosen[key],))
    compared = {"cosine", "cka", "agreement"} & set(config.measures)
    if compared or any(isinstance(task, TextTask | AlignedTask) for task in tasks):
        hear_of("train", dataset.reference)
    if compared:
        hear_of("test", dataset.test, lambda key: copies_of(dataset.test[key]))
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
        hear_of(source, leakage[source], lambda key: copies_of(dataset.of(source)[key], conditions=shared))
        hear_of("test", leakage["test"], lambda key: copies_of(dataset.test[key]))
        if missing := sorted(set(dataset.conditions) - shared):
            notes.append(f"leakage: {', '.join(missing)} left out, split {dataset.split_of(source)} does not have it")
    return ExtractionPlan(
        members={role: {key: frozenset(names) for key, names in found.items()} for role, found in members.items()},
        chosen=chosen,
        leakage=leakage,
        leakage_role=source,
        leakage_conditions=frozenset(shared | {CLEAN}),
        notes=tuple(notes),
    )


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
    """What is kept of one model's features.

    Attributes:
        pooled: Pooled states by features and role, for tasks that read one vector an utterance.
        deep: Pooled layers by role, for the domain probe.
        frames: States of training and dev utterances by role, in files, for tasks that read frames.
        frame_probes: Those tasks; their probes learn between dev and test.
        moments: Of clean reference frames: layers, and heads where they are asked for.
        cosine: Of test frames; made when the moments are known. So are `similarity` and `retrieval`.
    """

    pooled: dict[tuple[Features, str], PooledRows]
    deep: dict[str, PooledRows]
    frames: dict[str, FrameStore]
    moments: FrameMoments
    frame_probes: list[FrameProbes] = field(default_factory=list)
    cosine: FrameCosine | None = None
    similarity: Similarity | None = None
    retrieval: Retrieval | None = None
    too_short: int = 0

    def add(self, role: str, utterance: UtteranceFeatures, *, dataset: EvaluationSet, hearing: ExtractionPlan) -> None:
        """Take in one utterance."""
        key = utterance.key
        if any(frames.shape[1] == 0 for frames in utterance.frames.values()):
            self.too_short += 1
            return
        for member, frames in utterance.frames.items():
            if role == "test" or member == CLEAN or hearing.chosen.get(key) == member:
                for (features, owner), rows in self.pooled.items():
                    if owner == role:
                        states = utterance.states(member, features)
                        rows.add(key, member, states[-1] if features == "last" else states)
                if role != "test" and role in self.frames:
                    self.frames[role].add(utterance, member)
            if key in hearing.leakage[role] and condition_of(member) in hearing.leakage_conditions:
                self.deep[role].add(key, member, frames)
        if role == "train" and key in dataset.reference and CLEAN in utterance.frames:
            self.moments.add(utterance.states(CLEAN, "sum+heads"))
        if role == "test":
            for listener in (self.cosine, self.similarity, self.retrieval):
                if listener is not None:
                    listener.add(utterance)
            for probes in self.frame_probes:
                probes.judge(utterance)


@dataclass(frozen=True)
class Listener:
    """One model and what is asked of it.

    Attributes:
        heads: Its distillation heads, where some task reads them.
        teacher: Scaled features of its teacher on clean test, by sample key, for agreement; None where there are none.
        scratch: A folder for files of frames; the caller removes it.
    """

    name: str
    encoder: Encoder
    heads: nn.Module | None
    teacher: Mapping[str, Tensor] | None
    scratch: Path


def extract(
    listener: Listener,
    *,
    dataset: EvaluationSet,
    hearing: ExtractionPlan,
    tasks: Sequence[PreparedTask],
    config: EvaluationConfig,
) -> tuple[ModelFeatures, float]:
    """Run a model over everything it has to extract; returns what is kept, and the seconds of audio it heard.

    Raises:
        TooShortError: If a split has no utterance that is long enough.
    """
    tables = empty_features(tasks, scratch=listener.scratch)
    total_s = sum(
        len(members) * dataset.of(role)[key].seconds
        for role in ROLES
        for members, keys in hearing.passes(role)
        for key in keys
    )
    with ExitStack() as stack:
        for store in tables.frames.values():
            stack.callback(store.close)
        progress = stack.enter_context(
            Progress(f"extract with {listener.name}", total=round(total_s), unit="s of audio")
        )
        for role in ROLES:
            if role == "test":
                prepare_test(tables, listener, dataset=dataset, hearing=hearing, tasks=tasks, config=config)
            heard_any = False
            for members, keys in hearing.passes(role):
                heard = utterances(config.corpus, dataset.split_of(role), members=members, keys=keys)
                for utterance in features_of(listener.encoder, heard, advance=progress.advance, heads=listener.heads):
                    tables.add(role, utterance, dataset=dataset, hearing=hearing)
                    heard_any = heard_any or utterance.frames[CLEAN].shape[1] > 0
            if hearing.passes(role) and not heard_any:
                raise TooShortError(listener.name, split=dataset.split_of(role))
    return tables, total_s


def empty_features(tasks: Sequence[PreparedTask], *, scratch: Path) -> ModelFeatures:
    """Empty tables for what the tasks read."""
    pooled = {
        (task.features, role): PooledRows()
        for task in tasks
        if isinstance(task, LabelledTask | VerificationTask)
        for role in ROLES
    }
    widest: dict[str, int] = {"last": 0, "sum": 1, "sum+heads": 2}
    framewise = [task for task in tasks if isinstance(task, TextTask | AlignedTask)]
    kept = max((task.features for task in framewise), key=lambda features: widest[features], default=None)
    frames = {role: FrameStore(scratch / f"{role}.f32", kept) for role in ("train", "dev")} if kept else {}
    return ModelFeatures(pooled, {role: PooledRows() for role in ROLES}, frames, FrameMoments())


def prepare_test(
    tables: ModelFeatures,
    listener: Listener,
    *,
    dataset: EvaluationSet,
    hearing: ExtractionPlan,
    tasks: Sequence[PreparedTask],
    config: EvaluationConfig,
) -> None:
    """What must be known before test is heard: the scaling, and the probes that judge frames as they come."""
    encoder, asked = listener.encoder, set(config.measures)
    if tables.moments.count == 0:
        return
    scaling = tables.moments.scaling()
    layers = scaling.first(encoder.num_layers)
    if asked & {"cosine", "cka", "agreement"}:
        tables.cosine = FrameCosine(layers) if "cosine" in asked else None
        each = max(1, MOST_FRAMES // max(1, len(dataset.test)))
        tables.similarity = Similarity(layers, each, listener.teacher)
    if asked & {"cosine", "cka"}:
        plan = plan_retrieval(
            dataset.test,
            num_frames=encoder.config.num_frames,
            bytes_a_frame=4 * encoder.num_layers * encoder.num_features,
            num_conditions=len(dataset.conditions),
            seed=config.seed,
        )
        tables.retrieval = Retrieval(plan, layers)
    clock = FrameClock.of(encoder.config.num_frames, rate_hz=encoder.sample_rate)
    for task in tasks:
        if isinstance(task, TextTask | AlignedTask):
            own = scaling_of(scaling, task.features, num_layers=encoder.num_layers)
            probes = FrameProbes(task, own, encoder.num_layers, clock)
            members = dict.fromkeys(task.train, CLEAN)
            if task.probe == "distorted":
                members = {key: hearing.chosen[key] for key in task.train}
            dev = tables.frames["dev"] if task.keys("dev") else None
            probes.learn(tables.frames["train"], dev, members=members, seed=config.seed, probes=config.probes)
            tables.frame_probes.append(probes)


def scaling_of(scaling: Scaling, features: Features, *, num_layers: int) -> Scaling:
    """The scaling of the states that some features name."""
    match features:
        case "last":
            return Scaling(scaling.mean[num_layers - 1 : num_layers], scaling.inverse[num_layers - 1 : num_layers])
        case "sum":
            return scaling.first(num_layers)
        case "sum+heads":
            return scaling
