"""Teachers by name or folder; nothing here downloads."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torchaudio.pipelines import Wav2Vec2Bundle

from manifests.errors import BadDocumentError, MissingFileError, UsageError
from manifests.io.digest import digest
from tests.training.conftest import encoder_config
from training import teacher as teachers
from training.cli import teacher_command
from training.models.encoder import EncoderConfig
from training.models.huggingface_format import huggingface_state
from training.runs.checkpoint import write_checkpoint
from training.teacher import (
    BUNDLES,
    bundle_config,
    bundle_path,
    chosen_layers,
    description,
    fetch_teacher,
    files_read,
    known_as,
    load_folder,
    load_teacher,
    thirds,
    weights_digest,
)


def test_a_folder_is_a_teacher(teacher_folder):
    teacher = load_teacher(teacher_folder)
    assert (teacher.name, teacher.sample_rate, teacher.num_layers, teacher.num_features) == ("small", 16000, 3, 24)
    assert teacher.trained_on == {"0123456789abcdef"}
    assert teacher.num_parameters == sum(parameter.numel() for parameter in teacher.trunk.parameters())
    assert load_teacher(str(teacher_folder)).digest == teacher.digest


def test_nano_comes_with_the_package():
    nano = load_teacher("NANO")
    assert nano.name == "nano"
    assert nano.num_layers >= 8
    assert nano.trained_on
    assert nano.facts
    layers, num_frames = nano.layers(torch.zeros(1, 16000), torch.tensor([16000]))
    assert layers.shape == (1, nano.num_layers, 49, nano.num_features)
    assert num_frames.tolist() == [49]
    assert torch.isfinite(layers).all()


def test_published_shapes_are_taken_over_number_by_number():
    assert len(BUNDLES) >= 20
    for bundle in BUNDLES.values():
        config = bundle_config(bundle)
        ours = config.model_dump()
        for key, value in bundle._params.items():
            if key != "extractor_conv_layer_config" or value is not None:
                assert json.loads(json.dumps(ours[key])) == json.loads(json.dumps(value)), key
        assert config.normalize_waveform == bundle._normalize_waveform
        assert (config.receptive_samples, config.hop_samples) == (400, 320)
    assert bundle_config(BUNDLES["HUBERT_LARGE"]).normalize_waveform
    assert not bundle_config(BUNDLES["HUBERT_BASE"]).normalize_waveform
    assert bundle_config(BUNDLES["WAVLM_LARGE"]).family == "wavlm"


@pytest.fixture(name="published")
def tiny_bundle(monkeypatch, tmp_path):
    """A bundle like torchaudio's, with a tiny model, and an empty cache for its weights."""
    given = encoder_config(mode="layer_norm", first=True)
    params = {key: given[key] for key in given if key.startswith(("extractor", "encoder", "aux"))}
    del params["encoder_num_buckets"], params["encoder_max_distance"]
    bundle = Wav2Vec2Bundle("tiny_weights.pth", params, 16000, True, "Wav2Vec2")
    monkeypatch.setitem(teachers.BUNDLES, "TINY_LARGE", bundle)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return bundle, tmp_path / "checkpoints" / "tiny_weights.pth"


def test_a_bundle_is_read_from_the_cache_whatever_the_case_of_its_name(published):
    bundle, path = published
    trunk = bundle_config(bundle).build()
    path.parent.mkdir()
    torch.save(trunk.state_dict(), path)
    teacher = load_teacher("tiny_Large")
    assert teacher.name == "tiny_large"
    assert teacher.config.normalize_waveform
    assert teacher.facts == {"bundle": "TINY_LARGE", "weights": "tiny_weights.pth"}
    wave = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    expected, _ = bundle.get_model().extract_features(wave)
    found, _ = teacher.layers(wave, torch.tensor([4000]))
    torch.testing.assert_close(found[:, 2], expected[2], atol=1e-5, rtol=1e-4)
    assert fetch_teacher("tiny_large") == path


def test_a_model_that_is_here_is_described_by_the_command(teacher_folder):
    done = CliRunner().invoke(teacher_command, [str(teacher_folder)])
    assert done.exit_code == 0, done.output
    assert "small: " in done.output
    assert "3 layers of 24, 16000 Hz" in done.output


def test_a_bundle_is_never_downloaded_by_loading_it(published, monkeypatch):
    """Not even where its file vanishes between two looks: ranks load, and a cluster's ranks have no network."""
    bundle, path = published
    path.parent.mkdir()
    torch.save(bundle_config(bundle).build().state_dict(), path)

    def downloaded(*_, **__):
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", downloaded)
    monkeypatch.setattr(torch.hub, "download_url_to_file", downloaded)
    assert load_teacher("tiny_large").num_layers == 3


def test_weights_that_are_not_there_name_the_bundle_and_how_to_fetch_it(published):
    with pytest.raises(teachers.WeightsNotFetchedError, match=r"TINY_LARGE .*stillroom teacher tiny_large") as caught:
        load_teacher("tiny_large")
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_one_line(published):
    _, path = published
    path.parent.mkdir()
    path.write_bytes(b"not weights")
    with pytest.raises(BadDocumentError, match="remove it and fetch it again") as caught:
        load_teacher("tiny_large")
    assert "\n" not in str(caught.value)


PEAK_OF_LOADING = """
import resource, sys
from pathlib import Path
import torch
from training.teacher import load_teacher

def most_held():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

load_teacher("nano")
before = most_held()
teacher = load_teacher(Path(sys.argv[1]))
print((most_held() - before) / (4 * teacher.num_parameters))
"""


def test_weights_are_held_once_while_they_are_read(tmp_path):
    """XLS-R 2B has 8.6 GB of them, and each rank of a node reads its own."""
    shape = {**encoder_config(layers=8), "encoder_embed_dim": 768, "encoder_ff_interm_features": 3072}
    checkpoint = {
        "model": huggingface_state(EncoderConfig.parse(shape, where="test").build().state_dict()),
        "config": {
            "model_type": "wav2vec2", "hidden_size": 768, "num_hidden_layers": 8, "num_attention_heads": 2,
            "intermediate_size": 3072, "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
        },
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(checkpoint["config"]))
    torch.save(checkpoint["model"], tmp_path / "pytorch_model.bin")
    told = subprocess.run([sys.executable, "-c", PEAK_OF_LOADING, str(tmp_path)], capture_output=True, check=True)
    assert float(told.stdout) < 1.2, "times the weights' own size"


def test_weights_that_hold_objects_are_not_unpickled(published):
    _, path = published
    path.parent.mkdir()
    torch.save({"weight": shutil.rmtree}, path)
    with pytest.raises(BadDocumentError, match="holds more than weights"):
        load_teacher("tiny_large")


def test_a_download_that_fails_is_one_line(published, monkeypatch):
    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(Wav2Vec2Bundle, "get_model", no_network)
    with pytest.raises(teachers.NotFetchedError, match="could not be fetched"):
        fetch_teacher("tiny_large")


@pytest.mark.parametrize("name", ["hubrt_base", "HUBERT_BAZE"])
def test_a_mistyped_name_has_near_matches(name):
    with pytest.raises(teachers.UnknownTeacherError, match="did you mean hubert_base") as caught:
        load_teacher(name)
    assert "\n" not in str(caught.value)


def test_a_name_from_a_stranger_is_shown_safely():
    with pytest.raises(teachers.UnknownTeacherError) as caught:
        load_teacher("\x1b[31mevil\nname")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(MissingFileError, match="does not exist"):
        load_teacher(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match=r"config.json"):
        load_teacher(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.safetensors", b"\0" * 100, "not a safetensors file"),
        ("config.json", b'{"encoder_embed_dim": 24}', "this key is missing"),
        ("heard.txt", b"xyz\n", "16 hex digits"),
        ("heard.txt", b"0123456789abcdef\nabc\n", "16 hex digits"),
        ("heard.txt", b"0123456789abcdeg\n", "16 hex digits"),
    ],
)
def test_a_damaged_folder_is_one_line(teacher_folder, tmp_path, name, content, message):
    folder = tmp_path / "copy"
    shutil.copytree(teacher_folder, folder)
    (folder / name).write_bytes(content)
    with pytest.raises(BadDocumentError, match=message) as caught:
        load_teacher(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_refused(teacher_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(teacher_folder, folder)
    (folder / "config.json").write_text(json.dumps(encoder_config(layers=2)))
    with pytest.raises(BadDocumentError, match="does not fit its config"):
        load_teacher(folder)


def test_thirds_are_those_of_distilhubert():
    assert [thirds(layers) for layers in (12, 24, 8, 5, 2, 1)] == [
        (4, 8, 12),
        (8, 16, 24),
        (3, 5, 8),
        (2, 3, 5),
        (1, 2),
        (1,),
    ]


def test_a_layer_that_the_teacher_lacks_is_refused(teacher_folder):
    teacher = load_teacher(teacher_folder)
    assert chosen_layers("thirds", teacher=teacher) == (1, 2, 3)
    assert chosen_layers((3, 1), teacher=teacher) == (3, 1)
    with pytest.raises(UsageError, match=r"layers 1 to 3, not 4"):
        chosen_layers((1, 4), teacher=teacher)


def test_a_config_with_unknown_keys_is_refused():
    with pytest.raises(BadDocumentError, match="unknown key"):
        EncoderConfig.parse({**encoder_config(), "encoder_embed_dims": 3}, where="test")


def test_a_teacher_is_known_by_its_name_in_whatever_form_it_is_given(tmp_path, monkeypatch, teacher_folder):
    checkpoint = tmp_path / "hubert.v2.pt"
    checkpoint.write_bytes(b"weights")
    (tmp_path / "my.model").mkdir()
    monkeypatch.chdir(teacher_folder)
    for name, known in (
        ("NANO", "nano"), ("HuBERT_Base", "hubert_base"), (str(checkpoint), "hubert.v2"), (str(tmp_path / "my.model"), "my.model"),
        (".", teacher_folder.name), (str(tmp_path / "gone"), "gone"),
    ):  # fmt: skip
        assert known_as(name) == known
    assert load_teacher(".").name == teacher_folder.name


def test_the_digest_of_weights_is_that_of_the_files_that_hold_them(tmp_path, teacher_folder, published):
    """Of names and bytes of the files that are read; of a run, its newest checkpoint; of a bundle, its file."""
    folder = tmp_path / "teacher"
    shutil.copytree(teacher_folder, folder)
    whole = weights_digest(str(folder))
    assert whole == weights_digest(str(teacher_folder))
    (folder / "README.md").write_text("of no weight")
    (folder / "nested.pt").mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"another model's")
    assert weights_digest(str(folder)) == whole
    config = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(config + b" ")
    assert weights_digest(str(folder)) != whole
    (folder / "config.json").write_bytes((folder / "weights.safetensors").read_bytes())
    (folder / "weights.safetensors").write_bytes(config)
    assert weights_digest(str(folder)) != whole, "the two have changed places"
    content = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "model.pt").write_bytes(b"weights")
    assert weights_digest(str(tmp_path / "model.pt")) == content
    assert weights_digest("tiny_large") is None, "it was not fetched"
    published[1].parent.mkdir()
    published[1].write_bytes(b"weights")
    assert weights_digest("tiny_large") == weights_digest("TINY_LARGE") == content
    weights = fetch_teacher("nano") / "weights.safetensors"
    assert weights_digest("Nano") == digest([[weights.name, hashlib.sha256(weights.read_bytes()).hexdigest()]])
    assert weights_digest(str(tmp_path / "gone")) is None
    (tmp_path / "empty").mkdir()
    assert weights_digest(str(tmp_path / "empty")) is None
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    assert weights_digest(str(run)) is None
    for step in (3, 12):
        write_checkpoint(
            run / "checkpoints", {"student.trunk.x": torch.full((2,), float(step))}, step=step, cursor=(0, 0, 0), run_sha256="5" * 64,
            encoder=load_teacher(teacher_folder).config,
        )  # fmt: skip
    newest = (run / "checkpoints/step-000000012.safetensors").read_bytes()
    assert weights_digest(str(run)) == hashlib.sha256(newest).hexdigest()


def test_a_name_that_is_no_bundle_cannot_be_fetched_and_a_path_that_is_gone_is_a_missing_file(tmp_path):
    with pytest.raises(teachers.UnknownTeacherError, match="did you mean wavlm_large"):
        fetch_teacher("WAVLM_LARG")
    with pytest.raises(teachers.UnknownTeacherError, match=r"hubert_base, wavlm_base_plus and wav2vec2_base are\.$"):
        load_teacher("qqqqqqqqqq")
    for gone in (Path("gone"), str(tmp_path / "gone"), "here/gone"):
        with pytest.raises(MissingFileError, match="a teacher is a run, a Hugging Face folder"):
            load_teacher(gone)


def test_a_bundle_that_is_here_is_not_fetched_and_its_output_layer_is_left_out(published, monkeypatch):
    bundle, path = published
    config = bundle_config(bundle)
    assert (config.extractor_conv_layer_config[0], config.pretrained_as) == ((16, 10, 5), "wav2vec2")
    fetched = []

    def get_model(self, *, dl_kwargs):
        fetched.append(dl_kwargs)
        path.parent.mkdir()
        torch.save({**config.build().state_dict(), "aux.weight": torch.ones(2, 2)}, path)

    monkeypatch.setattr(Wav2Vec2Bundle, "get_model", get_model)
    assert fetch_teacher("Tiny_Large") == path
    assert fetch_teacher("tiny_large") == path
    assert fetched == [{"weights_only": True, "map_location": "cpu"}]
    path.write_bytes(b"")
    torch.save([1], path)
    with pytest.raises(
        BadDocumentError, match=r"tiny_weights\.pth.* holds something else than weights; remove it and fetch it again"
    ):
        load_teacher("tiny_large")


def test_published_models_are_known_by_what_they_were_trained_as_and_have_torchaudios_convolutions():
    kinds = {name: bundle_config(bundle).pretrained_as for name, bundle in BUNDLES.items()}
    assert all(
        kind == next((one for one in ("hubert", "wavlm") if name.startswith(one.upper())), "wav2vec2")
        for name, kind in kinds.items()
    )
    assert set(kinds.values()) == {"hubert", "wavlm", "wav2vec2"}
    convolutions = bundle_config(BUNDLES["HUBERT_BASE"]).extractor_conv_layer_config
    assert convolutions == ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)


def test_all_layers_are_all_and_none_is_below_the_first(teacher_folder):
    teacher = load_teacher(teacher_folder)
    assert chosen_layers("all", teacher=teacher) == (1, 2, 3)
    with pytest.raises(UsageError, match=r"^teacher\.layers: small has layers 1 to 3, not 0; choose among those$"):
        chosen_layers((2, 0), teacher=teacher)
    with pytest.raises(UsageError, match=r"not 7; "):
        chosen_layers((3, 7, 9), teacher=teacher)


def test_a_bundle_that_is_not_here_is_one_whole_line(published):
    _, path = published
    with pytest.raises(teachers.WeightsNotFetchedError) as caught:
        load_teacher("Tiny_Large")
    assert str(caught.value) == (
        f"the weights of the torchaudio bundle TINY_LARGE are not in {path.parent}: run `stillroom teacher tiny_large` where there is a "
        "network (TORCH_HOME says where they go)"
    )


def test_what_was_fetched_is_read_before_it_is_said_to_be_here(published, monkeypatch):
    def get_model(self, *, dl_kwargs):
        published[1].parent.mkdir()
        published[1].write_bytes(b"an error page")

    monkeypatch.setattr(Wav2Vec2Bundle, "get_model", get_model)
    with pytest.raises(
        BadDocumentError, match=r"tiny_weights\.pth.* is damaged, or holds more than weights; remove it"
    ):
        fetch_teacher("tiny_large")


def test_a_failed_fetch_names_the_bundle_and_the_cause(published, monkeypatch):
    def get_model(self, *, dl_kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(Wav2Vec2Bundle, "get_model", get_model)
    with pytest.raises(teachers.NotFetchedError) as caught:
        fetch_teacher("tiny_large")
    assert str(caught.value) == (
        "the weights of TINY_LARGE could not be fetched (Name or service not known): run the command again where there is a network"
    )


def test_a_bundles_weights_are_where_torchs_hub_keeps_them(published):
    bundle, path = published
    assert bundle_path(bundle) == path
    assert bundle_path(Wav2Vec2Bundle("deep/in/other.pth", {}, 16000, False, "WavLM")) == path.parent / "other.pth"


def test_three_near_names_are_shown_at_most_and_nano_is_one():
    for name, line in (
        ("nanoo", "; did you mean nano?"),
        ("WAVLM_BASE_PLU", "; did you mean wavlm_base_plus or wavlm_base or wav2vec2_base?"),
        ("zzzz", "; hubert_base, wavlm_base_plus and wav2vec2_base are."),
    ):
        assert str(teachers.UnknownTeacherError(name)) == (
            f"teacher '{name}' is neither nano, nor a torchaudio bundle, nor a folder or checkpoint that exists{line}"
        )


@pytest.fixture(name="read")
def how_teachers_are_read(monkeypatch):
    """Each way of reading an encoder, with what it is given, in place of the encoder."""
    for name in (
        "load_encoder_folder",
        "load_bundle",
        "load_checkpoint_file",
        "load_run",
        "load_export",
        "load_huggingface",
    ):
        monkeypatch.setattr(teachers, name, lambda *given, way=name, **options: (way, *given, options))


def test_a_teacher_is_read_as_what_it_is(tmp_path, monkeypatch, read):
    """`owner/name` is a folder if there is one, else a model of the hub that was fetched; nano and bundles come before folders."""
    monkeypatch.chdir(tmp_path)
    for folder in ("nano", "hubert_base", "some", "owner/here", "cache/models--owner--there/snapshots/" + "a" * 40):
        Path(folder).mkdir(parents=True)
    Path("some/last.v2.pt").write_bytes(b"")
    snapshot = tmp_path / "cache/models--owner--there/snapshots" / ("a" * 40)
    looked_up = {"owner/there": snapshot, "owner/gone": None}
    monkeypatch.setattr(teachers, "snapshot_of", lambda name: looked_up[name])  # of ids alone
    folder = "load_encoder_folder"
    for name, expected in (
        ("NaNo", (folder, teachers.NANO_FOLDER, {"name": "nano"})),
        ("Hubert_Base", ("load_bundle", "HUBERT_BASE")),
        ("some", (folder, Path("some"), {"name": "some"})),
        (Path("some"), (folder, Path("some"), {"name": "some"})),
        ("owner/here", (folder, Path("owner/here"), {"name": "here"})),
        ("some/last.v2.pt", ("load_checkpoint_file", Path("some/last.v2.pt"), {"name": "last.v2"})),
        ("owner/there", (folder, snapshot, {"name": "owner/there"})),
    ):
        found = load_teacher(name)
        assert found == (expected if isinstance(expected[-1], dict) else (*expected, {})), name
    for name, hint in (("owner/gone", True), ("./gone", False), (tmp_path / "gone", False)):
        with pytest.raises(MissingFileError) as caught:
            load_teacher(name)
        assert (
            str(caught.value).endswith("is fetched by `stillroom teacher owner/gone` where there is a network") == hint
        )
        assert ("is fetched" in str(caught.value)) == hint
    with pytest.raises(teachers.UnknownTeacherError):
        load_teacher("gone")


def test_a_folder_is_a_run_an_export_one_of_hugging_face_or_our_own_in_this_order(tmp_path, monkeypatch, read):
    kinds = ["is_run", "is_export", "is_huggingface"]
    for number, way in enumerate(("load_run", "load_export", "load_huggingface", "load_encoder_folder")):
        for later in (True, False):  # whether it could pass for each later kind too
            for place, kind in enumerate(kinds):
                found = place == number or (place > number and later)
                monkeypatch.setattr(teachers, kind, lambda folder, found=found: found and folder == tmp_path)
            options = {} if way == "load_run" else {"name": tmp_path.name}
            assert load_folder(tmp_path) == (way, tmp_path, options)
    monkeypatch.chdir(tmp_path)
    assert load_folder(Path())[2] == {"name": tmp_path.name}


def test_the_files_of_a_model_are_those_that_are_read(tmp_path, monkeypatch):
    """Of a checkpoint also what a user says of it beside it; of a folder those of its kind."""
    checkpoint = tmp_path / "model.pt"
    assert files_read(checkpoint) == []
    checkpoint.write_bytes(b"weights")
    beside = tmp_path / "model.encoder.json"
    assert files_read(checkpoint) == [checkpoint, beside]
    alone = weights_digest(str(checkpoint))
    beside.write_bytes(b"{}")
    named = [
        ["model.pt", hashlib.sha256(b"weights").hexdigest()],
        ["model.encoder.json", hashlib.sha256(b"{}").hexdigest()],
    ]
    assert weights_digest(str(checkpoint)) == digest(named) != alone == hashlib.sha256(b"weights").hexdigest()
    kinds = {"is_export": False, "is_huggingface": False}
    for kind in tuple(kinds):
        monkeypatch.setattr(teachers, kind, lambda folder, kind=kind: kinds[kind] and folder == tmp_path)
    monkeypatch.setattr(teachers, "export_files", lambda folder: ["export", folder])
    monkeypatch.setattr(teachers, "huggingface_files", lambda folder: ["hub", folder])
    assert files_read(tmp_path) == [tmp_path / "config.json", tmp_path / "weights.safetensors"]
    kinds["is_huggingface"] = True
    assert files_read(tmp_path) == ["hub", tmp_path]
    kinds["is_export"] = True
    assert files_read(tmp_path) == ["export", tmp_path]


def test_a_hubs_model_has_the_digest_of_its_snapshot_and_none_where_it_was_not_fetched(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_bytes(b"{}")
    monkeypatch.setattr(teachers, "snapshot_of", lambda name: tmp_path if name == "owner/here" else None)
    expected = digest([["config.json", hashlib.sha256(b"{}").hexdigest()]])
    assert weights_digest(str(tmp_path)) == weights_digest("owner/here") == expected
    assert weights_digest("owner/gone") is None


def test_a_description_has_every_number_with_its_unit():
    config = SimpleNamespace(normalize_waveform=True, hop_samples=320)
    encoder = SimpleNamespace(
        name="mine",
        num_parameters=94_371_712,
        num_layers=12,
        num_features=768,
        sample_rate=8000,
        config=config,
        digest="0123456789abcdef" * 4,
    )
    assert description(encoder) == (
        "mine: 94.4 M parameters, 12 layers of 768, 8000 Hz, 25 frames a second, each utterance normalised, digest 0123456789abcdef"
    )
