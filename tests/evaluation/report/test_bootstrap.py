"""Bootstrap, EER and edit rates against scipy, scikit-learn and a slow table; groups and the paper's arithmetic."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.stats import bootstrap
from sklearn.metrics import roc_curve

from evaluation.data.transcripts import normalised_text
from evaluation.measures.error_rates import edit_counts, equal_error_rate
from evaluation.model_scores import trials_record
from evaluation.report.bootstrap import (
    Copies,
    TaskOutcomes,
    difference,
    groups_of,
    hierarchical_bootstrap,
    snr_bands,
    task_outcomes,
    trial_rates,
)
from evaluation.report.robustness_table import (
    MixedSystemError,
    SystemOutcomes,
    UnknownSystemError,
    baseline_of,
    difference_tables,
    robustness_tables,
    seen_table,
    snr_tables,
)
from evaluation.tasks.verification import VerificationScores
from manifests.errors import BadDocumentError
from manifests.results.scores import CopyTable, ModelScores, Results, joined, separated

SPEAKERS, RESAMPLES = 17, 500


def sums(seed, *, seeds=1, right=0.7):
    rng = np.random.default_rng(seed)
    totals = rng.integers(1, 30, (seeds, SPEAKERS)).astype(float)
    return rng.binomial(totals.astype(int), right).astype(float), totals


def test_with_one_seed_the_interval_is_that_of_scipy():
    first, second = sums(0), sums(1, right=0.5)

    def statistic(a, b, c, d, axis):
        return a.sum(axis) / b.sum(axis) - c.sum(axis) / d.sum(axis)

    expected = bootstrap(
        (first[0][0], first[1][0], second[0][0], second[1][0]), statistic, n_resamples=RESAMPLES, paired=True,
        vectorized=True, method="percentile", rng=np.random.default_rng(3), batch=RESAMPLES,
    )  # fmt: skip
    found = hierarchical_bootstrap(first, second, resamples=RESAMPLES, seed=3)
    assert found.value == pytest.approx(statistic(first[0], first[1], second[0], second[1], axis=-1)[0], abs=1e-12)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=1e-6)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=1e-6)


def test_with_several_seeds_the_interval_is_that_of_a_slow_loop():
    first, second = sums(0, seeds=3), sums(1, seeds=2, right=0.5)
    speakers = np.random.default_rng(5).integers(0, SPEAKERS, (200, SPEAKERS))
    dice = np.random.default_rng([5, 1])
    drawn = [dice.integers(0, 3, (200, 3)), dice.integers(0, 2, (200, 2))]
    spread = []
    for resample in range(200):
        means = []
        for (counts, totals), chosen in zip((first, second), drawn, strict=True):
            values = []
            for seed in chosen[resample]:
                right = sum(counts[seed, speaker] for speaker in speakers[resample])
                values.append(right / sum(totals[seed, speaker] for speaker in speakers[resample]))
            means.append(sum(values) / len(values))
        spread.append(means[0] - means[1])
    found = hierarchical_bootstrap(first, second, resamples=200, seed=5)
    np.testing.assert_allclose((found.low, found.high), np.quantile(spread, [0.025, 0.975]), atol=1e-12)
    assert found.seeds == (3, 2)


def test_seeds_that_differ_widen_the_interval():
    counts, totals = sums(0)
    level = np.array([[-0.2], [0.0], [0.2]])
    scattered = np.clip(counts + level * totals, 0, totals), np.repeat(totals, 3, axis=0)
    alike = np.repeat(counts, 3, axis=0), np.repeat(totals, 3, axis=0)
    other = sums(1)
    wide, narrow = (hierarchical_bootstrap(one, other, seed=0) for one in (scattered, alike))
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_a_system_does_not_differ_from_itself():
    one = sums(0, seeds=3)
    found = hierarchical_bootstrap(one, one)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)  # paired speakers, paired seeds


@given(st.integers(0, 10_000), st.integers(5, 80), st.floats(-1, 3))
def test_eer_is_where_the_interpolated_curve_crosses(seed, count, distance):
    rng = np.random.default_rng(seed)
    is_same = np.arange(count) % 3 == 0
    scores = np.round(rng.standard_normal(count) + distance * is_same, 1)  # with ties
    wrong, right, _ = roc_curve(is_same, scores, drop_intermediate=False)
    found = equal_error_rate(is_same, scores)
    step = np.arange(len(wrong))
    crossing = brentq(interp1d(step, wrong - (1 - right)), 0, len(wrong) - 1, xtol=1e-13)
    assert found == pytest.approx(float(interp1d(step, wrong)(crossing)), abs=1e-6)


def test_eer_of_what_is_all_alike_is_chance_and_weights_count_as_copies():
    is_same = np.array([True, False, True, False])
    assert equal_error_rate(is_same, np.zeros(4)) == 0.5
    scores = np.array([0.9, 0.2, 0.4, 0.6])
    repeated = equal_error_rate(np.repeat(is_same, [2, 1, 1, 3]), np.repeat(scores, [2, 1, 1, 3]))
    assert equal_error_rate(is_same, scores, weights=np.array([2.0, 1, 1, 3])) == pytest.approx(repeated)
    assert equal_error_rate(is_same, np.array([1.0, 0, 1, 0])) == 0.0


def slow_edits(first, second):
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    table[:, 0], table[0] = np.arange(len(first) + 1), np.arange(len(second) + 1)
    for row in range(1, len(first) + 1):
        for column in range(1, len(second) + 1):
            change = table[row - 1, column - 1] + (first[row - 1] != second[column - 1])
            table[row, column] = min(change, table[row - 1, column] + 1, table[row, column - 1] + 1)
    return table[-1, -1]


@given(st.lists(st.sampled_from("ab 'ß"), min_size=1, max_size=12), st.lists(st.sampled_from("ab 'ß"), max_size=12))
def test_edits_are_those_of_a_slow_table(reference, found):
    edits = edit_counts(tuple(reference), found, units="phones")
    assert edits == {"per": (slow_edits(reference, found), len(reference))}


@given(st.text("ab 'ß", min_size=1, max_size=12), st.text("ab 'ß", max_size=12))
def test_what_a_probe_wrote_has_the_character_error_rate_of_jiwer(text, found):
    reference = normalised_text(text)
    assume(reference)
    edits, total = edit_counts(tuple(reference), tuple(found), units="characters")["cer"]
    assert edits / total == pytest.approx(jiwer.cer(reference, found), abs=1e-12)


@given(
    st.lists(st.sampled_from(["one", "two", "Two"]), min_size=1, max_size=9),
    st.lists(st.sampled_from(["one", "two"]), max_size=9),
)
def test_word_edits_are_those_of_a_slow_table(reference, found):
    edits = edit_counts(tuple(" ".join(reference)), tuple(" ".join(found)), units="characters")
    assert edits["wer"] == (slow_edits(reference, found), len(reference))


@given(st.lists(st.none() | st.integers(0, 10**6) | st.floats(-50, 50).map(lambda x: round(x, 3))))
def test_columns_are_read_as_they_were_written(values):
    found = separated(joined(values))
    assert len(found) == len(values)
    for value, read in zip(values, found, strict=True):
        assert read is None if value is None else read == pytest.approx(value, rel=1e-5, abs=1e-4)


def test_kept_trials_have_the_eer_that_was_measured_however_close_their_similarities_are():
    rng = np.random.default_rng(0)
    same = rng.random(400) < 0.5
    similar = (0.99 + 1e-6 * rng.normal(same)).astype(np.float32)
    trials = tuple((("u", "clean"), ("v", "clean"), bool(s), float(v)) for s, v in zip(same, similar, strict=True))
    places = {("u", "clean"): 0, ("v", "clean"): 1}
    kept = trials_record(VerificationScores((), (trials,), ()), places, task="who")
    assert trial_rates(kept, np.ones(2, np.bool_), None) == pytest.approx([equal_error_rate(same, similar)], abs=1e-12)


ROLL = CopyTable(
    speakers=("a", "b", "c"),
    conditions=("clean", "noise", "phone"),
    utterance="0 0 0 1 1 1 2 2 2",
    speaker="0 0 0 1 1 1 2 2 2",
    condition="0 1 2 0 1 2 0 1 2",
    snr_db="- -0.5 - - 4.9 - - 5 -",
)


def cell(model, right, *, kind="run", seen="csncsnchf", system=None, views="cdm1"):
    """Two probes with the same answers, told as letters a copy."""
    scores = [{"measure": "accuracy", "task": "word", "condition": "clean", "value": 1.0, "count": 3, "probe": 0}]
    counts = " ".join(right)
    return ModelScores.parse(
        {
            "schema": "stillroom/cell/2", "model": model, "protocol_sha256": "a" * 64, "data_sha256": "d" * 64,
            "facts": {
                "kind": kind, "origin": model, "digest": "1" * 64, "parameters": 10, "layers": 1, "heard_known": True,
                "details": {"views": views}, **({"system": system} if system else {}),
            },
            "scores": scores, "cost": {}, "seen": seen, "seen_by_teacher": "cuucuucuu",
            "trained": None if "u" in seen else {} if views == "none" else {"noise recorded": {"count": 3}},
            "outcomes": [{"task": "word", "measure": "accuracy", "probe": probe, "counts": counts} for probe in range(2)],
        },
        where="test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"outcomes": [{"task": "t", "measure": "cer", "probe": 0, "counts": "1 1"}]}, "9 numbers"),
        ({"outcomes": [{"task": "t", "measure": "cer", "probe": 0, "counts": "1" + " 1" * 8, "totals": "1"}]}, "9 numbers"),
        ({"seen": "csn"}, "seen"),
    ],
)  # fmt: skip
def test_columns_of_another_length_than_the_roll_are_refused(change, what):
    protocol = {
        "schema": "stillroom/protocol/1", "corpus": "tiny", "data_sha256": "d" * 64, "conditions": ["noise", "phone"],
        "settings": {}, "models": {},
    }  # fmt: skip
    given = {
        "schema": "stillroom/results/2", "protocol": protocol, "cells": [cell("plain", "1" * 9).plain()],
        "software": {}, "machine": {}, "roll": ROLL.model_dump(mode="json"),
    }  # fmt: skip
    assert Results.parse(given, where="test").roll == ROLL
    with pytest.raises(BadDocumentError, match=what):
        Results.parse({**given, "cells": [{**given["cells"][0], **change}]}, where="test")


@pytest.mark.parametrize(("column", "names"), [("speaker", "speakers"), ("condition", "conditions")])
def test_a_number_of_the_roll_is_that_of_a_name_that_it_has(column, names):
    given = {
        "schema": "stillroom/results/2", "cells": [], "software": {}, "machine": {}, "roll": ROLL.model_dump(mode="json"),
        "protocol": {
            "schema": "stillroom/protocol/1", "corpus": "tiny", "data_sha256": "d" * 64, "conditions": ["noise", "phone"],
            "settings": {}, "models": {},
        },
    }  # fmt: skip
    first, _, rest = given["roll"][column].partition(" ")
    assert first == "0"
    count = len(given["roll"][names])
    given["roll"][column] = f"{count - 1} {rest}"
    assert Results.parse(given, where="test").roll is not None
    given["roll"][column] = f"{count} {rest}"
    with pytest.raises(BadDocumentError, match=f"roll: expected whole numbers below {count}"):
        Results.parse(given, where="test")


TEACHER = cell("teacher", "110110111", kind="teacher", seen="cuucuucuu")
PLAIN = cell("plain", "100100110", seen="cnncnncnn", views="none")
ROBUST = cell("robust", "111111111")


def test_groups_are_those_of_the_first_model_that_was_trained_on_copies():
    paper = SystemOutcomes.from_scores([TEACHER, PLAIN, ROBUST], ROLL)
    assert paper.grouped_by == "robust"
    assert {name: mask.nonzero()[0].tolist() for name, mask in paper.groups.items()} == {
        "clean": [0, 3, 6], "heard": [7], "seen": [1, 4], "shifted": [8], "new": [2, 5],
    }  # fmt: skip
    robust_teacher = cell("teacher", "110110111", kind="teacher", seen="cuucuucuu".replace("u", "s"))
    assert (
        SystemOutcomes.from_scores([robust_teacher, PLAIN, ROBUST], ROLL).grouped_by == "robust"
    )  # a student's, where there is one
    assert SystemOutcomes.from_scores([robust_teacher, PLAIN], ROLL).grouped_by == "teacher"
    left_clean = cell(
        "plain", "100100110", seen="csncnscnn", views="none"
    )  # `choose` with an empty list: seen by anybody
    assert SystemOutcomes.from_scores([left_clean, ROBUST], ROLL).grouped_by == "robust"
    unknown = SystemOutcomes.from_scores([TEACHER], ROLL)
    assert (unknown.grouped_by, list(unknown.groups)) == (None, ["clean", "distorted"])
    assert groups_of(Copies.of(ROLL), "cs")["distorted"].sum() == 6  # letters of another roll


def test_the_three_tables_are_those_of_a_calculator():
    absolute, loss, behind = robustness_tables(SystemOutcomes.from_scores([TEACHER, PLAIN, ROBUST], ROLL))
    assert absolute.header[1:] == tuple(
        f"word: accuracy, {name}" for name in ("clean", "heard", "seen", "shifted", "new")
    )
    rows = {table: {row[0]: row[1:] for row in table.rows} for table in (absolute, loss, behind)}
    assert rows[absolute]["teacher"] == ("100.0 ±0.0", "100.0 ±0.0", "100.0 ±0.0", "100.0 ±0.0", "0.0 ±0.0")
    assert rows[absolute]["plain"] == ("100.0 ±0.0", "100.0 ±0.0", "0.0 ±0.0", "0.0 ±0.0", "0.0 ±0.0")
    assert rows[loss]["plain"] == ("", "0.0", "100.0", "100.0", "100.0")
    assert rows[behind]["plain"] == ("0.0", "0.0", "100.0", "100.0", "0.0")
    assert rows[behind]["robust"][-1] == "-100.0"
    assert rows[behind]["teacher"] == ("",) * 5


def test_error_rates_lose_upwards():
    worse = cell("plain", "000110110", seen="cnncnncnn")
    as_cer = [
        one.model_copy(update={"outcomes": tuple(o.model_copy(update={"measure": "cer"}) for o in one.outcomes)})
        for one in (ROBUST, worse)
    ]
    _, loss = robustness_tables(SystemOutcomes.from_scores(as_cer, ROLL))
    assert {row[0]: row[3] for row in loss.rows} == {"robust": "0.0", "plain": "-16.7"}  # seen 50 %, clean 66.7 %


def test_models_of_one_system_are_its_seeds():
    seeds = [cell("robust-1", "111111111", system="robust"), cell("robust-2", "100111111", system="robust")]
    paper = SystemOutcomes.from_scores([PLAIN, *seeds], ROLL)
    absolute = robustness_tables(paper)[0]
    assert [row[0] for row in absolute.rows] == ["plain", "robust"]
    seen = absolute.header.index("word: accuracy, seen")
    assert absolute.rows[1][seen] == "75.0 ±25.0"
    [table] = difference_tables(paper)
    assert "Against plain" in table.title
    assert table.rows[0][:3] == ("robust", "2 / 1", "3 speakers")
    assert table.rows[0][3 + 2].startswith("+75.0 [")
    with pytest.raises(UnknownSystemError, match="there are plain, robust"):
        difference_tables(paper, against="robust-1")


def test_systems_are_compared_with_the_student_of_clean_speech_wherever_it_stands():
    first = cell("first", "110111111")
    for order in ([TEACHER, first, PLAIN, ROBUST], [TEACHER, PLAIN, first, ROBUST], [first, ROBUST, TEACHER, PLAIN]):
        assert baseline_of(SystemOutcomes.from_scores(order, ROLL)) == "plain"
    assert baseline_of(SystemOutcomes.from_scores([TEACHER, first, ROBUST], ROLL)) == "first"
    assert baseline_of(SystemOutcomes.from_scores([TEACHER], ROLL)) is None


def test_a_system_is_of_one_kind_of_model():
    with pytest.raises(MixedSystemError, match="'robust' is that of a teacher and of a run"):
        SystemOutcomes.from_scores(
            [cell("robust", "110110111", kind="teacher"), cell("robust-1", "111111111", system="robust")], ROLL
        )


def test_a_strangers_views_are_no_reason_to_fall():
    one, other = (cell(name, "111111111", views=views) for name, views in (("a", {"kind": "x"}), ("b", ["y"])))
    assert "Against a" in difference_tables(SystemOutcomes.from_scores([one, other], ROLL))[0].title


def test_a_difference_of_a_group_nobody_speaks_in_is_none():
    copies = Copies.of(ROLL)
    told = task_outcomes(ROBUST, "word")
    assert difference(told, told, np.zeros(9, dtype=bool), copies) is None


def test_verification_outcomes_are_grouped_by_the_tested_copy():
    trials = {
        "task": "verify", "copies": "1 1 4 4 7 7", "enrolled": "0 3 3 0 6 0", "same": "101010",
        "scores": ["0.9 0.1 0.2 0.8 0.9 0.1", "0.9 0.1 0.9 0.1 0.9 0.1"],
    }  # fmt: skip
    one = ModelScores.parse({**ROBUST.plain(), "trials": [trials], "outcomes": []}, where="test")
    [told] = task_outcomes(one, "verify")
    copies = Copies.of(ROLL)
    first = np.arange(9) == 1
    np.testing.assert_allclose(told.values(first), [0.0, 0.0])
    np.testing.assert_allclose(told.values(np.arange(9) == 4), [1.0, 0.0])
    assert np.isnan(told.values(np.arange(9) == 2)).all()
    assert np.flatnonzero(told.takes_part(np.arange(9) > 2)).tolist() == [4, 7]
    found = difference([told], [told], copies.condition == 1, copies)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_bands_of_snr_hold_their_lower_end():
    bands = snr_bands(Copies.of(ROLL))
    assert {name: mask.nonzero()[0].tolist() for name, mask in bands.items()} == {
        "-5 to 0 dB": [1], "0 to 5 dB": [4], "5 to 10 dB": [7],
    }  # fmt: skip
    [table] = snr_tables(SystemOutcomes.from_scores([PLAIN, ROBUST], ROLL))
    assert table.rows[0] == ("plain", "0.0 ±0.0", "0.0 ±0.0", "100.0 ±0.0")


def test_what_copies_are_to_model_and_teacher_is_a_table():
    table = seen_table([ROBUST, TEACHER], ROLL)
    assert table is not None
    assert table.rows[0] == ("robust", "model", "seen 2, heard 1", "new 2, shifted 1")
    assert table.rows[1] == ("robust", "its teacher", "unknown", "unknown")


def test_probes_are_averaged_and_copies_without_an_answer_take_no_part():
    told = TaskOutcomes("accuracy", np.array([[1.0, np.nan, 0.0]]), np.array([[1.0, np.nan, 1.0]]))
    np.testing.assert_allclose(told.values(np.array([True, True, True])), [0.5])


def test_where_one_speaker_says_everything_utterances_are_drawn():
    """A bootstrap over one speaker would have no width at all."""
    roll = ROLL.model_copy(update={"speakers": ("a",), "speaker": " ".join("0" * 9)})
    copies = Copies.of(roll)
    first, second = (task_outcomes(one, "word") for one in (cell("one", "110100100"), cell("two", "100100100")))
    found = difference(first, second, copies.condition == 1, copies)
    assert found is not None
    assert found.units == "3 utterances"
    assert (found.low, found.high) == (0.0, 1.0)
    assert found.value == pytest.approx(1 / 3)


def test_speakers_who_take_no_part_are_not_drawn():
    first, second = (task_outcomes(one, "word") for one in (cell("one", "110110---"), cell("two", "100100---")))
    copies = Copies.of(ROLL)
    found = difference(first, second, copies.condition == 1, copies)
    assert found is not None
    assert (found.units, found.value, found.low, found.high) == ("2 speakers", 1.0, 1.0, 1.0)


def test_one_copy_of_unknown_category_leaves_clean_and_distorted_alone():
    assert list(groups_of(Copies.of(ROLL), "csncuscsn")) == ["clean", "distorted"]


def test_categories_are_never_those_of_the_floor():
    floor = cell("logmel", "110110111", kind="floor", seen="csncsncsn")
    assert SystemOutcomes.from_scores([floor, TEACHER], ROLL).grouped_by is None


def test_a_system_of_two_seeds_does_not_differ_from_itself_in_its_trials():
    """Seeds are drawn alike for both, whose errors differ from seed to seed."""
    models = []
    for scores in ("0.9 0.1 0.2 0.8 0.9 0.1", "0.1 0.9 0.9 0.1 0.9 0.1"):
        trials = {
            "task": "verify",
            "copies": "1 1 4 4 7 7",
            "enrolled": "0 3 3 0 6 0",
            "same": "101010",
            "scores": [scores],
        }
        models.append(ModelScores.parse({**ROBUST.plain(), "trials": [trials], "outcomes": []}, where="test"))
    own = [one for model in models for one in task_outcomes(model, "verify")]
    copies = Copies.of(ROLL)
    assert len({float(one.values(copies.condition == 1)[0]) for one in own}) == 2
    found = difference(own, own, copies.condition == 1, copies)
    assert (found.value, found.low, found.high, found.seeds, found.units) == (0.0, 0.0, 0.0, (2, 2), "3 speakers")
    assert task_outcomes(models[0], "another") == []


def test_probes_are_in_the_order_of_their_numbers_and_copies_without_a_count_have_no_total():
    outcome = ROBUST.outcomes[0]
    swapped = [
        outcome.model_copy(update={"probe": probe, "counts": counts})
        for probe, counts in ((1, "- 0 1 1 1 1 1 1 1"), (0, "- 0 0 0 0 0 0 0 0"))
    ]
    [told] = task_outcomes(ROBUST.model_copy(update={"outcomes": tuple(swapped)}), "word")
    everything = np.ones(9, dtype=bool)
    np.testing.assert_allclose(told.values(everything), [0.0, 7 / 8])
    assert told.takes_part(everything).tolist() == [False, *[True] * 8]
    np.testing.assert_allclose(told.values(everything, speaker_weights=np.r_[5.0, 1, 1, np.zeros(6)]), [0.0, 1 / 2])


def test_a_group_in_which_one_of_two_systems_has_nothing_has_no_difference():
    whole, part = (task_outcomes(one, "word") for one in (cell("one", "111111111"), cell("two", "11-11-11-")))
    mask = np.arange(9) % 3 == 2
    copies = Copies.of(ROLL)
    assert difference(whole, part, mask, copies) is difference(part, whole, mask, copies) is None
    both = np.arange(9) % 3 > 0
    assert difference(whole, part, both, copies).units == "3 speakers"
    silent = task_outcomes(cell("three", "111111---"), "word")
    assert [difference(*pair, both, copies).units for pair in ((whole, silent), (silent, whole))] == ["3 speakers"] * 2
