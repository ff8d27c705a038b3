# ruff: noqa: RUF001 - the International Phonetic Alphabet looks like other letters
import ctypes
import hashlib
from itertools import pairwise

import numpy as np
import pytest

from stillroom.phones import Event, Phone, phone_class, phone_marks, phones_of
from stillroom.talkers import SENTENCES, aligned_speech_16k, speakers, speech_16k

EVERYBODY = [*speakers("train")[::12], *speakers("dev")[::4], *speakers("test")[::5]]


def test_the_phones_of_a_word_are_told_in_their_order():
    _, phones = aligned_speech_16k("seven", speakers("train")[0])
    assert [phone.name for phone in phones] == ["s", "ˈɛ", "v", "ə", "n"]


@pytest.mark.parametrize("voice", EVERYBODY, ids=lambda voice: voice.name)
def test_asking_for_the_phones_does_not_change_a_sample(voice):
    wave, _ = aligned_speech_16k(SENTENCES[7], voice)
    assert hashlib.sha256(wave.tobytes()).digest() == hashlib.sha256(speech_16k(SENTENCES[7], voice).tobytes()).digest()


@pytest.mark.parametrize("voice", EVERYBODY, ids=lambda voice: voice.name)
def test_phones_follow_one_another_within_the_wave(voice):
    wave, phones = aligned_speech_16k(SENTENCES[13], voice)
    assert all(0 <= phone.start_s < phone.end_s <= len(wave) / 16_000 + 1e-4 for phone in phones)
    assert all(first.end_s <= second.start_s for first, second in pairwise(phones))
    assert sum(phone.end_s - phone.start_s for phone in phones) > 0.6 * len(wave) / 16_000


def centroid_hz(wave, phones, classes):
    """Mean frequency of the power of all phones of some classes."""
    found = []
    for one in phones:
        if phone_class(one.name) in classes:
            part = wave[int(one.start_s * 16_000) : int(one.end_s * 16_000)]
            power = np.abs(np.fft.rfft(part)) ** 2
            found.append((power * np.fft.rfftfreq(len(part), 1 / 16_000)).sum() / power.sum())
    return float(np.mean(found))


@pytest.mark.parametrize("voice", EVERYBODY, ids=lambda voice: voice.name)
def test_where_an_s_is_said_the_wave_hisses_and_where_a_vowel_is_it_does_not(voice):
    # An independent ear: frication lies above 4 kHz, the vowel's first formants below 1 kHz.
    wave, phones = aligned_speech_16k("two soups, two spoons", voice)
    assert centroid_hz(wave, phones, {"s"}) > 3 * centroid_hz(wave, phones, {"u", "ʉ", "ə"})  # as three accents have it


def test_a_phone_ends_where_the_next_mark_stands_and_pauses_are_left_out():
    marks = [(100, "a"), (300, ""), (500, "b"), (500, "c"), (900, "d")]
    assert phones_of(marks, num_samples=1000, rate_hz=1000) == (
        Phone(0.1, 0.3, "a"),
        Phone(0.5, 0.9, "c"),
        Phone(0.9, 1.0, "d"),
    )
    assert phones_of([(100, "a"), (1200, "b")], num_samples=1000, rate_hz=1000) == (Phone(0.1, 1.0, "a"),)


def test_a_name_may_take_all_eight_bytes():
    events = (Event * 3)()
    events[0].type, events[0].sample = 7, 12
    ctypes.memmove(ctypes.addressof(events[0].id), "ˈɔːɹ".encode(), 8)
    events[1].type = 1
    assert phone_marks(events) == [(12, "ˈɔːɹ")]


def test_a_name_ends_at_its_zero_and_a_letter_that_was_cut_off_is_left_out():
    events = (Event * 5)()
    for number, name in enumerate((b"a\0left", b"\0", "abcdefgɔ".encode()[:8])):
        events[number].type, events[number].sample = 7, 10 * number
        ctypes.memmove(ctypes.addressof(events[number].id), name, len(name))
    events[4].type, events[4].sample = 7, 99  # behind the end mark
    assert phone_marks(events) == [(0, "a"), (10, ""), (20, "abcdefg")]


@pytest.mark.parametrize(
    ("name", "expected"), [("ˈiː", "i"), ("tʃ", "tʃ"), ("oʊ", "o"), ("ˈdʒ", "dʒ"), ("t", "t"), ("ɔːɹ", "ɔ"), ("", "")]
)
def test_a_class_is_the_first_letter_or_the_affricate(name, expected):
    assert phone_class(name) == expected
