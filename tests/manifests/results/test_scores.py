"""Columns of results have one entry for each copy, and are read as they were written."""

import pytest

from manifests.errors import BadDocumentError
from manifests.results.scores import ModelScores, Protocol, Results, Score, check_score_columns, joined, separated
from manifests.results.training_exposure import TrainedKind, TrainedOn

CELL = {
    "schema": "stillroom/cell/2", "model": "m", "protocol_sha256": "0" * 64, "data_sha256": "0" * 64, "scores": [], "cost": {},
    "facts": {"kind": "run", "origin": "m", "digest": "0" * 64, "parameters": 1, "layers": 1, "heard_known": True},
    "seen": "chs", "seen_by_teacher": "ccc",
    "outcomes": [{"task": "t", "measure": "wer", "probe": 0, "counts": "1 - 0", "totals": "3 - 4"}],
    "trials": [{"task": "t", "copies": "1 2", "enrolled": "0 0", "same": "01", "scores": ["0.5 -0.25"]}],
}  # fmt: skip


def checked(**changed):
    check_score_columns(ModelScores.parse({**CELL, **changed}, where="x"), copies=3)


def outcome(**changed):
    return {"outcomes": [{**CELL["outcomes"][0], **changed}]}


def trial(**changed):
    return {"trials": [{**CELL["trials"][0], **changed}]}


def test_columns_of_the_right_length_are_taken():
    checked()
    checked(seen=None, seen_by_teacher=None, outcomes=[], trials=[])


@pytest.mark.parametrize(
    "changed",
    [
        {"seen": "ch"}, {"seen": "chx"}, {"seen_by_teacher": "cccc"}, {"seen_by_teacher": "cc "},
        outcome(counts="1 - 0 5"), outcome(counts="1 - 1x"), outcome(counts="1 - 1e5000"), trial(copies="-1 2"),
        trial(copies="1.0 2"), trial(copies="1 2 1"), trial(enrolled="0 0 0"), trial(scores=["0.5 x"]),
        outcome(counts="1 -"), outcome(counts="1 - x"), outcome(totals="3"), outcome(totals="3 - nan"),
        trial(copies="1"), trial(copies="1 3"), trial(enrolled="0"), trial(enrolled="0 3"), trial(same="0"),
        trial(same="012"), trial(same="02"), trial(scores=["0.5"]), trial(scores=["0.5 1", "0.5"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_that_does_not_fit_is_refused(changed):
    with pytest.raises(ValueError, match=r"^m: "):
        checked(**changed)


def test_numbers_are_read_as_they_were_written_to_four_decimals():
    column = joined([0.12345, 123.45678, None, 3.0, -0.5, 0.0])
    assert column == "0.1235 123.457 - 3 -0.5 0"
    assert separated(column) == [0.1235, 123.457, None, 3.0, -0.5, 0.0]


def test_what_a_column_lacks_is_named_in_its_own_words():
    for changed, message in (
        (outcome(counts="1 - 0 5"), "m: counts: expected 3 numbers, got 4"), (outcome(totals="3"), "m: totals: expected 3 numbers, got 1"),
        (trial(copies="1 3"), "m: copies: expected whole numbers below 3, separated by spaces"),
        (trial(scores=["0.5"]), "m: scores of trials: expected 2 numbers, got 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared as a whole)
            checked(**changed)
        assert str(caught.value) == message


ROLL = {
    "speakers": ["a", "b"],
    "conditions": ["clean", "far", "near"],
    "utterance": "0 1 12345",
    "speaker": "0 1 1",
    "condition": "0 2 1",
    "snr_db": "- 5 -3.5",
}


def results(*, cells=(CELL,), **roll):
    protocol = {
        "schema": "stillroom/protocol/1",
        "corpus": "c",
        "data_sha256": "0" * 64,
        "conditions": ["clean"],
        "settings": {},
        "models": {},
    }
    document = {
        "schema": "stillroom/results/2",
        "protocol": protocol,
        "cells": list(cells),
        "software": {},
        "machine": {},
    }
    return Results.parse(document | ({} if roll.get("roll", 1) is None else {"roll": ROLL | roll}), where="x")


def test_columns_of_results_are_those_of_the_copies():
    assert len(results().cells) == 1
    assert results(cells=()).roll.conditions == ("clean", "far", "near")
    assert results(roll=None, cells=[{**CELL, "seen": "c"}]).roll is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"speaker": "0 1"}, "roll: columns of different lengths"), ({"condition": "0 1 2 1"}, "roll: columns of different lengths"),
        ({"speaker": "0 1 2"}, "roll: expected whole numbers below 2"), ({"condition": "0 3 1"}, "roll: expected whole numbers below 3"),
        ({"snr_db": "- 5"}, "roll: snr_db: expected 3 numbers, got 2"), ({"snr_db": "- 5 x"}, "roll: snr_db: expected numbers or -"),
        ({"utterance": "0 1"}, "roll: columns of different lengths"), ({"utterance": "0 1 a"}, "roll: utterance: expected whole numbers"),
        ({"cells": [CELL, {**CELL, "model": "n", "seen": "ch"}]}, "n: seen: expected one of the letters chsfnu for each copy"),
        ({"cells": (), "snr_db": "5"}, "roll: snr_db: expected 3 numbers, got 1"),
    ],
    ids=str,
)  # fmt: skip
def test_a_column_of_results_that_does_not_fit_is_refused(changed, message):
    with pytest.raises(BadDocumentError) as caught:
        results(**changed)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"seed": "1"}, "seed"), ({"limit": 1.5}, "limit"), ({"probes": "3"}, "probes"), ({"tasks": "x"}, "tasks"), ({"measures": {"a": 1}}, "measures"),
        ({"splits": ["train"]}, "splits"), ({"splits": {"train": 3}}, "splits"),
    ],
)  # fmt: skip
def test_settings_that_a_report_reads_have_their_types(settings, key):
    plain = {"schema": "stillroom/protocol/1", "corpus": "c", "data_sha256": "0" * 64, "conditions": [], "models": {}}
    good = {
        "seed": 1,
        "limit": None,
        "probes": 3,
        "tasks": ["x"],
        "measures": [],
        "splits": {"train": "t", "dev": None},
    }
    assert Protocol.parse(plain | {"settings": good}, where="x").settings == good
    with pytest.raises(BadDocumentError, match=f"settings: {key}: expected"):
        Protocol.parse(plain | {"settings": good | settings}, where="x")


def test_layers_are_counted_from_one():
    plain = {"measure": "cka", "value": 0.5, "count": 0, "probe": 0}
    assert [Score.parse(plain | {"layer": layer}, where="x").layer for layer in (1, 1024, None)] == [1, 1024, None]
    for wrong in ({"layer": 0}, {"layer": 1025}, {"count": -1}, {"probe": -1}, {"condition": "Far"}):
        with pytest.raises(BadDocumentError):
            Score.parse(plain | wrong, where="x")


def test_a_model_of_clean_speech_alone_has_no_kinds():
    assert TrainedOn.clean().plain() == {"schema": "stillroom/trained/1", "kinds": {}, "chains": []}
    kind = {"count": 1, "recordings": ["0123456789abcdef"]}
    assert TrainedKind.parse(kind, where="x").recordings == ("0123456789abcdef",)
    with pytest.raises(BadDocumentError):
        TrainedKind.parse(kind | {"recordings": ["0" * 64]}, where="x")
