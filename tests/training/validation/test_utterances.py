"""Fixed utterances: which they are, in what batches, and what is read of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from manifests.corpus.sample import CLEAN
from tests.training.conftest import FAMILIES, random_encoder, write_corpus
from training.data.joined_corpus import open_corpus
from training.data.sampler import CropGrid
from training.validation.utterances import FixedUtterances

COPIES = ("noise-0", "noise-1", "phone-0", "room-0")
CPU = torch.device("cpu")


@pytest.fixture(scope="module", name="made")
def three_shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed") / "corpus"
    return folder, write_corpus(folder, shards=3, samples=7, copies=COPIES, lengths_s=(0.1, 0.3), splits=("train",))


def utterances_of(reader, **given):
    return FixedUtterances(reader, **{"split": "train", "utterances": 18, "crop_samples": 3000, **given})


def test_they_are_of_many_shards_cut_and_in_batches_of_like_lengths(made):
    with open_corpus(made[0]) as reader:
        found = utterances_of(reader)
        again = utterances_of(reader)
        few = utterances_of(reader, utterances=12)  # two shards would have them
        aligned = utterances_of(reader, grid=CropGrid(320, sets=1, seed=3))
        rest = utterances_of(reader, skip=18)
    assert [len(batch) for batch in found.batches] == [8, 8, 2]
    crops = [crop for batch in found.batches for crop in batch]
    assert {crop.shard for batch in few.batches for crop in batch} == {f"train-{number:06d}" for number in range(3)}
    assert [crop.length for crop in crops] == sorted(min(3000, crop.sample.num_samples) for crop in crops)
    cut = [crop.sample.key for crop in crops if crop.length == 3000]
    assert 3 < len(cut) < 18
    assert cut == sorted(cut)
    assert found.batches == again.batches
    assert any(crop.start % 320 for crop in crops)
    assert all(crop.start % 320 == 0 for batch in aligned.batches for crop in batch)
    left = [crop.sample.key for batch in rest.batches for crop in batch]
    assert len({crop.sample.key for crop in crops} | set(left)) == 21
    assert len(left) == 3
    assert found.copies == ["clean", "noise-0", "phone-0", "room-0"]


def test_a_copy_is_the_stretch_of_its_samples_and_has_the_family_of_its_record(made):
    folder, pcm = made
    with open_corpus(folder) as reader:
        found = utterances_of(reader, utterances=5)
        crops = found.batches[0]
        for copy in ("clean", "phone-0"):
            waves, num_samples = found.waves(crops, copy)
            assert num_samples.tolist() == [crop.length for crop in crops]
            for row, crop in zip(waves, crops, strict=True):
                expected = pcm[crop.sample.key, copy][crop.start : crop.start + crop.length] / np.float32(32768)
                assert np.array_equal(row[: crop.length].numpy(), expected)
        families = {copy: found.families(crops, copy) for copy in ("clean", *COPIES)}
    assert families["clean"] == ["clean"] * 5
    for copy in COPIES:
        assert families[copy] == [FAMILIES.get(copy.partition("-")[0], "noise")] * 5
    assert len({tuple(names) for names in families.values()}) == 4


@pytest.mark.parametrize("copy", ["clean", "noise-1"])
def test_an_utterance_of_which_any_copy_cannot_be_decoded_is_left_out_where_that_is_allowed(tmp_path, copy):
    write_corpus(tmp_path / "corpus", shards=1, samples=4, copies=("noise-0", "noise-1"), splits=("train",))
    with open_corpus(tmp_path / "corpus") as reader:
        broken = reader.samples("train-000000")[1]
    with (tmp_path / "corpus/shards/train-000000.tar").open("r+b") as stream:
        stream.seek(broken.members[copy].offset)
        stream.write(bytes(broken.members[copy].size))
    with open_corpus(tmp_path / "corpus") as reader:
        every, readable = (utterances_of(reader, only_readable=only) for only in (False, True))
        keys = [{crop.sample.key for crop in found.batches[0]} for found in (every, readable)]
        assert keys[0] - keys[1] == {broken.key}
        assert [len(one) for one in keys] == [4, 3]
        crops = {crop.sample.key: crop for crop in every.batches[0]}
        assert [every.is_readable(crops[key]) for key in (broken.key, *keys[1])] == [False, True, True, True]


def test_the_teachers_outputs_are_computed_or_were_stored(made):
    """Stored ones have the teacher's frames, and are requested by copy and layer."""
    teacher, requests = random_encoder(), []

    def batch(crops, copies, *, layers):
        requests.append((list(crops), list(copies), layers))
        return torch.ones(len(crops), len(layers), 2, 3, dtype=torch.float16)

    with open_corpus(made[0]) as reader:
        found = utterances_of(reader, utterances=3)
        stored = utterances_of(reader, utterances=3, targets=SimpleNamespace(batch=batch))
        crops = found.batches[0]
        outputs, num_frames = found.teacher_outputs(teacher, crops, "room-0", only=(3, 1), device=CPU)
        expected, expected_frames = teacher.layers(*found.waves(crops, "room-0"), only=(3, 1))
        assert torch.equal(outputs, expected)
        assert torch.equal(num_frames, expected_frames)
        kept, kept_frames = stored.teacher_outputs(teacher, crops, "room-0", only=(3, 1), device=CPU)
    assert requests == [(list(crops), ["room-0"] * 3, (3, 1))]
    assert (kept.dtype, kept.shape) == (torch.float32, (3, 2, 2, 3))
    assert torch.equal(kept_frames, expected_frames)
    half = SimpleNamespace(layers=lambda wave, _, only: (wave[:, None, None].half(), torch.tensor([1] * len(wave))))
    with open_corpus(made[0]) as reader:
        found = utterances_of(reader, utterances=3)
        outputs, _ = found.teacher_outputs(half, found.batches[0], CLEAN, only=(1,), device=CPU)
    assert outputs.dtype == torch.float32
