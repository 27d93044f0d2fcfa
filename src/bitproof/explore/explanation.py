"""Why layers and filters tolerate what they do, as plain values for reports."""

from typing import Any

import numpy as np

from bitproof.explore.exploration import Outcome

SHOWN_FILTERS = 8
"""Filters that are listed from either end of the scores."""
Plain = dict[str, Any]


def explain_scores(outcome: Outcome) -> Plain:
    """Return harm by layer and multiplier, and why: what is behind it in each layer."""
    profile, units, scores = outcome.profile, outcome.problem.units, outcome.scores
    blocks = outcome.problem.blocks
    worst = float(scores.sum(0).max()) or 1.0
    means, variances = profile.moments([block.table.errors for block in blocks.all])
    judged = outcome.exploration.score.judged
    layers = []
    for own, first in zip(profile.layers, units.starts, strict=False):
        rows = slice(first, first + own.layer.filters)
        energy = own.energies[judged]
        shift = (energy.shift[:, None] * means[rows] ** 2).sum(0)
        spread = (energy.spread[:, None] * variances[rows]).sum(0)
        biased = shift / (shift + spread).clamp(min=1e-300)
        layers.append(
            {
                "layer": own.layer.name,
                "chooses": own.layer.name in units.choosing,
                "harm": (scores[rows].sum(0) / worst).tolist(),
                "gradient": float(energy.spread.sum()),
                "from_means": biased.tolist(),
                "zeros": own.zeros,
                "macs": own.layer.macs,
            }
        )
    return {"judged": judged, "layers": layers, "filters": _filters(outcome)}


def _filters(outcome: Outcome) -> list[Plain]:
    """Return the filters that tolerate most and least of a middling multiplier."""
    problem, scores = outcome.problem, outcome.scores
    profile, units = outcome.profile, problem.units
    totals = scores.sum(0)
    rough = [number for number in np.argsort(totals) if totals[number] > 0]
    if not rough:
        return []
    block = int(rough[len(rough) // 2])
    judged = outcome.exploration.score.judged
    energy = profile.energy(judged)
    means, variances = profile.moments([problem.blocks.all[block].table.errors])
    chosen = np.flatnonzero(units.unit_of >= 0)
    order = chosen[np.argsort(scores[chosen, block], kind="stable")]
    few = min(SHOWN_FILTERS, len(order) // 2)
    names = [f"{layer.name}.{n}" for layer in units.layers for n in range(layer.filters)]
    return [
        {
            "filter": names[n],
            "multiplier": problem.blocks.names[block],
            "harm": float(scores[n, block] / (totals[block] or 1.0)),
            "gradient": float(energy.spread[n]),
            "mean": float(means[n, 0]),
            "spread": float(variances[n, 0] ** 0.5),
            "tolerant": place < few,
        }
        for place, n in enumerate([*order[:few], *order[len(order) - few :]])
    ]
