"""A recording is found again at another rate, gain or cut, through codecs and in part; unrelated ones are not."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from corpus_builder.audit import fingerprint_search
from corpus_builder.audit.audio_fingerprint import BITS, FRAME, HOP, band_powers, fingerprint, prints_of
from corpus_builder.audit.fingerprint_search import FEWEST, Library, most_wrong, values_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE_HZ = 16_000


def ambience(seed: int, seconds: float) -> Any:
    """A made-up scene: noise through a moving resonance, with knocks."""
    rng = np.random.RandomState(seed)
    length = round(seconds * RATE_HZ)
    wave = rng.standard_normal(length)
    for low, high in ((200, 600), (700, 1500)):
        band = scipy.signal.butter(2, [low, high], "bandpass", fs=RATE_HZ, output="sos")
        level = np.interp(np.arange(length), np.linspace(0, length, 12), rng.uniform(0.2, 3, 12))
        wave += 4 * level * scipy.signal.sosfilt(band, rng.standard_normal(length))
    return 0.5 * wave / np.abs(wave).max()


def coded(wave: Any, rate_hz: int, container: str, coder: str, **options: Any) -> tuple[Any, int]:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate_hz, format=container, subtype=coder, **options)
    stream.seek(0)
    decoded, rate = soundfile.read(stream)
    return decoded, rate


CHANGES: dict[str, Callable[[Any], tuple[Any, int]]] = {
    "gain": lambda wave: (0.1 * wave, RATE_HZ),
    "rate_8k": lambda wave: (soxr.resample(wave, RATE_HZ, 8000), 8000),
    "rate_44k1": lambda wave: (soxr.resample(wave, RATE_HZ, 44_100), 44_100),
    "trim": lambda wave: (wave[round(0.37 * RATE_HZ) :], RATE_HZ),
    "mp3": lambda wave: coded(wave, RATE_HZ, "MP3", "MPEG_LAYER_III"),
    "opus": lambda wave: coded(wave, RATE_HZ, "OGG", "OPUS"),
    "part": lambda wave: (np.concatenate([ambience(77, 2), wave[RATE_HZ : 4 * RATE_HZ], ambience(78, 1)]), RATE_HZ),
    "all_at_once": lambda wave: coded(
        0.3 * soxr.resample(wave[round(0.37 * RATE_HZ) :], RATE_HZ, 8000), 8000, "MP3", "MPEG_LAYER_III"
    ),
}


def prints(path: Path, wave: Any, rate_hz: int = RATE_HZ) -> Any:
    soundfile.write(path, wave, rate_hz, subtype="PCM_16")
    return fingerprint(path, name=path.name)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("scenes")
    return [prints(folder / f"{number}.wav", ambience(number, 5)) for number in range(6)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_recording_is_found_and_no_other(change: str, scenes: list[Any], tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    for one in scenes:
        library.add(one)
    library.add(prints(tmp_path / "changed.wav", *CHANGES[change](ambience(3, 5))))
    found = list(library.matches())
    assert [(one.first, one.second) for one in found] == [(3, 6)]
    if change == "trim":
        assert found[0].lag_s == pytest.approx(-0.37, abs=0.02)
    if change == "part":
        assert found[0].lag_s == pytest.approx(1.0, abs=0.02)
        assert 2 < found[0].seconds < 4


def test_short_recordings_through_a_coarse_coder_are_found(tmp_path: Path) -> None:
    """GSM leaves of two of these six no frame with all its bits right."""
    library = Library(tmp_path / "library")
    for number in range(6):
        library.add(prints(tmp_path / "plain.wav", ambience(number, 2)))
    for number in range(6):
        narrow = soxr.resample(ambience(number, 2), RATE_HZ, 8000)
        library.add(prints(tmp_path / "coded.wav", *coded(narrow, 8000, "WAV", "GSM610")))
    assert sorted((one.first, one.second) for one in library.matches()) == [(number, number + 6) for number in range(6)]


def test_two_hums_of_one_pitch_are_not_one_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve of their bits are always the same, the others are chance: they agree as well in any other order."""
    chance = np.random.RandomState(3)
    library = Library(tmp_path / "library")
    for _ in range(2):
        library.add((chance.randint(1, 1 << 20, 400).astype(np.uint32) << np.uint32(12)) | np.uint32(0b1011_0110_1101))
    assert list(library.matches()) == []
    monkeypatch.setattr(fingerprint_search, "beats_other_orders", lambda *_: True)
    assert [(one.first, one.second) for one in library.matches()] == [(0, 1)]


@pytest.mark.parametrize("quarter", [None, 0, 16])
def test_what_frames_are_looked_up_by_is_that_of_a_slow_loop(
    quarter: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_search, "FRAMES_A_PASS", 50)
    flat = np.random.RandomState(1).randint(0, 1 << 32, 230, dtype=np.uint64).astype(np.uint32)
    flat[[20, 21, 100]] = 0
    starts = np.array([0, 90, 120, 230])
    expected = []
    for place, bits in enumerate(flat.tolist()):
        end = starts[np.searchsorted(starts, place, side="right")]
        three = [int(flat[at]) if at < end else 0 for at in (place, place + 16, place + 32)]
        whole = sum((one >> (quarter or 0) & 255) << (8 * number) for number, one in enumerate(three))
        expected.append(bits if quarter is None else whole if all(three) else 0)
    found = np.concatenate([values_from(flat, starts, first, quarter) for first in range(0, 230, 50)])
    assert found.tolist() == expected


def test_recordings_of_one_group_are_not_compared(scenes: list[Any], tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    for one in (scenes[0], scenes[0], scenes[0]):
        library.add(one)
    assert [(one.first, one.second) for one in library.matches(np.array([5, 5, 6]))] in (
        [(0, 2), (1, 2)],
        [(1, 2), (0, 2)],
    )


def test_silence_matches_nothing(tmp_path: Path) -> None:
    library = Library(tmp_path / "library")
    for number in range(2):
        library.add(prints(tmp_path / f"{number}.wav", np.zeros(3 * RATE_HZ)))
    assert list(library.matches()) == []


def test_bits_are_those_of_the_paper_by_a_slow_loop() -> None:
    powers = np.random.RandomState(0).uniform(0.1, 1, (5, BITS + 1))
    expected = []
    for frame in range(1, 5):
        value = 0
        for band in range(BITS):
            now, before = powers[frame], powers[frame - 1]
            value |= int(now[band] - now[band + 1] - (before[band] - before[band + 1]) > 0) << band
        expected.append(value)
    assert prints_of(powers).tolist() == expected


def test_powers_of_bands_are_those_of_a_windowed_transform_by_its_sum() -> None:
    """Two bands of a frame by the definition of the discrete Fourier transform, with the window by its formula."""
    wave = np.random.RandomState(4).standard_normal(FRAME + 2 * HOP)
    at = np.arange(FRAME)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * at / (FRAME - 1))
    edges = [round(300.0 * (2000.0 / 300.0) ** (band / 33) * 4096 / 8000) for band in range(34)]
    powers = band_powers(wave)
    assert powers.shape == (3, 33)
    for frame, band in ((0, 0), (2, 32)):
        part = wave[frame * HOP : frame * HOP + FRAME] * window
        bins = [np.sum(part * np.exp(-2j * np.pi * k * at / 4096)) for k in range(edges[band], edges[band + 1])]
        assert powers[frame, band] == pytest.approx(sum(abs(one) ** 2 for one in bins), rel=1e-9)


def test_a_long_file_read_in_pieces_has_the_fingerprint_of_the_whole(tmp_path: Path) -> None:
    wave = ambience(9, 130)
    read = prints(tmp_path / "long.wav", wave)
    quantised = np.rint(wave * 32768) / 32768
    whole = prints_of(band_powers(soxr.resample(quantised, RATE_HZ, 8000, quality="HQ")))
    assert read.size == whole.size
    assert np.bitwise_count(read ^ whole).mean() < 0.01 * BITS


def test_a_file_too_short_for_a_frame_has_no_fingerprint(tmp_path: Path) -> None:
    assert prints(tmp_path / "short.wav", ambience(1, (FRAME + HOP - 2) / 8000)).size == 0


def test_fewer_frames_must_agree_better() -> None:
    shares = most_wrong(np.array([FEWEST - 1, FEWEST, 128, 256]))
    assert shares[0] < 0
    assert np.all(np.diff(shares) > 0)
    assert shares[3] == pytest.approx(0.35)
