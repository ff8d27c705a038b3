"""Every field of every planned step: changing it alone changes the copy as the DSP function, called by hand, says.

The fields are taken from the schema, so that none can be forgotten; those that must not be audible are listed, and then nothing differs.
"""

import math
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import numpy as np
import pytest

from corpus_builder.distortions import additive_noise, channel
from corpus_builder.distortions.codecs import transcode
from corpus_builder.distortions.freeverb import freeverb
from corpus_builder.distortions.pitch_shift import shift_pitch
from corpus_builder.distortions.reverb import reverberate
from corpus_builder.distortions.speech_level import active_power
from corpus_builder.render.render_copies import render
from manifests.corpus.sample import domain_of, family_of, sample_key
from manifests.io.records import Record
from manifests.plan.plan import PlanRow
from manifests.plan.steps import PlannedCopy, PlannedPacketLoss
from tests.oracles.speechlike import speechlike

RATE = 16_000
SPEECH = np.rint(speechlike(1.2, seed=5) * 32768) / 32768
SPAN = {"root": "train", "path": "t.wav", "start": 0.5, "num_frames": 9000, "rate_hz": RATE, "channel": 0}


def sound_of(*names):
    """A wave of its own for whatever is named."""
    seed = sum(ord(letter) * (place + 1) for place, letter in enumerate("/".join(map(str, names))))
    return speechlike(0.9, seed=seed) * 0.7


class NamedWaves:
    """A wave, a response and a spectrum of its own for everything that a plan can name."""

    def speech(self, row):
        return SPEECH

    def noise(self, root, path):
        return sound_of("noise", root, path)

    def talker(self, file):
        return sound_of("talker", *(getattr(file, key) for key in SPAN))

    def response(self, name):
        seed = sum(map(ord, name))
        made = np.random.default_rng(seed).standard_normal(1500) * np.exp(-np.arange(1500) / 300) * 0.2
        made[: 40 + seed % 7] = 0.0
        made[40 + seed % 7] = 1.0
        return made.astype(np.float32), 40 + seed % 7

    def spectrum(self, split):
        return -(40.0 + 7 * len(split)) * np.linspace(0, 1, 257)


WAVES = NamedWaves()


# --- what the numbers of a plan mean, by hand -------------------------------------------------------------------------


def dry(part, size):
    match part["form"]:
        case "recorded":
            wave = WAVES.noise(part["root"], part["recording"])
            return additive_noise.segment(wave, offset=part["offset"], num_samples=size, rate_hz=RATE)
        case "coloured":
            spectrum = WAVES.spectrum(part["spectrum"]) if "spectrum" in part else None
            settings = {"seed": part["seed"], "num_samples": size, "rate_hz": RATE, "spectrum_db": spectrum}
            return additive_noise.coloured(part["colour"], **settings)
        case "babble":
            total = np.zeros(size)
            for talker in part["talkers"]:
                wave = sound_of("talker", *(talker["file"].get(key, DEFAULTS.get(key)) for key in SPAN))
                cut = additive_noise.segment(wave, offset=talker["offset"], num_samples=size, rate_hz=RATE)
                total += cut / np.sqrt(np.var(cut))
            return total / math.sqrt(len(part["talkers"]))
    raise AssertionError(part)


DEFAULTS = {"start": 0.0, "num_frames": None, "channel": None}


def wet(part, size):
    wave = dry(part, size)
    if "response" not in part:
        return wave
    response, direct_sample = WAVES.response(part["response"])
    return reverberate(wave, response, direct_sample=direct_sample)


def noisy(step, wave):
    if step["form"] == "several":
        each = [wet(part, wave.size) for part in step["noises"]]
        added = sum(one / np.sqrt(np.var(one)) for one in each)
    else:
        added = wet(step, wave.size)
    power = active_power(wave, rate_hz=RATE) if step.get("over") == "active" else np.var(wave)
    return wave + added * np.sqrt(power / np.var(added) / 10 ** (step["snr_db"] / 10))


FILTERS = {
    "lowpass": channel.lowpass,
    "highpass": channel.highpass,
    "bandpass": channel.bandpass,
    "bandreject": channel.bandreject,
    "tilt": channel.tilt,
    "pitch": shift_pitch,
}


def by_hand(step, wave):
    """The wave after one step, from nothing but the step's numbers."""
    number = {key: value for key, value in step.items() if key != "kind"}
    match step["kind"]:
        case "noise":
            return noisy(step, wave)
        case "room":
            response, direct_sample = WAVES.response(step["response"])
            return reverberate(wave, response, direct_sample=direct_sample, keep_rms=step.get("keep_rms", True))
        case "freeverb":
            return freeverb(wave, rate_hz=RATE, **number)
        case "codec":
            loss = step.get("loss")
            numbers = {**number, "loss": PlannedPacketLoss.parse(loss, where="test") if loss else None}
            return transcode.transcode(wave, rate_hz=RATE, **numbers)
        case "gain":
            return wave * 10 ** (step["gain_db"] / 20)
        case "clip":
            return channel.clip(wave, **number)
        case "resample":
            return channel.through_rate(wave, lower_hz=step["rate_hz"], rate_hz=RATE)
        case kind:
            return FILTERS[kind](wave, rate_hz=RATE, **number)


def finished(wave, level="keep"):
    """Level, one gain against clipping in hundredths of a decibel, one rounding: samples and gain."""
    if level == "match_clean":
        wave = wave * np.sqrt(np.var(SPEECH) / np.var(wave))
    elif level != "keep":
        wave = wave * 10 ** (level / 20) / np.sqrt(np.var(wave))
    gain_db = 0.0
    if wave.max() > 32767 / 32768 or wave.min() < -1:
        gain_db = math.floor(2000 * math.log10(32767 / 32768 / np.abs(wave).max())) / 100
    return np.rint(wave * 10 ** (gain_db / 20) * 32768), gain_db


def rendered(steps, level="keep"):
    plain = {
        "id": "u", "key": sample_key("u"), "split": "train", "num_samples": SPEECH.size,
        "source": {"root": "train", "path": "a.wav", "rate_hz": RATE},
        "copies": [{"name": "c-0", "condition": "c", "steps": steps, "level": level}],
    }  # fmt: skip
    (copy,) = render(PlanRow.parse(plain, where="test"), WAVES, rate_hz=RATE).copies
    return copy


def assert_as_by_hand(steps, level="keep"):
    """Render a chain, and see that it is what the functions give; returns its samples and gain."""
    wave = SPEECH
    for step in steps:
        wave = by_hand(step, wave)
    expected, gain_db = finished(wave, level)
    copy = rendered(steps, level)
    assert copy.gain_db == gain_db
    assert np.abs(copy.pcm - expected).max() <= 1  # two ways to add floats may round apart
    assert np.count_nonzero(copy.pcm != expected) < 0.001 * expected.size
    return copy.pcm


# --- one change a field -----------------------------------------------------------------------------------------------

RECORDED = {"form": "recorded", "source": "n", "root": "n", "recording": "n.wav", "offset": 700, "response": "b-0-1"}
COLOURED = {"form": "coloured", "source": "hiss", "colour": "pink", "seed": 9, "response": "b-0-1"}
SHAPED = {"form": "coloured", "source": "hiss", "colour": "speech", "seed": 9, "spectrum": "train"}
BABBLE = {
    "form": "babble",
    "source": "babble",
    "talkers": [{"id": f"t{n}", "speaker": f"s{n}", "file": {**SPAN, "path": f"{n}.wav"}, "offset": 50 * n} for n in (1, 2)],
    "response": "b-0-1",
}  # fmt: skip
NOISE = {"kind": "noise", "snr_db": 8.0, "over": "whole"}
SEVERAL = {**NOISE, "form": "several", "noises": [RECORDED, COLOURED, BABBLE]}
ROOM = {"kind": "room", "bank": "b", "room": 0, "position": 0, "response": "b-0-0", "keep_rms": True}
REVERB = {
    "kind": "freeverb", "reverberance": 60.0, "hf_damping": 40.0, "room_scale": 80.0, "pre_delay_ms": 5.0,
    "wet_gain_db": 3.0, "keep_rms": True,
}  # fmt: skip
LOSS = {
    "percent": 30.0, "burst_packets": 3.0, "bad_percent": 80.0, "good_percent": 5.0, "conceal": "zeros", "seed": 1,
    "lost_packets": 1,
}  # fmt: skip
CODEC = {"kind": "codec", "codec": "opus", "bitrate_kbps": 16.0, "application": "audio"}


def within(holder, key, value):
    """A change somewhere inside a step, as a function of the step."""

    def change(step):
        if isinstance(holder, str):
            return {**step, holder: {**step[holder], key: value}}
        listed, place = holder
        items = [{**item, key: value} if at == place else item for at, item in enumerate(step[listed])]
        return {**step, listed: items}

    return change


def to(**values):
    return lambda step: {**step, **values}


def in_file(key, value):
    """A change of the file of the first talker."""

    def change(step):
        talker = step["talkers"][0]
        return {**step, "talkers": [{**talker, "file": {**talker["file"], key: value}}, *step["talkers"][1:]]}

    return change


AUDIBLE = {
    "RecordedNoiseStep.root": (NOISE | RECORDED, to(root="m")),
    "RecordedNoiseStep.recording": (NOISE | RECORDED, to(recording="m.wav")),
    "RecordedNoiseStep.offset": (NOISE | RECORDED, to(offset=701)),
    "RecordedNoiseStep.response": (NOISE | RECORDED, to(response="b-0-2")),
    "RecordedNoiseStep.snr_db": (NOISE | RECORDED, to(snr_db=9.0)),
    "RecordedNoiseStep.over": (NOISE | RECORDED, to(over="active")),
    "ColouredNoiseStep.colour": (NOISE | COLOURED, to(colour="brown")),
    "ColouredNoiseStep.seed": (NOISE | COLOURED, to(seed=10)),
    "ColouredNoiseStep.spectrum": (NOISE | SHAPED, to(spectrum="development")),
    "ColouredNoiseStep.response": (NOISE | COLOURED, to(response="b-0-2")),
    "ColouredNoiseStep.snr_db": (NOISE | COLOURED, to(snr_db=9.0)),
    "ColouredNoiseStep.over": (NOISE | COLOURED, to(over="active")),
    "BabbleStep.talkers": (NOISE | BABBLE, to(talkers=BABBLE["talkers"][:1])),
    "BabbleStep.response": (NOISE | BABBLE, to(response="b-0-2")),
    "BabbleStep.snr_db": (NOISE | BABBLE, to(snr_db=9.0)),
    "BabbleStep.over": (NOISE | BABBLE, to(over="active")),
    "Talker.file": (NOISE | BABBLE, within(("talkers", 1), "file", {**SPAN, "path": "3.wav"})),
    "Talker.offset": (NOISE | BABBLE, within(("talkers", 1), "offset", 101)),
    "FileSpan.root": (NOISE | BABBLE, in_file("root", "other")),
    "FileSpan.path": (NOISE | BABBLE, in_file("path", "other.wav")),
    "FileSpan.start": (NOISE | BABBLE, in_file("start", 0.25)),
    "FileSpan.num_frames": (NOISE | BABBLE, in_file("num_frames", 8000)),
    "FileSpan.rate_hz": (NOISE | BABBLE, in_file("rate_hz", 8000)),
    "FileSpan.channel": (NOISE | BABBLE, in_file("channel", 1)),
    "SeveralNoisesStep.noises": (SEVERAL, to(noises=[RECORDED, COLOURED])),
    "SeveralNoisesStep.snr_db": (SEVERAL, to(snr_db=9.0)),
    "SeveralNoisesStep.over": (SEVERAL, to(over="active")),
    "RecordedPart.root": (SEVERAL, within(("noises", 0), "root", "m")),
    "RecordedPart.recording": (SEVERAL, within(("noises", 0), "recording", "m.wav")),
    "RecordedPart.offset": (SEVERAL, within(("noises", 0), "offset", 701)),
    "RecordedPart.response": (SEVERAL, within(("noises", 0), "response", "b-0-2")),
    "ColouredPart.colour": (SEVERAL, within(("noises", 1), "colour", "white")),
    "ColouredPart.seed": (SEVERAL, within(("noises", 1), "seed", 10)),
    "ColouredPart.spectrum": ({**SEVERAL, "noises": [RECORDED, SHAPED]}, within(("noises", 1), "spectrum", "dev")),
    "ColouredPart.response": (SEVERAL, within(("noises", 1), "response", "b-0-2")),
    "BabblePart.talkers": (SEVERAL, within(("noises", 2), "talkers", BABBLE["talkers"][1:])),
    "BabblePart.response": (SEVERAL, within(("noises", 2), "response", "b-0-2")),
    "PlannedRoomStep.response": (ROOM, to(response="b-0-2")),
    "PlannedRoomStep.keep_rms": (ROOM, to(keep_rms=False)),
    "PlannedFreeverbStep.reverberance": (REVERB, to(reverberance=61.0)),
    "PlannedFreeverbStep.hf_damping": (REVERB, to(hf_damping=41.0)),
    "PlannedFreeverbStep.room_scale": (REVERB, to(room_scale=81.0)),
    "PlannedFreeverbStep.pre_delay_ms": (REVERB, to(pre_delay_ms=6.0)),
    "PlannedFreeverbStep.wet_gain_db": (REVERB, to(wet_gain_db=4.0)),
    "PlannedFreeverbStep.keep_rms": (REVERB, to(keep_rms=False)),
    "PlannedCodecStep.codec": ({"kind": "codec", "codec": "mp3", "bitrate_kbps": 32.0}, to(codec="aac")),
    "PlannedCodecStep.bitrate_kbps": (CODEC, to(bitrate_kbps=17.0)),
    "PlannedCodecStep.application": (CODEC, to(application="voip")),
    "PlannedCodecStep.loss": (CODEC, to(loss=LOSS)),
    "PlannedPacketLoss.percent": ({**CODEC, "loss": LOSS}, within("loss", "percent", 50.0)),
    "PlannedPacketLoss.burst_packets": ({**CODEC, "loss": LOSS}, within("loss", "burst_packets", 6.0)),
    "PlannedPacketLoss.bad_percent": ({**CODEC, "loss": LOSS}, within("loss", "bad_percent", 45.0)),
    "PlannedPacketLoss.good_percent": ({**CODEC, "loss": LOSS}, within("loss", "good_percent", 25.0)),
    "PlannedPacketLoss.conceal": ({**CODEC, "loss": LOSS}, within("loss", "conceal", "repeat")),
    "PlannedPacketLoss.seed": ({**CODEC, "loss": LOSS}, within("loss", "seed", 2)),
    "PlannedLowPassStep.cutoff_hz": ({"kind": "lowpass", "cutoff_hz": 2000.0}, to(cutoff_hz=2010.0)),
    "PlannedHighPassStep.cutoff_hz": ({"kind": "highpass", "cutoff_hz": 500.0}, to(cutoff_hz=510.0)),
    "PlannedBandPassStep.low_hz": ({"kind": "bandpass", "low_hz": 300.0, "high_hz": 3400.0}, to(low_hz=310.0)),
    "PlannedBandPassStep.high_hz": ({"kind": "bandpass", "low_hz": 300.0, "high_hz": 3400.0}, to(high_hz=3300.0)),
    "PlannedBandRejectStep.low_hz": ({"kind": "bandreject", "low_hz": 500.0, "high_hz": 900.0}, to(low_hz=490.0)),
    "PlannedBandRejectStep.high_hz": ({"kind": "bandreject", "low_hz": 500.0, "high_hz": 900.0}, to(high_hz=910.0)),
    "PlannedTiltStep.db_per_octave": ({"kind": "tilt", "db_per_octave": 3.0}, to(db_per_octave=-3.0)),
    "PlannedGainStep.gain_db": ({"kind": "gain", "gain_db": 3.0}, to(gain_db=-3.0)),
    "PlannedClipStep.percent": ({"kind": "clip", "percent": 3.0}, to(percent=4.0)),
    "PlannedResampleStep.rate_hz": ({"kind": "resample", "rate_hz": 8000}, to(rate_hz=11_025)),
    "PlannedPitchStep.cents": ({"kind": "pitch", "cents": 150.0}, to(cents=-150.0)),
}  # fmt: skip
INAUDIBLE = {
    **{f"{name}NoiseStep.source": (NOISE | part, to(source="z")) for name, part in (("Recorded", RECORDED), ("Coloured", COLOURED))},
    "BabbleStep.source": (NOISE | BABBLE, to(source="z")),
    "RecordedPart.source": (SEVERAL, within(("noises", 0), "source", "z")),
    "ColouredPart.source": (SEVERAL, within(("noises", 1), "source", "z")),
    "BabblePart.source": (SEVERAL, within(("noises", 2), "source", "z")),
    "BabbleStep.spare": (NOISE | BABBLE, to(spare=[{**BABBLE["talkers"][0], "offset": 3}])),
    "BabblePart.spare": (SEVERAL, within(("noises", 2), "spare", [{**BABBLE["talkers"][0], "offset": 3}])),
    "Talker.id": (NOISE | BABBLE, within(("talkers", 0), "id", "z")),
    "Talker.speaker": (NOISE | BABBLE, within(("talkers", 0), "speaker", "z")),
    "FileSpan.sha256": (NOISE | BABBLE, in_file("sha256", "0" * 64)),
    "PlannedRoomStep.bank": (ROOM, to(bank="z")),
    "PlannedRoomStep.room": (ROOM, to(room=5)),
    "PlannedRoomStep.position": (ROOM, to(position=5)),
    "PlannedPacketLoss.lost_packets": ({**CODEC, "loss": LOSS}, within("loss", "lost_packets", 2)),
}  # fmt: skip


def records_in(annotation):
    """Every record that an annotation speaks of, at any depth."""
    if get_origin(annotation) in {Annotated, Union, UnionType, tuple, list, dict}:
        for part in get_args(annotation):
            yield from records_in(part)
    elif isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
        for field in annotation.model_fields.values():
            yield from records_in(field.annotation)


def planned_models():
    return {model.__name__: model for model in records_in(PlannedCopy)}


def test_the_tables_have_every_field_of_every_planned_step():
    fields = {
        f"{name}.{field}"
        for name, model in planned_models().items()
        if name != "PlannedCopy"
        for field in model.model_fields
        if field not in {"kind", "form"}
    }
    assert fields == set(AUDIBLE) | set(INAUDIBLE)
    assert not set(AUDIBLE) & set(INAUDIBLE)


@pytest.mark.parametrize("field", AUDIBLE)
def test_a_field_of_a_planned_step_changes_the_copy_as_its_function_says(field):
    step, change = AUDIBLE[field]
    before, after = assert_as_by_hand([step]), assert_as_by_hand([change(step)])
    assert np.abs(before.astype(int) - after).max() > 20


@pytest.mark.parametrize("field", INAUDIBLE)
def test_a_field_that_only_tells_where_something_came_from_changes_no_sample(field):
    step, change = INAUDIBLE[field]
    np.testing.assert_array_equal(rendered([step]).pcm, rendered([change(step)]).pcm)


def test_steps_are_applied_in_their_order_each_to_what_the_one_before_left():
    chain = [
        ROOM, NOISE | RECORDED, {"kind": "clip", "percent": 5.0}, CODEC, {"kind": "lowpass", "cutoff_hz": 2500.0},
        {"kind": "gain", "gain_db": -4.0},
    ]  # fmt: skip
    forward = assert_as_by_hand(chain)
    backward = assert_as_by_hand(chain[::-1])
    assert np.abs(forward.astype(int) - backward).max() > 200


@pytest.mark.parametrize("level", ["keep", "match_clean", -30.0, -18.0])
def test_a_level_is_set_after_the_last_step(level):
    pcm = assert_as_by_hand([ROOM, NOISE | COLOURED, {"kind": "gain", "gain_db": -9.0}], level)
    dbfs = 10 * np.log10(np.mean((pcm / 32768) ** 2))
    clean_dbfs = 10 * np.log10(np.mean(SPEECH**2))
    wanted = {"match_clean": clean_dbfs, "keep": clean_dbfs - 9 + 10 * np.log10(1 + 10**-0.8)}.get(level, level)
    assert dbfs == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(("gain_db", "is_scaled"), [(30.0, True), (18.0, True), (-6.0, False)])
def test_a_copy_is_scaled_only_where_it_would_clip_and_by_the_gain_that_is_written(gain_db, is_scaled):
    copy = rendered([{"kind": "gain", "gain_db": gain_db}])
    assert (copy.gain_db < 0.0) == is_scaled
    wave = SPEECH * 10 ** ((gain_db + copy.gain_db) / 20)
    assert np.abs(copy.pcm - wave * 32768).max() <= 0.5 + 1e-6
    if is_scaled:
        assert np.abs(copy.pcm).max() > 32767 * 10 ** (-0.01 / 20) - 1  # no more than a hundredth of a decibel is lost


def test_the_wave_before_the_first_codec_is_kept():
    """Verification tells by it what the steps before a codec did."""
    louder = {"kind": "gain", "gain_db": 2.0}
    copy = rendered([louder, CODEC, {"kind": "codec", "codec": "mp3"}])
    assert copy.uncoded is not None
    np.testing.assert_allclose(copy.uncoded, SPEECH * 10 ** (2 / 20))
    assert rendered([louder]).uncoded is None


def test_a_copy_without_a_bit_rate_or_application_has_the_codecs_own():
    plain = rendered([{"kind": "codec", "codec": "opus"}]).pcm
    np.testing.assert_array_equal(plain, rendered([CODEC]).pcm)
    np.testing.assert_array_equal(
        rendered([{"kind": "codec", "codec": "amr-nb"}]).pcm,
        rendered([{"kind": "codec", "codec": "amr-nb", "bitrate_kbps": 12.2}]).pcm,
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("g722", 48, 64), ("g726", 16, 40), ("amr-nb", 4.75, 12.2), ("opus", 6, 32), ("mp3", 16, 64), ("aac", 16, 64), ("vorbis", 24, 64)],
)  # fmt: skip
def test_a_planned_bit_rate_reaches_the_coder(name, low, high):
    """More bits a second leave less noise, in every codec that has a choice."""
    error_db = []
    for rate in (low, high):
        pcm = assert_as_by_hand([{"kind": "codec", "codec": name, "bitrate_kbps": float(rate)}])
        error_db.append(10 * np.log10(np.mean((pcm / 32768 - SPEECH) ** 2) / np.mean(SPEECH**2)))
    assert error_db[1] < error_db[0] - 1.0


# --- domains ----------------------------------------------------------------------------------------------------------

TOKENS = {
    "RecordedNoiseStep": (NOISE | RECORDED, "n", "noise"),
    "ColouredNoiseStep": (NOISE | COLOURED, "hiss", "noise"),
    "BabbleStep": (NOISE | BABBLE, "babble", "noise"),
    "SeveralNoisesStep": ({**SEVERAL, "noises": [RECORDED, BABBLE, RECORDED]}, "n+babble", "noise"),
    "PlannedRoomStep": (ROOM, "b", "room"),
    "PlannedFreeverbStep": (REVERB, "freeverb", "room"),
    "PlannedCodecStep": (CODEC, "opus", "codec"),
    "PlannedLowPassStep": ({"kind": "lowpass", "cutoff_hz": 2000.0}, "lowpass", "channel"),
    "PlannedHighPassStep": ({"kind": "highpass", "cutoff_hz": 500.0}, "highpass", "channel"),
    "PlannedBandPassStep": ({"kind": "bandpass", "low_hz": 300.0, "high_hz": 3400.0}, "bandpass", "channel"),
    "PlannedBandRejectStep": ({"kind": "bandreject", "low_hz": 500.0, "high_hz": 900.0}, "bandreject", "channel"),
    "PlannedTiltStep": ({"kind": "tilt", "db_per_octave": 3.0}, "tilt", "channel"),
    "PlannedGainStep": ({"kind": "gain", "gain_db": 3.0}, "gain", "channel"),
    "PlannedClipStep": ({"kind": "clip", "percent": 3.0}, "clip", "channel"),
    "PlannedResampleStep": ({"kind": "resample", "rate_hz": 8000}, "resample", "channel"),
    "PlannedPitchStep": ({"kind": "pitch", "cents": 150.0}, "pitch", "channel"),
}


def copy_of(*steps):
    return PlannedCopy.parse({"name": "c-0", "condition": "c", "steps": list(steps)}, where="test")


def test_every_planned_step_has_its_tokens():
    kinds = {name for name, model in planned_models().items() if "kind" in model.model_fields}
    assert kinds == set(TOKENS)
    for name, (step, domain, family) in TOKENS.items():
        (planned,) = copy_of(step).steps
        assert type(planned).__name__ == name
        assert (domain_of((planned,)), family_of((planned,))) == (domain, family)
    (lossy,) = copy_of({**CODEC, "loss": LOSS}).steps
    assert (domain_of((lossy,)), family_of((lossy,))) == ("opus-loss", "codec")
    every = copy_of(*(step for step, _, _ in TOKENS.values())).steps
    assert domain_of(every) == "+".join(domain for _, domain, _ in TOKENS.values())
    assert family_of(every) == "+".join(family for _, _, family in TOKENS.values())
    assert domain_of(()) == family_of(()) == "clean"
