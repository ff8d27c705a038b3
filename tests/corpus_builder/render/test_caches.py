"""What a worker keeps from shard to shard: waves up to so many bytes, digests, and the list of what the current shard used."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soxr

from corpus_builder.audio.errors import MissingAudioError, SilentAudioError
from corpus_builder.render import corpus_waves, source_ledger
from corpus_builder.render.corpus_waves import CorpusWaves, waves_of
from corpus_builder.render.source_ledger import AT_ONCE, SourceLedger, decoded_digest, source_of
from corpus_builder.render.wave_cache import LongNoise, WaveCache
from manifests.errors import BadDocumentError, MissingFileError
from manifests.io.url import Url
from manifests.plan.plan import PlanRow
from manifests.plan.rooms import RoomResponse
from manifests.plan.steps import FileSpan
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.corpus.fingerprints import DecodedSource


def test_a_cache_holds_what_was_used_last_up_to_its_bytes() -> None:
    made: list[str] = []

    def get(cache: WaveCache[Any], key: str, count: int) -> None:
        def make() -> Any:
            made.append(key)
            return np.zeros(count)

        assert cache.get(key, make).size == count

    cache: WaveCache[Any] = WaveCache(8 * 100)
    for key in ("a", "b", "a"):
        get(cache, key, 40)
    assert made == ["a", "b"]
    get(cache, "c", 40)  # b was used longest ago
    get(cache, "a", 40)
    assert made == ["a", "b", "c"]
    get(cache, "large", 101)
    get(cache, "whole", 100)  # all others make room
    assert list(cache.cached) == ["whole"]
    get(cache, "d", 10)  # small, in the place of what is larger
    get(cache, "e", 90)
    assert (list(cache.cached), cache.num_bytes) == (["d", "e"], 800)
    get(cache, "f", 1)
    assert (list(cache.cached), cache.num_bytes) == (["e", "f"], 8 * 91)


def source(path: str, start: int = 0, root: str = "r") -> DecodedSource:
    return source_of(np.zeros(4), root=root, path=path, start=start, rate_hz=8000, channel=None, sha256="0" * 64)


def test_a_shard_lists_what_it_uses_by_name_and_nothing_of_the_shard_before() -> None:
    ledger = SourceLedger()
    for name in ("b", "a", "c"):
        ledger.note(name, source(name))
    ledger.note("late", source("a", start=5))
    for name in ("b", "late", "a", "b", "unknown"):
        ledger.use(name)
    assert [(one.path, one.start) for one in ledger.sources()] == [("a", 0), ("a", 5), ("b", 0)]
    ledger.begin()
    assert ledger.sources() == []
    ledger.use("c")
    assert ledger.sources() == [source("c")]


@pytest.mark.parametrize("count", [0, 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE + 7])
def test_the_digest_of_decoded_samples_is_of_all_of_them(count: int) -> None:
    wave = np.arange(count, dtype=np.float64) / 3
    assert decoded_digest(wave) == hashlib.sha256(wave.astype("<f4").tobytes()).hexdigest()


def test_each_of_many_files_has_its_own_digest(tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(70)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    waves = CorpusWaves(tmp_path, roots={"r": tmp_path}, rate_hz=16_000)
    for name in (*names, *names[:3]):
        span = FileSpan(root="r", path=name, num_frames=1, rate_hz=16_000)
        assert waves.source_sha256(span) == hashlib.sha256(name.encode()).hexdigest()
    assert len(waves.digests) <= 64


def test_waves_of_other_roots_or_another_rate_are_not_those_of_the_cache(tmp_path: Path) -> None:
    first = waves_of(str(tmp_path), (("r", "/a"),), 16_000)
    assert waves_of(str(tmp_path), (("r", "/a"),), 16_000) is first
    for other in ((("r", "/b"),), 16_000), ((("r", "/b"),), 8_000), ((("r", "/a"),), 8_000):
        found = waves_of(str(tmp_path), *other)
        assert (str(found.roots["r"]), found.rate_hz) == (other[0][0][1], other[1])
    assert waves_of(str(tmp_path / "other"), (("r", "/a"),), 8_000).corpus == tmp_path / "other"


def test_a_stretch_of_a_long_noise_is_listed_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The corpus is at half the rate of the noise."""
    monkeypatch.setattr(corpus_waves, "LONG_NOISE_SAMPLES", 100)
    path = write_wave(tmp_path / "n.wav", voice(1, 4.0), rate_hz=16_000)
    row = {
        "source": "hum", "root": "hum", "path": "n.wav", "splits": ["train"], "num_samples": 32_000, "rate_hz": 16_000,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "power_db": [-20.0],
    }  # fmt: skip
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/levels.jsonl").write_text(json.dumps(row) + "\n")
    waves = CorpusWaves(tmp_path, roots={"hum": tmp_path}, rate_hz=8_000)
    assert waves.noise("hum", "n.wav")[20_000:21_000].size == 1000
    (listed,) = waves.ledger.sources()
    assert listed.start == 2 * (20_000 - 8_000)  # a second of the file before the segment
    assert listed.num_frames == 2 * (1000 + 2 * 8_000) - max(0, 2 * (21_000 + 8_000) - 64_000)
    assert listed.pcm_sha256 == decoded_digest(voice(1, 4.0)[listed.start : listed.start + listed.num_frames] / 32768)


def test_an_empty_root_is_a_disk_that_is_not_mounted_and_not_a_missing_file(tmp_path: Path) -> None:
    waves = CorpusWaves(tmp_path, roots={"r": tmp_path / "data"}, rate_hz=16_000)
    (tmp_path / "data").mkdir()
    with pytest.raises(MissingFileError, match="is a disk not mounted"):
        waves.stretch(FileSpan(root="r", path="a.wav", num_frames=1, rate_hz=16_000))


def test_a_spectrum_of_another_rate_is_not_used(tmp_path: Path) -> None:
    rows = [{"split": "train", "rate_hz": rate_hz, "utterances": 1, "power_db": [0.0, -rate_hz / 1000]} for rate_hz in (8000, 16_000, 48_000)]  # fmt: skip
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/spectra.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    waves = CorpusWaves(tmp_path, roots={}, rate_hz=16_000)
    assert waves.spectrum("train").tolist() == [0.0, -16.0]
    with pytest.raises(BadDocumentError, match="has no spectrum of 'test' at 16000 Hz"):
        waves.spectrum("test")


def test_a_ledger_forgets_what_was_decoded_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_ledger, "MOST_REMEMBERED", 2)
    ledger = SourceLedger()
    for name in ("a", "b", "a", "c"):
        ledger.note(name, source(name))
    for name in ("a", "b", "c"):
        ledger.use(name)
    assert [one.path for one in ledger.sources()] == ["a", "c"]


def planned_noises(corpus: Path, *rows: dict[str, Any]) -> None:
    """The list of the plan's noises: a file's digest and length are its own."""
    lines = []
    for row in rows:
        path = corpus / row["root"] / row["path"]
        common = {"source": row["root"], "splits": ["train"], "power_db": [-20.0]}
        lines.append(json.dumps({**common, **row, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    (corpus / "plan").mkdir()
    (corpus / "plan/levels.jsonl").write_text("\n".join(lines) + "\n")


def test_noises_of_one_name_in_two_roots_are_each_its_own_channel_at_its_own_rate(tmp_path: Path) -> None:
    """One is at three times the corpus rate with two channels, one at the corpus rate; what is listed of them is at their own."""
    two = np.column_stack([voice(1, 1.0), voice(2, 1.0)])
    write_wave(tmp_path / "hum/n.wav", two, rate_hz=48_000)
    write_wave(tmp_path / "fan/n.wav", voice(3, 0.5), rate_hz=16_000)
    planned_noises(
        tmp_path,
        {"root": "hum", "path": "n.wav", "num_samples": 5333, "rate_hz": 48_000, "channel": 1},
        {"root": "fan", "path": "n.wav", "num_samples": 8000, "rate_hz": 16_000},
    )
    waves = CorpusWaves(tmp_path, roots={"hum": tmp_path / "hum", "fan": tmp_path / "fan"}, rate_hz=16_000)
    for _ in range(2):  # decoded, then cached
        waves.ledger.begin()
        np.testing.assert_array_equal(waves.noise("fan", "n.wav"), voice(3, 0.5) / 32768)
        hum = waves.noise("hum", "n.wav")
        assert isinstance(hum, np.ndarray)
        np.testing.assert_array_equal(hum, soxr.resample(voice(2, 1.0) / 32768, 48_000, 16_000, quality="HQ"))
        digests = [hashlib.sha256((tmp_path / root / "n.wav").read_bytes()).hexdigest() for root in ("fan", "hum")]
        assert [one.model_dump(exclude={"pcm_sha256"}) for one in waves.ledger.sources()] == [
            {"root": "fan", "path": "n.wav", "start": 0, "num_frames": 8000, "rate_hz": 16_000, "channel": None, "sha256": digests[0]},
            {"root": "hum", "path": "n.wav", "start": 0, "num_frames": 16_000, "rate_hz": 48_000, "channel": 1, "sha256": digests[1]},
        ]  # fmt: skip
        assert waves.ledger.sources()[1].pcm_sha256 == decoded_digest(two[:, 1] / 32768)
    assert waves.checked == {tmp_path / "hum/n.wav", tmp_path / "fan/n.wav"}


def test_a_noise_is_too_long_for_memory_by_what_it_is_decoded_to_at_its_own_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_waves, "LONG_NOISE_SAMPLES", 1000)
    for name, rate_hz in (("up", 8_000), ("same", 16_000), ("down", 48_000)):
        wave = np.column_stack([voice(4, 0.1), voice(5, 0.1)])[: round(900 * rate_hz / 16_000)]
        write_wave(tmp_path / "hum" / name, wave, rate_hz=rate_hz, format="WAV")
    common = {"root": "hum", "num_samples": 900, "channel": 1}
    planned_noises(
        tmp_path,
        {**common, "path": "up", "rate_hz": 8_000},
        {**common, "path": "same", "rate_hz": 16_000},
        {**common, "path": "down", "rate_hz": 48_000},
    )
    waves = CorpusWaves(tmp_path, roots={"hum": tmp_path / "hum"}, rate_hz=16_000)
    assert [isinstance(waves.noise("hum", name), LongNoise) for name in ("up", "same", "down")] == [False, False, True]
    monkeypatch.setattr(corpus_waves, "LONG_NOISE_SAMPLES", 100)
    waves.ledger.begin()
    long = waves.noise("hum", "same")  # at the corpus rate its stretches are read as they are, and noted, too
    np.testing.assert_array_equal(long[300:420], voice(5, 0.1)[300:420] / 32768)
    assert long[420:420].size == 0
    assert long[600:720].size == 120
    listed, other = waves.ledger.sources()
    assert (listed.start, listed.num_frames, listed.channel, listed.rate_hz) == (300, 120, 1, 16_000)
    assert (other.start, other.num_frames) == (600, 120)
    assert listed.pcm_sha256 == decoded_digest(voice(5, 0.1)[300:420] / 32768)


def test_what_rendering_does_not_find_is_named_with_where_it_looked(tmp_path: Path) -> None:
    write_wave(tmp_path / "hum/a.wav", voice(1, 0.1))
    write_wave(tmp_path / "hum/b.wav", voice(2, 0.1))
    common = {"root": "hum", "num_samples": 1600, "rate_hz": 16_000}
    planned_noises(tmp_path, {**common, "path": "a.wav"}, {**common, "path": "b.wav"})
    (tmp_path / "fan").mkdir()
    roots = {"hum": tmp_path / "hum", "fan": tmp_path / "fan", "gone": tmp_path / "gone"}
    waves = CorpusWaves(tmp_path, roots=roots, rate_hz=16_000)
    with pytest.raises(BadDocumentError, match=r"root 'sea' is not among the roots of this machine: hum, fan, gone$"):
        waves.place("sea", "a.wav")
    with pytest.raises(BadDocumentError, match=r"levels\.jsonl.* has no noise '?a\.wav'? of root 'fan'"):
        waves.noise("fan", "a.wav")
    with pytest.raises(MissingAudioError, match=r"c\.wav'? does not exist"):
        waves.stretch(FileSpan(root="hum", path="c.wav", num_frames=1, rate_hz=16_000))
    with pytest.raises(MissingFileError, match=r"root 'gone' holds the sources; is a disk not mounted"):
        waves.stretch(FileSpan(root="gone", path="c.wav", num_frames=1, rate_hz=16_000))
    (tmp_path / "hum/b.wav").unlink()
    with pytest.raises(MissingFileError, match=r"b\.wav.*a noise of root 'hum'; say --root hum=DIR if"):
        waves.noise("hum", "b.wav")


def test_a_source_behind_a_url_that_is_gone_is_a_missing_file_by_its_name(tmp_path: Path) -> None:
    waves = CorpusWaves(tmp_path, roots={"r": Url("memory://no-such-bucket/data")}, rate_hz=16_000)
    with pytest.raises(MissingAudioError, match=r"far/a\.wav'? does not exist"):
        waves.local(waves.place("r", "far/a.wav"), name="far/a.wav")
    write_wave(tmp_path / "r/n.wav", voice(1, 0.1))
    planned_noises(tmp_path, {"root": "r", "path": "n.wav", "num_samples": 1600, "rate_hz": 16_000})
    with pytest.raises(MissingFileError, match=r"n\.wav.*a noise of root 'r'; say --root r=DIR if"):
        waves.noise("r", "n.wav")


def test_a_response_is_that_of_its_bank_with_its_own_direct_sample(tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    expected = {}
    for at, bank in enumerate(("cell", "cell-2")):
        rows = []
        for position in range(2):
            wave = np.random.default_rng([at, position]).standard_normal(60 + position).astype(np.float32)
            np.save(tmp_path / f"rooms/{bank}-7-{position}.npy", wave)
            row = RoomResponse(
                name=f"{bank}-7-{position}", bank=bank, room=7, position=position, rate_hz=16_000, t30_s=0.3, num_samples=wave.size,
                direct_to_reverberant_db=None, direct_sample=10 * at + position, sha256=hashlib.sha256(wave.tobytes()).hexdigest(),
            )  # fmt: skip
            rows.append(row)
            expected[row.name] = (wave, row.direct_sample)
        (tmp_path / f"rooms/{bank}.jsonl").write_text(
            "".join(row.model_dump_json(exclude_none=False) + "\n" for row in rows)
        )
    waves = CorpusWaves(tmp_path, roots={}, rate_hz=16_000)
    for name in [*expected, *reversed(expected)]:
        found, direct_sample = waves.response(name)
        np.testing.assert_array_equal(found, expected[name][0])
        assert direct_sample == expected[name][1]
    with pytest.raises(BadDocumentError, match=r"rooms/cell\.jsonl.* has no response '?cell-7-2"):
        waves.response("cell-7-2")
    with pytest.raises(BadDocumentError, match=r"response '?cell-7'? is not named <bank>-<room>-<position>"):
        waves.response("cell-7")


def test_a_talker_is_listed_as_its_stretch_at_its_own_rate_also_where_it_is_cached(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "r/two.wav", np.column_stack([voice(1, 0.5), voice(2, 0.5)]), rate_hz=48_000)
    waves = CorpusWaves(tmp_path, roots={"r": tmp_path / "r"}, rate_hz=16_000)
    span = FileSpan(root="r", path="two.wav", start=0.1, num_frames=900, rate_hz=48_000, channel=1)
    for _ in range(2):
        waves.ledger.begin()
        assert waves.talker(span).size == 300
        (listed,) = waves.ledger.sources()
        assert listed.model_dump() == {
            "root": "r", "path": "two.wav", "start": 4800, "num_frames": 900, "rate_hz": 48_000, "channel": 1,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "pcm_sha256": decoded_digest(voice(2, 0.5)[4800:5700] / 32768),
        }  # fmt: skip


def test_an_utterance_that_is_silent_but_for_a_constant_is_refused_by_its_path(tmp_path: Path) -> None:
    write_wave(tmp_path / "r/quiet.wav", np.full(800, 77, np.int16))
    waves = CorpusWaves(tmp_path, roots={"r": tmp_path / "r"}, rate_hz=16_000)
    plain = {
        "id": "u", "key": "u", "split": "train", "num_samples": 800, "copies": [],
        "source": {"root": "r", "path": "quiet.wav", "rate_hz": 16_000},
    }  # fmt: skip
    with pytest.raises(SilentAudioError, match=r"quiet\.wav'? is digital silence"):
        waves.speech(PlanRow.parse(plain, where="test"))
