"""Chooses the copy of an utterance that each model gets: cross-distortion mapping (CDM, arXiv 2210.07978).

* `none`: both get the clean utterance (plain DistilHuBERT).
* `cdm1`: the teacher gets it clean, the student a distorted copy.
* `cdm2`: both get distorted copies, drawn independently: their families may be equal, the copies may not.
* `same`: both get the same distorted copy; an ablation (`distortion_same_as_student` in the authors' code).

Shares of clean speech, the conditions of either model and `families: different` narrow this down. A copy that does not keep
the content of its utterance in place (another pitch, another talker, lost packets) is never the teacher's view, unless
`teacher.content` is `any`.

Random numbers have named streams: the student's copy is drawn first and alike in all kinds, so runs with one seed are paired, and
`cdm1` and `cdm2` differ only in the teacher's view. The order of the utterances does not depend on views.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self, assert_never

from pydantic import Field, model_validator

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError, printable
from manifests.io.records import CONDITION_PATTERN, Record
from training.data.sampler import named_choice, named_number, named_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ViewKind = Literal["none", "cdm1", "cdm2", "same"]
Share = Annotated[float, Field(ge=0, le=1)]
Conditions = Annotated[
    tuple[Annotated[str, Field(pattern=CONDITION_PATTERN)], ...], Field(strict=False, min_length=1, max_length=1000)
]


class TeacherView(Record):
    """Which copies the teacher may get, in `cdm2` and `same`; in `none` and `cdm1` it gets clean speech.

    Attributes:
        conditions: Only copies of these; all by default.
        clean_share: How often it gets the utterance clean, by a draw of its own (`cdm2`).
        content: `kept` leaves out copies that do not keep the content in place; `any` lets it have those too.
    """

    conditions: Conditions | None = None
    clean_share: Share = 0.0
    content: Literal["kept", "any"] = "kept"


class StudentView(Record):
    """Which copies the student may get, in all kinds but `none`.

    Attributes:
        conditions: Only copies of these; all by default.
        clean_share: How often it alone gets the utterance clean, over `views.clean_share`.
        revisit: When it may get a copy again: at `any` time, each epoch drawing anew, or only `last`, after all others: of n
            copies none is used twice in n epochs.
    """

    conditions: Conditions | None = None
    clean_share: Share = 0.0
    revisit: Literal["any", "last"] = "any"


class Views(Record):
    """How the pair is chosen.

    Attributes:
        teacher: Which copies the teacher may get.
        student: Which copies the student may get.
        kind: `none`, `cdm1`, `cdm2` or `same`.
        clean_share: Share of pairs in which both get the clean utterance.
        families: `different` keeps the teacher's copy of another family (noise, room, ...) than the student's.
    """

    kind: ViewKind = "none"
    clean_share: Share = 0.0
    teacher: TeacherView = TeacherView()
    student: StudentView = StudentView()
    families: Literal["any", "different"] = "any"

    @model_validator(mode="after")
    def check_meaning(self) -> Self:
        """Refuse what has no meaning in this kind."""
        if self.clean_share + self.student.clean_share > 1:
            raise ValueError(
                f"clean_share + student.clean_share is {self.clean_share + self.student.clean_share:g}, more than 1"
            )
        if self.kind != "cdm2" and self.families == "different":
            raise ValueError(f"families: different needs kind: cdm2, not {self.kind}")
        if self.kind in {"none", "cdm1"} and self.teacher.conditions is not None:
            raise ValueError(
                f"teacher.conditions: with kind: {self.kind} the teacher gets clean speech; use kind: cdm2"
            )
        if self.kind == "none" and self.student.conditions is not None:
            raise ValueError("student.conditions: with kind: none the student gets clean speech; use cdm1 or cdm2")
        return self

    @property
    def need_records(self) -> bool:
        """Whether the record of each copy must be read: what was done to it decides which model may get it."""
        needs_copies = self.kind in {"cdm2", "same"} and self.clean_share < 1
        return needs_copies and (self.teacher.content == "kept" or self.families == "different")


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
            return fitting[named_choice(len(fitting), seed, "student", epoch, key)]
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
    return copy.name != student.name and family_fits and fits_teacher(views, copy)


def fits_teacher(views: Views, copy: Copy) -> bool:
    """Whether a copy is of the teacher's conditions, with its content in place."""
    keeps = copy.keeps_content or views.teacher.content == "any"
    return keeps and of_conditions(copy, views.teacher.conditions)


def of_conditions(copy: Copy, conditions: tuple[str, ...] | None) -> bool:
    """Whether a copy is of one of some conditions; None means all."""
    return conditions is None or condition_of(copy.name) in conditions


def condition_of(copy: str) -> str:
    """The condition of a copy: `noise-0` is `noise`, `clean` is itself."""
    return copy.rpartition("-")[0] or copy


def check_copies(views: Views, copies: Mapping[str, int], *, where: object) -> None:
    """Refuse views for which a split has too few copies, before hours are spent.

    Args:
        views: As configured.
        copies: How many copies of each condition an utterance of the split has.
        where: The corpus and split, for the message.

    Raises:
        UsageError: With what there is and what is needed.
    """
    if views.kind == "none" or views.clean_share == 1:
        return
    there = sorted(name for name, count in copies.items() if count)
    for who, conditions in (("teacher", views.teacher.conditions), ("student", views.student.conditions)):
        missing = [name for name in conditions or () if name not in there]
        if missing:
            raise UsageError(
                f"views.{who}.conditions: {printable(where)} has no copies of {printable(missing[0])!r}; "
                f"it has {', '.join(map(printable, there)) or 'none'}"
            )
    teachers, students = (
        {name for name in there if conditions is None or name in conditions}
        for conditions in (views.teacher.conditions, views.student.conditions)
    )
    used = teachers & students if views.kind == "same" else students if views.kind == "cdm1" else teachers | students
    found, needed = sum(copies[name] for name in used), 2 if views.kind == "cdm2" else 1
    if found < needed:
        total = sum(copies.values())
        instead = "cdm1" if total else "none"
        raise UsageError(
            f"{printable(where)}: views {views.kind} needs {needed} distorted "
            f"{'copy' if needed == 1 else 'different copies'} of an utterance, this split has {found}: "
            f"build it with more copies, or set views.kind={instead}"
        )
