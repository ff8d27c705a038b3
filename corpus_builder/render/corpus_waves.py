"""Gives rendering its audio: sources below their roots, room responses of the corpus."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.errors import MissingAudioError
from corpus_builder.audio.levels import refuse_silence
from corpus_builder.audio.remote import SourceCache
from corpus_builder.audio.resample import at_rate
from corpus_builder.audio.tar_members import audio_digest
from corpus_builder.render.source_ledger import SourceLedger, source_of
from corpus_builder.render.wave_cache import LongNoise, WaveCache
from corpus_builder.rooms.rir_bank import read_bank, read_response
from manifests.corpus.layout import LEVELS, ROOMS_FOLDER, SPECTRA, bank_name, speech_spectra
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, printable
from manifests.io.json_yaml import read_json_lines
from manifests.io.place import place_of
from manifests.io.url import Url
from manifests.plan.rooms import RESPONSE_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave
    from corpus_builder.distortions.additive_noise import Recording
    from manifests.io.place import Place
    from manifests.plan.plan import PlanRow
    from manifests.plan.rooms import RoomResponse
    from manifests.plan.steps import FileSpan
    from manifests.recipe.speech import Channel


NOISE_BYTES = 128 << 20
LONG_NOISE_SAMPLES = 1 << 23  # 67 MB, 8.7 minutes at 16 kHz; longer noises are read by the segment
TALKER_BYTES = 48 << 20
RESPONSE_BYTES = 64 << 20
CACHED = threading.local()  # an executor may run several shards in the threads of one process


class CorpusWaves:
    """The audio that one corpus is rendered from; implements `Waves`.

    Args:
        corpus: The corpus folder, for noise levels and rooms.
        roots: Folder or URL of each root.
        rate_hz: Sample rate of the corpus.
    """

    def __init__(self, corpus: Path, *, roots: Mapping[str, Place], rate_hz: int) -> None:
        self.corpus, self.roots, self.rate_hz = corpus, dict(roots), rate_hz
        self.fetched = SourceCache()
        self.noises: WaveCache[Wave] = WaveCache(NOISE_BYTES)
        self.talkers: WaveCache[Wave] = WaveCache(TALKER_BYTES)
        self.responses: WaveCache[NDArray[np.float32]] = WaveCache(RESPONSE_BYTES)
        self.banks: dict[str, dict[str, RoomResponse]] = {}
        self.levels: dict[tuple[str, str], tuple[int, Channel | None, str, int]] | None = None
        self.spectra: dict[str, NDArray[np.float64]] | None = None
        self.checked: set[Place] = set()
        self.digests: OrderedDict[Place, str] = OrderedDict()
        self.ledger = SourceLedger()

    def place(self, root: str, path: str) -> Place:
        """A file of a root.

        Raises:
            BadDocumentError: If the root is unknown.
        """
        if root not in self.roots:
            raise BadDocumentError(
                "plan", f"root {root!r} is not among the roots of this machine: {', '.join(self.roots)}"
            )
        return self.roots[root] / path

    def local(self, place: Place, *, name: str) -> Path:
        """A file as a local path: itself, or fetched.

        Raises:
            MissingAudioError: If its URL does not exist.
            UnreachableError: If its URL cannot be read.
        """
        if not isinstance(place, Url):
            return place
        try:
            return self.fetched.path(place)
        except FileNotFoundError:
            raise MissingAudioError(name) from None

    def speech(self, row: PlanRow) -> Wave:
        """The clean utterance, shape (row.num_samples,).

        Raises:
            UnfitAudioError: One of its subclasses, by what is wrong with the file.
        """
        wave = self.stretch(row.source)
        refuse_silence(wave, name=row.source.path)
        return wave

    def talker(self, file: FileSpan) -> Wave:
        """An utterance of another speaker, shape (time,)."""
        key = (file.root, file.path, file.start, file.num_frames, file.channel)
        wave = self.talkers.get(key, lambda: self.stretch(file))
        self.ledger.use(key)
        return wave

    def stretch(self, span: FileSpan) -> Wave:
        """A stretch of a source file at the corpus rate.

        Raises:
            MissingFileError: If the whole root is gone: a fault of the machine, not of the file.
            UnfitAudioError: One of its subclasses, by what is wrong with the file.
        """
        place = self.place(span.root, span.path)
        try:
            wave = read_stretch(
                self.local(place, name=span.path),
                name=span.path,
                start=round(span.start * span.rate_hz),
                num_frames=span.num_frames,
                channel=span.channel,
                rate_hz=span.rate_hz,
            )
        except MissingAudioError:
            root = self.roots[span.root]
            if not root.is_dir() or (isinstance(root, Path) and next(root.iterdir(), None) is None):
                raise MissingFileError(
                    root, needed=f"root {span.root!r} holds the sources; is a disk not mounted?"
                ) from None
            raise
        key = (span.root, span.path, span.start, span.num_frames, span.channel)
        source = source_of(
            wave,
            root=span.root,
            path=span.path,
            start=round(span.start * span.rate_hz),
            rate_hz=span.rate_hz,
            channel=span.channel,
            sha256=self.source_sha256(span),
        )
        self.ledger.note(key, source)
        self.ledger.use(key)
        return at_rate(wave, from_hz=span.rate_hz, to_hz=self.rate_hz)

    def source_sha256(self, span: FileSpan) -> str:
        """Digest of the file that a stretch comes from; files cut into many utterances are read once."""
        place = self.place(span.root, span.path)
        if place not in self.digests:
            self.digests[place] = audio_digest(self.local(place, name=span.path))
            while len(self.digests) > 64:
                self.digests.popitem(last=False)
        return self.digests[place]

    def noise(self, root: str, path: str) -> Recording:
        """A whole noise file at the corpus rate, shape (time,), checked against the plan's digest; a long one is read by slices.

        Raises:
            MissingFileError: If it does not exist.
            DigestMismatchError: If it is not the file that was planned with.
        """
        place = self.place(root, path)
        if (root, path) not in self.noise_levels():
            raise BadDocumentError(LEVELS, f"has no noise {printable(path)} of root {root!r}")
        rate_hz, channel, sha256, num_samples = self.noise_levels()[root, path]
        if num_samples * max(1.0, rate_hz / self.rate_hz) <= LONG_NOISE_SAMPLES:
            wave = self.noises.get((root, path), lambda: self.read_noise(root, path))
            self.ledger.use((root, path))
            return wave
        local = self.checked_noise(place, root=root, path=path)

        def note(wave: Wave, start: int) -> None:
            key = (root, path, start, wave.size)
            source = source_of(wave, root=root, path=path, start=start, rate_hz=rate_hz, channel=channel, sha256=sha256)
            self.ledger.note(key, source)
            self.ledger.use(key)

        return LongNoise(
            local, note, name=path, num_samples=num_samples, channel=channel, from_hz=rate_hz, to_hz=self.rate_hz
        )

    def checked_noise(self, place: Place, *, root: str, path: str) -> Path:
        """A noise file as a local path, after its digest was compared with the plan's."""
        try:
            local = self.local(place, name=path)
            if place not in self.checked:
                found, expected = audio_digest(local), self.noise_levels()[root, path][2]
                if found != expected:
                    raise DigestMismatchError(place, expected=expected, found=found)
                self.checked.add(place)
        except (MissingAudioError, FileNotFoundError):
            raise MissingFileError(
                place, needed=f"a noise of root {root!r}; say --root {root}=DIR if it is elsewhere"
            ) from None
        return local

    def read_noise(self, root: str, path: str) -> Wave:
        """Decode a noise file; see `noise`."""
        rate_hz, channel, sha256, _ = self.noise_levels()[root, path]
        local = self.checked_noise(self.place(root, path), root=root, path=path)
        wave = read_stretch(local, name=path, channel=channel, rate_hz=rate_hz)
        source = source_of(wave, root=root, path=path, start=0, rate_hz=rate_hz, channel=channel, sha256=sha256)
        self.ledger.note((root, path), source)
        return at_rate(wave, from_hz=rate_hz, to_hz=self.rate_hz)

    def noise_levels(self) -> dict[tuple[str, str], tuple[int, Channel | None, str, int]]:
        """Rate, channel, digest and length at the corpus rate of each planned noise file."""
        if self.levels is None:
            rows = read_json_lines(self.corpus / LEVELS, needed="the noise levels of the plan")
            self.levels = {
                (row["root"], row["path"]): (row["rate_hz"], row.get("channel"), row["sha256"], row["num_samples"])
                for row in rows
            }
        return self.levels

    def response(self, name: str) -> tuple[NDArray[np.float32], int]:
        """A room response, shape (taps,), and its `direct_sample`."""
        match = RESPONSE_PATTERN.match(name)
        if match is None:
            raise BadDocumentError("plan", f"response {printable(name)} is not named <bank>-<room>-<position>")
        bank = match["bank"]
        if bank not in self.banks:
            self.banks[bank] = read_bank(self.corpus / ROOMS_FOLDER, bank)
        if name not in self.banks[bank]:
            raise BadDocumentError(self.corpus / bank_name(bank), f"has no response {printable(name)}")
        row = self.banks[bank][name]
        return self.responses.get(name, lambda: read_response(self.corpus / ROOMS_FOLDER, row)), row.direct_sample

    def spectrum(self, split: str) -> NDArray[np.float64]:
        """Long-term spectrum of a split's speech in dB, at equally spaced frequencies from 0 Hz to half the rate.

        Raises:
            BadDocumentError: If the plan has none for the split, or one for another rate.
        """
        path = self.corpus / SPECTRA
        if self.spectra is None:
            rows = speech_spectra(self.corpus)
            self.spectra = {row.split: np.array(row.power_db) for row in rows if row.rate_hz == self.rate_hz}
        if split not in self.spectra:
            raise BadDocumentError(path, f"has no spectrum of {printable(split)!r} at {self.rate_hz} Hz")
        return self.spectra[split]


def waves_of(corpus: str, roots: tuple[tuple[str, str], ...], rate_hz: int) -> CorpusWaves:
    """The waves of a corpus, cached from shard to shard within a worker."""
    key = (corpus, roots, rate_hz)
    if getattr(CACHED, "key", None) != key:
        CACHED.key, CACHED.waves = (
            key, CorpusWaves(Path(corpus), roots={name: place_of(place) for name, place in roots}, rate_hz=rate_hz)
        )  # fmt: skip
    waves: CorpusWaves = CACHED.waves
    return waves
