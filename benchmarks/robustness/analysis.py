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
import numpy as np
from estimates import Comparison, Draws, Estimate, accuracies, holm, label_free_metric, metric
from record import StudyCell

from corpus_builder.sheet import curves, write_sheet
from manifests.digest import bytes_digest
from manifests.errors import StillroomError, UsageError
from manifests.files import write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
DAT_GAIN = {"cdm1-dat": 0.5, "cdm2-dat": 0.5, "cdm1": -0.5, "cdm2": -0.5}
CDM_GAIN = {"cdm1": 0.5, "cdm2": 0.5, "plain": -1.0}


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
    """Cells by system and replicate."""
    systems: dict[str, dict[tuple[str, int], StudyCell]] = {}
    for cell in found:
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
    later, earlier = {"cdm2": 1.0, "cdm1": -1.0}, lambda which: lambda cell: label_free_metric(cell, which)
    return {
        "a": Evidence({"loss, plain - nano": contrast({"plain": 1.0, "teacher-nano": -1.0}, of("loss distorted"))}),
        "b": Evidence({
            "smaller loss on seen": contrast(smaller, of("loss seen")),
            "smaller loss on new": contrast(smaller, of("loss new")),
            "accuracy on seen": contrast(CDM_GAIN, of("seen")),
            "accuracy on new": contrast(CDM_GAIN, of("new")),
        }),
        "c": Evidence({"retrieval@1": contrast(later, earlier("retrieval")), "cosine gap": contrast(later, earlier("gap"))}),
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


Table = dict[str, Any]


def system_table(comparison: Comparison) -> Table:
    """Every system: clean, seen, new and losses, mean and deviation over its replicates."""
    wanted = ("clean", "seen", "new", "distorted", "loss seen", "loss new")
    rows = []
    for system, found in comparison.cells.items():
        row = [system, str(len(found))]
        for which in wanted:
            values = [float(metric(cell, comparison.draws, which)[0]) for cell in found.values()]
            row.append(f"{np.mean(values):.1f}" + (f" ±{np.std(values, ddof=1):.1f}" if len(values) > 1 else ""))
        heard = [cell.student.get("audio_s", 0.0) / 3600 for cell in found.values()]
        seconds = [sum(cell.seconds.values()) for cell in found.values()]
        rows.append([*row, f"{np.mean(heard):.1f}", f"{np.mean(seconds):.0f}"])
    header = ("system", "runs", *wanted, "hours heard", "seconds")
    return {
        "title": "Accuracy and loss in points, mean over tasks (± standard deviation over runs)",
        "header": header,
        "rows": rows,
    }


def condition_table(comparison: Comparison) -> Table:
    """Every system in every condition, mean over tasks and runs."""
    names = next(iter(next(iter(comparison.cells.values())).values())).tasks
    conditions = list(next(iter(names.values())).counts)
    rows = []
    for system, found in comparison.cells.items():
        each = [accuracies(cell, comparison.draws) for cell in found.values()]
        rows.append([system, *(f"{np.mean([one[condition][0] for one in each]):.1f}" for condition in conditions)])
    return {
        "title": "Accuracy by condition, in points, mean over tasks",
        "header": ("system", *conditions),
        "rows": rows,
    }


def claim_table(document: Sequence[Mapping[str, Any]]) -> Table:
    """The verdicts, each contrast on a row."""
    rows = [
        [one["claim"], one["says"], one["verdict"], name, f"{each['effect']:+.2f}", f"{each['interval'][0]:+.2f} to {each['interval'][1]:+.2f}", f"{each['p']:.3g}"]
        for one in document
        for name, each in one["contrasts"].items()
    ]  # fmt: skip
    return {
        "title": "Claims",
        "header": ("claim", "says", "verdict", "contrast", "effect", "95 % interval", "p"),
        "rows": rows,
    }


def markdown(tables: Sequence[Table]) -> str:
    """Tables as Markdown."""
    lines = [
        "# The finding, as far as two cores allow",
        "",
        "Decided by `benchmarks/robustness/claims.md`, which was written before.",
        "",
    ]
    for table in tables:
        lines += [
            f"**{table['title']}**",
            "",
            "| " + " | ".join(table["header"]) + " |",
            "|" + " --- |" * len(table["header"]),
        ]
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]] + [""]
    return "\n".join(lines)


def plots(comparison: Comparison) -> list[tuple[str, Any]]:
    """Copies and families, captions with SVG."""

    def points(names: Mapping[float, Sequence[str]], which: Any) -> list[tuple[float, float, float]]:
        found = []
        for place, systems in names.items():
            values = [
                float(metric(cell, comparison.draws, which)[0])
                for name in systems
                for cell in comparison.cells.get(name, {}).values()
            ]
            if values:
                found.append((place, float(np.mean(values)), float(np.std(values))))
        return found

    copies = {float(number): [f"copies-{count:02d}"] for number, count in enumerate(study_cells.COPY_COUNTS)}
    fresh = float(len(copies))
    copies[fresh] = ["copies-fresh"]
    marks = {float(number): str(count) for number, count in enumerate(study_cells.COPY_COUNTS)} | {fresh: "fresh"}
    families = {
        float(place): [name for name in comparison.cells if name.startswith(f"families-{count}")]
        for place, count in enumerate((1, 2, 4))
    }
    sides = ("seen", "new")
    by_copies = curves({which: points(copies, which) for which in sides}, unit="accuracy", marks=marks)
    few = {0.0: "1", 1.0: "2", 2.0: "4"}
    by_families = curves({which: points(families, which) for which in sides}, unit="accuracy", marks=few)
    return [("Copies of an utterance", by_copies), ("Families, four copies an utterance", by_families)]


def analyse(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Decide the claims and write `claims.json`, `claims.md` and `claims.html`.

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
    tables = [claim_table(document), system_table(comparison), condition_table(comparison)]
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "robustness.md", markdown(tables))
    content = {
        "title": "The finding, as far as two cores allow",
        "tables": tables,
        "plots": plots(comparison),
        "claims": CLAIMS.read_text(),
    }
    write_sheet(out / "robustness.html", "study.html", folder=Path(__file__).parent, content=content)
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
