"""What surrounds a graph in ONNX: its dimensions, its options, its files and their digest; the graph itself is traced elsewhere."""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from manifests.errors import UsageError
from manifests.io.digest import digest
from tests.training.conftest import random_encoder
from training.export import onnx
from training.export.onnx import (
    Plain,
    graph_digest,
    graph_files,
    graph_record,
    layers_of,
    length_of,
    opened,
    quantise,
    quiet,
    write_graph,
    write_onnx,
)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_graph_is_the_encoder_for_waves_of_one_length(normalise):
    """The epsilon is as large as the variance of the waves."""
    encoder = random_encoder(mode="layer_norm", first=True, normalise=normalise, changes={"normalize_epsilon": 0.01})
    wave = 0.1 * torch.randn(2, 2000, generator=torch.Generator().manual_seed(1)) + 0.3 * torch.tensor([[1.0], [-2.0]])
    with torch.no_grad():
        found = Plain(encoder)(wave)
    expected, _ = encoder.layers(wave, torch.tensor([2000, 2000]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx", "onnxscript"])
def test_each_library_that_is_needed_is_looked_for_before_anything_is_written(tmp_path, monkeypatch, missing):
    for name in ("onnxruntime", "onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else SimpleNamespace())
    monkeypatch.setattr(onnx, "write_graph", lambda *_: pytest.fail("it was written"))
    with pytest.raises(
        UsageError, match=r"^--to onnx compares .* not installed: pip install onnx onnxruntime onnxscript$"
    ):
        write_onnx(random_encoder(layers=1), tmp_path)


@pytest.fixture(name="calls")
def recorded_calls(monkeypatch):
    """Everything between the files is a record of how it was called."""
    found = []
    for name in ("onnxruntime", "onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setattr(
        onnx, "write_graph", lambda _, path: found.append(("write", path)) or path.write_bytes(b"graph")
    )
    monkeypatch.setattr(
        onnx, "quantise", lambda path, out, *, in_one_file: found.append(("quantise", path, out, in_one_file))
    )

    def run(outputs, inputs):
        assert outputs == ["layers"]
        return [torch.stack([torch.from_numpy(inputs["wave"])] * 3, dim=1)[..., None].numpy()]

    monkeypatch.setattr(onnx, "opened", lambda path: found.append(("open", path)) or SimpleNamespace(run=run))
    return found


def test_in_int8_a_graph_is_written_rounded_and_removed_and_is_one_file_where_it_can_be(tmp_path, monkeypatch, calls):
    encoder = random_encoder(layers=1)
    path, between = tmp_path / "model.onnx", tmp_path / "float32/model.onnx"
    written = write_onnx(encoder, tmp_path)
    assert calls == [("write", path), ("open", path)]
    assert (written.name, written.loads, written.is_rounded) == (
        "model.onnx",
        "onnxruntime.InferenceSession({path}), wave -> layers",
        False,
    )
    assert written.outputs(torch.arange(4.0)).tolist() == [[[0], [1], [2], [3]]] * 3
    assert [line for line in written.code.splitlines() if "model.onnx" in line] == [
        'session = onnxruntime.InferenceSession("model.onnx")'
    ]
    for most, in_one_file in ((encoder.num_parameters, True), (encoder.num_parameters - 1, False)):
        monkeypatch.setattr(onnx, "LARGEST_IN_ONE_FILE", most)
        calls.clear()
        assert write_onnx(encoder, tmp_path, int8=True).is_rounded
        assert calls == [("write", between), ("quantise", between, path, in_one_file), ("open", path)]
        assert not between.parent.exists()


def test_a_graph_takes_waves_of_one_frame_to_an_hour_and_is_one_file_where_it_can_be(tmp_path, monkeypatch):
    encoder = random_encoder(layers=1, changes={"sample_rate": 8000})
    length = length_of(encoder)
    assert (length.min, length.max) == (400, 3600 * 8000)
    calls = []
    monkeypatch.setattr(torch.onnx, "export", lambda *given, **options: calls.append((given, options)))
    for most, beside in ((encoder.num_parameters, False), (encoder.num_parameters - 1, True)):
        monkeypatch.setattr(onnx, "LARGEST_IN_ONE_FILE", most)
        write_graph(encoder, tmp_path / "graph")
        (model, (wave,), path), options = calls.pop()
        assert isinstance(model, Plain)
        assert not model.training
        assert wave.shape == (2, 8000)
        assert path == tmp_path / "graph"
        (axes,) = options.pop("dynamic_shapes")
        assert {axis: dim.__name__ for axis, dim in axes.items()} == {0: "batch", 1: "samples"}
        assert axes[1].max == 3600 * 8000
        assert options == {
            "dynamo": True, "opset_version": 18, "input_names": ["wave"], "output_names": ["layers"], "external_data": beside,
            "verbose": False,
        }  # fmt: skip


def test_matrix_products_are_rounded_to_seven_bits_each_output_with_a_scale_of_its_own(tmp_path, monkeypatch):
    calls = []
    library = SimpleNamespace(
        QuantType=SimpleNamespace(QInt8="int8", QUInt8="uint8"), quantize_dynamic=lambda *given, **options: calls.append((given, options))
    )  # fmt: skip
    monkeypatch.setattr(onnx.importlib, "import_module", lambda name: {"onnxruntime.quantization": library}[name])
    for in_one_file in (True, False):
        quantise(tmp_path / "a", tmp_path / "b", in_one_file=in_one_file)
        assert calls.pop() == (
            (tmp_path / "a", tmp_path / "b"),
            {
                "op_types_to_quantize": ["MatMul"], "weight_type": "int8", "per_channel": True, "reduce_range": True,
                "use_external_data_format": not in_one_file,
            },
        )  # fmt: skip


def test_a_session_is_quiet_and_runs_on_one_thread_of_the_processor(tmp_path, monkeypatch):
    runtime = SimpleNamespace(
        SessionOptions=SimpleNamespace, InferenceSession=lambda path, options, *, providers: (path, vars(options), providers)
    )  # fmt: skip
    monkeypatch.setattr(importlib, "import_module", lambda name: {"onnxruntime": runtime}[name])
    options = {"intra_op_num_threads": 1, "inter_op_num_threads": 1, "log_severity_level": 4}
    assert opened(tmp_path / "x") == (tmp_path / "x", options, ["CPUExecutionProvider"])
    session = SimpleNamespace(run=lambda names, given: [given["wave"] + len(names), None])
    assert layers_of(session, torch.tensor([[1.0, 2.0]])).tolist() == [[2, 3]]


def test_the_exporter_is_silenced_as_long_as_it_runs(capsys):
    before = logging.root.manager.disable
    logging.disable(7)
    try:
        with pytest.raises(ZeroDivisionError), quiet():
            assert logging.root.manager.disable == logging.WARNING
            print("progress")
            warnings.warn("a warning", stacklevel=1)
            raise ZeroDivisionError
        assert logging.root.manager.disable == 7
    finally:
        logging.disable(before)
    assert capsys.readouterr().out == ""
    with pytest.warns(UserWarning, match="shown"):
        warnings.warn("shown", stacklevel=1)


def test_the_digest_of_a_graph_is_of_its_files_and_its_record_has_the_models_shape(tmp_path):
    graph, data = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    (tmp_path / "other.data").write_bytes(b"no part of it")
    assert graph_files(tmp_path) == []
    graph.write_bytes(b"one")
    assert graph_files(tmp_path) == [graph]
    data.write_bytes(b"two")
    assert graph_files(tmp_path) == [graph, data]
    expected = digest(
        [["model.onnx", hashlib.sha256(b"one").hexdigest()], ["model.onnx.data", hashlib.sha256(b"two").hexdigest()]]
    )
    assert graph_digest(tmp_path) == expected
    encoder = random_encoder(layers=2, changes={"sample_rate": 8000})
    for int8 in (True, False):
        record = graph_record(encoder, tmp_path, int8=int8)
        assert record == {"int8": int8, "encoder": encoder.config.model_dump(mode="json"), "graph_sha256": expected}
        assert record["encoder"]["sample_rate"] == 8000
