"""What a reader finds in a corpus, and which of its files it names where something is missing."""

from __future__ import annotations

import io
import shutil
import threading

import fsspec
import numpy as np
import pytest
import soundfile

from manifests.corpus.sample import CLEAN
from manifests.corpus.shard_index import IndexedSample, ShardEntry
from manifests.errors import BadDocumentError, MissingFileError
from manifests.io.json_yaml import read_json, write_json
from tests.training.conftest import RATE_HZ, write_corpus
from training.data import corpus as corpus_module
from training.data.audio import decoded_wave, recorded_copies, utterances
from training.data.corpus import CorpusReader, NeededMembers, NoSuchSplitError, NotSealedError
from training.data.joined_corpus import open_corpus
from training.data.tar_reader import OPEN_SHARDS, DamagedShardError, TarBytes


@pytest.fixture(scope="module", name="made")
def corpus_and_its_pcm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader") / "corpus"
    return folder, write_corpus(folder, shards=2, samples=3, copies=("noise-0", "phone-0", "room-0"))


@pytest.fixture(name="copy")
def own_copy(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(name="remote")
def in_memory(made):
    system = fsspec.filesystem("memory")
    for path in made[0].rglob("*"):
        if path.is_file():
            system.pipe_file(f"/reader/{path.relative_to(made[0])}", path.read_bytes())
    yield "memory://reader"
    system.store.clear()


def test_a_corpus_is_named_by_its_folder_however_it_is_written(made):
    for url in (made[0], f"{made[0]}/", f"file://{made[0]}"):
        with open_corpus(url) as reader:
            assert reader.url == str(made[0])
            assert len(reader.shards("train")) == 2


def test_a_split_or_shard_without_an_utterance_and_a_condition_without_a_copy_are_not_there(copy):
    manifest = read_json(copy / "corpus.json", needed="test")
    empty = {**manifest["splits"]["train"][0], "name": "train-000009", "samples": 0}
    manifest["splits"] = {**manifest["splits"], "train": [empty, *manifest["splits"]["train"]], "test": [empty]}
    manifest["copies"]["train"] = {"noise": 2, "phone": 0, "room": 1}
    write_json(copy / "corpus.json", manifest)
    with open_corpus(copy) as reader:
        assert [entry.name for entry in reader.shards("train")] == ["train-000000", "train-000001"]
        assert [reader.has_split(split) for split in ("train", "dev", "test", "other")] == [True, True, False, False]
        assert reader.conditions("train") == ["noise", "room"]
        with pytest.raises(NoSuchSplitError) as caught:
            reader.shards("test")
    assert str(caught.value) == f"{copy} has no utterances in a split 'test'; those with utterances: dev, train"


def test_an_index_that_is_missing_or_has_no_clean_member_is_named(copy):
    path = copy / "shards/train-000001.json"
    index = read_json(path, needed="test")
    key = index["samples"][1]["key"]
    del index["samples"][1]["members"]["clean"]
    write_json(path, index)
    with open_corpus(copy) as reader:
        with pytest.raises(DamagedShardError, match=f"{path}: {key} has no clean member"):
            reader.samples("train-000001")
        path.unlink()
        with pytest.raises(MissingFileError) as caught:
            reader.samples("train-000001")
    assert str(path) in str(caught.value)
    assert "corpus.json lists the shard train-000001" in str(caught.value)


def test_a_member_that_the_index_lacks_is_named(made):
    with open_corpus(made[0]) as reader:
        sample = reader.samples("train-000001")[2]
        with pytest.raises(
            DamagedShardError, match=rf"^train-000001\.tar: {sample.key}\.music-0: the index has no such"
        ):
            reader.contents("train-000001", sample, ["clean", "music-0", "music-1"])


@pytest.mark.parametrize("fetched", [{"phone-0"}, {"clean", "room-0"}, None, {"json"}])
def test_from_afar_members_are_those_of_the_file_whatever_was_fetched_before(made, remote, fetched):
    with open_corpus(remote) as reader, open_corpus(made[0]) as near:
        for sample in near.samples("train-000001"):
            names = None if fetched is None else frozenset(fetched)
            reader.fetch([NeededMembers("train-000001", sample, names)])
            for wanted in (["clean"], ["phone-0"], ["room-0", "noise-0"], ["json"]):
                expected = near.contents("train-000001", sample, wanted)
                assert reader.contents("train-000001", sample, wanted) == expected
                assert [len(expected[name]) for name in wanted] == [sample.members[name].size for name in wanted]


def test_from_afar_a_missing_tar_is_named_with_what_lists_it(remote):
    fsspec.filesystem("memory").rm("/reader/shards/train-000001.tar")
    with open_corpus(remote) as reader, pytest.raises(MissingFileError) as caught:
        reader.span("train-000001", 0, 10)
    assert "memory://reader/shards/train-000001.tar" in str(caught.value)
    assert "corpus.json lists the shard train-000001" in str(caught.value)


def test_from_afar_an_index_that_is_far_too_large_is_refused(remote):
    fsspec.filesystem("memory").pipe_file("/reader/shards/dev-000000.json", bytes(32 * 2**20 + 1))
    with (
        open_corpus(remote) as reader,
        pytest.raises(BadDocumentError, match=r"dev-000000\.json: is larger than 33554432 bytes"),
    ):
        reader.samples("dev-000000")


def test_nothing_is_fetched_ahead_where_a_copy_of_the_shard_is_on_this_machine(made, remote):
    with open_corpus(remote) as reader, (made[0] / "shards/train-000000.tar").open("rb") as tar:
        reader.use_cache(lambda _tars, _name: tar.fileno())
        (sample, *_) = reader.samples("train-000000")
        reader.fetch([NeededMembers("train-000000", sample)])
        assert not reader.fetched
        assert len(reader.contents("train-000000", sample, ["clean"])["clean"]) == sample.members["clean"].size
        assert [one.name for one in reader.sources(["train-000001", "gone", "dev-000000"])] == [
            "train-000001",
            "dev-000000",
        ]


def test_a_tar_that_ends_too_early_is_named_with_both_places(copy):
    path = copy / "shards/train-000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with (
        open_corpus(copy) as reader,
        pytest.raises(DamagedShardError, match="ends at byte 700, its index goes on to 900"),
    ):
        reader.span("train-000000", 600, 900)


def test_of_many_open_shards_the_one_that_was_read_longest_ago_is_closed(tmp_path):
    names = [f"train-{number:06d}" for number in range(OPEN_SHARDS + 2)]
    entries = [
        ShardEntry(name=name, samples=1, seconds=1.0, bytes=6, sha256="0" * 64, tar=f"far/{name}.x.tar")
        for name in names
    ]
    (tmp_path / "far").mkdir()
    for number, name in enumerate(names):
        (tmp_path / "far" / f"{name}.x.tar").write_bytes(f"{number:06d}".encode())
    tars = TarBytes(tmp_path, entries)
    for number in (*range(OPEN_SHARDS), 0, OPEN_SHARDS, 1, OPEN_SHARDS + 1, 0):
        assert tars.span(names[number], 0, 6) == f"{number:06d}".encode()
    assert len(tars.handles) == OPEN_SHARDS == 64
    assert set(names) - set(tars.handles) == {names[2], names[3]}
    tars.close()
    assert not tars.handles


def test_a_record_that_is_damaged_or_leaves_a_copy_out_is_named(copy):
    path = copy / "shards/train-000000.tar"
    with open_corpus(copy) as reader:
        first, second, _ = reader.samples("train-000000")
        content = bytearray(path.read_bytes())
        content[first.members["json"].offset] = ord("x")
        path.write_bytes(content)
        with pytest.raises(BadDocumentError, match=rf"^train-000000\.tar: {first.key}\.json"):
            recorded_copies(reader, "train-000000", first)
        members = {**second.members, "pitch-0": second.members["noise-0"]}
        with pytest.raises(
            DamagedShardError, match=rf"^train-000000\.tar: {second.key}\.json: has no record of the copy pitch-0;"
        ):
            recorded_copies(reader, "train-000000", second.model_copy(update={"members": members}))
        found = recorded_copies(reader, "train-000000", second)
    assert [(one.name, one.family) for one in found] == [("noise-0", "noise"), ("phone-0", "codec"), ("room-0", "room")]


def test_copies_are_in_the_order_of_the_index_and_not_of_the_record(tmp_path):
    write_corpus(tmp_path / "corpus", shards=1, samples=1, copies=("room-1", "pitch-0", "room-0"), splits=("train",))
    with open_corpus(tmp_path / "corpus") as reader:
        (sample,) = reader.samples("train-000000")
        found = recorded_copies(reader, "train-000000", sample)
    assert found == [("pitch-0", "channel", False), ("room-0", "room", True), ("room-1", "room", True)]


def test_no_key_is_no_utterance_and_no_member_is_no_wave(made):
    assert list(utterances(made[0], "train", keys=[])) == []
    assert [set(one.waves) for one in utterances(made[0], "dev", members=["room-0"])] == [{"room-0"}] * 3
    assert [set(one.waves) for one in utterances(made[0], "dev", members=[])] == [set()] * 3
    assert {one.sample.split for one in utterances(made[0], "dev")} == {"dev"}


def test_utterances_without_a_record_are_named(copy):
    path = copy / "shards/dev-000000.json"
    index = read_json(path, needed="test")
    del index["samples"][1]["members"]["json"]
    write_json(path, index)
    with pytest.raises(
        DamagedShardError, match=rf"dev-000000\.tar: {index['samples'][1]['key']}\.json: the index has no json"
    ):
        list(utterances(copy, "dev"))


def flac_of(count):
    stream = io.BytesIO()
    wave = np.random.RandomState(0).uniform(-0.5, 0.5, count)
    soundfile.write(stream, wave, RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def test_a_wave_that_ends_before_its_header_says_is_named(made):
    content = flac_of(40_000)
    sample = IndexedSample.model_validate(
        {"key": "u", "num_samples": 40_000, "members": {CLEAN: {"offset": 0, "size": 1}}}
    )
    decoded_wave(content, sample, rate_hz=RATE_HZ, where="t.tar: u.clean", start=3000)
    with pytest.raises(
        DamagedShardError, match=r"^t\.tar: u\.clean: (ends after (\d+) samples, the index says 40000|cannot be)"
    ):
        decoded_wave(content[: len(content) // 2], sample, rate_hz=RATE_HZ, where="t.tar: u.clean", start=3000)


def test_what_is_no_corpus_is_named_as_it_was_written(tmp_path):
    (tmp_path / "file").write_text("")
    for url in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(NotSealedError, match=f"^{url} has no corpus.json"):
            CorpusReader(url)
    with pytest.raises(NotSealedError, match=r"^/ has no corpus\.json"):
        CorpusReader("/")


def test_a_document_that_is_damaged_or_too_large_is_named_with_its_whole_path(copy, monkeypatch):
    content = (copy / "shards/dev-000000.json").read_bytes()
    with open_corpus(copy) as reader:
        monkeypatch.setattr(corpus_module, "MAX_JSON_BYTES", len(content))
        assert reader.document("shards/dev-000000.json") == content
        monkeypatch.setattr(corpus_module, "MAX_JSON_BYTES", len(content) - 1)
        with pytest.raises(
            BadDocumentError, match=rf"^{copy}/shards/dev-000000.json: is larger than {len(content) - 1}"
        ):
            reader.document("shards/dev-000000.json")
        monkeypatch.undo()
        (copy / "shards/dev-000000.json").write_text("{")
        with pytest.raises(BadDocumentError, match=f"^{copy}/shards/dev-000000.json: "):
            reader.samples("dev-000000")
        (copy / "shards/dev-000000.json").unlink()
        with pytest.raises(MissingFileError, match=f"^{copy}/shards/dev-000000.json does not exist"):
            reader.samples("dev-000000")
    (copy / "corpus.json").write_text("{")
    with pytest.raises(BadDocumentError, match=f"^{copy}/corpus.json: "):
        open_corpus(copy)


def test_from_afar_a_document_of_just_the_largest_size_is_read(remote, monkeypatch):
    with open_corpus(remote) as reader:
        content = reader.document("shards/dev-000000.json")
        monkeypatch.setattr(corpus_module, "MAX_JSON_BYTES", len(content))
        assert reader.document("shards/dev-000000.json") == content
        monkeypatch.setattr(corpus_module, "MAX_JSON_BYTES", len(content) - 1)
        with pytest.raises(BadDocumentError, match=rf"^{remote}/shards/dev-000000.json: is larger than"):
            reader.document("shards/dev-000000.json")


def test_from_afar_eight_reads_go_on_at_once_each_kept_under_its_own_sample(remote, monkeypatch):
    """Each waits for seven others: fewer at a time would break the barrier."""
    meeting, stretch = threading.Barrier(8), CorpusReader.stretch

    def met(reader, shard, members):
        meeting.wait(20)
        return stretch(reader, shard, members)

    monkeypatch.setattr(CorpusReader, "stretch", met)
    with open_corpus(remote) as reader:
        samples = [
            (name, one) for name in ("train-000000", "train-000001", "dev-000000") for one in reader.samples(name)
        ]
        names = [frozenset({"clean", "noise-0"}), frozenset({"json"})]
        reader.fetch([NeededMembers(*one, names[place % 2]) for place, one in enumerate(samples[:8])])
        assert list(reader.fetched) == [(name, one.key) for name, one in samples[:8]]
        for place, (name, one) in enumerate(samples[:8]):
            first, content = reader.fetched[name, one.key]
            assert first == min(one.members[member].offset for member in names[place % 2])
            assert content == reader.span(name, first, first + len(content))
            assert first + len(content) == max(
                one.members[member].offset + one.members[member].size for member in names[place % 2]
            )
        reader.forget()
        assert not reader.fetched


def test_a_whole_record_is_read_without_audio_and_an_external_one_says_its_split(made, remote, monkeypatch):
    read = []
    stretch = CorpusReader.stretch
    monkeypatch.setattr(
        CorpusReader, "stretch", lambda *given: read.append(len((found := stretch(*given))[1])) or found
    )
    with open_corpus(remote) as reader:
        sample = reader.samples("dev-000000")[1]
        record = reader.whole_record("dev-000000", sample, split="dev")
        assert read == [sample.members["json"].size]
        assert [copy.name for copy in record.copies] == ["noise-0", "phone-0", "room-0"]
        (outlined,) = reader.records("dev-000000", sample)
        assert (outlined.id, outlined.split) == (record.id, "dev")
        reader.is_external = True  # from here on as of tars that Stillroom did not write
        bare = sample.model_copy(update={"members": {"clean": sample.members["clean"]}})
        reader.manifest = reader.manifest.model_copy(update={"sample_rate": 8000})
        read.clear()
        found = reader.whole_record("dev-000000", bare, split="dev")
        assert (found.id, found.split, found.sample_rate, found.num_samples) == (
            bare.key,
            "dev",
            8000,
            bare.num_samples,
        )
        assert not read, "there is nothing to read"
        assert reader.copy_outlines("dev-000000", sample) == record.copies


def test_a_record_that_only_looks_small_is_refused_before_it_is_parsed(made, monkeypatch):
    seen = []

    def refuse(content, *, where):
        seen.append((bytes(content), where))
        raise BadDocumentError(where, "is heavy")

    monkeypatch.setattr(corpus_module, "refuse_heavy_json", refuse)
    with open_corpus(made[0]) as reader:
        sample = reader.samples("train-000001")[1]
        content = reader.contents("train-000001", sample, ["json"])["json"]
        with pytest.raises(BadDocumentError, match="is heavy"):
            reader.copy_outlines("train-000001", sample)
    assert seen == [(content, f"train-000001.tar: {sample.key}.json")]


def test_a_reader_that_is_left_has_closed_its_shards(made):
    with open_corpus(made[0]) as reader:
        reader.span("train-000001", 0, 9)
        assert reader.tars.handles
    assert not reader.tars.handles


def test_copies_of_a_part_of_a_corpus_are_counted_in_the_indexes_of_shards_that_hold_an_utterance(copy):
    path = copy / "shards/train-000001.json"
    index = read_json(path, needed="test")
    one, two, _ = index["samples"]
    one["members"]["noise-1"] = one["members"].pop("phone-0")
    two["members"]["room-7"] = two["members"].pop("noise-0")
    write_json(path, index)
    with open_corpus(copy) as reader:
        assert reader.copies("train") == {"noise": 1, "phone": 1, "room": 1}, "as the manifest says"
        empty = reader.manifest.splits["train"][0].model_copy(update={"name": "train-000009", "samples": 0})
        splits = {**reader.manifest.splits, "train": (empty, *reader.manifest.splits["train"])}
        reader.manifest = reader.manifest.model_copy(update={"borrowed": "a part", "splits": splits})
        assert reader.copies("train") == {"noise": 2, "phone": 1, "room": 2}
        assert reader.copies("dev") == {"noise": 1, "phone": 1, "room": 1}


@pytest.mark.parametrize("foreign", [False, True])
def test_a_part_reads_the_tars_of_another_folder_and_records_as_they_were_written_there(made, copy, tmp_path, foreign):
    (copy / "shards").rename(tmp_path / "shards")
    (copy / "shards").mkdir()
    for path in (tmp_path / "shards").glob("*.json"):
        path.rename(copy / "shards" / path.name)
    manifest = read_json(copy / "corpus.json", needed="test")
    write_json(copy / "corpus.json", {**manifest, "borrowed": {"root": "whole", "foreign": foreign}})
    write_json(copy / "roots.local.json", {"schema": "stillroom/roots/1", "roots": {"whole": str(tmp_path)}})
    with open_corpus(copy) as reader, open_corpus(made[0]) as whole:
        assert (reader.is_external, whole.is_external) == (foreign, False)
        sample = reader.samples("train-000001")[2]
        assert reader.contents("train-000001", sample, ["room-0"]) == whole.contents("train-000001", sample, ["room-0"])
        assert recorded_copies(reader, "train-000001", sample) == recorded_copies(whole, "train-000001", sample)
        bare = sample.model_copy(
            update={"members": {name: member for name, member in sample.members.items() if name != "json"}}
        )
        if foreign:
            assert [one.family for one in recorded_copies(reader, "train-000001", bare)] == ["noise", "phone", "room"]
            (record,) = reader.records("train-000001", bare)
            assert (record.id, record.num_samples) == (bare.key, bare.num_samples)
        else:
            with pytest.raises(DamagedShardError, match=rf"{sample.key}\.json: the index has no such member"):
                recorded_copies(reader, "train-000001", bare)
