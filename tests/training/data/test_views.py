"""Which copies are heard."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter

import pytest
from pydantic import ValidationError

from manifests.errors import UsageError
from training.data.view_keys import Views, check_copies
from training.data.views import Copy, Pair, condition_of, drawn_pair

COPIES = [Copy("noise-0", "noise"), Copy("phone-0", "codec"), Copy("room-0", "room"), Copy("room-1", "room")]
KEYS = [f"utt-{number}" for number in range(4000)]


def drawn(kind, clean_share=0.0, *, seed=1, epoch=0, copies=COPIES, **choices):
    views = Views.parse({"kind": kind, "clean_share": clean_share, **choices}, where="test")
    return [drawn_pair(views, copies, seed=seed, epoch=epoch, key=key) for key in KEYS]


def test_without_cross_distortion_both_get_it_clean():
    assert set(drawn("none")) == {Pair("clean", "clean")}


def test_cdm1_gives_the_teacher_clean_speech_and_the_student_every_copy_alike():
    pairs = drawn("cdm1")
    assert {pair.teacher for pair in pairs} == {"clean"}
    counts = Counter(pair.student for pair in pairs)
    assert set(counts) == {copy.name for copy in COPIES}
    assert all(abs(count - 1000) < 120 for count in counts.values())


def test_cdm2_never_gives_both_the_same_copy_and_draws_every_other_pair_alike():
    counts = Counter(drawn("cdm2"))
    assert len(counts) == 12
    assert all(pair.teacher != pair.student and "clean" not in pair for pair in counts)
    assert all(abs(count - 4000 / 12) < 80 for count in counts.values())


def test_two_copies_of_one_condition_may_meet_but_not_one_with_itself():
    assert set(drawn("cdm2", copies=COPIES[2:])) == {
        Pair("room-0", "room-1", student_family="room"), Pair("room-1", "room-0", student_family="room"),
    }  # fmt: skip


def test_both_get_the_same_copy_where_that_is_configured():
    assert {(pair.teacher == pair.student, pair.fell_back) for pair in drawn("same")} == {(True, False)}
    assert [pair.student for pair in drawn("same")] == [pair.student for pair in drawn("cdm1")]


@pytest.mark.parametrize("kind", ["cdm1", "cdm2", "same"])
def test_the_clean_share_is_as_asked(kind):
    clean = sum(pair == Pair("clean", "clean") for pair in drawn(kind, 0.25))
    assert abs(clean - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_in_the_papers_cdm2_each_view_is_clean_by_a_draw_of_its_own():
    pairs = drawn("cdm2", teacher={"clean_share": 0.25}, student={"clean_share": 0.25})
    counts = Counter((pair.teacher == "clean", pair.student == "clean") for pair in pairs)
    for both, share in {
        (True, True): 1 / 16,
        (True, False): 3 / 16,
        (False, True): 3 / 16,
        (False, False): 9 / 16,
    }.items():
        assert abs(counts[both] - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5
    assert not any(pair.fell_back for pair in pairs)


def test_methods_with_one_seed_are_paired():
    cdm2 = drawn("cdm2", student={"clean_share": 0.1}, teacher={"clean_share": 0.1})
    for one, two, three in zip(drawn("cdm1", 0.1), drawn("cdm2", 0.1), cdm2, strict=True):
        assert one.student == two.student == three.student


def test_another_epoch_hears_other_copies():
    same = sum(first == second for first, second in zip(drawn("cdm2"), drawn("cdm2", epoch=1), strict=True))
    assert same < len(KEYS) / 6


def test_the_teacher_can_be_kept_to_some_conditions_and_so_can_the_student():
    pairs = drawn("cdm2", teacher={"conditions": ["noise"]})
    assert {pair.teacher for pair in pairs if not pair.fell_back} == {"noise-0"}
    assert {pair.student for pair in pairs if not pair.fell_back} == {"phone-0", "room-0", "room-1"}
    pairs = drawn("cdm2", teacher={"conditions": ["noise"]}, student={"conditions": ["room", "phone"]})
    assert not any(pair.fell_back for pair in pairs)
    assert {pair.student for pair in drawn("cdm1", student={"conditions": ["room"]})} == {"room-0", "room-1"}


def test_the_same_family_twice_can_be_ruled_out():
    family = {copy.name: copy.family for copy in COPIES}
    pairs = drawn("cdm2", families="different")
    assert all(family[pair.teacher] != family[pair.student] for pair in pairs)
    assert {pair.student for pair in pairs} == set(family)


def test_a_copy_that_does_not_keep_the_content_is_never_the_teachers_unless_configured():
    copies = [*COPIES, Copy("pitch-0", "channel", keeps_content=False)]
    for kind in ("cdm1", "cdm2"):
        pairs = drawn(kind, copies=copies)
        assert "pitch-0" in {pair.student for pair in pairs}
        assert "pitch-0" not in {pair.teacher for pair in pairs}
    assert "pitch-0" not in {name for pair in drawn("same", copies=copies) for name in pair[:2]}
    assert "pitch-0" in {pair.teacher for pair in drawn("cdm2", copies=copies, teacher={"content": "any"})}


def test_where_no_copy_fits_clean_speech_is_used_and_that_is_reported():
    copies = [Copy("noise-0", "noise"), Copy("pitch-0", "channel", keeps_content=False)]
    pairs = set(drawn("cdm2", copies=copies))
    assert pairs == {
        Pair("clean", "noise-0", fell_back=True, student_family="noise"), Pair("noise-0", "pitch-0", student_family="channel"),
    }  # fmt: skip
    assert set(drawn("cdm1", copies=[])) == {Pair("clean", "clean", fell_back=True)}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "cdm1", "teacher": {"conditions": ["noise"]}}, "with kind: cdm1 the teacher gets clean speech"),
        ({"kind": "none", "teacher": {"conditions": ["noise"]}}, "with kind: none the teacher gets clean speech"),
        ({"kind": "none", "student": {"conditions": ["noise"]}}, "with kind: none the student gets clean speech"),
        ({"kind": "same", "families": "different"}, "families: different needs kind: cdm2, not same"),
        ({"kind": "cdm1", "families": "different"}, "families: different needs kind: cdm2"),
        ({"kind": "cdm2", "clean_share": 0.7, "student": {"clean_share": 0.7}}, "is 1.4, more than 1"),
    ],
)
def test_what_a_kind_cannot_give_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Views.model_validate(keys)


def test_records_are_read_only_where_they_decide():
    assert Views(kind="cdm2").need_records
    assert Views(kind="same").need_records
    assert Views(kind="cdm2", clean_share=0.9).need_records
    assert not Views(kind="cdm2", clean_share=1).need_records
    assert not Views(kind="cdm1").need_records
    assert not Views.model_validate({"kind": "cdm2", "teacher": {"content": "any"}}).need_records
    assert Views.model_validate({"kind": "cdm2", "teacher": {"content": "any"}, "families": "different"}).need_records


def test_a_condition_is_the_name_of_its_copy_without_the_number():
    assert [condition_of(name) for name in ("clean", "noise-0", "far_field-12")] == ["clean", "noise", "far_field"]


@pytest.mark.parametrize(("kind", "copies"), [("cdm1", {}), ("same", {}), ("cdm2", {"noise": 1}), ("cdm2", {})])
def test_too_few_copies_are_one_clear_line(kind, copies):
    with pytest.raises(UsageError, match=f"views {kind} needs .* this split has {sum(copies.values())}"):
        check_copies(Views(kind=kind), copies, where="corpus")


def test_a_condition_that_is_not_there_is_named_with_those_that_are():
    views = Views.model_validate({"kind": "cdm2", "teacher": {"conditions": ["nois"]}})
    with pytest.raises(
        UsageError, match=r"views.teacher.conditions: corpus has no copies of 'nois'; it has noise, room"
    ):
        check_copies(views, {"noise": 1, "room": 1}, where="corpus")
    one = Views.model_validate(
        {"kind": "cdm2", "teacher": {"conditions": ["noise"]}, "student": {"conditions": ["noise"]}}
    )
    with pytest.raises(UsageError, match="needs 2 distorted different copies of an utterance, this split has 1"):
        check_copies(one, {"noise": 1, "room": 1}, where="corpus")


def test_of_several_conditions_the_one_without_a_copy_is_named():
    """A condition of which no utterance has a copy is not there, whatever the manifest lists."""
    for who in ("teacher", "student"):
        views = Views.model_validate({"kind": "cdm2", who: {"conditions": ["noise", "far", "phone"]}})
        with pytest.raises(UsageError) as caught:
            check_copies(views, {"room": 2, "noise": 1, "far": 0, "phone": 0}, where="corpus")
        assert str(caught.value) == f"views.{who}.conditions: corpus has no copies of 'far'; it has noise, room"
    with pytest.raises(UsageError, match=r"it has none$"):
        check_copies(views, {"far": 0}, where="corpus")


@pytest.mark.parametrize(
    ("keys", "copies", "instead"),
    [
        ({"kind": "cdm2"}, {"noise": 1}, "cdm1"),
        ({"kind": "cdm2"}, {"noise": 0}, "none"),
        ({"kind": "same", "teacher": {"conditions": ["noise"]}, "student": {"conditions": ["room"]}}, {"noise": 1, "room": 3}, "cdm1"),
    ],
)  # fmt: skip
def test_what_too_few_copies_are_enough_for_is_named(keys, copies, instead):
    with pytest.raises(UsageError, match=f"build it with more copies, or set views.kind={instead}$"):
        check_copies(Views.model_validate(keys), copies, where="corpus")


def test_enough_copies_pass():
    check_copies(Views(kind="same"), {"noise": 1}, where="corpus")
    check_copies(Views(kind="cdm2", clean_share=1), {}, where="corpus")
    check_copies(Views(kind="cdm2"), {"noise": 2}, where="corpus")
    check_copies(Views(kind="none"), {}, where="corpus")


def test_a_copy_is_heard_again_only_after_all_others_if_so_asked():
    copies = [Copy(f"c{number}-0") for number in range(5)]
    views = Views.model_validate({"kind": "cdm1", "student": {"revisit": "last"}})
    for key in ("a", "b"):
        heard = [drawn_pair(views, copies, seed=3, epoch=epoch, key=key).student for epoch in range(15)]
        turns = [heard[first : first + 5] for first in (0, 5, 10)]
        assert all(sorted(turn) == [copy.name for copy in copies] for turn in turns)
        assert turns[0] != turns[1]
    anew = [drawn_pair(Views(kind="cdm1"), copies, seed=3, epoch=epoch, key="a").student for epoch in range(5)]
    assert len(set(anew)) < 5  # drawing anew meets one twice


def test_revisit_has_every_copy_at_every_place_alike():
    copies = [Copy(f"c{number}-0") for number in range(4)]
    views = Views.model_validate({"kind": "cdm1", "student": {"revisit": "last"}})
    firsts = Counter(drawn_pair(views, copies, seed=0, epoch=0, key=str(key)).student for key in range(4000))
    assert all(abs(count - 1000) < 4 * 27.4 for count in firsts.values())
    assert len(firsts) == 4


def test_the_students_share_of_clean_speech_comes_on_top_of_that_of_both():
    """Of 20000 utterances a fifth is clean for both, three tenths more for the student alone, as binomials."""
    views = Views.model_validate({"kind": "same", "clean_share": 0.2, "student": {"clean_share": 0.3}})
    two = views.model_copy(update={"kind": "cdm2"})
    pairs = [drawn_pair(two, COPIES, seed=1, epoch=0, key=str(number)) for number in range(20000)]
    both = sum(pair.teacher == pair.student == "clean" for pair in pairs) / 20000
    student = sum(pair.student == "clean" for pair in pairs) / 20000
    assert both == pytest.approx(0.2, abs=0.015)
    assert student == pytest.approx(0.5, abs=0.015)


def test_in_another_epoch_other_utterances_are_clean():
    """Of 4000 utterances a quarter is clean in each of two epochs, and a sixteenth in both, give or take four standard errors."""
    clean = [
        {number for number, pair in enumerate(drawn("cdm1", 0.25, epoch=epoch)) if pair.student == "clean"}
        for epoch in (0, 1)
    ]
    assert abs(len(clean[0] & clean[1]) - 250) < 4 * (4000 / 16 * 15 / 16) ** 0.5


def test_a_copy_that_both_get_must_be_of_the_conditions_of_both():
    keys = {"teacher": {"conditions": ["noise"]}, "student": {"conditions": ["room"]}}
    with pytest.raises(UsageError, match="views same needs 1 distorted copy of an utterance, this split has 0"):
        check_copies(Views.model_validate({"kind": "same", **keys}), {"noise": 1, "room": 1}, where="corpus")
    check_copies(Views.model_validate({"kind": "cdm2", **keys}), {"noise": 1, "room": 1}, where="corpus")


def test_copies_are_drawn_by_the_weights_of_their_conditions():
    """Weights 1, 3 and 4 of conditions with 1, 1 and 2 copies: shares 1/12, 3/12 and 4/12 each, as binomials."""
    for kind in ("cdm1", "cdm2", "same"):
        pairs = drawn(kind, student={"conditions": {"noise": 1, "phone": 3, "room": 4}})
        counts = Counter(pair.student for pair in pairs)
        for name, share in {"noise-0": 1 / 12, "phone-0": 3 / 12, "room-0": 4 / 12, "room-1": 4 / 12}.items():
            assert abs(counts[name] - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5
    assert {pair.student for pair in drawn("cdm1", student={"conditions": {"noise": 0.5, "phone": 0.1}})} == {
        "noise-0", "phone-0",
    }  # fmt: skip


def test_equal_weights_are_a_list():
    """So a run with weights is paired with one without."""
    weighted = drawn("cdm2", student={"conditions": {"room": 2.5, "noise": 2.5, "phone": 2.5}})
    assert weighted == drawn("cdm2", student={"conditions": ["noise", "phone", "room"]})


def test_an_unpaired_copy_is_both_models_or_neither():
    copies = [*COPIES, Copy("far-0", "room", keeps_content=False), Copy("far-1", "room", keeps_content=False)]
    for kind in ("cdm1", "cdm2"):
        pairs = drawn(kind, copies=copies, unpaired=["far"])
        plain = drawn(kind, copies=copies)
        assert [pair.student for pair in pairs] == [pair.student for pair in plain]  # the student's draw is its own
        far = [pair for pair in pairs if "far" in pair.student]
        assert abs(len(far) - 4000 / 3) < 4 * (4000 * 2 / 9) ** 0.5
        assert {(pair.teacher, pair.student) for pair in far} == {("far-0", "far-0"), ("far-1", "far-1")}
        assert {pair.student_family for pair in far} == {"room"}
        others = [pair for pair in pairs if "far" not in pair.student]
        assert all("far" not in pair.teacher and pair.teacher != pair.student for pair in others)
        assert not any(pair.fell_back for pair in pairs)
    kept = [*COPIES, Copy("far-0", "room")]  # a copy that the teacher may get, were it not unpaired
    assert all(
        ("far" in pair.teacher) == ("far" in pair.student) for pair in drawn("cdm2", copies=kept, unpaired=["far"])
    )
    clean = drawn("cdm1", 0.25, copies=copies, unpaired=["far"], student={"clean_share": 0.25})
    assert sum(pair[:2] == ("clean", "clean") for pair in clean) > 1800


def test_only_a_mapping_gives_unpaired_conditions_another_weight_than_one():
    listed = Views(kind="cdm1", unpaired=("far",))
    weighted = Views.model_validate({"kind": "cdm1", "unpaired": {"far": 0.25, "room": 0}})
    names = ("far", "room", "noise", "clean")
    assert [listed.distillation_weight(name) for name in names] == [1, 1, 1, 1]
    assert [weighted.distillation_weight(name) for name in names] == [0.25, 0, 1, 1]
    copies = [*COPIES, Copy("far-0", "room", keeps_content=False)]
    assert drawn("cdm2", copies=copies, unpaired={"far": 0}) == drawn("cdm2", copies=copies, unpaired=["far"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "cdm1", "unpaired": {"far": -1}}, "greater than or equal to 0"),
        ({"kind": "cdm1", "unpaired": {"far": float("inf")}}, "finite number"),
        ({"kind": "cdm1", "unpaired": {}}, "at least 1 item"),
        ({"kind": "none", "unpaired": ["far"]}, "unpaired: needs kind: cdm1 or cdm2, not none"),
        ({"kind": "same", "unpaired": ["far"]}, "unpaired: needs kind: cdm1 or cdm2, not same"),
        ({"kind": "cdm1", "unpaired": ["far"], "student": {"conditions": ["room"]}},
         "unpaired: far is not among student.conditions, so it would never be used; name it there"),
        ({"kind": "cdm1", "unpaired": ["far", "room"], "student": {"conditions": ["room", "far"]}},
         "unpaired: all of student.conditions are; leave at least one paired, or use kind: same"),
        ({"kind": "cdm2", "unpaired": ["far"], "teacher": {"conditions": ["room", "far"]}}, "unpaired: far is among teacher.conditions too"),
        ({"kind": "cdm1", "student": {"conditions": {"far": 0}}}, "greater than 0"),
        ({"kind": "cdm1", "student": {"conditions": {"far": float("inf")}}}, "finite number"),
        ({"kind": "cdm1", "student": {"conditions": {}}}, "at least 1 item"),
        ({"kind": "cdm1", "student": {"conditions": {"far": 1}, "revisit": "last"}}, "revisit: last uses all copies equally often"),
    ],
)  # fmt: skip
def test_weights_and_unpaired_conditions_without_a_meaning_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Views.model_validate(keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "cdm1", "unpaired": ["far"]}, "^views.unpaired: corpus has no copies of 'far'; it has noise, room$"),
        ({"kind": "cdm1", "student": {"conditions": {"noise": 1, "far": 2}}}, "^views.student.conditions: corpus has no copies of 'far'; it has"),
        ({"kind": "cdm1", "unpaired": ["noise", "room"]},
         "^views.unpaired: corpus has no other conditions for the student than noise, room; leave at least one of them paired, or use views.kind: same$"),
        ({"kind": "cdm2", "unpaired": ["room"]},
         "views cdm2 needs 2 distorted different copies of an utterance beside the unpaired ones, this split has 1: "),
    ],
)  # fmt: skip
def test_unpaired_conditions_that_a_corpus_cannot_give_are_refused(keys, message):
    with pytest.raises(UsageError, match=message):
        check_copies(Views.model_validate(keys), {"noise": 1, "room": 2}, where="corpus")


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"kind": "none"}, ()),
        ({"kind": "cdm1"}, ()),
        ({"kind": "cdm1", "unpaired": ["b"]}, ("b",)),
        ({"kind": "cdm1", "unpaired": {"b": 0}}, ("b",)),
        ({"kind": "cdm2"}, ("a", "b", "c")),
        ({"kind": "cdm2", "unpaired": ["b"]}, ("a", "c", "b")),
        ({"kind": "cdm2", "unpaired": ["b"], "teacher": {"conditions": ["c"]}}, ("c", "b")),
        ({"kind": "same", "teacher": {"conditions": ["c"]}}, ("c",)),
        ({"kind": "cdm2", "clean_share": 1, "unpaired": ["b"]}, ()),
    ],
)
def test_what_the_teacher_may_get_is_what_its_targets_are_needed_of(keys, wanted):
    assert Views.model_validate(keys).teacher_conditions(("a", "b", "c")) == wanted


def number_of(*names):
    """A draw as it is described: the first 64 bits of a keyed hash of its names, written here once more."""
    return int.from_bytes(hashlib.blake2b("\x1f".join(map(str, names)).encode(), digest_size=8).digest(), "big")


def expected_pair(kind, copies, *, seed, epoch, key, both=0.0, student_alone=0.0, teacher_alone=0.0, last=False):
    """The pair of a slow reader of the description: each choice has a draw of its own, by seed, epoch and key."""
    share = number_of(seed, "clean", epoch, key) / 2**64
    if kind == "none" or share < both:
        return Pair("clean", "clean")
    student = copies[number_of(seed, "student", epoch, key) * len(copies) // 2**64]
    if last:
        turn, place = epoch // len(copies), epoch % len(copies)
        student = sorted(copies, key=lambda copy: number_of(seed, "student-order", turn, key, copy.name))[place]
    name, family = (student.name, student.family) if share >= both + student_alone else ("clean", "clean")
    if kind == "cdm1":
        return Pair("clean", name, student_family=family)
    if kind == "same":
        return Pair(name, name, student_family=family)
    others = [copy for copy in copies if copy.name != name]
    teacher = others[number_of(seed, "teacher", epoch, key) * len(others) // 2**64].name
    if number_of(seed, "teacher-clean", epoch, key) / 2**64 < teacher_alone:
        teacher = "clean"
    return Pair(teacher, name, student_family=family)


@pytest.mark.parametrize("kind", ["none", "cdm1", "cdm2", "same"])
@pytest.mark.parametrize("last", [False, True])
def test_every_draw_is_by_seed_epoch_and_key_in_a_stream_of_its_own(kind, last):
    """Any other stream is other views for a run that goes on, and methods that are no longer paired."""
    student = {"clean_share": 0.25, "revisit": "last" if last else "any"}
    teacher = {"clean_share": 0.375}
    views = Views.model_validate({"kind": kind, "clean_share": 0.125, "student": student, "teacher": teacher})
    shares = {"both": 0.125, "student_alone": 0.25, "teacher_alone": 0.375}
    for seed, epoch, key in itertools.product((0, 1, 9), (0, 1, 5), KEYS[:20]):
        names = {"seed": seed, "epoch": epoch, "key": key}
        assert drawn_pair(views, COPIES, **names) == expected_pair(kind, COPIES, **names, **shares, last=last)


def test_shares_of_clean_speech_may_be_all_there_is():
    views = Views.model_validate({"kind": "cdm1", "clean_share": 0.5, "student": {"clean_share": 0.5}})
    assert {drawn_pair(views, COPIES, seed=1, epoch=0, key=key)[:2] for key in KEYS[:50]} == {("clean", "clean")}
    assert not Views.model_validate({"kind": "none", "families": "any"}).need_records
    assert not Views.model_validate({"kind": "same", "teacher": {"content": "any"}}).need_records
