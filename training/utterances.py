"""The utterances of a corpus one after another, each whole: for measures, exports and anyone who wants no batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifests.sample import CLEAN
from manifests.shards import ABOUT
from training.corpus import open_corpus
from training.members import decoded_wave, members_at, sample_record

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from manifests.sample import Sample


@dataclass(frozen=True)
class Utterance:
    """One utterance, read whole.

    Attributes:
        key: Of the index; a stranger's tars have keys of their own.
        sample: Its record: id, text, speaker, what was done to each copy.
        waves: `clean` and `<condition>-<n>`, each float32 of shape (time,) in [-1, 1), all of one length.
    """

    key: str
    sample: Sample
    waves: dict[str, NDArray[np.float32]]


def utterances(
    corpus: str | Path, split: str, *, members: Sequence[str] | None = None, keys: Container[str] | None = None
) -> Iterator[Utterance]:
    """The utterances of a split, shard after shard, each read at once by its offsets.

    Args:
        corpus: Folder or URL.
        split: Which split.
        members: Which copies to decode (`clean`, `noise-0`); all by default. One that a sample lacks is left out.
        keys: Only samples with these keys are read; all by default.
    """
    with open_corpus(corpus) as reader:
        rate_hz = reader.manifest.sample_rate
        for entry in reader.shards(split):
            for sample in reader.samples(entry.name):
                if keys is not None and sample.key not in keys:
                    continue
                first, end = sample.span
                content = reader.span(entry.name, first, end)
                waves = {}
                for name in (CLEAN, *sample.copies):
                    if name not in sample.members or (members is not None and name not in members):
                        continue
                    member = sample.members[name]
                    flac = content[member.offset - first : member.offset - first + member.size]
                    where = f"{entry.name}.tar: {sample.key}.{name}"
                    waves[name] = decoded_wave(flac, sample, rate_hz=rate_hz, where=where)
                if reader.manifest.borrowed is None:
                    record = sample_record(content, sample, entry.name, first)
                else:
                    about = members_at(content, sample, first, names=ABOUT)
                    record = reader.record(about, sample, f"{entry.name}.tar: {sample.key}.json", split)
                yield Utterance(sample.key, record, waves)
