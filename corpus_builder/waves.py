"""Where rendering gets its audio from: the sources below their roots, the room responses of the corpus."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from corpus_builder.bank import read_bank, read_response
from corpus_builder.decode import MissingAudioError, SilentAudioError, at_rate, read_stretch
from manifests.digest import file_digest
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, printable
from manifests.files import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from corpus_builder.distortions.levels import Wave
    from manifests.plan import PlanRow
    from manifests.planned import FileSpan
    from manifests.responses import RoomResponse

NOISE_BYTES = 160 << 20
TALKER_BYTES = 48 << 20
RESPONSE_BYTES = 64 << 20

Array = TypeVar("Array", bound="NDArray[Any]")


class Shelf(Generic[Array]):
    """Arrays used last, up to so many bytes of them; a worker's memory does not grow with the corpus.

    Args:
        most_bytes: How much is kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.kept: OrderedDict[object, Array] = OrderedDict()
        self.num_bytes = 0

    def get(self, key: object, make: Callable[[], Array]) -> Array:
        """The array of a key, made if it is not on the shelf."""
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        array = make()
        if array.nbytes > self.most_bytes:
            return array
        self.kept[key] = array
        self.num_bytes += array.nbytes
        while self.num_bytes > self.most_bytes:
            _, dropped = self.kept.popitem(last=False)
            self.num_bytes -= dropped.nbytes
        return array


class CorpusWaves:
    """The audio that one corpus is rendered from; what `render` calls `Waves`.

    Args:
        corpus: The corpus folder, for noise levels and rooms.
        roots: Where each root lies.
        rate_hz: Sample rate of the corpus.
    """

    def __init__(self, corpus: Path, *, roots: Mapping[str, Path], rate_hz: int) -> None:
        self.corpus, self.roots, self.rate_hz = corpus, dict(roots), rate_hz
        self.noises: Shelf[Wave] = Shelf(NOISE_BYTES)
        self.talkers: Shelf[Wave] = Shelf(TALKER_BYTES)
        self.responses: Shelf[NDArray[np.float32]] = Shelf(RESPONSE_BYTES)
        self.banks: dict[str, dict[str, RoomResponse]] = {}
        self.levels: dict[tuple[str, str], tuple[int, int | None, str]] | None = None
        self.checked: set[Path] = set()
        self.digests: OrderedDict[Path, str] = OrderedDict()

    def place(self, root: str, path: str) -> Path:
        """A file of a root on this machine.

        Raises:
            BadDocumentError: If nobody knows the root.
        """
        if root not in self.roots:
            raise BadDocumentError(
                "plan", f"root {root!r} is not among the roots of this machine: {', '.join(self.roots)}"
            )
        return self.roots[root] / path

    def speech(self, row: PlanRow) -> Wave:
        """The clean utterance, shape (row.num_samples,).

        Raises:
            UnfitAudioError: One of its subclasses, by what is wrong with the file.
        """
        wave = self.stretch(row.source)
        if not wave.any():
            raise SilentAudioError(row.source.path)
        return wave

    def talker(self, file: FileSpan) -> Wave:
        """An utterance of another speaker, shape (time,)."""
        key = (file.root, file.path, file.start, file.num_frames, file.channel)
        return self.talkers.get(key, lambda: self.stretch(file))

    def stretch(self, span: FileSpan) -> Wave:
        """A stretch of a source file at the corpus rate.

        Raises:
            MissingFileError: If the whole root is gone: then it is the machine that is wrong, not the file.
            UnfitAudioError: One of its subclasses, by what is wrong with the file.
        """
        place = self.place(span.root, span.path)
        try:
            wave = read_stretch(
                place,
                name=span.path,
                start=round(span.start * span.rate_hz),
                num_frames=span.num_frames,
                channel=span.channel,
                rate_hz=span.rate_hz,
            )
        except MissingAudioError:
            root = self.roots[span.root]
            if not root.is_dir() or next(root.iterdir(), None) is None:
                raise MissingFileError(
                    root, needed=f"root {span.root!r} holds the sources; is a disk not mounted?"
                ) from None
            raise
        return at_rate(wave, from_hz=span.rate_hz, to_hz=self.rate_hz)

    def source_sha256(self, span: FileSpan) -> str:
        """Digest of the file that a stretch comes from; files cut into many utterances are read once."""
        place = self.place(span.root, span.path)
        if place not in self.digests:
            self.digests[place] = file_digest(place)
            while len(self.digests) > 64:
                self.digests.popitem(last=False)
        return self.digests[place]

    def noise(self, root: str, path: str) -> Wave:
        """A whole noise file at the corpus rate, shape (time,), checked against the plan's digest.

        Raises:
            MissingFileError: If it is not there.
            DigestMismatchError: If it is not the file that was planned with.
        """
        return self.noises.get((root, path), lambda: self.read_noise(root, path))

    def read_noise(self, root: str, path: str) -> Wave:
        """Decode a noise file; see `noise`."""
        place = self.place(root, path)
        if (root, path) not in self.noise_levels():
            raise BadDocumentError("plan/levels.jsonl", f"has no noise {printable(path)} of root {root!r}")
        rate_hz, channel, sha256 = self.noise_levels()[root, path]
        try:
            wave = read_stretch(place, name=path, channel=channel, rate_hz=rate_hz)
        except MissingAudioError:
            raise MissingFileError(
                place, needed=f"a noise of root {root!r}; say --root {root}=DIR if it lies elsewhere"
            ) from None
        if place not in self.checked:
            found = file_digest(place)
            if found != sha256:
                raise DigestMismatchError(place, expected=sha256, found=found)
            self.checked.add(place)
        return at_rate(wave, from_hz=rate_hz, to_hz=self.rate_hz)

    def noise_levels(self) -> dict[tuple[str, str], tuple[int, int | None, str]]:
        """Rate, channel and digest of each planned noise file."""
        if self.levels is None:
            rows = read_json_lines(self.corpus / "plan" / "levels.jsonl", needed="the noise levels of the plan")
            self.levels = {
                (row["root"], row["path"]): (row["rate_hz"], row.get("channel"), row["sha256"]) for row in rows
            }
        return self.levels

    def response(self, name: str) -> tuple[NDArray[np.float32], int]:
        """A room response, shape (taps,), and its `direct_sample`."""
        bank = name.rsplit("-", 2)[0]
        folder = self.corpus / "rooms"
        if bank not in self.banks:
            self.banks[bank] = read_bank(folder, bank)
        if name not in self.banks[bank]:
            raise BadDocumentError(folder / f"{bank}.jsonl", f"has no response {printable(name)}")
        row = self.banks[bank][name]
        return self.responses.get(name, lambda: read_response(folder, row)), row.direct_sample


@lru_cache(maxsize=1)
def waves_of(corpus: str, roots: tuple[tuple[str, str], ...], rate_hz: int) -> CorpusWaves:
    """The waves of a corpus, kept from shard to shard within a worker."""
    return CorpusWaves(Path(corpus), roots={name: Path(place) for name, place in roots}, rate_hz=rate_hz)
