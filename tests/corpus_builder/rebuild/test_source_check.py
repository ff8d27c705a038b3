"""Source files that are those of a pack, missing, something else, or coded otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.rebuild.source_check import SourceProblem, batches, check_files, source_problems, with_pcm_compared
from manifests.corpus.fingerprints import DecodedSource
from manifests.io.digest import bytes_digest, file_digest
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path


def test_files_are_checked_by_root_some_at_a_time(tmp_path: Path) -> None:
    expected = {(root, f"{number:02d}.wav"): f"{root}{number}" for root in ("b", "a") for number in range(40)}
    tasks = list(batches(expected, {"a": tmp_path / "x", "b": tmp_path / "y"}))
    assert [(task.root, task.place, len(task.files)) for task in tasks] == [
        ("a", str(tmp_path / "x"), 32), ("a", str(tmp_path / "x"), 8), ("b", str(tmp_path / "y"), 32),
        ("b", str(tmp_path / "y"), 8),
    ]  # fmt: skip
    assert {(task.root, *file) for task in tasks for file in task.files} == {
        (root, path, digest) for (root, path), digest in expected.items()
    }


def test_each_problem_says_what_was_found_and_what_the_pack_has(tmp_path: Path) -> None:
    for name in ("same", "other"):
        write_wave(tmp_path / "y" / f"{name}.wav", voice(1, 0.1))
    (tmp_path / "y" / "folder.wav").mkdir()
    same = file_digest(tmp_path / "y" / "same.wav")
    expected = {
        ("hum", "same.wav"): same, ("hum", "other.wav"): "f" * 64, ("hum", "gone.wav"): same, ("hum", "folder.wav"): same,
    }  # fmt: skip
    roots = {"hum": tmp_path / "y"}
    found = source_problems(expected, roots, workers=1, progress=False)
    assert found == [
        SourceProblem("hum", "folder.wav", "is not a plain file"),
        SourceProblem("hum", "gone.wav", "is missing"),
        SourceProblem(
            "hum", "other.wav", f"is different: SHA-256 {same[:16]}…, the pack was made of {'f' * 16}…", other_bytes=True
        ),
    ]  # fmt: skip
    assert str(found[1]) == "hum: gone.wav is missing"
    assert check_files(next(batches({("hum", "same.wav"): same}, roots))) == []


def decoded(path: Path, start: int, num_frames: int, channel: int, wave: Any) -> DecodedSource:
    pcm = (wave[start : start + num_frames, channel] / 32768).astype("<f4")
    return DecodedSource(
        root="hum", path=path.name, start=start, num_frames=num_frames, rate_hz=16_000, channel=channel, sha256="0" * 64,
        pcm_sha256=bytes_digest(pcm.tobytes()),
    )  # fmt: skip


def test_a_file_of_other_bytes_is_the_same_sound_only_if_every_stretch_of_it_is(tmp_path: Path) -> None:
    wave = np.stack([voice(1, 0.5), voice(2, 0.5)], axis=1)
    changed = wave.copy()
    changed[5000, 1] += 1
    sources = []
    for name, now in (("same", wave), ("later", changed), ("short", wave[:4000])):
        path = write_wave(tmp_path / f"{name}.wav", now)
        sources += [decoded(path, 1000, 2000, 0, wave), decoded(path, 4500, 1000, 1, wave)]
    problems = [
        SourceProblem("hum", f"{name}.wav", "is different", other_bytes=True)
        for name in ("same", "later", "short", "unused")
    ]
    problems.insert(1, SourceProblem("hum", "gone.wav", "is missing"))
    found = with_pcm_compared(problems, sources, {"hum": tmp_path}, workers=1)
    assert [one.path for one in found] == [one.path for one in problems]
    whats = {one.path: one.what for one in found}
    assert whats["same.wav"] == "is different; in another coding: its PCM is the same"
    assert whats["later.wav"] == "is different; another recording: its PCM is different too"
    assert whats["short.wav"].startswith("is different; it cannot be decoded as planned: short.wav")
    assert (whats["unused.wav"], whats["gone.wav"]) == ("is different", "is missing")
    missing = [problems[1]]
    assert with_pcm_compared(missing, sources, {}, workers=1) is missing


@pytest.mark.parametrize("content", [b"", b"no tar"])
def test_a_member_of_a_tar_that_cannot_be_read_is_a_problem_of_its_own(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    (found,) = check_files(next(batches({("hum", "a.tar/m.wav"): "0" * 64}, {"hum": tmp_path})))
    assert found.path == "a.tar/m.wav"
    assert found.what.startswith(("cannot be read: ", "is missing"))
    assert not found.other_bytes
