"""Sources behind URLs: which file a cache drops, and what it says of a full disk."""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corpus_builder.audio.decode import read_header, read_stretch
from corpus_builder.audio.errors import MissingAudioError
from corpus_builder.audio.remote import SourceCache
from manifests.errors import NoSpaceLeftError
from manifests.io.url import Url
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = itertools.count()


@pytest.fixture
def bucket() -> Url:
    return Url(f"memory://remote-{next(NUMBERS)}/data")


def test_a_cache_drops_what_was_used_longest_ago_and_counts_what_is_left(bucket: Url, tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac", "c.wav", "d.wav"):
        (bucket / name).put(name[:1].encode() * 1000)
    (bucket / "large.wav").put(b"l" * 9000)
    cache = SourceCache(tmp_path, most_bytes=2500)
    assert cache.folder.parent == tmp_path

    def holds() -> set[str]:
        return {path.read_bytes()[:1].decode() for path in cache.folder.iterdir()}

    for name in ("a.wav", "b.flac", "a.wav", "c.wav"):
        path = cache.path(bucket / name)
        assert path.read_bytes() == name[:1].encode() * 1000
        assert path.suffix == (bucket / name).suffix
    assert holds() == {"a", "c"}
    cache.path(bucket / "d.wav")
    assert (holds(), cache.num_bytes) == ({"c", "d"}, 2000)
    assert cache.path(bucket / "large.wav").read_bytes() == b"l" * 9000  # stays until the next one
    assert (holds(), cache.num_bytes) == ({"l"}, 9000)
    cache.path(bucket / "a.wav")
    assert (holds(), cache.num_bytes) == ({"a"}, 1000)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_that_and_another_error_is_passed_on(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    codes = iter([code, errno.EIO])

    def fails(*_: object) -> None:
        number = next(codes)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Url, "fetch", fails)
    cache = SourceCache(tmp_path)
    with pytest.raises(NoSpaceLeftError, match="no space left while writing"):
        cache.path(bucket / "a.wav")
    with pytest.raises(OSError, match="Input/output error"):
        cache.path(bucket / "a.wav")


def test_a_stretch_behind_a_url_is_that_of_the_file(bucket: Url, tmp_path: Path) -> None:
    path = write_wave(tmp_path / "two.flac", np.column_stack([voice(1, 0.3), voice(2, 0.3)]), rate_hz=22_050)
    (bucket / "two.flac").put_file(path)
    options = {"name": "two.flac", "rate_hz": 22_050}
    found = read_stretch(bucket / "two.flac", start=100, num_frames=300, channel=1, **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, voice(2, 0.3)[100:400] / 32768)
    header = read_header(bucket / "two.flac", name="two.flac")
    assert (header.num_frames, header.rate_hz, header.num_channels) == (4800, 22_050, 2)
    with pytest.raises(MissingAudioError, match=r"gone\.flac"):
        read_stretch(bucket / "gone.flac", name="gone.flac", rate_hz=22_050)
