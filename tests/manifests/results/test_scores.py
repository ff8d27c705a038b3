"""Columns of results have one entry for each copy, and are read as they were written."""

import pytest

from manifests.results.scores import ModelScores, check_score_columns, joined, separated

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
