"""Cuts of recordings whose channels are in several files, and what lhotse lets through that cannot be used."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.sources.lhotse_cut import cut_utterance
from corpus_builder.sources.lhotse_manifest import utterances
from corpus_builder.sources.utterance import Refused, Utterance
from manifests.errors import BadDocumentError
from tests.corpus_builder.sources.test_lhotse_manifest import manifest_source

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.recipe.speech import Channel


def segment(start: float, duration: float, **fields: Any) -> Any:
    usual = {"text": None, "speaker": None, "language": None, "gender": None, "custom": None, "channel": 0}
    return SimpleNamespace(start=start, duration=duration, **(usual | fields))


def cut(*, sources: Any = None, rate_hz: int = 16_000, **changed: Any) -> Any:
    """A second and a half within a recording of four seconds; its channels 4 and 5 are in one file, 2 in another before it."""
    files = [SimpleNamespace(channels=[2], source="b.wav"), SimpleNamespace(channels=[4, 5], source="a.wav")]
    audio = SimpleNamespace(
        sources=files if sources is None else sources, sampling_rate=rate_hz, num_samples=4 * rate_hz, duration=4.0,
        transforms=None, channel_ids=[2, 4, 5],
    )  # fmt: skip
    usual: dict[str, Any] = {"id": "c", "start": 1.0, "duration": 1.5, "channel": [2, 4, 5], "recording": audio}
    return SimpleNamespace(**(usual | {"supervisions": [], "custom": None} | changed))


@pytest.mark.parametrize(("wanted", "path", "channel"), [(2, "b.wav", None), (4, "a.wav", 0), (5, "a.wav", 1)])
def test_a_channel_is_taken_from_the_file_that_has_it_by_its_place_there(
    wanted: Channel, path: str, channel: int | None
) -> None:
    found = cut_utterance(cut(), wanted_channel=wanted)
    assert found == Utterance("c", path, 1.0, 24_000, 16_000, channel)
    whole = cut_utterance(cut(), wanted_channel=wanted, whole=True)
    assert whole == Utterance("c", path, 0.0, 64_000, 16_000, channel)


def test_labels_are_those_of_what_is_said_within_and_of_the_cut_before_its_supervision() -> None:
    said = segment(0.25, 0.5, text="yes", speaker="ann", language="de", gender="F", custom={"mood": "glad", "take": 1})
    outside = segment(1.5, 0.5, text="no", speaker="bob", language="en", gender="M", custom={"mood": "sad"})
    one = cut(
        channel=5, supervisions=[outside, said], custom={"take": 2, "audio": {"sources": []}, "list": [1, {"a": None}]}
    )
    assert cut_utterance(one, wanted_channel=None) == Utterance(
        "c", "a.wav", 1.0, 24_000, 16_000, 1, "yes", "ann", "de", {"gender": "F", "mood": "glad", "take": 2, "list": [1, {"a": None}]},
    )  # fmt: skip
    both = cut(channel=5, supervisions=[segment(0.9, 0.2, text="late"), said], custom={"take": 2})
    assert cut_utterance(both, wanted_channel=None) == Utterance(
        "c", "a.wav", 1.0, 24_000, 16_000, 1, "yes late", None, None, {"gender": "F", "take": 2}
    )
    other = segment(0.9, 0.2, speaker="bob", language="en", gender="M")
    apart = cut_utterance(cut(channel=5, supervisions=[said, other]), wanted_channel=None)
    assert isinstance(apart, Utterance)
    assert (apart.text, apart.speaker, apart.language, apart.custom) == ("yes", None, None, {})


@pytest.mark.parametrize(
    ("changed", "wanted", "reason"),
    [
        ({"id": 7}, 4, "its id is not text"),
        ({"recording": None}, 4, "has no recording"),
        ({"start": -0.5}, 4, "starts at -0.5 s"),
        ({"rate_hz": 500}, 4, "has a sample rate of 500 Hz; "),
        ({"rate_hz": 10**7}, 4, "has a sample rate of 10000000 Hz; "),
        ({"sources": []}, 4, "no source of its recording has channel 4"),
        ({}, None, "has 3 channels (2, 4, 5); say which with channel: in the recipe, or mix for their mean"),
        ({}, 3, "has no channel 3, which the recipe names; it has 2, 4, 5"),
        (
            {},
            "mix",
            "has 3 channels of 2 files; channel: mix takes the mean of all channels of one file: name a number",
        ),
        ({"start": 3.0}, 4, "ends after 4 s, where its recording ends"),
        ({"duration": 0.0}, 4, "has no samples"),
    ],
)
def test_a_cut_that_cannot_be_used_says_why(changed: dict[str, Any], wanted: Channel | None, reason: str) -> None:
    found = cut_utterance(cut(**changed), wanted_channel=wanted)
    assert isinstance(found, Refused)
    assert found.id == str(changed.get("id", "c"))
    assert found.reason.startswith(reason)


def test_lines_are_counted_from_1_blank_ones_too(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('\n\n"text"\n')
    with pytest.raises(BadDocumentError, match=r"m.jsonl:3: expected a cut or a recording"):
        list(utterances(manifest_source(path)))


def test_a_recording_of_several_channels_is_a_cut_of_all_of_them_and_what_is_no_cut_is_named(tmp_path: Path) -> None:
    audio = {
        "id": "r", "sources": [{"type": "file", "channels": [0, 1], "source": "r.wav"}], "sampling_rate": 16_000,
        "num_samples": 16_000, "duration": 1.0, "channel_ids": [0, 1],
    }  # fmt: skip
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(audio) + "\n")
    assert list(utterances(manifest_source(path, channel=1))) == [Utterance("r", "r.wav", 0.0, 16_000, 16_000, 1)]
    assert list(utterances(manifest_source(path, channel="mix"))) == [
        Utterance("r", "r.wav", 0.0, 16_000, 16_000, "mix")
    ]
    (refused,) = utterances(manifest_source(path))
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("has 2 channels (0, 1); say which")
    said = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "channel": 0, "text": "yes"}
    path.write_text(json.dumps(said) + "\n")
    with pytest.raises(BadDocumentError, match=r"m.jsonl:1: .*SupervisionSegment"):
        list(utterances(manifest_source(path)))
