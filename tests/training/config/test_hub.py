"""Teachers by the id of the Hugging Face hub: the real `huggingface_hub` against a server of this test."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation.config import EvaluationConfig
from evaluation.report.model_card import licence_of
from manifests.errors import MissingFileError, UsageError
from tests.training.conftest import write_teacher
from training.cli import teacher_command
from training.config.hub import NotFetchedError, fetch_snapshot, hub_cache, is_hub_id, snapshot_name, snapshot_of
from training.config.load import load_config
from training.models.huggingface_format import huggingface_config, huggingface_state
from training.teacher import known_as, load_teacher, weights_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ID = "facebook/tiny-ls960"


class Hub(http.server.BaseHTTPRequestHandler):
    """What fetching a snapshot requests; `files` by name, `requested` the paths."""

    files: dict[str, bytes] = {}
    requested: list[str] = []

    def do_HEAD(self):
        self.respond(with_body=False)

    def do_GET(self):
        self.respond(with_body=True)

    def respond(self, *, with_body):
        path = self.path.partition("?")[0]
        self.requested.append(path)
        entries = [{"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                   for name, content in self.files.items()]  # fmt: skip
        about = {"id": ID, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
        found = {
            f"/api/models/{ID}": json.dumps(about).encode(),
            f"/api/models/{ID}/revision/main": json.dumps(about).encode(),
            f"/api/models/{ID}/tree/{COMMIT}": json.dumps(entries).encode(),
            **{f"/{ID}/resolve/{COMMIT}/{name}": content for name, content in self.files.items()},
        }.get(path)
        self.send_response(404 if found is None else 200)
        if found is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        found = found or b""
        self.send_header("Content-Length", str(len(found)))
        self.send_header("ETag", f'"{hashlib.sha1(found).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(found)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    teacher = load_teacher(write_teacher(tmp_path / "teacher"))
    torch.save(huggingface_state(teacher.trunk.state_dict()), tmp_path / "pytorch_model.bin")
    Hub.files = {
        "README.md": b"---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\n",
        "config.json": json.dumps(huggingface_config(teacher.config)).encode(),
        "pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes(),
        "tf_model.h5": b"of another library",
    }
    Hub.requested = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    real = functools.partial(huggingface_hub.snapshot_download, endpoint=f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", real)
    yield teacher
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore")  # of huggingface_hub and its kin
def test_a_model_of_the_hub_is_fetched_once_and_is_a_teacher_by_its_id(hub, tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match=f"stillroom teacher {ID}") as caught:
        load_teacher(ID)
    assert "\n" not in str(caught.value)
    done = CliRunner().invoke(teacher_command, [ID])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith(f"{ID}: 0.0 M parameters, 3 layers")
    assert not any("tf_model" in path for path in Hub.requested)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)  # from here on nothing is fetched
    snapshot = snapshot_of(ID)
    for name in (ID, str(snapshot)):
        found = load_teacher(name)
        assert (found.name, found.digest) == (ID, hub.digest)
        assert known_as(name) == ID
        assert weights_digest(name) == weights_digest(ID) is not None
    assert licence_of(ID).name == "apache-2.0"


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_fetched_is_one_line(hub, monkeypatch):
    with pytest.raises(NotFetchedError, match="the weights of facebook/nothing could not be fetched") as caught:
        fetch_snapshot("facebook/nothing")
    assert "\n" not in str(caught.value)
    del Hub.files["pytorch_model.bin"]
    with pytest.raises(NotFetchedError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        fetch_snapshot(ID)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="pip install huggingface_hub"):
        fetch_snapshot(ID)


def test_in_configs_an_id_stays_one_unless_there_is_such_a_folder(tmp_path):
    config = {"corpus": "corpus", "teacher": {"name": ID}, "student": {"init": "ntu-spml/distilhubert"}}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    read = load_config(tmp_path / "train.yaml")
    assert (read.teacher.name, read.student.init) == (ID, "ntu-spml/distilhubert")
    models = {"teacher": ID}
    evaluated = {
        "corpus": "corpus",
        "models": models,
        "splits": {"train": "a", "dev": "b", "test": "c"},
        "measures": [],
    }
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(evaluated | {"measures": ["cosine"]}))
    assert EvaluationConfig.read(tmp_path / "evaluation.yaml").models == models
    (tmp_path / ID).mkdir(parents=True)
    assert load_config(tmp_path / "train.yaml").teacher.name == str(tmp_path / ID)
    assert EvaluationConfig.read(tmp_path / "evaluation.yaml").models == {"teacher": str(tmp_path / ID)}


@pytest.mark.parametrize("content", ["../../x", "main", "", "\n", "é" * 40])
def test_a_strange_reference_in_the_cache_leads_nowhere(content, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--facebook--tiny-ls960"
    (folder / "refs").mkdir(parents=True)
    (folder / "snapshots").mkdir()
    (folder / "refs/main").write_text(content)
    assert snapshot_of(ID) is None


HUB_CACHES = (
    ({}, "~/.cache/huggingface/hub"), ({"XDG_CACHE_HOME": "~/x"}, "~/x/huggingface/hub"), ({"HF_HOME": "~/h", "XDG_CACHE_HOME": "/x"}, "~/h/hub"),
    ({"HF_HUB_CACHE": "~/c", "HF_HOME": "/h", "XDG_CACHE_HOME": "/x"}, "~/c"), ({"HF_HUB_CACHE": "", "HF_HOME": "", "XDG_CACHE_HOME": ""},
    "~/.cache/huggingface/hub"),
)  # fmt: skip


@pytest.mark.parametrize(("variables", "expected"), HUB_CACHES)
def test_the_cache_is_where_the_hubs_own_library_has_it(monkeypatch, variables, expected):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(expected).expanduser()


def test_an_id_is_two_words_that_are_no_path_below_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub/owner/name").mkdir(parents=True)
    for name, expected in (
        ("owner/name", True), ("o-w.n_r/N.9", True), ("a" * 96 + "/b", True), ("a" * 97 + "/b", False), ("owner", False), ("./name", False),
        ("owner/name/x", False), ("-o/name", False), ("owner/na me", False), ("owner/name\n", False),
    ):  # fmt: skip
        assert is_hub_id(name) == expected, name
    assert not is_hub_id("owner/name", folder=tmp_path / "sub")
    monkeypatch.chdir("sub")
    assert not is_hub_id("owner/name")


def test_a_snapshot_is_that_of_its_reference_and_has_the_name_of_its_model(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--own-er--tiny--x"
    (folder / "refs").mkdir(parents=True)
    assert snapshot_of("own-er/tiny--x") is None
    (folder / "refs/main").write_text(f"{COMMIT}\n")
    assert snapshot_of("own-er/tiny--x") is None, "it names what is not here"
    for commit in (COMMIT, "f" * 40):
        (folder / "snapshots" / commit).mkdir(parents=True)
    found = snapshot_of("own-er/tiny--x")
    assert found == folder / "snapshots" / COMMIT
    assert snapshot_name(found) == "own-er/tiny--x"
    monkeypatch.chdir(found)
    assert snapshot_name(Path()) == "own-er/tiny--x"
    for other in (found.parent, found / "more", folder / "snapshots/main", tmp_path):
        assert snapshot_name(other) is None


def test_safetensors_are_wanted_before_pickles_and_what_is_described_with_both(monkeypatch, tmp_path):
    """Nothing of another library's weights is fetched; a split file is known by the list of its parts."""
    calls, files = [], {"safetensors": None, "bin": None}

    def snapshot_download(name, *, cache_dir, allow_patterns):
        kind = "safetensors" if "model.safetensors" in allow_patterns else "bin"
        calls.append((name, cache_dir, kind, allow_patterns))
        folder = tmp_path / kind
        folder.mkdir(exist_ok=True)
        if files[kind]:
            (folder / files[kind]).touch()
        return str(folder)

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(NotFetchedError) as caught:
        fetch_snapshot(ID)
    assert str(caught.value) == (
        f"the weights of {ID} could not be fetched (it has neither model.safetensors nor pytorch_model.bin): run the command again where "
        "there is a network"
    )
    described = ["config.json", "preprocessor_config.json", "README.md", "LICENSE", "LICENSE.*"]
    assert calls == [
        (
            ID,
            tmp_path / "cache",
            "safetensors",
            [*described, "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"],
        ),
        (
            ID,
            tmp_path / "cache",
            "bin",
            [*described, "pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"],
        ),
    ]
    files["bin"] = "pytorch_model.bin.index.json"
    assert fetch_snapshot(ID) == tmp_path / "bin"
    files["safetensors"] = "model.safetensors"
    calls.clear()
    assert fetch_snapshot(ID) == tmp_path / "safetensors"
    assert len(calls) == 1


@pytest.mark.parametrize(("problem", "why"), [(KeyError(), "KeyError"), (ValueError("\n one\ntwo"), "one")])
def test_of_a_failed_download_the_first_line_or_the_kind_is_shown(monkeypatch, problem, why):
    def snapshot_download(*_, **__):
        raise problem

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(NotFetchedError, match=rf"of {ID} could not be fetched \({why}\): run"):
        fetch_snapshot(ID)
