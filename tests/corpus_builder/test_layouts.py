"""Small trees in the layouts of public corpora, prepared by lhotse's own recipes where it has one: built, verified, packed and rebuilt.

Clean copies are held against ffmpeg's decoder, by PyAV, of the whole file.
"""

from __future__ import annotations

import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import soundfile
from scipy import signal

from corpus_builder.rebuild.rebuild_corpus import rebuild
from corpus_builder.sources.roots import read_roots
from corpus_builder.verify.verify_corpus import verify
from manifests.pack.write import write_pack
from tests.corpus_builder.conftest import Inline, Lab
from tests.oracles.forgery import read_members
from tests.oracles.lag import gcc_phat_lag
from tests.oracles.measured_response import measured_response
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default::DeprecationWarning", "default::UserWarning", "default::ResourceWarning"),
]  # lhotse's own
RATE_HZ = 16_000
EXACT = {"librispeech", "peoples", "tedlium", "telephone", "ami", "timit"}


def speech(seed: int, seconds: float = 1.2, *, rate_hz: int = RATE_HZ) -> Any:
    wave = (speechlike(seconds, rate_hz=rate_hz, seed=seed) * 2).clip(-0.98, 0.98)
    return np.rint(wave * 32767).astype(np.int16)


def put(path: Path, wave: Any, *, rate_hz: int = RATE_HZ, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate_hz, **options)
    return path


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def librispeech(folder: Path) -> Any:
    """FLAC by reader and chapter, with the chapter's texts beside it."""
    from lhotse.recipes import prepare_librispeech

    for number in range(3):
        put(folder / f"dev-clean-2/84/121123/84-121123-000{number}.flac", speech(number))
    names = [f"84-121123-000{number} TEXT OF NUMBER {number}" for number in range(3)]
    write(folder / "dev-clean-2/84/121123/84-121123.trans.txt", *names)
    return prepare_librispeech(folder, dataset_parts="dev-clean-2")["dev-clean-2"]


def common_voice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MP3 of 32 kHz in one folder, and a table of them."""
    from lhotse.recipes import commonvoice

    rows = ["client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment"]
    for number in range(3):
        name = f"common_voice_en_{number}.mp3"
        put(folder / "en/clips" / name, speech(10 + number, rate_hz=32_000), rate_hz=32_000, bitrate_mode="VARIABLE")
        rows.append(f'c{number}\t{name}\tOne "quote\t2\t0\t\t\t\t\ten\t')
    write(folder / "en/train.tsv", *rows)
    monkeypatch.setattr(commonvoice, "ProcessPoolExecutor", lambda **_: ThreadPoolExecutor(1))
    return commonvoice.prepare_commonvoice(folder, folder / "made", "en", ["train"])["en"]["train"]


def voxpopuli(folder: Path) -> Any:
    """Ogg Vorbis of whole sessions, and a table of their segments."""
    from lhotse.recipes import prepare_voxpopuli

    rows = ["session_id|id_|start_time|end_time|original_text|normed_text|speaker_id|gender|split"]
    for number, split in enumerate(("train", "dev", "test")):
        session = f"2009011{number}-0900-PLENARY-3"
        put(folder / f"raw_audios/en/2009/{session}_en.ogg", speech(20 + number, 9.0))
        rows += [f"{session}|x{at}|{at}.25|{at + 1}.75|A, {at}.|a {at}|s{at}|female|{split}" for at in (1, 4, 7)]
    (folder / "made").mkdir()
    (folder / "made/asr_en.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return prepare_voxpopuli(folder, folder / "made", lang="en")["train"]


def mls(folder: Path) -> Any:
    """Opus by speaker and book."""
    from lhotse.recipes import prepare_mls

    write(folder / "mls_polish_opus/metainfo.txt", " 7 | F | train | 1 | minutes | book ")
    for number, split in enumerate(("train", "dev", "test")):
        base = folder / "mls_polish_opus" / split
        put(base / f"audio/7/8/7_8_00000{number}.opus", speech(30 + number), format="OGG", subtype="OPUS")
        write(base / "transcripts.txt", f"7_8_00000{number}\tbardzo dobrze")
    return prepare_mls(folder)["polish"]["train"]


def gigaspeech(folder: Path) -> Any:
    """Long Opus files, and one JSON of all their segments."""
    from lhotse import RecordingSet, SupervisionSet
    from lhotse.recipes.gigaspeech import parse_utterance

    put(folder / "audio/podcast/P0/POD1.opus", speech(40, 40.0), format="OGG", subtype="OPUS")
    segments = [
        {
            "sid": f"POD1_S{at}",
            "begin_time": at + 0.013,
            "end_time": at + 1.54,
            "speaker": "N/A",
            "text_tn": "WELL <COMMA> YES",
        }
        for at in (0, 17, 38)
    ]
    audio = {
        "aid": "POD1",
        "path": "audio/podcast/P0/POD1.opus",
        "sample_rate": RATE_HZ,
        "channels": 1,
        "duration": 40.0,
    }
    recording, found = parse_utterance(audio | {"segments": segments}, folder)
    return {
        "recordings": RecordingSet.from_recordings([recording]),
        "supervisions": SupervisionSet.from_segments(found),
    }


def peoples_speech(folder: Path) -> dict[str, Any]:
    """FLAC that was written to a pipe, without its length; lhotse cannot open such, so a table names them."""
    rows = ["path,text"]
    for number in range(3):
        path = put(folder / f"train/clean/show_{number}/show_{number}_DOT_mp3_00000.flac", speech(50 + number))
        content = bytearray(path.read_bytes())
        content[21], content[22:26], content[26:42] = content[21] & 0xF0, bytes(4), bytes(16)
        path.write_bytes(content)
        rows.append(f"{path.relative_to(folder)},text {number}")
    write(folder / "clean.csv", *rows)
    return {"dir": str(folder), "table": "clean.csv", "pattern": "train/**/*.flac"}


def recorded(path: Path) -> Any:
    """The recording of a SPHERE file, for which lhotse needs another program."""
    from lhotse import Recording
    from lhotse.audio import AudioSource

    found = soundfile.info(path)
    sources = [AudioSource("file", list(range(found.channels)), str(path))]
    return Recording(path.stem, sources, found.samplerate, found.frames, found.duration)


def tedlium(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """SPHERE of whole talks, and their segments in STM."""
    from lhotse import RecordingSet
    from lhotse.recipes import prepare_tedlium

    path = put(folder / "legacy/train/sph/Ann_2010.sph", speech(60, 8.0), format="NIST")
    lines = [f"Ann_2010 1 Ann_2010 {at}.11 {at + 1}.53 <o,f0,female> so {{NOISE}} that 's it(2)" for at in (0, 3, 6)]
    write(folder / "legacy/train/stm/Ann_2010.stm", *lines)
    found = RecordingSet.from_recordings([recorded(path)])
    monkeypatch.setattr(RecordingSet, "from_dir", lambda *_, **__: found)
    return prepare_tedlium(folder, dataset_parts="train")["train"]


def telephone(folder: Path) -> Any:
    """Two sides of calls in one mu-law SPHERE file at 8 kHz."""
    from lhotse import RecordingSet, SupervisionSegment, SupervisionSet

    recordings, segments = [], []
    for call in ("sw02001", "sw02005"):
        sides = np.stack([speech(70 + len(call) + side, 3.0, rate_hz=8000) for side in range(2)], axis=1)
        path = put(folder / f"swb1_d1/data/{call}.sph", sides, rate_hz=8000, format="NIST", subtype="ULAW")
        recordings.append(recorded(path))
        segments += [
            SupervisionSegment(
                f"{call}-{side}-{at}", call, at, 0.9, side, f"{'AB'[side]} AT {at}", speaker=f"{call}-{side}"
            )
            for side in range(2)
            for at in (0, 1)
        ]
    return {
        "recordings": RecordingSet.from_recordings(recordings),
        "supervisions": SupervisionSet.from_segments(segments),
    }


def ami(folder: Path) -> Any:
    """A meeting of which each microphone of an array is a file of its own."""
    from lhotse import MultiCut, Recording, SupervisionSegment
    from lhotse.audio import AudioSource

    paths = [
        put(folder / f"wav_db/ES2002a/audio/ES2002a.Array1-0{number + 1}.wav", speech(80 + number, 6.0))
        for number in range(4)
    ]
    sources = [AudioSource("file", [number], str(path)) for number, path in enumerate(paths)]
    recording = Recording("ES2002a", sources, RATE_HZ, 6 * RATE_HZ, 6.0, channel_ids=[0, 1, 2, 3])
    said = [SupervisionSegment("s", "ES2002a", 0.0, 1.5, [0, 1, 2, 3], "okay", speaker="A")]
    return [
        MultiCut(f"ES2002a-{at}", at, 1.5, [0, 1, 2, 3], supervisions=said, recording=recording) for at in (0, 2, 4)
    ]


def timit(folder: Path) -> Any:
    """NIST SPHERE with names in capitals that end in .WAV, and marks of words and phones."""
    from lhotse.recipes import prepare_timit

    parts = [*(f"TRAIN/DR1/FCJF0/SX{number}" for number in range(3)), "TEST/DR1/FAKS0/SX3", "TEST/DR1/MDAB0/SX4"]
    for number, part in enumerate(parts):
        path = put(folder / f"data/{part}.WAV", speech(90 + number), format="NIST")
        write(path.with_suffix(".TXT"), "0 19200 She had your suit.")
        write(path.with_suffix(".WRD"), "0 9000 she", "9000 19200 suit")
        write(path.with_suffix(".PHN"), "0 9000 h#", "9000 19200 iy")
    return prepare_timit(folder)["TRAIN"]


def vctk(folder: Path) -> Any:
    """FLAC of 48 kHz by speaker, of two microphones, and each text in a file of its own."""
    from lhotse.recipes import prepare_vctk

    write(
        folder / "speaker-info.txt",
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS",
        "p225  23  F    English    Southern  England",
    )
    for number in range(3):
        for microphone in (1, 2):
            name = f"p225/p225_00{number}"
            wave = speech(100 + number, rate_hz=48_000)
            put(folder / f"wav48_silence_trimmed/{name}_mic{microphone}.flac", wave, rate_hz=48_000)
            write(folder / f"txt/{name}.txt", "Please call Stella.")
    return prepare_vctk(folder, use_edinburgh_vctk_url=True)


def noises_and_rooms(folder: Path) -> dict[str, dict[str, Any]]:
    """MUSAN and RIRS_NOISES, by their manifests and by the list of responses that the latter has."""
    from lhotse.recipes import prepare_musan, prepare_rir_noise

    for number in range(3):
        wave = np.random.default_rng(number).standard_normal(3 * RATE_HZ) * 0.1
        put(folder / f"musan/noise/free-sound/noise-free-sound-000{number}.wav", wave)
        put(folder / f"RIRS_NOISES/pointsource_noises/noise-free-sound-001{number}.wav", wave[::-1])
    prepare_musan(folder / "musan", folder / "made", parts="noise")
    prepare_rir_noise(folder / "RIRS_NOISES", folder / "made", parts="point_noise")
    lines = []
    for number in range(3):
        response, _ = measured_response(seed=number, rate_hz=RATE_HZ)
        name = f"RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom{number}_far_angla.wav"
        put(folder / name, np.stack([response, np.roll(response, 3)], axis=1) * 0.5)
        lines.append(f"--rir-id {number} --room-id R{number} {name}")
    write(folder / "RIRS_NOISES/real_rirs_isotropic_noises/rir_list", *lines)
    return {
        "musan": {"cuts": str(folder / "made/musan_recordings_noise.jsonl.gz"), "split": "shared"},
        "point": {"cuts": str(folder / "made/point-noise_recordings_all.jsonl.gz"), "split": "shared"},
        "rooms": {
            "real": {
                "responses": {"list": str(folder / "RIRS_NOISES/real_rirs_isotropic_noises/rir_list"), "channel": 0},
                "split": "shared",
            }
        },
    }


LAYOUTS = {
    "librispeech": librispeech, "commonvoice": common_voice, "voxpopuli": voxpopuli, "mls": mls, "gigaspeech": gigaspeech,
    "peoples": peoples_speech, "tedlium": tedlium, "telephone": telephone, "ami": ami, "timit": timit, "vctk": vctk,
}  # fmt: skip
CHANNELS = {"telephone": 1, "ami": 2}
WINDOWED = {"voxpopuli", "gigaspeech", "tedlium"}


def source_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The layout's tree below a folder, and what a recipe says of it."""
    from lhotse import CutSet

    layout: Any = LAYOUTS[name]
    folder.mkdir(parents=True)
    with monkeypatch.context() as patch:
        made = layout(folder, patch) if name in {"commonvoice", "tedlium"} else layout(folder)
    if isinstance(made, dict) and "dir" in made:
        return made
    cuts = CutSet.from_cuts(made) if isinstance(made, list) else CutSet.from_manifests(**made)
    if name in WINDOWED:
        cuts = cuts.trim_to_supervisions(keep_overlapping=False)
    cuts.to_file(folder / "cuts.jsonl.gz")
    channel = {"channel": CHANNELS[name]} if name in CHANNELS else {}
    return {"cuts": str(folder / "cuts.jsonl.gz"), "strip": f"{folder}/"} | channel


def by_ffmpeg(path: Path, channel: int | None) -> tuple[Any, int]:
    """One channel of a whole file, full scale at +-1, and its rate."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate_hz, count = frames[0].sample_rate, len(frames[0].layout.channels)
    blocks = [
        frame.to_ndarray() if frame.format.is_planar else frame.to_ndarray().reshape(-1, count).T for frame in frames
    ]
    wave = np.concatenate(blocks, axis=1)[channel or 0]
    return (wave / 2.0 ** (8 * wave.dtype.itemsize - 1) if wave.dtype.kind == "i" else wave), rate_hz


def clean_waves(corpus: Path) -> Iterator[tuple[str, Any, Any]]:
    """Split, JSON and clean samples of every utterance."""
    for path in sorted((corpus / "shards").glob("*.tar")):
        members = read_members(path)
        for name, content in members.items():
            if name.endswith(".json"):
                clean = soundfile.read(io.BytesIO(members[name.removesuffix(".json") + ".clean.flac"]), dtype="int16")[
                    0
                ]
                yield path.name.partition("-")[0], json.loads(content), clean


def test_twelve_public_layouts_are_built_verified_packed_and_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path)
    material = noises_and_rooms(tmp_path / "material")
    lab.recipe |= {
        "speech": {name: source_of(name, tmp_path / name, monkeypatch) for name in LAYOUTS},
        "rooms": material.pop("rooms"),
        "noises": material,
        "conditions": {
            "noise": {"steps": [{"kind": "noise", "from": [*material], "snr_db": {"uniform": [5, 15]}}]},
            "far": {"steps": [{"kind": "room", "bank": "real"}]},
        },
        "copies": {name: {"noise": 1, "far": 1} for name in LAYOUTS},
    }
    roots = {name: tmp_path / name for name in LAYOUTS}
    built = lab.build(roots={name: root for name, root in roots.items() if name != "peoples"})
    assert built.corpus is not None
    assert (tmp_path / "corpus/refused.jsonl").read_text() == ""
    report = verify(tmp_path / "corpus", level="physics", progress=False)
    assert report.findings == []

    counts = dict.fromkeys(LAYOUTS, 0)
    texts: dict[str, set[str]] = {name: set() for name in LAYOUTS}
    for split, document, clean in clean_waves(tmp_path / "corpus"):
        source = document["source"]
        counts[split] += 1
        texts[split].add(document["text"])
        whole, rate_hz = by_ffmpeg(roots[split] / source["path"], source.get("channel"))
        wave = signal.resample_poly(whole, RATE_HZ, rate_hz) if rate_hz != RATE_HZ else whole
        start = round(source["start"] * RATE_HZ)
        expected = wave[start : start + clean.size] * 32768
        assert clean.size == round(source["num_frames"] * RATE_HZ / source["rate_hz"])
        assert expected.size == clean.size
        if split in EXACT and rate_hz == RATE_HZ:
            assert np.array_equal(clean, expected)
        else:
            inner = slice(400, -400)
            error = np.mean((clean - expected)[inner] ** 2) / np.mean(expected[inner] ** 2)
            assert 10 * np.log10(error) < -20, (
                split,
                source,
            )  # of another resampler, and of Opus decoded at another rate
            assert gcc_phat_lag(expected, clean) == 0
    assert counts == dict.fromkeys(LAYOUTS, 3) | {"mls": 1, "telephone": 2}
    assert texts["telephone"] == {"B AT 0 B AT 1"}
    assert texts["tedlium"] == {"so [NOISE] that 's it(2)"}
    assert texts["commonvoice"] == {'One "quote'}
    assert texts["librispeech"] == {f"TEXT OF NUMBER {number}" for number in range(3)}

    pack, _ = write_pack(tmp_path / "corpus", tmp_path / "all.tar.gz", progress=False)
    places = read_roots(tmp_path / "corpus")
    assert places.keys() >= roots.keys() | {"musan", "point"}
    again = rebuild(pack, tmp_path / "again", roots=places, executor=Inline(), progress=False)
    assert again.proof is not None
    assert again.proof.total("identical") == 2 * sum(counts.values()) + sum(counts.values())
