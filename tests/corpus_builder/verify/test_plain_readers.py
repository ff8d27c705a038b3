"""A shard by plain tarfile and plain webdataset, against indexes that list other samples."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from corpus_builder.verify.plain_readers import plain_findings
from manifests.corpus.shard_index import IndexedSample, Member
from manifests.io.tar import TarBuilder

if TYPE_CHECKING:
    from pathlib import Path


def flac(samples: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.zeros(samples, dtype=np.int16), 16_000, format="FLAC", subtype="PCM_16")
    return content.getvalue()


def sample(key: str, samples: int = 320) -> IndexedSample:
    """As an index lists a sample of a record, a clean wave and a copy."""
    members = {name: Member(offset=0, size=1) for name in ("json", "clean", "noise-0")}
    return IndexedSample(key=key, num_samples=samples, members=members)


class Index:
    """What is read of an index."""

    def __init__(self, *samples: IndexedSample) -> None:
        self.samples = samples


def findings(tar: Path, *samples: IndexedSample) -> list[str]:
    index: Any = Index(*samples)
    return list(plain_findings(tar, index))


def test_a_shard_and_an_index_of_other_samples(tmp_path: Path) -> None:
    tar = tmp_path / "train-000000.tar"
    with tar.open("wb") as stream:
        builder = TarBuilder(stream)
        for key in ("a", "b"):
            builder.add(f"{key}.json", b"{}")
            builder.add(f"{key}.clean.flac", flac(320))
            builder.add(f"{key}.noise-0.flac", flac(320))
        builder.close()
    assert findings(tar, sample("a"), sample("b")) == []
    assert findings(tar, sample("a"), sample("b"), sample("c")) == [
        "plain tarfile reads 6 members",
        "plain webdataset gives 2 of 3 samples",
    ]
    assert findings(tar, sample("b")) == [
        "plain tarfile reads 6 members",
        "plain webdataset gives the key a, which is not in the index",
        "plain webdataset gives 2 of 1 samples",
    ]
    for listed, found in ((319, 320), (321, 320), (100, 101)):
        assert findings(tar, sample("a"), sample("b", listed)) == [
            f"plain webdataset and soundfile give {found} samples for b"
        ]
    other = sample("a").model_copy(
        update={"members": {name: Member(offset=0, size=1) for name in ("json", "clean", "room-0")}}
    )
    assert findings(tar, other, sample("b")) == ["plain webdataset gives other members for a"]
    few = sample("a").model_copy(update={"members": {name: Member(offset=0, size=1) for name in ("json", "clean")}})
    assert findings(tar, few, sample("b")) == [
        "plain tarfile reads 6 members",
        "plain webdataset gives other members for a",
    ]
