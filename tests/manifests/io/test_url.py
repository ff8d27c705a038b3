from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import fsspec
import pytest
import soundfile

from corpus_builder.audio.remote import SourceCache, decodable
from manifests.errors import BadDocumentError, MissingFileError, UnsafePathError, UsageError
from manifests.io import url
from manifests.io.atomic import write_bytes
from manifests.io.digest import bytes_digest, file_digest
from manifests.io.json_yaml import read_bytes, read_json_lines, write_json
from manifests.io.place import local_copy, opened, place_of, size_of, sizes_below, span
from manifests.io.url import CutShortError, NoAccessError, UnreachableError, Url

NUMBERS = itertools.count()


@pytest.fixture
def bucket() -> Url:
    """An empty folder of fsspec's file system in memory."""
    return Url(f"memory://bucket-{next(NUMBERS)}")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(url.time, "sleep", waited.append)
    return waited


class Flaky:
    """A file system some of whose answers fail."""

    def __init__(self, real: Any, failures: list[Exception]) -> None:
        self.real, self.failures = real, failures

    def __getattr__(self, name: str) -> Any:
        if name in {"cat_file", "pipe_file", "put_file", "info", "find", "rm_file"} and self.failures:
            failure = self.failures.pop(0)

            def fail(*_: Any, **__: Any) -> Any:
                raise failure

            return fail
        return getattr(self.real, name)


def make_flaky(monkeypatch: pytest.MonkeyPatch, failures: list[Exception]) -> None:
    real = fsspec.core.url_to_fs

    def flaky(url: str, **options: Any) -> tuple[Any, str]:
        system, path = real(url, **options)
        return Flaky(system, failures), path

    monkeypatch.setattr(fsspec.core, "url_to_fs", flaky)


def test_a_place_is_a_path_or_a_url() -> None:
    assert place_of("data/x") == Path("data/x")
    assert place_of("file:///data/x") == Path("/data/x")
    assert place_of("s3://bucket/corpus/") == Url("s3://bucket/corpus")
    assert str(Url("s3://b/c") / "shards" / "/a.tar") == "s3://b/c/shards/a.tar"
    assert (Url("s3://b/a.jsonl.gz").suffix, Url("s3://b/a.x").name, Url("s3://b/a").parent) == (
        ".gz",
        "a.x",
        Url("s3://b"),
    )
    assert (Url("s3://b.c/A.FLAC").suffix, Url("s3://b.c/d").suffix, Url("s3://b/c/").name) == (".FLAC", "", "c")
    assert (str(Url("s3://b") / "/"), str(Url("s3://b/c") / "d/e/")) == ("s3://b", "s3://b/c/d/e")
    with pytest.raises(UsageError, match="chained by ::"):
        place_of("simplecache::s3://bucket/corpus")
    with pytest.raises(UnsafePathError):
        (Url("memory://x") / "a::http://elsewhere/b").read()
    with pytest.raises(UsageError, match="cannot be opened"):
        Url("nosuchthing://x/y").read()


@pytest.mark.parametrize(
    ("scheme", "library"), [("s3", "s3fs"), ("gs", "gcsfs"), ("http", "aiohttp"), ("https", "aiohttp")]
)
def test_a_url_whose_library_is_not_installed_names_it(
    monkeypatch: pytest.MonkeyPatch, scheme: str, library: str
) -> None:
    def missing(_: str) -> None:
        raise ImportError(f"a library for {scheme} is needed")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UsageError, match=f"^{scheme}://host/y cannot be opened: a library .*; pip install {library}$"):
        Url(f"{scheme}://host/y").read()


def test_what_is_written_to_a_url_is_read_back_and_listed(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 100
    write_bytes(bucket / "a/b.bin", content)
    (tmp_path / "content").write_bytes(content[:1000])
    (tmp_path / "c").symlink_to("content")
    (bucket / "c.bin").put_file(tmp_path / "c")
    assert sizes_below(bucket) == {"a/b.bin": 25_600, "c.bin": 1000}
    assert sizes_below(bucket / "nowhere") == {}
    assert span(bucket / "a/b.bin", 300, 310) == content[300:310]
    assert read_bytes(bucket / "a/b.bin", needed="x") == content
    assert file_digest(bucket / "a/b.bin") == bytes_digest(content)
    assert (size_of(bucket / "c.bin"), size_of(bucket / "a"), size_of(bucket / "d")) == (1000, None, None)
    assert (bucket / "a").is_dir()
    assert not (bucket / "a").is_file()
    assert not (bucket / "c.bin").is_dir()
    assert [(bucket / name).exists() for name in ("a", "c.bin", "d")] == [True, True, False]
    with pytest.raises(BadDocumentError, match="/a: is a folder; a part"):
        read_bytes(bucket / "a", needed="a part")
    assert (bucket / "c.bin").is_file()
    with opened(bucket / "a/b.bin") as stream:
        stream.seek(-5, io.SEEK_END)
        assert stream.read() == content[-5:]
        stream.seek(7)
        assert stream.read(3) == content[7:10]
    monkeypatch.setattr(url, "RANGE_BYTES", 1000)
    with local_copy(bucket / "a/b.bin") as copy:
        assert copy.read_bytes() == content
    assert not copy.exists()
    (bucket / "c.bin").remove()
    (bucket / "c.bin").remove()
    assert not (bucket / "c.bin").exists()


def test_documents_at_urls_are_read_as_those_on_a_disk(bucket: Url) -> None:
    write_json(bucket / "x.json", {"a": 1})
    assert read_bytes(bucket / "x.json", needed="x") == b'{\n "a": 1\n}\n'
    write_bytes(bucket / "x.jsonl", b'{"a":1}\n{"a":2}\n')
    assert [one["a"] for one in read_json_lines(bucket / "x.jsonl", needed="x")] == [1, 2]
    with pytest.raises(MissingFileError, match=r"memory://.*/y.json does not exist: a thing"):
        read_bytes(bucket / "y.json", needed="a thing")
    with pytest.raises(BadDocumentError, match="is larger than 3 bytes"):
        read_bytes(bucket / "x.jsonl", needed="x", limit=3)


def test_a_connection_that_breaks_is_tried_again(
    bucket: Url, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    write_bytes(bucket / "x", b"content")
    failures: list[Exception] = [ConnectionResetError("reset"), TimeoutError("slow"), RuntimeError("the library's own")]
    make_flaky(monkeypatch, failures)
    assert (bucket / "x").read() == b"content"
    assert waits == [0.5, 1.0, 2.0]
    failures += [ConnectionResetError("reset by peer")] * 4
    with pytest.raises(
        UnreachableError, match=r"could not be read after 4 attempts .*reset by peer.*run the same command again"
    ):
        (bucket / "x").read()
    failures += [PermissionError("Forbidden")]
    with pytest.raises(NoAccessError, match="access was refused"):
        (bucket / "x").read()
    failures += [ConnectionResetError("reset")]
    write_bytes(bucket / "y", b"new")
    assert (bucket / "y").read() == b"new"
    for failing, message in (("pipe_file", "written"), ("rm_file", "removed")):
        failures += [TimeoutError("slow")] * 4
        with pytest.raises(
            UnreachableError, match=rf"^{bucket}/y could not be {message} after 4 attempts \(TimeoutError: slow\)"
        ):
            (bucket / "y").put(b"z") if failing == "pipe_file" else (bucket / "y").remove()
    waits.clear()
    with pytest.raises(FileNotFoundError):
        (bucket / "gone").read()
    assert waits == []  # what is not there is not looked for again
    failures += [FileNotFoundError("no such bucket")]
    with pytest.raises(MissingFileError, match=f"^{bucket}/y does not exist: the bucket or folder to write to"):
        (bucket / "y").put(b"z")


def test_a_write_that_arrived_in_part_is_sent_again(
    bucket: Url, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    class Cuts(Flaky):
        cuts = 1

        def pipe_file(self, path: str, content: bytes) -> None:
            kept = len(content) - (1 if Cuts.cuts > 0 else 0)
            Cuts.cuts -= 1
            self.real.pipe_file(path, content[:kept])

    real = fsspec.core.url_to_fs
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (Cuts(real(url)[0], []), real(url)[1]))
    (bucket / "x").put(b"content")
    assert (bucket / "x").read() == b"content"
    assert waits == [0.5]
    Cuts.cuts = 99
    with pytest.raises(
        UnreachableError, match=r"could not be written .*CutShortError: .*6 bytes were transferred, expected 7"
    ):
        (bucket / "y").put(b"content")


def test_a_stream_goes_on_where_the_connection_broke_and_a_broken_one_is_no_short_file(
    bucket: Url, monkeypatch: pytest.MonkeyPatch, waits: list[float], tmp_path: Path
) -> None:
    import numpy as np

    soundfile.write(tmp_path / "a.flac", np.random.RandomState(0).standard_normal(2_000_000) * 0.1, 16_000)
    (bucket / "a.flac").put_file(tmp_path / "a.flac")
    failures: list[Exception] = []
    make_flaky(monkeypatch, failures)
    with decodable(bucket / "a.flac") as stream:
        assert soundfile.info(stream).frames == 2_000_000
    with decodable(bucket / "a.flac") as stream, soundfile.SoundFile(stream) as audio:
        failures += [ConnectionResetError("reset")] * 2
        assert audio.read().size == 2_000_000
    with pytest.raises(UnreachableError), decodable(bucket / "a.flac") as stream, soundfile.SoundFile(stream) as audio:
        failures += [ConnectionResetError("reset")] * 4
        audio.read()
    assert not failures


def test_a_cache_of_files_keeps_only_so_much(bucket: Url, tmp_path: Path) -> None:
    for name in "abc":
        write_bytes(bucket / name, name.encode() * 1000)
    cache = SourceCache(tmp_path, most_bytes=2500)
    paths = [cache.path(bucket / name) for name in "abca"]
    assert paths[3].read_bytes() == b"a" * 1000
    assert len(list(cache.folder.iterdir())) == 2
    folder = cache.folder
    del cache
    assert not folder.exists()


def test_a_file_system_without_whole_objects_gets_hidden_names_moved_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = fsspec.core.url_to_fs("file:///")[0]

    class Disk(Flaky):
        def pipe_file(self, path: str, content: bytes) -> None:
            seen.append(Path(path).name)
            self.real.pipe_file(path, content)

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (Disk(real, []), url.removeprefix("disk://")))
    (Url(f"disk://{tmp_path}") / "new/x.bin").put(b"content")
    assert seen[0].startswith(".x.bin.")
    assert seen[0].endswith(".part")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.bin"]


def test_a_short_answer_is_an_error(bucket: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(bucket / "x", b"content")
    stream = opened(bucket / "x")
    monkeypatch.setattr(Url, "read", lambda *_: b"con")
    with pytest.raises(CutShortError, match="3 bytes were transferred, expected 7"):
        stream.read()


class NoCredentialsError(Exception):
    """As boto's: a client-side error of no common base class."""


def test_a_store_without_credentials_is_not_tried_again(
    bucket: Url, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_flaky(monkeypatch, [NoCredentialsError("Unable to locate credentials")])
    with pytest.raises(NoAccessError, match=r"Unable to locate credentials\); check credentials and permissions"):
        (bucket / "a").read()
    assert not waits
