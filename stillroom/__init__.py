"""Stillroom distils self-supervised speech models into small ones that keep working when the speech is distorted.

The functions below are those that the command calls. In the order in which they are usually needed: `plan`, `build`, `verify`, `pack`,
`rebuild`, `diff`, `audit`, `cut_sets`; `pairs`, `load_config`, `train`, `load_student`, `export`; `evaluate`, `report`. The rest are the
documents that they read and write.
"""

from typing import TYPE_CHECKING

from stillroom.packages import prepare_imports

prepare_imports()

from manifests.lazy import lazy_names  # noqa: E402 (only now is it known to be ours)

if TYPE_CHECKING:
    from corpus_builder.audit.audit_corpora import audit as audit
    from corpus_builder.build.build_corpus import build as build
    from corpus_builder.exchange.lhotse_export import cut_sets as cut_sets
    from corpus_builder.plan.make_plan import plan as plan
    from corpus_builder.rebuild.diff import differences as diff
    from corpus_builder.rebuild.rebuild_corpus import rebuild as rebuild
    from corpus_builder.verify.verify_corpus import verify as verify
    from evaluation.config import EvaluationConfig as EvaluationConfig
    from evaluation.evaluate_models import evaluate as evaluate
    from evaluation.report.make_report import report as report
    from evaluation.report.model_card import export_with_card as export
    from manifests.corpus.sample import Sample as Sample
    from manifests.corpus.shard_index import Corpus as Corpus
    from manifests.corpus.shard_index import ShardIndex as ShardIndex
    from manifests.errors import StillroomError as StillroomError
    from manifests.pack.contents import Pack as Pack
    from manifests.pack.write import write_pack as pack
    from manifests.plan.plan import Plan as Plan
    from manifests.plan.plan import PlanRow as PlanRow
    from manifests.recipe.recipe import Recipe as Recipe
    from manifests.results.scores import Results as Results
    from training.config.load import load_config as load_config
    from training.config.schema import TrainConfig as TrainConfig
    from training.loop import distil as train
    from training.runs.checkpoint import load_student as load_student
    from training.stream import pairs as pairs

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_names(__name__, __file__)
