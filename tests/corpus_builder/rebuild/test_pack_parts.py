"""What a corpus is packed into: every part that others need, each as it was sealed, and nothing of this machine."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manifests.errors import DigestMismatchError, MissingFileError, UsageError
from manifests.io.place import sizes_below
from manifests.pack.write import NamesThisMachineError, write_pack
from tests.oracles.forgery import sha256

if TYPE_CHECKING:
    from tests.corpus_builder.conftest import Lab

OWN = {"pack.json", "sources.jsonl", "SHA256SUMS"}  # that a corpus does not have
NOT_PACKED = {"roots.local.json"}
LISTED = (
    "recipe.yaml", "corpus.json", "provenance.json", "README.md", "croissant.json", "refused.jsonl", "plan/plan.json",
    "plan/levels.jsonl", "plan/rooms.jsonl", "rooms/cell.jsonl", "rooms/cell-0-0.npy", "plan/train-000000.jsonl",
    "shards/train-000000.json", "proof/train-000000.jsonl",
)  # fmt: skip


@pytest.fixture(scope="module")
def pack(built_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(built_lab.folder / "corpus", tmp_path_factory.mktemp("pack"), progress=False)[0]


@pytest.fixture
def corpus(built_lab: Lab, tmp_path: Path) -> Path:
    """A copy without tars, which nothing here reads."""
    target = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", target, ignore=shutil.ignore_patterns("*.tar"))
    return target


def contents(pack: Path) -> dict[str, bytes]:
    with tarfile.open(pack) as tar:
        return {info.name.removeprefix("small/"): tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def test_a_pack_has_every_file_of_the_corpus_but_audio_and_what_tells_of_this_machine(
    built_lab: Lab, pack: Path
) -> None:
    corpus = built_lab.folder / "corpus"
    due = {
        name for name in sizes_below(corpus)
        if not name.endswith((".tar", ".sources.jsonl")) and not name.startswith((".", "utterances/"))
        and name not in NOT_PACKED | OWN
    }  # fmt: skip
    found = contents(pack)
    assert set(found) == due | OWN
    assert set(LISTED) <= due
    for name in due:
        assert found[name] == (corpus / name).read_bytes(), name
    assert next(iter(found)) == "pack.json"
    assert list(found)[-1] == "SHA256SUMS"
    listed = dict(line.split("  ")[::-1] for line in found["SHA256SUMS"].decode().splitlines())
    assert listed == {name: sha256(content) for name, content in found.items() if name != "SHA256SUMS"}


def test_a_pack_says_what_it_is_of(built_lab: Lab, pack: Path) -> None:
    corpus = built_lab.folder / "corpus"
    sealed = json.loads((corpus / "corpus.json").read_bytes())
    assert json.loads(contents(pack)["pack.json"]) == {
        "schema": "stillroom/pack/1", "name": "small", "recipe_sha256": sealed["recipe_sha256"],
        "plan_sha256": sealed["plan_sha256"], "corpus_sha256": sha256((corpus / "corpus.json").read_bytes()), "samples": 12,
        "waves": 8 * 5 + 4 * 3, "responses": 4, "sources": 17, "fingerprint": "stillroom/fingerprint/1",
    }  # fmt: skip


def test_sources_stand_once_whichever_shards_used_them(built_lab: Lab, pack: Path) -> None:
    lists = sorted((built_lab.folder / "corpus/proof").glob("*.sources.jsonl"))
    every = [line for path in lists for line in path.read_bytes().splitlines()]
    found = contents(pack)["sources.jsonl"].splitlines()
    assert len(every) > len(found) == len(set(found))
    assert set(found) == set(every)


@pytest.mark.parametrize("name", [*LISTED, "SHA256SUMS", "proof/train-000000.sources.jsonl"])
def test_a_corpus_that_lacks_a_part_is_not_packed(corpus: Path, tmp_path: Path, name: str) -> None:
    (corpus / name).unlink()
    if name == "rooms/cell-0-0.npy":  # what is not there is in no list of files; who rebuilds is told so
        _, held = write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
        assert held.responses == 3
        return
    if name == "rooms/cell.jsonl":
        write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
        assert name not in contents(tmp_path / "p.tar.gz")
        return
    with pytest.raises(MissingFileError, match=name):
        write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("name", [one for one in LISTED if one != "provenance.json"])
def test_a_part_that_was_changed_is_not_packed(corpus: Path, tmp_path: Path, name: str) -> None:
    path = corpus / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DigestMismatchError, match=name):
        write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def listed_again(corpus: Path, name: str) -> None:
    """Put the digest of a changed file right."""
    lines = (corpus / "SHA256SUMS").read_text().splitlines()
    right = f"{sha256((corpus / name).read_bytes())}  {name}"
    (corpus / "SHA256SUMS").write_text("".join(f"{right if line.endswith('  ' + name) else line}\n" for line in lines))


@pytest.mark.parametrize("whose", ["root", "corpus", "home"])
@pytest.mark.parametrize("name", ["refused.jsonl", "README.md", "provenance.json", "proof/train-000000.jsonl"])
def test_a_part_that_names_a_folder_of_this_machine_is_not_packed(
    corpus: Path, tmp_path: Path, name: str, whose: str
) -> None:
    roots = json.loads((corpus / "roots.local.json").read_bytes())["roots"]
    folder = {"root": roots["hum"], "corpus": str(corpus), "home": str(Path.home())}[whose]
    (corpus / name).write_text((corpus / name).read_text() + f"{folder}/x.wav\n")
    listed_again(corpus, name)
    with pytest.raises(NamesThisMachineError, match=name):
        write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_source_that_changed_between_two_shards_is_not_packed(corpus: Path, tmp_path: Path) -> None:
    """Both shards used the same stretch, and it was not decoded to the same PCM."""
    lists = sorted((corpus / "proof").glob("*.sources.jsonl"))
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in lists]
    twice = next(one for one in rows[0] if one in rows[1])
    rows[1][rows[1].index(twice)] = twice | {"pcm_sha256": "0" * 64}
    for path, found in zip(lists, rows, strict=True):
        path.write_text("".join(json.dumps(one) + "\n" for one in found))
    with pytest.raises(ValueError, match=f"{twice['path']}: was changed while the corpus was built"):
        write_pack(corpus, tmp_path / "p.tar.gz", progress=False)


@pytest.mark.parametrize(("name", "fits"), [("p.tar.gz", True), ("p.TGZ", True), ("p.tar", False), ("p.zip", False)])
def test_a_pack_is_named_as_what_it_is(corpus: Path, tmp_path: Path, name: str, fits: Any) -> None:
    if fits:
        assert write_pack(corpus, tmp_path / name, progress=False)[0] == tmp_path / name
    else:
        with pytest.raises(UsageError, match=r"ends in \.tar\.gz"):
            write_pack(corpus, tmp_path / name, progress=False)
