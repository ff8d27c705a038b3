"""Reads a shard with plain webdataset and tarfile, as users of the corpus may, and compares the result with its index."""

from __future__ import annotations

import io
import tarfile
import warnings
from typing import TYPE_CHECKING, Any

import soundfile

from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.corpus.shard_index import IndexedSample, ShardIndex


def plain_findings(tar: Path, index: ShardIndex) -> Iterator[str]:
    """What differs when a shard is read by plain tarfile and plain webdataset, sample by sample."""
    with tarfile.open(tar) as members:
        num_members = sum(1 for _ in members)
    if num_members != sum(len(sample.members) for sample in index.samples):
        yield f"plain tarfile reads {num_members} members"
    expected = {sample.key: sample for sample in index.samples}
    with warnings.catch_warnings():
        # webdataset leaves the closing of its file to the garbage collector
        warnings.simplefilter("ignore", ResourceWarning)
        findings = [webdataset_finding(item, expected) for item in webdataset_items(tar)]
    yield from filter(None, findings)
    if len(findings) != len(expected):
        yield f"plain webdataset gives {len(findings)} of {len(expected)} samples"


def webdataset_items(tar: Path) -> Iterator[dict[str, Any]]:
    """Samples as a plain `webdataset.WebDataset` gives them."""
    import webdataset

    # In a list, and absolute: as a plain text `pipe:` would run a shell, and braces, `::` and variables would be expanded
    yield from webdataset.WebDataset([str(tar.absolute())], shardshuffle=False, empty_check=False)


def webdataset_finding(item: dict[str, Any], expected: dict[str, IndexedSample]) -> str:
    """What is wrong with one sample of webdataset's; empty if nothing is."""
    sample = expected.get(item["__key__"])
    if sample is None:
        return f"plain webdataset gives the key {printable(item['__key__'])}, which is not in the index"
    names = {name if name == "json" else f"{name}.flac" for name in sample.members}
    if names != {name for name in item if not name.startswith("__")}:
        return f"plain webdataset gives other members for {printable(sample.key)}"
    try:
        with soundfile.SoundFile(io.BytesIO(item["clean.flac"])) as wave:
            num_samples = len(wave.read(min(wave.frames, sample.num_samples + 1), dtype="int16"))
    except (KeyError, soundfile.LibsndfileError, RuntimeError, MemoryError) as problem:
        return f"plain webdataset and soundfile cannot read {printable(sample.key)}: {printable(problem)}"
    if num_samples != sample.num_samples:
        return f"plain webdataset and soundfile give {num_samples} samples for {printable(sample.key)}"
    return ""
