"""Several corpora as one."""

from __future__ import annotations

import shutil

import fsspec
import numpy as np
import pytest
import torch

from manifests.errors import StillroomError, UsageError
from manifests.io.json_yaml import read_json, write_json
from tests.training.conftest import RATE_HZ, write_corpus
from training.config.schema import Staging
from training.data.audio import decoded_wave, recorded_copies
from training.data.corpus import CorpusReader, NeededMembers
from training.data.joined_corpus import (
    ClashingCopiesError,
    DifferentSpeechError,
    NotAnEditionError,
    Part,
    clean_digests,
    open_corpus,
)
from training.data.tar_reader import DamagedShardError
from training.dataloader import loader
from training.stream import Sources, pairs

SHAPE = {"shards": 3, "samples": 6, "lengths_s": (0.3, 1.0)}
SHARDS = [f"train-{number:06d}" for number in range(3)]


@pytest.fixture(scope="module", name="made")
def corpora(tmp_path_factory):
    """A corpus, an edition with the same shards, and one whose shards are dealt otherwise."""
    folder = tmp_path_factory.mktemp("editions")
    pcm = write_corpus(folder / "base", copies=("noise-0",), **SHAPE)
    pcm |= write_corpus(folder / "edition", copies=("room-0", "pitch-0"), **SHAPE)
    shutil.copytree(folder / "edition", folder / "dealt")
    for old, new in zip(SHARDS, ["train-000010", "train-000000", "train-000001"], strict=True):
        for suffix in ("tar", "json"):
            shutil.copy(folder / "edition/shards" / f"{old}.{suffix}", folder / "dealt/shards" / f"{new}.{suffix}")
    manifest = read_json(folder / "dealt/corpus.json", needed="test")
    for entry, new in zip(manifest["splits"]["train"], ["train-000010", "train-000000", "train-000001"], strict=True):
        entry["name"] = new
    write_json(folder / "dealt/corpus.json", manifest)
    return folder, pcm


def described(stream):
    return [(batch.keys, batch.cursor, batch.num_samples.tolist()) for batch in stream]


@pytest.mark.parametrize("edition", ["edition", "dealt"])
def test_an_edition_lends_its_copies_and_leaves_the_order_alone(made, edition):
    folder, pcm = made
    both = [folder / "base", folder / edition]
    alone = pairs(folder / "base", views="none", utterances=4, lanes=2, crop_s=0.5, seed=3)
    joined = pairs(both, views="cdm2", utterances=4, lanes=2, crop_s=0.5, seed=3)
    assert described(alone) == described(joined), "law 5: an edition moves nothing"
    heard = set()
    for batch in loader(joined, workers=0):
        for row, key in enumerate(batch.keys):
            length = int(batch.num_samples[row])
            for wave, copy in (
                (batch.teacher_wave, batch.teacher_copies[row]),
                (batch.student_wave, batch.student_copies[row]),
            ):
                heard.add(copy)
                whole = pcm[key, copy].astype(np.float32) / 32768
                windows = np.lib.stride_tricks.sliding_window_view(whole, length)
                assert (windows == wave[row, :length].numpy()).all(axis=1).any()
    assert heard == {"noise-0", "room-0", "pitch-0"}


def test_a_pitched_copy_of_an_edition_is_not_the_teachers(made):
    folder, _ = made
    stream = pairs([folder / "base", folder / "edition"], views="cdm2", utterances=6, epochs=6)
    batches = list(stream)
    assert "pitch-0" in {name for batch in batches for name in batch.student_copies}
    assert "pitch-0" not in {name for batch in batches for name in batch.teacher_copies}
    assert not any(batch.fell_back for batch in batches)


def test_workers_read_a_joined_corpus_alike(made):
    folder, _ = made
    stream = pairs([folder / "base", folder / "edition"], views="cdm2", utterances=6, lanes=2)
    alone, two = list(stream), list(loader(stream, workers=1))
    assert [(batch.keys, batch.student_copies) for batch in alone] == [
        (batch.keys, batch.student_copies) for batch in two
    ]


def test_a_joined_corpus_has_a_digest_of_its_own_and_the_copies_of_all(made):
    folder, _ = made
    with open_corpus([folder / "base", folder / "edition"]) as joined, open_corpus(folder / "base") as base:
        assert joined.digest != base.digest
        assert joined.manifest.copies["train"] == {"noise": 1, "pitch": 1, "room": 1}
        assert joined.manifest.splits == base.manifest.splits
    with open_corpus([folder / "base"]) as one, open_corpus(folder / "base") as base:
        assert one.digest == base.digest


def test_what_cannot_be_joined_is_one_clear_line(tmp_path, made):
    folder, _ = made
    write_corpus(tmp_path / "again", copies=("noise-0",), seed=0, shards=2)
    write_corpus(tmp_path / "other", copies=("room-0",), **{**SHAPE, "seed": 5})
    with pytest.raises(ClashingCopiesError, match="both have copies 'noise' of split train") as clash:
        open_corpus([folder / "base", tmp_path / "again"])
    told = r"the clean speech of utterance train_0_utt_\d-"
    with (
        open_corpus([folder / "base", tmp_path / "other"]) as reader,
        pytest.raises(DifferentSpeechError, match=told) as speech,
    ):
        reader.samples("train-000000")
    write_corpus(tmp_path / "quieter", copies=("room-0",), **{**SHAPE, "volume": 0.5})  # of the same lengths
    with (
        open_corpus([folder / "base", tmp_path / "quieter"]) as reader,
        pytest.raises(DifferentSpeechError, match=told),
    ):
        reader.samples("train-000000")
    with pytest.raises(UsageError, match="is listed twice"):
        open_corpus([folder / "base", folder / "edition", folder / "edition"])
    for caught in (clash, speech):
        assert isinstance(caught.value, StillroomError)
        assert "\n" not in str(caught.value)


def test_an_edition_may_lack_the_first_shard_and_have_a_later_one(tmp_path, made):
    folder, _ = made
    write_corpus(tmp_path / "later", copies=("room-0",), **SHAPE)
    first = min((tmp_path / "later/shards").glob("train-*.json"))
    index = read_json(first, needed="test")
    write_json(first, {**index, "samples": [{**one, "key": f"x{one['key']}"} for one in index["samples"]]})
    with open_corpus([folder / "base", tmp_path / "later"]) as reader:
        assert len(reader.shards("train")) > 1
        assert not any("room-0" in sample.copies for sample in reader.samples("train-000000"))


def test_a_corpus_of_other_utterances_is_no_edition(tmp_path, made):
    folder, _ = made
    write_corpus(tmp_path / "other", copies=("room-0",), **SHAPE)
    for path in (tmp_path / "other/shards").glob("train-*.json"):
        index = read_json(path, needed="test")
        for sample in index["samples"]:
            sample["key"] = f"x{sample['key']}"
        write_json(path, index)
    with (
        open_corpus([folder / "base", tmp_path / "other"]) as reader,
        pytest.raises(NotAnEditionError, match="nothing to join"),
    ):
        reader.samples("train-000000")


def test_an_edition_may_lack_a_whole_shard_as_a_subset_of_one_does(tmp_path, made):
    folder, _ = made
    shutil.copytree(folder / "edition", tmp_path / "few")
    path = tmp_path / "few/corpus.json"
    manifest = read_json(path, needed="test")
    manifest["splits"]["train"] = manifest["splits"]["train"][:1]
    write_json(path, manifest)
    with open_corpus([folder / "base", tmp_path / "few"]) as reader:
        copies = {name: {copy for sample in reader.samples(name) for copy in sample.copies} for name in SHARDS}
    assert copies[SHARDS[0]] == {"noise-0", "room-0", "pitch-0"}
    assert copies[SHARDS[1]] == copies[SHARDS[2]] == {"noise-0"}


def test_the_messages_of_what_cannot_be_joined_name_the_corpora_in_their_order(tmp_path, made):
    folder, _ = made
    base, dealt = folder / "base", folder / "dealt"
    write_corpus(tmp_path / "two", copies=("room-0", "noise-0"), **SHAPE)
    write_corpus(tmp_path / "again", copies=("room-0", "noise-0", "phone-0"), **SHAPE)
    manifest = read_json(tmp_path / "again/corpus.json", needed="test")
    for keys, line in (
        ({}, f"{tmp_path / 'two'} and {tmp_path / 'again'} both have copies 'noise' of split "),
        (
            {"sample_rate": 8000},
            f"corpus: {tmp_path / 'two'} has 16000 Hz and {tmp_path / 'again'} 8000 Hz; corpora of one rate",
        ),
    ):
        write_json(tmp_path / "again/corpus.json", {**manifest, **keys})
        with pytest.raises(StillroomError) as caught:
            open_corpus([tmp_path / "two", tmp_path / "again"])
        assert str(caught.value).startswith(line)
    write_corpus(tmp_path / "other", copies=("room-0",), **{**SHAPE, "seed": 5})
    with open_corpus([base, tmp_path / "other"]) as reader, pytest.raises(DifferentSpeechError) as caught:
        reader.samples("train-000000")
    assert f" in {tmp_path / 'other'} is not that in {base}, so" in str(caught.value)
    for path in (tmp_path / "other/shards").glob("train-*.json"):
        index = read_json(path, needed="test")
        write_json(path, {**index, "samples": [{**one, "key": f"x{one['key']}"} for one in index["samples"]]})
    with open_corpus([base, tmp_path / "other"]) as reader, pytest.raises(NotAnEditionError) as caught:
        reader.samples("train-000001")
    assert str(caught.value).startswith(f"{tmp_path / 'other'} has no utterance of the split train of {base}, so")
    with pytest.raises(UsageError, match=f"^corpus: {dealt} is listed twice$"):
        open_corpus([base, dealt, dealt])


def test_a_condition_without_a_copy_clashes_with_nothing_and_a_copy_that_is_there_does(tmp_path, made):
    """The manifests know conditions alone, and how many copies all utterances have; the indexes know the copies."""
    folder, _ = made
    for name, conditions in (("base", {"noise": 1, "room": 0}), ("edition", {"noise": 0, "pitch": 1, "room": 1})):
        shutil.copytree(folder / name, tmp_path / name)
        manifest = read_json(tmp_path / name / "corpus.json", needed="test")
        manifest["copies"]["train"] = conditions
        write_json(tmp_path / name / "corpus.json", manifest)
    with open_corpus([tmp_path / "base", tmp_path / "edition"]) as reader:
        assert reader.copies("train") == {"noise": 1, "pitch": 1, "room": 1}
        assert reader.copies("dev") == {"noise": 1, "pitch": 1, "room": 1}
    path = tmp_path / "edition/shards/train-000000.json"
    index = read_json(path, needed="test")
    index["samples"][2]["members"]["noise-0"] = index["samples"][2]["members"]["room-0"]
    write_json(path, index)
    with open_corpus([tmp_path / "base", tmp_path / "edition"]) as reader:
        with pytest.raises(ClashingCopiesError) as caught:
            reader.samples("train-000000")
        assert f"both have copies 'noise-0' of {index['samples'][2]['key']}, so" in str(caught.value)
        (sample, *_) = reader.samples("train-000001")
        shorter = sample.model_copy(update={"num_samples": sample.num_samples - 1})
        with pytest.raises(DifferentSpeechError):
            reader.joined(Part(reader, "train-000001", sample), [Part(reader.others[0], "train-000001", shorter)])


def test_three_corpora_are_joined_each_with_shards_and_splits_of_its_own(tmp_path, made):
    """The first edition has other shards, the second no dev split and other shards again; records come from all."""
    folder, _ = made
    write_corpus(tmp_path / "music", copies=("music-0",), **{**SHAPE, "splits": ("train",)})
    for number in (2, 1, 0):  # train-000000 and so on become train-000001 and so on
        for suffix in ("tar", "json"):
            path = tmp_path / f"music/shards/train-{number:06d}.{suffix}"
            path.rename(path.with_name(f"train-{number + 1:06d}.{suffix}"))
    manifest = read_json(tmp_path / "music/corpus.json", needed="test")
    for number, entry in enumerate(manifest["splits"]["train"], 1):
        entry["name"] = f"train-{number:06d}"
    write_json(tmp_path / "music/corpus.json", manifest)
    with open_corpus([folder / "base", folder / "dealt", tmp_path / "music"]) as reader:
        for name in (*SHARDS, "dev-000000"):
            expected = (
                ["noise-0", "pitch-0", "room-0"] if name[:3] == "dev" else ["music-0", "noise-0", "pitch-0", "room-0"]
            )
            for sample in reader.samples(name):
                assert sample.copies == expected
                assert sample.span == next(
                    one.span for one in CorpusReader.index(reader, name).samples if one.key == sample.key
                )
                assert [(one.name, one.family) for one in recorded_copies(reader, name, sample)] == [
                    (copy, {"pitch-0": "channel", "room-0": "room"}.get(copy, "noise")) for copy in expected
                ]
                records = reader.records(name, sample)
                assert [[copy.name for copy in one.copies] for one in records] == [
                    ["noise-0"], ["room-0", "pitch-0"], ["music-0"],
                ][: len(records)]  # fmt: skip
                assert len(records) == (2 if name[:3] == "dev" else 3)
                assert len({one.id for one in records}) == 1


def put_two(folder, system, place):
    """Copy both corpora to a place of another file system."""
    for name in ("base", "dealt"):
        for path in (folder / name).rglob("*"):
            if path.is_file():
                system.pipe_file(f"{place}/{name}/{path.relative_to(folder / name)}", path.read_bytes())


def test_from_afar_each_corpus_gives_its_own_members_in_one_read_and_nothing_stays(made):
    folder, _ = made
    system = fsspec.filesystem("memory")
    put_two(folder, system, "/joined")
    here = pairs([folder / "base", folder / "dealt"], views="cdm2", utterances=6, seed=3)
    there = pairs(["memory://joined/base", "memory://joined/dealt"], views="cdm2", utterances=6, seed=3)
    with open_corpus(there.corpus) as reader:
        for far, near in zip(there.micro_batches(Sources(reader)), here, strict=True):
            assert torch.equal(far.teacher_wave, near.teacher_wave)
            assert torch.equal(far.student_wave, near.student_wave)
        assert not reader.fetched
        assert not reader.others[0].fetched
        samples = [(name, sample) for name in SHARDS for sample in reader.samples(name)]
        reader.fetch([NeededMembers(name, sample, frozenset({"noise-0"})) for name, sample in samples[:2]])
        assert (len(reader.fetched), len(reader.others[0].fetched)) == (2, 0)
        reader.fetch([NeededMembers(name, sample, frozenset({"pitch-0"})) for name, sample in samples[2:5]])
        assert (len(reader.fetched), len(reader.others[0].fetched)) == (2, 3)
        reader.fetch([NeededMembers(name, sample) for name, sample in samples[5:6]])
        assert (len(reader.fetched), len(reader.others[0].fetched)) == (3, 4)
    system.store.clear()


def test_shards_of_all_corpora_are_staged(tmp_path, made):
    folder, _ = made
    corpora = [folder / "base", folder / "edition"]
    plain, staged = (pairs(corpora, views="cdm2", utterances=6, lanes=1) for _ in range(2))
    staged.stage = Staging(dir=str(tmp_path / "stage"))
    for one, other in zip(plain, staged, strict=True):
        assert torch.equal(one.student_wave, other.student_wave)
    shards = [path.read_bytes() for corpus in corpora for path in (corpus / "shards").glob("train-*.tar")]
    assert sorted(path.read_bytes() for path in (tmp_path / "stage").glob("*.tar")) == sorted(shards)
    with open_corpus(corpora) as reader:
        assert [one.name for one in reader.sources(SHARDS[1:])] == [*SHARDS[1:], *SHARDS[1:]]
        asked = []
        reader.use_cache(lambda tars, name: asked.append((str(tars.place), name)))
        (sample, *_) = reader.samples(SHARDS[1])
        reader.contents(SHARDS[1], sample, ["clean", "pitch-0"])
        assert asked == [(str(corpus), SHARDS[1]) for corpus in corpora]


def test_an_utterance_that_the_edition_lacks_keeps_its_own_copies(tmp_path, made):
    folder, _ = made
    shutil.copytree(folder / "edition", tmp_path / "short")
    path = tmp_path / "short/shards/train-000000.json"
    index = read_json(path, needed="test")
    index["samples"] = index["samples"][1:]
    write_json(path, index)
    with open_corpus([folder / "base", tmp_path / "short"]) as reader:
        copies = [sample.copies for sample in reader.samples("train-000000")]
    assert copies == [["noise-0"]] + [["noise-0", "pitch-0", "room-0"]] * 5


def test_the_first_corpus_twice_is_named_and_a_join_is_named_by_all_its_corpora_in_their_order(tmp_path, made):
    folder, _ = made
    base, edition = folder / "base", folder / "edition"
    with pytest.raises(UsageError, match=f"^corpus: {base} is listed twice$"):
        open_corpus([base, edition, base])
    write_corpus(tmp_path / "music", copies=("music-0",), **SHAPE)
    orders = ([base], [base, edition], [edition, base], [base, tmp_path / "music"], [base, edition, tmp_path / "music"])
    digests = []
    for order in orders:
        with open_corpus(order) as reader:
            digests.append(reader.digest)
    assert len(set(digests)) == len(orders)


def test_an_edition_whose_shards_are_mixed_otherwise_lends_the_copies_of_every_utterance(tmp_path, made):
    """Shards of the same names, each with some utterances of the first corpus's and some of another one's; one is empty and not there."""
    folder, pcm = made
    shutil.copytree(folder / "edition", tmp_path / "mixed")
    shards = tmp_path / "mixed/shards"
    first, second = (read_json(shards / f"{name}.json", needed="test") for name in SHARDS[:2])
    for suffix in ("tar", "json"):
        (shards / f"dev-000000.{suffix}").rename(shards / f"dev-000005.{suffix}")
    # The bytes of both shards in one tar, so that either's utterances are where their index says.
    tars = [(shards / f"{name}.tar").read_bytes() for name in SHARDS[:2]]
    both, at = b"".join(tars), len(tars[0])
    for sample in second["samples"]:
        for member in sample["members"].values():
            member["offset"] += at
    for name, index, samples in (
        (SHARDS[0], first, first["samples"][:3] + second["samples"][3:]),
        (SHARDS[1], second, second["samples"][:3] + first["samples"][3:]),
    ):
        (shards / f"{name}.tar").write_bytes(both)
        write_json(shards / f"{name}.json", {**index, "bytes": len(both), "samples": samples})
    manifest = read_json(tmp_path / "mixed/corpus.json", needed="test")
    manifest["splits"]["dev"][0]["name"] = "dev-000005"
    for split in ("train", "dev"):
        gone = {**manifest["splits"][split][0], "name": f"{split}-000099", "samples": 0}
        manifest["splits"][split].append(gone)
    write_json(tmp_path / "mixed/corpus.json", manifest)
    with open_corpus([folder / "base", tmp_path / "mixed"]) as reader:
        for name in ("dev-000000", *SHARDS):
            for sample in reader.samples(name):
                assert sample.copies == ["noise-0", "pitch-0", "room-0"]
                found = decoded_wave(
                    reader.contents(name, sample, ["room-0"])["room-0"], sample, rate_hz=RATE_HZ, where=name
                )
                assert np.array_equal(found * 32768, pcm[sample.key, "room-0"])


def test_whether_an_edition_is_of_the_same_speech_is_checked_in_each_split(tmp_path, made):
    """It lacks the first training shard of the first corpus, and has other dev utterances in a shard of the same name."""
    folder, _ = made
    shutil.copytree(folder / "dealt", tmp_path / "other")
    path = tmp_path / "other/shards/dev-000000.json"
    index = read_json(path, needed="test")
    write_json(path, {**index, "samples": [{**one, "key": f"x{one['key']}"} for one in index["samples"]]})
    manifest = read_json(tmp_path / "other/corpus.json", needed="test")
    manifest["splits"]["train"] = [entry for entry in manifest["splits"]["train"] if entry["name"] != "train-000010"]
    write_json(tmp_path / "other/corpus.json", manifest)
    with open_corpus([folder / "base", tmp_path / "other"]) as reader:
        assert [sample.copies for sample in reader.samples(SHARDS[0])] == [["noise-0"]] * 6
        with pytest.raises(NotAnEditionError, match="has no utterance of the split dev of"):
            reader.samples("dev-000000")


def test_from_afar_members_are_kept_under_the_shard_of_their_own_corpus(made):
    folder, _ = made
    system = fsspec.filesystem("memory")
    put_two(folder, system, "/kept")
    with open_corpus(["memory://kept/base", "memory://kept/dealt"]) as reader:
        sample = reader.samples(SHARDS[0])[2]
        reader.fetch([NeededMembers(SHARDS[0], sample, frozenset({"pitch-0", "noise-0"}))])
        assert list(reader.fetched) == [(SHARDS[0], sample.key)]
        assert list(reader.others[0].fetched) == [("train-000010", sample.key)]
        reader.forget()
        assert not reader.fetched
        assert not reader.others[0].fetched
    system.store.clear()


def test_a_member_that_no_corpus_has_is_named_and_all_are_closed(made):
    folder, _ = made
    with open_corpus([folder / "base", folder / "edition"]) as reader:
        sample = reader.samples(SHARDS[1])[2]
        with pytest.raises(
            DamagedShardError, match=rf"^{SHARDS[1]}\.tar: {sample.key}\.music-0: the index has no such"
        ):
            reader.contents(SHARDS[1], sample, ["clean", "room-0", "music-0"])
        assert list(reader.contents(SHARDS[1], sample, ["room-0", "clean"])) == ["clean", "room-0"]
        assert reader.tars.handles
        assert reader.others[0].tars.handles
    assert not reader.tars.handles
    assert not reader.others[0].tars.handles


def test_clean_speech_without_a_digest_is_left_out_of_them(tmp_path, made):
    folder, _ = made
    shutil.copytree(folder / "base", tmp_path / "some")
    path = tmp_path / "some/shards/dev-000000.json"
    index = read_json(path, needed="test")
    clean = {one["key"]: one["members"]["clean"]["pcm_sha256"] for one in index["samples"]}
    gone = index["samples"][2]
    del gone["members"]["clean"]["pcm_sha256"]
    write_json(path, index)
    del clean[gone["key"]]
    assert dict(clean_digests(tmp_path / "some", "dev")) == clean
