"""An evaluation from its config to its results: what is measured, kept, refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation import evaluate_models as stage
from evaluation.cli import report_command
from evaluation.config import EvaluationConfig, RunSource
from evaluation.data.abx_tokens import NoTriplesError
from evaluation.data.alignments import FrameClock
from evaluation.data.labels import MissingLabelError, NobodyLeftError, OneClassError, UnseenLabelError
from evaluation.data.utterances import (
    EmptyConditionError,
    OtherRateError,
    TooShortError,
    TrainedOnTestError,
    UnknownSplitError,
)
from evaluation.exposure.training_set import corpus_exposure
from evaluation.measures.teacher_agreement import OtherFrameRateError, check_frames
from evaluation.models import load_model, origin_of
from evaluation.report.bootstrap import Copies, task_outcomes
from evaluation.report.make_report import report
from evaluation.report.markdown import DamagedResultsError
from evaluation.report.robustness_table import UnknownSystemError
from manifests.errors import MissingFileError, NewerSchemaError, OtherRecipeError
from manifests.results.scores import ModelFacts, ModelScores, Results
from manifests.results.training_exposure import TrainedOn
from tests.oracles.fake_encoder import ConstantEncoder, FakeEncoder, HidingEncoder
from tests.oracles.tiny_corpus import TinyUtterance, tiny_split, write_corpus
from tests.training.conftest import encoder_config
from training.data.corpus import NoSuchSplitError, NotSealedError
from training.models.encoder import EncoderConfig
from training.runs.checkpoint import module_tensors, write_checkpoint

WORD = {"kind": "classify", "label": "word"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    splits = {name: tiny_split(name, count=count) for name, count in (("train", 32), ("dev", 16), ("test", 24))}
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tiny", splits)


@pytest.fixture
def bench(monkeypatch):
    """Models by name, in place of downloads."""
    models = {"fake": FakeEncoder(), "constant": ConstantEncoder("constant"), "hiding": HidingEncoder("hiding")}
    monkeypatch.setattr("evaluation.models.load_teacher", lambda name: models[name])
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


def test_the_last_layer_by_its_number_has_the_scores_of_the_last_and_another_layer_its_own(corpus, bench, tmp_path):
    tasks = [WORD, *({**WORD, "features": {"layer": layer}} for layer in (3, 1))]
    results = stage.evaluate(config_of(corpus, tmp_path, tasks=tasks, measures=[]), tmp_path / "out")
    last, third, first = (
        [values(results, "teacher", "accuracy", task=name, condition=one) for one in ("clean", "noise", "phone")]
        for name in ("word", "word (layer 3)", "word (layer 1)")
    )
    assert last == third != first
    assert set(results.cells[0].chosen_is.values()) == {"C"}
    assert results.protocol.settings["tasks"][1]["features"] == {"layer": 3}


def test_the_same_evaluation_gives_the_same_scores(corpus, bench, tmp_path):
    config = config_of(corpus, tmp_path)
    first, second = (stage.evaluate(config, tmp_path / name) for name in ("one", "two"))
    assert first.cells[0].scores == second.cells[0].scores


def test_what_a_limit_left_out_is_not_said_to_be_missing(bench, tmp_path):
    splits = {name: tiny_split(name, count=16) for name in ("train", "test")}
    corpus = write_corpus(tmp_path / "tiny", splits)
    for limit, error in ((3, UnseenLabelError), (1, OneClassError)):
        with pytest.raises(error, match=f"limit: {limit} takes {limit} utterances at most"):
            stage.evaluate(config_of(corpus, tmp_path, limit=limit, measures=[]), tmp_path / "out")


def test_a_report_that_was_removed_is_written_again(corpus, bench, tmp_path):
    stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    before = (tmp_path / "out/report.md").read_bytes()
    (tmp_path / "out/report.md").unlink()
    stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    assert (tmp_path / "out/report.md").read_bytes() == before


def test_a_finished_folder_is_left_alone(corpus, bench, tmp_path):
    config = config_of(corpus, tmp_path)
    first = stage.evaluate(config, tmp_path / "out")
    calls, before = bench["fake"].calls, (tmp_path / "out/results.json").stat().st_mtime_ns
    lines = []
    assert stage.evaluate(config, tmp_path / "out", log=lines.append) == first
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
    assert bench["hiding"].calls > 0, "its scores are not those of the model that had this name"
    assert first.cells[1].scores != second.cells[1].scores


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
    [count] = {score.count for score in cell.scores if score.measure == "leakage"}
    assert 0 < count < 12 * 3  # speakers of both splits are dealt to one side
    del splits["dev"]
    bare = write_corpus(tmp_path / "bare", splits)
    with pytest.raises(EmptyConditionError, match="measure leakage"):
        stage.evaluate(config_of(bare, tmp_path), tmp_path / "none")


def test_a_model_that_has_heard_the_test_is_refused_and_named(corpus, bench, tmp_path):
    heard = [utterance.waves["clean"] for utterance in tiny_split("test", count=24)[3:5]]
    prefixes = frozenset(hashlib.sha256(wave.tobytes()).hexdigest()[:16] for wave in heard)
    bench["fake"] = FakeEncoder(trained_on=prefixes)
    with pytest.raises(TrainedOnTestError, match=r"'teacher' was trained on 2 of the 24 utterances .*'test/rye/3.wav'"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bench["fake"] = FakeEncoder(trained_on=frozenset({"0" * 16}))
    stage.evaluate(config_of(corpus, tmp_path, measures=["cosine"], tasks=[]), tmp_path / "out")


def test_a_model_of_another_rate_is_refused(corpus, bench, tmp_path):
    bench["fake"].sample_rate = 8000
    with pytest.raises(OtherRateError, match="8000 Hz, the corpus has 16000 Hz"):
        stage.evaluate(config_of(corpus, tmp_path), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"tasks": [{**WORD, "label": "mood"}]}, MissingLabelError, "it has speaker, language, name, take, word"),
        ({"tasks": [{**WORD, "label": "name"}]}, UnseenLabelError, "are not in split 'train'"),
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
    with pytest.raises(
        EmptyConditionError,
        match=r"^measures cosine, cka, agreement, leakage: there is no distorted copy in split 'test'",
    ):
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
        config = config_of(corpus, tmp_path, efficiency=False, **changes)
        stage.evaluate(config, tmp_path / str(len(list(tmp_path.iterdir()))))
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


def small(data, folder, **changes):
    return config_of(data, folder, **{"efficiency": False, "measures": ["cosine"], **changes})


@pytest.mark.parametrize("content", ['{"schema": "stillroom/cell/2", "model"', "[]", '{"schema": "stillroom/cell/2"}'])
def test_a_torn_cell_is_measured_again_and_said(corpus, bench, tmp_path, content):
    first = stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    (tmp_path / "out/cells/teacher.json").write_text(content)
    lines = []
    again = stage.evaluate(small(corpus, tmp_path), tmp_path / "out", log=lines.append)
    assert again.cells[0].scores == first.cells[0].scores
    assert any("teacher.json" in line and "measured again" in line and "\n" not in line for line in lines)


def test_torn_results_are_written_anew_from_the_cells(corpus, bench, tmp_path):
    first = stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    (tmp_path / "out/results.json").write_text("{")
    calls, lines = bench["fake"].calls, []
    again = stage.evaluate(small(corpus, tmp_path), tmp_path / "out", log=lines.append)
    assert (again.cells, bench["fake"].calls) == (first.cells, calls)
    assert any("written again" in line for line in lines)


def test_a_torn_protocol_is_told_with_what_to_do(corpus, bench, tmp_path):
    stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    (tmp_path / "out/protocol.json").write_text("{")
    with pytest.raises(DamagedResultsError, match=r"protocol.json.*remove it and run `stillroom evaluate` again"):
        stage.evaluate(small(corpus, tmp_path), tmp_path / "out")


def test_logmel_is_the_floor(corpus, bench, tmp_path):
    results = stage.evaluate(small(corpus, tmp_path, models={"floor": "logmel"}, efficiency=True), tmp_path / "out")
    [cell] = results.cells
    assert (cell.facts.kind, cell.facts.parameters, cell.facts.layers) == ("floor", 0, 1)
    assert min(values(results, "floor", "accuracy", condition="clean")) > 0.9
    assert cell.efficiency is not None
    assert cell.efficiency.macs_per_s > 0
    assert set(cell.seen) == {"c", "n"}  # nobody trained it, so every distortion is new
    assert TrainedOn.read(tmp_path / "out/trained/floor.json", needed="") == TrainedOn.clean()


def test_collapse_wins_no_measure_of_frames(corpus, bench, tmp_path):
    config = small(corpus, tmp_path, models={"flat": "constant", "good": "fake"}, measures=["cosine", "cka"])
    results = stage.evaluate(config, tmp_path / "out")
    for measure in ("cosine", "mismatched", "cka", "retrieval", "rank"):
        assert set(values(results, "flat", measure)) == {0.0}, measure
        assert max(map(abs, values(results, "good", measure))) > 0.01
    assert max(values(results, "flat", "variance")) < 1e-9
    text = (tmp_path / "out/report.md").read_text()
    assert all(title in text for title in ("Linear CKA", "Retrieval@1", "Effective rank", "energy that varies"))


def test_agreement_is_with_the_teacher_that_a_student_names(corpus, bench, tmp_path):
    student = FakeEncoder("student")
    student.facts = {"teacher_sha256": bench["fake"].digest}
    bench["student"], bench["other"] = student, FakeEncoder("nobody's")
    models = {"other": "other", "student": "student", "teacher": "fake"}
    results = stage.evaluate(small(corpus, tmp_path, models=models, measures=["agreement"]), tmp_path / "out")
    assert values(results, "other", "agreement") == values(results, "teacher", "agreement") == []
    found = values(results, "student", "agreement", condition="clean")
    assert len(found) == 3
    assert all(0.2 < value < 1.0 for value in found)
    assert max(values(results, "student", "agreement", condition="noise")) < max(found)
    bench["student"] = FakeEncoder("fake")  # the teacher's very features
    bench["student"].facts = student.facts
    bench["student"].digest = "f" * 64
    again = stage.evaluate(small(corpus, tmp_path, models=models, measures=["agreement"]), tmp_path / "again")
    assert values(again, "student", "agreement", condition="clean", layer=3) == [pytest.approx(1.0, abs=1e-6)]


@pytest.fixture(scope="module")
def aligned_corpus(tmp_path_factory):
    """Two phones in each utterance, each 150 ms."""
    splits = {name: tiny_split(name, count=count) for name, count in (("train", 4), ("test", 8))}
    for number, utterance in enumerate(splits["test"]):
        utterance.custom["phones"] = [[0.0, 0.15, "ab"[number % 2]], [0.15, 0.3, "c"]]
        utterance.speaker = f"voice {number // 4}"
    return write_corpus(tmp_path_factory.mktemp("aligned") / "tiny", splits)


def test_phones_and_units_are_measured_on_the_layers_that_are_named(aligned_corpus, bench, tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.measures.units.NUM_UNITS", 8)
    named = {"measures": ["abx", "units"], "tasks": [], "models": {"teacher": "fake", "flat": "constant"}}
    results = stage.evaluate(small(aligned_corpus, tmp_path, layers=[3, 1], **named), tmp_path / "out")
    names = {
        "abx_within": 3, "abx_across": 3, "unit_edits": 2, "unit_perplexity": 3, "pnmi": 3, "phone_purity": 3
    }  # conditions of each: clean, noise, phone  # fmt: skip
    for cell in results.cells:
        places = {(score.measure, score.layer, score.condition) for score in cell.scores}
        assert {(name, layer) for name, layer, _ in places} == {(name, layer) for name in names for layer in (1, 3)}
        assert len(places) == len(cell.scores) == 2 * sum(names.values())
    flat = values(results, "flat", "abx_within") + values(results, "flat", "abx_across")
    assert flat == pytest.approx([0.5] * 12)
    assert set(values(results, "flat", "unit_edits")) == {0.0}
    assert max(values(results, "teacher", "unit_perplexity")) > 4 > max(values(results, "flat", "unit_perplexity"))
    assert min(values(results, "teacher", "unit_edits")) > 0
    settings = results.protocol.settings
    assert (settings["layers"], settings["units"]["frames"], settings["abx"]["contexts"]) == ([3, 1], 10_000, 100)
    assert "layers" not in stage.set_up(small(aligned_corpus, tmp_path, tasks=[]))[0].settings
    text = (tmp_path / "out/report.md").read_text()
    assert all(title in text for title in ("Phone ABX: error in %", "Unit edit distance", "PNMI", "Phone purity"))
    assert any(note.startswith("abx: 16 tokens, single phones") for note in results.cells[0].notes)


def test_what_phones_and_layers_lack_is_one_line_before_anything_runs(corpus, aligned_corpus, bench, tmp_path):
    wrong = (
        (corpus, {"measures": ["abx"]}, NoTriplesError, "no utterance of split 'test' has an alignment in the field 'phones'"),
        (aligned_corpus, {"measures": ["units"], "layers": [1, 4]}, stage.UnknownLayerError,
         "layers: 4 is none of model 'teacher', which has layers 1 to 3"),
        (corpus, {"tasks": [{"kind": "classify", "label": "word", "features": {"layer": layer}} for layer in (3, 4)]},
         stage.UnknownLayerError, "tasks.1.features.layer: 4 is none of model 'teacher', which has layers 1 to 3; name layers that"),
    )  # fmt: skip
    for data, changes, error, told in wrong:
        for run in (stage.evaluate, lambda config, out: stage.dry_run(config, out, log=str)):
            with pytest.raises(error) as caught:
                run(small(data, tmp_path, **{"tasks": [], **changes}), tmp_path / "out")
            assert told in str(caught.value)
            assert "\n" not in str(caught.value)
    assert bench["fake"].calls == 0
    assert not (tmp_path / "out").exists()


def test_frames_are_compared_only_where_they_have_the_same_times():
    """Frame i is of the samples from i times the hop on: another length moves its middle, as another hop does."""
    clock = FrameClock(320, 400, 16_000)
    check_frames("student", clock, "teacher", FrameClock(320, 400, 16_000))
    for other in (FrameClock(320, 720, 16_000), FrameClock(640, 400, 16_000)):
        assert not np.allclose(other.times_s(5), clock.times_s(5))
        with pytest.raises(OtherFrameRateError, match="compares frame by frame"):
            check_frames("student", other, "teacher", clock)


def test_a_student_of_another_frame_rate_is_told_before_anything_runs(corpus, bench, tmp_path):
    class Slow(FakeEncoder):
        @staticmethod
        def num_frames(num_samples):
            return FakeEncoder.num_frames(num_samples) // 2

    bench["slow"] = Slow("slow")
    bench["slow"].facts = {"teacher_sha256": bench["fake"].digest}
    config = small(corpus, tmp_path, models={"teacher": "fake", "slow": "slow"}, measures=["agreement"])
    with pytest.raises(
        OtherFrameRateError, match=r"'slow' has frames of 720 samples each 640 .* of 400 samples each 320"
    ):
        stage.evaluate(config, tmp_path / "out")
    assert bench["slow"].calls == bench["fake"].calls == 0
    alone = small(corpus, tmp_path, models={"teacher": "fake", "slow": "slow"}, tasks=[])
    stage.dry_run(alone, tmp_path / "out", log=str)
    assert len(stage.evaluate(alone, tmp_path / "out").cells) == 2, "without agreement there is nothing to compare"


def test_outcomes_add_up_to_the_scores(corpus, bench, tmp_path):
    results = stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    [cell] = results.cells
    copies = Copies.of(results.roll)
    [told] = task_outcomes(cell, "word")
    for number, condition in enumerate(copies.conditions):
        np.testing.assert_allclose(
            told.values(copies.condition == number), values(results, "teacher", "accuracy", condition=condition)
        )
    assert cell.seen == "cuuu" * 24
    assert set(results.roll.snr_db.split()) == {"5", "-"}
    assert results.command[0] == "stillroom"


def test_a_report_names_who_is_unknown_to_compare_with(corpus, bench, tmp_path):
    stage.evaluate(small(corpus, tmp_path, models={"teacher": "fake", "mute": "hiding"}), tmp_path / "out")
    told = CliRunner().invoke(report_command, [str(tmp_path / "out"), "--against", "nobody"])
    assert isinstance(told.exception, UnknownSystemError)
    told = CliRunner().invoke(report_command, [str(tmp_path / "out"), "--against", "mute"])
    assert "**Against mute: word, accuracy in points" in told.output


def test_an_export_is_known_by_its_record_and_is_no_teacher(corpus, monkeypatch, tmp_path):
    export = tmp_path / "export"
    export.mkdir()
    (export / "config.json").write_text("{}")
    facts = {"teacher": "nano", "teacher_sha256": "a" * 64, "views": "cdm1", "audio_s": 7200.0}
    (export / "export.json").write_text(json.dumps({"schema": "stillroom/export/1", "facts": facts}))
    TrainedOn.clean().write(export / "trained.json")
    monkeypatch.setattr("evaluation.models.load_teacher", lambda _: FakeEncoder())
    results = stage.evaluate(small(corpus, tmp_path, models={"out": "export"}), tmp_path / "out")
    [cell] = results.cells
    assert (cell.facts.kind, cell.facts.details["views"]) == ("export", "cdm1")
    assert set(cell.seen) == {"c", "n"}
    assert set(cell.seen_by_teacher) == {"c", "n"}  # nano's card says clean speech
    assert "2.00 h" in (tmp_path / "out/report.md").read_text()


def test_what_copies_are_to_a_student_and_to_its_teacher_are_two_things(corpus, monkeypatch, tmp_path):
    """The student was trained on copies like those of the noise condition, its teacher on clean speech."""
    export = tmp_path / "export"
    export.mkdir()
    (export / "config.json").write_text("{}")
    (export / "export.json").write_text(json.dumps({"schema": "stillroom/export/1", "facts": {"teacher": "nano"}}))
    corpus_exposure((str(corpus),), "train", conditions=("noise",)).write(export / "trained.json")
    monkeypatch.setattr("evaluation.models.load_teacher", lambda _: FakeEncoder())
    results = stage.evaluate(small(corpus, tmp_path, models={"out": "export"}, tasks=[]), tmp_path / "out")
    [cell] = results.cells
    assert cell.seen == "cssn" * 24  # clean, two of noise, one of phone
    assert cell.seen_by_teacher == "cnnn" * 24
    assert TrainedOn.read(tmp_path / "out/trained/out.json", needed="").kinds.keys() == {"noise coloured"}


def test_the_domain_probe_is_tested_without_recordings_and_speakers_of_its_training(bench, tmp_path):
    """Train has the recording `a`; so has every second test copy, by content, under another name."""
    splits = {
        name: tiny_split(name, count=count, members=("noise-0",)) for name, count in (("train", 16), ("test", 12))
    }
    for split, utterances in splits.items():
        for number, utterance in enumerate(utterances):
            utterance.speaker = f"{split} {number % 3}" if number % 4 else "both"
            name = "a.wav" if split == "train" else ("b.wav", "again.wav")[number % 2]
            recording = {"form": "recorded", "source": "hum", "root": "hum", "recording": name, "offset": 0}
            utterance.steps["noise-0"] = {"kind": "noise", **recording, "snr_db": 5.0}
    data = write_corpus(tmp_path / "tiny", splits)
    (data / "plan").mkdir()
    digests = {"a.wav": "a" * 64, "again.wav": "a" * 64, "b.wav": "b" * 64}
    rows = [{"source": "hum", "path": path, "sha256": sha256} for path, sha256 in digests.items()]
    (data / "plan/levels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    [cell] = stage.evaluate(small(data, tmp_path, measures=["leakage"], tasks=[]), tmp_path / "out").cells
    counts = {score.count for score in cell.scores}
    # the speaker of both is on one side: with him 12 clean waves and the 6 copies with b.wav, without him 9 and 3 (his are 0, 4, 8)
    assert counts <= {12 + 6, 9 + 3}
    assert len(counts) == 1


def write_student(folder, step):
    """A checkpoint of random weights, other ones at each step."""
    config = EncoderConfig.parse(encoder_config(layers=1), where="test")
    with torch.random.fork_rng():
        torch.manual_seed(step)
        student = torch.nn.ModuleDict({"trunk": config.build()})
    mark = {"cursor": (1, 2, 3), "encoder": config, "sums": {}, "counts": {}, "best_loss": None, "facts": {}}
    write_checkpoint(folder, module_tensors(student=student), step=step, **mark)


def test_the_checkpoint_that_is_asked_for_is_the_one_that_is_measured(tmp_path):
    for folder, step in (("checkpoints", 7), ("best", 3)):
        write_student(tmp_path / "run" / folder, step)
    (tmp_path / "run/heard.txt").write_text("")
    found = {
        name: load_model(RunSource(run=str(tmp_path / "run"), checkpoint=name), 16000) for name in ("last", "best")
    }
    assert [found[name].facts["steps"] for name in ("last", "best")] == [7, 3]
    assert found["last"].digest != found["best"].digest
    assert origin_of(RunSource(run=str(tmp_path / "run"), checkpoint="best")) == "run, best"


def test_by_paths_as_text_config_and_results_give_what_the_command_prints(corpus, bench, tmp_path):
    small(corpus, tmp_path, models={"teacher": "fake", "mute": "hiding"})
    out = str(tmp_path / "out")
    found = stage.evaluate(str(tmp_path / "evaluation.yaml"), out)
    assert list(found.protocol.models) == ["teacher", "mute"]
    markdown, page = tmp_path / "tables.md", tmp_path / "page.html"
    text = report([out], markdown=str(markdown), html=str(page))
    assert text == report(out) == markdown.read_text() == (tmp_path / "out/report.md").read_text()
    assert "Against mute" in report(out, against="mute") != text
    assert page.read_text().count("<h1>Robustness on tiny</h1>") == 1
    printed = CliRunner().invoke(report_command, [out, "--markdown", str(tmp_path / "again.md")])
    assert printed.output == (tmp_path / "again.md").read_text() == text


def test_frames_are_compared_with_those_of_ones_own_teacher_where_there_are_two(monkeypatch, tmp_path):
    """Students and teachers by turns: each gets the frames of the teacher that it names."""
    monkeypatch.setattr(stage, "load_model", lambda source, _: SimpleNamespace(to=lambda _: source))
    monkeypatch.setattr(stage, "teacher_frames", lambda encoder, **_: f"frames of {encoder}")
    monkeypatch.setattr(
        stage, "open_model", lambda *_, **named: SimpleNamespace(trained=None, teacher=named["teacher"])
    )
    monkeypatch.setattr(stage, "measure", lambda model, _: model.teacher)
    names = ["a1", "b1", "a2", "plain"]
    config = SimpleNamespace(models={name: name for name in (*names, "a", "b")})
    setup = SimpleNamespace(config=config, dataset=SimpleNamespace(sample_rate=16000), scratch=tmp_path)
    found = stage.measured(
        names,
        {name: SimpleNamespace(facts=None) for name in names},
        {"a1": "a", "b1": "b", "a2": "a"},
        setup=setup,
        device="cpu",
    )
    assert dict(found) == {"a1": "frames of a", "b1": "frames of b", "a2": "frames of a", "plain": None}


def test_scores_that_stay_get_the_facts_that_the_model_has_now(tmp_path):
    facts = ModelFacts(kind="run", origin="run, last", digest="1" * 64, parameters=10, layers=1, heard_known=True)
    given = {
        "schema": ModelScores.SCHEMA, "model": "one", "protocol_sha256": "a" * 64, "data_sha256": "d" * 64, "facts": facts.model_dump(mode="json"), "scores": [], "cost": {},
    }  # fmt: skip
    ModelScores.parse(given, where="test").write(stage.scores_path(tmp_path, "one"))
    renamed = facts.model_copy(update={"system": "ours"})
    setup = SimpleNamespace(protocol_sha256="a" * 64)
    found = stage.finished_scores(tmp_path, "one", renamed, setup=setup, log=str)
    assert found is not None
    assert found.facts == renamed
    (tmp_path / "results.json").touch()
    for cells, is_finished in (((found,), True), ((found.model_copy(update={"facts": facts}),), False)):
        written = SimpleNamespace(cells=cells)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Results, "read", lambda *_, written=written, **__: written)
            assert (stage.finished_results(tmp_path, {"one": found}, log=str) is not None) == is_finished


def test_everything_that_is_left_out_or_not_known_is_noted_once_in_its_order(bench, tmp_path):
    """Of the model, of the copies, of waves that are too short, of a task, of its probes, of pools, of the domain probe."""
    splits = {"train": tiny_split("train", count=4, members=("noise-0",)), "test": tiny_split("test", count=10)}
    for utterance in (*splits["train"], *splits["test"]):
        utterance.speaker = None
    splits["test"][0].custom["word"] = ""
    for utterance in splits["test"][-2:]:
        utterance.waves = {name: wave[:399] for name, wave in utterance.waves.items()}
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher/trained.json").write_text("{")
    bench["fake"].facts = {"teacher": str(tmp_path / "teacher")}
    corpus = write_corpus(tmp_path / "tiny", splits)
    config = config_of(corpus, tmp_path, measures=["cosine", "leakage"], efficiency=False)
    [cell] = stage.evaluate(config, tmp_path / "out").cells
    lengths = [len(utterance.waves["clean"]) for utterance in splits["test"][:-2]]
    assert cell.notes[0].startswith("the teacher of teacher: what it was trained on is not known: ")
    assert cell.notes[1:] == (
        "leakage: phone left out, split train does not have it",
        "2 utterances shorter than one frame are left out",
        "word: 1 of 10 test utterances are left out",
        "word: 2 of 2 probes had nothing to choose on, C is 0.1",
        f"retrieval is among {sum(map(FakeEncoder.num_frames, lengths))} frames: no speaker has more",
        "leakage: no speaker is named, so the domain probe may be tested on those it was trained on",
    )
    heard = 4 * 2 + 10 * 4
    assert bench["fake"].calls == heard - 2 * 4
    samples = sum(2 * len(one.waves["clean"]) for one in splits["train"]) + sum(
        4 * len(one.waves["clean"]) for one in splits["test"]
    )
    assert cell.cost["audio_s"] == round(samples / 16000, 1)
    assert cell.efficiency is None


def test_a_split_of_which_every_utterance_is_too_short_is_named(bench, tmp_path):
    splits = {"learn": tiny_split("learn", count=4), "exam": tiny_split("exam", count=4)}
    for utterance in splits["exam"]:
        utterance.waves = {name: wave[:399] for name, wave in utterance.waves.items()}
    corpus = write_corpus(tmp_path / "tiny", splits)
    config = config_of(corpus, tmp_path, splits={"train": "learn", "test": "exam"}, measures=["cosine"], tasks=[])
    with pytest.raises(
        TooShortError, match=r"^split 'exam': every utterance is shorter than one frame of model 'teacher'$"
    ):
        stage.evaluate(config, tmp_path / "out")


@pytest.mark.parametrize("name", ["protocol.json", "cells/teacher.json"])
def test_documents_of_a_later_version_are_no_damaged_ones(corpus, bench, tmp_path, name):
    stage.evaluate(small(corpus, tmp_path), tmp_path / "out")
    path = tmp_path / "out" / name
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"schema": document["schema"].rpartition("/")[0] + "/99"}))
    with pytest.raises(NewerSchemaError, match="pip install"):
        stage.evaluate(small(corpus, tmp_path), tmp_path / "out")


def test_scores_are_only_those_of_the_same_protocol_and_the_same_parameters(tmp_path):
    facts = ModelFacts(kind="run", origin="run, last", digest="1" * 64, parameters=10, layers=1, heard_known=True)
    given = {
        "schema": ModelScores.SCHEMA, "model": "one", "protocol_sha256": "a" * 64, "data_sha256": "d" * 64, "facts": facts.model_dump(mode="json"), "scores": [], "cost": {},
    }  # fmt: skip
    ModelScores.parse(given, where="test").write(stage.scores_path(tmp_path, "one"))
    for protocol, digest, is_found in (("a", "1", True), ("b", "1", False), ("a", "2", False)):
        now, setup = facts.model_copy(update={"digest": digest * 64}), SimpleNamespace(protocol_sha256=protocol * 64)
        assert (stage.finished_scores(tmp_path, "one", now, setup=setup, log=str) is not None) == is_found
    assert stage.finished_scores(tmp_path, "other", facts, setup=setup, log=str) is None
