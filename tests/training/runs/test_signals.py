"""Signals are noted, and looked at between two steps."""

from __future__ import annotations

import os
import signal
import threading

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


def test_a_stop_that_is_requested_from_inside_is_as_one_from_outside_and_a_signal_before_it_stays():
    stop = StopSignals()
    stop.request()
    assert stop.received is signal.SIGTERM
    with StopSignals() as stop:
        send(signal.SIGUSR1)
        stop.request()
        assert stop.received is signal.SIGUSR1


def test_every_signal_that_stops_a_run_is_noted_and_has_its_handler_again():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        with StopSignals() as stop:
            send(number)
        assert stop.received is number
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before


def test_outside_the_main_thread_no_handler_is_set_and_a_stop_can_be_requested():
    found = []

    def run():
        with StopSignals() as stop:
            stop.request()
            found.append((stop.received, stop.before))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(signal.SIGTERM, {})]
