import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from manifests.errors import UsageError
from stillroom import __main__ as door
from stillroom import cli

HOUSE = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UsageError("two things that do not fit"), 2, "two things that do not fit"),
        (click.ClickException("an odd thing"), 2, "stillroom: an odd thing\n"),
        (click.exceptions.Abort(), 130, "stillroom: stopped; the same command goes on where this one left off\n"),
        (
            click.UsageError("5 is not a\nvalid integer range"),
            2,
            "stillroom: 5 is not a whole number (see stillroom --help)\n",
        ),
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


@pytest.mark.parametrize("is_forked", [False, True])
def test_sigterm_ends_a_command_with_its_line_and_a_forked_child_by_itself(is_forked, monkeypatch, capsys):
    """The second SIGTERM is not caught, so that a command that does not end can be ended; afterwards the handler is the one of before."""
    killed, handlers, process = [], [], os.getpid()

    def interrupted(**_):
        if is_forked:
            monkeypatch.setattr(os, "getpid", lambda: process + 1)
            monkeypatch.setattr(os, "kill", lambda *given: killed.append(given))
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            handlers.append(signal.getsignal(signal.SIGTERM))

    monkeypatch.setattr(cli.stillroom, "main", interrupted)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit) as end:
            door.main()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143
    assert handlers == [signal.SIG_DFL]
    assert killed == ([(process + 1, signal.SIGTERM)] if is_forked else [])
    assert (
        capsys.readouterr().err == "stillroom: stopped by SIGTERM; the same command goes on where this one left off\n"
    )


def test_the_group_is_run_so_that_its_errors_come_here(monkeypatch):
    asked = []
    monkeypatch.setattr(cli.stillroom, "main", lambda **given: asked.append(given))
    with pytest.raises(SystemExit):
        door.main()
    assert asked == [{"standalone_mode": False}]


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


def test_the_list_of_verbs_is_printed_from_their_lines_alone(monkeypatch):
    monkeypatch.setattr(cli.importlib, "import_module", lambda _: pytest.fail("a verb was imported"))
    for word in ("--help", "-h"):
        done = CliRunner().invoke(cli.stillroom, [word], prog_name="stillroom")
        assert done.exit_code == 0
        listed = " ".join(done.output.split()).partition(" Commands: ")[2]  # long lines are wrapped
        assert listed == " ".join(f"{name} {verb.help}" for name, verb in cli.VERBS.items())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("eval", "evaluate"),
        ("fit", "train"),
        ("biuld", "build"),
        ("rebulid", "rebuild"),
        ("trian", "train"),
        ("compare", "diff"),
        ("qqq", None),
        ("x\x1b", None),
    ],
)
def test_of_a_verb_that_is_none_the_one_that_may_be_meant_is_told(name, meant):
    done = CliRunner().invoke(cli.stillroom, [name])
    assert done.exit_code == 2
    assert ("Did you mean" in done.output) == (meant is not None)
    assert meant is None or f"Did you mean '{meant}'?" in done.output
    assert "\x1b" not in done.output
    assert set(cli.OTHER_VERBS.values()) <= set(cli.VERBS)
    assert not set(cli.OTHER_VERBS) & set(cli.VERBS)


def test_an_option_in_place_of_a_verb_is_told_as_an_option():
    done = CliRunner().invoke(cli.stillroom, ["--frobnicate"])
    assert "No such option" in done.output
    assert "No such command" not in done.output


def test_a_key_that_is_given_as_an_option_is_told_in_the_spelling_of_the_config():
    @click.command()
    @click.option("--set", "changes")
    def verb(changes): ...

    @click.command()
    def plain(): ...

    def told(name, command):
        return door.set_instead(click.NoSuchOption(name, ctx=click.Context(command)))

    assert told("--checkpoint-every", verb) == " A key of the config is set by --set checkpoint_every=VALUE."
    assert told("-x", verb) == told("--steps", plain) == ""
    assert door.set_instead(click.NoSuchOption("--steps")) == door.set_instead(click.UsageError("odd")) == ""


def test_a_path_below_a_file_is_told_by_the_file_and_another_problem_by_its_own_words(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("")
    for number in (errno.EEXIST, errno.ENOTDIR):
        said = door.what_to_do(OSError(number, "odd", os.fsencode(file / "b/c")))
        assert said == f"{file}: is a file, not a folder; check the path"
    assert door.what_to_do(OSError(errno.EIO, "odd", "x")) == "x: odd; check the path and its permissions"
    assert "no space left while writing x" in door.what_to_do(OSError(errno.EDQUOT, "odd", "x"))
