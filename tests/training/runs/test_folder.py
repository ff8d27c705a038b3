"""A run's folder: what is recorded there, and what of another run is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
from types import SimpleNamespace

import pytest

from manifests.errors import BadDocumentError
from manifests.io.digest import digest
from manifests.io.json_yaml import read_json, write_json
from manifests.results.reports import RunStatus
from tests.training.test_loop import config_of
from training.config.load import run_config
from training.data.joined_corpus import clean_digests, open_corpus
from training.runs.folder import (
    NotARunError,
    OtherConfigError,
    SourceChangedError,
    failure_recorded,
    prepare_run,
    run_facts,
    training_digests,
    write_status,
)

HEARD = {"00000000000000aa", "f00000000000000f"}


def teacher_of(letter="a"):
    return SimpleNamespace(name="small", digest=letter * 64, trained_on=frozenset(HEARD))


@pytest.fixture(name="reader")
def corpus_reader(corpus):
    with open_corpus(corpus) as reader:
        yield reader


def test_training_audio_is_that_of_split_teacher_and_source_each_once_and_sorted(corpus, reader):
    own = {sha256[:16] for _, sha256 in clean_digests(corpus, "dev")}
    text = training_digests(reader, "dev", teacher_of(), ["00000000000000aa", "0000000000000003"])
    assert text == "".join(f"{one}\n" for one in sorted(own | HEARD | {"0000000000000003"}))
    assert len(own) == 8
    assert len(training_digests(reader, "train", teacher_of()).split()) == 24 + 2


def test_a_new_run_records_corpus_teacher_targets_preset_and_training_audio(tmp_path, corpus, reader, teacher_folder):
    config = config_of(corpus, teacher_folder)
    for name in (".lock", "status.json"):
        (tmp_path / name).touch()
    found = prepare_run(
        tmp_path, config, reader=reader, teacher=teacher_of(), trained_on=["0000000000000001"], targets_sha256="c" * 64
    )
    record = read_json(tmp_path / "provenance.json", needed="test")
    heard = (tmp_path / "heard.txt").read_bytes()
    assert len(heard.split()) == 24 + 3
    expected = {
        "corpus": "tiny", "corpus_sha256": reader.digest, "teacher": "small", "teacher_sha256": "a" * 64, "targets_sha256": "c" * 64,
        "heard_sha256": hashlib.sha256(heard).hexdigest(), "preset": "cdm2-dat", "run_sha256": found,
    }  # fmt: skip
    assert {key: record[key] for key in expected} == expected
    assert "arXiv 2210.07978" in record["preset_source"]
    assert any("pitch" in line for line in record["preset_deviations"])
    assert digest({key: value for key, value in record.items() if key != "run_sha256"}) == found
    same = {"reader": reader, "teacher": teacher_of(), "targets_sha256": "c" * 64}
    assert prepare_run(tmp_path, config, **same) == found
    assert prepare_run(tmp_path, config, **{**same, "targets_sha256": None}) == found, "the teacher is in the loop now"
    name = str(teacher_folder)
    for keys, config_keys, line in (
        ({"teacher": teacher_of("b")}, {}, f"the teacher {name} changed since {tmp_path} began (SHA-256 {'a' * 12}, now {'b' * 12}): give back that teacher, or"),
        ({"targets_sha256": "d" * 64}, {"targets": "/kept"}, f"the targets /kept changed since {tmp_path} began (SHA-256 {'c' * 12}, now {'d' * 12}): give back that targets, or"),
    ):  # fmt: skip
        with pytest.raises(SourceChangedError) as caught:
            prepare_run(tmp_path, config.model_copy(update=config_keys), **{**same, **keys})
        assert str(caught.value).startswith(line)
    with pytest.raises(SourceChangedError, match=rf"^the corpus {corpus} changed since .*, now {reader.digest[:12]}\)"):
        write_json(tmp_path / "provenance.json", {**record, "corpus_sha256": "9" * 64})
        prepare_run(tmp_path, config, **same)


def test_the_first_file_that_is_not_a_runs_is_named_and_a_link_is_refused(tmp_path, corpus, reader, teacher_folder):
    for name in ("notes.txt", "b.txt", ".hidden"):
        (tmp_path / name).touch()
    with pytest.raises(NotARunError, match=r"holds b\.txt and no config\.yaml"):
        prepare_run(tmp_path, config_of(corpus, teacher_folder), reader=reader, teacher=teacher_of())
    for name in ("checkpoints", "best", "tensorboard"):
        run = tmp_path / f"run of {name}"
        run.mkdir()
        (run / name).symlink_to(tmp_path)
        with pytest.raises(Exception, match=name):
            prepare_run(run, config_of(corpus, teacher_folder), reader=reader, teacher=teacher_of())


def test_facts_of_a_student_are_those_of_its_run(corpus, reader, teacher_folder):
    keys = {"views": {"kind": "cdm2", "clean_share": 0.25, "student": {"clean_share": 0.5}}, "seed": 11, "steps": 9}
    config = config_of(corpus, teacher_folder, **keys)
    facts = run_facts(config, reader=reader, teacher=teacher_of(), layers=(2, 3))
    assert facts.pop("adversary")["domain"] == "condition"
    assert facts.pop("view_choices")["student"]["clean_share"] == 0.5
    assert facts == {
        "preset": "cdm2-dat", "teacher": "small", "teacher_sha256": "a" * 64, "teacher_layers": [2, 3], "corpus": "tiny",
        "corpus_sha256": reader.digest, "views": "cdm2", "clean_share": 0.25, "seed": 11, "planned_steps": 9,
    }  # fmt: skip
    plain = run_facts(config.model_copy(update={"adversary": None}), reader=reader, teacher=teacher_of(), layers=(2,))
    assert plain["adversary"] is None
    assert json.dumps(plain)


@pytest.mark.parametrize(("state", "after"), [("running", "failed"), ("preempted", "failed"), ("done", "done")])
def test_an_error_is_recorded_unless_the_run_is_done(tmp_path, corpus, reader, teacher_folder, state, after):
    """In a thousand characters at most; a run whose crops come from targets that were not read is known as this config's."""
    config = config_of(corpus, teacher_folder, crops={"sets": 2})
    prepare_run(tmp_path, config, reader=reader, teacher=teacher_of())
    own = config.model_copy(update={"crops": None, "targets": "/kept"})
    others = [config.model_copy(update={"crops": None}), own.model_copy(update={"seed": 99})]
    for one, expected in (*((other, state) for other in others), (own, after), (config, after)):
        write_status(tmp_path, state, step=3, steps=7)
        with pytest.raises(KeyboardInterrupt), failure_recorded(tmp_path, one):
            raise KeyboardInterrupt
        assert read_json(tmp_path / "status.json", needed="test")["state"] == expected
        write_status(tmp_path, state, step=3, steps=7)
        with pytest.raises(RuntimeError), failure_recorded(tmp_path, one):
            raise RuntimeError("lost " * 900)
        status = read_json(tmp_path / "status.json", needed="test")
        assert (status["state"], status["step"], status["steps"]) == (expected, 3, 7)
        if expected == "failed":
            assert status["problem"].startswith("RuntimeError: lost lost ")
            assert 900 < len(status["problem"]) < 1100


@pytest.mark.parametrize(
    ("what", "where", "remedy"),
    [
        ("teacher", "nano", "go on with the Stillroom that began it"),
        ("teacher", "NANO", "go on with the Stillroom that began it"),
        ("teacher", "nano2", "give back that teacher"),
        ("corpus", "nano", "give back that corpus"),
    ],
)
def test_only_a_teacher_that_is_shipped_comes_back_with_its_stillroom(tmp_path, what, where, remedy):
    error = SourceChangedError(tmp_path, what=what, where=where, began="1" * 64, found="2" * 64)
    assert str(error).endswith(f"(SHA-256 {'1' * 12}, now {'2' * 12}): {remedy}, or start a new run")


def test_a_run_with_more_steps_begins_from_it_and_any_other_goes_elsewhere(tmp_path):
    for difference, remedy in (
        ("steps is 7, not 9", f"begin another run with student.init={tmp_path}, or go on with"),
        ("log_steps is 7, not 9", "choose another folder, or go on with its own config.yaml"),
    ):
        assert f"another config ({difference}): {remedy}" in str(OtherConfigError(tmp_path, difference))


def test_what_a_killed_process_left_of_a_new_run_is_written_again_and_its_config_last(
    tmp_path, corpus, reader, teacher_folder, monkeypatch
):
    config = config_of(corpus, teacher_folder, preset=None, adversary=None)
    written = {"reader": reader, "teacher": teacher_of()}

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.runs.folder.write_yaml", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_run(tmp_path, config, **written)
    assert {path.name for path in tmp_path.iterdir()} == {"heard.txt", "provenance.json"}
    monkeypatch.undo()
    write_status(tmp_path, "running", step=0, steps=7)
    (tmp_path / "heard.txt").write_text("cut")
    found = prepare_run(tmp_path, config, **written)
    assert (tmp_path / "heard.txt").read_text() == training_digests(reader, "train", teacher_of())
    record = read_json(tmp_path / "provenance.json", needed="test")
    assert record["run_sha256"] == found
    assert not {"preset", "preset_source", "targets_sha256"} & set(record)
    assert run_config(tmp_path / "config.yaml") == config


def test_a_record_without_a_digest_is_named_and_a_run_without_a_name_goes_on(tmp_path, corpus, reader, teacher_folder):
    config = config_of(corpus, teacher_folder)
    written = {"reader": reader, "teacher": teacher_of()}
    prepare_run(tmp_path, config, **written)
    path = tmp_path / "provenance.json"
    record = read_json(path, needed="test")
    for name in ("corpus_sha256", "teacher_sha256"):
        for wrong in ({}, {name: 5}):
            write_json(path, {key: value for key, value in record.items() if key != name} | wrong)
            with pytest.raises(BadDocumentError, match=f"^{path}: the key {name} is missing"):
                prepare_run(tmp_path, config, **written)
    for unnamed in ({}, {"run_sha256": 5}):
        write_json(path, {key: value for key, value in record.items() if key != "run_sha256"} | unnamed)
        assert prepare_run(tmp_path, config, **written, targets_sha256="c" * 64) is None, "nor had it targets"


@pytest.mark.parametrize("hindrance", ["no status", "a full disk", "no run"])
def test_an_error_that_cannot_be_recorded_is_still_the_one_that_is_raised(
    tmp_path, corpus, reader, teacher_folder, monkeypatch, hindrance
):
    config = config_of(corpus, teacher_folder)
    if hindrance != "no run":
        prepare_run(tmp_path, config, reader=reader, teacher=teacher_of())
    if hindrance != "no status":
        write_status(tmp_path, "running", step=3, steps=7)

    def full(*_):
        raise OSError("full")

    if hindrance == "a full disk":
        monkeypatch.setattr(RunStatus, "write", full)
    with pytest.raises(RuntimeError, match="lost"), failure_recorded(tmp_path, config):
        raise RuntimeError("lost")
    monkeypatch.undo()
    if hindrance != "no status":
        status = read_json(tmp_path / "status.json", needed="test")
        assert status == {"schema": "stillroom/status/1", "state": "running", "step": 3, "steps": 7}


def test_what_ends_a_run_without_an_error_leaves_its_status(tmp_path, corpus, reader, teacher_folder):
    config = config_of(corpus, teacher_folder)
    prepare_run(tmp_path, config, reader=reader, teacher=teacher_of())
    for ends in (SystemExit, None):
        write_status(tmp_path, "running", step=3, steps=7)
        with pytest.raises(SystemExit) if ends else contextlib.nullcontext(), failure_recorded(tmp_path, config):
            if ends:
                raise ends
        assert read_json(tmp_path / "status.json", needed="test")["state"] == "running"
