"""The recipe of a corpus: what is wanted, in ranges.

Read in this order: `recipe` (the whole document), `speech`, `noises` and `rooms` (sources), `steps` and `channel_steps` (distortions),
`codecs`, `distributions` (constants and draws).
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from manifests.recipe.recipe import Recipe as Recipe
    from manifests.recipe.speech import SpeechSource as SpeechSource
    from manifests.recipe.steps import Condition as Condition

__getattr__, __dir__ = lazy_names(__name__, __file__)
