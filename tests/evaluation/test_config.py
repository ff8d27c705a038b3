"""What an evaluation config may say, and what a wrong one is told."""

from __future__ import annotations

import hashlib

import pytest
import yaml

from evaluation.config import ClassifyTask, CtcTask, EvaluationConfig, ProbedTask, RunSource
from evaluation.config_paths import is_run
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
    for url in ("s3://bucket/tiny", "https://host/tiny"):
        assert read(tmp_path, corpus=url).corpus == url


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
        ({"measures": ["units"], "layers": [2, 2]}, "layers: one is listed twice"),
        ({"layers": [2]}, "layers: they are those of abx and units; name one in measures"),
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
    with pytest.raises(MissingFileError, match=r"none\.yaml.*expected an evaluation config"):
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


def test_every_setting_that_decides_scores_is_in_the_settings_and_what_is_left_out_is_not(tmp_path):
    (tmp_path / "align.csv").write_text("id,start,end,label\n")
    tasks = [
        {"kind": "ctc", "features": "sum", "probe": "distorted", "where": {"set": "a"}, "updates": 7, "unseen": "errors"},
        {"kind": "frames", "table": "align.csv"}, {"kind": "verify", "trials": 9}, {"kind": "classify", "label": "word", "within": "set"},
    ]  # fmt: skip
    given = {
        "measures": ["cka", "cosine"],
        "seed": 3,
        "limit": 5,
        "probes": 4,
        "efficiency": False,
        "splits": {"train": "a", "dev": "b", "test": "c"},
    }
    table = hashlib.sha256(b"id,start,end,label\n").hexdigest()
    config = read(tmp_path, tasks=tasks, **given)
    assert config.settings() == given | {
        "tasks": [
            {"kind": "ctc", "label": "text", "features": "sum", "probe": "distorted", "where": {"set": ["a"]}, "units": "characters", "head": "linear", "updates": 7, "unseen": "errors"},
            {"kind": "frames", "label": "phones", "features": "last", "probe": "clean", "where": {}, "table": table},
            {"kind": "verify", "label": "speaker", "features": "last", "probe": "clean", "where": {}, "trials": 9},
            {"kind": "classify", "label": "word", "features": "last", "probe": "clean", "where": {}, "within": "set"},
        ],
    }  # fmt: skip
    plain = read(tmp_path).settings()
    assert plain == {
        "measures": ["cosine"], "tasks": [], "seed": 0, "probes": 2, "efficiency": True, "splits": {"train": "train", "test": "test"},
    }  # fmt: skip


def test_values_of_a_filter_are_text_one_or_several_and_nothing_else(tmp_path):
    where = {"take": [3, 0.5, "x"], "sung": True, "set": "a"}
    task = {"kind": "classify", "label": "word", "where": where}
    assert read(tmp_path, tasks=[task]).tasks[0].where == {"take": ("3", "0.5", "x"), "sung": ("True",), "set": ("a",)}
    assert ClassifyTask(kind="classify", label="word", where={"take": (1, 2)}).where == {"take": ("1", "2")}
    for bad in (3, "word", [], {"set": None}, {"set": [None]}, {"set": [["a"]]}):
        with pytest.raises(BadDocumentError, match=r"tasks\.0\.where") as caught:
            read(tmp_path, tasks=[{**task, "where": bad}])
        assert "\n" not in str(caught.value)


def test_the_first_of_several_faults_is_named(tmp_path):
    word, take = ({"kind": "classify", "label": label} for label in ("word", "take"))
    with pytest.raises(BadDocumentError, match=r"tasks: 'take' is listed twice"):
        read(tmp_path, tasks=[word, take, word, take])
    models = {"b": "nano", "a": "nano", **{f"{name}{name}": {"run": name, "system": name} for name in "ab"}}
    with pytest.raises(BadDocumentError, match=r"models: 'a' is a model, and the system of runs too"):
        read(tmp_path, models=models)
    assert len(read(tmp_path, tasks=[word, {**word, "features": "sum"}, {**word, "probe": "distorted"}]).tasks) == 3
    assert read(tmp_path, tasks=[word], measures=[]).measures == ()
    assert read(tmp_path, tasks=[]).measures == ("cosine",)


def test_a_config_may_be_made_of_its_parts():
    task = CtcTask(kind="ctc")
    run = RunSource(run="/runs/a", checkpoint="best")
    config = EvaluationConfig(corpus="c", models={"a": run, "b": "nano"}, tasks=(task,), measures=())
    assert (config.models, config.tasks) == ({"a": run, "b": "nano"}, (task,))
    assert ProbedTask(label="word", features="sum").name == "word (sum)"


def test_a_layer_is_named_by_its_number_in_settings_and_task(tmp_path):
    word = {"kind": "classify", "label": "word", "features": {"layer": 2}}
    config = read(tmp_path, tasks=[word, {**word, "features": {"layer": 3}}, {**word, "features": "last"}])
    assert [task.name for task in config.tasks] == ["word (layer 2)", "word (layer 3)", "word"]
    assert [task["features"] for task in config.settings()["tasks"]] == [{"layer": 2}, {"layer": 3}, "last"]
    for wrong, what in (
        ({"layer": 0}, r"tasks\.0\.features\.layer: expected a number >= 1, got '0'"),
        ({"layers": 2}, r"tasks\.0\.features\.layer"),
        ("layer 2", r"tasks\.0\.features: .*last"),
        (2, r"tasks\.0\.features: one layer alone is written \{layer: 2\}$"),
        (0, r"tasks\.0\.features: expected .*last.* got '0'"),
        (True, r"tasks\.0\.features: expected .*last.* got 'True'"),
    ):
        with pytest.raises(BadDocumentError, match=what):
            read(tmp_path, tasks=[{**word, "features": wrong}])


def test_paths_are_relative_to_the_file_wherever_the_command_runs_and_a_tilde_is_home(tmp_path, monkeypatch):
    home, lab = tmp_path / "home", tmp_path / "lab"
    for folder in (home / "mine", lab / "own", lab / "half/checkpoints", home / "run/checkpoints"):
        folder.mkdir(parents=True)
    for path in (
        home / "mine/config.json",
        lab / "own/export.json",
        home / "run/config.yaml",
        lab / "graph.onnx",
        home / "graph.onnx",
    ):
        path.touch()
    monkeypatch.setenv("HOME", str(home))
    models = {
        "mine": "~/mine", "own": "own", "run": "~/run", "named": {"run": "~/any", "checkpoint": "best", "system": "s"}, "far": {"run": "s3://bucket/run"},
        "file": "graph.onnx", "half": "half", "gone": "./gone", "deep": "a/b/c", "hub": "own/er",
    }  # fmt: skip
    tasks = [{"kind": "frames", "table": "p.csv"}, {"kind": "classify", "label": "word"}]
    lab.joinpath("e.yaml").write_text(
        yaml.safe_dump({**PLAIN, "corpus": "~/corpus", "models": models, "tasks": tasks}, sort_keys=False)
    )
    monkeypatch.chdir(tmp_path)
    config = EvaluationConfig.read("lab/e.yaml")
    assert config.corpus == str(home / "corpus")
    assert config.models == {
        "mine": str(home / "mine"), "own": str(lab / "own"), "run": RunSource(run=str(home / "run")),
        "named": RunSource(run=str(home / "any"), checkpoint="best", system="s"), "far": RunSource(run="s3://bucket/run"), "file": str(lab / "graph.onnx"),
        "half": "half", "gone": str(lab / "gone"), "deep": str(lab / "a/b/c"), "hub": "own/er",
    }  # fmt: skip
    assert config.tasks[0].table == str(lab / "p.csv")
    (lab / "own/er").mkdir()
    assert EvaluationConfig.read("lab/e.yaml").models["hub"] == str(lab / "own/er")
    # of several overrides each counts, a later one most, and their paths start where the command runs
    (tmp_path / "own").mkdir()
    (tmp_path / "own/config.json").touch()
    words = ("models.file=own", "limit=3", "seed=9", "limit=4", "corpus=here")
    changed = EvaluationConfig.read("lab/e.yaml", overrides=words)
    assert (changed.corpus, changed.limit, changed.seed) == (str(tmp_path / "here"), 4, 9)
    assert (changed.models["file"], changed.models["own"]) == (str(tmp_path / "own"), str(lab / "own"))
    assert changed.tasks[0].table == str(lab / "p.csv")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"corpus": 3}, "corpus"), ({"models": ["nano"]}, "models"), ({"models": {"a": 3}}, "models.a"), ({"models": {"a": {"run": 3}}}, "models.a.run"),
        ({"tasks": {"kind": "ctc"}}, "tasks"), ({"tasks": 3}, "tasks"), ({"tasks": ["ctc"]}, "tasks.0"), ({"tasks": [{"kind": "frames", "table": 3}]}, "tasks.0.table"),
    ],
)  # fmt: skip
def test_what_has_another_shape_is_one_line_with_its_key(tmp_path, changes, told):
    with pytest.raises(BadDocumentError) as caught:
        read(tmp_path, **changes)
    assert str(caught.value).startswith(f"{tmp_path}/evaluation.yaml: {told}")
    assert "\n" not in str(caught.value)
    (tmp_path / "evaluation.yaml").write_text("- a list")
    with pytest.raises(BadDocumentError, match=r"evaluation\.yaml"):
        EvaluationConfig.read(tmp_path / "evaluation.yaml")


def test_a_run_is_a_folder_with_a_config_and_checkpoints(tmp_path):
    assert not is_run(tmp_path)
    (tmp_path / "config.yaml").touch()
    assert not is_run(tmp_path)
    (tmp_path / "checkpoints").touch()
    assert not is_run(tmp_path)
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "checkpoints").mkdir()
    assert is_run(tmp_path)
    (tmp_path / "config.yaml").unlink()
    assert not is_run(tmp_path)
