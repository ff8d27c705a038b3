"""Exact phone alignments of synthetic speech, from the events of eSpeak NG.

The synthesiser gives the sample at which each phone begins; a phone ends where the next one, or a pause, begins. So the alignment is
exact by construction, for testing forced aligners or for probes of single frames.

Source: ``src/include/espeak-ng/speak_lib.h`` of https://github.com/espeak-ng/espeak-ng (``espeak_EVENT``).
"""

from __future__ import annotations

import ctypes
import itertools
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

PHONE_EVENTS = 0x0001 | 0x0002
"""Options of ``espeak_Initialize``: events for phones, named in IPA."""

_LIST_END, _PHONE = 0, 7
_NAME_BYTES = 8
_AFFRICATES = ("tʃ", "dʒ")
_MARKS = str.maketrans("", "", "\u02c8\u02cc\u02d0\u02d1")  # primary and secondary stress, long, half long


class Phone(NamedTuple):
    """One phone of an utterance.

    Attributes:
        start_s: Its start, in seconds.
        end_s: Its end, in seconds.
        name: In the International Phonetic Alphabet, with marks of stress and length.
    """

    start_s: float
    end_s: float
    name: str


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * _NAME_BYTES)]


class Event(ctypes.Structure):
    """``espeak_EVENT``: type and sample of an event."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Name),
    ]


def phone_marks(events: Any) -> list[tuple[int, str]]:
    """Sample and name of each phone among the events of one call, a C array with an end mark; a pause has an empty name."""
    marks: list[tuple[int, str]] = []
    for number in itertools.count():
        event = events[number]
        if event.type == _LIST_END:
            return marks
        if event.type == _PHONE:
            # All eight bytes may be used, without a zero after them.
            name = ctypes.string_at(ctypes.addressof(event.id), _NAME_BYTES).split(b"\0")[0].decode("utf-8", "ignore")
            marks.append((int(event.sample), name))
    raise AssertionError


def phones_of(marks: Sequence[tuple[int, str]], *, num_samples: int, rate_hz: int) -> tuple[Phone, ...]:
    """Phones from their first samples; each ends at the next one; pauses and phones without length are left out."""
    ends = [sample for sample, _ in marks[1:]] + [num_samples]
    return tuple(
        Phone(sample / rate_hz, min(end, num_samples) / rate_hz, name)
        for (sample, name), end in zip(marks, ends, strict=True)
        if name and sample < min(end, num_samples)
    )


def phone_class(name: str) -> str:
    """The class of a phone without stress, length and glide: its first letter, or its affricate.

    Accents spell one vowel in many ways (``oʊ``, ``əʊ``, ``ou``), some of them rare; classes are few enough to be learnt from
    minutes of speech.
    """
    plain = unicodedata.normalize("NFD", name).translate(_MARKS)
    return next((affricate for affricate in _AFFRICATES if plain.startswith(affricate)), plain[:1])
