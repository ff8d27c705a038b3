"""Decodes the members of a sample, checked against the index, and reads from its record what was done to each copy."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch

from manifests.corpus.sample import CLEAN, Sample
from manifests.corpus.shard_index import ABOUT
from manifests.errors import printable
from manifests.io.json_yaml import parse_json
from training.data.joined_corpus import open_corpus
from training.data.tar_reader import DamagedShardError
from training.data.views import Copy

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from manifests.corpus.shard_index import IndexedSample
    from training.data.corpus import CorpusReader
    from training.data.sampler import Crop
    from training.data.views import Pair


def batch_waves(reader: CorpusReader, crops: Sequence[Crop], pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Both views of a micro-batch, each of shape (batch, time), zeros after each utterance's end.

    One read an utterance, decoded into the batch. Where every pair is the same copy twice, both views are one tensor.
    """
    teacher_wave = silent_rows(crops)
    all_same = all(pair.teacher == pair.student for pair in pairs)
    student_wave = teacher_wave if all_same else np.zeros_like(teacher_wave)
    for row, (crop, pair) in enumerate(zip(crops, pairs, strict=True)):
        contents = reader.contents(crop.shard, crop.sample, sorted({pair.teacher, pair.student}))
        decode_crop(contents[pair.teacher], crop, pair.teacher, into=teacher_wave[row], reader=reader)
        if pair.student != pair.teacher:
            decode_crop(contents[pair.student], crop, pair.student, into=student_wave[row], reader=reader)
        elif not all_same:
            student_wave[row] = teacher_wave[row]
    teacher = torch.from_numpy(teacher_wave)
    return teacher, teacher if all_same else torch.from_numpy(student_wave)


def silent_rows(crops: Sequence[Crop]) -> NDArray[np.float32]:
    """Zeros for a micro-batch, shape (batch, time)."""
    return np.zeros((len(crops), max((crop.length for crop in crops), default=0)), dtype=np.float32)


def decode_crop(flac: bytes, crop: Crop, name: str, *, into: NDArray[np.float32], reader: CorpusReader) -> None:
    """Decode one crop's stretch of a member to the beginning of a row; see `decoded_wave`."""
    where = f"{crop.shard}.tar: {crop.sample.key}.{name}"
    rate_hz = reader.manifest.sample_rate
    decoded_wave(flac, crop.sample, rate_hz=rate_hz, where=where, start=crop.start, into=into[: crop.length])


def decoded_wave(
    flac: bytes,
    sample: IndexedSample,
    *,
    rate_hz: int,
    where: str,
    start: int = 0,
    into: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """A stretch of one member (all of it by default) as float32 of shape (time,).

    Nothing is decoded, and no memory taken, before the header agrees with the index; and only the stretch is decoded: a few
    bytes of FLAC can decode to hours, and FLAC seeks to a place in the middle without decoding what is before it.

    Args:
        flac: The member's bytes.
        sample: Its index.
        rate_hz: Of the corpus.
        where: What to call it in a message.
        start: First sample of the stretch.
        into: Filled with it, where it is given; shape (time,).

    Raises:
        DamagedShardError: If it cannot be decoded, or its rate, channels or length are not those of the index.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(flac)) as member:
            found = (member.frames, member.channels, member.samplerate)
            if found != (sample.num_samples, 1, rate_hz):
                raise DamagedShardError(
                    where,
                    f"has {found[0]} samples in {found[1]} channel(s) at {found[2]} Hz, the index says {sample.num_samples} in one at "
                    f"{rate_hz} Hz",
                )
            if into is None:
                into = np.empty(sample.num_samples - start, dtype=np.float32)
            if start:
                member.seek(start)
            wave: NDArray[np.float32] = member.read(out=into)
    except (soundfile.LibsndfileError, RuntimeError) as problem:
        raise DamagedShardError(
            where, f"cannot be decoded ({printable(getattr(problem, 'error_string', problem))})"
        ) from None
    if len(wave) != len(into):
        raise DamagedShardError(where, f"ends after {start + len(wave)} samples, the index says {sample.num_samples}")
    return wave


def members_at(content: bytes, sample: IndexedSample, first: int, *, names: Container[str]) -> dict[str, bytes]:
    """Some members of a sample, from its bytes beginning at offset `first`."""
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
    recorded = {
        copy.name: Copy(copy.name, copy.family, copy.keeps_content) for copy in reader.copy_outlines(shard, sample)
    }
    missing = [name for name in sample.copies if name not in recorded]
    if missing:
        raise DamagedShardError(f"{shard}.tar: {sample.key}.json", f"has no record of the copy {missing[0]}")
    return [recorded[name] for name in sample.copies]


@dataclass(frozen=True)
class Utterance:
    """One utterance, read whole.

    Attributes:
        key: Of the index; external tars have keys of their own.
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
