"""What the plan of a corpus adds up to: counts, and every number and word that was drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manifests.files import read_json_lines
from manifests.plan import PlanRow
from manifests.responses import RoomResponse
from manifests.sample import domain_of
from manifests.storage import sizes_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifests.storage import Place

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


@dataclass
class Described:
    """What the rows of one split add up to.

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
        """One more utterance."""
        self.seconds.append(row.num_samples / rate_hz)
        if row.speaker is not None:
            self.speakers.add(row.speaker)
        for copy in row.copies:
            self.conditions[copy.condition] += 1
            self.domains[domain_of(copy.steps)] += 1
            for step in copy.steps:
                self.drawn(copy.condition, step.kind, step.model_dump(mode="json"))
                response = getattr(step, "response", None)
                if step.kind == "room" and response in t30_s:
                    self.numbers.setdefault((copy.condition, "room.rt60_s"), []).append(t30_s[response])

    def drawn(self, condition: str, kind: str, found: dict[str, Any]) -> None:
        """The parameters of one step, those of its parts with it."""
        for name, value in found.items():
            if name in NOT_DRAWN or value is None:
                continue
            if isinstance(value, bool | str):
                self.words.setdefault((condition, f"{kind}.{name}"), Counter())[str(value)] += 1
            elif isinstance(value, int | float):
                self.numbers.setdefault((condition, f"{kind}.{name}"), []).append(float(value))
            elif isinstance(value, dict):
                self.drawn(condition, f"{kind}.{name}", value)
            elif isinstance(value, list):
                for part in value:
                    if isinstance(part, dict):
                        self.drawn(condition, kind, part)


def measured_t30(corpus: Place) -> dict[str, float]:
    """Measured T30 of each response of a corpus, by its name."""
    times: dict[str, float] = {}
    for name in sizes_below(corpus / "rooms"):
        if name.endswith(".jsonl"):
            path = corpus / "rooms" / name
            for number, document in enumerate(read_json_lines(path, needed="a room bank"), 1):
                row = RoomResponse.parse(document, where=f"{path}:{number}")
                times[row.name] = row.t30_s
    return times


def plan_rows(corpus: Place, name: str) -> Iterator[PlanRow]:
    """The plan's rows of one shard."""
    path = corpus / "plan" / f"{name}.jsonl"
    for number, document in enumerate(read_json_lines(path, needed="a file of the plan"), 1):
        yield PlanRow.parse(document, where=f"{path}:{number}")
