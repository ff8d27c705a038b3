"""Distillation by hand, as s3prl's distiller describes it: slow loops in float64, no code shared with `training`."""

from __future__ import annotations

import math

import numpy as np


def distance(predictions, target, num_frames):
    """Mean L1 and mean -log(sigmoid(cosine)) over layers and real frames; arrays of (batch, layer, frame, feature)."""
    differences, angles = [], []
    for row, frames in enumerate(num_frames):
        for layer in range(predictions.shape[1]):
            for frame in range(frames):
                one = predictions[row, layer, frame].astype(np.float64)
                two = target[row, layer, frame].astype(np.float64)
                differences.append(np.mean(np.abs(one - two)))
                cosine = one @ two / (math.sqrt(one @ one) * math.sqrt(two @ two))
                angles.append(math.log(1 + math.exp(-cosine)))
    return np.mean(differences), np.mean(angles)


def expand_last(hidden, expand_weight, expand_bias, split_weight, split_bias):
    """Prediction heads: widen to one part a layer, GELU, then a linear layer of its own for each part.

    Args: hidden (frame, in); expand_weight (parts * in, in); split_weight (parts, in, out). Returns (parts, frame, out).
    """
    parts, width, _ = split_weight.shape
    results = np.zeros((parts, len(hidden), split_weight.shape[2]))
    for frame, vector in enumerate(hidden.astype(np.float64)):
        wide = expand_weight @ vector + expand_bias
        active = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in wide])
        for part in range(parts):
            results[part, frame] = active[part * width : (part + 1) * width] @ split_weight[part] + split_bias[part, 0]
    return results


def statistics(hidden, num_frames):
    """Mean and standard deviation over real frames, by hand; hidden (batch, frame, feature)."""
    rows = []
    for row, frames in enumerate(num_frames):
        real = hidden[row, :frames].astype(np.float64)
        mean = real.sum(axis=0) / frames
        rows.append(np.concatenate([mean, np.sqrt(((real - mean) ** 2).sum(axis=0) / frames + 1e-5)]))
    return np.array(rows)
