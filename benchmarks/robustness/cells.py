"""The closed list of cells: who is trained how, on which corpus, with which seed; each with a digest of all that decides it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import materials

from manifests.io.digest import digest
from manifests.io.records import NAME_PATTERN
from training.config.load import merged

VERSION = 1
"""Raised when the code of the study changes what a cell means."""
HOUSE = Path(__file__).resolve().parents[2]
FINAL_SEEDS = (11, 12, 13, 14, 15)
FEW_SEEDS = (21, 22, 23)
TUNING_SEEDS = (1, 2)
Side = Literal["dev", "test"]
Teacher = Literal["nano", "nano-robust"]

STEPS = 700
SECONDS = 12
COPIES_LIMIT = 400
FAMILIES_LIMIT = 1500
COPY_COUNTS = (1, 2, 4, 8, 16)
DAT: dict[str, Any] = {
    "objective": "confusion",
    "domain": "condition",
    "standardise": True,
    "strength": 0.1,
    "learning_rate": 3e-3,
    "critic_steps": 3,
}
TASKS: tuple[dict[str, Any], ...] = (
    {"kind": "classify", "label": "word"},
    {"kind": "classify", "label": "speaker", "within": "language", "where": {"set": ["fillets-cs", "fillets-nl"]}},
    {"kind": "frames", "label": "phones", "table": "phones.csv"},
)
ROBUST: dict[str, Any] = {
    "steps": 600,
    "learning_rate": 5e-4,
    "batch_size": 24,
    "crop_frames": 200,
    "seed": 1,
    "corpus": "main-a",
}
"""How nano was continued to become nano-robust (`recipes/nano/robust.py`, by `study.py OUT --make-teacher`)."""
ROBUST_TEACHER = Path(__file__).with_name("nano-robust")
"""What came of it. It is committed, since another kind of CPU may give other last bits: all cells must have one teacher."""


@dataclass(frozen=True)
class Scale:
    """How large: the study, or its smoke test.

    Attributes:
        limit: Utterances a split of every corpus; None for what the study says.
        robust: Over `ROBUST`.
        rooms: Of a bank; None for what the recipes say.
    """

    name: str = "full"
    steps: int = STEPS
    seconds: int = SECONDS
    limit: int | None = None
    rooms: int | None = None
    robust: dict[str, Any] = field(default_factory=dict)


FULL = Scale()
SMOKE = Scale("smoke", steps=4, seconds=12, limit=20, rooms=6, robust={"steps": 2, "batch_size": 2, "crop_frames": 16})


@dataclass(frozen=True)
class Cell:
    """One model to make and to measure; a teacher is measured alone.

    Attributes:
        system: Cells that differ in nothing but seed and corpus share it.
        claim: Letters of the claims it serves.
        corpus: What it is trained on.
        limit: Utterances of that corpus.
        times: As many steps as the others', times this.
        change: Over the common config of a run; empty for a teacher.
    """

    system: str
    claim: str
    teacher: Teacher = "nano"
    seed: int = 0
    corpus: str = ""
    limit: int | None = None
    times: int = 1
    change: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.system}-{self.corpus}-{self.seed}" if self.corpus else self.system

    def limit_at(self, scale: Scale) -> int | None:
        """The corpus' size at a scale."""
        return self.limit if scale.limit is None else scale.limit

    def config(self, scale: Scale) -> dict[str, Any]:
        """The run's config without paths of this machine: `corpus` and `teacher.name` stand as their names."""
        steps = self.times * scale.steps
        common = {
            "preset": "distilhubert",
            "corpus": self.corpus,
            "teacher": {"name": self.teacher},
            "student": {"layers": 2, "projection_norm": True},
            "batch": {"seconds": scale.seconds, "lanes": 2},
            "crop_s": min(6, scale.seconds // 2),
            "steps": steps,
            "optimiser": {"learning_rate": 2e-3},
            "precision": "bf16",
            "log_every": 50,
            "checkpoint_every": 200,
            "validate_every": max(steps // 2, 1),
            "seed": self.seed,
        }
        return merged(common, self.change)

    def decided(self, side: Side, scale: Scale) -> dict[str, Any]:
        """Everything that decides the cell's numbers, as plain data; never a path, never what a machine measured."""
        decided: dict[str, Any] = {
            "study": VERSION,
            "system": self.system,
            "teacher": teacher_record(self.teacher, scale),
            "evaluation": {"recipe": digest(materials.evaluation_recipe(side, rooms=scale.rooms)), "tasks": list(TASKS), "side": side},
            "scale": scale.name,
        }  # fmt: skip
        if self.corpus:
            decided["recipe"] = digest(materials.training_recipe(self.corpus, rooms=scale.rooms))
            decided["limit"] = self.limit_at(scale)
            decided["config"] = self.config(scale)
        return decided

    def digest(self, side: Side, scale: Scale) -> str:
        """SHA-256 over that."""
        return digest(self.decided(side, scale))


def teacher_record(teacher: Teacher, scale: Scale) -> dict[str, Any]:
    """What decides a teacher: nano's weights, and how they were continued."""
    weights = (HOUSE / "training/nano/weights.safetensors").read_bytes()
    record: dict[str, Any] = {"nano": hashlib.sha256(weights).hexdigest()}
    if teacher == "nano-robust":
        robust = {**ROBUST, **scale.robust}
        record |= {"robust": robust, "recipe": digest(materials.training_recipe(robust["corpus"], rooms=scale.rooms))}
        if scale == FULL:
            record["weights"] = hashlib.sha256((ROBUST_TEACHER / "weights.safetensors").read_bytes()).hexdigest()
    return record


def views(kind: str, **student: Any) -> dict[str, Any]:
    """Views of a preset, with what the student may hear."""
    clean = {"clean_share": 0.0625}
    if kind == "none":
        return {"kind": "none"}
    if kind == "cdm2":
        return {"kind": kind, "teacher": clean, "student": {**clean, **student}}
    return {"kind": kind, **clean, "student": student} if student else {"kind": kind, **clean}


SYSTEMS: dict[str, Cell] = {
    "plain": Cell("plain", "ab", change={"views": views("none")}),
    "plain-1-layer": Cell("plain-1-layer", "a", change={"views": views("none"), "student": {"layers": 1}}),
    "plain-4-layers": Cell("plain-4-layers", "a", change={"views": views("none"), "student": {"layers": 4}}),
    "same": Cell("same", "b", change={"views": views("same")}),
    "cdm1": Cell("cdm1", "bcd", change={"views": views("cdm1")}),
    "cdm2": Cell("cdm2", "bcd", change={"views": views("cdm2")}),
    "cdm1-dat": Cell("cdm1-dat", "d", change={"views": views("cdm1"), "adversary": DAT}),
    "cdm2-dat": Cell("cdm2-dat", "d", change={"views": views("cdm2"), "adversary": DAT}),
    "robust-cdm1": Cell("robust-cdm1", "d", "nano-robust", change={"views": views("cdm1")}),
    "robust-cdm2": Cell("robust-cdm2", "d", "nano-robust", change={"views": views("cdm2")}),
    "robust-cdm1-dat": Cell("robust-cdm1-dat", "d", "nano-robust", change={"views": views("cdm1"), "adversary": DAT}),
    "robust-cdm2-dat": Cell("robust-cdm2-dat", "d", "nano-robust", change={"views": views("cdm2"), "adversary": DAT}),
}
TEACHERS = (Cell("teacher-nano", "a", "nano"), Cell("teacher-nano-robust", "ad", "nano-robust"))


def copies_systems() -> dict[str, Cell]:
    """(e): so many copies drawn with replacement, and 16 drawn without, which in 16 epochs are never met twice."""
    made = {}
    for count in COPY_COUNTS:
        student = {"conditions": list(materials.copy_names(count))}
        made[f"copies-{count:02d}"] = Cell(
            f"copies-{count:02d}", "e", limit=COPIES_LIMIT, times=2, change={"views": views("cdm1", **student)}
        )
    fresh = {"conditions": list(materials.copy_names(materials.MOST_COPIES)), "revisit": "last"}
    made["copies-fresh"] = Cell(
        "copies-fresh", "e", limit=COPIES_LIMIT, times=2, change={"views": views("cdm1", **fresh)}
    )
    return made


def family_systems() -> dict[str, Cell]:
    """(f): four copies an utterance of one family, two, or four. Each family stands equally often at each number."""
    chosen: list[tuple[str, ...]] = [(family,) for family in materials.FAMILIES]
    chosen += [("noise", "room"), ("codec", "channel"), materials.FAMILIES]
    made = {}
    for families in chosen:
        each = materials.COPIES_A_FAMILY // len(families)
        conditions = [f"{family}{copy}" for family in families for copy in range(1, each + 1)]
        name = f"families-{len(families)}" + ("" if len(families) == 4 else "-" + "-".join(families))
        made[name] = Cell(name, "f", limit=FAMILIES_LIMIT, change={"views": views("cdm1", conditions=conditions)})
    return made


def changed_name(system: str, mark: str) -> str:
    """Of a system changed while tuning; a change that `evaluate` takes in no name, such as a long one, stands there by its digest."""
    name = f"{system}-{mark}"
    return name if re.fullmatch(NAME_PATTERN, name) else f"{system}-{digest(mark)[:12]}"


def cells(side: Side) -> list[Cell]:
    """All cells in the order in which they are made: a seed of everything before the next, so that a stop leaves balance."""
    few = [(system, "copies") for system in copies_systems().values()]
    few += [(system, "families") for system in family_systems().values()]
    made = list(TEACHERS)
    if side == "dev":
        for seed in TUNING_SEEDS:
            made += [replace(system, seed=seed, corpus="main-a") for system in SYSTEMS.values()]
            made += [replace(system, seed=seed, corpus=corpus) for system, corpus in few]
        return made
    for number, seed in enumerate(FINAL_SEEDS):
        for corpus, offset in (("main-a", 0), ("main-b", 100)):  # a seed of its own in each corpus: ten runs, no twins
            made += [replace(system, seed=seed + offset, corpus=corpus) for system in SYSTEMS.values()]
        if number < len(FEW_SEEDS):
            made += [replace(system, seed=FEW_SEEDS[number], corpus=corpus) for system, corpus in few]
    return made
