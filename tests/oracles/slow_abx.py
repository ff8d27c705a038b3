"""Phone ABX by plain loops over triples, and dynamic time warping by tables of lists; shares nothing with `evaluation`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class SlowToken:
    """A token: what it is, of whom it is, and its frames (lists of numbers) by condition; `clean` is one."""

    name: str
    phone: str
    context: tuple[str, ...]
    speaker: str
    frames: dict[str, list[list[float]]]


def angle(first: list[float], second: list[float]) -> float:
    product = sum(x * y for x, y in zip(first, second, strict=True))
    lengths = math.sqrt(sum(x * x for x in first)) * math.sqrt(sum(y * y for y in second))
    return 0.5 if lengths == 0 else math.acos(max(-1.0, min(1.0, product / lengths))) / math.pi


def warped(first: list[list[float]], second: list[list[float]]) -> float:
    """Fill the table, walk back from its last cell, count the steps."""
    rows, columns = len(first), len(second)
    sums = [[0.0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            before = [sums[a][b] for a, b in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if a >= 0 and b >= 0]
            sums[i][j] = angle(first[i], second[j]) + min(before, default=0.0)
    i, j, steps = rows - 1, columns - 1, 1
    while (i, j) != (0, 0):
        ways = [(a, b) for a, b in ((i - 1, j - 1), (i, j - 1), (i - 1, j)) if a >= 0 and b >= 0]
        i, j = min(ways, key=lambda way: sums[way[0]][way[1]])  # the first of equal ones
        steps += 1
    return sums[-1][-1] / steps


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def abx(tokens: list[SlowToken], condition: str, *, across: bool) -> tuple[float, int]:
    """Error and number of triples: A and B clean and by one speaker, X of the condition, by the same speaker or by each other one."""
    of_cells: dict[tuple[str, ...], dict[str, dict[tuple[object, ...], list[float]]]] = {}
    near: dict[tuple[str, str], float] = {}

    def distance(x: SlowToken, clean: SlowToken) -> float:
        if (x.name, clean.name) not in near:
            near[x.name, clean.name] = warped(x.frames[condition], clean.frames["clean"])
        return near[x.name, clean.name]

    known = [token for token in tokens if "clean" in token.frames]
    for a in known:
        for b in known:
            if b.context != a.context or b.speaker != a.speaker or b.phone == a.phone:
                continue
            for x in known:
                if x.context != a.context or x.phone != a.phone or x.name == a.name or condition not in x.frames:
                    continue
                if (x.speaker != a.speaker) == across:
                    wrong = 0.5 if distance(x, a) == distance(x, b) else float(distance(x, a) > distance(x, b))
                    cells = of_cells.setdefault((a.phone, b.phone), {}).setdefault(a.speaker, {})
                    cells.setdefault((a.context, x.speaker), []).append(wrong)
    of_pairs = [
        mean([mean([mean(wrong) for wrong in cells.values()]) for cells in speakers.values()])
        for speakers in of_cells.values()
    ]
    triples = sum(
        len(wrong) for speakers in of_cells.values() for cells in speakers.values() for wrong in cells.values()
    )
    return mean(of_pairs), triples
