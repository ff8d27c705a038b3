import json
from collections import Counter

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_builder.plan.materials.seeded_random import rng_for, weighted_index
from corpus_builder.plan.materials.split_materials import FilePool
from corpus_builder.render.corpus_waves import CorpusWaves
from corpus_builder.verify.verify_corpus import verify
from manifests.errors import BadDocumentError
from manifests.recipe.recipe import Recipe

RATE = 16_000


class File:
    def __init__(self, num_samples):
        self.num_samples = num_samples


def counted(draw, times=6000):
    return Counter(draw(rng_for(1, "train", f"u{number}", "c-0", "x")) for number in range(times))


def within_four_errors(counts, chances, times=6000):
    for name, chance in chances.items():
        error = (chance * (1 - chance) / times) ** 0.5
        assert abs(counts[name] / times - chance) <= 4 * error + 1e-12, (name, counts[name])


@settings(max_examples=10, derandomize=True, deadline=None)
@given(weights=st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(lambda found: sum(found) > 0.01))
def test_weighted_draws_come_as_often_as_their_weights_say(weights):
    counts = counted(lambda dice: weighted_index(weights, dice))
    within_four_errors(counts, {place: weight / sum(weights) for place, weight in enumerate(weights)})
    assert all(weights[place] > 0 for place in counts)


def test_files_are_drawn_alike_or_by_their_length():
    files = (File(1000), File(9000), File(30_000))
    alike = counted(lambda dice: FilePool(files, by_length=False).drawn(dice))
    within_four_errors(alike, dict.fromkeys(files, 1 / 3))
    long = counted(lambda dice: FilePool(files, by_length=True).drawn(dice))
    within_four_errors(long, {file: file.num_samples / 40_000 for file in files})


def noisy_lab(lab, **step):
    """A hundred short utterances; two noise corpora: `few` has one long file in the split, `many` three short ones."""
    lab.without_rooms()
    for number in range(60):
        lab.speech("train", f"s{number % 5}", f"w{number}", seed=number, seconds=0.05)
    for name, seconds in (("few/a", 4.0), ("many/b", 0.5), ("many/c", 0.5), ("many/d", 1.0)):
        wave = np.random.default_rng(1).standard_normal(round(seconds * RATE)) * 1000
        (lab.folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(lab.folder / f"{name}.wav", wave.astype(np.int16), RATE)
    lab.recipe["noises"] = {
        "few": {"dir": "few", "split": "shared"},
        "many": {"dir": "many", "split": "shared"},
        "white": {"colour": "white"},
        "shaped": {"colour": "speech"},
        "talker": {"talkers": 1},
        "babble": {"talkers": 2},
    }
    lab.recipe["conditions"] = {"noise": {"steps": [{"kind": "noise", "snr_db": {"uniform_int": [10, 19]}, **step}]}}
    lab.recipe["copies"] = {"train": {"noise": 10}, "test": {}}
    return lab


def planned_steps(lab):
    lab.plan()
    return [copy.steps[0] for row in lab.rows() for copy in row.copies]


def test_snrs_of_whole_numbers_are_whole_and_all_come(lab):
    steps = planned_steps(noisy_lab(lab, **{"from": ["few", "many"]}))
    assert {step.snr_db for step in steps} == set(range(10, 20))


@pytest.mark.parametrize(
    ("step", "chances"),
    [
        ({"from": ["few", "many"]}, {"few": 0.5, "many": 0.5}),
        ({"from": ["few", "many"], "draw": "source"}, {"few": 0.5, "many": 0.5}),
        ({"from": ["few", "many"], "draw": "file"}, {"few": 1 / 4, "many": 3 / 4}),
        ({"from": ["few", "many"], "draw": "duration"}, {"few": 4 / 6, "many": 2 / 6}),
        ({"from": {"few": 1, "many": 4}}, {"few": 0.2, "many": 0.8}),
        ({"from": {"few": 1, "many": 4}, "draw": "duration"}, {"few": 0.2, "many": 0.8}),
        ({"from": {"few": 1, "white": 2, "babble": 1}, "draw": "file"}, {"few": 0.25, "white": 0.5, "babble": 0.25}),
    ],
)
def test_sources_are_drawn_by_source_file_duration_or_weight(lab, step, chances):
    steps = planned_steps(noisy_lab(lab, **step))
    assert len(steps) == 680
    within_four_errors(Counter(step.source for step in steps), chances, times=len(steps))


def test_within_a_weighted_source_a_second_of_noise_has_the_same_chance_if_that_is_asked(lab):
    steps = planned_steps(noisy_lab(lab, **{"from": {"many": 1}, "draw": "duration"}))
    within_four_errors(
        Counter(step.recording for step in steps), {"b.wav": 0.25, "c.wav": 0.25, "d.wav": 0.5}, times=len(steps)
    )


def test_noise_without_files_cannot_be_drawn_by_file(lab):
    noisy_lab(lab, **{"from": ["few", "white"], "draw": "file"})
    with pytest.raises(BadDocumentError, match=r"conditions.noise.steps.0.draw: 'white' has no files"):
        Recipe.parse(lab.recipe, where="recipe")


def test_several_noises_are_drawn_in_the_number_asked_for(lab):
    steps = planned_steps(noisy_lab(lab, **{"from": ["few", "white", "babble"], "count": {"uniform_int": [1, 3]}}))
    numbers = Counter(len(getattr(step, "noises", "1")) for step in steps)
    within_four_errors(numbers, dict.fromkeys((1, 2, 3), 1 / 3), times=len(steps))
    three = next(step for step in steps if len(getattr(step, "noises", "1")) == 3)
    seeds = [noise.seed for step in steps for noise in getattr(step, "noises", ()) if noise.form == "coloured"]
    assert len(set(seeds)) == len(seeds)
    assert set(three.source.split("+")) <= {"few", "white", "babble"}


def test_more_of_something_else_moves_no_draw(lab):
    """Count, draw and over are added to a step: what was drawn without them is drawn with them."""
    plain = planned_steps(noisy_lab(lab, **{"from": ["few", "many", "babble"]}))
    lab.recipe["conditions"]["noise"]["steps"][0] |= {"count": 1, "draw": "source", "over": "active"}
    lab.plan("again")
    again = [copy.steps[0] for row in lab.rows("again") for copy in row.copies]
    assert [step.model_copy(update={"over": "whole"}) for step in again] == plain


def test_an_interfering_talker_has_others_in_reserve_and_is_never_the_speaker(lab):
    noisy_lab(lab, **{"from": ["talker"]})
    lab.plan()
    for row in lab.rows():
        for copy in row.copies:
            (step,) = copy.steps
            assert len(step.talkers) == 1
            assert len(step.spare) == 3
            assert row.speaker not in {talker.speaker for talker in (*step.talkers, *step.spare)}


def test_without_labels_what_is_cut_from_one_recording_is_one_person(lab):
    """Two long recordings in a manifest without speakers: babble is never made of the recording itself."""
    lab.without_rooms()
    cuts = []
    for name in ("a", "b"):
        wave = np.random.default_rng(3).standard_normal(10 * RATE) * 500
        soundfile.write(lab.folder / f"{name}.wav", wave.astype(np.int16), RATE)
        recording = {
            "id": name, "sources": [{"type": "file", "channels": [0], "source": str(lab.folder / f"{name}.wav")}],
            "sampling_rate": RATE, "num_samples": 10 * RATE, "duration": 10.0, "channel_ids": [0],
        }  # fmt: skip
        cuts += [
            {"id": f"{name}{start}", "start": float(start), "duration": 1.0, "channel": 0, "supervisions": [],
             "recording": recording, "type": "MonoCut"}
            for start in range(10)
        ]  # fmt: skip
    (lab.folder / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    lab.recipe["speech"] = {"train": {"cuts": "cuts.jsonl"}}
    lab.recipe["noises"] = {"talker": {"talkers": 1}}
    lab.recipe["conditions"] = {"noise": {"steps": [{"kind": "noise", "from": ["talker"], "snr_db": 0}]}}
    lab.recipe["copies"] = {"train": {"noise": 3}}
    lab.plan()
    for row in lab.rows():
        for copy in row.copies:
            assert copy.steps[0].talkers[0].id[0] != row.id[0]


def test_speech_shaped_noise_has_the_long_term_spectrum_of_its_split(lab):
    """The voices are given a spectrum of their own; the noise that comes out of the corpus has it too, within 2 dB."""
    noisy_lab(lab, **{"from": ["shaped"], "over": "active"})
    chance = np.random.default_rng(0)
    for path in (lab.folder / "speech" / "train").rglob("*.wav"):
        spectrum = np.fft.rfft(chance.standard_normal(2 * RATE))
        frequency = np.linspace(0, 1, spectrum.size)
        wave = np.fft.irfft(spectrum * 10 ** (-(30 * frequency + 10 * (frequency > 0.5)) / 20))
        soundfile.write(path, np.rint(wave / np.std(wave) * 2000).astype(np.int16), RATE)
    lab.recipe["copies"]["train"]["noise"] = 1
    assert lab.build().corpus is not None
    (row,) = [json.loads(line) for line in (lab.folder / "corpus/plan/spectra.jsonl").read_text().splitlines()]
    assert (row["split"], row["rate_hz"], row["utterances"]) == ("train", RATE, 68)
    asked_db = -np.array([30 * place + 10 * (place > 0.5) for place in np.linspace(0, 1, len(row["power_db"]))])
    found_db = np.array(row["power_db"])
    middle = slice(4, 120)
    assert np.ptp((found_db - asked_db)[middle]) < 2.0
    waves = CorpusWaves(lab.folder / "corpus", roots={}, rate_hz=RATE)
    np.testing.assert_array_equal(waves.spectrum("train"), found_db)
    with pytest.raises(BadDocumentError, match="has no spectrum of 'test'"):
        waves.spectrum("test")


def test_a_spectrum_counts_loud_and_soft_recordings_alike(lab):
    """One recording of a loud low tone, one of a soft high one: the spectrum of the split has both tones equally strong."""
    noisy_lab(lab, **{"from": ["shaped"]})
    for path in (lab.folder / "speech" / "train").rglob("*.wav"):
        path.unlink()
    time_s = np.arange(RATE) / RATE
    for name, frequency_hz, size in (("low", 500, 16_000), ("high", 3000, 160)):
        wave = np.rint(size * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.int16)
        soundfile.write(lab.folder / f"speech/train/s0/{name}.wav", wave, RATE)
    lab.plan()
    (row,) = [json.loads(line) for line in (lab.folder / "plan/plan/spectra.jsonl").read_text().splitlines()]
    power_db = np.array(row["power_db"])
    low, high = (round(frequency_hz / (RATE / 2) * (power_db.size - 1)) for frequency_hz in (500, 3000))
    assert power_db[low] == pytest.approx(power_db[high], abs=0.3)
    assert max(power_db[low], power_db[high]) == 0.0
    assert row["utterances"] == 2


def test_a_spectrum_is_that_of_the_utterances_and_not_of_the_rest_of_their_recordings(lab):
    """One recording, a low tone and then a high one; the utterances are cut out of the second half, so the spectrum has the high tone."""
    noisy_lab(lab, **{"from": ["shaped"]})
    time_s = np.arange(2 * RATE) / RATE
    wave = 5000 * np.sin(2 * np.pi * np.where(time_s < 1.0, 500, 3000) * time_s)
    soundfile.write(lab.folder / "long.wav", np.rint(wave).astype(np.int16), RATE)
    recording = {
        "id": "long", "sources": [{"type": "file", "channels": [0], "source": str(lab.folder / "long.wav")}],
        "sampling_rate": RATE, "num_samples": 2 * RATE, "duration": 2.0, "channel_ids": [0],
    }  # fmt: skip
    cuts = [
        {"id": f"c{start}", "start": start, "duration": 0.5, "channel": 0, "supervisions": [], "recording": recording,
         "type": "MonoCut"}
        for start in (1.0, 1.5)
    ]  # fmt: skip
    (lab.folder / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    lab.recipe["speech"]["train"] = {"cuts": "cuts.jsonl"}
    lab.plan()
    (row,) = [json.loads(line) for line in (lab.folder / "plan/plan/spectra.jsonl").read_text().splitlines()]
    power_db = np.array(row["power_db"])
    low, high = (round(frequency_hz / (RATE / 2) * (power_db.size - 1)) for frequency_hz in (500, 3000))
    assert row["utterances"] == 2
    assert power_db[high] == 0.0
    assert power_db[low] < -40.0


def test_every_new_kind_of_noise_is_built_and_the_stranger_finds_nothing(lab):
    noisy_lab(
        lab, **{"from": ["few", "shaped", "talker", "babble"], "count": {"uniform_int": [1, 4]}, "over": "active"}
    )
    lab.recipe["copies"]["train"]["noise"] = 2
    built = lab.build()
    assert built.corpus is not None
    assert (lab.folder / "corpus/refused.jsonl").read_text() == ""
    report = verify(lab.folder / "corpus", level="pcm")
    assert not report.findings


def test_a_noise_shorter_than_a_millisecond_is_refused_by_name_and_a_longer_one_is_repeated(lab):
    noisy_lab(lab, **{"from": ["few"]})
    for name, size in (("tick", 10), ("tock", 32)):
        soundfile.write(lab.folder / f"few/{name}.wav", np.resize(np.array([5000, -5000], np.int16), size), RATE)
    lab.recipe["copies"]["train"]["noise"] = 2
    plan, _ = lab.plan()
    assert [(one.id, one.reason) for one in plan.refused] == [("tick.wav", "tick.wav is shorter than a millisecond")]
    recordings = {copy.steps[0].recording for row in lab.rows() for copy in row.copies}
    assert recordings == {"a.wav", "tock.wav"}
    assert lab.build().corpus is not None


def test_a_source_of_nothing_but_ticks_is_one_clear_line(lab):
    noisy_lab(lab, **{"from": ["few"]})
    soundfile.write(lab.folder / "few/a.wav", np.full(10, 5000, dtype=np.int16), RATE)
    with pytest.raises(BadDocumentError, match=r"noises\.few: no noise is left for split 'train'") as told:
        lab.plan()
    assert "\n" not in str(told.value)
