"""What is known of a model before it runs: its kind, its origin, its heads, what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from evaluation.config import RunSource
from evaluation.data.utterances import OtherRateError, TooFewFramesError
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
from evaluation.onnx_model import OnnxModel, onnx_folder
from manifests.errors import BadDocumentError, UsageError
from manifests.io.json_yaml import write_json, write_yaml
from manifests.results.training_exposure import TrainedOn
from tests.oracles.fake_encoder import FakeEncoder
from tests.training.conftest import encoder_config
from training.export.onnx import graph_digest
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
    for source in ("fake", RunSource(run="/gone")):
        assert distillation_heads("m", source, own) is own.heads
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
    assert floor.layers(torch.zeros(1, 399), torch.tensor([399]))[0].shape == (1, 1, 1, 80)
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


@pytest.mark.parametrize(("rate_hz", "receptive", "hop"), [(16000, 400, 320), (8000, 200, 160), (22050, 551, 441)])
def test_log_mel_has_frames_of_25_ms_every_20_ms_at_any_rate_and_one_layer_however_often(rate_hz, receptive, hop):
    floor = LogMel(rate_hz)
    assert (floor.config.receptive_samples, floor.config.hop_samples) == (receptive, hop)
    assert (floor.config.sample_rate, floor.sample_rate) == (rate_hz, rate_hz)
    counts = (0, receptive - 1, receptive, receptive + hop - 1, receptive + hop)
    assert [floor.config.num_frames(count) for count in counts] == [0, 0, 1, 1, 2]
    assert (floor.name, floor.num_layers, floor.num_features, floor.num_parameters) == ("logmel", 1, 80, 0)
    assert (floor.trained_on, floor.facts, dict(floor.state_dict())) == (frozenset(), {}, {})
    wave = torch.randn(2, 3 * receptive, generator=torch.Generator().manual_seed(1))
    one, frames = floor.layers(wave, torch.tensor([3 * receptive, receptive]))
    assert frames.tolist() == [floor.config.num_frames(3 * receptive), 1]
    three, _ = floor.layers(wave, torch.tensor([3 * receptive, receptive]), only=(1, 1, 1))
    assert one.shape[1] == 1
    assert torch.equal(three, one.expand(-1, 3, -1, -1))
    twice, _ = floor.layers(2 * wave, torch.tensor([3 * receptive] * 2))
    torch.testing.assert_close(twice - one, torch.full_like(one, 4.0).log(), atol=1e-3, rtol=1e-3)  # of powers


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """Which of the loaders is called, and with what."""
    monkeypatch.setattr("evaluation.models.load_run", lambda run, *, checkpoint: ("run", run, checkpoint))
    monkeypatch.setattr("evaluation.models.load_teacher", lambda name: ("teacher", name))
    monkeypatch.setattr("evaluation.models.OnnxModel", lambda folder: ("onnx", folder))
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph/model.onnx").touch()
    return tmp_path


def test_each_source_has_its_own_loader(loaded):
    for checkpoint in ("last", "best"):
        found = load_model(RunSource(run="/runs/a", checkpoint=checkpoint), 8000)
        assert found == ("run", Path("/runs/a"), checkpoint)
    assert load_model("nano", 8000) == ("teacher", "nano")
    assert load_model("logmel", 8000).sample_rate == 8000
    folder = loaded / "graph"
    assert load_model(str(folder), 8000) == load_model(str(folder / "model.onnx"), 8000) == ("onnx", folder)
    (folder / "config.json").touch()  # of an export to another library, beside a graph
    assert load_model(str(folder), 8000) == ("teacher", str(folder))


def test_a_graph_stands_for_its_folder_by_any_file_of_that_kind(tmp_path):
    (tmp_path / "a").mkdir()
    assert onnx_folder(str(tmp_path / "a")) is None
    (tmp_path / "a/model.onnx").touch()
    (tmp_path / "a/other.txt").touch()
    (tmp_path / "a/sub.onnx").mkdir()
    assert onnx_folder(str(tmp_path / "a")) == onnx_folder(str(tmp_path / "a/model.onnx")) == tmp_path / "a"
    assert onnx_folder(str(tmp_path / "a/other.txt")) is onnx_folder(str(tmp_path / "a/sub.onnx")) is None
    assert onnx_folder(str(tmp_path / "a/gone.onnx")) is onnx_folder("nano") is None


class Facts(FakeEncoder):
    """A model at 8 kHz with heads, whose record has keys that other records have too."""

    def __init__(self):
        super().__init__("facts", num_layers=3, num_features=4)
        self.sample_rate = 8000
        self.facts = {"by": "weights", "trained": {}, "source": "s3prl distiller"}
        self.heads = torch.nn.Linear(4, 4).requires_grad_(requires_grad=False)
        self.heads.forward = lambda layers: torch.zeros(len(layers[0]), 2 + len(layers), 1, 4)


def test_a_models_own_record_counts_before_that_of_its_run_and_that_of_its_export(monkeypatch, tmp_path):
    monkeypatch.setattr("evaluation.models.load_teacher", lambda _: Facts())
    monkeypatch.setattr("evaluation.models.load_run", lambda *_, **__: Facts())
    dataset = SimpleNamespace(sample_rate=8000, test={})
    (tmp_path / "export.json").write_text(json.dumps({"facts": {"by": "export", "views": "cdm1", "trained": 3}}))
    found = inspect_model("m", str(tmp_path), dataset=dataset, with_heads=True)
    assert (found.facts.kind, found.facts.origin, found.facts.system) == ("export", tmp_path.name, None)
    assert found.facts.details == {"by": "weights", "views": "cdm1", "source": "s3prl distiller"}
    assert (found.clock.hop, found.clock.receptive, found.clock.rate_hz) == (320, 400, 8000)
    assert (found.num_features, found.num_heads, found.facts.layers, found.facts.parameters) == (4, 5, 3, 3 * 20 * 4)
    (tmp_path / "export.json").write_text("{}")
    plain = inspect_model("m", str(tmp_path), dataset=dataset)
    assert (plain.facts.kind, plain.num_heads) == ("export", 0)
    (tmp_path / "export.json").unlink()
    assert inspect_model("m", str(tmp_path), dataset=dataset).facts.kind == "checkpoint"
    write_json(tmp_path / "provenance.json", {"command": ["stillroom", "train"]})
    run = inspect_model("m", RunSource(run=str(tmp_path), system="ours"), dataset=dataset)
    assert (run.facts.kind, run.facts.system) == ("run", "ours")
    assert run.facts.details == {"by": "weights", "command": ["stillroom", "train"], "source": "s3prl distiller"}
    for rate_hz in (8000, 16000):
        logmel = inspect_model("m", "logmel", dataset=SimpleNamespace(sample_rate=rate_hz, test={}))
        assert logmel.clock.rate_hz == rate_hz
    with pytest.raises(OtherRateError, match="model 'm' takes waves at 8000 Hz, the corpus has 16000 Hz"):
        inspect_model("m", "any", dataset=SimpleNamespace(sample_rate=16000, test={}))


def test_a_teachers_name_has_no_export_whatever_lies_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "export.json").write_text(json.dumps({"facts": {"views": "cdm1"}}))
    monkeypatch.chdir(tmp_path)
    assert exported_facts("nano") is None
    assert exported_facts(".") == {"views": "cdm1"}


def test_a_model_is_opened_where_it_runs_with_all_that_is_known_of_it(monkeypatch, tmp_path):
    requests = []
    monkeypatch.setattr(
        "evaluation.models.load_teacher", lambda name: Facts() if name == str(tmp_path) else FakeEncoder()
    )
    for name in ("exposure_of", "teacher_exposure"):
        monkeypatch.setattr(
            f"evaluation.models.{name}", lambda *given, name=name: requests.append((name, *given)) or name
        )
    (tmp_path / "export.json").write_text(json.dumps({"facts": {"by": "export", "views": "cdm1"}}))
    config = SimpleNamespace(
        models={"a": "other", "m": str(tmp_path)},
        tasks=[SimpleNamespace(features=one) for one in ("last", "sum+heads")],
    )
    teacher = {"u": torch.zeros(1)}
    found = open_model("m", config, "facts", sample_rate=8000, device="meta", teacher=teacher)
    known = {"by": "weights", "views": "cdm1", "trained": {}, "source": "s3prl distiller"}
    assert requests == [(name, "m", str(tmp_path), known) for name in ("exposure_of", "teacher_exposure")]
    assert (found.name, found.facts, found.teacher, found.notes) == ("m", "facts", teacher, ())
    assert (found.trained, found.teacher_trained) == ("exposure_of", "teacher_exposure")
    assert isinstance(found.encoder, Facts)
    assert {one.device.type for part in (found.encoder, found.heads) for one in part.parameters()} == {"meta"}
    logmel = open_model("l", SimpleNamespace(models={"l": "logmel"}, tasks=[]), None, sample_rate=8000, device="meta")
    assert (logmel.encoder.sample_rate, device_of(logmel.encoder).type, logmel.teacher) == (8000, "meta", None)
    assert len(requests) == 2


def test_the_heads_of_a_run_move_to_where_it_runs_and_are_no_longer_trained(tmp_path):
    source = RunSource(run=str(write_run(tmp_path / "run", heads=Heads(WIDTH, 3, WIDTH))))
    config = SimpleNamespace(models={"m": source}, tasks=[SimpleNamespace(features="sum+heads")])
    heads = open_model("m", config, None, sample_rate=16000, device="meta").heads
    assert {one.device.type for one in heads.parameters()} == {"meta"}
    assert not heads.training


def graph(layers):
    """An export whose graph gives these layers for every wave of ten samples a frame; nothing is read."""
    model = OnnxModel.__new__(OnnxModel)
    torch.nn.Module.__init__(model)
    model.path, model.name = Path("folder/model.onnx"), "folder"
    model.num_layers, model.num_features = 3, 2
    model.config = SimpleNamespace(num_frames=lambda count: count // 10)
    model.session = layers
    return model


def test_layers_of_a_graph_are_those_of_each_wave_alone_with_zeros_after_its_end(monkeypatch):
    given = []

    def layers_of(session, wave):
        given.append(wave.clone())
        frames = wave[0].unfold(0, 10, 10).sum(-1)
        return torch.stack([frames + number for number in (1, 2, 3)])[None, ..., None].expand(1, 3, -1, 2)

    monkeypatch.setattr("evaluation.onnx_model.layers_of", layers_of)
    wave = torch.ones(3, 35)
    wave[1] *= 2
    found, frames = graph("session").layers(wave, torch.tensor([12, 35, 9]))
    assert [one.shape for one in given] == [(1, 12), (1, 35)]
    assert (found.shape, frames.tolist()) == ((3, 3, 3, 2), [1, 3, 0])
    assert found[0, :, :, 0].tolist() == [[11, 0, 0], [12, 0, 0], [13, 0, 0]]
    assert found[1, :, :, 1].tolist() == [[21] * 3, [22] * 3, [23] * 3]
    assert not found[2].any()
    some, frames = graph("session").layers(wave, torch.tensor([12, 35, 9]), only=(3, 1))
    assert torch.equal(some, found[:, [2, 0]])
    assert frames.tolist() == [1, 3, 0]


def test_a_graph_that_fails_or_gives_something_else_is_one_line(monkeypatch):
    def failing(session, wave):
        if isinstance(session, Exception):
            raise session
        return session

    monkeypatch.setattr("evaluation.onnx_model.layers_of", failing)
    bad = "b" * 300
    for session, words in (
        (RuntimeError(f"two\n lines {bad}"), f"(two lines {'b' * 150}"), (torch.zeros(1, 3, 2, 3), "its output is (1, 3, 2, 3), expected (1, 3, 2, 2)"),
        (torch.zeros(1, 3, 2, 2).double(), "its output is (1, 3, 2, 2), expected (1, 3, 2, 2)"),
    ):  # fmt: skip
        with pytest.raises(BadDocumentError) as caught:
            graph(session).layers_of_one(torch.zeros(1, 25))
        assert str(caught.value).startswith("folder/model.onnx: onnxruntime cannot run it (")
        assert words in str(caught.value)
        assert bad not in str(caught.value)
        assert "\n" not in str(caught.value)
    right = torch.ones(1, 3, 2, 2)
    assert graph(right).layers_of_one(torch.zeros(1, 25)) is right
    assert graph(RuntimeError("not run")).layers_of_one(torch.zeros(1, 9)).shape == (1, 3, 0, 2)


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """A folder with a graph of two files that nothing runs, and its record: a model of three layers at 8 kHz."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(bytes(30_000))
    (folder / "model.onnx.data").write_bytes(bytes(20_000))
    ran = []

    def layers_of(session, wave):
        ran.append((session, tuple(wave.shape)))
        return torch.zeros(1, 3, EncoderConfig.parse(shape, where="test").num_frames(wave.shape[1]), WIDTH)

    monkeypatch.setattr("evaluation.onnx_model.opened", lambda path: f"session of {path.name}")
    monkeypatch.setattr("evaluation.onnx_model.layers_of", layers_of)
    shape = encoder_config(layers=3) | {"sample_rate": 8000}

    def write(**changes):
        record = {"int8": False, "encoder": shape, "graph_sha256": graph_digest(folder), **changes}
        write_json(folder / "export.json", {key: value for key, value in record.items() if value is not None})
        return folder

    return SimpleNamespace(folder=folder, write=write, shape=shape, ran=ran)


def test_a_graph_is_described_by_its_record_and_run_once_when_it_is_read(exported, monkeypatch):
    folder = exported.write()
    (folder / "heard.txt").write_text("0123456789abcdef\n")
    monkeypatch.chdir(folder)
    model = OnnxModel(Path())
    assert (model.name, model.sample_rate, model.num_layers, model.num_features) == ("mine", 8000, 3, WIDTH)
    assert (model.num_bytes, model.digest, model.facts) == (50_000, graph_digest(folder), {})
    assert model.trained_on == {"0123456789abcdef"}
    plain = EncoderConfig.parse(exported.shape, where="test").build()
    assert model.num_parameters == sum(one.numel() for one in plain.parameters())
    assert (model.path, model.session, exported.ran) == (
        Path("model.onnx"),
        "session of model.onnx",
        [("session of model.onnx", (1, 8000))],
    )
    rebuilt = model.of_its_shape()
    assert (rebuilt.name, rebuilt.num_layers, rebuilt.num_parameters) == ("mine", 3, model.num_parameters)
    assert [OnnxModel(exported.write(int8=int8)).facts for int8 in (True, False, "true")] == [{"int8": True}, {}, {}]


def test_a_record_that_does_not_fit_its_graph_is_one_line(exported, monkeypatch):
    folder = exported.write()
    model = OnnxModel(folder)
    for changes, words in (
        ({"encoder": None}, "export.json: has no key encoder, the model's shape: export the run again with --to onnx"),
        ({"encoder": {**exported.shape, "encoder_embed_dim": "wide"}}, "export.json: encoder_embed_dim"),
        ({"graph_sha256": "f" * 64}, f"model.onnx: SHA-256 is {model.digest[:16]}…, its manifest says {'f' * 16}…"),
        ({"graph_sha256": None}, f"model.onnx: SHA-256 is {model.digest[:16]}…, its manifest says None"),
    ):
        with pytest.raises(BadDocumentError) as caught:
            OnnxModel(exported.write(**changes))
        assert words in str(caught.value)
        assert str(caught.value).startswith(str(folder))
    for record in (["encoder"], "encoder", 3):
        write_json(folder / "export.json", record)
        with pytest.raises(BadDocumentError, match=r"export\.json: has no key encoder"):
            OnnxModel(folder)
    (folder / "model.onnx.data").unlink()
    for size, is_enough in ((model.num_parameters, True), (model.num_parameters - 1, False)):
        (folder / "model.onnx").write_bytes(bytes(size))
        exported.write()
        if is_enough:
            assert OnnxModel(folder).num_bytes == size
            continue
        with pytest.raises(BadDocumentError, match=rf"model\.onnx: has {size} bytes, its model {size + 1} parameters"):
            OnnxModel(folder)
    (folder / "model.onnx").write_bytes(bytes(50_000))
    exported.write()
    for problem, kind, words in (
        (ImportError("none"), UsageError, "mine is an export to ONNX, which onnxruntime runs, and that is not installed"),
        (RuntimeError("no graph"), BadDocumentError, "model.onnx: onnxruntime cannot run it (no graph): export the run again with --to onnx"),
    ):  # fmt: skip

        def failing(path, problem=problem):
            raise problem

        monkeypatch.setattr("evaluation.onnx_model.opened", failing)
        with pytest.raises(kind) as caught:
            OnnxModel(folder)
        assert words in str(caught.value)
