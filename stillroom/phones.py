"""When a synthetic talker says which phone: the events of eSpeak NG, read as start, end and phone.

The synthesiser tells where in its samples each phone begins; a phone ends where the next one, or a pause, begins. So the alignment
is exact by construction, for a forced aligner to be held against or for probes of single frames.

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
    """One phone as it was said.

    Attributes:
        start_s: Where it begins, in seconds.
        end_s: Where it ends.
        name: In the International Phonetic Alphabet, with marks of stress and length.
    """

    start_s: float
    end_s: float
    name: str


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * _NAME_BYTES)]


class Event(ctypes.Structure):
    """``espeak_EVENT``: of what type, and at which sample."""

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
    """Sample and name of each phone among the events of one call, of a C array that ends with a list end; a pause has no name."""
    marks: list[tuple[int, str]] = []
    for number in itertools.count():
        event = events[number]
        if event.type == _LIST_END:
            return marks
        if event.type == _PHONE:
            # All eight bytes may be taken, and then no zero ends them.
            name = ctypes.string_at(ctypes.addressof(event.id), _NAME_BYTES).split(b"\0")[0].decode("utf-8", "ignore")
            marks.append((int(event.sample), name))
    raise AssertionError


def phones_of(marks: Sequence[tuple[int, str]], *, num_samples: int, rate_hz: int) -> tuple[Phone, ...]:
    """Phones from where they begin; each ends at the next mark, pauses and phones without length are left out."""
    ends = [sample for sample, _ in marks[1:]] + [num_samples]
    return tuple(
        Phone(sample / rate_hz, min(end, num_samples) / rate_hz, name)
        for (sample, name), end in zip(marks, ends, strict=True)
        if name and sample < min(end, num_samples)
    )


def phone_class(name: str) -> str:
    """A phone without stress, length and glide: its first letter, or the affricate that it is.

    Accents write one vowel in many ways (``oʊ``, ``əʊ``, ``ou``), and some stand in few sentences; classes are few enough to
    be learnt from minutes of speech.
    """
    plain = unicodedata.normalize("NFD", name).translate(_MARKS)
    return next((affricate for affricate in _AFFRICATES if plain.startswith(affricate)), plain[:1])
