"""What an export writes, its own library loads, and hears what the run hears."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from click.testing import CliRunner

from evaluation.cli import export_command
from manifests.corpus.provenance import software
from manifests.corpus.sample import sample_key
from manifests.errors import BadDocumentError, NoSpaceLeftError, UsageError
from manifests.io.atomic import temporary_path, write_text
from manifests.io.digest import bytes_digest
from manifests.io.json_yaml import write_yaml
from tests.oracles import fairseq_models
from tests.training.conftest import RATE_HZ, random_encoder, write_corpus, write_teacher
from training.config.load import resolved
from training.config.model import StudentShape
from training.export import write
from training.export.format import NotExportableError, Written
from training.export.load import OnnxError
from training.export.onnx import graph_record
from training.export.write import (
    DiffersError,
    Exported,
    ExportExistsError,
    comparison_waves,
    corpus_waves,
    export_run,
    largest_difference,
    read_wave,
    write_beside,
)
from training.runs.checkpoint import load_run, module_tensors, write_checkpoint
from training.setup import make_student
from training.teacher import load_teacher

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Support for mismatched")
LARGE = {"mode": "layer_norm", "first": True, "normalise": True}
WAVLM = {"family": "wavlm"}
HEARD = "0123456789abcdef\n"


def make_run(folder, corpus, *, targets=(1, 2, 3), teacher=None, **shape):
    """A run's folder as training leaves it, its student moved a little away from its teacher."""
    folder.mkdir()
    teacher = load_teacher(teacher or write_teacher(folder / "teacher"))
    student = make_student(StudentShape(**shape), teacher, target_layers=targets, seed=1)
    generator = torch.Generator().manual_seed(3)
    for parameter in student.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    for name in ("checkpoints", "best"):
        (folder / name).mkdir()
        write_checkpoint(
            folder / name, module_tensors(student=student), step=5, cursor=(0, 0, 5), encoder=student.config,
            facts={"teacher_layers": list(targets)},
        )  # fmt: skip
    config = resolved({"corpus": str(corpus), "teacher": {"name": "nano"}}, where="test")
    write_yaml(folder / "config.yaml", config.model_dump(mode="json", by_alias=True))
    write_text(folder / "heard.txt", HEARD)
    (folder / "provenance.json").write_text(json.dumps({"heard_sha256": bytes_digest(HEARD.encode())}))
    return folder


def spoken(num_samples=9000, seed=1):
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.02


def layers_of(encoder, wave):
    return encoder.layers(wave[None], torch.tensor([len(wave)]))[0]


@pytest.fixture(name="plain", scope="module")
def distilhubert_run(tmp_path_factory, corpus):
    return make_run(tmp_path_factory.mktemp("runs") / "plain", corpus)


@pytest.fixture(name="normed", scope="module")
def normed_run(tmp_path_factory, corpus):
    return make_run(tmp_path_factory.mktemp("runs") / "normed", corpus, projection_norm=True)


CASES = {
    "distilhubert": ({}, {}, "hubert"),
    "with the projection's norm": ({}, {"projection_norm": True}, "hubert"),
    "wavlm": (WAVLM, {}, "wavlm"),
    "large": (LARGE, {}, "hubert"),
    "large wavlm": ({**WAVLM, **LARGE}, {}, "wavlm"),
    "deep and thin": ({}, {"layers": 3, "width": 16, "feed_forward": 16, "predict": "layers"}, "hubert"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_hugging_face_export_is_the_run_for_transformers_and_for_us(case, tmp_path, corpus):
    transformers = pytest.importorskip("transformers")
    teacher_shape, shape, model_type = CASES[case]
    run = make_run(tmp_path / "run", corpus, teacher=write_teacher(tmp_path / "teacher", **teacher_shape), **shape)
    done = export_run(run, tmp_path / "out", form="huggingface")
    assert done.difference < 2e-5
    assert done.utterances == 6
    assert bool(done.note) == bool(teacher_shape.get("normalise"))
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(model).__name__ == {"hubert": "HubertModel", "wavlm": "WavLMModel"}[model_type]
    wave = spoken()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert extractor.do_normalize == bool(teacher_shape.get("normalise"))
    with torch.no_grad():
        given = extractor(wave.numpy(), sampling_rate=RATE_HZ, return_tensors="pt").input_values
        first = model(given, output_hidden_states=True).hidden_states[1]
    found = layers_of(load_run(run), wave)
    torch.testing.assert_close(found[:, 0], first, atol=5e-3 if extractor.do_normalize else 1e-5, rtol=1e-3)
    again = load_teacher(tmp_path / "out")
    assert again.trained_on == {"0123456789abcdef"}
    (tmp_path / "any").touch()
    modes = {path.stat().st_mode for path in [tmp_path / "any", *(tmp_path / "out").iterdir()]}
    assert len(modes) == 1, "files of an export follow the umask, as any other"
    torch.testing.assert_close(layers_of(again, wave), found, atol=5e-3 if extractor.do_normalize else 1e-5, rtol=1e-3)


def test_a_student_of_wav2vec_2_is_one(tmp_path, corpus):
    pytest.importorskip("transformers")
    folder = write_teacher(tmp_path / "teacher")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pretrained_as": "wav2vec2"}))
    run = make_run(tmp_path / "run", corpus, teacher=folder)
    assert "Wav2Vec2Model" in export_run(run, tmp_path / "out", form="huggingface").loads
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["Wav2Vec2Model"]


@pytest.mark.parametrize("layers", [(1, 2, 3), (3,)])
def test_an_s3prl_export_is_the_run_heads_and_all(layers, tmp_path, corpus):
    pytest.importorskip("s3prl.upstream.distiller.expert")
    from s3prl.upstream.distiller.expert import UpstreamExpert

    run = make_run(tmp_path / "run", corpus, targets=layers)
    done = export_run(run, tmp_path / "out", form="s3prl")
    assert done.difference < 1e-5
    upstream = UpstreamExpert(str(done.path)).eval()
    wave = spoken()
    with torch.no_grad():
        hidden = upstream([wave])["hidden_states"]
    expected = layers_of(load_run(run), wave)
    for layer in (0, 1):  # hidden_states[0] is what enters the first layer
        torch.testing.assert_close(hidden[1 + layer], expected[:, layer], atol=1e-5, rtol=1e-4)
    student = make_student(StudentShape(), load_teacher(run / "teacher"), target_layers=layers, seed=1)
    tensors = safetensors.torch.load_file(next((run / "checkpoints").glob("*.safetensors")))
    student.load_state_dict({name.removeprefix("student."): tensor for name, tensor in tensors.items()})
    predictions = student.eval()(wave[None], torch.tensor([len(wave)])).predictions
    assert len(hidden) == 3 + len(layers)
    for target in range(len(layers)):
        torch.testing.assert_close(hidden[3 + target], predictions[:, target], atol=1e-5, rtol=1e-4)
    assert load_teacher(done.path).trained_on == {"0123456789abcdef"}
    assert load_teacher(done.path).digest == load_run(run).digest


@pytest.mark.parametrize(
    ("teacher_shape", "shape", "reason"),
    [
        ({}, {"projection_norm": True}, "student.projection_norm: false"),
        ({}, {"predict": "layers"}, "student.predict: last"),
        (WAVLM, {"projection_norm": False}, "WavLM"),
        (LARGE, {}, "layer norms come first"),
    ],
)
def test_a_student_that_s3prls_distiller_cannot_be_is_refused_in_one_line(
    teacher_shape, shape, reason, tmp_path, corpus
):
    run = make_run(tmp_path / "run", corpus, teacher=write_teacher(tmp_path / "teacher", **teacher_shape), **shape)
    with pytest.raises(NotExportableError, match=reason) as caught:
        export_run(run, tmp_path / "out", form="s3prl")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_wavlm_without_the_projections_norm_is_none_of_hugging_faces(tmp_path, corpus):
    run = make_run(
        tmp_path / "run", corpus, teacher=write_teacher(tmp_path / "teacher", **WAVLM), projection_norm=False
    )
    with pytest.raises(NotExportableError, match=r"student.projection_norm: true"):
        export_run(run, tmp_path / "out", form="huggingface")
    assert export_run(run, tmp_path / "out", form="torchaudio").difference < 2e-5


@pytest.mark.parametrize("case", CASES)
def test_a_torchaudio_export_needs_nothing_of_ours(case, tmp_path, corpus):
    teacher_shape, shape, _ = CASES[case]
    run = make_run(tmp_path / "run", corpus, teacher=write_teacher(tmp_path / "teacher", **teacher_shape), **shape)
    assert export_run(run, tmp_path / "out", form="torchaudio").difference < 2e-5
    if case != "deep and thin":
        return
    wave = spoken()
    np.save(tmp_path / "wave.npy", wave.numpy())
    code = (
        "import sys, numpy, torch; sys.path.insert(0, 'out'); import load; model, config = load.load(); "
        "wave = load.prepare(torch.from_numpy(numpy.load('wave.npy'))[None], config); "
        "numpy.save('layers.npy', torch.stack(model.extract_features(wave)[0], 1).detach().numpy())"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    found = torch.from_numpy(np.load(tmp_path / "layers.npy"))
    torch.testing.assert_close(found, layers_of(load_run(run), wave), atol=1e-5, rtol=1e-4)


@pytest.mark.slow  # a graph is traced for seconds; in the fast tests that of tests/evaluation/test_onnx_model.py is
@pytest.mark.parametrize("case", ["distilhubert", "large wavlm"])
def test_an_onnx_export_hears_waves_of_any_length(case, tmp_path, corpus):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    teacher_shape, shape, _ = CASES[case]
    run = make_run(tmp_path / "run", corpus, teacher=write_teacher(tmp_path / "teacher", **teacher_shape), **shape)
    done = export_run(run, tmp_path / "out", form="onnx")
    assert done.difference < 2e-5
    session = runtime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    for num_samples in (400, 5001, 40_000):
        wave = torch.stack([spoken(num_samples), spoken(num_samples, seed=2)])
        found = session.run(None, {"wave": wave.numpy()})[0]
        expected, _ = load_run(run).layers(wave, torch.tensor([num_samples] * 2))
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-5, rtol=1e-4)


def spoil_when_saved(monkeypatch, name, change):
    """From now on a torch file has another tensor of a name than was given."""
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, path: save({**state, name: change(state[name])}, path))


def test_a_format_that_spoils_a_weight_is_noticed_and_nothing_is_written(plain, tmp_path, monkeypatch):
    spoil_when_saved(monkeypatch, "encoder.transformer.layers.1.final_layer_norm.bias", lambda bias: bias + 2e-4)
    with pytest.raises(DiffersError, match=r"differs from the run by 0\.0002.*nothing was written") as caught:
        export_run(plain, tmp_path / "out", form="torchaudio")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    soundfile.write(tmp_path / "speech.wav", spoken(2000).numpy(), RATE_HZ)
    spoil_when_saved(monkeypatch, "encoder.transformer.layers.1.final_layer_norm.bias", lambda bias: bias / 0 * 0)
    with pytest.raises(DiffersError, match="differs from the run by nan"):
        export_run(plain, tmp_path / "out", form="torchaudio", audio=(tmp_path / "speech.wav",))
    assert [path.name for path in tmp_path.iterdir()] == ["speech.wav"]


@pytest.mark.parametrize(
    ("form", "file"), [("torchaudio", "weights.pt"), ("s3prl", "distiller.ckpt"), ("huggingface", "model.safetensors")]
)
def test_a_full_disk_is_one_line_and_leaves_no_half_of_an_export(plain, tmp_path, monkeypatch, form, file):
    def full(path, content):
        if file in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        with path.open("wb") as stream:
            return stream.write(content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NoSpaceLeftError, match=f"no space left while writing .*{file}"):
        export_run(plain, tmp_path / "out", form=form)
    assert list(tmp_path.iterdir()) == []


def test_one_utterance_that_differs_is_enough(plain, tmp_path, monkeypatch):
    """Silence does not see the weights of the first convolution."""
    waves = {"speech": spoken(16_000).numpy(), "silence": np.zeros(16_000)}
    for name, wave in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE_HZ)
    spoil_when_saved(monkeypatch, "feature_extractor.conv_layers.0.conv.weight", lambda weight: weight.flip(-1))
    silence, speech = (tmp_path / f"{name}.wav" for name in ("silence", "speech"))
    assert export_run(plain, tmp_path / "silent", form="torchaudio", audio=(silence,)).difference < 1e-4
    for audio in ((silence, speech), (speech, silence)):
        with pytest.raises(DiffersError):
            export_run(plain, tmp_path / "out", form="torchaudio", audio=audio)


def test_a_target_that_is_there_is_left_alone(plain, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ExportExistsError):
        export_run(plain, tmp_path / "out", form="torchaudio")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export_run(plain, tmp_path / "empty", form="torchaudio", checkpoint="best").path == tmp_path / "empty"


def test_without_its_corpus_a_run_is_compared_on_given_audio(tmp_path):
    run = make_run(tmp_path / "run", tmp_path / "gone")
    with pytest.raises(UsageError, match="--audio FILE"):
        export_run(run, tmp_path / "out", form="torchaudio")
    soundfile.write(tmp_path / "speech.wav", spoken(20_000).numpy(), RATE_HZ)
    done = export_run(run, tmp_path / "out", form="torchaudio", audio=(tmp_path / "speech.wav",))
    assert (done.utterances, done.seconds) == (1, 1.25)
    soundfile.write(tmp_path / "wide.wav", np.zeros((800, 2)), 8000)
    with pytest.raises(BadDocumentError, match="8000 Hz and 2 channels"):
        export_run(run, tmp_path / "other", form="torchaudio", audio=(tmp_path / "wide.wav",))
    for name, rate_hz, num_channels in (("slow", 8000, 1), ("stereo", RATE_HZ, 2)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros((8000, num_channels)), rate_hz)
        with pytest.raises(BadDocumentError, match=f"{rate_hz} Hz and {num_channels} channels"):
            export_run(run, tmp_path / "other", form="torchaudio", audio=(tmp_path / f"{name}.wav",))
    soundfile.write(tmp_path / "short.wav", spoken(300).numpy(), RATE_HZ)
    with pytest.raises(UsageError, match="long enough"):
        export_run(run, tmp_path / "other", form="torchaudio", audio=(tmp_path / "short.wav",))


def test_the_command_prints_the_largest_difference(plain, tmp_path):
    done = CliRunner().invoke(export_command, [str(plain), str(tmp_path / "out"), "--to", "torchaudio"])
    assert done.exit_code == 0, done.output
    assert "largest difference from the run over 6 utterances" in done.output
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["largest_difference"] <= 1e-4
    assert record["parameters_sha256"] == load_run(plain).digest


def test_a_missing_library_says_how_to_get_it(normed, tmp_path, monkeypatch):
    for module in ("transformers", "onnxruntime", "s3prl.upstream.distiller.model"):
        monkeypatch.setitem(sys.modules, module, None)
    for form in ("huggingface", "onnx"):
        with pytest.raises(UsageError, match="pip install"):
            export_run(normed, tmp_path / form, form=form)


def test_distilhuberts_of_s3prl_and_hugging_face_begin_a_student_and_are_taught_on(tmp_path):
    pytest.importorskip("s3prl.upstream.distiller.model")
    model, checkpoint = fairseq_models.distiller()
    torch.save(checkpoint, tmp_path / "distilhubert.ckpt")
    teacher = load_teacher(write_teacher(tmp_path / "teacher"))
    shape = StudentShape(init=str(tmp_path / "distilhubert.ckpt"), dropout=0.0)
    student = make_student(shape, teacher, target_layers=(1, 2, 3), seed=0).eval()
    heard = student(spoken()[None], torch.tensor([9000]))
    expected = fairseq_models.layers_of(model, spoken())
    torch.testing.assert_close(torch.stack(heard.layers, dim=1), expected, atol=1e-5, rtol=1e-4)
    assert not student.config.projection_norm


def test_an_export_is_read_back_from_its_folder(plain, tmp_path):
    run = load_run(plain)
    export_run(plain, tmp_path / "out", form="torchaudio")
    found = load_teacher(tmp_path / "out")
    assert (found.digest, found.trained_on, found.config.num_frames(9000)) == (run.digest, run.trained_on, 27)
    assert torch.equal(layers_of(found, spoken()), layers_of(run, spoken()))
    torch.save([1], tmp_path / "out/weights.pt")
    with pytest.raises(BadDocumentError, match="tensors by name"):
        load_teacher(tmp_path / "out")
    for content in ("[]", '{"arguments": {"encoder_num_layers": 3}}'):
        (tmp_path / "out/torchaudio.json").write_text(content)
        with pytest.raises(BadDocumentError, match=r"torchaudio\.json"):
            load_teacher(tmp_path / "out")


def test_an_export_to_s3prl_is_read_back_from_its_folder(plain, tmp_path):
    pytest.importorskip("s3prl")
    export_run(plain, tmp_path / "out", form="s3prl")
    assert load_teacher(tmp_path / "out").digest == load_run(plain).digest


def test_a_folder_of_hugging_face_is_read_as_one_whatever_else_lies_in_it(plain, tmp_path):
    export_run(plain, tmp_path / "out", form="huggingface")
    expected = load_teacher(tmp_path / "out").digest
    for name in ("model.onnx", "distiller.ckpt", "torchaudio.json"):
        (tmp_path / "out" / name).touch()
    assert load_teacher(tmp_path / "out").digest == expected


def test_an_export_to_onnx_says_what_to_name_instead(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/model.onnx").touch()
    with pytest.raises(OnnxError, match="name the run it was made from"):
        load_teacher(tmp_path / "out")


def made(outputs, *, is_rounded=False):
    return Written("", "", "", lambda _: outputs, is_rounded=is_rounded)


def test_the_difference_is_the_largest_of_all_values_or_of_a_layers_root_mean_square():
    """Two layers of two frames: 7.5 is the mean square of the first, 750 of the second."""
    ours = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]])
    theirs = ours - torch.tensor([[[0.0, 0.0], [0.0, 0.5]], [[0.0, -0.25], [0.0, 0.0]]])
    requests = []

    def layers(wave, num_samples):
        requests.append((wave.shape, num_samples.tolist()))
        return ours[None], torch.tensor([2])

    encoder, wave = SimpleNamespace(layers=layers), torch.zeros(5)
    assert largest_difference(encoder, wave, made(theirs)) == 0.5
    assert largest_difference(encoder, wave, made(ours + (ours - theirs))) == 0.5
    found = largest_difference(encoder, wave, made(theirs, is_rounded=True))
    assert found == pytest.approx((0.5**2 / 4 / 7.5) ** 0.5)
    for other in (ours[:, :1], ours[:1], torch.zeros(2, 2, 3)):
        assert largest_difference(encoder, wave, made(other)) == float("inf")
    assert set(map(str, requests)) == {str((torch.Size([1, 5]), [5]))}


def test_what_an_export_may_differ_by_is_shown_with_what_it_is_of():
    exact = Exported(Path("out"), "", 0.000123456, 3, 1.5)
    assert (exact.largest, exact.shown_difference) == (1e-4, "0.00012 (at most 0.0001)")
    rounded = Exported(Path("out"), "", 0.0523, 3, 1.5, int8=True)
    assert (rounded.largest, rounded.shown_difference) == (0.1, "0.052 of a layer's root mean square (at most 0.1)")
    for done, instead in (
        (exact, "please report it with the versions that `pip list` shows"),
        (rounded, "leave out --int8"),
    ):
        expected = f"my run as onnx differs from the run by {done.shown_difference}: nothing was written; {instead}"
        assert str(DiffersError(Path("my run"), done, form="onnx")) == expected
    assert str(ExportExistsError(Path("out"))) == "out is there already; choose another folder, or remove it first"


def test_beside_the_model_is_what_it_was_trained_on_and_from_which_run_it_is(tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    for folder in (run, out):
        folder.mkdir()
    encoder = random_encoder(layers=1, facts={"steps": 7})
    done = Exported(out, "", 2e-5, 3, 4.5678, int8=True)
    expected = {
        "schema": "stillroom/export/1", "run": "run", "format": "s3prl", "parameters_sha256": encoder.digest, "heard_sha256": None,
        "largest_difference": 2e-5, "compared": {"utterances": 3, "seconds": 4.57}, "facts": {"steps": 7}, "software": software(),
    }  # fmt: skip
    (run / "best").mkdir()
    write_beside(out, run / "best" / "..", encoder, done, form="s3prl")
    assert json.loads((out / "export.json").read_text()) == expected
    assert [path.name for path in out.iterdir()] == ["export.json"]
    (run / "heard.txt").write_text(HEARD)
    (run / "trained.json").write_text("{}")
    (out / "model.onnx").write_bytes(b"graph")
    write_beside(out, run, encoder, done, form="onnx")
    record = json.loads((out / "export.json").read_text())
    assert record == {
        **expected, "format": "onnx", "heard_sha256": bytes_digest(HEARD.encode()), **graph_record(encoder, out, int8=True),
    }  # fmt: skip
    assert ((out / "heard.txt").read_text(), (out / "trained.json").read_text()) == (HEARD, "{}")


@pytest.mark.parametrize("splits", [("train", "dev"), ("train",)])
def test_a_run_is_compared_on_clean_utterances_of_its_validation_split_or_of_its_own(splits, tmp_path, monkeypatch):
    """By the samples themselves: each wave is a stretch of a clean one, and no longer than allowed."""
    pcm = write_corpus(tmp_path / "corpus", shards=1, samples=12, splits=splits, lengths_s=(0.3, 1.2))
    monkeypatch.setattr(write, "UTTERANCES", 10)
    monkeypatch.setattr(write, "MOST_S", 0.5)
    run, encoder = tmp_path / "run", random_encoder(layers=1)
    run.mkdir()
    config = resolved({"corpus": str(tmp_path / "corpus"), "teacher": {"name": "nano"}}, where="test")
    dropped = {**config.model_dump(mode="json", by_alias=True)}
    dropped["optimiser"]["epsilon"] = 0.5  # no key any more, and of no weight here
    write_yaml(run / "config.yaml", dropped)
    waves = corpus_waves(run, encoder)
    keys = {sample_key(f"{splits[-1]}/0/utt.{place}") for place in range(12)}
    clean = [wave for (key, name), wave in pcm.items() if name == "clean" and key in keys]
    assert len(clean) == 12
    assert len(waves) == 10
    lengths = sorted(map(len, waves))
    assert 4800 <= lengths[0] < lengths[-1] == 8000
    for wave in waves:
        content = (wave * 32768).to(torch.int16).numpy().tobytes()
        assert sum(content in one.tobytes() for one in clean) == 1
    assert [len(wave) for wave in comparison_waves(run, encoder, audio=())] == [len(wave) for wave in waves]
    (tmp_path / "corpus/corpus.json").unlink()
    with pytest.raises(
        UsageError, match=rf"^the corpus of {run} cannot be read \(.*\): give a file of speech with --audio FILE$"
    ):
        corpus_waves(run, encoder)


def test_given_audio_is_read_up_to_a_length_and_what_is_shorter_than_a_frame_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_S", 0.5)
    encoder = random_encoder(layers=1, changes={"sample_rate": 8000})
    for name, num_samples in (("long", 4001), ("frame", 400), ("short", 399)):
        soundfile.write(tmp_path / f"{name}.wav", spoken(num_samples).numpy(), 8000, subtype="FLOAT")
    long, frame, short = (tmp_path / f"{name}.wav" for name in ("long", "frame", "short"))
    found = comparison_waves(tmp_path, encoder, audio=(short, frame, long))
    assert [len(wave) for wave in found] == [400, 4000]
    assert found[1].dtype == torch.float32
    assert torch.equal(found[1], spoken(4001)[:4000])
    with pytest.raises(
        UsageError, match=r"^no utterance is long enough to be compared on; give one of a second or more"
    ):
        comparison_waves(tmp_path, encoder, audio=(short,))
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(BadDocumentError, match=r"text\.wav: cannot be read as audio: "):
        read_wave(tmp_path / "text.wav", rate_hz=8000)
    with pytest.raises(
        BadDocumentError, match=r"long\.wav: has 8000 Hz and 1 channels; the model takes 4000 Hz and one channel"
    ):
        read_wave(long, rate_hz=4000)


def test_the_chosen_checkpoint_is_written_and_what_an_earlier_try_left_is_removed(tmp_path, corpus):
    run = make_run(tmp_path / "run", corpus)
    student = make_student(StudentShape(), load_teacher(run / "teacher"), target_layers=(1, 2, 3), seed=9)
    shutil.rmtree(run / "best")
    (run / "best").mkdir()
    write_checkpoint(run / "best", module_tensors(student=student), step=3, cursor=(0, 0, 3), encoder=student.config)
    newest, best = (load_run(run, checkpoint=name) for name in ("last", "best"))
    assert newest.digest != best.digest
    out = tmp_path / "deep" / "out"
    soundfile.write(tmp_path / "speech.wav", spoken(4000).numpy(), RATE_HZ)
    seen = []

    def beside(folder, encoder, written):
        assert {"export.json", "heard.txt", "torchaudio.json"} <= {path.name for path in folder.iterdir()}
        seen.append((folder, encoder.digest, written.loads))

    given = {"form": "torchaudio", "audio": (tmp_path / "speech.wav",)}
    part = temporary_path(out)
    part.mkdir(parents=True)
    (part / "stale").touch()
    done = export_run(str(run), str(out), checkpoint="best", beside=beside, **given)
    assert seen == [(part, best.digest, "load() of {path}/load.py")]
    assert not part.exists()
    assert not (out / "stale").exists()
    assert load_teacher(out).digest == best.digest
    assert (done.path, done.loads, done.int8, done.note) == (out, f"load() of {out}/load.py", False, "")
    assert (done.utterances, done.seconds) == (1, 0.25)
    (out.parent / "file").touch()
    with pytest.raises(ExportExistsError):
        export_run(run, out.parent / "file", **given)
    assert export_run(run, tmp_path / "last", **given).difference < 2e-5
    assert load_teacher(tmp_path / "last").digest == newest.digest
