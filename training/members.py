"""What lies in a sample's members: waves decoded and checked against the index, and what was done to each copy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import soundfile
import torch

from manifests.errors import printable
from manifests.files import parse_json
from manifests.sample import Sample
from training.corpus import DamagedShardError
from training.views import Copy

if TYPE_CHECKING:
    from collections.abc import Container

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from manifests.shards import IndexedSample
    from training.corpus import CorpusReader
    from training.order import Crop
    from training.views import Pair

LONG_SAMPLES = 1 << 23


def pair_waves(reader: CorpusReader, crop: Crop, pair: Pair) -> tuple[Tensor, Tensor]:
    """The two views of one crop, each of shape (time,); one read, and one decoding where both are the same copy."""
    sample = crop.sample
    contents = reader.contents(crop.shard, sample, sorted({pair.teacher, pair.student}))
    waves = {}
    for name, flac in contents.items():
        where = f"{crop.shard}.tar: {sample.key}.{name}"
        wave = decoded_wave(
            flac, sample, rate_hz=reader.manifest.sample_rate, where=where, start=crop.start, length=crop.length
        )
        waves[name] = torch.from_numpy(wave)
    return waves[pair.teacher], waves[pair.student]


def decoded_wave(
    flac: bytes, sample: IndexedSample, *, rate_hz: int, where: str, start: int = 0, length: int | None = None
) -> NDArray[np.float32]:
    """A stretch of one member (all of it by default) as float32 of shape (time,).

    Nothing is decoded before the header agrees with the index, and of a long utterance only what is asked for: a few bytes of FLAC
    can stand for hours.

    Raises:
        DamagedShardError: If it cannot be decoded, or its rate, channels or length are not those of the index.
    """
    length = sample.num_samples - start if length is None else length
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as member:
            found = (member.frames, member.channels, member.samplerate)
            if found != (sample.num_samples, 1, rate_hz):
                raise DamagedShardError(
                    where,
                    f"has {found[0]} samples in {found[1]} channel(s) at {found[2]} Hz, the index says {sample.num_samples} in one at "
                    f"{rate_hz} Hz",
                )
            first = start
            if sample.num_samples > LONG_SAMPLES:
                member.seek(start)
                first = 0
            wave: NDArray[np.float32] = member.read(first + length, dtype="float32")[first:]
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise DamagedShardError(
            where, f"cannot be decoded ({printable(getattr(problem, 'error_string', problem))})"
        ) from None
    if len(wave) != length:
        raise DamagedShardError(where, f"ends after {first + len(wave)} samples, the index says {sample.num_samples}")
    return wave


def members_at(content: bytes, sample: IndexedSample, first: int, *, names: Container[str]) -> dict[str, bytes]:
    """Those members of a sample that are asked for, from its bytes beginning at offset `first`."""
    return {
        name: content[member.offset - first : member.offset - first + member.size]
        for name, member in sample.members.items()
        if name in names
    }


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
