"""Heat maps of the report: a measure by layer and condition, one map a system (mean over its seeds)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.measures.error_rates import SMALLER_IS_BETTER
from evaluation.report.layer_tables import IN_PERCENT
from evaluation.report.plots import shade
from evaluation.report.robustness_table import systems_of
from manifests.corpus.sample import CLEAN
from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from manifests.results.scores import ModelScores, Protocol

Place = tuple[int, str]  # layer and condition


@dataclass(frozen=True)
class Kind:
    """A measure that has maps.

    Attributes:
        measure: Its name in the results; `gap` is `cosine` less `mismatched`.
        about: What it is, and whether larger is better.
        is_share: Whether 0 and 1 are the ends of its colours; else they are those of all its maps. Where smaller is better, the smallest has
            the strongest colour.
    """

    measure: str
    title: str
    about: str
    decimals: int = 2
    is_share: bool = True

    def text(self, value: float) -> str:
        """The number in a cell."""
        return f"{(100.0 if self.measure in IN_PERCENT else 1.0) * value:.{self.decimals}f}"

    def shaded(self, value: float, *, low: float, high: float) -> float:
        """The value whose shade a cell gets: mirrored where smaller is better."""
        return low + high - value if self.measure in SMALLER_IS_BETTER else value


KINDS = (
    Kind("cosine", "Frame cosine, clean and distorted", "1 is alike; read it beside the gap: a collapsed model has 1 everywhere"),
    Kind("gap", "Gap: that cosine less the cosine of mismatched utterances", "larger is more invariant; a collapsed model has 0"),
    Kind("cka", "Linear CKA, clean and distorted", "1 is alike"),
    Kind("retrieval", "Retrieval@1 of the clean frame among 1000 of the same speaker", "1 is always found; a collapsed model finds none", 3),
    Kind("agreement", "Agreement: linear CKA with the teacher's last layer on clean speech", "1 is alike"),
    Kind("rank", "Effective rank of the frames", "in dimensions", 1, is_share=False),
    Kind("variance", "Share of the features' energy that varies", "0 is a constant", 3),
    Kind("abx_within", "Phone ABX within speakers: error in %", "lower is better; a collapsed model has 50", 1, is_share=False),
    Kind("abx_across", "Phone ABX across speakers: error in %", "lower is better; a collapsed model has 50", 1, is_share=False),
    Kind("unit_edits", "Unit edit distance of clean and distorted in % of the frames", "lower is better; a collapsed model has 0: read it beside the perplexity", 1, is_share=False),
    Kind("unit_perplexity", "Perplexity of the units", "how many are really used; a collapsed model has 1", 1, is_share=False),
    Kind("pnmi", "PNMI: share of the phones' entropy that units take away", "larger is better", 3),
    Kind("phone_purity", "Phone purity in %: frames whose phone is their unit's commonest on clean speech", "larger is better", 1),
)  # fmt: skip


def heat_maps(models: Sequence[ModelScores], protocol: Protocol) -> list[dict[str, Any]]:
    """Values for the template: each measure with a map for each system that has it."""
    systems = systems_of(models)
    found = []
    for kind in KINDS:
        maps = {name: places for name, seeds in systems.items() if (places := mean_places(seeds, kind.measure))}
        if not maps:
            continue
        values = [value for places in maps.values() for value in places.values()]
        low, high = (min(0.0, *values), max(1.0, *values)) if kind.is_share else (min(values), max(values))
        columns = [
            name
            for name in (CLEAN, *protocol.conditions)
            if any(name == condition for places in maps.values() for _, condition in places)
        ]
        found.append({
            "title": kind.title,
            "about": kind.about,
            "columns": columns,
            "maps": [
                {
                    "system": printable(name),
                    "seeds": len(systems[name]),
                    "rows": rows(places, columns, kind, low=low, high=high),
                }
                for name, places in maps.items()
            ],
        })  # fmt: skip
    return found


def rows(
    places: dict[Place, float], columns: Sequence[str], kind: Kind, *, low: float, high: float
) -> list[tuple[int, list[tuple[str, str]]]]:
    """Layers, the last on top, each with text and style of its cells."""
    return [
        (
            layer,
            [
                ("", "")
                if value is None
                else (kind.text(value), shade(kind.shaded(value, low=low, high=high), low=low, high=high))
                for value in (places.get((layer, column)) for column in columns)
            ],
        )
        for layer in sorted({layer for layer, _ in places}, reverse=True)
    ]


def mean_places(seeds: Iterable[ModelScores], measure: str) -> dict[Place, float]:
    """Mean over seeds of a measure at each layer and condition."""
    found: dict[Place, list[float]] = defaultdict(list)
    for model in seeds:
        if measure == "gap":
            matched, other = places_of(model, "cosine"), places_of(model, "mismatched")
            of_model = {place: matched[place] - other[place] for place in matched if place in other}
        else:
            of_model = places_of(model, measure)
        for place, value in of_model.items():
            found[place].append(value)
    return {place: sum(values) / len(values) for place, values in found.items()}


def places_of(model: ModelScores, measure: str) -> dict[Place, float]:
    """A measure of one model at each layer and condition."""
    return {
        (score.layer, score.condition): score.value
        for score in model.scores
        if score.measure == measure and score.layer is not None and score.condition is not None
    }
