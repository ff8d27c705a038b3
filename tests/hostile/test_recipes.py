"""A stranger's recipe, label table or lhotse manifest, at the doors `plan`, `build` and `build --dry-run`."""

from __future__ import annotations

import copy
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus_builder.conftest import RECIPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hostile.conftest import House

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
HEAD = "schema: stillroom/recipe/1\nname: x\n"

TEXTS: dict[str, str | bytes] = {
    # YAML tags
    "tag that calls": "!!python/object/apply:os.system ['touch OWNED']",
    "tag that names": HEAD + "seed: !!python/name:os.system",
    "tag that makes": HEAD + "seed: !!python/object/new:subprocess.Popen [['touch', 'OWNED']]",
    "tag of its own": HEAD + "seed: !run touch",
    "tag binary": HEAD + "seed: !!binary aGVsbG8=",
    "tag set": HEAD + "speech: !!set {a, b}",
    "tag time": HEAD + "seed: !!timestamp 2001-12-14",
    "tag pairs": HEAD + "speech: !!omap [a: 1, b: 2]",
    "tag directive": "%TAG ! tag:yaml.org,2002:python/\n---\nseed: !name:os.system x",
    # bombs
    "billion laughs": HEAD + LAUGHS,
    "alias of itself": HEAD + "speech: &a {train: *a}",
    "alias of itself in a list": "&a [*a, *a]",
    "a key of aliases": "? &a [x]\n: *a",
    "five megabytes": HEAD + "# " + "x" * (5 << 20),
    "wide": HEAD + "speech: [" + "x, " * 250_000 + "]",
    # deep nesting
    "deep lists": "[" * 1000,
    "deep mappings": "{a: " * 500,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(300)),
    "deep and closed": "[" * 200 + "]" * 200,
    # duplicate keys
    "name twice": HEAD + "name: y\n",
    "key twice by spelling": HEAD + "'na\\u006de': y\n\"na\\u006de\": z\n",
    # numbers
    "NaN": HEAD + "seed: .nan",
    "infinite": HEAD + "seed: .inf",
    "overflow": HEAD + "seed: 1e999",
    "forty digits": HEAD + "seed: " + "9" * 40,
    "a million digits": HEAD + "seed: " + "9" * 1_000_000,
    "negative": HEAD + "seed: -1",
    # encodings
    "UTF-16": (HEAD + "seed: 1").encode("utf-16"),
    "UTF-32": (HEAD + "seed: 1").encode("utf-32"),
    "Latin-1": HEAD.encode() + "speech: {train: {dir: spéch}}".encode("latin-1"),
    "half UTF-8": HEAD.encode() + b"speech: {train: {dir: sp\xc3",
    "overlong": HEAD.encode() + b"speech: {train: {dir: \xc0\xaf}}",
    "surrogate": HEAD.encode() + b"speech: {train: {dir: \xed\xa0\x80}}",
    "NUL": HEAD + "speech: {train: {dir: 'a\0b'}}",
    "escape": HEAD + "\x1b[2J: 1",
    "gzip": gzip.compress(HEAD.encode()),
    # other shapes
    "nothing": "",
    "a word": "recipe",
    "a list": "[1, 2]",
    "null": "~",
    "two documents": HEAD + "---\n" + HEAD,
    "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
    "an unknown key of escapes": HEAD + '"\\e[31m\\u202e<script>\\n": 1',
    "merge": HEAD + "<<: {seed: 1}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_recipe_is_one_line(house: House, name: str) -> None:
    path = house.write("hostile.yaml", TEXTS[name])
    house.refused("plan", path, house.home / "out", target="out")
    assert not (house.home / "out").exists()


def put(*keys: Any) -> Callable[[Any], None]:
    """Set a value deep inside a document: keys and then the value."""
    *path, last, value = keys

    def change(document: Any) -> None:
        for key in path:
            document = document[key]
        document[last] = value

    return change


HUGE = 10**15
NOISE = ("conditions", "noise", "steps", 0)
RECIPES: dict[str, Callable[[Any], None]] = {
    # command URLs and other places
    "pipe as a folder": put("speech", "train", "dir", "pipe:touch OWNED"),
    "bar as a folder": put("speech", "train", "dir", "touch OWNED |"),
    "pipe as a manifest": put("speech", "train", {"cuts": "pipe:touch OWNED"}),
    "pipe URL": put("speech", "train", "dir", "pipe://touch OWNED"),
    "chained URL": put("speech", "train", "dir", "simplecache::file:///etc"),
    "chained reference": put("speech", "train", "dir", "reference://::file:///etc/passwd"),
    "unknown URL": put("speech", "train", "dir", "exec://touch OWNED"),
    "other root": put("speech", "train", "dir", "@test/../../etc"),
    "root that leads out": put("speech", "train", "dir", "@train/../../etc"),
    "device": put("speech", "train", {"cuts": "/dev/zero"}),
    "device as a table": put("speech", "train", "table", "/dev/zero"),
    "folder as a manifest": put("speech", "train", {"cuts": "speech"}),
    "pattern that leads out": put("speech", "train", "pattern", "../**/*.wav"),
    "absolute pattern": put("speech", "train", "pattern", "/etc/*"),
    "pattern of stars": put("speech", "train", "pattern", "*a" * 20),
    "long pattern": put("speech", "train", "pattern", "a" * 10_000),
    "template that repeats": put("speech", "train", "fields", "{a}{a}"),
    "template that never fits": put("speech", "train", "fields", "{a}" * 100),
    # huge counts
    "copies": put("copies", "train", "noise", HUGE),
    "talkers": put("noises", "babble", {"talkers": HUGE}),
    "samples a shard": put("shards", "samples", -1),
    "sample rate": put("sample_rate", HUGE),
    "sample rate of nothing": put("sample_rate", 0),
    "seed": put("seed", 2**70),
    "rooms": put("rooms", {"x": {"rooms": HUGE, "size_m": [[3, 3, 2.4], [4, 4, 3]], "rt60_s": 0.2, "distance_m": 1}}),
    "endless rooms": put("rooms", {"x": {"rooms": 1, "size_m": [[3, 3, 2.4], [1e300, 1e300, 3]], "rt60_s": 0.2, "distance_m": 1}}),
    "endless echo": put("rooms", {"x": {"rooms": 1, "size_m": [[3, 3, 2.4], [4, 4, 3]], "rt60_s": 1e9, "distance_m": 1}}),
    # numbers
    "SNR of 1e300": put(*NOISE, "snr_db", 1e300),
    "SNR upside down": put(*NOISE, "snr_db", {"uniform": [20, 0]}),
    "SNR of a word": put(*NOISE, "snr_db", "loud"),
    "SNR of a list": put(*NOISE, "snr_db", [1, 2]),
    "SNR of two draws": put(*NOISE, "snr_db", {"uniform": [0, 1], "choice": [1]}),
    "no choice": put(*NOISE, "snr_db", {"choice": []}),
    "log of nought": put(*NOISE, "snr_db", {"log_uniform": [0, 10]}),
    "a long range": put(*NOISE, "snr_db", {"uniform_int": [0, HUGE]}),
    "true as a number": put("seed", True),
    # names
    "name of a path": put("name", "../../x"),
    "name of escapes": put("name", "\x1b[31mx"),
    "name of two lines": put("name", "a\nstillroom: done"),
    "name turned round": put("name", "\u202egnp.exe"),
    "name with markup": put("name", "<script>alert(1)</script>"),
    "long name": put("name", "x" * 1000),
    "split of a path": put("speech", "../x", {"dir": "speech/train"}),
    "split of two lines": put("speech", "a\nb", {"dir": "speech/train"}),
    "condition clean": put("conditions", "clean", {"steps": []}),
    "condition json": put("conditions", "json", {"steps": []}),
    "condition of a path": put("conditions", "../x", {"steps": []}),
    "condition of escapes": put("conditions", "\x1b[2J", {"steps": []}),
    "source of a path": put("noises", "../x", {"colour": "white"}),
    "unknown source": put(*NOISE, "from", ["\x1b]0;owned\x07"]),
    "root of a path": put("speech", "train", "root", "../../x"),
    # shapes
    "unknown kind": put(*NOISE, "kind", "shell"),
    "no kind": put("conditions", "noise", "steps", [{}]),
    "step of a word": put("conditions", "noise", "steps", ["touch OWNED"]),
    "steps of a mapping": put("conditions", "noise", "steps", {"kind": "noise"}),
    "list for a mapping": put("speech", ["train"]),
    "null for a mapping": put("copies", None),
    "number for a mapping": put("noises", 7),
    "deep choice of nothing": put("conditions", "noise", "steps", [{"choose": [[{"choose": [[{"choose": []}]]}]]}]),
    "newer schema": put("schema", "stillroom/recipe/99"),
    "other schema": put("schema", "stillroom/pack/1"),
    "schema of escapes": put("schema", "\x1b[31m/recipe/1"),
    "schema of digits": put("schema", "stillroom/recipe/" + "9" * 5000),
    "import path": put("speech", "train", {"class": "os.system", "args": ["touch OWNED"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_hostile_values_is_one_line(house: House, name: str) -> None:
    recipe = copy.deepcopy(RECIPE)
    del recipe["rooms"], recipe["conditions"]["far"], recipe["copies"]["train"]["far"], recipe["copies"]["test"]["far"]
    RECIPES[name](recipe)
    path = house.write("hostile.yaml", recipe)
    house.refused("plan", path, house.home / "out", target="out")
    assert not list(house.home.rglob("OWNED"))


@pytest.mark.parametrize("name", ["pipe URL", "rooms", "step of a word"])
def test_a_recipe_of_hostile_values_is_one_line_to_build(house: House, name: str) -> None:
    recipe = copy.deepcopy(RECIPE)
    RECIPES[name](recipe)
    path = house.write("hostile.yaml", recipe)
    house.refused("build", path, house.home / "out", target="out")
    house.refused("build", path, house.home / "out", "--dry-run")
    assert not list(house.home.rglob("OWNED"))


def test_a_pattern_or_template_cannot_hang(house: House) -> None:
    """Each of these takes a backtracking expression longer than a life."""
    (house.home / "speech/train/s1" / ("a-" * 120 + "x.wav")).write_bytes(b"")
    recipe = copy.deepcopy(RECIPE)
    del recipe["rooms"], recipe["conditions"]["far"], recipe["copies"]["train"]["far"], recipe["copies"]["test"]["far"]
    for change in (
        {"pattern": "*a" * 9 + "*b.wav", "fields": None},
        {"pattern": "**/*a*a*a*a*a*a*b", "fields": None},
        {"fields": "{speaker}/" + "-".join(f"{{n{number}}}" for number in range(12)) + "!.wav"},
        {"fields": "{speaker}/" + "".join(f"{{n{number}}}" for number in range(40)) + "!.wav"},
    ):
        hostile = copy.deepcopy(recipe)
        hostile["speech"]["train"] = {
            key: value for key, value in (hostile["speech"]["train"] | change).items() if value
        }
        house.refused("plan", house.write("hostile.yaml", hostile), house.home / "out", target="out")


TABLES: dict[str, str | bytes] = {
    "no path": "id,text\na,b\n",
    "path that leads out": "path,text\n../../etc/passwd,x\n",
    "absolute path": "path,text\n/etc/passwd,x\n",
    "pipe": "path,text\npipe:touch OWNED,x\n",
    "path twice": "path,text\nnone.wav,x\nnone.wav,y\n",
    "column twice": "path,path\ns0/u0.wav,x\n",
    "column twice of escapes": "path,\x1b[31m,\x1b[31m\ns0/u0.wav,x,y\n",
    "too many cells": "path,text\ns0/u0.wav,x,y,z\n",
    "too few cells": "text,path\nx\n",
    "open quote": 'path,text\n"s0/u0.wav,x\n',
    "NUL": "path,text\ns0/u0.wav,a\0b\n../\0,x\n",
    "UTF-16": "path,text\ns0/u0.wav,x\n".encode("utf-16"),
    "Latin-1": "path,text\ns0/u0.wav,spéech\n".encode("latin-1"),
    "long cell": "path,text\ns0/u0.wav," + "x" * 200_000 + "\n",
    "nothing": "",
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR.",
    "head of escapes": "\x1b[2J,\u202e\n1,2\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_of_labels_is_one_line(house: House, name: str) -> None:
    recipe = copy.deepcopy(RECIPE)
    del recipe["rooms"], recipe["conditions"]["far"], recipe["copies"]["train"]["far"], recipe["copies"]["test"]["far"]
    recipe["speech"]["train"] = {"dir": "speech/train", "table": "labels.csv"}
    house.write("labels.csv", TABLES[name])
    house.refused("plan", house.write("hostile.yaml", recipe), house.home / "out", target="out")
    assert not list(house.home.rglob("OWNED"))


COMMAND = {"type": "command", "channels": [0], "source": "touch OWNED"}


def cut(**changes: Any) -> dict[str, Any]:
    """A line of a manifest, as lhotse writes it."""
    audio = {"type": "file", "channels": [0], "source": "speech/train/s0/u0.wav"}
    recording = {"id": "r", "sources": [audio], "sampling_rate": 16_000, "num_samples": 6400, "duration": 0.4}
    return {"id": "c", "start": 0, "duration": 0.4, "channel": 0, "supervisions": [], "recording": recording, "type": "MonoCut"} | changes  # fmt: skip


def heard(**changes: Any) -> dict[str, Any]:
    """A cut whose audio says something else."""
    line = cut()
    line["recording"]["sources"] = [{"type": "file", "channels": [0], "source": "x.wav"} | changes]
    return line


def within(depth: int, value: Any) -> Any:
    """Something below so many lists and mappings."""
    for number in range(depth):
        value = [value] if number % 2 else {"deeper": value}
    return value


def line(item: Any) -> bytes:
    return json.dumps(item).encode() + b"\n"


MANIFESTS: dict[str, bytes] = {
    # what would run, or fetch
    "command": line(heard(**COMMAND)),
    "command of a recording": line(cut()["recording"] | {"sources": [COMMAND]}),
    "command in a custom field": line(cut(custom={"target": {"id": "t", "sources": [COMMAND], "sampling_rate": 16000}})),
    "command in a supervision": line(cut(supervisions=[{"id": "s", "custom": {"recording": {"sources": [COMMAND]}}}])),
    "command in a mix": line({"type": "MixedCut", "id": "m", "tracks": [{"cut": heard(**COMMAND), "offset": 0}]}),
    "command in a transform": line(cut(recording=cut()["recording"] | {"transforms": [{"name": "Mix", "kwargs": {"r": COMMAND}}]})),
    "command in features": line(cut(features={"type": "x", "recording": {"sources": [COMMAND]}})),
    "command without channels": line(heard(type="command", channels=None)),
    "command after a good one": line(cut()) + line(heard(**COMMAND)),
    "command behind a capital": line(heard(type="Command")),
    "command behind a space": line(heard(type=" command")),
    "command behind an escape": line(heard(type="\x1b[31mcommand")),
    **{f"command {depth} deep": line(cut(custom=within(depth, COMMAND))) for depth in (1, 2, 5, 20, 40)},
    "pipe": line(heard(source="pipe:touch OWNED")),
    "bar first": line(heard(source="|touch OWNED")),
    "bar last": line(heard(source="touch OWNED |")),
    "URL": line(heard(type="url", source="http://127.0.0.1:9/x.wav")),
    "URL as a file": line(heard(source="http://127.0.0.1:9/x.wav")),
    "S3 as a file": line(heard(source="s3://bucket/x.wav")),
    "chained URL": line(heard(source="simplecache::http://127.0.0.1:9/x.wav")),
    "memory": line(heard(type="memory", source="AAAA")),
    "Shar": line(heard(type="shar", source="x")),
    "source of a mapping": line(heard(source={"command": "touch OWNED"})),
    "source of a list": line(heard(source=["touch", "OWNED"])),
    "no type": line(heard(type=None)),
    # not JSON, or not a cut
    "a word": b"touch OWNED\n",
    "a number": b"7\n",
    "a list": b"[1]\n",
    "key twice": b'{"id": "a", "id": "b"}\n',
    "NaN": line(cut()).replace(b"0.4", b"NaN"),
    "infinite": line(cut()).replace(b"0.4", b"Infinity"),
    "overflow": line(cut()).replace(b"0.4", b"1e999"),
    "many digits": line(cut()).replace(b"0.4", b"9" * 5000),
    "deep": b'{"id":' + b"[" * 100_000 + b"\n",
    "deep and closed": b'{"id":' + b"[" * 500 + b"]" * 500 + b"}\n",
    "not UTF-8": line(cut()).replace(b'"c"', b'"\xff"'),
    "UTF-16": json.dumps(cut()).encode("utf-16"),
    "unknown type": line(cut(type="os.system")),
    "type of a list": line(cut(type=["MonoCut"])),
    "type of escapes": line(cut(type="\x1b[31m\u202e")),
    "no recording at all": line({"id": "x", "type": "Recording"}),
    "features": line({"type": "fbank", "storage_type": "lilcom_chunky", "storage_path": "x", "storage_key": "0"}),
    "nothing": b"",
    "blank lines": b"\n" * 100,
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch OWNED'\ntR.",
    "a line of nine megabytes": b'{"id": "' + b"x" * (9 << 20) + b'"}\n',
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_one_line(house: House, name: str) -> None:
    refuse_manifest(house, house.write("cuts.jsonl", MANIFESTS[name]).name)


@pytest.mark.parametrize("name", ["command", "command 40 deep", "not UTF-8", "deep", "a line of nine megabytes"])
def test_a_hostile_manifest_is_one_line_when_it_is_compressed(house: House, name: str) -> None:
    refuse_manifest(house, house.write("cuts.jsonl.gz", gzip.compress(MANIFESTS[name], mtime=0)).name)


def refuse_manifest(house: House, name: str) -> None:
    recipe = copy.deepcopy(RECIPE)
    del recipe["rooms"], recipe["conditions"]["far"], recipe["copies"]["train"]["far"], recipe["copies"]["test"]["far"]
    recipe["speech"]["train"] = {"cuts": name}
    house.refused("plan", house.write("hostile.yaml", recipe), house.home / "out", target="out")
    assert not list(house.home.rglob("OWNED"))


GZIPS: dict[str, bytes] = {
    "cut off": gzip.compress(line(cut()) * 1000)[:-20],
    "wrong sum": gzip.compress(line(heard(**COMMAND)))[:-8] + bytes(8),
    "no gzip": line(cut()),
    "bomb of one line": gzip.compress(bytes(300 << 20), 1),
    "bomb of blank lines": gzip.compress(b"\n" * (60 << 20), 1),
    "bomb of blanks": gzip.compress(b" \n" * (40 << 20), 1),
}


@pytest.mark.parametrize("name", GZIPS)
def test_a_hostile_gzip_is_one_line(house: House, name: str) -> None:
    refuse_manifest(house, house.write("cuts.jsonl.gz", GZIPS[name]).name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("id", "start", "duration", "channel", "supervisions", "recording", "type", "custom")


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(FIELDS), value=JSON, source=st.sampled_from(["command", "url", "memory", "file"]))
def test_any_value_in_any_field_of_a_cut_is_told_and_nothing_runs(
    house: House, field: str, value: Any, source: str
) -> None:
    """One line, or a refused utterance; a command beside it is refused whatever the rest is."""
    twisted = cut(**{field: value})
    twisted["other"] = {"type": source, "channels": [0], "source": "touch OWNED"}
    house.write("cuts.jsonl", line(twisted) if value == value else b"{}\n")
    recipe = copy.deepcopy(RECIPE)
    del recipe["rooms"], recipe["conditions"]["far"], recipe["copies"]["train"]["far"], recipe["copies"]["test"]["far"]
    recipe["speech"]["train"] = {"cuts": "cuts.jsonl"}
    house.refused("plan", house.write("hostile.yaml", recipe), house.home / "out", target="out")
    assert not list(house.home.rglob("OWNED"))
