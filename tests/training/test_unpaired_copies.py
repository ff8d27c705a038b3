"""Recordings without a clean twin in a step: how much their distillation counts, and that the domain classifier reads them all the same."""

from __future__ import annotations

from dataclasses import replace

import torch

from tests.oracles.made_step import COPIES, config_of, models_of, ragged_batch
from training.step import forward_backward


def views_of(unpaired):
    return {"kind": "cdm1", "unpaired": unpaired, "student": {"conditions": ["noise", "phone", "room"]}}


def row_of(batch, row):
    """One utterance as a micro-batch of the same global batch."""
    return replace(
        batch,
        teacher_wave=batch.teacher_wave[[row]],
        student_wave=batch.student_wave[[row]],
        num_samples=batch.num_samples[[row]],
        keys=(batch.keys[row],),
        teacher_copies=(batch.teacher_copies[row],),
        student_copies=(batch.student_copies[row],),
        student_families=(batch.student_families[row],),
    )


def gradients(config, batches):
    """Of the student over micro-batches, and the losses of each."""
    models = models_of(config)
    losses = [forward_backward(models, batch, config, step=1) for batch in batches]
    return {name: weight.grad for name, weight in models.student.named_parameters() if weight.grad is not None}, losses


def test_each_frame_counts_by_the_weight_of_its_condition(teacher_folder):
    shape = {"layers": 2, "dropout": 0}
    weighted = config_of(teacher_folder, student=shape, views=views_of({"room": 0, "phone": 0.5}))
    listed = config_of(teacher_folder, student=shape, views=views_of(["room", "phone"]))
    batch = ragged_batch(4)
    found, [losses] = gradients(weighted, [batch])
    rows = [gradients(listed, [row_of(batch, row)]) for row in range(4)]
    weights = [{"phone-0": 0.5, "room-0": 0.0}.get(copy, 1.0) for copy in COPIES]
    torch.testing.assert_close(
        losses.sums[0], sum(weight * row[0].sums[0] for weight, (_, row) in zip(weights, rows, strict=True))
    )
    for name, gradient in found.items():
        expected = sum(weight * row[name] for weight, (row, _) in zip(weights, rows, strict=True))
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_the_domain_classifier_reads_copies_that_are_not_distilled(teacher_folder):
    config = config_of(
        teacher_folder,
        student={"layers": 2, "dropout": 0},
        views=views_of({"room": 0}),
        adversary={"objective": "confusion", "strength": 1.0, "schedule": "constant"},
    )
    batch = row_of(ragged_batch(4), COPIES.index("room-0"))
    found, [losses] = gradients(config, [batch])
    assert losses.domains == [0, 0, 0, 1]
    assert float(losses.sums[0]) == 0
    assert sum(float(gradient.abs().sum()) for gradient in found.values()) > 0
