"""Sharing from anywhere: pack, rebuild, diff and audit of what is at URLs, by fsspec's file system in memory."""

from __future__ import annotations

import itertools
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from corpus_builder.audit.audit_corpora import audit
from corpus_builder.cli.share import diff_command, pack_command
from corpus_builder.rebuild import rebuild_corpus
from corpus_builder.rebuild.diff import differences
from corpus_builder.rebuild.plan_subset import Selection
from corpus_builder.rebuild.rebuild_corpus import rebuild
from corpus_builder.rooms import build_banks
from manifests.errors import MissingFileError, UsageError
from manifests.io.place import sizes_below
from manifests.io.url import NoAccessError, Url
from manifests.pack.write import write_pack
from tests.corpus_builder.conftest import Inline, Lab

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = itertools.count()
HERE = {"roots.local.json"}


@pytest.fixture(scope="module")
def shared(built_lab: Lab) -> tuple[Url, Url]:
    """The URLs of a corpus and of a pack of it."""
    bucket = Url(f"memory://shared-{next(NUMBERS)}")
    for name in sizes_below(built_lab.folder / "corpus"):
        if name not in HERE:
            (bucket / "corpus" / name).put_file(built_lab.folder / "corpus" / name)
    path, _ = write_pack(bucket / "corpus", bucket / "packs/small.tar.gz", progress=False)
    assert path == bucket / "packs/small.tar.gz"
    return bucket / "corpus", bucket / "packs/small.tar.gz"


@pytest.fixture
def bucket() -> Url:
    return Url(f"memory://sharing-{next(NUMBERS)}")


def roots(lab: Lab, **others: Any) -> dict[str, Any]:
    return {
        "train": lab.folder / "speech/train",
        "test": lab.folder / "speech/test",
        "hum": lab.folder / "noise",
    } | others


def test_a_pack_of_a_url_at_a_url_has_the_bytes_of_one_on_the_disk(
    built_lab: Lab, shared: tuple[Url, Url], tmp_path: Path, bucket: Url
) -> None:
    here, _ = write_pack(built_lab.folder / "corpus", tmp_path, progress=False)
    assert shared[1].read() == here.read_bytes()
    (bucket / "packs/other").put(b"")  # a folder, as an object store has them
    path, _ = write_pack(built_lab.folder / "corpus", bucket / "packs", progress=False)
    assert path == bucket / "packs/small.tar.gz"
    assert path.read() == here.read_bytes()
    assert set(sizes_below(bucket)) == {"packs/other", "packs/small.tar.gz"}
    with pytest.raises(UsageError, match="in the corpus itself"):
        write_pack(shared[0], shared[0] / "small.tar.gz", progress=False)


def test_a_second_lab_rebuilds_at_a_url_from_a_pack_at_a_url(
    built_lab: Lab, shared: tuple[Url, Url], bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (built_lab.folder / "noise").glob("*.wav"):
        (bucket / "noises" / path.name).put_file(path)
    monkeypatch.setattr(build_banks, "write_room", lambda *_, **__: pytest.fail("a room was simulated"))
    made = rebuild(
        shared[1], bucket / "corpus", roots=roots(built_lab, hum=bucket / "noises"), executor=Inline(),
        scratch=tmp_path, progress=False,
    )  # fmt: skip
    assert made.proof is not None
    assert (made.proof.total("identical"), made.proof.total("near"), made.proof.total("different")) == (52, 0, 0)
    theirs, ours = sizes_below(bucket / "corpus"), sizes_below(built_lab.folder / "corpus")
    assert set(theirs) == set(ours) - HERE | {"rebuilt.json", "rebuilt.jsonl"}
    for name in set(ours) - HERE - {"provenance.json"}:
        assert (bucket / "corpus" / name).read() == (built_lab.folder / "corpus" / name).read_bytes(), name
    assert json.loads((bucket / "corpus/rebuilt.json").read())["identical"] == 52
    assert not list(tmp_path.iterdir())
    with differences(shared[1], bucket / "corpus") as found:
        assert not found.any
        assert found.pcm == {"identical": 52}


def test_rooms_of_another_corpus_that_was_stopped_in_the_same_working_folder_are_not_used(
    built_lab: Lab, shared: tuple[Url, Url], bucket: Url, tmp_path: Path
) -> None:
    from corpus_builder.shards.destination import Target

    target = Target.at(bucket / "corpus", scratch=tmp_path)
    shutil.copytree(built_lab.folder / "corpus", target.work)
    (target.work / "corpus.json").unlink()
    (target.work / "plan/plan.json").write_text("{}")
    (target.work / "rooms/cell-0-0.npy").write_bytes(b"another")
    part = Selection(splits=("test",))
    made = rebuild(
        shared[1], bucket / "corpus", roots=roots(built_lab), executor=Inline(), selection=part, scratch=tmp_path,
        progress=False,
    )  # fmt: skip
    assert made.proof is not None
    assert made.proof.total("identical") == 4 * 3


def test_diff_tells_a_changed_wave_of_a_corpus_at_a_url_and_names_the_url(
    built_lab: Lab, shared: tuple[Url, Url], bucket: Url
) -> None:
    for name in sizes_below(shared[0]):
        (bucket / name).put((shared[0] / name).read())
    name = "shards/test-000000.json"
    index = json.loads((bucket / name).read())
    index["samples"][0]["members"]["noise-0"]["pcm_sha256"] = "0" * 64
    (bucket / name).put(json.dumps(index).encode())
    with differences(built_lab.folder / "corpus", bucket) as found:
        assert found.summary()[1].startswith(f"B  {bucket}: corpus small, 12 utterances")
        (line,) = map(json.loads, found.every())
        assert (line["part"], line["copy"], line["verdict"]) == ("pcm", "noise-0", "near")
    with pytest.raises(MissingFileError, match=str(bucket / "nothing")), differences(shared[1], bucket / "nothing"):
        pass


def test_audit_reads_corpora_and_packs_at_urls(built_lab: Lab, shared: tuple[Url, Url], bucket: Url) -> None:
    at_urls = audit(shared, roots=roots(built_lab), cache=bucket / "prints", progress=False).plain()
    assert sizes_below(bucket / "prints")
    again = audit(shared, cache=bucket / "prints", progress=False).plain()  # without the noises' folder
    assert again["leaks"] == at_urls["leaks"]
    local = audit([built_lab.folder / "corpus", shared[1]], roots=roots(built_lab), progress=False).plain()
    assert at_urls["leaks"] == local["leaks"] != []
    assert at_urls["checked"] == local["checked"]


def test_the_commands_take_urls(built_lab: Lab, shared: tuple[Url, Url], bucket: Url) -> None:
    packed = CliRunner().invoke(pack_command, [str(shared[0]), str(bucket / "small.tgz")])
    assert packed.exit_code == 0, packed.output
    assert packed.stdout.splitlines()[-1].startswith(f"{bucket}/small.tgz: 12 utterances, 52 waves")
    assert " 0.0 MB" not in packed.stdout
    same = CliRunner().invoke(diff_command, [str(bucket / "small.tgz"), str(built_lab.folder / "corpus")])
    assert (same.exit_code, "0 differ" in same.output) == (0, True)


@pytest.mark.parametrize("problem", [PermissionError("no"), FileNotFoundError("no bucket"), NotImplementedError()])
def test_what_cannot_be_written_is_reported_before_anything_is_read(
    built_lab: Lab,
    shared: tuple[Url, Url],
    bucket: Url,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    problem: Exception,
) -> None:
    from corpus_builder.build import build_corpus
    from manifests.pack.write import Packer

    def fail(*_: Any, **__: Any) -> Any:
        raise problem

    monkeypatch.setattr(type(bucket.system), "pipe_file", fail)
    monkeypatch.setattr(build_corpus, "plan_for", lambda *_, **__: pytest.fail("it was planned"))
    monkeypatch.setattr(rebuild_corpus, "open_pack", lambda *_: pytest.fail("the pack was opened"))
    monkeypatch.setattr(Packer, "write", lambda *_, **__: pytest.fail("it was packed"))
    expected = (NoAccessError, MissingFileError, UsageError)
    with pytest.raises(expected, match=f"{bucket}/corpus/"):
        build_corpus.build(built_lab.write_recipe(), bucket / "corpus", scratch=tmp_path, progress=False)
    with pytest.raises(expected, match=f"{bucket}/corpus/"):
        rebuild(shared[1], bucket / "corpus", scratch=tmp_path, progress=False)
    with pytest.raises(expected, match=f"{bucket}/.writable"):
        write_pack(built_lab.folder / "corpus", bucket / "small.tar.gz", progress=False)
    assert not list(tmp_path.iterdir())
