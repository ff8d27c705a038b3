"""The entry point of the command: `stillroom` and `python -m stillroom`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

GOES_ON = "the same command goes on where this one left off"


class Terminated(BaseException):
    """SIGTERM, in a command that has no handler of its own."""


def main() -> None:
    """Run the command; every error a person can mend is one line and exit code 2."""
    import click

    from manifests.errors import StillroomError
    from stillroom.cli import stillroom

    process = os.getpid()

    def terminate(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a child that was forked
            os.kill(os.getpid(), number)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        code = stillroom.main(standalone_mode=False)  # what Context.exit was given, or None
    except (KeyboardInterrupt, click.exceptions.Abort):
        leave(130, f"stopped; {GOES_ON}")
    except Terminated:
        leave(128 + signal.SIGTERM, f"stopped by SIGTERM; {GOES_ON}")
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as problem:  # since click 8.2
        print(problem.format_message())
        sys.exit(2)
    except click.UsageError as problem:
        command = problem.ctx.command_path if problem.ctx else "stillroom"
        line = " ".join(problem.format_message().split()).replace("a valid integer range", "a whole number")
        leave(2, f"{line}{set_instead(problem)} (see {command} --help)")
    except click.ClickException as problem:
        leave(2, problem.format_message())
    except StillroomError as problem:
        leave(2, str(problem))
    except OSError as problem:
        leave(2, what_to_do(problem))
    except ModuleNotFoundError as problem:
        leave(2, missing_package(problem))
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code if isinstance(code, int) else 0)


def leave(code: int, line: str) -> NoReturn:
    """Say one line and exit."""
    print(f"stillroom: {line}", file=sys.stderr)
    sys.exit(code)


def set_instead(problem: Any) -> str:
    """How a key of a config is set, for an option that a verb with `--set` does not have; `problem` is a `click.UsageError`."""
    name = getattr(problem, "option_name", None)
    options = [option for parameter in problem.ctx.command.params for option in parameter.opts] if problem.ctx else []
    if name is None or "--set" not in options or not name.startswith("--"):
        return ""
    return f" A key of the config is set by --set {name.removeprefix('--').replace('-', '_')}=VALUE."


def missing_package(problem: ModuleNotFoundError) -> str:
    """One line for a package that Stillroom needs and that is not installed; a module of its own goes up with its trace."""
    from stillroom.packages import PACKAGES

    package = (problem.name or "").partition(".")[0]
    if package in {"", "stillroom", *PACKAGES}:
        raise problem
    install = {"sklearn": "scikit-learn", "yaml": "pyyaml"}.get(package, package.replace("_", "-"))
    return f"the package {package} is not installed in {sys.prefix}: pip install {install}"


def what_to_do(problem: OSError) -> str:
    """One line for a full disk, and for a file that the system refuses; what names no file goes up with its trace."""
    import errno

    from manifests.errors import NoSpaceLeftError, printable

    if problem.errno in {errno.ENOSPC, errno.EDQUOT}:
        return str(NoSpaceLeftError(problem.filename or "a temporary file"))
    if problem.filename is not None and problem.errno in {errno.EEXIST, errno.ENOTDIR}:
        path = Path(os.fsdecode(problem.filename))
        found = next((place for place in (path, *path.parents) if place.is_file()), path)
        return f"{printable(found)}: is a file, not a folder; check the path"
    if problem.filename is not None:  # no permission, a loop of links, a folder that vanished, a disk that fails
        return f"{printable(problem.filename)}: {problem.strerror}; check the path and its permissions"
    raise problem


if __name__ == "__main__":
    main()
