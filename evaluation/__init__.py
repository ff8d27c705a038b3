"""Measures how robust a model is, and never trains the student. Part of Stillroom.

Read in this order:

* what is evaluated: `config`, `data` (utterances, labels, transcripts, alignments, trials), `exposure` (what a model was trained on);
* features: `models`, `features`, `extraction` (three passes over a corpus);
* without labels: `measures`; with labels: `tasks` (probes);
* one model measured and saved: `model_scores`; what all take: `dry_run`; all of them: `evaluate_models`; the tables and the page: `report`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from evaluation.evaluate_models import evaluate as evaluate

__getattr__, __dir__ = lazy_names(__name__, __file__)
