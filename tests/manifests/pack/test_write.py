"""A pack is a stranger's data: whatever is wrong with it is one clear line, and nothing is written outside the target."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from manifests.errors import StillroomError
from manifests.pack import read
from manifests.pack.read import Bounded, header, is_pack, members, open_pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_of(entries: list[tuple[Any, bytes]], *, form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar of headers or names, each with a content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def special(name: str, kind: bytes, *, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def good_pack() -> dict[str, bytes]:
    """The members of a pack written by hand: one utterance, one coded copy, no rooms."""
    import base64

    key = "u-" + hashlib.sha256(b"u").hexdigest()[:12]
    recipe = {
        "schema": "stillroom/recipe/1", "name": "p", "speech": {"train": {"dir": "@train"}},
        "conditions": {"phone": {"steps": [{"kind": "codec", "codec": "g711-mulaw"}]}}, "copies": {"train": {"phone": 1}},
    }  # fmt: skip
    row = {
        "id": "u", "key": key, "split": "train", "num_samples": 100,
        "source": {"root": "train", "path": "a.wav", "rate_hz": 16000},
        "copies": [{"name": "phone-0", "condition": "phone", "steps": [{"kind": "codec", "codec": "g711-mulaw"}]}],
    }  # fmt: skip
    members_ = {
        "json": {"offset": 512, "size": 10},
        "clean": {"offset": 1536, "size": 10, "pcm_sha256": "1" * 64},
        "phone-0": {"offset": 2560, "size": 10, "pcm_sha256": "2" * 64},
    }
    prints = {"clean": base64.b64encode(b"\1" + bytes(31)).decode()}
    prints["phone-0"] = base64.b64encode(b"\1" + bytes(31) + b"\2" + bytes(31)).decode()
    source = {
        "root": "train",
        "path": "a.wav",
        "num_frames": 100,
        "rate_hz": 16000,
        "sha256": "3" * 64,
        "pcm_sha256": "4" * 64,
    }
    return assembled(recipe, [row], members_, {key: prints}, [source])


def assembled(
    recipe: Any, rows: list[Any], members_: Any, prints: dict[str, Any], sources: list[Any]
) -> dict[str, bytes]:
    """Every digest put right, so that only what a test twists is wrong."""
    from manifests.io.digest import digest
    from manifests.plan.plan import Plan
    from manifests.recipe.recipe import Recipe

    def lines(items: list[Any]) -> bytes:
        return b"".join(json.dumps(item).encode() + b"\n" for item in items)

    recipe_sha256 = digest(Recipe.parse(recipe, where="test").plain())
    plan_file = lines(rows)
    name = "train-000000"
    plan = {
        "schema": "stillroom/plan/2", "name": "p", "recipe_sha256": recipe_sha256, "sample_rate": 16000,
        "files": [{"name": name, "split": "train", "rows": len(rows), "seconds": 0.0, "sha256": sha256(plan_file)}],
        "levels_sha256": sha256(b""), "rooms_sha256": sha256(b""),
    }  # fmt: skip
    plan_sha256 = digest(Plan.parse(plan, where="test"))
    index = {
        "schema": "stillroom/shard/1", "name": name, "split": "train", "sample_rate": 16000, "bytes": 5120, "sha256": "5" * 64,
        "plan_sha256": sha256(plan_file),
        "samples": [{"key": row["key"], "num_samples": row["num_samples"], "members": members_} for row in rows],
    }  # fmt: skip
    corpus = json.dumps(
        {
            "schema": "stillroom/corpus/1", "name": "p", "recipe_sha256": recipe_sha256, "plan_sha256": plan_sha256,
            "sample_rate": 16000,
            "splits": {"train": [{"name": name, "samples": 1, "seconds": 0.0, "bytes": 5120, "sha256": "5" * 64}]},
            "copies": {"train": {"phone": 1}}, "totals": {"samples": 1, "seconds": 0.0, "bytes": 5120, "shards": 1},
        }
    ).encode()  # fmt: skip
    pack = {
        "schema": "stillroom/pack/1", "name": "p", "recipe_sha256": recipe_sha256, "plan_sha256": plan_sha256,
        "corpus_sha256": sha256(corpus), "samples": 1, "waves": 2, "responses": 0, "sources": 1,
    }  # fmt: skip
    return {
        "pack.json": json.dumps(pack).encode(),
        "recipe.yaml": json.dumps(recipe).encode(),
        "corpus.json": corpus,
        "provenance.json": b"{}",
        "plan/plan.json": json.dumps(plan).encode(),
        "plan/levels.jsonl": b"",
        "plan/rooms.jsonl": b"",
        f"plan/{name}.jsonl": plan_file,
        f"shards/{name}.json": json.dumps(index).encode(),
        f"proof/{name}.jsonl": lines([{"key": key, "prints": found} for key, found in prints.items()]),
        "sources.jsonl": lines(sources),
    }


def written(folder: Path, content: dict[str, bytes] | bytes, *, sums: bool = True) -> Path:
    """A pack of members, with SHA256SUMS, or of a whole tar."""
    if isinstance(content, dict):
        if sums:
            text = "".join(f"{sha256(value)}  {name}\n" for name, value in content.items())
            content = content | {"SHA256SUMS": text.encode()}
        content = tar_of([(f"p/{name}", value) for name, value in content.items()])
    path = folder / "p.tar.gz"
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def refused(path: Path, folder: Path) -> str:
    """The one line that a pack is refused with; nothing lies beside its folder afterwards."""
    before = {item for item in folder.parent.rglob("*") if folder not in item.parents}
    with pytest.raises(StillroomError) as caught:
        open_pack(path, folder)
    after = {item for item in folder.parent.rglob("*") if folder not in item.parents} - {folder}
    assert after == before
    line = str(caught.value)
    assert "\n" not in line
    assert "\x1b" not in line
    return line


def test_a_pack_by_hand_is_read(tmp_path: Path) -> None:
    opened = open_pack(written(tmp_path, good_pack()), tmp_path / "open")
    assert opened.pack.samples == 1
    assert [source.path for source in opened.sources()] == ["a.wav"]


def test_a_pack_made_by_other_tars_is_read(tmp_path: Path) -> None:
    """With folders, `./` before names, and the extended headers that plain tarfile writes for a time with fractions."""
    content = good_pack()
    text = "".join(f"{sha256(value)}  {name}\n" for name, value in content.items())
    entries: list[tuple[Any, bytes]] = [(special("./p", tarfile.DIRTYPE), b"")]
    for name, value in (content | {"SHA256SUMS": text.encode()}).items():
        info = tarfile.TarInfo(f"./p/{name}")
        info.mtime = 1.5
        info.pax_headers = {"comment": "x"}
        entries.append((info, value))
    path = written(tmp_path, tar_of(entries, form=tarfile.PAX_FORMAT))
    assert open_pack(path, tmp_path / "open").pack.name == "p"


HOSTILE_ENTRIES: dict[str, list[tuple[Any, bytes]]] = {
    "absolute": [("/etc/pack.json", b"{}")],
    "parent": [("p/../../pack.json", b"{}")],
    "parent within": [("p/plan/../pack.json", b"{}")],
    "parent top": [("../pack.json", b"{}")],
    "backslash": [("p\\..\\pack.json", b"{}")],
    "home": [("~/pack.json", b"{}")],
    "pipe": [("pipe:id", b"{}")],
    "url": [("p/http://x/pack.json", b"{}")],
    "symlink": [(special("p/pack.json", tarfile.SYMTYPE, target="/etc/passwd"), b"")],
    "hard link": [(special("p/pack.json", tarfile.LNKTYPE, target="p/recipe.yaml"), b"")],
    "device": [(special("p/pack.json", tarfile.CHRTYPE), b"")],
    "block device": [(special("p/pack.json", tarfile.BLKTYPE), b"")],
    "fifo": [(special("p/pack.json", tarfile.FIFOTYPE), b"")],
    "sparse": [(special("p/pack.json", tarfile.GNUTYPE_SPARSE), b"")],
    "folder outside": [(special("../x", tarfile.DIRTYPE), b"")],
    "twice": [("p/pack.json", b"{}"), ("p/pack.json", b"{}")],
    "two tops": [("p/pack.json", b"{}"), ("q/recipe.yaml", b"{}")],
    "unknown name": [("p/run.sh", b"#!/bin/sh")],
    "audio": [("p/shards/train-000000.tar", b"x")],
    "pickle": [("p/rooms/a.pkl", b"x")],
    "escape in a name": [("p/\x1b[31mred", b"x")],
    "newline in a name": [("p/pack.json\nx", b"x")],
    "hidden roots": [("p/roots.local.json", b"{}")],
    "dot": [("p/./pack.json/.", b"{}")],
    "nothing at all": [],
    "response that is too large": [("p/rooms/a-0-0.npy", bytes(6 << 20))],
}


@pytest.mark.parametrize("name", HOSTILE_ENTRIES)
def test_hostile_members_are_refused(tmp_path: Path, name: str) -> None:
    refused(written(tmp_path, tar_of(HOSTILE_ENTRIES[name])), tmp_path / "open")


def long_header(kind: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("p/x")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize(
    "begin",
    [
        long_header(tarfile.XHDTYPE, b"28 path=../../outside.json\n\n"),
        long_header(tarfile.XHDTYPE, b"23 size=99999999999999\n"),
        long_header(tarfile.XHDTYPE, b"26 linkpath=/etc/passwdxx\n"),
        long_header(tarfile.XHDTYPE, b"99 path=x\n"),
        long_header(tarfile.XHDTYPE, b"garbage"),
        long_header(tarfile.XHDTYPE, bytes(1 << 17)),
        long_header(tarfile.GNUTYPE_LONGNAME, b"../../outside\0"),
        long_header(tarfile.GNUTYPE_LONGLINK, b"/etc/passwd\0"),
        b"x" * 511,
        b"not a tar at all" * 100,
        b"",
    ],
    ids=["path", "size", "link", "length", "garbage", "large", "long name", "long link", "short", "no tar", "empty"],
)
def test_extended_headers_do_not_lead_out(tmp_path: Path, begin: bytes) -> None:
    refused(written(tmp_path, begin + tar_of([("p/pack.json", b"{}")])[:1024] + bytes(1024)), tmp_path / "open")


def twisted(name: str, change: Callable[[dict[str, bytes]], None]) -> Any:
    return pytest.param(change, id=name)


def replace_in(member: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(content: dict[str, bytes]) -> None:
        assert old in content[member], member
        content[member] = content[member].replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    "change",
    [
        twisted("overflow", replace_in("shards/train-000000.json", b'"offset": 2560', b'"offset": 99999999999999999999')),
        twisted("negative", replace_in("shards/train-000000.json", b'"offset": 2560', b'"offset": -1')),
        twisted("NaN", replace_in("shards/train-000000.json", b'"bytes": 5120', b'"bytes": NaN')),
        twisted("twice a key", replace_in("shards/train-000000.json", b'"bytes": 5120', b'"bytes": 5120, "bytes": 1')),
        twisted("deep", lambda content: content.update({"provenance.json": b"[" * 100_000})),
        twisted("not UTF-8", lambda content: content.update({"provenance.json": b'"\xff\xfe"'})),
        twisted("other schema", replace_in("pack.json", b"stillroom/pack/1", b"stillroom/pack/99")),
        twisted("short fingerprint", replace_in("proof/train-000000.jsonl", b"A" * 8, b"")),
        twisted("yaml tag", lambda content: content.update({"recipe.yaml": b"!!python/object/apply:os.system [id]"})),
        twisted(
            "laughs",
            lambda content: content.update(
                {"recipe.yaml": b"a: &a [x,x]\n" + b"".join(b"b%d: &b%d [*a,*a,*a]\n" % (n, n) for n in range(200))}
            ),
        ),
    ],
)  # fmt: skip
def test_contents_that_do_not_fit_are_refused(tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    content = good_pack()
    change(content)
    refused(written(tmp_path, content), tmp_path / "open")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "../../x"), ("key", "x"), ("split", "test"), ("split", "../x"), ("num_samples", 0), ("num_samples", 2**60),
        ("num_samples", 1.5), ("id", ""), ("source", {"root": "train", "path": "/etc/passwd", "rate_hz": 16000}),
        ("source", {"root": "train", "path": "../../x", "rate_hz": 16000}),
        ("source", {"root": "train", "path": "pipe:id|", "rate_hz": 16000}),
        ("copies", [{"name": "../../x-0", "condition": "phone", "steps": []}]),
        ("copies", [{"name": "json", "condition": "phone", "steps": []}]),
        ("copies", [{"name": "phone-0", "condition": "phone", "steps": [{"kind": "shell", "command": "id"}]}]),
        ("copies", [{"name": "phone-0", "condition": "phone", "steps": []}] * 2),
    ],
)  # fmt: skip
def test_hostile_rows_with_right_digests_are_refused(tmp_path: Path, field: str, value: Any) -> None:
    content = good_pack()
    row = json.loads(content["plan/train-000000.jsonl"])
    index = json.loads(content["shards/train-000000.json"])["samples"][0]
    prints = json.loads(content["proof/train-000000.jsonl"])
    content = assembled(
        json.loads(content["recipe.yaml"]), [row | {field: value}], index["members"], {prints["key"]: prints["prints"]},
        [json.loads(content["sources.jsonl"])],
    )  # fmt: skip
    refused(written(tmp_path, content), tmp_path / "open")


def test_wrong_digests_are_refused(tmp_path: Path) -> None:
    content = good_pack()
    sums = "".join(f"{'0' * 64}  {name}\n" for name in content)
    assert "SHA-256" in refused(
        written(tmp_path, content | {"SHA256SUMS": sums.encode()}, sums=False), tmp_path / "open"
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_packs_are_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path, good_pack())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, tmp_path / "open")


def test_what_stands_after_the_end_mark_is_refused(tmp_path: Path) -> None:
    content = good_pack()
    text = "".join(f"{sha256(value)}  {name}\n" for name, value in content.items())
    whole = tar_of([(f"p/{name}", value) for name, value in (content | {"SHA256SUMS": text.encode()}).items()])
    assert "after its end" in refused(written(tmp_path, whole + b"more"), tmp_path / "open")
    again = tar_of([("p/pack.json", b"{}")])
    assert "after its end" in refused(written(tmp_path, whole + again), tmp_path / "again")


def test_tars_cut_off_inside_the_gzip_are_refused(tmp_path: Path) -> None:
    content = good_pack()
    whole = tar_of([(f"p/{name}", value) for name, value in content.items()])
    for number, end in enumerate(range(100, len(whole) - 1024, 1777)):
        refused(written(tmp_path, whole[:end]), tmp_path / f"open{number}")


@pytest.mark.parametrize("junk", [b"", b"BZh9", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(40), b"PK\3\4", b"{}", b"\x80\4."])
def test_other_files_are_refused(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "p.tar.gz"
    path.write_bytes(junk)
    refused(path, tmp_path / "open")
    assert is_pack(path) == junk.startswith(b"\x1f\x8b")


def test_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.tar.gz", tmp_path / "open")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", tmp_path / "open")


def test_a_member_larger_than_it_may_be_is_refused_before_it_is_written(tmp_path: Path) -> None:
    info = tarfile.TarInfo("p/pack.json")
    info.size = 1 << 40
    path = written(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert "refused" in refused(path, tmp_path / "open")
    assert not list((tmp_path / "open").rglob("*.json"))


def test_a_decompression_bomb_is_refused_early_and_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("p/sources.jsonl")
    info.size = 2 << 30
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(400):
            stream.write(bytes(1 << 20))
    code = (
        "import sys; from pathlib import Path; from manifests.pack.read import open_pack\n"
        "try: open_pack(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Exception as problem: print(problem)\n"
        # VmHWM is of this program's own memory; ru_maxrss also counts that of the process that it was forked from
        "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / "open")], capture_output=True, text=True, check=True
    )
    line, megabytes = done.stdout.splitlines()
    assert "bomb" in line
    assert int(megabytes) < 300
    assert sum(item.stat().st_size for item in (tmp_path / "open").rglob("*") if item.is_file()) < 256 << 20


def test_the_reader_agrees_with_tarfile_on_plain_members(tmp_path: Path) -> None:
    content = good_pack()
    path = written(tmp_path, content)
    with path.open("rb") as plain, gzip.open(plain) as stream:
        found: dict[str, str] = {}
        sizes = dict(members(Bounded(stream, plain, where=path), where=path, found=found, folder=tmp_path / "open"))
    with tarfile.open(path) as tar:
        expected = {info.name.removeprefix("p/"): info.size for info in tar}
    assert sizes == expected
    with path.open("rb") as plain, gzip.open(plain) as stream:
        first = header(Bounded(stream, plain, where=path), where=path)
    assert first is not None
    assert first.name == "p/pack.json"


def test_a_member_with_a_size_below_zero_and_too_many_members_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tarfile.TarInfo("p/pack.json")
    info.size = -5
    path = written(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert refused(path, tmp_path / "open").endswith("member 'p/pack.json' has a size below zero")
    monkeypatch.setattr(read, "MOST_MEMBERS", 3)
    three = [(f"p/shards/train-00000{number}.json", b"{}") for number in range(3)]
    assert "has no SHA256SUMS" in refused(written(tmp_path, tar_of(three[:2])), tmp_path / "two")
    assert refused(written(tmp_path, tar_of(three)), tmp_path / "three").endswith("has more than 3 members; refused")


@pytest.mark.parametrize(("data", "is_one"), [(b"\x1f\x8b", True), (b"\x1f", False), (b"PK", False), (b"", False)])
def test_a_pack_is_known_by_its_first_two_bytes_and_is_a_file(tmp_path: Path, data: bytes, is_one: bool) -> None:
    (tmp_path / "a").write_bytes(data)
    assert is_pack(tmp_path / "a") == is_one
    assert not is_pack(tmp_path)
    assert not is_pack(tmp_path / "none")
