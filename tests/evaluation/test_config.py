"""What an evaluation config may say, and what a wrong one is told."""

from __future__ import annotations

import pytest
import yaml

from evaluation.config import EvaluationConfig, RunSource
from manifests.errors import BadDocumentError, MissingFileError, UsageError

PLAIN = {"corpus": "corpus", "models": {"teacher": "nano"}, "measures": ["cosine"]}


def read(folder, **changes):
    path = folder / "evaluation.yaml"
    path.write_text(yaml.safe_dump({**PLAIN, **changes}))
    return EvaluationConfig.read(path)


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "runs/plain/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/plain/config.yaml").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").touch()
    models = {
        "teacher": "nano", "large": "hubert_large", "plain": "runs/plain", "best": {"run": "runs/plain", "checkpoint": "best"},
        "mine": "mine", "gone": "runs/gone",
    }  # fmt: skip
    config = read(tmp_path, models=models)
    assert config.corpus == str(tmp_path / "corpus")
    assert config.models == {
        "teacher": "nano",
        "large": "hubert_large",
        "plain": RunSource(run=str(tmp_path / "runs/plain")),
        "best": RunSource(run=str(tmp_path / "runs/plain"), checkpoint="best"),
        "mine": str(tmp_path / "mine"),
        "gone": "runs/gone",  # it may be the id of a model of the hub
    }


def test_a_folder_that_happens_to_be_called_like_a_teacher_changes_nothing(tmp_path):
    (tmp_path / "nano").mkdir()
    assert read(tmp_path).models == {"teacher": "nano"}


def test_an_override_replaces_one_key_and_its_paths_start_here(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = tmp_path / "evaluation.yaml"
    tasks = [{"kind": "frames", "table": "phones.csv"}]
    path.write_text(yaml.safe_dump({**PLAIN, "limit": 5, "seed": 3, "tasks": tasks}))
    words = (
        "limit=7",
        "models.mine.run=runs/mine",
        "models.gone=./gone",
        "models.mine.checkpoint=best",
        "corpus=other",
    )
    config = EvaluationConfig.read(path, overrides=words)
    mine = RunSource(run=str(here / "runs/mine"), checkpoint="best")
    assert config.models == {"teacher": "nano", "mine": mine, "gone": str(here / "gone")}
    assert (config.corpus, config.limit, config.seed) == (str(here / "other"), 7, 3)
    assert config.tasks[0].table == str(tmp_path / "phones.csv")
    with pytest.raises(UsageError, match="--set limit: expected key=value, such as limit=100"):
        EvaluationConfig.read(path, overrides=("limit",))
    with pytest.raises(BadDocumentError, match=r"^--set seeds: unknown key"):
        EvaluationConfig.read(path, overrides=("seeds=3",))


def test_a_url_stays_as_it_is(tmp_path):
    assert read(tmp_path, corpus="s3://bucket/tiny").corpus == "s3://bucket/tiny"


def test_settings_have_no_path_and_no_model(tmp_path):
    settings = read(tmp_path, tasks=[{"kind": "classify", "label": "word"}], limit=5).settings()
    assert str(tmp_path) not in str(settings)
    assert settings["tasks"] == [
        {"kind": "classify", "label": "word", "features": "last", "probe": "clean", "where": {}}
    ]
    assert settings["limit"] == 5
    assert "models" not in settings


def test_a_task_is_named_by_its_label_its_groups_and_its_filter(tmp_path):
    where = {"set": ["a", "b"], "take": 3}
    config = read(tmp_path, tasks=[{"kind": "classify", "label": "speaker", "within": "language", "where": where}])
    assert config.tasks[0].where == {"set": ("a", "b"), "take": ("3",)}
    assert config.tasks[0].name == "speaker within language where set a or b, take 3"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"measure": []}, "measure: unknown key (did you mean 'measures'?)"),
        ({"measures": []}, "neither tasks nor measures"),
        ({"measures": ["ccka"]}, "measures.0"),
        ({"measures": ["cosine", "cosine"]}, "one is listed twice"),
        ({"models": {}}, "models"),
        ({"models": {"<b>": "nano"}}, "models"),
        ({"models": {"best": {"run": "a", "checkpoint": "first"}}}, "checkpoint"),
        ({"splits": {"train": "a", "test": "a"}}, "three different splits"),
        ({"splits": {"train": "a", "dev": "a"}}, "three different splits"),
        ({"splits": {"dev": "test"}}, "three different splits"),
        ({"tasks": [{"kind": "asr", "label": "text"}]}, "kind: expected one of classify, ctc, verify, frames"),
        ({"tasks": [{"kind": "classify"}]}, "tasks.0.label: this key is missing"),
        ({"tasks": [{"kind": "classify", "label": "a", "within": "a"}]}, "is the label itself"),
        ({"tasks": [{"kind": "classify", "label": "a"}] * 2}, "'a' is listed twice"),
        ({"tasks": [{"kind": "classify", "label": "a", "where": {"set": []}}]}, "where"),
        ({"limit": 0}, "limit"),
        ({"probes": 11}, "probes"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_config_is_told_in_one_line(tmp_path, changes, told):
    with pytest.raises(BadDocumentError) as caught:
        read(tmp_path, **changes)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_may_not_be_called_like_the_system_of_runs(tmp_path):
    models = {"plain": "nano", "one": {"run": "a", "system": "plain"}}
    with pytest.raises(BadDocumentError, match=r"models: 'plain' is a model, and the system of runs too"):
        read(tmp_path, models=models)
    (tmp_path / "first/checkpoints").mkdir(parents=True)
    (tmp_path / "first/config.yaml").touch()
    assert read(tmp_path, models={**models, "plain": "first"}).models["plain"].run.endswith("first")  # a seed of it


def test_an_export_beside_the_config_is_no_teachers_name(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small/export.json").touch()
    assert read(tmp_path, models={"a": "small"}).models["a"] == str(tmp_path / "small")


def test_a_fault_of_a_run_is_told_of_a_run_alone(tmp_path):
    with pytest.raises(BadDocumentError) as caught:
        read(tmp_path, models={"m": {"run": "a", "checkpoint": "bestest"}})
    assert str(caught.value).count("expected") == 1
    assert "models.m.checkpoint: expected 'last' or 'best', got 'bestest'" in str(caught.value)


def test_a_missing_config_is_told(tmp_path):
    with pytest.raises(MissingFileError):
        EvaluationConfig.read(tmp_path / "none.yaml")


def test_best_is_said_for_all_runs_at_once(tmp_path):
    models = {"teacher": "nano", "one": {"run": "a", "system": "s"}, "two": {"run": "b", "checkpoint": "best"}}
    config = read(tmp_path, models=models).with_best()
    assert config.models["teacher"] == "nano"
    assert [config.models[name].checkpoint for name in ("one", "two")] == ["best", "best"]
    assert config.models["one"].system == "s"


def test_tasks_are_named_by_what_is_asked_and_how(tmp_path):
    tasks = [
        {"kind": "ctc", "units": "phones", "label": "ipa", "head": "blstm"},
        {"kind": "verify", "features": "sum"},
        {"kind": "frames", "probe": "distorted", "where": {"language": "en"}},
        {"kind": "classify", "label": "word"},
        {"kind": "classify", "label": "word", "features": "sum+heads"},
    ]
    assert [task.name for task in read(tmp_path, tasks=tasks).tasks] == [
        "phones of ipa by blstm", "verify speaker (sum)", "frames of phones where language en (probe trained on distorted)", "word",
        "word (sum+heads)",
    ]  # fmt: skip


def test_a_table_of_alignments_is_known_by_its_content(tmp_path):
    (tmp_path / "align.csv").write_text("id,start,end,label\n")
    config = read(tmp_path, tasks=[{"kind": "frames", "table": "align.csv"}])
    assert config.tasks[0].table == str(tmp_path / "align.csv")
    before = config.settings()["tasks"][0]["table"]
    (tmp_path / "align.csv").write_text("id,start,end,label\na,0,1,x\n")
    assert before != config.settings()["tasks"][0]["table"]
    assert len(before) == 64
