"""Which noise files a recipe has, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corpus_builder.sources.lhotse_manifest import noise_files
from corpus_builder.sources.relative_paths import FoundRoot, RootFinder
from corpus_builder.sources.utterance import LeftOut, Refused, Utterance
from manifests.errors import BadDocumentError, printable
from manifests.recipe.noises import DividedNoise, RecordedNoise
from manifests.recipe.speech import SpeechSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corpus_builder.sources.folder import Headers
    from corpus_builder.sources.roots import Located
    from manifests.recipe.recipe import Recipe
    from manifests.recipe.speech import Channel


@dataclass(frozen=True)
class NoiseTask:
    """One noise file to be read through."""

    source: str
    root: str
    path: str
    place: str
    group: str
    splits: tuple[str, ...]
    channel: Channel | None


@dataclass(frozen=True)
class NoiseListing:
    """The files of one noise source, or of one split's part of a divided one.

    Attributes:
        source: Name of the noise source.
        tasks: One for each file that can be used.
        unused: The other files, with the reason of each.
        root: Where its files are.
    """

    source: str
    tasks: tuple[NoiseTask, ...]
    unused: tuple[Refused | LeftOut, ...]
    root: FoundRoot


def noise_listings(
    recipe: Recipe, sources: Mapping[str, Located], headers_of: Callable[[Located], Headers] = lambda _: {}
) -> list[NoiseListing]:
    """The files of every recorded noise source, in the order of the recipe.

    Args:
        recipe: What is wanted.
        sources: Its sources on this machine.
        headers_of: Reads the headers of a source's files beforehand, as far as that takes long.
    """
    listings: list[NoiseListing] = []
    for name, noise in recipe.noises.items():
        if isinstance(noise, RecordedNoise):
            splits = tuple(recipe.speech) if noise.split == "shared" else ()
            located = sources[name]
            listings.append(noise_listing(name, located, headers_of(located), group=noise.group, splits=splits))
        elif isinstance(noise, DividedNoise):
            for split in noise.splits:
                located = sources[f"{name}-{split}"]
                listings.append(noise_listing(name, located, headers_of(located), group=None, splits=(split,)))
    return listings


def noise_listing(
    name: str, located: Located, headers: Headers, *, group: str | None, splits: tuple[str, ...]
) -> NoiseListing:
    """The files of one source.

    Raises:
        BadDocumentError: If a file has no value for the field that groups are formed by.
    """
    has_max_s = located.source.max_s != SpeechSource.model_fields["max_s"].default
    longest_s = located.source.max_s if has_max_s else float("inf")
    everything = list(noise_files(located, headers))
    finder = RootFinder(located)
    paths = [finder.add(found.path) if isinstance(found, Utterance) else "" for found in everything]
    tasks: list[NoiseTask] = []
    unused: list[Refused | LeftOut] = []
    for found, absolute in zip(everything, paths, strict=True):
        match found:
            case Refused() | LeftOut():
                unused.append(found)
            case Utterance() if found.seconds < located.source.min_s:
                unused.append(LeftOut(f"shorter than {located.source.min_s:g} s"))
            case Utterance() if found.seconds > longest_s:
                unused.append(LeftOut(f"longer than {longest_s:g} s"))
            case Utterance():
                path = finder.relative(absolute)
                task = NoiseTask(
                    source=name,
                    root=located.root,
                    path=path,
                    place=str(finder.folder / path),
                    group=group_of(found, path, group, name),
                    splits=splits,
                    channel=found.channel,
                )
                tasks.append(task)
    return NoiseListing(name, tuple(tasks), tuple(unused), finder.found())


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
