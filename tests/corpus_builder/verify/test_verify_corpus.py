from __future__ import annotations

import io
import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.verify.verify_corpus import verify
from manifests.errors import MissingFileError
from manifests.io.digest import bytes_digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from corpus_builder.verify.report import Report

    from .conftest import Lab


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


def add_file(corpus: Path) -> None:
    (corpus / "shards" / "extra.tar").write_bytes(b"")


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


def change_recipe(corpus: Path) -> None:
    (corpus / "recipe.yaml").write_text((corpus / "recipe.yaml").read_text() + "# note\n")


def change_refused(corpus: Path) -> None:
    (corpus / "refused.jsonl").write_text('{"split":"train","id":"x","reason":"y"}\n')


def link_out(corpus: Path) -> None:
    (corpus / "rooms" / "passwd").symlink_to("/etc/passwd")


def twist_sums(corpus: Path) -> None:
    with (corpus / "SHA256SUMS").open("a") as stream:
        stream.write("0" * 64 + "  ../../etc/passwd\nnonsense\n")


@pytest.mark.parametrize("level", ["bytes", "pcm"])
@pytest.mark.parametrize(
    ("damage", "due"),
    [
        (damage_byte, "SHA-256 is"),
        (cut_tar, "bytes; its index says"),
        (lose_shard, "is missing"),
        (lose_index, "does not exist"),
        (add_file, "extra.tar: is not listed in SHA256SUMS"),
        (change_plan, "is not what its digest says"),
        (change_response, "is not what its digest says"),
        (lose_room, "is missing"),
        (change_recipe, "recipe.yaml: is not what its digest says"),
        (change_refused, "has 1 lines, corpus.json counts 0"),
        (link_out, "rooms/passwd: is not listed"),
        (twist_sums, "not a digest and a new file name"),
    ],
)
def test_damage_is_found_at_both_levels(corpus: Path, level: str, damage: Callable[[Path], None], due: str) -> None:
    damage(corpus)
    report = look(corpus, level)
    assert due in said(report)
    assert f"{len(report.findings)} things are off" in report.summary()


def forge(corpus: Path, change: Callable[[dict[str, bytes], list[str]], None]) -> None:
    """Change members of the first train shard and make every digest, offset and size above them agree again."""
    tar = first_tar(corpus)
    index = json.loads(tar.with_suffix(".json").read_bytes())
    with tarfile.open(tar) as opened:
        members = {name: opened.extractfile(name).read() for name in opened.getnames()}  # type: ignore[union-attr]
    order = list(members)
    change(members, order)
    with tar.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as opened:
        for name in order:
            info = tarfile.TarInfo(name)
            info.size = len(members[name])
            opened.addfile(info, io.BytesIO(members[name]))
    with tarfile.open(tar) as opened:
        places = {info.name: (info.offset_data, info.size) for info in opened}
    for sample in index["samples"]:
        for name, member in sample["members"].items():
            full = f"{sample['key']}.{name}" + ("" if name == "json" else ".flac")
            member["offset"], member["size"] = places[full]
            if name != "json":
                pcm, _ = soundfile.read(io.BytesIO(members[full]), dtype="int16")
                member["pcm_sha256"] = bytes_digest(pcm.tobytes())
    index |= {"bytes": tar.stat().st_size, "sha256": file_digest(tar)}
    tar.with_suffix(".json").write_text(json.dumps(index))
    reseal(corpus, tar)


def reseal(corpus: Path, tar: Path) -> None:
    sealed = json.loads((corpus / "corpus.json").read_bytes())
    for entry in sealed["splits"]["train"]:
        if entry["name"] == tar.stem:
            sealed["totals"]["bytes"] += tar.stat().st_size - entry["bytes"]
            entry |= {"bytes": tar.stat().st_size, "sha256": file_digest(tar)}
    (corpus / "corpus.json").write_text(json.dumps(sealed))
    names = [line.split("  ")[1] for line in (corpus / "SHA256SUMS").read_text().splitlines()]
    (corpus / "SHA256SUMS").write_text("".join(f"{file_digest(corpus / name)}  {name}\n" for name in names))


def flac_of(pcm: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, pcm, 16_000, format="FLAC")
    return stream.getvalue()


def names_of(order: list[str], suffix: str) -> str:
    return next(name for name in order if name.endswith(suffix))


def test_a_copy_that_is_the_clean_wave_is_found(corpus: Path) -> None:
    def change(members: dict[str, bytes], order: list[str]) -> None:
        key = order[0].split(".")[0]
        members[f"{key}.noise-0.flac"] = members[f"{key}.clean.flac"]

    forge(corpus, change)
    assert "noise-0: is the clean wave, sample for sample" in said(look(corpus))
    assert not look(corpus, "bytes").findings


def test_a_copy_of_another_length_and_a_silent_one_are_found(corpus: Path) -> None:
    def change(members: dict[str, bytes], order: list[str]) -> None:
        key = order[0].split(".")[0]
        pcm, _ = soundfile.read(io.BytesIO(members[f"{key}.noise-0.flac"]), dtype="int16")
        members[f"{key}.noise-0.flac"] = flac_of(pcm[:-1])
        members[f"{key}.noise-1.flac"] = flac_of(np.zeros_like(pcm))

    forge(corpus, change)
    found = said(look(corpus))
    assert "noise-0: " in found
    assert "samples in 1 channel(s) at 16000 Hz; due are" in found
    assert "noise-1: is silent" in found


@pytest.mark.parametrize(
    ("key", "value", "due"),
    [
        ("text", "other words", "text differs between JSON and plan"),
        ("num_samples", 17, "num_samples differs between JSON and plan"),
        ("sample_rate", 8000, "length or rate differ between JSON and index"),
        ("surprise", 1, "surprise: unknown key"),
        ("copies", [], "copies differ between JSON and plan"),
    ],
)
def test_a_json_member_that_says_something_else_than_the_plan_is_found(
    corpus: Path, key: str, value: Any, due: str
) -> None:
    def change(members: dict[str, bytes], order: list[str]) -> None:
        name = names_of(order, ".json")
        members[name] = json.dumps({**json.loads(members[name]), key: value}).encode()

    forge(corpus, change)
    assert due in said(look(corpus))


def test_a_drawn_number_that_was_changed_is_found(corpus: Path) -> None:
    def change(members: dict[str, bytes], order: list[str]) -> None:
        name = names_of(order, ".json")
        document = json.loads(members[name])
        document["copies"][0]["steps"][0]["snr_db"] += 1
        members[name] = json.dumps(document).encode()

    forge(corpus, change)
    assert "copies differ between JSON and plan" in said(look(corpus))


def test_members_out_of_order_confuse_webdataset_and_are_found(corpus: Path) -> None:
    def change(members: dict[str, bytes], order: list[str]) -> None:
        order.sort(key=lambda name: name.split(".", 1)[1])

    forge(corpus, change)
    assert "plain webdataset gives" in said(look(corpus))


def test_a_corpus_that_is_not_sealed_is_one_line(corpus: Path) -> None:
    (corpus / "corpus.json").unlink()
    with pytest.raises(MissingFileError, match="a sealed corpus is needed"):
        look(corpus)
