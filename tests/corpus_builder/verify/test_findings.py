"""Everything that `verify` can print is provoked, one thing at a time: whatever else would notice is put right first.

The texts are read out of the checks themselves, so that one without a case is a failing test.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from scipy import signal

from corpus_builder.exchange.index_webdataset import index_shards
from corpus_builder.verify import copy_measurements, draw_rates, plain_readers, plan_check, rir_check, shard_check
from corpus_builder.verify.verify_corpus import shard_checks, verify
from manifests.corpus import layout, shard_index
from manifests.errors import UsageError
from manifests.io.place import place_of
from tests.corpus_builder.conftest import Lab, write_wave
from tests.oracles.forgery import forge, literal_texts, read_members, sha256, write_members
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE_HZ = 16_000
SHARD = "train-000000"
OF_A_COPY = "{}: {}"  # in front of every finding of the physics


def module_of(thing: Any) -> Any:
    import sys

    return sys.modules[thing.__module__]


def texts_of(*modules: Any) -> set[str]:
    """Everything that some modules can find, with `{}` for what is put in."""
    return set().union(
        *(literal_texts(one, calls=("Finding", "add"), yields=True, returned_by="finding") for one in modules)
    )


def pattern(text: str) -> re.Pattern[str]:
    return re.compile(".+".join(map(re.escape, text.split("{}"))), re.DOTALL)


def kinds(report: Any, texts: set[str]) -> set[str]:
    """Which of the texts were found; a finding that is none of them stands for itself."""
    found = set()
    for one in report.findings:
        what = re.sub(r"^(?:[a-z]+-[0-9]+): (?=lags|its envelope|SNR|has [-0-9.]+ dBFS|clips|[0-9]+ to)", "", one.what)
        fitting = {text for text in texts if pattern(text).fullmatch(what)}
        found.add(max(fitting, key=len) if fitting else what)
    return found


@dataclass(frozen=True)
class Case:
    """One thing that is off.

    Attributes:
        due: All that is found.
        changes: Arguments of `forge`.
    """

    name: str
    due: frozenset[str]
    level: str
    changes: dict[str, Any]


def case(name: str, *due: str, level: str = "bytes", **changes: Any) -> Case:
    return Case(name, frozenset(due), level, changes)


# --- changes ---------------------------------------------------------------------------------------------------------


def coded(pcm: Any, *, rate_hz: int = RATE_HZ) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, pcm, rate_hz, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def pcm_of(members: dict[str, bytes], name: str) -> Any:
    return soundfile.read(io.BytesIO(members[name]), dtype="int16")[0]


def first(members: dict[str, bytes], suffix: str) -> str:
    return next(name for name in members if name.endswith(suffix))


def other_wave(name: str, change: Callable[[Any], Any], **options: Any) -> Callable[[dict[str, bytes]], None]:
    """Change the samples of one wave of the first sample."""

    def changed(members: dict[str, bytes]) -> None:
        member = first(members, f".{name}.flac")
        members[member] = coded(change(pcm_of(members, member)), **options)

    return changed


def other_json(**values: Any) -> Callable[[dict[str, bytes]], None]:
    """Set keys of the JSON member of the first sample."""

    def changed(members: dict[str, bytes]) -> None:
        name = first(members, ".json")
        members[name] = json.dumps(json.loads(members[name]) | values).encode()

    return changed


def other_copy(**values: Any) -> Callable[[dict[str, bytes]], None]:
    """Set keys of the first copy in the JSON member of the first sample."""

    def changed(members: dict[str, bytes]) -> None:
        name = first(members, ".json")
        document = json.loads(members[name])
        document["copies"][0] |= values
        members[name] = json.dumps(document).encode()

    return changed


def without(suffix: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.pop(first(members, suffix))


def unreadable(suffix: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({first(members, suffix): b"fLaC, and no more"})


def same_as_clean(members: dict[str, bytes]) -> None:
    members[first(members, ".noise-0.flac")] = members[first(members, ".clean.flac")]


def by_suffix(members: dict[str, bytes]) -> None:
    items = sorted(members.items(), key=lambda item: item[0].split(".", 1)[1])
    members.clear()
    members.update(items)


def rename_member(members: dict[str, bytes]) -> None:
    name = first(members, ".noise-0.flac")
    items = [(one.replace(".", ".x.", 1) if one == name else one, content) for one, content in members.items()]
    members.clear()
    members.update(items)


def in_sample(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Change the first sample of an index."""
    return lambda index: change(index["samples"][0])


def one_more_row(rows: list[Any]) -> None:
    from manifests.corpus.sample import sample_key

    rows.append(rows[0] | {"id": "another", "key": sample_key("another")})


def counted_rows(more: int) -> Callable[[dict[str, Any]], None]:
    """So many rows more in `plan.json` than the plan file has."""

    def changed(plan: dict[str, Any]) -> None:
        file = next(one for one in plan["files"] if one["name"] == SHARD)
        file["rows"] += more

    return changed


def in_entry(**values: Any) -> Callable[[dict[str, Any]], None]:
    def changed(sealed: dict[str, Any]) -> None:
        entry = next(one for one in sealed["splits"]["train"] if one["name"] == SHARD)
        entry |= values

    return changed


def more(name: str, place: str = "totals") -> Callable[[dict[str, Any]], None]:
    return lambda sealed: sealed[place].update({name: sealed[place][name] + 1})


def bytes_of_entry(sealed: dict[str, Any]) -> None:
    in_entry(bytes=1)(sealed)
    sealed["totals"]["bytes"] = sum(entry["bytes"] for entries in sealed["splits"].values() for entry in entries)


def samples_of_entry(sealed: dict[str, Any]) -> None:
    entry = next(one for one in sealed["splits"]["train"] if one["name"] == SHARD)
    other = next(one for one in sealed["splits"]["train"] if one["name"] != SHARD)
    entry["samples"] += 1
    other["samples"] -= 1


def one_sample_fewer(sealed: dict[str, Any]) -> None:
    entry = next(one for one in sealed["splits"]["train"] if one["name"] == SHARD)
    entry["samples"] -= 1
    sealed["totals"]["samples"] -= 1


def append(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda corpus: (corpus / name).write_bytes((corpus / name).read_bytes() + content)


def unlink(name: str) -> Callable[[Path], None]:
    return lambda corpus: (corpus / name).unlink()


def both_plans(value: str) -> dict[str, Any]:
    """The digest of a plan file said wrong, in `plan.json` and in the index alike."""
    return {
        "index": lambda index: index.update(plan_sha256=value),
        "plan": lambda plan: next(one for one in plan["files"] if one["name"] == SHARD).update(sha256=value),
    }


def refuse(corpus: Path) -> None:
    (corpus / "refused.jsonl").write_text('{"split":"train","id":"x","reason":"y"}\n')


def change_line(name: str, line: str | None) -> Callable[[list[str]], None]:
    def changed(lines: list[str]) -> None:
        at = next(number for number, one in enumerate(lines) if one.endswith(f"  {name}"))
        lines[at : at + 1] = [] if line is None else [f"{line}  {name}"]

    return changed


def set_response(name: str, change: Callable[[Any], Any], **said: Any) -> Callable[[Path], None]:
    """Change the samples of a stored response, and what its bank says of it."""

    def changed(corpus: Path) -> None:
        path = corpus / "rooms" / f"{name}.npy"
        wave = np.load(path)
        np.save(path, change(wave))
        bank = corpus / "rooms" / "cell.jsonl"
        rows = [json.loads(line) for line in bank.read_text().splitlines()]
        rows = [row | (said if row["name"] == name else {}) for row in rows]
        bank.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return changed


def planned_rt60(rt60_s: float) -> Callable[[list[dict[str, Any]]], None]:
    """Another reverberation time in the plan of the rooms than they have."""
    return lambda rooms: [room.update(rt60_s=rt60_s) for room in rooms] and None


def other_codec(recipe: dict[str, Any]) -> None:
    recipe["conditions"]["phone"]["steps"][0]["codec"] = "gsm-fr"


def with_spectra(corpus: Path) -> None:
    (corpus / "plan" / "spectra.jsonl").write_bytes(b"")


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def changed(corpus: Path) -> None:
        text = (corpus / name).read_text()
        assert old in text
        (corpus / name).write_text(text.replace(old, new))

    return changed


# --- texts -----------------------------------------------------------------------------------------------------------

SUMS_LINE = "expected a digest and the name of a file that is not listed above"
UNLISTED = "is not listed in SHA256SUMS: it does not belong here"
NOT_LISTED = "is not listed in SHA256SUMS"
MISSING = "is missing"
TWO_DIGESTS = "SHA256SUMS and corpus.json name different digests"
DAMAGED = "has another digest: it was changed or damaged"
OTHER_RECIPE = "is not the recipe that the corpus was sealed with"
OTHER_PLAN = "is not the plan that the corpus was sealed with"
PLAN_FILE = "is not what plan.json says"
ONE_ONLY = "is in only one of plan.json and corpus.json"
TOTALS = "{}: {} in the totals, {} by counting"
REFUSED = "has {} lines, corpus.json counts {}"
PLANNED = "{} utterances were planned, {} are in shards and {} were refused"
SIZE = "has {} bytes; its index says {}, corpus.json {}"
SHA = "SHA-256 is {}…; its index says {}…, corpus.json {}…"
INDEX_PLAN = "its index names another plan file than plan.json"
INDEX_OTHER = "its index is of another shard, split or sample rate"
INDEX_COUNT = "its index has {} samples, corpus.json {}"
LASTS = "its samples last {} s, corpus.json says {} s"
GONE = "member {} is missing"
STRAY = "member {} is not in the index"
ELSEWHERE = "member {} has offset and size {}, the index says {}"
KEY_TWICE = "a key occurs twice in the index"
UNPLANNED = "is not in the plan"
INDEX_LENGTH = "length differs between index and plan"
LOST = "planned utterance {} is neither in the shard nor refused"
NO_JSON = "has no JSON"
NO_WAVE = "has no {}"
FIELD = "{} differs between JSON and plan"
JSON_INDEX = "length or rate differ between JSON and index"
SOURCE = "source differs between JSON and plan"
COPIES = "copies differ between JSON and plan"
INDEX_COPIES = "copies differ between index and plan"
UNDECODABLE = "{}: cannot be decoded: {}"
WAVE = "{}: {} samples in {} channel(s) at {} Hz; expected {} mono at {} Hz"
PCM = "{}: its PCM is not what the index says"
SILENT = "{}: is silent"
CLEAN = "{}: is the clean wave, sample for sample"
TARFILE = "plain tarfile reads {} members"
WDS_KEY = "plain webdataset gives the key {}, which is not in the index"
WDS_MEMBERS = "plain webdataset gives other members for {}"
WDS_UNREADABLE = "plain webdataset and soundfile cannot read {}: {}"
WDS_LENGTH = "plain webdataset and soundfile give {} samples for {}"
WDS_COUNT = "plain webdataset gives {} of {} samples"
T30_BANK = "T30 is {} s by measuring, its bank says {} s"
T30_ASKED = "T30 is {} s by measuring, {} s were planned"
DIRECT = "its first strong sound is at sample {}, by its bank the direct path is at {}"
RATE = "{} was drawn {} times in {} copies, by the recipe {} ± {}"
ENVELOPE = "its envelope is {} ms from that of the clean wave, more than 2.5 ms"
LAG = "lags {} samples behind the clean wave (GCC-PHAT, peak {} standard deviations)"
SNR = "SNR {} dB by subtraction, {} dB were planned"
LEVEL = "has {} dBFS before its last gain, expected {} dBFS"
CLIPS = "clips: three samples and more at full scale"
CLIPPED = "clips {} % of its samples; {} % were planned"
BAND = "{} to {} Hz are {} dB over the clean wave, expected at most {} dB"

ZEROS, ONES = "0" * 64, "1" * 64

CASES = [
    # SHA256SUMS
    case("a line that is none", SUMS_LINE, sums=lambda lines: lines.append("nonsense")),
    case("a name that stands twice", SUMS_LINE, sums=lambda lines: lines.append(lines[0])),
    case("a file of nobody", UNLISTED, files=lambda corpus: (corpus / "shards" / "extra.tar").write_bytes(b"")),
    case("a link of nobody", UNLISTED, files=lambda corpus: (corpus / "rooms" / "x").symlink_to("/etc/passwd")),
    case("a shard that is not listed", NOT_LISTED, UNLISTED, sums=change_line(f"shards/{SHARD}.tar", None)),
    case("a seal that is not listed", NOT_LISTED, sums=change_line("corpus.json", None)),
    case("a recipe that is not listed", NOT_LISTED, UNLISTED, sums=change_line("recipe.yaml", None)),
    case("a plan that is not listed", NOT_LISTED, UNLISTED, sums=change_line("plan/plan.json", None)),
    case("a card that is listed and gone", MISSING, sums=lambda lines: lines.append(f"{ZEROS}  GONE.md")),
    case("other digests of a shard", TWO_DIGESTS, sums=change_line(f"shards/{SHARD}.tar", ZEROS)),
    case("a changed card", DAMAGED, sums=change_line("README.md", ZEROS)),
    case("a changed seal", DAMAGED, sums=change_line("corpus.json", ZEROS)),
    # plan and totals
    case("another recipe", OTHER_RECIPE, files=replace_text("recipe.yaml", "g711-mulaw", "gsm-fr")),
    case("a recipe that was not sealed", OTHER_RECIPE, OTHER_PLAN, sealed=lambda sealed: sealed.update(recipe_sha256=ZEROS)),
    case("a plan of another recipe", OTHER_PLAN, plan=lambda plan: plan.update(recipe_sha256=ZEROS)),
    case("other levels of noises", PLAN_FILE, files=append("plan/levels.jsonl", b"{}\n")),
    case("other rooms", PLAN_FILE, files=append("plan/rooms.jsonl", b"{}\n")),
    case(
        "other spectra", PLAN_FILE, files=with_spectra, plan=lambda plan: plan.update(spectra_sha256=ZEROS),
        sums=lambda lines: lines.append(f"{sha256(b'')}  plan/spectra.jsonl"),
    ),
    case("another plan", OTHER_PLAN, sealed=lambda sealed: sealed.update(plan_sha256=ZEROS)),
    case("another plan file", PLAN_FILE, **both_plans(ZEROS)),
    case(
        "a shard that is only planned", ONE_ONLY,
        plan=lambda plan: plan["files"].append(plan["files"][0] | {"name": "train-000099", "rows": 0}),
    ),
    case("samples of the totals", TOTALS, PLANNED, sealed=more("samples")),
    case(
        "one sample more than is counted",
        TOTALS,
        INDEX_COUNT,
        KEY_TWICE,
        index=lambda index: index["samples"].append(index["samples"][0]),
        sealed=one_sample_fewer,
    ),
    case("bytes of the totals", TOTALS, sealed=more("bytes")),
    case("shards of the totals", TOTALS, sealed=more("shards")),
    case("more was refused", REFUSED, sealed=lambda sealed: sealed.update(refused={"train": 1})),
    case("fewer were refused", REFUSED, PLANNED, files=refuse),
    case("more was planned", PLANNED, plan=counted_rows(1)),
    case("less was planned", PLANNED, plan=counted_rows(-1)),
    case(
        "one was refused at planning and one at rendering", PLANNED, files=refuse,
        sealed=lambda sealed: sealed.update(refused={"train": 1}),
    ),
    # one shard: index and tar
    case("the index's size", SIZE, index=lambda index: index.update(bytes=index["bytes"] + 1)),
    case("the seal's size", SIZE, sealed=bytes_of_entry),
    case("the index's digest", SHA, index=lambda index: index.update(sha256=ZEROS)),
    case("the seal's digest", SHA, TWO_DIGESTS, sealed=in_entry(sha256=ZEROS)),
    case("the index's plan file", INDEX_PLAN, index=lambda index: index.update(plan_sha256=ZEROS)),
    case("the index's name", INDEX_OTHER, index=lambda index: index.update(name="train-000007")),
    case("the index's split", INDEX_OTHER, index=lambda index: index.update(split="test")),
    case("the index's rate", INDEX_OTHER, index=lambda index: index.update(sample_rate=8000)),
    case("the seal's number of samples", INDEX_COUNT, sealed=samples_of_entry),
    case("the seal's seconds", LASTS, sealed=in_entry(seconds=99.0)),
    case(
        "a member that is not in the tar", GONE,
        index=in_sample(lambda one: one["members"].update({"noise-9": one["members"]["noise-0"]})),
    ),
    case("a member that is not in the index", STRAY, index=in_sample(lambda one: one["members"].pop("noise-0"))),
    case(
        "a member elsewhere", ELSEWHERE,
        index=in_sample(lambda one: one["members"]["noise-0"].update(offset=one["members"]["noise-0"]["offset"] + 512)),
    ),
    case(
        "a member of another size", ELSEWHERE,
        index=in_sample(lambda one: one["members"]["noise-0"].update(size=one["members"]["noise-0"]["size"] - 1)),
    ),
    case("a key twice", KEY_TWICE, PLANNED, index=lambda index: index["samples"].append(index["samples"][0])),
    case(
        "a key twice, by content", KEY_TWICE, PLANNED, UNPLANNED, TARFILE, level="pcm",
        index=lambda index: index["samples"].append(index["samples"][0]),
    ),
    # one shard: contents
    case(
        "an utterance that was not planned", UNPLANNED, level="pcm", rows=lambda rows: rows.pop(), plan=counted_rows(1),
    ),
    case(
        "an utterance that was lost", LOST, level="pcm", rows=one_more_row, plan=counted_rows(-1),
    ),
    case(
        "another length in the index", INDEX_LENGTH, JSON_INDEX, WDS_LENGTH, level="pcm",
        index=in_sample(lambda one: one.update(num_samples=one["num_samples"] - 1)),
    ),
    case("no JSON", NO_JSON, level="pcm", waves=without(".json")),
    case("no clean wave", NO_WAVE, WDS_UNREADABLE, level="pcm", waves=without(".clean.flac")),
    case("no copy", INDEX_COPIES, level="pcm", waves=without(".noise-1.flac")),
    *(
        case(f"another {name}", FIELD, level="pcm", waves=other_json(**{name: value}))
        for name, value in {
            "id": "x", "split": "test", "text": "x", "speaker": "x", "language": "xx", "custom": {"x": 1},
        }.items()
    ),
    case("another length in the JSON", FIELD, JSON_INDEX, level="pcm", waves=other_json(num_samples=17)),
    case("another rate in the JSON", JSON_INDEX, level="pcm", waves=other_json(sample_rate=8000)),
    case(
        "another source", SOURCE, level="pcm",
        waves=other_json(source={"root": "train", "path": "x.wav", "rate_hz": RATE_HZ, "sha256": ZEROS}),
    ),
    case("other copies", COPIES, level="pcm", waves=other_json(copies=[])),
    *(
        case(f"another {name} of a copy", COPIES, level="pcm", waves=other_copy(**{name: value}))
        for name, value in {"name": "noise-7", "condition": "x", "domain": "x", "family": "x", "steps": []}.items()
    ),
    case("a clean wave that cannot be decoded", UNDECODABLE, WDS_UNREADABLE, level="pcm", waves=unreadable(".clean.flac")),
    case("a copy that cannot be decoded", UNDECODABLE, level="pcm", waves=unreadable(".noise-0.flac")),
    case("a copy that is short", WAVE, level="pcm", waves=other_wave("noise-0", lambda pcm: pcm[:-1])),
    case("a copy that is long", WAVE, level="pcm", waves=other_wave("noise-0", lambda pcm: np.append(pcm, pcm[:1]))),
    case("a clean wave that is short", WAVE, WDS_LENGTH, level="pcm", waves=other_wave("clean", lambda pcm: pcm[:-1])),
    case("a copy in stereo", WAVE, level="pcm", waves=other_wave("noise-0", lambda pcm: np.stack([pcm, pcm], 1))),
    case("a copy at another rate", WAVE, level="pcm", waves=other_wave("noise-0", lambda pcm: pcm, rate_hz=8000)),
    case(
        "another digest of the PCM", PCM, level="pcm",
        index=in_sample(lambda one: one["members"]["phone-0"].update(pcm_sha256=ONES)),
    ),
    case(
        "another digest of the clean PCM", PCM, level="pcm",
        index=in_sample(lambda one: one["members"]["clean"].update(pcm_sha256=ONES)),
    ),
    case("silence", SILENT, level="pcm", waves=other_wave("noise-1", np.zeros_like)),
    case("a copy that is the clean wave", CLEAN, level="pcm", waves=same_as_clean),
    # one shard: plain tools
    case(
        "a sample of nobody", STRAY, TARFILE, WDS_KEY, WDS_COUNT, level="pcm",
        waves=lambda members: members.update({"stray.json": b"{}"}),
    ),
    case(
        "a member whose name webdataset parts otherwise", WDS_MEMBERS, level="pcm", waves=rename_member,
        naming=in_sample(lambda one: one["members"]["noise-0"].update(suffix="x.noise-0.flac")),
    ),
    case("members out of order", WDS_MEMBERS, WDS_COUNT, level="pcm", waves=by_suffix),
    # rooms and rates
    case("a T30 that the bank says wrong", T30_BANK, level="physics", files=set_response("cell-0-0", lambda x: x, t30_s=0.3)),
    case("a T30 that was not asked for", T30_ASKED, level="physics", rooms=planned_rt60(0.5)),
    case(
        "a direct path that the bank says wrong", DIRECT, SNR, level="physics",
        files=set_response("cell-1-1", lambda x: x, direct_sample=40),
    ),
    case("a codec that the recipe has not", RATE, level="physics", recipe=other_codec),
]  # fmt: skip


@pytest.fixture
def corpus(built_lab: Lab, tmp_path: Path) -> Path:
    target = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", target)
    return target


def all_texts() -> set[str]:
    modules = (module_of(verify), shard_check, plan_check, plain_readers, copy_measurements, rir_check, draw_rates)
    return texts_of(*modules) - {OF_A_COPY}


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_what_is_off_is_found_and_nothing_else(corpus: Path, one: Case) -> None:
    forge(corpus, **one.changes)
    report = verify(corpus, level=one.level, progress=False)  # type: ignore[arg-type]
    assert kinds(report, all_texts()) == one.due, report.findings


@pytest.mark.parametrize("level", ["pcm", "physics"])
def test_a_forged_corpus_in_which_nothing_was_changed_is_as_it_should_be(corpus: Path, level: Any) -> None:
    forge(corpus, rows=lambda _: None, waves=lambda _: None)
    assert verify(corpus, level=level, progress=False).findings == []


# --- what the readers refuse becomes a finding ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"sums": lambda lines: lines.append(f"{ZEROS}  ../x")}, r"SHA256SUMS:\d+: .*\.\./x"),
        ({"files": unlink(f"shards/{SHARD}.json")}, rf"shards/{SHARD}\.tar: .*does not exist: the index of a shard"),
        ({"files": unlink(f"shards/{SHARD}.tar")}, rf"shards/{SHARD}\.tar: .*(No such file|does not exist)"),
        ({"files": append(f"shards/{SHARD}.json", b"x")}, rf"shards/{SHARD}\.tar: .*not valid JSON"),
        ({"files": append("plan/plan.json", b"x")}, r"plan/plan\.json: .*not valid JSON"),
        ({"files": append("refused.jsonl", b"[]\n")}, r"refused\.jsonl: .*mapping"),
        ({"files": lambda corpus: set_end(corpus, b"")}, rf"shards/{SHARD}\.tar: .*no end-of-archive mark"),
    ],
    ids=["unsafe name", "no index", "no tar", "torn index", "torn plan", "torn refusals", "no end mark"],
)
def test_what_cannot_be_read_is_found(corpus: Path, changes: Any, due: str) -> None:
    forge(corpus, **changes)
    found = [f"{one.where}: {one.what}" for one in verify(corpus, level="bytes", progress=False).findings]
    assert any(re.fullmatch(due + ".*", line) for line in found), found


@pytest.mark.parametrize("name", ["rooms/cell.jsonl", "plan/rooms.jsonl", "recipe.yaml"])
def test_a_torn_file_of_the_rooms_or_the_recipe_is_found_by_the_physics(corpus: Path, name: str) -> None:
    forge(corpus, files=append(name, b'{"torn'))
    found = [f"{one.where}: {one.what}" for one in verify(corpus, level="physics", progress=False).findings]
    assert any(re.fullmatch(rf"{name}: .*(not valid JSON|cannot be read|YAML).*", line) for line in found), found


def set_end(corpus: Path, end: bytes) -> None:
    """Cut the end of a tar off, and say its size and digest as they are then."""
    tar = corpus / "shards" / f"{SHARD}.tar"
    content = tar.read_bytes().rstrip(b"\0")
    tar.write_bytes(content + bytes(-len(content) % 512) + end)
    for path in (tar.with_suffix(".json"), corpus / "corpus.json"):
        document = json.loads(path.read_bytes())
        entries = [document] if "splits" not in document else document["splits"]["train"]
        for entry in entries:
            if entry["name"] == SHARD:
                entry |= {"bytes": tar.stat().st_size, "sha256": sha256(tar.read_bytes())}
        path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "due"),
    [
        (set_response("cell-0-0", lambda wave: wave[:-1]), r"\d+ finite samples in float32"),
        (set_response("cell-0-0", lambda wave: wave.astype(np.float64)), r"finite samples in float32"),
        (
            set_response("cell-0-0", lambda wave: np.where(wave == wave.max(), np.nan, wave)),
            r"finite samples in float32",
        ),
    ],
)
def test_a_stored_response_that_is_none_is_found(corpus: Path, change: Any, due: str) -> None:
    forge(corpus, files=change)
    found = [one.what for one in verify(corpus, level="physics", progress=False).findings]
    assert any(re.search(due, what) for what in found), found


# --- physics, by the whole command -----------------------------------------------------------------------------------

TONE = {"kind": "noise", "from": ["white"], "snr_db": 5}
PHYSICS: dict[str, Any] = {
    "noise": {"steps": [TONE]},
    "soft": {"steps": [{"kind": "lowpass", "cutoff_hz": 2000}]},
    "high": {"steps": [{"kind": "pitch", "cents": 100}]},
    "torn": {"steps": [{"kind": "clip", "percent": 20}]},
    "even": {"steps": [TONE], "level": "match_clean"},
}


@pytest.fixture(scope="module")
def measured_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of one utterance of speech and a copy of each kind that is measured otherwise; not to be changed."""
    lab = Lab(tmp_path_factory.mktemp("measured"))
    write_wave(lab.folder / "speech/train/s0/u.wav", np.rint(20_000 * speechlike(1.5)).astype(np.int16))
    lab.recipe |= {
        "speech": {"train": {"dir": "speech/train"}}, "noises": {"white": {"colour": "white"}},
        "conditions": PHYSICS, "copies": {"train": dict.fromkeys(PHYSICS, 1)},
    }  # fmt: skip
    del lab.recipe["rooms"]
    assert lab.build().corpus is not None
    return lab.folder / "corpus"


def late(samples: int) -> Callable[[Any], Any]:
    return lambda pcm: np.concatenate([np.zeros(samples, np.int16), pcm[:-samples]])


def louder(db: float) -> Callable[[Any], Any]:
    return lambda pcm: np.rint(pcm * 10 ** (db / 20)).astype(np.int16)


def hissing(pcm: Any) -> Any:
    """With a tenth of its level above 4 kHz."""
    hiss = signal.lfilter(
        *signal.butter(6, 4000, "high", fs=RATE_HZ), np.random.RandomState(1).standard_normal(pcm.size)
    )
    return (pcm + 0.1 * np.std(pcm) * hiss / np.std(hiss)).astype(np.int16)


def at_full_scale(pcm: Any) -> Any:
    """Three samples at the end stop; all others so much fainter that the level stays."""
    clipped = pcm.astype(np.float64)
    at = np.arange(pcm.size // 2, pcm.size // 2 + 3)
    others = np.setdiff1d(np.arange(pcm.size), at)
    clipped[at] = 32767
    clipped[others] *= np.sqrt((np.sum(pcm.astype(np.float64) ** 2) - 3 * 32767.0**2) / np.sum(clipped[others] ** 2))
    return np.rint(clipped).astype(np.int16)


def of_clean(change: Callable[[Any], Any]) -> Callable[[dict[str, bytes]], None]:
    """Put a changed clean wave in the place of the copy `torn`."""

    def changed(members: dict[str, bytes]) -> None:
        members[first(members, ".torn-0.flac")] = coded(change(pcm_of(members, first(members, ".clean.flac"))))

    return changed


def nudged(pcm: Any) -> Any:
    """Not the clean wave sample for sample, and as good as it."""
    return pcm + np.r_[1, np.zeros(pcm.size - 1, np.int16)].astype(np.int16)


MEASURED = [
    ("a late copy", other_wave("noise-0", late(5)), {LAG, SNR}),
    ("an early copy", other_wave("soft-0", lambda pcm: np.append(pcm[4:], pcm[:4])), {LAG}),
    ("noise that is half a decibel too loud", other_wave("noise-0", louder(0.5)), {SNR}),
    ("a level that is not the clean wave's", other_wave("even-0", louder(0.2)), {LEVEL}),
    ("three samples at full scale", other_wave("even-0", at_full_scale), {CLIPS}),
    ("nothing clipped", of_clean(nudged), {CLIPPED}),
    ("a band that should be gone", other_wave("soft-0", hissing), {BAND}),
    ("a shifted pitch that is late", other_wave("high-0", late(160)), {ENVELOPE}),
]


def test_a_corpus_with_a_copy_of_each_kind_is_as_it_should_be(measured_lab: Path) -> None:
    report = verify(measured_lab, level="physics", progress=False)
    assert report.findings == []
    assert {name: (one.lags, one.snrs, one.by_plan) for name, one in report.measured.items()} == {
        "noise": (1, 1, 0), "soft": (1, 0, 0), "high": (1, 0, 0), "torn": (1, 0, 0), "even": (1, 0, 1),
    }  # fmt: skip


@pytest.mark.parametrize(("name", "change", "due"), MEASURED, ids=[name for name, _, _ in MEASURED])
def test_a_copy_that_is_not_what_its_numbers_say_is_found_and_nothing_else(
    measured_lab: Path, tmp_path: Path, name: str, change: Any, due: set[str]
) -> None:
    shutil.copytree(measured_lab, tmp_path / "corpus")
    forge(tmp_path / "corpus", waves=change)
    assert verify(tmp_path / "corpus", level="pcm", progress=False).findings == []
    report = verify(tmp_path / "corpus", level="physics", progress=False)
    assert kinds(report, all_texts()) == due, report.findings
    assert {one.what.split(":")[0].rpartition("-")[0] for one in report.findings} <= set(PHYSICS)


# --- a corpus that has its tars elsewhere -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a tar of two utterances, beside it; not to be changed."""
    folder = tmp_path_factory.mktemp("linked")
    pcm = (3000 * np.random.RandomState(1).standard_normal(4000)).astype(np.int16)
    members = {
        f"{key}.{name}.flac": coded(np.roll(pcm, 9 * n)) for n, key in enumerate("ab") for name in ("clean", "mix")
    }
    write_members(folder / "s.tar", members)
    index_shards([str(folder / "s.tar")])
    return folder


def forge_linked(
    folder: Path, *, tar: Any = None, index: Any = None, sealed: Any = None, files: Any = None, sums: Any = None
) -> None:
    """As `forge`, for an index of foreign shards."""
    index_path = folder / "shards" / "s.json"
    found, said = json.loads(index_path.read_bytes()), json.loads((folder / "corpus.json").read_bytes())
    entry = said["splits"]["train"][0]
    if tar is not None:
        members = read_members(folder / "s.tar")
        tar(members)
        places = write_members(folder / "s.tar", members)
        for sample in found["samples"]:
            for member in sample["members"].values():
                member["offset"], member["size"] = places[f"{sample['key']}.{member['suffix']}"]
        content = (folder / "s.tar").read_bytes()
        found |= {"bytes": len(content), "sha256": sha256(content)}
        entry |= {"bytes": len(content), "sha256": sha256(content)}
        said["totals"]["bytes"] = len(content)
    if index is not None:
        index(found)
    index_path.write_text(json.dumps(found))
    if sealed is not None:
        sealed(said)
    (folder / "corpus.json").write_text(json.dumps(said))
    if files is not None:
        files(folder)
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{sha256((folder / name).read_bytes())}  {name}" for name in names]
    if sums is not None:
        sums(lines)
    (folder / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines))


def foreign_wave(change: Callable[[Any], Any], **options: Any) -> Callable[[dict[str, bytes]], None]:
    def changed(members: dict[str, bytes]) -> None:
        members["a.mix.flac"] = coded(change(pcm_of(members, "a.mix.flac")), **options)

    return changed


def fewer(sealed: dict[str, Any]) -> None:
    sealed["splits"]["train"][0]["samples"] = sealed["totals"]["samples"] = 1


LINKED = [
    case("a manifest that is gone", MISSING, sums=lambda lines: lines.append(f"{ZEROS}  gone.json")),
    case("a changed seal", DAMAGED, sums=change_line("corpus.json", ZEROS)),
    case("a manifest that is listed twice", SUMS_LINE, sums=lambda lines: lines.append(lines[0])),
    case("an index that is not listed", NOT_LISTED, sums=change_line("shards/s.json", None)),
    case("refusals that are not listed", NOT_LISTED, sums=change_line("refused.jsonl", None)),
    case("refusals that are not counted", REFUSED, files=refuse),
    case("the index's size", SIZE, index=lambda index: index.update(bytes=index["bytes"] + 512)),
    case("the index's digest", SHA, index=lambda index: index.update(sha256=ZEROS)),
    case("the seal's digest", SHA, sealed=lambda sealed: sealed["splits"]["train"][0].update(sha256=ZEROS)),
    case("the index's split", INDEX_OTHER, index=lambda index: index.update(split="dev")),
    case("the seal's samples", INDEX_COUNT, TOTALS, sealed=fewer),
    case("a key twice", KEY_TWICE, index=lambda index: index["samples"][1].update(index["samples"][0])),
    case("a member elsewhere", ELSEWHERE, index=in_sample(lambda one: one["members"]["mix-0"].update(offset=512))),
    case("a member of another size", ELSEWHERE, index=in_sample(lambda one: one["members"]["mix-0"].update(size=9))),
    case("a wave that cannot be decoded", UNDECODABLE, level="pcm", tar=unreadable("a.mix.flac")),
    case("a wave in stereo", WAVE, level="pcm", tar=foreign_wave(lambda pcm: np.stack([pcm, pcm], 1))),
    case("a short wave", WAVE, level="pcm", tar=foreign_wave(lambda pcm: pcm[1:])),
    case("a long wave", WAVE, level="pcm", tar=foreign_wave(lambda pcm: np.append(pcm, pcm))),
    case("a wave at another rate", WAVE, level="pcm", tar=foreign_wave(lambda pcm: pcm, rate_hz=8000)),
    case("another wave", PCM, level="pcm", tar=foreign_wave(lambda pcm: pcm // 2)),
    case("samples of the totals", TOTALS, sealed=more("samples")),
    case("shards of the totals", TOTALS, sealed=more("shards")),
    case("bytes of the totals", TOTALS, sealed=more("bytes")),
]  # fmt: skip


@pytest.mark.parametrize("one", LINKED, ids=lambda one: one.name)
def test_what_is_off_in_an_index_of_shards_is_found_and_nothing_else(linked: Path, tmp_path: Path, one: Case) -> None:
    shutil.copytree(linked, tmp_path / "corpus")
    forge_linked(tmp_path / "corpus", **one.changes)
    report = verify(tmp_path / "corpus", level=one.level, progress=False)  # type: ignore[arg-type]
    assert kinds(report, all_texts()) == one.due, report.findings


# --- all of them ------------------------------------------------------------------------------------------------------


def test_everything_that_verify_can_find_has_a_case() -> None:
    of_copies = set().union(*(due for _, _, due in MEASURED))
    assert all_texts() == set().union(of_copies, *(one.due for one in CASES))


def test_what_was_refused_at_planning_is_no_loss_of_the_shards(corpus: Path) -> None:
    one = {"split": "train", "id": "x", "reason": "y"}
    forge(
        corpus, plan=lambda plan: plan.update(refused=[one]), sealed=lambda sealed: sealed.update(refused={"train": 1}),
        files=lambda folder: (folder / "refused.jsonl").write_text(json.dumps(one) + "\n"),
    )  # fmt: skip
    assert verify(corpus, level="bytes", progress=False).findings == []


def test_a_copy_of_no_step_is_the_clean_wave_on_purpose(corpus: Path) -> None:
    """As `choose` may draw it."""
    key = json.loads((corpus / "plan" / f"{SHARD}.jsonl").read_bytes().splitlines()[0])["key"]

    def unstep(rows: list[Any]) -> None:
        next(row for row in rows if row["key"] == key)["copies"][0]["steps"] = []

    def unchanged(members: dict[str, bytes]) -> None:
        document = json.loads(members[f"{key}.json"])
        document["copies"][0] |= {"steps": [], "domain": "clean", "family": "clean", "gain_db": 0.0}
        members[f"{key}.json"] = json.dumps(document).encode()
        members[f"{key}.noise-0.flac"] = members[f"{key}.clean.flac"]

    forge(corpus, rows=unstep, waves=unchanged)
    assert verify(corpus, progress=False).findings == []


def lines_of(corpus: Path, level: Any = "bytes") -> list[str]:
    return [f"{one.where}: {one.what}" for one in verify(corpus, level=level, progress=False).findings]


def test_a_finding_says_what_is_there_and_who_says_otherwise(corpus: Path) -> None:
    """Tar, index and seal each say something else of one shard; each number stands where it belongs."""
    tar = corpus / "shards" / f"{SHARD}.tar"
    size, sha = tar.stat().st_size, sha256(tar.read_bytes())
    before = json.loads(tar.with_suffix(".json").read_bytes())
    member = before["samples"][0]["members"]["noise-0"]
    name, place = f"{before['samples'][0]['key']}.noise-0.flac", (member["offset"], member["size"])
    count, seconds = len(before["samples"]), sum(one["num_samples"] for one in before["samples"]) / RATE_HZ

    def other_index(index: dict[str, Any]) -> None:
        index |= {"bytes": size + 1, "sha256": ONES}
        index["samples"][0]["members"]["noise-0"] |= {"offset": place[0] + 512, "size": place[1] - 3}

    def other_seal(sealed: dict[str, Any]) -> None:
        in_entry(bytes=size + 2, sha256=ZEROS, samples=count + 3, seconds=seconds - 1)(sealed)
        sealed["totals"] |= {"samples": 50, "bytes": 60, "shards": 70}
        sealed["refused"] = {"train": 2, "test": 3}

    forge(corpus, index=other_index, sealed=other_seal, files=refuse, sums=lambda lines: lines.insert(2, "nonsense"))
    found = lines_of(corpus)
    sealed = json.loads((corpus / "corpus.json").read_bytes())
    entries = [entry for entries in sealed["splits"].values() for entry in entries]
    rows = sum(file["rows"] for file in json.loads((corpus / "plan" / "plan.json").read_bytes())["files"])
    at = f"shards/{SHARD}.tar: "
    assert set(found) >= {
        f"{at}has {size} bytes; its index says {size + 1}, corpus.json {size + 2}",
        f"{at}SHA-256 is {sha[:16]}…; its index says {ONES[:16]}…, corpus.json {ZEROS[:16]}…",
        f"{at}its index has {count} samples, corpus.json {count + 3}",
        f"{at}its samples last {seconds} s, corpus.json says {seconds - 1} s",
        f"{at}member {name} has offset and size {place}, the index says {(place[0] + 512, place[1] - 3)}",
        f"SHA256SUMS:3: {SUMS_LINE}",
        f"corpus.json: samples: 50 in the totals, {sum(one['samples'] for one in entries)} by counting",
        f"corpus.json: bytes: 60 in the totals, {sum(one['bytes'] for one in entries)} by counting",
        f"corpus.json: shards: 70 in the totals, {len(entries)} by counting",
        "corpus.json: samples found: 50 in the totals, 12 by counting",
        "refused.jsonl: has 1 lines, corpus.json counts 5",
        f"corpus.json: {rows} utterances were planned, 50 are in shards and 1 were refused",
    }


def test_a_finding_names_the_sample_and_the_wave(corpus: Path) -> None:
    tar = corpus / "shards" / f"{SHARD}.tar"
    first_one = json.loads(tar.with_suffix(".json").read_bytes())["samples"][0]
    key, length = first_one["key"], first_one["num_samples"]

    def other_waves(members: dict[str, bytes]) -> None:
        for name, change, options in (
            ("noise-0", lambda pcm: np.stack([pcm[:-5], pcm[5:]], 1), {"rate_hz": 8000}),
            ("noise-1", np.zeros_like, {}),
        ):
            members[f"{key}.{name}.flac"] = coded(change(pcm_of(members, f"{key}.{name}.flac")), **options)
        document = json.loads(members[f"{key}.json"])
        members[f"{key}.json"] = json.dumps(document | {"speaker": "x", "custom": {"x": 1}}).encode()

    forge(corpus, waves=other_waves)
    at = f"shards/{SHARD}.tar {key}: "
    assert sorted(lines_of(corpus, "pcm")) == sorted(
        [
            f"{at}noise-0: {length - 5} samples in 2 channel(s) at 8000 Hz; expected {length} mono at 16000 Hz",
            f"{at}noise-1: is silent",
            f"{at}speaker differs between JSON and plan",
            f"{at}custom differs between JSON and plan",
        ]
    )


def test_json_that_is_none_is_a_finding_and_the_waves_are_looked_at_all_the_same(corpus: Path) -> None:
    def torn(members: dict[str, bytes]) -> None:
        members[first(members, ".json")] = b'{"torn'
        same_as_clean(members)

    forge(corpus, waves=torn)
    report = verify(corpus, level="pcm", progress=False)
    assert len([one for one in report.findings if "not valid JSON" in one.what]) == 1
    assert len([one for one in report.findings if "noise-0: is the clean wave" in one.what]) == 1
    assert report.waves == 8 * 5 + 4 * 3


def test_the_plan_of_one_shard_is_held_to_the_index_of_that_shard(corpus: Path) -> None:
    assert {check.entry.name: check.plan_sha256 for check in checks_of(corpus)} == {
        path.stem: sha256(path.read_bytes()) for path in (corpus / "plan").glob("t*-0*.jsonl")
    }


def checks_of(corpus: Path) -> list[Any]:
    sealed = shard_index.read_corpus(place_of(corpus))
    return list(shard_checks(place_of(corpus), sealed, layout.read_plan(place_of(corpus)), "pcm"))


def test_the_first_shard_of_each_split_is_read_with_plain_tools(corpus: Path) -> None:
    checks = checks_of(corpus)
    assert len(checks) > 2
    assert [check.with_plain_readers for check in checks] == [check.entry.name.endswith("-000000") for check in checks]
    assert {(check.is_linked, check.is_external, check.sample_rate) for check in checks} == {(False, False, RATE_HZ)}


def test_hidden_files_belong_to_nobody_wherever_they_are(corpus: Path) -> None:
    for name in (".cache/x", "shards/.part", "rooms/.trash/y"):
        (corpus / name).parent.mkdir(exist_ok=True)
        (corpus / name).write_bytes(b"")
    assert lines_of(corpus) == []


def test_the_physics_of_an_index_cannot_be_looked_at(linked: Path) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(str(linked))} is a subset or an index, without plan and rooms"):
        verify(linked, level="physics", progress=False)


def test_the_copy_that_is_the_clean_wave_on_purpose_is_the_one_to_which_nothing_was_done_or_all_of_it_undone() -> None:
    copies = [SimpleNamespace(name=name, steps=steps, gain_db=gain_db) for name, steps, gain_db in (
        ("bare", (), 0.0), ("changed", ("clip",), 0.0), ("undone", ("gain",), -3.0),
    )]  # fmt: skip
    document: Any = SimpleNamespace(copies=copies)
    names = ("bare", "changed", "undone", "gone")
    assert [shard_check.is_clean_on_purpose(document, name) for name in names] == [True, False, True, False]
    assert not shard_check.is_clean_on_purpose(None, "bare")
