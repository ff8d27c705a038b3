"""Draws one row of a plan: an utterance with all its copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corpus_builder.audio.resample import num_samples_at
from corpus_builder.plan.draws.copy import planned_copy
from manifests.corpus.sample import sample_key

if TYPE_CHECKING:
    from corpus_builder.plan.materials.split_materials import Materials
    from manifests.recipe.recipe import Recipe


def planned_row(recipe: Recipe, materials: Materials, index: int) -> dict[str, Any]:
    """One utterance with all its draws, as plain data."""
    stored = materials.store.read(index)
    utterance = stored.utterance
    num_samples = num_samples_at(utterance.num_frames, from_hz=utterance.rate_hz, to_hz=recipe.sample_rate)
    copies = [
        planned_copy(
            materials,
            recipe.conditions[name],
            name=name,
            number=number,
            utterance=utterance.id,
            index=index,
            num_samples=num_samples,
        )
        for name, count in recipe.copies.get(materials.split, {}).items()
        for number in range(count)
    ]
    row: dict[str, Any] = {
        "id": utterance.id,
        "key": sample_key(utterance.id),
        "split": materials.split,
        "num_samples": num_samples,
        "custom": utterance.custom,
        "source": stored.span(materials.root),
        "copies": copies,
    }
    labels = {"text": utterance.text, "speaker": utterance.speaker, "language": utterance.language}
    return row | {name: value for name, value in labels.items() if value is not None}
