"""Names and values of a corpus may be anything: in messages and notes they are on one line, escaped and short."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluation.config import ClassifyTask, RunSource, VerifyTask
from evaluation.data.alignments import BadAlignmentError, parsed
from evaluation.data.labels import MissingLabelError, NobodyLeftError, OneClassError, UnseenLabelError, label_task
from evaluation.data.transcripts import UnseenUnitError
from evaluation.data.trials import OneSpeakerError, label_speakers
from evaluation.data.utterances import (
    EmptyConditionError,
    TooFewFramesError,
    TrainedOnTestError,
    UnknownSplitError,
    check_conditions,
)
from evaluation.dry_run import NotEnoughSpaceError, check_disk
from evaluation.evaluate_models import NotResultsError
from evaluation.exposure.training_set import TrainingUnknownError, exposure_of, teacher_exposure
from evaluation.extraction import chosen_copies
from evaluation.onnx_model import OnnxModel
from tests.evaluation.data.test_labels_and_texts import dataset, entry

BAD = "a\nb\x1b[31m\u202e" + "c" * 5000


def is_one_line(text):
    assert not any(mark in text for mark in "\n\x1b\u202e")
    assert "a\\" in text
    assert len(text) < 1500


@pytest.mark.parametrize(
    "error",
    [
        NotResultsError(Path(BAD), found="x"),
        NotResultsError(Path("x"), found=BAD),
        NotEnoughSpaceError(Path(BAD), needed=2, free=1),
        BadAlignmentError(BAD, "u", "what"),
        BadAlignmentError("x", BAD, "what"),
        MissingLabelError(BAD, split="exam", known=[]),
        MissingLabelError("x", split="exam", known=[BAD]),
        NobodyLeftError(BAD, split="exam"),
        UnseenLabelError(BAD, ["x"], train="learn", test="exam"),
        UnseenLabelError("x", [BAD], train="learn", test="exam"),
        OneClassError(BAD, label="x", is_within=False),
        OneClassError("x", label=BAD, is_within=True),
        UnseenUnitError(BAD, ["x"], train="learn", test="exam"),
        UnseenUnitError("x", [BAD], train="learn", test="exam"),
        OneSpeakerError(BAD, split="exam", what="one"),
        UnknownSplitError(BAD, role="dev", split="x", known=["y"]),
        UnknownSplitError("x", role="dev", split=BAD, known=["y"]),
        TooFewFramesError(BAD, "none"),
        TrainedOnTestError("m", count=1, total=2, split="exam", first=BAD),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_message_is_one_short_line_whatever_a_name_is(error):
    is_one_line(str(error))


def test_values_in_notes_and_messages_are_one_short_line(tmp_path, monkeypatch):
    for value in (BAD, [BAD], [[BAD, 1, "x"]]):
        with pytest.raises(BadAlignmentError) as caught:
            parsed(value, utterance="u", where="x")
        is_one_line(str(caught.value))
    with pytest.raises(OneSpeakerError) as caught:
        label_speakers(VerifyTask(kind="verify"), dataset([{"speaker": BAD}], [{"speaker": BAD}]), seed=0)
    is_one_line(str(caught.value))
    within = ClassifyTask(kind="classify", label="word", within="set")
    rows = [{"word": word, "set": of} for word, of in (("a", "m"), ("b", "m"), ("a", BAD))]
    is_one_line(label_task(within, dataset(rows, rows)).notes[0])
    bare = SimpleNamespace(
        train={"u": entry(copies=())}, test={"u": entry(copies=())}, splits=dataset([], []).splits, conditions=("far",)
    )
    for check in (lambda: chosen_copies(bare, "u", seed=0, task=BAD), lambda: check_conditions(BAD, "u", bare)):
        with pytest.raises(EmptyConditionError) as caught:
            check()
        is_one_line(str(caught.value))
    lines = []
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9))
    monkeypatch.chdir(tmp_path)
    check_disk(Path("a\nb\x1b\u202e"), 1, log=lines.append)
    is_one_line(lines[0])
    for find in (exposure_of, teacher_exposure):
        with pytest.raises(TrainingUnknownError) as caught:
            find(BAD, RunSource(run="gone"), {})
        is_one_line(str(caught.value))
    graph = OnnxModel.__new__(OnnxModel)
    object.__setattr__(graph, "path", Path("model.onnx"))
    is_one_line(str(graph.damaged(BAD.replace("a\n", "a\x07"))))


LONG = "c" * 5000


@pytest.mark.parametrize(
    ("error", "limits"),
    [
        (BadAlignmentError(LONG, LONG, "what"), (200, 60)),
        (MissingLabelError(LONG, split="exam", known=[LONG]), (60, 40)),
        (NobodyLeftError(LONG, split="exam"), (80,)),
        (UnseenLabelError(LONG, [LONG], train="learn", test="exam"), (80, 40)),
        (OneClassError(LONG, label=LONG, is_within=False), (80, 40)),
        (UnseenUnitError(LONG, [LONG], train="learn", test="exam"), (80, 20)),
        (OneSpeakerError(LONG, split="exam", what="one"), (80,)),
        (TooFewFramesError(LONG, "none"), (80,)),
        (TrainedOnTestError("m", count=1, total=2, split="exam", first=LONG), (60,)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_each_name_has_the_room_that_a_line_gives_it(error, limits):
    assert [len(run) + 1 for run in re.findall("cccc+", str(error))] == list(
        limits
    )  # the last character is an ellipsis
