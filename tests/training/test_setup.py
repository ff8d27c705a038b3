"""What is checked before the first step, and the domain probe."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, UsageError
from manifests.io.json_yaml import write_json
from tests.training.conftest import write_corpus, write_teacher
from training import sanity_check, setup
from training.config.load import resolved, run_config
from training.config.model import StudentShape
from training.config.schema import Adversary, Batch, Staging, TrainConfig
from training.data.joined_corpus import open_corpus
from training.data.sampler import Batching, Crop, CropGrid, Cursor
from training.data.view_keys import Views
from training.data.views import Copy, Pair
from training.distillation.adversary import NoAdversary
from training.distillation.critic import Critic
from training.loop import distil
from training.models.native_format import trained_on_beside
from training.models.student import Student
from training.runs.distributed import Ranks
from training.runs.resume import Checkpoints
from training.sanity_check import (
    FirstBatchError,
    check_first_batch,
    check_pairs,
    check_waves,
    full_ids,
    is_silent,
)
from training.setup import (
    adversary_of,
    batching_of,
    checked_rate,
    checkpoints_of,
    families_in_training,
    make_student,
    set_up,
    stream_of,
    with_usable_domain,
)
from training.stream import Sources, pairs
from training.teacher import load_teacher
from training.validation.domain_probe import (
    Accuracy,
    DomainProbe,
    LabelledFeatures,
    evenly_spaced,
    fitted_predictions,
    probe_accuracy,
    visibility_warning,
)
from training.validation.utterances import FixedUtterances, shared_copies


def first_batch(folder, **options):
    said = []
    stream = pairs(folder, utterances=4, **options)
    with open_corpus(stream.corpus) as reader:
        check_first_batch(stream, reader, report=said.append)
    return said


def test_a_good_corpus_passes_without_a_word(corpus):
    assert first_batch(corpus, views="cdm2") == []
    assert first_batch(corpus, views="none") == []


def test_silence_is_found_before_hours_are_spent(tmp_path):
    write_corpus(tmp_path / "silent", shards=1, volume=0.0)
    with pytest.raises(FirstBatchError, match=r"all 4 utterances of the first batch are silent \(under -80 dBFS\)"):
        first_batch(tmp_path / "silent", views="cdm1")


@pytest.mark.parametrize("view", ["teacher_wave", "student_wave"])
def test_silence_of_one_of_the_two_views_is_enough_to_be_found(corpus, view):
    """A copy of zeros beside good clean speech, or the other way round; padding is no silence."""
    stream = pairs(corpus, views="cdm1", utterances=4)
    with open_corpus(stream.corpus) as reader:
        (batch,) = itertools.islice(stream.micro_batches(Sources(reader)), 1)
        said = []
        check_waves(stream, reader, [batch], report=said.append)
        assert said == []
        waves = getattr(batch, view).clone()
        waves[2] = 0.0
        check_waves(stream, reader, [dataclasses.replace(batch, **{view: waves})], report=said.append)
        assert len(said) == 1
        assert (
            f"1 of 4 utterances of the first batch are silent: {full_ids(stream, reader, batch.cursor, only=[batch.keys[2]])}"
            in said[0]
        )
        silent = dataclasses.replace(batch, **{view: torch.zeros_like(waves)})
        with pytest.raises(FirstBatchError, match="all 4 utterances of the first batch are silent"):
            check_waves(stream, reader, [silent], report=said.append)


def test_copies_that_are_the_clean_utterance_are_found(tmp_path):
    write_corpus(tmp_path / "same", shards=1, distort=False)
    with pytest.raises(FirstBatchError, match="in all 4 pairs of the first batch the two copies hold the same samples"):
        first_batch(tmp_path / "same", views="cdm2")
    assert first_batch(tmp_path / "same", views="none") == []


def test_views_without_a_copy_that_keeps_the_content_are_refused(tmp_path):
    write_corpus(tmp_path / "pitched", shards=1, copies=("pitch-0", "pitch-1"))
    with pytest.raises(FirstBatchError, match="8 of the first 8 utterances have no copy that fits views cdm2"):
        first_batch(tmp_path / "pitched", views="cdm2")
    assert first_batch(tmp_path / "pitched", views="cdm1") == []
    anything = Views.model_validate({"kind": "cdm2", "teacher": {"content": "any"}})
    assert first_batch(tmp_path / "pitched", views=anything) == []
    write_corpus(tmp_path / "half", shards=1, copies=("pitch-0", "noise-0"))
    said = first_batch(tmp_path / "half", views="cdm2")
    assert len(said) == 1
    assert "clean speech is used instead" in said[0]


def test_utterances_are_named_by_their_full_ids(corpus):
    stream = pairs(corpus, utterances=12, views="cdm1")
    with open_corpus(corpus) as reader:
        named = full_ids(stream, reader, Cursor(0, 0, 1))
        assert (named.count("/utt."), named.count("more")) == (8, 0), "two shards of 8 are two batches of 8"
        named = full_ids(pairs(corpus, utterances=16, views="cdm1"), reader, Cursor(1, 0, 0))
    assert named.count("/utt.") == 8
    assert named.endswith(" and 8 more")


def test_families_come_from_the_records(corpus):
    stream = pairs(corpus, views="cdm1")
    with open_corpus(corpus) as reader:
        assert families_in_training(stream, reader) == {"noise", "codec", "room"}
        only = pairs(corpus, views=Views.model_validate({"kind": "cdm1", "student": {"conditions": ["room"]}}))
        assert families_in_training(only, reader) == {"room"}


def config(corpus, **batch):
    return TrainConfig.model_validate(
        {"schema": TrainConfig.SCHEMA, "corpus": str(corpus), "teacher": {"name": "nano"}, "batch": Batch(**batch)}
    )


def test_a_window_larger_than_the_split_is_cut_to_it_and_said(corpus):
    said = []
    with open_corpus(corpus) as reader:
        wide = batching_of(
            config(corpus, lanes=2, window_shards=9), reader, rate_hz=16000, hop_samples=320, report=said.append
        )
        assert wide.window_shards == 2
        assert len(said) == 1
        assert "batch.window_shards: 9 of 2 lanes are 18 shards, the split train has 3: cut to 2" in said[0]
        usual = batching_of(config(corpus, lanes=2), reader, rate_hz=16000, hop_samples=320, report=said.append)
        assert (usual.window_shards, len(said)) == (2, 1)
        together = config(corpus, lanes=2, window_shards=2)  # of each lane less than the split has, of both more
        batching_of(together, reader, rate_hz=16000, hop_samples=320, report=said.append)
        assert "2 of 2 lanes are 4 shards" in said[1]


def test_a_heard_file_cut_at_the_end_of_a_line_is_noticed(tmp_path):
    folder = write_teacher(tmp_path / "teacher")
    (folder / "heard.txt").write_text("0123456789abcdef\n1123456789abcdef\n")
    assert len(trained_on_beside(folder)) == 2
    digest = "e1b55c8c2ad3a3a0d5a1d0b0a2e7e5fd"
    write_json(folder / "card.json", {"heard_sha256": digest})
    with pytest.raises(DigestMismatchError, match=r"heard\.txt"):
        load_teacher(folder)
    (folder / "heard.txt").unlink()
    with pytest.raises(MissingFileError, match="no test may be made on that"):
        load_teacher(folder)
    write_json(folder / "card.json", {})
    assert load_teacher(folder).trained_on == frozenset()
    (folder / "heard.txt").write_text("0123456789abcdef\nshort\n")
    with pytest.raises(BadDocumentError, match="16 hex digits"):
        load_teacher(folder)


def test_nanos_card_holds_the_digest_of_its_training_audio():
    folder = load_teacher("nano")
    assert folder.facts["heard_sha256"]
    assert len(folder.trained_on) == 4385


def make_probe(corpus, teacher_folder, **adversary):
    settings = Adversary.model_validate(adversary)
    reader = open_corpus(corpus)
    panels = [FixedUtterances(reader, split=split, utterances=8, crop_samples=16000) for split in ("train", "dev")]
    teacher = load_teacher(teacher_folder)
    student = Student(teacher, layers=2, num_targets=1, dropout=0.1, cnn_gradient=1.0, seed=1)
    views = Views(kind="cdm2")
    layers = (1, 2) if settings.layers == "last" else settings.layers
    probe = DomainProbe(settings, layers=layers, views=views, fit=panels[0], held_out=panels[1], seed=3)
    return probe, student, teacher


@pytest.mark.parametrize(
    ("keys", "classes", "majority"),
    [
        ({"domain": "condition"}, ("clean", "noise", "phone", "room"), 1 / 4),
        ({"domain": "family", "features": "frames"}, ("clean", "codec", "noise", "room"), 1 / 4),
        ({"domain": "distorted"}, ("clean", "distorted"), 1 / 2),
        ({"domain": "view"}, ("teacher", "student"), 1 / 2),
    ],
)
def test_the_probe_is_tested_on_every_domain_of_held_out_utterances(corpus, teacher_folder, keys, classes, majority):
    probe, student, teacher = make_probe(corpus, teacher_folder, **keys)
    assert probe.classes == classes
    student.train()
    found = probe.accuracy(student, teacher, device=torch.device("cpu"))
    assert student.training
    assert found.majority == pytest.approx(majority)
    assert 0 <= found.accuracy <= 1
    torch.manual_seed(7)
    assert probe.accuracy(student, teacher, device=torch.device("cpu")) == found, (
        "it draws from no common random stream"
    )


def test_views_of_one_untouched_student_and_its_teacher_cannot_be_told_apart(corpus, teacher_folder):
    """Of the same copies, the student's first layers are the teacher's before training: a critic is at chance."""
    probe, student, teacher = make_probe(corpus, teacher_folder, domain="view")
    found = probe.accuracy(student, teacher, device=torch.device("cpu"))
    assert found.accuracy == 0.5


def test_the_probe_finds_what_is_there_and_nothing_where_nothing_is():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    blind = torch.randn(400, 6, generator=generator)
    plain = 1e-3 * blind.clone()
    plain[:, 0] += 4e-3 * labels
    for features, low, high in ((plain, 0.9, 1.0), (blind, 0.35, 0.65)):
        fit, held_out = LabelledFeatures(features[:200], labels[:200]), LabelledFeatures(features[200:], labels[200:])
        right = (fitted_predictions(fit, held_out.features, classes=2, seed=0) == held_out.labels).float().mean()
        assert low <= float(right) <= high


def test_a_domain_that_is_there_is_found_however_rare_it_is():
    """Clean speech is one row of eleven where there are ten conditions: always saying `distorted` would be right in 91 %."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(1100) % 11 > 0).long()
    features = torch.randn(1100, 6, generator=generator)
    features[:, 0] += 2.0 * labels
    fit, held_out = LabelledFeatures(features[:550], labels[:550]), LabelledFeatures(features[550:], labels[550:])
    found = probe_accuracy(fit, held_out, classes=2, seed=0)
    assert found.majority == 0.5
    assert 0.7 < found.accuracy < 0.95
    assert visibility_warning(found, Adversary(), layers=(1,)) is None
    blind = LabelledFeatures(torch.ones(550, 6), held_out.labels)
    assert probe_accuracy(blind, blind, classes=2, seed=0) == Accuracy(0.5, 0.5)


def test_frames_for_the_probe_are_real_and_spread():
    layer = torch.arange(20.0)[None, :, None].repeat(2, 1, 1)
    picked, num_frames = evenly_spaced([layer], torch.tensor([16, 0]))
    assert picked[0][0, :, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert num_frames.tolist() == [8, 0]


def test_a_domain_that_cannot_be_named_is_one_warning():
    assert visibility_warning(Accuracy(0.36, 0.25), Adversary(), layers=(2,)) is None
    line = visibility_warning(Accuracy(0.34, 0.25), Adversary(), layers=(2,))
    assert line == (
        "before training, a new classifier names the domain (condition) from layer 2 of the student correctly in 34%, always naming one "
        "domain would be in 25% (each domain counts alike): there is hardly anything to hide in these layers; choose other "
        "adversary.layers, features or domain"
    )
    assert visibility_warning(Accuracy(0.75, 0.625), Adversary(), layers=(2,)) is None
    assert visibility_warning(Accuracy(0.3, 0.5), Adversary(domain="family"), layers=(3, 1)) == (
        "before training, a new classifier names the domain (family) from layers 3, 1 of the student correctly in 30%, always naming one "
        "domain would be in 50% (each domain counts alike): there is hardly anything to hide in these layers; choose other "
        "adversary.layers, features or domain"
    )


def test_a_domain_that_no_held_out_row_has_counts_for_nothing():
    """Three domains, far apart; of the second nothing is held out: the mean is over two, and so is the majority."""
    labels = torch.arange(90) % 3
    features = torch.nn.functional.one_hot(labels, 3).float()
    fit = LabelledFeatures(features, labels)
    two = labels != 1
    assert probe_accuracy(fit, LabelledFeatures(features[two], labels[two]), classes=3, seed=0) == Accuracy(1.0, 0.5)
    wrong = labels.clone()
    wrong[labels == 2] = (
        0  # all rows that look like the third are called the first: 30 of the first's 60 are named correctly
    )
    found = probe_accuracy(fit, LabelledFeatures(features, wrong), classes=3, seed=0)
    assert found == Accuracy((0.5 + 1.0) / 2, 0.5)
    assert probe_accuracy(fit, fit, classes=3, seed=0) == Accuracy(1.0, pytest.approx(1 / 3))


def test_panels_of_one_split_can_be_kept_apart(corpus):
    reader = open_corpus(corpus)
    one = FixedUtterances(reader, split="train", utterances=6, crop_samples=8000)
    two = FixedUtterances(reader, split="train", utterances=6, crop_samples=8000, skip=6)
    keys = [{crop.sample.key for crops in panel.batches for crop in crops} for panel in (one, two)]
    assert [len(found) for found in keys] == [6, 6]
    assert not keys[0] & keys[1]
    assert one.copies == ["clean", "noise-0", "phone-0", "room-0"]


def test_a_probe_scales_features_by_the_rows_it_learns_from_alone():
    """The prediction for a row does not depend on the rows beside it, however far they are."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    features = torch.randn(200, 4, generator=generator) + 0.5 * labels[:, None]
    fit, rows = LabelledFeatures(features, labels), torch.randn(200, 4, generator=generator)
    alone = fitted_predictions(fit, rows, classes=2, seed=0)
    beside = fitted_predictions(fit, torch.cat([rows, 1000 + 500 * rows]), classes=2, seed=0)[:200]
    assert torch.equal(alone, beside)
    assert 20 < int(alone.sum()) < 180


def run_on_one_condition(tmp_path, teacher_folder, *, resume=False, **adversary):
    """A run on copies of one condition, of which the third is the clean utterance: its folder and what was reported."""
    if not resume:
        write_corpus(tmp_path / "corpus", shards=1, copies=("double-0", "double-1", "double-2"))
    keys = {
        "preset": "cdm1-dat", "corpus": str(tmp_path / "corpus"), "teacher": {"name": str(teacher_folder)}, "crop_s": 0.5,
        "student": {"layers": 1}, "batch": {"utterances": 4, "lanes": 1}, "dev": "none", "workers": 0, "adversary": adversary,
        "steps": 1,
    }  # fmt: skip
    reported = []
    distil(resolved(keys, where="test"), tmp_path / "run", report=reported.append)
    return tmp_path / "run", "\n".join(reported)


def test_on_a_single_condition_the_critic_names_families_and_the_run_says_so(tmp_path, teacher_folder):
    run, reported = run_on_one_condition(tmp_path, teacher_folder)
    assert (
        "the student gets a single condition, double, so the critic names the family of each copy instead" in reported
    )
    assert run_config(run / "config.yaml").adversary.domain == "family"
    run_on_one_condition(tmp_path, teacher_folder, resume=True)  # by the same command, whose config says condition


def test_the_domain_that_is_asked_for_stays_where_it_can_be_named(tmp_path, teacher_folder):
    run, reported = run_on_one_condition(tmp_path, teacher_folder, domain="distorted")
    assert run_config(run / "config.yaml").adversary.domain == "distorted"
    assert "single condition" not in reported


def test_a_window_as_large_as_the_split_is_not_said_to_be_cut(corpus):
    said = []
    with open_corpus(corpus) as reader:
        whole = batching_of(
            config(corpus, lanes=1, window_shards=3), reader, rate_hz=16000, hop_samples=320, report=said.append
        )
    assert (whole.window_shards, said) == (3, [])


def crop_with(*copies):
    return Crop("train-0", SimpleNamespace(copies=copies), 0, 100)


def test_a_validation_is_on_the_first_copies_that_every_utterance_has():
    crops = [crop_with("noise-0", "noise-1", "room-0"), crop_with("noise-0", "noise-1", "phone-0")]
    assert shared_copies(crops) == ["clean", "noise-0"]
    assert shared_copies([]) == ["clean"]


def utterances_with(copies, families):
    """Fixed utterances in two batches; the family of their copies is another in each."""
    numbers = iter(families)
    by_batch = {batch: next(numbers) for batch in ("first", "second")}
    return SimpleNamespace(
        copies=copies,
        batches=["first", "second"],
        families=lambda crops, copy: [copy if copy == "clean" else by_batch[crops]],
    )


def test_the_probe_knows_the_families_of_all_its_utterances_and_only_copies_of_both_sets():
    fit = utterances_with(["clean", "double-0"], ("noise", "room"))
    held_out = utterances_with(["clean", "double-0", "phone-0"], ("noise", "room"))
    adversary = Adversary(domain="family")
    for kind, gets_copies in (("cdm1", False), ("cdm2", True), ("same", True), ("none", False)):
        probe = DomainProbe(adversary, layers=(1,), views=Views(kind=kind), fit=fit, held_out=held_out, seed=0)
        assert probe.copies == ["clean", "double-0"]
        assert probe.classes == ("clean", "noise", "room")
        assert probe.teacher_gets_copies == gets_copies


def lacking_pairs(*kinds):
    """Pairs of utterances u0, u1 ...: `lacks` a copy, is `clean` by its share, or is distorted."""
    found = {
        "lacks": Pair("clean", "clean", fell_back=True),
        "clean": Pair("clean", "clean"),
        "noise": Pair("clean", "noise-0"),
    }
    return [
        (SimpleNamespace(sample=SimpleNamespace(key=f"u{number}")), found[kind]) for number, kind in enumerate(kinds)
    ]


def test_utterances_without_a_copy_are_counted_and_the_first_of_them_is_named():
    views = Views.model_validate({"kind": "cdm2", "families": "different", "teacher": {"content": "any"}})
    stream, said = SimpleNamespace(corpus="corpus", views=views), []
    what = "utterances have no copy that fits views cdm2 with teacher.content: any and families: different, such as"
    check_pairs(stream, lacking_pairs("noise", "clean", "noise"), report=said.append)
    assert said == []
    check_pairs(stream, lacking_pairs("noise", "clean", "lacks", "lacks"), report=said.append)
    assert said == [
        f"corpus: 2 of the first 4 {what} u2; clean speech is used instead, and counted in the journal (fell_back)"
    ]
    with pytest.raises(
        FirstBatchError, match=f"corpus: first-batch check: 2 of the first 3 {what} u1; build the split"
    ):
        check_pairs(stream, lacking_pairs("clean", "lacks", "lacks"), report=said.append)


def test_silence_is_measured_over_real_samples_and_without_a_constant():
    """-80 dBFS is a power of 1e-8: an amplitude of 1e-4."""
    sign = torch.tensor([1.0, -1.0]).repeat(50)
    rows = torch.zeros(6, 1000)
    for row, (level, constant) in enumerate(
        ((1.2e-4, 0.0), (0.8e-4, 0.0), (0.0, 0.3), (1.2e-4, 0.3), (5e-3, 0.0), (0.0, 0.0))
    ):
        rows[row, :100] = level * sign + constant
    lengths = torch.tensor([100, 100, 100, 100, 100, 0])
    assert is_silent(rows.double(), lengths).tolist() == [False, True, True, False, False, True]


def test_copies_that_are_alike_now_and_then_are_no_reason_to_stop(corpus):
    stream, said = pairs(corpus, views="cdm1", utterances=4), []
    with open_corpus(stream.corpus) as reader:
        (batch,) = itertools.islice(stream.micro_batches(Sources(reader)), 1)
        waves = batch.student_wave.clone()
        waves[1] = batch.teacher_wave[1]
        check_waves(stream, reader, [dataclasses.replace(batch, student_wave=waves)], report=said.append)
    assert said == []


def test_an_utterance_whose_record_cannot_be_read_is_named_by_its_key(tmp_path, corpus):
    shutil.copytree(corpus, tmp_path / "corpus")
    stream = pairs(tmp_path / "corpus", views="none", utterances=4)
    path = tmp_path / "corpus/shards/train-000000.tar"
    with open_corpus(tmp_path / "corpus") as reader:
        content = bytearray(path.read_bytes())
        sample = reader.samples("train-000000")[3]
        content[sample.members["json"].offset] = ord("x")
        path.write_bytes(content)
        batch = next(
            one
            for one in stream.batches_from(reader, Cursor())
            if any(crop.sample.key == sample.key for lane in one.lanes for crop in lane)
        )
        keys = [crop.sample.key for lane in batch.lanes for crop in lane]
        named = full_ids(stream, reader, batch.cursor).split(", ")
        assert named == [
            key if key == sample.key else reader.records(crop.shard, crop.sample)[0].id
            for lane in batch.lanes
            for crop in lane
            for key in [crop.sample.key]
        ]
        assert (len(named), sum("/utt." in name for name in named)) == (len(keys), len(keys) - 1)
        path.unlink()
        assert full_ids(stream, reader, batch.cursor, only=[sample.key]) == sample.key


def rate_of(folder, rate_hz):
    """A teacher's folder for waves of another rate."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "sample_rate": rate_hz}))
    return folder


def test_rates_and_frames_that_do_not_fit_are_named_in_their_places(tmp_path, corpus, teacher_folder):
    teacher = load_teacher(teacher_folder)
    slow = rate_of(write_teacher(tmp_path / "slow"), 8000)
    with open_corpus(corpus) as reader, pytest.raises(UsageError) as caught:
        checked_rate(reader, load_teacher(slow))
    assert str(caught.value) == (
        f"{corpus} has 16000 Hz, the teacher slow takes 8000 Hz: build the corpus with sample_rate: 8000"
    )
    fast = rate_of(write_teacher(tmp_path / "fast"), 24000)
    for folder, hz in ((slow, 8000), (fast, 24000)):
        with pytest.raises(
            UsageError, match=rf"^student.init: {folder.name} takes {hz} Hz, the teacher small 16000 Hz$"
        ):
            make_student(StudentShape(init=str(folder)), teacher, target_layers=(1,), seed=0)
    config = json.loads((write_teacher(tmp_path / "wide") / "config.json").read_text())
    config["extractor_conv_layer_config"][-1] = [16, 2, 1]
    (tmp_path / "wide/config.json").write_text(json.dumps(config))
    with pytest.raises(
        UsageError, match=r"frames of wide are not .* teacher small are \(a frame every 160 samples and every 320\)"
    ):
        make_student(StudentShape(init=str(tmp_path / "wide")), teacher, target_layers=(1,), seed=0)


@pytest.mark.parametrize("count", [1, 3])
def test_layers_to_predict_from_and_layer_weights_are_one_for_each_target(tmp_path, corpus, teacher_folder, count):
    teacher = load_teacher(teacher_folder)
    shape = StudentShape(predict="layers", predict_from=(1,) * count)
    line = f"student.predict_from: {count} layers for the 2 layers of the teacher \\(1, 3\\); give one for each"
    with pytest.raises(UsageError, match=line):
        make_student(shape, teacher, target_layers=(1, 3), seed=0)
    keys = {
        "corpus": str(corpus),
        "teacher": {"name": str(teacher_folder), "layers": [1, 3]},
        "loss": {"layers": [1.0] * count},
    }
    with contextlib.ExitStack() as stack, pytest.raises(UsageError) as caught:
        set_up(resolved(keys, where="test"), tmp_path / "run", ranks=Ranks(), report=str, stack=stack)
    assert (
        str(caught.value) == f"loss.layers: {count} weights for the 2 layers of the teacher (1, 3); give one for each"
    )


def test_a_run_that_is_set_up_knows_its_split_its_window_and_what_it_trains(tmp_path, teacher_folder):
    """Three shards of eight in train, one in dev; with one lane and a shard a window there are three windows."""
    corpus = tmp_path / "corpus"
    write_corpus(corpus, copies=(), lengths_s=(0.3, 9.0))
    write_teacher(tmp_path / "source", seed=4)
    (tmp_path / "source/heard.txt").write_text("00000000000000ab\n")
    config = resolved(
        {
            "corpus": str(corpus), "teacher": {"name": str(teacher_folder)}, "batch": {"utterances": 4, "lanes": 1, "window_shards": 1},
            "student": {"layers": 1, "cnn_gradient": 0, "init": str(tmp_path / "source")}, "steps": 70, "log_every": 7, "workers": 0,
            "crop_s": 10.0, "precision": "bfloat16",
        },
        where="test",
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    with contextlib.ExitStack() as stack:
        setup = set_up(config, tmp_path / "run", ranks=Ranks(), report=str, stack=stack)
        facts = setup.log_facts(str)
        assert (setup.split_utterances, facts["split_utterances"], facts["runs_teacher"]) == (24, 24, True)
        assert (facts["time_left"].steps, facts["rate_hz"], facts["domains"], setup.done) == (70, 16000, (), 0)
        lines = []
        for window in range(3):
            setup.stream.cursor = Cursor(1, window, 1)
            lengths = [
                batch.lengths
                for batch in itertools.islice(setup.stream.batches_from(setup.reader, Cursor(1, window)), 2)
            ]
            assert len(lengths) == 2
            seconds = sum(map(sum, lengths)) / 2 / 16000
            lines.append(setup.start_line(Ranks()))
            assert (
                f" in bfloat16: 4.0 utterances and {seconds:.0f} s of audio a step, about 6 updates an epoch, 70 updates"
                in lines[-1]
            )
        assert len(set(lines)) == 3, "or this tells nothing"
        assert setup.checkpoints.encoder == setup.models.student.config
        assert setup.checkpoints.encoder.encoder_num_layers == 1
        names = {id(one): name for name, one in setup.models.student.named_parameters()}
        trained = {names[id(one)] for one in setup.trained}
        assert trained == {name for name in names.values() if "feature_extractor" not in name}
    heard = (tmp_path / "run/heard.txt").read_text().split()
    assert {"00000000000000ab", "0123456789abcdef"} < set(heard)
    assert len(heard) == 24 + 2


def test_batching_and_stream_have_every_number_of_the_config(corpus, teacher_folder):
    keys = {
        "corpus": str(corpus), "teacher": {"name": str(teacher_folder)}, "seed": 5, "crops": {"sets": 3, "seed": 7}, "crop_s": 0.4,
        "batch": {"seconds": 6.0, "lanes": 1, "window_shards": 4}, "stage": {"dir": "/tmp", "gigabytes": 2.0}, "damaged_shards": 2,
        "views": {"kind": "cdm1"}, "adversary": {"domain": "view"},
    }  # fmt: skip
    said = []
    with open_corpus(corpus) as reader:
        config = resolved({**keys, "stage": None}, where="test")
        batching = batching_of(config, reader, rate_hz=16000, hop_samples=320, report=said.append)
        fewer = batching_of(
            config.model_copy(update={"batch": Batch(utterances=4, lanes=1, window_shards=2)}),
            reader, rate_hz=8000, hop_samples=160, report=said.append,
        )  # fmt: skip
    assert batching == Batching(1, 6400, lane_samples=96_000, window_shards=3, grid=CropGrid(320, 3, 7))
    assert fewer == Batching(1, 3200, lane_utterances=4, window_shards=2, grid=CropGrid(160, 3, 7))
    assert said == [
        "batch.window_shards: 4 of 1 lanes are 4 shards, the split train has 3: cut to 3, the whole split is mixed"
    ]
    stream = stream_of(config, batching)
    assert (stream.split, stream.seed, stream.epochs, stream.damaged_shards, stream.names_families) == (
        "train",
        5,
        None,
        2,
        False,
    )
    assert stream.stage is None
    staging = Staging(dir=str(corpus.parent / "stage"), gigabytes=2.0)
    staged = stream_of(config.model_copy(update={"stage": staging, "adversary": Adversary()}), batching)
    assert (staged.stage, staged.names_families) == (staging, True)


@pytest.mark.parametrize(
    ("views", "families", "domain"),
    [
        ({"student": {"conditions": ["noise"]}}, {"noise", "codec"}, "family"),
        ({"student": {"conditions": ["noise"]}}, {"noise", "clean"}, "condition"),
        ({}, {"noise", "codec", "room"}, "condition"),
    ],
)
def test_families_take_the_place_of_one_condition_where_there_are_two(corpus, teacher_folder, views, families, domain):
    said = []
    keys = {
        "corpus": str(corpus),
        "teacher": {"name": str(teacher_folder)},
        "adversary": {},
        "views": {"kind": "cdm1", **views},
    }
    with open_corpus(corpus) as reader:
        found = with_usable_domain(resolved(keys, where="test"), reader, families, report=said.append)
    assert found.adversary.domain == domain
    assert len(said) == (domain == "family")


def test_a_new_run_on_silence_ends_before_it_leaves_a_config(tmp_path, teacher_folder):
    write_corpus(tmp_path / "corpus", shards=1, samples=4, copies=(), volume=0.0)
    keys = {"corpus": str(tmp_path / "corpus"), "teacher": {"name": str(teacher_folder)}, "crop_s": 1.0}
    (tmp_path / "run").mkdir()
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(FirstBatchError, match="utterances of the first batch are silent"),
    ):
        set_up(resolved(keys, where="test"), tmp_path / "run", ranks=Ranks(), report=str, stack=stack)
    assert not (tmp_path / "run/config.yaml").exists()


def test_the_first_256_pairs_and_the_first_batch_of_all_lanes_are_checked(monkeypatch):
    calls = []
    lanes = [SimpleNamespace(cursor=cursor) for cursor in (Cursor(), Cursor(), Cursor(0, 0, 1), Cursor())]
    stream = SimpleNamespace(
        first_pairs=lambda reader, count: [(reader, count)],
        micro_batches=lambda sources: iter(lanes) if sources == ("reader", None, None) else None,
    )
    monkeypatch.setattr(sanity_check, "check_pairs", lambda *given, report: calls.append((given, report)))
    monkeypatch.setattr(sanity_check, "check_waves", lambda *given, report: calls.append((given, report)))
    check_first_batch(stream, "reader", report=str)
    assert calls == [((stream, [("reader", 256)]), str), ((stream, "reader", lanes[:2]), str)]


def lane_of(*rows, cursor=Cursor()):  # noqa: B008 (a tuple)
    """A micro-batch of pairs (key, teacher's copy, student's copy, amplitude of the student's wave)."""
    sign = torch.tensor([1.0, -1.0]).repeat(50)
    teacher = torch.stack([0.1 * sign] * len(rows))
    student = torch.stack([amplitude * sign for *_, amplitude in rows])
    keys, teacher_copies, student_copies, _ = zip(*rows, strict=True)
    return SimpleNamespace(
        keys=keys, teacher_copies=teacher_copies, student_copies=student_copies, teacher_wave=teacher, student_wave=student,
        num_samples=torch.tensor([100] * len(rows)), cursor=cursor,
    )  # fmt: skip


def test_pairs_of_one_copy_are_not_compared_and_lanes_count_together(monkeypatch):
    stream, said, calls = SimpleNamespace(corpus="corpus"), [], []
    monkeypatch.setattr(sanity_check, "full_ids", lambda *given, only: calls.append((given, only)) or "ids")
    clean, copied, other = (
        ("u0", "clean", "clean", 0.1),
        ("u1", "clean", "noise-0", 0.1),
        ("u2", "clean", "noise-1", 0.2),
    )
    check_waves(stream, "reader", [lane_of(clean, clean)], report=said.append)
    check_waves(stream, "reader", [lane_of(clean, copied), lane_of(other)], report=said.append)
    assert said == []
    with pytest.raises(FirstBatchError) as caught:
        check_waves(stream, "reader", [lane_of(clean, copied), lane_of(copied, clean)], report=said.append)
    assert str(caught.value) == (
        "corpus: first-batch check: in all 2 pairs of the first batch the two copies hold the same samples; build it again"
    )
    silent = ("u3", "clean", "noise-0", 0.0)
    check_waves(stream, "reader", [lane_of(other, cursor="first"), lane_of(silent, cursor="other")], report=said.append)
    assert said == ["corpus: 1 of 2 utterances of the first batch are silent: ids"]
    assert calls == [((stream, "reader", "first"), ["u3"])]
    with pytest.raises(
        FirstBatchError, match=r"^corpus: .* all 2 utterances of the first batch are silent \(under -80 dBFS\)$"
    ):
        check_waves(stream, "reader", [lane_of(silent), lane_of(silent)], report=said.append)


def test_eight_ids_are_shown_and_of_the_rest_their_number(corpus):
    with open_corpus(corpus) as reader:
        for count, more in ((8, None), (9, " and 1 more")):
            stream = pairs(corpus, utterances=16, views="none", lanes=1)
            crops = next(iter(stream.batches_from(reader, Cursor()))).lanes[0][:count]
            named = full_ids(stream, reader, Cursor(), only=[crop.sample.key for crop in crops])
            ids = [reader.records(crop.shard, crop.sample)[0].id for crop in crops[:8]]
            assert named == ", ".join(ids) + (more or "")


def test_families_are_looked_for_in_512_utterances_among_the_copies_that_the_student_may_get(monkeypatch):
    calls = []
    stream = SimpleNamespace(
        views=Views.model_validate({"kind": "cdm1", "student": {"conditions": ["room"]}}),
        first_pairs=lambda reader, count: (
            calls.append((reader, count)) or [(Crop("s", "u0", 0, 1), None), (Crop("t", "u1", 0, 1), None)]
        ),
    )
    copies = {
        ("s", "u0"): [Copy("room-0", family="room"), Copy("noise-0", family="noise")], ("t", "u1"): [Copy("room-1", family="echo")],
    }  # fmt: skip
    monkeypatch.setattr(setup, "recorded_copies", lambda reader, shard, sample: copies[shard, sample])
    assert families_in_training(stream, "reader") == {"room", "echo"}
    assert calls == [("reader", 512)]


COPIES_BY_SPLIT = SimpleNamespace(
    copies=lambda split: {"mine": {"room": 2, "noise": 1}, "dev": {"phone": 1}, "train": {"far": 1}}[split]
)


def test_an_adversary_has_every_number_of_the_config_and_its_classes_from_the_split(corpus, teacher_folder):
    keys = {
        "corpus": str(corpus), "teacher": {"name": str(teacher_folder)}, "split": "mine", "seed": 6, "views": {"kind": "cdm1", "clean_share": 0.2},
        "adversary": {"layers": [2, 1], "standardise": True}, "optimiser": {"learning_rate": 1e-3, "clip": 0.7},
    }  # fmt: skip
    teacher, ranks = SimpleNamespace(name="t", num_layers=9, num_features=24), Ranks(1, 3)
    student = SimpleNamespace(config=SimpleNamespace(encoder_num_layers=2, encoder_embed_dim=24))
    models = {"student": student, "teacher": teacher, "ranks": ranks}
    config = resolved(keys, where="test")
    found = adversary_of(config, COPIES_BY_SPLIT, set(), **models)
    assert (found.domains, found.layers, found.clip) == (("clean", "noise", "room"), (2, 1), 0.7)
    assert found.optimiser.param_groups[0]["lr"] == pytest.approx(3e-3)
    expected = Critic(2 * 24 * 2, num_domains=3, seed=6, standardise=True)
    assert found.critic.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(one, expected.state_dict()[name]) for name, one in found.critic.state_dict().items())
    assert found.all_reduce.ranks is ranks
    assert list(map(id, found.all_reduce.parameters)) == list(map(id, found.critic.parameters()))
    family = resolved({**keys, "adversary": {"domain": "family"}}, where="test")
    assert adversary_of(family, COPIES_BY_SPLIT, {"codec", "echo"}, **models).domains == ("clean", "codec", "echo")
    assert isinstance(
        adversary_of(resolved({**keys, "adversary": None}, where="test"), None, set(), **models), NoAdversary
    )
    one = SimpleNamespace(
        copies=lambda split: {"mine": {"double": 3}, "dev": {"a": 1, "b": 1}, "train": {"a": 1, "b": 1}}[split]
    )
    assert with_usable_domain(config, one, {"echo", "codec"}, report=str).adversary.domain == "family"


def test_checkpoints_hold_student_critic_and_both_optimisers_by_name(tmp_path):
    student = SimpleNamespace(config="encoder")
    adversary = SimpleNamespace(modules={"critic": "critic"}, optimisers={"critic_optimiser": "of the critic"})
    found = checkpoints_of(
        tmp_path,
        SimpleNamespace(student=student, adversary=adversary),
        "of the student",
        run_sha256="7" * 64,
        facts={"views": "cdm1"},
    )
    assert found == Checkpoints(
        run=tmp_path, modules={"student": student, "critic": "critic"},
        optimisers={"optimiser": "of the student", "critic_optimiser": "of the critic"}, encoder="encoder", run_sha256="7" * 64,
        facts={"views": "cdm1"},
    )  # fmt: skip


class Connected(Ranks):
    """A rank that is sent nothing: it is as if rank 0 had no checkpoint."""

    def broadcast(self, plain):
        return plain


def test_a_run_that_goes_on_is_not_checked_again_and_says_how_far_it_is(tmp_path, monkeypatch, corpus, teacher_folder):
    """Rank 0 of a new run checks; the same of one that was begun, or that is done, and any other rank do not."""
    checked, said = [], []
    monkeypatch.setattr(setup, "check_first_batch", lambda stream, reader, *, report: checked.append(report))
    run = tmp_path / "run"
    run.mkdir()
    keys = {
        "corpus": str(corpus), "teacher": {"name": str(teacher_folder)}, "batch": {"utterances": 4, "lanes": 4}, "steps": 9, "dev": "none",
        "student": {"layers": 1}, "crop_s": 0.5,
    }  # fmt: skip
    for ranks, step, state in (
        (Ranks(), None, "running"),
        (Ranks(), 8, "running"),
        (Ranks(), 9, "done"),
        (Connected(1, 3), None, None),
    ):
        mark = None if step is None else SimpleNamespace(step=step, cursor=(2, 0, 1))
        monkeypatch.setattr(
            Checkpoints, "restore", lambda _, ranks, *, steps, report, mark=mark: report(f"of {steps}") or mark
        )
        said.clear()
        folder = run if ranks.is_first else tmp_path / "other"
        with contextlib.ExitStack() as stack:
            made = set_up(resolved(keys, where="test"), folder, ranks=ranks, report=said.append, stack=stack)
            assert (made.mark, made.stream.cursor) == (mark, Cursor(2, 0, 1) if mark else Cursor())
            assert (made.stream.lanes, made.stream.target_layers) == (
                (1,) if state is None else (0, 1, 2, 3),
                (1, 2, 3),
            )
            assert (made.checkpoints.run_sha256 is None, folder.exists()) == (state is None, state is not None)
            assert (made.models.device, made.log_facts(str)["device"], made.all_reduce.ranks) == (
                ranks.device,
                ranks.device,
                ranks,
            )
            assert made.models.student.training
        assert len(checked) == 1
        assert said[1] == "of 9"
        assert "trained without validation" in said[0]
        assert [line.partition(" epoch, ")[2].partition(" (")[0] for line in said[2:]] == (
            [f"{9 - (step or 0)} updates to the end"] if state == "running" else []
        )
        if state is not None:
            status = json.loads((run / "status.json").read_text())
            assert status == {"schema": "stillroom/status/1", "state": state, "step": step or 0, "steps": 9}
