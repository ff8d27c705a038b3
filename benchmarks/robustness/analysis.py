#!/usr/bin/env python3
"""Cells in, verdicts out: `claims.json`, a table in Markdown and one HTML page, by the rules of `claims.md`.

python benchmarks/robustness/analysis.py CELLS OUT
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cells as study_cells
import materials
import tables as study_tables
from estimates import CDM_GAIN, DAT_GAIN, Comparison, Draws, Estimate, holm, label_free_metric
from figures import figures
from record import StudyCell

from corpus_builder.pages.html import write_html
from manifests.errors import StillroomError, UsageError
from manifests.io.atomic import write_text
from manifests.io.digest import bytes_digest
from manifests.io.json_yaml import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

CLAIMS = Path(__file__).with_name("claims.md")
ALPHA = 0.05
EQUIVALENCE = 1.0
MARGINS = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.5, "e": 0.0, "f": 1.0}
WORDING = {
    "a": "a plainly distilled student loses more under distortion than its teacher",
    "b": "CDM helps on seen and on unseen distortions",
    "c": "CDM 2 gives more invariant features than CDM 1",
    "d": "DAT adds where the teacher is not robust, little where it is",
    "e": "a few precomputed copies do as well as never meeting a copy twice",
    "f": "more families at equal copies help on unseen kinds",
}
Verdict = Literal["supported", "not supported", "contrary"]


class MixedCellsError(StillroomError, ValueError):
    """Cells that were not measured alike."""

    def __init__(self, what: str, first: str, second: str) -> None:
        super().__init__(
            f"cells {first} and {second} differ in {what}; results of different {what} are not put together"
        )


class MissingCellsError(StillroomError, FileNotFoundError):
    """The claims are decided once, from all cells."""

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"{len(missing)} cells are missing, the first is {missing[0]}; run study.py again: claims are decided from all cells"
        )


@dataclass(frozen=True)
class Evidence:
    """What a claim is decided by.

    Attributes:
        contrasts: By what they are of; the first has the margin; all must hold.
        answer: For (e): the smallest number of copies that passed.
    """

    contrasts: Mapping[str, Estimate]
    answer: int | None = None

    @property
    def first(self) -> Estimate:
        """The primary contrast."""
        return next(iter(self.contrasts.values()))

    @property
    def p(self) -> float:
        """Largest of the contrasts': all of them are due."""
        return max(one.p for one in self.contrasts.values())


def read_cells(folder: Path) -> list[StudyCell]:
    """All cells of a folder.

    Raises:
        MixedCellsError: If they were not measured on the same data, under the same claims, on the same side.
        UsageError: If there is none.
    """
    found = [StudyCell.read(path, needed="a finished cell") for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UsageError(f"{folder} holds no cells; run study.py first")
    for cell in found[1:]:
        for what, mine, other in (
            ("data", cell.data_sha256, found[0].data_sha256),
            ("claims.md", cell.claims_sha256, found[0].claims_sha256),
            ("side", cell.side, found[0].side),
        ):
            if mine != other:
                raise MixedCellsError(what, found[0].name, cell.name)
    return found


def compared(found: Sequence[StudyCell]) -> Comparison:
    """Cells by system and replicate, systems in the order of the closed list."""
    systems: dict[str, dict[tuple[str, int], StudyCell]] = {}
    order = {
        system: place for place, system in enumerate(dict.fromkeys(one.system for one in study_cells.cells("test")))
    }
    for cell in sorted(found, key=lambda cell: order.get(cell.system, len(order))):
        systems.setdefault(cell.system, {})[cell.corpus, cell.seed] = cell
    return Comparison(systems, Draws(found[0]))


def copies_evidence(comparison: Comparison) -> Evidence:
    """(e): from 16 copies down to the first that is not within a point of fresh."""
    value = comparison.task_metric("distorted")

    def allowed(cell: StudyCell) -> NDArray[np.float64]:
        """A point is given to every number of copies, so that a contrast above 0 is one within a point."""
        return value(cell) + (0.0 if cell.system == "copies-fresh" else EQUIVALENCE)

    contrasts, answer, is_open = {}, None, True
    for count in reversed(study_cells.COPY_COUNTS):
        found = comparison.contrast({f"copies-{count:02d}": 1.0, "copies-fresh": -1.0}, allowed)
        contrasts[f"{count} copies - fresh + {EQUIVALENCE:g}"] = found
        is_open = is_open and found.p <= ALPHA
        answer = count if is_open else answer
    return Evidence(contrasts, answer)


def evidence_of(comparison: Comparison) -> dict[str, Evidence]:
    """The contrasts of every claim, as `claims.md` fixes them."""
    of, contrast = comparison.task_metric, comparison.contrast
    interaction = DAT_GAIN | {f"robust-{name}": -weight for name, weight in DAT_GAIN.items()}
    singles = {f"families-1-{family}": -1 / len(materials.FAMILIES) for family in materials.FAMILIES}
    smaller = {name: -weight for name, weight in CDM_GAIN.items()}
    later = {"cdm2": 1.0, "cdm1": -1.0}

    def invariance(which: Literal["retrieval", "gap"]) -> Callable[[StudyCell], NDArray[np.float64]]:
        return lambda cell: label_free_metric(cell, which)

    return {
        "a": Evidence({"loss, plain - nano": contrast({"plain": 1.0, "teacher-nano": -1.0}, of("loss distorted"))}),
        "b": Evidence({
            "smaller loss on seen": contrast(smaller, of("loss seen")),
            "smaller loss on new": contrast(smaller, of("loss new")),
            "accuracy on seen": contrast(CDM_GAIN, of("seen")),
            "accuracy on new": contrast(CDM_GAIN, of("new")),
        }),
        "c": Evidence({"retrieval@1": contrast(later, invariance("retrieval")), "cosine gap": contrast(later, invariance("gap"))}),
        "d": Evidence({
            "gain of DAT with nano": contrast(DAT_GAIN, of("distorted")),
            "that gain - the gain with nano-robust": contrast(interaction, of("distorted")),
        }),
        "e": copies_evidence(comparison),
        "f": Evidence({"accuracy on new, 4 - 1 families": contrast({"families-4": 1.0, **singles}, of("new"))}),
    }  # fmt: skip


def verdicts(evidence: Mapping[str, Evidence]) -> dict[str, Verdict]:
    """Of each claim, after Holm's correction in either direction."""
    for_it = holm({claim: one.first.p if claim == "e" else one.p for claim, one in evidence.items()})
    against = holm({claim: one.first.p_contrary for claim, one in evidence.items()})
    found: dict[str, Verdict] = {}
    for claim, one in evidence.items():
        if for_it[claim] <= ALPHA and one.first.value >= MARGINS[claim]:
            found[claim] = "supported"
        elif against[claim] <= ALPHA and one.first.value <= -MARGINS[claim]:
            found[claim] = "contrary"
        else:
            found[claim] = "not supported"
    return found


def claims_document(evidence: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    """`claims.json`."""
    decided = verdicts(evidence)
    return [
        {
            "claim": claim,
            "says": WORDING[claim],
            "verdict": decided[claim],
            "effect": round(one.first.value, 3),
            "interval": [round(one.first.low, 3), round(one.first.high, 3)],
            "margin": MARGINS[claim],
            "seeds": one.first.replicates,
            **({"answer": one.answer} if claim == "e" else {}),
            "contrasts": {
                name: {"effect": round(each.value, 3), "interval": [round(each.low, 3), round(each.high, 3)],
                       "percentile_interval": [round(end, 3) for end in each.percentile], "p": float(f"{each.p:.4g}")}
                for name, each in one.contrasts.items()
            },
        }
        for claim, one in evidence.items()
    ]  # fmt: skip


def analyse(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Decide the claims and write `claims.json`, `robustness.md` and `robustness.html`.

    Raises:
        MissingCellsError: If a cell is missing: claims are decided once, from all.
        MixedCellsError: If cells were measured differently, or under other claims than those that stand there.
    """
    found = read_cells(folder)
    names = {cell.name for cell in found}
    if missing := [cell.name for cell in study_cells.cells("test") if cell.name not in names]:
        raise MissingCellsError(missing)
    if found[0].claims_sha256 != bytes_digest(CLAIMS.read_bytes()):
        raise MixedCellsError("claims.md", found[0].name, "and the file as it stands")
    comparison = compared(found)
    document = claims_document(evidence_of(comparison))
    tables = study_tables.all_tables(comparison, document)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "robustness.md", study_tables.markdown(tables))
    content = {
        "title": "The finding, as far as two cores allow",
        "verdicts": document,
        "figures": figures(comparison, document),
        "tables": tables,
        "claims": CLAIMS.read_text(),
    }
    write_html(out / "robustness.html", "study.html", folder=Path(__file__).parent, content=content)
    write_json(out / "claims.json", document)
    return document


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path, help="folder of finished cells")
    parser.add_argument("out", type=Path, help="where claims.json, robustness.md and robustness.html go")
    given = parser.parse_args()
    try:
        document = analyse(given.cells, given.out)
    except StillroomError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(json.dumps({one["claim"]: one["verdict"] for one in document}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
