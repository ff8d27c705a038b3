"""What commands report fits the schema that labs can print; a report that does not is a fault of ours, and never written."""

import pytest

from manifests.errors import BadDocumentError
from manifests.results.reports import DiffReport, RunStatus, reported

STATUS = {"schema": "stillroom/status/1", "state": "done", "step": 3, "steps": 3}
SAME = {"same": 1, "different": 0}
DIFF = {"schema": "stillroom/diff/1", "a": "a", "b": "b", "recipe": SAME, "sources": SAME, "utterances": SAME, "conditions": SAME, "parameters": SAME}  # fmt: skip


def test_a_report_is_given_back_as_it_is():
    assert reported(RunStatus, STATUS) is STATUS
    assert reported(DiffReport, DIFF | {"pcm": None})["pcm"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "finished"},
        {"step": -1},
        {"step": 1.5},
        {"steps": float("nan")},
        {"more": 1},
        {"schema": "stillroom/status/2"},
    ],
)
def test_a_report_that_is_not_as_its_schema_says_is_refused(wrong):
    with pytest.raises(BadDocumentError):
        reported(RunStatus, STATUS | wrong)


def test_a_diff_without_waves_says_so_and_leaves_nothing_out():
    with pytest.raises(BadDocumentError, match="pcm"):
        reported(DiffReport, DIFF)
