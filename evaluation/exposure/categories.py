"""The category of a test copy for a model: heard, seen, shifted or new, decided from the copy's steps and never from a name.

A step is *heard* if its noise recording or room response was used in training, by content; *seen* if its kind and source were,
with another recording and numbers within the trained range; *shifted* if its kind was, but not this source or these numbers;
*new* if its kind was not. The kind of a codec is its bandwidth: a new narrow-band codec after AMR-NB is shifted. A copy has the
category of its step that is furthest from training (in the order seen, heard, shifted, new); known steps in a chain that
training did not have are shifted.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manifests.corpus.layout import LEVELS, bank_name
from manifests.io.json_yaml import parse_json
from manifests.plan.references import references

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from manifests.corpus.sample import SampleCopy
    from manifests.plan.references import Reference
    from manifests.plan.steps import PlannedStep
    from manifests.results.scores import Category
    from manifests.results.training_exposure import TrainedKind, TrainedOn
    from training.data.corpus import CorpusReader

NARROW_BAND = ("g711", "g726", "g723", "g721", "g729", "gsm", "amr-nb", "amr_nb")
OPUS_WIDE_KBPS = 9.0  # below, Opus codes speech narrow-band (RFC 6716, section 2.1.1)
NOT_STRENGTHS = frozenset({"seed", "lost_packets"})  # say which, or how long, not how strong
MARGIN_DRAWS = 3.0
MOST_MARGIN = 0.1
CATEGORY_ORDER: tuple[Category, ...] = ("seen", "heard", "shifted", "new")


@dataclass(frozen=True)
class StepFacts:
    """What a category depends on, of one step.

    Attributes:
        kind: Such as `noise recorded` or `codec narrow-band`.
        source: Where it comes from; None where the kind has no sources.
        recordings: Digests (16 hex digits) of the noise recordings and responses used.
        numbers: By name.
    """

    kind: str
    source: str | None
    recordings: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)


class Library:
    """Noise recordings and room responses of a corpus with their digests, read when first needed."""

    def __init__(self, reader: CorpusReader) -> None:
        self.reader = reader
        self.banks: dict[str, dict[str, dict[str, Any]]] = {}
        self.noises: dict[tuple[str, str], str] | None = None

    def noise(self, source: str, root: str, path: str) -> str:
        """Digest of a noise recording: of its content, or of its path where that is not known."""
        if self.noises is None:
            self.noises = {
                (str(row.get("source")), str(row.get("path"))): str(row["sha256"])[:16]
                for row in self.rows(LEVELS)
                if isinstance(row.get("sha256"), str)
            }
        return self.noises.get((source, path)) or text_digest(f"{root}/{path}")

    def response(self, name: str) -> tuple[str, dict[str, Any]]:
        """Digest of a response, and its row in `rooms/<bank>.jsonl` (empty if there is none)."""
        bank = name.rsplit("-", 2)[0]
        if bank not in self.banks:
            self.banks[bank] = {str(row.get("name")): row for row in self.rows(bank_name(bank))}
        row = self.banks[bank].get(name, {})
        digest = row.get("sha256")
        return (digest[:16] if isinstance(digest, str) else text_digest(f"{bank}/{name}")), row

    def rows(self, relative: str) -> Iterator[dict[str, Any]]:
        """Lines of a JSON lines file of the corpus; none if it is not there."""
        try:
            content = self.reader.document(relative)
        except FileNotFoundError:
            return
        for line in content.splitlines():
            if line.strip() and isinstance(row := parse_json(line, where=relative), dict):
                yield row


def text_digest(text: str) -> str:
    """16 hex digits for a name."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def step_facts(step: PlannedStep, library: Library) -> tuple[StepFacts, ...]:
    """Facts of a planned step of any kind: several noises at once, or a codec that loses packets, have several."""
    data = step.model_dump(mode="json")
    kind = str(data["kind"])
    if kind == "noise":
        parts = data["noises"] if isinstance(data.get("noises"), list) else [data]
        return tuple(noise_facts(part, library, snr_db=float(data["snr_db"])) for part in parts)
    numbers = numbers_of(data)
    recordings = recordings_in(data, library)
    if kind == "room" and isinstance(data.get("response"), str):
        _, row = library.response(data["response"])
        form = "simulated" if row.get("size_m") or not row else "recorded"
        return (StepFacts(f"room {form}", None, recordings, room_numbers(row)),)
    if kind == "codec":
        codec = str(data["codec"])
        band = codec_band(codec, numbers.get("bitrate_kbps"))
        coded = StepFacts(f"codec {band}", codec, (), {f"{codec} {name}": n for name, n in numbers.items()})
        loss = data.get("loss")
        return (coded, StepFacts("packet loss", None, (), numbers_of(loss))) if isinstance(loss, dict) else (coded,)
    return (StepFacts(kind, None, recordings, numbers),)


def noise_facts(data: Mapping[str, Any], library: Library, *, snr_db: float) -> StepFacts:
    """Facts of one noise: a recording's source, a colour, a babble, or one talker."""
    form = str(data.get("form", "recorded"))
    talkers = data.get("talkers")
    if isinstance(talkers, list):
        form = "talker" if len(talkers) == 1 else "babble"
    source = {"recorded": data.get("source"), "coloured": data.get("colour")}.get(form)
    recordings = recordings_in(data, library)
    return StepFacts(f"noise {form}", None if source is None else str(source), recordings, {"snr_db": snr_db})


def numbers_of(data: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step that say how strong it is, by name."""
    return {
        name: float(value)
        for name, value in data.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in NOT_STRENGTHS
    }


def recordings_in(data: Mapping[str, Any], library: Library) -> tuple[str, ...]:
    """Digests of the recordings and responses that a planned step or noise refers to, each once."""
    return tuple(dict.fromkeys(reference_digest(one, library) for one in references(data) if one.role != "codec"))


def reference_digest(one: Reference, library: Library) -> str:
    """Digest of one recording or response: of its content, or of its place where that is not known."""
    if one.role == "response":
        return library.response(one.name)[0]
    if one.role == "noise":
        return library.noise(str(one.part.get("source", "")), one.root, one.name)
    digest = one.part.get("sha256")
    return digest[:16] if isinstance(digest, str) else text_digest(f"{one.root}/{one.name}@{one.part.get('start')}")


def room_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Reverberation time and distance of a response, as far as they are known."""
    numbers = {name: float(row[name]) for name in ("t30_s",) if isinstance(row.get(name), int | float)}
    ends = [row.get("microphone_m"), row.get("source_m")]
    if all(isinstance(end, list) and len(end) == 3 for end in ends):
        numbers["distance_m"] = math.dist(*ends)  # type: ignore[arg-type]
    return numbers


def codec_band(codec: str, bitrate_kbps: float | None) -> str:
    """`narrow-band` (telephone, up to 4 kHz) or `wide-band`."""
    narrow = codec.startswith(NARROW_BAND) or (codec.startswith("opus") and (bitrate_kbps or 64) < OPUS_WIDE_KBPS)
    return "narrow-band" if narrow else "wide-band"


def copy_facts(copy: SampleCopy, library: Library) -> list[StepFacts]:
    """Facts of every step of a copy, in order."""
    return [facts for step in copy.steps for facts in step_facts(step, library)]


def category_of(steps: Iterable[StepFacts], trained: TrainedOn | None) -> Category:
    """The category of a copy with these steps for a model.

    Args:
        steps: In order; a copy without any was left as it was, and is `seen`.
        trained: Distortions that the model was trained on; None if they are not known.
    """
    if trained is None:
        return "unknown"
    chain: list[str] = []
    furthest: Category = "seen"
    for step in steps:
        chain.append(step.kind)
        found = step_category(step, trained.kinds.get(step.kind))
        furthest = max(furthest, found, key=CATEGORY_ORDER.index)
    is_known_chain = not trained.chains or any(
        is_within(chain, known) for known in trained.chains
    )  # a card may leave chains out
    if furthest in {"seen", "heard"} and not is_known_chain:
        return "shifted"
    return furthest


def step_category(step: StepFacts, kind: TrainedKind | None) -> Category:
    """The category of one step for a model that was trained on `kind`."""
    if kind is None:
        return "new"
    is_known_source = step.source is None or step.source in kind.sources
    if not all(
        in_trained_range(value, kind.ranges.get(name), count=kind.count) for name, value in step.numbers.items()
    ):
        return "shifted"
    if any(recording in kind.recordings for recording in step.recordings):
        return "heard"  # by content, whatever the source is called
    return "seen" if is_known_source else "shifted"


def in_trained_range(value: float, span: tuple[float, float] | None, *, count: int) -> bool:
    """Whether a number is in the range that a model was trained on, widened a little.

    The ends of a range are drawn too: of n uniform draws the outermost fall short of the true ends by about width / n each, so
    a range is widened by three times that, at most by a tenth of its width.
    """
    if span is None:
        return False
    low, high = span
    margin = (high - low) * min(MOST_MARGIN, MARGIN_DRAWS / max(1, count)) + 1e-6 * max(1.0, abs(low), abs(high))
    return low - margin <= value <= high + margin


def is_within(chain: list[str], known: tuple[str, ...]) -> bool:
    """Whether a chain is a known one, perhaps with steps left out."""
    rest = iter(known)
    return all(kind in rest for kind in chain)


def snr_of(copy: SampleCopy) -> float | None:
    """The lowest SNR at which noise was added to a copy, in dB; None if none was."""
    snrs = [float(snr) for step in copy.steps if (snr := getattr(step, "snr_db", None)) is not None]
    return min(snrs) if snrs else None
