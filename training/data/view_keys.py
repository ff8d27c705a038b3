"""The keys of `views`, which name the copies that teacher and student get; `training.data.views` draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from manifests.errors import UsageError, printable
from manifests.io.records import CONDITION_PATTERN, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ViewKind = Literal["none", "cdm1", "cdm2", "same"]
Share = Annotated[float, Field(ge=0, le=1)]
ConditionName = Annotated[str, Field(pattern=CONDITION_PATTERN)]
Conditions = Annotated[tuple[ConditionName, ...], Field(strict=False, min_length=1, max_length=1000)]
ConditionWeights = Annotated[
    dict[ConditionName, Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1, max_length=1000)
]
DistillationWeights = Annotated[
    dict[ConditionName, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1, max_length=1000)
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
        conditions: Only copies of these; all by default. A mapping gives weights: with `{noise: 1, roomy: 2}` a copy of `roomy` is
            drawn twice as often as one of `noise`.
        clean_share: How often it alone gets the utterance clean, over `views.clean_share`.
        revisit: When it may get a copy again: at `any` time, each epoch drawing anew, or only `last`, after all others: of n
            copies none is used twice in n epochs.
    """

    conditions: Conditions | ConditionWeights | None = None
    clean_share: Share = 0.0
    revisit: Literal["any", "last"] = "any"

    @model_validator(mode="after")
    def check_weights(self) -> Self:
        """Weights have no meaning where each copy comes once."""
        if self.revisit == "last" and isinstance(self.conditions, dict):
            raise ValueError("conditions: revisit: last uses all copies equally often; list them without weights")
        return self


class Views(Record):
    """How the pair is chosen.

    Attributes:
        teacher: Which copies the teacher may get.
        student: Which copies the student may get.
        kind: `none`, `cdm1`, `cdm2` or `same`.
        clean_share: Share of pairs in which both get the clean utterance.
        families: `different` keeps the teacher's copy of another family (noise, room, ...) than the student's.
        unpaired: Conditions whose copies stand for real recordings without a clean twin: teacher and student get the same copy (`cdm1`
            and `cdm2`), whatever `teacher.content` says. A mapping gives the weight of their frames in the distillation loss, where others
            have 1: with `{roomy: 0}` the domain classifier alone reads them.
    """

    kind: ViewKind = "none"
    clean_share: Share = 0.0
    teacher: TeacherView = TeacherView()
    student: StudentView = StudentView()
    families: Literal["any", "different"] = "any"
    unpaired: Conditions | DistillationWeights | None = None

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

    @model_validator(mode="after")
    def check_unpaired(self) -> Self:
        """Refuse unpaired conditions that no model could get, or beside which there is nothing paired."""
        if self.unpaired is None:
            return self
        if self.kind not in {"cdm1", "cdm2"}:
            raise ValueError(f"unpaired: needs kind: cdm1 or cdm2, not {self.kind}")
        names = set(self.unpaired)
        if self.student.conditions is not None:
            if missing := sorted(names - set(self.student.conditions)):
                raise ValueError(
                    f"unpaired: {missing[0]} is not among student.conditions, so it would never be used; name it there"
                )
            if not set(self.student.conditions) - names:
                raise ValueError(
                    "unpaired: all of student.conditions are; leave at least one paired, or use kind: same"
                )
        if in_both := sorted(names & set(self.teacher.conditions or ())):
            raise ValueError(
                f"unpaired: {in_both[0]} is among teacher.conditions too, but an unpaired copy is the teacher's only where it is the student's: "
                "name it in one of them"
            )
        return self

    def teacher_conditions(self, conditions: Sequence[str]) -> tuple[str, ...]:
        """Conditions of a split whose copies the teacher may get, beside clean speech."""
        if self.kind == "none" or self.clean_share == 1:
            return ()
        unpaired = tuple(self.unpaired or ())
        if self.kind == "cdm1":
            return unpaired
        paired = self.teacher.conditions or tuple(name for name in conditions if name not in unpaired)
        return (*paired, *unpaired)

    def distillation_weight(self, condition: str) -> float:
        """Weight in the distillation loss of the frames that the student gets in a condition."""
        return self.unpaired.get(condition, 1.0) if isinstance(self.unpaired, dict) else 1.0

    @property
    def need_records(self) -> bool:
        """Whether the record of each copy must be read: what was done to it decides which model may get it."""
        needs_copies = self.kind in {"cdm2", "same"} and self.clean_share < 1
        return needs_copies and (self.teacher.content == "kept" or self.families == "different")


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
    named = {
        "teacher.conditions": views.teacher.conditions,
        "student.conditions": views.student.conditions,
        "unpaired": views.unpaired,
    }
    for key, conditions in named.items():
        missing = [name for name in conditions or () if name not in there]
        if missing:
            raise UsageError(
                f"views.{key}: {printable(where)} has no copies of {printable(missing[0])!r}; "
                f"it has {', '.join(map(printable, there)) or 'none'}"
            )
    teachers, students = (
        {name for name in there if conditions is None or name in conditions}
        for conditions in (views.teacher.conditions, views.student.conditions)
    )
    used = teachers & students if views.kind == "same" else students if views.kind == "cdm1" else teachers | students
    if views.unpaired is not None:
        used = used - set(views.unpaired)
        if not students - set(views.unpaired):
            raise UsageError(
                f"views.unpaired: {printable(where)} has no other conditions for the student than {', '.join(map(printable, sorted(students)))}; "
                "leave at least one of them paired, or use views.kind: same"
            )
    found, needed = sum(copies[name] for name in used), 2 if views.kind == "cdm2" else 1
    if found < needed:
        total = sum(copies.values())
        instead = "cdm1" if total else "none"
        paired = " beside the unpaired ones" if views.unpaired is not None else ""
        raise UsageError(
            f"{printable(where)}: views {views.kind} needs {needed} distorted "
            f"{'copy' if needed == 1 else 'different copies'} of an utterance{paired}, this split has {found}: "
            f"build it with more copies, or set views.kind={instead}"
        )
