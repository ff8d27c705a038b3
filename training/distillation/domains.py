"""The domains that the critic classifies: its classes, and the label of each utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_never

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError, printable
from training.data.views import condition_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from training.data.view_keys import Views

Domain = Literal["condition", "family", "distorted", "view"]
UNKNOWN = -1


class OneDomainError(UsageError):
    """A critic with a single domain has nothing to classify."""

    def __init__(self, domain: Domain, views: Views, *, found: Sequence[str]) -> None:
        shown = ", ".join(printable(name) for name in found) or "none"
        super().__init__(
            f"adversary.domain: {domain} needs at least two domains, the student would get: {shown}; {remedy(domain, views)}"
        )


def remedy(domain: Domain, views: Views) -> str:
    """What would give the critic a second domain."""
    if views.kind == "none":
        clean_too = " and views.clean_share above 0" if domain == "distorted" else ""
        return f"set views.kind to cdm1 or cdm2{clean_too}"
    if not gets_copies(views):
        return "lower views.clean_share, so that the student gets distorted speech too"
    clean_too = "raise views.clean_share above 0, so that the student gets clean speech too"
    if domain == "distorted":
        return clean_too
    what = "conditions" if domain == "condition" else "families of distortions"
    where = "views.student.conditions" if views.student.conditions is not None else "the corpus"
    return f"{clean_too}, or give it more {what} by {where}"


def gets_copies(views: Views) -> bool:
    """Whether the student gets distorted copies."""
    return views.kind != "none" and views.clean_share + views.student.clean_share < 1


def conditions_in_training(views: Views, conditions: Iterable[str]) -> list[str]:
    """The conditions of a split whose copies the student may get, sorted."""
    chosen = views.student.conditions
    return sorted(name for name in conditions if chosen is None or name in chosen)


def domain_classes(
    domain: Domain, views: Views, conditions: Sequence[str], *, families: Collection[str] = ()
) -> tuple[str, ...]:
    """Names of the critic's classes, in the order of its outputs.

    Args:
        domain: What the critic names.
        views: Which copies the student gets.
        conditions: Conditions of the split.
        families: Families found among the copies that the student may get.

    Raises:
        OneDomainError: If there are fewer than two.
    """
    gets_clean = views.kind == "none" or views.clean_share + views.student.clean_share > 0 or CLEAN in families
    clean, copies = (CLEAN,) if gets_clean else (), gets_copies(views)
    match domain:
        case "view":
            return ("teacher", "student")
        case "condition":
            classes = clean + (tuple(conditions_in_training(views, conditions)) if copies else ())
        case "family":
            classes = clean + (tuple(sorted(set(families) - {CLEAN})) if copies else ())
        case "distorted":
            classes = clean + (("distorted",) if copies else ())
        case _:
            assert_never(domain)
    if len(classes) < 2:
        raise OneDomainError(domain, views, found=classes)
    return classes


def domain_labels(
    domain: Domain, classes: Sequence[str], copies: Sequence[str], families: Sequence[str] = ()
) -> list[int]:
    """The class of the student's copy of each utterance; -1 for one that is no class.

    A copy to which nothing was applied, by its record, is of the class `clean` whatever its condition.

    Args:
        domain: What the critic names.
        classes: From `domain_classes`.
        copies: Which copy the student was given of each utterance.
        families: Of those copies, `clean` of one to which nothing was applied; none if their records were not read.
    """
    is_clean = [CLEAN in pair for pair in zip(copies, families or copies, strict=True)]
    match domain:
        case "view":
            names = ["student"] * len(copies)
        case "condition":
            names = [CLEAN if clean else condition_of(copy) for copy, clean in zip(copies, is_clean, strict=True)]
        case "family":
            names = list(families)
        case "distorted":
            names = [CLEAN if clean else "distorted" for clean in is_clean]
        case _:
            assert_never(domain)
    places = {name: place for place, name in enumerate(classes)}
    return [places.get(name, UNKNOWN) for name in names]
