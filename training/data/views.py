"""Chooses the copy of an utterance that each model gets: cross-distortion mapping (CDM, arXiv 2210.07978).

* `none`: both get the clean utterance (plain DistilHuBERT).
* `cdm1`: the teacher gets it clean, the student a distorted copy.
* `cdm2`: both get distorted copies, drawn independently: their families may be equal, the copies may not.
* `same`: both get the same distorted copy; an ablation (`distortion_same_as_student` in the authors' code).

Shares of clean speech, the conditions of either model and `families: different` narrow this down. A copy that does not keep
the content of its utterance in place (another pitch, another talker, lost packets) is never the teacher's view, unless
`teacher.content` is `any`.

Copies of `unpaired` conditions stand for real recordings, of which nobody has the clean speech: where the student gets one, the teacher gets
the same one, and never otherwise.

Random numbers have named streams: the student's copy is drawn first and alike in all kinds, so runs with one seed are paired, and
`cdm1` and `cdm2` differ only in the teacher's view. The order of the utterances does not depend on views.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, NamedTuple, assert_never

from manifests.corpus.sample import CLEAN
from training.data.sampler import named_choice, named_number, named_share

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from training.data.view_keys import Views


class Copy(NamedTuple):
    """A distorted copy, as far as views depend on it.

    Attributes:
        name: `<condition>-<n>`.
        family: `noise`, `room`, ...; empty if its record was not read.
        keeps_content: Whether the speech in it is that of the clean utterance, at the same times.
    """

    name: str
    family: str = ""
    keeps_content: bool = True


class Pair(NamedTuple):
    """The copies that both models get of one utterance.

    Attributes:
        teacher: `clean` or `<condition>-<n>`.
        student: The same.
        fell_back: Whether one of them gets it clean because it has no copy that fits.
        student_family: Family of the student's copy; empty if its record was not read.
    """

    teacher: str
    student: str
    fell_back: bool = False
    student_family: str = CLEAN


def drawn_pair(views: Views, copies: Sequence[Copy], *, seed: int, epoch: int, key: str) -> Pair:
    """The copies that teacher and student get of one utterance in one epoch.

    Args:
        views: How the pair is chosen.
        copies: The utterance's distorted copies, by name.
        seed: Of the run.
        epoch: Of the order.
        key: The utterance's.
    """
    place = named_share(seed, "clean", epoch, key)
    if views.kind == "none" or place < views.clean_share:
        return Pair(CLEAN, CLEAN)
    fitting = [copy for copy in copies if student_may_get(views, copy)]
    if not fitting:
        return Pair(CLEAN, CLEAN, fell_back=True)
    student = student_copy(views, fitting, seed=seed, epoch=epoch, key=key)
    if place < views.clean_share + views.student.clean_share:
        student = Copy(CLEAN, family=CLEAN)
    if is_unpaired(views, student):
        return Pair(student.name, student.name, student_family=student.family)
    match views.kind:
        case "cdm1":
            return Pair(CLEAN, student.name, student_family=student.family)
        case "same":
            return Pair(student.name, student.name, student_family=student.family)
        case "cdm2":
            others = [copy for copy in copies if teacher_may_get(views, copy, student=student)]
            teacher = Copy(CLEAN)
            if others and named_share(seed, "teacher-clean", epoch, key) >= views.teacher.clean_share:
                teacher = others[named_choice(len(others), seed, "teacher", epoch, key)]
            return Pair(teacher.name, student.name, fell_back=not others, student_family=student.family)
        case _:
            assert_never(views.kind)


def student_copy(views: Views, fitting: Sequence[Copy], *, seed: int, epoch: int, key: str) -> Copy:
    """The copy that the student gets of those it may get."""
    match views.student.revisit:
        case "any":
            names = (seed, "student", epoch, key)
            if not isinstance(views.student.conditions, dict):
                return fitting[named_choice(len(fitting), *names)]
            sums = list(itertools.accumulate(views.student.conditions[condition_of(copy.name)] for copy in fitting))
            return fitting[bisect.bisect_right(sums, named_share(*names) * sums[-1], hi=len(sums) - 1)]
        case "last":
            turn, place = divmod(epoch, len(fitting))
            order = sorted(
                fitting, key=lambda copy: (named_number(seed, "student-order", turn, key, copy.name), copy.name)
            )
            return order[place]
        case _:
            assert_never(views.student.revisit)


def student_may_get(views: Views, copy: Copy) -> bool:
    """Whether a copy fits the student; where both get the same one it must fit the teacher too."""
    fits = of_conditions(copy, views.student.conditions)
    return fits and (views.kind != "same" or fits_teacher(views, copy))


def teacher_may_get(views: Views, copy: Copy, *, student: Copy) -> bool:
    """Whether a copy fits the teacher while the student gets another."""
    family_fits = views.families == "any" or copy.family != student.family
    return copy.name != student.name and family_fits and not is_unpaired(views, copy) and fits_teacher(views, copy)


def is_unpaired(views: Views, copy: Copy) -> bool:
    """Whether a copy is of an unpaired condition."""
    return views.unpaired is not None and condition_of(copy.name) in views.unpaired


def fits_teacher(views: Views, copy: Copy) -> bool:
    """Whether a copy is of the teacher's conditions, with its content in place."""
    keeps = copy.keeps_content or views.teacher.content == "any"
    return keeps and of_conditions(copy, views.teacher.conditions)


def of_conditions(copy: Copy, conditions: Collection[str] | None) -> bool:
    """Whether a copy is of one of some conditions; None means all."""
    return conditions is None or condition_of(copy.name) in conditions


def condition_of(copy: str) -> str:
    """The condition of a copy: `noise-0` is `noise`, `clean` is itself."""
    return copy.rpartition("-")[0] or copy
