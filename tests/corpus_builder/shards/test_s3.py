"""A real S3 server in a process of its own: moto's, spoken to through s3fs as any other."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import fsspec
import pytest

from manifests.io.place import sizes_below
from manifests.io.url import Url
from tests.corpus_builder.build.test_build_corpus import environment, wait_until
from tests.corpus_builder.conftest import Lab, furnish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
    return port


class Server:
    """The server; `settings` is what a command needs to find it."""

    def __init__(self, folder: Path) -> None:
        self.address = f"http://127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        self.settings = {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.process = self.start()
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # it may hold the server of other tests

    def start(self) -> subprocess.Popen[bytes]:
        port = self.address.rpartition(":")[2]
        with self.log.open("ab") as log:
            code = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", port]
            process = subprocess.Popen(code, stdout=log, stderr=log)
        wait_until(self.answers)
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/bucket", method="PUT")).close()
        return process

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.address}/moto-api/data.json").close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = furnish(tmp_path_factory.mktemp("small"))
    assert lab.build().corpus is not None
    return lab


def run(server: Server, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stillroom", *map(str, words)],
        env={**environment(), **server.settings}, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


def on_s3(server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    return sizes_below(Url(url))


def test_build_verify_and_show_at_s3_with_its_sources_there_too(
    server: Server, small: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(small.folder / "speech" / "train", tmp_path / "train")
    for path in (tmp_path / "train").rglob("*.wav"):
        (Url("s3://bucket/train") / path.relative_to(tmp_path / "train").as_posix()).put_file(path)
    recipe, url = small.write_recipe(), "s3://bucket/corpus"
    root = "train=s3://bucket/train"
    built = run(server, "build", recipe, url, "--workers", 2, "--root", root, "--scratch", tmp_path / "scratch")
    assert built.returncode == 0, built.stderr
    theirs = sizes_below(Url(url))
    ours = {name: size for name, size in sizes_below(small.folder / "corpus").items() if name != "roots.local.json"}
    assert {**theirs, "provenance.json": 0} == {**ours, "provenance.json": 0}
    for name in theirs:
        if name != "provenance.json":
            assert (Url(url) / name).read() == (small.folder / "corpus" / name).read_bytes(), name
    again = run(server, "build", recipe, url, "--root", root, "--scratch", tmp_path / "scratch")
    assert "it was finished before" in again.stdout, again.stderr
    checked = run(server, "verify", url, "--workers", 2)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "small: 12 utterances" in run(server, "show", url).stdout
    assert not list((tmp_path / "scratch").iterdir())


def test_a_server_that_goes_away_is_one_line_and_the_same_command_goes_on(
    server: Server, small: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path)
    shutil.copytree(small.folder / "speech", tmp_path / "speech")
    shutil.copytree(small.folder / "noise", tmp_path / "noise")
    for number in range(8, 60):
        lab.speech("train", f"s{number % 4}", f"u{number}", seed=number, seconds=3.0)
    lab.without_rooms()
    lab.recipe["shards"]["samples"] = 1
    url = "s3://bucket/interrupted"
    words = [sys.executable, "-m", "stillroom", "build", lab.write_recipe(), url, "--scratch", tmp_path / "scratch"]
    process = subprocess.Popen(
        list(map(str, words)), env={**environment(), **server.settings}, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    wait_until(lambda: any(name.endswith("0.json") for name in on_s3(server, url + "/shards", monkeypatch)))
    server.end()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 2, said
    assert b"Traceback" not in said
    assert said.decode().splitlines()[-1].startswith("stillroom: shard train-")
    assert b"run the same command again" in said
    server.process = server.start()  # an empty bucket: moto keeps nothing
    done = run(server, "build", lab.write_recipe(), url, "--workers", 2, "--scratch", tmp_path / "scratch")
    assert done.returncode == 0, done.stderr
    assert "corpus.json" in on_s3(server, url, monkeypatch)


def test_a_second_lab_rebuilds_at_s3_from_a_pack_at_s3(
    server: Server, small: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    for name in sizes_below(small.folder / "corpus"):
        if name != "roots.local.json":
            (Url("s3://bucket/theirs") / name).put_file(small.folder / "corpus" / name)
    pack, ours = "s3://bucket/packs/small.tar.gz", "s3://bucket/ours"
    packed = run(server, "pack", "s3://bucket/theirs", pack)
    assert packed.returncode == 0, packed.stderr
    folders = {"train": "speech/train", "test": "speech/test", "hum": "noise"}
    roots = [word for name, folder in folders.items() for word in ("--root", f"{name}={small.folder / folder}")]
    rebuilt = run(server, "rebuild", pack, ours, *roots, "--workers", 2, "--scratch", tmp_path / "scratch")
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert f"{ours}: 52 waves identical, 0 near, 0 different" in rebuilt.stdout
    same = run(server, "verify", ours, "--level", "bytes", "--against", pack)
    assert same.returncode == 0, same.stdout + same.stderr
    assert not list((tmp_path / "scratch").iterdir())


def test_a_bucket_that_does_not_exist_is_one_line(server: Server, small: Lab, tmp_path: Path) -> None:
    done = run(server, "build", small.write_recipe(), "s3://nowhere/corpus", "--scratch", tmp_path / "scratch")
    assert done.returncode == 2
    assert len([line for line in done.stderr.splitlines() if line.startswith("stillroom: ")]) == 1
    assert "Traceback" not in done.stderr
    assert "s3://nowhere/corpus" in done.stderr
