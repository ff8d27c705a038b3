"""The statistics of the robustness study on synthetic cells whose truth is known, and the study itself, tiny."""

import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.oracles.browser import check_width

HOUSE = Path(__file__).resolve().parents[2]
FOLDER = HOUSE / "benchmarks/robustness"
MODULES = ("sentences", "materials", "cells", "record", "estimates", "data", "tables", "figures", "analysis")
VOICES = 18
NUMBER = re.compile(r"(?<![\w-])\d+(?:\.\d+)?(?:e-\d+)?")


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


def contrast_table(dice, *, replicates, effect, seed_spread, unit_spread, resamples=400):
    """Values as `estimate` takes them: a contrast with chance over replicates and over units, both known."""
    per_unit = effect + dice.normal(0, unit_spread, VOICES)
    weights = np.vstack([np.ones(VOICES), dice.multinomial(VOICES, np.full(VOICES, 1 / VOICES), resamples)]) / VOICES
    return dice.normal(0, seed_spread, replicates)[:, None] + (weights @ per_unit)[None, :]


@pytest.mark.parametrize("replicates", [3, 10])
def test_where_there_is_no_effect_one_in_twenty_is_found_at_most_and_the_interval_covers(study, replicates):
    dice, estimate = np.random.default_rng(replicates), study["estimates"].estimate
    found = [
        estimate(
            contrast_table(dice, replicates=replicates, effect=0, seed_spread=1, unit_spread=2), fewest_units=VOICES
        )
        for _ in range(400)
    ]
    false_alarms = np.mean([one.p <= 0.05 for one in found])
    assert 0.005 < false_alarms < 0.085  # 0.05 + 3 standard errors; above 0: it is a test and no constant
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.92


def test_with_three_replicates_the_plain_percentile_interval_is_too_short(study):
    dice, estimate = np.random.default_rng(0), study["estimates"].estimate
    found = [
        estimate(contrast_table(dice, replicates=3, effect=0, seed_spread=2, unit_spread=0.1), fewest_units=VOICES)
        for _ in range(300)
    ]
    assert np.mean([one.percentile[0] <= 0 <= one.percentile[1] for one in found]) < 0.88
    assert np.mean([one.low <= 0 <= one.high for one in found]) > 0.92


def test_an_effect_that_is_there_is_found_with_its_sign(study):
    dice, estimate = np.random.default_rng(1), study["estimates"].estimate
    for effect in (5.0, -5.0):
        found = estimate(
            contrast_table(dice, replicates=10, effect=effect, seed_spread=1, unit_spread=2), fewest_units=VOICES
        )
        assert abs(found.value - effect) < 2
        assert (found.p < 0.001) == (effect > 0)
        assert (found.p_contrary < 0.001) == (effect < 0)


def test_holm_is_what_a_slow_reading_of_the_rule_gives(study):
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert study["estimates"].holm(p) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


ACCURACY = {  # clean, seen, new: what a made-up system gets right, in shares
    "teacher-nano": (0.9, 0.75, 0.7), "plain": (0.9, 0.65, 0.6), "cdm1": (0.9, 0.75, 0.66), "cdm2": (0.9, 0.77, 0.68),
    "cdm1-dat": (0.9, 0.79, 0.7), "cdm2-dat": (0.9, 0.81, 0.72), "copies-01": (0.9, 0.6, 0.5), "copies-02": (0.9, 0.7, 0.6),
}  # fmt: skip


CHANCE = {"word": 0.0625, "speaker": 0.5}


def made_cell(study, cell, *, accuracy, dice, invariance=0.5, more=None):
    """A finished cell of a system whose accuracies are given; `more` adds to single conditions."""
    materials = study["materials"]
    tasks = {}
    drift = dice.normal(0, 0.0005)
    for task, units in (("word", [f"v{n}" for n in range(VOICES)]), ("speaker", [f"utterance {n}" for n in range(60)])):
        totals, counts = {}, {}
        for condition in ("clean", *materials.SEEN_NAMES, *materials.NEW_NAMES["test"]):
            place = 0 if condition == "clean" else 1 if condition in materials.SEEN_NAMES else 2
            share = accuracy[place] + drift + (more or {}).get(condition, 0.0)
            totals[condition] = [4000.0] * len(units)
            counts[condition] = [float(dice.binomial(4000, share)) for _ in units]
        tasks[task] = {"units": units, "counts": counts, "totals": totals, "chance": CHANCE[task]}
    value = invariance + dice.normal(0, 0.002)
    free = {
        "retrieval": {"clean": [1, 1], "noise": [0, value]},
        "cosine": {"noise": [0, value]},
        "mismatched": {"noise": [0, 0.1]},
    }
    digest = hashlib.sha256(cell.name.encode()).hexdigest()
    return study["record"].StudyCell.model_validate(
        {
            "schema": "stillroom/study-cell/1",
            "name": cell.name, "system": cell.system, "claim": cell.claim, "side": "test", "seed": cell.seed, "corpus": cell.corpus,
            "digest": digest, "decided": {}, "claims_sha256": hashlib.sha256((FOLDER / "claims.md").read_bytes()).hexdigest(),
            "data_sha256": "0" * 64, "student": {"audio_s": 10.0}, "seconds": {"training": 1.0}, "tasks": tasks, "label_free": free,
        }
    )  # fmt: skip


def made_study(study, folder, *, accuracy, invariance, more=None):
    folder.mkdir()
    dice = np.random.default_rng(5)
    for cell in study["cells"].cells("test"):
        made = made_cell(
            study, cell, accuracy=accuracy.get(cell.system, (0.9, 0.75, 0.66)), dice=dice,
            invariance=invariance.get(cell.system, 0.5), more=(more or {}).get(cell.system),
        )  # fmt: skip
        made.write(folder / f"{cell.name}.json")


def test_a_made_up_study_gets_the_verdicts_that_were_put_into_it(study, tmp_path):
    made_study(study, tmp_path / "cells", accuracy=ACCURACY, invariance={"cdm2": 0.4})
    document = study["analysis"].analyse(tmp_path / "cells", tmp_path / "out")
    decided = {one["claim"]: one["verdict"] for one in document}
    assert decided == {
        "a": "supported",
        "b": "supported",
        "c": "contrary",
        "d": "supported",
        "e": "supported",
        "f": "not supported",
    }
    assert json.loads((tmp_path / "out/claims.json").read_text()) == document
    by_claim = {one["claim"]: one for one in document}
    assert by_claim["a"]["effect"] == pytest.approx(10, abs=1)
    assert by_claim["e"]["answer"] == 4
    assert by_claim["a"]["seeds"] == 10
    assert by_claim["f"]["seeds"] == 3
    page = (tmp_path / "out/robustness.html").read_text()
    assert page.count("<svg") == 4
    assert page.count('class="verdict supported"') == 4
    assert page.count('class="verdict contrary"') == 1
    assert page.count('class="verdict not-supported"') == 1
    assert "http" not in page.split("<pre>")[0].replace("http-equiv", "").replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")


@pytest.fixture(scope="module")
def shown(study, tmp_path_factory):
    """A made-up study, compared: four families gain on `band` and `lowrate` alone, CDM 2 in the other corpus too little to see."""
    folder = tmp_path_factory.mktemp("made") / "cells"
    made_study(study, folder, accuracy=ACCURACY, invariance={}, more={"families-4": {"band": 0.2, "lowrate": 0.2}, "cdm1": {"music": 0.1}})  # fmt: skip
    return study["analysis"].compared(study["analysis"].read_cells(folder))


def test_loss_above_chance_is_a_share_of_what_clean_has_above_chance(study, shown):
    found = next(iter(shown.cells["plain"].values()))
    by_hand = 100 * np.mean([(0.9 - 0.65) / (0.9 - chance) for chance in CHANCE.values()])
    assert study["estimates"].relative_loss(found, shown.draws, "seen")[0] == pytest.approx(by_hand, abs=0.7)


def test_what_is_gained_on_channels_alone_is_told_from_what_is_gained_on_new_kinds(study, shown):
    found = {(claim, name): one for claim, name, one in study["tables"].secondary(shown)}
    without = found["f", "accuracy on new without band and lowrate, 4 - 1"]
    assert without.low < 0 < without.high
    assert abs(without.value) < 0.5
    assert found["f", "accuracy on new kinds, 4 - 1 families"].value == pytest.approx(10, abs=0.5)  # two of four
    assert found["f", "accuracy on shifted, 4 - 1 families"].value == pytest.approx(0, abs=0.5)
    gain = found["b", "shifted, CDM - plain"]  # (6 + 8) / 2, and 10 on one of two conditions for one of two systems
    assert gain.value == pytest.approx(9.5, abs=0.5)
    assert found["a", "loss, plain-4-layers - nano"].replicates == 10


def test_each_corpus_by_itself_has_the_runs_of_that_corpus(study, shown):
    within = shown.within("main-b")
    assert {key[0] for key in within.cells["cdm2"]} == {"main-b"}
    assert set(within.cells["teacher-nano"]) == set(shown.cells["teacher-nano"])
    assert "copies-01" not in within.cells
    rows = study["tables"].corpus_table(shown)["rows"]
    assert {row[-1] for row in rows} == {"5"}


def test_every_table_that_the_claims_promise_is_there_and_whole(study, shown):
    document = study["analysis"].claims_document(study["analysis"].evidence_of(shown))
    found = study["tables"].all_tables(shown, document)
    titles = " ".join(table["title"] for table in found)
    for due in (
        "Claims",
        "above chance",
        "Each corpus by itself",
        "Secondary",
        "word (chance 6.2)",
        "speaker (chance 50.0)",
        "mean over tasks",
    ):
        assert due in titles
    assert all(len(row) == len(table["header"]) for table in found for row in table["rows"])
    systems = len(shown.cells)
    assert [len(table["rows"]) for table in found if table["header"][0] == "system"] == [systems] * 6
    assert {"shifted", "new kind"} < set(found[1]["header"])
    text = study["tables"].markdown(found)
    assert text.count("\n**") == len(found)


def test_the_figure_of_the_claims_draws_every_contrast_and_the_margin_beside_the_first(study, shown, monkeypatch):
    document = study["analysis"].claims_document(study["analysis"].evidence_of(shown))
    drawn = {}
    monkeypatch.setattr(study["figures"], "intervals", lambda rows, **options: drawn.update(rows=rows, **options))
    study["figures"].claims_figure(document)
    expected = [
        (one["claim"], one["verdict"], each["effect"], *each["interval"])
        for one in document
        for each in one["contrasts"].values()
    ]
    found = [(name[0], verdict, *ends) for name, values in drawn["rows"] for verdict, ends in values.items()]
    assert found == expected
    firsts = [row for row, (name, _) in enumerate(drawn["rows"]) if row == 0 or name[0] != drawn["rows"][row - 1][0][0]]
    assert drawn["marks"] == dict(zip(firsts, [1.0, 1.0, 1.0, 0.5, 0.0, 1.0], strict=True))


def test_intervals_are_drawn_whatever_their_names(study):
    name = "<script>alert(1)</script>"
    rows = [(name, {name: (1.0, 0.5, 2.0)}), ("b", {"b": (0.0, 0.0, 0.0), name: (1.0, 1.0, 1.0)})]
    plot = study["figures"].intervals(rows, unit="%", marks={1: 0.5}, with_zero=True)
    assert "<svg" in plot
    assert "script>" not in plot


def test_the_darkest_system_of_a_condition_is_its_best(study, shown):
    found = study["tables"].condition_tables(shown)[0]
    for column in range(1, len(found["header"])):
        values = [float(row[column]) for row in found["rows"]]
        darkest = {row[column] for row, styles in zip(found["rows"], found["styles"], strict=True) if "heat) 100%" in styles[column]}  # fmt: skip
        assert darkest == {f"{max(values):.1f}"}


def test_a_study_with_a_missing_cell_or_other_claims_decides_nothing(study, tmp_path):
    made_study(study, tmp_path / "cells", accuracy=ACCURACY, invariance={})
    path = tmp_path / "cells/plain-main-a-11.json"
    whole = path.read_text()
    path.unlink()
    with pytest.raises(study["analysis"].MissingCellsError, match="plain-main-a-11"):
        study["analysis"].analyse(tmp_path / "cells", tmp_path / "out")
    path.write_text(whole.replace("0" * 64, "1" * 64))
    with pytest.raises(study["analysis"].MixedCellsError, match="data"):
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
    names = [study["cells"].changed_name("robust-cdm1-dat", mark) for mark in marks]
    assert names[0] == "robust-cdm1-dat-steps-1400"
    assert len(set(names)) == len(names)
    for name in names:
        asked = {"corpus": "corpus", "models": {"model": {"run": "run", "system": name}}, "measures": ["cosine"]}
        EvaluationConfig.parse(asked, where="tuning")


@pytest.mark.slow
def test_the_page_of_the_study_is_as_narrow_as_a_phone(tmp_path):
    check_width(HOUSE / "docs/results/robustness.html", width=390, scratch=tmp_path)


@pytest.mark.slow
def test_the_committed_claims_are_what_the_committed_cells_give_under_the_committed_rules(study, tmp_path):
    results = HOUSE / "docs/results"
    study["analysis"].analyse(results / "cells", tmp_path)
    kept, made = (json.loads((folder / "claims.json").read_text()) for folder in (results, tmp_path))
    assert [(one["claim"], one["verdict"], one["seeds"]) for one in made] == [
        (one["claim"], one["verdict"], one["seeds"]) for one in kept
    ]
    np.testing.assert_allclose([one["effect"] for one in made], [one["effect"] for one in kept], atol=2e-3)
    np.testing.assert_allclose([one["interval"] for one in made], [one["interval"] for one in kept], atol=2e-3)
    tables = [(folder / "robustness.md").read_text() for folder in (results, tmp_path)]
    assert NUMBER.sub("", tables[1]) == NUMBER.sub("", tables[0])
    kept, made = ([float(found) for found in NUMBER.findall(table)] for table in tables)
    np.testing.assert_allclose(made, kept, atol=0.11)  # another kind of CPU may round the last decimal otherwise
    rules = hashlib.sha256((FOLDER / "claims.md").read_bytes()).hexdigest()
    assert {json.loads(path.read_text())["claims_sha256"] for path in (results / "cells").glob("*.json")} == {rules}


def test_a_digest_changes_with_everything_that_decides_a_cell_and_with_nothing_else(study):
    from dataclasses import replace

    cells = study["cells"]
    cell = next(one for one in cells.cells("test") if one.system == "cdm2-dat")
    first = cell.digest("test", cells.FULL)
    assert first == cell.digest("test", cells.FULL)
    changed = [
        replace(cell, seed=99), replace(cell, corpus="main-b"), replace(cell, limit=10), replace(cell, teacher="nano-robust"),
        replace(cell, change={**cell.change, "adversary": {"strength": 0.1}}),
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
            known = study["materials"].training_recipe(cell.corpus)["conditions"]
            assert set(config.views.student.conditions or ()) <= set(known)


def test_every_recipe_is_read_and_dev_has_none_of_tests_new_kinds(study):
    from manifests.recipe.recipe import Recipe

    materials = study["materials"]
    for name in ("main-a", "main-b", "copies", "families"):
        Recipe.parse(materials.training_recipe(name), where=name)
    for side in ("dev", "test"):
        Recipe.parse(materials.evaluation_recipe(side), where=side)
    assert not set(materials.NEW_NAMES["dev"]) & set(materials.NEW_NAMES["test"])
    assert materials.training_recipe("main-a")["seed"] != materials.training_recipe("main-b")["seed"]


def test_dev_and_test_say_sentences_that_training_never_heard(study):
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
    dice = np.random.default_rng(0)
    for place, names in (
        ("noise/sonicpi", [f"ambi_{n}" for n in range(6)]),
        ("music/opsound", ["one", "two", "three"]),
    ):
        (data / place).mkdir(parents=True)
        for name in names:
            sf.write(data / place / f"{name}.flac", dice.normal(0, 0.1, 48_000), 16_000, subtype="PCM_16")
    (data / "metadata.jsonl").write_text("{}\n")
    return data


def test_data_is_made_once_and_alignments_fit_the_audio(study, prepared, tmp_path):
    sizes = study["data"].Sizes({"train": 4, "dev": 2, "test": 2}, voices=2)
    first = study["data"].prepare(prepared, tmp_path / "made", sizes)
    assert study["data"].prepare(prepared, tmp_path / "again", sizes) == first
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


def test_the_robust_teacher_is_the_one_that_the_cells_say(study):
    cells = study["cells"]
    card = json.loads((cells.ROBUST_TEACHER / "card.json").read_text())
    assert card["settings"] == {name: value for name, value in cells.ROBUST.items() if name != "corpus"}
    weights = hashlib.sha256((cells.ROBUST_TEACHER / "weights.safetensors").read_bytes()).hexdigest()
    robust = [cell for cell in cells.cells("test") if cell.teacher == "nano-robust"]
    assert len(robust) == 1 + 4 * 10
    assert {cell.decided("test", cells.FULL)["teacher"]["weights"] for cell in robust} == {weights}


@pytest.mark.slow
def test_cells_of_the_study_are_made_once_and_resumed(prepared, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "OMP_NUM_THREADS": "1"}
    names = ["teacher-nano-robust", "cdm2-dat-main-a-11"]
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
    record = json.loads(cells[0].read_text())
    assert record["student"]["steps"] == 4
    assert {task.split()[0] for task in record["tasks"]} == {"word", "speaker", "frames"}
    assert all(0 < task["chance"] < 1 for task in record["tasks"].values())
    [card] = (tmp_path / "out/teachers").glob("*/card.json")
    trained = json.loads(card.read_text())["trained"]
    assert {kind.split()[0] for kind in trained["kinds"]} == {"noise", "room", "codec"}
    before = [path.stat().st_mtime_ns for path in cells]
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "0 to be made" in again.stdout
    assert [path.stat().st_mtime_ns for path in cells] == before
