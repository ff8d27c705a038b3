"""What a page tells of each wave, by waves whose level, length and spectrum are known."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from corpus_builder.pages.audio_clips import (
    Candidate,
    candidate,
    chosen,
    picture,
    shown_utterance,
    step_line,
    value_text,
)
from manifests.corpus.sample import sample_key
from manifests.corpus.shard_index import ShardIndex
from manifests.errors import BadTarError
from manifests.plan.plan import PlanRow
from tests.oracles.tiny_corpus import RATE_HZ, TinyUtterance, write_corpus

if TYPE_CHECKING:
    from pathlib import Path


def square(amplitude: int, num_samples: int, *, mean: int = 0) -> Any:
    return (mean + amplitude * np.resize([1] * 8 + [-1] * 8, num_samples)).astype("<i2")


def sound(clip: dict[str, Any]) -> Any:
    kind, _, content = clip["audio"].partition(";base64,")
    assert kind == "data:audio/flac"
    return soundfile.read(io.BytesIO(base64.b64decode(content)), dtype="int16")[0]


def brightest(clip: dict[str, Any]) -> int:
    kind, _, content = clip["spectrogram"].partition(";base64,")
    assert kind == "data:image/png"
    return int(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).max())


def one(name: str) -> Candidate:
    return Candidate(sample_key(name), "dev-000000", 1.0, frozenset(), b"")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    short = {
        "clean": square(8192, 16_000, mean=4000),
        "phone-0": square(16_384, 16_000),
        "noise-0": square(1638, 16_000),
    }
    long = {"clean": square(8192, 13 * RATE_HZ), "noise-0": square(8192, 13 * RATE_HZ)}
    utterances = [
        TinyUtterance("u1", short, speaker="ann", language="de", text="<said>", gain_db=-1.5),
        TinyUtterance("u2", long),
    ]
    return write_corpus(tmp_path / "corpus", {"dev": utterances})


def test_each_wave_is_shown_with_its_level_without_its_mean_and_what_was_done_to_it(corpus: Path) -> None:
    found = shown_utterance(corpus, one("u1"))
    assert found is not None
    shown, levels = found
    assert levels == pytest.approx([20 * np.log10(part) for part in (0.25, 1638 / 32768, 0.5)], abs=1e-3)
    clips = shown.pop("clips")
    assert shown == {"id": "u1", "text": "<said>", "facts": "split dev · speaker ann · language de · dev: a.wav"}
    assert [clip["name"] for clip in clips] == ["clean", "noise-0", "phone-0"]
    assert [clip["facts"] for clip in clips] == [
        "-12.0 dBFS", "-26.0 dBFS · white · gain -1.5 dB", "-6.0 dBFS · white · gain -1.5 dB",
    ]  # fmt: skip
    assert [clip["steps"] for clip in clips] == [
        [], ["noise: form coloured, source white, colour white, seed 1, snr_db 5, over whole"],
        ["codec: codec g711-mulaw"],
    ]  # fmt: skip
    assert {(clip["seconds"], clip["top_khz"]) for clip in clips} == {("1.00", "8")}
    assert [int(np.abs(sound(clip)[8:].astype(int)).max()) for clip in clips] == [12_192, 1638, 16_384]
    assert [brightest(clip) for clip in clips][2] == 255, "the loudest is the top of the scale"
    assert brightest(clips[1]) < 200


def test_a_long_wave_is_cut_and_says_so(corpus: Path) -> None:
    found = shown_utterance(corpus, one("u2"))
    assert found is not None
    shown, _ = found
    assert shown["facts"] == "split dev · dev: a.wav"
    assert shown["text"] == ""
    for clip in shown["clips"]:
        assert clip["facts"].endswith("the first 12 s of 13.0 s")
        assert clip["seconds"] == "12.00"
        np.testing.assert_array_equal(sound(clip), square(8192, 12 * RATE_HZ))


def test_an_utterance_that_the_shard_does_not_have_is_passed_over_and_one_without_clean_named(corpus: Path) -> None:
    assert shown_utterance(corpus, one("u3")) is None
    path = corpus / "shards" / "dev-000000.json"
    index = ShardIndex.read(path, needed="x").plain()
    del index["samples"][0]["members"]["clean"]
    ShardIndex.parse(index, where="test").write(path)
    with pytest.raises(BadTarError, match=r"dev-000000.tar.*u1.*has no clean member"):
        shown_utterance(corpus, one("u1"))


def test_low_frequencies_are_at_the_bottom_of_a_picture_and_silence_is_dark() -> None:
    spectrogram = np.array([[0.0, -80.0], [-20.0, -40.0], [-100.0, 10.0]], dtype=np.float32)  # (bin, window)
    image = Image.open(io.BytesIO(base64.b64decode(picture(spectrogram, top_db=0.0).partition(",")[2])))
    assert image.size == (2, 3)
    np.testing.assert_array_equal(np.asarray(image), [[0, 255], [191, 128], [255, 0]])


def test_a_candidate_has_the_single_domains_of_its_copies_and_its_length_in_seconds() -> None:
    white = {"kind": "noise", "form": "coloured", "source": "white", "colour": "white", "seed": 1, "snr_db": 5.0}
    steps = [[white, {"kind": "codec", "codec": "opus", "bitrate_kbps": 16.0}], [{"kind": "clip", "percent": 1.0}], []]
    copies = [{"name": f"c-{at}", "condition": "c", "steps": each} for at, each in enumerate(steps)]
    file = {"root": "dev", "path": "a.wav", "num_frames": 9, "rate_hz": 8000}
    plain = {"id": "u", "key": "k", "split": "dev", "source": file, "num_samples": 12_000, "copies": copies}
    found = candidate(PlanRow.model_validate(plain), shard="dev-000007", rate_hz=8000)
    assert (found.key, found.shard, found.seconds) == ("k", "dev-000007", 1.5)
    assert found.domains == {"white", "opus", "clip", "clean"}


def test_usual_lengths_come_first_then_the_order_of_hashes_and_what_is_covered_counts_no_more() -> None:
    def of(key: str, seconds: float, position: int, *domains: str) -> Candidate:
        return Candidate(key, "s", seconds, frozenset(domains), bytes([position]))

    plain = [of("c", 8.0, 3), of("a", 1.49, 1), of("b", 1.5, 4), of("d", 8.01, 0), of("e", 3.0, 2)]
    assert [one.key for one in chosen(plain, most=9)] == ["e", "c", "b", "d", "a"]
    kinds = [
        of("one", 3.0, 0, "x"), of("two", 3.0, 1, "y"), of("both", 3.0, 2, "x", "y"), of("far", 3.0, 3, "z"),
        of("near", 3.0, 4, "x", "z"),
    ]  # fmt: skip
    assert [one.key for one in chosen(kinds, most=4)] == ["both", "far", "one", "two"]
    assert [one.key for one in chosen(kinds, most=4, pool=2)] == ["one", "two"]
    rows = (("pair", "x", "y"), ("third", "z"), ("again", "x"), ("fresh", "w"))
    later = [of(key, 3.0, at, *domains) for at, (key, *domains) in enumerate(rows)]
    assert [one.key for one in chosen(later, most=4)] == ["pair", "third", "fresh", "again"]


def test_a_parameter_is_told_by_its_number_or_the_name_of_its_file() -> None:
    assert [value_text(value) for value in (0.50, 3, "x", True, [1.25, "a"])] == ["0.5", "3", "x", "True", "1.25, a"]
    assert value_text({"id": "u", "path": "p", "file": {"path": "q"}}) == "u"
    assert value_text({"path": "p"}) == "p"
    assert value_text({"recording": "n.wav", "source": "hum"}) == "n.wav"
    assert value_text({"percent": 2.5, "seed": 7}) == "percent 2.5; seed 7"
    file = {"root": "dev", "path": "a.wav", "num_frames": 9, "rate_hz": 8000}
    talkers = [{"id": name, "speaker": "s", "file": file, "offset": 3} for name in ("u1", "u2")]
    step = {"kind": "noise", "form": "babble", "source": "babble", "snr_db": 5.5, "talkers": talkers}
    copy = {"name": "c-0", "condition": "c", "steps": [step]}
    plain = {"id": "u", "key": "k", "split": "dev", "source": file, "num_samples": 9, "copies": [copy]}
    line = step_line(PlanRow.model_validate(plain).copies[0].steps[0])
    assert line.startswith("noise: ")
    assert {"talkers u1", "snr_db 5.5", "source babble", "u2"} <= set(line.removeprefix("noise: ").split(", "))
