"""A subset or an index of strangers' tars is evaluated, and trained on, as what it holds and not as what it borrows from."""

import io
import tarfile

import numpy as np
import pytest
import soundfile
import yaml

from corpus_builder.build.build_corpus import build
from corpus_builder.exchange.index_webdataset import index_shards
from corpus_builder.exchange.subset import subset
from evaluation import evaluate_models as stage
from evaluation.config import EvaluationConfig
from evaluation.exposure.training_set import corpus_exposure
from evaluation.report.markdown import OtherDataError, merged_models
from manifests.corpus.filter import parse_where
from manifests.errors import OtherRecipeError
from manifests.io.json_yaml import write_yaml
from tests.oracles.fake_encoder import FakeEncoder
from training.data.audio import utterances

RATE = 16_000


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 2000 * np.random.RandomState(seed).standard_normal(4000 + 100 * seed)
    soundfile.write(path, wave.astype(np.int16), RATE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for number in range(24):
        write(
            folder / ("train" if number < 12 else "test") / f"s{number % 3}" / f"w{number % 2}" / f"u{number}.wav",
            number,
        )
    source = {split: {"dir": split, "fields": "{speaker}/{word}/{id}.wav"} for split in ("train", "test")}
    names = {"white": "white", "pink": "pink"}
    recipe = {
        "schema": "stillroom/recipe/1", "name": "lab", "seed": 3, "speech": source,
        "noises": {name: {"colour": name} for name in names},
        "conditions": {
            name: {"steps": [{"kind": "noise", "from": [name], "snr_db": {"uniform": [0, 20]}}]} for name in names
        },
        "copies": {split: dict.fromkeys(names, 1) for split in source}, "shards": {"samples": 6},
    }  # fmt: skip
    write_yaml(folder / "lab.yaml", recipe)
    build(folder / "lab.yaml", folder / "whole", progress=False)
    return folder


@pytest.fixture(autouse=True)
def bench(monkeypatch):
    monkeypatch.setattr("evaluation.models.load_teacher", lambda _: FakeEncoder())


def part_of(lab, out, *expressions):
    subset(lab / "whole", out, where=parse_where(list(expressions)))
    return out


def evaluated(corpus, folder, *, out="out", **changes):
    folder.mkdir(exist_ok=True)
    asked = {
        "corpus": str(corpus), "models": {"good": "fake"}, "tasks": [{"kind": "classify", "label": "word"}],
        "measures": ["cosine", "leakage"], "probes": 1, "efficiency": False, **changes,
    }  # fmt: skip
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(asked))
    return stage.evaluate(EvaluationConfig.read(folder / "evaluation.yaml"), folder / out)


def counts(results, measure):
    [cell] = results.cells
    return {score.condition: score.count for score in cell.scores if score.measure == measure}


def test_a_subset_by_snr_is_evaluated_on_the_copies_that_it_has(lab, tmp_path):
    part = part_of(lab, tmp_path / "loud", "snr_db>=6")
    results = evaluated(part, tmp_path)
    held = [set(one.waves) - {"clean"} for one in utterances(part, "test")]
    due = {name: sum(f"{name}-0" in copies for copies in held) for name in ("white", "pink")}
    assert due["white"] < len(held), "every utterance has it, so this tells nothing"
    assert counts(results, "accuracy") == {"clean": len(held), **due}
    assert results.protocol.conditions == ("pink", "white")
    assert results.roll is not None
    assert len(results.roll.utterance.split()) == len(held) + sum(due.values())


def test_a_subset_of_one_condition_has_no_other(lab, tmp_path):
    results = evaluated(part_of(lab, tmp_path / "pink", "condition=pink"), tmp_path)
    assert counts(results, "accuracy") == {"clean": 12, "pink": 12}
    assert results.roll is not None
    assert results.roll.conditions == ("clean", "pink")


def test_a_subset_is_other_data_than_what_it_is_a_part_of(lab, tmp_path):
    part = part_of(lab, tmp_path / "part", "seconds<0.39")
    whole, less = evaluated(lab / "whole", tmp_path), evaluated(part, tmp_path / "b")
    assert (counts(whole, "accuracy")["clean"], counts(less, "accuracy")["clean"]) == (12, 11)
    assert whole.protocol.data_sha256 != less.protocol.data_sha256
    with pytest.raises(OtherDataError, match="different data"):
        merged_models([whole, less])
    with pytest.raises(OtherRecipeError):
        evaluated(part, tmp_path)


def test_what_was_trained_on_a_subset_met_nothing_else(lab, tmp_path):
    part = part_of(lab, tmp_path / "pink", "condition=pink", "snr_db>=10")
    [kind] = corpus_exposure((str(part),), "train").kinds.values()
    assert kind.sources == ("pink",)
    assert kind.ranges["snr_db"][0] >= 10


def test_an_index_of_strangers_tars_is_evaluated_by_what_they_tell(lab, tmp_path):
    for split in ("train", "test"):
        with tarfile.open(tmp_path / f"{split}.tar", "w") as stream:
            for number, path in enumerate(sorted((lab / split).rglob("*.wav"))):
                for name, part in ((f"{number}.wav", path.read_bytes()), (f"{number}.txt", path.parent.name.encode())):
                    info = tarfile.TarInfo(f"{split}{name}")
                    info.size = len(part)
                    stream.addfile(info, io.BytesIO(part))
    index_shards([f"{split}={tmp_path / split}.tar" for split in ("train", "test")])
    task = {"kind": "classify", "label": "text"}
    results = evaluated(tmp_path, tmp_path / "e", tasks=[task], measures=[])
    assert counts(results, "accuracy") == {"clean": 12}
