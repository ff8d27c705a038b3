"""The teacher's frames: of which utterances, of which layer, scaled by which; and whose teacher it is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.data.alignments import FrameClock
from evaluation.features import UtteranceFeatures
from evaluation.measures import teacher_agreement
from evaluation.measures.teacher_agreement import OtherFrameRateError, check_frames, teacher_frames, teacher_of


def features(seed, frames, *, layers=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(layers, frames, 4, generator=generator) * torch.tensor([1.0, 2, 3, 4]) + 5 * seed


@pytest.fixture(name="corpus")
def corpus_of_two_splits(monkeypatch):
    """Frames by split and key, in place of a corpus and a model; gives what was read of it."""
    splits = {
        "learn": {"r1": features(1, 9), "r2": features(2, 7)},
        "exam": {"t1": features(3, 8), "t2": features(4, 0), "t3": features(5, 3)},
    }
    asked = []

    def utterances(corpus, split, *, members, keys):
        asked.append((corpus, split, members, set(keys)))
        return [(key, frames) for key, frames in splits[split].items() if key in keys]

    def features_of(encoder, found):
        assert encoder == "the teacher"
        return [UtteranceFeatures(key, 1.0, {"clean": frames}) for key, frames in found]

    monkeypatch.setattr(teacher_agreement, "utterances", utterances)
    monkeypatch.setattr(teacher_agreement, "features_of", features_of)
    return splits, asked


def dataset(*, reference=("r1", "r2"), test=("t1", "t2", "t3")):
    return SimpleNamespace(
        reference=frozenset(reference), test=dict.fromkeys(test), splits=SimpleNamespace(train="learn", test="exam")
    )


def test_a_teachers_frames_are_its_last_layer_on_clean_test_scaled_by_clean_train(corpus, monkeypatch):
    splits, asked = corpus
    monkeypatch.setattr(teacher_agreement, "MOST_FRAMES", 10)  # of three utterances three frames each
    found = teacher_frames("the teacher", dataset=dataset(), config=SimpleNamespace(corpus="c"))
    assert asked == [("c", "learn", ("clean",), {"r1", "r2"}), ("c", "exam", ("clean",), {"t1", "t2", "t3"})]
    train = torch.cat([splits["learn"][key][-1] for key in ("r1", "r2")]).double().numpy()
    assert set(found) == {"t1", "t3"}, "one has no frame"
    for key, taken in (("t1", [0, 4, 7]), ("t3", [0, 1, 2])):
        expected = (splits["exam"][key][-1][taken].double().numpy() - train.mean(axis=0)) / train.std(axis=0)
        np.testing.assert_allclose(found[key], expected, atol=1e-4)
    monkeypatch.setattr(teacher_agreement, "MOST_FRAMES", 2)
    one_each = teacher_frames("the teacher", dataset=dataset(), config=SimpleNamespace(corpus="c"))
    assert {len(frames) for frames in one_each.values()} == {1}


def test_without_a_frame_to_scale_by_there_are_none_to_compare_with(corpus):
    assert teacher_frames("the teacher", dataset=dataset(reference=()), config=SimpleNamespace(corpus="c")) == {}


def facts(digest, teacher=None):
    return SimpleNamespace(digest=digest, details={} if teacher is None else {"teacher_sha256": teacher})


def test_a_students_teacher_is_the_other_model_whose_digest_it_names():
    models = {"own": facts("1", "1"), "first": facts("2", "9"), "second": facts("3", "2"), "last": facts("2")}
    assert [teacher_of(name, models) for name in models] == [None, None, "first", None]
    assert teacher_of("own", {**models, "copy": facts("1")}) == "copy"


def test_frames_of_other_times_are_told_student_first():
    clocks = FrameClock(320, 400, 16000), FrameClock(640, 720, 8000)
    check_frames("s", clocks[0], "t", FrameClock(320, 400, 8000))
    with pytest.raises(OtherFrameRateError) as caught:
        check_frames("s", clocks[0], "t", clocks[1])
    assert str(caught.value) == (
        "measures: agreement compares frame by frame, but model 's' has frames of 400 samples each 320 and its teacher 't' "
        "of 720 samples each 640; leave agreement out of measures, or evaluate them one by one"
    )
