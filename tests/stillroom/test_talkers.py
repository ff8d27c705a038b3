import hashlib
import importlib
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stillroom import talkers
from stillroom.talkers import (
    KEYWORDS,
    SENTENCES,
    TalkerFailedError,
    TalkerMissingError,
    UnknownVoiceError,
    Voice,
    speakers,
    speech_16k,
    synthesise,
)

HOUSE = Path(__file__).resolve().parents[2]
SPLITS = ("train", "dev", "test")
LOW = Voice("low", "en-us", "m3", 30, 160)


def digest(wave):
    return hashlib.sha256(wave.tobytes()).hexdigest()


def fundamental_hz(wave, rate_hz):
    """Median over voiced 40 ms frames of the lag where the autocorrelation peaks, 60 to 400 Hz."""
    size, found = int(0.04 * rate_hz), []
    low, high = int(rate_hz / 400), int(rate_hz / 60)
    for start in range(0, len(wave) - size, size // 2):
        frame = wave[start : start + size] - wave[start : start + size].mean()
        correlation = np.correlate(frame, frame, "full")[size - 1 :]
        lag = low + int(correlation[low:high].argmax())
        if correlation[0] > 0.1 and correlation[lag] > 0.5 * correlation[0]:
            found.append(rate_hz / lag)
    return float(np.median(found))


@pytest.fixture
def fresh_installation():
    talkers._installed.cache_clear()
    yield
    talkers._installed.cache_clear()


def test_there_are_ninety_voices_and_no_name_is_taken_twice():
    assert [len(speakers(split)) for split in SPLITS] == [60, 12, 18]
    names = [voice.name for split in SPLITS for voice in speakers(split)]
    assert len(set(names)) == 90
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_") for name in names)


def test_voices_take_turns_of_accents_pitches_and_rates():
    """By hand: three a variant, the eight accents again and again."""
    train, dev = speakers("train"), speakers("dev")
    assert train[:4] == (
        Voice("en-us_m3", "en-us", "m3", 50, 165), Voice("en-gb_m3", "en-gb", "m3", 38, 150),
        Voice("en-gb-scotland_m3", "en-gb-scotland", "m3", 62, 185), Voice("en-gb-x-rp_f1", "en-gb-x-rp", "f1", 50, 165),
    )  # fmt: skip
    assert train[7:9] == (
        Voice("en-gb-x-gbcwmd_ian", "en-gb-x-gbcwmd", "ian", 38, 150), Voice("en-us_ian", "en-us", "ian", 62, 185),
    )  # fmt: skip
    assert (train[-1].variant, dev[0].name, dev[-1].variant) == ("paul", "en-us_steph", "m5")
    assert [speakers(split)[-1].variant for split in SPLITS] == ["paul", "m5", "zac"]


def test_no_vocal_tract_is_heard_in_two_splits():
    variants = [{voice.variant for voice in speakers(split)} for split in SPLITS]
    assert all(not first & second for first, second in itertools.combinations(variants, 2))


def test_each_test_accent_is_known_from_training():
    assert {voice.language for voice in speakers("test")} <= {voice.language for voice in speakers("train")}


def test_the_word_lists_hold_no_line_twice():
    assert len(set(KEYWORDS)) == 16
    assert len(set(SENTENCES)) == len(SENTENCES) == 60


def test_every_voice_says_every_keyword_audibly_and_unlike_any_other():
    heard = {}
    for split in SPLITS:
        for voice in speakers(split):
            for word in KEYWORDS:
                wave, rate_hz = synthesise(word, voice)
                assert 0.2 < len(wave) / rate_hz < 2.0
                assert 0.03 < np.abs(wave).max() <= 1.0
                heard[digest(wave)] = (voice.name, word)
    assert len(heard) == 90 * 16


def test_a_wave_does_not_depend_on_what_was_spoken_before():
    voice = Voice("any", "en-us", "f1", 50, 165)
    first = digest(synthesise("happy house", voice)[0])
    for other in speakers("dev"):
        synthesise("a whisper of seven seas", other)
        assert digest(synthesise("happy house", voice)[0]) == first


ALL_SPEAK = """
import hashlib
from stillroom.talkers import synthesise, speakers
heard = hashlib.sha256()
for split in ("test", "dev", "train"):
    for voice in speakers(split):
        heard.update(synthesise("seven", voice)[0].tobytes())
print(heard.hexdigest())
"""


def test_no_sample_depends_on_what_memory_held_before():
    # Some variants of the library read memory that they never wrote; the C library can fill it with a given byte.
    heard = set()
    for byte in ("0", "85", "255"):
        environment = {**os.environ, "MALLOC_PERTURB_": byte}
        done = subprocess.run(
            [sys.executable, "-c", ALL_SPEAK], cwd=HOUSE, env=environment, capture_output=True, text=True, check=True
        )
        heard.add(done.stdout)
    here = hashlib.sha256()
    for split in reversed(SPLITS):
        for voice in speakers(split):
            here.update(synthesise("seven", voice)[0].tobytes())
    assert heard == {here.hexdigest() + "\n"}


def test_threads_take_turns():
    lines = [(SENTENCES[number], voice) for number, voice in enumerate(speakers("test"))]
    alone = [digest(synthesise(*line)[0]) for line in lines]
    with ThreadPoolExecutor(8) as pool:
        together = [digest(wave) for wave, _ in pool.map(lambda line: synthesise(*line), lines)]
    assert together == alone


def test_a_higher_pitch_is_a_higher_fundamental():
    text = "we were away a year ago"
    low, high = (fundamental_hz(*synthesise(text, replace(LOW, pitch=pitch))) for pitch in (20, 80))
    assert low > 60
    assert high > 1.2 * low


def test_a_faster_voice_takes_less_time():
    slow, fast = (len(synthesise(SENTENCES[0], replace(LOW, rate=rate))[0]) for rate in (120, 200))
    assert fast < 0.75 * slow


def test_16_khz_speech_lasts_as_long_and_keeps_its_level():
    wave, rate_hz = synthesise(SENTENCES[3], LOW)
    resampled = speech_16k(SENTENCES[3], LOW)
    assert resampled.dtype == np.float32
    assert abs(len(resampled) / 16_000 - len(wave) / rate_hz) < 2 / 16_000
    assert np.abs(resampled).max() <= 1.0
    assert np.sqrt(np.mean(resampled**2)) == pytest.approx(np.sqrt(np.mean(wave**2)), rel=0.05)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch, fresh_installation):
    real = importlib.import_module

    def without(name, *rest):
        if name == "espeakng_loader":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(TalkerMissingError, match=r"pip install espeakng-loader") as caught:
        synthesise("yes", LOW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"variant": "no such\nvariant"}, {"variant": ""}, {"language": "xx"}])
def test_an_unknown_voice_is_refused_in_one_line_rather_than_spoken_plainly(wrong):
    with pytest.raises(UnknownVoiceError, match="has no voice") as caught:
        synthesise("yes", replace(LOW, **wrong))
    assert "\n" not in str(caught.value)


def test_a_refused_call_is_named_and_the_next_call_works(monkeypatch):
    monkeypatch.setitem(talkers._VOICE_FILES, "en-us", "no/such/file")
    with pytest.raises(TalkerFailedError, match="espeak_SetVoiceByName failed with status"):
        synthesise("yes", LOW)
    monkeypatch.undo()
    assert len(synthesise("yes", LOW)[0]) > 0


def test_an_installation_deep_in_the_file_system_speaks_the_same(monkeypatch, tmp_path, fresh_installation):
    import espeakng_loader

    here = synthesise("seven", LOW)[0]
    deep = tmp_path / ("a" * 120) / ("b" * 120)
    deep.mkdir(parents=True)
    (deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    talkers._installed.cache_clear()
    assert digest(synthesise("seven", LOW)[0]) == digest(here)
    assert talkers._installed()[1] != deep / "espeak-ng-data"


@pytest.mark.parametrize(("length", "is_linked"), [(120, False), (121, True)])
def test_a_path_that_the_library_would_truncate_is_reached_by_a_link(
    monkeypatch, fresh_installation, length, is_linked
):
    data = Path("/" + "d" * (length - 1))
    loader = SimpleNamespace(get_data_path=lambda: str(data), get_library_path=lambda: "/library")
    monkeypatch.setitem(sys.modules, "espeakng_loader", loader)
    library, found = talkers._installed()
    assert library == Path("/library")
    assert (found.readlink() == data) if is_linked else (found == data)


def test_a_library_that_does_not_begin_is_told_with_its_status(monkeypatch):
    monkeypatch.setattr(talkers.ctypes, "CDLL", lambda _: SimpleNamespace(espeak_Initialize=lambda *_: -1, _handle=0))
    monkeypatch.setattr(talkers._ctypes, "dlclose", lambda _: None)
    with pytest.raises(TalkerFailedError, match="call espeak_Initialize failed with status -1;"):
        synthesise("yes", LOW)


def test_a_wave_that_rings_above_full_scale_is_clipped_there():
    square = np.repeat(np.array([1.0, -1.0] * 40, dtype=np.float32), 50)
    resampled = talkers._at_16k(square, 22_050)
    assert (resampled.max(), resampled.min(), resampled.dtype) == (1.0, -1.0, np.float32)
    assert len(resampled) == pytest.approx(4000 * 16_000 / 22_050, abs=1)


def test_a_call_that_is_refused_is_told_with_its_name_and_status():
    calls = []

    def refuse(*given):
        calls.append(given)
        return -2

    refuse.__name__ = "espeak_Synth"
    with pytest.raises(TalkerFailedError, match=r"call espeak_Synth failed with status -2; reinstall espeakng-loader$"):
        talkers._must(refuse, 1, "a")
    assert calls == [(1, "a")]
    talkers._must(lambda: 0)
