"""The closed list of cells: which system is trained how, on which corpus, with which seed; each with a digest of all that decides it."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import materials

from manifests.io.digest import digest
from manifests.io.records import NAME_PATTERN
from training.config.load import merged

VERSION = 3
"""Raised when the code of the study changes what a cell means."""
HOUSE = Path(__file__).resolve().parents[2]
TEACHER = "nano"
FINAL_SEEDS = (11, 12, 13, 14, 15)
TUNING_SEEDS = (1, 2, 3, 4)
Side = Literal["dev", "test"]

COMMON: dict[str, Any] = {
    "preset": "distilhubert",
    "teacher": {"name": TEACHER, "layers": [3, 5, 8]},
    "student": {"layers": 4, "projection_norm": True, "dropout": 0},
    "batch": {"seconds": 12, "lanes": 2},
    "crop_s": 6,
    "steps": 3500,
    "optimiser": {"learning_rate": 2e-3},
    "precision": "float32",
    "dev": "none",
    "workers": 0,
    "log_every": 50,
    "checkpoint_every": 200,
}
"""What all runs share."""
CLEAN_SHARE = 0.0625
UNPAIRED_CLEAN_SHARE = 0.2
"""Of the systems of claim 4: without clean pairs enough the student would have few targets of clean speech."""
UNPAIRED = "roomy"
"""The condition whose copies stand for recordings without a clean twin."""
DAT: dict[str, Any] = {
    "objective": "confusion",
    "domain": "condition",
    "standardise": True,
    "strength": 0.1,
    "learning_rate": 3e-3,
    "critic_steps": 3,
}
TASKS: dict[str, dict[str, Any]] = {
    "keywords": {"kind": "classify", "label": "word"},
    "phones": {"kind": "frames", "label": "phones", "table": "phones.csv"},
}
"""By the name that the study uses, with probes trained on clean speech."""


def matched(task: str) -> str:
    """Name of a task whose probes were trained on distorted speech."""
    return f"{task}, matched"


ALL_TASKS = TASKS | {matched(name): {**task, "probe": "distorted"} for name, task in TASKS.items()}


@functools.cache
def teacher_sha256() -> str:
    """Of the teacher's weights."""
    return hashlib.sha256((HOUSE / "training/nano/weights.safetensors").read_bytes()).hexdigest()


@dataclass(frozen=True)
class Scale:
    """How large: the study, or its smoke test.

    Attributes:
        change: Over `COMMON`.
        limit: Utterances a split of every training corpus; None for all.
        rooms: Of a bank; None for what the recipes say.
    """

    name: str = "full"
    change: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    rooms: int | None = None


FULL = Scale()
SMOKE = Scale("smoke", {"steps": 4}, limit=20, rooms=6)


@dataclass(frozen=True)
class Cell:
    """One model to make and to measure; the teacher is only measured.

    Attributes:
        system: Cells that differ in nothing but seed and corpus share it.
        change: Over the common config of a run.
        corpus: What it is trained on; empty for the teacher.
    """

    system: str
    change: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    corpus: str = ""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.system}-{self.corpus}-{self.seed}" if self.corpus else self.system

    def config(self, scale: Scale) -> dict[str, Any]:
        """The run's config without paths of this machine: `corpus` is its name, and `targets` is left out."""
        own = {**scale.change, "corpus": self.corpus, "seed": self.seed}
        return merged(merged(COMMON, own), self.change)

    def decided(self, side: Side, scale: Scale) -> dict[str, Any]:
        """Everything that decides the cell's numbers, as plain data; never a path, never what a machine measured."""
        recipe = digest(materials.evaluation_recipe(side, rooms=scale.rooms))
        decided: dict[str, Any] = {
            "study": VERSION,
            "system": self.system,
            "teacher": teacher_sha256(),
            "evaluation": {"recipe": recipe, "tasks": list(ALL_TASKS.values()), "side": side},
            "scale": scale.name,
        }
        if self.corpus:
            decided["recipe"] = digest(materials.training_recipe(self.corpus, rooms=scale.rooms))
            decided["limit"] = scale.limit
            decided["config"] = self.config(scale)
        return decided

    def digest(self, side: Side, scale: Scale) -> str:
        """SHA-256 over that."""
        return digest(self.decided(side, scale))


CDM1: dict[str, Any] = {"kind": "cdm1", "clean_share": CLEAN_SHARE}
CDM2: dict[str, Any] = {
    "kind": "cdm2",
    "teacher": {"clean_share": CLEAN_SHARE},
    "student": {"clean_share": CLEAN_SHARE},
}
WITHOUT: dict[str, Any] = {
    "kind": "cdm1",
    "clean_share": UNPAIRED_CLEAN_SHARE,
    "student": {"conditions": [name for name in materials.SEEN if name != UNPAIRED]},
}
WITH: dict[str, Any] = {
    "kind": "cdm1",
    "clean_share": UNPAIRED_CLEAN_SHARE,
    "student": {"conditions": list(materials.SEEN)},
    "unpaired": [UNPAIRED],
}
ADAPT: dict[str, Any] = WITH | {"unpaired": {UNPAIRED: 0}}
TWO: dict[str, Any] = {"layers": 2}
SYSTEMS: dict[str, dict[str, Any]] = {
    "plain": {"views": {"kind": "none"}},
    "cdm1": {"views": CDM1},
    "cdm2": {"views": CDM2},
    "cdm1-dat": {"views": CDM1, "adversary": DAT},
    "without": {"views": WITHOUT},
    "unpaired": {"views": WITH},
    "unpaired-dat": {"views": ADAPT, "adversary": DAT},
    "plain-2": {"views": {"kind": "none"}, "student": TWO},
    "cdm1-2": {"views": CDM1, "student": TWO},
}
"""What each system changes of `COMMON`. `without` has none of the unpaired condition's copies; `unpaired-dat` distils none of them."""
FEWER_SEEDS = {"plain-2": 2, "cdm1-2": 2}
"""Seeds in each corpus of systems that are shown and not claimed."""


def changed_name(system: str, mark: str) -> str:
    """Of a system changed while tuning; a mark that `evaluate` takes in no name, such as a long one, becomes its digest."""
    name = f"{system}-{mark}"
    return name if re.fullmatch(NAME_PATTERN, name) else f"{system}-{digest(mark)[:12]}"


def cells(side: Side) -> list[Cell]:
    """All cells in the order in which they are made: a seed of everything before the next, so that a stop leaves balance."""
    places = [("main-a", seed) for seed in TUNING_SEEDS]
    if side == "test":  # a seed of its own in each corpus: ten runs, no twins
        places = [place for seed in FINAL_SEEDS for place in (("main-a", seed), ("main-b", seed + 100))]
    made = [
        Cell(system, change, seed=seed, corpus=corpus)
        for corpus, seed in places
        for system, change in SYSTEMS.items()
        if side == "dev" or seed % 100 in FINAL_SEEDS[: FEWER_SEEDS.get(system)]
    ]
    return [Cell(f"teacher-{TEACHER}"), *made]
