"""What is known of a model before it runs: its kind, its origin, its heads, what it was trained on."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from evaluation.config import RunSource
from evaluation.data.utterances import TooFewFramesError
from evaluation.exposure.training_set import TrainingUnknownError, exposure_of, folder_of, teacher_exposure
from evaluation.features import device_of
from evaluation.measures.teacher_agreement import teacher_of
from evaluation.model_scores import Findings, add_framewise, trials_record
from evaluation.models import (
    LogMel,
    OtherWidthError,
    distillation_heads,
    exported_facts,
    inspect_model,
    kind_of,
    load_model,
    open_model,
    origin_of,
)
from manifests.io.json_yaml import write_json, write_yaml
from manifests.results.training_exposure import TrainedOn
from tests.oracles.fake_encoder import FakeEncoder
from tests.training.conftest import encoder_config
from training.models.encoder import EncoderConfig
from training.models.student import Heads, LayerHeads
from training.runs.checkpoint import module_tensors, write_checkpoint

WIDTH = 24  # of the layers of `encoder_config`


def write_run(run, *, heads=None, folder="checkpoints", step=7, shape=None, **facts):
    """A run of a student of two layers with random weights; its config names a corpus that is not there."""
    config = EncoderConfig.parse(encoder_config(layers=2) | (shape or {}), where="test")
    modules = {"trunk": config.build()} | ({} if heads is None else {"heads": heads})
    mark = {"cursor": (1, 2, 3), "encoder": config, "sums": {}, "counts": {}, "best_loss": None, "facts": facts}
    write_checkpoint(run / folder, module_tensors(student=torch.nn.ModuleDict(modules)), step=step, **mark)
    (run / "heard.txt").write_text("")
    write_yaml(run / "config.yaml", {"corpus": "/gone", "views": {"kind": "cdm1"}, "teacher": {"name": "nano"}})
    write_json(run / "provenance.json", {"command": ["stillroom", "train", "a b.yaml", "run"]})
    return run


def test_the_heads_of_a_run_are_those_of_the_checkpoint_that_is_named(tmp_path):
    torch.manual_seed(0)
    of_folder = {"checkpoints": Heads(WIDTH, 3, WIDTH), "best": Heads(WIDTH, 3, WIDTH)}
    for folder, heads in of_folder.items():
        write_run(tmp_path / "run", heads=heads, folder=folder)
    layers = [torch.randn(1, 5, WIDTH) for _ in range(2)]
    for checkpoint, folder in (("last", "checkpoints"), ("best", "best")):
        source = RunSource(run=str(tmp_path / "run"), checkpoint=checkpoint)
        found = distillation_heads("m", source, load_model(source, 16000))
        assert torch.equal(found(layers), of_folder[folder](layers))
        assert not any(parameter.requires_grad for parameter in found.parameters())


def test_a_student_without_heads_on_its_last_layer_has_none_and_those_of_another_width_are_refused(tmp_path):
    own = FakeEncoder()
    own.heads = torch.nn.Identity()
    assert distillation_heads("m", "fake", own) is own.heads
    assert distillation_heads("m", "fake", FakeEncoder()) is None
    for name, heads in (("none", None), ("by layer", LayerHeads(WIDTH, (1, 2), WIDTH))):
        source = RunSource(run=str(write_run(tmp_path / name, heads=heads)))
        assert distillation_heads("m", source, load_model(source, 16000)) is None
    source = RunSource(run=str(write_run(tmp_path / "wide", heads=Heads(WIDTH, 2, 16))))
    with pytest.raises(
        OtherWidthError, match=r"^model 'm': .* its layers have 24 features, its heads' predictions 16;"
    ):
        distillation_heads("m", source, load_model(source, 16000))


def test_a_run_is_described_by_its_record(tmp_path):
    heads = Heads(WIDTH, 3, WIDTH)
    write_run(tmp_path / "run", heads=heads, folder="best", step=3, teacher="nano", trained={"kinds": {}})
    dataset = SimpleNamespace(sample_rate=16000, test={})
    source = RunSource(run=str(tmp_path / "run"), checkpoint="best", system="ours")
    found = inspect_model("m", source, dataset=dataset, with_heads=True)
    facts = found.facts
    assert (facts.kind, facts.origin, facts.layers, facts.system, facts.heard_known) == (
        "run",
        "run, best",
        2,
        "ours",
        False,
    )
    assert facts.details == {
        "command": ["stillroom", "train", "a b.yaml", "run"], "teacher": "nano", "checkpoint": "best", "steps": 3,
    }  # fmt: skip
    encoder = load_model(source, 16000)
    assert (facts.digest, facts.parameters) == (encoder.digest, sum(one.numel() for one in encoder.parameters()))
    assert (found.num_features, found.num_heads) == (WIDTH, 3)
    assert inspect_model("m", source, dataset=dataset).num_heads == 0
    (tmp_path / "run/heard.txt").write_text("0" * 16 + "\n")
    assert inspect_model("m", source, dataset=dataset).facts.heard_known
    logmel = inspect_model("m", "logmel", dataset=dataset, with_heads=True)
    assert (logmel.facts.heard_known, logmel.facts.system, logmel.num_features, logmel.num_heads) == (True, None, 80, 0)
    assert (logmel.clock.hop, logmel.clock.receptive, logmel.clock.rate_hz) == (320, 400, 16000)


def test_an_export_is_known_by_the_record_beside_its_weights(tmp_path):
    for name, record in (("a", {"facts": {"views": "cdm1"}}), ("b", {"facts": 3}), ("c", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "export.json").write_text(json.dumps(record))
        (tmp_path / name / "model.bin").touch()
    (tmp_path / "d").mkdir()
    assert exported_facts(str(tmp_path / "a")) == exported_facts(str(tmp_path / "a/model.bin")) == {"views": "cdm1"}
    assert exported_facts(str(tmp_path / "b")) == exported_facts(str(tmp_path / "c")) == {}
    assert [
        exported_facts(source) for source in (str(tmp_path / "d"), "hubert", RunSource(run=str(tmp_path / "a")))
    ] == [None] * 3


def test_only_a_teacher_is_what_others_are_compared_with():
    plain, distiller = FakeEncoder(), FakeEncoder()
    distiller.facts = {"source": "s3prl distiller"}
    run = RunSource(run="/x/run")
    assert [kind_of(*one, is_export=exported) for one, exported in (
        ((run, plain), True), (("logmel", plain), False), (("x", distiller), True), (("x", distiller), False), (("x", plain), False),
    )] == ["run", "floor", "export", "checkpoint", "teacher"]  # fmt: skip
    assert [origin_of(one) for one in (run, "/models/hubert", "nano")] == ["run, last", "hubert", "nano"]


def opened(source, *, features="last", own=None, monkeypatch=None):
    config = SimpleNamespace(models={"m": source}, tasks=[SimpleNamespace(features=features)])
    return open_model("m", config, None, sample_rate=16000, device="cpu")


def test_what_is_not_known_of_a_models_training_is_noted_and_why(tmp_path):
    found = opened(RunSource(run=str(write_run(tmp_path / "run"))), features="sum+heads")
    assert (found.trained, found.teacher_trained) == (None, TrainedOn.clean())  # nano's own record
    first, second = found.notes
    assert first.startswith("m: what it was trained on is not known: ")
    assert "/gone" in first
    assert second == "sum+heads: it has no distillation heads, so its sum is over its layers"
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher/trained.json").write_text("{")
    write_yaml(tmp_path / "run/config.yaml", {"views": None, "teacher": {"name": str(tmp_path / "teacher")}})
    found = opened(RunSource(run=str(tmp_path / "run")))
    assert (found.trained, found.teacher_trained) == (TrainedOn.clean(), None)
    [note] = found.notes
    assert note.startswith("the teacher of m: what it was trained on is not known: ")
    found = opened("logmel")
    assert (found.trained, found.teacher_trained, found.notes) == (TrainedOn.clean(), TrainedOn.clean(), ())


def test_a_model_has_its_heads_where_a_task_reads_them(tmp_path):
    source = RunSource(run=str(write_run(tmp_path / "run", heads=Heads(WIDTH, 3, WIDTH))))
    assert opened(source).heads is None
    assert opened(source, features="sum+heads").heads.num_targets == 3


def test_a_card_says_what_a_model_was_trained_on(tmp_path):
    one = {"schema": TrainedOn.SCHEMA, "kinds": {"clip": {"count": 3}}, "chains": [["clip"]]}
    assert exposure_of("m", "x", {"trained": one}).kinds["clip"].count == 3
    with pytest.raises(
        TrainingUnknownError, match=r"^m: what it was trained on is not known: the card of m, key trained"
    ):
        exposure_of("m", "x", {"trained": {"schema": TrainedOn.SCHEMA, "kinds": 3}})
    (tmp_path / "card.json").write_text(json.dumps({"trained": one}))
    assert teacher_exposure("m", "x", {"teacher": str(tmp_path)}).kinds["clip"].count == 3
    assert exposure_of("m", str(tmp_path), {}).kinds["clip"].count == 3
    TrainedOn.clean().write(tmp_path / "trained.json")
    assert exposure_of("m", str(tmp_path), {}) == TrainedOn.clean()
    assert exposure_of("m", "hubert", {}) is None
    assert folder_of("Nano") == folder_of("nano") != folder_of(str(tmp_path))


def test_log_mel_of_a_wave_shorter_than_a_frame_is_no_frame_and_silence_is_the_floor():
    floor = LogMel(16000)
    energies, frames = floor.layers(torch.zeros(2, 100), torch.tensor([100, 50]))
    assert (energies.shape, frames.tolist()) == ((2, 1, 1, 80), [0, 0])
    assert energies.unique().tolist() == pytest.approx([-23.02585])  # of 1e-10
    assert [floor.config.num_frames(count) for count in (399, 400, 719, 720)] == [0, 1, 1, 2]
    assert LogMel(8000).digest != floor.digest == LogMel(16000).digest


def test_a_teacher_is_another_model_by_the_digest_that_a_student_names():
    facts = {
        name: SimpleNamespace(digest=digest, details={} if teacher is None else {"teacher_sha256": teacher})
        for name, digest, teacher in (
            ("itself", "1", "1"),
            ("student", "2", "3"),
            ("teacher", "3", None),
            ("other", "4", "9"),
        )
    }
    assert [teacher_of(name, facts) for name in facts] == [None, "teacher", None, None]


def test_each_frame_probe_has_its_own_scores_and_outcomes():
    task = SimpleNamespace(name="t")
    outcomes = {
        ("cer", 1): {("u", "clean"): (3.0, 4.0)},
        ("cer", 0): {("u", "clean"): (1.0, 4.0)},
        ("wer", 0): {("u", "clean"): (2.0, 2.0)},
    }
    probes = SimpleNamespace(task=task, outcomes=outcomes, learning_rate=0.01, probes=[None, None])
    found, setup = Findings(), SimpleNamespace(copies=SimpleNamespace(numbers={("u", "clean"): 0}))
    add_framewise(found, probes, setup)
    assert [(one.measure, one.probe, one.value) for one in found.scores] == [
        ("cer", 0, 0.25),
        ("cer", 1, 0.75),
        ("wer", 0, 1.0),
    ]
    assert [(one.measure, one.probe, one.counts) for one in found.outcomes] == [
        ("cer", 0, "1"),
        ("cer", 1, "3"),
        ("wer", 0, "2"),
    ]
    assert (found.chosen, found.chosen_is) == ({"t": (0.01, 0.01)}, {"t": "learning rate"})
    probes.outcomes = {("cer", 0): {("u", "clean"): (0.0, 4.0)}}
    add_framewise(Findings(), probes, setup)  # no edit at all is no lack of frames
    probes.outcomes = {("cer", 0): {("u", "clean"): (0.0, 0.0)}}
    with pytest.raises(TooFewFramesError, match=r"^task 't': no frame with something to predict is left to test on"):
        add_framewise(Findings(), probes, setup)


def test_trials_are_written_by_the_numbers_of_their_copies():
    first = (("u", "noise-0"), ("v", "clean"), True, 0.123456789)
    verified = SimpleNamespace(trials=((first, (("v", "clean"), ("u", "clean"), False, -0.5)),) * 2)
    numbers = {("u", "clean"): 0, ("u", "noise-0"): 1, ("v", "clean"): 2}
    record = trials_record(verified, numbers, task="who")
    assert (record.task, record.copies, record.enrolled, record.same) == ("who", "1 2", "2 0", "10")
    assert record.scores == ("0.12345679 -0.5",) * 2


def test_a_baseline_without_parameters_runs_where_its_window_is() -> None:
    """`meta` stands for a GPU: waves must follow the buffers there."""
    assert device_of(LogMel(16000)) == torch.device("cpu")
    assert device_of(LogMel(16000).to("meta")) == torch.device("meta")
