"""Three passes over a corpus (train, dev, test), in which one model hears what the tasks and measures need, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.embed import PooledRows, condition_of, embedded
from evaluation.invariance import FrameCosine, FrameMoments
from evaluation.roster import REFERENCE_UTTERANCES, EmptyConditionError, keyed_order
from manifests.errors import StillroomError
from manifests.progress import Progress
from manifests.sample import CLEAN
from training.stream import utterances

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from evaluation.config import EvaluationConfig
    from evaluation.embed import Embedded
    from evaluation.labels import LabelledTask
    from evaluation.roster import Listed, Roster
    from training.encoder import Encoder

ROLES = ("train", "dev", "test")
LEAKAGE_TEST_UTTERANCES = 2 * REFERENCE_UTTERANCES


class TooShortError(StillroomError, ValueError):
    """A split without an utterance that is long enough."""

    def __init__(self, model: str, *, split: str) -> None:
        super().__init__(f"split {split!r}: every utterance is shorter than one frame of model {model!r}")


@dataclass(frozen=True)
class Hearing:
    """Which members of which utterances one model has to hear; all mappings are by role (`train`, `dev`, `test`).

    Attributes:
        clean: Keys of utterances of which the clean wave alone is heard.
        whole: Keys of utterances that are heard with their copies.
        copies: Names of those copies.
        leakage: Keys of utterances that the domain probe is trained or tested on.
        leakage_role: Where the domain probe is trained: `train`, or `dev` if train has no copies of the test's conditions.
        leakage_conditions: Conditions that both that split and the test split have, and `clean`.
        notes: What is left out.
    """

    clean: dict[str, frozenset[str]]
    whole: dict[str, frozenset[str]]
    copies: dict[str, tuple[str, ...]]
    leakage: dict[str, frozenset[str]]
    leakage_role: str
    leakage_conditions: frozenset[str]
    notes: tuple[str, ...]

    def passes(self, role: str) -> list[tuple[tuple[str, ...], frozenset[str]]]:
        """Members and keys of each pass over a split; members that nobody hears are not decoded."""
        both = [((CLEAN,), self.clean[role]), ((CLEAN, *self.copies[role]), self.whole[role])]
        return [(members, keys) for members, keys in both if keys]


def plan_hearing(roster: Roster, tasks: Iterable[LabelledTask], config: EvaluationConfig) -> Hearing:
    """Decide what must be heard for the tasks and measures that are asked for, and nothing else.

    Raises:
        EmptyConditionError: If leakage is asked for and neither train nor dev has copies of the test's conditions.
    """
    needed: dict[str, set[str]] = {role: set() for role in ROLES}
    for task in tasks:
        for role in ROLES:
            needed[role] |= task.keys(role)
    if "cosine" in config.measures:
        needed["train"] |= roster.reference
        needed["test"] |= set(roster.test)
    leakage: dict[str, frozenset[str]] = dict.fromkeys(ROLES, frozenset())
    source, shared = "train", conditions_of(roster.train) & set(roster.conditions)
    notes: list[str] = []
    if "leakage" in config.measures:
        if not shared:
            source, shared = "dev", conditions_of(roster.dev) & set(roster.conditions)
        if not shared:
            raise EmptyConditionError(split=roster.splits.train, condition=None, purpose="measure leakage")
        leakage[source] = chosen_keys(roster.of(source), REFERENCE_UTTERANCES, seed=config.seed)
        leakage["test"] = chosen_keys(roster.test, LEAKAGE_TEST_UTTERANCES, seed=config.seed)
        if missing := sorted(set(roster.conditions) - shared):
            notes.append(f"leakage: {', '.join(missing)} left out, split {roster.split_of(source)} does not have it")
    whole = {**leakage, "test": frozenset(needed["test"] | leakage["test"])}
    return Hearing(
        clean={role: frozenset(needed[role] - whole[role]) for role in ROLES},
        whole=whole,
        copies={role: copies_of(roster.of(role), conditions=None if role == "test" else shared) for role in ROLES},
        leakage=leakage,
        leakage_role=source,
        leakage_conditions=frozenset(shared | {CLEAN}),
        notes=tuple(notes),
    )


def chosen_keys(entries: Iterable[str], most: int, *, seed: int) -> frozenset[str]:
    """At most so many keys, by keyed hash."""
    return frozenset(keyed_order(entries, seed=seed, purpose="reference")[:most])


def copies_of(entries: Mapping[str, Listed], *, conditions: Container[str] | None) -> tuple[str, ...]:
    """Names of the copies of some conditions (all by default) that some utterance has, sorted."""
    copies = [copy for entry in entries.values() for copy in entry.sample.copies]
    return tuple(sorted({copy.name for copy in copies if conditions is None or copy.condition in conditions}))


def conditions_of(entries: Mapping[str, Listed]) -> set[str]:
    """Conditions that some utterance has a copy of."""
    return {copy.condition for entry in entries.values() for copy in entry.sample.copies}


@dataclass
class Tables:
    """What is kept of one model's features.

    Attributes:
        last: Pooled last layer by role, for the tasks.
        deep: Pooled layers by role, for the domain probe.
        moments: Of clean reference frames.
        cosine: Of test frames; made when the moments are known.
    """

    last: dict[str, PooledRows]
    deep: dict[str, PooledRows]
    moments: FrameMoments
    cosine: FrameCosine | None = None
    too_short: int = 0

    def add(self, role: str, utterance: Embedded, *, roster: Roster, hearing: Hearing) -> None:
        """Take in one utterance."""
        key = utterance.key
        if any(frames.shape[1] == 0 for frames in utterance.frames.values()):
            self.too_short += 1
            return
        for member, frames in utterance.frames.items():
            if role == "test" or member == CLEAN:
                self.last[role].add(key, member, frames[-1])
            if key in hearing.leakage[role] and condition_of(member) in hearing.leakage_conditions:
                self.deep[role].add(key, member, frames)
        if role == "train" and key in roster.reference and CLEAN in utterance.frames:
            self.moments.add(utterance.frames[CLEAN])
        if role == "test" and self.cosine is not None:
            self.cosine.add(utterance)


def hear(
    encoder: Encoder, *, roster: Roster, hearing: Hearing, config: EvaluationConfig, name: str
) -> tuple[Tables, float]:
    """Run a model over everything it has to hear; returns what is kept, and the seconds of audio it heard."""
    tables = Tables({role: PooledRows() for role in ROLES}, {role: PooledRows() for role in ROLES}, FrameMoments())
    total_s = sum(
        sum(copy.name in members for copy in entry.sample.copies) * entry.seconds + entry.seconds
        for role in ROLES
        for members, keys in hearing.passes(role)
        for key, entry in roster.of(role).items()
        if key in keys
    )
    with Progress(f"hear with {name}", total=round(total_s), unit="s of audio") as progress:
        for role in ROLES:
            if role == "test" and "cosine" in config.measures:
                tables.cosine = FrameCosine(tables.moments.scaling())
            for members, keys in hearing.passes(role):
                heard = utterances(config.corpus, roster.split_of(role), members=members, keys=keys)
                for utterance in embedded(encoder, heard, advance=progress.advance):
                    tables.add(role, utterance, roster=roster, hearing=hearing)
            if hearing.passes(role) and not tables.last[role].keys:
                raise TooShortError(name, split=roster.split_of(role))
    return tables, total_s
