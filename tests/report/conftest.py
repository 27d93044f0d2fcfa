"""Run directories as a campaign would leave them, with made-up but plausible numbers."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bitproof.stats.results import Row, write_results

VARIANTS = ("float", "none", "s1", "s2", "s1+s2", "s2+s1", "s1+s2+s3")
BERS = (1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2)
EPSILONS = (2 / 255, 4 / 255, 8 / 255, 16 / 255)

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that writes a run directory and returns its path."""

    def write(**changes: Any) -> Path:
        return write_run(tmp_path / "run", **changes)

    return write


@pytest.fixture
def run_dir(make_run: MakeRun) -> Path:
    """Return a complete run: seven variants, six bit error rates, four epsilons."""
    return make_run()


def write_run(
    folder: Path,
    *,
    variants: Sequence[str] = VARIANTS,
    bers: Sequence[float] = BERS,
    epsilons: Sequence[float] = EPSILONS,
    n_layers: int = 12,
    rows: Sequence[Row] | None = None,
    facts: dict[str, Any] | None = None,
    recipe: str | None = None,
) -> Path:
    """Write a whole run directory; `facts` overrides keys of run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    table = rows if rows is not None else made_up_rows(variants, bers, epsilons)
    write_results(table, folder / "results.csv")
    told = {**made_up_facts(variants), **(facts or {})}
    (folder / "run.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "recipe.toml").write_text(recipe or RECIPE, encoding="utf-8")
    (folder / "records").mkdir(exist_ok=True)
    for variant in variants:
        if variant.startswith("s"):
            record = {"stages": [made_up_record(stage, n_layers) for stage in variant.split("+")]}
            (folder / "records" / f"{variant}.json").write_text(json.dumps(record))
    return folder


def made_up_rows(
    variants: Sequence[str], bers: Sequence[float], epsilons: Sequence[float]
) -> list[Row]:
    """Return rows in which s2 helps against both threats and s1 only against attacks."""
    rows: list[Row] = []
    for variant in variants:
        stages = variant.split("+")
        clean = 0.965 - 0.012 * ("s1" in stages) - 0.003 * ("s2" in stages)
        rows.append(row(variant, "none", 0.0, clean, n=1800))
        if variant != "float":
            knee = -3.0 + 0.55 * ("s2" in stages) + 0.3 * ("s3" in stages)
            found = []
            for ber in bers:
                share = 1 / (1 + math.exp(-3.2 * (knee - math.log10(ber))))
                value = 0.1 + (clean - 0.1) * share
                spread = 0.002 + 0.12 * share * (1 - share)
                found.append(value)
                half = 1.96 * spread / math.sqrt(50)
                rows.append(row(variant, "random_flips", ber, value, half=half, n=50))
                rows.append(number(variant, "random_flips", ber, "acc_std", spread, n=50))
                worst = max(value - 2.2 * spread, 0.0)
                rows.append(number(variant, "random_flips", ber, "acc_min", worst, n=50))
            mean = sum(found) / len(found)
            rows.append(number(variant, "random_flips", None, "auc_fr", mean, n=50))
        strength = 0.09 - 0.055 * ("s1" not in stages) + 0.012 * ("s2" in stages)
        rows += [
            row(
                variant, "linf_pgd", epsilon, clean * math.exp(-((epsilon / strength) ** 2)), n=1000
            )
            for epsilon in epsilons
        ]
    return rows


def row(
    variant: str, threat: str, level: float, value: float, *, n: int, half: float | None = None
) -> Row:
    width = half if half is not None else 1.96 * math.sqrt(value * (1 - value) / n)
    low, high = max(value - width, 0.0), min(value + width, 1.0)
    return Row(variant, threat, level, "acc", value, low, high, n)


def number(
    variant: str, threat: str, level: float | None, metric: str, value: float, *, n: int
) -> Row:
    return Row(variant, threat, level, metric, value, n=n)


def made_up_facts(variants: Sequence[str]) -> dict[str, Any]:
    """Return a complete run.json."""
    return {
        "schema": 1,
        "bitproof": "0.1.0",
        "torch": "2.13.0+cpu",
        "python": "3.11.9",
        "numpy": "2.3.1",
        "platform": "Linux-6.1-x86_64",
        "device": "cpu",
        "threads": 2,
        "digest": "13f0ce14" * 8,
        "recipe_name": "digits_resq",
        "title": "Three-stage hardening of a small ResNet on digits",
        "data": {"name": "digits", "digest": "ab12" * 16, "n_train": 1257, "n_test": 540},
        "model": {"kind": "resnet_tiny", "parameters": 77850},
        "started": "2026-11-21T10:00:00+00:00",
        "finished": "2026-11-21T10:42:10+00:00",
        "durations": {f"measure {name} under faults": 21.5 + i for i, name in enumerate(variants)}
        | {f"train {name}": 95.0 + 7 * i for i, name in enumerate(variants)},
        "warnings": [
            "s1: black-box Square finds more errors than PGD at 8/255 (masked gradients?)"
        ],
        "variants": list(variants),
        "stages": {
            "s1": {"kind": "desensitize", "epsilon": 0.03137, "steps": 7, "epochs": 10},
            "s2": {"kind": "fault_aware", "ber": 0.001, "top": 5, "beta": 0.9, "epochs": 10},
            "s3": {"kind": "adjust", "mu": 1.0, "max_loss": 0.005},
        },
        "baseline": "none",
    }


def made_up_record(stage: str, n_layers: int) -> dict[str, Any]:
    """Return what one stage writes down."""
    layers = [f"layer{1 + i // 4}.{i % 4}.conv" for i in range(n_layers)]
    if stage == "s3":
        alpha = {
            name: {"chosen": 0.55 + 0.01 * (i % 40), "accepted": i % 5 != 0}
            | {"acc_before": 0.412, "acc_after": 0.412 - 0.002 * (i % 5 == 0)}
            for i, name in enumerate(layers)
        }
        return {"stage": stage, "kind": "adjust", "record": {"alpha": alpha}}
    record: dict[str, Any] = {
        "loss": [0.9 * math.exp(-epoch / 4) + 0.2 for epoch in range(10)],
        "acc": [0.95 - 0.3 * math.exp(-epoch / 3) for epoch in range(10)],
        "odd": {"nobody": ["knows", None]},
    }
    if stage == "s2":
        scores = [
            [(1.5 + math.sin(i * 2.1 + epoch / 5)) / (1 + i / 6) for i in range(n_layers)]
            for epoch in range(10)
        ]
        ranked = [sorted(range(n_layers), key=lambda i: -each[i])[:5] for each in scores]
        top = [[layers[i] for i in chosen] for chosen in ranked]
        record["critical"] = {"layers": layers, "scores": scores, "top": top}
    return {"stage": stage, "kind": "desensitize" if stage == "s1" else "fault_aware"} | {
        "record": record
    }


RECIPE = """name = "digits_resq"
title = "Three-stage hardening"  # complete, with defaults

[data]
kind = "digits"

[faults]
kind = "random_flips"
ber = [1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2]
"""
