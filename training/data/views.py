"""Which copy each model hears: cross-distortion mapping (arXiv 2210.07978).

* `none`: both hear the clean utterance (plain DistilHuBERT).
* `cdm1`: the teacher hears it clean, the student a distorted copy.
* `cdm2`: both hear distorted copies, drawn independently: equal families may meet, the same copy may not.
* `same`: both hear the same distorted copy; an ablation (`distortion_same_as_student` in the authors' code).

Shares of clean speech, the conditions of either model and `families: different` narrow this down. A copy that does not keep
the content of its utterance in place (another pitch, another talker, lost packets) is never what the teacher hears, unless
`teacher.content` is `any`.

Chance has named streams: the student's copy is drawn first and alike in all of them, so runs with one seed are paired, and
`cdm1` and `cdm2` differ only in what the teacher hears. The order of the utterances knows nothing of all this.
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
    """What the teacher may hear, in `cdm2` and `same`; in `none` and `cdm1` it hears clean speech.

    Attributes:
        conditions: Only copies of these; all by default.
        clean_share: How often it hears the utterance clean, by a draw of its own (`cdm2`).
        content: `kept` leaves out copies that do not keep the content in place; `any` lets it hear those too.
    """

    conditions: Conditions | None = None
    clean_share: Share = 0.0
    content: Literal["kept", "any"] = "kept"


class StudentView(Record):
    """What the student may hear, in all kinds but `none`.

    Attributes:
        conditions: Only copies of these; all by default.
        clean_share: How often it alone hears the utterance clean, over `views.clean_share`.
        revisit: When it may hear a copy again: at `any` time, each epoch drawing anew, or only `last`, after all others: of n
            copies none is met twice in n epochs.
    """

    conditions: Conditions | None = None
    clean_share: Share = 0.0
    revisit: Literal["any", "last"] = "any"


class Views(Record):
    """How the pair is chosen.

    Attributes:
        kind: `none`, `cdm1`, `cdm2` or `same`.
        clean_share: Share of pairs in which both hear the clean utterance.
        families: `different` keeps the teacher's copy of another family (noise, room, ...) than the student's.
    """

    kind: ViewKind = "none"
    clean_share: Share = 0.0
    teacher: TeacherView = TeacherView()
    student: StudentView = StudentView()
    families: Literal["any", "different"] = "any"

    @model_validator(mode="after")
    def check_meaning(self) -> Self:
        """Nothing is asked for that this kind cannot give."""
        if self.clean_share + self.student.clean_share > 1:
            raise ValueError(
                f"clean_share + student.clean_share is {self.clean_share + self.student.clean_share:g}, more than 1"
            )
        if self.kind != "cdm2" and self.families == "different":
            raise ValueError(f"families: different needs kind: cdm2, not {self.kind}")
        if self.kind in {"none", "cdm1"} and self.teacher.conditions is not None:
            raise ValueError(
                f"teacher.conditions: with kind: {self.kind} the teacher hears clean speech; use kind: cdm2"
            )
        if self.kind == "none" and self.student.conditions is not None:
            raise ValueError("student.conditions: with kind: none the student hears clean speech; use cdm1 or cdm2")
        return self

    @property
    def need_records(self) -> bool:
        """Whether the record of each copy must be read: what was done to it decides who may hear it."""
        hears_copies = self.kind in {"cdm2", "same"} and self.clean_share < 1
        return hears_copies and (self.teacher.content == "kept" or self.families == "different")


class Copy(NamedTuple):
    """A distorted copy, as far as views care.

    Attributes:
        name: `<condition>-<n>`.
        family: `noise`, `room`, ...; empty if nobody asked.
        keeps_content: Whether it says the same things at the same times as the clean utterance.
    """

    name: str
    family: str = ""
    keeps_content: bool = True


class Pair(NamedTuple):
    """What is heard of one utterance.

    Attributes:
        teacher: `clean` or `<condition>-<n>`.
        student: The same.
        fell_back: One of them hears it clean because it has no copy that fits.
    """

    teacher: str
    student: str
    fell_back: bool = False


def drawn_pair(views: Views, copies: Sequence[Copy], *, seed: int, epoch: int, key: str) -> Pair:
    """The copies that teacher and student hear of one utterance in one epoch.

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
    heard = [copy for copy in copies if student_may_hear(views, copy)]
    if not heard:
        return Pair(CLEAN, CLEAN, fell_back=True)
    student = student_copy(views, heard, seed=seed, epoch=epoch, key=key)
    if place < views.clean_share + views.student.clean_share:
        student = Copy(CLEAN, family=CLEAN)
    match views.kind:
        case "cdm1":
            return Pair(CLEAN, student.name)
        case "same":
            return Pair(student.name, student.name)
        case "cdm2":
            others = [copy for copy in copies if teacher_may_hear(views, copy, student=student)]
            if others and named_share(seed, "teacher-clean", epoch, key) >= views.teacher.clean_share:
                return Pair(others[named_choice(len(others), seed, "teacher", epoch, key)].name, student.name)
            return Pair(CLEAN, student.name, fell_back=not others)
        case _:
            assert_never(views.kind)


def student_copy(views: Views, heard: Sequence[Copy], *, seed: int, epoch: int, key: str) -> Copy:
    """The copy that the student hears of those it may hear."""
    match views.student.revisit:
        case "any":
            return heard[named_choice(len(heard), seed, "student", epoch, key)]
        case "last":
            turn, place = divmod(epoch, len(heard))
            order = sorted(
                heard, key=lambda copy: (named_number(seed, "student-order", turn, key, copy.name), copy.name)
            )
            return order[place]
        case _:
            assert_never(views.student.revisit)


def student_may_hear(views: Views, copy: Copy) -> bool:
    """Whether a copy fits the student; where both hear the same one it must fit the teacher too."""
    fits = of_conditions(copy, views.student.conditions)
    return fits and (views.kind != "same" or fits_teacher(views, copy))


def teacher_may_hear(views: Views, copy: Copy, *, student: Copy) -> bool:
    """Whether a copy fits the teacher while the student hears another."""
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
        views: What is asked.
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
    hers, its = (
        {name for name in there if conditions is None or name in conditions}
        for conditions in (views.teacher.conditions, views.student.conditions)
    )
    heard = hers & its if views.kind == "same" else its if views.kind == "cdm1" else hers | its
    found, needed = sum(copies[name] for name in heard), 2 if views.kind == "cdm2" else 1
    if found < needed:
        total = sum(copies.values())
        instead = "cdm1" if total else "none"
        raise UsageError(
            f"{printable(where)}: views {views.kind} needs {needed} distorted "
            f"{'copy' if needed == 1 else 'different copies'} of an utterance, this split has {found}: "
            f"build it with more copies, or set views.kind={instead}"
        )
