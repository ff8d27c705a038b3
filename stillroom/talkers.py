"""Synthesises English speech of 90 fixed speakers, in this process and without a network.

A keyword corpus needs many speakers saying the same few words. eSpeak NG's formant synthesiser makes them in milliseconds: an
accent (its English voice files) is crossed with a *variant* (its ``!v`` files, which move formants, pitch range and phonation), and
each speaker has a pitch and rate of its own. Every variant belongs to one split, so the vocal tract of a test speaker is not in
training.

The library and its data come in the wheel ``espeakng-loader``, an optional dependency (the extra ``demo``).

Source: https://github.com/espeak-ng/espeak-ng (``src/include/espeak-ng/speak_lib.h`` documents the calls used here).
"""

from __future__ import annotations

import _ctypes
import atexit
import ctypes
import functools
import importlib
import os
import shutil
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from manifests.errors import StillroomError, printable
from stillroom.phones import PHONE_EVENTS, Event, Phone, phone_marks, phones_of

if TYPE_CHECKING:
    from collections.abc import Callable

Split = Literal["train", "dev", "test"]
Wave = npt.NDArray[np.float32]

RATE_HZ = 16_000

KEYWORDS: tuple[str, ...] = (
    "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "house", "marvin", "seven", "bird", "wow",
    "happy",
)  # fmt: skip
"""Sixteen short words, a choice from those of Speech Commands (arXiv 1804.03209)."""

SENTENCES: tuple[str, ...] = (
    "The kettle is on and the cups are warm.",
    "We walked along the river until it was dark.",
    "My brother mends old clocks in the back room.",
    "Please leave the blue folder on the desk.",
    "Rain fell on the tin roof all night long.",
    "The baker opens his shop at five in the morning.",
    "She plays the violin better than her teacher.",
    "Two grey horses stood under the chestnut tree.",
    "I never learned how to swim in cold water.",
    "The train to the coast was twenty minutes late.",
    "Put the heavy books on the bottom shelf.",
    "Children were flying kites above the beach.",
    "His voice was clear although the room was loud.",
    "They measured the field with a long chain.",
    "A thin layer of ice covered the pond.",
    "Nobody noticed that the lights had gone out.",
    "The doctor asked how long he had been coughing.",
    "Fresh bread and cheese make a good lunch.",
    "We counted eleven ships from the tower.",
    "The old map shows a bridge that is gone.",
    "Turn the key twice and push the door hard.",
    "Our neighbours grow beans, onions and garlic.",
    "The judge listened without saying a word.",
    "Every window in the street was open.",
    "Take the second road after the church.",
    "He wrote her name on the foggy glass.",
    "The price of copper rose again this week.",
    "A young fox crossed the garden at dawn.",
    "They sang quietly so as not to wake the baby.",
    "The engine coughed, shook and fell silent.",
    "I would rather stay at home and read.",
    "Her gloves were green with small white buttons.",
    "The moon was bright enough to cast shadows.",
    "You can keep the change for the next visit.",
    "Smoke from the chimney drifted over the valley.",
    "The museum closes early on the last Friday.",
    "He has worn the same coat for ten winters.",
    "Mix the flour with sugar, salt and butter.",
    "The pilot thanked us for our patience.",
    "An honest answer is often a short one.",
    "Waves broke against the harbour wall.",
    "The judge and the gardener are old friends.",
    "Which of these pictures do you like best?",
    "The bus was full, so we went on foot.",
    "Yellow leaves covered the path to the school.",
    "She thought about the question for a while.",
    "A loose wire made the radio crackle.",
    "The library keeps its oldest books in the cellar.",
    "We shall need more rope and a stronger pole.",
    "The soup is too hot to eat just now.",
    "Why did you paint the fence on a wet day?",
    "My watch says noon, but the sun says later.",
    "The choir will practise in the great hall.",
    "He laughed, shook my hand and drove away.",
    "Three of the five bottles were empty.",
    "The goat has eaten the list of names.",
    "Could you speak a little louder, please?",
    "The mountain road is shut until the spring.",
    "They found the ring beneath the floor boards.",
    "A quiet evening is worth a long journey.",
)
"""Plain short sentences, written for this module, for running speech."""

# Variants that sound like different speakers. Left out: whispers, robots, near doubles of these, those that say a keyword in less
# than 0.2 s, and those whose samples depend on uninitialised memory in eSpeak NG 1.52 (f2, f3, f5, Alicia, sandro, victor).
_TRAIN_VARIANTS: tuple[str, ...] = (
    "m3", "f1", "ian", "Lee", "boris", "david", "Andy", "Jacky", "shelby", "Marco", "linda", "klatt2", "m8", "pablo",
    "grandma", "f4", "norbert", "Michael", "miguel", "paul",
)  # fmt: skip
_DEV_VARIANTS: tuple[str, ...] = ("steph", "edward", "travis", "m5")
_TEST_VARIANTS: tuple[str, ...] = ("Annie", "quincy", "m7", "belinda", "robert", "zac")

# Accents by their files: the library does not know all of them by their tags.
_VOICE_FILES: dict[str, str] = {
    "en-us": "gmw/en-US",
    "en-gb": "gmw/en",
    "en-gb-scotland": "gmw/en-GB-scotland",
    "en-gb-x-rp": "gmw/en-GB-x-rp",
    "en-us-nyc": "gmw/en-US-nyc",
    "en-gb-x-gbclan": "gmw/en-GB-x-gbclan",
    "en-029": "gmw/en-029",
    "en-gb-x-gbcwmd": "gmw/en-GB-x-gbcwmd",
}


class TalkerMissingError(StillroomError, ImportError):
    """Speech synthesis is an optional extra and is not installed."""

    def __init__(self) -> None:
        super().__init__("no speech synthesiser: the package espeakng-loader is missing; pip install espeakng-loader")


class TalkerFailedError(StillroomError, RuntimeError):
    """eSpeak NG refused a call."""

    def __init__(self, call: str, status: int) -> None:
        super().__init__(f"the speech synthesiser's call {call} failed with status {status}; reinstall espeakng-loader")


class UnknownVoiceError(StillroomError, ValueError):
    """eSpeak NG's data have no such accent or variant; it would silently use its default voice."""

    def __init__(self, voice: Voice) -> None:
        name = printable(f"{voice.language}+{voice.variant}")
        super().__init__(f"the speech synthesiser has no voice {name}; take one of stillroom.talkers.speakers()")


@dataclass(frozen=True)
class Voice:
    """One synthetic speaker.

    Attributes:
        name: Unique, safe as a folder name, for instance ``en-us_f1``.
        language: eSpeak NG's accent, a BCP 47 tag in lower case.
        variant: ``!v`` file that shapes the vocal tract.
        pitch: eSpeak NG's base pitch, 0 to 100 (50 is the variant's own).
        rate: Words a minute.
    """

    name: str
    language: str
    variant: str
    pitch: int
    rate: int


def speakers(split: Split) -> tuple[Voice, ...]:
    """The speakers of one split, always the same: 60 for train, 12 for dev, 18 for test; no variant in two splits."""
    match split:
        case "train":
            return _crossed(_TRAIN_VARIANTS)
        case "dev":
            return _crossed(_DEV_VARIANTS)
        case "test":
            return _crossed(_TEST_VARIANTS)
        case _:
            assert_never(split)


def _crossed(variants: tuple[str, ...]) -> tuple[Voice, ...]:
    """Three speakers a variant: three accents (cycling through all of them), three pitches, three rates."""
    made = []
    accents = tuple(_VOICE_FILES)
    for row, variant in enumerate(variants):
        for column, (pitch, rate) in enumerate(((50, 165), (38, 150), (62, 185))):
            language = accents[(3 * row + column) % len(accents)]
            made.append(Voice(f"{language}_{variant.lower()}", language, variant, pitch, rate))
    return tuple(made)


def synthesise(text: str, voice: Voice) -> tuple[Wave, int]:
    """Synthesise a text: the same samples for the same text and voice on the same machine.

    eSpeak NG keeps its voice, its callback and its generators of noise in global C variables, so calls are serialised
    by a lock, and every call loads and unloads the library (1.4 ms): initialising it again is not enough, a wave would still
    depend on the calls before it.

    Args:
        text: English text.
        voice: The speaker.

    Returns:
        Mono samples in [-1, 1], shape (time,), and their rate in Hz (22050 in today's releases).

    Raises:
        TalkerMissingError: If the extra ``demo`` is not installed.
        UnknownVoiceError: If there is no such accent or variant.
        TalkerFailedError: If the library refuses a call.
    """
    wave, rate_hz, _ = _spoken(text, voice)
    return wave, rate_hz


def aligned_speech_16k(text: str, voice: Voice) -> tuple[Wave, tuple[Phone, ...]]:
    """Synthesise a text at 16 kHz, with its phone alignment.

    The samples are those of :func:`speech_16k`. Errors as :func:`synthesise`.

    Returns:
        Mono samples, shape (time,), and the phones in their order, without pauses.
    """
    wave, rate_hz, marks = _spoken(text, voice, events=PHONE_EVENTS)
    return _at_16k(wave, rate_hz), phones_of(marks, num_samples=len(wave), rate_hz=rate_hz)


def speech_16k(text: str, voice: Voice) -> Wave:
    """Synthesise a text at 16 kHz, resampled by soxr; shape (time,). Errors as :func:`synthesise`."""
    return _at_16k(*synthesise(text, voice))


def _at_16k(wave: Wave, rate_hz: int) -> Wave:
    import soxr

    resampled: Wave = np.clip(soxr.resample(wave, rate_hz, RATE_HZ), -1.0, 1.0).astype(np.float32)
    return resampled


_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_UTF8 = 1
_BY_CHARACTER = 1
_RATE, _PITCH = 1, 3
# The library copies the path of its data into a buffer of 160 bytes and truncates longer ones.
_LONGEST_PATH = 120
_ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))
_ONE_AT_A_TIME = threading.Lock()


def _spoken(text: str, voice: Voice, *, events: int = 0) -> tuple[Wave, int, list[tuple[int, str]]]:
    library, data = _installed()
    if voice.language not in _VOICE_FILES or not (data / "voices/!v" / voice.variant).is_file():
        raise UnknownVoiceError(voice)
    return _speak(library, data, text, voice, events=events)


def _speak(
    library: Path, data: Path, text: str, voice: Voice, *, events: int
) -> tuple[Wave, int, list[tuple[int, str]]]:
    chunks: list[bytes] = []
    marks: list[tuple[int, str]] = []

    def collect(samples: Any, count: int, found: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        if events and found:
            marks.extend(phone_marks(found))
        return 0

    on_samples = _ON_SAMPLES(collect)
    with _ONE_AT_A_TIME:
        espeak: Any = ctypes.CDLL(str(library))
        try:
            rate_hz = int(espeak.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DO_NOT_EXIT | events))
            if rate_hz <= 0:
                raise TalkerFailedError("espeak_Initialize", rate_hz)
            espeak.espeak_SetSynthCallback(on_samples)
            name = f"{_VOICE_FILES[voice.language]}+{voice.variant}".encode()
            _must(espeak.espeak_SetVoiceByName, name)
            _must(espeak.espeak_SetParameter, _RATE, voice.rate, 0)
            _must(espeak.espeak_SetParameter, _PITCH, voice.pitch, 0)
            spoken = text.encode()
            length = ctypes.c_size_t(len(spoken) + 1)
            _must(espeak.espeak_Synth, spoken, length, 0, _BY_CHARACTER, 0, _UTF8, None, None)
            espeak.espeak_Terminate()
        finally:
            _ctypes.dlclose(espeak._handle)  # noqa: SLF001 - ctypes has no public way to unload
    wave = np.frombuffer(b"".join(chunks), dtype="<i2").astype(np.float32) / np.float32(32768.0)
    return wave, rate_hz, marks


def _must(call: Callable[..., int], *arguments: object) -> None:
    status = call(*arguments)
    if status != 0:
        raise TalkerFailedError(getattr(call, "__name__", "espeak"), status)


@functools.cache
def _installed() -> tuple[Path, Path]:
    """The C library and its data; the data by a short link if their path is too long for the library's buffer."""
    try:
        loader: Any = importlib.import_module("espeakng_loader")
    except ModuleNotFoundError:
        raise TalkerMissingError from None
    data = Path(loader.get_data_path())
    if len(os.fsencode(data)) > _LONGEST_PATH:
        folder = tempfile.mkdtemp(prefix="stillroom-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        link = Path(folder) / data.name
        link.symlink_to(data)
        data = link
    return Path(loader.get_library_path()), data
