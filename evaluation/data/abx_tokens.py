"""Which phones of the test split ABX compares (`evaluation.measures.abx`), chosen from alignments before any model runs.

Tokens are triphones (with the frames of all three phones) that differ in the middle one, as in ZeroSpeech and Libri-light (Kahn et al., arXiv 1912.07875);
where a test split has too few contexts for them, single phones in any context (Hallap, Dupoux, Dunbar, arXiv 2210.15775).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from evaluation.data.utterances import keyed_order
from manifests.errors import StillroomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from evaluation.data.alignments import Segments
    from evaluation.data.utterances import ListedUtterance

TOKENS_EACH = 5  # of a phone by a speaker in a context, half of Libri-light's
MOST_TOKENS = 2000
FEWEST_CONTEXTS = 100  # of triphones
LONGEST_GAP_S = 0.01  # between neighbours; a frame of most aligners
SILENCES = frozenset({"", "sil", "sp", "spn", "pau", "h#", "#", "<eps>", "noise"})
CHOICE = {"tokens each": TOKENS_EACH, "tokens": MOST_TOKENS, "contexts": FEWEST_CONTEXTS}
"""What decides the choice beside the config."""


class NoTriplesError(StillroomError, ValueError):
    """A test split without tokens A, B and X to compare."""

    def __init__(self, *, split: str, label: str, found: int) -> None:
        lack = (
            f"no utterance of split {split!r} has an alignment in {label}: give a task of kind frames with its label or table"
            if found == 0
            else f"split {split!r} has {found} aligned phones, but no speaker with two phones of which one occurs again, also of "
            "another speaker: test on more utterances"
        )
        super().__init__(f"measures: abx compares aligned phones, and {lack}; or leave abx out of measures")


@dataclass(frozen=True)
class Token:
    """One phone, or triphone, in a test utterance.

    Attributes:
        name: Unique among all tokens.
        key: Of the sample.
        phone: The middle one of a triphone.
        context: Phones before and after; empty for a single phone.
    """

    name: str
    key: str
    start_s: float
    end_s: float
    phone: str
    context: tuple[str, ...]
    speaker: str


@dataclass(frozen=True)
class AbxPlan:
    """The tokens that are compared, the same for every model.

    Attributes:
        contexts: Tokens of each context.
        notes: What readers of the scores should know.
    """

    contexts: tuple[tuple[Token, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> dict[str, list[Token]]:
        """All tokens by sample key."""
        found: dict[str, list[Token]] = {}
        for context in self.contexts:
            for token in context:
                found.setdefault(token.key, []).append(token)
        return found


def plan_abx(
    entries: Mapping[str, ListedUtterance], alignments: Mapping[str, Segments], *, split: str, label: str, seed: int
) -> AbxPlan:
    """Choose tokens of test utterances.

    Args:
        entries: Test utterances by key.
        alignments: By key, of those that have one.
        split: Name of the test split, for messages.
        label: Where alignments are from, for messages.
        seed: Of the choice.

    Raises:
        NoTriplesError: If there is nothing to compare.
    """
    speakers = {key: entries[key].sample.speaker or "" for key in alignments}
    triphones = grouped(tokens_of(alignments, speakers, is_triphone=True), seed=seed)
    if len(triphones) >= FEWEST_CONTEXTS:
        contexts, what = triphones, "triphones in the same context"
    else:
        contexts = grouped(tokens_of(alignments, speakers, is_triphone=False), seed=seed)
        what = (
            f"single phones in any context, for {len(triphones)} contexts of triphones are fewer than {FEWEST_CONTEXTS}"
        )
    if not contexts:
        found = sum(len(segments) for segments in alignments.values())
        raise NoTriplesError(split=split, label=label, found=found)
    chosen: list[tuple[Token, ...]] = []
    for context in contexts:
        if sum(map(len, chosen)) >= MOST_TOKENS:
            break
        chosen.append(tuple(context))
    notes = [f"abx: {sum(map(len, chosen))} tokens, {what}"]
    if not any(speakers.values()):
        notes.append("abx: no speaker is named, so that all tokens count as one speaker's")
    return AbxPlan(tuple(chosen), tuple(notes))


def tokens_of(alignments: Mapping[str, Segments], speakers: Mapping[str, str], *, is_triphone: bool) -> list[Token]:
    """All phones that are no silence; of triphones, those without silence or a gap on either side."""
    found = []
    for key, segments in alignments.items():
        for number, (start_s, end_s, phone) in enumerate(segments):
            around = segments[max(0, number - 1) : number + 2] if is_triphone else (segments[number],)
            is_whole = not is_triphone or (len(around) == 3 and is_joined(around))
            if is_whole and not any(label.lower() in SILENCES for *_, label in around):
                context = (around[0][2], around[-1][2]) if is_triphone else ()
                span = (around[0][0], around[-1][1]) if is_triphone else (start_s, end_s)
                found.append(Token(f"{key} {number}", key, *span, phone, context, speakers[key]))
    return found


def is_joined(segments: Segments) -> bool:
    """Whether each segment begins where the one before ends."""
    return all(abs(after[0] - before[1]) < LONGEST_GAP_S for before, after in pairwise(segments))


def grouped(tokens: Iterable[Token], *, seed: int) -> list[list[Token]]:
    """Tokens by context in keyed order, those alone that have something to be compared with; whole speakers, at most `MOST_TOKENS` in all of one context."""
    by_name = {token.name: token for token in tokens}
    groups: dict[tuple[str, ...], dict[str, dict[str, list[Token]]]] = {}
    for name in keyed_order(by_name, seed=seed, purpose="abx"):
        token = by_name[name]
        of_phone = groups.setdefault(token.context, {}).setdefault(token.speaker, {}).setdefault(token.phone, [])
        if len(of_phone) < TOKENS_EACH:
            of_phone.append(token)
    contexts = {ascii(context): speakers for context, speakers in groups.items() if has_triples(speakers)}
    found = []
    for label in keyed_order(contexts, seed=seed, purpose="abx context"):
        speakers = {ascii(speaker): phones for speaker, phones in contexts[label].items()}
        context: list[Token] = []
        for speaker in keyed_order(speakers, seed=seed, purpose="abx speaker"):
            if len(context) < MOST_TOKENS:
                context += [token for of_phone in speakers[speaker].values() for token in of_phone]
        found.append(context)
    return found


def has_triples(speakers: Mapping[str, Mapping[str, Sequence[Token]]]) -> bool:
    """Whether some speaker has two phones, one of them twice or by another speaker too."""
    all_phones = [phone for phones in speakers.values() for phone in phones]
    return any(
        len(phones) > 1 and any(len(tokens) > 1 or all_phones.count(phone) > 1 for phone, tokens in phones.items())
        for phones in speakers.values()
    )
