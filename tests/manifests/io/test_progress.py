"""What a person sees of long work."""

import io
import re
import subprocess
import sys

import pytest

from manifests.io import progress
from manifests.io.progress import Progress, duration


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_off_a_terminal_there_is_a_plain_line_every_fifteen_seconds_and_one_at_the_end(clock):
    stream = io.StringIO()
    with Progress("rendering", total=40, unit="utterances", done=10, stream=stream) as shown:
        for _ in range(4):
            clock.now_s += 5
            shown.advance(5)
        clock.now_s += 4
    assert stream.getvalue().splitlines() == [
        "rendering 25/40 utterances, 1/s, 15s left",
        "rendering 30/40 utterances, 0.833/s, 24s",
    ]


def test_work_that_fails_says_that_it_stopped(clock):
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress("rendering", total=4, unit="utterances", stream=stream) as shown:
        clock.now_s += 2
        shown.advance()
        raise KeyError
    assert stream.getvalue() == "rendering 1/4 utterances, 0.5/s, 2s  stopped\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_is_not_to_be_shown_shows_nothing_at_all(stream):
    to = stream()
    with Progress("rendering", total=4, unit="utterances", stream=to, shown=False) as shown:
        shown.show()
        shown.advance(4)
    assert to.getvalue() == ""


def test_a_terminal_has_a_bar_that_fills_and_is_left_with_its_cursor(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")  # the rest of the bar is then blank
    stream = Terminal()
    with Progress("verifying", total=4, unit="samples", stream=stream) as shown:
        for _ in range(4):
            clock.now_s += 1
            shown.advance()
    text = stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    lines = [line for line in re.split(r"[\r\n]+", plain) if "verifying" in line]
    assert "verifying 1/4 samples, 1/s, 3s left" in lines[0]
    assert "verifying 4/4 samples, 1/s, 4s" in lines[-1]
    assert [line.count("━") for line in (lines[0], lines[-1])] == [progress.BAR_WIDTH // 4, progress.BAR_WIDTH]
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again


def test_a_terminal_is_written_to_at_once_and_then_five_times_a_second(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    shown_at = []
    with Progress("verifying", total=9, unit="samples", stream=Terminal()) as shown:
        monkeypatch.setattr(shown, "show", lambda **_: shown_at.append(round(clock.now_s - 1000, 2)))
        for _ in range(9):
            shown.advance()
            clock.now_s += 0.1
    assert shown_at == [0.0, 0.2, 0.4, 0.6, 0.8, 0.9]


def test_what_an_earlier_run_did_is_reached_and_not_counted_again(clock):
    stream = io.StringIO()
    with Progress("indexing", total=100, unit="tars", done=40, stream=stream) as shown:
        clock.now_s += 20
        shown.reach(60)
        clock.now_s += 20
        shown.reach(90)
    assert stream.getvalue().splitlines() == [
        "indexing 60/100 tars, 1/s, 40s left", "indexing 90/100 tars, 1.25/s, 8s left", "indexing 90/100 tars, 1.25/s, 40s",
    ]  # fmt: skip


def test_rich_is_imported_only_for_a_terminal():
    code = (
        "import sys, io\nfrom manifests.io.progress import Progress\n"
        "with Progress('x', total=1, unit='y', stream=io.StringIO()) as shown: shown.advance()\n"
        "assert 'rich' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (60, "1m00s"),
        (185, "3m05s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (3720, "1h02m"),
        (36_125, "10h02m"),
        (-3, "0s"),
    ],
)
def test_a_duration_has_two_figures_at_most(seconds, text):
    assert duration(seconds) == text
