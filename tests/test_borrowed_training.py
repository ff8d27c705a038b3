"""What the builder hands out is what the trainer streams: subsets, indexes of strangers' tars, editions."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpus_builder.build.build_corpus import build
from corpus_builder.exchange.index_webdataset import index_shards
from corpus_builder.exchange.subset import subset
from manifests.corpus.filter import parse_where
from manifests.corpus.sample import sample_key
from manifests.errors import UsageError
from manifests.io.json_yaml import write_yaml
from training.data.audio import recorded_copies, utterances
from training.data.joined_corpus import open_corpus
from training.data.sampler import Cursor
from training.data.view_keys import Views
from training.sanity_check import full_ids
from training.stream import pairs

RATE = 16_000


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        path, (2000 * np.random.RandomState(seed).standard_normal(4000 + 400 * seed)).astype(np.int16), RATE
    )


def made(folder, name, conditions, *, snr_db=5):
    recipe = {
        "schema": "stillroom/recipe/1",
        "name": name,
        "seed": 3,
        "speech": {"train": {"dir": "speech", "fields": "{speaker}/{id}.wav"}},
        "noises": {"white": {"colour": "white"}, "pink": {"colour": "pink"}},
        "conditions": {
            key: {"steps": [{"kind": "noise", "from": [source], "snr_db": snr_db}]}
            for key, source in conditions.items()
        },
        "copies": {"train": dict.fromkeys(conditions, 1)},
        "shards": {"samples": 3},
    }
    write_yaml(folder / f"{name}.yaml", recipe)
    build(folder / f"{name}.yaml", folder / name, progress=False)
    return folder / name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    for number in range(6):
        write(folder / "speech" / f"s{number % 3}" / f"u{number}.wav", number)
    made(folder, "base", {"white": "white"})
    made(folder, "edition", {"pink": "pink"})
    return folder


def heard(corpus, views):
    batches = list(pairs(corpus, views=views, utterances=2))
    return {key for batch in batches for key in batch.keys}, {
        copy for batch in batches for copy in batch.student_copies
    }


def test_an_edition_lends_its_copies_to_the_trainer(lab):
    keys, _ = heard(lab / "base", "cdm1")
    joined, copies = heard([lab / "base", lab / "edition"], "cdm2")
    assert joined == keys
    assert len(keys) == 6
    assert copies <= {"white-0", "pink-0"}
    teachers = {
        copy
        for batch in pairs([lab / "base", lab / "edition"], views="cdm2", utterances=2)
        for copy in batch.teacher_copies
    }
    assert teachers | copies == {"white-0", "pink-0"}


def test_a_subset_is_streamed_with_the_same_samples(lab, tmp_path):
    subset(lab / "base", tmp_path / "part", where=parse_where(["speaker=s1"]))
    whole = {one.sample.id: one for one in utterances(lab / "base", "train")}
    part = {one.sample.id: one for one in utterances(tmp_path / "part", "train")}
    assert set(part) == {name for name, one in whole.items() if one.sample.speaker == "s1"}
    for name, one in part.items():
        assert one.sample == whole[name].sample
        assert all(np.array_equal(wave, whole[name].waves[copy]) for copy, wave in one.waves.items())
    keys, copies = heard(tmp_path / "part", "cdm1")
    assert (len(keys), copies) == (2, {"white-0"})


def test_a_subset_whose_utterances_have_different_copies_is_streamed_with_those_they_have(lab, tmp_path):
    made(lab, "loud", {"white": "white", "pink": "pink"}, snr_db={"uniform": [0, 20]})
    part = subset(lab / "loud", tmp_path / "part", where=parse_where(["snr_db>=10"]))
    assert part.copies["train"] == {}, "no condition is left to all, or this tells nothing"
    held = {sample_key(one.sample.id): set(one.waves) - {"clean"} for one in utterances(tmp_path / "part", "train")}
    assert {len(copies) for copies in held.values()} >= {1}
    batches = list(pairs(tmp_path / "part", views=Views(kind="cdm1"), utterances=2))
    told = {key: copy for batch in batches for key, copy in zip(batch.keys, batch.student_copies, strict=True)}
    assert told.keys() == held.keys()
    assert all(copy in held[key] for key, copy in told.items())


def test_a_subset_without_any_copy_is_refused_for_views_that_need_one(lab, tmp_path):
    subset(lab / "base", tmp_path / "bare", where=parse_where(["condition=clean"]))
    with pytest.raises(UsageError, match="needs 1 distorted copy"):
        heard(tmp_path / "bare", "cdm1")


def test_a_subset_has_as_many_copies_as_one_of_its_utterances_and_not_as_all_together(lab, tmp_path):
    """Six utterances with one copy each, or with none: views of two different copies of an utterance need two of one."""
    made(lab, "both", {"white": "white", "pink": "pink"}, snr_db={"uniform": [0, 20]})
    subset(lab / "both", tmp_path / "one", where=parse_where(["condition=white"]))
    with pytest.raises(UsageError, match="needs 2 distorted different copies of an utterance, this split has 1:"):
        heard(tmp_path / "one", "cdm2")
    subset(lab / "both", tmp_path / "some", where=parse_where(["snr_db>=10"]))
    with open_corpus(tmp_path / "some") as reader:
        assert reader.manifest.copies["train"] == {}, "no condition is left to all, or this tells nothing"
        assert reader.copies("train") == {"white": 1, "pink": 1}


def test_a_subset_of_clean_speech_has_no_copies_in_its_records(lab, tmp_path):
    subset(lab / "base", tmp_path / "clean", where=parse_where(["condition=clean"]))
    assert all(
        (list(one.waves), one.sample.copies) == (["clean"], ()) for one in utterances(tmp_path / "clean", "train")
    )


def test_an_index_of_tars_is_streamed(lab, tmp_path):
    import io
    import tarfile

    tar = tmp_path / "x.y.tar"
    with tarfile.open(tar, "w") as stream:
        for number, path in enumerate(sorted((lab / "speech").rglob("*.wav"))):
            content = path.read_bytes()
            for name, part in ((f"d/{number}.wav", content), (f"d/{number}.txt", b"HE SAID")):
                info = tarfile.TarInfo(name)
                info.size = len(part)
                stream.addfile(info, io.BytesIO(part))
    index_shards([str(tar)])
    keys, copies = heard(tmp_path, "none")
    assert (len(keys), copies) == (6, {"clean"})
    for one in utterances(tmp_path, "train"):
        number = int(Path(one.sample.id).name)
        path = sorted((lab / "speech").rglob("*.wav"))[number]
        assert np.array_equal(one.waves["clean"], soundfile.read(path, dtype="float32")[0])
        assert one.sample.text == "HE SAID"
        assert one.sample.split == "train"
    stream = pairs(tmp_path, views="none", utterances=6)
    with open_corpus(tmp_path) as reader:
        assert sorted(full_ids(stream, reader, Cursor()).split(", ")) == [f"d/{number}" for number in range(6)]
        (entry,) = reader.shards("train")
        assert [recorded_copies(reader, entry.name, sample) for sample in reader.samples(entry.name)] == [[]] * 6
