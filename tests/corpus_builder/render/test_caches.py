"""What a worker keeps from shard to shard: waves up to so many bytes, digests, and the list of what the current shard used."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.render import corpus_waves
from corpus_builder.render.corpus_waves import CorpusWaves, waves_of
from corpus_builder.render.source_ledger import AT_ONCE, SourceLedger, decoded_digest, source_of
from corpus_builder.render.wave_cache import WaveCache
from manifests.errors import BadDocumentError, MissingFileError
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
    for other in ((("r", "/b"),), 16_000), ((("r", "/a"),), 8_000):
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
