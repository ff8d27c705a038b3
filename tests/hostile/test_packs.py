"""A stranger's pack at the doors that take one: rebuild, diff, audit, verify --against; and folders that are not what they seem."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import signal
import socket
import tarfile
import unicodedata
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.corpus_builder.conftest import RECIPE
from tests.hostile.test_corpora import END, entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.hostile.conftest import House

Members = dict[str, bytes]
SHARD, SUMS = "train-000000", "SHA256SUMS"
ROWS = f"plan/{SHARD}.jsonl"
INDEX = f"shards/{SHARD}.json"
PRINTS = f"proof/{SHARD}.jsonl"


def members_of(pack: bytes) -> Members:
    """Content of each member of a pack but SHA256SUMS, by name below its folder."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(pack))) as tar:
        names = {info.name.partition("/")[2]: info for info in tar}
        return {name: tar.extractfile(info).read() for name, info in names.items() if name != SUMS}  # type: ignore[union-attr]


def sums_of(members: Members) -> bytes:
    """What SHA256SUMS of such members says."""
    return "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(members.items())
    ).encode()


def tar_of(members: Members, *, first: bytes = b"", sums: Callable[[bytes], bytes] = bytes) -> bytes:
    """A tar of members, after other entries; SHA256SUMS is right unless it is to be twisted."""
    whole = members | {SUMS: sums(sums_of(members))}
    return first + b"".join(entry(f"small/{name}", content=content) for name, content in whole.items()) + END


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


def joined(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def in_document(name: str, *keys: Any) -> Callable[[Members], None]:
    """Set a value deep in a JSON member: keys and then the value."""
    *path, last, value = keys

    def change(members: Members) -> None:
        document = inner = json.loads(members[name])
        for key in path:
            inner = inner[key]
        inner[last] = value
        members[name] = json.dumps(document).encode()

    return change


def in_line(name: str, *keys: Any) -> Callable[[Members], None]:
    """Set a value in the first line of a member, and the digests that the plan keeps of it."""
    *path, last, value = keys

    def change(members: Members) -> None:
        rows = lines(members[name])
        inner = rows[0]
        for key in path:
            inner = inner[key]
        inner[last] = value
        members[name] = joined(rows)
        resealed(members)

    return change


def as_text(name: str, content: bytes) -> Callable[[Members], None]:
    """Put other bytes for a member, and the digests that the plan keeps of it."""

    def change(members: Members) -> None:
        members[name] = content
        resealed(members)

    return change


def from_text(name: str, change: Callable[[bytes], bytes]) -> Callable[[Members], None]:
    """Change the bytes of a member, and the digests that the plan keeps of it."""

    def changed(members: Members) -> None:
        members[name] = change(members[name])
        resealed(members)

    return changed


def resealed(members: Members) -> None:
    """Every digest in plan, indexes, corpus.json and pack.json put right, so that only the twist is wrong."""
    from manifests.io.digest import digest
    from manifests.plan.plan import Plan

    plan = json.loads(members["plan/plan.json"])
    for file in plan["files"]:
        file["sha256"] = hashlib.sha256(members[f"plan/{file['name']}.jsonl"]).hexdigest()
        index = json.loads(members[f"shards/{file['name']}.json"])
        index["plan_sha256"] = file["sha256"]
        members[f"shards/{file['name']}.json"] = json.dumps(index).encode()
    for kind in ("levels", "rooms"):
        plan[f"{kind}_sha256"] = hashlib.sha256(members[f"plan/{kind}.jsonl"]).hexdigest()
    members["plan/plan.json"] = json.dumps(plan).encode()
    plan_sha256 = digest(Plan.parse(plan, where="test"))
    corpus = json.loads(members["corpus.json"]) | {"plan_sha256": plan_sha256}
    members["corpus.json"] = json.dumps(corpus).encode()
    pack = json.loads(members["pack.json"]) | {"plan_sha256": plan_sha256}
    pack["corpus_sha256"] = hashlib.sha256(members["corpus.json"]).hexdigest()
    members["pack.json"] = json.dumps(pack).encode()


def zip_of(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def gzip_head(flags: int, extra: bytes) -> Callable[[bytes], bytes]:
    """The header of a gzip with fields of its own."""
    return lambda pack: pack[:3] + bytes([flags]) + pack[4:10] + extra + pack[10:]


def halves(pack: bytes) -> bytes:
    """The same tar in two members of gzip, the second with a tar of its own."""
    return pack + zipped(tar_of({"pack.json": b"{}"}))


WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "a pack in a pack": zipped,
    "five packs in one another": lambda pack: zipped(zipped(zipped(zipped(pack)))),
    "a tar that is not compressed": gzip.decompress,
    "bzip2": lambda pack: bz2.compress(gzip.decompress(pack)),
    "xz": lambda pack: lzma.compress(gzip.decompress(pack)),
    "zip": lambda pack: zip_of("small/pack.json", gzip.decompress(pack)),
    "zip after the pack": lambda pack: pack + zip_of("../../OWNED", b"x"),
    "rubbish after the pack": lambda pack: pack + b"touch OWNED\n" * 100,
    "a pickle after the pack": lambda pack: pack + b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR.",
    "a second tar in a second gzip": halves,
    "half a header": lambda pack: pack[:5],
    "a header alone": lambda pack: pack[:10],
    "another method": lambda pack: pack[:2] + b"\x07" + pack[3:],
    "a name that never ends": gzip_head(0x08, b"x" * 3_000_000),
    "a comment that never ends": gzip_head(0x10, b"x" * 3_000_000),
    "an extra field beyond the end": gzip_head(0x04, b"\xff\xff"),
    "a wrong sum at the end": lambda pack: pack[:-8] + bytes(4) + pack[-4:],
    "a wrong length at the end": lambda pack: pack[:-4] + b"\xff\xff\xff\xff",
    "gigabytes of nothing after the end mark": lambda pack: gzip.compress(gzip.decompress(pack) + bytes(300 << 20), 9),
    "UTF-16": lambda pack: pack.decode("latin-1").encode("utf-16"),
    "lines ended by CRLF": lambda pack: pack.replace(b"\n", b"\r\n") + b"\r\n",
}  # fmt: skip


def pax(*records: tuple[str, bytes], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header."""
    content = b""
    for key, value in records:
        body = b" " + key.encode() + b"=" + value + b"\n"
        size = len(body) + len(str(len(body)))
        content += str(size if len(str(size)) == len(str(len(body))) else size + 1).encode() + body
    return entry("x", kind, content=content)


def twisted(name: str, at: int, value: bytes) -> bytes:
    """A header with other bytes at a place, its sum put right."""
    info = tarfile.TarInfo(name)
    info.size = 2
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"{}" + bytes(510)


HEADERS: dict[str, bytes] = {
    "pax path outside": pax(("path", b"../../OWNED")) + entry("small/x", content=b"{}"),
    "pax path for all": pax(("path", b"/tmp/OWNED"), kind=tarfile.XGLTYPE) + entry("small/x", content=b"{}"),
    "pax path twice": pax(("path", b"small/pack.json"), ("path", b"/tmp/OWNED")) + entry("small/x", content=b"{}"),
    "pax path of NUL": pax(("path", b"small/pack.json\0/../../OWNED")) + entry("small/x", content=b"{}"),
    "pax path of no UTF-8": pax(("path", b"small/\xff\xfe")) + entry("small/x", content=b"{}"),
    "pax sparse": pax(("GNU.sparse.major", b"1"), ("GNU.sparse.name", b"../OWNED"), ("GNU.sparse.realsize", b"99999999999")) + entry("small/x", content=b"{}"),
    "pax size": pax(("size", b"-1")) + entry("small/x", content=b"{}"),
    "pax link": pax(("linkpath", b"/etc/passwd")) + entry("small/x", content=b"{}"),
    "pax of a huge length": entry("x", tarfile.XHDTYPE, content=b"99999 path=x\n") + entry("small/x", content=b"{}"),
    "pax without end": entry("x", tarfile.XHDTYPE, content=b"15 path=small/") + entry("small/x", content=b"{}"),
    "a thousand extended headers": pax(("comment", b"x")) * 1000 + entry("small/x", content=b"{}"),
    "GNU long name outside": entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, content=b"../../OWNED\0") + entry("small/x", content=b"{}"),
    "GNU long name of NULs": entry("././@LongLink", tarfile.GNUTYPE_LONGNAME, content=b"small/pack.json\0\0../OWNED\0") + entry("small/x", content=b"{}"),
    "GNU long link": entry("././@LongLink", tarfile.GNUTYPE_LONGLINK, content=b"/etc/passwd\0") + entry("small/x", content=b"{}"),
    "GNU multi-volume": entry("small/x", b"M", content=b"{}"),
    "GNU volume label": entry("small/x", b"V"),
    "GNU dump of a folder": entry("small/x", b"D", content=b"Yx\0"),
    "Solaris extended": entry("small/x", b"X", content=b"17 path=../OWNED\n"),
    "contiguous": entry("small/pack.json", b"7", content=b"{}"),
    "a kind of its own": entry("small/x", b"Z", content=b"{}"),
    "prefix outside": twisted("x", 345, b"../../.."),
    "base-256 size": twisted("small/x", 124, b"\x80" + b"\x7f" * 11),
    "negative base-256 size": twisted("small/x", 124, b"\xff" * 12),
    "size of no number": twisted("small/x", 124, b"notoctal\0\0\0\0"),
    "size of blanks": twisted("small/x", 124, b" " * 12),
    "a folder as large as a file": twisted("small/x/", 156, b"5"),
    "a folder outside": entry("small/../../OWNED/", tarfile.DIRTYPE),
    "name in other letters": entry("small/PACK.JSON", content=b"{}"),
    "name of a decomposed letter": entry("small/rooms/caf" + unicodedata.normalize("NFD", "\u00e9") + ".jsonl", content=b""),
    "name of full-width dots": entry("small/\uff0e\uff0e/\uff0e\uff0e/OWNED", content=b""),
    "name of a line separator": entry("small/pack.json\u2028", content=b""),
    "name of a right-to-left mark": entry("small/\u202enosj.kcap", content=b""),
    "name that ends in a blank": entry("small/pack.json ", content=b"{}"),
    "name with two slashes": entry("small//pack.json", content=b"{}"),
    "a shard": entry("small/shards/train-000000.tar", content=b"x"),
    "places of the packer": entry("small/roots.local.json", content=b'{"schema": "stillroom/roots/1", "roots": {"train": "/etc"}}'),
    "a module": entry("small/plan/__init__.py", content=b"import os; os.system('touch OWNED')"),
    "a pickle": entry("small/rooms/cell-0-0.pkl", content=b"cos\nsystem\n(S'touch OWNED'\ntR."),
    "a pack": entry("small/small.tar.gz", content=zipped(b"x" * 1000)),
}  # fmt: skip


def response(array: Any = None, *, head: bytes | None = None, magic: bytes = b"\x93NUMPY\x01\0") -> bytes:
    """A `.npy` file of an array, or of a header."""
    if head is None:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=True)
        return stream.getvalue()
    size = len(head).to_bytes(2 if magic[6] == 1 else 4, "little")
    return magic + size + head + bytes(400)


NPY_HEAD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }\n"
SUMMED: dict[str, Callable[[bytes], bytes]] = {
    "another file": lambda sums: sums + b"0" * 64 + b"  ../../etc/passwd\n",
    "a BOM": lambda sums: b"\xef\xbb\xbf" + sums,
    "UTF-16": lambda sums: sums.decode().encode("utf-16"),
    "capitals": lambda sums: sums.upper(),
    "every file twice": lambda sums: sums * 2,
    "one line": lambda sums: b"0" * (4 << 20),
    "nothing": lambda sums: b"",
    "escapes": lambda sums: b"\x1b[2J" + sums,
    "a wrong digest": lambda sums: b"0" * 64 + sums[64:],
}  # fmt: skip
COPY = ("copies", 0)
MEMBERS: dict[str, Callable[[Members], None]] = {
    # documents
    "a newer pack": in_document("pack.json", "schema", "stillroom/pack/2"),
    "a pack of a command": in_document("pack.json", "name", "pipe:touch OWNED"),
    "a pack of a line separator": in_document("pack.json", "name", "a\u2028b"),
    "numbers that are nearly whole": in_document("pack.json", "samples", 12.0),
    "a number of too many digits": lambda members: members.update({"pack.json": members["pack.json"].replace(b'"samples"', b'"samples":' + b"1" * 5000 + b',"y"')}),
    "an exponent that overflows": lambda members: members.update({"pack.json": members["pack.json"].replace(b'"samples"', b'"samples":1e400,"y"')}),
    "levels of no root": in_line("plan/levels.jsonl", "root", "nowhere"),
    "a copy of an SNR that overflows": in_line(ROWS, *COPY, "steps", 0, "snr_db", -1e308),
    "a copy of an offset that overflows": in_line(ROWS, *COPY, "steps", 0, "offset", 2**60),
    "a copy of a level that overflows": in_line(ROWS, *COPY, "level", -1e308),
    "an index of fewer bytes": in_document(INDEX, "bytes", 1024),
    "other totals": in_document("pack.json", "waves", 10**15),
    "a fingerprint of tomorrow": in_document("pack.json", "fingerprint", "stillroom/fingerprint/9\x1b[31m"),
    "provenance of NaN": as_text("provenance.json", b'{"time": NaN}'),
    "provenance of a list": as_text("provenance.json", b"[" * 100_000),
    "provenance with a BOM": as_text("provenance.json", b"\xef\xbb\xbf{}"),
    "a recipe of another": from_text("recipe.yaml", lambda text: text.replace(b"seed: 5", b"seed: 6")),
    "a recipe that merges": from_text("recipe.yaml", lambda text: b"<<: {seed: 6}\n" + text),
    "a recipe with a tag": from_text("recipe.yaml", lambda text: text + b"\nx: !!python/object/apply:os.system ['touch OWNED']\n"),
    "a recipe of NULs": from_text("recipe.yaml", lambda text: text + bytes(10)),
    # rows
    "a row with a negative start": in_line(ROWS, "source", "start", -1.0),
    "a row that starts at 1e308": in_line(ROWS, "source", "start", 1e308),
    "a row out of its root": in_line(ROWS, "source", "path", "../../../etc/passwd"),
    "a row of an absolute path": in_line(ROWS, "source", "path", "/etc/passwd"),
    "a row of a command": in_line(ROWS, "source", "path", "pipe:touch OWNED"),
    "a row of no root": in_line(ROWS, "source", "root", "nowhere"),
    "a row of an id of surrogates": in_line(ROWS, "id", "\ud800"),
    "a row of another id": in_line(ROWS, "id", "other"),
    "a row of another split": in_line(ROWS, "split", "test"),
    "a row of a split that is none": in_line(ROWS, "split", "\u202e"),
    "a row of nearly whole samples": in_line(ROWS, "num_samples", 6400.0),
    "a row of no samples": in_line(ROWS, "num_samples", 0),
    "a row of a year": in_line(ROWS, "num_samples", 2**39),
    "a row at a rate of nothing": in_line(ROWS, "source", "rate_hz", 0),
    "a row of channel -1": in_line(ROWS, "source", "channel", -1),
    "a copy of two names": in_line(ROWS, *COPY, "name", "noise-00000000000000000000"),
    "a copy of another condition": in_line(ROWS, *COPY, "condition", "clean"),
    "a copy of no steps that are known": in_line(ROWS, *COPY, "steps", [{"kind": "shell", "command": "touch OWNED"}]),
    "a copy louder than all": in_line(ROWS, *COPY, "steps", [{"kind": "gain", "gain_db": 1e308}]),
    "rows in one line": from_text(ROWS, lambda text: text.replace(b"\n", b" ")),
    "a row of nine megabytes": from_text(ROWS, lambda text: text.replace(b'"id"', b'"text":"' + b"x" * (9 << 20) + b'","id"', 1)),
    "rows twice": from_text(ROWS, lambda text: text * 2),
    "no rows": as_text(ROWS, b""),
    "rows with a BOM": from_text(ROWS, lambda text: b"\xef\xbb\xbf" + text),
    "rows ended by CR": from_text(ROWS, lambda text: text.replace(b"\n", b"\r")),
    # indexes, fingerprints, sources
    "an index that overlaps": in_document(INDEX, "samples", 0, "members", "json", "size", 1 << 20),
    "an index of nearly whole offsets": in_document(INDEX, "samples", 0, "members", "json", "offset", 512.0),
    "an index of a negative offset": in_document(INDEX, "samples", 0, "members", "json", "offset", -512),
    "an index of another shard": in_document(INDEX, "name", "test-000000"),
    "an index of more members": in_document(INDEX, "samples", 0, "members", "noise-9", {"offset": 0, "size": 1, "pcm_sha256": "0" * 64}),
    "fingerprints of another": in_line(PRINTS, "key", "x"),
    "a fingerprint that is none": in_line(PRINTS, "prints", "clean", "A" * 43 + "="),
    "a fingerprint of an exponent that overflows": in_line(PRINTS, "prints", "clean", "Af//" + "/" * 39 + "="),
    "a fingerprint of two lines": in_line(PRINTS, "prints", "clean", "A" * 43 + "=\n"),
    "a source out of its root": in_line("sources.jsonl", "path", "../x"),
    "a source of a negative start": in_line("sources.jsonl", "start", -1),
    "a source of a digest in capitals": in_line("sources.jsonl", "sha256", "A" * 64),
    "levels of NaN": from_text("plan/levels.jsonl", lambda text: text.replace(b'"power_db":[', b'"power_db":[NaN,', 1)),
    "levels of a file elsewhere": in_line("plan/levels.jsonl", "path", "/etc/passwd"),
    "levels that overflow": from_text("plan/levels.jsonl", lambda text: text.replace(b'"power_db":[', b'"power_db":[1e400,', 1)),
    "rooms of no bank": as_text("plan/rooms.jsonl", b'{"bank": "x"}\n'),
    "a response of no bank": lambda members: members.update({"rooms/cell-0-0.npy": response(np.zeros(4, np.float32))}),
    "a response that is a pickle": lambda members: members.update({"rooms/cell-0-0.npy": response(np.array([{}], object))}),
    "a response of an expression": lambda members: members.update({"rooms/cell-0-0.npy": response(head=b"__import__('os').system('touch OWNED')")}),
    "a response of brackets": lambda members: members.update({"rooms/cell-0-0.npy": response(head=b"(" * 60_000)}),
}  # fmt: skip


def refused_everywhere(house: House, pack: bytes) -> None:
    """A pack is one line at each door that takes one. Rebuild is given no root: one that got past its checks would ask for them."""
    path = house.write("hostile.tar.gz", pack)
    said = house.refused("rebuild", path, house.home / "theirs", target="theirs")
    assert "add --root" not in said
    assert ".part/" not in said
    house.refused("diff", house.corpus, path)
    house.refused("audit", path, "--sound", "none")
    assert not list(house.home.parent.rglob("OWNED"))


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_no_whole_pack_is_one_line(house: House, name: str) -> None:
    refused_everywhere(house, WHOLE[name](house.pack.read_bytes()))


@pytest.mark.parametrize("name", HEADERS)
def test_a_pack_with_a_hostile_member_is_one_line(house: House, name: str) -> None:
    refused_everywhere(house, zipped(tar_of(members_of(house.pack.read_bytes()), first=HEADERS[name])))


@pytest.mark.parametrize("name", SUMMED)
def test_a_pack_whose_sums_are_hostile_is_one_line(house: House, name: str) -> None:
    refused_everywhere(house, zipped(tar_of(members_of(house.pack.read_bytes()), sums=SUMMED[name])))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_pack_of_hostile_documents_with_right_digests_is_one_line(house: House, name: str) -> None:
    members = members_of(house.pack.read_bytes())
    MEMBERS[name](members)
    refused_everywhere(house, zipped(tar_of(members)))


def test_a_pack_that_was_twisted_in_nothing_is_read(house: House) -> None:
    """The twisting itself breaks nothing: with no twist the same bytes' worth of documents is believed."""
    members = members_of(house.pack.read_bytes())
    resealed(members)
    path = house.write("honest.tar.gz", zipped(tar_of(members)))
    assert "add --root" in house.refused("rebuild", path, house.home / "theirs", target="theirs")


PIPED = (
    "corpus.json",
    "plan/plan.json",
    f"plan/{SHARD}.jsonl",
    f"shards/{SHARD}.json",
    f"shards/{SHARD}.tar",
    "recipe.yaml",
    "SHA256SUMS",
)


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to itself"])
@pytest.mark.parametrize("name", PIPED)
def test_what_is_no_file_in_a_corpus_is_told_and_never_waited_for(house: House, name: str, kind: str) -> None:
    place = house.corpus / name
    place.unlink()
    made(place, kind)
    with in_time():
        house.found("verify", house.corpus)
        for words in (
            ("show", house.corpus), ("pack", house.corpus, house.home / "out.tar.gz"), ("diff", house.corpus, house.pack),
            ("subset", house.corpus, house.home / "out", "--where", "split=train"), ("audit", house.corpus, "--sound", "none"),
        ):  # fmt: skip
            answer = house.knock(*words, target="out.tar.gz" if words[0] == "pack" else "out")
            assert answer.code in {0, 1, 2}
            assert answer.code != 2 or answer.line


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to itself"])
def test_what_is_no_file_in_place_of_a_pack_a_manifest_or_a_tar_is_one_line(house: House, kind: str) -> None:
    pack, tar, cuts = (made(house.home / name, kind) for name in ("a.tar.gz", "a.tar", "a.jsonl"))
    recipe = json.loads(json.dumps(RECIPE)) | {
        "speech": {"train": {"cuts": str(cuts)}},
        "copies": {"train": {"phone": 1}},
    }
    with in_time():
        house.refused("rebuild", pack, house.home / "theirs", target="theirs")
        house.refused("diff", house.corpus, pack)
        house.refused("index", tar, "--out", house.home / "index", target="index")
        house.refused("plan", house.write("piped.yaml", recipe), house.home / "out", target="out")


@pytest.mark.parametrize("name", ["shards", "plan", "rooms", "proof"])
def test_a_corpus_whose_folder_is_a_link_is_not_written_through_it(house: House, name: str) -> None:
    """A folder that came from elsewhere may hold a link to anywhere: a build that goes on there would write and clear up at its end."""
    target, elsewhere = house.home / "theirs", house.home / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (target / name).symlink_to(elsewhere)
    for words in (
        ("rebuild", house.pack, target, "--root", f"train={house.home / 'speech/train'}"),
        ("build", house.home / "recipe.yaml", target),
        ("plan", house.home / "recipe.yaml", target),
    ):
        assert "is a link to" in house.refused(*words, target="theirs")
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["checkpoints", "best"])
def test_a_run_whose_folder_is_a_link_is_not_written_through_it(trained: House, name: str) -> None:
    (trained.run / name).rename(trained.home / "elsewhere")
    (trained.run / name).symlink_to(trained.home / "elsewhere")
    assert "is a link to" in trained.refused("train", trained.home / "train.yaml", trained.run, target="run")


def test_an_index_is_not_written_through_a_link(house: House) -> None:
    folder = house.home / "tars"
    folder.mkdir()
    (folder / "x.tar").write_bytes((house.corpus / f"shards/{SHARD}.tar").read_bytes())
    (folder / "shards").symlink_to(house.home / "speech")
    assert "is a link to" in house.refused("index", folder, target="tars")


CACHES: dict[str, Callable[[Path], object]] = {
    "a file": lambda place: place.write_bytes(b"x"),
    "a pipe": os.mkfifo,
    "a link to itself": lambda place: place.symlink_to(place.name),
    "of rubbish": lambda place: filled_cache(place, lambda path: path.write_bytes(b"\xff" * 4097)),
    "of nothing": lambda place: filled_cache(place, lambda path: path.write_bytes(b"")),
    "of pickles": lambda place: filled_cache(place, lambda path: path.write_bytes(b"cos\nsystem\n(S'touch OWNED'\ntR." * 99)),
    "of pipes": lambda place: filled_cache(place, os.mkfifo),
    "of folders": lambda place: filled_cache(place, lambda path: path.mkdir()),
    "of links": lambda place: filled_cache(place, lambda path: path.symlink_to("/etc/passwd")),
    "of holes": lambda place: filled_cache(place, lambda path: (path.touch(), os.truncate(path, 1 << 30))),
    "of links that lead nowhere": lambda place: filled_cache(place, lambda path: path.symlink_to(place.parent / "OWNED")),
}  # fmt: skip


def filled_cache(place: Path, fill: Callable[[Path], object]) -> None:
    """A cache with something under the name of each fingerprint that will be asked for."""
    from corpus_builder.audit.audio_fingerprint import METHOD

    place.mkdir()
    for path in sorted((place.parent / "noise").rglob("*.wav")):
        fill(place / f"{hashlib.sha256(path.read_bytes()).hexdigest()}-0.{METHOD}.u32")


@pytest.mark.parametrize("name", CACHES)
def test_a_hostile_cache_of_audit_is_told_or_does_no_harm(house: House, name: str) -> None:
    cache = house.home / "cache"
    CACHES[name](cache)
    with in_time():
        answer = house.knock("audit", house.corpus, "--cache", cache, target="cache")
    assert answer.code in {0, 1, 2}
    assert answer.code != 2 or answer.line
    assert not list(house.home.rglob("OWNED"))


def made(place: Path, kind: str) -> Path:
    """A pipe that nobody writes to, a socket that nobody serves, or a link that leads nowhere."""
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            with (
                socket.socket(socket.AF_UNIX) as one,
                contextlib.chdir(place.parent),
            ):  # a socket's whole path may be too long
                one.bind(place.name)
        case _:
            place.symlink_to(place.name)
    return place


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Waiting takes no processor time, so this looks at the clock."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError

    kept = signal.signal(signal.SIGALRM, end)
    signal.alarm(120)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, kept)
