import csv
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from stillroom import talkers

HOUSE = Path(__file__).resolve().parents[2]
PROMPTS = "usr/share/asterisk/sounds/en_US_f_Allison"


@pytest.fixture
def prepare():
    spec = importlib.util.spec_from_file_location("prepare_realdata", HOUSE / "recipes/realdata/prepare.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def tone(seconds, rate_hz, hz=300.0):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)


def write(path, wave, rate_hz, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, rate_hz, **how)


def write_g722(path, wave):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.fixture
def unpacked(tmp_path):
    """What the packages unpack to, in small: every set, one truncated file, one that is too short, one that is no speech."""
    root = tmp_path / "packages"
    for name in ("hello", "digits/1", "beep", "dialtone"):
        write_g722(root / PROMPTS / f"{name}.g722", tone(0.8, 16_000))
    (root / PROMPTS / "empty.g722").write_bytes(b"")
    for language in ("cs", "nl"):
        folder = root / "usr/share/games/fillets-ng/sound/airplane" / language
        for name in ("let-m-divna", "let-v-chodila", "let-x-nobody"):
            write(folder / f"{name}.ogg", tone(1.0, 22_050), 22_050, format="OGG", subtype="VORBIS")
    book = root / "usr/share/pocketsphinx/test/data/librivox"
    write(book / "austen-0870.wav", tone(1.0, 16_000), 16_000)
    (book / "transcription").write_text("<s> he was not </s> (austen-0870)\n")
    write(root / "usr/share/sonic-pi/samples/rain.flac", np.stack([tone(1, 44_100), tone(1, 44_100)], axis=1), 44_100)
    write(root / "usr/share/sonic-pi/samples/click.flac", tone(0.05, 44_100), 44_100)
    write(root / "usr/share/asterisk/moh/song.wav", tone(1, 8000), 8000)
    return root


@pytest.fixture
def few_voices(monkeypatch):
    real = talkers.speakers
    monkeypatch.setattr(talkers, "speakers", lambda split: real(split)[:1])


@pytest.fixture
def prepared(prepare, unpacked, few_voices, monkeypatch, tmp_path):
    monkeypatch.setattr(prepare, "fetch", lambda _cache: unpacked)
    out = tmp_path / "out"
    skipped = prepare.prepare(out)
    return out, skipped


def rows(out, split):
    with (out / "speech" / split / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_split_is_for_ever(prepare):
    known = {
        "asterisk-en/hello-world": "train",
        "asterisk-en/vm-goodbye": "test",
        "fillets-cs/airplane_let-m-divna": "train",
        "asterisk-en/followme_pls-hold-while-try": "dev",
        "librivox/sense_and_sensibility_01_austen_64kb-0890": "train",
    }
    assert {name: prepare.split_of(name) for name in known} == known


def test_the_split_is_eight_to_one_to_one(prepare):
    counts = Counter(prepare.split_of(f"set/{number}") for number in range(20_000))
    for split, share in (("train", 0.8), ("dev", 0.1), ("test", 0.1)):
        assert abs(counts[split] - 20_000 * share) < 4 * (20_000 * share * (1 - share)) ** 0.5


def test_each_keyword_is_planned_for_each_voice_in_the_voice_s_own_split(prepare):
    planned = list(prepare.keywords())
    assert len({item.path for item in planned}) == len(planned) == 16 * 90
    split_of_speaker = {
        item.speaker: {other.split for other in planned if other.speaker == item.speaker} for item in planned
    }
    assert all(len(splits) == 1 for splits in split_of_speaker.values())


def test_running_speech_is_of_train_voices_and_said_once_by_each(prepare):
    planned = list(prepare.sentences())
    assert {item.split for item in planned} == {"train"}
    assert {item.speaker for item in planned} == {voice.name for voice in talkers.speakers("train")}
    assert len({(item.speaker, item.text) for item in planned}) == len(planned)


def test_everything_listed_is_there_as_16_khz_mono_16_bit(prepared):
    out, _ = prepared
    records = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert {record["set"] for record in records} == {
        "asterisk-en", "fillets-cs", "fillets-nl", "librivox", "espeak-keywords", "espeak-sentences", "sonicpi", "opsound",
    }  # fmt: skip
    for record in records:
        about = sf.info(out / record["path"])
        assert (about.samplerate, about.channels, about.subtype) == (16_000, 1, "PCM_16")
        assert about.duration == pytest.approx(record["seconds"], abs=1e-3)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.flac")) == sorted(
        r["path"] for r in records
    )


def test_the_tables_name_every_utterance_of_their_split(prepared):
    out, _ = prepared
    for split in ("train", "dev", "test"):
        table = rows(out, split)
        assert sorted(row["path"] for row in table) == sorted(
            path.relative_to(out / "speech" / split).as_posix() for path in (out / "speech" / split).rglob("*.flac")
        )
        assert {row["word"] for row in table if row["set"] == "espeak-keywords"} == set(talkers.KEYWORDS)
        assert all(row["word"] == "" for row in table if row["set"] != "espeak-keywords")


def test_a_tone_keeps_its_pitch_and_level_through_decoding(prepared):
    out, _ = prepared
    for path in (
        *out.rglob("asterisk-en/**/hello.flac"),
        *out.rglob("fillets-cs/**/*divna.flac"),
        *out.rglob("song.flac"),
    ):
        wave, rate_hz = sf.read(path)
        steady = wave[len(wave) // 4 : -len(wave) // 4]
        spectrum = np.abs(np.fft.rfft(steady * np.hanning(len(steady))))
        assert spectrum.argmax() * rate_hz / len(steady) == pytest.approx(300, abs=5)
        assert np.sqrt(2 * np.mean(steady**2)) == pytest.approx(0.3, rel=0.05)


def test_texts_and_roles_are_kept_and_signals_and_minor_roles_left_out(prepared):
    out, _ = prepared
    found = {row["id"]: row for split in ("train", "dev", "test") for row in rows(out, split)}
    assert found["librivox/austen-0870"]["text"] == "he was not"
    assert found["fillets-nl/airplane_let-v-chodila"]["speaker"] == "fillets-nl-v"
    assert "asterisk-en/digits_1" in found
    assert not [name for name in found if "beep" in name or "dialtone" in name or "nobody" in name]


def test_bad_files_are_skipped_counted_and_named(prepared, capfd):
    _, skipped = prepared
    assert skipped == 2
    assert not list(prepared[0].rglob("*.part"))


def test_a_second_run_writes_no_audio_again_and_the_same_lists(prepare, prepared, capfd):
    out, _ = prepared
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    assert prepare.prepare(out) == 2
    named = capfd.readouterr().err
    assert "skipped asterisk-en/empty: " in named
    assert "skipped sonicpi/click: shorter than 0.2 s" in named
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    assert {path: content for path, (_, content) in after.items()} == {
        path: content for path, (_, content) in before.items()
    }
    assert all(after[path][0] == before[path][0] for path in before if path.suffix == ".flac")


def test_without_the_synthesiser_one_line_says_so_before_any_download(prepare, monkeypatch, tmp_path):
    def missing(_text, _voice):
        raise talkers.TalkerMissingError

    def download(_cache):
        raise AssertionError("downloaded")

    monkeypatch.setattr(talkers, "speech_16k", missing)
    monkeypatch.setattr(prepare, "fetch", download)
    monkeypatch.setattr(sys, "argv", ["prepare.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"pip install espeakng-loader"):
        prepare.main()


def test_without_apt_get_one_line_says_what_is_needed(prepare, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["prepare.py", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="apt-get and dpkg are needed"):
        prepare.main()


def test_more_voices_are_new_ones_of_trains_variants_and_speak_in_train_alone(prepare):
    known = {(voice.language, voice.variant) for split in ("train", "dev", "test") for voice in talkers.speakers(split)}
    held_out = {voice.variant for split in ("dev", "test") for voice in talkers.speakers(split)}
    voices = list(prepare.more_voices())
    assert len({voice.name for voice in voices}) == len(voices) == 20 * 8 - 60
    assert not {(voice.language, voice.variant) for voice in voices} & known
    assert not {voice.variant for voice in voices} & held_out
    made = list(prepare.more_sentences())
    assert {(item.split, item.set_name) for item in made} == {("train", "espeak-more-voices")}
    assert len({item.path for item in made}) == len(made) == 15 * len(voices)
    assert {item.text for item in made} == set(talkers.SENTENCES)
    assert all(len(talkers.speech_16k(voice_item.text, voice_item.source)) > 8000 for voice_item in made[::300])


def test_more_voices_change_nothing_else(prepare, unpacked):
    few, more = (list(prepare.items(unpacked, has_more_voices=has)) for has in (False, True))
    assert few == more[: len(few)]
    assert {item.set_name for item in more[len(few) :]} == {"espeak-more-voices"}
