"""What lies in a sample's members: waves decoded and checked against the index, and what was done to each copy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import soundfile
import torch

from manifests.files import parse_json
from manifests.sample import Sample
from training.corpus import DamagedShardError
from training.views import Copy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from manifests.shards import IndexedSample
    from training.corpus import CorpusReader
    from training.order import Crop
    from training.views import Pair


def pair_waves(reader: CorpusReader, crop: Crop, pair: Pair) -> tuple[Tensor, Tensor]:
    """The two views of one crop, each of shape (time,); one read, and one decoding where both are the same copy."""
    sample = crop.sample
    contents = reader.contents(crop.shard, sample, sorted({pair.teacher, pair.student}))
    waves = {}
    for name, flac in contents.items():
        where = f"{crop.shard}.tar: {sample.key}.{name}"
        wave = decoded_wave(flac, sample, rate_hz=reader.manifest.sample_rate, where=where)
        waves[name] = torch.from_numpy(wave[crop.start : crop.start + crop.length])
    return waves[pair.teacher], waves[pair.student]


def decoded_wave(flac: bytes, sample: IndexedSample, *, rate_hz: int, where: str) -> NDArray[np.float32]:
    """One member as float32 of shape (time,).

    Raises:
        DamagedShardError: If it cannot be decoded, or its rate, channels or length are not those of the index.
    """
    try:
        wave, found_hz = soundfile.read(io.BytesIO(flac), dtype="float32", always_2d=False)
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise DamagedShardError(where, f"cannot be decoded ({problem})") from None
    if wave.ndim != 1 or found_hz != rate_hz or len(wave) != sample.num_samples:
        raise DamagedShardError(
            where,
            f"has shape {wave.shape} at {found_hz} Hz, the index says ({sample.num_samples},) at {rate_hz} Hz",
        )
    decoded: NDArray[np.float32] = wave
    return decoded


def sample_record(content: bytes, sample: IndexedSample, shard: str, first: int) -> Sample:
    """The `.json` member of a sample, from the bytes of the sample beginning at offset `first`.

    Raises:
        DamagedShardError: If it has none.
    """
    where = f"{shard}.tar: {sample.key}.json"
    if "json" not in sample.members:
        raise DamagedShardError(where, "the index has no json member")
    member = sample.members["json"]
    text = content[member.offset - first : member.offset - first + member.size]
    return Sample.parse(parse_json(text, where=where), where=where)


def recorded_copies(reader: CorpusReader, shard: str, sample: IndexedSample) -> list[Copy]:
    """The copies of an utterance with their families, and whether they keep its content, from its record.

    Raises:
        DamagedShardError: If the record leaves out a copy that the index has.
    """
    told = {
        copy.name: Copy(copy.name, copy.family, copy.keeps_content)
        for record in reader.records(shard, sample)
        for copy in record.copies
    }
    missing = [name for name in sample.copies if name not in told]
    if missing:
        raise DamagedShardError(f"{shard}.tar: {sample.key}.json", f"says nothing of the copy {missing[0]}")
    return [told[name] for name in sample.copies]
