"""The statistics of the robustness study on synthetic cells whose truth is known, and the study itself, tiny."""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from corpus_builder.pages.colours import COLOURS
from corpus_builder.pages.html import environment
from tests.oracles.browser import check_width

HOUSE = Path(__file__).resolve().parents[2]
FOLDER = HOUSE / "benchmarks/robustness"
RESULTS = HOUSE / "docs/results"
MODULES = ("sentences", "materials", "cells", "record", "estimates", "data", "tables", "figures", "analysis")
VOICES = 18
NUMBER = re.compile(r"(?<![\w-])\d+(?:\.\d+)?(?:e-\d+)?")
MOST_BYTES = 15_000


@pytest.fixture(scope="module")
def study():
    """The study's modules by name, as its folder on the path gives them when it is run."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


def contrast_table(rng, *, replicates, effect, seed_spread, unit_spread, resamples=400):
    """Values as `estimate` takes them: a contrast with chance over replicates and over units, both known."""
    per_unit = effect + rng.normal(0, unit_spread, VOICES)
    weights = np.vstack([np.ones(VOICES), rng.multinomial(VOICES, np.full(VOICES, 1 / VOICES), resamples)]) / VOICES
    return rng.normal(0, seed_spread, replicates)[:, None] + (weights @ per_unit)[None, :]


@pytest.mark.parametrize("replicates", [3, 10])
def test_where_there_is_no_effect_one_in_twenty_is_found_at_most_and_the_interval_covers(study, replicates):
    rng, estimate = np.random.default_rng(replicates), study["estimates"].estimate
    found = [
        estimate(contrast_table(rng, replicates=replicates, effect=0, seed_spread=1, unit_spread=2), units=VOICES)
        for _ in range(400)
    ]
    false_alarms = np.mean([one.p <= 0.05 for one in found])
    assert 0.005 < false_alarms < 0.085  # 0.05 + 3 standard errors; above 0: it is a test and no constant
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.92


def test_with_three_replicates_the_plain_percentile_interval_is_too_short(study):
    rng, estimate = np.random.default_rng(0), study["estimates"].estimate
    found = [
        estimate(contrast_table(rng, replicates=3, effect=0, seed_spread=2, unit_spread=0.1), units=VOICES)
        for _ in range(300)
    ]
    assert np.mean([one.percentile[0] <= 0 <= one.percentile[1] for one in found]) < 0.88
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.92


def test_an_effect_that_is_there_is_found_with_its_sign(study):
    rng, estimate = np.random.default_rng(1), study["estimates"].estimate
    for effect in (5.0, -5.0):
        found = estimate(contrast_table(rng, replicates=10, effect=effect, seed_spread=1, unit_spread=2), units=VOICES)
        assert abs(found.value - effect) < 2
        assert (found.p < 0.001) == (effect > 0)
        assert (found.p_contrary < 0.001) == (effect < 0)


def test_holm_is_what_a_slow_reading_of_the_rule_gives(study):
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert study["estimates"].holm(p) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def slow_share(own, plain, clean, rng, resamples):
    """The share closed and its percentile interval, draw by draw, from accuracies by (replicate, voice)."""
    replicates, voices = own.shape

    def share(rows, columns):
        middle = [np.mean([table[row, column] for row in rows for column in columns]) for table in (own, plain, clean)]
        return 100 * (middle[0] - middle[1]) / (middle[2] - middle[1])

    drawn = [share(rng.integers(0, replicates, replicates), rng.integers(0, voices, voices)) for _ in range(resamples)]
    return share(range(replicates), range(voices)), *np.quantile(drawn, (0.025, 0.975))


def test_the_share_closed_is_that_of_a_slow_bootstrap_over_replicates_and_voices(study):
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 6, VOICES)
    own, plain, clean = (
        mean + hard + rng.normal(0, 2, (10, 1)) + rng.normal(0, 4, (10, VOICES)) for mean in (74, 65, 92)
    )
    estimates = study["estimates"]
    weights = estimates.voice_weights(VOICES)
    assert weights.shape == (2001, VOICES)
    assert set(weights.sum(axis=1)) == {VOICES}
    found = estimates.shortfall_closed(*(table @ weights.T / VOICES for table in (own, plain, clean)))
    slow = slow_share(own, plain, clean, np.random.default_rng(8), 800)
    assert found.is_share
    assert found.value == pytest.approx(slow[0])
    assert (found.low, found.high) == pytest.approx(slow[1:], abs=1.6)


def test_a_system_that_closes_the_same_share_for_every_voice_and_seed_has_no_interval(study):
    rng = np.random.default_rng(4)
    plain, clean = (mean + rng.normal(0, 5, (10, VOICES)) for mean in (60, 90))
    weights = study["estimates"].voice_weights(VOICES).T / VOICES
    found = study["estimates"].shortfall_closed(
        (plain + 0.4 * (clean - plain)) @ weights, plain @ weights, clean @ weights
    )
    assert (found.value, found.low, found.high) == pytest.approx((40, 40, 40))


def test_where_the_shortfall_may_be_none_its_share_is_not_shown_but_points(study):
    rng = np.random.default_rng(0)
    own, plain, clean = (50 + shift + rng.normal(0, 1, (10, 400)) for shift in (3, 0, 0))
    found = study["estimates"].shortfall_closed(own, plain, clean)
    assert not found.is_share
    assert found.value == pytest.approx(np.mean(own[:, 0] - plain[:, 0]))
    assert found.low < found.value < found.high
    assert study["tables"].closed_text(found).startswith("+")
    assert "points" in study["tables"].closed_text(found)


SEEN, NEW = ("noise", "room", "roomy", "phone"), ("music", "babble", "far", "lowrate", "clip", "band")
# Of a made-up system: clean, seen, new on keywords; the same on phones; retrieval@1, matched cosine, rank.
TRUTH = {
    "teacher-nano": ((90, 60, 55), (45, 25, 25), (0.30, 0.6, 60)), "plain": ((95, 55, 60), (48, 24, 28), (0.40, 0.6, 95)),
    "cdm1": ((95, 70, 66), (47.8, 32, 31), (0.50, 0.7, 100)), "cdm2": ((94, 71, 66), (45, 30, 29), (0.53, 0.73, 98)),
    "cdm1-dat": ((95, 70, 66), (47.8, 32, 31), (0.45, 0.7, 60)), "without": ((95, 66, 64), (48, 29, 30), (0.5, 0.7, 100)),
    "unpaired": ((95, 68, 64), (48, 30, 30), (0.5, 0.7, 100)), "unpaired-dat": ((95, 71, 64), (48, 33, 30), (0.5, 0.7, 100)),
    "plain-2": ((95, 55, 60), (48, 24, 28), (0.40, 0.6, 95)), "cdm1-2": ((95, 77, 66), (48, 37, 32), (0.5, 0.7, 100)),
}  # fmt: skip
VERDICTS = {"1": "supported", "1h": "contrary", "2": "supported", "3": "not supported", "4": "supported"}


def made_cell(study, cell, *, truth, rng):
    """A finished cell of a system whose accuracies are given in points; under matched probes it has 5 more on seen kinds."""
    tasks, drift = {}, rng.normal(0, 0.05)
    for name in study["cells"].ALL_TASKS:
        points = dict(zip(("clean", "seen", "new"), truth[0 if name.startswith("keywords") else 1], strict=True))
        points["seen"] += 5 if "matched" in name else 0
        conditions = {"clean": "clean", **dict.fromkeys(SEEN, "seen"), **dict.fromkeys(NEW, "new")}
        shares = {condition: (points[group] + drift) / 100 for condition, group in conditions.items()}
        counts = {condition: [rng.binomial(4000, share) for _ in range(VOICES)] for condition, share in shares.items()}
        tasks[name] = {"counts": counts, "totals": [4000] * VOICES, "chance": 0.0625 if "keywords" in name else 0.08}
    retrieval, cosine, rank = (value + rng.normal(0, 0.002) for value in truth[2])
    free = {
        "retrieval": {"clean": [1, 1], "noise": [0, retrieval]}, "cosine": {"noise": [0, cosine]},
        "mismatched": {"noise": [0, 0.1]}, "rank": {"clean": [80, rank], "noise": [80, rank]},
    }  # fmt: skip
    return study["record"].StudyCell.model_validate(
        {
            "schema": "stillroom/study-cell/2",
            "name": cell.name, "system": cell.system, "side": "test", "seed": cell.seed, "corpus": cell.corpus,
            "digest": cell.digest("test", study["cells"].FULL), "decided": cell.decided("test", study["cells"].FULL),
            "claims_sha256": hashlib.sha256((FOLDER / "claims.md").read_bytes()).hexdigest(), "data_sha256": "0" * 64,
            "student": {"parameters": 660_640, "corpus_sha256": f"digest of {cell.corpus}"}, "seconds": {"training": 400.0 + cell.seed},
            "voices": [f"v{n}" for n in range(VOICES)], "tasks": tasks, "label_free": free,
        }
    )  # fmt: skip


def made_study(study, folder, **changed):
    folder.mkdir(parents=True)
    rng, truth = np.random.default_rng(5), {**TRUTH, **changed}
    for cell in study["cells"].cells("test"):
        made_cell(study, cell, truth=truth[cell.system], rng=rng).write_line(folder / f"{cell.name}.json")


@pytest.fixture(scope="module")
def results(study, tmp_path_factory):
    """A made-up study and its results, as `docs/results` has them once the study is made."""
    folder = tmp_path_factory.mktemp("results")
    made_study(study, folder / "cells")
    study["analysis"].analyse(folder / "cells", folder)
    return folder


@pytest.fixture(scope="module")
def shown(study, results):
    return study["analysis"].compared(study["analysis"].read_cells(results / "cells"))


def test_a_made_up_study_gets_the_verdicts_that_were_put_into_it(results):
    document = {one["claim"]: one for one in json.loads((results / "claims.json").read_text())}
    assert {claim: one["verdict"] for claim, one in document.items()} == VERDICTS
    effects = {name: each["effect"] for one in document.values() for name, each in one["contrasts"].items()}
    expected = {
        "keywords: seen, cdm1 - plain": 15, "phones: seen, cdm1 - plain": 8, "keywords: new, cdm1 - plain": 6, "phones: new, cdm1 - plain": 3,
        "keywords: clean, cdm1 - plain + 1": 1, "phones: clean, cdm1 - plain + 1": 0.8,
        "keywords: seen, cdm1 - the middle of plain's seen and clean": 70 - (55 + 95) / 2,
        "phones: seen, cdm1 - the middle of plain's seen and clean": 32 - (24 + 48) / 2,
        "retrieval@1, cdm2 - cdm1": 3, "matched - mismatched cosine, cdm2 - cdm1": 3, "effective rank, cdm2 - 0.95 cdm1": 3,
        "keywords: seen, cdm1-dat - cdm1": 0, "phones: seen, cdm1-dat - cdm1": 0,
        "keywords: roomy, unpaired-dat - unpaired": 3, "phones: roomy, unpaired-dat - unpaired": 3,
        "keywords: roomy, unpaired-dat - without": 5, "phones: roomy, unpaired-dat - without": 4,
    }  # fmt: skip
    assert effects == pytest.approx(expected, abs=0.25)
    assert {each["runs"] for one in document.values() for each in one["contrasts"].values()} == {10}


@pytest.mark.parametrize(
    ("changed", "claim", "verdict"),
    [
        ({"cdm1": ((95, 70, 66), (46.5, 32, 31), (0.5, 0.7, 100))}, "1", "not supported"),  # phones 1.5 lower on clean
        ({"cdm1": ((95, 70, 66), (48, 24.5, 31), (0.5, 0.7, 100))}, "1", "not supported"),  # phones: sure, but below a point
        ({"cdm1": ((95, 50, 55), (48, 20, 25), (0.5, 0.7, 100))}, "1", "contrary"),
        ({"cdm1": ((95, 80, 66), (48, 38, 31), (0.5, 0.7, 100))}, "1h", "supported"),
        ({"cdm1": ((95, 80, 66), (48, 32, 31), (0.5, 0.7, 100))}, "1h", "not supported"),  # keywords alone
        ({"cdm2": ((95, 70, 66), (48, 32, 31), (0.53, 0.73, 90))}, "2", "not supported"),  # more invariant by collapse
        ({"cdm2": ((95, 70, 66), (48, 32, 31), (0.53, 0.69, 100))}, "2", "not supported"),
        ({"cdm1-dat": ((95, 72, 66), (48, 34, 31), (0.5, 0.7, 100))}, "3", "supported"),
        ({"unpaired-dat": ((95, 67, 64), (48, 31.5, 30), (0.5, 0.7, 100))}, "4", "not supported"),  # below unpaired
        ({"without": ((95, 71, 64), (48, 33, 30), (0.5, 0.7, 100))}, "4", "not supported"),  # the recordings give nothing
    ],
)  # fmt: skip
def test_each_part_of_a_claim_decides_it(study, shown, changed, claim, verdict):
    rng = np.random.default_rng(9)
    [(system, truth)] = changed.items()
    cells = [cell for cell in study["cells"].cells("test") if cell.system == system]
    made = {(cell.corpus, cell.seed): made_cell(study, cell, truth=truth, rng=rng) for cell in cells}
    comparison = study["estimates"].Comparison({**shown.cells, system: made}, shown.weights)
    assert study["analysis"].decided(study["analysis"].evidence_of(comparison))[claim][0] == verdict


def test_a_claim_is_as_sure_as_its_least_sure_contrast_after_holm(study):
    analysis, estimate = study["analysis"], study["estimates"].Estimate

    def evidence(*p_values):
        return {
            str(n): analysis.Contrast(estimate(2.0, 1.0, 3.0, p, 1 - p, (1.0, 3.0), 10)) for n, p in enumerate(p_values)
        }

    found = analysis.decided({"sure": evidence(0.001, 0.012), "unsure": evidence(0.001, 0.06), "late": evidence(0.02)})
    assert found == {
        "sure": ("supported", pytest.approx(0.036)),  # three claims: 3 x 0.012
        "late": ("supported", pytest.approx(0.04)),
        "unsure": ("not supported", pytest.approx(0.06)),
    }


def test_the_headline_is_the_share_closed_of_each_task_by_itself(study, shown):
    [table, matched] = study["tables"].all_tables(shown, [])[:2]
    header = dict(zip(table["header"], range(len(table["header"])), strict=True))
    rows = {(row[0], row[1]): row for row in table["rows"]}
    assert len(rows) == 2 * len(TRUTH)
    for task, place in (("keywords", 0), ("phones", 1)):
        clean, seen, new = TRUTH["plain"][place]
        for system in ("cdm1", "unpaired-dat", "cdm1-2"):
            row = rows[task, system]
            for group, plain, own in (("seen", seen, TRUTH[system][place][1]), ("new", new, TRUTH[system][place][2])):
                value, low, high = map(float, re.findall(r"-?\d+", row[header[f"closed, {group}"]]))
                assert value == pytest.approx(100 * (own - plain) / (clean - plain), abs=1.2)
                assert low <= value <= high
                assert high - low < 6
        assert rows[task, "plain"][header["closed, seen"]] == rows[task, "teacher-nano"][header["closed, seen"]] == ""
    assert rows["keywords", "cdm1"][2:5] == ["10", *rows["keywords", "cdm1"][3:5]]
    assert rows["keywords", "cdm1"][-2:] == ["463", "0.66"]  # the median of 411 to 415 and 511 to 515
    again = {(row[0], row[1]): row for row in matched["rows"]}["keywords", "cdm1"]
    assert float(again[header["seen"]].split()[0]) == pytest.approx(75, abs=0.3)


def test_accuracy_is_right_answers_out_of_all_with_each_voice_as_often_as_it_was_drawn(study, shown):
    cell = shown.cells["cdm1"]["main-a", 11]
    task = cell.tasks["phones"].model_copy(update={"totals": tuple(4000 + 100 * n for n in range(VOICES))})
    cell = cell.model_copy(update={"tasks": {"phones": task}})
    weights = np.array([[1.0] * VOICES, [2.0, 0.0] + [1.0] * (VOICES - 2)])
    found = study["estimates"].accuracies(cell, "phones", weights)
    for row, times in enumerate(weights):
        by_hand = {
            name: 100 * sum(n * right for n, right in zip(times, counts, strict=True)) / sum(n * total for n, total in zip(times, task.totals, strict=True))
            for name, counts in task.counts.items()
        }  # fmt: skip
        assert found["clean"][row] == pytest.approx(by_hand["clean"])
        assert found["seen"][row] == pytest.approx(sum(by_hand[name] for name in SEEN) / 4)
        assert found["new"][row] == pytest.approx(sum(by_hand[name] for name in NEW) / 6)


def test_every_table_is_whole_and_the_page_holds_all_of_it(study, shown, results):
    document = json.loads((results / "claims.json").read_text())
    found = study["tables"].all_tables(shown, document)
    assert all(len(row) == len(table["header"]) for table in found for row in table["rows"])
    titles = " ".join(table["title"] for table in found)
    for expected in ("keywords (chance 6.2)", "phones, matched (chance 8.0)", "by layer", "Claims"):
        assert expected in titles
    assert "mean over tasks" not in titles
    layers = found[-1]
    assert len(layers["rows"]) == 2 * len(TRUTH)
    assert dict(zip(layers["header"], layers["rows"][-1], strict=True))["layer"] == "2"
    text = (results / "robustness.md").read_text()
    assert text.count("\n**") == len(found)
    page = (results / "robustness.html").read_text()
    assert page.index("closed, seen") < page.index('class="verdict')
    assert page.count("<svg") == 3
    for word, count in (("supported", 3), ("contrary", 1), ("not-supported", 1)):
        assert page.count(f'class="verdict {word}"') == count
    check_page(results / "robustness.html")
    assert "http" not in page.split("<pre>")[0].replace("http-equiv", "").replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


def test_the_figure_of_the_claims_draws_every_contrast_with_its_margin(study, results, monkeypatch):
    document = json.loads((results / "claims.json").read_text())
    drawn = {}
    monkeypatch.setattr(study["figures"], "intervals", lambda rows, **options: drawn.update(rows=rows, **options))
    study["figures"].claims_figure(document)
    contrasts = [(one, each) for one in document for each in one["contrasts"].values()]
    expected = [(one["claim"], one["verdict"], each["effect"], *each["interval"]) for one, each in contrasts]
    found = [(name.split(":")[0], verdict, *ends) for name, values in drawn["rows"] for verdict, ends in values.items()]
    assert found == expected
    assert drawn["marks"] == {row: each["margin"] for row, (_, each) in enumerate(contrasts)}


def test_intervals_are_drawn_whatever_their_names(study):
    name = "<script>alert(1)</script>"
    rows = [(name, {name: (1.0, 0.5, 2.0)}), ("b", {"b": (0.0, 0.0, 0.0), name: (1.0, 1.0, 1.0)})]
    plot = study["figures"].intervals(rows, unit="%", marks={1: 0.5}, with_zero=True)
    assert "<svg" in plot
    assert "script>" not in plot


def test_the_darkest_system_of_a_condition_is_its_best(study, shown):
    found = study["tables"].condition_table(shown, "keywords")
    for column in range(1, len(found["header"])):
        values = [float(row[column]) for row in found["rows"]]
        darkest = {float(row[column]) for row, styles in zip(found["rows"], found["styles"], strict=True) if "heat) 100%" in styles[column]}  # fmt: skip
        assert max(values) in darkest
        assert max(values) - min(darkest) <= 0.006 * (max(values) - min(values)) + 0.1  # as much as both roundings


def test_a_study_with_a_missing_cell_or_other_claims_decides_nothing(study, results, tmp_path):
    shutil.copytree(results / "cells", tmp_path / "cells")
    path = tmp_path / "cells/plain-main-a-11.json"
    whole = path.read_text()
    path.unlink()
    with pytest.raises(study["analysis"].MissingCellsError, match="plain-main-a-11"):
        study["analysis"].analyse(tmp_path / "cells", tmp_path / "out")
    for old, new, what in (("0" * 64, "1" * 64, "data"), ("digest of main-a", "digest of another", "training corpus")):
        path.write_text(whole.replace(old, new))
        with pytest.raises(study["analysis"].MixedCellsError, match=what):
            study["analysis"].analyse(tmp_path / "cells", tmp_path / "out")
    path.write_text(whole)
    for path in (tmp_path / "cells").glob("*.json"):
        path.write_text(re.sub('"claims_sha256":"[0-9a-f]*"', f'"claims_sha256":"{"0" * 64}"', path.read_text()))
    with pytest.raises(study["analysis"].MixedCellsError, match=r"claims\.md"):
        study["analysis"].analyse(tmp_path / "cells", tmp_path / "out")
    assert not (tmp_path / "out/claims.json").exists()


def test_no_two_cells_have_a_name_and_tuning_shares_no_seed_with_the_final_runs(study):
    final, dev = study["cells"].cells("test"), study["cells"].cells("dev")
    assert len({cell.name for cell in final}) == len(final)
    assert not {cell.seed for cell in final if cell.corpus} & {cell.seed for cell in dev if cell.corpus}
    runs = [cell for cell in final if cell.system == "cdm2"]
    assert len({cell.seed for cell in runs}) == len(runs) == 10
    assert {cell.corpus for cell in runs} == {"main-a", "main-b"}


def test_a_change_of_tuning_has_a_name_that_evaluate_takes_and_two_long_ones_have_two(study):
    from evaluation.config import EvaluationConfig

    marks = [
        "steps-1400",
        "adversary-layers-[1,2]",
        *(f"adversary-objective-reversal-adversary-strength-0-03-adversary-critic_steps-{n}" for n in (2, 3)),
    ]
    names = [study["cells"].changed_name("unpaired-dat", mark) for mark in marks]
    assert names[0] == "unpaired-dat-steps-1400"
    assert len(set(names)) == len(names)
    for name in names:
        asked = {"corpus": "corpus", "models": {"model": {"run": "run", "system": name}}, "measures": ["cosine"]}
        EvaluationConfig.parse(asked, where="tuning")


def check_page(path):
    """A page has the style of its template, and no colour of its own."""
    nothing = {"title": "", "verdicts": [], "figures": [], "tables": [], "claims": ""}
    made, kept = environment(FOLDER).get_template("study.html").render(**nothing), path.read_text()
    style = re.compile(r"<style>.*?</style>", re.DOTALL)
    assert style.findall(kept) == style.findall(made) != []
    drawn = set(re.findall(r"(?:fill|stroke): (?:var\(--)?([#a-z0-9-]+)", kept)) - {"none"}
    assert {"ink", "faint"} <= drawn <= set(COLOURS)


@pytest.mark.slow
def test_the_page_of_the_study_is_as_narrow_as_a_phone(results, tmp_path):
    for page in (results / "robustness.html", RESULTS / "robustness.html"):
        if page.exists():
            check_width(page, width=390, scratch=tmp_path)


def check_cells(study, folder):
    """Finished cells are of the closed list as it is now, under the rules as they are now, and small."""
    listed = {cell.name: cell for cell in study["cells"].cells("test")}
    rules = hashlib.sha256((FOLDER / "claims.md").read_bytes()).hexdigest()
    for path in sorted(folder.glob("*.json")):
        assert path.stat().st_size <= MOST_BYTES, path.name
        cell = study["record"].StudyCell.read(path, needed="a finished cell")
        expected = listed[path.stem].digest("test", study["cells"].FULL)
        assert (cell.name, cell.digest, cell.claims_sha256) == (path.stem, expected, rules)


def check_results(study, folder, scratch):
    """What is claimed is what the cells give under the rules."""
    study["analysis"].analyse(folder / "cells", scratch)
    kept, made = (json.loads((one / "claims.json").read_text()) for one in (folder, scratch))
    contrasts = [[each for one in document for each in one["contrasts"].values()] for document in (kept, made)]
    assert [(one["claim"], one["says"], one["verdict"], list(one["contrasts"])) for one in made] == [
        (one["claim"], one["says"], one["verdict"], list(one["contrasts"])) for one in kept
    ]
    for key in ("effect", "interval"):
        found = [[each[key] for each in side] for side in contrasts]
        np.testing.assert_allclose(found[1], found[0], atol=2e-3)
    tables = [(one / "robustness.md").read_text() for one in (folder, scratch)]
    assert NUMBER.sub("", tables[1]) == NUMBER.sub("", tables[0])
    kept, made = ([float(found) for found in NUMBER.findall(table)] for table in tables)
    np.testing.assert_allclose(made, kept, atol=1.01)  # another kind of CPU may round the last digit otherwise


def test_committed_cells_are_of_the_closed_list_and_of_its_rules(study, results, tmp_path):
    check_cells(study, RESULTS / "cells")  # none until the study is made
    check_cells(study, results / "cells")
    text = (results / "cells/cdm1-main-a-11.json").read_text()
    for name, wrong in (
        ("cdm1-main-a-12", text),
        ("cdm1-main-a-11", re.sub('"digest":"[0-9a-f]*"', f'"digest":"{"0" * 64}"', text, count=1)),
        ("cdm1-main-a-11", re.sub('"claims_sha256":"[0-9a-f]*"', f'"claims_sha256":"{"0" * 64}"', text)),
        ("cdm1-main-a-11", text + " " * MOST_BYTES),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{name}.json").write_text(wrong)
        with pytest.raises(AssertionError):
            check_cells(study, tmp_path / name)


@pytest.mark.slow
def test_the_committed_claims_are_what_the_committed_cells_give_under_the_committed_rules(study, results, tmp_path):
    check_results(study, results, tmp_path / "again")
    claims = (results / "claims.json").read_text()
    for wrong in (claims.replace('"contrary"', '"supported"'), claims.replace('"effect": 1', '"effect": 2', 1)):
        (tmp_path / "claims.json").write_text(wrong)
        for name in ("cells", "robustness.md"):
            (tmp_path / name).unlink(missing_ok=True)
            (tmp_path / name).symlink_to(results / name)
        assert wrong != claims
        with pytest.raises(AssertionError):
            check_results(study, tmp_path, tmp_path / "again")
    pages = [(RESULTS / name).exists() for name in ("claims.json", "robustness.md", "robustness.html")]
    assert len(set(pages)) == 1
    if all(pages):  # else the study is still to be made
        check_results(study, RESULTS, tmp_path / "committed")
        check_page(RESULTS / "robustness.html")


def test_a_digest_changes_with_everything_that_decides_a_cell_and_with_nothing_else(study):
    from dataclasses import replace

    cells = study["cells"]
    cell = next(one for one in cells.cells("test") if one.system == "cdm1-dat")
    first = cell.digest("test", cells.FULL)
    assert first == cell.digest("test", cells.FULL)
    changed = [
        replace(cell, seed=99), replace(cell, corpus="main-b"), replace(cell, system="cdm1-other"),
        replace(cell, change={**cell.change, "adversary": {"strength": 0.3}}),
    ]  # fmt: skip
    found = {one.digest("test", cells.FULL) for one in changed}
    found |= {cell.digest("dev", cells.FULL), cell.digest("test", cells.SMOKE)}
    assert first not in found
    assert len(found) == len(changed) + 2


def test_every_cell_of_the_study_is_a_config_that_the_trainer_takes(study):
    from training.config.load import resolved

    for cell in study["cells"].cells("test"):
        if cell.corpus:
            config = resolved(cell.config(study["cells"].FULL), where=cell.name)
            assert set(config.views.student.conditions or ()) <= set(
                study["materials"].training_recipe(cell.corpus)["conditions"]
            )
            assert bool(config.views.unpaired) == cell.system.startswith("unpaired")
            assert config.targets is None  # a path: it is given where the run is made


def test_every_recipe_is_read_and_dev_has_none_of_tests_new_kinds(study):
    from manifests.recipe.recipe import Recipe

    materials = study["materials"]
    for name in ("main-a", "main-b"):
        Recipe.parse(materials.training_recipe(name), where=name)
    for side in ("dev", "test"):
        Recipe.parse(materials.evaluation_recipe(side), where=side)
    assert not set(materials.NEW_NAMES["dev"]) & set(materials.NEW_NAMES["test"])
    assert materials.training_recipe("main-a")["seed"] != materials.training_recipe("main-b")["seed"]


def test_dev_and_test_say_sentences_that_are_not_in_training(study):
    from stillroom.talkers import SENTENCES

    sentences = study["sentences"]
    assert not (set(sentences.DEV) & set(sentences.TEST)) | (
        (set(sentences.DEV) | set(sentences.TEST)) & set(SENTENCES)
    )


@pytest.fixture
def prepared(tmp_path):
    """A folder as prepare.py leaves it: two voices a split, four words, two dialogue sets of two speakers, noises, music."""
    from stillroom.talkers import KEYWORDS, SENTENCES, speakers, speech_16k

    data = tmp_path / "data"
    for split in ("train", "dev", "test"):
        rows = []
        for voice in speakers(split)[:4]:
            rows += [
                (f"espeak-keywords/{voice.name}_{word}", "espeak-keywords", voice.name, "en", word, word, voice)
                for word in KEYWORDS[:4]
            ]
        for number, voice in enumerate(speakers(split)[:2] * 4):
            for name in ("fillets-cs", "fillets-nl"):
                text = SENTENCES[number] if split == "train" else f"{SENTENCES[number]} {split}"
                rows.append((f"{name}/{number}", name, f"{name}-{'mv'[number % 2]}", name[-2:], text, "", voice))
        folder = data / "speech" / split
        folder.mkdir(parents=True)
        lines = ["path,id,set,speaker,language,text,word"]
        for number, (id_, name, speaker, language, text, word, voice) in enumerate(rows):
            sf.write(folder / f"{number}.flac", speech_16k(text, voice), 16_000, subtype="PCM_16")
            lines.append(f'{number}.flac,{id_},{name},{speaker},{language},"{text}",{word}')
        (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    rng = np.random.default_rng(0)
    for place, names in (
        ("noise/sonicpi", [f"ambi_{n}" for n in range(6)]),
        ("music/opsound", ["one", "two", "three"]),
    ):
        (data / place).mkdir(parents=True)
        for name in names:
            sf.write(data / place / f"{name}.flac", rng.normal(0, 0.1, 48_000), 16_000, subtype="PCM_16")
    (data / "metadata.jsonl").write_text("{}\n")
    return data


def test_data_is_made_once_and_alignments_fit_the_audio(study, prepared, tmp_path):
    first = study["data"].prepare(prepared, tmp_path / "made", voices=2)
    assert study["data"].prepare(prepared, tmp_path / "again", voices=2) == first
    rows = [line.split(",") for line in (tmp_path / "made/phones.csv").read_text().splitlines()[1:]]
    by_id = {}
    for id_, start, end, phone in rows:
        by_id.setdefault(id_, []).append((float(start), float(end), phone))
    assert {id_.split("/")[0] for id_ in by_id} == {f"espeak-phones-{split}" for split in ("train", "dev", "test")}
    for id_, segments in by_id.items():
        split, name = id_.removeprefix("espeak-phones-").split("/")
        [path] = (tmp_path / "made/eval" / split).rglob(f"{name}.flac")
        assert segments[-1][1] <= sf.info(path).duration + 1e-3
    seconds = {}
    for id_, start, end, phone in rows:
        if id_.startswith("espeak-phones-train"):
            seconds[phone] = seconds.get(phone, 0.0) + float(end) - float(start)
    share = study["data"].commonest_phone_share(tmp_path / "made/phones.csv", "train")
    assert share == pytest.approx(max(seconds.values()) / sum(seconds.values()))
    noises = [{path.name for path in (tmp_path / "made/noise" / split).iterdir()} for split in ("train", "dev", "test")]
    assert all(noises)
    assert sum(map(len, noises)) == len(set.union(*noises)) == 6


@pytest.mark.slow
def test_cells_of_the_study_are_made_once_and_resumed(prepared, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"}
    names = ["teacher-nano", "unpaired-dat-main-a-11"]
    command = [
        sys.executable,
        str(FOLDER / "study.py"),
        str(tmp_path / "out"),
        "--smoke",
        "--data",
        str(prepared),
        "--only",
        *names,
    ]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr + first.stdout
    cells = sorted((tmp_path / "out/cells-test-smoke").glob("*.json"))
    assert [path.stem for path in cells] == sorted(names)
    for path in cells:
        [line] = path.read_text().splitlines()
        record = json.loads(line)
        assert list(record["tasks"]) == ["keywords", "phones", "keywords, matched", "phones, matched"]
        assert all(0 < task["chance"] < 1 for task in record["tasks"].values())
        assert all(len(task["totals"]) == len(record["voices"]) == 2 for task in record["tasks"].values())
        assert all(isinstance(total, int) for task in record["tasks"].values() for total in task["totals"])
        assert set(record["label_free"]) == {"cosine", "mismatched", "retrieval", "rank"}
        assert "evaluation" in record["seconds"]
        assert str(tmp_path) not in line
    assert record["student"]["steps"] == 4
    assert record["seconds"]["training"] > 0
    assert len(list((tmp_path / "out/targets/smoke").iterdir())) == 1
    before = [path.stat().st_mtime_ns for path in cells]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "0 to be made" in again.stdout
    assert [path.stat().st_mtime_ns for path in cells] == before
