"""Bad input, each class of it: one clear line or a reason in `refused.jsonl`, and nothing finished is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.pages.summary import description
from corpus_builder.verify.verify_corpus import verify
from manifests.errors import MissingFileError, StillroomError
from manifests.io.json_yaml import read_json_lines
from tests.corpus_builder.conftest import Lab, voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

NASTY = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "two\nlines",
    "tab\tand\rreturn",
    "../../etc/passwd",
    "a.b.c",
    "a/b c",
    "日本語-Ünïcödé",
    "\u202egnp.exe",
    "__key__",
    "-rf",
    "'; DROP TABLE",
    "|touch OWNED",
    "x" * 300,
    "nul\x00byte",
    "CON",
    "{id}",
    "%s%n",
]


def nasty_manifest(lab: Lab) -> Path:
    path = write_wave(lab.folder / "wav" / "one.wav", voice(1, 0.5))
    lines = []
    for name in NASTY:
        audio = {
            "id": "one", "sources": [{"type": "file", "channels": [0], "source": str(path)}], "sampling_rate": 16_000,
            "num_samples": 8000, "duration": 0.5,
        }  # fmt: skip
        supervision = {
            "id": "s", "recording_id": "one", "start": 0, "duration": 0.5, "channel": 0, "text": name, "speaker": name, "language": name,
        }  # fmt: skip
        lines.append(
            {
                "id": name,
                "start": 0,
                "duration": 0.5,
                "channel": 0,
                "supervisions": [supervision],
                "recording": audio,
                "type": "MonoCut",
                "custom": {"note": name},
            }
        )
    manifest = lab.folder / "nasty.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


def test_ids_and_texts_of_every_kind_are_kept_exactly_and_shown_harmlessly(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["speech"]["train"] = {"cuts": str(nasty_manifest(lab))}
    built = lab.build()
    assert built.corpus is not None
    corpus = lab.folder / "corpus"
    rows = lab.rows("corpus")
    assert sorted(row.id for row in rows) == sorted(NASTY)
    assert all(row.text == row.speaker == row.language == row.custom["note"] == row.id for row in rows)
    assert len({row.key for row in rows}) == len(NASTY)
    report = verify(corpus, progress=False)
    assert not report.findings
    shown = description(corpus) + (corpus / "README.md").read_text()
    assert "\x1b" not in shown
    assert "<script>" not in shown
    assert not (lab.folder / "OWNED").exists()
    assert {path.parent for path in lab.folder.rglob("*.tar")} == {corpus / "shards"}


def test_refusals_with_nasty_names_are_harmless_lines(lab: Lab) -> None:
    lab.without_rooms()
    for number, name in enumerate(("<script>x", "\x1b[2Jclear", "new\nline")):
        write_wave(lab.folder / "speech" / "train" / "s1" / f"{name}.wav", np.zeros(8000))
        lab.speech("train", "s2", f"plain{number}", seed=number)
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["white"]
    lab.build()
    lines = (lab.folder / "corpus" / "refused.jsonl").read_bytes().splitlines()
    assert len(lines) == 3
    assert all(b"\x1b" not in line for line in lines)
    assert "\x1b" not in description(lab.folder / "corpus")
    reasons = [line["reason"] for line in read_json_lines(lab.folder / "corpus" / "refused.jsonl", needed="x")]
    assert all("\n" not in reason and "\x1b" not in reason for reason in reasons)


@pytest.mark.parametrize(
    ("change", "due"),
    [
        (
            lambda r: r["speech"]["train"].update(pattren="*"),
            r"speech.train.pattren: unknown key \(did you mean 'pattern'",
        ),
        (
            lambda r: r["conditions"]["noise"]["steps"][0].update(snr_db={"uniform": [20, 0]}),
            r"upside down; write \[0, 20\]",
        ),
        (lambda r: r["rooms"]["cell"].update(distance_m=50), "does not fit into the largest room"),
        (lambda r: r["conditions"]["noise"]["steps"][0].update({"from": ["musan"]}), "no noise source 'musan'"),
        (lambda r: r["conditions"]["phone"]["steps"][0].update(codec="codec2"), "unknown codec 'codec2'"),
        (lambda r: r["copies"]["train"].update(foggy=1), "no such condition"),
        (lambda r: r.update(schema="stillroom/recipe/99"), "install a newer one"),
        (lambda r: r.pop("schema"), "schema: this key is missing, expected 'stillroom/recipe/1'"),
        (lambda r: r["speech"]["train"].update(dir="nowhere"), "nowhere does not exist: the folder of 'train'"),
        (lambda r: r["speech"]["train"].update(dir="silence"), "no audio file"),
        (
            lambda r: r["speech"].update(train={"cuts": "gone.jsonl"}),
            "gone.jsonl does not exist: the manifest of 'train'",
        ),
        (lambda r: r["speech"].update(train={"cuts": "recipe.yaml"}), "expected a lhotse manifest of JSON lines"),
        (lambda r: r["speech"]["train"].update(fields="{speaker}{speaker}"), "each name once"),
        (lambda r: r["noises"]["hum"].update(group="genre"), "has no field 'genre'"),
        (
            lambda r: r["noises"]["hum"].update(pattern="n0.wav"),
            "1 groups of noise files cannot be assigned to 2 splits",
        ),
        (
            lambda r: r["noises"].update(hum={"test": {"dir": "noise"}}),
            "has nothing for split 'train', whose copies use it",
        ),
    ],
)
def test_a_bad_recipe_is_one_line_and_leaves_nothing_behind(lab: Lab, change: Any, due: str) -> None:
    if due != "does not fit into the largest room":
        lab.without_rooms()
    (lab.folder / "silence").mkdir()
    change(lab.recipe)
    with pytest.raises(StillroomError, match=due) as caught:
        lab.build()
    assert "\n" not in str(caught.value)
    assert not (lab.folder / "corpus" / "shards").exists()
    assert not (lab.folder / "corpus" / "plan" / "plan.json").exists()


def test_a_recipe_that_is_not_there_or_a_folder_without_plan_is_one_line(lab: Lab) -> None:
    with pytest.raises(MissingFileError, match=r"gone.yaml does not exist: a recipe"):
        lab.build(source=lab.folder / "gone.yaml")
    with pytest.raises(MissingFileError, match="a recipe or the folder of a finished plan"):
        lab.build(source=lab.folder)
    assert not (lab.folder / "corpus").exists()


@pytest.mark.parametrize(
    "content", [b"", b"0123", b"RIFF\xff\xff\xff\xffWAVE", b"fLaC" + bytes(60), b"OggS" + bytes(80)]
)
def test_files_that_are_no_audio_are_refused_by_name(lab: Lab, content: bytes) -> None:
    lab.without_rooms()
    for suffix in ("wav", "flac", "ogg"):
        (lab.folder / "speech" / "train" / "s1" / f"bad.{suffix}").write_bytes(content)
    lab.recipe["speech"]["train"]["fields"] = "{speaker}/{id}"
    plan, _ = lab.plan()
    assert [refusal.id for refusal in plan.refused] == ["bad.flac", "bad.ogg", "bad.wav"]
    assert len(lab.rows()) == 8


@pytest.mark.parametrize("kind", ["empty", "broken", "nan", "short", "stereo"])
def test_noises_that_cannot_be_used_are_refused_by_name_and_the_others_are_used(lab: Lab, kind: str) -> None:
    lab.without_rooms()
    path = lab.folder / "noise" / "bad.wav"
    wave = np.random.RandomState(1).standard_normal(8000) * 0.1
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "broken":
            path.write_bytes(b"RIFF and then nothing of use")
        case "nan":
            write_wave(path, np.where(np.arange(8000) == 5, np.nan, wave), subtype="FLOAT")
        case "short":
            write_wave(path, wave[:10])
        case "stereo":
            write_wave(path, np.stack([wave, wave], axis=1))
    plan, _ = lab.plan()
    (refusal,) = plan.refused
    assert refusal.split == "hum"
    assert "bad" in refusal.id
    assert b"bad.wav" not in (lab.folder / "plan" / "plan" / "levels.jsonl").read_bytes()
