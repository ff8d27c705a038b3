"""Which noise files a recipe has, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.sources.lhotse_manifest import noise_files
from corpus_builder.sources.relative_paths import Rooting, remember_place
from corpus_builder.sources.utterance import LeftOut, Refused, Utterance
from manifests.errors import BadDocumentError, printable
from manifests.recipe.noises import DividedNoise, RecordedNoise
from manifests.recipe.speech import SpeechSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corpus_builder.sources.roots import Located
    from manifests.io.place import Place
    from manifests.recipe.recipe import Recipe


@dataclass(frozen=True)
class NoiseTask:
    """One noise file to be read through."""

    source: str
    root: str
    path: str
    place: str
    group: str
    splits: tuple[str, ...]
    channel: int | None


def noise_tasks(
    recipe: Recipe,
    sources: dict[str, Located],
    *,
    refuse: Callable[[str, str, str], None],
    leave_out: Callable[[str, str], None],
    places: dict[str, Place],
) -> Iterator[NoiseTask]:
    """Every file of every recorded noise source."""
    for name, noise in recipe.noises.items():
        if isinstance(noise, RecordedNoise):
            splits = tuple(recipe.speech) if noise.split == "shared" else ()
            yield from source_tasks(
                name, sources[name], group=noise.group, splits=splits, refuse=refuse, leave_out=leave_out, places=places
            )
        elif isinstance(noise, DividedNoise):
            for split in noise.splits:
                located = sources[f"{name}-{split}"]
                yield from source_tasks(
                    name, located, group=None, splits=(split,), refuse=refuse, leave_out=leave_out, places=places
                )


def source_tasks(
    name: str,
    located: Located,
    *,
    group: str | None,
    splits: tuple[str, ...],
    refuse: Callable[[str, str, str], None],
    leave_out: Callable[[str, str], None],
    places: dict[str, Place],
) -> Iterator[NoiseTask]:
    """Every file of one source.

    Raises:
        BadDocumentError: If a file has no value for the field that groups are told by.
    """
    longest_s = (
        located.source.max_s if located.source.max_s != SpeechSource.model_fields["max_s"].default else float("inf")
    )
    everything = list(noise_files(located))
    rooting = Rooting(located)
    paths = [rooting.see(found.path) if isinstance(found, Utterance) else "" for found in everything]
    for found, seen in zip(everything, paths, strict=True):
        match found:
            case Refused():
                refuse(name, found.id, found.reason)
            case LeftOut():
                leave_out(name, found.reason)
            case Utterance() if found.seconds < located.source.min_s:
                leave_out(name, f"shorter than {located.source.min_s:g} s")
            case Utterance() if found.seconds > longest_s:
                leave_out(name, f"longer than {longest_s:g} s")
            case Utterance():
                path = rooting.below(seen)
                place = str(rooting.place / path)
                yield NoiseTask(
                    name, located.root, path, place, group_of(found, path, group, name), splits, found.channel
                )
    remember_place(places, rooting)


def group_of(found: Utterance, path: str, group: str | None, name: str) -> str:
    """Which group a noise file belongs to: its own, unless the recipe names a field."""
    if group is None:
        return path
    value = found.speaker if group == "speaker" else found.id if group == "id" else found.custom.get(group)
    if value is None:
        raise BadDocumentError(
            f"noises.{name}.group",
            f"{printable(found.id)} has no field {group!r}; name it in fields, a table or the cuts' custom",
        )
    return str(value)
