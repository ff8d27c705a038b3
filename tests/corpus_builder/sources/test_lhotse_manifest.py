from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from corpus_builder.sources.lhotse_manifest import UnsafeAudioSourceError, noise_files, utterances
from corpus_builder.sources.path_labels import pattern_of, template_of
from corpus_builder.sources.relative_paths import RootFinder, root_folders, taken_lines
from corpus_builder.sources.roots import Located, locate, parse_roots, published
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused, Utterance
from manifests.errors import BadDocumentError, MissingFileError, StillroomError, UnsafePathError, UsageError
from manifests.recipe.recipe import Recipe
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import Lab, voice, write_wave

RATE_HZ = 16_000


def folder_source(folder: Path, **options: Any) -> Located:
    source = SpeechSource.parse({"dir": str(folder), **options}, where="test")
    table = folder / source.table if source.table else None
    return Located("train", "train", source, folder, table=table)


def manifest_source(path: Path, **options: Any) -> Located:
    source = SpeechSource.parse({"cuts": str(path), **options}, where="test")
    return Located("train", "train", source, None, manifest=path, strip=source.strip)


def found_in(source: Located) -> list[Utterance]:
    return [item for item in utterances(source) if isinstance(item, Utterance)]


def refused_in(source: Located) -> dict[str, str]:
    return {item.id: item.reason for item in utterances(source) if isinstance(item, Refused)}


def recording(path: Path | str, *, seconds: float = 1.0, channels: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": Path(path).stem,
        "sources": [{"type": "file", "channels": list(range(channels)), "source": str(path)}],
        "sampling_rate": RATE_HZ,
        "num_samples": round(seconds * RATE_HZ),
        "duration": seconds,
        **more,
    }


def cut(
    name: str, audio: dict[str, Any], *, start: float = 0.0, duration: float | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "id": name,
        "start": start,
        "duration": audio["duration"] if duration is None else duration,
        "channel": 0,
        "supervisions": [],
        "recording": audio,
        "type": "MonoCut",
        **more,
    }


def write_manifest(path: Path, lines: list[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_a_folder_file_is_known_by_its_path_without_suffix_and_hidden_files_are_not_there(tmp_path: Path) -> None:
    for name in ("a/b c.d.wav", "z.FLAC", ".hidden/x.wav", "a/.y.wav", "notes.txt"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("x") if name == "notes.txt" else write_wave(target, voice(0, 0.1))
    assert [item.id for item in found_in(folder_source(tmp_path))] == ["a/b c.d", "z"]


def test_a_template_gives_id_speaker_and_custom_fields_and_names_what_does_not_fit(tmp_path: Path) -> None:
    write_wave(tmp_path / "s1" / "u1_room3.wav", voice(0, 0.1))
    write_wave(tmp_path / "odd.wav", voice(0, 0.1))
    source = folder_source(tmp_path, fields="{speaker}/{id}_{place}.wav")
    (item,) = found_in(source)
    assert (item.id, item.speaker, item.custom, item.path) == ("u1", "s1", {"place": "room3"}, "s1/u1_room3.wav")
    assert "does not fit the template" in refused_in(source)["odd.wav"]


def test_a_template_is_literal_outside_its_names() -> None:
    assert template_of("{speaker}/a.b[0]*{id}.wav").fullmatch("x/a.b[0]*y.wav")
    assert not template_of("{speaker}/a.b{id}.wav").fullmatch("x/aXby.wav")
    assert not template_of("{id}.wav").fullmatch("x/y.wav")


@pytest.mark.parametrize(
    ("pattern", "fits", "fails"),
    [
        ("**/*", ["a", "b/c/d"], []),
        ("*.wav", ["a.wav"], ["b/a.wav", "a.wavx"]),
        ("**/x?.flac", ["x1.flac", "a/b/xy.flac"], ["a/x.flac", "a/x12.flac"]),
        ("train/**/*.wav", ["train/a.wav", "train/b/c.wav"], ["dev/a.wav"]),
        ("a[0].wav", ["a[0].wav"], ["a0.wav"]),
        ("a*b*.wav", ["ab.wav", "axbyb.wav"], ["a.wav", "xab.wav"]),
    ],
)
def test_patterns_match_as_globs_do(pattern: str, fits: list[str], fails: list[str]) -> None:
    assert all(pattern_of(pattern).fullmatch(path) for path in fits)
    assert not any(pattern_of(pattern).fullmatch(path) for path in fails)


def test_patterns_that_lead_out_or_could_hang_are_refused() -> None:
    with pytest.raises(UnsafePathError):
        pattern_of("../*")
    with pytest.raises(BadDocumentError):
        pattern_of("*a" * 20)
    with pytest.raises(BadDocumentError):
        pattern_of("a**b")


def test_a_table_gives_labels_and_what_it_leaves_out_is_counted(tmp_path: Path) -> None:
    for name in ("one", "two", "extra"):
        write_wave(tmp_path / f"{name}.wav", voice(0, 0.1))
    (tmp_path / "labels.csv").write_text(
        'path,id,speaker,text,mood\none.wav,A,s,"hello, you",\ntwo.wav,,s,,glad\ngone.wav,,,,\n'
    )
    items = list(utterances(folder_source(tmp_path, table="labels.csv")))
    first, second = (item for item in items if isinstance(item, Utterance))
    assert (first.id, first.speaker, first.text, first.custom) == ("A", "s", "hello, you", {})
    assert (second.id, second.text, second.custom) == ("two", None, {"mood": "glad"})
    assert [item for item in items if isinstance(item, LeftOut)] == [LeftOut("not in the table")]
    assert [item.id for item in items if isinstance(item, Refused)] == ["gone.wav"]


def test_labels_of_a_table_come_before_those_of_the_path_and_each_is_its_own(tmp_path: Path) -> None:
    for name in ("ann/one", "bob/two"):
        write_wave(tmp_path / f"{name}.wav", voice(0, 0.1))
    (tmp_path / "labels.csv").write_text(
        "path,speaker,text,language,mood\nann/one.wav,eve,yes,de,glad\nbob/two.wav,,,,\n"
    )
    source = folder_source(tmp_path, fields="{speaker}/{id}.wav", table="labels.csv")
    labels = {item.id: (item.speaker, item.text, item.language, item.custom) for item in found_in(source)}
    assert labels == {"one": ("eve", "yes", "de", {"mood": "glad"}), "two": ("bob", None, None, {})}


def test_the_channel_of_a_folder_is_that_of_the_recipe_and_a_mono_file_has_none(tmp_path: Path) -> None:
    write_wave(tmp_path / "mono.wav", voice(0, 0.1))
    write_wave(tmp_path / "three.wav", np.stack([voice(seed, 0.1) for seed in range(3)], axis=1))
    assert {item.id: item.channel for item in found_in(folder_source(tmp_path, channel=0))} == {
        "mono": None,
        "three": 0,
    }
    source = folder_source(tmp_path, channel=2)
    assert {item.id: item.channel for item in found_in(source)} == {"three": 2}
    assert refused_in(source)["mono"].endswith("has 1 channel(s); there is no channel 2")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,id\na,b\n", "has no column 'path'"),
        ("", "has no column 'path'"),
        ("path,text,text\na.wav,b,c\n", "more than one column 'text'"),
        ('path,"id\na.wav,b\n', "not a CSV table"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    write_wave(tmp_path / "a.wav", voice(0, 0.1))
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(StillroomError, match=said):
        list(utterances(folder_source(tmp_path, table="t.csv")))


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoAudioError, match=r"no audio file matches pattern .*; it is empty; is this the folder of"):
        list(utterances(folder_source(tmp_path)))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_wave(tmp_path / "a" / "x.wav", voice(0, 0.1))
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    assert [item.id for item in found_in(folder_source(tmp_path))] == ["a/x"]


def test_a_file_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    plain = write_wave(tmp_path / "a.wav", voice(0, 0.1))
    (tmp_path / "b\udcff.wav").write_bytes(plain.read_bytes())
    source = folder_source(tmp_path)
    assert [item.id for item in found_in(source)] == ["a"]
    assert "not valid Unicode" in next(iter(refused_in(source).values()))


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_lhotse_cuts_give_stretches_with_their_labels(tmp_path: Path, name: str) -> None:
    supervision = {
        "id": "s", "recording_id": "r", "start": 0.0, "duration": 0.5, "channel": 0, "text": "yes", "speaker": "ann",
        "language": "en", "custom": {"mood": "glad"},
    }  # fmt: skip
    line = cut(
        "u.1/2", recording(tmp_path / "r.wav"), start=0.25, duration=0.5, supervisions=[supervision], custom={"snr": 3}
    )
    (item,) = found_in(manifest_source(write_manifest(tmp_path / name, [line])))
    assert (item.id, item.start_s, item.num_frames, item.rate_hz, item.channel) == ("u.1/2", 0.25, 8000, RATE_HZ, None)
    assert (item.text, item.speaker, item.language, item.custom) == ("yes", "ann", "en", {"mood": "glad", "snr": 3})


def test_lhotse_itself_reads_the_same_stretch(tmp_path: Path) -> None:
    from lhotse import CutSet, MonoCut, Recording

    from corpus_builder.audio.decode import read_stretch

    path = write_wave(tmp_path / "r.wav", voice(3, 2.0))
    lines = [
        MonoCut(f"c{number}", start=0.1 * number, duration=0.3333, channel=0, recording=Recording.from_file(path))
        for number in range(9)
    ]
    cuts = CutSet.from_cuts(lines)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    items = found_in(manifest_source(tmp_path / "cuts.jsonl.gz"))
    for item, line in zip(items, cuts, strict=True):
        wave = read_stretch(
            path, name="r", start=round(item.start_s * RATE_HZ), num_frames=item.num_frames, rate_hz=RATE_HZ
        )
        assert np.abs(wave - line.load_audio()[0]).max() < 1e-6


def test_supervisions_of_a_cut_give_their_texts_in_time_and_labels_only_where_they_agree(tmp_path: Path) -> None:
    audio = recording(tmp_path / "r.wav")
    common = {"recording_id": "r", "duration": 0.2, "channel": 0, "language": "en"}
    later = {"id": "b", "start": 0.5, "text": "world", "speaker": "bob", "custom": {"mood": "glad"}, **common}
    first = {"id": "a", "start": 0.1, "text": "hello", "speaker": "ann", "gender": "F", **common}
    line = cut("two", audio, supervisions=[later, first])
    same = cut("same", audio, supervisions=[later, {**first, "speaker": "bob"}])
    two, one = found_in(manifest_source(write_manifest(tmp_path / "cuts.jsonl", [line, same])))
    assert (two.text, two.speaker, two.language, two.custom) == ("hello world", None, "en", {"gender": "F"})
    assert (one.text, one.speaker) == ("hello world", "bob")


def spoken(name: str, start: float, duration: float, channel: int | list[int] = 0, **more: Any) -> dict[str, Any]:
    common = {"id": name, "recording_id": "r", "text": name.upper(), "speaker": name[0], "language": "en"}
    return common | {"start": start, "duration": duration, "channel": channel} | more


def test_of_a_cut_of_several_channels_only_what_is_said_in_the_chosen_one_is_its_label(tmp_path: Path) -> None:
    said = [
        spoken("ann one", 0.0, 0.2, 0, gender="F", custom={"mood": "glad"}),
        spoken("bob", 0.3, 0.3, 1, gender="M", custom={"mood": "sad"}),
        spoken("everyone", 0.7, 0.1, [0, 1, 2]),
        spoken("ann two", 0.9, 0.1, 0, gender="F"),
    ]
    call = cut("call", recording("two.wav", channels=3), channel=[0, 1, 2], type="MultiCut", supervisions=said)
    manifest = write_manifest(tmp_path / "cuts.jsonl", [call])
    labels = {}
    for channel in (0, 1, 2, "mix"):
        (item,) = found_in(manifest_source(manifest, channel=channel))
        labels[channel] = (item.channel, item.text, item.speaker, item.custom)
    assert labels == {
        0: (0, "ANN ONE EVERYONE ANN TWO", None, {"gender": "F"}),
        1: (1, "BOB EVERYONE", None, {"gender": "M"}),
        2: (2, "EVERYONE", "e", {}),
        "mix": ("mix", "ANN ONE BOB EVERYONE ANN TWO", None, {}),
    }
    call["supervisions"] = said[:2]
    (item,) = found_in(manifest_source(write_manifest(manifest, [call]), channel=1))
    assert (item.text, item.speaker, item.custom) == ("BOB", "b", {"mood": "sad", "gender": "M"})


def test_a_cut_of_one_channel_keeps_its_supervisions_whatever_channel_they_name(tmp_path: Path) -> None:
    line = cut("one", recording("two.wav", channels=2), channel=1, supervisions=[spoken("x", 0.1, 0.2, 0)])
    (item,) = found_in(manifest_source(write_manifest(tmp_path / "cuts.jsonl", [line])))
    assert (item.channel, item.text) == (1, "X")


@pytest.mark.parametrize(
    ("start", "duration", "is_used", "is_cut_through"),
    [
        (-0.3, 0.2, False, False),
        (-0.3, 0.3, False, False),
        (-0.3, 0.3001, True, True),
        (-0.3, 2.0, True, True),
        (-0.005, 0.3, True, False),  # times are rounded
        (0.0, 0.5, True, False),
        (0.3, 0.2, True, False),
        (0.3, 0.205, True, False),
        (0.3, 0.22, True, True),
        (0.499, 0.4, True, True),
        (0.5, 0.4, False, False),
        (0.6, 0.1, False, False),
    ],
)
def test_of_a_window_only_what_is_said_within_it_is_its_label_and_what_it_cuts_through_is_counted(
    tmp_path: Path, start: float, duration: float, is_used: bool, is_cut_through: bool
) -> None:
    said = [spoken("inside", 0.1, 0.2), spoken("other", start, duration)]
    line = cut("w", recording("r.wav"), start=0.2, duration=0.5, supervisions=said, custom={"snr": 3})
    (item,) = found_in(manifest_source(write_manifest(tmp_path / "cuts.jsonl", [line])))
    texts = ["INSIDE", "OTHER"] if start >= 0.1 else ["OTHER", "INSIDE"]
    assert item.text == (" ".join(texts) if is_used else "INSIDE")
    assert item.speaker == (None if is_used else "i")
    assert item.custom == {"snr": 3} | ({"supervisions_cut_through": 1} if is_cut_through else {})


def test_the_windows_of_lhotse_have_together_what_is_said_each_once_and_say_where_it_is_cut(tmp_path: Path) -> None:
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    path = write_wave(tmp_path / "r.wav", voice(3, 3.0))
    said = [
        SupervisionSegment(str(number), "r", 0.25 * number, 0.2, text=str(number), speaker="s") for number in range(12)
    ]
    whole = MonoCut("whole", 0.0, 3.0, 0, recording=Recording.from_file(path), supervisions=said)
    windows = CutSet.from_cuts([whole]).cut_into_windows(0.6)
    windows.to_file(tmp_path / "cuts.jsonl.gz")
    items = found_in(manifest_source(tmp_path / "cuts.jsonl.gz"))
    expected = {}
    for number, window in enumerate(windows):  # by hand, in whole 0.05 s
        begin, end = 12 * number, 12 * number + 12
        inside = [n for n in range(12) if 5 * n < end and 5 * n + 4 > begin]
        through = sum(5 * n < begin or 5 * n + 4 > end for n in inside)
        expected[window.id] = (" ".join(map(str, inside)), through)
    assert {item.id: (item.text, item.custom.get("supervisions_cut_through", 0)) for item in items} == expected


@pytest.mark.parametrize(
    ("files", "channels", "said"),
    [
        ([[0, 1]], [0, 1], None),
        ([[0, 1]], [1], None),
        ([[0, 1, 2]], [0, 1], "has 2 channels of the 3 of its file"),
        ([[0], [1]], [0, 1], "has 2 channels of 2 files"),
    ],
)
def test_a_cut_is_mixed_only_from_all_channels_of_one_file(
    tmp_path: Path, files: list[list[int]], channels: list[int], said: str | None
) -> None:
    audio = recording("r.wav")
    audio["sources"] = [{"type": "file", "channels": held, "source": f"{held[0]}.wav"} for held in files]
    audio["channel_ids"] = sorted(channel for held in files for channel in held)
    line = cut("m", audio, channel=channels, type="MultiCut")
    source = manifest_source(write_manifest(tmp_path / "cuts.jsonl", [line]), channel="mix")
    if said is None:
        (item,) = found_in(source)
        assert item.channel == ("mix" if len(channels) > 1 else 1)
    else:
        assert said in refused_in(source)["m"]


def test_a_cut_whose_start_and_duration_round_apart_loses_the_sample_too_many_and_one_beyond_is_refused(
    tmp_path: Path,
) -> None:
    audio = recording(tmp_path / "r.wav")
    half = cut("half", audio, start=100.5 / RATE_HZ, duration=(RATE_HZ - 100.5) / RATE_HZ)
    beyond = cut("beyond", audio, start=101 / RATE_HZ, duration=(RATE_HZ - 99) / RATE_HZ)
    source = manifest_source(write_manifest(tmp_path / "cuts.jsonl", [half, beyond]))
    (item,) = found_in(source)
    assert (round(item.start_s * RATE_HZ), item.num_frames) == (101, RATE_HZ - 101)
    assert refused_in(source) == {"beyond": "ends after 1 s, where its recording ends"}


def test_a_recordings_manifest_gives_whole_recordings(tmp_path: Path) -> None:
    (item,) = found_in(
        manifest_source(write_manifest(tmp_path / "r.jsonl", [recording(tmp_path / "r.wav", seconds=2.0)]))
    )
    assert (item.id, item.num_frames, item.start_s) == ("r", 32_000, 0.0)


@pytest.mark.parametrize(
    "source",
    [
        {"type": "command", "channels": [0], "source": "touch OWNED"},
        {"type": "url", "channels": [0], "source": "http://example.org/a.wav"},
        {"type": "memory", "channels": [0], "source": "UklGRg=="},
        {"type": "shar", "channels": [0], "source": ""},
        {"type": "file", "channels": [0], "source": "pipe:touch OWNED"},
        {"type": "file", "channels": [0], "source": "touch OWNED |"},
        {"type": "file", "channels": [0], "source": "s3://bucket/a.wav"},
        {"type": "command", "source": "touch OWNED"},
    ],
)
@pytest.mark.parametrize("depth", ["cut", "custom", "mixed"])
def test_audio_that_is_no_plain_file_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], depth: str
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = {**recording("r.wav"), "sources": [source]}
    good = recording("g.wav")
    line = {
        "cut": cut("x", bad),
        "custom": cut("x", good, custom={"target_recording": bad}),
        "mixed": {"id": "m", "type": "MixedCut", "tracks": [{"cut": cut("x", bad), "offset": 0.0}]},
    }[depth]
    manifest = write_manifest(tmp_path / "cuts.jsonl", [line])
    with pytest.raises(UnsafeAudioSourceError, match="refused before anything was loaded") as caught:
        list(utterances(manifest_source(manifest)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "OWNED").exists()


def test_cuts_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    audio = recording("r.wav")
    two = recording("two.wav", channels=2)
    speed = {"name": "Speed", "kwargs": {"factor": 1.1}}
    lines = [
        {"id": "mixed", "type": "MixedCut", "tracks": [{"cut": cut("x", audio), "type": "MonoCut", "offset": 0.0}]},
        cut("fast", {**audio, "transforms": [speed]}),
        cut("both", two, channel=[0, 1], type="MultiCut"),
        cut("late", audio, start=0.8, duration=0.5),
        cut("none", audio, duration=0.00001),
        cut("fine", audio),
    ]
    source = manifest_source(write_manifest(tmp_path / "cuts.jsonl", lines))
    reasons = refused_in(source)
    assert [item.id for item in found_in(source)] == ["fine"]
    assert "MixedCut" in reasons["mixed"]
    assert "Speed" in reasons["fast"]
    assert "has 2 channels (0, 1); say which" in reasons["both"]
    assert "where its recording ends" in reasons["late"]
    assert reasons["none"] == "has no samples"
    (one,) = (item for item in found_in(manifest_source(tmp_path / "cuts.jsonl", channel=1)))
    assert (one.id, one.channel) == ("both", 1)
    assert "no channel 1" in refused_in(manifest_source(tmp_path / "cuts.jsonl", channel=1))["fine"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cut: cut.perturb_speed(1.1), "is transformed (Speed)"),
        (lambda cut: cut.perturb_tempo(0.9), "is transformed (Tempo)"),
        (lambda cut: cut.perturb_volume(2.0), "is transformed (Volume)"),
        (lambda cut: cut.resample(8000), "is transformed (Resample)"),
        (lambda cut: cut.reverb_rir(), "is transformed (ReverbWithImpulseResponse)"),
        (lambda cut: cut.narrowband("mulaw"), "is transformed (Narrowband)"),
        (lambda cut: cut.compress("mp3", 0.5), "is transformed (Compress)"),
        (lambda cut: cut.pad(duration=2.0), "is lhotse's MixedCut"),
        (lambda cut: cut.append(cut), "is lhotse's MixedCut"),
        (lambda cut: cut.pad(duration=2.0).tracks[1].cut, "is lhotse's PaddingCut"),
    ],
    ids=["speed", "tempo", "volume", "resample", "reverb", "narrowband", "compress", "pad", "append", "padding"],
)
def test_what_lhotse_perturbs_or_mixes_is_refused_by_name_and_the_plain_cut_stays(
    tmp_path: Path, change: Any, said: str
) -> None:
    from lhotse import CutSet, MonoCut, Recording

    path = write_wave(tmp_path / "r.wav", voice(3, 1.0))
    plain = MonoCut("plain", start=0.0, duration=1.0, channel=0, recording=Recording.from_file(path))
    CutSet.from_cuts([plain, change(plain).with_id("odd")]).to_file(tmp_path / "cuts.jsonl.gz")
    source = manifest_source(tmp_path / "cuts.jsonl.gz")
    assert [item.id for item in found_in(source)] == ["plain"]
    reason = refused_in(source)["odd"]
    assert said in reason
    assert "make plain files of it first (lhotse's cuts.save_audios(FOLDER) returns cuts of them)" in reason


def test_a_custom_field_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    lines = [cut("odd", recording("r.wav"), custom={"note": "\ud800"}), cut("fine", recording("r.wav"))]
    source = manifest_source(write_manifest(tmp_path / "cuts.jsonl", lines))
    assert "not valid Unicode" in refused_in(source)["odd"]
    assert [item.id for item in found_in(source)] == ["fine"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": "a"},
        {"duration": 1e300},
        {"recording": {**recording("r.wav"), "sampling_rate": "x"}},
        {"supervisions": [{"id": "s", "recording_id": "r", "start": 0, "duration": 0.1, "speaker": ["x"]}]},
        {"supervisions": [{"id": "s", "recording_id": "r", "start": 0, "duration": 0.1, "text": 5}]},
    ],
    ids=["start", "duration", "rate", "speaker", "text"],
)
def test_a_cut_with_a_field_of_a_wrong_type_is_refused_and_the_others_stay(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    lines = [{**cut("odd", recording("r.wav")), **wrong}, cut("fine", recording("r.wav"))]
    source = manifest_source(write_manifest(tmp_path / "cuts.jsonl", lines))
    assert list(refused_in(source)) == ["odd"]
    assert [item.id for item in found_in(source)] == ["fine"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no line"),
        (b"{not json}\n", "not valid JSON"),
        (b'"text"\n', "expected a cut or a recording"),
        (b'{"id": "x"}\n', "lhotse cannot read it|expected a"),
        (b'{"id": "x", "type": "MonoCut"}\n', "lhotse cannot read it"),
        (b'{"a":' * 100 + b"1" + b"}" * 100 + b"\n", "nested deeper"),
    ],
)
def test_a_bad_manifest_is_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "cuts.jsonl"
    path.write_bytes(content)
    with pytest.raises(StillroomError, match=said) as caught:
        list(utterances(manifest_source(path)))
    assert "\n" not in str(caught.value)


def test_a_cut_off_gzip_is_one_line(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "cuts.jsonl.gz", [cut(f"c{number}", recording("r.wav")) for number in range(50)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadDocumentError, match="not a whole gzip file"):
        list(utterances(manifest_source(path)))


def rooted(source: Located) -> tuple[Path, list[str]]:
    finder = RootFinder(source)
    paths = [finder.add(item.path) for item in found_in(source)]
    return finder.folder, [finder.relative(path) for path in paths]


def test_roots_of_a_manifest_are_its_strip_its_common_folder_or_where_its_relative_paths_lie(tmp_path: Path) -> None:
    absolute = write_manifest(
        tmp_path / "a.jsonl", [cut("a", recording("/old/data/x/1.wav")), cut("b", recording("/old/data/y/2.wav"))]
    )
    assert rooted(manifest_source(absolute)) == (Path("/old/data"), ["x/1.wav", "y/2.wav"])
    assert rooted(manifest_source(absolute, strip="/old")) == (Path("/old"), ["data/x/1.wav", "data/y/2.wav"])
    with pytest.raises(BadDocumentError, match="does not begin with strip"):
        rooted(manifest_source(absolute, strip="/other"))
    relative = write_manifest(tmp_path / "r.jsonl", [cut("a", recording("wav/1.wav"))])
    write_wave(tmp_path / "wav" / "1.wav", voice(0, 1.0))
    assert rooted(manifest_source(relative)) == (tmp_path, ["wav/1.wav"])
    escaping = write_manifest(tmp_path / "e.jsonl", [cut("a", recording("../../etc/1.wav"))])
    with pytest.raises(UnsafePathError):
        rooted(manifest_source(escaping))
    mixed = write_manifest(tmp_path / "m.jsonl", [cut("a", recording("/x/1.wav")), cut("b", recording("2.wav"))])
    with pytest.raises(BadDocumentError, match=r"absolute paths .* and relative ones"):
        rooted(manifest_source(mixed))


def test_noise_cuts_count_as_whole_recordings_each_once(tmp_path: Path) -> None:
    audio = recording("n.wav", seconds=4.0)
    windows = [cut(f"w{number}", audio, start=float(number), duration=1.0) for number in range(4)]
    (item,) = noise_files(manifest_source(write_manifest(tmp_path / "n.jsonl", windows)))
    assert isinstance(item, Utterance)
    assert (item.num_frames, item.start_s) == (64_000, 0.0)
    with pytest.raises(BadDocumentError, match=r"cover 2.0 of 4.0 s"):
        list(noise_files(manifest_source(write_manifest(tmp_path / "n.jsonl", windows[:2]))))


def test_a_published_recipe_names_roots_and_no_path_of_this_machine(lab: Lab) -> None:
    write_manifest(lab.folder / "cuts.jsonl", [cut("a", recording("/old/a.wav"))])
    lab.recipe["speech"]["dev"] = {"cuts": "cuts.jsonl", "strip": "/old", "channel": 0}
    recipe = Recipe.read(lab.write_recipe(), needed="a recipe")
    plain = published(recipe, locate(recipe, beside=lab.folder, roots={}))
    assert plain["speech"]["train"]["dir"] == "@train"
    assert plain["speech"]["dev"]["strip"] == "@dev"
    assert plain["noises"]["hum"]["dir"] == "@hum"
    assert str(lab.folder) not in json.dumps(plain)
    again = Recipe.parse(plain, where="published")
    roots = {
        "train": lab.folder / "speech/train",
        "test": lab.folder / "speech/test",
        "hum": lab.folder / "noise",
        "dev": lab.folder,
    }
    assert published(again, locate(again, beside=lab.folder, roots=roots)) == plain
    with pytest.raises(UsageError, match="does not name the folder of root 'train'; say --root train=DIR"):
        locate(again, beside=lab.folder, roots={})


def test_folders_can_share_a_root(lab: Lab) -> None:
    for split in ("train", "test"):
        lab.recipe["speech"][split]["root"] = "corpus"
    recipe = Recipe.read(lab.write_recipe(), needed="a recipe")
    sources = locate(recipe, beside=lab.folder, roots={})
    assert published(recipe, sources)["speech"]["test"]["dir"] == "@corpus/test"
    assert next(iter(found_in(sources["test"]))).path == "test/t0/v0.wav"


def test_roots_are_given_by_name(lab: Lab) -> None:
    recipe = Recipe.read(lab.write_recipe(), needed="a recipe")
    with pytest.raises(UsageError, match="the recipe has no such root; it has hum, test, train"):
        locate(recipe, beside=lab.folder, roots={"trian": lab.folder})
    with pytest.raises(UsageError, match="expected NAME=DIR"):
        parse_roots(("train",))
    with pytest.raises(MissingFileError, match="should name a folder"):
        parse_roots((f"train={lab.folder}/nowhere",))
    with pytest.raises(MissingFileError, match="the folder of 'train'"):
        locate(recipe, beside=lab.folder / "elsewhere", roots={})


def with_manifests(lab: Lab, **options: str) -> None:
    """The lab's speech by manifests of absolute paths."""
    lab.without_rooms()
    for split in ("train", "test"):
        files = sorted((lab.folder / "speech" / split).rglob("*.wav"))
        lines = [cut(path.stem, recording(path, seconds=soundfile.info(path).duration)) for path in files]
        write_manifest(lab.folder / f"{split}.jsonl", lines)
        lab.recipe["speech"][split] = {"cuts": f"{split}.jsonl", **options}


def test_splits_share_the_root_of_their_manifests_and_a_line_says_which_folder_was_taken(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    with_manifests(lab, root="lab")
    lab.plan()
    speech = lab.folder / "speech"
    taken = f"is {speech}, the deepest folder that all its paths share; `strip: {speech}` in the recipe names it"
    lines = [line for line in capsys.readouterr().err.splitlines() if "root" in line]
    assert lines == [f"train, test: root 'lab' {taken}"]
    spans = {(row.source.root, row.source.path) for split in ("train", "test") for row in lab.rows(split=split)}
    assert spans == {("lab", path.relative_to(speech).as_posix()) for path in speech.rglob("*.wav")}
    local = lab.folder / "plan/roots.local.json"
    before = local.read_bytes()
    assert json.loads(before)["roots"] == {"lab": str(speech), "hum": str(lab.folder / "noise")}
    local.unlink()
    lab.plan()
    assert local.read_bytes() == before


def test_a_folder_that_the_recipe_names_needs_no_line(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with_manifests(lab, strip=str(lab.folder))
    lab.plan()
    assert "root" not in capsys.readouterr().err
    assert {row.source.path.split("/")[0] for row in lab.rows()} == {"speech"}


def test_a_line_says_below_which_root_shared_folders_and_relative_paths_are_looked_for(tmp_path: Path) -> None:
    paths = [cut("a", recording("/old/x/1.wav")), cut("b", recording("/old/y/2.wav"))]
    found = []
    for lines, root in (
        (paths, tmp_path),
        ([cut("a", recording("wav/1.wav"))], None),
        ([cut("a", recording("1.wav"))], tmp_path),
    ):
        source = replace(manifest_source(write_manifest(tmp_path / "a.jsonl", lines)), place=root)
        finder = RootFinder(source)
        for item in found_in(source):
            finder.add(item.path)
        found.append(finder.found())
    assert taken_lines(found) == [
        "train: root 'train' " + text
        for text in (
            f"is /old, the deepest folder that all its paths share, looked for at {tmp_path}; `strip: /old` in the recipe names it",
            f"is {Path.cwd()}, where relative paths of its manifest lead to files; --root train=DIR names another",
        )
    ]


def test_one_root_cannot_be_in_two_folders(tmp_path: Path) -> None:
    found = []
    for folder in ("/old/x", "/old/x", "/old/y"):
        source = manifest_source(write_manifest(tmp_path / "a.jsonl", [cut("a", recording(f"{folder}/1.wav"))]))
        finder = RootFinder(source)
        for item in found_in(source):
            finder.add(item.path)
        found.append(finder.found())
    assert root_folders(found[:2]) == {"train": Path("/old/x")}
    with pytest.raises(UsageError, match="its root 'train' is /old/y here and /old/x for another source"):
        root_folders(found)
