"""What a search over multipliers came to, as plain values for files and reports.

Model:  fronts are of choices that were measured. Hypervolume is that of cost and accuracy under the
        first threat, from the corner of exact products' cost and of guessing, as a share of what
        a choice has that costs nothing and is always right. The speed-up over measuring every
        choice is counted in evaluations (profile and scores count as so many as they take time
        for) and in seconds: all choices times what one takes, over what the search took.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bitproof.approx.figures import error_figures
from bitproof.approx.naming import short_name
from bitproof.evaluation.evaluation import Evaluation
from bitproof.explore.accelerator import ACCELERATORS, FIGURES, Accelerator
from bitproof.explore.explanation import explain_scores
from bitproof.explore.exploration import CHECK, Outcome
from bitproof.explore.hawx import Hawx, fitted_harm
from bitproof.explore.hypervolume import hypervolume
from bitproof.explore.point import Point
from bitproof.explore.predictors import CalibratedHarm
from bitproof.explore.problem import Problem
from bitproof.explore.search_images import HeldOut
from bitproof.explore.trial import Trial
from bitproof.explore.units import Choice
from bitproof.stats.correlation import rank_correlation
from bitproof.stats.costs import undominated
from bitproof.stats.intervals import Interval

HARDWARE = ("power", "area", "latency")
"""Figures whose predictions are checked."""
Plain = dict[str, Any]


def summarize_exploration(outcome: Outcome, chosen: Point | None, held_out: HeldOut) -> Plain:
    """Return everything that reports tell; JSON values."""
    problem = outcome.problem
    known = _calibrated(problem, outcome.first)
    return {
        "units": _units(problem),
        "objectives": objectives(problem.measuring.emulator.evaluation),
        "multipliers": [_block(problem, number) for number in range(len(problem.blocks))],
        "exact": _exact(outcome),
        "load": [
            asdict(one) | {"utilisation": one.utilisation, "intensity": one.intensity}
            for one in problem.accelerator.load(problem.units)
        ],
        "seconds": {name: round(spent, 4) for name, spent in outcome.seconds.items()},
        "scores": explain_scores(outcome),
        "searches": [
            _search(outcome, title, trial)
            for title, trial in outcome.trials.items()
            if title != CHECK
        ],
        "levels": _levels(outcome),
        "predictors": _predictors(problem, outcome.trials.get(CHECK), known),
        "front": _front(problem, outcome.trials, known, held_out),
        "chosen": None if chosen is None else _point(problem, chosen, known, held_out),
        "elsewhere": [] if chosen is None else _elsewhere(problem, chosen),
        "held_out": _ends(held_out.accs(problem.exact)),
    }


def objectives(evaluation: Evaluation) -> list[Plain]:
    """Return the threats and levels that a choice is measured under, in order."""
    return [
        {
            "threat": threat.title,
            "level": level,
            "title": threat.label.title or threat.title,
            "family": threat.label.family,
        }
        for threat in evaluation.threats
        for level in threat.levels or (0.0,)
    ]


def as_text(choice: Choice) -> str:
    """Return a choice as the number of each unit's multiplier.

    Example:
        >>> as_text(np.array([0, 11, 36]))
        '0 11 36'
    """
    return " ".join(map(str, choice.tolist()))


def _units(problem: Problem) -> Plain:
    units = problem.units
    return {
        "granularity": units.granularity,
        "count": units.count,
        "log10_choices": units.count * math.log10(len(problem.blocks)),
        "macs": int(units.macs.sum()),
        "layers": [
            asdict(layer) | {"macs": layer.macs, "chooses": layer.name in units.choosing}
            for layer in units.layers
        ],
    }


def _block(problem: Problem, number: int) -> Plain:
    block = problem.blocks.all[number]
    errors = error_figures(block.table)
    return {
        "name": block.name,
        "label": short_name(block.multiplier),
        "exact": block.is_exact,
        "med": errors.med,
        "mred": errors.mred,
        "bias": errors.bias,
        **block.cost.model_dump(mode="json"),
    }


def _exact(outcome: Outcome) -> Plain:
    return {
        "figures": asdict(outcome.problem.exact_figures),
        "accs": [list(acc) for acc in outcome.exact_accs],
    }


def _search(outcome: Outcome, title: str, trial: Trial) -> Plain:
    problem = outcome.problem
    best = trial.best(outcome.acc0)
    own = [point.seconds for point in trial.points]
    all_log10 = problem.units.count * math.log10(len(problem.blocks))
    found: Plain = {
        "search": title,
        "evaluations": len(trial.points),
        "measuring_s": round(trial.seconds, 4),
        "thinking_s": round(trial.thinking, 4),
        "hypervolume": volume(problem, trial.points),
        "best": None if best is None else _brief(best),
        "points": [_brief(point) for point in trial.points],
    }
    if isinstance(_by_title(outcome, title), Hawx) and own:
        scoring = sum(outcome.seconds.values())
        once = float(np.median(own))
        found["log10_speedup"] = {
            "evaluations": all_log10 - math.log10(len(own) + scoring / once),
            "seconds": all_log10 + math.log10(once / (scoring + trial.seconds + trial.thinking)),
            "seconds_without_measuring": all_log10 + math.log10(once / (scoring + trial.thinking)),
        }
    return found


def _by_title(outcome: Outcome, title: str) -> Any:
    return next((one for one in outcome.exploration.searches if one.title == title), None)


def volume(problem: Problem, points: Sequence[Point]) -> float:
    """Return the hypervolume of cost and accuracy of measured choices, of 1 at most."""
    found = hypervolume([(p.cost, p.acc) for p in points], worst=(1.0, problem.chance))
    return found / (1 - problem.chance)


def _brief(point: Point) -> Plain:
    return {
        "cost": point.cost,
        "accs": [acc.value for acc in point.accs],
        "low": point.accs[0].low,
        "high": point.accs[0].high,
        **{name: getattr(point.figures, name) for name in FIGURES},
    }


def _levels(outcome: Outcome) -> list[Plain]:
    """Return, at each cost there is, the best choice of all and the one of least score.

    Only where a search has measured every choice.
    """
    problem = outcome.problem
    count = problem.units.count * math.log(len(problem.blocks))
    whole = next(
        (t for t in outcome.trials.values() if abs(math.log(len(t.points) or 1) - count) < 1e-9),
        None,
    )
    if whole is None:
        return []
    found = []
    for cost in sorted({round(point.cost, 9) for point in whole.points}):
        able = [point for point in whole.points if point.cost <= cost + 1e-8]
        best = max(able, key=lambda point: point.acc)
        predicted = min(able, key=lambda point: (problem.score(point.choice), point.cost))
        found.append(
            {
                "cost": cost,
                "best": best.acc,
                "best_choice": as_text(best.choice),
                "predicted": predicted.acc,
                "predicted_choice": as_text(predicted.choice),
                "gap": best.acc - predicted.acc,
            }
        )
    return found


def _calibrated(problem: Problem, trial: Trial) -> CalibratedHarm | None:
    exact = problem.exact.tobytes()
    known = {point.choice.tobytes() for point in trial.points}
    scored = any(problem.score(point.choice) > 0 for point in trial.points)
    return fitted_harm(problem, trial.points) if exact in known and scored else None


def _predicted(problem: Problem, known: CalibratedHarm, choice: Choice) -> Interval:
    return known.predict(problem.harm(choice))


def _predictors(problem: Problem, check: Trial | None, known: CalibratedHarm | None) -> list[Plain]:
    """Return how well each predictor tells what is measured of choices at random."""
    if check is None or len(check.points) < 8:
        return []
    found = []
    points = [point for point in check.points if problem.score(point.choice) > 0]
    if known is not None and len(points) >= 4:
        predicted = [_predicted(problem, known, point.choice) for point in points]
        measured = [point.acc for point in points]
        found.append(_quality("accuracy", predicted, measured, by="score"))
    uniform = replace(problem, blocks=replace(problem.blocks, by_layer={}))
    for name in HARDWARE:
        measured = [float(getattr(point.figures, name)) for point in check.points]
        added = [uniform.predicted_figure(point.choice, name) for point in check.points]
        half = len(added) // 2
        errors = np.sort(np.abs(np.subtract(added[:half], measured[:half])))
        width = float(errors[min(math.ceil(0.95 * (half + 1)), half) - 1])
        ends = [Interval(value - width, value, value + width) for value in added[half:]]
        shared = name == "area" and problem.accelerator.shares_blocks
        by = "kinds in use" if shared else "sum over units"
        if name == "power" and problem.blocks.by_layer:
            by = "uniform operands"
        found.append(_quality(name, ends, measured[half:], by=by))
    return found


def _quality(
    name: str, predicted: Sequence[Interval], measured: Sequence[float], *, by: str
) -> Plain:
    values = [one.value for one in predicted]
    inside = [
        one.low - 1e-9 <= value <= one.high + 1e-9
        for one, value in zip(predicted, measured, strict=True)
    ]
    differ = np.ptp(values) > 1e-12 and np.ptp(measured) > 1e-12
    rank = list(rank_correlation(values, measured)) if differ and len(values) >= 4 else None
    return {
        "predictor": name,
        "by": by,
        "choices": len(values),
        "spearman": rank,
        "mae": float(np.mean(np.abs(np.subtract(values, measured)))),
        "coverage": float(np.mean(inside)),
        "width": float(np.mean([one.high - one.low for one in predicted])),
        "points": [list(pair) for pair in zip(values, measured, strict=True)],
    }


def _front(
    problem: Problem,
    trials: Mapping[str, Trial],
    known: CalibratedHarm | None,
    held_out: HeldOut,
) -> list[Plain]:
    """Return the measured choices that no other beats in cost and all accuracies."""
    points = [(title, point) for title, trial in trials.items() for point in trial.points]
    unique = {point.choice.tobytes(): (title, point) for title, point in reversed(points)}
    kept = list(unique.values())
    entries = [(-point.cost, *(acc.value for acc in point.accs)) for _, point in kept]
    front = [kept[n] for n in undominated(entries)]
    return [
        {"search": title, **_point(problem, point, known, held_out)}
        for title, point in sorted(front, key=lambda one: one[1].cost)
    ]


def _point(
    problem: Problem, point: Point, known: CalibratedHarm | None, held_out: HeldOut
) -> Plain:
    predicted = None if known is None else list(_predicted(problem, known, point.choice))
    return {
        **_brief(point),
        "intervals": [list(acc) for acc in point.accs],
        "predicted": predicted,
        "score": problem.score(point.choice),
        "choice": as_text(point.choice),
        "used": _used(problem, point.choice),
        "held_out": _ends(held_out.accs(point.choice)),
    }


def _used(problem: Problem, choice: Choice) -> list[Plain]:
    """Return how many filters of each layer have which multiplier."""
    names = problem.blocks.names
    return [
        {
            "layer": layer,
            "filters": {
                names[number]: int(count)
                for number, count in enumerate(np.bincount(chosen, minlength=len(names)))
                if count
            },
        }
        for layer, chosen in problem.units.by_layer(choice, rest=problem.blocks.exact).items()
    ]


def _elsewhere(problem: Problem, point: Point) -> list[Plain]:
    """Return what a choice takes on each kind of accelerator, this one first.

    Others have the clock, adders and memory of this one, and their own usual size.
    """
    common = problem.accelerator.model_dump(include=set(Accelerator.model_fields) - {"kind"})
    kinds = [kind for kind in ACCELERATORS.kinds() if kind != problem.accelerator.kind]
    others = [ACCELERATORS.build({"kind": kind, **common}) for kind in kinds]
    used = len(set(problem.units.by_filter(point.choice, rest=problem.blocks.exact).tolist()))
    return [
        {
            "accelerator": one.kind,
            "kinds": used,
            "shared": one.shares_blocks,
            **asdict(replace(problem, accelerator=one).figures(point.choice)),
        }
        for one in (problem.accelerator, *others)
    ]


def _ends(accs: Sequence[Interval] | None) -> list[list[float]] | None:
    return None if accs is None else [list(acc) for acc in accs]
