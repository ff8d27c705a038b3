"""How a run is stopped from outside: signals are noted, and looked at between two steps."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType


class StopSignals:
    """Notes SIGTERM, SIGUSR1 and Ctrl-C while it is entered, so that the loop can stop between two steps.

    A second Ctrl-C raises KeyboardInterrupt at once.

    Attributes:
        received: The first signal, or None.
    """

    CAUGHT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        del frame
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)

    def request(self) -> None:
        """Ask for a stop from inside, as SIGTERM would from outside."""
        self.received = self.received or signal.SIGTERM

    def __enter__(self) -> Self:
        self.before = {}
        if threading.current_thread() is threading.main_thread():  # Python delivers signals there alone
            self.before = {number: signal.signal(number, self.note) for number in self.CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
