"""Bytes of tars by offset, however few a read gives, from wherever the index says that they are."""

from __future__ import annotations

import os

import fsspec
import pytest

from manifests.corpus.shard_index import ShardEntry
from manifests.errors import MissingFileError
from manifests.io.place import place_of
from training.data.tar_reader import DamagedShardError, TarBytes, read_at

CONTENT = bytes(range(200))


def entry_of(name, *, tar=None):
    return ShardEntry(name=name, samples=1, seconds=1.0, bytes=len(CONTENT), sha256="0" * 64, tar=tar)


@pytest.mark.parametrize("most", [1, 7, 30, 64])
def test_a_stretch_is_whole_though_each_read_gives_a_part_of_it(tmp_path, monkeypatch, most):
    (tmp_path / "file").write_bytes(CONTENT)
    pread, calls = os.pread, []

    def short(handle, size, start):
        calls.append((start, size))
        return pread(handle, min(size, most), start)

    monkeypatch.setattr(os, "pread", short)
    handle = os.open(tmp_path / "file", os.O_RDONLY)
    assert read_at(handle, 20, 30) == CONTENT[20:50]
    assert calls == [(start, 50 - start) for start in range(20, 50, most)], "nothing is read twice, and nothing beyond"
    assert read_at(handle, 190, 30) == CONTENT[190:], "fewer only at the end"
    assert read_at(handle, 50, 0) == b""
    os.close(handle)


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_shard_is_read_below_its_place_at_the_path_that_its_entry_gives(tmp_path, scheme):
    place = place_of(f"{scheme}{tmp_path}")
    system = fsspec.filesystem("memory" if scheme else "file")
    for path, start in (("shards/a.tar", 0), ("far/b.x.tar", 100)):
        system.makedirs(f"{tmp_path}/{path}".rpartition("/")[0], exist_ok=True)
        system.pipe_file(f"{tmp_path}/{path}", CONTENT[start : start + 100])
    tars = TarBytes(place, [entry_of("a"), entry_of("b", tar="far/b.x.tar"), entry_of("c")], needed="a test wants")
    assert (tars.span("a", 3, 9), tars.span("b", 3, 9)) == (CONTENT[3:9], CONTENT[103:109])
    assert (tars.path("c"), tars.path("other")) == ("shards/c.tar", "shards/other.tar")
    assert tars.is_near == (scheme == "")
    with pytest.raises(DamagedShardError) as caught:
        tars.span("b", 90, 120)
    assert str(caught.value).startswith(
        f"{scheme}{tmp_path}/far/b.x.tar: ends at byte 100, its index goes on to 120; run"
    )
    with pytest.raises(MissingFileError, match=r"shards/c\.tar does not exist.*a test wants the shard c"):
        tars.span("c", 0, 9)
    if scheme:
        system.store.clear()


def test_a_copy_on_this_machine_is_read_in_place_of_the_shard_if_there_is_one(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/a.tar").write_bytes(CONTENT)
    (tmp_path / "copy").write_bytes(CONTENT[::-1])
    calls = []
    tars = TarBytes(tmp_path, [entry_of("a"), entry_of("b")])
    with (tmp_path / "copy").open("rb") as copy:
        found = [None, copy.fileno()]
        tars.cached = lambda *given: calls.append(given) or found.pop(0)
        assert tars.span("a", 3, 9) == CONTENT[3:9]
        assert tars.span("a", 3, 9) == CONTENT[::-1][3:9]
    assert calls == [(tars, "a")] * 2
    assert tars.is_near


def test_what_is_open_is_closed(tmp_path):
    (tmp_path / "shards").mkdir()
    for name in "ab":
        (tmp_path / f"shards/{name}.tar").write_bytes(CONTENT)
    tars = TarBytes(tmp_path, [entry_of("a"), entry_of("b")])
    handles = [tars.handle(name) for name in "aab"]
    assert handles[0] == handles[1] != handles[2]
    tars.close()
    for handle in handles:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handle)
