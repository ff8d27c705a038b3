"""`stillroom audit` on plans, corpora, packs, subsets and what two of them share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr
from click.testing import CliRunner

from corpus_builder.audit.audit_corpora import audit
from stillroom.cli import stillroom
from tests.corpus_builder.conftest import write_wave

if TYPE_CHECKING:
    from tests.corpus_builder.conftest import Lab


def audited(*arguments: object) -> tuple[int, Any]:
    result = CliRunner().invoke(stillroom, ["audit", *map(str, arguments), "--json"])
    assert result.exit_code in {0, 1}, result.output
    return result.exit_code, json.loads(result.stdout)


def found(document: Any) -> set[tuple[str, str, str, str]]:
    return {
        (leak["kind"], leak["how"], ":".join(leak["between"][0]), ":".join(leak["between"][1]))
        for leak in document["leaks"]
    }


def planned(lab: Lab, name: str) -> Path:
    lab.plan(name)
    return lab.folder / name


def test_a_corpus_with_its_splits_apart_has_no_match(built_lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    code, document = audited(built_lab.folder / "corpus")
    assert (code, document["answer"]) == (0, "no match found")
    assert document["leaks"] == []
    assert all(document["checked"][kind] for kind in ("utterance", "speaker", "recording", "noise", "room"))
    capfd.readouterr()
    audit((built_lab.folder / "corpus",), roots={}, progress=False)
    assert capfd.readouterr() == ("", "")
    assert "disjoint" not in CliRunner().invoke(stillroom, ["audit", str(built_lab.folder / "corpus")]).output


def test_shared_noises_leak_and_the_recipe_is_named(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["noises"]["hum"]["split"] = "shared"
    code, document = audited(planned(lab, "plan"))
    assert code == 1
    assert ("noise", "file", "A:train", "A:test") in found(document)
    assert "split: shared" in document["declared"][0]
    assert {leak["kind"] for leak in document["leaks"]} == {"noise"}


def test_a_noise_of_several_channels_that_was_heard_is_listened_to(lab: Lab) -> None:
    lab.without_rooms()
    for path in sorted((lab.folder / "noise").rglob("*.wav")):
        wave, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, np.stack([wave, wave // 2], axis=1), rate)
    lab.recipe["noises"]["hum"]["channel"] = 0
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["hum"]
    _, document = audited(planned(lab, "plan"))
    assert [one["why"] for one in document["not_checked"] if "decoded" in one["why"]] == []


def test_a_speaker_in_two_splits_is_found_and_missing_labels_are_told(lab: Lab) -> None:
    lab.without_rooms()
    lab.speech("test", "s1", "again", seed=90)
    code, document = audited(planned(lab, "one"))
    assert code == 1
    assert found(document) == {("speaker", "label", "A:train", "A:test")}
    assert document["leaks"][0]["examples"][0][0].startswith("s1: ")
    for source in lab.recipe["speech"].values():
        del source["fields"]
    del lab.recipe["noises"]["babble"]
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["hum", "white"]
    code, document = audited(planned(lab, "two"))
    missing = {(one["kind"], one["split"], one["count"]) for one in document["not_checked"]}
    assert (code, ("speaker", "train", 8) in missing, ("utterance", "train", 8) in missing) == (0, True, True)


def test_an_utterance_that_was_refused_is_in_no_split_and_leaks_nothing(lab: Lab) -> None:
    """A speaker of train is in test too, but of that utterance every sample is zero: the plan has it, the corpus does not."""
    lab.without_rooms()
    del lab.recipe["noises"]["babble"]
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["hum", "white"]
    write_wave(lab.folder / "speech/test/s1/mute.wav", np.zeros(8000, np.int16))
    built = lab.build()
    assert built.corpus is not None
    assert built.corpus.refused == {"test": 1}
    assert audited(lab.folder / "corpus", "--sound", "none")[1]["leaks"] == []
    code, document = audited(planned(lab, "plan"), "--sound", "none")
    assert (code, found(document)) == (1, {("speaker", "label", "A:train", "A:test")})


def test_the_same_wave_in_two_splits_is_found_by_its_pcm(lab: Lab) -> None:
    lab.without_rooms()
    wave, rate = soundfile.read(lab.folder / "speech/train/s0/u0.wav", dtype="int16")
    soundfile.write(lab.folder / "speech/test/t0/other.flac", wave, rate)
    lab.recipe["speech"]["test"]["fields"] = "{speaker}/{id}"
    lab.build()
    code, document = audited(lab.folder / "corpus", "--sound", "none")
    assert code == 1
    assert ("utterance", "pcm", "A:train", "A:test") in found(document)
    assert ("recording", "file", "A:train", "A:test") not in found(document)


def test_a_renamed_noise_of_another_corpus_is_found_and_a_changed_one_by_its_sound(lab: Lab, tmp_path: Path) -> None:
    lab.without_rooms()
    for number in range(5):
        lab.noise(f"n{number}", seed=100 + number, seconds=4)
    first = planned(lab, "first")
    shutil.move(lab.folder / "noise", lab.folder / "kept")
    (lab.folder / "noise").mkdir()
    for number in range(4):
        lab.noise(f"other{number}", seed=200 + number, seconds=4)
    shutil.copy(lab.folder / "kept/n0.wav", lab.folder / "noise/renamed.wav")
    wave, rate = soundfile.read(lab.folder / "kept/n1.wav")
    soundfile.write(lab.folder / "noise/changed.flac", 0.3 * soxr.resample(wave[5920:], rate, 44_100), 44_100)
    shutil.rmtree(lab.folder / "speech")
    for split, seeds in (("train", range(300, 308)), ("test", range(400, 404))):
        for seed in seeds:
            lab.speech(split, f"x{split}{seed % 4}", f"u{seed}", seed=seed)
    second = planned(lab, "second")
    cache = tmp_path / "cache"
    roots = ["--root", f"A:hum={lab.folder / 'kept'}", "--root", f"B:hum={lab.folder / 'noise'}"]
    code, document = audited(first, second, *roots, "--cache", cache)
    assert code == 1
    examples = {
        (leak["how"], *sorted(Path(name.split(" ")[0]).name for name in pair))
        for leak in document["leaks"]
        for pair in leak["examples"]
    }
    assert examples == {("file", "n0.wav", "renamed.wav"), ("sound", "changed.flac", "n1.wav")}
    assert len(list(cache.iterdir())) == 10  # 5 and 6, one of them twice
    shutil.rmtree(lab.folder / "kept")
    shutil.rmtree(lab.folder / "noise")
    again = audited(first, second, "--cache", cache)[1]
    assert again["leaks"] == document["leaks"]
    without = audited(first, second)[1]
    assert {leak["how"] for leak in without["leaks"]} == {"file"}
    assert any("not compared by sound" in one["why"] for one in without["not_checked"])


def test_a_pack_and_its_corpus_share_everything_unless_they_are_editions(built_lab: Lab, tmp_path: Path) -> None:
    from manifests.pack.write import write_pack

    pack = tmp_path / "small.tar.gz"
    write_pack(built_lab.folder / "corpus", pack)
    code, document = audited(pack, built_lab.folder / "corpus", "--sound", "none")
    assert code == 1
    assert {leak["kind"] for leak in document["leaks"]} == {"utterance", "speaker", "recording", "noise", "room"}
    assert ("room", "response", "A:train", "B:train") in found(document)
    assert audited(pack, built_lab.folder / "corpus", "--editions", "--sound", "none")[0] == 0


@pytest.mark.parametrize("arguments", [["nowhere"], []])
def test_what_is_not_there_is_bad_input(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(stillroom, ["audit", *[str(tmp_path / name) for name in arguments]])
    assert result.exit_code != 0
    assert not result.stdout
