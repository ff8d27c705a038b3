"""Draws one codec step: codec, bit rate, application and the packets that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from corpus_builder.distortions.codecs.packet_loss import packet_count, packet_is_lost
from corpus_builder.plan.materials.seeded_random import index_below
from manifests.recipe.codecs import DEFAULT_BITRATE_KBPS, Codec, PacketLoss, nearest_bitrate_kbps

if TYPE_CHECKING:
    from corpus_builder.plan.materials.seeded_random import SeededRandom
    from manifests.recipe.steps import CodecStep


def drawn_codec_step(
    step: CodecStep, name: str, random: SeededRandom, *, num_samples: int, rate_hz: int
) -> dict[str, Any]:
    """A planned codec step, as plain data.

    Args:
        step: As the recipe has it.
        name: Of its draws.
        random: The copy's generators.
        num_samples: Length of the utterance at the corpus rate.
        rate_hz: Sample rate of the corpus.
    """
    codec = cast("Codec", random.value(step.codec, f"{name}.codec"))
    wanted_kbps = DEFAULT_BITRATE_KBPS[codec]
    if step.bitrate_kbps is not None:
        wanted_kbps = float(random.value(step.bitrate_kbps, f"{name}.bitrate_kbps"))
    planned: dict[str, Any] = {
        "kind": "codec",
        "codec": codec,
        "bitrate_kbps": nearest_bitrate_kbps(codec, wanted_kbps),
    }
    if codec == "opus" and step.application is not None:
        planned["application"] = random.value(step.application, f"{name}.application")
    if step.loss is not None:
        loss = drawn_loss(step.loss, f"{name}.loss", random, num_packets=packet_count(num_samples, rate_hz=rate_hz))
        if loss is not None:
            planned["loss"] = loss
    return planned


def drawn_loss(loss: PacketLoss, name: str, random: SeededRandom, *, num_packets: int) -> dict[str, Any] | None:
    """The losses of one utterance, as plain data; None where the drawn seed loses none of its packets.

    Args:
        loss: As the recipe has it.
        name: Of its draws.
        random: The copy's generators.
        num_packets: How many packets carry the utterance.
    """
    numbers: dict[str, Any] = {"percent": float(random.value(loss.percent, f"{name}.percent"))}
    if loss.burst_packets is not None:
        numbers |= {
            "burst_packets": float(random.value(loss.burst_packets, f"{name}.burst_packets")),
            "bad_percent": loss.bad_percent,
            "good_percent": loss.good_percent,
        }
    seed = index_below(2**32, random.rng(f"{name}.seed"))
    lost_packets = int(packet_is_lost(num_packets, seed=seed, **numbers).sum())
    if not lost_packets:
        return None
    conceal = random.value(loss.conceal, f"{name}.conceal")
    return numbers | {"conceal": conceal, "seed": seed, "lost_packets": lost_packets}
