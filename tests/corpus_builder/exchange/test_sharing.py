"""What a shard, a verdict, a rebuilt part, an index and an export say, each held against numbers worked out here."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from scipy import signal

from corpus_builder.audit.audit_corpora import FileToCompare, distinct, fingerprint_of, roots_by_letter
from corpus_builder.build.build_corpus import Slice
from corpus_builder.exchange.index_webdataset import index_shards
from corpus_builder.exchange.lhotse_export import cut_sets
from corpus_builder.exchange.unpack import unpack
from corpus_builder.rebuild.plan_subset import Selection, write_selection
from corpus_builder.rebuild.wave_verdict import Indexed, compared
from corpus_builder.shards.fingerprint import (
    Deviation,
    Sketch,
    deviation,
    fingerprint,
    is_near_coded,
    is_near_fine,
    signs,
)
from corpus_builder.verify.copy_measurements import Measured
from corpus_builder.verify.verify_corpus import verify
from corpus_builder.workers.resume_cache import PartialResults
from manifests.corpus.reader import OpenCorpus
from manifests.corpus.shard_index import IndexedSample
from manifests.pack.read import open_pack
from manifests.pack.write import write_pack
from manifests.plan.plan import Plan
from tests.corpus_builder.conftest import Inline, Lab, furnish, write_wave
from tests.oracles.forgery import pcm_sha256, read_members, sha256, write_members
from tests.oracles.speechlike import speechlike
from tests.oracles.tiny_corpus import tiny_split, write_corpus

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

RATE_HZ = 16_000


# --- a shard's JSON ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, dict[str, dict[str, Any]], dict[str, bytes]]:
    """A corpus at 8 kHz of speech beyond full scale, loud speech and silence; its JSON by id, and its members."""
    lab = Lab(tmp_path_factory.mktemp("loud"))
    wave = speechlike(1.0, seed=2)
    wave /= np.abs(wave).max()
    write_wave(lab.folder / "speech/train/ann/over.wav", 1.6 * wave, subtype="FLOAT")
    write_wave(lab.folder / "speech/train/bob/full.wav", 0.98 * wave[::-1], subtype="PCM_16")
    write_wave(lab.folder / "speech/train/cat/mute.wav", np.zeros(RATE_HZ, np.int16))
    lab.recipe |= {
        "sample_rate": 8000, "speech": {"train": {"dir": "speech/train", "fields": "{speaker}/{id}.wav"}},
        "noises": {"white": {"colour": "white"}, "babble": {"talkers": 2}},
        "conditions": {
            "noise": {"steps": [{"kind": "noise", "from": ["white"], "snr_db": -10}]},
            "crowd": {"steps": [{"kind": "noise", "from": ["babble"], "snr_db": 20}]},
        },
        "copies": {"train": {"noise": 1, "crowd": 1}},
    }  # fmt: skip
    del lab.recipe["rooms"]
    assert lab.build().corpus is not None
    members = {}
    for path in (lab.folder / "corpus/shards").glob("*.tar"):
        members |= read_members(path)
    documents = [json.loads(content) for name, content in members.items() if name.endswith(".json")]
    return lab, {one["id"]: one | {"key": sample_key_of(members, one["id"])} for one in documents}, members


def sample_key_of(members: dict[str, bytes], name: str) -> str:
    return next(one.split(".")[0] for one in members if one.startswith(f"{name}-") and one.endswith(".json"))


def wave_of(members: dict[str, bytes], key: str, name: str) -> Any:
    return soundfile.read(io.BytesIO(members[f"{key}.{name}.flac"]))[0]


def test_the_json_says_by_how_much_a_copy_was_turned_down(loud: Any) -> None:
    """What is left without that gain and without the speech has the power of the planned noise."""
    _, documents, members = loud
    for name in ("over", "full"):
        document = documents[name]
        (copy,) = [one for one in document["copies"] if one["name"] == "noise-0"]
        clean, noisy = (wave_of(members, document["key"], one) for one in ("clean", "noise-0"))
        assert copy["gain_db"] < -1
        assert np.abs(noisy).max() == pytest.approx(1.0, abs=0.15)
        added = noisy / 10 ** (copy["gain_db"] / 20) - clean
        assert 10 * np.log10(np.mean(clean**2) / np.mean(added**2)) == pytest.approx(-10.0, abs=0.02)


def test_the_json_says_by_how_much_the_clean_wave_was_turned_down(loud: Any) -> None:
    lab, documents, members = loud
    source, _ = soundfile.read(lab.folder / "speech/train/ann/over.wav")
    due = signal.resample_poly(source, 1, 2)
    clean = wave_of(members, documents["over"]["key"], "clean")
    assert documents["over"]["clean_gain_db"] < -2
    scale = np.dot(clean, due[: clean.size]) / np.dot(due, due)
    assert 20 * math.log10(scale) == pytest.approx(documents["over"]["clean_gain_db"], abs=0.1)
    assert documents["full"].get("clean_gain_db", 0.0) == 0.0


def test_the_json_names_talkers_that_nobody_can_hear(loud: Any) -> None:
    _, documents, _ = loud
    for name in ("over", "full"):
        (copy,) = [one for one in documents[name]["copies"] if one["name"] == "crowd-0"]
        planned = {talker["id"] for talker in copy["steps"][0]["talkers"]}
        assert "mute" in planned
        assert copy["unheard"] == ["mute"]
        (other,) = [one for one in documents[name]["copies"] if one["name"] == "noise-0"]
        assert "unheard" not in other


def test_seconds_and_refusals_are_those_of_the_split(loud: Any) -> None:
    lab, _, _ = loud
    sealed = json.loads((lab.folder / "corpus/corpus.json").read_bytes())
    assert (sealed["totals"]["seconds"], sealed["totals"]["samples"], sealed["refused"]) == (2.0, 2, {"train": 1})
    assert [entry["seconds"] for entry in sealed["splits"]["train"]] == [2.0]
    (refused,) = map(json.loads, (lab.folder / "corpus/refused.jsonl").read_text().splitlines())
    assert (refused["split"], refused["id"]) == ("train", "mute")
    assert verify(lab.folder / "corpus", progress=False).findings == []


def test_refusals_are_counted_by_split(lab: Lab) -> None:
    lab.without_rooms()
    del lab.recipe["noises"]["babble"]  # whose talkers could be among them
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["hum", "white"]
    for split, name in (("train", "x"), ("train", "y"), ("test", "z")):
        write_wave(lab.folder / f"speech/{split}/mute/{name}.wav", np.zeros(8000, np.int16))
    lab.build()
    sealed = json.loads((lab.folder / "corpus/corpus.json").read_bytes())
    assert sealed["refused"] == {"train": 2, "test": 1}
    lines = [json.loads(line) for line in (lab.folder / "corpus/refused.jsonl").read_text().splitlines()]
    assert [(one["split"], one["id"]) for one in lines] == [("test", "z"), ("train", "x"), ("train", "y")]


# --- who renders which shard ------------------------------------------------------------------------------------------


class Notes(Inline):
    """Notes which shards are rendered, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
        self.names.append(args[0].name)
        return super().submit(function, *args, **named)


def test_long_shards_are_begun_first_and_slices_share_all_of_them(tmp_path: Path) -> None:
    lab = furnish(tmp_path)
    lab.without_rooms()
    lab.recipe["shards"] = {"samples": 2}
    plan, _ = lab.plan()
    lab.build("sliced", source=lab.folder / "plan", only_rooms=True)
    seconds = {file.name: file.seconds for file in plan.files}
    mine = []
    for number in (1, 2, 3):
        notes = Notes()
        lab.build("sliced", source=lab.folder / "plan", part=Slice(number, 3), executor=notes)
        mine.append(notes.names)
        assert sorted(notes.names) == sorted(file.name for file in plan.files[number - 1 :: 3])
    assert sorted(name for names in mine for name in names) == sorted(seconds)
    notes = Notes()
    lab.build("corpus", source=lab.folder / "plan", executor=notes)
    assert [seconds[name] for name in notes.names] == sorted(seconds.values(), reverse=True)
    assert len(set(seconds.values())) > 3


def test_results_of_an_interrupted_run_are_read_again_but_for_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "partial"
    first = PartialResults(path)
    first.add("a", {"x": [1, 2]})
    first.add("b", None)
    path.write_bytes(path.read_bytes() + b'{"key": "c", "resu')
    assert PartialResults(path).known == {"a": {"x": [1, 2]}, "b": None}
    first.remove()
    assert PartialResults(path).known == {}


# --- measured and compared --------------------------------------------------------------------------------------------


def test_what_was_measured_on_two_shards_adds_up() -> None:
    first = Measured(
        copies=2, lags=1, largest_lag_samples=-7, snrs=1, by_plan=1, largest_snr_error_db=-0.5, level_db=-50.0,
        lowest_db=-30.0, highest_db=-20.0, drawn={"a": 1, "b": 2},
    )  # fmt: skip
    second = Measured(
        copies=1, lags=1, largest_lag_samples=3, snrs=1, largest_snr_error_db=0.2, level_db=-10.0, lowest_db=-10.0,
        highest_db=-10.0, drawn={"b": 1},
    )  # fmt: skip
    total = Measured()
    for one in (first, second):
        total.add(one)
    assert total == Measured(
        copies=3, lags=2, largest_lag_samples=-7, snrs=2, by_plan=1, largest_snr_error_db=-0.5, level_db=-60.0,
        lowest_db=-30.0, highest_db=-10.0, drawn={"a": 1, "b": 3},
    )  # fmt: skip
    assert total.plain()["level_dbfs"] == {"mean": -20.0, "lowest": -30.0, "highest": -10.0}


def sums(*values: float, step: float = 0.0, energy_db: float = 60.0) -> Sketch:
    return Sketch("fine", np.array([*values, *[0.0] * (14 - len(values))]), step, energy_db)


def test_a_deviation_is_worked_out_as_by_hand() -> None:
    """A difference of 300 in one sum over 100 samples: 30 LSB rms; of 90,000 in energy over 10 ** 6: -10.46 dB."""
    found = deviation(sums(500.0), sums(200.0, energy_db=57.5), num_samples=100)
    assert (found.rms_lsb, found.level_db) == (30.0, -2.5)
    assert found.relative_db == pytest.approx(10 * math.log10(0.09))


def test_the_rounding_of_stored_sums_is_taken_off() -> None:
    """14 sums rounded to multiples of 8 are wrong by 14 * 64 / 12 in the mean."""
    found = deviation(sums(100.0, step=8.0), sums(), num_samples=1)
    assert found.rms_lsb**2 == pytest.approx(100.0**2 - 14 * 64 / 12)
    assert deviation(sums(8.0, step=8.0), sums(), num_samples=1).rms_lsb == 0.0


@pytest.mark.parametrize(
    ("rms_lsb", "relative_db", "near"),
    [(0.5, -20.0, True), (0.51, -20.0, False), (0.51, -84.0, True), (0.51, -83.9, False), (0.0, -math.inf, True)],
)
def test_an_uncoded_wave_is_near_within_half_a_step_or_84_db(rms_lsb: float, relative_db: float, near: Any) -> None:
    assert is_near_fine(Deviation(rms_lsb, relative_db, 0.0)) is near


@pytest.mark.parametrize(
    ("relative_db", "level_db", "near"),
    [(-5.0, 1.0, True), (-4.9, 0.0, False), (-5.0, 1.1, False), (-30.0, -1.1, False), (-30.0, -1.0, True)],
)
def test_a_coded_wave_is_near_within_5_db_of_deviation_and_1_db_of_level(
    relative_db: float, level_db: float, near: Any
) -> None:
    assert is_near_coded(Deviation(99.0, relative_db, level_db)) is near


def wave(seed: int = 1, count: int = 4000) -> Any:
    return (3000 * np.random.RandomState(seed).standard_normal(count)).astype(np.int16)


def coded(pcm: Any, kind: str = "FLAC", rate_hz: int = RATE_HZ) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, pcm, rate_hz, format=kind)
    return stream.getvalue()


def indexed(folder: Path, name: str, pcm: Any, *, uncoded: Any, tar: bool) -> Indexed:
    """A sample with one copy, `phone-0`; its tar is there or not."""
    content = coded(pcm)
    places = write_members(folder / f"{name}.tar", {"k.phone-0.flac": content})
    offset, size = places["k.phone-0.flac"]
    member = {"offset": offset, "size": size, "pcm_sha256": pcm_sha256(content)}
    sample = IndexedSample.model_validate({"key": "k", "num_samples": pcm.size, "members": {"phone-0": member}})
    prints = {"phone-0": fingerprint(pcm, signs("k", pcm.size), uncoded=uncoded)}
    return Indexed(sample, prints, folder / f"{name}.tar" if tar else None)


PHONE: dict[str, Any] = {
    "split": "train", "id": "k", "key": "k", "source": {"root": "train", "path": "u.wav"},
    "copies": [
        {
            "name": "phone-0", "condition": "phone",
            "steps": [
                {"kind": "room", "response": "cell-0-0"}, {"kind": "noise", "root": "hum", "recording": "n.wav"},
                {"kind": "codec", "codec": "opus"},
            ],
        }
    ],
}  # fmt: skip


def verdict(first: Indexed | None, second: Indexed | None, **options: Any) -> Any:
    return next(one for one in compared(PHONE, first, second, **options) if one.copy == "phone-0")


@pytest.mark.parametrize("taps", [8, 64], ids=["far apart", "near but for the shift"])
@pytest.mark.parametrize("kept", ["first", "second"])
def test_a_coded_wave_that_is_late_is_different_and_says_by_how_much(tmp_path: Path, kept: str, taps: int) -> None:
    """The second is two samples late, whichever of the two is there to be read."""
    pcm = np.convolve(wave(), np.ones(taps) / taps, mode="same").astype(np.int16)
    late = np.roll(pcm, 2)
    first = indexed(tmp_path, "a", pcm, uncoded=pcm / 32768, tar=kept == "first")
    second = indexed(tmp_path, "b", late, uncoded=pcm / 32768, tar=kept == "second")
    found = verdict(first, second)
    assert (found.verdict, found.codec) == ("different", "opus")
    assert found.why.startswith("shifted by 2 samples; coded wave off by ")


@pytest.mark.parametrize("file", [("train", "u.wav"), ("hum", "n.wav"), ("rooms/", "cell-0-0")])
def test_a_copy_whose_speech_noise_or_response_came_out_otherwise_says_so(tmp_path: Path, file: Any) -> None:
    pcm = wave()
    first = indexed(tmp_path, "a", pcm, uncoded=pcm / 32768, tar=True)
    second = indexed(tmp_path, "b", pcm + 1, uncoded=pcm / 32768, tar=True)
    assert verdict(first, second, decoded_otherwise=frozenset({file})).decoder_differs
    assert not verdict(first, second, decoded_otherwise=frozenset({("hum", "u.wav")})).decoder_differs
    assert verdict(first, second).verdict == "near"
    assert verdict(first, first, decoded_otherwise=frozenset({file})).verdict == "identical"


def test_a_wave_that_one_side_has_not_is_different(tmp_path: Path) -> None:
    one = indexed(tmp_path, "a", wave(), uncoded=wave() / 32768, tar=True)
    assert verdict(None, one).why == "the first has no such wave"
    assert verdict(one, None).why == "the second has no such wave: it was refused"
    assert list(compared(PHONE, None, None)) == []


@pytest.mark.parametrize("limit", [1, 2])
def test_a_limit_takes_the_utterances_that_planning_would(built_lab: Lab, tmp_path: Path, limit: int) -> None:
    pack, _ = write_pack(built_lab.folder / "corpus", tmp_path / "p.tar.gz", progress=False)
    opened = open_pack(pack, tmp_path / "open")
    write_selection(opened, Selection(limit=limit), tmp_path / "part")
    lab = Lab(built_lab.folder)
    lab.plan(str(tmp_path / "planned"), limit=limit)
    for split in ("train", "test"):
        ids = [
            {
                json.loads(line)["id"]
                for path in (folder / "plan").glob(f"{split}-*.jsonl")
                for line in path.read_text().splitlines()
            }
            for folder in (tmp_path / "part", tmp_path / "planned")
        ]
        assert ids[0] == ids[1]
        assert len(ids[0]) == limit
    assert Plan.read(tmp_path / "part/plan/plan.json", needed="a plan").limit == limit


# --- sound of an audit ------------------------------------------------------------------------------------------------


def listened(**values: Any) -> FileToCompare:
    told = {
        "corpus": "A", "root": "r", "path": "a.wav", "place": None, "sha256": "0" * 64, "channel": None, "cache": None,
        "kind": "noise", "groups": (0,),
    }  # fmt: skip
    return FileToCompare(**(told | values))


def test_a_file_of_another_digest_than_the_manifest_says_is_not_compared(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", wave(count=80_000))
    found = fingerprint_of(listened(place=str(path)))
    assert (found.prints, found.why) == (None, "they have another digest than in the manifest")
    right = fingerprint_of(listened(place=str(path), sha256=sha256(path.read_bytes())))
    assert right.prints is not None
    assert right.prints.size > 200
    assert fingerprint_of(listened(place=str(path), sha256=None)).prints is not None


def test_a_cached_fingerprint_is_of_the_channel_that_it_was_taken_of(tmp_path: Path) -> None:
    both = np.stack([wave(1, 60_000), wave(2, 60_000)], axis=1)
    path = write_wave(tmp_path / "a.wav", both)
    due = [fingerprint_of(listened(place=str(path), sha256=None, channel=channel)).prints for channel in (0, 1)]
    assert not np.array_equal(*due)
    for channel in (0, 1, 0, 1):
        of_file = {"place": str(path), "sha256": sha256(path.read_bytes()), "channel": channel}
        np.testing.assert_array_equal(fingerprint_of(listened(**of_file, cache=str(tmp_path))).prints, due[channel])
    assert len(list(tmp_path.glob("*.u32"))) == 2


def test_of_one_file_in_two_places_that_which_is_there_is_read_for_all_splits() -> None:
    gone, there = listened(groups=(0, 2)), listened(corpus="B", place="/x/a.wav", groups=(1,))
    for order in ([gone, there], [there, gone]):
        (one,) = distinct(order)
        assert (one.place, one.groups) == ("/x/a.wav", (0, 1, 2))
    assert len(distinct([gone, listened(channel=1)])) == 2
    assert len(distinct([listened(sha256=None), listened(sha256=None, corpus="B")])) == 2


def test_a_root_of_one_corpus_goes_before_that_of_all_and_both_before_its_own(tmp_path: Path) -> None:
    for letter in "ab":
        (tmp_path / letter).mkdir()
        roots = dict.fromkeys("rst", f"/own/{letter}")
        document = {"schema": "stillroom/roots/1", "roots": roots}
        (tmp_path / letter / "roots.local.json").write_text(json.dumps(document))
    letters = {"A": tmp_path / "a", "B": tmp_path / "b"}
    found = roots_by_letter(letters, {"B:r": tmp_path / "one", "r": tmp_path / "all", "s": tmp_path / "every"})
    assert {key: str(place) for key, place in found.items()} == {
        ("A", "r"): f"{tmp_path}/all", ("B", "r"): f"{tmp_path}/one", ("A", "s"): f"{tmp_path}/every",
        ("B", "s"): f"{tmp_path}/every", ("A", "t"): "/own/a", ("B", "t"): "/own/b",
    }  # fmt: skip


# --- indexes, unpacked roots and lhotse -------------------------------------------------------------------------------


def test_the_commonest_rate_is_the_corpus_s_and_only_lossless_waves_have_digests(tmp_path: Path) -> None:
    members = {
        "a.flac": coded(wave(1), rate_hz=8000), "b.flac": coded(wave(2), rate_hz=8000), "c.flac": coded(wave(3)),
        "d.ogg": coded(wave(4), "OGG", rate_hz=8000), "d.json": b'{"spk": 3, "sentence": "words", "locale": "de"}',
    }  # fmt: skip
    write_members(tmp_path / "s.tar", members)
    made = index_shards([str(tmp_path / "s.tar")])
    assert made.corpus.sample_rate == 8000
    assert [(one.id, one.reason) for one in made.refused] == [("c", "has a sample rate of 16000 Hz; most have 8000")]
    assert made.corpus.totals.seconds == 1.5
    held = {one.sample.key: one for one in OpenCorpus(tmp_path).utterances()}
    assert held["a"].sample.members["clean"].pcm_sha256 == sha256(wave(1).tobytes())
    assert held["d"].sample.members["clean"].pcm_sha256 is None
    record = held["d"].record
    assert (record.text, record.speaker, record.language, record.custom) == ("words", "3", "de", {})


def test_copies_of_an_index_are_those_that_every_utterance_has(tmp_path: Path) -> None:
    first = {f"a.{name}.flac": coded(wave(at)) for at, name in enumerate(("clean", "mix-0", "mix-1", "far-0"))}
    second = {f"b.{name}.flac": coded(wave(at)) for at, name in enumerate(("clean", "mix-3"))}
    write_members(tmp_path / "s.tar", first | second)
    assert index_shards([str(tmp_path / "s.tar")]).corpus.copies == {"train": {"mix": 1}}


def test_the_first_copy_of_a_condition_is_unpacked(built_lab: Lab, tmp_path: Path) -> None:
    corpus = built_lab.folder / "corpus"
    unpack(corpus, tmp_path / "new", condition="noise", roots={}, splits=("train",))
    unpack(corpus, tmp_path / "second", condition="noise-1", roots={}, splits=("train",))
    opened = OpenCorpus(corpus)
    for held in opened.utterances("train"):
        for folder, name in (("new", "noise-0"), ("second", "noise-1")):
            content = opened.contents(held.entry, held.sample, [name])[name]
            (path,) = [one for one in (tmp_path / folder).rglob("*.wav") if one.match(held.record.source.path)]
            assert np.array_equal(soundfile.read(path)[0], soundfile.read(io.BytesIO(content))[0])


def test_stretches_that_touch_are_put_back_side_by_side(lab: Lab, tmp_path: Path) -> None:
    long = write_wave(lab.folder / "long/talk.flac", wave(5, 2 * RATE_HZ))
    recording = {
        "id": "talk", "sources": [{"type": "file", "channels": [0], "source": str(long)}], "sampling_rate": RATE_HZ,
        "num_samples": 2 * RATE_HZ, "duration": 2.0, "channel_ids": [0],
    }  # fmt: skip
    cut = {"duration": 0.5, "channel": 0, "supervisions": [], "recording": recording, "type": "MonoCut"}
    cuts = [cut | {"id": f"c{number}", "start": 0.5 + 0.5 * number} for number in range(2)]
    (lab.folder / "cuts.jsonl").write_text("\n".join(map(json.dumps, cuts)))
    lab.recipe |= {
        "speech": {"train": {"cuts": "cuts.jsonl", "strip": str(long.parent)}}
    }  # fmt: skip
    del lab.recipe["rooms"], lab.recipe["noises"], lab.recipe["conditions"], lab.recipe["copies"]
    assert lab.build().corpus is not None
    unpack(lab.folder / "corpus", tmp_path / "new", condition="clean", roots={"train": long.parent})
    before, after = (soundfile.read(path, dtype="int16")[0] for path in (long, tmp_path / "new/talk.flac"))
    assert np.array_equal(before, after)


@pytest.mark.filterwarnings("ignore")
def test_lhotse_gets_every_field_of_an_utterance_and_what_was_done_to_each_copy(tmp_path: Path) -> None:
    utterances = tiny_split("dev", count=3)
    for number, one in enumerate(utterances):
        one.text, one.speaker, one.language = f"words {number}", f"ann {number}", f"x{number}"
        one.custom |= {"gender": "female"}
    corpus = write_corpus(tmp_path / "corpus", {"dev": utterances})
    sets = cut_sets(corpus, split="dev")
    assert sorted(sets) == ["clean", "noise-0", "noise-1", "phone-0"]
    for name, cuts in sets.items():
        for one, cut in zip(utterances, cuts, strict=True):
            pcm = one.waves[name]
            (said,) = cut.supervisions
            assert (cut.id, cut.start, cut.duration) == (one.id, 0.0, pcm.size / RATE_HZ)
            assert (said.text, said.speaker, said.language, said.gender) == (
                one.text,
                one.speaker,
                one.language,
                "female",
            )
            assert (said.start, said.duration, said.recording_id) == (0.0, cut.duration, cut.recording.id)
            assert cut.recording.id == (one.id if name == "clean" else f"{one.id}.{name}")
            assert np.array_equal(np.rint(cut.load_audio()[0] * 32768).astype(np.int16), pcm)
            told = cut.custom.pop("stillroom")
            assert cut.custom == one.custom
            assert (told["split"], told["copy"], told["source"]["path"]) == ("dev", name, "a.wav")
            if name == "clean":
                assert set(told) == {"split", "copy", "source"}
            else:
                kind = "noise" if name.startswith("noise") else "codec"
                assert (told["condition"], told["family"]) == (name.rpartition("-")[0], kind)
                assert Counter(step["kind"] for step in told["steps"]) == {kind: 1}
