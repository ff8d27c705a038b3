"""Teachers by the id of the Hugging Face hub: the real `huggingface_hub` against a server of this test."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import sys
import threading

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
from training.config.hub import NotFetchedError, fetch_snapshot, snapshot_of
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
