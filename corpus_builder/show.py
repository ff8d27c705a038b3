"""What a corpus holds, in plain text, from its own documents: no audio is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corpus_builder.described import Described, measured_t30, plan_rows
from manifests.errors import printable
from manifests.files import read_json_lines
from manifests.shards import Corpus

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from manifests.storage import Place

DOMAINS_SHOWN = 24
REFUSALS_SHOWN = 10
READ_AS = {"noise.snr_db": ("SNR ", " dB", 1), "room.rt60_s": ("RT60 ", " s", 2)}


def description(corpus: Place) -> str:
    """Totals, a line a split, conditions and domains with their ranges, what was left out.

    Raises:
        MissingFileError: If the corpus is not sealed.
    """
    sealed = Corpus.read(corpus / "corpus.json", needed="a sealed corpus is due here: `stillroom build` writes it last")
    if sealed.borrowed is not None:
        return "\n".join(borrowed_lines(sealed))
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
        found = described(corpus, [entry.name for entry in entries], t30_s, rate_hz=sealed.sample_rate)
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


def borrowed_lines(sealed: Corpus) -> Iterator[str]:
    """What a subset or an index holds, which has no plan beside it."""
    assert sealed.borrowed is not None
    what = "an index of foreign shards" if sealed.borrowed.foreign else "a subset"
    totals = sealed.totals
    yield f"{sealed.name}, {what}: {totals.samples} utterances, {totals.seconds / 3600:.2f} h, {sealed.sample_rate} Hz"
    if sealed.borrowed.where:
        yield "where " + ", ".join(printable(term) for term in sealed.borrowed.where)
    for split, entries in sealed.splits.items():
        copies = ", ".join(f"{count} {name}" for name, count in sealed.copies.get(split, {}).items()) or "none"
        yield f"{split}: {sum(entry.samples for entry in entries)} utterances; copies that each has: {copies}"


def described(corpus: Place, names: Iterable[str], t30_s: dict[str, float], *, rate_hz: int) -> Described:
    """Add up the plan rows of one split."""
    result = Described()
    for name in names:
        for row in plan_rows(corpus, name):
            result.add(row, rate_hz=rate_hz, t30_s=t30_s)
    return result


def condition_lines(found: Described) -> list[str]:
    """A line a condition: how many copies, and the ranges of what was drawn."""
    lines = []
    for name, count in sorted(found.conditions.items()):
        parts = [f"{count} copies"]
        for (condition, parameter), values in sorted(
            found.numbers.items(), key=lambda item: (item[0][1] not in READ_AS, item[0])
        ):
            if condition == name:
                label, unit, decimals = READ_AS.get(parameter, (f"{parameter} ", "", 2))
                parts.append(f"{label}{spread(values, decimals)}{unit}")
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


def left_out(sealed: Corpus, corpus: Place) -> list[str]:
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
