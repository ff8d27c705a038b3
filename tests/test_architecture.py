"""The house itself: layers, lazy imports, what a wheel ships, file sizes."""

import ast
import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
ROOMS = ("stillroom", "manifests", "corpus_builder", "training", "evaluation")
SOURCES = [path for room in ROOMS for path in sorted((HOUSE / room).rglob("*.py"))]


def output_of(code):
    """What a fresh interpreter prints when it runs code at the house's root."""
    done = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_neither_torch_nor_lhotse():
    code = (
        "import sys; sys.argv = ['stillroom', '--help']\n"
        "from stillroom.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'torchaudio', 'lhotse', 'numpy', 'scipy', 'webdataset', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy - {'pydantic'}, heavy"
    )
    shown = output_of(code)
    for verb in ("demo", "plan", "build", "verify", "show", "train", "evaluate", "report"):
        assert verb in shown


def test_every_verb_has_help_and_starts_without_heavy_libraries():
    code = (
        "import sys, click\n"
        "from stillroom.cli import VERBS, stillroom\n"
        "for name in VERBS:\n"
        "    command = stillroom.get_command(click.Context(stillroom), name)\n"
        "    assert command.help, name\n"
        "    for parameter in command.params:\n"
        "        assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)\n"
        "heavy = {'torch', 'torchaudio', 'lhotse', 'webdataset', 'pyroomacoustics', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    output_of(code)


def test_a_worker_starts_without_what_only_some_recipes_need():
    output_of(
        "import sys, corpus_builder.build.build_corpus, corpus_builder.shards.writer\n"
        "heavy = {'torch', 'lhotse', 'pyroomacoustics', 'scipy.signal', 'scipy.stats', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


def test_a_labs_own_training_folder_does_not_shadow_ours(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("raise RuntimeError('the wrong training')")
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", "train", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(HOUSE), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "CONFIG RUN" in done.stdout.upper()


def test_the_wrong_training_package_is_named(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "stillroom", "--help"],
        cwd="/", env={"PYTHONPATH": f"{tmp_path}:{HOUSE}", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "'training' was found at" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_tests_are_not_shipped_and_packages_are_named_one_by_one():
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    packages = set(project["tool"]["setuptools"]["packages"])
    found = {str(path.parent.relative_to(HOUSE)).replace("/", ".") for path in SOURCES if path.name == "__init__.py"}
    of_data = {"stillroom.recipes"}  # the folder recipes, for `stillroom init`
    assert set(project["tool"]["setuptools"]["package-dir"]) == of_data
    assert packages == found | of_data
    assert not list((HOUSE / "tests").rglob("__init__.py"))


def test_a_file_fits_its_name():
    """Each module says what it is in its first line and has at most about 300 lines; the loop may have some more."""
    offenders = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        if len(lines) > (420 if path.name == "loop.py" else 400):
            offenders.append(f"{path.relative_to(HOUSE)}: {len(lines)} lines")
        if not lines or not lines[0].startswith(('"""', 'r"""')):
            offenders.append(f"{path.relative_to(HOUSE)}: no docstring")
    assert not offenders


def test_a_folder_has_at_most_ten_modules():
    folders = {path.parent for path in SOURCES}
    counts = {folder: len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) for folder in folders}
    assert not {str(folder.relative_to(HOUSE)): count for folder, count in counts.items() if count > 10}
    assert len(folders) > 30


def test_benchmarks_import_nothing_from_tests():
    for path in sorted((HOUSE / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert "tests" not in {name.partition(".")[0] for name in names}, f"{path}:{node.lineno}"


def test_no_folder_of_tests_has_a_name_that_pytest_passes_over(pytestconfig):
    """By its own list pytest looks into no folder called `build` or `dist`: the tests in it would be run by nobody."""
    folders = {path.parent for path in (HOUSE / "tests").rglob("test_*.py")}
    names = {part for folder in folders for part in folder.relative_to(HOUSE).parts}
    assert "build" in names
    patterns = pytestconfig.getini("norecursedirs")
    assert not [name for name in sorted(names) if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
