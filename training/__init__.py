"""The streaming trainer: shards in, a distilled student out. Part of Stillroom.

To follow one batch from its tar to the loss, read these fourteen files:

1. `data/sampler`: which utterances are in which batch, and where each is cropped
2. `data/views`: which copy of an utterance the teacher gets, and which the student
3. `data/tar_reader`: bytes by offset of a tar
4. `data/corpus`: the members of a sample, by the index of its shard
5. `data/audio`: decodes them
6. `data/batch`: a micro-batch of pairs
7. `stream`: all of this in order (`dataloader` runs it in worker processes)
8. `models/encoder`: a wave to the output of every transformer layer, for teacher and student
9. `models/student`: the student and its prediction heads
10. `distillation/losses`: the distance from the teacher's layers
11. `distillation/critic`: the domain classifier
12. `distillation/adversary`: the loss by which the student hides the domain from it (`distillation/domains` names the classes)
13. `step`: one forward and backward pass, with both losses
14. `loop`: the training function

Beside that way: `config` (every key, and the presets), `setup` (what the loop begins with), `teacher` and the file formats in `models`,
`targets` and `precompute` (a teacher's stored outputs), `validation`, `runs` (folder, journal, checkpoints, ranks), `export`, `cli`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from training.stream import PairStream as PairStream
    from training.stream import pairs as pairs
    from training.teacher import load_teacher as load_teacher

__getattr__, __dir__ = lazy_names(__name__, __file__)
