"""Every option of every step, as a user writes it: read, planned, built, and found right by the stranger who verifies."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import yaml

from corpus_builder.verify.verify_corpus import verify
from manifests.recipe.codecs import BITRATES_KBPS
from tests.corpus_builder.conftest import Lab, write_wave
from tests.oracles.speechlike import speechlike

if TYPE_CHECKING:
    from pathlib import Path

STEPS = """
- [{kind: noise, from: [hum], draw: source, snr_db: 5}]
- [{kind: noise, from: [hum, hiss], draw: file, snr_db: {uniform_int: [10, 19]}}]
- [{kind: noise, from: [hum, hiss], draw: duration, snr_db: {choice: [0, 5.5]}}]
- [{kind: noise, from: {hum: 1, hiss: 2}, draw: duration, snr_db: {log_uniform: [1, 20]}}]
- [{kind: noise, from: {hum: 1, white: 2}, snr_db: -5}]
- [{kind: noise, from: [hum, babble, pink], count: 3, snr_db: 10}]
- [{kind: noise, from: [hum, babble, pink], count: {uniform_int: [1, 3]}, snr_db: 10, over: active}]
- [{kind: room, bank: office}]
- [{kind: room, bank: office, keep_rms: false}]
- [{kind: room, bank: traced}]
- [{kind: room, bank: office}, {kind: noise, from: [hum], snr_db: 10}]
- [{kind: room, bank: office}, {kind: noise, from: [hum, babble], count: 2, snr_db: 10, in_room: true}]
- [{kind: room, bank: traced}, {kind: noise, from: [talker], snr_db: 10, in_room: true}]
- [{kind: freeverb}]
- [{kind: freeverb, reverberance: {uniform: [0, 100]}, hf_damping: 0, room_scale: {uniform: [0, 100]}, pre_delay_ms: 20, wet_gain_db: -5}]
- [{kind: freeverb, keep_rms: false}]
- [{kind: codec, codec: {choice: [g711-alaw, amr-nb, opus]}}]
- [{kind: codec, codec: opus, bitrate_kbps: {uniform: [6, 24]}, application: {choice: [voip, audio]}}]
- [{kind: codec, codec: amr-nb, bitrate_kbps: {uniform: [4.75, 12.2]}}]
- [{kind: codec, codec: g726, bitrate_kbps: {uniform: [16, 40]}}]
- [{kind: codec, codec: mp3, bitrate_kbps: {log_uniform: [16, 128]}}]
- [{kind: codec, codec: opus, loss: {percent: 10, burst_packets: 20, bad_percent: 50, good_percent: 1}}]
- [{kind: codec, codec: {choice: [amr-nb, opus]}, loss: {percent: {uniform: [1, 20]}, conceal: {choice: [zeros, repeat, codec]}}}]
- [{kind: codec, codec: gsm-fr}, {kind: codec, codec: g711-alaw}]
- [{kind: lowpass, cutoff_hz: {uniform: [1000, 6000]}}]
- [{kind: highpass, cutoff_hz: 300}]
- [{kind: bandpass, low_hz: 300, high_hz: 3400}]
- [{kind: bandreject, width_hz: {uniform: [100, 1000]}}]
- [{kind: bandreject, width_mel: {uniform: [10, 149.8]}}]
- [{kind: bandreject, width_hz: 500, low_hz: 1000}]
- [{kind: bandreject, width_mel: 100, low_hz: {uniform: [500, 1000]}}]
- [{kind: tilt, db_per_octave: {uniform: [-6, 6]}}]
- [{kind: gain, gain_db: {uniform: [-20, 20]}}]
- [{kind: clip, percent: {log_uniform: [0.1, 10]}}]
- [{kind: resample, rate_hz: {choice: [8000, 11025]}}]
- [{kind: pitch, cents: {uniform: [-500, 500]}}]
- [{choose: [[{kind: noise, from: [hum], snr_db: 5}], [{kind: clip, percent: 1}], []]}]
- [{choose: [[{kind: noise, from: [hum], snr_db: 5}], []], weights: [2, 1]}, {choose: [[{kind: freeverb}], [{kind: codec, codec: mp3}]]}]
- [{choose: [[{choose: [[{kind: clip, percent: 1}], [{kind: tilt, db_per_octave: 3}]]}], [{kind: codec, codec: opus, loss: {percent: 5}}]]}]
"""
PACKETS = ("g711-alaw", "g711-mulaw", "g722", "g726", "gsm-fr", "amr-nb", "opus")
CONCEAL_THEMSELVES = ("amr-nb", "opus")
NOISES = ("hum", "white", "pink", "brown", "shaped", "babble", "talker")


def every_condition() -> dict[str, Any]:
    """A condition for each option, and for each pair that has a meaning of its own."""
    chains = yaml.safe_load(STEPS)
    chains += [
        [{"kind": "noise", "from": [name], "snr_db": 10, "over": over}]
        for name, over in product(NOISES, ("whole", "active"))
    ]
    chains += [
        [{"kind": "room", "bank": "office"}, {"kind": "noise", "from": [name], "snr_db": 10, "in_room": True}]
        for name in NOISES
    ]
    chains += [
        [{"kind": "codec", "codec": codec, "bitrate_kbps": rate}]
        for codec, rates in BITRATES_KBPS.items()
        for rate in {min(rates), max(rates)}
    ]
    chains += [
        [{"kind": "codec", "codec": codec, "loss": {"percent": 10, "conceal": conceal} | bursts}]
        for codec, conceal, bursts in product(PACKETS, ("zeros", "repeat", "codec"), ({}, {"burst_packets": 2}))
        if conceal != "codec" or codec in CONCEAL_THEMSELVES
    ]
    conditions: dict[str, Any] = {f"c{number:03d}": {"steps": steps} for number, steps in enumerate(chains)}
    for number, level in enumerate(("keep", "match_clean", -25, {"uniform": [-35, -15]})):
        steps = [{"kind": "noise", "from": ["hum"], "snr_db": 5}, {"kind": "gain", "gain_db": 6}]
        conditions[f"level{number}"] = {"steps": steps, "level": level}
    return conditions


def test_every_option_is_built_and_right(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    for number in range(4):
        wave = speechlike(1.0, seed=number)
        write_wave(tmp_path / "speech" / "train" / f"s{number}" / f"u{number}.wav", wave, subtype="PCM_16")
        lab.noise(f"n{number}", seed=number, seconds=0.5 + 0.5 * number)
    bank = {"rooms": 2, "size_m": [[3, 3, 2.4], [3.5, 3.5, 2.6]], "rt60_s": 0.2, "distance_m": {"uniform": [0.5, 1]}}
    heights = {"microphone_height_m": {"uniform": [0.7, 1.2]}, "source_height_m": {"uniform": [1.1, 1.8]}}
    conditions = every_condition()
    lab.recipe |= {
        "speech": {"train": lab.recipe["speech"]["train"]},
        "noises": {
            "hum": {"dir": "noise"},
            "hiss": {"dir": "noise", "split": "shared"},
            **{colour: {"colour": colour} for colour in ("white", "pink", "brown")},
            "shaped": {"colour": "speech"},
            "babble": {"talkers": {"uniform_int": [2, 3]}},
            "talker": {"talkers": 1},
        },
        "rooms": {"office": bank | heights, "traced": bank | {"method": "hybrid", "rooms": 1}},
        "conditions": conditions,
        "copies": {"train": dict.fromkeys(conditions, 1)},
        "shards": {"samples": 2},
    }
    built = lab.build(workers=2, executor=None)
    assert built.corpus is not None
    assert built.corpus.totals.samples == 4
    assert built.corpus.copies["train"] == dict.fromkeys(conditions, 1)
    found = verify(tmp_path / "corpus", level="physics", progress=False)
    assert not found.findings
