"""What a user writes, and what it becomes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from manifests.errors import BadDocumentError, StillroomError, UsageError
from manifests.io.json_yaml import write_yaml
from training.config.load import (
    FREE_KEYS,
    flat,
    is_path,
    load_config,
    merged,
    method_difference,
    override_of,
    resolved,
    run_config,
    with_paths,
    without_dropped_keys,
    without_other_size,
)
from training.config.model import whole
from training.config.presets import PRESETS
from training.config.schema import Adversary, TeacherChoice, TrainConfig
from training.runs.folder import is_runs_own

SHORT = {"corpus": "/data/tiny", "teacher": {"name": "nano"}}


def made(**keys):
    return resolved({**SHORT, **keys}, where="test.yaml")


def written(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers_numbers():
    config = made(preset="distilhubert")
    assert (config.steps, config.batch.utterances, config.student.layers, config.student.dropout) == (
        200_000,
        24,
        2,
        0.1,
    )
    assert (config.optimiser.learning_rate, config.optimiser.warmup_share, config.optimiser.clip) == (2e-4, 0.07, 5.0)
    assert config.crop_s * 16000 == 250_000
    assert config.teacher.layers == "thirds"
    assert config.views.kind == "none"
    assert config.adversary is None


def test_presets_differ_in_views_and_adversary_alone():
    kinds = {name: made(preset=name) for name in PRESETS}
    assert {name: config.views.kind for name, config in kinds.items()} == {
        "distilhubert": "none",
        "cdm1": "cdm1",
        "cdm2": "cdm2",
        "cdm1-dat": "cdm1",
        "cdm2-dat": "cdm2",
        "cdm1-dat-paper": "cdm1",
        "cdm2-dat-paper": "cdm2",
    }
    assert {name for name, config in kinds.items() if config.adversary} == {name for name in PRESETS if "dat" in name}
    same = {
        name: config.model_copy(update={"views": None, "adversary": None, "preset": None})
        for name, config in kinds.items()
    }
    assert len({repr(config) for config in same.values()}) == 1


def test_the_papers_views_are_clean_one_time_in_sixteen_each():
    one, two = made(preset="cdm1").views, made(preset="cdm2").views
    assert (one.clean_share, one.student.clean_share) == (1 / 16, 0)
    assert (two.clean_share, two.student.clean_share, two.teacher.clean_share) == (0, 1 / 16, 1 / 16)
    assert two.teacher.content == "kept"


def test_the_papers_game_is_the_authors_alternation_on_layers_1_and_2():
    for name in ("cdm1-dat-paper", "cdm2-dat-paper"):
        adversary = made(preset=name).adversary
        assert (adversary.objective, adversary.domain, adversary.layers) == ("game", "view", (1, 2))
        assert (adversary.schedule, adversary.critic_steps) == ("constant", 1)
        assert any("unpublished, so ours" in line for line in PRESETS[name].deviations)
    assert made(preset="cdm2-dat-paper").views.teacher.content == "any"


def test_every_preset_has_a_source_and_says_where_it_differs_and_the_docs_name_it():
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    for name, preset in PRESETS.items():
        assert "arXiv" in preset.source
        assert any("eval mode" in line for line in preset.deviations)
        assert f"`{name}`" in text


def test_a_users_seconds_replace_the_presets_utterances():
    assert made(preset="cdm2", batch={"seconds": 160, "lanes": 8}).batch.utterances is None
    assert made(preset="cdm2", batch={"lanes": 8}).batch.utterances == 24


def test_the_critic_keeps_six_times_the_students_pace_unless_configured():
    assert made(preset="cdm2-dat", optimiser={"learning_rate": 1e-3}).adversary == Adversary(
        learning_rate=3e-3, critic_steps=2
    )
    assert made(preset="cdm2-dat", adversary={"learning_rate": 0.5}).adversary.learning_rate == 0.5


def test_an_adversary_can_be_removed():
    assert made(preset="cdm2-dat", adversary=None).adversary is None


def test_none_is_no_adversary_too(tmp_path):
    path = written(tmp_path, "preset: cdm1-dat\ncorpus: tiny\nteacher: {name: nano}\n")
    assert load_config(path, overrides=("adversary=none",)).adversary is None
    with pytest.raises(BadDocumentError, match="adversary: expected a mapping, or none, got 'off'"):
        load_config(path, overrides=("adversary=off",))


def test_a_whole_number_may_be_written_with_an_exponent(tmp_path):
    path = written(tmp_path, "preset: cdm1\ncorpus: tiny\nteacher: {name: nano}\nbatch: {utterances: 2.4e1}\n")
    config = load_config(path, overrides=("steps=2e5", "checkpoint_every=1e3", "seed=1e2"))
    assert (config.steps, config.checkpoint_every, config.batch.utterances, config.seed) == (200_000, 1000, 24, 100)
    assert type(config.steps) is int
    for wrong in ("steps=2.5e0", "steps=.inf", "steps=yes"):
        with pytest.raises(BadDocumentError, match="steps: expected a whole number"):
            load_config(path, overrides=(wrong,))


def test_the_resolved_config_reads_back_as_itself(tmp_path):
    config = made(preset="cdm2-dat", adversary=None, batch={"seconds": 48})
    write_yaml(tmp_path / "config.yaml", config.model_dump(mode="json", by_alias=True))
    assert TrainConfig.read(tmp_path / "config.yaml", needed="test") == config
    assert load_config(tmp_path / "config.yaml") == config


def test_overrides_are_yaml_by_version_1_2(tmp_path):
    path = written(tmp_path, "preset: cdm1-dat\ncorpus: tiny\nteacher: {name: nano}\n")
    config = load_config(
        path,
        overrides=(
            "optimiser.learning_rate=2e-3",
            "adversary.domain=distorted",
            "batch={seconds: 64, lanes: 2}",
            "teacher.layers=[4, 8]",
            "split=no",
        ),
    )
    assert config.optimiser.learning_rate == 2e-3
    assert config.adversary.domain == "distorted"
    assert (config.batch.seconds, config.batch.lanes) == (64, 2)
    assert config.teacher.layers == (4, 8)
    assert config.split == "no"
    assert load_config(path, overrides=("adversary=null",)).adversary is None


@pytest.mark.parametrize("override", ["batch={utterances: 12}", "batch.utterances=12"])
def test_a_batch_set_in_utterances_stands_for_the_files_seconds(tmp_path, override):
    path = written(tmp_path, "corpus: tiny\nteacher: {name: nano}\nbatch: {seconds: 64, lanes: 3}\n")
    batch = load_config(path, overrides=(override,)).batch
    assert (batch.seconds, batch.utterances, batch.lanes) == (None, 12, 3)
    with pytest.raises(BadDocumentError, match="not both"):
        load_config(path, overrides=("batch={seconds: 64, utterances: 12}",))


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = written(tmp_path, "corpus: data/tiny\nteacher: {name: ./small}\n")
    config = load_config(path)
    assert config.corpus == str(tmp_path / "data/tiny")
    assert config.teacher.name == str(tmp_path / "small")
    assert load_config(path, overrides=("corpus=other",)).corpus == str(tmp_path / "elsewhere/other")
    assert load_config(path, overrides=("corpus=s3://bucket/tiny",)).corpus == "s3://bucket/tiny"
    assert load_config(path, overrides=("teacher.name=hubert_base",)).teacher.name == "hubert_base"


def test_a_teacher_may_be_a_name_alone_as_in_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sub" / "config.yaml"
    path.parent.mkdir()
    path.write_text("corpus: c\nteacher: nano\n")
    assert load_config(path).teacher == TeacherChoice(name="nano")
    path.write_text("corpus: c\nteacher: ./mine\n")
    assert load_config(path).teacher.name == str(tmp_path / "sub" / "mine")
    path.write_text("corpus: c\nteacher: {name: nano, layers: [2, 4]}\n")
    changed = load_config(path, overrides=("teacher=hubert_base",)).teacher
    assert (changed.name, changed.layers) == ("hubert_base", (2, 4))


def test_a_list_of_corpora_is_relative_to_the_file_too(tmp_path):
    path = written(tmp_path, "corpus: [one, two, 's3://bucket/three']\nteacher: {name: nano}\n")
    assert load_config(path).corpus == (str(tmp_path / "one"), str(tmp_path / "two"), "s3://bucket/three")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"stepz": 3}, r"stepz: unknown key \(did you mean 'steps'\?\)"),
        ({"views": {"kind": "cdm3"}}, r"views.kind: expected 'none', 'cdm1', 'cdm2' or 'same'"),
        (
            {"views": {"teacher": {"condition": ["noise"]}}},
            r"views.teacher.condition: unknown key \(did you mean 'conditions",
        ),
        (
            {"views": {"kind": "cdm1", "teacher": {"conditions": ["noise"]}}},
            "views: teacher.conditions: with kind: cdm1",
        ),
        ({"adversary": {"layers": [1, 1]}}, "adversary: layers: .* names a layer twice"),
        ({"optimiser": {"learning_rate": "fast"}}, r"optimiser.learning_rate: .*'fast'"),
        ({"adversary": {"strenght": 1}}, r"adversary.strenght: unknown key \(did you mean 'strength'"),
        ({"batch": {"seconds": 4, "utterances": 2}}, "either seconds or utterances"),
        ({"corpus": []}, "corpus"),
        ({"preset": "cdm9"}, "preset: 'cdm9' is none of distilhubert, cdm1"),
        ({"preset": ["cdm1"]}, "is none of"),
        ({"steps": 0}, "steps"),
        ({"teacher": {}}, "teacher.name: this key is missing"),
        ({"teacher": {"name": "nano", "layers": [2, 2]}}, "names a layer twice"),
        ({"crop_s": 0.001}, "crop_s: expected a number >= 0.1"),
        ({"loss": {"l1": 0, "cosine": 0}}, "both 0"),
        ({"optimiser": {"learning_rate": float("nan")}}, "config|JSON|nan"),
    ],
)
def test_a_wrong_key_is_one_line_with_its_path(keys, message):
    with pytest.raises(BadDocumentError, match=message) as caught:
        made(**keys)
    assert "\n" not in str(caught.value)
    assert "test.yaml" in str(caught.value)


def test_a_config_of_a_newer_version_is_refused():
    with pytest.raises(BadDocumentError, match="install a newer one"):
        made(schema="stillroom/train/3")


@pytest.mark.parametrize("override", ["steps", "=3", "optimiser..learning_rate=1", "steps=[", "steps.more=1"])
def test_an_override_that_is_none_is_one_line(tmp_path, override):
    path = written(tmp_path, "corpus: tiny\nsteps: 4\nteacher: {name: nano}\n")
    with pytest.raises(StillroomError) as caught:
        load_config(path, overrides=(override,))
    assert "\n" not in str(caught.value)


def test_a_config_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(BadDocumentError, match="expected a mapping"):
        load_config(written(tmp_path, "- 1\n"))
    with pytest.raises(UsageError, match="key=value"):
        load_config(written(tmp_path, "corpus: x\n"), overrides=("x",))


def test_a_run_may_go_on_with_other_workers_but_not_with_another_method():
    config = made(preset="cdm2-dat")
    assert method_difference(config, made(preset="cdm2-dat", workers=7, log_every=1, corpus="/moved")) is None
    difference = method_difference(config, made(preset="cdm2-dat", adversary={"strength": 0.5}))
    assert difference == "adversary.strength is 0.5, not 0.03"
    assert method_difference(config, made(preset="cdm2")).startswith("adversary")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "recipes").rglob("*.yaml")), ids=lambda path: path.name
)
def test_configs_in_the_recipes_folder_are_valid(path):
    if "preset:" in path.read_text():
        assert load_config(path).preset in PRESETS


def test_all_defaults_are_pinned():
    """A changed default is another method under an old name: each number stands here once more."""
    found = made(adversary={}, student={"mask": {}}, crops={}).model_dump(mode="json", by_alias=True)
    assert found == {
        "schema": "stillroom/train/2",
        "preset": None,
        "corpus": "/data/tiny",
        "split": "train",
        "dev": "dev",
        "teacher": {"name": "nano", "layers": "thirds", "standardise": False},
        "student": {
            "layers": 2, "width": None, "attention_heads": None, "feed_forward": None, "projection_norm": None,
            "predict": "last", "predict_from": None, "init": "teacher", "dropout": 0.1, "cnn_gradient": 0.1,
            "mask": {"start": 0.065, "span": 10},
        },
        "batch": {"seconds": None, "utterances": 24, "lanes": 4, "window_shards": None},
        "crop_s": 15.625,
        "views": {
            "kind": "none", "clean_share": 0.0, "families": "any", "unpaired": None,
            "teacher": {"conditions": None, "clean_share": 0.0, "content": "kept"},
            "student": {"conditions": None, "clean_share": 0.0, "revisit": "any"},
        },
        "adversary": {
            "objective": "reversal", "domain": "condition", "features": "pooled", "layers": "last", "strength": 0.03,
            "schedule": "ganin", "learning_rate": pytest.approx(6e-4), "standardise": False,
            "critic_steps": 2,
        },
        "loss": {"l1": 1.0, "cosine": 1.0, "cosine_form": "log_sigmoid", "layers": None},
        "optimiser": {"learning_rate": 2e-4, "warmup_share": 0.07, "clip": 5.0},
        "steps": 200_000,
        "seed": 0,
        "log_every": 50,
        "checkpoint_every": 2500,
        "validate_every": 2500,
        "validate_utterances": 64,
        "precision": "float32",
        "compile": None,
        "workers": 1,
        "tensorboard": False,
        "crops": {"sets": 1, "seed": 0},
        "targets": None,
        "stage": None,
        "damaged_shards": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optimiser": {"betas": [0.9, 0.999]}}, r"optimiser\.betas: not a key any more; it is always \[0\.9, 0\.98\] \(DistilHuBERT's\), got"),
        ({"optimiser": {"epsilon": 1e-8}}, "optimiser.epsilon: not a key any more; it is always 1e-06"),
        ({"optimiser": {"weight_decay": 0.0}}, "optimiser.weight_decay: not a key any more"),
        ({"adversary": {"weight": 2.0}}, "adversary.weight: not a key any more; it is always 1.0"),
        ({"adversary": {"hidden": 16}}, "adversary.hidden: not a key any more; it is always 256"),
        ({"adversary": {"critic_every": 2}}, r"adversary.critic_every: .* always 1 \(the critic is updated at every step of the student\), got 2"),
        ({"adversary": {"require_visible": True}}, r"adversary.require_visible: .* always False \(a domain that can hardly be named is a warning and no more\)"),
        ({"crops": {"context": "whole"}}, "crops.context: not a key any more; it is always crop"),
    ],
)  # fmt: skip
def test_a_dropped_key_with_another_value_than_its_constant_is_refused_by_name(keys, message):
    with pytest.raises(BadDocumentError, match=message) as caught:
        made(**keys)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(": leave it out")


def test_a_dropped_key_with_the_value_of_its_constant_changes_nothing():
    keys = {
        "optimiser": {"betas": [0.9, 0.98], "epsilon": 1e-6, "weight_decay": 1e-6},
        "adversary": {"weight": 1.0, "hidden": 256, "critic_every": 1, "require_visible": False},
    }
    assert made(**keys, crops={"context": "crop"}) == made(adversary={}, crops={})


def test_a_preset_is_applied_to_a_users_file_and_not_to_a_runs_own(tmp_path):
    path = written(tmp_path, "preset: cdm2\ncorpus: tiny\nteacher: {name: nano}\n")
    assert load_config(path).views.kind == "cdm2", "a user may call it config.yaml too"
    (tmp_path / "heard.txt").touch()
    assert load_config(path).views.kind == "none"
    (path.rename(tmp_path / "mine.yaml"))
    assert load_config(tmp_path / "mine.yaml").views.kind == "cdm2"


def test_every_path_is_relative_to_the_file_or_for_overrides_to_the_current_folder(tmp_path, monkeypatch):
    """A single word is a model's name unless a model of that name is beside the config."""
    (tmp_path / "elsewhere/other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = "corpus: tiny\ntargets: kept\nstage: {dir: fast, gigabytes: 3}\nteacher: {name: old}\nstudent: {init: first.pt}\n"
    path = written(tmp_path, text)
    config = load_config(path)
    assert (config.teacher.name, config.student.init) == ("old", "first.pt"), "nothing of that name is here"
    (tmp_path / "first.pt").touch()
    (tmp_path / "old").mkdir()
    for kind in ("json", "yaml"):
        (tmp_path / "old" / f"config.{kind}").touch()
        config = load_config(path)
        assert (config.teacher.name, config.student.init) == (str(tmp_path / "old"), str(tmp_path / "first.pt"))
        (tmp_path / "old" / f"config.{kind}").unlink()
    assert (config.targets, config.stage.dir, config.stage.gigabytes) == (
        str(tmp_path / "kept"),
        str(tmp_path / "fast"),
        3.0,
    )
    here = tmp_path / "elsewhere"
    (here / "other/config.json").touch()
    words = ("targets=memory://kept", "stage=disk", "teacher.name=other", "student.init=a/b=c", "split=dev")
    config = load_config(path, overrides=words)
    assert (config.targets, config.stage.dir, config.teacher.name) == (
        "memory://kept",
        str(here / "disk"),
        str(here / "other"),
    )
    assert (config.student.init, config.split) == (str(here / "a/b=c"), "dev")
    for word in ("init=random", "init=teacher"):
        assert load_config(path, overrides=(f"student.{word}",)).student.init == word[5:]


def test_short_forms_mean_the_long_ones():
    assert made(stage="/fast").stage == made(stage={"dir": "/fast"}).stage
    assert made(precision="bf16").precision == "bfloat16"
    assert made(student={"predict": "layers", "predict_from": [2, 1]}).student.predict_from == (2, 1)
    assert made(loss={"l1": 0}).loss.cosine == made(loss={"cosine": 0}).loss.l1 == 1
    assert made(adversary={"objective": "game", "layers": [2, 1]}).adversary.layers == (2, 1)
    with pytest.raises(BadDocumentError, match="predict_from: layer 3 of a student with 2"):
        made(student={"predict": "layers", "predict_from": [3, 1]})
    with pytest.raises(BadDocumentError, match="layers: all weights are 0"):
        made(loss={"layers": [0, 0]})
    with pytest.raises(
        BadDocumentError, match="'stillroom/train/1' is not read any more; write a config of stillroom/train/2"
    ):
        made(schema="stillroom/train/1")


def test_what_is_wrong_with_an_override_is_named_with_its_key(tmp_path):
    path = written(tmp_path, "corpus: tiny\nteacher: {name: nano}\nbatch: {seconds: 64, lanes: 2}\n")
    with pytest.raises(BadDocumentError, match=r"--set views\.kind"):
        load_config(path, overrides=("views.kind=[",))
    for word in ("optimiser..clip=1", ".clip=1", "optimiser.=1", "=1", "clip"):
        with pytest.raises(UsageError) as caught:
            load_config(path, overrides=(word,))
        assert str(caught.value) == f"--set {word}: expected key=value, such as optimiser.learning_rate=1e-3"
    for word, fault in (
        ("training.foo=bar", "--set training: unknown key"),
        ("batch.lanes=x", "--set batch.lanes: expected a whole number, got 'x'"),
        ("batch=4", "--set batch: expected a mapping, got '4'"),
        ("student=x", "--set student: expected a mapping"),
        ("views.kind=cdm7", "--set views"),
    ):
        with pytest.raises(BadDocumentError, match=f"^{re.escape(fault)}"):
            load_config(path, overrides=("steps=4", word, "seed=1"))
    assert load_config(path, overrides=("batch.lanes=4",)).batch.model_dump() == {
        "seconds": 64, "utterances": None, "lanes": 4, "window_shards": None,
    }  # fmt: skip
    wrong = written(tmp_path, "corpus: tiny\nteacher: {name: nano}\nbatch: {seconds: x, lanes: 2}\n")
    with pytest.raises(BadDocumentError, match=f"^{re.escape(str(wrong))}: batch.seconds: expected a number, got 'x'"):
        load_config(wrong, overrides=("batch.lanes=4", "steps=4"))


@pytest.mark.parametrize(
    ("section", "todays", "other", "message"),
    [
        ("optimiser", {"betas": [0.9, 0.98]}, {"betas": [0.9, 0.999]}, "always [0.9, 0.98] (DistilHuBERT's), got [0.9, 0.999]"),
        ("adversary", {"critic_every": 1, "require_visible": False}, {"critic_every": 3, "require_visible": False}, "critic_every: not"),
        ("adversary", {"critic_every": 1, "require_visible": False}, {"critic_every": 1, "require_visible": True}, "require_visible: not"),
    ],
)  # fmt: skip
def test_a_run_of_an_older_stillroom_is_read_and_goes_on_only_where_its_constants_are_todays(
    tmp_path, section, todays, other, message
):
    config = made(preset="cdm2-dat")
    keys, path = config.model_dump(mode="json", by_alias=True), tmp_path / "config.yaml"
    write_yaml(path, {**keys, section: {**keys[section], **todays}})
    assert run_config(path) == run_config(path, any_version=True) == config
    assert is_runs_own(tmp_path, config)
    write_yaml(path, {**keys, section: {**keys[section], **other}})
    assert run_config(path, any_version=True) == config, "for whoever evaluates or exports it"
    with pytest.raises(BadDocumentError, match=re.escape(message)) as caught:
        is_runs_own(tmp_path, config)
    assert "\n" not in str(caught.value)


def test_runs_differ_in_everything_but_where_and_how_they_are_run():
    config = made(preset="cdm2-dat")
    free = {
        "workers": 3,
        "tensorboard": True,
        "targets": "/kept",
        "stage": "/fast",
        "damaged_shards": 2,
        "checkpoint_every": 9,
        "compile": True,
    }
    assert method_difference(config, made(preset="cdm2-dat", log_every=3, corpus=["/a", "/b"], **free)) is None
    for keys, line in (
        ({"steps": 9}, "steps is 9, not 200000"), ({"dev": "test"}, "dev is test, not dev"), ({"validate_every": 3}, "validate_every is 3, not 2500"),
        ({"crops": {"sets": 2}}, "crops is None, not None"), ({"precision": "bf16"}, "precision is bfloat16, not float32"),
        ({"views": {"kind": "cdm1"}, "adversary": {"strength": 1.0}}, "views.kind is cdm1, not cdm2"),
    ):  # fmt: skip
        found = method_difference(config, made(preset="cdm2-dat", **keys))
        assert found == line or (line.startswith("crops") and found.startswith("crops")), found


def test_a_later_override_stands_for_an_earlier_one_and_leaves_what_it_does_not_name(tmp_path):
    path = written(tmp_path, "corpus: tiny\nteacher: {name: nano, layers: [2]}\nbatch: {seconds: 64, lanes: 3}\n")
    words = (
        "steps=3",
        "steps=4",
        "batch.utterances=6",
        "batch.seconds=32",
        "optimiser.clip=2",
        "optimiser.learning_rate=1e-3",
    )
    config = load_config(path, overrides=words)
    assert (config.steps, config.batch.seconds, config.batch.utterances, config.batch.lanes) == (4, 32, None, 3)
    assert (config.optimiser.clip, config.optimiser.learning_rate, config.teacher.layers) == (2, 1e-3, (2,))


def test_an_override_is_a_nested_mapping_and_its_message_has_the_callers_example():
    assert override_of(" a.b.c = x=y") == {"a": {"b": {"c": "x=y"}}}
    assert override_of("steps=2") == {"steps": 2}
    with pytest.raises(UsageError, match=r"^--set --steps=2: expected key=value, such as seed=1$"):
        override_of("--steps=2", example="seed=1")


def test_mappings_are_merged_key_by_key_and_everything_else_is_replaced():
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 3}, "h": 5}
    change = {"a": {"c": {"x": 4}}, "e": [9], "f": None, "h": {"i": 1}}
    assert merged(base, change) == {"a": {"b": 1, "c": {"d": 2, "x": 4}}, "e": [9], "f": None, "h": {"i": 1}}
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": {"g": 3}, "h": 5}
    assert flat(base) == {"a.b": 1, "a.c.d": 2, "e": [1, 2], "f.g": 3, "h": 5}
    assert flat({"a": {}, "b": {"c": {}}}) == {"a": {}, "b.c": {}}


def test_the_size_of_a_batch_is_left_out_where_a_change_gives_either_unit():
    user = {"steps": 1, "batch": {"seconds": 64, "lanes": 3}}
    for change in ({"batch": {"utterances": 1}}, {"batch": {"seconds": 1}}):
        assert without_other_size(user, change) == {"steps": 1, "batch": {"lanes": 3}}
    for change in ({"batch": {"lanes": 1}}, {"steps": 2}, {"batch": None}):
        assert without_other_size(user, change) is user
    assert without_other_size({"batch": None}, {"batch": {"seconds": 1}}) == {"batch": None}


def test_names_that_are_none_of_a_path_stay_whatever_is_beside_the_config(tmp_path):
    """`nano`, and of a student `teacher` and `random`, mean no folder, be there one or not."""
    for name in ("nano", "teacher", "random", "mine", "some/where"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.pt").touch()
    paths = {"mine": True, "nano": False, "": False, "empty": False, "model.pt": True, "gone": False, "some/where": True, "owner/gone": False,
             "./gone": True, "/gone": True, "~/gone": True}  # fmt: skip
    assert {name: is_path(name, tmp_path) for name in paths} == paths
    assert not is_path(None, tmp_path)
    assert not is_path(["mine"], tmp_path)
    for init, expected in (("teacher", "teacher"), ("random", "random"), ("mine", str(tmp_path / "mine"))):
        data = {"teacher": "nano", "student": {"init": init, "layers": 1}, "split": "mine"}
        found = with_paths(data, tmp_path)
        assert found == {"teacher": {"name": "nano"}, "student": {"init": expected, "layers": 1}, "split": "mine"}
        assert data["teacher"] == "nano"
    given = {
        "corpus": ["a", "s3://b/c"],
        "targets": "memory://t",
        "stage": {"dir": "../d", "gigabytes": 2},
        "teacher": {"name": "mine", "layers": "all"},
    }
    assert with_paths(given, tmp_path / "x") == {
        "corpus": [str(tmp_path / "x/a"), "s3://b/c"], "targets": "memory://t", "stage": {"dir": str(tmp_path / "d"), "gigabytes": 2},
        "teacher": {"name": "mine", "layers": "all"},
    }  # fmt: skip
    assert with_paths({"stage": None, "targets": None, "student": None}, tmp_path) == {
        "stage": None,
        "targets": None,
        "student": None,
    }


def test_keys_that_were_dropped_are_left_out_one_by_one():
    data = {
        "optimiser": {"betas": (0.9, 0.98), "clip": 3, "epsilon": 1e-6},
        "adversary": None,
        "crops": {"sets": 2, "context": "crop"},
    }
    assert without_dropped_keys(data, where="test") == {
        "optimiser": {"clip": 3},
        "adversary": None,
        "crops": {"sets": 2},
    }
    assert set(data["optimiser"]) == {"betas", "clip", "epsilon"}
    other = {"adversary": {"hidden": 9, "weight": 1.0, "strength": 1}}
    with pytest.raises(
        BadDocumentError,
        match=r"test: adversary\.hidden: not a key any more; it is always 256 \(ours: the authors .*\), got 9: leave it out",
    ):
        without_dropped_keys(other, where="test")
    assert without_dropped_keys(other, where="test", any_value=True) == {"adversary": {"strength": 1}}


def test_nothing_of_the_method_is_free_to_change_between_a_run_and_what_goes_on_with_it():
    """Every key at the top of the schema is one of either kind."""
    method = {
        "adversary", "batch", "crop_s", "crops", "dev", "loss", "optimiser", "precision", "seed", "split", "steps", "student", "teacher",
        "validate_every", "validate_utterances", "views",
    }  # fmt: skip
    assert {field.alias or name for name, field in TrainConfig.model_fields.items()} == method | FREE_KEYS
    assert not method & FREE_KEYS
    config = made(preset="cdm1")
    assert method_difference(config, config.model_copy(update={"preset": "distilhubert"})) is None
    both = config.model_copy(update={"steps": 7, "seed": 3, "adversary": Adversary()})
    assert method_difference(config, both) == "seed is 3, not 0", (
        "the first by name; an adversary's numbers may follow from others"
    )
    assert method_difference(both, config) == "seed is 0, not 3"


def test_whole_numbers_are_floats_without_a_rest_and_nothing_else_is_changed():
    assert [(found, type(found)) for found in map(whole, (2e5, 2.5, 7, "2e5", float("inf")))] == [
        (200_000, int), (2.5, float), (7, int), ("2e5", str), (float("inf"), float),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"student": {"predict_from": [1, 1]}}, "student: predict_from: needs predict: layers; with predict: last all heads are on the last layer"),
        ({"student": {"layers": 2, "predict": "layers", "predict_from": [3, 1]}}, "student: predict_from: layer 3 of a student with 2"),
        ({"loss": {"l1": 0.0, "cosine": 0.0}}, "loss: l1 and cosine are both 0; give one of them weight"),
        ({"loss": {"layers": [0.0, 0.0]}}, "loss: layers: all weights are 0; give one of them weight"),
        ({"teacher": {"name": "nano", "layers": [4, 8, 4]}}, "teacher: layers: [4, 8, 4] names a layer twice"),
        ({"adversary": {"layers": [2, 1, 2]}}, "adversary: layers: [2, 1, 2] names a layer twice"),
        ({"batch": {"seconds": 1, "utterances": 1}}, "batch: expected either seconds or utterances, not both"),
        ({"adversary": "off"}, "adversary: expected a mapping, or none, got 'off'"),
        ({"preset": "cdm3"}, f"preset: 'cdm3' is none of {', '.join(PRESETS)}"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_one_whole_line(keys, message):
    with pytest.raises(BadDocumentError) as caught:
        made(**keys)
    assert str(caught.value) == f"test.yaml: {message}"


def test_what_has_a_meaning_is_let_through():
    for layers in ("all", "thirds"):
        assert made(teacher={"name": "nano", "layers": layers}).teacher.layers == layers
    assert made(student={"layers": 2, "predict": "layers", "predict_from": [2, 2, 1]}).student.predict_from == (2, 2, 1)
    assert made(loss={"layers": [0.0, 1.0]}).loss.layers == (0.0, 1.0)
    config = made(batch={"seconds": 3.0}, adversary={}, optimiser={"learning_rate": 1e-4})
    assert (config.batch.utterances, config.adversary.learning_rate) == (None, pytest.approx(3e-4))
    assert made(batch={"utterances": 5}).batch.utterances == 5
    assert made(adversary={"learning_rate": 0.5}, optimiser={"learning_rate": 1e-4}).adversary.learning_rate == 0.5
