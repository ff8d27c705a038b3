"""An export to ONNX is a model of an evaluation: in float32 it has the run's features and scores, in int8 it is smaller and its own."""

from __future__ import annotations

import json
import shutil
import sys

import onnx
import onnxruntime
import pytest
import soundfile
import torch
import yaml

from evaluation import evaluate_models as stage
from evaluation.config import EvaluationConfig
from evaluation.measures.efficiency import measured_efficiency
from evaluation.models import load_model
from evaluation.onnx_model import OnnxModel
from evaluation.report.model_card import export_with_card
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, UsageError
from manifests.io.json_yaml import write_yaml
from tests.evaluation.report.test_html import ONE, TEACHER, document
from tests.evaluation.test_models import write_run
from tests.oracles.tiny_corpus import RATE_HZ, tiny_split, write_corpus
from training.config.load import resolved
from training.export.load import OnnxError
from training.export.onnx import graph_digest
from training.export.write import DiffersError, export_run
from training.models.student import Heads
from training.runs.checkpoint import load_run
from training.teacher import load_teacher

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
NAMES = ("model.onnx", "export.json")


def waves(*lengths: int) -> torch.Tensor:
    """Waves with zeros after their end."""
    batch = 0.05 + 0.1 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1))
    for row, length in zip(batch, lengths, strict=True):
        row[length:] = 0
    return batch


@pytest.fixture(name="folder", scope="module")
def run_and_exports(tmp_path_factory):
    """A run, and its exports in float32 and int8; the graph is traced once."""
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    shape = {"normalize_waveform": True}  # of a plain one: test_model_card
    run = write_run(folder / "run", heads=Heads(24, 2, 24), teacher="nano", views="cdm1", shape=shape)
    config = resolved({"corpus": "/gone", "teacher": {"name": "nano"}}, where="test")
    write_yaml(run / "config.yaml", config.model_dump(mode="json", by_alias=True))
    for name, wave in (("long", waves(12_000)), ("short", waves(3000))):
        soundfile.write(folder / f"{name}.wav", wave[0].numpy(), RATE_HZ)
    audio = (folder / "long.wav", folder / "short.wav")
    export_with_card(run, folder / "float32", form="onnx", audio=audio)
    with pytest.MonkeyPatch.context() as patch:
        traced = folder / "float32/model.onnx"
        patch.setattr("training.export.onnx.write_graph", lambda _, path: shutil.copyfile(traced, path))
        own = json.loads(json.dumps(ONE))
        own["facts"]["digest"] = load_run(run).digest
        document(TEACHER, own).write(folder / "results.json")
        results = [folder / "results.json"]
        done = export_with_card(run, folder / "int8", form="onnx", audio=audio, int8=True, results=results)
        patch.setattr("training.export.write.LARGEST_ROUNDING", done.difference / 2)
        with pytest.raises(DiffersError, match=r"of a layer's root mean square \(at most .*leave out --int8") as caught:
            export_run(run, folder / "none", form="onnx", audio=audio, int8=True)
    assert "\n" not in str(caught.value)
    assert not (folder / "none").exists()
    (folder / "difference").write_text(repr(done.difference))
    return folder


@pytest.fixture(name="copy")
def copy_of_the_float32_export(folder, tmp_path):
    shutil.copytree(folder / "float32", tmp_path / "copy")
    return tmp_path / "copy"


def test_the_float32_export_has_the_runs_features_whatever_it_is_batched_with(folder):
    lengths = (9000, 400, 5001)
    batch, num_samples = waves(*lengths), torch.tensor(lengths)
    run, model = load_run(folder / "run"), load_model(str(folder / "float32"), RATE_HZ)
    for only in (None, (2,), (2, 1)):
        found, num_frames = model.layers(batch, num_samples, only=only)
        expected, expected_frames = run.layers(batch, num_samples, only=only)
        assert num_frames.tolist() == expected_frames.tolist()
        for row, count in enumerate(num_frames.tolist()):
            torch.testing.assert_close(found[row, :, :count], expected[row, :, :count], atol=1e-4, rtol=0)
            assert not found[row, :, count:].any()
    assert (model.num_parameters, model.trained_on) == (run.num_parameters, run.trained_on)
    for length in (400, 20_000):  # for other programs a batch is one call
        [given] = model.session.run(None, {"wave": waves(length, length).numpy()})
        expected, _ = run.layers(waves(length, length), torch.tensor([length] * 2))
        torch.testing.assert_close(torch.from_numpy(given), expected, atol=2e-5, rtol=1e-4)
    assert model.layers(waves(100), torch.tensor([100]))[0].shape == (1, 2, 0, 24)


def test_the_int8_export_is_smaller_and_its_features_are_its_own_by_utterance(folder):
    assert not [path for path in (folder / "int8").iterdir() if path.is_dir()]  # such as the unrounded graph
    exact, rounded = (OnnxModel(folder / name) for name in ("float32", "int8"))
    assert rounded.num_bytes < 0.9 * exact.num_bytes
    assert rounded.digest != exact.digest
    integers = [one for one in onnx.load(folder / "int8/model.onnx").graph.initializer if one.data_type == 3]
    weights = [one for one in map(onnx.numpy_helper.to_array, integers) if one.ndim == 2]
    assert sum(one.size for one in weights) > 2 * 4 * 24 * 24
    assert max(abs(one.astype(int)).max() for one in weights) == 64  # seven bits, the same on every processor
    quiet, loud = 0.01 * waves(4000), 5 * waves(4000)
    batch, _ = rounded.layers(torch.cat([quiet, loud]), torch.tensor([4000, 4000]))
    alone, _ = rounded.layers(quiet, torch.tensor([4000]))
    assert torch.equal(batch[0], alone[0])  # scales of what is rounded are those of one wave
    difference = 0.0
    for name in ("long", "short"):
        wave = torch.from_numpy(soundfile.read(folder / f"{name}.wav", dtype="float32")[0])[None]
        length = torch.tensor([wave.shape[1]])
        ours, theirs = load_run(folder / "run").layers(wave, length)[0][0], rounded.layers(wave, length)[0][0]
        for layer in range(2):
            share = (ours[layer] - theirs[layer]).pow(2).mean().sqrt() / ours[layer].pow(2).mean().sqrt()
            difference = max(difference, float(share))
    assert difference == pytest.approx(float((folder / "difference").read_text()), rel=1e-3)
    assert 1e-4 < difference < 0.1


def test_the_card_of_an_int8_export_says_that_its_scores_are_those_of_the_float_student(folder):
    card = (folder / "int8/README.md").read_text()
    assert "# run in int8\n" in card
    assert "of the student in float32, before it was rounded**" in card


def test_both_are_evaluated_beside_the_run(folder, tmp_path):
    splits = {name: tiny_split(name, count=count) for name, count in (("train", 16), ("dev", 8), ("test", 8))}
    corpus = write_corpus(tmp_path / "tiny", splits)
    models = {"run": str(folder / "run"), "onnx": str(folder / "float32"), "int8": str(folder / "int8/model.onnx")}
    config = {"corpus": str(corpus), "models": models, "measures": ["cosine"], "probes": 1,
              "tasks": [{"kind": "classify", "label": "word"}]}  # fmt: skip
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    results = stage.evaluate(EvaluationConfig.read(tmp_path / "evaluation.yaml"), tmp_path / "out", device="cpu")
    run, exact, rounded = results.cells
    assert [one.facts.kind for one in results.cells] == ["run", "export", "export"]
    for ours, theirs in zip(run.scores, exact.scores, strict=True):
        assert ours.model_copy(update={"value": theirs.value}) == theirs
        assert ours.value == pytest.approx(theirs.value, abs=1e-3, rel=1e-3), (ours.measure, ours.condition, ours.layer)
    assert [one.counts for one in run.outcomes] == [one.counts for one in exact.outcomes]
    assert rounded.scores != exact.scores
    assert (exact.facts.details["views"], "int8" in exact.facts.details, rounded.facts.details["int8"]) == (
        "cdm1",
        False,
        True,
    )
    assert exact.efficiency.macs_per_s == rounded.efficiency.macs_per_s == run.efficiency.macs_per_s > 0
    for cell, name in ((exact, "float32"), (rounded, "int8")):
        assert cell.efficiency.size_mb == pytest.approx((folder / name / "model.onnx").stat().st_size / 1e6)
    assert set(exact.seen) == set(rounded.seen) == {"c", "n"}  # trained on clean speech alone, which trained.json says


def test_what_was_trained_on_is_read_beside_the_graph(copy):
    digest = "0123456789abcdef"
    (copy / "heard.txt").write_text(f"{digest}\n")
    with pytest.raises(DigestMismatchError, match=r"heard\.txt"):
        OnnxModel(copy)
    record = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps({**record, "heard_sha256": None}))
    assert OnnxModel(copy).trained_on == {digest}


def signed(folder, **changes):
    """The record with the digest of the graph as it is."""
    record = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**record, "graph_sha256": graph_digest(folder), **changes}))


def other_graph(folder):
    """A graph that another program wrote."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["wave"], ["layers"])
    floats = [value(name, onnx.TensorProto.FLOAT, ["batch", "samples"]) for name in ("wave", "layers")]
    weights = onnx.numpy_helper.from_array(torch.zeros(100_000).numpy(), "unused")
    graph = onnx.helper.make_graph([node], "other", floats[:1], floats[1:], [weights])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), folder / "model.onnx")


def flip(folder):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def cut(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:20_000])


def wider(folder):
    record = json.loads((folder / "export.json").read_text())
    signed(folder, encoder={**record["encoder"], "encoder_ff_interm_features": 65536})


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (flip, DigestMismatchError, "the file is damaged or was replaced"),
        (lambda folder: (cut(folder), signed(folder)), BadDocumentError, "cannot run it"),
        (lambda folder: ((folder / "model.onnx").write_bytes(bytes(300_000)), signed(folder)), BadDocumentError, "cannot run it"),
        (lambda folder: (other_graph(folder), signed(folder)), BadDocumentError, r"its output is \(1, 16000\), expected \(1, 2, 49, 24\)"),
        (wider, BadDocumentError, "bytes"),
        (lambda folder: (folder / "export.json").unlink(), MissingFileError, "stillroom export --to onnx"),
        (lambda folder: (folder / "export.json").write_text("[]"), BadDocumentError, "no key encoder"),
    ],
)  # fmt: skip
def test_a_damaged_or_other_graph_is_one_line(copy, change, kind, words):
    change(copy)
    with pytest.raises(kind, match=words) as caught:
        load_model(str(copy), RATE_HZ)
    assert "\n" not in str(caught.value)
    assert any(name in str(caught.value) for name in NAMES)


def test_without_onnxruntime_one_line_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"float32 is an export to ONNX.*pip install onnxruntime") as caught:
        load_model(str(folder / "float32"), RATE_HZ)
    assert "\n" not in str(caught.value)


def test_a_graph_runs_on_one_thread(folder, monkeypatch):
    taken = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, **rest: taken.append(options) or session(path, options, **rest)
    )  # fmt: skip
    assert measured_efficiency(OnnxModel(folder / "float32")).real_time_factor > 0
    assert [(one.intra_op_num_threads, one.inter_op_num_threads) for one in taken] == [(1, 1)]


def test_int8_goes_with_onnx_alone(folder):
    with pytest.raises(UsageError, match=r"--int8 goes with --to onnx alone, found --to torchaudio"):
        export_run(folder / "run", folder / "other", form="torchaudio", int8=True)


def test_a_graph_is_no_teacher(folder):
    with pytest.raises(OnnxError, match=r"which `stillroom evaluate` alone reads"):
        load_teacher(folder / "float32")
