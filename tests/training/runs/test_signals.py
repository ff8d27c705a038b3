"""Signals are noted, and looked at between two steps."""

from __future__ import annotations

import os
import signal

import pytest

from training.runs.signals import StopSignals


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGTERM, signal.SIGINT, signal.SIGINT), (signal.SIGUSR1, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)],
)
def test_the_first_signal_counts(numbers):
    with StopSignals() as stop:
        assert stop.received is None
        send(*numbers)
        assert stop.received is numbers[0]


def test_a_second_ctrl_c_ends_it_at_once_and_handlers_are_those_of_before():
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), StopSignals():
            send(signal.SIGINT)
            send(signal.SIGINT)
        send(signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
