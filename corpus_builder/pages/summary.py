"""Describes a corpus as text, from its documents alone: no audio is opened."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from manifests.corpus.layout import banks, plan_rows, refusals, room_responses
from manifests.corpus.sample import domain_of
from manifests.corpus.shard_index import read_corpus
from manifests.errors import printable
from manifests.plan.plan import left_out_counts, passed_over_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manifests.corpus.shard_index import Corpus
    from manifests.io.place import Place
    from manifests.plan.plan import PlanRow, Refusal


DOMAINS_SHOWN = 24
REASONS_SHOWN = 20
MOST_REASONS = 1000
FINDINGS = re.compile(
    r" (cannot be decoded|ends after|has |holds |is digital silence|is shorter|is silent|does not exist|changes |lasts )"
)  # what begins after the name of a file
NUMBERS = re.compile(r"\b\d[\d.e+-]*")
LABELS = {"noise.snr_db": ("SNR ", " dB", 1), "room.rt60_s": ("RT60 ", " s", 2)}
NOT_DRAWN = {
    "kind",
    "form",
    "seed",
    "offset",
    "room",
    "position",
    "response",
    "recording",
    "root",
    "talkers",
    "spare",
    "spectrum",
}


def description(corpus: Place) -> str:
    """Totals, a line for each split, conditions and domains with their ranges, filtered and refused utterances.

    Raises:
        MissingFileError: If the corpus is not sealed.
    """
    sealed = read_corpus(corpus)
    if sealed.borrowed is not None:
        return "\n".join([*linked_lines(sealed), *left_out(sealed, corpus)])
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


def linked_lines(sealed: Corpus) -> Iterator[str]:
    """The description of a subset or an index, which has no plan."""
    assert sealed.borrowed is not None
    what = "an index of external shards" if sealed.borrowed.foreign else "a subset"
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
    """A line for each condition: number of copies, and ranges of what was drawn."""
    lines = []
    for name, count in sorted(found.conditions.items()):
        parts = [f"{count} copies"]
        for (condition, parameter), values in sorted(
            found.numbers.items(), key=lambda item: (item[0][1] not in LABELS, item[0])
        ):
            if condition == name:
                label, unit, decimals = LABELS.get(parameter, (f"{parameter} ", "", 2))
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
    """Filtered and refused utterances, and files that are not read."""
    lines: list[str] = []
    for split, counts in sealed.filtered.items():
        if by_recipe := left_out_counts(counts):
            shown = ", ".join(f"{count} {printable(reason)}" for reason, count in by_recipe.items())
            lines.append(f"left out of {printable(split)}: {shown}")
    lines += passed_over_lines(sealed.filtered)
    if sealed.refused:
        lines.append("refused: " + ", ".join(f"{printable(split)} {count}" for split, count in sealed.refused.items()))
        lines += reason_lines(refusals(corpus))
    return ["", *lines] if lines else []


def reason_lines(refused: Iterable[Refusal]) -> list[str]:
    """How many were refused for each reason, the commonest first, with one example each."""
    counts: Counter[str] = Counter()
    examples: dict[str, Refusal] = {}
    for one in refused:
        reason = reason_of(one)
        if reason not in counts and len(counts) >= MOST_REASONS:
            reason = "other reasons"
        counts[reason] += 1
        examples.setdefault(reason, one)
    lines = [
        f"  {count} x {printable(reason)}; one is {printable(examples[reason].id, limit=80)}: {printable(examples[reason].reason)}"
        for reason, count in counts.most_common(REASONS_SHOWN)
    ]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(REASONS_SHOWN))
    return lines + ([f"  {rest} x other reasons, which are in refused.jsonl"] if rest else [])


def reason_of(one: Refusal) -> str:
    """A reason without what it says of one file: its name, in front, and numbers."""
    reason = one.reason
    found = FINDINGS.search(reason)
    if (
        found
        and found.start()
        and (PurePosixPath(one.id).name in reason[: found.start()] or "." in reason[: found.start()])
    ):
        reason = reason[found.start() :].lstrip()
    return NUMBERS.sub("N", reason)


@dataclass
class Described:
    """Sums over the rows of one split.

    Attributes:
        conditions: How many copies each has.
        domains: How many copies each has.
        seconds: Duration of each utterance.
        numbers: For each condition and parameter (`noise.snr_db`, `room.rt60_s`), its values.
        words: The same for parameters that are words (`codec.codec`).
    """

    conditions: Counter[str] = field(default_factory=Counter)
    domains: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    numbers: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    words: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    speakers: set[str] = field(default_factory=set)

    def add(self, row: PlanRow, *, rate_hz: int, t30_s: dict[str, float]) -> None:
        """Add an utterance."""
        self.seconds.append(row.num_samples / rate_hz)
        if row.speaker is not None:
            self.speakers.add(row.speaker)
        for copy in row.copies:
            self.conditions[copy.condition] += 1
            self.domains[domain_of(copy.steps)] += 1
            for step in copy.steps:
                self.add_parameters(copy.condition, step.kind, step.model_dump(mode="json"))
                response = getattr(step, "response", None)
                if step.kind == "room" and response in t30_s:
                    self.numbers.setdefault((copy.condition, "room.rt60_s"), []).append(t30_s[response])

    def add_parameters(self, condition: str, kind: str, found: dict[str, Any]) -> None:
        """Add the parameters of one step, including those of its parts."""
        for name, value in found.items():
            if name in NOT_DRAWN or value is None:
                continue
            if isinstance(value, bool | str):
                self.words.setdefault((condition, f"{kind}.{name}"), Counter())[str(value)] += 1
            elif isinstance(value, int | float):
                self.numbers.setdefault((condition, f"{kind}.{name}"), []).append(float(value))
            elif isinstance(value, dict):
                self.add_parameters(condition, f"{kind}.{name}", value)
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, dict):
                        self.add_parameters(condition, kind, part)


def measured_t30(corpus: Place) -> dict[str, float]:
    """Measured T30 of each response of a corpus, by its name."""
    return {row.name: row.t30_s for bank in banks(corpus) for row in room_responses(corpus, bank)}
