"""WSOLA one frame and one candidate at a time: similarities are dot products, and nothing is transformed."""

import numpy as np


def stretched(wave, ratio, rate_hz):
    """A wave made `ratio` times as long at the same pitch, by frames of 32 ms taken within 8 ms of where they would be."""
    hop, reach = round(0.016 * rate_hz), round(0.008 * rate_hz)
    wanted = round(len(wave) * ratio)

    def sample(at):
        return wave[at] if 0 <= at < len(wave) else 0.0

    def stretch_of(centre, first, last):
        return np.array([sample(centre + at) for at in range(first, last)])

    places, lateness = [], []
    count = 1
    while (count - 1) * hop < wanted:
        count += 1
    for number in range(count):
        nominal = int(np.rint(number * hop / ratio))
        if not number:
            places.append(nominal)
            continue
        continued = stretch_of(places[-1], 0, hop)  # the second half of a frame that is centred on its place
        scores = []
        norms = [np.linalg.norm(stretch_of(nominal + lag, -hop, 0)) for lag in range(-reach, reach + 1)]
        for lag, norm in zip(range(-reach, reach + 1), norms, strict=True):
            similarity = float(np.dot(stretch_of(nominal + lag, -hop, 0), continued))
            likes_the_centre = 1 - 0.9 * (lag / reach) ** 2
            scores.append(similarity / (norm + 1e-3 * max(norms) + 1e-9) * likes_the_centre)
        best = int(np.argmax(scores))
        places.append(nominal + best - reach if scores[best] > 0 else nominal)
    result = np.zeros((count + 1) * hop)
    weights = []
    for number, place in enumerate(places):
        frame = stretch_of(place, -hop, hop)
        angle = np.arange(2 * hop) / (2 * hop)
        result[number * hop : (number + 2) * hop] += frame * (0.5 - 0.5 * np.cos(2 * np.pi * angle))
        weights.append(np.sum(frame**2))
        lateness.append(place - int(np.rint(number * hop / ratio)))
    mean_lateness = float(np.dot(weights, lateness) / np.sum(weights)) if np.sum(weights) > 0 else 0.0
    first = hop - round(mean_lateness * ratio)
    return result[first : first + wanted]
