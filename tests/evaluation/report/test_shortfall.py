"""The share of a plain student's shortfall that a system closes: against slow loops, and its table on the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import numpy as np
import pytest

from evaluation.measures.error_rates import equal_error_rate
from evaluation.report import bootstrap
from evaluation.report.bootstrap import Copies, shortfall_closed, task_outcomes
from evaluation.report.html import cut_tables, page_content
from evaluation.report.make_report import report
from evaluation.report.markdown import report_text
from evaluation.report.robustness_table import (
    SystemOutcomes,
    baseline_of,
    plain_student,
    robustness_tables,
    shortfall_note,
    shortfall_table,
)
from evaluation.report.table import MOST_ROWS, Quantity, Table, escaped, file_names, percent
from manifests.errors import UsageError
from manifests.results.scores import CopyTable, ModelScores, joined
from tests.evaluation.report import test_html
from tests.evaluation.report.test_bootstrap import PLAIN, ROBUST, ROLL, TEACHER, cell
from tests.evaluation.report.test_html import document
from tests.evaluation.report.test_robustness_table import outcome, with_outcomes
from tests.oracles.browser import check_width

SPEAKERS, RESAMPLES = 3, 300
UTTERANCES = 4 * SPEAKERS
COPIES = [(utterance, utterance % SPEAKERS, part) for utterance in range(UTTERANCES) for part in range(3)]
TABLE = CopyTable(
    speakers=("a", "b", "c"),
    conditions=("clean", "noise", "phone"),
    utterance=" ".join(str(utterance) for utterance, _, _ in COPIES),
    speaker=" ".join(str(speaker) for _, speaker, _ in COPIES),
    condition=" ".join(str(part) for _, _, part in COPIES),
    snr_db=" ".join("-" for _ in COPIES),
)
NOISE = np.array([part == 1 for _, _, part in COPIES])


def seeds_of(rng, count, *, clean, noise, measure="accuracy"):
    """Counts of ten of each copy by two probes of each seed, as outcomes."""
    models = []
    for number in range(count):
        counts = [
            [float(rng.binomial(10, clean if part == 0 else noise)) for _, _, part in COPIES] for _probe in range(2)
        ]
        given = [
            {"task": "t", "measure": measure, "probe": probe, "counts": joined(row), "totals": joined([10.0] * len(COPIES))}
            for probe, row in enumerate(counts)
        ]  # fmt: skip
        one = cell(f"m{number}", "1" * 9).plain() | {"outcomes": given, "seen": None}
        models.append((ModelScores.parse(one, where="test"), counts))
    return [task_outcomes(one, "t")[0] for one, _ in models], [counts for _, counts in models]


def slow_score(systems, chosen, speakers, part):
    """Mean over the drawn seeds of the rate over the drawn speakers, copy by copy."""
    values = []
    for seed in chosen:
        right = total = 0.0
        for speaker in speakers:
            for place, (_, own, condition) in enumerate(COPIES):
                if own == speaker and condition == part:
                    right += sum(systems[seed][probe][place] for probe in range(2)) / 2
                    total += 10.0
        values.append(right / total)
    return sum(values) / len(values)


@pytest.mark.parametrize(("measure", "sizes"), [("accuracy", (2, 2)), ("accuracy", (2, 3)), ("wer", (2, 2))])
def test_a_share_closed_and_its_interval_are_those_of_a_slow_loop(monkeypatch, measure, sizes):
    monkeypatch.setattr(bootstrap, "RESAMPLES", RESAMPLES)
    rng = np.random.default_rng(7)
    levels = ((0.85, 0.7), (0.9, 0.5)) if measure == "accuracy" else ((0.2, 0.3), (0.1, 0.6))
    (own, of_own), (plain, of_plain) = (
        seeds_of(rng, size, clean=clean, noise=noise, measure=measure)
        for size, (clean, noise) in zip(sizes, levels, strict=True)
    )
    found = shortfall_closed(own, plain, NOISE, Copies.of(TABLE), seed=5)
    drawn = np.random.default_rng(5).integers(0, SPEAKERS, (RESAMPLES, SPEAKERS)).tolist()
    of_seeds = np.random.default_rng([5, 1])
    seeds = [of_seeds.integers(0, size, (RESAMPLES, size)).tolist() for size in sizes]
    if sizes[0] == sizes[1]:
        seeds[1] = seeds[0]
    draws = [(range(sizes[0]), range(sizes[1]), range(SPEAKERS)), *zip(*seeds, drawn, strict=True)]
    shares, losses = [], []
    for mine, others, speakers in draws:
        system = slow_score(of_own, mine, speakers, 1)
        distorted, clean = (slow_score(of_plain, others, speakers, part) for part in (1, 0))
        shares.append((system - distorted) / (clean - distorted))
        losses.append(clean - distorted if measure == "accuracy" else distorted - clean)
    ends = [np.quantile(values[1:], [0.025, 0.975]).tolist() for values in (shares, losses)]
    assert (found.value, found.low, found.high) == pytest.approx((shares[0], *ends[0]), abs=1e-9)
    assert found.shortfall == pytest.approx((losses[0], *ends[1]), abs=1e-9)
    assert found.is_known
    assert found.low < found.value < found.high


def test_a_share_of_an_eer_is_that_of_a_slow_loop_over_drawn_speakers(monkeypatch):
    monkeypatch.setattr(bootstrap, "TRIAL_RESAMPLES", 15)
    rng = np.random.default_rng(3)
    trials = [(place, number % 2) for number in range(4) for place in range(len(COPIES)) if COPIES[place][2] < 2]
    tested, same = (np.array(column) for column in zip(*trials, strict=True))
    part = np.array([COPIES[place][2] for place in tested])
    speaker = np.array([COPIES[place][1] for place in tested])

    def seeds(clean, noise):
        return [same * np.where(part == 0, clean, noise) + rng.standard_normal(len(same)) for _ in range(2)]

    def outcomes(scores):
        record = {
            "task": "v", "copies": joined(map(float, tested)), "enrolled": joined([0.0] * len(tested)),
            "same": "".join(map(str, same)), "scores": [joined(scores, decimals=8)],
        }  # fmt: skip
        one = cell("m", "1" * 9).plain() | {"outcomes": [], "trials": [record], "seen": None}
        return task_outcomes(ModelScores.parse(one, where="test"), "v")[0]

    systems = seeds(2.0, 1.5), seeds(3.0, 0.5)
    found = shortfall_closed(
        *([outcomes(one) for one in system] for system in systems), NOISE, Copies.of(TABLE), seed=2
    )
    of_speakers, of_seeds = np.random.default_rng(2), np.random.default_rng([2, 1])
    shares = []
    for number in range(16):
        drawn = range(SPEAKERS) if number == 0 else of_speakers.integers(0, SPEAKERS, SPEAKERS)
        chosen = (0, 1) if number == 0 else of_seeds.integers(0, 2, 2)
        if number:
            of_seeds.integers(0, 2, 2)  # drawn for the second system, whose seeds are paired with the first's
        rows = np.concatenate([np.flatnonzero(speaker == one) for one in drawn])

        def rate(system, which, rows=rows, chosen=chosen):
            taken = rows[part[rows] == which]
            return np.mean([equal_error_rate(same[taken] == 1, system[seed][taken]) for seed in chosen])

        distorted = rate(systems[1], 1)
        shares.append((distorted - rate(systems[0], 1)) / (distorted - rate(systems[1], 0)))
    ends = np.quantile(shares[1:], [0.025, 0.975])
    assert (found.value, found.low, found.high) == pytest.approx((shares[0], *ends), abs=1e-4)
    assert found.is_known


def test_a_group_in_which_the_plain_student_or_the_system_has_nothing_has_no_share():
    whole, part = (task_outcomes(one, "word") for one in (cell("one", "100100100"), cell("two", "-11-11-11")))
    copies = Copies.of(ROLL)
    mask = copies.condition == 1
    assert shortfall_closed(part, whole, mask, copies).value == 1.0, "its clean copies are not read"
    assert shortfall_closed(whole, part, mask, copies) is None
    assert shortfall_closed(task_outcomes(cell("three", "1-11-11-1"), "word"), whole, mask, copies) is None


def test_the_table_has_the_gain_on_clean_beside_the_shares_of_each_group():
    half = cell("half", "110110100")  # of PLAIN's three clean it has three, of two seen two, of two new none
    worse = with_outcomes(ROBUST, outcome("011011011", task="word", measure="accuracy"))
    paper = SystemOutcomes.from_scores([TEACHER, PLAIN, worse, half], ROLL)
    table = shortfall_table(paper)
    assert table.title == "Shortfall of plain closed, in % (gain on clean: in points)"
    assert table.header == (
        "system",
        *(f"word: accuracy, {one}" for one in ("gain on clean", "heard", "seen", "shifted", "new")),
    )
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == ["teacher", "robust", "half"]
    same = "+0.0 [+0.0, +0.0]"
    nothing, all_of_it = f"no certain shortfall: {same}", "+100.0 [+100.0, +100.0]"
    assert rows["half"] == (same, nothing, all_of_it, same, same)
    assert rows["robust"] == ("-100.0 [-100.0, -100.0]", nothing, all_of_it, all_of_it, all_of_it)
    assert shortfall_table(SystemOutcomes.from_scores([PLAIN], ROLL)) is None
    assert shortfall_table(SystemOutcomes.from_scores([with_outcomes(PLAIN), with_outcomes(ROBUST)], ROLL)) is None


def test_a_gain_of_an_error_rate_on_clean_is_an_error_less():
    plain, better = with_outcomes(PLAIN, outcome("100011111")), with_outcomes(ROBUST, outcome("000000011"))
    table = shortfall_table(SystemOutcomes.from_scores([plain, better], ROLL))
    [row] = table.rows
    # clean 2 of 3 against none; the two seen copies 1 of 2 against 0
    assert row[1].startswith("+66.7 [+0.0, +100.0]")
    assert row[1].numbers == pytest.approx({"": 200 / 3, "low": 0.0, "high": 100.0})
    assert row[3].startswith("no certain shortfall: -16.7 [")
    assert row[3].numbers == {
        "shortfall": pytest.approx(-50 / 3), "shortfall low": pytest.approx(-100.0), "shortfall high": pytest.approx(100.0)
    }  # fmt: skip


def test_a_shortfall_is_certain_where_its_interval_is_above_0():
    for ends, certain in (
        ((0.2, 0.1, 0.3), True),
        ((0.2, 0.0, 0.3), False),
        ((-0.2, -0.3, -0.1), False),
        ((0.1, np.nan, 0), False),
    ):
        assert bootstrap.ShortfallClosed(0.5, 0.4, 0.6, ends).is_known == certain


def test_a_plain_student_is_known_by_its_views_or_what_it_was_trained_on():
    robust_first = [TEACHER, ROBUST, PLAIN]
    assert plain_student(SystemOutcomes.from_scores(robust_first, ROLL)) == "plain"
    without = {**PLAIN.plain(), "model": "old"}
    without["facts"] = {**without["facts"], "details": {}, "kind": "export"}
    export, unknown = (ModelScores.parse({**without, "trained": trained}, where="test") for trained in ({}, None))
    assert plain_student(SystemOutcomes.from_scores([ROBUST, export], ROLL)) == "old"
    assert plain_student(SystemOutcomes.from_scores([ROBUST, unknown], ROLL)) is None
    teacher = export.model_copy(update={"facts": export.facts.model_copy(update={"kind": "teacher"})})
    nobody = SystemOutcomes.from_scores([teacher, ROBUST], ROLL)
    assert plain_student(nobody) is None
    assert shortfall_table(nobody) is None
    assert baseline_of(nobody) == "robust"
    distorted = export.model_copy(update={"trained": {"noise recorded": {"count": 3}}})
    assert baseline_of(SystemOutcomes.from_scores([ROBUST, distorted], ROLL)) == "robust"
    assert shortfall_note(nobody).startswith(
        "Shortfall closed is not shown: no model is known to be a student of clean speech alone"
    )


def test_without_another_system_the_shortfall_is_not_explained_but_said_to_be_missing():
    alone = "Shortfall closed is not shown: there is no other system to compare with plain on distorted copies."
    assert shortfall_note(SystemOutcomes.from_scores([PLAIN], ROLL)) == alone
    both = SystemOutcomes.from_scores([PLAIN, ROBUST], ROLL)
    assert shortfall_note(both).startswith("Shortfall closed: what a system gains over plain ")
    clean = {name: mask for name, mask in both.groups.items() if name == "clean"}
    assert shortfall_note(dataclasses.replace(both, groups=clean)) == alone


def plain_document(**plain):
    """One plain student of the page's test set and one other."""
    first = test_html.cell("plain", digest="3", right=(12, 4, 2), views="none", **plain)
    return document(first, test_html.cell("cdm", digest="4", right=(11, 8, 2), views="cdm1"))


def test_the_shortfall_is_the_first_table_of_a_report_and_of_its_page():
    results = plain_document()
    text = report_text([results])
    titles = re.findall(r"^\*\*(.*)\*\*$", text, re.MULTILINE)
    assert titles[0].startswith("Shortfall of plain closed, in %")
    assert "\nShortfall closed: what a system gains over plain on distorted copies, in % of" in text
    content = page_content([results], names=["a"], against=None, command=())
    assert content["shortfall"]["header"] == ["system", "gain on clean", "seen", "shifted"]
    assert content["shortfall"]["above"] == [("word: accuracy", 3)]
    assert content["shortfall_note"].startswith("Shortfall closed: ")
    [row] = content["shortfall"]["rows"]
    assert [cell.split(" [")[0] for cell in row] == ["cdm", "-8.3", "+50.0", "+0.0"]


def test_the_page_begins_with_the_shortfall(tmp_path):
    (tmp_path / "r").mkdir()
    plain_document().write(tmp_path / "r" / "results.json")
    report(tmp_path / "r", html=tmp_path / "page.html")
    found = re.findall(r'<p class="title">(.*?)</p>', (tmp_path / "page.html").read_text())
    assert found[0].startswith("Shortfall of plain closed")
    assert found[1].startswith("The table, in %")


@pytest.mark.slow
def test_no_cell_of_the_shortfall_is_wider_than_its_column_on_a_phone(tmp_path):
    first, other = (
        test_html.cell(name, digest=digest, right=right, views=views)
        for name, digest, right, views in (("plain", "3", (7, 6, 5), "none"), ("cdm", "4", (6, 8, 2), "cdm1"))
    )
    (tmp_path / "r").mkdir()
    document(first, other).write(tmp_path / "r" / "results.json")
    assert "no certain shortfall: +16.7" in report(tmp_path / "r", html=tmp_path / "page.html")
    check_width(tmp_path / "page.html", width=390, scratch=tmp_path)


def test_csv_files_have_every_table_with_all_rows_and_digits(tmp_path):
    (tmp_path / "r").mkdir()
    plain_document().write(tmp_path / "r" / "results.json")
    text = report(tmp_path / "r", csv=tmp_path / "tables")
    files = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert files[0] == "01-shortfall-of-plain-closed-in-gain-on-clean-in-points.csv"
    titles = [title for title in re.findall(r"^\*\*(.*)\*\*$", text, re.MULTILINE) if title != "Notes"]
    assert len(files) == len(titles) + 1, "and how students were trained"
    assert files[-1] == f"{len(files)}-how-each-student-was-trained.csv"
    with (tmp_path / "tables" / "03-the-table-in-groups-as-plain-was-trained.csv").open() as stream:
        header, *rows = csv.reader(stream)
    assert header[:3] == ["system", "word: accuracy, clean", "word: accuracy, clean ±"]
    assert rows[1][:3] == ["cdm", repr(100 * (11 / 12)), "0.0"]


def test_a_column_is_as_many_columns_of_csv_as_its_cells_have_numbers():
    table = Table(
        "t", ("who", "value"),
        (("a,b", Quantity("1.2 ±0.1", {"": 1.234, "±": 0.1})), ("c", "no shortfall"), ("d\n", Quantity("", {"": float("nan")}))),
    )  # fmt: skip
    found = list(csv.reader(io.StringIO(table.csv())))
    assert found == [["who", "value", "value ±"], ["a,b", "1.234", "0.1"], ["c", "no shortfall", ""], ["d\\n", "", ""]]
    assert percent(2 / 3, spread=0.0).numbers == {"": 100 * (2 / 3), "±": 0.0}
    long = Table("Loss/../of: <A>", ("n",), (("1",),))
    pair = [
        Table(f"Against distilhubert-plain: characters of text by blstm, {one} in points", ("n",), ())
        for one in ("CER", "WER")
    ]
    assert [re.search("blstm-(.*)-in-points", name)[1] for name in file_names(pair)] == ["cer", "wer"]
    assert file_names([long, long]) == ["01-loss-of-a.csv", "02-loss-of-a.csv"]


def test_texts_of_a_csv_are_one_line_and_no_formula_in_header_and_cells():
    table = Table(
        "t",
        ("who", "=1+2\n\u202e", "@x"),
        (("=cmd|' /C calc'!A0", Quantity("-1.0", {"": -1.0}), "-x"), ("+a", "", "a=b")),
    )
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["who", "'=1+2\\n\\u202e", "'@x"], ["'=cmd|' /C calc'!A0", "-1.0", "'-x"], ["'+a", "", "a=b"],
    ]  # fmt: skip


def test_tables_of_two_reports_do_not_share_a_folder(tmp_path):
    (tmp_path / "r").mkdir()
    plain_document().write(tmp_path / "r" / "results.json")
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "2024-own.csv").touch()
    report(tmp_path / "r", csv=tables)
    written = {path: path.read_text() for path in tables.iterdir()}
    report(tmp_path / "r", csv=tables)
    with pytest.raises(
        UsageError, match=r"tables of another report \(05-against-plain-word-accuracy-.*\.csv\); remove"
    ):
        report(tmp_path / "r", csv=tables, against="cdm")
    assert {path: path.read_text() for path in tables.iterdir()} == written


def test_a_long_table_is_cut_where_a_file_has_all_of_it():
    rows = tuple((str(number),) for number in range(MOST_ROWS + 1))
    table = Table("t", ("n",), rows)
    lines = table.head("out/01-t.csv").lines()
    assert lines[-1] == f"{MOST_ROWS} of {MOST_ROWS + 1} rows; all: out/01-t.csv"
    assert [line.split()[1] for line in lines[4:-2]] == [str(number) for number in range(MOST_ROWS)]
    whole = Table("t", ("n",), rows[:-1])
    assert whole.head("out/01-t.csv") is whole
    far = Table("t", ("n",), rows).head("/a/" + "far/" * 30 + "01-t.csv").more
    assert far.startswith("12 of 13 rows; all: …")
    assert far.endswith("/far/01-t.csv")
    assert escaped(far) == far, "all of it is shown"
    content = {
        "a": {"title": "t", "whole_title": "t", "rows": list(rows), "more": ""},
        "b": [{"title": "t", "whole_title": "t of the same beginning", "rows": list(rows), "more": ""}],
    }
    cut_tables(content, {"t": "out/01-t.csv"})
    assert (len(content["a"]["rows"]), len(content["b"][0]["rows"])) == (MOST_ROWS, MOST_ROWS + 1)
    assert content["a"]["more"] == lines[-1]
    assert not robustness_tables(SystemOutcomes.from_scores([PLAIN, ROBUST], ROLL))[0].more
