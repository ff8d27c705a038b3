from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.verify.verify_corpus import verify
from manifests.errors import MissingFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from corpus_builder.verify.report import Report
    from tests.corpus_builder.conftest import Lab


@pytest.fixture
def corpus(built_lab: Lab, tmp_path: Path) -> Path:
    target = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", target)
    return target


def look(corpus: Path, level: Any = "pcm") -> Report:
    return verify(corpus, level=level, progress=False)


def said(report: Report) -> str:
    return "\n".join(f"{one.where}: {one.what}" for one in report.findings)


def first_tar(corpus: Path) -> Path:
    return next(iter(sorted((corpus / "shards").glob("train*.tar"))))


def test_a_sound_corpus_has_nothing_off(built_lab: Lab) -> None:
    report = look(built_lab.folder / "corpus")
    assert not report.findings, said(report)
    assert report.samples == 12
    assert report.files == len((built_lab.folder / "corpus/SHA256SUMS").read_text().splitlines())
    assert report.waves == 8 * 5 + 4 * 3
    assert look(built_lab.folder / "corpus", "bytes").findings == []


def test_two_workers_find_what_one_finds(corpus: Path) -> None:
    damage_byte(corpus)
    assert verify(corpus, workers=2, progress=False).plain() == look(corpus).plain()


def damage_byte(corpus: Path) -> None:
    tar = first_tar(corpus)
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 0x40
    tar.write_bytes(content)


def cut_tar(corpus: Path) -> None:
    tar = first_tar(corpus)
    tar.write_bytes(tar.read_bytes()[:-20_480])


def lose_shard(corpus: Path) -> None:
    first_tar(corpus).unlink()


def lose_index(corpus: Path) -> None:
    first_tar(corpus).with_suffix(".json").unlink()


def change_plan(corpus: Path) -> None:
    path = next(iter(sorted((corpus / "plan").glob("train-*.jsonl"))))
    path.write_bytes(path.read_bytes() + b"\n")


def change_response(corpus: Path) -> None:
    path = next(iter(sorted((corpus / "rooms").glob("*.npy"))))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lose_room(corpus: Path) -> None:
    next(iter(sorted((corpus / "rooms").glob("*.npy")))).unlink()


@pytest.mark.parametrize("level", ["bytes", "pcm"])
@pytest.mark.parametrize(
    ("damage", "due"),
    [
        (damage_byte, "SHA-256 is"),
        (cut_tar, "bytes; its index says"),
        (lose_shard, "is missing"),
        (lose_index, "does not exist"),
        (change_plan, "has another digest"),
        (change_response, "has another digest"),
        (lose_room, "is missing"),
    ],
)
def test_damage_is_found_at_both_levels(corpus: Path, level: str, damage: Callable[[Path], None], due: str) -> None:
    damage(corpus)
    report = look(corpus, level)
    assert due in said(report)
    assert f"{len(report.findings)} things are wrong" in report.summary()


def test_a_corpus_that_is_not_sealed_is_one_line(corpus: Path) -> None:
    (corpus / "corpus.json").unlink()
    with pytest.raises(MissingFileError, match="a sealed corpus is needed"):
        look(corpus)
