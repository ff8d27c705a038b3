"""A stranger's corpus, plan or pack at the doors that open one: show, verify, diff, pack, build, rebuild, train, evaluate."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.test_recipes import LAUGHS, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hostile.conftest import House

SHARD = "shards/train-000000"
HUGE = 2**47


def gone(*keys: Any) -> Callable[[Any], None]:
    """Take a key out."""
    *path, last = keys

    def change(document: Any) -> None:
        for key in path:
            document = document[key]
        del document[last]

    return change


CORPUS_JSON: dict[str, Callable[[Any], None]] = {
    "newer schema": put("schema", "stillroom/corpus/99"),
    "other schema": put("schema", "stillroom/pack/1"),
    "schema of escapes": put("schema", "\x1b[31mx"),
    "name of a path": put("name", "../../x"),
    "name of escapes": put("name", "\x1b]0;x\x07"),
    "name with markup": put("name", "<script>alert(1)</script>"),
    "name turned round": put("name", "\u202ex"),
    "shard of a path": put("splits", "train", 0, "name", "../../../../etc/passwd"),
    "absolute shard": put("splits", "train", 0, "name", "/etc/passwd"),
    "shard of a command": put("splits", "train", 0, "name", "pipe:touch OWNED"),
    "tar of a path": put("splits", "train", 0, "tar", "../../x.tar"),
    "absolute tar": put("splits", "train", 0, "tar", "/etc/passwd"),
    "tar of a command": put("splits", "train", 0, "tar", "pipe:touch OWNED"),
    "tar of a URL": put("splits", "train", 0, "tar", "http://127.0.0.1:9/x.tar"),
    "split of a path": put("splits", "../x", []),
    "negative samples": put("splits", "train", 0, "samples", -1),
    "samples of a word": put("splits", "train", 0, "samples", "many"),
    "overflowing bytes": put("splits", "train", 0, "bytes", 2**70),
    "digest of a word": put("splits", "train", 0, "sha256", "0"),
    "digest in capitals": put("splits", "train", 0, "sha256", "A" * 64),
    "no splits": gone("splits"),
    "splits of a list": put("splits", []),
    "unknown key": put("\x1b[31m<script>\u202e\n", 1),
    "borrowed root of a path": put("borrowed", {"root": "../x"}),
    "borrowed from nowhere": put("borrowed", {"root": "x"}),
    "copies of escapes": put("copies", {"\x1b[2J": {}}),
}  # fmt: skip


def twist(house: House, path: str, change: Callable[[Any], None]) -> None:
    """Change a document of the lab."""
    document = house.json(path)
    change(document)
    house.write(path, document)


def evaluation(house: House, **changes: Any) -> Path:
    """An evaluation of a tiny teacher on the corpus."""
    config = {
        "corpus": str(house.heard),
        "models": {"t": str(house.teacher)},
        "splits": {"train": "train", "test": "dev"},
    }
    return house.write("evaluation.yaml", config | {"measures": ["cosine"], "efficiency": False} | changes)


@pytest.mark.parametrize("name", CORPUS_JSON)
def test_a_hostile_corpus_json_is_one_line_at_every_door(house: House, name: str) -> None:
    twist(house, "corpus/corpus.json", CORPUS_JSON[name])
    page = house.home / "page.html"
    house.found("verify", house.corpus)
    house.found("diff", house.corpus, house.pack)
    if not name.startswith("borrowed"):
        house.refused("show", house.corpus, "--html", page, target="page.html")
        house.refused("pack", house.corpus, house.home / "out.tar.gz", target="out.tar.gz")
    twist(house, "heard/corpus.json", CORPUS_JSON[name])
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")
    house.refused("evaluate", evaluation(house), house.home / "results", target="results")
    assert not page.exists()


TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "a word": b"corpus",
    "a list": b"[]",
    "null": b"null",
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR.",
    "deep": b"[" * 100_000,
    "deep and closed": b'{"schema":' + b"[" * 500 + b"]" * 500 + b"}",
    "a string without end": b"[" * 65 + b'"' + b'\\"' * 2_000_000,
    "key twice": b'{"schema": "stillroom/corpus/1", "schema": "stillroom/corpus/1"}',
    "NaN": b'{"schema": NaN}',
    "infinite": b'{"schema": -Infinity}',
    "overflow": b'{"schema": 1e999}',
    "many digits": b'{"schema": ' + b"9" * 10_000 + b"}",
    "UTF-16": '{"schema": 1}'.encode("utf-16"),
    "not UTF-8": b'{"schema": "\xff"}',
    "a lone surrogate": b'{"schema": "stillroom/corpus/1", "name": "\\ud800"}',
    "millions of lists": b"[" + b"[]," * 5_000_000 + b"[]]",
    "cut off": b'{"schema": "stillroom/corpus/1", "name": "ti',
    "NUL": bytes(1000),
}


@pytest.mark.parametrize("name", TEXTS)
def test_bytes_that_are_no_corpus_json_are_one_line(house: House, name: str) -> None:
    house.write("corpus/corpus.json", TEXTS[name])
    house.write("heard/corpus.json", TEXTS[name])
    house.found("verify", house.corpus)
    house.refused("show", house.corpus)
    house.refused("pack", house.corpus, house.home / "out.tar.gz", target="out.tar.gz")
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")
    house.refused("evaluate", evaluation(house), house.home / "results", target="results")


@pytest.mark.parametrize("name", TEXTS)
def test_bytes_that_are_no_shard_index_or_plan_are_told(house: House, name: str) -> None:
    house.write(f"corpus/{SHARD}.json", TEXTS[name])
    house.write(f"heard/{SHARD}.json", TEXTS[name])
    house.found("verify", house.corpus)
    house.found("diff", house.corpus, house.pack)
    house.refused("pack", house.corpus, house.home / "out.tar.gz", target="out.tar.gz")
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")
    house.refused("evaluate", evaluation(house), house.home / "results", target="results")
    house.write("corpus/plan/plan.json", TEXTS[name])
    house.found("verify", house.corpus)
    house.refused("build", house.corpus, house.home / "out", target="out")


HEAVY: dict[str, bytes] = {
    "as many mappings as may be": b"[" + (b'{"a":' * 60 + b"1" + b"}" * 60 + b",") * 4_600 + b"1]",
    "as many lists as may be": b"[" + (b"[" * 60 + b"1" + b"]" * 60 + b",") * 9_200 + b"1]",
    "as many keys as may be": b"{" + b",".join(b'"%d":1' % number for number in range(780_000)) + b"}",
    "as much text as may be": b'{"schema": "' + b"x" * (31 << 20) + b'"}',
    "as much wide text as may be": b'{"schema": "' + b"x" * (15 << 20) + "\U0001f600".encode() + b'"}',
    "seventy megabytes": b'{"schema": "' + b"x" * (70 << 20) + b'"}',
}


@pytest.mark.parametrize("name", HEAVY)
def test_the_heaviest_documents_that_are_parsed_at_all_are_one_line(house: House, name: str) -> None:
    """Just below what is refused unread; a model that runs out of memory while it parses hangs or aborts."""
    house.write("corpus/corpus.json", HEAVY[name])
    house.refused("show", house.corpus)
    house.write(f"heard/{SHARD}.json", HEAVY[name])
    house.refused("train", house.home / "train.yaml", house.home / "new", target="new")


FIRST = ("samples", 0)
INDEXES: dict[str, Callable[[Any], None]] = {
    "offset beyond the tar": put(*FIRST, "members", "clean", "offset", 2**40),
    "offset that overflows": put(*FIRST, "members", "clean", "offset", 2**63),
    "offset of many digits": put(*FIRST, "members", "clean", "offset", 10**400),
    "negative offset": put(*FIRST, "members", "clean", "offset", -512),
    "size beyond the tar": put(*FIRST, "members", "clean", "size", HUGE),
    "overlap": put(*FIRST, "members", "clean", "offset", 513),
    "fraction": put(*FIRST, "members", "clean", "offset", 512.5),
    "true": put(*FIRST, "members", "clean", "offset", True),
    "no clean": gone(*FIRST, "members", "clean"),
    "no members": put(*FIRST, "members", {}),
    "length of nought": put(*FIRST, "num_samples", 0),
    "length beyond all": put(*FIRST, "num_samples", 2**60),
    "another length": put(*FIRST, "num_samples", 5),
    "length of a year": put(*FIRST, "num_samples", 2**39),
    "key of a path": put(*FIRST, "key", "../../x"),
    "key of escapes": put(*FIRST, "key", "\x1b[31m\u202e\n"),
    "key with markup": put(*FIRST, "key", "<script>alert(1)</script>"),
    "another rate": put("sample_rate", 8000),
    "rate of nought": put("sample_rate", 0),
    "another split": put("split", "test"),
    "another name": put("name", "../../x"),
    "bytes beyond all": put("bytes", HUGE),
    "wrong digest": put("sha256", "0" * 64),
    "another plan": put("plan_sha256", "0" * 64),
    "wrong PCM": put(*FIRST, "members", "clean", "pcm_sha256", "0" * 64),
    "member of a path": put(*FIRST, "members", "../../x-0", {"offset": 512, "size": 1}),
    "suffix of a path": put(*FIRST, "members", "clean", "suffix", "../../x"),
    "member of escapes": put(*FIRST, "members", "\x1b[31m-0", {"offset": 512, "size": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXES)
def test_a_hostile_shard_index_is_found(house: House, name: str) -> None:
    twist(house, f"corpus/{SHARD}.json", INDEXES[name])
    house.found("verify", house.corpus)
    house.found("diff", house.corpus, house.pack)
    answer = house.knock("show", house.corpus, "--html", house.home / "page.html", "--samples", 8, target="page.html")
    assert answer.code in {0, 2}
    assert answer.code == 0 or answer.line
    if (house.home / "page.html").exists():
        assert "<script>alert" not in (house.home / "page.html").read_text()
    answer = house.knock("pack", house.corpus, house.home / "out.tar.gz", target="out.tar.gz")
    assert answer.code in {0, 2}
    assert answer.code == 0 or answer.err.splitlines()[-1].startswith("stillroom: ")


@pytest.mark.parametrize("name", INDEXES)
def test_a_hostile_shard_index_does_not_break_the_trainer(house: House, name: str) -> None:
    for number in range(4):
        twist(house, f"heard/{SHARD}.json", lambda index, number=number: every_sample(INDEXES[name], index, number))
    answer = house.knock("train", house.home / "train.yaml", house.home / "new", target="new")
    assert answer.code in {0, 2}
    assert "Traceback" not in answer.err
    if answer.code == 2:
        assert answer.err.splitlines()[-1].startswith("stillroom: ")


def every_sample(change: Callable[[Any], None], index: Any, number: int) -> None:
    """Do the same to another sample than the first."""
    index["samples"][0], index["samples"][number] = index["samples"][number], index["samples"][0]
    if "samples" in repr(change.__closure__[0].cell_contents if change.__closure__ else "") or number == 0:
        change(index)
    index["samples"][0], index["samples"][number] = index["samples"][number], index["samples"][0]


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"", target: str = "") -> bytes:
    """One member with its header."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), target
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def claimed(name: str, size: int) -> bytes:
    """A header that says more than follows."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


END = bytes(1024)
TARS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda tar: b"",
    "zeros": lambda tar: bytes(10240),
    "cut off": lambda tar: tar[: len(tar) // 2],
    "without its end": lambda tar: tar.rstrip(b"\0") + bytes(10),
    "gzip": lambda tar: __import__("gzip").compress(tar),
    "gzip bomb": lambda tar: __import__("gzip").compress(tar + bytes(200 << 20), 1),
    "a pickle": lambda tar: b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR.",
    "symbolic link": lambda tar: entry("a.json", tarfile.SYMTYPE, target="/etc/passwd") + tar,
    "hard link": lambda tar: entry("a.json", tarfile.LNKTYPE, target="/etc/passwd") + tar,
    "device": lambda tar: entry("a.json", tarfile.CHRTYPE) + tar,
    "block device": lambda tar: entry("a.json", tarfile.BLKTYPE) + tar,
    "fifo": lambda tar: entry("a.json", tarfile.FIFOTYPE) + tar,
    "folder": lambda tar: entry("a/", tarfile.DIRTYPE) + tar,
    "sparse": lambda tar: entry("a.json", tarfile.GNUTYPE_SPARSE) + tar,
    "name that leads out": lambda tar: entry("../../a.json", content=b"{}") + tar,
    "absolute name": lambda tar: entry("/etc/a.json", content=b"{}") + tar,
    "name of a command": lambda tar: entry("pipe:touch OWNED", content=b"{}") + tar,
    "name of escapes": lambda tar: entry("\x1b[31m\u202e<script>.json", content=b"{}") + tar,
    "name of two lines": lambda tar: entry("a\nstillroom: fine", content=b"{}") + tar,
    "name of bad UTF-8": lambda tar: entry("a.json", content=b"{}").replace(b"a.json", b"\xff\xfe.jsn", 1) + tar,
    "a pickle for a member": lambda tar: entry("a.pyd", content=b"cos\nsystem\n(S'touch OWNED'\ntR.") + tar,
    "a stranger more": lambda tar: entry("a.json", content=b"{}") + tar,
    "member twice": lambda tar: tar[: -len(END)].rstrip(b"\0") + bytes(512) + entry("x", content=b"1") + END,
    "more than follows": lambda tar: claimed("a.json", 1 << 40) + tar,
    "negative size": lambda tar: claimed("a.json", 1).replace(b"00000000001", b"-0000000001") + tar,
    "long name of a gigabyte": lambda tar: long_name(1 << 30) + tar,
    "pax that leads out": lambda tar: entry("x", tarfile.XHDTYPE, content=b"28 path=../../outside.json\n") + tar,
    "pax of garbage": lambda tar: entry("x", tarfile.XHDTYPE, content=b"garbage") + tar,
    "pax of size": lambda tar: entry("x", tarfile.XHDTYPE, content=b"23 size=99999999999999\n") + tar,
    "pax of NaN": lambda tar: entry("x", tarfile.XHDTYPE, content=b"13 mtime=nan\n") + tar,
    "wrong sum": lambda tar: tar[:148] + b"0000000\0" + tar[156:],
    "one bit": lambda tar: tar[:600] + bytes([tar[600] ^ 1]) + tar[601:],
    "all else": lambda tar: hashlib.shake_128(b"x").digest(len(tar)),
}  # fmt: skip


def long_name(size: int) -> bytes:
    """A GNU long name that says it has so many bytes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_found(house: House, name: str) -> None:
    """With a digest in index and corpus.json that is right, so that only the tar tells."""
    path = house.home / f"corpus/{SHARD}.tar"
    content = TARS[name](path.read_bytes())
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    for document, place in ((f"corpus/{SHARD}.json", ()), ("corpus/corpus.json", ("splits", "train", 0))):
        twist(house, document, put(*place, "sha256", sha256))
        twist(house, document, put(*place, "bytes", len(content)))
    assert house.knock("verify", house.corpus, "--level", "pcm").code == 1
    assert not list(house.home.rglob("OWNED"))


NASTY = {
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "quotes": "\"'><svg/onload=alert(1)>",
    "closing": "</style></script></title>{{7*7}}{% raw %}",
    "escape": "\x1b[31mred\x1b]0;title\x07",
    "bidi": "\u202egnp.exe\u2066\u2069",
    "two lines": "one\nstillroom: all is well\r\x0b\x0c\x85\u2028\u2029",
    "Markdown": "![x](http://127.0.0.1:9/x) [a](javascript:alert(1)) | `b` | **c**\n# d",
    "CSV": "=cmd|'/C calc'!A0,\"x\",@SUM(1)",
    "zero width": "a\u200bb\ufeffc\u00ad",
    "NUL": "a\0b",
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("name", NASTY)
def test_hostile_texts_of_a_corpus_are_shown_harmlessly(house: House, name: str) -> None:
    """In each text field and id of each row and sample, with digests put right."""
    for path in sorted((house.corpus / "plan").glob("train-*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row |= {
                "text": NASTY[name],
                "speaker": NASTY[name],
                "language": NASTY[name],
                "custom": {NASTY[name]: NASTY[name]},
            }
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refusal = {"split": NASTY[name], "id": NASTY[name], "reason": NASTY[name]}
    house.write("corpus/refused.jsonl", json.dumps(refusal) + "\n")
    twist(house, "corpus/corpus.json", put("filtered", {NASTY[name]: {NASTY[name]: 1}}))
    twist(house, "corpus/corpus.json", put("refused", {NASTY[name]: 1}))
    for words in (("show", house.corpus), ("verify", house.corpus), ("diff", house.corpus, house.pack, "--json")):  # fmt: skip
        answer = house.knock(*words)  # what is printed is checked there
        assert answer.code in {0, 1, 2}
    rewrite_samples(house, NASTY[name])
    answer = house.knock("show", house.corpus, "--html", house.home / "page.html", target="page.html")
    assert answer.code in {0, 2}
    if answer.code == 0:
        page = (house.home / "page.html").read_text()
        assert "<script>alert" not in page
        assert "<svg/onload" not in page
        assert "<img src=x" not in page
        assert not set(page) & set("\x1b\u202e\u2066\u2028\0\x07")


def rewrite_samples(house: House, text: str) -> None:
    """Every JSON member of the train shards with a text in each field; index and digests put right."""
    for path in sorted((house.corpus / "shards").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            content = {info.name: tar.extractfile(info).read() for info in tar}
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in content.items():
                if name.endswith(".json"):
                    sample = json.loads(data) | {
                        "id": text,
                        "text": text,
                        "speaker": text,
                        "language": text,
                        "custom": {text: text},
                    }
                    for copy in sample["copies"]:
                        copy |= {"domain": text, "family": text}
                    data = json.dumps(sample).encode()  # noqa: PLW2901
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        path.write_bytes(stream.getvalue())
        with tarfile.open(path) as tar:
            places = {info.name: info for info in tar}
        index = json.loads(path.with_suffix(".json").read_text())
        for sample in index["samples"]:
            for name, member in sample["members"].items():
                info = places[f"{sample['key']}.{name}" + ("" if name == "json" else ".flac")]
                member["offset"], member["size"] = info.offset_data, info.size
        path.with_suffix(".json").write_text(json.dumps(index))


def audio(kind: str) -> bytes:
    """A member that is not what it should be."""
    stream = io.BytesIO()
    match kind:
        case "another rate":
            soundfile.write(stream, np.zeros(100, np.int16), 8000, format="FLAC")
        case "stereo":
            soundfile.write(stream, np.zeros((100, 2), np.int16), 16000, format="FLAC")
        case "wav":
            soundfile.write(stream, np.zeros(100, np.int16), 16000, format="WAV")
        case "a bomb of silence":
            soundfile.write(stream, np.zeros(120_000_000, np.int16), 16000, format="FLAC")
        case "a header that lies":
            soundfile.write(stream, np.zeros(100, np.int16), 16000, format="FLAC")
            content = bytearray(stream.getvalue())
            content[21] |= 0x0F  # the 36 bits of the number of samples
            content[22:26] = b"\xff\xff\xff\xff"
            return bytes(content)
        case "a pickle":
            return b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR."
        case _:
            return b""
    return stream.getvalue()


@pytest.mark.parametrize("length", ["as it was", "as it says"])
@pytest.mark.parametrize(
    "kind", ["another rate", "stereo", "wav", "a bomb of silence", "a header that lies", "a pickle", "nothing"]
)
def test_hostile_audio_is_found_by_verify_and_ends_training_in_a_line(house: House, kind: str, length: str) -> None:
    content = audio(kind)
    for folder in ("corpus", "heard"):
        path = house.home / f"{folder}/{SHARD}.tar"
        index = house.json(f"{folder}/{SHARD}.json")
        for sample in index["samples"]:
            for name, member in sample["members"].items():
                if name != "json":
                    member["offset"], member["size"] = path.stat().st_size, len(content)
            if length == "as it says":
                sample["num_samples"] = {"a bomb of silence": 120_000_000, "a header that lies": 2**36 - 1}.get(
                    kind, 100
                )
        path.write_bytes(path.read_bytes() + content)
        index["bytes"] = path.stat().st_size
        house.write(f"{folder}/{SHARD}.json", index)
    assert house.knock("verify", house.corpus).code == 1
    answer = house.knock("train", house.home / "train.yaml", house.home / "new", target="new")
    assert answer.code == 2, answer
    assert answer.err.splitlines()[-1].startswith("stillroom: ")
    answer = house.knock("show", house.corpus, "--html", house.home / "page.html", "--samples", 8, target="page.html")
    assert answer.code in {0, 2}
    assert answer.code == 0 or answer.line


YAMLS = {"laughs": LAUGHS, "tag": "!!python/object/apply:os.system ['touch OWNED']", "other": "name: x", "nothing": ""}


@pytest.mark.parametrize("name", YAMLS)
def test_a_hostile_recipe_in_a_corpus_is_told(house: House, name: str) -> None:
    house.write("corpus/recipe.yaml", YAMLS[name])
    house.found("verify", house.corpus)
    house.refused("pack", house.corpus, house.home / "out.tar.gz", target="out.tar.gz")
    assert not list(house.home.rglob("OWNED"))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_of_any_file_of_a_corpus_may_change(house: House, data: st.DataObject) -> None:
    """verify tells, or it does not matter (a comment of a README); never a trace, never anything run."""
    paths = sorted(path for path in house.corpus.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(paths))
    content = path.read_bytes()
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    piece = data.draw(st.binary(min_size=1, max_size=6))
    path.write_bytes(content[:at] + piece + content[at + data.draw(st.integers(0, 6)) :])
    try:
        for words in (("verify", house.corpus), ("show", house.corpus), ("diff", house.corpus, house.pack)):
            answer = house.knock(*words)
            assert answer.code in {0, 1, 2}
            assert answer.code != 2 or answer.line
    finally:
        path.write_bytes(content)


def test_a_folder_whose_name_is_a_command_is_a_folder(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """webdataset, which verify reads with too, would run it, and expand braces, `::` and variables."""
    monkeypatch.chdir(house.home)
    for name in ("pipe:touch OWNED;", "a{b,c}", "x::y"):
        house.corpus.rename(house.home / name)
        answer = house.knock("verify", name)
        (house.home / name).rename(house.corpus)
        assert answer.code == 0, answer
    assert not list(house.home.rglob("OWNED"))
