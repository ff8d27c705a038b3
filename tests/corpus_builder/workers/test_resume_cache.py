"""Long work that is interrupted goes on: what was done is not done again, and results keep the order of the tasks."""

import json

import pytest

from corpus_builder.workers.pool import mapped_with_progress
from corpus_builder.workers.resume_cache import PartialResults, resumed

DONE: list[int] = []


def tenfold(number: int) -> int:
    DONE.append(number)
    if number == 13:
        raise KeyboardInterrupt
    return 10 * number


def run(path, tasks, **changed):
    options = {
        "cache": PartialResults(path),
        "key": str,
        "to_cache": lambda result: result,
        "from_cache": lambda task, known: known,
        "workers": 1,
        "what": "counting",
        "unit": "numbers",
        "progress": False,
    }
    DONE.clear()
    return resumed(tenfold, tasks, **(options | changed))


def test_what_an_interrupted_run_has_done_is_not_done_again_and_results_keep_their_order(tmp_path):
    path = tmp_path / "partial"
    with pytest.raises(KeyboardInterrupt):
        run(path, [3, 1, 13, 2])
    assert DONE == [3, 1, 13]
    assert run(path, [2, 1, 4, 3]) == [20, 10, 40, 30]
    assert DONE == [2, 4]
    assert run(path, [2, 1, 4, 3]) == [20, 10, 40, 30]
    assert DONE == []
    PartialResults(path).remove()
    assert run(path, [3]) == [30]
    assert DONE == [3]


def test_a_result_that_must_not_be_cached_or_is_no_longer_valid_is_made_again(tmp_path):
    path = tmp_path / "partial"
    run(path, [1, 2, 3], to_cache=lambda result: None if result == 20 else result)
    assert run(path, [1, 2, 3]) == [10, 20, 30]
    assert DONE == [2]
    run(path, [5, 6], key=lambda task: None)
    assert run(path, [5, 6], from_cache=lambda task, known: None if task == 1 else known) == [50, 60]
    assert DONE == [5, 6]
    assert run(path, [1, 3], from_cache=lambda task, known: None if task == 1 else known) == [10, 30]
    assert DONE == [1]


def test_the_torn_last_line_of_a_killed_run_is_passed_over(tmp_path):
    path = tmp_path / "partial"
    run(path, [1, 2])
    path.write_bytes(path.read_bytes() + json.dumps({"key": "3", "result": 99}).encode()[:-4])
    assert run(path, [1, 2, 3]) == [10, 20, 30]
    assert DONE == [3]


def test_progress_counts_what_an_earlier_run_did(tmp_path, capsys):
    path = tmp_path / "partial"
    run(path, [1, 2])
    run(path, [1, 2, 3], progress=True)
    assert "counting" in (shown := capsys.readouterr().err)
    assert "3/3 numbers" in shown.replace(" of ", "/")
    run(path, [1, 2, 3], progress=True)
    assert capsys.readouterr().err == ""


def test_the_display_counts_what_is_finished_and_begins_with_what_an_earlier_run_did(tmp_path, capsys):
    run(tmp_path / "partial", [1, 2])
    run(tmp_path / "partial", [1, 2, 3, 4, 5], progress=True)
    assert capsys.readouterr().err.splitlines()[-1].startswith("counting 5/5 numbers")
    run(tmp_path / "partial", [1, 2, 3], progress=True)
    assert capsys.readouterr().err == ""


def test_items_may_count_several_units_and_come_with_their_results(capsys):
    pairs = mapped_with_progress(
        tenfold, [1, 3], workers=1, what="counting", unit="samples", size=lambda item: 100 * item
    )
    assert list(pairs) == [(1, 10), (3, 30)]
    assert capsys.readouterr().err.splitlines()[-1].startswith("counting 400/400 samples")
