"""Whether the packages that are imported are ours: by where they are and what they say, and what the command does where they are not."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest

from stillroom import packages
from stillroom.packages import PACKAGES, TREE, OtherPackageError, check_packages, drop_current_folder, prepare_imports


@pytest.fixture(name="found")
def places_of_packages(monkeypatch):
    """Where packages are found, ours by default."""
    places = {name: str(TREE / name / "__init__.py") for name in PACKAGES}

    def find(name):
        return None if places[name] is None else SimpleNamespace(origin=places[name] or None)

    monkeypatch.setattr(util, "find_spec", find)
    return places


def test_packages_of_this_tree_are_ours(found):
    check_packages()
    assert Path(packages.__file__).parents[1] == TREE
    assert set(found) == {"manifests", "corpus_builder", "training", "evaluation"}


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_looked_for_and_told_where_it_is(found, name, tmp_path):
    other = tmp_path / name / "__init__.py"
    other.parent.mkdir()
    other.write_text('"""Part of Stillroom, in another folder."""')
    for place, told in (
        (str(other), other),
        (None, "nowhere"),
        ("", "nowhere"),
        (str(TREE / "README.md"), TREE / "README.md"),
    ):
        found[name] = place
        with pytest.raises(OtherPackageError) as caught:
            check_packages()
        assert str(caught.value) == (
            f"the package {name!r} was found at {told}, and is not Stillroom's (at {TREE}): take that folder off PYTHONPATH, or "
            "install stillroom into an environment of its own"
        )


def test_a_package_that_was_installed_over_ours_is_not_ours(found, monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "TREE", tmp_path)
    for name in PACKAGES:
        found[name] = str(tmp_path / name / "__init__.py")
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('"""Part of Stillroom."""')
    check_packages()
    (tmp_path / "evaluation/__init__.py").write_text('"""A lab\'s evaluation."""')
    with pytest.raises(OtherPackageError, match="the package 'evaluation' was found at"):
        check_packages()


@pytest.mark.parametrize("first", ["", "."])
@pytest.mark.parametrize(("here", "is_dropped"), [("lab", True), ("tree", False)])
def test_the_current_folder_is_taken_off_the_path_unless_it_is_our_checkout(
    first, here, is_dropped, tmp_path, monkeypatch
):
    for name in ("lab", "tree"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(packages, "TREE", tmp_path / "tree")
    monkeypatch.chdir(tmp_path / here)
    monkeypatch.setattr(sys, "path", [first, "second"])
    drop_current_folder()
    assert sys.path == (["second"] if is_dropped else [first, "second"])
    monkeypatch.setattr(sys, "path", [str(tmp_path / here), "second"])
    drop_current_folder()
    assert sys.path == (["second"] if is_dropped else [str(tmp_path / here), "second"])


def test_a_folder_that_is_not_the_current_one_stays_on_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "bin"), str(tmp_path)])
    drop_current_folder()
    assert sys.path == [str(tmp_path / "bin"), str(tmp_path)]
    monkeypatch.setattr(sys, "path", [])
    drop_current_folder()
    assert sys.path == []


@pytest.mark.parametrize(
    ("words", "is_command"),
    [(["/usr/bin/stillroom", "plan"], True), (["-m", "plan"], True), (["notebook.py"], False), ([], False)],
)
def test_the_command_ends_with_a_line_where_python_has_an_error(words, is_command, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(packages, "drop_current_folder", lambda: done.append("dropped"))
    monkeypatch.setattr(packages, "check_packages", lambda: done.append("looked"))
    prepare_imports()
    assert done == (["dropped", "looked"] if is_command else ["looked"])

    def check():
        raise OtherPackageError("training", "/lab/training")

    monkeypatch.setattr(packages, "check_packages", check)
    with pytest.raises(SystemExit if is_command else OtherPackageError) as caught:
        prepare_imports()
    said = capsys.readouterr().err
    if is_command:
        assert caught.value.code == 2
        assert said.startswith("stillroom: the package 'training' was found at /lab/training, and is not")
    assert said.count("\n") == is_command
