"""What a corpus holds, in plain text, from its own documents: no audio is opened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manifests.errors import printable
from manifests.files import read_json_lines
from manifests.plan import PlanRow
from manifests.sample import domain_of
from manifests.shards import Corpus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DOMAINS_SHOWN = 24
REFUSALS_SHOWN = 10


@dataclass
class Described:
    """What the rows of one split add up to."""

    conditions: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    snr_db: dict[str, list[float]] = field(default_factory=dict)
    rt60_s: dict[str, list[float]] = field(default_factory=dict)
    speakers: set[str] = field(default_factory=set)


def description(corpus: Path) -> str:
    """Totals, a line a split, conditions and domains with their ranges, what was left out.

    Raises:
        MissingFileError: If the corpus is not sealed.
    """
    sealed = Corpus.read(corpus / "corpus.json", needed="a sealed corpus is due here: `stillroom build` writes it last")
    t30_s = measured_t30(corpus)
    totals = sealed.totals
    lines = [
        (
            f"{sealed.name}: {totals.samples} utterances, {totals.seconds / 3600:.2f} h, {totals.shards} shards, "
            f"{totals.bytes / 1e9:.3f} GB, {sealed.sample_rate} Hz"
        ),
        f"recipe {sealed.recipe_sha256[:16]}, plan {sealed.plan_sha256[:16]}",
    ]
    for split, entries in sealed.splits.items():
        seconds = sum(entry.seconds for entry in entries)
        size = sum(entry.bytes for entry in entries)
        found = described(corpus, [entry.name for entry in entries], t30_s)
        samples = sum(entry.samples for entry in entries)
        lines += [
            "",
            (
                f"{split}: {samples} utterances, {seconds / 3600:.2f} h, {len(entries)} shards, {size / 1e9:.3f} GB, "
                f"{len(found.speakers)} speakers"
            ),
            *condition_lines(found),
            f"  domains: {counted(found.domains)}",
        ]
    return "\n".join([*lines, *left_out(sealed, corpus)])


def measured_t30(corpus: Path) -> dict[str, float]:
    """Measured T30 of each response, by its name."""
    times: dict[str, float] = {}
    for path in sorted((corpus / "rooms").glob("*.jsonl")):
        for row in read_json_lines(path, needed="a room bank"):
            times[str(row["name"])] = float(row["t30_s"])
    return times


def described(corpus: Path, names: Iterable[str], t30_s: dict[str, float]) -> Described:
    """Count the plan rows of one split."""
    result = Described()
    for name in names:
        path = corpus / "plan" / f"{name}.jsonl"
        for number, document in enumerate(read_json_lines(path, needed="a file of the plan"), 1):
            row = PlanRow.parse(document, where=f"{path}:{number}")
            if row.speaker is not None:
                result.speakers.add(row.speaker)
            for copy in row.copies:
                result.conditions[copy.condition] += 1
                result.domains[domain_of(copy.steps)] += 1
                for step in copy.steps:
                    if step.kind == "noise":
                        result.snr_db.setdefault(copy.condition, []).append(step.snr_db)
                    elif step.kind == "room" and step.response in t30_s:
                        result.rt60_s.setdefault(copy.condition, []).append(t30_s[step.response])
    return result


def condition_lines(found: Described) -> list[str]:
    """A line a condition: how many copies, and the ranges of what was drawn."""
    lines = []
    for name, count in sorted(found.conditions.items()):
        parts = [f"{count} copies"]
        if name in found.snr_db:
            parts.append(f"SNR {spread(found.snr_db[name], 1)} dB")
        if name in found.rt60_s:
            parts.append(f"RT60 {spread(found.rt60_s[name], 2)} s")
        lines.append(f"  {name}: " + ", ".join(parts))
    return lines


def spread(values: list[float], decimals: int) -> str:
    """Smallest to largest, and the mean."""
    mean = sum(values) / len(values)
    return f"{min(values):.{decimals}f} to {max(values):.{decimals}f} (mean {mean:.{decimals}f})"


def counted(counts: Counter[str]) -> str:
    """The commonest with their counts."""
    shown = ", ".join(f"{printable(name, limit=60)} {count}" for name, count in counts.most_common(DOMAINS_SHOWN))
    return shown + (f", and {len(counts) - DOMAINS_SHOWN} more" if len(counts) > DOMAINS_SHOWN else "") or "none"


def left_out(sealed: Corpus, corpus: Path) -> list[str]:
    """What was filtered and refused."""
    lines: list[str] = []
    for split, counts in sealed.filtered.items():
        shown = ", ".join(f"{count} {printable(reason)}" for reason, count in counts.items())
        lines.append(f"left out of {printable(split)}: {shown}")
    if sealed.refused:
        lines.append("refused: " + ", ".join(f"{printable(split)} {count}" for split, count in sealed.refused.items()))
        refusals: list[dict[str, Any]] = []
        for document in read_json_lines(corpus / "refused.jsonl", needed="the list of what was refused"):
            refusals.append(document)
            if len(refusals) >= REFUSALS_SHOWN:
                break
        lines += [f"  {printable(one['id'], limit=80)}: {printable(one['reason'])}" for one in refusals]
    return ["", *lines] if lines else []
