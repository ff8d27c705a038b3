"""A corpus folder as other libraries find it: `datasets` by its card, `mlcroissant` by its `croissant.json`."""

from __future__ import annotations

import io
import itertools
import json
import shlex
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml

from corpus_builder.shards.croissant import own_url
from corpus_builder.verify.verify_corpus import verify
from manifests.io.place import sizes_below
from tests.corpus_builder.conftest import Lab, voice, write_wave

# Texts that readers of tables take for numbers, dates or nothing, and what JSON escapes.
TEXTS = {"0012": "007", "0013": "1e5", "0014": "NaN", "0015": '"Ja", sagt sie: \\n — ñ'}


@pytest.fixture(scope="module")
def corpora(built_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora whose tars have the same names; the ids and speakers of the second are numbers with leading zeros."""
    other = Lab(tmp_path_factory.mktemp("other"))
    for number, name in enumerate(TEXTS):
        write_wave(other.folder / f"speech/train/0{number % 2}/{name}.wav", voice(number, 0.3))
    rows = [
        f'0{n % 2}/{name}.wav,"{spoken.replace(chr(34), 2 * chr(34))}"'
        for n, (name, spoken) in enumerate(TEXTS.items())
    ]
    (other.folder / "speech/train/table.csv").write_text("\n".join(["path,text", *rows]) + "\n", encoding="utf-8")
    other.recipe |= {"noises": {"white": {"colour": "white"}}, "copies": {"train": {"noise": 1}}, "rooms": {}}
    other.recipe["speech"] = {"train": other.recipe["speech"]["train"] | {"table": "table.csv"}}
    noise = {"kind": "noise", "from": ["white"], "snr_db": {"uniform": [0, 20]}}
    other.recipe["conditions"] = {"noise": {"steps": [noise]}}
    assert other.build().corpus is not None
    return [built_lab.folder / "corpus", other.folder / "corpus"]


def sent(folder: Path, target: Path) -> Path:
    """What the command of docs/hubs.md would send of a corpus, by the rule of `huggingface_hub`."""
    from huggingface_hub.utils import filter_repo_objects

    page = (Path(__file__).parents[3] / "docs/hubs.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("hf upload") and "--exclude" in line]
    words = shlex.split(line)
    assert words[3:7] == ["corpus", ".", "--repo-type", "dataset"]
    excluded = [word for before, word in itertools.pairwise(words) if before == "--exclude"]
    for name in filter_repo_objects(sizes_below(folder), ignore_patterns=excluded):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)
    return target


def test_what_the_page_sends_is_a_whole_corpus_without_what_is_of_this_machine(
    corpora: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "corpus").mkdir()
    shutil.copytree(corpora[1], tmp_path / "corpus", dirs_exist_ok=True)
    (tmp_path / "corpus/.lock").touch()
    pushed = sent(tmp_path / "corpus", tmp_path / "pushed")
    assert not verify(pushed, level="bytes", progress=False).findings
    assert {path.name for path in pushed.iterdir()} == {
        path.name for path in corpora[1].iterdir() if path.name != "roots.local.json"
    }
    for path in pushed.rglob("*"):
        assert path.is_dir() or path.suffix == ".tar" or str(corpora[1].parent).encode() not in path.read_bytes()


def members(corpus: Path, split: str) -> dict[str, bytes]:
    """Every member of a split's tars, by the standard library."""
    found = {}
    for path in sorted((corpus / "shards").glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            found |= {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    return found


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


@pytest.mark.filterwarnings("ignore")  # of rdflib, pandas and their kin
def test_two_corpora_read_by_croissant_in_one_home_give_their_own_samples(corpora: list[Path]) -> None:
    import mlcroissant

    for corpus in corpora:
        dataset = mlcroissant.Dataset(str(corpus / "croissant.json"))
        held = members(corpus, "train")
        records = {text(record["train/member"]): record for record in dataset.records("train")}
        assert set(records) == {name for name in held if name.endswith(".clean.flac")}
        for name, record in records.items():
            about = json.loads(held[str(name).replace(".clean.flac", ".json")])
            for field in ("id", "text", "speaker", "language"):
                assert text(record[f"train/{field}"]) == about.get(field)
            assert record["train/audio"] == held[str(name)]
        whole = {text(one["train-about/member"]): one["train-about/about"] for one in dataset.records("train-about")}
        assert whole == {name: content for name, content in held.items() if name.endswith(".json")}
    assert {(text(one["train/id"]), text(one["train/text"])) for one in records.values()} == set(TEXTS.items())


def test_the_url_of_a_tar_leads_to_it_and_is_of_no_other_tar(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/train-000000.tar").write_bytes(b"here")
    urls = [own_url("shards/train-000000.tar", sha256=f"{number:016x}" + 48 * "0") for number in (0, 1 << 16, 1 << 63)]
    assert len(set(urls)) == 3
    for url in urls:
        assert (tmp_path / url).read_bytes() == b"here"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of pyarrow and its kin
def test_a_corpus_folder_loads_as_splits_with_audio_and_json(
    corpora: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(str(sent(corpora[0], tmp_path / "pushed")))
    assert set(loaded) == {"train", "test"}
    for split, columns in loaded.items():
        rows = columns
        waves = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Audio)]
        assert waves == ["clean.flac", "noise-0.flac", "noise-1.flac", "far-0.flac", "phone-0.flac"]
        for name in waves:
            assert rows.features[name].sampling_rate == 16_000
            rows = rows.cast_column(name, datasets.Audio(decode=False))  # to decode is torchcodec's and FFmpeg's
        held = members(corpora[0], split)
        assert {row["__key__"] for row in rows} == {name.partition(".")[0] for name in held}
        for row in rows:
            about = json.loads(held[f"{row['__key__']}.json"])
            assert (row["json"]["id"], row["json"]["speaker"]) == (about["id"], about["speaker"])
            assert [copy["steps"][0]["kind"] for copy in row["json"]["copies"]] == [
                copy["steps"][0]["kind"] for copy in about["copies"]
            ]
            for name in waves:
                assert (row[name] or {}).get("bytes") == held.get(f"{row['__key__']}.{name}")
            assert soundfile.info(io.BytesIO(row["clean.flac"]["bytes"])).frames == about["num_samples"]


def test_each_split_of_a_card_is_named_as_datasets_takes_it_and_has_its_own_tars(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["speech"] = {"no": lab.recipe["speech"]["train"], "no-other": lab.recipe["speech"]["test"]}
    lab.recipe["copies"] = {"no": {"phone": 1}}
    assert lab.build().corpus is not None
    corpus = lab.folder / "corpus"
    front: dict[str, Any] = yaml.safe_load((corpus / "README.md").read_text().split("---\n")[1])
    files = {one["split"]: one["path"] for one in front["configs"][0]["data_files"]}
    assert list(files) == ["no", "no_other"]
    for split, name in (("no", "no"), ("no_other", "no-other")):
        found = sorted(path.name for path in corpus.glob(files[split]))
        planned = json.loads((corpus / "corpus.json").read_text())["splits"][name]
        assert found == sorted(f"{one['name']}.tar" for one in planned) != []
    assert "| hum | n0.wav |\n| no | s" in (corpus / "README.md").read_text()
    assert "| no-other | t" in (corpus / "README.md").read_text()
    names = [one["name"] for one in front["dataset_info"]["features"]]
    assert names == ["json", "clean.flac", "phone-0.flac", "__key__", "__url__"]
