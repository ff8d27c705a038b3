"""A constant is no signal: SNRs, silence and levels of recordings with a mean (DC), measured by hand on what is built."""

from __future__ import annotations

import io
import json
import math
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.build.build_corpus import build
from corpus_builder.distortions.additive_noise import babble, mix_at_snr
from corpus_builder.distortions.reverb import reverberate
from corpus_builder.distortions.speech_level import active_power
from corpus_builder.plan.make_plan import plan
from corpus_builder.plan.materials.speech_spectrum import power_spectrum
from corpus_builder.rebuild.rebuild_corpus import rebuild
from corpus_builder.render.babble import next_sound
from corpus_builder.verify.copy_measurements import CopyCheck
from corpus_builder.verify.verify_corpus import verify
from manifests.pack.write import write_pack
from manifests.plan.plan import OlderPlanError, Plan
from manifests.plan.steps import PlannedCopy
from tests.corpus_builder.conftest import Inline, Lab, voice, write_wave
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000


def level_db(wave: Any) -> float:
    """By hand: twice summed, the mean first."""
    mean = math.fsum(wave) / len(wave)
    return 10.0 * math.log10(math.fsum((value - mean) ** 2 for value in wave) / len(wave))


def quiet(seconds: float, *, dbfs: float, mean: float, seed: int) -> Any:
    noise = np.random.RandomState(seed).standard_normal(round(seconds * RATE_HZ))
    return noise * 10 ** (dbfs / 20) + mean


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Speech and noises with means, a noise half of which is a constant, and speech that is silent but for a constant or dither."""
    lab = Lab(tmp_path_factory.mktemp("means"))
    for number in range(6):
        spoken = speechlike(0.9, RATE_HZ, seed=number) * 0.3 + (0.0, 0.05, -0.2)[number % 3]
        write_wave(lab.folder / f"speech/train/s{number}/u{number}.wav", spoken, subtype="PCM_24")
    write_wave(lab.folder / "speech/train/s0/constant.wav", np.full(12_000, 0.1), subtype="PCM_24")
    write_wave(lab.folder / "speech/train/s1/dither.wav", quiet(0.8, dbfs=-84, mean=0.1, seed=1), subtype="PCM_24")
    write_wave(lab.folder / "speech/train/s2/soft.wav", quiet(0.8, dbfs=-76, mean=0.1, seed=1), subtype="PCM_24")
    write_wave(lab.folder / "noise/fan.wav", quiet(3.0, dbfs=-40, mean=0.01, seed=7))
    write_wave(lab.folder / "noise/half.wav", np.append(quiet(2.0, dbfs=-30, mean=0.3, seed=8), np.full(32_000, 0.3)))
    write_wave(lab.folder / "noise/constant.wav", np.full(32_000, -0.2))
    lab.recipe = {
        "schema": "stillroom/recipe/1",
        "name": "means",
        "seed": 4,
        "speech": {"train": {"dir": "speech/train", "fields": "{speaker}/{id}.wav"}},
        "noises": {"fan": {"dir": "noise", "split": "shared"}, "babble": {"talkers": 2}},
        "conditions": {
            "noise": {"steps": [{"kind": "noise", "from": ["fan"], "snr_db": {"uniform": [0, 20]}}]},
            "talk": {"steps": [{"kind": "noise", "from": ["babble"], "snr_db": 5}]},
            "level": {"steps": [{"kind": "gain", "gain_db": 3}], "level": -30},
        },
        "copies": {"train": {"noise": 6, "talk": 1, "level": 1}},
    }
    lab.build()
    return lab


def waves_of(lab: Lab) -> dict[str, dict[str, Any]]:
    """Every wave of the corpus by id and name, with its JSON, read with tarfile and soundfile alone."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((lab.folder / "corpus/shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                stream = tar.extractfile(member)
                assert stream is not None
                content = stream.read()
                sample = found.setdefault(key, {})
                if suffix == "json":
                    sample["json"] = json.loads(content)
                else:
                    sample[suffix.removesuffix(".flac")] = soundfile.read(io.BytesIO(content))[0]
    return {sample["json"]["id"]: sample for sample in found.values()}


def test_every_copy_has_its_snr_and_level_without_means(built: Lab) -> None:
    samples = waves_of(built)
    assert sorted(samples) == ["soft", "u0", "u1", "u2", "u3", "u4", "u5"]
    errors = []
    for name, sample in samples.items():
        if name == "soft":  # 16 bits have too few steps for its noise
            continue
        for copy in sample["json"]["copies"]:
            before_gain = sample[copy["name"]] * 10 ** (-copy["gain_db"] / 20)
            if copy["condition"] == "level":
                assert abs(level_db(before_gain) + 30) < 0.02
                continue
            added = before_gain - sample["clean"]
            errors.append(level_db(sample["clean"]) - level_db(added) - copy["steps"][0]["snr_db"])
    assert len(errors) == 6 * 7
    assert np.abs(errors).max() < 0.05


def test_verify_measures_them_so_too(built: Lab) -> None:
    report = verify(built.folder / "corpus", level="physics", progress=False)
    assert not report.findings


def test_what_is_silent_but_for_a_constant_is_refused_with_its_reason(built: Lab) -> None:
    lines = (built.folder / "corpus/refused.jsonl").read_text().splitlines()
    refused = {one["id"]: one["reason"] for one in map(json.loads, lines)}
    assert refused.keys() == {"constant", "dither", "constant.wav"}
    assert "digital silence: every sample is zero, or all are the same" in refused["constant"]
    assert "is silent: -84 dBFS without its mean (DC), -80 dBFS at least" in refused["dither"]
    assert "digital silence" in refused["constant.wav"]


def test_the_plan_has_the_mean_of_a_noise_and_its_power_without_it_and_draws_no_constant(built: Lab) -> None:
    rows = map(json.loads, (built.folder / "corpus/plan/levels.jsonl").read_text().splitlines())
    levels = {row["path"]: row for row in rows}
    for name, mean in (("fan.wav", 0.01), ("half.wav", 0.3)):
        wave, _ = soundfile.read(built.folder / "noise" / name)
        assert abs(levels[name]["mean"] - wave.mean()) <= 5e-7
        assert abs(levels[name]["mean"] - mean) < 1e-3
        expected = [-200.0 if np.ptp(part) == 0 else level_db(part) for part in wave.reshape(-1, 1600)]
        assert np.abs(np.array(levels[name]["power_db"]) - expected).max() <= 0.0501
    offsets = [step["offset"] for row in built.rows("corpus") for copy in row.copies if copy.condition == "noise"
               for step in [copy.steps[0].model_dump()] if step["recording"] == "half.wav"]  # fmt: skip
    assert len(offsets) > 5
    assert max(offsets) < 32_000


def test_planned_segments_of_noise_without_a_mean_are_as_loud_as_their_squares(tmp_path: Path) -> None:
    from corpus_builder.plan.materials.noise_power import measure_levels

    wave = voice(3, 4.0) / 32768
    levels = measure_levels(write_wave(tmp_path / "n.wav", wave), name="n", channel=None)
    squares = 10 * np.log10(np.mean((wave - wave.mean()).reshape(-1, 1600) ** 2, axis=1))
    assert np.abs(np.array(levels.power_db) - squares).max() < 0.1


@pytest.mark.parametrize("means", [(0.0, 0.01), (0.1, 0.0), (-0.3, 0.5)])
def test_the_functions_count_no_mean(means: tuple[float, float]) -> None:
    speech, noise = voice(1, 1.0) / 32768, voice(2, 1.0) / 32768
    mixed = mix_at_snr(speech + means[0], noise + means[1], snr_db=7.0)
    assert abs(level_db(speech) - level_db(mixed - speech - means[0]) - 7.0) < 1e-6
    plain, moved = (active_power(speech - speech.mean() + mean, rate_hz=RATE_HZ) for mean in (0.0, means[0]))
    assert abs(plain / moved - 1.0) < 1e-9
    wet = reverberate(speech + means[0], np.append(np.ones(1), np.zeros(9)).astype(np.float32), direct_sample=0)
    assert abs(level_db(wet) - level_db(speech)) < 1e-6
    talkers = [speech + means[0], noise + means[1]]
    together = [wave / 10 ** (level_db(wave) / 20) for wave in talkers]
    assert np.abs(babble(iter(talkers)) - sum(together) / math.sqrt(2)).max() < 1e-9
    spectra = [power_spectrum(speech - speech.mean() + mean, rate_hz=RATE_HZ) for mean in (0.0, means[0])]
    assert np.allclose(*spectra, rtol=1e-9)
    clicks = np.zeros(100) + means[1]
    clicks[60] += 0.9
    assert next_sound(clicks, 10) == 60


def looked(clean: Any, wave: Any, snr_db: float) -> list[str]:
    step = {"kind": "noise", "form": "coloured", "source": "w", "colour": "white", "seed": 1, "snr_db": snr_db}
    planned = PlannedCopy.parse({"name": "x-0", "condition": "x", "steps": [step], "level": "keep"}, where="test")
    checked = CopyCheck(clean, wave, planned, gain_db=0.0, rate_hz=RATE_HZ, response=lambda name: (np.ones(1), 0))
    return list(checked.findings())


def test_verify_finds_a_copy_that_is_the_clean_wave_and_a_constant_and_an_snr_that_counts_a_mean() -> None:
    clean, noise = voice(1, 1.0) / 32768, quiet(1.0, dbfs=-40, mean=0.0, seed=3)
    snr_db = level_db(clean) - level_db(noise)
    assert not looked(clean, clean + noise, snr_db)
    assert not looked(clean + 0.1, clean + 0.1 + noise + 0.01, snr_db)
    assert any("SNR" in what for what in looked(clean, clean + noise + 0.01, snr_db - 3.0))
    assert any("SNR" in what for what in looked(clean, clean + 0.01, snr_db))


def test_a_pack_or_plan_of_the_first_version_is_not_rendered_and_says_so_in_one_line(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.without_rooms()
    with monkeypatch.context() as older:
        older.setattr(Plan, "SCHEMA", "stillroom/plan/1")
        lab.build()
        pack, _ = write_pack(lab.folder / "corpus", tmp_path / "old.tar.gz", progress=False)
        lab.plan()
    said = "its plan is 'stillroom/plan/1', .* renders 'stillroom/plan/2': plan again"
    roots = {"train": lab.folder / "speech/train", "test": lab.folder / "speech/test", "hum": lab.folder / "noise"}
    with pytest.raises(OlderPlanError, match=f"^old.tar.gz: {said}") as caught:
        rebuild(pack, tmp_path / "again", roots=roots, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "again").exists()
    with pytest.raises(OlderPlanError, match=said):
        build(lab.folder / "plan", tmp_path / "corpus", progress=False, executor=Inline())
    with pytest.raises(OlderPlanError, match=said):
        plan(lab.folder / "recipe.yaml", lab.folder / "plan", progress=False)
    assert not verify(lab.folder / "corpus", level="physics", progress=False).findings
