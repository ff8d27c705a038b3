"""Progress of long work: one line that moves on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType


TERMINAL_EVERY_S = 0.2
PLAIN_EVERY_S = 15.0
BAR_WIDTH = 24


def duration(seconds: float) -> str:
    """Seconds as `1h02m`, `3m05s` or `42s`."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


class Progress:
    """Shows how far work is, its rate and the time left, on standard error.

    Args:
        what: Which work, such as `shards`.
        total: How many units there are.
        unit: What is counted, in the plural.
        done: Units that an earlier run finished; they do not count for the rate.
        stream: Where to; standard error by default.
    """

    def __init__(self, what: str, *, total: float, unit: str, done: float = 0, stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.stream = stream if stream is not None else sys.stderr
        self.on_terminal = self.stream.isatty()
        self.start_s = time.monotonic()
        self.shown_s = -PLAIN_EVERY_S if self.on_terminal else self.start_s
        self.before = self.done = done

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show(note="" if kind is None else "stopped", last=True)

    def advance(self, units: float = 1, *, note: str = "") -> None:
        """Count finished units, and show them when it is time."""
        self.done += units
        now_s = time.monotonic()
        if now_s - self.shown_s >= (TERMINAL_EVERY_S if self.on_terminal else PLAIN_EVERY_S):
            self.shown_s = now_s
            self.show(note=note)

    def reach(self, done: float) -> None:
        """Set how many units are finished, and show them when it is time."""
        self.advance(done - self.done)

    def show(self, *, note: str = "", last: bool = False) -> None:
        """Write the line."""
        spent_s = time.monotonic() - self.start_s
        rate = (self.done - self.before) / spent_s if spent_s > 0 else 0.0
        left = duration((self.total - self.done) / rate) + " left" if rate > 0 and not last else duration(spent_s)
        share = self.done / self.total if self.total else 1.0
        line = f"{self.what} {self.done:.0f}/{self.total:.0f} {self.unit}, {rate:.3g}/s, {left}" + (
            f"  {note}" if note else ""
        )
        if not self.on_terminal:
            self.stream.write(line + "\n")
        else:
            full = min(BAR_WIDTH, int(share * BAR_WIDTH))
            bar = "█" * full + "░" * (BAR_WIDTH - full)
            self.stream.write(f"\r\x1b[K{bar} {line}" + ("\n" if last else ""))
        self.stream.flush()


def stderr_line(line: str) -> None:
    """Say one line to a person."""
    print(f"stillroom: {line}", file=sys.stderr, flush=True)
