"""The domains that the critic classifies: its classes, and the label of each utterance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_never

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError, printable
from training.data.views import condition_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from training.data.views import Views

Domain = Literal["condition", "family", "distorted", "view"]
UNKNOWN = -1


class OneDomainError(UsageError):
    """A critic with a single domain has nothing to classify."""

    def __init__(self, domain: str, *, found: Sequence[str]) -> None:
        remedy = {
            "distorted": "set views.clean_share between 0 and 1, so that the student gets clean and distorted speech",
            "condition": "use a corpus with more conditions, raise views.clean_share above 0, or set views.kind to cdm1 or cdm2",
            "family": "use a corpus with more families of distortions, or raise views.clean_share above 0",
        }.get(domain, "choose another domain")
        shown = ", ".join(printable(name) for name in found) or "none"
        super().__init__(
            f"adversary.domain: {domain} needs at least two domains, the student would get: {shown}; {remedy}"
        )


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
    gets_clean = views.kind == "none" or views.clean_share + views.student.clean_share > 0
    gets_copies = views.kind != "none" and views.clean_share + views.student.clean_share < 1
    chosen = views.student.conditions
    used = sorted(name for name in conditions if chosen is None or name in chosen)
    match domain:
        case "view":
            return ("teacher", "student")
        case "condition":
            classes = ((CLEAN,) if gets_clean else ()) + (tuple(used) if gets_copies else ())
        case "family":
            found = (set(families) if gets_copies else set()) | ({CLEAN} if gets_clean else set())
            classes = tuple(sorted(found, key=lambda name: (name != CLEAN, name)))
        case "distorted":
            classes = ((CLEAN,) if gets_clean else ()) + (("distorted",) if gets_copies else ())
        case _:
            assert_never(domain)
    if len(classes) < 2:
        raise OneDomainError(domain, found=classes)
    return classes


def domain_labels(
    domain: Domain, classes: Sequence[str], copies: Sequence[str], families: Sequence[str] = ()
) -> list[int]:
    """The class of the student's copy of each utterance; -1 for one that is no class.

    Args:
        domain: What the critic names.
        classes: From `domain_classes`.
        copies: Which copy the student was given of each utterance.
        families: Of those copies.
    """
    match domain:
        case "view":
            names = ["student"] * len(copies)
        case "condition":
            names = [condition_of(copy) for copy in copies]
        case "family":
            names = list(families)
        case "distorted":
            names = [CLEAN if copy == CLEAN else "distorted" for copy in copies]
        case _:
            assert_never(domain)
    places = {name: place for place, name in enumerate(classes)}
    return [places.get(name, UNKNOWN) for name in names]
