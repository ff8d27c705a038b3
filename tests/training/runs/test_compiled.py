"""Compiled layers give what plain ones give, for any length, without a break; where there is no compiler a line says so."""

from __future__ import annotations

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from tests.training.conftest import write_corpus, write_teacher
from training import loop
from training.config.load import resolved
from training.config.model import StudentShape
from training.runs import compiled
from training.runs.compiled import compile_layers
from training.setup import make_student
from training.teacher import load_teacher

CPU = torch.device("cpu")


@pytest.fixture(name="models")
def teacher_and_student(tmp_path):
    write_teacher(tmp_path / "teacher")
    teacher = load_teacher(tmp_path / "teacher")
    return teacher, make_student(StudentShape(layers=2, dropout=0.2), teacher, target_layers=(1, 2), seed=0).train()


def losses_and_gradients(teacher, student, lengths):
    torch.manual_seed(1)
    wave = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(2))
    for row, length in enumerate(lengths):
        wave[row, length:] = 0
    num_samples = torch.tensor(lengths)
    target, _ = teacher.layers(wave, num_samples, only=(1, 2))
    loss = (student(wave, num_samples).predictions - target).square().mean()
    gradients = torch.autograd.grad(loss, [one for one in student.parameters() if one.requires_grad])
    return loss.item(), torch.cat([one.flatten() for one in gradients])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of the compiler, about tensors of its own
def test_compiled_layers_give_the_losses_of_plain_ones_at_every_length_without_a_break(models):
    teacher, student = models
    reports = []
    plain = copy.deepcopy(models)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    counters.clear()
    compile_layers(teacher, student, precision="float32", device=CPU, report=reports.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert not reports
    assert all(one.grad is None for one in student.parameters())
    found = counters["stats"]["unique_graphs"]
    for lengths in ([8000, 8000], [9000, 4000, 2000], [16_000], [700, 12_345, 5000, 6000]):
        expected, slope = losses_and_gradients(*plain, lengths)
        loss, gradient = losses_and_gradients(teacher, student, lengths)
        assert loss == pytest.approx(expected, abs=1e-5)
        assert (gradient - slope).norm() < 1e-4 * slope.norm()
    assert not counters["graph_break"]
    assert found >= 2  # of the student with a gradient, of the teacher without
    assert counters["stats"]["unique_graphs"] <= found + 4  # with and without padding, not one a length


def test_without_a_compiler_a_run_goes_on_and_says_so(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    write_teacher(tmp_path / "teacher")
    said = []

    def no_compiler(*_, **__):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler\nmore of it")

    monkeypatch.setattr(compiled, "tried", no_compiler)
    runs = {}
    for name, keys in {"compiled": {"compile": True}, "plain": {}}.items():
        config = resolved(
            {
                "corpus": str(tmp_path / "corpus"), "teacher": {"name": str(tmp_path / "teacher")}, "crop_s": 0.8, "steps": 2,
                "batch": {"utterances": 4}, "workers": 0, "validate_utterances": 2, "student": {"layers": 2}, **keys,
            },
            where="test",
        )  # fmt: skip
        assert loop.distil(config, tmp_path / name, report=said.append) == "done"
        runs[name] = load_teacher(tmp_path / name)
    lines = [line for line in said if "compile" in line]
    assert lines == [
        "compile: true does not work here, so the run goes on without it; RuntimeError: InvalidCxxCompiler: No working C++ compiler"
    ]
    assert runs["compiled"].digest == runs["plain"].digest


def test_compiling_is_of_all_transformer_layers_and_undone_where_it_fails(models, monkeypatch):
    teacher, student = models
    layers = [layer for model in models for layer in model.trunk.encoder.transformer.layers]
    seen = []

    def tried(given, **_):
        seen.append((list(given), [layer._compiled_call_impl is not None for layer in layers]))
        student.heads.expand.weight.grad = torch.ones_like(student.heads.expand.weight)
        if len(seen) == 2:
            raise ValueError

    monkeypatch.setattr(compiled, "tried", tried)
    compile_layers(teacher, student, precision="float32", device=CPU, report=seen.append)
    assert seen == [([student, teacher], [True] * len(layers))]
    assert all(one.grad is None for one in student.parameters())
    compile_layers(teacher, student, precision="float32", device=CPU, report=lambda _: None)
    assert not any(layer._compiled_call_impl for layer in layers)


class Model:
    """Notes what it is given, and in what it computes; with a gradient if it has a weight."""

    def __init__(self, weight):
        self.weight, self.calls = weight, []

    def __call__(self, wave, lengths):
        self.calls.append((wave, lengths.tolist(), torch.is_autocast_enabled("cpu")))
        return (wave[:, :3] * self.weight, "other")


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_trial_is_of_noise_of_two_lengths_in_the_precision_of_the_run_and_draws_nothing(precision):
    student, teacher = Model(torch.nn.Parameter(torch.tensor(2.0))), Model(torch.tensor(2.0))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    compiled.tried([student, teacher], precision=precision, device=CPU)
    assert torch.equal(torch.get_rng_state(), before)
    for model in (student, teacher):
        ((wave, lengths, is_mixed),) = model.calls
        assert (tuple(wave.shape), lengths, is_mixed) == ((2, 16_000), [16_000, 8000], precision == "bfloat16")
        assert wave[0].count_nonzero() > 15_000
        assert wave[1, :8000].count_nonzero() > 7500
        assert not wave[1, 8000:].any()
    assert float(student.weight.grad) == pytest.approx(float(wave[:, :3].sum()), abs=1e-4)
    assert teacher.weight.grad is None


def test_layers_are_compiled_for_any_length_with_the_draws_of_plain_ones_after_a_fresh_start(models, monkeypatch):
    teacher, student = models
    events, said = [], []

    def tried(given, **how):
        events.append(([type(one).__name__ for one in given], how))
        raise TypeError("\n" + "y" * 300 + "\nmore")

    monkeypatch.setattr(torch.compiler, "reset", lambda: events.append("reset"))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **how: events.append((type(layer).__name__, how)))
    monkeypatch.setattr(compiled, "tried", tried)
    layers = len(student.trunk.encoder.transformer.layers)
    compile_layers(None, student, precision="bfloat16", device=torch.device("meta"), report=said.append)
    assert events == [
        "reset", *[("EncoderLayer", {"dynamic": True, "options": {"fallback_random": True}})] * layers,
        (["Student"], {"precision": "bfloat16", "device": torch.device("meta")}),
    ]  # fmt: skip
    (line,) = said
    start = "compile: true does not work here, so the run goes on without it; TypeError: yyy"
    assert line.startswith(start)
    assert 190 <= line.count("y", line.index(": yyy")) <= 200
    events.clear()
    compile_layers(teacher, student, precision="float32", device=CPU, report=said.append)
    assert len(events) == 2 + layers + len(teacher.trunk.encoder.transformer.layers)
