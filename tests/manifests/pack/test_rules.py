"""Every rule that a pack's check knows has a pack that breaks that rule alone; the rules are read out of the check itself."""

from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from manifests.corpus.layout import IN_EVERY_PACK
from manifests.errors import StillroomError
from manifests.io.digest import digest
from manifests.pack.read import open_pack
from manifests.pack.validate import checked
from manifests.plan.plan import Plan
from manifests.recipe.recipe import Recipe
from tests.manifests.pack.test_write import tar_of
from tests.oracles.forgery import literal_texts, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "train-000000"
KEY = "u-" + hashlib.sha256(b"u").hexdigest()[:12]
OTHER_KEY = "w-" + hashlib.sha256(b"w").hexdigest()[:12]
ZEROS = "0" * 64
FINE = b"\1" + bytes(31)
PRINT = base64.b64encode(FINE).decode()
CODED_PRINT = base64.b64encode(FINE + b"\2" + bytes(31)).decode()
ROOM_STEP = {"kind": "room", "bank": "cell", "room": 0, "position": 0, "response": "cell-0-0"}
HUM_STEP = {
    "kind": "noise", "form": "recorded", "source": "hum", "root": "hums", "recording": "n.wav", "offset": 0, "snr_db": 5.0,
}  # fmt: skip


class Parts:
    """The documents of a pack of one shard of two utterances, a simulated room and a noise; plain data, to be twisted."""

    def __init__(self) -> None:
        self.recipe: dict[str, Any] = {
            "schema": "stillroom/recipe/1", "name": "p", "speech": {"train": {"dir": "@x", "root": "talk"}}, "noises": {"hum": {"dir": "@y", "root": "hums"}},
            "rooms": {"cell": {"rooms": 1, "size_m": [[3, 3, 2], [4, 4, 3]], "rt60_s": 0.2, "distance_m": 1}},
            "conditions": {
                "phone": {"steps": [{"kind": "codec", "codec": "g711-mulaw"}]},
                "far": {"steps": [{"kind": "room", "bank": "cell"}, {"kind": "noise", "from": ["hum"], "snr_db": 5}]},
            },
            "copies": {"train": {"phone": 1, "far": 1}},
        }  # fmt: skip
        copies = [
            {"name": "phone-0", "condition": "phone", "steps": [{"kind": "codec", "codec": "g711-mulaw"}]},
            {"name": "far-0", "condition": "far", "steps": [ROOM_STEP, HUM_STEP]},
        ]
        self.rows = [
            {
                "id": name, "key": key, "split": "train", "num_samples": 100,
                "source": {"root": "talk", "path": f"{name}.wav", "rate_hz": 16000}, "copies": copies,
            }
            for name, key in (("u", KEY), ("w", OTHER_KEY))
        ]  # fmt: skip
        self.rows = copy.deepcopy(self.rows)
        places = iter(range(512, 1 << 20, 1024))
        self.samples: list[dict[str, Any]] = [
            {
                "key": key,
                "num_samples": 100,
                "members": {
                    name: {"offset": next(places), "size": 10}
                    | ({} if name == "json" else {"pcm_sha256": sha256(key.encode() + name.encode())})
                    for name in ("json", "clean", "phone-0", "far-0")
                },
            }
            for key in (KEY, OTHER_KEY)
        ]
        self.prints = [
            {"key": key, "prints": {"clean": PRINT, "phone-0": CODED_PRINT, "far-0": PRINT}} for key in (KEY, OTHER_KEY)
        ]
        self.sources = [
            {
                "root": "talk", "path": path, "num_frames": 100, "rate_hz": 16000, "sha256": "3" * 64, "pcm_sha256": "4" * 64,
            }
            for path in ("u.wav", "w.wav")
        ]  # fmt: skip
        self.rooms = [
            {
                "bank": "cell", "room": 0, "splits": ["train"], "size_m": [3, 3, 2], "absorption": 0.5, "max_order": 3, "rt60_s": 0.2,
                "t30_s": [0.2], "microphone_m": [1, 1, 1], "sources_m": [[2, 2, 1]],
            }
        ]  # fmt: skip
        self.bank = [
            {
                "name": "cell-0-0", "bank": "cell", "room": 0, "position": 0, "rate_hz": 16000, "t30_s": 0.2,
                "direct_to_reverberant_db": 0.0, "direct_sample": 40, "num_samples": 100, "sha256": "5" * 64,
            }
        ]  # fmt: skip
        self.levels = [
            {
                "source": "hum", "root": "hums", "path": "n.wav", "splits": ["train"], "num_samples": 100, "rate_hz": 16000,
                "sha256": "6" * 64, "power_db": [-20.0],
            }
        ]  # fmt: skip
        self.index: dict[str, Any] = {}  # keys that are not as they follow from the rest; so below
        self.plan: dict[str, Any] = {}
        self.plan_file: dict[str, Any] = {}
        self.corpus: dict[str, Any] = {}
        self.entry: dict[str, Any] = {}
        self.pack: dict[str, Any] = {}
        self.files: dict[str, bytes | None] = {}

    def members(self) -> dict[str, bytes]:
        """Every file of the pack but SHA256SUMS, each digest and count as it follows, where it was not said otherwise."""
        rows, levels, rooms = lines(self.rows), lines(self.levels), lines(self.rooms)
        recipe_sha256 = digest(Recipe.parse(self.recipe, where="test").plain())
        end = max((one["offset"] + one["size"] for item in self.samples for one in item["members"].values()), default=0)
        shard = {"bytes": end + 2048, "sha256": "7" * 64}
        file = {"name": NAME, "split": "train", "rows": len(self.rows), "seconds": 0.0, "sha256": sha256(rows)}
        plan = {
            "schema": "stillroom/plan/2", "name": "p", "recipe_sha256": recipe_sha256, "sample_rate": 16000,
            "files": [file | self.plan_file], "levels_sha256": sha256(levels), "rooms_sha256": sha256(rooms),
        } | self.plan  # fmt: skip
        index = {
            "schema": "stillroom/shard/1", "name": NAME, "split": "train", "sample_rate": 16000, **shard,
            "plan_sha256": plan["files"][0]["sha256"], "samples": self.samples,
        } | self.index  # fmt: skip
        entry = {"name": NAME, "samples": len(index["samples"]), "seconds": 0.0, **shard} | self.entry
        corpus = {
            "schema": "stillroom/corpus/1", "name": "p", "recipe_sha256": recipe_sha256,
            "plan_sha256": digest(Plan.parse(plan, where="test")), "sample_rate": 16000, "splits": {"train": [entry]},
            "copies": {"train": {"phone": 1, "far": 1}},
            "totals": {"samples": 2, "seconds": 0.0, "bytes": shard["bytes"], "shards": 1},
        } | self.corpus  # fmt: skip
        sealed = json.dumps(corpus).encode()
        pack = {
            "schema": "stillroom/pack/1", "name": "p", "recipe_sha256": recipe_sha256,
            "plan_sha256": digest(Plan.parse(plan, where="test")), "corpus_sha256": sha256(sealed), "samples": entry["samples"],
            "waves": sum(len(one["members"]) - 1 for one in self.samples), "responses": 1, "sources": len(self.sources),
        } | self.pack  # fmt: skip
        found: dict[str, bytes | None] = {
            "pack.json": json.dumps(pack).encode(), "recipe.yaml": json.dumps(self.recipe).encode(), "corpus.json": sealed,
            "provenance.json": b"{}", "plan/plan.json": json.dumps(plan).encode(), "plan/levels.jsonl": levels,
            "plan/rooms.jsonl": rooms, "rooms/cell.jsonl": lines(self.bank), "rooms/cell-0-0.npy": b"response",
            f"plan/{NAME}.jsonl": rows, f"shards/{NAME}.json": json.dumps(index).encode(),
            f"proof/{NAME}.jsonl": lines(self.prints), "sources.jsonl": lines(self.sources),
        }  # fmt: skip
        return {name: content for name, content in (found | self.files).items() if content is not None}


def lines(items: list[Any]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def opened(folder: Path, members: dict[str, bytes], *, sums: dict[str, str] | None = None) -> Any:
    digests = {name: sha256(content) for name, content in members.items()} | (sums or {})
    members = members | {"SHA256SUMS": "".join(f"{value}  {name}\n" for name, value in digests.items()).encode()}
    path = folder / "p.tar.gz"
    path.write_bytes(gzip.compress(tar_of([(f"p/{name}", value) for name, value in members.items()]), mtime=0))
    return open_pack(path, folder / "open")


def put(place: str, **values: Any) -> Callable[[Parts], None]:
    """Set keys of a document, or of the first item of a list of them."""

    def change(parts: Parts) -> None:
        found = getattr(parts, place)
        (found[0] if isinstance(found, list) else found).update(values)

    return change


def in_copy(**values: Any) -> Callable[[Parts], None]:
    return lambda parts: parts.rows[0]["copies"][0].update(values)  # type: ignore[attr-defined]


def in_step(**values: Any) -> Callable[[Parts], None]:
    return lambda parts: parts.rows[0]["copies"][1]["steps"][1].update(values)  # type: ignore[attr-defined]


def in_member(name: str, **values: Any) -> Callable[[Parts], None]:
    return lambda parts: parts.samples[0]["members"][name].update(values)


def without_member(name: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        del parts.samples[0]["members"][name]
        del parts.prints[0]["prints"][name]  # type: ignore[attr-defined]

    return change


def file(name: str, content: bytes | None) -> Callable[[Parts], None]:
    return lambda parts: parts.files.update({name: content})


def again(place: str) -> Callable[[Parts], None]:
    return lambda parts: getattr(parts, place).append(copy.deepcopy(getattr(parts, place)[0]))


def two_plan_files(parts: Parts) -> None:
    plan = json.loads(parts.members()["plan/plan.json"])
    parts.plan["files"] = plan["files"] * 2


def one_more_entry(parts: Parts) -> None:
    (entry,) = json.loads(parts.members()["corpus.json"])["splits"]["train"]
    parts.corpus["splits"] = {"train": [entry], "test": [entry | {"name": "test-000000"}]}


def one_more_plan_file(parts: Parts) -> None:
    (planned,) = json.loads(parts.members()["plan/plan.json"])["files"]
    parts.plan["files"] = [planned, planned | {"name": "train-000001"}]


def one_more_copy(parts: Parts) -> None:
    parts.samples[0]["members"]["phone-1"] = {"offset": 100_000, "size": 10, "pcm_sha256": ZEROS}
    parts.prints[0]["prints"]["phone-1"] = PRINT  # type: ignore[index]


def rate(parts: Parts) -> None:
    """The recipe has another rate than everything that was made from it."""
    parts.recipe["sample_rate"] = 8000


def of_the_pack(name: str, value: Any) -> Callable[[Parts], None]:
    return lambda parts: parts.pack.update({name: value})


def another_utterance(parts: Parts) -> None:
    """The index and the fingerprints are of an utterance that was not planned."""
    parts.samples[0]["key"] = parts.prints[0]["key"] = "x"


def same_key(parts: Parts) -> None:
    parts.samples[1]["key"] = KEY


def recorded_twin(parts: Parts) -> None:
    """A row of a bank whose name is that of another bank."""
    parts.bank.append(parts.bank[0] | {"name": "hall-0-0"})


CORPUS = "is not the one that pack.json names"
PLAN = "is not the plan that the corpus was sealed with"
RECIPE = "is not the recipe that the plan was made from"
RATE = "has another sample rate than its recipe"
TWICE = "names a shard twice"
SHARDS = "names other shards than the plan"
PLAN_FILE = "is missing, or not what plan.json says"
NOBODY = "belongs to no shard of the plan and no bank of the recipe"
PRINTS_KIND = "its fingerprints are {}, this Stillroom reads {}; install a newer one"
COUNT = "says {} {}, the pack has {}"
LEVEL_ROOT = "names a root that is not in the recipe"
BANK = "is a room of bank {}, which is not in the recipe or the pack"
RESPONSE_NAME = "is not a response of this bank with a name of its own"
RESPONSE_GONE = "is a simulated response that is not in the pack"
RESPONSE_STRAY = "is a response that no bank lists"
SHARD_GONE = "is missing, or its fingerprints are"
SHARD_OTHER = "has other samples, size or digest than corpus.json says"
PRINTS = "has fingerprints of other waves than the index"
INDEX = "is the index of another shard, split or plan"
INDEX_RATE = "has another sample rate than the plan"
OVERLAP = "members overlap, or are outside the tar, at byte {}"
SAMPLE_TWICE = "names a sample twice"
ROW = "is of another split, its key is not that of its id, or it occurs twice"
ROW_ROOT = "names root {}, which is not in the recipe"
COPIES = "has two copies of one name"
COPY_NAME = "copy {} is not named <condition>-<number>"
CONDITION = "condition {} is not in the recipe"
ROWS = "has {} rows, plan.json says {}"
SAMPLE = "sample {} is not as it was planned"
SUFFIX = "a member of {} has another name than Stillroom gives it"
NO_DIGEST = "a wave of {} has no digest"
ONE_ONLY = "is in only one of {} and the pack"

RULES: list[tuple[str, str, Callable[[Parts], Any]]] = [
    ("another corpus", CORPUS, put("pack", corpus_sha256=ZEROS)),
    ("the corpus's plan", PLAN, put("corpus", plan_sha256=ZEROS)),
    ("the pack's plan", PLAN, put("pack", plan_sha256=ZEROS)),
    ("the plan's recipe", RECIPE, put("plan", recipe_sha256=ZEROS)),
    ("the corpus's recipe", RECIPE, put("corpus", recipe_sha256=ZEROS)),
    ("the pack's recipe", RECIPE, put("pack", recipe_sha256=ZEROS)),
    ("the plan's rate", RATE, put("plan", sample_rate=8000)),
    ("the corpus's rate", RATE, put("corpus", sample_rate=8000)),
    ("the recipe's rate", RATE, rate),
    ("a shard twice", TWICE, two_plan_files),
    ("a shard of another name", SHARDS, put("entry", name="train-000007")),
    ("a shard that only the seal has", SHARDS, one_more_entry),
    ("a shard that only the plan has", SHARDS, one_more_plan_file),
    ("the digest of a plan file", PLAN_FILE, put("plan_file", sha256=ZEROS)),
    ("the digest of the levels", PLAN_FILE, put("plan", levels_sha256=ZEROS)),
    ("the digest of the rooms", PLAN_FILE, put("plan", rooms_sha256=ZEROS)),
    ("spectra that are not there", PLAN_FILE, put("plan", spectra_sha256=ZEROS)),
    ("a plan file that is not there", PLAN_FILE, file(f"plan/{NAME}.jsonl", None)),
    ("a plan file too many", NOBODY, file("plan/train-000009.jsonl", b"")),
    ("spectra of nobody", NOBODY, file("plan/spectra.jsonl", b"")),
    ("a bank too many", NOBODY, file("rooms/hall.jsonl", b"")),
    ("a proof too many", NOBODY, file("proof/train-000009.jsonl", b"")),
    ("an index too many", NOBODY, file("shards/train-000009.json", b"{}")),
    ("other fingerprints", PRINTS_KIND, of_the_pack("fingerprint", "stillroom/fingerprint/2")),
    *((f"count of {name}", COUNT, of_the_pack(name, 9)) for name in ("samples", "waves", "responses", "sources")),
    ("a noise of no root", LEVEL_ROOT, put("levels", root="elsewhere")),
    ("a room of no bank", BANK, put("rooms", bank="hall")),
    ("a bank that is not in the pack", BANK, file("rooms/cell.jsonl", None)),
    ("a response of another bank", RESPONSE_NAME, put("bank", name="hall-0-0")),
    ("a response without a name", RESPONSE_NAME, put("bank", name="cell")),
    ("a response twice", RESPONSE_NAME, again("bank")),
    ("a response that is gone", RESPONSE_GONE, file("rooms/cell-0-0.npy", None)),
    ("a response of nobody", RESPONSE_STRAY, file("rooms/cell-0-1.npy", b"x")),
    ("no index", SHARD_GONE, file(f"shards/{NAME}.json", None)),
    ("no fingerprints", SHARD_GONE, file(f"proof/{NAME}.jsonl", None)),
    ("the seal's number of samples", SHARD_OTHER, put("entry", samples=3)),
    ("the seal's size", SHARD_OTHER, put("entry", bytes=9)),
    ("the seal's digest", SHARD_OTHER, put("entry", sha256=ZEROS)),
    ("a fingerprint of nothing", PRINTS, lambda parts: parts.prints[0]["prints"].update(other=PRINT)),  # type: ignore[attr-defined]
    ("a wave without a fingerprint", PRINTS, lambda parts: parts.prints[0]["prints"].pop("clean")),  # type: ignore[attr-defined]
    ("fingerprints of nobody", PRINTS, put("prints", key="x")),
    ("fingerprints twice", PRINTS, again("prints")),
    ("the index's name", INDEX, put("index", name="train-000007")),
    ("the index's split", INDEX, put("index", split="test")),
    ("the index's plan file", INDEX, put("index", plan_sha256=ZEROS)),
    ("the index's rate", INDEX_RATE, put("index", sample_rate=8000)),
    ("the index's higher rate", INDEX_RATE, put("index", sample_rate=48_000)),
    ("a member in another", OVERLAP, in_member("clean", offset=515)),
    ("a member that reaches into the next", OVERLAP, in_member("clean", size=1025)),
    ("a member that reaches out of the tar", OVERLAP, lambda parts: parts.samples[1]["members"]["far-0"].update(size=9999) or parts.index.update(bytes=9999) or parts.entry.update(bytes=9999)),
    ("a sample twice", SAMPLE_TWICE, same_key),
    ("the row's split", ROW, put("rows", split="test")),
    ("the row's key", ROW, put("rows", key="x")),
    ("a row twice", ROW, again("rows")),
    ("the root of a source", ROW_ROOT, lambda parts: parts.rows[0]["source"].update(root="elsewhere")),  # type: ignore[attr-defined]
    ("the root of a noise", ROW_ROOT, in_step(root="elsewhere")),
    ("two copies of one name", COPIES, in_copy(name="far-0", condition="far")),
    ("a copy that is not named as its condition", COPY_NAME, in_copy(name="far-9")),
    ("a copy without a number", COPY_NAME, in_copy(name="phone")),
    ("a copy with a letter for a number", COPY_NAME, in_copy(name="phone-x")),
    ("a copy of no condition", CONDITION, in_copy(name="radio-0", condition="radio")),
    ("the number of rows", ROWS, put("plan_file", rows=3)),
    ("a smaller number of rows", ROWS, put("plan_file", rows=1)),
    ("a greater length of a sample", SAMPLE, put("samples", num_samples=101)),
    ("a sample with a copy more", SAMPLE, one_more_copy),
    ("a sample that was not planned", SAMPLE, another_utterance),
    ("the length of a sample", SAMPLE, put("samples", num_samples=99)),
    ("a sample without a copy", SAMPLE, without_member("far-0")),
    ("a sample without JSON", SAMPLE, lambda parts: parts.samples[0]["members"].pop("json")),
    ("a member of another name", SUFFIX, in_member("clean", suffix="wav")),
    ("a wave without a digest", NO_DIGEST, in_member("phone-0", pcm_sha256=None)),
]  # fmt: skip


def test_a_pack_in_which_nothing_is_wrong_is_read(tmp_path: Path) -> None:
    found = opened(tmp_path, Parts().members())
    assert (found.pack.samples, found.pack.waves, found.plan.files[0].rows) == (2, 6, 2)
    assert [one.path for one in found.sources()] == ["u.wav", "w.wav"]


@pytest.mark.parametrize(("name", "rule", "change"), RULES, ids=[name for name, _, _ in RULES])
def test_a_pack_that_breaks_one_rule_is_refused_by_that_rule(
    tmp_path: Path, name: str, rule: str, change: Callable[[Parts], Any]
) -> None:
    parts = Parts()
    change(parts)
    with pytest.raises(StillroomError) as caught:
        opened(tmp_path, parts.members())
    assert re.search(": " + ".+".join(map(re.escape, rule.split("{}"))) + "$", str(caught.value)), str(caught.value)


def second(place: str, **values: Any) -> Callable[[Parts], None]:
    """Add to a list its first item with other values."""
    return lambda parts: getattr(parts, place).append(copy.deepcopy(getattr(parts, place)[0]) | values)


ROWS_NAME = f"plan/{NAME}.jsonl"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (second("levels", root="elsewhere"), f"plan/levels.jsonl:2: {LEVEL_ROOT}"),
        (second("levels", root="hum"), f"plan/levels.jsonl:2: {LEVEL_ROOT}"),
        (second("rooms", bank="hall"), f"plan/rooms.jsonl:2: {BANK.format(repr('hall'))}"),
        (second("bank", name="hall-0-0"), f"rooms/cell.jsonl:2: {RESPONSE_NAME}"),
        (second("bank", name="cell-0-1"), f"rooms/cell.jsonl:2: {RESPONSE_GONE}"),
        (file("rooms/cell-0-1.npy", b"x"), f"rooms/cell-0-1.npy: {RESPONSE_STRAY}"),
        (second("rows", id="x"), f"{ROWS_NAME}:3: {ROW}"),
        (lambda parts: parts.rows[1]["source"].update(root="train"), f"{ROWS_NAME}:2: {ROW_ROOT.format(repr('train'))}"),  # type: ignore[attr-defined]
        (in_step(root="hum"), f"{ROWS_NAME}:1: {ROW_ROOT.format(repr('hum'))}"),
        (in_copy(name="far-9"), f"{ROWS_NAME}:1: {COPY_NAME.format(repr('far-9'))}"),
        (in_copy(name="radio-0", condition="radio"), f"{ROWS_NAME}:1: {CONDITION.format(repr('radio'))}"),
        (put("plan_file", rows=3), f"{ROWS_NAME}: {ROWS.format(2, 3)}"),
        (of_the_pack("samples", 9), f"pack.json: {COUNT.format(9, 'samples', 2)}"),
        (of_the_pack("waves", 9), f"pack.json: {COUNT.format(9, 'waves', 6)}"),
        (of_the_pack("responses", 9), f"pack.json: {COUNT.format(9, 'responses', 1)}"),
        (of_the_pack("sources", 9), f"pack.json: {COUNT.format(9, 'sources', 2)}"),
        (of_the_pack("fingerprint", "f/2"), f"pack.json: {PRINTS_KIND.format(repr('f/2'), 'stillroom/fingerprint/1')}"),
        (in_member("clean", offset=515), f"shards/{NAME}.json: {OVERLAP.format(515)}"),
        (in_member("phone-0", suffix="wav"), f"shards/{NAME}.json: {SUFFIX.format(KEY)}"),
        (put("samples", num_samples=99), f"shards/{NAME}.json: {SAMPLE.format(KEY)}"),
        (put("prints", key="x"), f"proof/{NAME}.jsonl: {PRINTS}"),
        (second("prints", key=3), f"proof/{NAME}.jsonl:3: key: expected a text, got '3'"),
        (second("sources", start=-1), "sources.jsonl:3: start: expected a number >= 0, got '-1'"),
        (file("plan/zz.jsonl", b""), "member 'p/plan/zz.jsonl' does not belong in a pack; refused"),
        (file("rooms/cell-0-9.npy", bytes(5_764_097)), "member 'p/rooms/cell-0-9.npy' has 5764097 bytes, at most 5764096 may be; refused"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_file_and_line_and_by_what_was_found(
    tmp_path: Path, change: Callable[[Parts], Any], line: str
) -> None:
    parts = Parts()
    change(parts)
    with pytest.raises(StillroomError) as caught:
        opened(tmp_path, parts.members())
    assert str(caught.value).removeprefix(f"{tmp_path}/p.tar.gz: ").removeprefix("p.tar.gz: ") == line


def test_the_last_member_may_end_where_its_tar_ends(tmp_path: Path) -> None:
    parts = Parts()
    end = max(one["offset"] + one["size"] for item in parts.samples for one in item["members"].values())
    parts.index["bytes"] = parts.entry["bytes"] = end
    assert opened(tmp_path, parts.members()).corpus.splits["train"][0].bytes == end


def test_a_recorded_response_may_be_left_out_of_a_pack(tmp_path: Path) -> None:
    parts = Parts()
    span = {"root": "halls", "path": "r.wav", "rate_hz": 48_000, "sha256": ZEROS}
    parts.recipe["rooms"]["hall"] = {"responses": {"dir": "@z", "root": "halls"}}
    parts.rooms.append(
        {
            "bank": "hall",
            "room": 0,
            "splits": ["train"],
            "label": "h",
            "responses": [{"place": 0, "file": span, "t30_s": 0.3}],
        }
    )
    row = parts.bank[0] | {"name": "hall-0-0", "bank": "hall", "file": span}
    parts.files["rooms/hall.jsonl"] = lines([row])
    assert set(opened(tmp_path, parts.members()).recipe.rooms) == {"cell", "hall"}


@pytest.mark.parametrize("name", sorted(IN_EVERY_PACK - {"SHA256SUMS"}))
def test_a_pack_without_a_part_that_it_must_have_is_refused_by_the_name_of_that_part(tmp_path: Path, name: str) -> None:
    members = Parts().members()
    del members[name]
    with pytest.raises(StillroomError, match=f"has no {re.escape(name)}: it is not a pack, or was cut"):
        opened(tmp_path, members)


def test_a_pack_must_have_all_that_is_read_from_it_whatever_it_holds() -> None:
    assert {
        "pack.json", "corpus.json", "recipe.yaml", "provenance.json", "sources.jsonl", "SHA256SUMS", "plan/plan.json",
        "plan/levels.jsonl", "plan/rooms.jsonl",
    } == IN_EVERY_PACK  # fmt: skip


def test_what_the_list_of_digests_and_the_pack_do_not_both_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StillroomError, match=r"gone\.jsonl: is in only one of SHA256SUMS and the pack"):
        opened(tmp_path, Parts().members(), sums={"gone.jsonl": ZEROS})


@pytest.mark.parametrize("name", sorted(Parts().members()))
def test_a_file_that_is_not_what_its_digest_says_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StillroomError) as caught:
        opened(tmp_path, Parts().members(), sums={name: ZEROS})
    there = sha256(Parts().members()[name])[:16]
    assert f"p.tar.gz: {name}: SHA-256 is {there}…, its manifest says {ZEROS[:16]}…" in str(caught.value)


def test_a_file_that_the_list_of_digests_leaves_out_is_refused_by_name(tmp_path: Path) -> None:
    members = Parts().members()
    members["SHA256SUMS"] = "".join(
        f"{sha256(content)}  {name}\n" for name, content in members.items() if name != "provenance.json"
    ).encode()
    path = tmp_path / "p.tar.gz"
    path.write_bytes(gzip.compress(tar_of([(f"p/{name}", content) for name, content in members.items()]), mtime=0))
    with pytest.raises(StillroomError, match=r"provenance\.json: is in only one of SHA256SUMS and the pack"):
        open_pack(path, tmp_path / "open")


def test_a_provenance_that_is_no_json_is_refused_by_name(tmp_path: Path) -> None:
    parts = Parts()
    parts.files["provenance.json"] = b"{'git': 1}"
    with pytest.raises(StillroomError, match=r"p\.tar\.gz: provenance\.json: "):
        opened(tmp_path, parts.members())


def test_a_row_that_names_a_root_deep_in_its_steps_is_refused(tmp_path: Path) -> None:
    """As a talker of one of several noises does."""
    parts = Parts()
    talker = {"id": "t", "file": {"root": "elsewhere", "path": "t.wav", "rate_hz": 16000}, "offset": 0}
    white = {"form": "coloured", "source": "white", "colour": "white", "seed": 1}
    babble = {"form": "babble", "source": "babble", "talkers": [talker]}
    parts.rows[0]["copies"][1]["steps"][1] = {
        "kind": "noise",
        "form": "several",
        "noises": [white, babble],
        "snr_db": 5.0,
    }  # type: ignore[index]
    with pytest.raises(StillroomError, match="names root 'elsewhere'"):
        opened(tmp_path, parts.members())


@pytest.mark.parametrize("folder", ["q", ".", "p/p"])
@pytest.mark.parametrize("name", ["corpus.json", "plan/plan.json", f"shards/{NAME}.json"])
def test_a_member_below_another_folder_than_the_first_is_refused(tmp_path: Path, name: str, folder: str) -> None:
    """Else one file of a pack could come from a second pack in the same tar, under the name of the first."""
    members = Parts().members()
    members["SHA256SUMS"] = "".join(f"{sha256(content)}  {one}\n" for one, content in members.items()).encode()
    placed = [(f"{folder if one == name else 'p'}/{one}", content) for one, content in members.items()]
    placed.sort(key=lambda member: not member[0].startswith("p/pack.json"))
    path = tmp_path / "p.tar.gz"
    path.write_bytes(gzip.compress(tar_of(placed), mtime=0))
    with pytest.raises(StillroomError, match=f"{re.escape(name)}.* does not belong in a pack"):
        open_pack(path, tmp_path / "open")


def test_every_rule_of_the_check_has_a_case() -> None:
    rules = literal_texts(sys.modules[checked.__module__], calls=("BadDocumentError", "off"))
    assert rules == {rule for _, rule, _ in RULES} | {ONE_ONLY}
