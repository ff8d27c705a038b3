import contextlib
import hashlib
import importlib
import io
import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import torchaudio
from safetensors.torch import load_file

from stillroom.talkers import KEYWORDS, speakers, speech_16k
from training.models.native_format import load_encoder_folder
from training.teacher import load_teacher

HOUSE = Path(__file__).resolve().parents[2]
SCRIPTS = ("units", "crops", "material", "masked", "export", "train_nano", "layers", "purity")
NANO = HOUSE / "training/nano"


@pytest.fixture(scope="module")
def nano():
    """The script's modules by name, as its folder on the path gives them when it is run."""
    sys.path.insert(0, str(HOUSE / "recipes/nano"))
    try:
        yield {name: importlib.import_module(name) for name in SCRIPTS}
    finally:
        sys.path.remove(str(HOUSE / "recipes/nano"))
        for name in SCRIPTS:
            sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def threads_of_before():
    """The scripts set how many threads torch has in their process, which here is that of other tests too."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def speechlike(seconds, seed):
    dice = np.random.RandomState(seed)
    wave = np.convolve(dice.standard_normal(int(seconds * 16_000)), np.hanning(9) / 5, "same")
    return (3000 * wave * (1 + np.sin(np.arange(len(wave)) / 900))).astype(np.int16)


def counting(nano, *, num_frames, first, speaker):
    """An utterance whose samples and units both say which frame they belong to."""
    numbers = np.arange(first, first + num_frames)
    pcm = np.repeat(numbers, 320).astype(np.int16)
    return nano["crops"].Utterance(f"{speaker}{first}", "set", speaker, "", np.append(pcm, pcm[-7:])), numbers


def test_frame_i_of_the_targets_is_the_mfcc_of_the_samples_that_frame_i_of_the_model_hears(nano):
    pcm = speechlike(1.0, 0)
    features = nano["units"].frame_features(pcm)
    assert features.shape == (49, 39)
    for frame in (0, 7, 48):
        heard = torch.from_numpy(pcm[320 * frame : 320 * frame + 400].astype(np.float32) / 32768)[None]
        alone = torchaudio.compliance.kaldi.mfcc(heard, sample_frequency=16_000, use_energy=False)
        np.testing.assert_allclose(features[frame, :13], alone[0].numpy(), rtol=1e-4, atol=1e-3)


def test_features_of_a_layer_are_those_of_the_utterance_alone(nano):
    model = nano["units"].read_model(NANO)
    pcm = speechlike(0.7, 4)
    features = nano["units"].layer_features(model, pcm, layer=3)
    wave = torch.from_numpy(pcm.astype(np.float32) / 32768)[None]
    layers, num_frames = load_teacher("nano").layers(wave, torch.tensor([len(pcm)]))
    assert features.shape == (int(num_frames[0]), 144)
    np.testing.assert_allclose(features, layers[0, 2].numpy(), rtol=1e-4, atol=1e-4)


def test_each_speakers_features_have_zero_mean_and_unit_deviation(nano):
    rng = np.random.RandomState(2)
    speakers = ["a", "b", "a", "b", "a"]
    features = [(3 + 2 * rng.randn(40 + 5 * k, 6) * (k % 2 + 1)).astype(np.float32) for k in range(5)]
    features[1][:, 4] = features[3][:, 4] = 7.0  # a dimension that does not vary
    found = nano["units"].standardised(features, speakers)
    assert [one.shape for one in found] == [one.shape for one in features]
    for speaker in "ab":
        frames = np.concatenate([one for one, who in zip(found, speakers, strict=True) if who == speaker])
        raw = np.concatenate([one for one, who in zip(features, speakers, strict=True) if who == speaker])
        for dimension in range(6):
            if raw[:, dimension].std() == 0:
                assert np.abs(frames[:, dimension]).max() < 1e-3
            else:
                expected = (raw[:, dimension] - raw[:, dimension].mean()) / raw[:, dimension].std()
                np.testing.assert_allclose(frames[:, dimension], expected, atol=1e-4)


def test_a_crop_gives_as_many_frames_as_targets(nano):
    model = nano["masked"].new_model().eval()
    with torch.inference_mode():
        frames, _ = model.feature_extractor(torch.randn(1, 320 * 200 + 80), None)
    assert frames.shape[1] == 200


def test_the_nearest_unit_is_the_one_a_slow_search_finds_and_the_last_is_repeated(nano):
    dice = np.random.RandomState(1)
    features, centres = dice.randn(20, 39).astype(np.float32), dice.randn(7, 39).astype(np.float32)
    slow = [min(range(7), key=lambda unit, row=row: sum((row - centres[unit]) ** 2)) for row in features]
    found = nano["units"].nearest_units(features, centres, num_frames=22)
    assert list(found) == [*slow, slow[-1], slow[-1]]
    assert list(nano["units"].nearest_units(features, centres, num_frames=18)) == slow[:18]


def test_samples_and_units_stay_in_step_through_stringing_and_cutting(nano):
    made = [counting(nano, num_frames=23, first=100 * k, speaker="ab"[k % 2]) for k in range(20)]
    utterances, units = [one for one, _ in made], [numbers for _, numbers in made]
    crops = nano["crops"].epoch_crops(utterances, units, num_frames=30, seed=3, epoch=1)
    assert len(crops) >= 2 * (10 * 23 // 30 - 2)
    for pcm, target in crops:
        assert len(pcm) == 30 * 320 + 80
        assert list(pcm[:9600:320]) == list(target)
        assert len({(value // 100) % 2 for value in target}) == 1  # one speaker


def test_an_epoch_is_a_function_of_seed_and_epoch(nano):
    made = [counting(nano, num_frames=23, first=100 * k, speaker="a") for k in range(20)]
    utterances, units = [one for one, _ in made], [numbers for _, numbers in made]

    def order(seed, epoch):
        crops = nano["crops"].epoch_crops(utterances, units, num_frames=30, seed=seed, epoch=epoch)
        return [tuple(target) for _, target in crops]

    assert order(3, 1) == order(3, 1)
    assert order(3, 1) != order(3, 2)
    assert order(3, 1) != order(4, 1)


def test_too_little_data_for_a_batch_is_an_error_rather_than_an_endless_wait(nano):
    utterance, numbers = counting(nano, num_frames=40, first=0, speaker="a")
    batches = nano["crops"].endless_batches([utterance], [numbers], batch_size=8, num_frames=30, seed=0)
    with pytest.raises(ValueError, match="fewer than a batch of 8"):
        next(batches)


def test_masked_spans_are_what_a_slow_loop_marks(nano):
    mask = nano["masked"].spans((4, 300), start=0.075, span=10, dice=torch.Generator().manual_seed(5))
    starts = torch.rand((4, 300), generator=torch.Generator().manual_seed(5)) < 0.075
    slow = torch.zeros(4, 300, dtype=torch.bool)
    for row, first in starts.nonzero().tolist():
        slow[row, first : first + 10] = True
    assert torch.equal(mask, slow)
    assert 0.35 < mask.float().mean() < 0.7


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero(nano):
    settings = nano["train_nano"].Settings(learning_rate=2.0, warm_up=0.1)
    rates = [nano["train_nano"].learning_rate(settings, progress) for progress in (0, 0.05, 0.1, 0.55, 1.0, 1.1)]
    assert rates == pytest.approx([0, 1.0, 2.0, 1.0, 0, 0])


def test_masked_frames_hide_their_samples(nano):
    predictor = nano["masked"].MaskedPredictor(nano["masked"].new_model(), 10).eval()
    wave = torch.randn(1, 320 * 20 + 80) / 10
    everything = torch.ones(1, 20, dtype=torch.bool)
    with torch.inference_mode():
        assert torch.equal(predictor(wave, everything), predictor(wave.flip(1), everything))
        one = torch.zeros(1, 20, dtype=torch.bool)
        one[0, 3] = True
        assert not torch.equal(predictor(wave, one)[one], predictor(wave.flip(1), one)[one])


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (6, 0.0), (7, 0.5), (50, 0.5)])
def test_visible_frames_count_only_after_so_many_steps(nano, small, step, weight):
    script = nano["train_nano"]
    settings = replace(small, visible_after=7, visible_weight=0.5)
    torch.manual_seed(0)
    predictor = script.MaskedPredictor(script.new_model(), 5)
    batch = nano["crops"].Crops(torch.randn(4, 320 * 40 + 80) / 10, torch.randint(0, 5, (4, 40)))
    dice = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    mask = nano["masked"].spans((4, 40), start=settings.mask_start, span=settings.mask_span, dice=dice)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        surprise = -predictor(batch.wave, mask).float().log_softmax(-1).gather(-1, batch.units[..., None])[..., 0]
    found = script.update(predictor, script.new_optimiser(predictor), batch, settings, step=step)
    assert found == pytest.approx(float(surprise[mask].mean() + weight * surprise[~mask].mean()), rel=1e-3)


@pytest.fixture
def data(tmp_path):
    """A small folder as prepare.py writes it."""
    for number, (split, set_name, word) in enumerate(
        [("train", "asterisk-en", "")] * 6
        + [("dev", "asterisk-en", "")] * 4
        + [("test", "asterisk-en", "")]
        + [(split, "espeak-keywords", word) for split in ("train", "test") for word in ("yes", "no")]
        + [("train", "fillets-cs", "")]
    ):
        folder = tmp_path / "data/speech" / split
        folder.mkdir(parents=True, exist_ok=True)
        table = folder / "labels.csv"
        if not table.exists():
            table.write_text("path,id,set,speaker,language,text,word\n")
        sf.write(folder / f"{number}.flac", speechlike(1.5, number), 16_000, subtype="PCM_16")
        with table.open("a") as file:
            file.write(f"{number}.flac,{set_name}/{number},{set_name},a,en,,{word}\n")
    return tmp_path / "data"


@pytest.fixture
def small(nano, monkeypatch):
    model = {**nano["masked"].MODEL, "extractor_conv_layer_config": [[8, 10, 5]] + [[8, 3, 2]] * 4 + [[8, 2, 2]] * 2}
    model |= {
        "encoder_embed_dim": 16,
        "encoder_num_layers": 2,
        "encoder_ff_interm_features": 16,
        "encoder_num_heads": 2,
    }
    model |= {"encoder_pos_conv_kernel": 8, "encoder_pos_conv_groups": 4}
    for module in ("masked", "train_nano"):
        monkeypatch.setattr(nano[module], "MODEL", model)
    monkeypatch.setattr(nano["train_nano"], "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(nano["train_nano"], "LOG_EVERY", 2)
    return nano["train_nano"].Settings(
        steps=5, minutes=1e6, batch_size=4, crop_frames=40, num_units=5, interim_minutes=1e6, threads=1
    )


def test_the_whole_script_leaves_a_folder_that_a_teacher_can_be_read_from(nano, small, data, tmp_path, capfd):
    nano["train_nano"].train(data, tmp_path / "out", tmp_path / "scratch", small)
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "card.json",
        "config.json",
        "heard.txt",
        "weights.safetensors",
    ]
    config = json.loads((out / "config.json").read_text())
    assert config.pop("sample_rate") == 16_000
    assert config.pop("pretrained_as") == "hubert"
    model = torchaudio.models.wav2vec2_model(**config)
    weights = load_file(out / "weights.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    model.load_state_dict(weights)
    card = json.loads((out / "card.json").read_text())
    assert (card["steps"], card["finished"], card["units"]) == (5, True, 5)
    assert {entry["set"] for entry in card["data"]} == {"asterisk-en", "espeak-keywords"}  # the dialogues are left out
    assert str(tmp_path) not in (out / "card.json").read_text()
    assert "dev masked accuracy" in capfd.readouterr().out


def test_heard_lists_the_digest_of_each_training_utterance_and_no_other(nano, small, data, tmp_path):
    nano["train_nano"].train(data, tmp_path / "out", tmp_path / "scratch", small)
    heard = (tmp_path / "out/heard.txt").read_text().split()
    train = [*range(6), 11, 12]
    expected = [
        hashlib.sha256(
            sf.read(data / f"speech/train/{number}.flac", dtype="int16")[0].astype("<i2").tobytes()
        ).hexdigest()
        for number in train
    ]
    assert heard == sorted(digest[:16] for digest in expected)


class StopsAt(io.StringIO):
    """Output that is interrupted, as by Ctrl-C, when a line begins with some words."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def write(self, text):
        if text.startswith(self.words):
            raise KeyboardInterrupt
        return super().write(text)


def test_a_run_stopped_and_begun_again_ends_with_the_same_weights(nano, small, data, tmp_path, capfd):
    script = nano["train_nano"]
    script.train(data, tmp_path / "straight", tmp_path / "scratch1", small)
    with contextlib.redirect_stdout(StopsAt("step 4 ")), pytest.raises(KeyboardInterrupt):
        script.train(data, tmp_path / "stopped", tmp_path / "scratch2", small)
    assert not (tmp_path / "stopped").exists()
    capfd.readouterr()
    script.train(data, tmp_path / "stopped", tmp_path / "scratch2", small)
    assert "goes on from step 2\n" in capfd.readouterr().out  # its checkpoint of step 4 was not yet written
    first, second = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("straight", "stopped"))
    assert first == second


@pytest.fixture
def second(nano, small, data, tmp_path):
    """A first iteration's model, and the settings of a second."""
    nano["train_nano"].train(data, tmp_path / "first", tmp_path / "scratch0", small)
    return tmp_path / "first", replace(small, layer=1, num_units=7, visible_after=0)


def test_the_second_iteration_starts_from_the_first_ones_weights_and_learns_clusters_of_its_layer(
    nano, second, data, tmp_path
):
    script, units = nano["train_nano"], nano["units"]
    first, settings = second
    script.train(data, tmp_path / "out", tmp_path / "scratch1", replace(settings, steps=1, learning_rate=0.0), first)
    before, after = (load_file(folder / "weights.safetensors") for folder in (first, tmp_path / "out"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    material = script.read_material(data, settings, first)
    model = units.read_model(first)
    features = units.standardised(
        [units.layer_features(model, one.pcm, layer=1) for one in material.heard],
        [one.speaker for one in material.heard],
    )
    assert material.centres.shape == (7, 16)
    for feature, found in zip(features, material.units, strict=True):
        slow = [min(range(7), key=lambda unit, row=row: sum((row - material.centres[unit]) ** 2)) for row in feature]
        assert list(found[: len(slow)]) == slow


def test_a_second_iteration_says_what_it_came_from_and_lists_what_the_first_was_trained_on(
    nano, second, data, tmp_path
):
    first, settings = second
    (first / "heard.txt").write_text("00000000000000ff\n" + (first / "heard.txt").read_text())
    nano["train_nano"].train(data, tmp_path / "out", tmp_path / "scratch1", replace(settings, steps=1), first)
    card = json.loads((tmp_path / "out/card.json").read_text())
    sha256 = hashlib.sha256((first / "weights.safetensors").read_bytes()).hexdigest()
    assert card["started_from"] == {"weights_sha256": sha256, "layer": 1}
    assert "second iteration" in card["description"]
    digests = (tmp_path / "out/heard.txt").read_text().split()
    assert digests == sorted({*(first / "heard.txt").read_text().split()})
    assert load_encoder_folder(tmp_path / "out", name="second").trained_on == frozenset(digests)


def test_a_second_iteration_stopped_and_begun_again_ends_with_the_same_weights(nano, second, data, tmp_path, capfd):
    script = nano["train_nano"]
    first, settings = second
    script.train(data, tmp_path / "straight", tmp_path / "scratch1", settings, first)
    with contextlib.redirect_stdout(StopsAt("step 4 ")), pytest.raises(KeyboardInterrupt):
        script.train(data, tmp_path / "stopped", tmp_path / "scratch2", settings, first)
    capfd.readouterr()
    script.train(data, tmp_path / "stopped", tmp_path / "scratch2", settings, first)
    assert "goes on from step 2\n" in capfd.readouterr().out
    one, two = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("straight", "stopped"))
    assert one == two
    assert one != (first / "weights.safetensors").read_bytes()


def test_a_checkpoint_of_other_units_is_refused(nano, second, data, tmp_path):
    script = nano["train_nano"]
    first, settings = second
    script.train(data, tmp_path / "out", tmp_path / "scratch1", replace(settings, steps=2), first)
    for other in ({"layer": 2}, {"num_units": 6}):
        with pytest.raises(script.OtherUnitsError, match="choose another --scratch"):
            script.train(data, tmp_path / "out", tmp_path / "scratch1", replace(settings, **other), first)
    with pytest.raises(script.OtherUnitsError, match="teacher_sha256"):  # other weights
        script.train(data, tmp_path / "out", tmp_path / "scratch1", settings, tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "3"], "give --teacher FOLDER"),
        (["--teacher", "nowhere"], "nowhere holds no weights.safetensors"),
        (["--teacher", str(NANO), "--layer", "9"], "has layers 1 to 8"),
    ],
)
def test_a_second_iteration_without_its_first_is_one_clear_line(
    nano, data, monkeypatch, tmp_path, capsys, words, message
):
    command = ["train_nano.py", str(data), str(tmp_path / "out"), "--scratch", str(tmp_path / "s"), *words]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        nano["train_nano"].main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_pnmi_is_the_share_of_the_phones_entropy_that_a_slow_count_finds(nano):
    rng = np.random.RandomState(3)
    phones = rng.randint(0, 5, 400)
    units = np.where(rng.rand(400) < 0.6, phones * 2, rng.randint(0, 10, 400))
    entropy = information = 0.0
    for phone in range(5):
        share = np.mean(phones == phone)
        entropy -= share * np.log(share)
        for unit in range(10):
            joint = np.mean((phones == phone) & (units == unit))
            if joint:
                information += joint * np.log(joint / (share * np.mean(units == unit)))
    assert nano["purity"].pnmi(phones, units) == pytest.approx(information / entropy, rel=1e-9)
    assert nano["purity"].pnmi(phones, phones + 7) == pytest.approx(1)


def test_a_unit_is_named_by_its_commonest_phone_elsewhere_and_a_new_one_is_wrong(nano):
    known_phones, known_units = np.array([0, 0, 1, 2, 2, 1]), np.array([5, 5, 5, 6, 6, 7])
    phones, units = np.array([0, 1, 2, 1, 0]), np.array([5, 5, 6, 7, 9])
    right = nano["purity"].named_accuracy(phones, units, known_phones=known_phones, known_units=known_units)
    assert right == pytest.approx(3 / 5)


def test_every_layer_of_a_cut_encoder_is_that_layer_of_the_whole(nano, tmp_path):
    wave, num_samples = torch.randn(1, 16000) / 10, torch.tensor([16000])
    whole, _ = load_teacher("nano").layers(wave, num_samples)
    for layers in (1, 5, 8):
        nano["layers"].cut(NANO, tmp_path / str(layers), layers=layers)
        found, _ = load_encoder_folder(tmp_path / str(layers), name="cut").layers(wave, num_samples)
        assert found.shape[1] == layers
        torch.testing.assert_close(found[:, -1], whole[:, layers - 1])


def test_training_lowers_the_loss(nano, small, data):
    script = nano["train_nano"]
    torch.manual_seed(0)
    material = script.read_material(data, small)
    predictor = script.MaskedPredictor(script.new_model(), small.num_units)
    optimiser = script.new_optimiser(predictor)
    for group in optimiser.param_groups:
        group["lr"] = 2e-3
    before, _ = script.masked_accuracy(predictor, material.dev, small)
    batches = nano["crops"].endless_batches(material.heard, material.units, batch_size=4, num_frames=40, seed=0)
    for step, batch in enumerate(islice(batches, 40)):
        script.update(predictor, optimiser, batch, small, step=step)
    after, _ = script.masked_accuracy(predictor, material.dev, small)
    assert after < before - 0.1


def test_a_folder_without_tables_is_one_clear_line(nano, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        sys, "argv", ["train_nano.py", str(tmp_path), str(tmp_path / "out"), "--scratch", str(tmp_path / "s")]
    )
    with pytest.raises(SystemExit) as caught:
        nano["train_nano"].main()
    assert caught.value.code == 2
    assert "run recipes/realdata/prepare.py" in capsys.readouterr().err


def test_the_shipped_nano_is_small_and_a_two_layer_student_of_it_much_smaller():
    config = json.loads((NANO / "config.json").read_text())
    assert config.pop("sample_rate") == 16_000
    assert config.pop("pretrained_as") == "hubert"
    teacher = torchaudio.models.wav2vec2_model(**config)
    student = torchaudio.models.wav2vec2_model(**{**config, "encoder_num_layers": 2})
    size = {
        name: sum(p.numel() for p in model.parameters()) for name, model in (("teacher", teacher), ("student", student))
    }
    assert config["encoder_num_layers"] >= 8
    assert size["student"] <= 0.35 * size["teacher"]
    assert (NANO / "weights.safetensors").stat().st_size <= 5_000_000
    assert not [path for path in NANO.iterdir() if path.suffix in {".pt", ".pth", ".pkl", ".bin", ".npy"}]


def test_the_shipped_card_says_what_it_must_and_its_training_was_finished():
    card = json.loads((NANO / "card.json").read_text())
    assert card["schema"] == "stillroom/card/1"
    assert card["finished"] is True
    assert card["keyword_accuracy"] >= 0.9
    assert not [entry["set"] for entry in card["data"] if entry["set"].startswith("fillets")]
    assert {
        "steps",
        "minutes",
        "machine",
        "dev_masked_accuracy",
        "units",
        "parameters",
        "script",
        "arguments",
        "versions",
    } <= set(card)
    lines = (NANO / card["heard"]).read_text().splitlines()
    assert lines == sorted(set(lines))
    assert all(len(line) == 16 and set(line) <= set("0123456789abcdef") for line in lines)
    assert "ShareAlike 4.0" in (NANO / "LICENSE").read_text()


def test_the_shipped_nano_tells_keywords_apart_by_voices_it_never_heard(nano):
    config = json.loads((NANO / "config.json").read_text())
    del config["sample_rate"], config["pretrained_as"]
    model = torchaudio.models.wav2vec2_model(**config).eval()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(NANO / "weights.safetensors").items()})

    def pooled(split, step):
        features, words = [], []
        for voice in speakers(split)[::step]:
            for word in KEYWORDS:
                wave = torch.from_numpy(speech_16k(word, voice))[None]
                with torch.inference_mode():
                    features.append(model.extract_features(wave)[0][-1][0].mean(0))
                words.append(KEYWORDS.index(word))
        return torch.stack(features), torch.tensor(words)

    known, unseen = pooled("train", 4), pooled("test", 3)
    centre, spread = known[0].mean(0), known[0].std(0)
    probe = torch.nn.Linear(known[0].shape[1], 16)
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(probe.parameters(), 0.03, weight_decay=1e-3)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(probe((known[0] - centre) / spread), known[1]).backward()
        optimiser.step()
    right = (probe((unseen[0] - centre) / spread).argmax(-1) == unseen[1]).float().mean()
    assert right > 0.75  # chance is 0.06; a quarter of the voices is enough to tell a trained model from a broken file
