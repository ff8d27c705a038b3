"""Choices of a subset, seals, locks, cards and names: each rule at its edge."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import posixpath
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from corpus_builder.shards.croissant import ListedFile, croissant
from manifests.corpus import provenance
from manifests.corpus.external_sample import external_sample, label
from manifests.corpus.filter import BadWhereError, parse_where
from manifests.corpus.fingerprints import DecodedSource, SamplePrints
from manifests.corpus.layout import sums_text
from manifests.corpus.sample import Sample, domain_of, family_of
from manifests.corpus.shard_index import Corpus, IndexedSample, Member, ShardIndex, copies_of
from manifests.errors import BadDocumentError, MissingFileError, UsageError
from manifests.io.lock import writing
from manifests.plan.steps import PlannedStep
from manifests.recipe.recipe import Recipe

ZEROS = "0" * 64
WHITE = {"form": "coloured", "source": "white", "colour": "white", "seed": 1}


def noise(*snrs_db: float) -> list[dict[str, Any]]:
    return [{"kind": "noise", "snr_db": snr_db, **WHITE} for snr_db in snrs_db]


COPIES: dict[str, list[dict[str, Any]]] = {
    "noise-0": noise(5.0), "noise-1": noise(20.0), "two-0": noise(5.0, 20.0), "phone-0": [{"kind": "codec", "codec": "g711-mulaw"}],
}  # fmt: skip


def sample_of(names: list[str]) -> IndexedSample:
    members = {name: {"offset": 0, "size": 1} for name in ("json", "clean", *names)}
    return IndexedSample.model_validate({"key": "u", "num_samples": 24_000, "members": members})


def record() -> Sample:
    copies = [
        {
            "name": name, "condition": name[:-2], "domain": "white" if name != "phone-0" else "g711-mulaw",
            "family": "noise" if name != "phone-0" else "codec", "gain_db": 0.0, "steps": steps,
        }
        for name, steps in COPIES.items()
    ]  # fmt: skip
    return Sample.parse(
        {
            "schema": "stillroom/sample/1", "id": "u/1", "split": "train", "num_samples": 24_000, "sample_rate": 16_000,
            "speaker": "ann", "source": {"root": "train", "path": "a.wav", "rate_hz": 16_000}, "copies": copies,
        },
        where="test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("expressions", "due"),
    [
        ([], list(COPIES)),
        (["seconds<1.5"], None),
        (["seconds<=1.5"], list(COPIES)),
        (["seconds>1.5"], None),
        (["seconds>=1.5"], list(COPIES)),
        (["seconds=1.5"], list(COPIES)),
        (["seconds!=1.5"], None),
        (["seconds=1,1.5"], list(COPIES)),
        (["seconds!=1,1.5"], None),
        (["seconds!=1,2"], list(COPIES)),
        (["seconds>1", "seconds<1.2"], None),
        (["seconds>1", "seconds<1.6"], list(COPIES)),
        (["seconds>-1"], list(COPIES)),
        (["snr_db>=+20", "snr_db>-60"], ["noise-1"]),
        (["speaker=bob , ann"], list(COPIES)),
        (["speaker=bob,ann"], list(COPIES)),
        (["speaker=bob"], None),
        (["speaker!=ann,bob"], None),
        (["speaker!=bob"], list(COPIES)),
        (["language=en"], None),
        (["language!=en"], list(COPIES)),
        (["id=u/1"], list(COPIES)),
        (["snr_db>=20"], ["noise-1"]),
        (["snr_db>20"], None),
        (["snr_db<=5"], ["noise-0"]),
        (["snr_db<5"], None),
        (["snr_db=5,20"], ["noise-0", "noise-1", "two-0"]),
        (["snr_db!=5"], ["noise-1"]),
        (["condition=noise,phone"], ["noise-0", "noise-1", "phone-0"]),
        (["condition!=noise"], ["two-0", "phone-0"]),
        (["copy=noise-1"], ["noise-1"]),
        (["copy!=noise-1"], ["noise-0", "two-0", "phone-0"]),
        (["domain=g711-mulaw"], ["phone-0"]),
        (["family=noise", "copy!=two-0"], ["noise-0", "noise-1"]),
        (["condition=clean"], []),
        (["condition!=noise,two,phone"], None),
        (["condition=clean", "snr_db>3"], None),
        (["condition!=clean,noise,two,phone"], None),
    ],
    ids=lambda value: " ".join(value or ["nothing"]) if isinstance(value, list) else "out",
)  # fmt: skip
def test_a_choice_keeps_the_copies_for_which_all_of_it_holds(expressions: list[str], due: list[str] | None) -> None:
    where = parse_where(expressions)
    found = where.chosen(sample_of(list(COPIES)), record(), sample_rate=16_000)
    assert found == (None if due is None else sorted(due))
    assert where.needs_records == any(not text.startswith(("seconds", "condition", "copy")) for text in expressions)


def test_splits_are_chosen_before_utterances() -> None:
    assert parse_where(["split=train,dev"]).split("dev")
    assert not parse_where(["split=train,dev"]).split("test")
    assert not parse_where(["split!=test", "split!=dev"]).split("dev")


def test_seconds_are_counted_at_the_rate_of_the_corpus() -> None:
    for rate_hz, seconds in ((8000, "3"), (16_000, "1.5"), (48_000, "0.5")):
        assert parse_where([f"seconds={seconds}"]).chosen(sample_of([]), record(), sample_rate=rate_hz) == []


def test_of_a_copy_that_the_record_does_not_know_only_its_name_and_condition_hold() -> None:
    def chosen(text: str) -> list[str] | None:
        return parse_where([text]).chosen(sample_of(["noise-0", "far_off-3"]), record(), sample_rate=16_000)

    assert chosen("domain=white") == chosen("snr_db<9") == ["noise-0"]
    assert chosen("domain!=white") is None
    assert (chosen("copy!=noise-0"), chosen("condition=far_off")) == (["far_off-3"], ["far_off-3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seconds", "'seconds': expected FIELD, one of = != < <= > >=, and VALUE, such as 'seconds<10'"),
        ("secnds<3", "'secnds<3': there is no field 'secnds'; known are split, speaker, language, id, seconds, condition, copy, domain, family, snr_db"),
        ("speaker=a,,b", "'speaker=a,,b': expected a value after the sign; several are separated by commas"),
        ("split=a,", "'split=a,': expected a value after the sign; several are separated by commas"),
        ("speaker<3", "'speaker<3': speaker is a text: expected = or !="),
        ("copy>=3", "'copy>=3': copy is a text: expected = or !="),
        ("seconds<=1,2", "'seconds<=1,2': expected one number after <="),
        ("snr_db!=1,x", "'snr_db!=1,x': expected a number such as 5 or 2.5, got 'x'"),
        ("snr_db=1e3", "'snr_db=1e3': expected a number such as 5 or 2.5, got '1e3'"),
        ("id=@", "'id=@': expected the name of a file with one value a line after the @"),
        ("id<" + "9" * 100, "'id<" + "9" * 76 + "…': id is a text: expected = or !="),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_expression_is_named_with_it(text: str, message: str) -> None:
    with pytest.raises(BadWhereError) as caught:
        parse_where(["seconds>1", text])
    assert str(caught.value) == f"--where {message}"


def test_a_hundred_expressions_are_read_and_no_more() -> None:
    assert len(parse_where(["seconds>1"] * 100).terms) == 100
    with pytest.raises(UsageError, match="--where is given 101 times; at most 100 are read"):
        parse_where(["seconds>1"] * 101)


def test_a_file_of_values_may_be_long_and_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "who").write_text("".join(f"speaker-{number}\n" for number in range(20_000)))
    (term,) = parse_where([f"speaker!=@{tmp_path}/who"]).terms
    assert len(term.texts) == 20_000
    for name, found in (("gone", "does not exist"), ("", "does not exist")):
        with pytest.raises(MissingFileError, match=f"{found}: a file with one value a line, after the @ of --where"):
            parse_where([f"speaker=@{tmp_path}/{name}"])


def test_values_of_a_file_are_written_down_in_full(tmp_path: Path) -> None:
    (tmp_path / "who").write_text("ann\n\n bob \n")
    where = parse_where([f"speaker=@{tmp_path}/who"])
    assert where.expressions == ("speaker=ann,bob",)
    assert where.chosen(sample_of([]), record(), sample_rate=16_000) == []


def test_copies_that_an_index_promises_are_the_fewest_that_an_utterance_has() -> None:
    def index(*samples: list[str]) -> ShardIndex:
        return ShardIndex.model_validate(
            {
                "schema": "stillroom/shard/1", "name": "s", "split": "train", "sample_rate": 16_000, "bytes": 9, "sha256": ZEROS,
                "plan_sha256": ZEROS, "samples": tuple(sample_of(names) for names in samples),
            }
        )  # fmt: skip

    first = index(["a-0", "a-1", "b-0"], ["a-0", "a-1", "a-2", "b-7"])
    assert copies_of([first]) == {"a": 2, "b": 1}
    assert copies_of([first, index(["a-5"])]) == {"a": 1}
    assert copies_of([first, index([])]) == {}
    assert copies_of([]) == {}


def test_a_lock_that_another_process_took_over_is_left_to_it(tmp_path: Path) -> None:
    other = json.dumps({"host": "elsewhere", "pid": 1, "start": "1", "time": "now"})
    with writing(tmp_path):
        (tmp_path / ".lock").write_text(other)
    assert (tmp_path / ".lock").read_text() == other


@pytest.mark.parametrize(
    ("step", "domain", "family"),
    [
        ({"kind": "codec", "codec": "amr-nb", "bitrate_kbps": 12.2}, "amr-nb", "codec"),
        (
            {
                "kind": "codec", "codec": "amr-nb", "bitrate_kbps": 12.2,
                "loss": {"percent": 10.0, "conceal": "codec", "seed": 1, "lost_packets": 1},
            },
            "amr-nb-loss", "codec",
        ),
        (
            {
                "kind": "freeverb", "reverberance": 50, "hf_damping": 50, "room_scale": 50, "pre_delay_ms": 0, "wet_gain_db": 0,
            },
            "freeverb", "room",
        ),
        ({"kind": "tilt", "db_per_octave": 3.0}, "tilt", "channel"),
    ],
    ids=["codec", "loss", "freeverb", "tilt"],
)  # fmt: skip
def test_what_was_lost_has_a_domain_of_its_own_and_freeverb_is_a_room(step: Any, domain: str, family: str) -> None:
    steps = (TypeAdapter(PlannedStep).validate_json(json.dumps(step)),)
    assert (domain_of(steps), family_of(steps)) == (domain, family)


def test_croissant_names_each_tar_by_its_digest_and_says_licences_and_citations_once() -> None:
    source = {"dir": "@x", "licence": "CC BY", "citation": "Ann 1999"}
    recipe = Recipe.parse(
        {
            "schema": "stillroom/recipe/1", "name": "p",
            "speech": {"train": source, "dev": {"dir": "@y", "licence": "CC0"}, "none": {"dir": "@z"}},
        },
        where="test",
    )  # fmt: skip
    entries = {
        "train": [
            {"name": f"train-00000{at}", "samples": at, "seconds": 1800.0, "bytes": 100 + at, "sha256": str(at) * 64}
            for at in (1, 2)
        ],
        "dev": [{"name": "dev-000000", "samples": 0, "seconds": 0.0, "bytes": 9, "sha256": "9" * 64}],
    }
    corpus = Corpus.parse(
        {
            "schema": "stillroom/corpus/1", "name": "p", "recipe_sha256": "a" * 64, "plan_sha256": "b" * 64, "sample_rate": 16_000,
            "splits": entries, "copies": {}, "totals": {"samples": 3, "seconds": 3600.0, "bytes": 212, "shards": 3},
        },
        where="test",
    )  # fmt: skip
    found = croissant(corpus, recipe, {"train": ListedFile(7, "f" * 64)})
    assert (found["license"], found["citeAs"]) == (["CC BY", "CC0"], "Ann 1999")
    assert found["description"].startswith("3 utterances, 1.00 h,")
    tars = [item for item in found["distribution"] if item["@type"] == "cr:FileObject"]
    assert [(posixpath.normpath(one["contentUrl"]), one["sha256"], one["contentSize"]) for one in tars] == [
        ("shards/train-000001.tar", "1" * 64, "101 B"), ("shards/train-000002.tar", "2" * 64, "102 B"),
        ("utterances/train.jsonl", "f" * 64, "7 B"),
    ]  # fmt: skip
    sets = [item for item in found["distribution"] if item["@type"] == "cr:FileSet"]
    assert [one["containedIn"] for one in sets] == [[{"@id": "train-000001.tar"}, {"@id": "train-000002.tar"}]] * 2
    assert [one["@id"] for one in found["recordSet"]] == ["train", "train-about"]


@pytest.mark.parametrize(
    ("blocks", "fits"),
    [((1,), True), ((1, 2), True), ((2,), False), ((3,), False), ((1, 1), False), ((2, 1), False), ((1, 3), False)],
)
def test_a_fingerprint_has_a_fine_block_and_a_coded_one_at_most(blocks: tuple[int, ...], fits: Any) -> None:
    import base64

    text = base64.b64encode(b"".join(bytes([mark, 3]) + bytes(30) for mark in blocks)).decode()
    if fits:
        assert SamplePrints(key="k", prints={"clean": text}).prints == {"clean": text}
    else:
        with pytest.raises(ValidationError, match="not a fingerprint, or one of a later Stillroom"):
            SamplePrints(key="k", prints={"clean": text})


@pytest.mark.parametrize(("exponent", "fits"), [(64, True), (65, False)])
def test_a_fingerprint_is_scaled_by_an_exponent_of_64_at_most(exponent: int, fits: Any) -> None:
    import base64

    text = base64.b64encode(bytes([1, 3]) + bytes(30) + bytes([2, exponent]) + bytes(30)).decode()
    if fits:
        SamplePrints(key="k", prints={"far-0": text})
    else:
        with pytest.raises(ValidationError, match="far-0: not a fingerprint"):
            SamplePrints(key="k", prints={"clean": text[:43] + "=", "far-0": text})


def test_a_label_is_a_number_where_it_is_one() -> None:
    assert [label(text) for text in ("4", "007", "4.0", "-1", "x", "", "٣", "1" * 15, "1" * 16)] == [
        4, 7, "4.0", "-1", "x", "", "٣", int("1" * 15), "1" * 16,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("contents", "text", "custom"),
    [
        ({}, None, {}),
        ({"json": {"sentence": "from json", "speaker_id": 7, "locale": "en", "age": 30}}, "from json", {"age": 30}),
        ({"json": {"sentence": "from json", "spk": "7", "lang": "en"}, "txt": " from txt\n"}, "from txt", {}),
        ({"json": {"speaker": "7", "language": "en"}, "txt": "x", "cls": "12"}, "x", {"cls": 12}),
        ({"json": {"text": "a", "transcript": "b", "speaker": "7", "lang": "en"}}, "a", {"transcript": "b"}),
        ({"json": [1, 2]}, None, {"json": [1, 2]}),
        ({"json": {"text": True, "spk": 7, "lang": "en"}}, None, {"text": True}),
        (
            {"json": {"speaker": "7", "speaker_id": 9, "lang": "en", "locale": "x"}},
            None,
            {"speaker_id": 9, "locale": "x"},
        ),
        ({"json": {"client_id": 7, "locale": "en", "normalized_text": 8}, "cls": " 4\n"}, "8", {"cls": 4}),
        (
            {"json": {"spk": 7, "lang": "en", "num_samples": 5, "sample_rate": 9}},
            None,
            {"num_samples": 5, "sample_rate": 9},
        ),
        ({"json": {"spk": 7, "lang": "en", "schema": "stillroom/other/1"}}, None, {"schema": "stillroom/other/1"}),
    ],
    ids=[
        "nothing",
        "json",
        "txt over json",
        "cls",
        "the first of several keys",
        "no mapping",
        "true is no text",
        "speaker before id",
        "last keys",
        "numbers of its own",
        "another schema",
    ],
)
def test_the_record_of_another_ones_sample_is_made_of_its_members(
    contents: dict[str, Any], text: str | None, custom: dict[str, Any]
) -> None:
    members = {name: (json.dumps(part) if name == "json" else part).encode() for name, part in contents.items()}
    entry = sample_of(["far-0"])
    entry.members["clean"] = Member(offset=0, size=1, suffix="Speech.WAV")
    record = external_sample(entry, members, split="train", sample_rate=8000, where="test")
    assert (record.id, record.split, record.num_samples, record.sample_rate) == ("u", "train", 24_000, 8000)
    assert (record.source.root, record.source.path, record.source.rate_hz) == ("shards", "u.Speech.WAV", 8000)
    has_labels = isinstance(contents.get("json"), dict)
    assert (record.text, record.custom) == (text, custom)
    assert (record.speaker, record.language) == (("7", "en") if has_labels else (None, None))
    assert [
        (copy.name, copy.condition, copy.domain, copy.family, copy.gain_db, copy.steps) for copy in record.copies
    ] == [("far-0", "far", "far", "far", 0.0, ())]


def test_stretches_of_different_channels_are_different_sources() -> None:
    plain = {"root": "r", "path": "a.wav", "num_frames": 9, "rate_hz": 8000, "sha256": ZEROS, "pcm_sha256": ZEROS}
    channels: list[Any] = [None, "mix", 0, 1]
    stretches = [DecodedSource.parse(plain | {"channel": channel}, where="x").stretch for channel in channels]
    assert len(set(stretches)) == len(sorted(stretches)) == 4
    one = DecodedSource.parse(plain | {"start": 5, "channel": 3}, where="x")
    assert one.stretch == ("r", "a.wav", 5, 9, 3)
    for path in ("../a.wav", "/a.wav", "a\0b"):
        with pytest.raises(BadDocumentError):
            DecodedSource.parse(plain | {"path": path}, where="x")


def test_digests_are_listed_by_name_so_that_the_same_files_give_the_same_list() -> None:
    assert sums_text({"b": "1" * 64, "a/c": "2" * 64, "a": "3" * 64}) == (
        f"{'3' * 64}  a\n{'2' * 64}  a/c\n{'1' * 64}  b\n"
    )


@pytest.mark.parametrize(
    ("argument", "due"),
    [
        ("/srv/ann", "..."), ("--root=x=/data/ann", "--root=x=..."), ("/home/ann/corpus", "corpus"), ("~ann", "..."),
        ("/data/ann.wav", "ann.wav"), ("C:\\Users\\ann", "..."), ("--limit=3", "--limit=3"), ("a/..", "..."),
    ],
)  # fmt: skip
def test_a_command_is_recorded_without_folders_and_the_name_of_the_user(
    monkeypatch: pytest.MonkeyPatch, argument: str, due: str
) -> None:
    monkeypatch.setattr(provenance, "home_folder", lambda: Path("/home/ann"))
    assert provenance.public_argument(argument) == due


def test_a_provenance_has_what_was_run_by_what_and_when_and_not_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.argv", ["/home/ann/bin/stillroom", "build", "/srv/data/recipe.yaml", "--root=train=/srv/data/x"]
    )
    monkeypatch.setenv("TZ", "XXX-9")  # nine hours ahead of UTC
    time.tzset()
    before = datetime.now(UTC).replace(microsecond=0)
    found = provenance.provenance(part="1/2")
    monkeypatch.delenv("TZ")
    time.tzset()
    assert found["command"] == ["stillroom", "build", "recipe.yaml", "--root=train=x"]
    assert before <= datetime.strptime(found["time"], "%Y-%m-%dT%H:%M:%S%z") <= datetime.now(UTC)
    assert (found["schema"], found["part"]) == ("stillroom/provenance/1", "1/2")
    assert found["machine"] == {"system": platform.system(), "processor": platform.machine()}
    assert platform.node() not in found["machine"].values()
    versions = found["software"]
    assert versions["python"] == platform.python_version()
    for name in (
        "torch",
        "numpy",
        "scipy",
        "soundfile",
        "soxr",
        "av",
        "lhotse",
        "scikit-learn",
        "pydantic",
        "pyroomacoustics",
        "webdataset",
    ):
        assert versions[name] == importlib.metadata.version(name)
