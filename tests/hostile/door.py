"""Knocking at the front door with a stranger's files, under guard: what is run, written, said, and how much it takes.

The guard is an audit hook: starting a program, unpickling an object, connecting to a host, and opening a file for writing outside the
place that the command was given are noted wherever they happen, in our code or in a library's. Processor time and memory are bounded by
the kernel's own timers and limits, so a bomb fails the test and not the machine.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import resource
import signal
import sys
import tempfile
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CPU_S = 10.0
MOST_BYTES = 500 << 20
RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"}
MAKES = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.truncate", "os.remove", "os.rmdir", "os.chmod"}
SAFE_GLOBALS = {"collections", "torch", "torch._utils", "torch.storage", "argparse", "numpy", "_codecs"}
LONGEST_LINE = 1500
PROGRESS = re.compile(r"[a-z]+( [a-z]+)? \d+/\d+ [a-z]+, [0-9.e+]+/s, [0-9hms]+( left)?(  stopped)?")


class TooLongError(BaseException):
    """More than ten seconds of processor time."""


@dataclass
class Guard:
    """What happened while it was armed.

    Attributes:
        allowed: Below these folders a command may write.
    """

    armed: bool = False
    allowed: tuple[str, ...] = ()
    broken: list[str] = field(default_factory=list)

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        """The audit hook."""
        if not self.armed:
            return
        if event in RUNS:
            self.broken.append(f"{event} {args[:2]!r}")
        elif event == "pickle.find_class" and str(args[0]).partition(".")[0] not in SAFE_GLOBALS:
            self.broken.append(f"unpickled {args!r}")
        elif event == "socket.connect" and isinstance(args[1], tuple):
            self.broken.append(f"connected to {args[1]!r}")
        elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.wrote(args[0])
        elif event == "os.mkdir" and not isinstance(args[0], int) and Path(os.fsdecode(args[0])).exists():
            return  # nothing is made: that it is there is the answer
        elif event in MAKES:
            number = 1 if event in {"os.rename", "os.link", "os.symlink"} else 0
            follows = event in {"os.truncate", "os.chmod"}
            self.wrote(
                args[number],
                folder=args[-1] if event in {"os.remove", "os.rmdir", "os.mkdir"} else -1,
                follows=follows,
            )

    def wrote(self, path: Any, *, folder: int = -1, follows: bool = True) -> None:
        """A file was opened for writing, or made, or taken away.

        Args:
            path: As the event says it.
            folder: The open folder that it begins at.
            follows: What was done is done to what a link leads to; a name that is made, replaced or taken away is the link itself.
        """
        if isinstance(path, int):
            return
        beginning = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.curdir  # noqa: PTH115 (as below)
        named = os.path.join(beginning, os.fsdecode(path))  # noqa: PTH118 (a name may be of any bytes)
        above, name = os.path.split(named)
        place = os.path.realpath(named) if follows or not name else os.path.join(os.path.realpath(above), name)  # noqa: PTH118
        if "__pycache__" in place or place.startswith(("/dev/", *self.allowed)):
            return
        self.broken.append(f"wrote {place}")


GUARD = Guard()
sys.addaudithook(GUARD.note)


@dataclass(frozen=True)
class Answer:
    """What the door said."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The only line of standard error but for progress, checked: of the door's own, of characters that only print."""
        lines = [line for line in self.err.split("\n") if not PROGRESS.fullmatch(line)]
        assert len(lines) == 2, f"not one line: {self.err!r}"
        assert lines[1] == "", f"not one line: {self.err!r}"
        assert lines[0].startswith("stillroom: "), self.err
        assert len(lines[0]) <= LONGEST_LINE, f"{len(lines[0])} characters: {lines[0][:300]}"
        assert harmless(self.err), self.err
        return lines[0]


def harmless(text: str) -> bool:
    """Whether a text has no character that moves a cursor, turns text round or hides; line ends and tabs aside."""
    return not any(unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for one in text if one not in "\n\t")


def knock(*words: object, home: Path, target: Path | None = None) -> Answer:
    """Run one command in this process, under guard.

    Args:
        words: The command, without `stillroom`.
        home: The folder that everything of the test lies in; it may not change but below `target`.
        target: What the command may write.
    """
    from stillroom import __main__ as door

    scratch = home.parent / f"{home.name}-scratch"
    scratch.mkdir(exist_ok=True)
    before = seen(home, target)
    out, err = io.StringIO(), io.StringIO()
    allowed = (str(scratch), *((str(target),) if target is not None else ()), *around(target))
    with contextlib.ExitStack() as stack:
        stack.enter_context(argued([str(word) for word in words]))
        stack.enter_context(folder_of_temporaries(scratch))
        stack.enter_context(bounded())
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(armed(allowed))
        code = left(door)
    answer = Answer(code, out.getvalue(), err.getvalue())
    assert not GUARD.broken, GUARD.broken
    assert seen(home, target) == before, f"changed outside the target: {changed(before, seen(home, target))}"
    assert not list(scratch.rglob("*")), f"temporary files are left: {list(scratch.rglob('*'))[:5]}"
    assert harmless(answer.out), answer.out[:2000]
    return answer


def around(target: Path | None) -> tuple[str, ...]:
    """Hidden siblings of a target that is a file or folder being written: temporary names and locks."""
    return () if target is None else (f"{target.parent.resolve()}/.{target.name}",)


def left(door: Any) -> int:
    """The exit code of the front door."""
    try:
        door.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    raise AssertionError("the door did not leave")


def seen(home: Path, target: Path | None) -> dict[str, tuple[int, int]]:
    """Every file of a tree by size and time, but those below the target."""
    found = {}
    for path in home.rglob("*"):
        if target is not None and (path == target or target in path.parents):
            continue
        status = path.lstat()
        found[str(path)] = (status.st_size, status.st_mtime_ns) if not path.is_dir() else (0, 0)
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs between two listings."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


@contextlib.contextmanager
def argued(words: list[str]) -> Iterator[None]:
    """The command line of this process, for a while."""
    kept, path = sys.argv, list(sys.path)
    sys.argv = ["stillroom", *words]
    try:
        yield
    finally:
        sys.argv, sys.path[:] = kept, path


@contextlib.contextmanager
def folder_of_temporaries(folder: Path) -> Iterator[None]:
    """Where `tempfile` makes its folders, for a while."""
    kept, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = kept


@contextlib.contextmanager
def armed(allowed: tuple[str, ...]) -> Iterator[None]:
    """The guard looks."""
    GUARD.broken, GUARD.allowed, GUARD.armed = [], tuple(os.path.realpath(one) for one in allowed), True
    try:
        yield
    finally:
        GUARD.armed = False


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """`MOST_CPU_S` of processor time, and 500 MB more data than this process has."""

    def end(number: int, frame: object) -> NoReturn:
        del number, frame
        raise TooLongError

    gc.collect()
    own = next(
        int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    kept = signal.signal(signal.SIGPROF, end)
    resource.setrlimit(resource.RLIMIT_DATA, (own + MOST_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        signal.signal(signal.SIGPROF, kept)
