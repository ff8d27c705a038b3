"""`channel: mix`: the mean of all channels, by numpy alone, from every kind of reader; refused where channels cancel."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audio import sound
from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.errors import ChannelError
from corpus_builder.audit.audio_fingerprint import fingerprint
from corpus_builder.plan.materials.noise_power import measure_levels
from manifests.corpus.layout import sources_name
from manifests.errors import BadDocumentError
from manifests.io.digest import digest
from manifests.plan.plan import NoiseLevels
from manifests.recipe.recipe import Recipe
from manifests.recipe.rooms import ResponseSource
from tests.corpus_builder.conftest import RECIPE, Lab, voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000


def channels(count: int, *, seconds: float = 1.0) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.stack([voice(seed, seconds) for seed in range(count)], axis=1)


@pytest.mark.parametrize(("suffix", "count"), [(".wav", 2), (".wav", 5), (".flac", 3)])
def test_the_mix_of_a_stretch_is_the_mean_of_its_channels_sample_by_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, count: int
) -> None:
    monkeypatch.setattr(sound, "MOST_INTERLEAVED", 1000)  # so that a stretch is read in several blocks
    waves = channels(count)
    path = write_wave(tmp_path / f"a{suffix}", waves)
    found = read_stretch(path, name="a", start=1234, num_frames=5000, channel="mix", rate_hz=RATE_HZ)
    by_hand = [sum(int(sample) for sample in frame) / count / 32768 for frame in waves[1234:6234]]
    assert np.abs(found - np.array(by_hand)).max() < 1e-15


def test_the_mix_of_what_pyav_decodes_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    import av

    waves = channels(2)
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("alac", rate=RATE_HZ, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waves.reshape(1, -1)), format="s16", layout="stereo")
        frame.sample_rate = RATE_HZ
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    found = read_stretch(path, name="a", start=100, num_frames=9000, channel="mix", rate_hz=RATE_HZ)
    assert np.abs(found - waves[100:9100].mean(axis=1) / 32768).max() < 1e-15


def test_a_mono_file_is_its_own_mix(tmp_path: Path) -> None:
    wave = voice(1, 0.5)
    path = write_wave(tmp_path / "a.wav", wave)
    assert np.array_equal(read_stretch(path, name="a", channel="mix", rate_hz=RATE_HZ), wave / 32768)


def test_channels_that_cancel_are_refused_by_name_and_others_are_not(tmp_path: Path) -> None:
    first, second = voice(1, 1.0).astype(float), voice(2, 1.0).astype(float)
    silence = np.zeros_like(first)

    def mixed(*waves: Any) -> float:
        path = write_wave(tmp_path / "a.wav", np.stack([np.rint(wave) for wave in waves], axis=1).astype(np.int16))
        return float(np.abs(read_stretch(path, name="talk/a", channel="mix", rate_hz=RATE_HZ)).max())

    for cancelling, said in (
        ((first, -first), "talk/a has 2 channels that cancel each other .*silent"),
        ((first + 900.0, 900.0 - first), "cancel each other .*silent"),  # a mean is no signal
        ((first, -0.9 * first), r"their mean is 2[5-6] dB below them\); choose one with channel: 0 to 1"),
        ((first, -first, 0.1 * second), "has 3 channels that cancel"),
    ):
        with pytest.raises(ChannelError, match=said):
            mixed(*cancelling)
    for usual in ((first, second), (first, first), (first, silence), (first, *[silence] * 15), (first, -0.2 * first)):
        assert mixed(*usual) > 0
    assert mixed(silence, silence) == 0  # silence is refused elsewhere


def test_levels_and_fingerprint_of_a_noise_are_those_of_the_mix(tmp_path: Path) -> None:
    waves = channels(2, seconds=3.0)
    stereo = write_wave(tmp_path / "stereo.wav", waves / 32768, subtype="DOUBLE")
    mono = write_wave(tmp_path / "mono.wav", waves.mean(axis=1) / 32768, subtype="DOUBLE")
    levels = measure_levels(stereo, name="x", channel="mix")
    assert levels.power_db == measure_levels(mono, name="x", channel=None).power_db
    assert levels.channel == "mix"
    assert np.array_equal(fingerprint(stereo, name="x", channel="mix"), fingerprint(mono, name="x"))
    opposite = write_wave(tmp_path / "opposite.wav", np.stack([waves[:, 0], -waves[:, 0]], axis=1))
    with pytest.raises(ChannelError, match="cancel each other"):
        measure_levels(opposite, name="x", channel="mix")


def test_a_corpus_of_mixes_has_their_means_and_what_cancels_is_refused(lab: Lab) -> None:
    lab.without_rooms()
    waves = channels(2, seconds=0.6)
    speech = lab.folder / "speech/train/s0"
    write_wave(speech / "two.wav", waves)
    write_wave(speech / "wires.wav", np.stack([waves[:, 0], -waves[:, 0]], axis=1))
    write_wave(lab.folder / "noise/n1.wav", channels(3, seconds=1.0))
    lab.recipe["speech"]["train"]["channel"] = lab.recipe["noises"]["hum"]["channel"] = "mix"
    built = lab.build()
    assert built.corpus is not None
    rows = {row.id: row for row in lab.rows("corpus")}
    assert (rows["two"].source.channel, rows["u0"].source.channel) == ("mix", None)
    levels = [NoiseLevels.model_validate_json(line) for line in lines_of(lab, "plan/levels.jsonl")]
    assert {row.path: row.channel for row in levels if row.channel is not None} == {"n1.wav": "mix"}
    refused = json.loads((lab.folder / "corpus/refused.jsonl").read_text())
    assert refused["id"] == "wires"
    assert "cancel each other" in refused["reason"]
    shards = [shard.name for shard in built.corpus.splits["train"]]
    proof = [json.loads(line) for name in shards for line in lines_of(lab, sources_name(name))]
    assert "mix" in [source["channel"] for source in proof if source["path"].endswith("two.wav")]
    assert np.array_equal(clean_of(lab, shards, "two"), np.rint(waves.astype(float).mean(axis=1)))


def lines_of(lab: Lab, name: str) -> list[str]:
    return (lab.folder / "corpus" / name).read_text().splitlines()


def clean_of(lab: Lab, shards: list[str], name: str) -> Any:
    for shard in shards:
        with tarfile.open(lab.folder / "corpus/shards" / f"{shard}.tar") as tar:
            for member in tar:
                if member.name.startswith(f"{name}-") and member.name.endswith(".clean.flac"):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    return soundfile.read(io.BytesIO(stream.read()), dtype="int16")[0]
    raise AssertionError(name)


def test_a_recipe_that_names_no_mix_keeps_its_digest() -> None:
    assert (
        digest(Recipe.parse(RECIPE, where="test").plain())
        == "ec3a9eb2e15c9d3f7ba539c2ed4335bbf88aa731f18077845ea2e200b7b20a92"
    )


def test_responses_are_not_mixed() -> None:
    with pytest.raises(BadDocumentError, match="channel: expected a number, got 'mix': each channel of a response"):
        ResponseSource.parse({"dir": "x", "channel": "mix"}, where="rooms")
    with pytest.raises(BadDocumentError, match="channel"):
        ResponseSource.parse({"dir": "x", "channel": "mixed"}, where="rooms")


TONE, OTHER = (
    np.tile([1.0, -1.0, 1.0, -1.0], 50),
    np.tile([1.0, 1.0, -1.0, -1.0], 50),
)  # without a mean, at right angles


def check(*blocks: Any) -> None:
    downmix = Downmix("mix")
    for block in blocks:
        mixed = downmix.take(np.column_stack(block))
        np.testing.assert_allclose(mixed, sum(block) / len(block))
    downmix.check(name="talk/b")


def test_channels_cancel_from_10_db_below_what_unrelated_ones_would_leave() -> None:
    """Of two channels ``common + own`` and ``common - own`` the mean is the common part: 19 times its power is the bound of the other."""
    check((OTHER + 4.3 * TONE, OTHER - 4.3 * TONE))
    with pytest.raises(
        ChannelError,
        match=r"^talk/b has 2 channels that cancel each other \(their mean is 13 dB below them\); choose one with channel: 0 to 1 in",
    ):
        check((OTHER + 4.4 * TONE, OTHER - 4.4 * TONE))
    check((TONE, 0 * TONE, 0 * TONE, 0 * TONE))  # one channel is active
    with pytest.raises(ChannelError, match=r"has 3 channels .*silent.* channel: 0 to 2 in"):
        check((TONE, TONE, -2 * TONE))
    Downmix("mix").check(name="nothing")


def test_channels_are_judged_by_all_blocks_together() -> None:
    check((TONE, TONE), (0.1 * TONE, -0.1 * TONE))
    check((0.1 * TONE, -0.1 * TONE), (TONE, TONE))
    ones = np.ones(100)
    with pytest.raises(ChannelError, match=r"their mean is silent"):  # what is left of them is a constant
        check((2 * ones, 0 * ones), (0 * ones, 2 * ones))


def test_the_channel_that_is_taken_is_the_requested_one() -> None:
    block = np.column_stack([TONE, OTHER, 2 * TONE])
    for channel, expected in ((0, TONE), (1, OTHER), (2, 2 * TONE), (None, TONE)):
        taken = Downmix(channel).take(block)
        np.testing.assert_array_equal(taken, expected)
        assert taken.base is None
