"""The robustness tables word for word: titles, headers, columns and intervals of systems whose numbers are all different."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.report import bootstrap, robustness_table
from evaluation.report.bootstrap import Copies, Difference, column, difference, hierarchical_bootstrap, task_outcomes
from evaluation.report.heatmaps import heat_maps, mean_places
from evaluation.report.plots import shade
from evaluation.report.robustness_table import (
    MixedSystemError,
    SystemOutcomes,
    difference_tables,
    robustness_tables,
    seen_table,
    snr_tables,
)
from manifests.results.scores import ModelScores
from tests.evaluation.report.test_bootstrap import PLAIN, ROBUST, ROLL, TEACHER, cell
from tests.evaluation.report.test_html import document
from tests.evaluation.report.test_page_facts import scored

TRIALS = {
    "task": "verify", "copies": "1 1 4 4 7 7", "enrolled": "0 3 3 0 6 0", "same": "101010",
    "scores": ["0.9 0.1 0.2 0.8 0.9 0.1", "0.9 0.1 0.9 0.1 0.9 0.1"],
}  # fmt: skip


def with_outcomes(one, *outcomes, trials=()):
    given = {**one.plain(), "outcomes": list(outcomes), "trials": list(trials)}
    return ModelScores.parse(given, where="test")


def outcome(counts, *, task="text", measure="cer", probe=0, totals=None):
    found = {"task": task, "measure": measure, "probe": probe, "counts": " ".join(counts)}
    return found if totals is None else {**found, "totals": totals}


def test_tables_are_titled_by_whose_training_groups_them_and_by_the_teacher():
    absolute, own, behind = robustness_tables(SystemOutcomes.from_scores([TEACHER, PLAIN, ROBUST], ROLL))
    assert absolute.title == "The table, in %, groups as robust was trained"
    assert own.title == "Loss against own clean, in points (smaller is better)"
    assert behind.title == "Loss against teacher, in points (negative is better than it)"
    assert {table.header[0] for table in (absolute, own, behind)} == {"system"}
    assert own.header == behind.header == absolute.header
    unknown = SystemOutcomes.from_scores([TEACHER], ROLL)
    assert robustness_tables(unknown)[0].title == "The table, in %"
    alone = robustness_tables(SystemOutcomes.from_scores([PLAIN, ROBUST], ROLL))
    assert len(alone) == 2, "without a teacher there is no loss against it"
    assert robustness_tables(SystemOutcomes.from_scores([with_outcomes(PLAIN)], ROLL)) == []


def test_a_system_without_a_task_has_empty_cells_there_and_tasks_are_in_their_order():
    first = with_outcomes(TEACHER, outcome("111111111", task="a", measure="accuracy"), trials=[TRIALS])
    second = with_outcomes(
        ROBUST, outcome("110110110", totals="2 2 4 2 2 4 2 2 4"), outcome("101010101", measure="wer")
    )
    paper = SystemOutcomes.from_scores([first, second], ROLL)
    assert paper.tasks() == [("a", "accuracy"), ("text", "cer"), ("text", "wer"), ("verify", "eer")]
    absolute, own, behind = robustness_tables(paper)
    names = [name.split(", ")[0] for name in absolute.header[1::5]]
    assert names == ["a: accuracy", "text: CER", "text: WER", "verify: EER"]
    rows = {table: {row[0]: row[1:] for row in table.rows} for table in (absolute, own, behind)}
    # robust: clean 3 of 6, heard 1 of 2, seen 2 of 4, shifted 0 of 4, new 0 of 8
    assert rows[absolute]["robust"][5:10] == ("50.0 ±0.0", "50.0 ±0.0", "50.0 ±0.0", "0.0 ±0.0", "0.0 ±0.0")
    assert rows[own]["robust"][5:10] == ("", "0.0", "0.0", "-50.0", "-50.0"), "errors: less is better"
    assert rows[absolute]["robust"][:5] == rows[absolute]["teacher"][5:10] == ("",) * 5
    assert rows[behind]["robust"] == ("",) * 20, "the teacher has none of its tasks"
    # eer of the copies at 1, 4 (0.5: one of two probes has it wrong) and 7; no trial is clean
    assert rows[absolute]["teacher"][15:] == ("", "0.0 ±0.0", "25.0 ±25.0", "", "")


def test_an_error_rate_loses_against_the_teacher_upwards():
    worse = with_outcomes(ROBUST, outcome("100110110"))
    better = with_outcomes(TEACHER, outcome("100100010"))
    *_, behind = robustness_tables(SystemOutcomes.from_scores([better, worse], ROLL))
    rows = {row[0]: row[1:] for row in behind.rows}
    assert rows["teacher"] == ("",) * 5
    # clean 100 and 66.7 (2 of 3), heard 1 and 1, seen 1 and 0 of 2, shifted and new 0
    assert rows["robust"] == ("33.3", "0.0", "50.0", "0.0", "0.0")


def test_differences_have_value_and_interval_in_points_with_their_sign(monkeypatch):
    asked = []

    def told(own, other, mask, copies, **given):
        asked.append((len(own), len(other), int(mask.sum()), given))
        return None if mask[0] else Difference(0.125, -0.0625, 0.25, (1, 1), units=f"{mask.sum()} speakers")

    monkeypatch.setattr(robustness_table, "difference", told)
    two = cell("robust-2", "110111111", system="robust")
    one = cell("robust-1", "111111111", system="robust")
    absent = with_outcomes(cell("absent", "111111111"))
    paper = SystemOutcomes.from_scores([PLAIN, one, two, absent], ROLL)
    [table] = difference_tables(paper)
    assert table.title == "Against plain: word, accuracy in points, larger is better"
    assert table.header == ("system", "seeds", "over", "clean", "heard", "seen", "shifted", "new")
    points = "+12.5 [-6.2, +25.0]"
    assert table.rows == (("robust", "2 / 1", "1 speakers", "", points, points, points, points),)
    assert table.words == 3
    assert asked == [(2, 1, count, {}) for count in (3, 1, 2, 1, 2)]
    swapped = difference_tables(paper, against="robust")[0]
    assert [row[:2] for row in swapped.rows] == [("plain", "1 / 2")]
    assert swapped.title.startswith("Against robust: ")
    errors = SystemOutcomes.from_scores(
        [with_outcomes(PLAIN, outcome("1" * 9)), with_outcomes(ROBUST, outcome("0" * 9))], ROLL
    )
    assert difference_tables(errors)[0].title == "Against plain: text, CER in points, smaller is better"
    assert difference_tables(SystemOutcomes.from_scores([PLAIN], ROLL)) == []
    assert (
        difference_tables(
            SystemOutcomes.from_scores([PLAIN, TEACHER], ROLL),
            against="teacher",
        )[0].rows[0][0]
        == "plain"
    )
    assert difference_tables(SystemOutcomes.from_scores([TEACHER, cell("logmel", "1" * 9, kind="floor")], ROLL)) == []
    assert difference_tables(SystemOutcomes.from_scores([PLAIN, absent], ROLL)) == []


def test_tables_by_snr_are_titled_by_task_and_leave_out_who_has_none():
    absent = with_outcomes(cell("absent", "111111111"), outcome("111111111", task="other"))
    word, other = snr_tables(SystemOutcomes.from_scores([PLAIN, absent], ROLL))
    assert (word.title, other.title) == ("By SNR: word, accuracy in %", "By SNR: other, CER in %")
    assert word.header == ("system", "-5 to 0 dB", "0 to 5 dB", "5 to 10 dB")
    assert ([row[0] for row in word.rows], [row[0] for row in other.rows]) == (["plain"], ["absent"])
    quiet = ROLL.model_copy(update={"snr_db": " ".join("-" * 9)})
    assert snr_tables(SystemOutcomes.from_scores([PLAIN], quiet)) == []


def test_the_table_of_categories_is_of_models_whose_copies_are_known():
    half = ROBUST.model_copy(update={"model": "half", "seen_by_teacher": None})
    unknown = ROBUST.model_copy(update={"model": "unknown", "seen": None, "seen_by_teacher": None})
    table = seen_table([unknown, half, ROBUST], ROLL)
    assert table.header == ("model", "to the", "noise", "phone")
    assert [row[:2] for row in table.rows] == [("half", "model"), ("robust", "model"), ("robust", "its teacher")]
    assert table.words == 2
    assert table.title.startswith("What test copies are to each model")
    assert seen_table([unknown], ROLL) is None
    clean = ROLL.model_copy(update={"conditions": ("clean",), "condition": " ".join("0" * 9)})
    assert seen_table([ROBUST], clean) is None


def test_a_system_is_told_with_the_kind_that_came_first():
    mixed = [cell("run-1", "1" * 9, system="mine"), cell("mine", "1" * 9, kind="export")]
    with pytest.raises(MixedSystemError, match=r"^the name 'mine' is that of a run and of a export: rename the model"):
        SystemOutcomes.from_scores(mixed, ROLL)
    with pytest.raises(MixedSystemError, match=r"^the name 'mine' is that of a teacher and of a run: "):
        SystemOutcomes.from_scores([cell("mine", "1" * 9, kind="teacher"), mixed[0]], ROLL)


def test_a_difference_is_that_of_the_mean_of_the_probes_with_the_draws_of_its_seed(monkeypatch):
    first = with_outcomes(PLAIN, outcome("110010111"), outcome("010000101", probe=1))
    second = with_outcomes(ROBUST, outcome("100100110", totals="1 2 1 1 3 1 1 2 1"))
    copies = Copies.of(ROLL)
    mask = copies.condition > 0
    own, other = (task_outcomes(one, "text") for one in (first, second))
    # of the copies 1, 2, 4, 5, 7, 8 one probe has 1 0 1 0 1 1, the other 1 0 0 0 0 1
    tables = [
        (np.array([[1.0, 0.5, 1.5]]), np.array([[2.0, 2.0, 2.0]])), (np.array([[0.0, 0.0, 1.0]]), np.array([[3.0, 4.0, 3.0]])),
    ]  # fmt: skip
    found = {seed: difference(own, other, mask, copies, seed=seed) for seed in (0, 3)}
    for seed, one in found.items():
        expected = hierarchical_bootstrap(*tables, seed=seed)
        assert (one.value, one.low, one.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert found[0].value == pytest.approx(3 / 6 - 1 / 10)
    assert {one.units for one in found.values()} == {"3 speakers"}
    seeds = []  # which hardly show in the ends of an interval over three speakers

    def noted(first, second, *, seed=0):
        seeds.append(seed)
        return Difference(0.0, 0.0, 0.0, (1, 1))

    monkeypatch.setattr(bootstrap, "hierarchical_bootstrap", noted)
    difference(own, other, mask, copies, seed=3)
    assert seeds == [3]


def test_draws_in_which_one_system_has_nothing_do_not_count():
    one = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    part = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]])
    found = hierarchical_bootstrap(one, part, resamples=200, seed=1)
    # of speakers drawn both ways the difference is 0, of the first alone 0.5, of the second alone unknown
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.5)
    nothing = np.zeros((1, 2)), np.zeros((1, 2))
    empty = hierarchical_bootstrap(one, nothing, resamples=20)
    assert np.isnan([empty.value, empty.low, empty.high]).all()


def test_trials_of_one_kind_do_not_count_among_the_draws_and_only_tested_copies_take_part(monkeypatch):
    monkeypatch.setattr(bootstrap, "TRIAL_RESAMPLES", 20)
    trials = {**TRIALS, "copies": "1 1 4 4 5 5", "same": "110010"}
    [told] = task_outcomes(with_outcomes(ROBUST, trials=[trials]), "verify")
    assert told.takes_part(np.arange(9) > 3).nonzero()[0].tolist() == [4, 5]
    copies = Copies.of(ROLL)
    found = difference([told], [told], copies.condition == 1, copies)
    # the first speaker has trials of one speaker alone, the second of two alone: a draw of one of them tells nothing
    assert (found.value, found.low, found.high, found.units) == (0.0, 0.0, 0.0, "2 speakers")


def test_a_column_is_read_once_and_cannot_be_written_to():
    found = column("1 - 2.5")
    np.testing.assert_array_equal(found, [1.0, np.nan, 2.5])
    assert column("1 - 2.5") is found
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2.0


def test_a_gap_is_of_places_that_have_both_and_colours_reach_below_0_and_above_1():
    protocol = document().protocol
    one = scored(
        "a", ("cosine", "noise", 1, 0.25), ("mismatched", "noise", 1, 0.75), ("cosine", "phone", 1, 1.5), ("cosine", None, 2, 0.1),
        ("cosine", "noise", None, 0.2),
    )  # fmt: skip
    assert mean_places([one], "gap") == {(1, "noise"): -0.5}
    assert mean_places([one], "cosine") == {(1, "noise"): 0.25, (1, "phone"): 1.5}
    cosine, gap = heat_maps([one], protocol)
    assert cosine["maps"][0]["rows"] == [
        (1, [("0.25", shade(0.25, low=0.0, high=1.5)), ("1.50", shade(1.5, low=0.0, high=1.5))])
    ]
    assert gap["maps"][0]["rows"] == [(1, [("-0.50", shade(-0.5, low=-0.5, high=1.0))])]
    assert (gap["title"], gap["about"]) == (
        "Gap: that cosine less the cosine of mismatched utterances", "larger is more invariant; a collapsed model has 0",
    )  # fmt: skip
    assert heat_maps([], protocol) == []
