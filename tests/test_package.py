"""What `pip install .` brings, and what it does not."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_wheel_has_the_rooms_and_nano_but_no_tests_and_no_demo_dependency(tmp_path):
    tracked = (
        subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, check=True)
        .stdout.decode()
        .split("\0")
    )
    for name in filter(None, tracked):  # a copy: building writes beside the sources
        if (HOUSE / name).exists() and name.split("/")[0] not in {"docs", "tests"}:
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes((HOUSE / name).read_bytes())
    (tmp_path / "source" / "tests").mkdir()
    (tmp_path / "source" / "tests" / "test_x.py").write_text("")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--verbose",  # else pip hides what setuptools says
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        ".",
    ]
    done = subprocess.run(command, cwd=tmp_path / "source", check=True, capture_output=True, text=True)
    assert "BuildBackendWarning" not in done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        metadata = wheel.read(next(name for name in names if name.endswith("METADATA"))).decode()
        entry_points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    packages = {"stillroom", "manifests", "corpus_builder", "training", "evaluation"}
    assert {name for name in tracked if name.split("/")[0] in packages} <= set(names)  # templates and schemas with them
    for needed in (
        "stillroom/demo.py", "stillroom/talkers.py", "manifests/recipe/recipe.py", "corpus_builder/distortions/additive_noise.py",
        "training/loop.py", "training/nano/weights.safetensors", "training/nano/card.json", "training/nano/heard.txt",
        "training/nano/LICENSE", "evaluation/report/markdown.py", "stillroom/py.typed",
    ):  # fmt: skip
        assert needed in names
    assert not [name for name in names if "tests" in name.split("/")]
    assert "stillroom = stillroom.__main__:main" in entry_points
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    assert [line for line in needs if "espeakng" in line and "extra ==" not in line] == []
    assert [line for line in needs if "urllib3" in line and "extra ==" not in line]
