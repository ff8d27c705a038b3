"""Phone ABX: how often a distorted token X is nearer to a clean token B of another phone than to a clean token A of its own.

Source: Schatz 2016, and its use in ZeroSpeech and Libri-light (Kahn et al., arXiv 1912.07875): A and B are by one speaker, X by the same (*within*) or by
another (*across*); A and X are never one token; a tie is half an error. The error is the mean over contexts (and speakers of X), then over speakers of A
and B, then over ordered pairs of phones. Features that are constant have an error of 50 %; random ones nearly (distances
depend on lengths: 53 % were seen).

Here A and B are clean and X is clean or a distorted copy. Tokens are the same for every model (`evaluation.data.abx_tokens`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from evaluation.data.abx_tokens import CHOICE
from evaluation.features import UtteranceFeatures, condition_of
from evaluation.measures.dtw import dtw_distances
from manifests.corpus.sample import CLEAN
from manifests.results.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from evaluation.config import Features
    from evaluation.data.abx_tokens import AbxPlan, Token
    from evaluation.data.alignments import FrameClock
    from evaluation.features import Scaling

SPEAKERS_OF_X = 2  # for each speaker of A and B; Libri-light takes 5
PROTOCOL = {**CHOICE, "speakers of X": SPEAKERS_OF_X}
"""What decides scores beside the config."""

Mode = Literal["within", "across"]


class TokenStore(Protocol):
    """Frames of tokens, on disk."""

    def add(self, utterance: UtteranceFeatures, member: str) -> None:
        """Write one token's frames."""

    def states(self, key: str, member: str, features: Features, *, num_layers: int) -> Tensor:
        """Read them, shape (layer, frame, feature)."""


@dataclass
class Abx:
    """Collects the frames of tokens, then compares them.

    Args:
        plan: The tokens.
        scaling: Of clean train, of the layers that are compared.
        layers: Their numbers, from 0.
        clock: Times of the model's frames.
        store: Where frames are kept until all tokens are there.

    Attributes:
        found: Names of the tokens that have a frame, by condition.
    """

    plan: AbxPlan
    scaling: Scaling
    layers: Sequence[int]
    clock: FrameClock
    store: TokenStore
    found: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = self.plan.tokens

    def add(self, utterance: UtteranceFeatures) -> None:
        """Add one utterance: its clean wave, and its first copy of each condition."""
        if utterance.key not in self.tokens:
            return
        times_s = self.clock.times_s(utterance.frames[CLEAN].shape[1])
        firsts = {condition_of(member): member for member in sorted(utterance.frames, reverse=True)}
        for condition, member in firsts.items():
            frames = self.scaling.scaled(utterance.frames[member][list(self.layers)])
            for token in self.tokens[utterance.key]:
                inside = np.flatnonzero((times_s >= token.start_s) & (times_s < token.end_s))
                if len(inside):
                    stretch = frames[:, inside[0] : inside[-1] + 1]
                    self.store.add(UtteranceFeatures(token.name, 0.0, {condition: stretch}), condition)
                    self.found.setdefault(condition, set()).add(token.name)

    def stretch(self, token: Token, condition: str) -> NDArray[np.float64]:
        """Frames of one token, shape (layer, frame, feature)."""
        frames = self.store.states(token.name, condition, "sum", num_layers=len(self.layers))
        return np.asarray(frames.double().numpy())

    def scores(self) -> list[Score]:
        """Error rates by condition and layer, within and across speakers."""
        errors = Errors()
        for context in self.plan.contexts:
            by_speaker: dict[str, list[Token]] = {}
            for token in context:
                if token.name in self.found.get(CLEAN, ()):
                    by_speaker.setdefault(token.speaker, []).append(token)
            for speaker, clean in by_speaker.items():
                others = speakers_of_x(speaker, by_speaker)
                tested = [
                    (condition, token)
                    for condition, known in self.found.items()
                    for name in (speaker, *others)
                    for token in by_speaker[name]
                    if token.name in known
                ]
                distances = dtw_distances(
                    [self.stretch(token, condition) for condition, token in tested],
                    [self.stretch(token, CLEAN) for token in clean],
                )
                errors.add(distances, tested, clean)
        return errors.scores(self.layers)

    @property
    def notes(self) -> list[str]:
        """What readers of the scores should know."""
        missing = sum(map(len, self.tokens.values())) - len(self.found.get(CLEAN, ()))
        return [*self.plan.notes, *([f"abx: {missing} tokens are shorter than one frame"] if missing else [])]


def speakers_of_x(speaker: str, tokens: Mapping[str, Sequence[Token]]) -> list[str]:
    """Speakers of X for A and B of a speaker: those after this one, and from the first again, who share a phone."""
    names = list(tokens)
    place = names.index(speaker)
    phones = {token.phone for token in tokens[speaker]}
    after = [*names[place + 1 :], *names[:place]]
    return [name for name in after if any(token.phone in phones for token in tokens[name])][:SPEAKERS_OF_X]


@dataclass
class Errors:
    """Sums of error rates.

    Attributes:
        sums: By mode, condition, phones of A and B, and speaker: sum over contexts (and speakers of X) of shape (layer,), and how many.
        triples: By mode and condition.
    """

    sums: dict[tuple[Mode, str], dict[tuple[str, str], dict[str, tuple[NDArray[np.float64], int]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    triples: dict[tuple[Mode, str], int] = field(default_factory=lambda: defaultdict(int))

    def add(self, distances: NDArray[np.float64], tested: Sequence[tuple[str, Token]], clean: Sequence[Token]) -> None:
        """Add one context of one speaker.

        Args:
            distances: Shape (layer, tested, clean).
            tested: Condition and token of each X.
            clean: A and B, of one speaker.
        """
        places: dict[str, list[int]] = {}
        for place, token in enumerate(clean):
            places.setdefault(token.phone, []).append(place)
        groups: dict[tuple[str, str, str], list[int]] = {}
        for row, (condition, token) in enumerate(tested):
            groups.setdefault((condition, token.speaker, token.phone), []).append(row)
        shares = np.zeros((len(clean), len(places)))  # of each token in the mean over tokens of a phone
        for number, columns in enumerate(places.values()):
            shares[columns, number] = 1.0 / len(columns)
        speaker = clean[0].speaker
        for (condition, other, phone), rows in groups.items():
            own = places.get(phone, [])
            is_pair = np.array([[tested[row][1].name != clean[place].name for place in own] for row in rows])
            if not is_pair.any():
                continue
            to_any = distances[:, rows]
            to_own = to_any[:, :, own, None]
            wrong = (to_own > to_any[:, :, None]) + 0.5 * (to_own == to_any[:, :, None])  # (layer, x, a, token)
            means = (wrong * is_pair[:, :, None]).sum(axis=(1, 2)) / is_pair.sum() @ shares  # (layer, phone of b)
            mode: Mode = "within" if other == speaker else "across"
            for number, (wrong_phone, columns) in enumerate(places.items()):
                if wrong_phone != phone:
                    speakers = self.sums[mode, condition][phone, wrong_phone]
                    total, count = speakers.get(speaker, (0.0, 0))
                    speakers[speaker] = total + means[:, number], count + 1
                    self.triples[mode, condition] += int(is_pair.sum()) * len(columns)

    def scores(self, layers: Sequence[int]) -> list[Score]:
        """Means over contexts, then speakers, then pairs of phones."""
        found: list[Score] = []
        for (mode, condition), pairs in sorted(self.sums.items()):
            of_pairs = [
                np.mean([total / count for total, count in speakers.values()], axis=0) for speakers in pairs.values()
            ]
            found += [
                Score(
                    measure="abx_within" if mode == "within" else "abx_across",
                    condition=condition,
                    layer=layer + 1,
                    value=float(error),
                    count=self.triples[mode, condition],
                )
                for layer, error in zip(layers, np.mean(of_pairs, axis=0), strict=True)
            ]
        return found
