"""Assignment of undivided noises and rooms to the splits by keyed hash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corpus_builder.plan.materials.seeded_random import keyed_hash
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


TRAIN_SHARE = 0.8


class TooFewToAssignError(StillroomError, ValueError):
    """There are fewer groups or rooms than splits, so that some split would have none."""

    def __init__(self, name: str, *, count: int, what: str, splits: Sequence[str]) -> None:
        super().__init__(
            f"{printable(name)}: {count} {what} cannot be assigned to {len(splits)} splits ({', '.join(splits)}) with at least one "
            "each; add more, give each split its own, or say split: shared (which leaks, and audit reports it)"
        )


def shares(splits: Sequence[str]) -> list[float]:
    """How much of noises and rooms each split gets: `train` (else the first) 80 %, the others the rest in equal parts."""
    if len(splits) == 1:
        return [1.0]
    first = "train" if "train" in splits else splits[0]
    return [TRAIN_SHARE if split == first else (1.0 - TRAIN_SHARE) / (len(splits) - 1) for split in splits]


def assigned(
    names: Iterable[str], splits: Sequence[str], *, seed: int, owner: str, what: str = "groups"
) -> dict[str, str]:
    """Assign names to splits by keyed hash, 80/10/10, at least one each; their order does not matter.

    Args:
        names: What is assigned: groups of noise files, numbers of rooms.
        splits: In the recipe's order.
        seed: The recipe's.
        owner: Name of the noise source or bank.
        what: What the names are, in the plural, for the message.

    Returns:
        The split of each name.

    Raises:
        TooFewToAssignError: If there are fewer names than splits.
    """
    ranked = sorted(set(names), key=lambda name: (keyed_hash(seed, owner, name), name))
    if len(ranked) < len(splits):
        raise TooFewToAssignError(owner, count=len(ranked), what=what, splits=splits)
    counts = [max(1, round(share * len(ranked))) for share in shares(splits)]
    largest = max(range(len(splits)), key=lambda number: counts[number])
    counts[largest] += len(ranked) - sum(counts)
    ordered = [split for split, count in zip(splits, counts, strict=True) for _ in range(count)]
    return dict(zip(ranked, ordered, strict=True))
