"""Presets: the papers' numbers, their sources, and the deviations from them.

The numbers that all share are the defaults of `training.config.schema`: 200 000 steps of 24 utterances, AdamW at 2e-4 with betas 0.9
and 0.98, epsilon 1e-6 and weight decay 1e-6, 7 % linear warm-up then linear decay, gradients clipped at 5, crops of 250 000
samples that both views share, two layers, heads for the layers at a third, two thirds and the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DISTILHUBERT = "DistilHuBERT (arXiv 2110.01900) and s3prl's pretrain/distiller/config_{model,runner}.yaml"
DISTORTED = "arXiv 2210.07978 and its code, superb/pretrain/distiller/config_runner.yaml and dataset.py"
GAME = "superb/pretrain/dat_runner.py of the code of arXiv 2210.07978"

EVERYWHERE = (
    "the teacher is in eval mode (theirs kept its dropout)",
    "the norm behind the position embedding begins as the teacher's (theirs: as it is made)",
    "padded frames count neither in the loss nor in the norms (theirs did)",
    "float32, or bfloat16 if configured (theirs: float16 with a scaler)",
    "batches are filled with utterances of like length by an order of our own (law 5)",
)
PRECOMPUTED = (
    "copies come from the corpus, so epochs use the same rendered copies (theirs were distorted anew each time)",
    "the recipe decides which distortions there are; recipes may hold the paper's with `choose`",
)
CONTENT = "a copy that does not keep the content in place (pitch) is never the teacher's (theirs: it was)"
OURS = "the critic is ours: pooled mean and deviation, two layers of 256; domain: condition, as in arXiv 2203.16104"

# In the authors' "double" mode both distortions are left out in one draw of sixteen, for each view by itself.
CLEAN_SHARE = 0.0625


@dataclass(frozen=True)
class Preset:
    """A method by name.

    Attributes:
        keys: What it sets over the defaults.
        source: Where its numbers come from.
        deviations: Where it is not what the source did.
    """

    keys: dict[str, Any]
    source: str
    deviations: tuple[str, ...]


CDM1: dict[str, Any] = {"kind": "cdm1", "clean_share": CLEAN_SHARE}
CDM2: dict[str, Any] = {
    "kind": "cdm2",
    "teacher": {"clean_share": CLEAN_SHARE},
    "student": {"clean_share": CLEAN_SHARE},
}
CONDITION: dict[str, Any] = {"domain": "condition"}
PAPER_GAME: dict[str, Any] = {
    "objective": "game",
    "domain": "view",
    "layers": [1, 2],
    "schedule": "constant",
    "critic_steps": 1,
}
UNPUBLISHED = (
    "unpublished, so ours: the discriminator (pooled layers side by side, one hidden layer of 256)",
    "unpublished, so ours: its constant weight (0.03), that it is updated at every step, at three times the student's rate",
    "the discriminator is trained on a batch right after the student's update on it (theirs: right before)",
)

PRESETS: dict[str, Preset] = {
    "distilhubert": Preset({"views": {"kind": "none"}}, DISTILHUBERT, EVERYWHERE),
    "cdm1": Preset({"views": CDM1}, DISTORTED, (*EVERYWHERE, *PRECOMPUTED)),
    "cdm2": Preset({"views": CDM2}, DISTORTED, (*EVERYWHERE, *PRECOMPUTED, CONTENT)),
    "cdm1-dat": Preset({"views": CDM1, "adversary": CONDITION}, DISTORTED, (*EVERYWHERE, *PRECOMPUTED, OURS)),
    "cdm2-dat": Preset({"views": CDM2, "adversary": CONDITION}, DISTORTED, (*EVERYWHERE, *PRECOMPUTED, CONTENT, OURS)),
    "cdm1-dat-paper": Preset(
        {"views": CDM1, "adversary": PAPER_GAME}, f"{DISTORTED}; {GAME}", (*EVERYWHERE, *PRECOMPUTED, *UNPUBLISHED)
    ),
    "cdm2-dat-paper": Preset(
        {"views": {**CDM2, "teacher": {**CDM2["teacher"], "content": "any"}}, "adversary": PAPER_GAME},
        f"{DISTORTED}; {GAME}",
        (*EVERYWHERE, *PRECOMPUTED, *UNPUBLISHED),
    ),
}
