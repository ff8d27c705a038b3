"""ModelFeatures of the measures without labels: a row a layer of a model, a column a condition."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from evaluation.report.table import Quantity, Table, percent
from manifests.corpus.sample import CLEAN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manifests.results.scores import Measure, ModelScores, Protocol, Score

LEAKAGES: dict[Measure, str] = {"leakage": "linear probe", "leakage_mlp": "small network"}
LAYER_MEASURES: tuple[tuple[Measure, str, int], ...] = (
    ("cka", "Linear CKA of clean and distorted frames", 2),
    ("retrieval", "Retrieval@1 of the clean frame among 1000 of the same speaker", 3),
    ("agreement", "Agreement: linear CKA with the teacher's last layer on clean speech", 2),
    ("rank", "Effective rank of the frames", 1),
    ("variance", "Share of the features' energy that varies", 3),
    ("abx_within", "Phone ABX: error in %, A and B clean, X within speakers", 1),
    ("abx_across", "Phone ABX: error in %, A and B clean, X across speakers", 1),
    ("unit_edits", "Unit edit distance of clean and distorted in % of the frames", 1),
    ("unit_perplexity", "Perplexity of the units: how many are really used", 1),
    ("pnmi", "PNMI: share of the phones' entropy that units take away", 3),
    ("phone_purity", "Phone purity in %: frames whose phone is their unit's commonest on clean speech", 1),
)
IN_PERCENT = frozenset({"abx_within", "abx_across", "unit_edits", "phone_purity"})


def chosen_scores(
    model: ModelScores,
    measure: Measure,
    *,
    task: str | None = None,
    condition: str | None = None,
    layer: int | None = None,
) -> list[Score]:
    """The scores of a model of this measure, task, condition and layer."""
    return [
        score
        for score in model.scores
        if (score.measure, score.task, score.condition, score.layer) == (measure, task, condition, layer)
    ]


def layer_rows(models: Sequence[ModelScores], measure: Measure) -> list[tuple[ModelScores, int]]:
    """Each model's layers on which something was measured."""
    return [
        (model, layer)
        for model in models
        for layer in sorted({score.layer for score in model.scores if score.measure == measure and score.layer})
    ]


def cosine_table(models: Sequence[ModelScores], protocol: Protocol) -> Table:
    """Frame cosine between clean and distorted, beside that of mismatched utterances, and the mean gap."""
    rows = []
    count = 0
    for model, layer in layer_rows(models, "cosine"):
        columns, gaps = [], []
        for condition in protocol.conditions:
            matched = chosen_scores(model, "cosine", condition=condition, layer=layer)
            other = chosen_scores(model, "mismatched", condition=condition, layer=layer)
            numbers = {score.measure.removeprefix("cosine"): score.value for score in (*matched, *other)}
            columns.append(Quantity(" / ".join(f"{value:.2f}" for value in numbers.values()), numbers))
            gaps += [matched[0].value - other[0].value] if matched and other else []
            count = max([count, *(score.count for score in matched)])
        gap = float(np.mean(gaps)) if gaps else math.nan
        rows.append((model.model, str(layer), *columns, Quantity(f"{gap:.2f}", {"": gap}) if gaps else ""))
    title = f"Frame cosine of clean and distorted / of mismatched utterances (up to {count} frames a condition)"
    return Table(title, ("model", "layer", *protocol.conditions, "mean gap"), tuple(rows))


def layer_tables(models: Sequence[ModelScores], protocol: Protocol) -> list[Table]:
    """CKA, retrieval, agreement, rank, variance, ABX and units by layer, a column a condition."""
    tables = []
    for measure, title, decimals in LAYER_MEASURES:
        found = layer_rows(models, measure)
        if not found:
            continue
        columns = [
            name
            for name in (CLEAN, *protocol.conditions)
            if any(score.measure == measure and score.condition == name for model in models for score in model.scores)
        ]
        rows, count = [], 0
        for model, layer in found:
            scores = [chosen_scores(model, measure, condition=name, layer=layer) for name in columns]
            count = max(count, *(one[0].count for one in scores if one))
            scale = 100.0 if measure in IN_PERCENT else 1.0
            values = (scale * one[0].value if one else math.nan for one in scores)
            shown = ("" if math.isnan(one) else Quantity(f"{one:.{decimals}f}", {"": one}) for one in values)
            rows.append((model.model, str(layer), *shown))
        tables.append(Table(f"{title} (up to {count} a condition)", ("model", "layer", *columns), tuple(rows)))
    return tables


def leakage_table(models: Sequence[ModelScores], measure: Measure) -> Table:
    """Accuracy of one domain probe by layer; a column a layer."""
    by_model: dict[str, dict[int, Score]] = defaultdict(dict)
    for model, layer in layer_rows(models, measure):
        by_model[model.model][layer] = chosen_scores(model, measure, layer=layer)[0]
    deepest = max((layer for layers in by_model.values() for layer in layers), default=0)
    rows = tuple(
        (model, *(percent(layers[layer].value) if layer in layers else "" for layer in range(1, deepest + 1)))
        for model, layers in by_model.items()
    )
    majority = next((score for model in models for score in chosen_scores(model, "majority")), None)
    always = (
        ""
        if majority is None
        else f" ({majority.count} test copies, {percent(majority.value)} % for always the same answer)"
    )
    title = f"Leakage: accuracy in % of a {LEAKAGES[measure]} that names the condition{always}"
    return Table(title, ("model", *(f"layer {layer}" for layer in range(1, deepest + 1))), rows)
