"""The seal of a corpus that borrows its shards: totals, digests, and `corpus.json`, written last."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from manifests.corpus.reader import ROOTS_FILE
from manifests.corpus.shard_index import Corpus, ShardEntry, ShardIndex
from manifests.io.atomic import write_bytes, write_text
from manifests.io.digest import bytes_digest, canonical_json, file_digest
from manifests.io.json_yaml import write_json_lines
from manifests.io.url import Url
from manifests.plan.plan import LocalRoots

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from manifests.io.place import Place
    from manifests.plan.plan import Refusal


def entry_of(index: ShardIndex, *, tar: str | None) -> ShardEntry:
    """A shard's entry in `corpus.json`."""
    num_samples = sum(sample.num_samples for sample in index.samples)
    seconds = round(num_samples / index.sample_rate, 3)
    return ShardEntry(
        name=index.name, samples=len(index.samples), seconds=seconds, bytes=index.bytes, sha256=index.sha256, tar=tar
    )


def copies_of(indexes: Iterable[ShardIndex]) -> dict[str, int]:
    """How many copies of each condition every utterance has at least; conditions that one lacks are left out."""
    least: dict[str, int] | None = None
    for index in indexes:
        for sample in index.samples:
            counts: dict[str, int] = {}
            for name in sample.copies:
                condition = name.rpartition("-")[0]
                counts[condition] = counts.get(condition, 0) + 1
            least = counts if least is None else fewer(least, counts)
    return dict(sorted((least or {}).items()))


def fewer(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Of each condition that both have, the smaller number."""
    return {name: min(count, second[name]) for name, count in first.items() if name in second}


def totals_of(splits: Mapping[str, Sequence[ShardEntry]]) -> dict[str, Any]:
    """Sums over all shards."""
    entries = [entry for shards in splits.values() for entry in shards]
    return {
        "samples": sum(entry.samples for entry in entries),
        "seconds": round(sum(entry.seconds for entry in entries), 3),
        "bytes": sum(entry.bytes for entry in entries),
        "shards": len(entries),
    }


def seal_borrowed(folder: Path, sealed: Corpus, *, refused: Sequence[Refusal], root: Place | None) -> None:
    """Write everything that stands above the indexes.

    Args:
        folder: Where the corpus is written; its indexes are there.
        sealed: What becomes `corpus.json`.
        refused: Utterances that are in no index, and why.
        root: Where the tars lie; None if below the folder itself.
    """
    write_json_lines(folder / "refused.jsonl", (canonical_json(one) for one in refused))
    if root is not None and sealed.borrowed is not None and sealed.borrowed.root is not None:
        place = str(root) if isinstance(root, Url) else os.path.abspath(root)  # noqa: PTH100 (links stay as they are)
        LocalRoots.parse(
            {"schema": LocalRoots.SCHEMA, "roots": {sealed.borrowed.root: place}}, where=folder / ROOTS_FILE
        ).write(folder / ROOTS_FILE)
    names = ["refused.jsonl", *(f"shards/{e.name}.json" for entries in sealed.splits.values() for e in entries)]
    sums = {name: file_digest(folder / name) for name in names}
    content = json_bytes(sealed.plain())
    sums["corpus.json"] = bytes_digest(content)
    write_text(folder / "SHA256SUMS", "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))
    write_bytes(folder / "corpus.json", content)


def json_bytes(document: dict[str, Any]) -> bytes:
    """A document as `manifests.io.json_yaml.write_json` spells it."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
