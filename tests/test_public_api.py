"""The public Python API: every name of every package, and the straight way by functions instead of commands."""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import stillroom
from tests.test_straight_way import furnish

TREE = Path(__file__).resolve().parent.parent
PACKAGES = ("stillroom", "manifests", "corpus_builder", "training", "evaluation")

# Both orders: the public name before its module was ever imported, and after all modules of the package were.
BOTH_ORDERS = """
import importlib, pkgutil, sys
from types import ModuleType
package = sys.argv[1]
first = importlib.import_module(package)
names = list(dir(first)) if hasattr(type(first), "__dir__") else []
names = [name for name in first.__dir__()] if "__getattr__" in vars(first) else []
found = {name: getattr(first, name) for name in names}
for module in pkgutil.iter_modules(first.__path__):
    if module.name != "__main__":
        importlib.import_module(f"{package}.{module.name}")
for name, value in found.items():
    assert not isinstance(value, ModuleType), (package, name)
    assert getattr(first, name) is value, (package, name)
print(" ".join(names))
"""


def packages():
    """Every package of the tree that has public names."""
    found = []
    for top in PACKAGES:
        found += [top, *(one.name for one in pkgutil.walk_packages([str(TREE / top)], prefix=f"{top}.") if one.ispkg)]
    return [package for package in found if package != "training.nano"]


def public_names(package):
    module = importlib.import_module(package)
    return module.__dir__() if "__getattr__" in vars(module) else []


@pytest.mark.parametrize("package", packages())
def test_a_public_name_is_the_same_thing_in_every_order_of_imports(package):
    names = public_names(package)
    modules = {one.name for one in pkgutil.iter_modules(importlib.import_module(package).__path__)}
    assert not modules & set(names), "a public name equals a sub-module's"
    for name in names:
        value = getattr(importlib.import_module(package), name)
        assert not isinstance(value, ModuleType)
        assert name == getattr(value, "__name__", name) or package == "stillroom"


@pytest.mark.parametrize("package", ["stillroom", "corpus_builder.build", "training", "training.export"])
def test_a_name_taken_before_its_module_is_imported_is_the_one_taken_after(package):
    done = subprocess.run(
        [sys.executable, "-c", BOTH_ORDERS, package], cwd=TREE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(public_names(package))


def test_a_name_that_is_not_public_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'stillroom' has no attribute 'frobnicate'"):
        _ = stillroom.frobnicate


def test_what_is_documented_of_stillroom_is_there():
    for name in (
        "plan", "build", "verify", "rebuild", "pack", "diff", "audit", "pairs", "train", "evaluate", "report", "export",
        "load_student", "cut_sets", "Recipe", "Plan", "Sample", "Corpus", "Pack", "TrainConfig", "EvaluationConfig",
    ):  # fmt: skip
        assert callable(getattr(stillroom, name)), name


def test_the_straight_way_by_functions(tmp_path):
    furnish(tmp_path)
    corpus, run = str(tmp_path / "corpus"), str(tmp_path / "runs/robust")
    made, existed = stillroom.plan(str(tmp_path / "recipe.yaml"), str(tmp_path / "plan"), progress=False)
    assert sum(file.rows for file in made.files) == 32
    assert not existed
    built = stillroom.build(str(tmp_path / "plan"), corpus, progress=False)
    assert built.corpus is not None
    assert built.corpus.totals.samples == 32
    assert not stillroom.verify(corpus, progress=False).findings

    path, _ = stillroom.pack(corpus, str(tmp_path / "small.tar.gz"), progress=False)
    roots = json.loads((tmp_path / "corpus/roots.local.json").read_text())["roots"]
    rebuilt = stillroom.rebuild(str(path), str(tmp_path / "again"), roots=roots, progress=False)
    assert rebuilt.proof.total("identical") == 32 * 4
    with stillroom.diff(corpus, str(tmp_path / "again")) as found:
        assert not found.any
    assert stillroom.audit([corpus], sound="none", progress=False).checked
    assert {len(list(cuts)) for cuts in stillroom.cut_sets(corpus, split="dev").values()} == {8}

    batch = next(iter(stillroom.pairs(corpus, split="train", views="cdm2", seconds=12, lanes=2, crop_s=2)))
    assert batch.teacher_wave.shape == batch.student_wave.shape
    assert stillroom.train(str(tmp_path / "robust.yaml"), run) == "done"
    student = stillroom.load_student(run)
    exported = stillroom.export(run, str(tmp_path / "exported"), form="torchaudio")
    assert exported.difference < 1e-4
    config = yaml.safe_load((tmp_path / "evaluation.yaml").read_text())
    config["models"].pop("plain")
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump(config))
    results = stillroom.evaluate(str(tmp_path / "evaluation.yaml"), str(tmp_path / "results"))
    assert {cell.model for cell in results.cells} == {"teacher", "robust"}
    assert "robust" in stillroom.report([str(tmp_path / "results")])
    with torch.no_grad():
        layers, _ = student.encoder.layers(batch.student_wave, batch.num_samples)
    assert layers.shape[1] == 1


DOCUMENT = {"schema": "stillroom/recipe/1", "name": "mine"}
GIVEN_A_DOCUMENT = {
    "plan": lambda: stillroom.plan(DOCUMENT, "plan"),
    "build": lambda: stillroom.build(DOCUMENT, "corpus"),
    "build, where to": lambda: stillroom.build("recipe.yaml", DOCUMENT),
    "verify": lambda: stillroom.verify(DOCUMENT),
    "pack": lambda: stillroom.pack(DOCUMENT, "a.tar.gz"),
    "rebuild": lambda: stillroom.rebuild(DOCUMENT, "corpus"),
    "diff": lambda: stillroom.diff(DOCUMENT, "corpus").__enter__(),
    "audit": lambda: stillroom.audit(DOCUMENT),
    "audit of several": lambda: stillroom.audit([DOCUMENT]),
    "cut_sets": lambda: stillroom.cut_sets(DOCUMENT, split="train"),
    "pairs": lambda: stillroom.pairs(DOCUMENT),
    "load_config": lambda: stillroom.load_config(DOCUMENT),
    "train": lambda: stillroom.train(DOCUMENT, "run"),
    "load_student": lambda: stillroom.load_student(DOCUMENT),
    "export": lambda: stillroom.export(DOCUMENT, "out", form="onnx"),
    "evaluate": lambda: stillroom.evaluate(DOCUMENT, "results"),
    "report": lambda: stillroom.report(DOCUMENT),
    "report of several": lambda: stillroom.report([DOCUMENT]),
}


@pytest.mark.parametrize("call", GIVEN_A_DOCUMENT.values(), ids=GIVEN_A_DOCUMENT)
def test_a_document_in_place_of_its_path_is_one_line_that_says_what_to_give(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError) as refused:
        call()
    assert isinstance(refused.value, stillroom.StillroomError)
    assert str(refused.value).startswith("expected a path or URL, got dict {'schema': 'stillroom/recipe/1', ")
    assert "written to a YAML file first" in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_one_folder_need_not_be_in_a_list(tmp_path):
    folder = str(tmp_path / "gone")
    for call in (lambda: stillroom.audit(folder), lambda: stillroom.report(folder)):
        with pytest.raises(stillroom.StillroomError, match=f"^{folder} does not exist"):
            call()


def other_package(folder, package, text=""):
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(text)


@pytest.mark.parametrize("package", ["training", "evaluation", "manifests", "corpus_builder"])
def test_importing_stillroom_behind_another_projects_package_says_so_in_one_line(tmp_path, package):
    other_package(tmp_path, package, "raise RuntimeError('the wrong one was imported')")
    done = subprocess.run(
        [sys.executable, "-c", "import stillroom"],
        cwd="/", env={"PYTHONPATH": f"{tmp_path}:{TREE}", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("stillroom.packages.OtherPackageError: the package")
    assert f"{package!r} was found at {tmp_path}" in last
    assert "an environment of its own" in last


def test_files_of_another_project_installed_over_ours_are_noticed(tmp_path):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_bytes((TREE / package / "__init__.py").read_bytes())
    (tmp_path / "stillroom/packages.py").write_bytes((TREE / "stillroom/packages.py").read_bytes())
    (tmp_path / "training/__init__.py").write_text('"""OpenCLIP\'s."""')
    done = subprocess.run(
        [sys.executable, "-c", "import stillroom"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "OtherPackageError: the package 'training'" in done.stderr.strip().splitlines()[-1]
