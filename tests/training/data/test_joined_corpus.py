"""Several corpora as one."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from manifests.errors import StillroomError, UsageError
from manifests.io.json_yaml import read_json, write_json
from tests.training.conftest import write_corpus
from training.data.joined_corpus import ClashingCopiesError, DifferentSpeechError, NotAnEditionError, open_corpus
from training.dataloader import loader
from training.stream import pairs

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
