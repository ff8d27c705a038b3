"""Distillation and domain adversarial training step by step, written out: no code shared with the loop, losses, critic or schedules.

Only the network (`transformer_outputs`) and the batches come from the product. Losses are sums over single utterances in float64,
heads, critic, clipping and AdamW are plain tensor arithmetic, the reversal is a gradient that is passed on by hand, and chance is
hashed here again.
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import torch

from training.models.encoder import transformer_outputs


class Step(NamedTuple):
    """One update: what the journal must say, the clipped gradient, and all weights after it (by name)."""

    journal: dict
    gradients: dict
    weights: dict
    critic: list


def hashed(*names):
    """The number below 2**63 that seeds a named stream of chance."""
    text = "\x1f".join(map(str, names)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % 2**63


def masked_frames(mask, keys, num_frames, longest, *, seed, epoch):
    """Spans that begin at drawn frames, one utterance after another."""
    hidden = torch.zeros(len(keys), longest, dtype=torch.bool)
    for row, (key, frames) in enumerate(zip(keys, num_frames, strict=True)):
        drawn = torch.rand(frames, generator=torch.Generator().manual_seed(hashed(seed, "mask", epoch, key)))
        for frame in range(frames):
            if drawn[frame] < mask.start:
                hidden[row, frame : min(frames, frame + mask.span)] = True
    return hidden


def predicted(student, layers, config):
    """Predictions of every target, (batch, target, frame, feature), by a loop over targets."""
    heads = student.heads
    if config.student.predict == "layers":
        sources = [layers[number - 1] for number in heads.predict_from]
    else:
        wide = layers[-1] @ heads.expand.weight.T + heads.expand.bias
        wide = 0.5 * wide * (1 + torch.erf(wide / math.sqrt(2)))
        sources = wide.chunk(len(heads.weight), dim=2)
    return torch.stack([source @ heads.weight[n] + heads.bias[n] for n, source in enumerate(sources)], dim=1)


def distances(predictions, targets, num_frames, config):
    """Both parts summed over real frames, averaged over layers by their weights."""
    weights = torch.tensor(config.loss.layers or [1.0] * targets.shape[1], dtype=torch.float64)
    weights = weights / weights.sum()
    l1 = cosine = torch.zeros((), dtype=torch.float64)
    for row, frames in enumerate(num_frames):
        for layer, weight in enumerate(weights):
            mine = predictions[row, layer, :frames].double()
            theirs = targets[row, layer, :frames].double()
            if config.teacher.standardise:
                centred = theirs - theirs.mean(dim=1, keepdim=True)
                theirs = centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-5)
            l1 = l1 + weight * (mine - theirs).abs().mean(dim=1).sum()
            angle = (mine * theirs).sum(dim=1) / (mine.norm(dim=1) * theirs.norm(dim=1))
            part = 1 - angle if config.loss.cosine_form == "raw" else torch.log1p(torch.exp(-angle))
            cosine = cosine + weight * part.sum()
    return l1, cosine


def critic_features(kind, layers, num_frames, chosen):
    """(rows, share of an utterance that each row is), of the chosen utterances."""
    rows, shares = [], []
    for row in chosen:
        real = [layer[row, : num_frames[row]] for layer in layers]
        if kind == "frames":
            rows.append(torch.cat(real, dim=1))
            shares += [1 / num_frames[row]] * num_frames[row]
            continue
        parts = []
        for one in real:
            mean = one.sum(dim=0) / len(one)
            parts += [mean, torch.sqrt(((one - mean) ** 2).sum(dim=0) / len(one) + 1e-5)]
        rows.append(torch.cat(parts)[None])
        shares.append(1.0)
    return torch.cat(rows), torch.tensor(shares)


class AdamW:
    """Loshchilov and Hutter's algorithm 2 (arXiv 1711.05101), with the moments in float64."""

    def __init__(self, weights):
        self.weights, self.count = weights, 0
        self.first = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
        self.second = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]

    @torch.no_grad()
    def update(self, gradients, rate):
        self.count += 1
        (one, two), decay = (0.9, 0.98), 1e-6
        for weight, given, first, second in zip(self.weights, gradients, self.first, self.second, strict=True):
            if given is None:
                continue
            gradient = given.double()
            first.mul_(one).add_((1 - one) * gradient)
            second.mul_(two).add_((1 - two) * gradient**2)
            found = first / (1 - one**self.count)
            scale = torch.sqrt(second / (1 - two**self.count)) + 1e-6
            weight.copy_(weight.double() * (1 - rate * decay) - rate * found / scale)


def clipped(gradients, most):
    """(gradients no longer than `most` altogether, how long they were)."""
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None))
    factor = min(1.0, most / (norm + 1e-6))
    return [None if gradient is None else gradient * factor for gradient in gradients], norm


class Critic:
    """Two layers, its own AdamW, and what it standardises by."""

    def __init__(self, config, num_inputs, classes):
        with torch.random.fork_rng():
            torch.manual_seed(hashed(config.seed, "critic"))
            first = torch.nn.Linear(num_inputs, 256)
            second = torch.nn.Linear(256, len(classes))
        self.weights = [first.weight, first.bias, second.weight, second.bias]
        self.config, self.classes = config, classes
        self.optimiser = AdamW(self.weights)
        self.centre, self.scale = torch.zeros(num_inputs), torch.ones(num_inputs)

    def log_chances(self, features):
        first, first_bias, second, second_bias = self.weights
        wide = torch.clamp(((features - self.centre) / self.scale) @ first.T + first_bias, min=0)
        logits = wide @ second.T + second_bias
        return logits - logits.logsumexp(dim=1, keepdim=True)

    def surprise(self, features, labels):
        """Cross-entropy of each row."""
        return -self.log_chances(features)[torch.arange(len(labels)), labels]

    def update(self, gradients):
        gradients, _ = clipped(gradients, self.config.optimiser.clip)
        rate = self.config.adversary.learning_rate or 3 * self.config.optimiser.learning_rate
        self.optimiser.update(gradients, rate)


def domain_name(domain, copy, family_of):
    """The class of an utterance by what the student was given."""
    condition = copy.rpartition("-")[0] or copy
    match domain:
        case "condition":
            return condition
        case "family":
            return "clean" if copy == "clean" else family_of[condition]
        case "distorted":
            return "clean" if copy == "clean" else "distorted"
        case "view":
            return "student"


def training_steps(config, *, student, teacher, batches, targets, classes=(), layers=(), family_of=None, panel=()):
    """Every update of a run of float32 on a CPU.

    Args: config; student and teacher as they begin; batches: micro-batches, `ends_step` at the last of each update; targets:
    which teacher layers are predicted, counted from 1; classes of the critic in order; layers that it reads; family_of a
    condition; panel: (wave, num_samples, copy) of all that a standardising critic is fitted to.
    """
    adversary, names = config.adversary, [name for name, one in student.named_parameters() if one.requires_grad]
    weights = [one for one in student.parameters() if one.requires_grad]
    optimiser = AdamW(weights)
    width = student.config.encoder_embed_dim * len(layers)
    critic = Critic(config, width * (2 if adversary.features == "pooled" else 1), classes) if adversary else None

    def walked(wave, num_samples, mask=None):
        hidden, num_frames = transformer_outputs(student.trunk, student.config, wave, num_samples, mask=mask)
        return hidden, num_frames.tolist()

    if critic is not None and adversary.standardise:
        fit_critic(critic, student, walked, adversary, layers, panel)

    student.train()
    step, lanes = 1, []
    for batch in batches:
        lanes.append(batch)
        if not batch.ends_step:
            continue
        progress = step / config.steps
        strength = 0.0
        if adversary is not None:
            rise = 1.0 if adversary.schedule == "constant" else 2 / (1 + math.exp(-10 * progress)) - 1
            strength = adversary.strength * rise
        counts = [student.config.num_frames(int(length)) for lane in lanes for length in lane.num_samples]
        all_frames, all_utterances = sum(counts), sum(count > 0 for count in counts)
        gradients, critic_gradients = (
            [None] * len(weights),
            [torch.zeros_like(one) for one in critic.weights] if critic else [],
        )
        l1_sum = cosine_sum = domain_sum = right = 0.0
        told = dict.fromkeys(classes, 0)
        seen = []
        for lane in lanes:
            torch.manual_seed(hashed(config.seed, "dropout", step, lane.lane))
            mask = None
            if config.student.mask is not None:
                frames = [student.config.num_frames(int(length)) for length in lane.num_samples]
                hidden = masked_frames(config.student.mask, lane.keys, frames, student.config.num_frames(lane.student_wave.shape[1]),
                                       seed=config.seed, epoch=lane.cursor.epoch)  # fmt: skip
                mask = (hidden, student.mask_vector)
            outputs, num_frames = walked(lane.student_wave, lane.num_samples, mask)
            taught, _ = teacher.layers(lane.teacher_wave, lane.num_samples)
            chosen = torch.stack([taught[:, number - 1] for number in targets], dim=1)
            l1, cosine = distances(predicted(student, outputs, config), chosen, num_frames, config)
            loss = (config.loss.l1 * l1 + config.loss.cosine * cosine) / all_frames
            l1_sum += float(l1.detach()) / all_frames
            cosine_sum += float(cosine.detach()) / all_frames
            if critic is not None:
                named = [domain_name(adversary.domain, copy, family_of) for copy in lane.student_copies]
                rows = [row for row, name in enumerate(named) if name in classes and num_frames[row]]
                own, shares = critic_features(adversary.features, [outputs[k - 1] for k in layers], num_frames, rows)
                repeats = [num_frames[row] if adversary.features == "frames" else 1 for row in rows]
                labels = torch.tensor(
                    [classes.index(named[row]) for row, n in zip(rows, repeats, strict=True) for _ in range(n)]
                )
                given = own.detach()
                judged = all_utterances
                for row in rows:
                    told[named[row]] += 1
                if adversary.domain == "view":
                    other, _ = critic_features(adversary.features, [taught[:, k - 1] for k in layers], num_frames, rows)
                    given, shares = torch.cat([given, other]), torch.cat([shares, shares])
                    labels = torch.cat([labels, torch.full_like(labels, classes.index("teacher"))])
                    judged, told["teacher"] = 2 * judged, told["teacher"] + len(rows)
                given = given.requires_grad_()
                entropy = (critic.surprise(given, labels) * shares).sum()
                slopes = torch.autograd.grad(entropy / judged, [given, *critic.weights])
                if adversary.objective == "confusion":
                    even = -critic.log_chances(own).mean(dim=1)
                    term = strength * (even * shares[: len(own)]).sum()
                    loss = loss + term / judged
                else:
                    loss = loss + (own * -strength * slopes[0][: len(own)]).sum()
                critic_gradients = [old + new for old, new in zip(critic_gradients, slopes[1:], strict=True)]
                domain_sum += float(entropy.detach()) / judged
                right += float(((critic.log_chances(given).argmax(dim=1) == labels) * shares).sum().detach())
                seen.append((given.detach(), labels, shares))
            # A run's rounding, which Adam makes large where a gradient is hardly any.
            torch.backends.mkldnn.enabled = False
            found = torch.autograd.grad(loss, weights, allow_unused=True)
            torch.backends.mkldnn.enabled = True
            gradients = [
                new if old is None else old if new is None else old + new
                for old, new in zip(gradients, found, strict=True)
            ]
        gradients = [
            gradient * (config.student.cnn_gradient if name.startswith("trunk.feature_extractor.") else 1)
            if gradient is not None else None
            for name, gradient in zip(names, gradients, strict=True)
        ]  # fmt: skip
        gradients, norm = clipped(gradients, config.optimiser.clip)
        warmup = round(config.optimiser.warmup_share * config.steps)
        scale = step / warmup if step <= warmup else (config.steps - step + 1) / (config.steps - warmup)
        optimiser.update(gradients, config.optimiser.learning_rate * scale)
        line = {
            "step": step,
            "loss": config.loss.l1 * l1_sum + config.loss.cosine * cosine_sum,
            "l1": l1_sum,
            "cosine": cosine_sum,
            "gradient_norm": norm,
            "learning_rate": config.optimiser.learning_rate * scale,
            "epoch": batch.cursor.epoch,
        }
        if critic is not None:
            line |= {"domain_loss": domain_sum, "domain_accuracy": right / sum(told.values()), "reversal": strength,
                     "domain_majority": max(told.values()) / sum(told.values())}  # fmt: skip
            update_critic(critic, critic_gradients, seen)
        yield Step(
            line,
            dict(zip(names, gradients, strict=True)),
            {name: one.detach().clone() for name, one in zip(names, weights, strict=True)},
            [one.detach().clone() for one in critic.weights] if critic is not None else [],
        )
        step, lanes = step + 1, []


def update_critic(critic, at_hand, seen):
    """Its updates of one step: a reversal's first on the gradient at hand, all others on features that no longer change."""
    adversary = critic.config.adversary
    features, labels, shares = (torch.cat(parts) for parts in zip(*seen, strict=True))
    for number in range(adversary.critic_steps):
        if adversary.objective == "reversal" and number == 0:
            critic.update(at_hand)
            continue
        mean = (critic.surprise(features, labels) * shares).sum() / shares.sum()
        critic.update(torch.autograd.grad(mean, critic.weights))


@torch.no_grad()
def fit_critic(critic, student, walked, adversary, layers, panel):
    """Mean and deviation of each feature over a panel that the untrained student is given; of frames eight an utterance."""
    student.eval()
    rows = []
    for wave, num_samples in panel:
        outputs, num_frames = walked(wave, num_samples)
        read = [outputs[number - 1] for number in layers]
        if adversary.features == "frames":
            rows += [
                torch.cat([layer[row, place * frames // 8] for layer in read])[None]
                for row, frames in enumerate(num_frames)
                for place in range(8)
            ]
        else:
            rows.append(critic_features("pooled", read, num_frames, range(len(num_frames)))[0])
    rows = torch.cat(rows)
    critic.centre, critic.scale = rows.mean(dim=0), rows.std(dim=0)
