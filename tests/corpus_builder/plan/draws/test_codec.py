"""Codec steps from recipe to rendered copy: what is refused, what is drawn, what is written down."""

import json

import numpy as np
import pytest
import soundfile

from corpus_builder.distortions.codecs.packet_loss import packet_count, packet_is_lost
from manifests.corpus.sample import domain_of, family_of, keeps_content
from manifests.errors import BadDocumentError
from manifests.plan.steps import PlannedCodecStep
from manifests.recipe.codecs import BITRATES_KBPS, CODECS
from manifests.recipe.steps import CodecStep
from tests.oracles.lag import gcc_phat_lag


@pytest.mark.parametrize(
    ("step", "line"),
    [
        ({"codec": "speex"}, "unknown codec 'speex'; known are g711-alaw, g711-mulaw, g722"),
        ({"codec": "amr-nb", "bitrate_kbps": 16}, "amr-nb has no bit rate of 16 kbit/s; it has 4.75, 5.15, 5.9"),
        ({"codec": "opus", "bitrate_kbps": {"uniform": [4, 32]}}, "opus has no bit rate of 4 kbit/s; it has 6 to 64"),
        ({"codec": "gsm-fr", "bitrate_kbps": 12}, "gsm-fr has no bit rate of 12 kbit/s; it has 13"),
        ({"codec": {"choice": ["opus", "g726"]}, "bitrate_kbps": {"choice": [16, 64]}}, "g726 has no bit rate of 64"),
        ({"codec": "mp3", "application": "voip"}, "application: only opus has applications, not mp3"),
        ({"codec": "opus", "application": "music"}, "unknown 'music'; known are voip, audio"),
        ({"codec": "mp3", "loss": {"percent": 3}}, "loss: mp3 is a stream, not packets; packets are lost in g711-alaw"),
        ({"codec": "g722", "loss": {"percent": 3, "conceal": "codec"}}, "the decoder of g722 has no concealment"),
        ({"codec": "g722", "loss": {"percent": 3, "conceal": "hide"}}, "unknown 'hide'; known are zeros, repeat, codec"),
        ({"codec": "g722", "loss": {"percent": 0}}, "0 is outside [0.01, 100]"),
        ({"codec": "g722", "loss": {"percent": 3, "bad_percent": 50.0}}, "burst_packets is missing"),
        ({"codec": "g722", "loss": {"percent": 80, "burst_packets": 2}}, "2 is too short for 80 percent of loss; it needs at least 4"),
        ({"codec": "g722", "loss": {"percent": 60, "burst_packets": 2, "bad_percent": 50.0}}, "percent: 60 to 60 is not from"),
        ({"codec": "g722", "loss": {"percent": 100, "burst_packets": 2}}, "percent: 100 to 100 is not from"),
    ],
)  # fmt: skip
def test_a_step_that_no_codec_can_do_is_refused_in_one_line_with_what_can_be_done(step, line):
    with pytest.raises(BadDocumentError) as told:
        CodecStep.parse({"kind": "codec", **step}, where="recipe.yaml")
    assert line in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("codec", CODECS)
def test_every_bit_rate_a_codec_has_can_be_asked_for(codec):
    CodecStep.parse({"kind": "codec", "codec": codec, "bitrate_kbps": {"choice": BITRATES_KBPS[codec]}}, where="x")


@pytest.mark.parametrize(
    "loss",
    [
        {"percent": 5.0, "conceal": "codec", "seed": 1, "lost_packets": 1},
        {"percent": 5.0, "conceal": "zeros", "seed": 1, "lost_packets": 0},
        {"percent": 50.0, "burst_packets": 3.0, "bad_percent": 50.0, "conceal": "zeros", "seed": 1, "lost_packets": 1},
    ],
)
def test_a_strangers_plan_with_losses_that_cannot_be_is_refused(loss):
    with pytest.raises(BadDocumentError):
        PlannedCodecStep.parse({"kind": "codec", "codec": "g722", "loss": loss}, where="plan")


def planned(loss=None, codec="amr-nb"):
    return PlannedCodecStep.parse({"kind": "codec", "codec": codec, **({"loss": loss} if loss else {})}, where="plan")


def test_losses_are_a_domain_of_their_own_and_do_not_keep_the_content():
    lossy = planned({"percent": 5.0, "conceal": "codec", "seed": 1, "lost_packets": 2})
    assert domain_of((planned(), lossy)) == "amr-nb+amr-nb-loss"
    assert family_of((planned(), lossy)) == "codec+codec"
    assert keeps_content((planned(),))
    assert not keeps_content((planned(), lossy))


LOSSY = {
    "kind": "codec",
    "codec": {"choice": ["opus", "amr-nb"]},
    "bitrate_kbps": {"uniform": [6, 12]},
    "application": {"choice": ["voip", "audio"]},
    "loss": {
        "percent": {"uniform": [2, 20]},
        "burst_packets": {"uniform": [1, 3]},
        "conceal": {"choice": ["zeros", "repeat", "codec"]},
    },
}


def test_a_plan_with_losses_holds_numbers_that_say_what_was_lost(lab):
    lab.without_rooms()
    lab.recipe["conditions"]["phone"] = {"steps": [LOSSY]}
    lab.recipe["copies"] = {"train": {"phone": 12}}
    lab.plan()
    steps = [(row.num_samples, copy.steps[0]) for row in lab.rows() for copy in row.copies]
    assert len({step.bitrate_kbps for _, step in steps}) > 4
    assert {step.application for _, step in steps if step.codec == "opus"} == {"voip", "audio"}
    assert {step.application for _, step in steps if step.codec == "amr-nb"} == {None}
    lossy = [(size, step.loss) for size, step in steps if step.loss is not None]
    assert {loss.conceal for _, loss in lossy} == {"zeros", "repeat", "codec"}
    assert 0 < len(lossy) < len(steps)  # where chance lost nothing, no loss is planned
    for size, loss in lossy:
        flags = packet_is_lost(
            packet_count(size, rate_hz=16_000), seed=loss.seed, percent=loss.percent, burst_packets=loss.burst_packets
        )
        assert loss.lost_packets == flags.sum() > 0


def test_adding_losses_moves_no_other_draw(lab):
    lab.without_rooms()
    plain = {key: value for key, value in LOSSY.items() if key not in {"loss", "application"}}
    lab.recipe["copies"] = {"train": {"phone": 2}}
    lab.recipe["conditions"]["phone"] = {"steps": [plain, plain]}
    lab.plan("before")
    lab.recipe["conditions"]["phone"] = {"steps": [LOSSY, plain]}
    lab.plan("after")
    before, after = (
        [
            [(step.codec, step.bitrate_kbps) for step in copy.steps]
            for row in sorted(lab.rows(name), key=lambda row: row.id)
            for copy in row.copies
        ]
        for name in ("before", "after")
    )
    assert before == after


def test_a_built_corpus_with_tandem_coding_and_losses_is_in_step_and_says_what_was_done(lab, tmp_path):
    lab.without_rooms()
    tandem = {"kind": "codec", "codec": {"choice": ["g711-alaw", "g722", "g726", "gsm-fr", "vorbis", "aac"]}}
    lab.recipe["conditions"]["phone"] = {"steps": [LOSSY, tandem]}
    lab.recipe["copies"] = {"train": {"phone": 2}}
    lab.build("first")
    lab.build("second")
    shards = sorted((tmp_path / "first" / "shards").glob("*.tar"))
    assert shards
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "second" / "shards" / shard.name).read_bytes()
    from tarfile import open as open_tar

    with open_tar(shards[0]) as tar:
        members = {name: tar.extractfile(name) for name in tar.getnames()}
        key = next(iter(members)).split(".")[0]
        sample = json.load(members[f"{key}.json"])
        clean, _ = soundfile.read(members[f"{key}.clean.flac"])
        for copy in sample["copies"]:
            wave, _ = soundfile.read(members[f"{key}.{copy['name']}.flac"])
            assert wave.shape == clean.shape
            assert np.abs(gcc_phat_lag(clean, wave)) <= 1
            assert len(copy["domain"].split("+")) == 2
            assert ("loss" in copy["steps"][0]) == ("-loss" in copy["domain"])
