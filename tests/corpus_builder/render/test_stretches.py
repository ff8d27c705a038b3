"""Which samples of which file an utterance, a talker and a noise are, to the sample, from sources of other rates and channels."""

import io
import json
import math
import tarfile

import numpy as np
import pytest
import soundfile
import soxr

from corpus_builder.audio.resample import num_samples_at
from corpus_builder.build.dry_run import estimate
from corpus_builder.distortions.additive_noise import segment
from corpus_builder.plan.make_plan import plan
from corpus_builder.render.corpus_waves import CorpusWaves
from corpus_builder.render.render_copies import render
from manifests.plan.plan import NoiseLevels, PlanRow
from manifests.plan.steps import FileSpan
from tests.oracles.speechlike import speechlike

CORPUS_HZ = 16_000
CLICKS_S = (0.30012, 1.23457, 2.0)


def clicks(rate_hz, *, seconds=3.0, late=0):
    """Faint noise with a loud click at known samples of the file; another channel has them later."""
    wave = np.random.default_rng(rate_hz + late).standard_normal(round(seconds * rate_hz)) * 1e-3
    for at_s in CLICKS_S:
        wave[round(at_s * rate_hz) + late] = 0.985
    return wave


def write(path, *channels, rate_hz, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.column_stack(channels), rate_hz, subtype=subtype)
    return path


def recording(path):
    info = soundfile.info(path)
    channels = list(range(info.channels))
    return {
        "id": path.stem, "sources": [{"type": "file", "channels": channels, "source": str(path)}],
        "sampling_rate": info.samplerate, "num_samples": info.frames, "duration": info.frames / info.samplerate,
        "channel_ids": channels,
    }  # fmt: skip


def cut(name, path, start, duration, *, channel=0, speaker=None):
    segment_ = {
        "id": name, "recording_id": path.stem, "start": 0.0, "duration": duration, "channel": channel, "speaker": speaker,
        "text": name,
    }  # fmt: skip
    return {
        "id": name, "start": start, "duration": duration, "channel": channel, "type": "MonoCut",
        "supervisions": [segment_] if speaker else [], "recording": recording(path),
    }  # fmt: skip


def at_corpus_rate(wave, rate_hz):
    """By hand: soxr's HQ filter over the stretch alone, cut or padded to the rounded length."""
    wanted = math.floor(wave.size * CORPUS_HZ / rate_hz + 0.5)
    made = wave if rate_hz == CORPUS_HZ else soxr.resample(wave, rate_hz, CORPUS_HZ, quality="HQ")[:wanted]
    return np.pad(made, (0, wanted - made.size))


RECIPE = {
    "schema": "stillroom/recipe/1",
    "name": "rates",
    "seed": 3,
    "noises": {"hum": {"dir": "noise", "split": "shared"}, "babble": {"talkers": 2}},
    "conditions": {
        "noise": {"steps": [{"kind": "noise", "from": ["hum"], "snr_db": {"uniform": [0, 10]}}]},
        "talk": {"steps": [{"kind": "noise", "from": ["babble"], "snr_db": 5}]},
    },
    "copies": {"train": {"noise": 2, "talk": 1}},
}
STRETCHES = [(0.0, 0.7), (0.25, 1.10005), (0.1234567, 0.5000009), (1.0, 1.99999), (2.5, 0.5)]


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """A planned corpus of cuts from files at 44.1, 48, 16 and 8 kHz, one of them with two channels; noises at two rates."""
    folder = tmp_path_factory.mktemp("rates")
    files = {
        "a44": write(folder / "speech/a44.wav", clicks(44_100), rate_hz=44_100),
        "b48": write(folder / "speech/b48.wav", clicks(48_000), clicks(48_000, late=4800), rate_hz=48_000),
        "c16": write(folder / "speech/c16.wav", 1.3 * clicks(16_000), rate_hz=16_000, subtype="FLOAT"),  # clips
        "d8": write(folder / "speech/d8.wav", clicks(8_000), rate_hz=8_000),
    }
    write(folder / "noise/n44.wav", speechlike(2.0, 44_100, seed=1), rate_hz=44_100)
    write(folder / "noise/n48.wav", speechlike(0.4, 48_000, seed=2), rate_hz=48_000)
    cuts = [
        cut(f"{name}-{number}-{channel}", path, start, duration, channel=channel, speaker=name)
        for name, path in files.items()
        for channel in range(soundfile.info(path).channels)
        for number, (start, duration) in enumerate(STRETCHES)
    ]
    (folder / "cuts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cuts))
    recipe = {**RECIPE, "speech": {"train": {"cuts": "cuts.jsonl"}}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    plan(folder / "recipe.yaml", folder / "corpus", progress=False)
    lines = [line for path in (folder / "corpus/plan").glob("train-*.jsonl") for line in path.read_bytes().splitlines()]
    rows = {row.id: row for row in map(PlanRow.model_validate_json, lines)}
    waves = CorpusWaves(
        folder / "corpus", roots={"train": folder / "speech", "hum": folder / "noise"}, rate_hz=CORPUS_HZ
    )
    return folder, {line["id"]: line for line in cuts}, rows, waves


def by_hand(folder, cut_):
    """What a cut is: its file and channel, from the nearest frame on, so many frames."""
    rate_hz = cut_["recording"]["sampling_rate"]
    whole, _ = soundfile.read(cut_["recording"]["sources"][0]["source"], always_2d=True)
    first, count = math.floor(cut_["start"] * rate_hz + 0.5), math.floor(cut_["duration"] * rate_hz + 0.5)
    return whole[first : first + count, cut_["channel"]], rate_hz


def test_a_length_at_another_rate_is_rounded_with_halves_up():
    at_half = [num_samples_at(frames, from_hz=32_000, to_hz=16_000) for frames in (1, 2, 3, 4, 5)]
    assert at_half == [1, 1, 2, 2, 3]
    assert num_samples_at(44_100, from_hz=44_100, to_hz=16_000) == 16_000
    assert num_samples_at(48_512, from_hz=44_100, to_hz=16_000) == 17_601  # 17600.7


def test_every_cut_is_planned_and_rendered_as_its_stretch_of_its_channel(rates):
    folder, cuts, rows, waves = rates
    assert rows.keys() == cuts.keys()
    assert len(rows) == 25
    for name, row in rows.items():
        stretch, rate_hz = by_hand(folder, cuts[name])
        assert row.source.num_frames == stretch.size
        assert round(row.source.start * rate_hz) == math.floor(cuts[name]["start"] * rate_hz + 0.5)
        assert row.source.channel == (cuts[name]["channel"] if "b48" in name else None)
        expected = at_corpus_rate(stretch, rate_hz)
        assert row.num_samples == expected.size == num_samples_at(stretch.size, from_hz=rate_hz, to_hz=CORPUS_HZ)
        np.testing.assert_array_equal(waves.speech(row), expected)


def test_a_click_of_the_source_is_at_its_time_in_the_clean_copy(rates):
    """Holds without the resampler's word for it: where the file has a click, the 16-bit copy has one, to the sample."""
    _, cuts, rows, waves = rates
    seen = 0
    for name, row in rows.items():
        line = cuts[name]
        pcm = render(row.model_copy(update={"copies": ()}), waves, rate_hz=CORPUS_HZ).clean
        late_s = 0.1 if line["channel"] else 0.0
        inside = [
            at + late_s - line["start"]
            for at in CLICKS_S
            if 0.01 < at + late_s - line["start"] < line["duration"] - 0.01
        ]
        for at_s in inside:
            place = round(at_s * CORPUS_HZ)
            near = np.abs(pcm[place - 100 : place + 100].astype(int))
            assert abs(int(near.argmax()) - 100) <= 1
            seen += 1
    assert seen > 25


def test_a_talker_is_the_stretch_of_its_own_cut_from_its_offset(rates):
    folder, cuts, rows, waves = rates
    for row in list(rows.values())[:8]:
        (step,) = next(copy for copy in row.copies if copy.condition == "talk").steps
        for talker in step.talkers:
            stretch, rate_hz = by_hand(folder, cuts[talker.id])
            wave = at_corpus_rate(stretch, rate_hz)
            assert talker.file == rows[talker.id].source
            np.testing.assert_array_equal(waves.talker(talker.file), wave)
            most = wave.size - row.num_samples
            assert 0 <= talker.offset <= (most if most >= 0 else wave.size - 1)


def test_a_noise_of_another_rate_has_its_length_and_segment_at_the_corpus_rate(rates):
    folder, _, rows, waves = rates
    lines = (folder / "corpus/plan/levels.jsonl").read_bytes().splitlines()
    levels = {level.path: level for level in map(NoiseLevels.model_validate_json, lines)}
    assert {path: (level.rate_hz, level.num_samples) for path, level in levels.items()} == {
        "n44.wav": (44_100, 32_000),
        "n48.wav": (48_000, 6400),
    }
    whole = {path: at_corpus_rate(soundfile.read(folder / "noise" / path)[0], levels[path].rate_hz) for path in levels}
    checked = set()
    for row in rows.values():
        rendered = render(row, waves, rate_hz=CORPUS_HZ)
        clean = waves.speech(row) * 10 ** (rendered.clean_gain_db / 20)
        for planned, copy in zip(row.copies, rendered.copies, strict=True):
            if planned.condition != "noise":
                continue
            (step,) = planned.steps
            added = segment(whole[step.recording], offset=step.offset, num_samples=clean.size, rate_hz=CORPUS_HZ)
            added = added * np.sqrt(np.var(clean) / np.var(added) / 10 ** (step.snr_db / 10))
            expected = (clean + added) * 10 ** (copy.gain_db / 20) * 32768
            assert np.abs(copy.pcm - expected).max() < 0.51
            checked.add(step.recording)
    assert checked == set(levels)


SPAN = {"root": "train", "path": "b48.wav", "start": 0.5, "num_frames": 24_000, "rate_hz": 48_000, "channel": 0}


@pytest.mark.parametrize(
    ("key", "value"), [("path", "b48-copy.wav"), ("start", 0.75), ("num_frames", None), ("channel", 1), ("root", "other")]
)  # fmt: skip
def test_each_field_of_a_file_span_moves_the_stretch(rates, key, value):
    folder, _, _, _ = rates
    write(folder / "speech/b48-copy.wav", clicks(48_000, late=99), clicks(48_000), rate_hz=48_000)
    write(folder / "other/b48.wav", clicks(48_000, late=77), clicks(48_000), rate_hz=48_000)
    roots = {"train": folder / "speech", "other": folder / "other"}
    waves = CorpusWaves(folder / "corpus", roots=roots, rate_hz=CORPUS_HZ)
    found = []
    for plain in (SPAN, {**SPAN, key: value}):
        whole, _ = soundfile.read(roots[plain["root"]] / plain["path"], always_2d=True)
        first = round(plain["start"] * 48_000)
        stretch = whole[first:, plain["channel"]][: plain["num_frames"]]
        span = FileSpan.parse({name: item for name, item in plain.items() if item is not None}, where="test")
        found.append(waves.talker(span))
        np.testing.assert_array_equal(found[-1], at_corpus_rate(stretch, 48_000))
    assert found[0].shape != found[1].shape or np.abs(found[0] - found[1]).max() > 1e-4


def test_what_is_written_of_a_sample_is_what_was_done(rates):
    """The JSON member of a built sample: its gains are those by which the 16-bit copies were scaled, its steps the plan's."""
    from corpus_builder.build.build_corpus import build
    from tests.corpus_builder.conftest import Inline

    folder, _, rows, waves = rates
    roots = {"train": folder / "speech", "hum": folder / "noise"}
    build(folder / "corpus", folder / "built", roots=roots, executor=Inline(), progress=False)
    seen = scaled = clipped = 0
    for shard in (folder / "built/shards").glob("*.tar"):
        with tarfile.open(shard) as tar:
            members = {name: tar.extractfile(name).read() for name in tar.getnames()}
        for name, content in members.items():
            if not name.endswith(".json"):
                continue
            sample = json.loads(content)
            row, rendered = rows[sample["id"]], render(rows[sample["id"]], waves, rate_hz=CORPUS_HZ)
            assert sample["clean_gain_db"] == rendered.clean_gain_db
            clipped += rendered.clean_gain_db < 0
            assert (sample["num_samples"], sample["sample_rate"]) == (row.num_samples, CORPUS_HZ)
            for copy, told in zip(rendered.copies, sample["copies"], strict=True):
                assert (told["name"], told["gain_db"]) == (copy.planned.name, copy.gain_db)
                assert told["steps"] == copy.planned.model_dump(mode="json", exclude_none=True)["steps"]
                assert told["domain"] == {"noise": "hum", "talk": "babble"}[copy.planned.condition]
                flac = io.BytesIO(members[name.removesuffix("json") + f"{told['name']}.flac"])
                np.testing.assert_array_equal(soundfile.read(flac, dtype="int16")[0], copy.pcm)
                scaled += told["gain_db"] < 0
            seen += 1
    assert seen == 25
    assert scaled > 1
    assert clipped > 1


def test_a_dry_run_of_other_rates_counts_the_seconds_of_the_utterances(rates):
    folder, _, rows, _ = rates
    roots = {"train": folder / "speech", "hum": folder / "noise"}
    told = estimate(folder / "corpus", roots=roots, limit=None, workers=1, remote=False, progress=False)
    assert told.utterances == 25
    assert told.audio_s == pytest.approx(sum(row.num_samples for row in rows.values()) / CORPUS_HZ, abs=0.01)
