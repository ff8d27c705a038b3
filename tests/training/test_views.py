"""Which copies are heard."""

from __future__ import annotations

from collections import Counter

import pytest

from manifests.errors import UsageError
from training.views import Pair, Views, check_copies, condition_of, drawn_pair

COPIES = ["noise-0", "phone-0", "room-0", "room-1"]
KEYS = [f"utt-{number}" for number in range(4000)]


def drawn(kind, clean_share=0.0, *, seed=1, epoch=0, copies=COPIES):
    views = Views(kind=kind, clean_share=clean_share)
    return [drawn_pair(views, copies, seed=seed, epoch=epoch, key=key) for key in KEYS]


def test_without_cross_distortion_both_hear_it_clean():
    assert set(drawn("none")) == {Pair("clean", "clean")}


def test_cdm1_gives_the_teacher_clean_speech_and_the_student_every_copy_alike():
    pairs = drawn("cdm1")
    assert {pair.teacher for pair in pairs} == {"clean"}
    counts = Counter(pair.student for pair in pairs)
    assert set(counts) == set(COPIES)
    assert all(abs(count - 1000) < 120 for count in counts.values())


def test_cdm2_never_gives_both_the_same_copy_and_draws_every_other_pair_alike():
    counts = Counter(drawn("cdm2"))
    assert len(counts) == 12
    assert all(pair.teacher != pair.student and "clean" not in pair for pair in counts)
    assert all(abs(count - 4000 / 12) < 80 for count in counts.values())


def test_two_copies_of_one_condition_may_meet_but_not_one_with_itself():
    assert set(drawn("cdm2", copies=["room-0", "room-1"])) == {Pair("room-0", "room-1"), Pair("room-1", "room-0")}


@pytest.mark.parametrize("kind", ["cdm1", "cdm2"])
def test_the_clean_share_is_as_asked(kind):
    clean = sum(pair == Pair("clean", "clean") for pair in drawn(kind, 0.25))
    assert abs(clean - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_methods_with_one_seed_are_paired():
    for one, two in zip(drawn("cdm1", 0.1), drawn("cdm2", 0.1), strict=True):
        assert one.student == two.student


def test_another_epoch_hears_other_copies():
    same = sum(first == second for first, second in zip(drawn("cdm2"), drawn("cdm2", epoch=1), strict=True))
    assert same < len(KEYS) / 6


def test_a_condition_is_the_name_of_its_copy_without_the_number():
    assert [condition_of(name) for name in ("clean", "noise-0", "far_field-12")] == ["clean", "noise", "far_field"]


@pytest.mark.parametrize(("kind", "copies"), [("cdm1", {}), ("cdm2", {"noise": 1}), ("cdm2", {})])
def test_too_few_copies_are_one_clear_line(kind, copies):
    with pytest.raises(UsageError, match=f"views {kind} needs .* this split has {sum(copies.values())}"):
        check_copies(Views(kind=kind), copies, where="corpus")


def test_enough_copies_pass():
    check_copies(Views(kind="cdm2"), {"noise": 2}, where="corpus")
    check_copies(Views(kind="none"), {}, where="corpus")
