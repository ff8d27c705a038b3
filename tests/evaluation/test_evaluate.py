"""An evaluation from its config to its results: what is measured, kept, refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import yaml

import evaluation.evaluate as stage
from evaluation.config import EvaluationConfig
from evaluation.labels import MissingLabelError, NobodyLeftError, OneClassError, UnseenLabelError
from evaluation.roster import EmptyConditionError, HeardTestError, OtherRateError, UnknownSplitError
from manifests.errors import MissingFileError, OtherRecipeError
from manifests.scores import Results
from tests.oracles.fake_encoder import ConstantEncoder, FakeEncoder, HidingEncoder
from tests.oracles.tiny_corpus import TinyUtterance, tiny_split, write_corpus
from training.corpus import NoSuchSplitError, NotSealedError

WORD = {"kind": "classify", "label": "word"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    splits = {name: tiny_split(name, count=count) for name, count in (("train", 32), ("dev", 16), ("test", 24))}
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tiny", splits)


@pytest.fixture
def bench(monkeypatch):
    """Models by name, in place of downloads."""
    models = {"fake": FakeEncoder(), "constant": ConstantEncoder("constant"), "hiding": HidingEncoder("hiding")}
    monkeypatch.setattr(stage, "load_teacher", lambda name: models[name])
    return models


def config_of(data, folder, **changes) -> EvaluationConfig:
    path = folder / "evaluation.yaml"
    path.write_text(
        yaml.safe_dump(
            {"corpus": str(data), "models": {"teacher": "fake"}, "tasks": [WORD], **changes}, sort_keys=False
        )
    )
    return EvaluationConfig.read(path)


def values(results, model, measure, **where):
    [cell] = [cell for cell in results.cells if cell.model == model]
    return [
        score.value
        for score in cell.scores
        if score.measure == measure and all(getattr(score, name) == value for name, value in where.items())
    ]


def test_every_measure_of_every_model_is_there(corpus, bench, tmp_path):
    config = config_of(corpus, tmp_path, models={"teacher": "fake", "flat": "constant", "mute": "hiding"})
    results = stage.evaluate(config, tmp_path / "out")
    assert Results.read(tmp_path / "out/results.json", needed="") == results
    assert results.protocol.conditions == ("noise", "phone")
    assert results.protocol.settings["splits"] == {"train": "train", "dev": "dev", "test": "test"}
    for model in ("teacher", "flat", "mute"):
        for condition in ("clean", "noise", "phone"):
            assert len(values(results, model, "accuracy", condition=condition, task="word")) == 2
        assert len(values(results, model, "leakage")) == 3
        assert len(values(results, model, "cosine", condition="noise")) == 3
    # the tones tell the word; a constant cannot, and moves by nothing
    assert min(values(results, "teacher", "accuracy", condition="clean")) > 0.9
    assert values(results, "flat", "accuracy", condition="clean") == [0.25, 0.25]
    assert values(results, "flat", "cosine") == values(results, "flat", "mismatched") == [0.0] * 6
    # clean, two of noise and one of phone: always noise is right every second time
    assert values(results, "mute", "majority", task=None) == [0.5]
    assert values(results, "mute", "leakage") == values(results, "flat", "leakage") == [0.5] * 3
    np.testing.assert_allclose(values(results, "mute", "cosine"), 1.0, atol=1e-6)
    assert "| teacher |" in (tmp_path / "out/report.md").read_text()
    assert str(tmp_path) not in (tmp_path / "out/results.json").read_text()


def test_the_same_evaluation_gives_the_same_scores(corpus, bench, tmp_path):
    config = config_of(corpus, tmp_path)
    first, second = (stage.evaluate(config, tmp_path / name) for name in ("one", "two"))
    assert first.cells[0].scores == second.cells[0].scores


def test_a_finished_folder_is_left_alone(corpus, bench, tmp_path):
    config = config_of(corpus, tmp_path)
    first = stage.evaluate(config, tmp_path / "out")
    calls, before = bench["fake"].calls, (tmp_path / "out/results.json").stat().st_mtime_ns
    lines = []
    assert stage.evaluate(config, tmp_path / "out", say=lines.append) == first
    assert (bench["fake"].calls, (tmp_path / "out/results.json").stat().st_mtime_ns) == (calls, before)
    assert "nothing to do" in lines[0]


def test_models_that_are_finished_are_not_run_again_after_a_stop(corpus, bench, tmp_path):
    class Stopped(FakeEncoder):
        def layers(self, wave, num_samples):
            if self.calls > 60:
                raise KeyboardInterrupt
            return super().layers(wave, num_samples)

    bench["stopped"] = Stopped("stopped")
    config = config_of(corpus, tmp_path, models={"teacher": "fake", "other": "stopped"})
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(config, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/cells").iterdir()] == ["teacher.json"]
    assert not (tmp_path / "out/results.json").exists()
    bench["stopped"] = FakeEncoder("stopped")
    calls = bench["fake"].calls
    results = stage.evaluate(config, tmp_path / "out")
    assert [cell.model for cell in results.cells] == ["teacher", "other"]
    assert bench["fake"].calls == calls


def test_a_model_that_changed_is_measured_again(corpus, bench, tmp_path):
    config = config_of(corpus, tmp_path, models={"teacher": "fake", "other": "hiding"})
    first = stage.evaluate(config, tmp_path / "out")
    bench["hiding"] = FakeEncoder("trained further")
    second = stage.evaluate(config, tmp_path / "out")
    assert first.cells[0] == second.cells[0]
    assert first.cells[1].facts.digest != second.cells[1].facts.digest == bench["hiding"].digest


def test_a_folder_of_other_files_is_refused_and_left_as_it_is(corpus, bench, tmp_path):
    before = sorted(corpus.iterdir())
    with pytest.raises(stage.NotResultsError, match=r"holds corpus.json and no protocol.json"):
        stage.evaluate(config_of(corpus, tmp_path), corpus)
    assert sorted(corpus.iterdir()) == before


def test_the_results_of_another_config_are_refused(corpus, bench, tmp_path):
    stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    with pytest.raises(OtherRecipeError, match="another evaluation config"):
        stage.evaluate(config_of(corpus, tmp_path, seed=1), tmp_path / "out")


def test_a_limit_takes_the_same_utterances_whatever_else_there_is(corpus, bench, tmp_path):
    results = stage.evaluate(config_of(corpus, tmp_path, limit=16), tmp_path / "out")
    assert {score.count for score in results.cells[0].scores if score.measure == "accuracy"} == {16}


def test_without_dev_each_probe_chooses_on_what_it_holds_back(bench, tmp_path):
    splits = {"train": tiny_split("train", count=40), "test": tiny_split("test", count=12)}
    corpus = write_corpus(tmp_path / "tiny", splits)
    results = stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    assert "dev" not in results.protocol.settings["splits"]
    assert min(values(results, "teacher", "accuracy", condition="clean")) > 0.9
    assert "the tenth of train" in (tmp_path / "out/report.md").read_text()


def test_the_domain_probe_learns_on_dev_where_train_has_no_copies(bench, tmp_path):
    splits = {
        "train": tiny_split("train", count=16, members=()),
        "dev": tiny_split("dev", count=16, members=("noise-0",)),
        "test": tiny_split("test", count=12),
    }
    corpus = write_corpus(tmp_path / "tiny", splits)
    results = stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    [cell] = results.cells
    assert any("phone left out, split dev" in note for note in cell.notes)
    assert {score.count for score in cell.scores if score.measure == "leakage"} == {12 * 3}
    del splits["dev"]
    bare = write_corpus(tmp_path / "bare", splits)
    with pytest.raises(EmptyConditionError, match="measure leakage"):
        stage.evaluate(config_of(bare, tmp_path), tmp_path / "none")


def test_a_model_that_has_heard_the_test_is_refused_and_named(corpus, bench, tmp_path):
    heard = [utterance.waves["clean"] for utterance in tiny_split("test", count=24)[3:5]]
    prefixes = frozenset(hashlib.sha256(wave.tobytes()).hexdigest()[:16] for wave in heard)
    bench["fake"] = FakeEncoder(heard=prefixes)
    with pytest.raises(HeardTestError, match=r"'teacher' was trained on 2 of the 24 utterances .*'test/rye/3.wav'"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bench["fake"] = FakeEncoder(heard=frozenset({"0" * 16}))
    stage.evaluate(config_of(corpus, tmp_path, measures=["cosine"], tasks=[]), tmp_path / "out")


def test_a_model_of_another_rate_is_refused(corpus, bench, tmp_path):
    bench["fake"].sample_rate = 8000
    with pytest.raises(OtherRateError, match="8000 Hz, the corpus has 16000 Hz"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"tasks": [{**WORD, "label": "mood"}]}, MissingLabelError, "it has speaker, language, name, take, word"),
        ({"tasks": [{**WORD, "label": "name"}]}, UnseenLabelError, "do not stand in split 'train'"),
        ({"tasks": [{**WORD, "within": "word", "label": "language", "where": {"language": "en"}}]}, OneClassError, "within"),
        ({"tasks": [{**WORD, "where": {"word": ["ale"]}}]}, OneClassError, "all training utterances have one label, such as 'ale'"),
        ({"tasks": [{**WORD, "where": {"word": ["mead"]}}]}, NobodyLeftError, "no utterance of split 'train'"),
        ({"tasks": [{**WORD, "where": {"mood": ["gay"]}}]}, MissingLabelError, "'mood'"),
        ({"splits": {"test": "exam"}}, UnknownSplitError, "splits.test: corpus tiny has no split 'exam', only train"),
        ({"splits": {"dev": "exam"}}, UnknownSplitError, "splits.dev"),
        ({"corpus": "/nowhere"}, NotSealedError, "corpus.json"),
        ({"models": {"gone": {"run": "gone"}}}, MissingFileError, "training run"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line_before_anything_runs(corpus, bench, tmp_path, changes, error, told):
    with pytest.raises(error) as caught:
        stage.evaluate(config_of(corpus, tmp_path, **changes), tmp_path / "out")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert bench["fake"].calls == 0
    assert not (tmp_path / "out").exists()


def test_an_empty_condition_and_an_empty_split_are_told(bench, tmp_path):
    test = [dataclasses.replace(one, waves={"clean": one.waves["clean"]}) for one in tiny_split("test", count=8)]
    splits = {"train": tiny_split("train", count=16), "test": test}
    corpus = write_corpus(tmp_path / "bare", splits)
    with pytest.raises(EmptyConditionError, match="there is no distorted copy in split 'test'"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    results = stage.evaluate(config_of(corpus, tmp_path, measures=[]), tmp_path / "out")
    assert [score.condition for score in results.cells[0].scores if score.measure == "accuracy"] == ["clean", "clean"]
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["copies"]["test"] = {"fog": 1}
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    with pytest.raises(EmptyConditionError, match="condition 'fog' has no utterance in split 'test'"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    empty = write_corpus(tmp_path / "empty", {**splits, "test": []})
    with pytest.raises(NoSuchSplitError):
        stage.evaluate(config_of(empty, tmp_path), tmp_path / "out")


def test_a_condition_without_a_labelled_utterance_is_told(bench, tmp_path):
    test = tiny_split("test", count=8)
    extra = tiny_split("more", count=4, members=("music-0",))
    for utterance in extra:
        utterance.custom["word"] = ""
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=16), "test": test + extra})
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["copies"]["test"]["music"] = 1
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    with pytest.raises(EmptyConditionError, match="task 'word': condition 'music' has no utterance"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")


def test_nothing_is_heard_that_is_not_needed(corpus, bench, tmp_path):
    def heard(**changes):
        bench["fake"].calls = 0
        stage.evaluate(config_of(corpus, tmp_path, **changes), tmp_path / str(len(list(tmp_path.iterdir()))))
        return bench["fake"].calls

    train, dev, test, whole = 32, 16, 24, 4
    assert heard(measures=["cosine"], tasks=[]) == train + test * whole
    assert heard(measures=["leakage"], tasks=[]) == (train + test) * whole
    assert heard(measures=[]) == train + dev + test * whole
    assert heard(measures=[], tasks=[{**WORD, "where": {"word": ["gin", "rum"]}}]) == (train + dev + test * whole) / 2


def test_utterances_without_a_label_or_too_short_are_left_out_and_said(bench, tmp_path):
    test = tiny_split("test", count=12)
    test[0].custom["word"] = ""
    short = {name: wave[:300] for name, wave in test[1].waves.items()}
    test[1] = TinyUtterance("short", short, custom={"word": "gin"})
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=32), "test": test})
    [cell] = stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out").cells
    assert {score.count for score in cell.scores if score.measure == "accuracy"} == {10}
    assert any("1 of 12 test utterances are left out" in note for note in cell.notes)
    assert any("1 utterances shorter than one frame" in note for note in cell.notes)


def test_a_group_with_one_label_is_left_out_and_said(bench, tmp_path):
    splits = {name: tiny_split(name, count=32) for name in ("train", "test")}
    for utterances in splits.values():
        for utterance in utterances:
            utterance.custom["set"] = "solo" if utterance.custom["word"] == "ale" else "duo"
    corpus = write_corpus(tmp_path / "tiny", splits)
    config = config_of(corpus, tmp_path, tasks=[{**WORD, "within": "set"}], measures=["cosine"])
    [cell] = stage.evaluate(config, tmp_path / "out").cells
    assert any("'solo' is left out" in note for note in cell.notes)
    assert {score.count for score in cell.scores if score.measure == "accuracy"} == {24}
