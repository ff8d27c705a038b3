"""What a copy is to a model: decided from its steps and recordings, never from a name."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest
from pydantic import TypeAdapter

from evaluation.config import RunSource
from evaluation.exposure.categories import (
    Library,
    StepFacts,
    category_of,
    codec_band,
    in_trained_range,
    snr_of,
    step_facts,
)
from evaluation.exposure.test_copies import CopyIndex, index_test_copies
from evaluation.exposure.training_set import (
    ExposureCounter,
    TrainingUnknownError,
    corpus_exposure,
    exposure_of,
    teacher_exposure,
    training_command,
)
from manifests.io.json_yaml import write_json, write_yaml
from manifests.plan.steps import PlannedStep
from manifests.results.training_exposure import TrainedOn
from tests.oracles.tiny_corpus import tiny_split, write_corpus
from training.data.joined_corpus import open_corpus

STEP = TypeAdapter(PlannedStep)


def recorded(recording, *, snr_db=10.0, source="musan"):
    return {
        "kind": "noise", "form": "recorded", "source": source, "root": source, "recording": recording, "offset": 5, "snr_db": snr_db,
    }  # fmt: skip


def coloured(*, snr_db=10.0, seed=3, colour="white"):
    return {"kind": "noise", "form": "coloured", "source": "w", "colour": colour, "seed": seed, "snr_db": snr_db}


def room(name):
    bank, number, position = name.rsplit("-", 2)
    return {"kind": "room", "bank": bank, "room": int(number), "position": int(position), "response": name}


def codec(name, rate=None):
    return {"kind": "codec", "codec": name, **({} if rate is None else {"bitrate_kbps": rate})}


@pytest.fixture
def library(tmp_path):
    """A corpus with two recordings (one of them under two names) and rooms of two banks."""
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=1)})
    (corpus / "plan").mkdir()
    levels = [("musan", "a.wav", "a"), ("musan", "b.wav", "b"), ("copied", "renamed.wav", "a"), ("wham", "a.wav", "c")]
    (corpus / "plan/levels.jsonl").write_text(
        "\n".join(
            json.dumps({"source": source, "path": path, "sha256": digest * 64}) for source, path, digest in levels
        )
    )
    (corpus / "rooms").mkdir()
    rows = {
        "office": [("office-0-0", 0.3, 1.0, "1"), ("office-1-0", 0.5, 2.0, "2"), ("office-2-0", 0.4, 1.5, "3")],
        "hall": [("hall-0-0", 0.9, 1.5, "4"), ("hall-1-0", 0.45, 1.2, "5")],
    }
    for bank, responses in rows.items():
        lines = [
            {
                "name": name,
                "t30_s": t30,
                "microphone_m": [0, 0, 1],
                "source_m": [far, 0, 1],
                "size_m": [4, 4, 3],
                "sha256": digest * 64,
            }
            for name, t30, far, digest in responses
        ]
        (corpus / f"rooms/{bank}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with open_corpus(corpus) as reader:
        yield Library(reader)


def facts(library, *steps):
    return [one for step in steps for one in step_facts(STEP.validate_json(json.dumps(step)), library)]


def trained(library, *copies):
    tally = ExposureCounter()
    for steps in copies:
        tally.add(facts(library, *steps))
    return tally.summary()


def test_a_recording_is_heard_by_its_content_whatever_it_is_called(library):
    known = trained(library, [recorded("a.wav", snr_db=0.0)], [recorded("a.wav", snr_db=20.0)])
    assert category_of(facts(library, recorded("a.wav")), known) == "heard"
    assert category_of(facts(library, recorded("renamed.wav", source="copied")), known) == "heard"
    assert category_of(facts(library, recorded("b.wav")), known) == "seen"
    assert category_of(facts(library, recorded("b.wav", source="wham")), known) == "shifted"
    assert category_of(facts(library, recorded("a.wav", source="wham")), known) == "shifted"  # another file of one name
    assert category_of(facts(library, recorded("b.wav", snr_db=-5.0)), known) == "shifted"
    assert category_of(facts(library, recorded("a.wav", snr_db=-5.0)), known) == "shifted"
    assert category_of(facts(library, coloured()), known) == "new"


@pytest.mark.parametrize("order", [(20.0, 0.0, 10.0), (0.0, 10.0, 20.0), (10.0, 20.0, 0.0)])
def test_the_trained_range_is_from_the_least_to_the_largest_in_whatever_order_they_were_met(library, order):
    known = trained(library, *([recorded("a.wav", snr_db=snr_db)] for snr_db in order))
    kind = known.kinds["noise recorded"]
    assert (kind.ranges, kind.count, kind.sources) == ({"snr_db": (0.0, 20.0)}, 3, ("musan",))


def test_rooms_are_told_apart_by_what_was_measured_and_not_by_their_bank(library):
    known = trained(library, [room("office-0-0")], [room("office-1-0")])
    assert category_of(facts(library, room("office-0-0")), known) == "heard"
    assert category_of(facts(library, room("office-2-0")), known) == "seen"
    assert category_of(facts(library, room("hall-1-0")), known) == "seen"  # another bank, the same kind of room
    assert category_of(facts(library, room("hall-0-0")), known) == "shifted"  # 0.9 s of reverberation


def test_bandwidth_makes_the_kind_of_a_codec(library):
    known = trained(library, [codec("amr-nb", 12.2)])
    assert category_of(facts(library, codec("amr-nb", 12.2)), known) == "seen"
    assert category_of(facts(library, codec("amr-nb", 4.75)), known) == "shifted"
    assert category_of(facts(library, codec("g711-mulaw")), known) == "shifted"
    assert category_of(facts(library, codec("opus", 6.0)), known) == "shifted"
    assert category_of(facts(library, codec("opus", 24.0)), known) == "new"
    assert category_of(facts(library, codec("mp3")), known) == "new"
    assert [codec_band("gsm-fr", None), codec_band("g722", 64.0)] == ["narrow-band", "wide-band"]


def test_a_copy_is_its_strangest_step_and_a_chain_must_have_been_met(library):
    far = [room("office-0-0"), recorded("a.wav")]
    known = trained(library, far, [room("office-1-0"), recorded("a.wav", snr_db=20.0)], [codec("amr-nb")])
    assert category_of(facts(library, room("office-2-0"), recorded("b.wav", snr_db=15.0)), known) == "seen"
    assert category_of(facts(library, room("office-2-0"), recorded("a.wav", snr_db=15.0)), known) == "heard"
    assert category_of(facts(library, room("office-2-0")), known) == "seen"  # a part of a chain that was met
    assert (
        category_of(facts(library, recorded("b.wav", snr_db=15.0), room("office-2-0")), known) == "shifted"
    )  # turned around
    turned = facts(library, recorded("a.wav", snr_db=15.0), room("office-0-0"))
    assert category_of(turned, known) == "shifted", "though each of its recordings was met"
    assert category_of(turned, known.model_copy(update={"chains": ()})) == "heard", "a card may leave chains out"
    assert category_of(facts(library, recorded("b.wav", snr_db=15.0), codec("amr-nb")), known) == "shifted"
    assert category_of(facts(library, recorded("b.wav", snr_db=15.0), codec("mp3")), known) == "new"
    # the strangest step counts wherever it stands, and a later one that is less strange takes nothing back
    heard, shifted, new = room("office-0-0"), recorded("a.wav", snr_db=-5.0), codec("mp3")
    assert category_of(facts(library, heard, shifted), known) == "shifted"
    assert category_of(facts(library, shifted, new), known) == category_of(facts(library, new, shifted), known) == "new"
    assert category_of(facts(library, heard, recorded("b.wav", snr_db=15.0)), known) == "heard"


def test_what_is_not_known_is_unknown_and_clean_training_makes_everything_new(library):
    steps = facts(library, recorded("a.wav"))
    assert category_of(steps, None) == "unknown"
    assert category_of(steps, TrainedOn.clean()) == "new"
    assert category_of([], TrainedOn.clean()) == "seen"  # a copy to which nothing was done


def test_several_noises_and_lost_packets_are_steps_of_their_own(library):
    parts = [
        {key: value for key, value in step.items() if key not in {"kind", "snr_db"}}
        for step in (recorded("a.wav"), coloured())
    ]
    several = {"kind": "noise", "form": "several", "noises": parts, "snr_db": 4.0}
    assert [(one.kind, one.numbers) for one in facts(library, several)] == [
        ("noise recorded", {"snr_db": 4.0}), ("noise coloured", {"snr_db": 4.0}),
    ]  # fmt: skip
    lossy = {**codec("amr-nb"), "loss": {"percent": 10.0, "conceal": "zeros", "seed": 1, "lost_packets": 4}}
    assert [one.kind for one in facts(library, lossy)] == ["codec narrow-band", "packet loss"]
    assert "lost_packets" not in facts(library, lossy)[1].numbers


def test_a_range_reaches_a_little_beyond_few_draws():
    assert in_trained_range(20.2, (0.0, 19.9), count=30)
    assert not in_trained_range(25.0, (0.0, 19.9), count=30)
    assert not in_trained_range(20.2, (0.0, 19.9), count=5000)
    assert in_trained_range(12.0, (12.0, 12.0), count=1)
    assert not in_trained_range(12.1, (12.0, 12.0), count=1)
    assert not in_trained_range(1.0, None, count=1)


def test_a_corpus_is_summed_up_by_its_samples(tmp_path):
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=3)})
    found = corpus_exposure((str(corpus),), "train")
    assert {kind: met.count for kind, met in found.kinds.items()} == {"noise coloured": 6, "codec narrow-band": 3}
    assert found.kinds["noise coloured"].ranges == {"snr_db": (5.0, 5.0)}
    assert found.chains == (("codec narrow-band",), ("noise coloured",))
    assert set(corpus_exposure((str(corpus),), "train", conditions=("phone",)).kinds) == {"codec narrow-band"}
    assert TrainedOn.parse(found.plain(), where="test") == found


def run_folder(tmp_path, corpus, *, views, teacher="nano"):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_yaml(
        run / "config.yaml", {"corpus": str(corpus), "split": "train", "views": views, "teacher": {"name": teacher}}
    )
    with open_corpus(corpus) as reader:
        write_json(run / "provenance.json", {"corpus_sha256": reader.digest})
    return run


def test_a_run_met_what_its_views_let_it_hear(tmp_path):
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=2)})
    plain = run_folder(tmp_path, corpus, views={"kind": "none"})
    assert exposure_of("plain", RunSource(run=str(plain)), {}) == TrainedOn.clean()
    cdm = run_folder(tmp_path, corpus, views={"kind": "cdm2", "student": {"conditions": ["noise"]}})
    found = exposure_of("cdm2", RunSource(run=str(cdm)), {})
    assert found is not None
    assert set(found.kinds) == {"noise coloured"}


def test_a_run_met_the_copies_of_its_own_split(tmp_path):
    corpus = write_corpus(
        tmp_path / "tiny",
        {"train": tiny_split("train", count=2), "more": tiny_split("more", count=2, members=("phone-0",))},
    )
    run = run_folder(tmp_path, corpus, views={"kind": "cdm1"})
    config = {"corpus": str(corpus), "split": "more", "views": {"kind": "cdm1"}, "teacher": {"name": "nano"}}
    write_yaml(run / "config.yaml", config)
    found = exposure_of("cdm1", RunSource(run=str(run)), {})
    assert found is not None
    assert set(found.kinds) == {"codec narrow-band"}


def test_a_corpus_that_is_gone_or_changed_makes_it_unknown_and_says_why(tmp_path):
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=2)})
    run = run_folder(tmp_path, corpus, views={"kind": "cdm1"})
    write_json(run / "provenance.json", {"corpus_sha256": "0" * 64})
    with pytest.raises(TrainingUnknownError, match="changed since"):
        exposure_of("cdm1", RunSource(run=str(run)), {})
    write_yaml(
        run / "config.yaml", {"corpus": str(tmp_path / "gone"), "views": {"kind": "cdm1"}, "teacher": {"name": "nano"}}
    )
    with pytest.raises(TrainingUnknownError, match=r"corpus.json"):
        exposure_of("cdm1", RunSource(run=str(run)), {})
    TrainedOn.clean().write(run / "trained.json")  # what a record beside the run says needs no corpus
    assert exposure_of("cdm1", RunSource(run=str(run)), {}) == TrainedOn.clean()


def test_corpora_that_were_joined_are_looked_after_too(tmp_path):
    parts = [
        write_corpus(tmp_path / member, {"train": tiny_split("train", count=2, members=(f"{member}-0",))}, name=member)
        for member in ("noise", "phone")
    ]
    run = run_folder(tmp_path, parts[0], views={"kind": "cdm1"})
    config = {"corpus": list(map(str, parts)), "split": "train", "views": {"kind": "cdm1"}, "teacher": {"name": "nano"}}
    write_yaml(run / "config.yaml", config)
    with open_corpus(parts) as reader:
        write_json(run / "provenance.json", {"corpus_sha256": reader.digest})
    found = exposure_of("cdm1", RunSource(run=str(run)), {})
    assert found is not None
    assert set(found.kinds) == {"noise coloured", "codec narrow-band"}
    write_json(run / "provenance.json", {"corpus_sha256": "0" * 64})
    with pytest.raises(TrainingUnknownError, match=r"noise, .*phone changed since"):
        exposure_of("cdm1", RunSource(run=str(run)), {})


def test_the_teacher_is_asked_for_its_card(tmp_path):
    corpus = write_corpus(tmp_path / "tiny", {"train": tiny_split("train", count=1)})
    assert exposure_of("teacher", "nano", {}) == TrainedOn.clean()
    assert exposure_of("teacher", "hubert_base", {}) is None
    run = run_folder(tmp_path, corpus, views={"kind": "none"}, teacher="hubert_base")
    assert teacher_exposure("plain", RunSource(run=str(run)), {}) is None
    card = {
        "trained": {"schema": "stillroom/trained/1", "kinds": {"clip": {"count": 3, "ranges": {"percent": [1.0, 5.0]}}}}
    }
    (tmp_path / "robust").mkdir()
    write_json(tmp_path / "robust/card.json", card)
    run = run_folder(tmp_path, corpus, views={"kind": "none"}, teacher=str(tmp_path / "robust"))
    found = teacher_exposure("plain", RunSource(run=str(run)), {})
    assert found is not None
    assert category_of([StepFacts("clip", None, (), {"percent": 2.0})], found) == "seen"
    write_json(tmp_path / "robust/card.json", {"trained": {"schema": "stillroom/trained/9"}})
    with pytest.raises(TrainingUnknownError, match="pip install"):
        teacher_exposure("plain", RunSource(run=str(run)), {})


def test_the_snr_of_a_copy_is_that_of_its_loudest_noise(tmp_path):
    from manifests.corpus.sample import SampleCopy

    steps = [coloured(snr_db=7.0), coloured(snr_db=3.0)]
    copy = {"name": "n-0", "condition": "n", "domain": "w", "family": "noise", "gain_db": 0.0, "steps": steps}
    assert snr_of(SampleCopy.parse(copy, where="test")) == 3.0
    assert snr_of(SampleCopy.parse({**copy, "steps": [codec("mp3")]}, where="test")) is None


def test_utterances_of_nobody_are_each_a_speaker_of_their_own(tmp_path):
    """A bootstrap draws speakers: as one, all that name none would be drawn together."""
    corpus = write_corpus(tmp_path / "tiny", {"test": tiny_split("test", count=3)})
    with open_corpus(corpus) as reader:
        entries = {
            sample.key: SimpleNamespace(sample=reader.whole_record("test-000000", sample, split="test"))
            for sample in reader.samples("test-000000")
        }
        for number, entry in enumerate(entries.values()):
            entry.sample = entry.sample.model_copy(update={"speaker": None if number else "ann"})
        found = index_test_copies(reader, SimpleNamespace(test=entries, conditions=("noise", "phone")))
    assert len(found.record.speakers) == 3
    assert len(set(found.record.speaker.split())) == 3


@pytest.mark.parametrize(("rate", "band"), [(8.9, "narrow-band"), (9.0, "wide-band"), (None, "wide-band")])
def test_opus_is_wide_band_from_nine_kilobits_on_and_where_its_rate_is_not_known(rate, band):
    assert codec_band("opus", rate) == band


def name_digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_what_is_known_of_each_kind_of_step(library):
    files = [
        {"root": "r", "path": "p.wav", "rate_hz": 16000, "start": 2.5},
        {"root": "r", "path": "q.wav", "rate_hz": 16000, "sha256": "d" * 64},
    ]
    talkers = [{"id": str(number), "speaker": "ann", "file": file, "offset": 7} for number, file in enumerate(files)]
    babble = {"kind": "noise", "form": "babble", "source": "babble", "snr_db": 4.0}
    freeverb = {
        "kind": "freeverb", "reverberance": 50.0, "hf_damping": 40.0, "room_scale": 30.0, "pre_delay_ms": 20.0, "wet_gain_db": -1.0,
        "keep_rms": False,
    }  # fmt: skip
    lossy = {**codec("opus", 6.0), "loss": {"percent": 10.0, "conceal": "zeros", "seed": 1, "lost_packets": 4}}
    unknown = name_digest("r/p.wav@2.5")
    for step, due in (
        ({**babble, "talkers": talkers}, [StepFacts("noise babble", None, (unknown, "d" * 16), {"snr_db": 4.0})]),
        ({**babble, "talkers": talkers[1:]}, [StepFacts("noise talker", None, ("d" * 16,), {"snr_db": 4.0})]),
        (coloured(), [StepFacts("noise coloured", "white", (), {"snr_db": 10.0})]),
        (recorded("a.wav"), [StepFacts("noise recorded", "musan", ("a" * 16,), {"snr_db": 10.0})]),
        (recorded("x.wav"), [StepFacts("noise recorded", "musan", (name_digest("musan/x.wav"),), {"snr_db": 10.0})]),
        (room("office-1-0"), [StepFacts("room simulated", None, ("2" * 16,), {"t30_s": 0.5, "distance_m": 2.0})]),
        (room("big-hall-3-1"), [StepFacts("room simulated", None, (name_digest("big-hall/big-hall-3-1"),), {})]),
        ({"kind": "clip", "percent": 3.0}, [StepFacts("clip", None, (), {"percent": 3.0})]),
        (freeverb, [StepFacts("freeverb", None, (), {key: freeverb[key] for key in list(freeverb)[1:-1]})]),
        (
            lossy,
            [
                StepFacts("codec narrow-band", "opus", (), {"opus bitrate_kbps": 6.0}),
                StepFacts("packet loss", None, (), {"percent": 10.0, "bad_percent": 100.0, "good_percent": 0.0}),
            ],
        ),
    ):
        assert facts(library, step) == due


def test_a_response_of_a_file_is_a_recorded_one_and_its_distance_is_not_known(library):
    rows = [{"name": "taken-0-0", "t30_s": 0.3, "sha256": "9" * 64, "file": {}}]
    library.banks["taken"] = {row["name"]: row for row in rows}
    assert facts(library, room("taken-0-0")) == [StepFacts("room recorded", None, ("9" * 16,), {"t30_s": 0.3})]


@pytest.mark.parametrize(("count", "beyond"), [(1, 1.0), (30, 1.0), (100, 0.3), (3000, 0.01)])
def test_a_range_is_widened_on_both_sides_by_three_draws_and_at_most_a_tenth(count, beyond):
    for value, sign in ((0.0, -1), (10.0, 1)):
        assert in_trained_range(value + sign * (beyond - 1e-3), (0.0, 10.0), count=count)
        assert not in_trained_range(value + sign * (beyond + 1e-3), (0.0, 10.0), count=count)
    assert in_trained_range(8000.004, (8000.0, 8000.0), count=count), "as far as it was rounded"


def test_the_table_of_copies_has_a_row_for_each_wave_in_order(tmp_path):
    splits = tiny_split("test", count=3, members=("phone-0", "noise-0", "noise-1"))
    for utterance, speaker in zip(splits, ("bob", None, "bob"), strict=True):
        utterance.speaker = speaker
        utterance.steps["noise-1"] = coloured(snr_db=-2.5)
    corpus = write_corpus(tmp_path / "tiny", {"test": splits})
    with open_corpus(corpus) as reader:
        entries = {
            one.key: SimpleNamespace(sample=reader.whole_record("test-000000", one, split="test"))
            for one in reader.samples("test-000000")
        }
        found = index_test_copies(reader, SimpleNamespace(test=entries, conditions=("noise", "phone")))
    record = found.record
    assert record.speakers == ("bob", splits[1].id)
    assert record.conditions == ("clean", "noise", "phone")
    assert record.utterance.split() == [number for number in "012" for _ in range(4)]
    assert record.speaker.split() == [number for number in "010" for _ in range(4)]
    assert record.condition.split() == list("0211") * 3
    assert record.snr_db.split() == ["-", "-", "5", "-2.5"] * 3
    members = ("clean", "phone-0", "noise-0", "noise-1")
    assert found.numbers == {
        (key, name): 4 * row + column for row, key in enumerate(entries) for column, name in enumerate(members)
    }
    assert (found.letters(None), found.letters(TrainedOn.clean())) == ("cuuu" * 3, "cnnn" * 3)


def test_a_copy_to_which_nothing_was_done_is_seen_and_is_not_the_clean_wave():
    index = CopyIndex(None, {}, (None, [], [StepFacts("clip", None)]))
    assert (index.letters(TrainedOn.clean()), index.letters(None)) == ("csn", "cuu")


@pytest.mark.parametrize("views", [None, {}, {"student": {}}, {"kind": "none"}, 3])
def test_a_run_without_views_was_trained_on_clean_speech(tmp_path, views):
    write_yaml(tmp_path / "config.yaml", {"corpus": "/gone", "views": views})
    assert exposure_of("m", RunSource(run=str(tmp_path)), {}) == TrainedOn.clean()


@pytest.mark.parametrize(
    ("command", "due"), [(["a", "b"], {"command": ["a", "b"]}), (["a", 3], {}), ("a b", {}), (None, {})]
)
def test_a_command_is_taken_from_a_record_where_it_is_words(tmp_path, command, due):
    assert training_command(tmp_path) == {}
    write_json(tmp_path / "provenance.json", {"command": command})
    assert training_command(tmp_path) == due
