"""Requests to stop: a scheduler's signal, or the end of the time limit.

While shards are rendered a request is only noted: the shards that were begun are finished, and the command ends with exit code 75.
Planning and the making of rooms save their results as they go, so there a request ends the work at once, as Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from manifests.errors import UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

EXIT_STOPPED = 75
LONGEST_S = 366 * 86_400.0
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StoppedError(BaseException):
    """A request to stop came; no `Exception`, so that no handler on the way takes it for an error."""


class Stop:
    """Catches requests to stop while it is entered; true once one has come.

    Args:
        after_s: The time limit, in seconds; None for none.

    Attributes:
        reason: The name of the signal, or that the time limit is over; empty before a request.
        only_note: Only note a request; else raise `StoppedError` in the main thread.
    """

    def __init__(self, after_s: float | None = None) -> None:
        self.after_s = after_s
        self.reason = ""
        self.only_note = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self.request) for number in SIGNALS}
            if self.after_s is not None:
                self.before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self.request)
                signal.setitimer(signal.ITIMER_REAL, max(self.after_s, 1e-3))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if signal.SIGALRM in self.before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def waiting_for_shards(self) -> Iterator[None]:
        """Inside, a request is only noted."""
        self.only_note = True
        try:
            yield
        finally:
            self.only_note = False

    def request(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        del frame
        self.reason = self.reason or ("the time is over" if number == signal.SIGALRM else signal.Signals(number).name)
        if not self.only_note:
            raise StoppedError

    def __bool__(self) -> bool:
        return bool(self.reason)


def parse_time(text: str) -> float:
    """A time such as `3h50m`, `90m`, `1d12h` or `45s`, in seconds.

    Raises:
        UsageError: If it has another form, or is zero or more than a year.
    """
    found = re.fullmatch(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?", text)
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(found.groups(), (86_400, 3600, 60, 1), strict=True))
        if found
        else 0
    )
    if not 0 < seconds <= LONGEST_S:
        raise UsageError(f"--stop-after: expected a time such as 3h50m, 90m or 45s, got {printable(text)!r}")
    return float(seconds)
