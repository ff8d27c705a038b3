#!/usr/bin/env python3
"""Cells in, verdicts out: `claims.json`, tables in Markdown and one HTML page, by the rules of `claims.md`.

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
import numpy as np
import tables as study_tables
from cells import TASKS, UNPAIRED
from estimates import PLAIN, Comparison, Estimate, Invariance, holm, invariance, voice_weights
from figures import figures
from record import StudyCell

from corpus_builder.pages.html import write_html
from manifests.errors import StillroomError, UsageError
from manifests.io.atomic import write_text
from manifests.io.digest import bytes_digest
from manifests.io.json_yaml import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CLAIMS = Path(__file__).with_name("claims.md")
TITLE = "How far distillation on distorted speech goes, on two cores"
ALPHA = 0.05
CLEAN_MARGIN = 1.0
RANK_KEPT = 0.95
WORDING = {
    "1": "CDM 1 closes shortfall on seen and new distortions, at no loss on clean",
    "1h": "CDM 1 closes at least half of the shortfall on seen distortions",
    "2": "CDM 2 gives more invariant features than CDM 1, without collapse",
    "3": "DAT adds where all training data is paired",
    "4": "DAT adds on recordings without a clean twin",
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
class Contrast:
    """One of the contrasts that a claim is decided by.

    Attributes:
        estimate: Positive speaks for the claim.
        margin: The least effect that counts.
        is_primary: Whether it says in which direction the claim fails; others only have to hold.
    """

    estimate: Estimate
    margin: float = 0.0
    is_primary: bool = True


Evidence = dict[str, Contrast]
"""Contrasts by what they are of; all must hold."""


def read_cells(folder: Path) -> list[StudyCell]:
    """All cells of a folder.

    Raises:
        MixedCellsError: If they were not measured or trained on the same data, under the same claims, on the same side.
        UsageError: If there is none.
    """
    found = [StudyCell.read(path, needed="a finished cell") for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UsageError(f"{folder} holds no cells; run study.py first")
    trained: dict[str, StudyCell] = {}
    for cell in found:
        first = trained.setdefault(cell.corpus, cell)
        for what, mine, other, of in (
            ("data", cell.data_sha256, found[0].data_sha256, found[0]),
            ("claims.md", cell.claims_sha256, found[0].claims_sha256, found[0]),
            ("side", cell.side, found[0].side, found[0]),
            ("voices", cell.voices, found[0].voices, found[0]),
            ("training corpus", cell.student.get("corpus_sha256"), first.student.get("corpus_sha256"), first),
        ):
            if mine != other:
                raise MixedCellsError(what, of.name, cell.name)
    return found


def compared(found: Sequence[StudyCell]) -> Comparison:
    """Cells by system and replicate, systems in the order of the closed list."""
    order = list(dict.fromkeys(one.system for one in study_cells.cells("test")))
    systems: dict[str, dict[tuple[str, int], StudyCell]] = {}
    for cell in sorted(found, key=lambda cell: order.index(cell.system)):
        systems.setdefault(cell.system, {})[cell.corpus, cell.seed] = cell
    return Comparison(systems, voice_weights(len(found[0].voices)))


def evidence_of(comparison: Comparison) -> dict[str, Evidence]:
    """The contrasts of every claim, as `claims.md` fixes them."""
    of, contrast = comparison.accuracy, comparison.contrast

    def gain(system: str, over: str, group: str) -> dict[str, Estimate]:
        return {
            f"{task}: {group}, {system} - {over}": contrast((1.0, system, of(task, group)), (-1.0, over, of(task, group)))
            for task in TASKS
        }  # fmt: skip

    closes: Evidence = {name: Contrast(one, margin=1.0) for name, one in gain("cdm1", PLAIN, "seen").items()}
    closes |= {name: Contrast(one, is_primary=False) for name, one in gain("cdm1", PLAIN, "new").items()}
    half: Evidence = {}
    for task in TASKS:
        seen, clean = of(task, "seen"), of(task, "clean")
        kept = contrast((1.0, "cdm1", clean), (-1.0, PLAIN, clean), plus=CLEAN_MARGIN)
        closes[f"{task}: clean, cdm1 - {PLAIN} + {CLEAN_MARGIN:g}"] = Contrast(kept, is_primary=False)
        middle = contrast((1.0, "cdm1", seen), (-0.5, PLAIN, seen), (-0.5, PLAIN, clean))
        half[f"{task}: seen, cdm1 - the middle of {PLAIN}'s seen and clean"] = Contrast(middle)

    def measure(which: Invariance, share: float = 1.0) -> Estimate:
        def value(cell: StudyCell) -> NDArray[np.float64]:
            return np.array([invariance(cell, which)])

        return contrast((1.0, "cdm2", value), (-share, "cdm1", value))

    later: Evidence = {
        "retrieval@1, cdm2 - cdm1": Contrast(measure("retrieval"), margin=1.0),
        "matched - mismatched cosine, cdm2 - cdm1": Contrast(measure("gap"), margin=1.0),
        f"effective rank, cdm2 - {RANK_KEPT:g} cdm1": Contrast(measure("rank", RANK_KEPT), is_primary=False),
    }
    paired = gain("cdm1-dat", "cdm1", "seen")
    unpaired = gain("unpaired-dat", "unpaired", UNPAIRED) | gain("unpaired-dat", "without", UNPAIRED)
    return {
        "1": closes,
        "1h": half,
        "2": later,
        "3": {name: Contrast(one, margin=0.5) for name, one in paired.items()},
        "4": {name: Contrast(one, margin=0.5) for name, one in unpaired.items()},
    }


def decided(evidence: Mapping[str, Evidence]) -> dict[str, tuple[Verdict, float]]:
    """Verdict and Holm's p of each claim: all contrasts must hold; it is contrary where all primary ones are opposite."""
    for_it = holm({claim: max(one.estimate.p for one in found.values()) for claim, found in evidence.items()})
    primary = {claim: [one for one in found.values() if one.is_primary] for claim, found in evidence.items()}
    against = holm({claim: max(one.estimate.p_contrary for one in found) for claim, found in primary.items()})
    verdicts: dict[str, tuple[Verdict, float]] = {}
    for claim, found in evidence.items():
        if for_it[claim] <= ALPHA and all(one.estimate.value >= one.margin for one in found.values()):
            verdicts[claim] = "supported", for_it[claim]
        elif against[claim] <= ALPHA and all(one.estimate.value <= -one.margin for one in primary[claim]):
            verdicts[claim] = "contrary", against[claim]
        else:
            verdicts[claim] = "not supported", for_it[claim]
    return verdicts


def claims_document(evidence: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    """`claims.json`."""
    verdicts = decided(evidence)
    return [
        {
            "claim": claim, "says": WORDING[claim], "verdict": verdicts[claim][0], "holm_p": float(f"{verdicts[claim][1]:.4g}"),
            "contrasts": {
                name: {
                    "effect": round(one.estimate.value, 3), "margin": one.margin, "p": float(f"{one.estimate.p:.4g}"),
                    "interval": [round(one.estimate.low, 3), round(one.estimate.high, 3)],
                    "percentile_interval": [round(end, 3) for end in one.estimate.percentile], "runs": one.estimate.replicates,
                }
                for name, one in found.items()
            },
        }
        for claim, found in evidence.items()
    ]  # fmt: skip


def analyse(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Decide the claims and write `claims.json`, `robustness.md` and `robustness.html`.

    Raises:
        MissingCellsError: If a cell is missing: claims are decided once, from all.
        MixedCellsError: If cells were measured differently, or under other claims than the file's.
    """
    found = read_cells(folder)
    names = {cell.name for cell in found}
    if missing := [cell.name for cell in study_cells.cells("test") if cell.name not in names]:
        raise MissingCellsError(missing)
    if found[0].claims_sha256 != bytes_digest(CLAIMS.read_bytes()):
        raise MixedCellsError("claims.md", found[0].name, "and the file as it is now")
    comparison = compared(found)
    document = claims_document(evidence_of(comparison))
    tables = study_tables.all_tables(comparison, document)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "robustness.md", study_tables.markdown(TITLE, tables))
    content = {
        "title": TITLE,
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
