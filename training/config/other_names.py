"""What messages say of keys at the top of a training config: examples, and what to write for keys of other programs."""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "corpus": "corpus: FOLDER",
    "teacher": "teacher: {name: hubert_base}",
    "student": "student: {layers: 2}",
    "batch": "batch: {seconds: 295, lanes: 8}",
    "views": "views: {kind: cdm2}",
    "adversary": "adversary: {objective: reversal, strength: 0.03}",
    "optimiser": "optimiser: {learning_rate: 2e-4}",
    "loss": "loss: {l1: 1, cosine: 1}",
    "crops": "crops: {sets: 1}",
    "stage": "stage: {dir: FOLDER}",
}
OTHER_NAMES: dict[str, str] = {
    **dict.fromkeys(("lr", "learning_rate", "learning-rate"), "write optimiser: {learning_rate: 2e-4}"),
    **dict.fromkeys(
        ("warmup", "warmup_steps", "warmup_ratio"), "write optimiser: {warmup_share: 0.07}, a share of all steps"
    ),
    **dict.fromkeys(("clip", "grad_clip", "max_grad_norm"), "write optimiser: {clip: 5}"),
    **dict.fromkeys(
        ("epochs", "num_epochs", "num_train_epochs", "max_epochs"),
        "write steps; the command says how many updates an epoch has",
    ),
    **dict.fromkeys(("max_steps", "total_steps", "max_updates", "iterations"), "write steps"),
    **dict.fromkeys(
        ("batch_size", "max_tokens", "train_batch_size", "max_duration"),
        "write batch: {utterances: 24} or batch: {seconds: 295}",
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "gradient_accumulation", "accumulate", "accumulate_grad_batches"),
        "a batch is cut into batch: {lanes: N}, whose gradients are added",
    ),
    **dict.fromkeys(("num_workers", "n_workers", "dataloader_workers"), "write workers"),
    **dict.fromkeys(
        ("device", "gpu", "gpus", "cuda"), "training runs on the GPU where there is one; torchrun uses several"
    ),
    **dict.fromkeys(("fp16", "bf16", "amp", "mixed_precision"), "write precision: bfloat16 or float32"),
    **dict.fromkeys(
        ("output_dir", "output", "exp_dir", "expdir", "save_dir"), "the run's folder is named on the command line"
    ),
    **dict.fromkeys(("resume", "resume_from", "resume_from_checkpoint"), "the same command resumes by itself"),
    **dict.fromkeys(("model", "upstream", "teacher_model"), "write teacher: NAME, and student: {layers: 2}"),
    **dict.fromkeys(("models", "tasks", "measures"), "a key of an evaluation: `stillroom evaluate CONFIG RESULTS`"),
    **dict.fromkeys(("data", "dataset", "data_dir", "train_data"), "write corpus: FOLDER, that of `stillroom build`"),
    **dict.fromkeys(("log_interval", "log_steps", "logging_steps"), "write log_every, in steps"),
    **dict.fromkeys(("save_steps", "save_interval", "save_every"), "write checkpoint_every, in steps"),
    **dict.fromkeys(("eval_steps", "eval_every", "val_interval"), "write validate_every, in steps"),
    **dict.fromkeys(("optim", "optimizer"), "write optimiser: {learning_rate: 2e-4}; it is AdamW"),
    **dict.fromkeys(
        ("scheduler", "lr_scheduler"), "there is one: linear warm-up (optimiser.warmup_share) and linear decay"
    ),
    **dict.fromkeys(("wandb", "use_wandb", "report_to"), "write tensorboard: true; journal.jsonl has every number"),
    **dict.fromkeys(("hidden_layers", "pred_layer_id", "layers"), "write teacher: {name: NAME, layers: [4, 8, 12]}"),
    **dict.fromkeys(("dat", "adversarial", "domain"), "write adversary, or preset: cdm2-dat"),
    **dict.fromkeys(("cdm", "pairs"), "write views: {kind: cdm2}, or preset: cdm2"),
}
