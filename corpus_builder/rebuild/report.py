"""Compares every wave of a rebuilt corpus with its pack: digest, fingerprint, and PCM of its sources."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.rebuild.wave_verdict import Files, compared, shard_samples
from corpus_builder.rooms.build_banks import planned_rooms
from corpus_builder.workers.pool import mapped_with_progress
from manifests.corpus.fingerprints import decoded_sources
from manifests.corpus.layout import bank_name, plain_rows
from manifests.io.json_yaml import read_json_lines
from manifests.io.place import place_of
from manifests.plan.references import RESPONSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corpus_builder.rebuild.wave_verdict import WaveVerdict
    from manifests.io.place import Place
    from manifests.pack.contents import OpenedPack
    from manifests.plan.plan import Plan

VERDICTS = ("identical", "near", "different")


@dataclass
class Proof:
    """Counts of the verdicts on the waves.

    Attributes:
        counts: How many waves by condition, codec and verdict.
        decoder_differs: How many waves, by condition and codec, come from a file that was decoded to another PCM.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    decoder_differs: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, verdict: WaveVerdict) -> None:
        """Count one wave."""
        self.counts[verdict.condition, verdict.codec, verdict.verdict] += 1
        self.decoder_differs[verdict.condition, verdict.codec] += verdict.decoder_differs

    def total(self, verdict: str) -> int:
        """How many waves have a verdict."""
        return sum(count for (_, _, found), count in self.counts.items() if found == verdict)

    def rows(self) -> list[dict[str, Any]]:
        """By condition and codec."""
        return [
            {
                "condition": condition,
                **({"codec": codec} if codec else {}),
                **{verdict: self.counts[condition, codec, verdict] for verdict in VERDICTS},
                "decoder_differs": self.decoder_differs[condition, codec],
            }
            for condition, codec in sorted({(condition, codec) for condition, codec, _ in self.counts})
        ]

    def table(self) -> list[str]:
        """As lines of text."""
        rows = self.rows()
        wide = max([12, *(len(row.get("codec", "-")) + 2 for row in rows)])
        head = f"{'condition':<18}{'codec':<{wide}}{'identical':>10}{'near':>8}{'different':>10}{'decoder differs':>17}"
        lines = [
            f"{row['condition']:<18}{row.get('codec', '-'):<{wide}}{row['identical']:>10}{row['near']:>8}{row['different']:>10}"
            f"{row['decoder_differs']:>17}"
            for row in rows
        ]
        return [head, *lines]


@dataclass(frozen=True)
class ShardPair:
    """One shard of a pack and the same one as it was rebuilt."""

    reference: str
    rebuilt: str
    tars: str
    name: str
    decoded_otherwise: Files


def prove(
    opened: OpenedPack, plan: Plan, corpus: Path, *, tars: Place, workers: int, progress: bool
) -> Iterator[WaveVerdict]:
    """Compare every wave with the pack, shard by shard.

    Args:
        opened: The pack.
        plan: What was rendered.
        corpus: Local files of the rebuilt corpus.
        tars: Folder or URL of the corpus with its tars.
        workers: Number of processes.
        progress: Show how far it is.
    """
    otherwise = decoded_otherwise(opened, plan, corpus)
    pairs = [ShardPair(str(opened.folder), str(corpus), str(tars), file.name, otherwise) for file in plan.files]
    shards = mapped_with_progress(
        prove_shard, pairs, workers=workers, what="comparing", unit="shards", progress=progress
    )
    for _, verdicts in shards:
        yield from verdicts


def decoded_otherwise(opened: OpenedPack, plan: Plan, corpus: Path) -> Files:
    """Source files that have the same bytes, but were decoded to another PCM on this machine."""
    own: dict[tuple[str, str, int, int, int], str] = {}
    for file in plan.files:
        for source in decoded_sources(corpus, file.name):
            own[source.stretch] = source.pcm_sha256
    otherwise = {
        (source.root, source.path)
        for source in opened.sources()
        if own.get(source.stretch, source.pcm_sha256) != source.pcm_sha256
    }
    for bank in planned_rooms(corpus):
        first, second = (bank_digests(folder / bank_name(bank)) for folder in (opened.folder, corpus))
        otherwise |= {(RESPONSES, name) for name in first.keys() & second.keys() if first[name] != second[name]}
    return frozenset(otherwise)


def bank_digests(path: Path) -> dict[str, str]:
    """The digest of each response of a bank by its name."""
    return {row["name"]: row["sha256"] for row in read_json_lines(path, needed="the responses of a bank")}


def prove_shard(pair: ShardPair) -> list[WaveVerdict]:
    """The verdicts on all waves of one shard; runs in a worker."""
    first = shard_samples(Path(pair.reference), pair.name, tars=Path(pair.reference))
    second = shard_samples(Path(pair.rebuilt), pair.name, tars=place_of(pair.tars))
    return [
        verdict
        for row in plain_rows(Path(pair.rebuilt), pair.name)
        for verdict in compared(
            row, first.get(row["key"]), second.get(row["key"]), decoded_otherwise=pair.decoded_otherwise
        )
    ]


def verdict_lines(verdicts: Iterator[WaveVerdict], proof: Proof) -> Iterator[bytes]:
    """Count every verdict; a line of JSON for each wave that is not identical."""
    for verdict in verdicts:
        proof.add(verdict)
        if verdict.verdict != "identical":
            yield json.dumps(verdict.plain()).encode()
