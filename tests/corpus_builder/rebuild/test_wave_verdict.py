"""The verdict on two renderings of one utterance, by waves whose difference is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.rebuild.report import Proof, bank_digests, verdict_lines
from corpus_builder.rebuild.wave_verdict import Indexed, WaveVerdict, compared
from corpus_builder.shards.fingerprint import fingerprint, signs
from manifests.corpus.shard_index import IndexedSample, Member
from tests.oracles.tiny_corpus import flac

if TYPE_CHECKING:
    from pathlib import Path

NUM = 4000
CLEAN = np.rint(3000 * np.sin(np.arange(NUM) / 5)).astype(np.int16)
NOISE = {
    "kind": "noise",
    "form": "recorded",
    "source": "hum",
    "root": "hum",
    "recording": "n.wav",
    "offset": 7,
    "snr_db": 5.0,
}
ROOM = {"kind": "room", "bank": "cell", "room": 0, "position": 0, "response": "cell-0-0"}
ROW: dict[str, Any] = {
    "id": "u", "key": "k", "split": "dev", "num_samples": NUM,
    "source": {"root": "voices", "path": "u.wav", "num_frames": NUM, "rate_hz": 16_000},
    "copies": [
        {"name": "far-0", "condition": "far", "steps": [ROOM, NOISE]},
        {"name": "phone-0", "condition": "phone", "steps": [{"kind": "codec", "codec": "opus"}, {"kind": "codec", "codec": "mp3"}]},
    ],
}  # fmt: skip


def indexed(
    waves: dict[str, Any] | None = None, *, key: str = "k", num_samples: int = NUM, folder: Path | None = None, coded: Any = None
) -> Indexed:  # fmt: skip
    """A sample of three waves; `coded` is what left the codec, where `phone-0` is what entered it."""
    found = dict.fromkeys(("clean", "far-0", "phone-0"), CLEAN) | (waves or {})
    sign = signs("k", NUM)
    prints, members, content = {}, {"json": Member(offset=0, size=1)}, b""
    for name, wave in found.items():
        if wave is None:
            continue
        last = wave if name != "phone-0" or coded is None else coded
        uncoded = wave.astype(np.float64) / 32768 if name == "phone-0" else None
        prints[name] = fingerprint(last[:NUM], sign, uncoded=uncoded)
        packed = flac(last)
        digest = f"{hash(last.tobytes()) & (2**63 - 1):064x}"
        members[name] = Member(offset=len(content), size=len(packed), pcm_sha256=digest)
        content += packed
    tar = None
    if folder is not None:
        tar = folder / "x.tar"
        tar.write_bytes(content)
    return Indexed(IndexedSample(key=key, num_samples=num_samples, members=members), prints, tar)


def verdicts(first: Indexed | None, second: Indexed | None, **options: Any) -> dict[str, WaveVerdict]:
    return {one.copy: one for one in compared(ROW, first, second, **options)}


def test_the_same_pcm_is_identical_and_each_wave_has_its_condition_and_codecs() -> None:
    found = compared(ROW, indexed(), indexed())
    assert list(found) == [
        WaveVerdict("dev", "u", "clean", "clean", "", "identical"),
        WaveVerdict("dev", "u", "far-0", "far", "", "identical"),
        WaveVerdict("dev", "u", "phone-0", "phone", "opus+mp3", "identical"),
    ]
    assert list(compared(ROW, None, None)) == []


def test_a_wave_that_one_of_the_two_lacks_says_which() -> None:
    assert {one.why for one in verdicts(None, indexed()).values()} == {"the first has no such wave"}
    assert {one.why for one in verdicts(indexed(), None).values()} == {"the second has no such wave: it was refused"}
    first = verdicts(indexed({"far-0": None}), indexed())
    assert {name: one.why for name, one in first.items() if one.why} == {"far-0": "the first has no such wave"}
    second = verdicts(indexed(), indexed({"far-0": None}))
    assert {name: one.verdict for name, one in second.items()} == {
        "clean": "identical", "far-0": "different", "phone-0": "identical",
    }  # fmt: skip
    assert second["far-0"].why.startswith("the second has no such wave")


def level_of(found: WaveVerdict) -> float:
    """The level in the reason."""
    return float(found.why.rpartition("level ")[2].removesuffix(" dB"))


def louder(by: float) -> Any:
    return np.rint(CLEAN * by).astype(np.int16)


@pytest.mark.parametrize(
    ("file", "copies"),
    [
        (("voices", "u.wav"), {"clean", "far-0", "phone-0"}), (("hum", "n.wav"), {"far-0"}), (("rooms/", "cell-0-0"), {"far-0"}),
        (("", "opus"), set()), (("hum", "u.wav"), set()),
    ],
)  # fmt: skip
def test_a_file_that_was_decoded_otherwise_concerns_the_copies_that_it_is_in(
    file: tuple[str, str], copies: set[str]
) -> None:
    other = indexed(dict.fromkeys(("clean", "far-0", "phone-0"), louder(1.5)))
    found = verdicts(indexed(), other, decoded_otherwise=frozenset({file}))
    assert {name for name, one in found.items() if one.decoder_differs} == copies
    assert {one.verdict for one in found.values()} == {"different"}
    nearly = CLEAN.copy()
    nearly[::400] += 1
    found = verdicts(indexed(), indexed({"far-0": nearly}), decoded_otherwise=frozenset({file}))
    assert (found["far-0"].verdict, found["far-0"].decoder_differs) == ("near", "far-0" in copies)
    assert not found["clean"].decoder_differs, "an identical wave needs no reason"


def test_waves_that_cannot_be_compared_say_why() -> None:
    other = {"clean": louder(1.5)}
    assert verdicts(indexed(), indexed(other, num_samples=NUM + 7))["clean"].why == "4007 samples long, expected 4000"
    assert verdicts(indexed(), indexed(other, key="k2"))["clean"].why == "there is no fingerprint to compare"
    assert verdicts(Indexed(indexed().sample, {}), indexed(other))["clean"].why == "there is no fingerprint to compare"
    mixed = indexed(other)
    mixed.prints["clean"] = mixed.prints["phone-0"]
    assert verdicts(indexed(), mixed)["clean"].why == "one went through a codec, the other did not"


def test_how_far_a_wave_is_off_is_told_in_steps_of_the_scale_with_its_level() -> None:
    rms = np.sqrt(np.mean((0.5 * CLEAN.astype(float)) ** 2))
    found = verdicts(indexed(), indexed({"clean": louder(1.5), "phone-0": louder(1.5)}))
    clean, phone = found["clean"], found["phone-0"]
    assert clean.deviation_lsb == pytest.approx(rms, rel=0.7)  # an estimate of 14 sums
    assert level_of(clean) == pytest.approx(3.52, abs=0.02)
    assert clean.coded_db is None
    assert phone.why.endswith("before its codec")
    assert phone.verdict == "different"
    quieter = verdicts(indexed({"clean": louder(1.5)}), indexed())["clean"]
    assert level_of(quieter) == pytest.approx(-3.52, abs=0.02)


def test_a_coded_wave_is_near_by_its_level_and_shape_and_different_where_it_is_late(tmp_path: Path) -> None:
    first = indexed(coded=CLEAN)
    near = verdicts(first, indexed(coded=louder(1.05)))["phone-0"]
    assert (near.verdict, near.codec) == ("near", "opus+mp3")
    assert level_of(near) == pytest.approx(0.42, abs=0.02)
    assert near.deviation_lsb == 0.0
    assert near.coded_db == pytest.approx(20 * np.log10(0.05), abs=4)
    loud = verdicts(first, indexed(coded=louder(1.3)))["phone-0"]
    assert loud.verdict == "different"
    assert loud.why.startswith("coded wave off by ")
    rng = np.random.default_rng(1)
    hiss = np.rint(3000 * np.convolve(rng.standard_normal(NUM), np.ones(12) / 3, "same")).astype(np.int16)
    for number, (wave, by) in enumerate(((hiss, 3), (CLEAN, 1))):  # the tone one sample late is near but for that
        late = np.concatenate([np.zeros(by, np.int16), wave[:-by]])
        for here in ("first", "second"):
            folder = tmp_path / f"{here}{number}"
            folder.mkdir()
            one = indexed(coded=wave, folder=folder if here == "first" else None)
            other = indexed(coded=late, folder=folder if here == "second" else None)
            found = verdicts(one, other)["phone-0"]
            assert found.verdict == "different"
            assert found.why.startswith(f"shifted by {by} samples; coded wave off by"), here


def test_only_waves_that_are_not_identical_are_listed_and_all_are_counted() -> None:
    given = [
        WaveVerdict("dev", "u", "clean", "clean", "", "identical"),
        WaveVerdict("dev", "u", "far-0", "far", "", "near", True, 0.25, why="off by 0.25 LSB rms"),
        WaveVerdict("dev", "u", "phone-0", "phone", "opus", "different", False, 1.0, float("-inf"), why="late"),
    ]
    proof = Proof()
    lines = list(verdict_lines(iter(given), proof))
    common = '"split": "dev", "id": "u", '
    assert [line.decode() for line in lines] == [
        (
            f'{{{common}"copy": "far-0", "condition": "far", "verdict": "near", "decoder_differs": true, "deviation_lsb": 0.25, '
            '"why": "off by 0.25 LSB rms"}'
        ),
        (
            f'{{{common}"copy": "phone-0", "condition": "phone", "codec": "opus", "verdict": "different", "deviation_lsb": 1.0, '
            '"why": "late"}'
        ),
    ]
    assert [proof.total(verdict) for verdict in ("identical", "near", "different")] == [1, 1, 1]
    assert proof.decoder_differs.total() == 1


def test_the_digests_of_a_bank_are_by_name(tmp_path: Path) -> None:
    (tmp_path / "cell.jsonl").write_text('{"name": "cell-0-0", "sha256": "a"}\n{"name": "cell-0-1", "sha256": "b"}\n')
    assert bank_digests(tmp_path / "cell.jsonl") == {"cell-0-0": "a", "cell-0-1": "b"}


def test_a_wave_that_is_off_is_told_by_how_much_and_where() -> None:
    """Twice as loud: the difference is the wave itself, and 6.02 dB of level; before a codec no level is told."""
    found = verdicts(indexed(), indexed({"far-0": 2 * CLEAN, "phone-0": 2 * CLEAN}))
    rms_lsb = float(np.sqrt(np.mean(CLEAN.astype(float) ** 2)))
    for copy, place in (("far-0", "level +6.02 dB"), ("phone-0", "before its codec")):
        one = found[copy]
        assert one.verdict == "different"
        assert one.deviation_lsb == pytest.approx(rms_lsb, rel=0.5)  # estimated from 14 sums
        relative_db = 20 * np.log10(one.deviation_lsb / rms_lsb)
        assert one.why == f"off by {one.deviation_lsb:.3g} LSB rms ({relative_db:.1f} dB), {place}"
