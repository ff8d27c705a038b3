"""Filters of utterances and copies for a subset: one comparison an expression, all of which must hold.

```
split=train          speaker!=s1,s2        speaker=@speakers.txt      seconds<10      seconds>=1.5
condition=noise,far  domain=musan          family=noise+room          copy=noise-0    snr_db>=5
```
`split`, `speaker`, `language`, `id` and `seconds` are of utterances. `condition`, `copy`, `domain`, `family` and `snr_db` are of
copies: the subset has those for which all hold, and leaves out utterances without any. For a copy with several noises a
comparison of the SNR must hold for each; for a copy without noise it never holds. The clean wave is always in the subset;
`condition=clean` is true of it, so that utterances without other copies are in the subset too.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from manifests.corpus.sample import CLEAN
from manifests.errors import MissingFileError, UsageError, printable
from manifests.io.json_yaml import read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manifests.corpus.sample import Sample, SampleCopy
    from manifests.corpus.shard_index import IndexedSample

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
UTTERANCE_TEXTS = ("split", "speaker", "language", "id")
UTTERANCE_NUMBERS = ("seconds",)
COPY_TEXTS = ("condition", "copy", "domain", "family")
COPY_NUMBERS = ("snr_db",)
FIELDS = (*UTTERANCE_TEXTS, *UTTERANCE_NUMBERS, *COPY_TEXTS, *COPY_NUMBERS)
IN_THE_INDEX = {"split", "seconds", "condition", "copy"}
EXPRESSION = re.compile(r"^\s*([a-z_]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*$", re.DOTALL)
NUMBER = re.compile(r"^[+-]?[0-9]{1,12}(\.[0-9]{1,12})?$")
COMPARED: dict[Operator, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MAX_TERMS = 100


class BadWhereError(UsageError):
    """A `--where` expression that cannot be read."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__(f"--where {printable(text, limit=80)!r}: {what}")


@dataclass(frozen=True)
class Term:
    """One comparison.

    Attributes:
        texts: What a text field is compared with; or
        numbers: what a number field is compared with.
        expression: As it is stored, lists of a file written out.
    """

    field: str
    operator: Operator
    texts: frozenset[str]
    numbers: tuple[float, ...]
    expression: str

    def of_text(self, value: str | None) -> bool:
        """Whether it holds for a text; a missing one equals nothing."""
        return (value in self.texts) == (self.operator == "=")

    def of_number(self, value: float) -> bool:
        """Whether it holds for a number."""
        compare = COMPARED[self.operator]
        found = [compare(value, number) for number in self.numbers]
        return all(found) if self.operator == "!=" else any(found)


@dataclass(frozen=True)
class Where:
    """Comparisons that must all hold."""

    terms: tuple[Term, ...]

    @property
    def expressions(self) -> tuple[str, ...]:
        """As they are stored."""
        return tuple(term.expression for term in self.terms)

    @property
    def needs_records(self) -> bool:
        """Whether the record of an utterance is needed besides its entry in the index."""
        return any(term.field not in IN_THE_INDEX for term in self.terms)

    def of(self, *fields: str) -> list[Term]:
        """The comparisons of some fields."""
        return [term for term in self.terms if term.field in fields]

    def split(self, split: str) -> bool:
        """Whether a split can have matching utterances."""
        return all(term.of_text(split) for term in self.of("split"))

    def chosen(self, sample: IndexedSample, record: Sample | None, *, sample_rate: int) -> list[str] | None:
        """Names of the copies of an utterance that match, or None if it is left out; its split is checked elsewhere.

        Args:
            sample: Its entry in the index.
            record: Its record, if `needs_records`.
            sample_rate: In Hz.
        """
        seconds = sample.num_samples / sample_rate
        if not all(term.of_number(seconds) for term in self.of("seconds")):
            return None
        for name in ("speaker", "language", "id"):
            if not all(term.of_text(getattr(record, name)) for term in self.of(name)):
                return None
        terms = self.of(*COPY_TEXTS, *COPY_NUMBERS)
        recorded = {copy.name: copy for copy in record.copies} if record is not None else {}
        names = [name for name in sample.copies if all(copy_holds(term, name, recorded.get(name)) for term in terms)]
        if terms and not names and not all(clean_holds(term) for term in terms):
            return None
        return names


def clean_holds(term: Term) -> bool:
    """Whether a comparison holds for the clean wave."""
    return term.field == "condition" and term.operator == "=" and CLEAN in term.texts


def copy_holds(term: Term, name: str, copy: SampleCopy | None) -> bool:
    """Whether a comparison holds for a copy."""
    if term.field == "copy":
        return term.of_text(name)
    if term.field == "condition":
        return term.of_text(name.rpartition("-")[0])
    if copy is None:
        return False
    if term.field == "snr_db":
        snrs_db = [step.snr_db for step in copy.steps if hasattr(step, "snr_db")]
        return bool(snrs_db) and all(term.of_number(value) for value in snrs_db)
    return term.of_text(getattr(copy, term.field))


def parse_where(expressions: Iterable[str]) -> Where:
    """Parse expressions.

    Raises:
        BadWhereError: If one cannot be read.
        MissingFileError: If a file of values is not there.
    """
    expressions = list(expressions)
    if len(expressions) > MAX_TERMS:
        raise UsageError(f"--where is given {len(expressions)} times; at most {MAX_TERMS} are read")
    return Where(tuple(parse_term(text) for text in expressions))


def parse_term(text: str) -> Term:
    """Parse one expression.

    Raises:
        BadWhereError: If it cannot be read.
    """
    match = EXPRESSION.match(text)
    if match is None:
        raise BadWhereError(text, "expected FIELD, one of = != < <= > >=, and VALUE, such as 'seconds<10'")
    field, sign, value = match[1], cast("Operator", match[2]), match[3]
    if field not in FIELDS:
        raise BadWhereError(text, f"there is no field {printable(field)!r}; known are {', '.join(FIELDS)}")
    values = listed(text, value)
    if not values or "" in values:
        raise BadWhereError(text, "expected a value after the sign; several are separated by commas")
    expression = f"{field}{sign}{','.join(values)}"
    if field in (*UTTERANCE_TEXTS, *COPY_TEXTS):
        if sign not in {"=", "!="}:
            raise BadWhereError(text, f"{field} is a text: expected = or !=")
        return Term(field, sign, frozenset(values), (), expression)
    if len(values) > 1 and sign not in {"=", "!="}:
        raise BadWhereError(text, f"expected one number after {sign}")
    for one in values:
        if not NUMBER.match(one):
            raise BadWhereError(text, f"expected a number such as 5 or 2.5, got {printable(one)!r}")
    return Term(field, sign, frozenset(), tuple(map(float, values)), expression)


def listed(text: str, value: str) -> list[str]:
    """The values of an expression: separated by commas, or the lines of the file after an @."""
    if not value.startswith("@"):
        return [one.strip() for one in value.split(",")]
    if not value[1:]:
        raise BadWhereError(text, "expected the name of a file with one value a line after the @")
    path = Path(value[1:])
    if path.is_dir():
        raise MissingFileError(path, needed="a file with one value a line, after the @ of --where")
    content = read_bytes(path, needed="a file with one value a line, after the @ of --where", limit=64 << 20)
    return [line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
