"""Packing and viewing of a corpus that is written by hand: what is in a pack, what is refused, and how each is described."""

from __future__ import annotations

import gzip
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from manifests.corpus.provenance import home_folder
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, StillroomError, UsageError
from manifests.io.digest import canonical_json
from manifests.io.url import Url
from manifests.pack.read import is_pack, open_pack
from manifests.pack.view import View, open_view
from manifests.pack.write import NamesThisMachineError, pack_path, private_folders, write_pack
from tests.manifests.pack.test_rules import KEY, NAME, PRINT, ZEROS, Parts, in_member, lines, put, tar_of
from tests.oracles.forgery import sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHER_SOURCE = {
    "root": "hums",
    "path": "n.wav",
    "num_frames": 9,
    "rate_hz": 8000,
    "sha256": "8" * 64,
    "pcm_sha256": "9" * 64,
}


def write_corpus(folder: Path, parts: Parts | None = None, *, files: dict[str, bytes] | None = None) -> Path:
    """A sealed corpus of the documents of `Parts`, without tars."""
    parts = parts or Parts()
    members = parts.members()
    del members["pack.json"], members["sources.jsonl"]
    sources = lines([*parts.sources, OTHER_SOURCE, parts.sources[0]])
    members |= {
        "README.md": b"card",
        "croissant.json": b"{}",
        "refused.jsonl": b"",
        f"proof/{NAME}.sources.jsonl": sources,
    }
    members |= files or {}
    sums = {name: sha256(content) for name, content in members.items() if name != "provenance.json"}
    members["SHA256SUMS"] = "".join(f"{value}  {name}\n" for name, value in sums.items()).encode()
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def packed(folder: Path, target: Path) -> tuple[Path, Any]:
    return write_pack(folder, target, progress=False)


def two_banks() -> Parts:
    """A simulated bank whose name begins another's, and a recorded one."""
    parts = Parts()
    parts.recipe["rooms"]["cell-2"] = parts.recipe["rooms"]["cell"]
    parts.recipe["rooms"]["hall"] = {"responses": {"dir": "@z", "root": "halls"}}
    span = {"root": "halls", "path": "r.wav", "rate_hz": 48_000, "sha256": ZEROS}
    row = parts.bank[0]
    parts.bank.append(row | {"name": "cell-0-1", "position": 1})
    parts.files |= {
        "rooms/cell-2.jsonl": lines([row | {"name": "cell-2-0-0", "bank": "cell-2"}]), "rooms/cell-2-0-0.npy": b"another",
        "rooms/cell-0-1.npy": b"more", "rooms/hall.jsonl": lines([row | {"name": "hall-0-0", "bank": "hall", "file": span}]),
        "rooms/hall-0-0.npy": b"recorded, and not in a pack",
    }  # fmt: skip
    return parts


def test_a_pack_has_everything_but_audio_in_one_order_and_each_thing_once(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "made", two_banks())
    (tmp_path / "packs").mkdir()
    path, pack = packed(corpus, tmp_path / "packs")
    assert path == tmp_path / "packs/p.tar.gz"
    top = ["pack.json", "recipe.yaml", "corpus.json", "provenance.json", "README.md", "croissant.json", "refused.jsonl"]
    plan = ["plan/plan.json", "plan/levels.jsonl", "plan/rooms.jsonl"]
    rooms = [
        "rooms/cell.jsonl",
        "rooms/cell-2.jsonl",
        "rooms/hall.jsonl",
        "rooms/cell-0-0.npy",
        "rooms/cell-0-1.npy",
        "rooms/cell-2-0-0.npy",
    ]
    shard = [f"plan/{NAME}.jsonl", f"shards/{NAME}.json", f"proof/{NAME}.jsonl"]
    with tarfile.open(path) as tar:
        names = [info.name for info in tar]
        contents = {name: tar.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names == [f"p/{name}" for name in [*top, *plan, *rooms, *shard, "sources.jsonl", "SHA256SUMS"]]
    assert (pack.samples, pack.waves, pack.responses, pack.sources) == (2, 6, 3, 3)
    assert [json.loads(line)["path"] for line in contents["p/sources.jsonl"].splitlines()] == [
        "u.wav",
        "w.wav",
        "n.wav",
    ]
    assert contents["p/pack.json"] == canonical_json(pack) + b"\n"
    assert contents["p/pack.json"].decode().count(sha256(contents["p/corpus.json"])) == 1
    sums = {name.removeprefix("p/"): sha256(content) for name, content in contents.items() if name != "p/SHA256SUMS"}
    assert contents["p/SHA256SUMS"].decode() == "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))
    found = open_pack(path, tmp_path / "open")
    assert found.pack == pack
    first = path.read_bytes()
    assert packed(corpus, tmp_path / "again.TAR.GZ")[0].read_bytes() == first
    assert first[4:8] == bytes(4)  # no time


def test_a_pack_takes_the_place_of_one_of_the_same_plan_and_of_no_other_file(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "made", two_banks())
    path, _ = packed(corpus, tmp_path / "a.tar.gz")
    first = path.read_bytes()
    assert packed(corpus, path)[0].read_bytes() == first
    other = two_banks()
    other.recipe["name"] = other.plan["name"] = other.corpus["name"] = other.pack["name"] = "q"
    other_corpus = write_corpus(tmp_path / "other", other)
    bucket = Url(f"memory://packs-{tmp_path.name}")
    (bucket / "a.tar.gz").put_file(path)
    for there in (path, bucket / "a.tar.gz"):
        with pytest.raises(UsageError) as refused:
            packed(other_corpus, there)
        assert str(refused.value).startswith(f"{there} is the pack of another corpus, 'p' with plan ")
        assert str(refused.value).endswith("choose another name, or remove it first")
    assert path.read_bytes() == first == (bucket / "a.tar.gz").read()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a text",
        *(gzip.compress(held, mtime=0) for held in (b"a text", bytes(1024))),
        gzip.compress(b"x", mtime=0)[:5],
    ],
)
def test_a_file_that_is_no_pack_is_not_written_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.tar.gz").write_bytes(content)
    with pytest.raises(UsageError, match=r"data.tar.gz exists and is no pack that can be read; choose another name"):
        packed(write_corpus(tmp_path / "made", two_banks()), tmp_path / "data.tar.gz")
    assert (tmp_path / "data.tar.gz").read_bytes() == content


def test_a_stretch_that_was_decoded_otherwise_for_another_shard_is_refused(tmp_path: Path) -> None:
    parts = Parts()
    changed = parts.sources[1] | {"pcm_sha256": "1" * 64}
    corpus = write_corpus(tmp_path / "made", files={f"proof/{NAME}.sources.jsonl": lines([*parts.sources, changed])})
    with pytest.raises(
        BadDocumentError, match=r"^root talk: w\.wav: was changed while the corpus was built; build it again"
    ):
        packed(corpus, tmp_path / "p.tgz")
    assert not (tmp_path / "p.tgz").exists()
    other = [
        parts.sources[1] | {key: value, "pcm_sha256": "1" * 64}
        for key, value in (("start", 1), ("num_frames", 99), ("channel", 1))
    ]
    corpus = write_corpus(tmp_path / "apart", files={f"proof/{NAME}.sources.jsonl": lines([*parts.sources, *other])})
    assert packed(corpus, tmp_path / "p.tgz")[1].sources == 5


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "croissant.json", "refused.jsonl", "recipe.yaml", "plan/levels.jsonl", "plan/rooms.jsonl", "rooms/cell.jsonl",
        "rooms/cell-0-0.npy", f"plan/{NAME}.jsonl", f"shards/{NAME}.json", f"proof/{NAME}.jsonl", "corpus.json",
    ],
)  # fmt: skip
def test_a_file_that_was_changed_after_the_seal_is_not_packed(tmp_path: Path, name: str) -> None:
    corpus = write_corpus(tmp_path / "made")
    (corpus / name).write_bytes((corpus / name).read_bytes() + b"\n")
    with pytest.raises(DigestMismatchError, match=f"^{corpus}/{name}: SHA-256 is "):
        packed(corpus, tmp_path / "p.tgz")


def test_a_file_that_the_seal_does_not_list_is_not_packed_but_for_the_provenance(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "made")
    (corpus / "provenance.json").write_bytes(b'{"later": 1}')
    packed(corpus, tmp_path / "p.tgz")
    sums = corpus / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if "README" not in line))
    with pytest.raises(DigestMismatchError, match=f"^{corpus}/README.md: .*its manifest says not listed"):
        packed(corpus, tmp_path / "p.tgz")


def test_another_plan_than_the_sealed_one_is_not_packed(tmp_path: Path) -> None:
    parts = Parts()
    parts.corpus["plan_sha256"] = ZEROS
    corpus = write_corpus(tmp_path / "made", parts)
    with pytest.raises(
        BadDocumentError, match=f"^{corpus}/plan/plan.json: is not the plan that the corpus was sealed with"
    ):
        packed(corpus, tmp_path / "p.tgz")
    with pytest.raises(
        BadDocumentError, match=f"^{corpus}/plan/plan.json: is not the plan that the corpus was sealed with"
    ):
        open_view(corpus, tmp_path / "scratch")


def test_no_pack_names_a_folder_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    corpus = write_corpus(tmp_path / "link/made")
    roots = {"talk": "/srv/speech//", "hums": "s3://bucket/hums", "all": "/"}
    (corpus / "roots.local.json").write_text(json.dumps({"schema": "stillroom/roots/1", "roots": roots}))
    home = home_folder()
    folders = {f"{tmp_path}/link/made/", f"{tmp_path}/real/made/", f"{home}/", "/srv/speech/", "s3://bucket/hums/"}
    found = {folder.decode() for folder in private_folders(corpus)}
    assert folders <= found <= folders | {f"{home.resolve()}/" if home else ""}
    (corpus / "rooms/cell-0-0.npy").write_bytes(b"/srv/speech/ by chance")
    for text, folder in (
        ("/srv/speech/a", "/srv/speech/"),
        ("s3://bucket/hums/a", "s3://bucket/hums/"),
        (f"{tmp_path}/real/made/a", f"{tmp_path}/real/made/"),
    ):
        files = {"README.md": f"from {text}".encode(), "rooms/cell-0-0.npy": b"/srv/speech/ by chance"}
        write_corpus(tmp_path / "link/made", files=files)
        with pytest.raises(NamesThisMachineError) as caught:
            packed(corpus, tmp_path / "p.tgz")
        assert str(caught.value).startswith(f"README.md holds {folder!r}, a folder of this machine")
        assert not (tmp_path / "p.tgz").exists()
    write_corpus(
        tmp_path / "link/made",
        files={"README.md": b"/srv/speeches/a /srv/speech", "rooms/cell-0-0.npy": b"/srv/speech/ by chance"},
    )
    packed(corpus, tmp_path / "p.tgz")


def test_a_pack_has_the_name_of_one_and_is_outside_of_its_corpus(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "made")
    (tmp_path / "link").symlink_to(corpus)
    assert [pack_path(tmp_path / name, "n") for name in ("a.tgz", "b.Tar.GZ")] == [
        tmp_path / "a.tgz",
        tmp_path / "b.Tar.GZ",
    ]
    assert pack_path(tmp_path, "n") == tmp_path / "n.tar.gz"
    for name in ("a.tar", "a.gz", "a"):
        with pytest.raises(
            UsageError, match=f"^{tmp_path}/{name}: a pack is a gzip tar; name a file that ends in .tar.gz"
        ):
            pack_path(tmp_path / name, "n")
    for inside in ("made/p.tgz", "made/plan/p.tgz", "made", "link/p.tgz", "link/plan/p.tgz"):
        with pytest.raises(UsageError, match="is in the corpus itself"):
            packed(corpus, tmp_path / inside)


@pytest.mark.parametrize(
    ("external", "what"),
    [(True, "an index of external shards, which have no plan"), (False, "a subset, which has no shards of its own")],
)
def test_what_has_no_shards_of_its_own_is_neither_packed_nor_viewed(tmp_path: Path, external: Any, what: str) -> None:
    parts = Parts()
    parts.corpus["borrowed"] = {"root": "corpus", "foreign": external}
    corpus = write_corpus(tmp_path / "made", parts)
    with pytest.raises(UsageError, match=f"^{corpus} is {what}: pack a whole corpus"):
        packed(corpus, tmp_path / "p.tgz")
    with pytest.raises(UsageError, match=f"^{corpus} is a subset or an index, which has no plan"):
        open_view(corpus, tmp_path / "scratch")


SOURCES = [
    ("talk", "u.wav", "(0, 100, -1)", "3" * 64, "4" * 64), ("talk", "w.wav", "(0, 100, -1)", "3" * 64, "4" * 64),
    ("hums", "n.wav", "(0, 9, -1)", "8" * 64, "9" * 64),
]  # fmt: skip
PLANNED = [("hums", "n.wav", "", "6" * 64, None), ("talk", "u.wav", "", None, None), ("talk", "w.wav", "", None, None)]


def test_a_corpus_its_pack_and_its_plan_are_described_and_have_their_sources(tmp_path: Path) -> None:
    parts = Parts()
    parts.corpus["totals"] = {"samples": 2, "seconds": 5400.0, "bytes": 9, "shards": 1}
    corpus = write_corpus(tmp_path / "made", parts)
    path, _ = packed(corpus, tmp_path / "x.tgz")
    path.rename(tmp_path / "pack.bin")  # known by its contents
    plan = write_corpus(tmp_path / "planned")
    for name in ("corpus.json", f"proof/{NAME}.sources.jsonl"):
        (plan / name).unlink()
    bare = write_corpus(tmp_path / "bare")
    (bare / f"proof/{NAME}.sources.jsonl").unlink()
    views = [
        open_view(tmp_path / name, tmp_path / f"{name}.scratch") for name in ("made", "pack.bin", "planned", "bare")
    ]
    assert [view.description for view in views] == [
        f"{corpus}: corpus p, 2 utterances, 1.50 h", f"{tmp_path}/pack.bin: pack of p, 2 utterances, 6 waves",
        f"{plan}: plan of p, 2 utterances", f"{bare}: corpus p, 2 utterances, 0.00 h",
    ]  # fmt: skip
    assert [(view.kind, view.has_waves) for view in views] == [
        ("corpus", True),
        ("pack", True),
        ("plan", False),
        ("corpus", True),
    ]
    assert views[1].folder == tmp_path / "pack.bin.scratch"
    assert [view.place for view in views] == [corpus, tmp_path / "pack.bin", plan, bare]
    assert [list(view.sources()) for view in views] == [[*SOURCES, SOURCES[0]], SOURCES, PLANNED, PLANNED]
    by_other_means = View("corpus", views[1].place, views[1].folder, "", views[1].plan, views[1].recipe)
    assert by_other_means.source_lists() == ["sources.jsonl"]
    assert views[0].source_lists() == [f"proof/{NAME}.sources.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("entry", name="train-000007"), "/corpus.json: names other shards than the plan"),
        (put("entry", bytes=9), f"/shards/{NAME}.json: is the index of another tar than corpus.json names"),
        (put("entry", sha256=ZEROS), f"/shards/{NAME}.json: is the index of another tar than corpus.json names"),
        (put("entry", samples=1), f"/shards/{NAME}.json: is the index of another tar than corpus.json names"),
        (put("index", sample_rate=48_000), f"/shards/{NAME}.json: has another sample rate than the plan"),
        (in_member("clean", pcm_sha256=None), f"/shards/{NAME}.json: a wave of {KEY} has no digest"),
        (put("plan_file", sha256=ZEROS), f"/plan/{NAME}.jsonl: SHA-256 is "),
        (put("rows", split="test"), f": plan/{NAME}.jsonl:1: is of another split"),
    ],
)  # fmt: skip
def test_a_corpus_whose_indexes_are_not_those_of_its_plan_is_not_viewed(
    tmp_path: Path, change: Callable[[Parts], Any], message: str
) -> None:
    parts = Parts()
    change(parts)
    corpus = write_corpus(tmp_path / "made", parts)
    with pytest.raises(StillroomError) as caught:
        open_view(corpus, tmp_path / "scratch")
    assert str(caught.value).startswith(f"{corpus}{message}")
    url = Url(f"memory://{tmp_path.name}")
    for path in corpus.rglob("*"):
        if path.is_file():
            (url / path.relative_to(corpus).as_posix()).put(path.read_bytes())
    with pytest.raises(StillroomError) as caught:
        open_view(url, tmp_path / "fetched")
    assert str(caught.value).startswith(f"{url}{message}")


def test_a_plan_whose_rows_do_not_fit_its_recipe_is_not_viewed(tmp_path: Path) -> None:
    parts = Parts()
    parts.rows[1]["split"] = "test"
    plan = write_corpus(tmp_path / "planned", parts)
    (plan / "corpus.json").unlink()
    with pytest.raises(BadDocumentError, match=f"^{plan}: plan/{NAME}.jsonl:2: is of another split"):
        open_view(plan, tmp_path / "scratch")


def test_what_is_no_corpus_plan_or_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    needed = "the folder of a corpus or a finished plan, or a pack, is needed"
    for name, kind, message in (
        ("file", BadDocumentError, "file: is neither a pack"), ("gone", MissingFileError, f"gone does not exist: {needed}"),
        ("empty", MissingFileError, f"empty/plan/plan.json does not exist: {needed}"),
    ):  # fmt: skip
        with pytest.raises(kind, match=f"^{tmp_path}/{message}"):
            open_view(tmp_path / name, tmp_path / "scratch")
    assert [is_pack(tmp_path / name) for name in ("file", "gone", "empty")] == [False] * 3


# --- tars of other tools ----------------------------------------------------------------------------------------------


def extended(kind: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("././@x")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


def field(key: str, value: str) -> bytes:
    """One field of a pax header, with its own length before it."""
    rest = f" {key}={value}\n"
    return f"{len(rest) + 2}{rest}".encode() if len(rest) + 2 < 100 else f"{len(rest) + 3}{rest}".encode()


def other_tar(tmp_path: Path, headers: dict[str, bytes], *, kinds: dict[str, bytes] | None = None) -> Path:
    """A pack each of whose members may have other headers before it; one with such a header has another name in its own."""
    members = Parts().members()
    members["SHA256SUMS"] = "".join(f"{sha256(content)}  {name}\n" for name, content in members.items()).encode()
    content = b""
    for name, value in members.items():
        info = tarfile.TarInfo(f"p/{name}" if name not in headers else "p/short")
        info.type = (kinds or {}).get(name, tarfile.REGTYPE)
        info.size = len(value)
        content += headers.get(name, b"") + info.tobuf(tarfile.USTAR_FORMAT) + value + bytes(-len(value) % 512)
    path = tmp_path / "p.tar.gz"
    path.write_bytes(gzip.compress(content + bytes(1024), mtime=0))
    return path


def test_long_names_of_either_form_are_of_the_next_member_alone(tmp_path: Path) -> None:
    around = extended(tarfile.XGLTYPE, field("comment", "x") + field("path", "p/none"))
    headers = {
        "recipe.yaml": extended(tarfile.GNUTYPE_LONGNAME, b"p/recipe.yaml\0"),
        "plan/rooms.jsonl": around + extended(tarfile.XHDTYPE, field("mtime", "1.5") + field("path", "p/plan/rooms.jsonl")) + around,
        "rooms/cell.jsonl": extended(tarfile.GNUTYPE_LONGNAME, b"./p/rooms/cell.jsonl\0") + around,
    }  # fmt: skip
    path = other_tar(tmp_path, headers, kinds={"corpus.json": tarfile.AREGTYPE})
    assert open_pack(path, tmp_path / "open").pack.name == "p"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (extended(tarfile.XHDTYPE, field("size", "3")), "an extended header that changes the size of a member; refused"),
        (extended(tarfile.XHDTYPE, field("linkpath", "/x")), "an extended header that changes the linkpath of a member; refused"),
        (extended(tarfile.XHDTYPE, field("GNU.sparse.map", "0,1")), "an extended header that changes the GNU.sparse.map of a member; refused"),
        (extended(tarfile.XHDTYPE, bytes((1 << 16) + 1)), "an extended header of 65537 bytes; refused"),
        (extended(tarfile.XHDTYPE, field("path", "p/x")[:-1]), "an extended header that is damaged; refused"),
        (extended(tarfile.XGLTYPE, field("path", "p/recipe.yaml")), "member 'p/short' does not belong in a pack; refused"),
    ],
)  # fmt: skip
def test_an_extended_header_changes_a_name_and_nothing_else(tmp_path: Path, header: bytes, message: str) -> None:
    path = other_tar(tmp_path, {"recipe.yaml": header})
    with pytest.raises(StillroomError) as caught:
        open_pack(path, tmp_path / "open")
    assert str(caught.value) == f"{path}: {message}"


def test_a_damaged_gzip_file_is_refused_as_such(tmp_path: Path) -> None:
    whole = gzip.compress(tar_of([(f"p/{name}", content) for name, content in Parts().members().items()]), mtime=0)
    for number, content in enumerate((whole[:-9], whole[:60] + b"\xff" * 40 + whole[100:], whole[:-8] + bytes(8))):
        path = tmp_path / f"{number}.tar.gz"
        path.write_bytes(content)
        with pytest.raises(StillroomError, match=rf"^{path}: is not a pack, or was cut: "):
            open_pack(path, tmp_path / str(number))


def test_fingerprints_of_the_corpus_are_those_of_its_pack(tmp_path: Path) -> None:
    path, _ = packed(write_corpus(tmp_path / "made"), tmp_path / "p.tgz")
    folder = open_pack(path, tmp_path / "open").folder
    first = json.loads((folder / f"proof/{NAME}.jsonl").read_text().splitlines()[0])
    assert (first["key"], first["prints"]["clean"]) == (KEY, PRINT)
