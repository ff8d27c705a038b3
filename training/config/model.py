"""Teacher, student and loss of a config: records of numbers, with checks of what has no meaning.

Sources: DistilHuBERT (arXiv 2110.01900) and s3prl's distiller for the defaults; FitHuBERT (arXiv 2207.00555) and ARMHuBERT
(arXiv 2305.11685) for deep and thin students distilled layer to layer; wav2vec 2.0 (arXiv 2006.11477) for masking.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from manifests.io.records import Record


def whole(number: object) -> object:
    """A whole number that is written with an exponent, such as 2e5, is a float to YAML; anything else stays what it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Whole = Annotated[int, Field(ge=1), BeforeValidator(whole)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Layers = Annotated[tuple[Whole, ...], Field(strict=False, min_length=1)]


class TeacherChoice(Record):
    """The teacher, and which of its layers are targets.

    Attributes:
        name: `nano`, a torchaudio bundle such as `hubert_base`, a model of the Hugging Face hub such as `facebook/hubert-base-ls960`, a
            folder (of a run, of Hugging Face, or our own) or a checkpoint of fairseq, s3prl or WavLM.
        layers: Counted from 1; `thirds` are 4, 8, 12 of 12 as in DistilHuBERT; `all` for a student distilled layer to layer.
        standardise: Whether each frame of a target is brought to zero mean and unit variance over its features: for teachers
            whose upper layers have large norms, which an L1 distance would follow alone.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("path", "checkpoint", "ckpt", "dir", "model", "id"), "write name: it may be a folder or a checkpoint too"
        ),
    }

    name: str
    layers: Literal["thirds", "all"] | Layers = "thirds"
    standardise: bool = False

    @model_validator(mode="after")
    def check_layers_once(self) -> Self:
        """Refuse a layer that is named twice: it would weigh twice."""
        if not isinstance(self.layers, str) and len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers: {list(self.layers)} names a layer twice")
        return self


class InputMask(Record):
    """Spans of the student's input that it has to guess, as in wav2vec 2.0 and, for students, ARMHuBERT.

    Attributes:
        start: Probability of a frame to begin a span; spans may overlap. 0.065 with spans of 10 hides about half.
        span: Frames.
    """

    start: Annotated[float, Field(gt=0, lt=1)] = 0.065
    span: Whole = 10


class StudentShape(Record):
    """The student: by default the teacher's convolutions and first layers, with heads on the last (DistilHuBERT).

    Attributes:
        layers: How many transformer layers it has.
        width: Size of their outputs, `heads` of attention and size of the `feed_forward` in between; the teacher's by default.
        attention_heads: How many.
        feed_forward: Its inner size.
        projection_norm: Whether a layer norm is before the projection, as in every teacher. By default students of a HuBERT of
            base shape have none, as DistilHuBERT: s3prl's distiller knows none. With it a student begins as its teacher's first
            layers exactly; Hugging Face's Wav2Vec2Model and WavLMModel must have it. Where the source of its weights has none,
            neither has it.
        predict: `last`: heads on the last layer predict every target, and are thrown away; `layers`: each target is predicted
            by a linear layer on a layer of the student (FitHuBERT, ARMHuBERT).
        predict_from: With `layers`: the student's layer that predicts each target; evenly by depth if not given.
        init: Where its first weights come from: the `teacher`, `random`, or whatever can be a teacher: a run, a folder, a
            checkpoint.
        dropout: In attention, feed-forward and residual paths.
        cnn_gradient: What gradients into the convolutions are multiplied by, as in wav2vec 2.0 and s3prl; 0 freezes them.
        mask: Hides spans of its input; off by default.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("num_layers", "n_layers", "num_hidden_layers"), "write layers"),
        **dict.fromkeys(("hidden_size", "dim", "embed_dim", "encoder_embed_dim"), "write width"),
    }

    layers: Whole = 2
    width: Whole | None = None
    attention_heads: Whole | None = None
    feed_forward: Whole | None = None
    projection_norm: bool | None = None
    predict: Literal["last", "layers"] = "last"
    predict_from: Layers | None = None
    init: Annotated[str, Field(min_length=1)] = "teacher"
    dropout: Fraction = 0.1
    cnn_gradient: Annotated[float, Field(ge=0, le=1)] = 0.1
    mask: InputMask | None = None

    @model_validator(mode="after")
    def check_prediction(self) -> Self:
        """Check that the named layers exist, and are used."""
        if self.predict_from is None:
            return self
        if self.predict != "layers":
            raise ValueError("predict_from: needs predict: layers; with predict: last all heads are on the last layer")
        if max(self.predict_from) > self.layers:
            raise ValueError(f"predict_from: layer {max(self.predict_from)} of a student with {self.layers}")
        return self


class LossWeights(Record):
    """The distance of predictions from the teacher's layers: a sum of two parts.

    Attributes:
        l1: Weight of the mean absolute difference.
        cosine: Weight of the other part.
        cosine_form: `log_sigmoid`: -log(sigmoid(cosine)), DistilHuBERT's; `raw`: 1 - cosine.
        layers: Weight of each of the teacher's layers, in their order; only their ratios count. Equal if not given.
    """

    l1: Weight = 1.0
    cosine: Weight = 1.0
    cosine_form: Literal["log_sigmoid", "raw"] = "log_sigmoid"
    layers: Annotated[tuple[Weight, ...], Field(strict=False, min_length=1)] | None = None

    @model_validator(mode="after")
    def check_something(self) -> Self:
        """Refuse weights that are all 0."""
        if self.l1 + self.cosine == 0:
            raise ValueError("l1 and cosine are both 0; give one of them weight")
        if self.layers is not None and sum(self.layers) == 0:
            raise ValueError("layers: all weights are 0; give one of them weight")
        return self
