"""Members of samples as waves: which bytes, which stretch, and what a damaged one is called."""

from __future__ import annotations

import contextlib
import io
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from manifests.corpus.shard_index import IndexedSample, Member
from tests.training.conftest import RATE_HZ
from training.data.audio import (
    batch_waves,
    decode_crop,
    decoded_wave,
    members_at,
    sample_record,
    silent_rows,
    utterances,
)
from training.data.sampler import Crop
from training.data.tar_reader import DamagedShardError
from training.data.views import Pair


def sample_of(count, *names):
    members = {name: Member(offset=100 + 10 * place, size=10 - place) for place, name in enumerate(names or ("clean",))}
    return IndexedSample(key="u", num_samples=count, members=members)


def flac_of(count, first=0):
    """A ramp, so that a wave says where it begins."""
    stream = io.BytesIO()
    pcm = np.arange(first, first + count).astype("<i2")
    soundfile.write(stream, pcm, RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def reader_of(contents):
    return SimpleNamespace(
        manifest=SimpleNamespace(sample_rate=RATE_HZ),
        contents=lambda _shard, _sample, names: {name: contents[name] for name in names},
    )


def test_rows_are_as_long_as_the_longest_crop_and_none_has_no_width():
    crops = [Crop("train-0", sample_of(900), 100, length) for length in (30, 70, 50)]
    assert (silent_rows(crops).shape, silent_rows(crops).dtype) == ((3, 70), np.float32)
    assert silent_rows([]).shape == (0, 0)
    assert not silent_rows(crops).any()


def test_each_view_is_the_stretch_of_its_own_copy_at_the_beginning_of_its_row():
    """Ramps: clean speech counts from 0, the copies from 1000 and 2000."""
    reader = reader_of({"clean": flac_of(900), "noise-0": flac_of(900, 1000), "room-0": flac_of(900, 2000)})
    crops = [Crop("train-0", sample_of(900), start, length) for start, length in ((100, 30), (0, 70), (850, 50))]
    pairs = [Pair("clean", "noise-0"), Pair("room-0", "room-0"), Pair("noise-0", "room-0")]
    views = [np.rint(view.numpy() * 32768) for view in batch_waves(reader, crops, pairs)]
    firsts = [(0, 2000, 1000), (1000, 2000, 2000)]
    for view, added in zip(views, firsts, strict=True):
        for row, crop, first in zip(view, crops, added, strict=True):
            assert row[: crop.length].tolist() == list(range(first + crop.start, first + crop.start + crop.length))
            assert not row[crop.length :].any()
    teacher, student = batch_waves(reader, crops[1:2], [Pair("room-0", "room-0")])
    assert teacher is student
    assert np.array_equal(np.rint(teacher.numpy() * 32768), views[0][1:2])


def test_a_damaged_copy_is_named_with_its_shard_and_what_is_wrong():
    reader = reader_of({"clean": flac_of(900), "noise-0": b"no audio"})
    crop = Crop("train-7", sample_of(900), 100, 30)
    with pytest.raises(DamagedShardError) as caught:
        batch_waves(reader, [crop], [Pair("clean", "noise-0")])
    assert str(caught.value).startswith(
        "train-7.tar: u.noise-0: cannot be decoded (Format not recognised.); run `stillroom verify`"
    )
    reader.manifest.sample_rate = 8000
    with pytest.raises(DamagedShardError, match=r"at 16000 Hz, the index says 900 in one at 8000 Hz"):
        decode_crop(flac_of(900), crop, "clean", into=np.zeros(30, np.float32), reader=reader)


def test_a_wave_is_whole_or_from_its_start_and_one_that_ends_before_is_named(monkeypatch):
    whole = decoded_wave(flac_of(900), sample_of(900), rate_hz=RATE_HZ, where="x")
    assert (whole.shape, whole.dtype) == ((900,), np.float32)
    rest = decoded_wave(flac_of(900), sample_of(900), rate_hz=RATE_HZ, where="x", start=300)
    assert np.array_equal(rest, whole[300:])
    read = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda member, out: read(member, out=out)[:250])
    with pytest.raises(DamagedShardError, match=r"^x: ends after 550 samples, the index says 900; run"):
        decoded_wave(flac_of(900), sample_of(900), rate_hz=RATE_HZ, where="x", start=300)


def test_members_are_cut_where_the_index_says_and_a_record_is_named_by_its_shard():
    content = bytes(itertools.islice(itertools.cycle(range(251)), 300))
    sample = sample_of(900, "clean", "json", "txt", "cls")
    assert members_at(content[90:], sample, 90, names={"json", "cls", "other"}) == {
        "json": content[110:119],
        "cls": content[130:137],
    }
    with pytest.raises(DamagedShardError, match=r"^train-7\.tar: u\.json: the index has no json member"):
        sample_record(content, sample_of(900), "train-7", 90)
    with pytest.raises(ValueError, match=r"^train-7\.tar: u\.json"):
        sample_record(content, sample, "train-7", 90)


@pytest.fixture(name="external")
def external_tars(monkeypatch):
    """A reader of tars that others wrote, with two utterances of a split `dev`; the second one's room copy is damaged."""
    content, samples = bytearray(50), []
    for number, copies in enumerate(({"clean": flac_of(9)}, {"clean": flac_of(9, 500), "room-0": b"no audio"})):
        members = {}
        for name, part in (copies | {"txt": b"said"}).items():
            members[name] = Member(offset=len(content), size=len(part))
            content += part
        samples.append(IndexedSample(key=f"x{number}", num_samples=9, members=members))
    calls = []

    class Reader(contextlib.nullcontext):
        manifest = SimpleNamespace(sample_rate=RATE_HZ, borrowed="of another")

        def shards(self, split):
            return [SimpleNamespace(name=f"{split}-000003")]

        def samples(self, _):
            return samples

        def span(self, _, start, end):
            return bytes(content[start:end])

        def record(self, *given):
            calls.append(given)
            return SimpleNamespace(id="d/7")

    reader = Reader()
    reader.enter_result = reader  # what `with` gives
    monkeypatch.setattr("training.data.audio.open_corpus", lambda _: reader)
    return calls, samples


def test_utterances_of_tars_that_others_wrote_have_the_keys_of_the_index_and_records_of_their_own_split(external):
    calls, samples = external
    first, second = utterances("far", "dev", members=["clean"])
    assert [(one.key, one.sample.id) for one in (first, second)] == [("x0", "d/7"), ("x1", "d/7")]
    assert np.rint(second.waves["clean"] * 32768).tolist() == list(range(500, 509))
    assert calls == [({"txt": b"said"}, sample, f"dev-000003.tar: {sample.key}.json", "dev") for sample in samples]
    with pytest.raises(DamagedShardError, match=r"^dev-000003\.tar: x1\.room-0: cannot be decoded"):
        list(utterances("far", "dev"))
