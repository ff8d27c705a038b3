"""A corpus of any size whose indexes are written when they are read, so that millions of samples need no disk."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from training.data.corpus import CorpusReader

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = 512
COPIES = ("noise-0", "noise-1", "phone-0", "room-0")
SHA256 = "0" * 64


def write_large_corpus(folder: Path, *, samples: int) -> Path:
    """Write `corpus.json` alone."""
    shards = [
        {"name": f"train-{number:06d}", "samples": SAMPLES, "seconds": 6144.0, "bytes": 1 << 30, "sha256": SHA256}
        for number in range(samples // SAMPLES)
    ]
    total = len(shards) * SAMPLES
    told = {
        "schema": "stillroom/corpus/1", "name": "large", "recipe_sha256": SHA256, "plan_sha256": SHA256, "sample_rate": 16000,
        "splits": {"train": shards}, "copies": {"train": {"noise": 2, "phone": 1, "room": 1}},
        "totals": {"samples": total, "seconds": 12.0 * total, "bytes": 1 << 40, "shards": len(shards)},
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "corpus.json").write_text(json.dumps(told))
    return folder


def index_text(name: str) -> bytes:
    """The index of a shard: lengths of 2 to 18 s that its number decides."""
    number, samples = int(name[-6:]), []
    for place in range(SAMPLES):
        start = place * 1_000_000
        members = {"json": {"offset": start, "size": 2000}}
        for copy, suffix in enumerate(("clean", *COPIES), 1):
            members[suffix] = {"offset": start + copy * 150_000, "size": 140_000, "pcm_sha256": SHA256}
        length = 32_000 + (number * 7919 + place * 104_729) % 256_000
        samples.append(
            {
                "key": f"utterance_{number}_{place}-{number * SAMPLES + place:012x}",
                "num_samples": length,
                "members": members,
            }
        )
    told = {
        "schema": "stillroom/shard/1", "name": name, "split": "train", "sample_rate": 16000, "bytes": 1 << 30, "sha256": SHA256,
        "plan_sha256": SHA256, "samples": samples,
    }  # fmt: skip
    return json.dumps(told).encode()


class LargeReader(CorpusReader):
    """Reads it; `asked` names the indexes that were."""

    def __init__(self, url: Path) -> None:
        self.asked: list[str] = []
        super().__init__(url)

    def document(self, relative: str) -> bytes:
        """A whole small file."""
        found = re.fullmatch(r"shards/(train-\d+)\.json", relative)
        if found is None:
            return super().document(relative)
        self.asked.append(found[1])
        return index_text(found[1])
