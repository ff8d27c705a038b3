import errno
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.errors import UsageError
from stillroom import __main__ as door
from stillroom import cli

HOUSE = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UsageError("two things that do not fit"), 2, "two things that do not fit"),
        (KeyboardInterrupt(), 130, "goes on where"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), 2, "no space left while writing /data/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (FileExistsError(errno.EEXIST, "File exists", "/data/x"), 2, "/data/x: is a file, not a folder"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", f"{__file__}/corpus.json"),
            2,
            "test_front_door.py: is a file, not a folder",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "/data/x/corpus.json"),
            2,
            "/data/x/corpus.json: is a file",
        ),
        (
            ModuleNotFoundError("No module named 'av.codec'", name="av.codec"),
            2,
            f"the package av is not installed in {sys.prefix}: pip install av",
        ),
        (ModuleNotFoundError("No module named 'sklearn'", name="sklearn"), 2, "pip install scikit-learn"),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "/data/\n"), 2, "/data/\\n: Too many levels"),
    ],
)
def test_an_error_a_person_can_mend_is_one_line(monkeypatch, capsys, raised, code, line):
    def fail(**_):
        raise raised

    monkeypatch.setattr(cli.stillroom, "main", fail)
    with pytest.raises(SystemExit) as end:
        door.main()
    assert end.value.code == code
    message = capsys.readouterr().err
    assert line in message
    assert len(message.strip().splitlines()) == 1


SLOW_VERB = """
import sys, time
import click
from stillroom import __main__, cli

@click.command("wait")
def wait():
    try:
        print("begun", flush=True)
        time.sleep(20)
    finally:
        print("tidied up", flush=True)

cli.VERBS["wait"] = cli.Verb("__main__", "wait", "Sleep.")
sys.argv = ["stillroom", "wait"]
__main__.main()
"""


def test_sigterm_is_one_line_that_says_how_to_go_on_and_nothing_is_left_behind():
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_VERB], cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    out, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert out == "tidied up\n"
    assert said == "stillroom: stopped by SIGTERM; the same command goes on where this one left off\n"


@pytest.mark.parametrize(
    "fault",
    [
        ZeroDivisionError(),
        ModuleNotFoundError("No module named 'manifests.gone'", name="manifests.gone"),
        ModuleNotFoundError(),
    ],
)
def test_a_fault_of_our_own_keeps_its_trace(monkeypatch, fault):
    def fail(**_):
        raise fault

    monkeypatch.setattr(cli.stillroom, "main", fail)
    with pytest.raises(type(fault)):
        door.main()


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["build"], ["build", "--frobnicate"], ["verify", "nowhere", "--level", "deep"]]
)
def test_wrong_usage_is_one_line_and_exit_code_2(words):
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", *words], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("stillroom: ")


def test_the_version_is_the_packages():
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", "--version"], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "0.1.0" in done.stdout


def test_no_help_shows_the_marks_of_its_formatting():
    group = cli.stillroom
    with group.make_context("stillroom", [], resilient_parsing=True) as context:
        for name in group.list_commands(context):
            verb = group.get_command(context, name)
            assert "\\b" not in verb.get_help(verb.make_context(name, [], resilient_parsing=True)), name


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["build", "--frobnicate"], ("No such option '--frobnicate'. (see ", "stillroom build --help)")),
        (["frobnicate"], ("No such command 'frobnicate'. (see ", "stillroom --help)")),
    ],
)
def test_wrong_usage_names_the_command_whose_help_tells_more(monkeypatch, capsys, words, line):
    monkeypatch.setattr(sys, "argv", ["stillroom", *words])
    with pytest.raises(SystemExit) as end:
        door.main()
    assert end.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith(f"stillroom: {line[0]}")
    assert message.endswith(line[1])


@pytest.mark.parametrize(("given", "code"), [(1, 1), (75, 75), (None, 0), ("a text", 0)])
def test_the_exit_code_is_that_of_the_command(monkeypatch, given, code):
    monkeypatch.setattr(cli.stillroom, "main", lambda **_: given)
    with pytest.raises(SystemExit) as end:
        door.main()
    assert end.value.code == code


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_told_and_a_fault_without_a_file_keeps_its_trace(number):
    assert "no space left while writing a temporary file" in door.what_to_do(OSError(number, "full"))
    with pytest.raises(OSError, match="odd"):
        door.what_to_do(OSError(errno.EIO, "odd"))


def test_the_verbs_are_listed_in_the_order_in_which_they_are_used():
    group = cli.stillroom
    assert group.list_commands(None) == list(cli.VERBS)
    assert group.get_command(None, "frobnicate") is None
    assert group.get_command(None, "schema").name == "schema"
