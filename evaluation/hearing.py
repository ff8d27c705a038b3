"""Three passes over a corpus (train, dev, test), in which one model hears what the tasks and measures need, and no more."""

from __future__ import annotations

import functools
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
    from collections.abc import Iterable

    from evaluation.config import EvaluationConfig
    from evaluation.embed import Embedded
    from evaluation.labels import LabelledTask
    from evaluation.roster import Listed, Roster
    from training.encoder import Encoder

LEAKAGE_TEST_UTTERANCES = 2 * REFERENCE_UTTERANCES


class TooShortError(StillroomError, ValueError):
    """A split without an utterance that is long enough."""

    def __init__(self, model: str, *, split: str) -> None:
        super().__init__(f"split {split!r}: every utterance is shorter than one frame of model {model!r}")


@dataclass(frozen=True)
class Hearing:
    """Which members of which utterances one model has to hear.

    Attributes:
        clean: By role (`train`, `dev`, `test`), keys of utterances whose clean wave is heard.
        copies: By role, keys of utterances whose copies are heard too.
        leakage: By role, keys of utterances that the domain probe is trained or tested on.
        leakage_role: Where the domain probe is trained: `train`, or `dev` if train has no copies.
        leakage_conditions: Conditions that both that split and the test split have, and `clean`.
        notes: What is left out.
    """

    clean: dict[str, frozenset[str]]
    copies: dict[str, frozenset[str]]
    leakage: dict[str, frozenset[str]]
    leakage_role: str
    leakage_conditions: frozenset[str]
    notes: tuple[str, ...]

    def has(self, role: str, key: str, member: str) -> bool:
        """Whether a member has to be heard."""
        return key in (self.clean if member == CLEAN else self.copies)[role]


def plan_hearing(roster: Roster, tasks: Iterable[LabelledTask], config: EvaluationConfig) -> Hearing:
    """Decide what must be heard for the tasks and measures that are asked for, and nothing else.

    Raises:
        EmptyConditionError: If leakage is asked for and neither train nor dev has copies.
    """
    tasks = tuple(tasks)
    clean = {role: {key for task in tasks for key in task.keys(role)} for role in ("train", "dev", "test")}
    copies: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set(roster.test)}
    leakage: dict[str, frozenset[str]] = {"train": frozenset(), "dev": frozenset(), "test": frozenset()}
    clean["test"] = set(roster.test)
    notes: list[str] = []
    role, shared = "train", {CLEAN}
    if "cosine" in config.measures:
        clean["train"] |= roster.reference
    if "leakage" in config.measures:
        role = "train" if conditions_of(roster.train) else "dev"
        entries = roster.train if role == "train" else roster.dev
        shared |= conditions_of(entries) & set(roster.conditions)
        if shared == {CLEAN}:
            raise EmptyConditionError(split=roster.splits.train, condition=None, purpose="measure leakage")
        order = keyed_order(entries, seed=config.seed, purpose="reference")[:REFERENCE_UTTERANCES]
        asked = keyed_order(roster.test, seed=config.seed, purpose="reference")[:LEAKAGE_TEST_UTTERANCES]
        leakage |= {role: frozenset(order), "test": frozenset(asked)}
        clean[role] |= leakage[role]
        copies[role] |= leakage[role]
        missing = sorted(set(roster.conditions) - shared)
        if missing:
            split = roster.splits.train if role == "train" else roster.splits.dev
            notes.append(f"leakage: {', '.join(missing)} left out, split {split} does not have it")
    return Hearing(
        {name: frozenset(keys) for name, keys in clean.items()},
        {name: frozenset(keys) for name, keys in copies.items()},
        leakage,
        role,
        frozenset(shared),
        tuple(notes),
    )


def conditions_of(entries: dict[str, Listed]) -> set[str]:
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
    roles = {"train": roster.train, "dev": roster.dev, "test": roster.test}
    tables = Tables({role: PooledRows() for role in roles}, {role: PooledRows() for role in roles}, FrameMoments())
    total_s = sum(
        hearing.has(role, key, member) * entry.sample.num_samples / roster.sample_rate
        for role, entries in roles.items()
        for key, entry in entries.items()
        for member in (CLEAN, *(copy.name for copy in entry.sample.copies))
    )
    with Progress(f"hear with {name}", total=round(total_s), unit="s of audio") as progress:
        for role, split in (("train", roster.splits.train), ("dev", roster.splits.dev), ("test", roster.splits.test)):
            keys = hearing.clean[role] | hearing.copies[role]
            if split is None or not keys:
                continue
            if role == "test" and "cosine" in config.measures:
                tables.cosine = FrameCosine(tables.moments.scaling())
            members = None if hearing.copies[role] else (CLEAN,)
            heard = embedded(
                encoder,
                utterances(config.corpus, split, members=members, keys=keys),
                is_wanted=functools.partial(hearing.has, role),
                advance=progress.advance,
            )
            for utterance in heard:
                tables.add(role, utterance, roster=roster, hearing=hearing)
            if not tables.last[role].keys:
                raise TooShortError(name, split=split)
    return tables, total_s
