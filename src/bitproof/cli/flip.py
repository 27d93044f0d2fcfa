"""Weight attacks from the command line: how many flips, and which."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bitproof.cli.console import watcher
from bitproof.cli.outcome import report_problems
from bitproof.core.errors import RecipeError
from bitproof.evaluation import AdversarialBitErrors, FlipCurve, flip_curves, join_faults
from bitproof.faults import WEIGHT_ATTACKS, WeightAttack, write_fault_list
from bitproof.recipe.building import choose_device
from bitproof.recipe.overrides import override, parse_change
from bitproof.recipe.stored_networks import open_networks


def run_attack(
    place: Path,
    *,
    attack: WeightAttack,
    threat: dict[str, Any],
    data: str,
    seed: int,
    threads: int | None,
    out: Path | None,
    device: str,
    data_dir: Path | None,
) -> None:
    """Attack one network, or all of a run; print what came out, and keep the flips."""
    if threads:
        torch.set_num_threads(threads)
    watch = watcher()
    with report_problems():
        where = choose_device(device)
        images = {name: value for name, value in threat.items() if value is not None}
        wanted = AdversarialBitErrors.from_table({**images, "attack": attack, "levels": ()})
        assert isinstance(wanted, AdversarialBitErrors)
        networks, test = open_networks(place, data=data, data_dir=data_dir)
        if out is not None and len(networks) > 1:
            raise RecipeError(
                f"--out: wanted one network, {place} has {len(networks)}: {', '.join(networks)}"
            )
        for name, network in networks.items():
            start, curves = time.perf_counter(), []
            for curve in flip_curves(network.to(where), test.to(where), wanted, seed=seed):
                curves.append(curve)
                watch.say(f"{name}, {describe_curve(curve)}")
            watch.say(f"{name}, {describe_spread(curves, attack)}")
            watch.say(f"took {time.perf_counter() - start:.1f} s")
            if out is not None:
                faults = join_faults(curves)
                write_fault_list(faults, out)
                watch.say(f"{len(faults)} flips of {faults.n_trials} batches: {out}")


def attack_of(kind: str, n_flips: int | None, sets: Sequence[str]) -> WeightAttack:
    """Return the attack of that kind; `sets` are `KEY=VALUE`, for its other fields."""
    table: dict[str, Any] = {"kind": kind}
    if n_flips is not None:
        table["n_flips"] = n_flips
    return WEIGHT_ATTACKS.build(override(table, [parse_change(text) for text in sets]))


def describe_curve(curve: FlipCurve) -> str:
    """Return one line about a batch."""
    (n_flips, acc), clean = curve.last, curve.tallies[0].acc
    reached = "no chance within" if curve.to_chance is None else "chance after"
    return (
        f"batch {curve.batch + 1}: {reached} {n_flips} flips; "
        f"accuracy {100 * acc:.1f} %, without flips {100 * clean:.1f} %"
    )


def describe_spread(curves: Sequence[FlipCurve], attack: WeightAttack) -> str:
    """Return one line about all batches."""
    reached = sorted(curve.to_chance for curve in curves if curve.to_chance is not None)
    chance = f"chance ({100 * curves[0].chance:.1f} %)"
    accs = sorted(100 * curve.last[1] for curve in curves)
    ends = f"accuracy at the end: median {statistics.median(accs):.1f} %, worst {accs[0]:.1f} %"
    if not reached:
        return f"{chance} is not reached within {attack.n_flips} flips; {ends}"
    rest = "" if len(reached) == len(curves) else f", {len(curves) - len(reached)} do not reach it"
    return (
        f"flips to {chance}: median {statistics.median(reached):g}, from {reached[0]} to "
        f"{reached[-1]}, {len(reached)} of {len(curves)} batches{rest}; {ends}"
    )
