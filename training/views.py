"""Which copy each model hears: cross-distortion mapping (arXiv 2210.07978).

* `none`: both hear the clean utterance (plain DistilHuBERT).
* `cdm1`: the teacher hears it clean, the student a distorted copy.
* `cdm2`: both hear distorted copies, drawn independently, but never the same one.

The student's copy is drawn first and alike in both, so runs with one seed are paired: `cdm1` and `cdm2` differ only in what
the teacher hears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from manifests.errors import UsageError, printable
from manifests.records import Record
from manifests.sample import CLEAN
from training.order import named_choice, named_share

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ViewKind = Literal["none", "cdm1", "cdm2"]
NEEDED_COPIES: dict[ViewKind, int] = {"none": 0, "cdm1": 1, "cdm2": 2}


class Views(Record):
    """How the pair is chosen.

    Attributes:
        kind: `none`, `cdm1` or `cdm2`.
        clean_share: Share of pairs in which both hear the clean utterance (in the authors' code one in sixteen draws leaves
            an utterance clean).
    """

    kind: ViewKind = "none"
    clean_share: Annotated[float, Field(ge=0, le=1)] = 0.0


class Pair(NamedTuple):
    """Names of the two copies heard: `clean` or `<condition>-<n>`."""

    teacher: str
    student: str


def drawn_pair(views: Views, copies: Sequence[str], *, seed: int, epoch: int, key: str) -> Pair:
    """The copies that teacher and student hear of one utterance in one epoch.

    Args:
        views: How the pair is chosen.
        copies: Names of the utterance's distorted copies, sorted.
        seed: Of the run.
        epoch: Of the order.
        key: The utterance's.
    """
    if views.kind == "none" or named_share(seed, "clean", epoch, key) < views.clean_share:
        return Pair(CLEAN, CLEAN)
    student = named_choice(len(copies), seed, "student", epoch, key)
    if views.kind == "cdm1":
        return Pair(CLEAN, copies[student])
    other = named_choice(len(copies) - 1, seed, "teacher", epoch, key)
    return Pair(copies[other + (other >= student)], copies[student])


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
    found = sum(copies.values())
    if views.clean_share < 1 and found < NEEDED_COPIES[views.kind]:
        raise UsageError(
            f"{printable(where)}: views {views.kind} needs {NEEDED_COPIES[views.kind]} distorted "
            f"{'copy' if NEEDED_COPIES[views.kind] == 1 else 'different copies'} of an utterance, this split has {found}: "
            f"build it with more copies, or set views.kind={'cdm1' if found else 'none'}"
        )
