"""The one door to audio."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import signal
from dataclasses import dataclass
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from manifests.corpus.shard_index import IndexedSample
from manifests.errors import MissingFileError, UsageError
from manifests.io.json_yaml import read_json, write_json
from manifests.io.url import UnreachableError
from tests.training import conftest
from tests.training.conftest import RATE_HZ, write_corpus
from training import stream as stream_module
from training.config.schema import Staging
from training.data.audio import decoded_wave, utterances
from training.data.corpus import CorpusReader, NoSuchSplitError, NotSealedError
from training.data.joined_corpus import clean_digests, open_corpus
from training.data.sampler import Batching, Crop, Cursor, filled_batching
from training.data.tar_reader import DamagedShardError
from training.data.view_keys import Views
from training.dataloader import leave_signals_to_parent, loader
from training.runs.signals import StopSignals
from training.stream import PairStream, Sources, pairs


@pytest.fixture(scope="module", name="made")
def corpus_and_its_pcm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream") / "corpus"
    return folder, write_corpus(folder, shards=3, samples=6, lengths_s=(0.3, 1.5))


def same(first, second):
    return (
        first.keys == second.keys
        and first.cursor == second.cursor
        and (first.lane, first.ends_step, first.global_lengths)
        == (second.lane, second.ends_step, second.global_lengths)
        and first.teacher_copies == second.teacher_copies
        and torch.equal(first.teacher_wave, second.teacher_wave)
        and torch.equal(first.student_wave, second.student_wave)
    )


def test_batches_hold_the_pcm_of_the_copies_they_name(made):
    folder, pcm = made
    heard = set()
    for batch in pairs(folder, views=Views(kind="cdm2", clean_share=0.2), seconds=4, lanes=2, crop_s=0.8, seed=1):
        assert batch.teacher_wave.shape == batch.student_wave.shape
        assert batch.teacher_wave.shape[1] == int(batch.num_samples.max()) <= 0.8 * RATE_HZ
        for row, key in enumerate(batch.keys):
            heard.add(key)
            length = int(batch.num_samples[row])
            starts = set()
            for wave, copies in (
                (batch.teacher_wave, batch.teacher_copies),
                (batch.student_wave, batch.student_copies),
            ):
                whole = pcm[key, copies[row]].astype(np.float32) / 32768
                windows = np.lib.stride_tricks.sliding_window_view(whole, length)
                (places,) = np.nonzero((windows == wave[row, :length].numpy()).all(axis=1))
                assert len(places) == 1
                starts.add(int(places[0]))
                assert not wave[row, length:].any()
            assert len(starts) == 1, "both views are cut at the same place"
            assert (batch.teacher_copies[row] == "clean") == (batch.student_copies[row] == "clean")
            assert batch.teacher_copies[row] == "clean" or batch.teacher_copies[row] != batch.student_copies[row]
    assert heard == {key for key, copy in pcm if copy == "clean" and key.startswith("train")}


def test_clean_pairs_are_decoded_once_and_shared(made):
    batch = next(iter(pairs(made[0], views="none", utterances=4)))
    assert batch.student_wave is batch.teacher_wave
    assert batch.to(torch.device("cpu")) is batch


def test_order_and_crops_do_not_depend_on_the_views(made):
    plain, cdm1, cdm2 = (
        list(pairs(made[0], views=kind, utterances=4, lanes=2, crop_s=0.5)) for kind in ("none", "cdm1", "cdm2")
    )
    assert [batch.keys for batch in plain] == [batch.keys for batch in cdm1] == [batch.keys for batch in cdm2]
    assert all(torch.equal(one.teacher_wave, two.teacher_wave) for one, two in zip(plain, cdm1, strict=True))
    assert all(torch.equal(one.student_wave, two.student_wave) for one, two in zip(cdm1, cdm2, strict=True))


def test_what_arrives_is_the_same_with_no_worker_and_with_two(made):
    stream = pairs(made[0], views="cdm2", utterances=4, lanes=2, crop_s=0.5, epochs=2)
    alone = list(stream)
    for workers in (0, 2):
        together = list(loader(stream, workers=workers))
        assert len(together) == len(alone)
        assert all(map(same, together, alone))
    assert {batch.cursor.epoch for batch in alone} == {0, 1}


def test_a_plain_data_loader_takes_it(made):
    stream = pairs(made[0], views="cdm1", seconds=3, crop_s=2)
    assert sum(len(batch.keys) for batch in DataLoader(stream, batch_size=None)) == 18


@pytest.mark.parametrize("size", [{"batch_size": 2}, {}])
def test_a_data_loader_that_would_make_batches_of_batches_is_refused_with_what_to_write(made, size):
    stream = pairs(made[0], seconds=48, crop_s=4)
    with pytest.raises(UsageError, match=r"write DataLoader\(stream, batch_size=None\)") as refused:
        next(iter(DataLoader(stream, **size)))
    assert str(refused.value).startswith(f"DataLoader(batch_size={size.get('batch_size', 1)}): ")


@pytest.mark.parametrize("stop", [2, 5, 9])
def test_a_stream_goes_on_at_a_cursor(made, stop):
    stream = pairs(made[0], views="cdm2", utterances=4, crop_s=0.5, epochs=None)
    straight = list(itertools.islice(stream, 14))
    stream.cursor = straight[stop].next_cursor
    resumed = list(itertools.islice(stream, 14 - stop - 1))
    assert len(resumed) == 14 - stop - 1
    assert all(map(same, resumed, straight[stop + 1 :]))


def test_each_lane_of_a_step_but_the_last_says_that_more_comes(made):
    for _, group in itertools.groupby(pairs(made[0], utterances=6, lanes=3), key=lambda batch: batch.cursor):
        batches = list(group)
        assert [batch.ends_step for batch in batches] == [False] * (len(batches) - 1) + [True]
        assert {batch.global_lengths for batch in batches} == {batches[0].global_lengths}
        assert sum(int(batch.num_samples.sum()) for batch in batches) == sum(batches[0].global_lengths)


def test_a_rank_reads_its_lanes_alone(made):
    stream = pairs(made[0], utterances=6, lanes=3)
    stream.lanes = (1,)
    batches = list(stream)
    assert {batch.lane for batch in batches if batch.keys} == {1}
    assert all(batch.ends_step for batch in batches)
    stream.lanes = (0, 2)
    others = [key for batch in stream for key in batch.keys]
    assert len(others) + sum(len(batch.keys) for batch in batches) == 18


def test_utterances_come_whole_with_their_record(made):
    folder, pcm = made
    found = list(utterances(folder, "train"))
    assert len(found) == 18
    for utterance in found:
        key = next(key for key, copy in pcm if copy == "clean" and key == sample_key_of(utterance))
        assert set(utterance.waves) == {"clean", "noise-0", "phone-0", "room-0"}
        for name, wave in utterance.waves.items():
            assert wave.dtype == np.float32
            assert np.array_equal(wave * 32768, pcm[key, name])
            assert len(wave) == utterance.sample.num_samples


def sample_key_of(utterance):
    from manifests.corpus.sample import sample_key

    return sample_key(utterance.sample.id)


def test_utterances_can_be_chosen_by_member_and_by_key(made):
    folder, _ = made
    keys = {sample_key_of(utterance) for utterance in itertools.islice(utterances(folder, "train"), 5)}
    found = list(utterances(folder, "train", members=["clean", "room-0", "absent-3"], keys=keys))
    assert {sample_key_of(utterance) for utterance in found} == keys
    assert all(set(utterance.waves) == {"clean", "room-0"} for utterance in found)


def test_digests_of_clean_speech_are_those_of_its_pcm(made):
    import hashlib

    folder, pcm = made
    assert dict(clean_digests(folder, "train")) == {
        key: hashlib.sha256(wave.tobytes()).hexdigest()
        for (key, copy), wave in pcm.items()
        if copy == "clean" and key.startswith("train")
    }


@pytest.fixture(name="remote")
def in_memory(made):
    system = fsspec.filesystem("memory")
    for path in made[0].rglob("*"):
        if path.is_file():
            system.pipe_file(f"/bucket/{path.relative_to(made[0])}", path.read_bytes())
    yield "memory://bucket"
    system.store.clear()


def test_a_url_reads_like_a_folder(made, remote):
    here, there = (list(pairs(corpus, views="cdm2", utterances=4, crop_s=0.5)) for corpus in (made[0], remote))
    assert all(map(same, here, there))
    assert len(here) == len(there)
    assert open_corpus(remote).digest == open_corpus(made[0]).digest


def test_a_remote_read_is_tried_again_and_then_named(remote, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr("manifests.io.url.FIRST_WAIT_S", 0.001)
    reader = open_corpus(remote)
    read, failures = MemoryFileSystem.cat_file, itertools.count()

    def flaky(self, path, **options):
        if next(failures) % 4 < bad:
            raise OSError("connection reset")
        return read(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", flaky)
    bad = 3
    assert len(reader.span("train-000000", 0, 512)) == 512
    bad = 4
    with pytest.raises(UnreachableError, match=r"after 4 attempts \(OSError: connection reset\)"):
        reader.span("train-000000", 0, 512)


def test_a_url_that_nothing_reads_is_one_line():
    with pytest.raises(UsageError, match="cannot be opened"):
        open_corpus("gopher://host/corpus")


def test_a_folder_without_a_seal_is_no_corpus(tmp_path, remote):
    for corpus in (tmp_path, tmp_path / "nothing", remote + "/nothing"):
        with pytest.raises(NotSealedError, match=r"has no corpus\.json"):
            pairs(corpus)


def test_a_split_that_is_not_there_names_those_that_are(made):
    with pytest.raises(NoSuchSplitError, match="no utterances in a split 'test'; those with utterances: dev, train"):
        pairs(made[0], split="test")


@pytest.fixture(name="copy")
def own_copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_a_missing_shard_is_named(copy):
    (copy / "shards" / "train-000001.tar").unlink()
    with pytest.raises(MissingFileError, match=r"train-000001.tar does not exist"):
        list(pairs(copy))


def test_a_shard_that_was_cut_off_is_named(copy):
    path = copy / "shards" / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DamagedShardError, match=r"train-000001.tar: ends at byte"):
        list(pairs(copy))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_finds_is_told_as_it_is_without_one(copy, workers):
    (copy / "shards" / "train-000001.tar").unlink()
    with pytest.raises(MissingFileError, match=r"train-000001.tar does not exist") as caught:
        list(loader(pairs(copy), workers=workers))
    assert "\n" not in str(caught.value)


def test_a_damaged_sample_is_named(copy):
    path = copy / "shards" / "train-000001.tar"
    content = bytearray(path.read_bytes())
    content[4096:200_000] = b"\0" * (200_000 - 4096)
    path.write_bytes(content)
    with pytest.raises(DamagedShardError, match=r"train-000001.tar: train_1_utt_.*\.clean: cannot be decoded"):
        list(pairs(copy))


@pytest.mark.parametrize("change", [{"num_samples": 1000}, {"members": {}}])
def test_an_index_that_lies_is_found_out(copy, change):
    path = copy / "shards" / "train-000001.json"
    index = read_json(path, needed="test")
    index["samples"][2] |= change
    if not index["samples"][2]["members"]:
        index["samples"][2]["members"] = {"clean": {"offset": 2**40, "size": 10}}
    write_json(path, index)
    with pytest.raises(DamagedShardError, match=r"train-000001|train_1_utt_2"):
        list(pairs(copy))


@pytest.mark.parametrize(
    ("rate_hz", "channels", "count", "found"),
    [
        (8000, 1, 1000, "1000 samples in 1 channel.s. at 8000 Hz"),
        (RATE_HZ, 2, 1000, "1000 samples in 2 channel.s. at 16000 Hz"),
        (RATE_HZ, 1, 1001, "1001 samples in 1 channel.s. at 16000 Hz"),
        (RATE_HZ, 1, 999, "999 samples in 1 channel.s. at 16000 Hz"),
    ],
)
def test_a_wave_of_another_rate_length_or_number_of_channels_than_the_index_says_is_not_decoded(
    rate_hz, channels, count, found
):
    stream = io.BytesIO()
    soundfile.write(stream, np.full((count, channels), 0.25), rate_hz, format="FLAC", subtype="PCM_16")
    sample = IndexedSample.model_validate(
        {"key": "u", "num_samples": 1000, "members": {"clean": {"offset": 0, "size": 1}}}
    )
    with pytest.raises(DamagedShardError, match=f"{found}, the index says 1000 in one at 16000 Hz"):
        decoded_wave(stream.getvalue(), sample, rate_hz=RATE_HZ, where="train-000000.tar: u.clean")


def test_too_few_copies_are_refused_before_anything_is_read(tmp_path):
    write_corpus(tmp_path / "one", shards=1, samples=2, copies=("noise-0",))
    pairs(tmp_path / "one", views="cdm1")
    with pytest.raises(
        UsageError, match="views cdm2 needs 2 distorted different copies of an utterance, this split has 1"
    ):
        pairs(tmp_path / "one", views="cdm2")


def test_a_lane_that_cannot_hold_the_longest_crop_names_both_numbers():
    with pytest.raises(UsageError, match=r"160 / 16 = 10 s cannot hold the longest crop, crop_s = 15.6 s"):
        filled_batching(seconds=160, utterances=None, lanes=16, crop_s=15.6, rate_hz=16000)
    with pytest.raises(UsageError, match=r"utterances = 24 cannot be divided evenly among batch\.lanes = 5"):
        filled_batching(seconds=None, utterances=24, lanes=5, crop_s=15.6, rate_hz=16000)


def test_an_epoch_can_be_chosen(made):
    later = list(pairs(made[0], utterances=4, epoch=3))
    assert {batch.cursor.epoch for batch in later} == {3}
    assert later[0].cursor == Cursor(3, 0, 0)


def test_from_afar_a_batch_is_read_without_the_members_that_it_does_not_need_and_is_forgotten(
    made, remote, monkeypatch
):
    folder = made[0] if isinstance(made, tuple) else made
    stream = pairs(remote, views="none", utterances=4)
    read = []
    stretch = CorpusReader.stretch

    def seen(self, shard, members):
        found = stretch(self, shard, members)
        read.append(len(found[1]))
        return found

    monkeypatch.setattr(CorpusReader, "stretch", seen)
    with open_corpus(remote) as reader, open_corpus(folder) as near:
        batches = list(stream.micro_batches(Sources(reader)))
        assert not reader.fetched
        clean = [sample.members["clean"].size for entry in near.shards("train") for sample in near.samples(entry.name)]
    assert sum(len(batch.keys) for batch in batches) == len(clean)
    assert sorted(read) == sorted(clean)


def test_an_index_that_points_beyond_its_tar_is_found_before_anything_is_read(copy):
    path = copy / "shards" / "train-000001.json"
    index = read_json(path, needed="test")
    with open_corpus(copy) as reader:
        ends = max(sample.span[1] for sample in reader.samples("train-000001"))
        for size, is_whole in ((ends, True), (ends - 1, False)):
            write_json(path, {**index, "bytes": size})
            with contextlib.nullcontext() if is_whole else pytest.raises(DamagedShardError, match="outside the tar"):
                reader.index("train-000001")


def test_workers_leave_every_signal_that_stops_a_run_to_their_parent():
    before = {number: signal.getsignal(number) for number in StopSignals.CAUGHT}
    try:
        leave_signals_to_parent(0)
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stream_of(folder, **options):
    given = {
        "split": "train", "views": Views(kind="cdm1"), "batching": Batching(lanes=1, crop_samples=4000, lane_utterances=3, window_shards=1),
        "seed": 2,
    }  # fmt: skip
    return PairStream(folder, **{**given, **options})


def test_lengths_of_a_window_are_those_of_its_global_batches(made):
    whole = Batching(lanes=1, crop_samples=30_000, lane_utterances=3, window_shards=1)
    stream = stream_of(made[0], epochs=2, batching=whole, seed=2)
    lengths = {}
    for batch in stream:
        lengths.setdefault(batch.cursor[:2], []).append(list(batch.global_lengths))
    assert len(lengths) == 6
    with open_corpus(made[0]) as reader:
        for (epoch, window), expected in lengths.items():
            assert stream.window_lengths(reader, Cursor(epoch, window, 1)) == expected
    epochs = [[lengths[epoch, window] for window in range(3)] for epoch in range(2)]
    assert all(one != other for one, other in zip(*epochs, strict=True)), "each epoch has an order of its own"


def test_crops_that_cannot_be_read_are_left_out_with_their_own_lengths(copy):
    """Of one shard two utterances are cut off: the shard is named once, what is lost is the two crops; without `damaged_shards` it is the end."""
    with open_corpus(copy) as reader:
        samples = sorted(reader.samples("train-000001"), key=lambda sample: sample.span[0])
    gone = {sample.key for sample in samples[-2:]}
    os.truncate(copy / "shards/train-000001.tar", samples[-2].span[0])
    whole = list(stream_of(copy, damaged_shards=1))
    lost = [length for batch in whole for length in batch.lost]
    assert sorted(lost) == sorted(min(4000, sample.num_samples) for sample in samples[-2:])
    assert sum(len(batch.keys) for batch in whole) == 18 - 2
    assert not gone & {key for batch in whole for key in batch.keys}
    for batch in whole:
        assert len(batch.keys) == len(batch.num_samples) == len(batch.student_wave) == 3 - len(batch.lost)
        assert [shard for shard, _ in batch.damage] == (["train-000001"] if batch.lost else [])
        assert all("train-000001.tar" in problem for _, problem in batch.damage)
        assert len(batch.global_lengths) == 3, "of all that was planned"
    with pytest.raises(DamagedShardError):
        list(stream_of(copy))
    with open_corpus(copy) as reader:
        keys = {
            crop.sample.key
            for crop, _ in stream_of(copy, views=Views(kind="cdm2"), damaged_shards=1).first_pairs(reader, 18)
        }
        assert len(keys) == 16
        assert not keys & gone
    with open_corpus(copy) as reader, pytest.raises(DamagedShardError):
        stream_of(copy, views=Views(kind="cdm2")).first_pairs(reader, 18)


def test_pairs_without_a_copy_that_fits_are_counted_one_by_one(tmp_path):
    write_corpus(tmp_path / "corpus", shards=1, samples=6, copies=("pitch-0", "pitch-1"), splits=("train",))
    stream = stream_of(tmp_path / "corpus", views=Views(kind="cdm2"))
    assert [(batch.fell_back, batch.teacher_copies) for batch in stream] == [(3, ("clean",) * 3)] * 2


def test_pairs_are_eight_a_lane_at_the_rate_of_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, "RATE_HZ", 8000)
    write_corpus(tmp_path / "corpus", shards=1, samples=2, splits=("train",))
    stream = pairs(tmp_path / "corpus", lanes=2, crop_s=0.5, seed=7, epoch=3)
    assert stream.batching == Batching(lanes=2, crop_samples=4000, lane_utterances=8)
    assert (stream.seed, stream.cursor, stream.epochs) == (7, (3, 0, 0), 1)
    assert pairs(tmp_path / "corpus", seconds=3, crop_s=0.5).batching.lane_samples == 24_000


@pytest.fixture(name="opened")
def sources_that_are_noted(monkeypatch):
    """What a stream opens and closes, by stand-ins for corpus, targets and cache."""
    events = []

    class Source:
        def __init__(self, *given, **options):
            self.tars = SimpleNamespace(cached=None)
            self.handle = "handle of the cache"
            events.append((type(self).__name__, *given, options))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def close(self):
            events.append(("closed", type(self).__name__))

        def use_cache(self, handle):
            events.append(("cached", handle))

    for name, stands_for in (("Corpus", "open_corpus"), ("Targets", "TargetsReader"), ("Cache", "NodeCache")):
        monkeypatch.setattr(stream_module, stands_for, type(name, (Source,), {}))
    return events


@pytest.mark.parametrize("worker", [None, SimpleNamespace(id=2, num_workers=5)])
@pytest.mark.parametrize(("targets", "staged"), [(None, False), ("kept", False), (None, True), ("kept", True)])
def test_a_worker_opens_what_it_reads_by_itself_and_closes_it(made, monkeypatch, request, worker, targets, staged):
    stream = stream_of(made[0], cursor=Cursor(1, 0, 2), targets=targets)
    stream.stage = Staging(dir="/fast", gigabytes=7.5) if staged else None
    opened = request.getfixturevalue("opened")
    given = []
    monkeypatch.setattr(stream_module, "get_worker_info", lambda: worker)

    def micro_batches(sources, cursor, **share):
        given.append((sources, cursor, share))
        opened.append("read")
        yield "batch"

    stream.micro_batches = micro_batches
    assert list(stream) == ["batch"]
    ((sources, cursor, share),) = given
    assert (cursor, share) == (Cursor(1, 0, 2), {"turn": 2, "turns": 5} if worker else {"turn": 0, "turns": 1})
    assert type(sources.corpus).__name__ == "Corpus"
    assert type(sources.targets).__name__ == ("Targets" if targets else "NoneType")
    assert type(sources.cache).__name__ == ("Cache" if staged else "NoneType")
    if targets:
        assert sources.targets.tars.cached == ("handle of the cache" if staged else None)
    cache = ("Cache", "/fast", {"gigabytes": 7.5, "report": stream_module.stderr_line})
    assert opened == [
        ("Corpus", str(made[0]), {}),
        *([("Targets", "kept", {})] if targets else []),
        *([cache, ("cached", "handle of the cache")] if staged else []),
        "read",
        *([("closed", "Cache")] if staged else []),
        *([("closed", "Targets")] if targets else []),
        ("closed", "Corpus"),
    ]


def test_a_stream_is_what_it_is_given_and_leaves_nothing_open(made, monkeypatch):
    caches = []
    monkeypatch.setattr(
        stream_module, "NodeCache",
        lambda folder, *, report: caches.append((folder, report)) or SimpleNamespace(close=lambda: caches.append("closed")),
    )  # fmt: skip
    plain = stream_of(made[0])
    assert (plain.corpus, plain.lanes, plain.epochs, plain.cursor) == (str(made[0]), (0,), 1, (0, 0, 0))
    assert (plain.reads_records, plain.names_families, caches) == (False, False, [])
    views = Views.model_validate({"kind": "cdm1", "student": {"conditions": ["room"]}})
    three = Batching(lanes=3, crop_samples=4000, lane_utterances=1)
    stage = Staging(dir="/fast", gigabytes=2.0)
    stream = stream_of(
        [made[0]],
        views=views,
        batching=three,
        lanes=[2, 0],
        epochs=4,
        stage=stage,
        families=True,
        split="dev",
        targets="kept",
    )
    assert (stream.corpus, stream.lanes, stream.epochs) == ((str(made[0]),), (2, 0), 4)
    assert (stream.shards, stream.split, stream.views, stream.batching, stream.seed) == (
        ["dev-000000"],
        "dev",
        views,
        three,
        2,
    )
    assert (stream.reads_records, stream.names_families, stream.targets, stream.stage) == (True, True, "kept", stage)
    assert caches == [("/fast", stream_module.stderr_line), "closed"]
    assert stream_of(made[0], batching=three).lanes == (0, 1, 2)
    kept = stream_of(made[0], views=Views(kind="cdm2"))
    assert (kept.reads_records, kept.names_families) == (True, False), "only a record says what keeps the content"


@pytest.mark.parametrize("kind", ["cdm1", "cdm2"])
def test_with_targets_the_students_copy_alone_is_read_and_the_targets_are_of_the_teachers(made, monkeypatch, kind):
    """Where views need records, whole samples are: the copies are chosen from them."""
    stream = stream_of(made[0], views=Views(kind=kind), families=False)
    stream.target_layers = (3, 1)
    calls, needed = [], []
    targets = SimpleNamespace(
        batch=lambda crops, copies, *, layers: calls.append((crops, copies, layers)) or torch.full((3, 2), 7.0),
        hold=calls.append,
    )
    monkeypatch.setattr(CorpusReader, "fetch", lambda _, members: needed.append(list(members)))
    with open_corpus(made[0]) as reader:
        batch, *_ = stream.micro_batches(Sources(reader, targets))
        plain, *_ = stream.micro_batches(Sources(reader))
    window, (crops, copies, layers) = calls[0], calls[1]
    assert window == [crops[0].shard]
    assert tuple(crop.sample.key for crop in crops) == batch.keys == plain.keys
    assert (tuple(copies), layers) == (batch.teacher_copies, (3, 1)) == (plain.teacher_copies, (3, 1))
    assert (batch.teacher_wave.shape, batch.target.tolist(), plain.target) == ((3, 0), [[7.0, 7.0]] * 3, None)
    assert torch.equal(batch.student_wave, plain.student_wave)
    assert not torch.equal(plain.student_wave, plain.teacher_wave)
    for first, taken in ((needed[0], batch), (needed[-1], plain)):
        names = (
            [None] * 3
            if kind == "cdm2"
            else [
                {student} if taken is batch else {teacher, student}
                for teacher, student in zip(taken.teacher_copies, taken.student_copies, strict=True)
            ]
        )
        if taken is batch:
            assert [(one.shard, one.sample, one.names) for one in first] == [
                (crop.shard, crop.sample, name) for crop, name in zip(crops, names, strict=True)
            ]
        else:
            assert {len(one.names or ()) for one in first} == {len(name or ()) for name in names}
    assert batch.num_samples.dtype == torch.int64
    assert batch.num_samples.tolist() == [crop.length for crop in crops]


def test_the_first_pairs_are_those_of_the_order_and_a_step_those_of_all_its_lanes(made):
    lanes = Batching(lanes=3, crop_samples=4000, lane_utterances=1, window_shards=1)
    stream = stream_of(made[0], views=Views(kind="cdm2"), batching=lanes, lanes=(1,), epochs=2)
    stream.passed_over = 1
    with open_corpus(made[0]) as reader:
        order = [crop for batch in stream.batches_from(reader, Cursor()) for lane in batch.lanes for crop in lane]
        found = stream.first_pairs(reader, 7)
        assert [crop for crop, _ in found] == order[:7]
        assert len(stream.first_pairs(reader, 100)) == 18, "one epoch"
        step = list(stream.one_step(reader, Cursor(1, 0, 1)))
    assert [(batch.cursor, batch.lane) for batch in step] == [(Cursor(1, 0, 1), lane) for lane in (0, 1, 2)]
    assert (stream.lanes, stream.passed_over) == ((1,), 1)
    stream.passed_over, stream.lanes = 0, (0, 1, 2)
    whole = {}
    for batch in itertools.takewhile(lambda batch: batch.cursor.epoch == 0, stream):
        whole |= dict(zip(batch.keys, zip(batch.teacher_copies, batch.student_copies, strict=True), strict=True))
    assert [pair[:2] for _, pair in found] == [whole[crop.sample.key] for crop, _ in found]


def test_what_cannot_be_read_is_lost_crop_by_crop_and_each_shard_named_by_its_first_problem():
    bad = {"a": "first", "c": "second", "e": "third"}
    crops = tuple(
        Crop(shard, key, 0, length)
        for shard, key, length in (("s1", "a", 5), ("s1", "b", 6), ("s1", "c", 7), ("s2", "e", 9))
    )
    read = []

    @dataclass(frozen=True)
    class Batch:
        crops: tuple[Crop, ...]
        lost: tuple[int, ...] = ()
        damage: tuple[tuple[str, str], ...] = ()

    def reading(sources, batch, lane, crops, *, ends_step):
        read.append((sources, batch.lanes, lane, ends_step))
        for crop in crops:
            if crop.sample in bad:
                raise DamagedShardError(crop.shard, bad[crop.sample])
        return Batch(tuple(crops))

    lanes = SimpleNamespace(lanes=((), crops, ()))
    stream = SimpleNamespace(damaged_shards=1, read=reading)
    found = PairStream.micro_batch(stream, "sources", lanes, 1, ends_step=True)
    assert (found.crops, found.lost) == (crops[1:2], (5, 7, 9))
    assert found.damage == (
        ("s1", str(DamagedShardError("s1", "first"))),
        ("s2", str(DamagedShardError("s2", "third"))),
    )
    assert set(read) == {("sources", lanes.lanes, 1, True)}
    stream.damaged_shards = 0
    with pytest.raises(DamagedShardError, match="first"):
        PairStream.micro_batch(stream, "sources", lanes, 1, ends_step=True)
    bad.clear()
    assert PairStream.micro_batch(stream, "sources", lanes, 1, ends_step=False) == Batch(crops)


def test_too_few_copies_are_those_of_the_split(tmp_path):
    write_corpus(tmp_path / "one", shards=1, samples=1, copies=("noise-0",))
    with pytest.raises(UsageError) as caught:
        pairs(tmp_path / "one", split="dev", views="cdm2")
    assert f"{tmp_path / 'one'}, split dev" in str(caught.value)
