"""The page of a corpus: totals, distributions as plots, and some utterances with spectrograms and players, in one HTML file."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.pages.audio_clips import candidate, chosen, shown_utterance
from corpus_builder.pages.html import write_html
from corpus_builder.pages.plots import bars, histogram, histograms, outline_style
from corpus_builder.pages.summary import Described, left_out, measured_t30
from manifests.corpus.layout import plan_rows
from manifests.corpus.shard_index import read_corpus
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from corpus_builder.pages.audio_clips import Candidate
    from manifests.corpus.shard_index import Corpus
    from manifests.io.place import Place

UNITS = {"db": "dB", "dbfs": "dBFS", "s": "s", "hz": "Hz", "kbps": "kbit/s", "m": "m", "cents": "cents"}
CANDIDATES_A_SHARD = 64
SHOWN_FIRST = ("noise.snr_db", "room.rt60_s", "codec.codec", "codec.bitrate_kbps")


class NothingToShowError(StillroomError, ValueError):
    """A sealed corpus without an utterance."""

    def __init__(self, corpus: object) -> None:
        super().__init__(f"{printable(corpus)} has no utterance to show")


def write_page(corpus: Place, page: Path, *, samples: int) -> int:
    """Write the page of a sealed corpus.

    Args:
        corpus: The corpus.
        page: The HTML file; replaced if it exists.
        samples: How many utterances to show.

    Returns:
        How many are shown.

    Raises:
        MissingFileError: If the corpus is not sealed.
        NothingToShowError: If it is empty.
        BadTarError: If a shard does not have what its index lists.
    """
    sealed = read_corpus(corpus)
    t30_s = measured_t30(corpus)
    found: dict[str, Described] = {}
    candidates: list[Candidate] = []
    for split, entries in sealed.splits.items():
        found[split] = Described()
        for entry in entries:
            for number, row in enumerate(plan_rows(corpus, entry.name)):
                found[split].add(row, rate_hz=sealed.sample_rate, t30_s=t30_s)
                if number < CANDIDATES_A_SHARD:
                    candidates.append(candidate(row, shard=entry.name, rate_hz=sealed.sample_rate))
    if not candidates:
        raise NothingToShowError(corpus)
    utterances: list[dict[str, Any]] = []
    levels: list[float] = []
    for one in chosen(candidates, most=samples):
        shown = shown_utterance(corpus, one)
        if shown is not None:
            utterances.append(shown[0])
            levels.extend(shown[1])
    content = {
        "title": printable(sealed.name),
        "corpus": sealed,
        "splits": [split_row(sealed, split, described) for split, described in found.items()],
        "left_out": [line for line in left_out(sealed, corpus) if line],
        "plots": plots(found, levels),
        "measured": len(levels),
        "utterances": utterances,
    }
    write_html(page, "corpus.html", folder=Path(__file__).parent, content=content)
    return len(utterances)


def split_row(sealed: Corpus, split: str, found: Described) -> dict[str, Any]:
    """One line of the table of totals."""
    entries = sealed.splits[split]
    return {
        "name": split,
        "samples": sum(entry.samples for entry in entries),
        "hours": sum(entry.seconds for entry in entries) / 3600,
        "speakers": len(found.speakers) or "",
        "shards": len(entries),
        "gigabytes": sum(entry.bytes for entry in entries) / 1e9,
        "refused": sealed.refused.get(split, 0),
        "copies": ", ".join(f"{name} {count}" for name, count in sealed.copies.get(split, {}).items()),
    }


def plots(found: Mapping[str, Described], levels: list[float]) -> list[Any]:
    """Durations, domains and measured levels; then every number and word that was drawn, numbers by condition.

    A condition has one colour in all plots; splits are in ink, told apart by dashes; bars count all conditions, in grey.
    """
    domains: Counter[str] = Counter()
    numbers: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for described in found.values():
        domains.update(described.domains)
        for (condition, parameter), values in described.numbers.items():
            numbers[parameter][condition].extend(values)
        for (_, parameter), counts in described.words.items():
            words[parameter].update(counts)
    conditions = sorted({condition for described in found.values() for condition, _ in described.numbers})
    styles = {condition: outline_style(number) for number, condition in enumerate(conditions)}
    drawn = [
        histograms(
            {split: one.seconds for split, one in found.items()},
            title="duration of utterances",
            unit="s",
            styles={split: outline_style(number, colour="ink") for number, split in enumerate(found)},
        )
    ]
    if domains:
        drawn.append(bars(domains, title="copies by domain"))
    if levels:
        drawn.append(histogram(levels, title="level of the waves below", unit="dBFS"))
    for parameter in in_order({*numbers, *words}):
        title = parameter.replace("_", " ")
        if len({value for values in numbers[parameter].values() for value in values}) > 1:
            drawn.append(histograms(numbers[parameter], title=title, unit=unit_of(parameter), styles=styles))
        if len(words[parameter]) > 1:
            drawn.append(bars(words[parameter], title=f"copies by {title}"))
    return drawn


def in_order(parameters: Iterable[str]) -> list[str]:
    """The most important parameters first, then the others by name."""
    return sorted(parameters, key=lambda name: (name not in SHOWN_FIRST, name))


def unit_of(parameter: str) -> str:
    """The unit that a parameter's name ends with."""
    return UNITS.get(parameter.rpartition("_")[2], "")
