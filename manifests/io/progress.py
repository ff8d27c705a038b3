"""Progress of long work: a bar on a terminal (rich's), a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self, TextIO

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
        what: Which work, such as `rendering`.
        total: How many units there are.
        unit: What is counted, in the plural.
        done: Units that an earlier run finished; they do not count for the rate.
        stream: Where to; standard error by default.
        shown: False shows nothing at all.
    """

    def __init__(
        self, what: str, *, total: float, unit: str, done: float = 0, stream: TextIO | None = None, shown: bool = True
    ) -> None:
        self.what, self.total, self.unit, self.shown = what, total, unit, shown
        self.stream = stream if stream is not None else sys.stderr
        self.on_terminal = self.stream.isatty()
        self.start_s = time.monotonic()
        self.shown_s = -PLAIN_EVERY_S if self.on_terminal else self.start_s
        self.before = self.done = done
        self.bar: Any = None  # of rich; made when it is first shown

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show(note="" if kind is None else "stopped", last=True)
        if self.bar is not None:
            self.bar.stop()

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
        """Show how far the work is."""
        if not self.shown:
            return
        spent_s = time.monotonic() - self.start_s
        rate = (self.done - self.before) / spent_s if spent_s > 0 else 0.0
        left = duration((self.total - self.done) / rate) + " left" if rate > 0 and not last else duration(spent_s)
        line = f"{self.what} {self.done:.0f}/{self.total:.0f} {self.unit}, {rate:.3g}/s, {left}" + (
            f"  {note}" if note else ""
        )
        if self.on_terminal:
            self.bar = self.bar or terminal_bar(self.stream)
            self.bar.update(self.bar.task_ids[0], total=self.total, completed=self.done, line=line, refresh=True)
        else:
            self.stream.write(line + "\n")
            self.stream.flush()


def terminal_bar(stream: TextIO) -> Any:
    """A bar of rich's with the line after it; what is written to standard error meanwhile appears above it."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    line = TextColumn("{task.fields[line]}", markup=False, table_column=Column(no_wrap=True))
    bar = Bar(BarColumn(BAR_WIDTH), line, console=Console(file=stream), auto_refresh=False, redirect_stdout=False)
    bar.add_task("", line="")
    bar.start()
    return bar


def stderr_line(line: str) -> None:
    """Print one line on standard error."""
    print(f"stillroom: {line}", file=sys.stderr, flush=True)
