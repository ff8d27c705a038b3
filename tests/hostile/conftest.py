"""One small lab, built once: sources, a corpus, its pack, a run, a teacher, results; each test twists a copy."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lhotse  # noqa: F401 (it makes a folder in the home when it is first imported)
import matplotlib.pyplot  # noqa: F401, ICN001 (it makes folders for its settings when it is first imported)
import pytest
import torch
import yaml

from tests.corpus_builder.conftest import Inline, furnish
from tests.hostile.door import Answer, knock
from tests.training.conftest import write_corpus, write_teacher


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Eight hundred knocks at every door take minutes: `make test-all` has the time."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True)
class House:
    """A copy of everything, to be twisted.

    Attributes:
        home: Holds it all.
    """

    home: Path

    @property
    def corpus(self) -> Path:
        """A corpus as `build` made it."""
        return self.home / "corpus"

    @property
    def pack(self) -> Path:
        """Its pack."""
        return self.home / "tiny.tar.gz"

    @property
    def heard(self) -> Path:
        """A corpus to train on."""
        return self.home / "heard"

    @property
    def teacher(self) -> Path:
        """A teacher's folder."""
        return self.home / "teacher"

    @property
    def run(self) -> Path:
        """A run of two steps."""
        return self.home / "run"

    def json(self, path: str) -> Any:
        """A document."""
        return json.loads((self.home / path).read_text())

    def write(self, path: str, content: Any) -> Path:
        """Write bytes, text or plain data as JSON (as YAML where the name says so)."""
        place = self.home / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            place.write_bytes(content)
        elif isinstance(content, str):
            place.write_text(content, encoding="utf-8", errors="surrogatepass")
        elif place.suffix == ".yaml":
            place.write_text(yaml.safe_dump(content, sort_keys=False))
        else:
            place.write_text(json.dumps(content))
        return place

    def knock(self, *words: object, target: str | None = None) -> Answer:
        """Run a command; it may write `target` alone."""
        return knock(*words, home=self.home, target=None if target is None else self.home / target)

    def refused(self, *words: object, target: str | None = None, codes: tuple[int, ...] = (2,)) -> str:
        """The one line that a command is refused with."""
        answer = self.knock(*words, target=target)
        assert answer.code in codes, f"exit {answer.code}: {answer.out[:500]} {answer.err[:500]}"
        return answer.line

    def found(self, *words: object, target: str | None = None) -> str:
        """What a check tells of: exit code 1 and lines that only print, or one line and 2."""
        answer = self.knock(*words, target=target)
        assert answer.code in {1, 2}, f"exit {answer.code}: {answer.out[:500]} {answer.err[:500]}"
        if answer.code == 2:
            return answer.line
        assert answer.out.strip()
        return answer.out


def train_config(folder: Path) -> dict[str, Any]:
    """A run of two steps of a tiny student."""
    return {
        "preset": "cdm2-dat", "corpus": str(folder / "heard"), "teacher": {"name": str(folder / "teacher")}, "student": {"layers": 2},
        "batch": {"seconds": 4, "lanes": 2}, "crop_s": 0.9, "steps": 2, "log_every": 1, "checkpoint_every": 1, "validate_every": 2,
        "validate_utterances": 2, "workers": 0, "seed": 4,
    }  # fmt: skip


@pytest.fixture(scope="session")
def standing_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The lab itself; not to be changed."""
    import torch._dynamo  # noqa: F401 (it makes a folder for its cache when it is first imported)

    from corpus_builder.build.build_corpus import build
    from manifests.pack.write import write_pack

    home = tmp_path_factory.mktemp("house") / "home"
    home.mkdir()
    lab = furnish(home)
    lab.without_rooms()
    build(lab.write_recipe(), home / "corpus", progress=False, executor=Inline())
    write_pack(home / "corpus", home / "tiny.tar.gz")
    write_corpus(home / "heard", shards=1, samples=4, lengths_s=(1.0, 1.2))
    write_teacher(home / "teacher")
    return House(home)


@pytest.fixture(scope="session")
def standing_run(standing_house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on it; not to be changed."""
    from training.config.load import load_config
    from training.loop import distil

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    (folder / "train.yaml").write_text(yaml.safe_dump(train_config(standing_house.home)))
    distil(load_config(folder / "train.yaml"), folder / "run")
    torch.set_num_threads(threads)
    return folder / "run"


@pytest.fixture
def house(standing_house: House, tmp_path: Path) -> House:
    """A copy of the lab."""
    home = tmp_path / "home"
    shutil.copytree(standing_house.home, home, symlinks=True)
    (home / "train.yaml").write_text(yaml.safe_dump(train_config(home)))
    return House(home)


@pytest.fixture
def trained(house: House, standing_house: House, standing_run: Path) -> House:
    """A copy of the lab, with a run that can go on there."""
    shutil.copytree(standing_run, house.run)
    config = house.run / "config.yaml"
    config.write_text(config.read_text().replace(str(standing_house.home), str(house.home)))
    return house
